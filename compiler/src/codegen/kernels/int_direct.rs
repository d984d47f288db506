//! Direct integer convolution on i32 codes, one output at a time: for groups too narrow for bit planes (depthwise layers),
//! and for accumulators beyond 32 bits. Accumulator: wrapping i32, exact because the proved range fits, or i64. Cost:
//! see [`cycles`].

use super::int_conv::IntLayer;
use super::layer::{Layer, demand, thresholds};
use super::{KernelError, Position, Task};
use crate::codegen::emitter::{Emitter, F32X4, I32X4};
use crate::codegen::taps::Taps;
use crate::graph::types::{AccType, Layout};
use crate::lower::pack;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Type, Value, types};

/// Whether the kernel with accumulators of 64 bits fits: it gives what the decode or threshold behind the layer does.
pub(super) fn fits_wide(layer: &Layer<'_>) -> Result<(), String> {
    demand(layer.input.image.0 == layer.g.channels, "it appends a channel to its input")?;
    demand(layer.in_lanes().is_err(), "its accumulators fit lanes of 32 bits")
}

/// 2 cycles a MAC, then the chain.
pub(super) fn cycles(layer: &Layer<'_>) -> f64 {
    layer.macs(1, 1) * 2.0 + layer.chain()
}

pub(super) fn emit(e: &mut Emitter<'_, '_>, task: &Task<'_>, layer: &IntLayer<'_>) -> Result<(), KernelError> {
    outputs(e, task, layer, I32X4, |e, p, o, weights| output(e, layer, weights, p, o, types::I32))
}

/// What the step's chain starts with of an accumulator of 64 bits, which lanes could not hold: the decoded value
/// f32(f64(acc)·scale), the code by thresholds, or the low 32 bits where they are all.
pub(super) fn emit_wide(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    layer: &IntLayer<'_>,
    acc: &AccType,
) -> Result<(), KernelError> {
    if let Some((rows, top)) = thresholds(task.graph, task.step.source.node) {
        let rows = e.data("thresholds", rows.iter().flat_map(|t| t.to_le_bytes()).collect());
        return outputs(e, task, layer, I32X4, |e, p, o, weights| {
            let sum = output(e, layer, weights, p, o, types::I64);
            reached(e, sum, rows, o, top)
        });
    }
    let scales: Vec<f64> = (0..layer.g.outputs).map(|o| acc.scale_of(o)).collect();
    let scales = e.data("scale", pack::f64_bytes(&scales));
    outputs(e, task, layer, F32X4, |e, p, o, weights| {
        let sum = output(e, layer, weights, p, o, types::I64);
        let sum = e.b.ins().fcvt_from_sint(types::F64, sum);
        let scale = e.at(scales, o, 8);
        let scale = e.read(types::F64, scale, 0);
        let value = e.b.ins().fmul(sum, scale);
        e.b.ins().fdemote(types::F32, value)
    })
}

/// How many of an output's `top` thresholds an accumulator reaches; the direction follows them.
fn reached(e: &mut Emitter<'_, '_>, acc: Value, rows: Value, o: Value, top: usize) -> Value {
    let row = e.at(rows, o, (top + 1) * 8);
    let direction = e.read(types::I64, row, (top * 8) as i32);
    let acc = e.b.ins().imul(acc, direction);
    let zero = e.b.ins().iconst(types::I32, 0);
    let code = e.var(zero);
    e.times(top, |e, t| {
        let at = e.at(row, t, 8);
        let t = e.read(types::I64, at, 0);
        let reached = e.b.ins().icmp(IntCC::SignedGreaterThanOrEqual, acc, t);
        let one = e.b.ins().uextend(types::I32, reached);
        e.accumulate(code, one);
    });
    e.b.use_var(code)
}

/// Runs the task: `result` gives the lane, of type `ty`, of the output at a position.
fn outputs(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    layer: &IntLayer<'_>,
    ty: Type,
    mut result: impl FnMut(&mut Emitter<'_, '_>, Position, Value, Value) -> Value,
) -> Result<(), KernelError> {
    let levels: Vec<i32> = layer.codes.iter().map(|&u| layer.w.level(u.into()) as i32).collect();
    let weights = e.data("weights", pack::i32_bytes(&levels));
    let buffer = task.lane_buffer(e, layer.g.outputs);
    task.each_position(e, |task, e, p| {
        let words = task.splits_channels().then(|| task.word_range(e));
        let (start, end) = task.block_range(e, words, 1, layer.g.outputs);
        e.range(start, end, 1, |e, o| {
            let (value, at) = (result(e, p, o, weights), e.at(buffer, o, 4));
            e.store(value, at, 0);
        });
        task.finish_from(e, p, words, buffer, ty)
    })
}

/// One output's sum of products over the valid taps, in accumulators of `ty`.
fn output(e: &mut Emitter<'_, '_>, layer: &IntLayer<'_>, weights: Value, p: Position, o: Value, ty: Type) -> Value {
    let g = &layer.g;
    let (inner, outputs, taps) = (g.channels / g.groups, g.outputs / g.groups, g.kernel[0] * g.kernel[1]);
    let zero = e.b.ins().iconst(ty, 0);
    let sum = e.var(zero);
    let per_group = e.int(outputs);
    let group = e.b.ins().udiv(o, per_group);
    let row = e.at(weights, o, inner * taps * 4);
    let wide = |e: &mut Emitter<'_, '_>, v: Value| if ty == types::I64 { e.b.ins().sextend(ty, v) } else { v };
    Taps::of_convolution(g).each(e, p.y, p.x, |e, tap| {
        e.when(tap.valid, |e| {
            // From a position and a channel to the next: the caller's codes are planes of bytes.
            let b = &layer.input.buffer;
            let [pixel, channel] = match b.layout {
                Layout::Dense => [b.element(), b.image.1 * b.image.2 * b.element()],
                _ => [b.pitch() * 4, 4],
            };
            let position = e.at(layer.input.base, tap.flat, pixel);
            let position = e.at(position, group, inner * channel);
            let row = e.at(row, tap.index, 4);
            e.times(inner, |e, c| {
                let (a, k) = (e.at(position, c, channel), e.at(row, c, taps * 4));
                let a = match b.layout {
                    Layout::Dense if b.element() == 1 => {
                        e.b.ins().uload8(types::I32, MemFlagsData::new().with_notrap(), a, 0)
                    }
                    _ => e.load(types::I32, a, 0),
                };
                let k = e.load(types::I32, k, 0);
                let a = e.b.ins().imul_imm_s(a, i64::from(layer.a.step));
                let a = e.b.ins().iadd_imm_s(a, i64::from(layer.a.offset));
                let (a, k) = (wide(e, a), wide(e, k));
                let product = e.b.ins().imul(a, k);
                e.accumulate(sum, product);
            });
        });
    });
    e.b.use_var(sum)
}
