//! Split integers by Winograd's minimal filtering along y: convolution of bytes with fixed-point weights to codes of one or two bits.
//! A few rows of results at a time are made of transformed rows of levels, which all blocks of outputs and all columns of the
//! kernel share, and 16 bits of transformed weights, which leave few codes open (`lower::split_winograd`); all digits of the
//! weights are multiplied for those, so the codes are exact. Reference: `split`. Those levels and digits are bytes, as AVX-512 VNNI
//! multiplies them, or i16 for AVX2.
//!
//! A task copies the levels of its rows into a strip, as `split` does, and transforms those that the next rows of results read.
//! Rows beyond the task's last are made too and left out.
//!
//! Cost: see [`cycles`]. Sums are added modulo 2³²; the results' range is proved from the weights. Needs AVX-512 with VNNI and
//! BMI2, or AVX2 and BMI2.

use super::choice::Kernel;
use super::int_conv::IntLayer;
use super::layer::{Layer, demand, thresholds};
use super::split_tiling::levels;
use super::split_winograd_plan::Plan;
use super::{KernelError, Task, split_input};
use crate::codegen::emitter::Emitter;
use crate::codegen::image::FunctionId;
use crate::codegen::target::{Level, x86};
use crate::codegen::tiles::split_winograd::WinogradShape;
use crate::codegen::tiles::split_winograd_rows::RowTransform;
use crate::codegen::tiles::{SplitFinish, SplitShape};
use crate::lower::split::TILE;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// Whether level and layer allow the kernel.
pub(super) fn fits(layer: &Layer<'_>, level: &Level, kernel: Kernel) -> Result<(), String> {
    match kernel {
        Kernel::SplitWinogradAvx2 => {
            demand(level.has_x86(x86::AVX2 | x86::BMI1 | x86::BMI2), "the level lacks AVX2 with BMI1 and BMI2")?;
        }
        _ => demand(SplitShape::quads(level), "the level lacks AVX-512 VNNI")?,
    }
    Plan::of(layer, kernel).map(|_| ())
}

/// Whether it pools what it makes.
pub(super) fn pools(layer: &Layer<'_>, kernel: Kernel) -> bool {
    Plan::of(layer, kernel).is_ok_and(|plan| plan.exact.window() != [1, 1])
}

/// Products of 16 outputs: 1.6 a cycle with AVX-512 VNNI, 0.75 with AVX2 (`Machine::rate`); copying a strip takes 2 cycles a level,
/// transforming it a half for each value; then the codes.
pub(super) fn cycles(layer: &Layer<'_>, level: &Level, kernel: Kernel) -> f64 {
    let Ok(plan) = Plan::of(layer, kernel) else { return f64::INFINITY };
    let Some(behind) = thresholds(layer.graph, layer.step.source.node) else { return f64::INFINITY };
    let (g, filter) = (&layer.g, plan.winograd.filter);
    let blocks = (g.outputs / TILE) as f64;
    let strips = g.output[0].div_ceil(plan.rows);
    let copied = (strips * plan.strip() / plan.split.products.element()) as f64;
    let transformed = (g.output[0].div_ceil(filter.results) * filter.products() * plan.levels) as f64;
    let codes = layer.positions() * g.outputs as f64 / plan.exact.window().iter().product::<usize>() as f64;
    plan.products(layer, behind) * blocks / plan.machine.rate(level) + 2.0 * copied + transformed / 2.0 + codes
}

/// What the emitted code has at hand.
struct Emitted<'a> {
    layer: &'a IntLayer<'a>,
    plan: Plan,
    tile: FunctionId,
    transform: FunctionId,
    weights: Value,
    table: Value,
    table_bytes: usize,
    strip: Value,
    transformed: Value,
    list: Value,
    /// Where rows go that are not all the task's.
    beyond: Value,
    /// Bytes of a row of results.
    result_row: usize,
}

/// Emits the kernel.
///
/// # Errors
/// The node that could not be emitted, and why.
pub(super) fn emit(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    layer: &IntLayer<'_>,
    about: &Layer<'_>,
    kernel: Kernel,
) -> Result<(), KernelError> {
    let emitted = prepare(e, task, layer, about, kernel).map_err(|m| (about.node, m))?;
    let (g, plan) = (&layer.g, &emitted.plan);
    let (start, end) = task.row_range(e);
    let results = plan.winograd.filter.results;
    let mut result = Ok(());
    e.range(start, end, plan.rows, |e, top| {
        let bottom = e.add(top, plan.rows);
        let bottom = e.min(bottom, end);
        // Whole tiles of rows, and what the kernel reads below the last of them.
        let rows = e.b.ins().isub(bottom, top);
        let tiles = e.add(rows, results - 1);
        let by = e.int(results);
        let tiles = e.b.ins().udiv(tiles, by);
        let tall = e.mul(tiles, results * g.strides[0]);
        let tall = e.b.ins().iadd_imm_s(tall, g.kernel[0] as i64 - g.strides[0] as i64);
        let strip = split_input::Strip {
            base: emitted.strip,
            row: plan.row,
            tall,
            columns: plan.levels / g.channels,
            element: plan.split.products.element(),
        };
        let zero = e.int(0);
        split_input::copy(e, layer, &strip, [top, zero]);
        e.range(top, bottom, results, |e, y| {
            result = emitted.rows(e, task, [top, y, end]);
        });
    });
    result
}

fn prepare<'a>(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    layer: &'a IntLayer<'a>,
    about: &Layer<'_>,
    kernel: Kernel,
) -> Result<Emitted<'a>, String> {
    let (g, mut plan) = (&layer.g, Plan::of(about, kernel)?);
    let (rows, top) = thresholds(task.graph, task.step.source.node).ok_or("no thresholds follow")?;
    let finish = match plan.exact.finish() {
        SplitFinish::Pooled { shift, window, .. } => SplitFinish::Pooled { top, shift, window },
        _ => SplitFinish::Early { top, shift: plan.winograd.shift },
    };
    let (pixel, position) = (g.outputs / 4, g.strides[1] * g.channels);
    let element = plan.split.products.element();
    let pooled = plan.exact.window() != [1, 1];
    let result_row = if pooled { about.stored } else { about.result }.image.2 * pixel;
    let exact = plan.exact.with(&plan.split, [plan.row, g.channels * element], position * element, pixel, finish);
    plan.exact = exact.with_rows([g.strides[0] * plan.row, result_row]).with_dot(e.level);
    let (filter, row) = (plan.winograd.filter, RowTransform::row(plan.levels));
    let shape = WinogradShape { exact: plan.exact, filter, steps: plan.winograd.steps, row, position: 2 * position };
    let transform = RowTransform { width: plan.machine.width, filter, levels: plan.levels, from: plan.row, to: row };
    let failed = |error: crate::codegen::CodegenError| error.to_string();
    let (tile, transform) = (shape.function(e.image).map_err(failed)?, transform.function(e.image).map_err(failed)?);
    let levels = levels(about);
    let table = plan.winograd.thresholds(g, &plan.split, (rows, top)).ok_or("no threshold is told")?;
    Ok(Emitted {
        layer,
        tile,
        transform,
        weights: e.data("weights", plan.winograd.pack(g, &plan.split, &levels)),
        table: e.data("thresholds", table),
        table_bytes: finish.table_bytes(),
        strip: e.stack(plan.strip() + 64, 64),
        transformed: e.stack(plan.transformed(), 64),
        list: e.stack(shape.list(), 64),
        beyond: e.stack(filter.results * result_row, 16),
        result_row,
        plan,
    })
}

impl Emitted<'_> {
    /// The rows of results from `y` on that a tile makes, of a strip from row `top` on.
    fn rows(&self, e: &mut Emitter<'_, '_>, task: &Task<'_>, [top, y, end]: [Value; 3]) -> Result<(), KernelError> {
        let g = &self.layer.g;
        let (filter, window) = (self.plan.winograd.filter, self.plan.exact.window());
        let above = e.b.ins().isub(y, top);
        let levels = e.at(self.strip, above, g.strides[0] * self.plan.row);
        e.call(self.transform, &[levels, self.transformed]);
        let result = match window {
            [1, 1] => task.result.base,
            _ => task.operand(task.step.result, task.step.result.node)?.base,
        };
        let height = e.int(window[0]);
        let first = e.b.ins().udiv(y, height);
        let out = e.at(result, first, self.result_row);
        let left = e.b.ins().isub(end, y);
        let whole = e.b.ins().icmp_imm_s(IntCC::SignedGreaterThanOrEqual, left, filter.results as i64);
        let to = e.b.ins().select(whole, out, self.beyond);
        self.blocks(e, [levels, to]);
        if window == [1, 1] {
            e.branch(
                whole,
                |_| {},
                |e| {
                    let bytes = e.mul(left, self.result_row);
                    let zero = e.int(0);
                    e.range(zero, bytes, 4, |e, i| {
                        let [from, to] = [self.beyond, out].map(|base| e.b.ins().iadd(base, i));
                        let codes = e.load(types::I32, from, 0);
                        e.store(codes, to, 0);
                    });
                },
            );
        }
        Ok(())
    }

    /// Every block of outputs of a row of tiles, of which the last may overlap the one before.
    fn blocks(&self, e: &mut Emitter<'_, '_>, [levels, out]: [Value; 2]) {
        let (g, plan) = (&self.layer.g, &self.plan);
        let (width, columns) = (g.output[1], plan.exact.columns());
        let position = g.strides[1] * g.channels;
        let mut calls = vec![(0, width / columns)];
        if !width.is_multiple_of(columns) {
            calls.push((width - columns, 1));
        }
        e.times(g.outputs / TILE, |e, block| {
            let weights = e.at(self.weights, block, plan.winograd.block_bytes(&plan.split));
            let table = e.at(self.table, block, self.table_bytes);
            let out = e.at(out, block, TILE / 4);
            for &(first, tiles) in &calls {
                let levels = e.add(levels, first * position * plan.split.products.element());
                let transformed = e.add(self.transformed, first * 2 * position);
                let out = e.add(out, first / plan.exact.window()[1] * g.outputs / 4);
                let tiles = e.int(tiles);
                e.call(self.tile, &[levels, weights, out, table, tiles, self.list, transformed]);
            }
        });
    }
}
