//! Split integers: convolution of codes with fixed-point weights, or with any weights whose accumulators need more than 32
//! bits. Weights are two digits of 12 bits multiplied as i16, or three of 8 bits multiplied as bytes (`lower::split`); each
//! digit's sums fit 32 bits, which is proved from the weights, and are combined exactly.
//!
//! A task copies the input rows that a few output rows need into a strip on its stack: levels side by side in (y, x, c)
//! order, zeros for padding. Every position is then like every other. The kernel also does the layer's decode or threshold,
//! because a lane of 32 bits holds no accumulator.
//!
//! Cost: 3 MAC a cycle with 128-bit pmaddwd, 12 to 15 with AVX2, 20 with AVX-512 VNNI. Needs nothing beyond the level's
//! base.

use super::int_conv::IntLayer;
use super::split_lanes::Finish;
use super::{KernelError, Operand, Task, split_input, split_lanes};
use crate::codegen::emitter::{Emitter, F32X4, I32X4};
use crate::codegen::image::FunctionId;
use crate::codegen::tiles::{SplitFinish, SplitShape};
use crate::graph::ops::Geometry;
use crate::graph::types::{AccType, Layout};
use crate::graph::{NodeId, Value as GraphValue};
use crate::lower::split::{self, Products, TILE};
use cranelift_codegen::ir::{InstBuilder, StackSlotData, StackSlotKind, Value, types};

/// Bytes of a strip that leave room for weights in the first-level cache.
const STRIP: usize = 24 << 10;
/// The longest strip that is put on a stack.
const LONGEST: usize = 256 << 10;

/// A layer ready to be emitted.
pub(super) struct SplitLayer<'a> {
    /// What it computes.
    pub layer: &'a IntLayer<'a>,
    /// How it is split.
    pub split: split::Split,
    /// Address of the packed weights.
    pub weights: Value,
    /// What becomes of an accumulator.
    pub finish: Finish,
    /// The strip's address.
    pub strip: Value,
    /// Bytes of a row of the strip, a multiple of 16.
    pub row: usize,
    /// Output rows and columns a strip.
    pub extents: [usize; 2],
    /// Input rows a strip.
    pub tall: usize,
    /// Positions of a tile, and the tile.
    pub tile: Option<(FunctionId, SplitShape)>,
    /// Where a tile's results lie.
    pub buffer: Value,
    /// Elements of one position there.
    pub pitch: usize,
    /// Whether the tile stores the step's result itself.
    pub direct: bool,
}

/// Whether the layer `node` is this kernel's: fixed-point weights, an accumulator beyond 32 bits, or the caller's pixels.
pub(super) fn wanted(task: &Task<'_>, node: NodeId, input: &Operand, acc: &AccType) -> bool {
    split::fixed_point(task.graph, node) || !acc.fits_i32() || input.buffer.layout == Layout::Dense
}

/// Emits the layer; `None` where its sums could overflow, which the direct kernel then computes.
///
/// # Errors
/// The node that could not be emitted, and why.
pub(super) fn emit(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    layer: &IntLayer<'_>,
    acc: &AccType,
) -> Result<Option<&'static str>, KernelError> {
    let Some((layer, name)) = prepare(e, task, layer, acc)? else { return Ok(None) };
    let g = &layer.layer.g;
    let words = task.splits_channels().then(|| task.word_range(e));
    let (start, end) = task.row_range(e);
    let mut result = Ok(());
    let [rows, columns] = layer.extents;
    e.range(start, end, rows, |e, top| {
        let (zero, width) = (e.int(0), e.int(g.output[1]));
        e.range(zero, width, columns, |e, left| {
            split_input::copy(e, &layer, [top, left]);
            let [bottom, right] = [(top, rows), (left, columns)].map(|(from, by)| e.add(from, by));
            let (bottom, right) = (e.min(bottom, end), e.min(right, width));
            e.range(top, bottom, 1, |e, y| {
                let i = e.b.ins().isub(y, top);
                let input = e.at(layer.strip, i, g.strides[0] * layer.row);
                let done = row(e, task, &layer, [y, left, right, input], words);
                result = std::mem::replace(&mut result, Ok(())).and(done);
            });
        });
    });
    result.map(|()| Some(name))
}

fn prepare<'a>(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    layer: &'a IntLayer<'a>,
    acc: &AccType,
) -> Result<Option<(SplitLayer<'a>, &'static str)>, KernelError> {
    let (g, levels) = (&layer.g, layer.a.levels());
    let mut weights: Vec<i64> = layer.codes.iter().map(|&u| layer.w.level(u.into())).collect();
    let node = task.step.main.unwrap_or(task.step.result.node);
    // The threshold that enters the chain, if it is one.
    let rows = task.thresholds(task.step.source.node);
    // Thresholds of a falling channel hold for the negated accumulator.
    if let Some((rows, top)) = rows {
        for (weights, row) in weights.chunks_mut(g.taps().max(1)).zip(rows.chunks(top + 1)) {
            if row.last().is_some_and(|&d| d < 0) {
                weights.iter_mut().for_each(|w| *w = -*w);
            }
        }
    }
    let products = if SplitShape::quads(e.level) { Products::Quads } else { Products::Pairs };
    let split = split::Split::new(g, &weights, levels, products);
    let Some(split) = split.or_else(|| split::Split::new(g, &weights, levels, Products::Pairs)) else {
        return Ok(None);
    };
    // The window of one position at least must fit.
    let tiles = [g.output[1], 1].map(|width| SplitShape::of(e.level, split.products, split.planes, width));
    let extents = tiles.map(|t| extents(g, &split, t.map_or(1, |s| s.positions), task.step.tasks));
    let found = tiles.into_iter().zip(extents).find(|(_, s)| s.size <= LONGEST);
    let Some((shape, Strip { extents, tall, row, size })) = found else { return Ok(None) };
    let positions = shape.map_or(1, |s| s.positions);
    let pixel = g.channels * split.products.element();
    let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, size as u32, 6);
    let slot = e.b.create_sized_stack_slot(slot);
    let strip = e.b.ins().stack_addr(types::I64, slot, 0);
    let finish = match rows {
        Some((rows, top)) => Finish::Threshold { table: e.data("thresholds", split.thresholds(g, rows, top)), top },
        None if task.step.source == (GraphValue { node, port: 0 }) => Finish::Raw,
        None => Finish::Decode { table: e.data("scales", split.scales(g, |o| acc.scale_of(o))) },
    };
    let mut kind = finish.kind();
    let direct = match shape {
        Some(s) if stores(e, task, g, s) => {
            kind = SplitFinish::Nibbles { top: kind.top(), planes: task.result.buffer.planes };
            kind.top() > 0
        }
        _ => false,
    };
    let pitch = g.outputs.next_multiple_of(4) + TILE;
    let buffer = task.lane_buffer(e, pitch * positions);
    let weights = e.data("weights", split.weights(g, &weights));
    let tile = match shape {
        None => None,
        Some(shape) => {
            let steps = [g.dilations[0] * row, g.dilations[1] * pixel];
            let apart = if direct { g.outputs / 4 } else { pitch * 4 };
            let kind = if direct { kind } else { finish.kind() };
            let shape = shape.with(&split, steps, g.strides[1] * pixel, apart, kind);
            Some((shape.function(e.image).map_err(|m| (node, m.to_string()))?, shape))
        }
    };
    let name = match tile {
        None => "split integer",
        Some((_, shape)) => shape.name(),
    };
    let layer = SplitLayer { layer, split, weights, finish, strip, row, extents, tall, tile, buffer, pitch, direct };
    Ok(Some((layer, name)))
}

/// Whether a step's result are codes of few bits that whole tiles and blocks make, so that the tile can store them.
fn stores(e: &Emitter<'_, '_>, task: &Task<'_>, g: &Geometry, tile: SplitShape) -> bool {
    let whole = g.output[1].is_multiple_of(tile.positions) && (g.outputs / g.groups).is_multiple_of(TILE);
    let nibbles = task.result.buffer.layout == Layout::Nibbles && task.step.chain.is_empty();
    whole && nibbles && !task.splits_channels() && SplitShape::stores_nibbles(e.level)
}

/// The extents of a strip.
struct Strip {
    extents: [usize; 2],
    tall: usize,
    row: usize,
    size: usize,
}

/// The largest strip of whole tiles that fits, first in width, then in height.
fn extents(g: &Geometry, split: &split::Split, positions: usize, tasks: usize) -> Strip {
    let span = |i: usize, n: usize| (n - 1) * g.strides[i] + (g.kernel[i] - 1) * g.dilations[i] + 1;
    let row = |columns: usize| (span(1, columns) * g.channels * split.products.element() + 16).next_multiple_of(16);
    let (tiles, share) = (g.output[1].div_ceil(positions), g.output[0].div_ceil(tasks.max(1)).max(1));
    let fits = |rows: usize, columns: usize| span(0, rows) * row(columns) <= STRIP;
    let columns = (1..=tiles).rev().map(|t| t * positions).find(|&c| fits(1, c)).unwrap_or(positions);
    let rows = (1..=share).rev().find(|&r| fits(r, columns)).unwrap_or(1);
    let (tall, row) = (span(0, rows), row(columns));
    Strip { extents: [rows, columns], tall, row, size: tall * row + 64 }
}

/// One row of the result: tiles of positions, each block of outputs in turn.
fn row(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    layer: &SplitLayer<'_>,
    [y, start, end, input]: [Value; 4],
    words: Option<(Value, Value)>,
) -> Result<(), KernelError> {
    let g = &layer.layer.g;
    let positions = layer.tile.map_or(1, |(_, s)| s.positions);
    let pixel = g.channels * layer.split.products.element();
    let mut result = Ok(());
    e.range(start, end, positions, |e, x| {
        let at = e.b.ins().isub(x, start);
        let at = e.at(input, at, g.strides[1] * pixel);
        if layer.direct {
            let p = task.position(e, y, x);
            let out = e.at(task.result.base, p.flat, g.outputs / 4);
            return blocks(e, task, layer, [at, out], words);
        }
        blocks(e, task, layer, [at, layer.buffer], words);
        let left = e.b.ins().isub(end, x);
        let (zero, most) = (e.int(0), e.int(positions));
        let count = e.min(left, most);
        let mut one = |e: &mut Emitter<'_, '_>, i: Value| {
            let x = e.b.ins().iadd(x, i);
            let p = task.position(e, y, x);
            let lanes = e.at(layer.buffer, i, layer.pitch * 4);
            let ty = if matches!(layer.finish, Finish::Decode { .. }) { F32X4 } else { I32X4 };
            let done = task.finish_from(e, p, words, lanes, ty);
            result = std::mem::replace(&mut result, Ok(())).and(done);
        };
        if positions == 1 {
            one(e, zero);
        } else {
            e.range(zero, count, 1, one);
        }
    });
    result
}

fn blocks(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    layer: &SplitLayer<'_>,
    [input, out]: [Value; 2],
    words: Option<(Value, Value)>,
) {
    let g = &layer.layer.g;
    let (outputs, blocks) = (g.outputs / g.groups, layer.split.blocks(g));
    let inner = g.channels / g.groups * layer.split.products.element();
    e.times(g.groups, |e, group| {
        let input = e.at(input, group, inner);
        let (start, end) = task.block_range(e, words, TILE, blocks);
        e.range(start, end, 1, |e, block| {
            let index = e.at(block, group, blocks);
            let weights = e.at(layer.weights, index, layer.split.block_bytes());
            let first = e.mul(block, TILE);
            let first = e.at(first, group, outputs);
            let out = match layer.direct {
                true => {
                    let bytes = e.b.ins().ushr_imm_u(first, 2);
                    e.b.ins().iadd(out, bytes)
                }
                false => e.at(out, first, 4),
            };
            let table = layer.finish.table(e, index);
            match layer.tile {
                Some((function, _)) => e.call(function, &[input, weights, out, table]),
                None => split_lanes::block(e, layer, [input, weights, out, table]),
            }
        });
    });
}
