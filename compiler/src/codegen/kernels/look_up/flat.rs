//! 16-entry look-ups of one position (`tiles::look_up_flat`): fully connected layers of activations of at most 2 bits. What
//! `int_conv` computes with a popcount a word, its reference, from the same bit planes, which a task spreads to the bytes
//! that choose tables. The first of several samples does all, so that weights are read from afar once for them.
//!
//! Cost: see [`cycles`]. Limits: those of [`super`], and what [`fits`] says. Needs AVX2, or SSE4.1 and SSSE3, or
//! aarch64 (`flat_clif`).

use super::flat_clif;
use crate::codegen::CodegenError;
use crate::codegen::emitter::{Emitter, I32X4};
use crate::codegen::kernels::int_conv::{IntLayer, TapList, each_tap, gather_taps, tap_list};
use crate::codegen::kernels::layer::{Layer, demand};
use crate::codegen::kernels::popcount::each_sample;
use crate::codegen::kernels::samples::one_position;
use crate::codegen::kernels::spread::{WORD_QUADS, spread};
use crate::codegen::kernels::walk::WORD;
use crate::codegen::kernels::{KernelError, Task};
use crate::codegen::target::{Arch, Level, x86};
use crate::codegen::tiles::Lanes;
use crate::codegen::tiles::look_up_flat::LookUpFlat;
use crate::lower::LINE;
use crate::lower::pack::{self, FLAT_TILE};
use cranelift_codegen::ir::{Value, types};

/// Samples that are done together, a power of two.
const SAMPLES: usize = 8;
/// Bytes of a sample's codes, which lie on the stack, at most.
const MOST: usize = 8 << 10;

/// Whether level and layer allow the kernel, `wide` with AVX2.
pub(in crate::codegen::kernels) fn fits(layer: &Layer<'_>, level: &Level, wide: bool) -> Result<(), String> {
    demand(!wide || level.has_x86(x86::AVX2), "the level lacks AVX2")?;
    demand(level.has_x86(x86::V2) || level.has_a64(0), "the level lacks SSE4.1 with SSSE3")?;
    layer.in_lanes()?;
    let (Some(c), g) = (layer.codes, &layer.g) else { return Ok(()) };
    demand(one_position(g), "it has more than one position")?;
    demand(c.a.offset == 0, "its activation code 0 is not level 0")?;
    demand(layer.input.planes <= 2, "its activations have more than 2 bits")?;
    demand(g.taps() * c.a.top as usize <= u16::MAX.into(), "its sums could pass 65535")?;
    demand(g.kernel[0] * g.kernel[1] * g.channels.div_ceil(64) * WORD_QUADS <= MOST, "it has more than 32768 taps")
}

/// 55 MAC a cycle and weight bit, 110 with AVX2, and spreading the codes; then the chain. One position is bound by reading its
/// weights.
pub(in crate::codegen::kernels) fn cycles(layer: &Layer<'_>, wide: bool) -> f64 {
    let ([w, _], rate) = (layer.bits(), if wide { 110.0 } else { 55.0 });
    let spread = (layer.g.taps() / 2 * layer.step.tasks) as f64;
    layer.macs(64, FLAT_TILE) * w / rate + spread + layer.reading(w, 1.0) + layer.chain()
}

/// Emits the kernel, `wide` with AVX2.
pub(in crate::codegen::kernels) fn emit(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    layer: &IntLayer<'_>,
    wide: bool,
) -> Result<(), KernelError> {
    let (g, planes) = (&layer.g, layer.w.bits() as usize);
    let node = task.step.main.unwrap_or(task.step.result.node);
    let (taps, words) = (g.kernel[0] * g.kernel[1], g.channels.div_ceil(64));
    let quads = taps * words * WORD_QUADS;
    let limit = pack::look_up_limit(layer.input.buffer.planes);
    let tiles = (0..planes).map(|plane| {
        let factor = layer.a.step.wrapping_mul(layer.w.step).wrapping_shl(plane as u32);
        let lanes = if wide { Lanes::Ymm } else { Lanes::Xmm };
        let tile = LookUpFlat { lanes, quads, limit, factor, add: plane > 0 };
        match e.level.arch {
            Arch::X86_64 => tile.function(e.image),
            Arch::Aarch64 => flat_clif::function(tile, e),
        }
    });
    let tiles = tiles.collect::<Result<Vec<_>, _>>().map_err(|m: CodegenError| (node, m.to_string()))?;
    let tables = e.data("look_up_tables", pack::look_up_tables());
    let weights = e.data("weights", pack::flat_weights(g, layer.codes, planes));
    let (codes, addends) = (e.stack(SAMPLES * quads, LINE), e.stack(SAMPLES * 8, 8));
    let (list, buffer) = (tap_list(e, taps), e.stack(SAMPLES * WORD * 4, LINE));
    let plane_bytes = quads / 2 * FLAT_TILE;
    task.main_operand(node, 0)?;
    let mut result = Ok(());
    task.together(e, SAMPLES, |e, count| {
        let zero = e.int(0);
        each_sample(e, task, layer, [count, addends], |e, layer, ahead| {
            let (taps, codes) = (gather_taps(e, layer, list, [zero, zero], 1), e.at(codes, ahead, quads));
            codes_of(e, layer, &taps, codes);
            taps
        });
        let (start, end) = task.word_range(e);
        e.range(start, end, 1, |e, word| {
            let block = e.at(weights, word, planes * plane_bytes);
            e.range(zero, count, 1, |e, ahead| {
                let (codes, out) = (e.at(codes, ahead, quads), e.at(buffer, ahead, WORD * 4));
                let addend = e.at(addends, ahead, 8);
                let addend = e.load(types::I64, addend, 0);
                for (plane, &tile) in tiles.iter().enumerate() {
                    let weights = e.add(block, plane * plane_bytes);
                    e.call(tile, &[codes, weights, tables, addend, out]);
                }
            });
            result = task.finish_word(e, [word, count], buffer, I32X4);
        });
    });
    result
}

/// Writes the codes of all taps as bytes of four channels, plane 0 in the lower bits: what chooses a table.
fn codes_of(e: &mut Emitter<'_, '_>, layer: &IntLayer<'_>, taps: &TapList, codes: Value) {
    let (planes, words) = (layer.input.buffer.planes, layer.input.buffer.words());
    let to = e.var(codes);
    each_tap(e, taps, |e, address, _| {
        e.times(layer.g.channels.div_ceil(64), |e, word| {
            let (from, at) = (e.at(address, word, 8), e.advance(to, WORD_QUADS));
            let planes: Vec<Value> = (0..planes).map(|p| e.read(types::I64, from, (p * words * 8) as i32)).collect();
            spread(e, &planes, at);
        });
    });
}
