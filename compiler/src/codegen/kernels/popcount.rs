//! Bit-serial convolution with 512-bit vectors: the sums of `int_conv`, its reference, for up to 64 outputs at a time. It
//! serves whatever lies in bit planes: fully connected layers, activations of more than 2 bits, odd numbers of channels.
//!
//! Where there is but one position, the first of several samples does all, so that weights are read from afar once for them.
//!
//! Cost: see [`cycles`]. Limits: W·A ≤ 16, A ≤ 8; i64 lanes hold every sum. Needs AVX-512 with VPOPCNTDQ.

use super::int_conv::{IntLayer, TapList, add_offsets, box_sum, gather_taps, tap_list, tap_list_bytes};
use super::layer::{Layer, demand};
use super::samples::one_position;
use super::walk::WORD;
use super::{KernelError, Task};
use crate::codegen::CodegenError;
use crate::codegen::emitter::{Emitter, I32X4};
use crate::codegen::image::FunctionId;
use crate::codegen::target::{Level, x86};
use crate::codegen::tiles::PopcountShape;
use crate::lower::{LINE, pack};
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// Whether level and layer allow the kernel.
pub(super) fn fits(layer: &Layer<'_>, level: &Level) -> Result<(), String> {
    demand(level.has_x86(x86::V4 | x86::VPOPCNTDQ), "the level lacks AVX-512 with VPOPCNTDQ")?;
    layer.in_lanes()?;
    demand(vectors(layer).is_some(), "it has more than 16 pairs of bits")
}

/// 330 MAC a cycle and pair of bits, channels by 64 and outputs by the tile's, 10 cycles a position and 2 a tap for the list
/// of taps; then the chain. One position is bound by reading its weights.
pub(super) fn cycles(layer: &Layer<'_>) -> f64 {
    let [w, a] = layer.bits();
    let taps = layer.positions() * (10 + 2 * layer.g.kernel[0] * layer.g.kernel[1]) as f64;
    layer.macs(64, 8 * vectors(layer).unwrap_or(1)) * w * a / 330.0 + taps + layer.reading(w, 1.0) + layer.chain()
}

/// Vectors of eight outputs a tile.
fn vectors(layer: &Layer<'_>) -> Option<usize> {
    PopcountShape::vectors([layer.codes?.w.bits() as usize, layer.input.planes])
}

/// Emits the kernel.
pub(super) fn emit(e: &mut Emitter<'_, '_>, task: &Task<'_>, layer: &IntLayer<'_>) -> Result<(), KernelError> {
    let (g, b) = (&layer.g, &layer.input.buffer);
    let planes = [layer.w.bits() as usize, b.planes];
    let Some(vectors) = PopcountShape::vectors(planes) else {
        return Err((task.step.result.node, "has too many bit planes for this kernel".to_owned()));
    };
    let (inner, outputs, taps) = (g.channels / g.groups, g.outputs / g.groups, g.kernel[0] * g.kernel[1]);
    let (words, tile, plane_stride) = (inner.div_ceil(64), 8 * vectors, b.words() * 8);
    let blocks = outputs.div_ceil(tile);
    let factor = layer.a.step.wrapping_mul(layer.w.step);
    let shape = PopcountShape { planes, vectors, words, plane_stride, factor };
    let function = shape.function(e.image).map_err(|m: CodegenError| (task.step.result.node, m.to_string()))?;
    let weights = e.data("weights", pack::popcount_weights(g, layer.codes, planes[0], tile));
    let offsets = layer.tap_offsets(e);
    let lists = SAMPLES * tap_list_bytes(taps) <= MOST_LISTS;
    if one_position(g) && offsets.is_none() && lists {
        return flat(e, task, layer, (function, shape), weights);
    }
    let buffer = task.lane_buffer(e, g.outputs + tile);
    let list = tap_list(e, taps);
    let tap_bytes = words * planes[0] * tile * 8;
    task.each_position(e, |task, e, p| {
        let range = task.splits_channels().then(|| task.word_range(e));
        let taps_here = gather_taps(e, layer, list, [p.y, p.x], tap_bytes);
        let count = taps_here.count(e);
        e.times(g.groups, |e, group| {
            let shift = e.mul(group, words * 8);
            let addend = addend(e, layer, &taps_here, shift, words);
            let (start, end) = task.block_range(e, range, tile, blocks);
            e.range(start, end, 1, |e, block| {
                let row = e.at(block, group, blocks);
                let weights = e.at(weights, row, taps * tap_bytes);
                let first = e.mul(block, tile);
                let first = e.at(first, group, outputs);
                let out = e.at(buffer, first, 4);
                e.call(function, &[list, count, shift, weights, addend, out]);
                let Some(table) = offsets else { return };
                e.times(tile / 4, |e, i| {
                    let (channel, at) = (e.mul(i, 4), e.at(out, i, 16));
                    let channel = e.b.ins().iadd(channel, first);
                    let acc = e.load(I32X4, at, 0);
                    let acc = add_offsets(e, layer, &taps_here, acc, table, channel, tap_bytes);
                    e.store(acc, at, 0);
                });
            });
        });
        task.finish_from(e, p, range, buffer, I32X4)
    })
}

/// Samples that are done together, a power of two: their weights come from afar once.
const SAMPLES: usize = 64;
/// Bytes of their lists of taps, which lie on the stack, at most.
const MOST_LISTS: usize = 64 << 10;

/// A layer of one position whose taps are all valid: word by word of outputs, every sample in turn.
fn flat(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    layer: &IntLayer<'_>,
    (function, shape): (FunctionId, PopcountShape),
    weights: Value,
) -> Result<(), KernelError> {
    let (g, tile) = (&layer.g, 8 * shape.vectors);
    let node = task.step.main.unwrap_or(task.step.result.node);
    let taps = g.kernel[0] * g.kernel[1];
    let tap_bytes = shape.words * shape.planes[0] * tile * 8;
    let (lists, addends) = (tap_list(e, SAMPLES * taps), e.stack(SAMPLES * 8, 8));
    let buffer = e.stack(SAMPLES * WORD * 4, LINE);
    let entries = tap_list_bytes(taps);
    task.main_operand(node, 0)?;
    let mut result = Ok(());
    task.together(e, SAMPLES, |e, count| {
        let zero = e.int(0);
        each_sample(e, task, layer, [count, addends], |e, layer, ahead| {
            let list = e.at(lists, ahead, entries);
            gather_taps(e, layer, list, [zero, zero], tap_bytes)
        });
        let (start, end) = task.word_range(e);
        e.range(start, end, 1, |e, word| {
            let next = e.add(word, 1);
            let (from, to) = task.block_range(e, Some((word, next)), tile, g.outputs.div_ceil(tile));
            e.range(from, to, 1, |e, block| {
                let weights = e.at(weights, block, taps * tap_bytes);
                let inside = e.b.ins().isub(block, from);
                let out = e.at(buffer, inside, tile * 4);
                e.range(zero, count, 1, |e, ahead| {
                    let (list, out) = (e.at(lists, ahead, entries), e.at(out, ahead, WORD * 4));
                    let addend = e.at(addends, ahead, 8);
                    let (addend, valid) = (e.load(types::I64, addend, 0), e.int(taps));
                    e.call(function, &[list, valid, zero, weights, addend, out]);
                });
            });
            result = task.finish_word(e, [word, count], buffer, I32X4);
        });
    });
    result
}

/// For each of `count` samples, this task's and those behind it, of a layer of one position: `taps` lists them, and what is added to
/// its outputs is stored.
pub(super) fn each_sample(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    layer: &IntLayer<'_>,
    [count, addends]: [Value; 2],
    mut taps: impl FnMut(&mut Emitter<'_, '_>, &IntLayer<'_>, Value) -> TapList,
) {
    let (zero, node) = (e.int(0), task.step.main.unwrap_or(task.step.result.node));
    e.range(zero, count, 1, |e, ahead| {
        let Ok(input) = task.later(e, ahead).main_operand(node, 0).cloned() else { return };
        let layer = IntLayer { g: layer.g.clone(), a: layer.a.clone(), w: layer.w.clone(), codes: layer.codes, input };
        let taps = taps(e, &layer, ahead);
        let addend = addend(e, &layer, &taps, zero, layer.g.channels.div_ceil(64));
        let at = e.at(addends, ahead, 8);
        e.store(addend, at, 0);
    });
}

/// What is added to every output of a group: sa·ow·S, S the sum of the valid taps' codes.
fn addend(e: &mut Emitter<'_, '_>, layer: &IntLayer<'_>, taps: &TapList, shift: Value, words: usize) -> Value {
    let sum = if layer.w.offset == 0 { e.int(0) } else { box_sum(e, layer, taps, shift, words) };
    e.b.ins().imul_imm_s(sum, i64::from(layer.a.step) * i64::from(layer.w.offset))
}
