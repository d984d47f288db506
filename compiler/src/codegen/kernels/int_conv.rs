//! Bit-serial convolution: AND + popcount over 64 channels a word, any weight and activation bits, groups, stride, dilation
//! and padding. Reads and writes bit planes; the chain (thresholds) runs while the accumulators lie in L1.
//!
//! With weight level sw·u + ow and activation level sa·v + oa, over the valid taps:
//! acc = sa·(sw·P + ow·S) + Σ_tap oa·Σ_c(weight level), P = Σ 2^(p+q)·popcount(u_q & v_p), S = Σ 2^p·popcount(v_p).
//! Only valid taps are summed, so a padding tap holds level 0 whatever the codes mean: no correction is left to do.
//!
//! Cost: see [`cycles`]. Accumulator: wrapping i32, exact because the proved
//! range of the result fits i32; wider ranges go to the direct kernel. Needs POPCNT on x86-64.

use super::choice::Kernel;
use super::layer::Layer;
use super::{
    KernelError, Operand, Task, amx, int_direct, look_up, look_up_flat, look_up64, popcount, split, split_winograd,
};
use crate::codegen::emitter::{Emitter, I32X4};
use crate::codegen::taps::Taps;
use crate::graph::ops::Geometry;
use crate::graph::types::CodeType;
use crate::lower::pack::{self, OUTPUT_TILE};
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::Variable;

/// What both integer kernels read from the graph.
pub(super) struct IntLayer<'a> {
    pub g: Geometry,
    pub a: CodeType,
    pub w: CodeType,
    pub codes: &'a [i32],
    pub input: Operand,
}

/// Emits an integer layer by a kernel that fits it.
pub(super) fn emit(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    about: &Layer<'_>,
    kernel: Kernel,
) -> Result<(), KernelError> {
    let input = task.main_operand(about.node, 0)?.clone();
    let codes = about.codes.ok_or((about.node, "the layer holds no codes".to_owned()))?;
    let layer = IntLayer { g: about.g.clone(), a: codes.a.clone(), w: codes.w.clone(), codes: codes.values, input };
    match kernel {
        Kernel::Amx | Kernel::SplitAmx => amx::emit(e, task, &layer, about, kernel),
        Kernel::LookUp64 => look_up64::LookUp64::new(&layer, about)?.emit(e, task),
        Kernel::LookUp16Avx2 => look_up::emit(e, task, &layer, true),
        Kernel::LookUp16 => look_up::emit(e, task, &layer, false),
        Kernel::LookUpFlatAvx2 => look_up_flat::emit(e, task, &layer, true),
        Kernel::LookUpFlat => look_up_flat::emit(e, task, &layer, false),
        Kernel::PopcountAvx512 => popcount::emit(e, task, &layer),
        Kernel::Popcount => bit_serial(e, task, &layer),
        Kernel::SplitWinograd | Kernel::SplitWinogradAvx2 => split_winograd::emit(e, task, &layer, about, kernel),
        Kernel::SplitVnni | Kernel::SplitAvxVnni | Kernel::SplitBytesAvx2 | Kernel::SplitAvx2 => {
            split::emit(e, task, &layer, about, kernel)
        }
        Kernel::SplitDot | Kernel::SplitNeon | Kernel::Split => split::emit(e, task, &layer, about, kernel),
        Kernel::Direct => int_direct::emit(e, task, &layer),
        Kernel::DirectWide => int_direct::emit_wide(e, task, &layer, codes.acc),
        Kernel::FloatAvx512 | Kernel::FloatAvx2 | Kernel::Float => Err((about.node, "computes codes".to_owned())),
    }
}

/// Of the scalar kernel: 60 MAC a cycle and pair of bits with channels by 64 and outputs by four, 10 cycles a position and 2 a
/// tap for the list of taps; then the chain. One position is bound by reading its weights.
pub(super) fn cycles(layer: &Layer<'_>) -> f64 {
    let [w, a] = layer.bits();
    let taps = layer.positions() * (10 + 2 * layer.g.kernel[0] * layer.g.kernel[1]) as f64;
    layer.macs(64, OUTPUT_TILE) * w * a / 60.0 + taps + layer.reading(w, 1.0) + layer.chain()
}

/// The valid taps of one position as a list on the stack: (input address, byte offset of the tap's weight words).
pub(super) struct TapList {
    base: Value,
    count: Variable,
}

const ENTRY: usize = 16;

impl TapList {
    /// Valid taps.
    pub(super) fn count(&self, e: &mut Emitter<'_, '_>) -> Value {
        e.b.use_var(self.count)
    }
}

/// Room on the stack for the list.
pub(super) fn tap_list(e: &mut Emitter<'_, '_>, taps: usize) -> Value {
    e.stack(tap_list_bytes(taps), 8)
}

/// Bytes of the list.
pub(super) fn tap_list_bytes(taps: usize) -> usize {
    taps * ENTRY
}

impl IntLayer<'_> {
    /// What valid taps add where activation code 0 is not level 0, see [`add_offsets`].
    pub(super) fn tap_offsets(&self, e: &mut Emitter<'_, '_>) -> Option<Value> {
        (self.a.offset != 0).then(|| {
            let mut bytes = pack::tap_offsets(&self.g, self.codes, &self.w, self.a.offset);
            // Blocks of outputs may reach beyond the last.
            bytes.resize(bytes.len() + 256, 0);
            e.data("tap_offsets", bytes)
        })
    }
}

fn bit_serial(e: &mut Emitter<'_, '_>, task: &Task<'_>, layer: &IntLayer<'_>) -> Result<(), KernelError> {
    let g = &layer.g;
    let planes = layer.w.bits() as usize;
    let (inner, outputs, taps) = (g.channels / g.groups, g.outputs / g.groups, g.kernel[0] * g.kernel[1]);
    let (words, blocks) = (inner.div_ceil(64), outputs.div_ceil(OUTPUT_TILE));
    let weights = e.data("weights", pack::bit_weights(g, layer.codes, planes));
    let offsets = layer.tap_offsets(e);
    let buffer = task.lane_buffer(e, g.outputs + OUTPUT_TILE);
    let list = tap_list(e, taps);
    task.each_position(e, |task, e, p| {
        let range = task.splits_channels().then(|| task.word_range(e));
        let taps_here = gather_taps(e, layer, list, [p.y, p.x], words * OUTPUT_TILE * 8);
        e.times(g.groups, |e, group| {
            let shift = e.mul(group, words * 8);
            let box_sum = (layer.w.offset != 0).then(|| box_sum(e, layer, &taps_here, shift, words));
            let (start, end) = task.block_range(e, range, OUTPUT_TILE, blocks);
            e.range(start, end, 1, |e, block| {
                let row = e.at(block, group, blocks);
                let row = e.at(weights, row, planes * taps * words * OUTPUT_TILE * 8);
                let totals = block_totals(e, layer, &taps_here, [shift, row], [planes, taps, words]);
                let first = e.mul(block, OUTPUT_TILE);
                let first = e.at(first, group, outputs);
                let acc = assemble(e, layer, &totals, box_sum);
                let acc = match offsets {
                    None => acc,
                    Some(table) => add_offsets(e, layer, &taps_here, acc, table, first, words * OUTPUT_TILE * 8),
                };
                let out = e.at(buffer, first, 4);
                e.store(acc, out, 0);
            });
        });
        task.finish_from(e, p, range, buffer, I32X4)
    })
}

pub(super) fn gather_taps(
    e: &mut Emitter<'_, '_>,
    layer: &IntLayer<'_>,
    list: Value,
    [y, x]: [Value; 2],
    bytes: usize,
) -> TapList {
    let b = &layer.input.buffer;
    let zero = e.int(0);
    let count = e.var(zero);
    Taps::of_convolution(&layer.g).each(e, y, x, |e, tap| {
        e.when(tap.valid, |e| {
            let address = e.at(layer.input.base, tap.flat, b.pixel());
            let offset = e.mul(tap.index, bytes);
            let n = e.b.use_var(count);
            let entry = e.at(list, n, ENTRY);
            e.store(address, entry, 0);
            e.store(offset, entry, 8);
            let n = e.add(n, 1);
            e.b.def_var(count, n);
        });
    });
    TapList { base: list, count }
}

pub(super) fn each_tap(
    e: &mut Emitter<'_, '_>,
    taps: &TapList,
    mut body: impl FnMut(&mut Emitter<'_, '_>, Value, Value),
) {
    let (zero, count) = (e.int(0), e.b.use_var(taps.count));
    e.range(zero, count, 1, |e, i| {
        let entry = e.at(taps.base, i, ENTRY);
        let (address, offset) = (e.load(types::I64, entry, 0), e.load(types::I64, entry, 8));
        body(e, address, offset);
    });
}

/// Σ over valid taps and words of Σ 2^p·popcount(v_p), for one group.
pub(super) fn box_sum(
    e: &mut Emitter<'_, '_>,
    layer: &IntLayer<'_>,
    taps: &TapList,
    shift: Value,
    words: usize,
) -> Value {
    let b = &layer.input.buffer;
    let zero = e.int(0);
    let sum = e.var(zero);
    each_tap(e, taps, |e, address, _| {
        let address = e.b.ins().iadd(address, shift);
        e.times(words, |e, word| {
            let at = e.at(address, word, 8);
            for p in 0..b.planes {
                let v = e.load(types::I64, at, (p * b.words() * 8) as i32);
                let n = e.b.ins().popcnt(v);
                let n = e.b.ins().ishl_imm_u(n, p as i64);
                e.accumulate(sum, n);
            }
        });
    });
    e.b.use_var(sum)
}

/// P of [`OUTPUT_TILE`] outputs.
fn block_totals(
    e: &mut Emitter<'_, '_>,
    layer: &IntLayer<'_>,
    taps: &TapList,
    [shift, row]: [Value; 2],
    [planes, kernel, words]: [usize; 3],
) -> Vec<Variable> {
    let b = layer.input.buffer.clone();
    let zero = e.int(0);
    let totals: Vec<_> = (0..OUTPUT_TILE).map(|_| e.var(zero)).collect();
    for q in 0..planes {
        // Two activation planes at a time keep eight partial sums in registers.
        for p in (0..b.planes).step_by(2) {
            let pair = (b.planes - p).min(2);
            let sums: Vec<Vec<_>> = (0..pair).map(|_| (0..OUTPUT_TILE).map(|_| e.var(zero)).collect()).collect();
            each_tap(e, taps, |e, address, offset| {
                let address = e.b.ins().iadd(address, shift);
                let address = e.add(address, p * b.words() * 8);
                let weights = e.b.ins().iadd(row, offset);
                let weights = e.add(weights, q * kernel * words * OUTPUT_TILE * 8);
                let unroll = if words <= 4 {
                    words
                } else if words.is_multiple_of(4) {
                    4
                } else {
                    1
                };
                e.times(words / unroll, |e, chunk| {
                    let address = e.at(address, chunk, unroll * 8);
                    let weights = e.at(weights, chunk, unroll * OUTPUT_TILE * 8);
                    for i in 0..unroll {
                        let v: Vec<_> =
                            (0..pair).map(|k| e.read(types::I64, address, ((k * b.words() + i) * 8) as i32)).collect();
                        for o in 0..OUTPUT_TILE {
                            let w = e.read(types::I64, weights, ((i * OUTPUT_TILE + o) * 8) as i32);
                            for (v, sums) in v.iter().zip(&sums) {
                                let both = e.b.ins().band(*v, w);
                                let n = e.b.ins().popcnt(both);
                                if let Some(sum) = sums.get(o) {
                                    e.accumulate(*sum, n);
                                }
                            }
                        }
                    }
                });
            });
            for (k, sums) in sums.iter().enumerate() {
                for (sum, total) in sums.iter().zip(&totals) {
                    let n = e.b.use_var(*sum);
                    let n = e.b.ins().ishl_imm_u(n, (p + q + k) as i64);
                    e.accumulate(*total, n);
                }
            }
        }
    }
    totals
}

/// sa·(sw·P + ow·S) in four lanes.
fn assemble(e: &mut Emitter<'_, '_>, layer: &IntLayer<'_>, totals: &[Variable], box_sum: Option<Value>) -> Value {
    let mut lanes = e.splat_i32(0);
    for (lane, total) in totals.iter().enumerate() {
        let v = e.b.use_var(*total);
        let v = e.b.ins().imul_imm_s(v, i64::from(layer.w.step));
        let v = match box_sum {
            None => v,
            Some(s) => {
                let s = e.b.ins().imul_imm_s(s, i64::from(layer.w.offset));
                e.b.ins().iadd(v, s)
            }
        };
        let v = e.b.ins().imul_imm_s(v, i64::from(layer.a.step));
        let v = e.b.ins().ireduce(types::I32, v);
        lanes = e.b.ins().insertlane(lanes, v, lane as u8);
    }
    lanes
}

/// Adds the offsets of the valid taps to four outputs from `first` on; `tap_bytes` as given to [`gather_taps`].
pub(super) fn add_offsets(
    e: &mut Emitter<'_, '_>,
    layer: &IntLayer<'_>,
    taps: &TapList,
    acc: Value,
    table: Value,
    first: Value,
    tap_bytes: usize,
) -> Value {
    let sum = e.var(acc);
    let pitch = layer.g.outputs.next_multiple_of(4);
    each_tap(e, taps, |e, _, offset| {
        let bytes = e.int(tap_bytes);
        let tap = e.b.ins().udiv(offset, bytes);
        let row = e.at(table, tap, pitch * 4);
        let at = e.at(row, first, 4);
        let v = e.load(I32X4, at, 0);
        e.accumulate(sum, v);
    });
    e.b.use_var(sum)
}
