//! 16-entry look-ups row by row (`tiles::look_up_rows`, on aarch64 `rows_clif`): the input rows under a row of the result
//! lie in a ring on the stack, with zeros for padding, so that a tile's columns are neighbours. What [`super`] computes,
//! from the same weights. Codes of 3 or 4 bits, which lie in bit planes, become two rings of 2 bits each.
//!
//! Cost: see `look_up::cycles`. Limits: see [`fits`].

use super::frame::{Frame, Stored, plane_bytes};
use super::rows_clif;
use crate::codegen::CodegenError;
use crate::codegen::emitter::{Emitter, I32X4};
use crate::codegen::image::FunctionId;
use crate::codegen::kernels::int_conv::IntLayer;
use crate::codegen::kernels::split_input::zeros;
use crate::codegen::kernels::spread::Source;
use crate::codegen::kernels::{KernelError, Task};
use crate::codegen::target::Arch;
use crate::codegen::tiles::look_up_rows::{self, ENTRY, LookUpRows, RowFinish, TAPS};
use crate::codegen::tiles::{CODES_ADDENDS, Lanes, PAIR};
use crate::graph::ops::Geometry;
use crate::graph::types::Layout;
use crate::lower::{Buffer, pack};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};

/// Bytes of a ring of rows, of a row's sums and of its accumulators that may lie on the stack.
const MOST: usize = 96 << 10;
/// Bytes that a copy writes at once.
const VECTOR: usize = 16;

/// What the step's code needs.
struct Rows<'a, 'l> {
    layer: &'a IntLayer<'l>,
    source: Source,
    /// The tile, of each two bits of the codes and plane of the weights.
    tiles: Vec<FunctionId>,
    /// Rows of the ring, their bytes, and the sums of a row and group.
    slots: usize,
    row: usize,
    pitch: usize,
    ring: Value,
    sums: Value,
    columns: Value,
    list: Value,
    frame: Frame,
    tables: Value,
}

impl Source {
    /// Bytes of a row with its padding, and what a copy writes too far.
    fn row(self, g: &Geometry) -> usize {
        (columns(g).max(g.pads[1] + g.input[1]) * self.pixel + 2 * VECTOR).next_multiple_of(VECTOR)
    }
}

/// Whether a layer has the form: dilation 1 across, up to 5 taps there, whole pairs of blocks, and rows that fit the stack.
pub(super) fn fits(g: &Geometry, b: &Buffer) -> bool {
    let Some(source) = Source::of(g, b) else { return false };
    let across = g.dilations[1] == 1 && g.kernel[1] <= TAPS && g.output[1] > 1;
    let whole = (g.outputs / g.groups).is_multiple_of(PAIR);
    let rows = slots(g) * (source.halves * source.row(g) + 2 * g.groups * pitch(g)) + look_up_rows::stack(g.output[1]);
    across && whole && rows + g.output[1] * g.outputs * 4 <= MOST
}

/// Input rows under a row of the result, those between taps included.
fn slots(g: &Geometry) -> usize {
    (g.kernel[0] - 1) * g.dilations[0] + 1
}

/// Columns of a row with its padding.
fn columns(g: &Geometry) -> usize {
    (g.output[1] - 1) * g.strides[1] + g.kernel[1]
}

/// Elements of a row's sums of a group, one a column, and what a vector reads too far.
fn pitch(g: &Geometry) -> usize {
    (columns(g) + 7).next_multiple_of(8)
}

/// Emits the kernel; `weights` as `pack::look_up_weights` packs them, and where a tile stores codes, `thresholds` as
/// `pack::pair_thresholds`.
///
/// # Errors
/// When a distance does not fit an instruction, or the chain behind accumulators cannot be emitted.
pub(super) fn emit(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    layer: &IntLayer<'_>,
    lanes: Lanes,
    stored: Option<Stored>,
    [tables, weights]: [Value; 2],
) -> Result<(), KernelError> {
    let g = &layer.g;
    let node = task.step.result.node;
    let source =
        Source::of(g, &layer.input.buffer).ok_or((node, "its codes do not lie as rows read them".to_owned()))?;
    let (width, planes) = (g.output[1], layer.w.bits() as usize);
    let (slots, row, pitch) = (slots(g), source.row(g), pitch(g));
    // Accumulators of a row, where they are stored.
    let apart = g.outputs * 4;
    let buffer = match stored {
        Some(_) => None,
        None => Some(task.lane_buffer(e, width * g.outputs)),
    };
    let failed = |m: CodegenError| (node, m.to_string());
    let parts = (0..source.halves).flat_map(|half| (0..planes).map(move |plane| (half, plane)));
    let tiles = parts.map(|(half, plane)| {
        let factor = layer.a.step.wrapping_mul(layer.w.step).wrapping_shl((2 * half + plane) as u32);
        let sums = RowFinish::Sums { pitch: apart, factor, add: half + plane > 0 };
        let finish = stored.map_or(sums, |(codes, _)| RowFinish::Codes(codes));
        let tile = tile(layer, source, lanes, finish);
        match e.level.arch {
            Arch::X86_64 => tile.function(e.image),
            Arch::Aarch64 => rows_clif::function(tile, e),
        }
    });
    let tiles = tiles.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let rows = Rows {
        layer,
        source,
        tiles,
        slots,
        row,
        pitch,
        ring: e.stack(source.halves * slots * row, VECTOR),
        sums: e.stack(slots * g.groups * pitch * 2, VECTOR),
        columns: e.stack(pitch * 2, VECTOR),
        list: e.stack(g.kernel[0] * (source.halves * ENTRY + 8), 8),
        frame: Frame { stored, planes, at: e.stack(look_up_rows::frame(width), 8), weights },
        tables,
    };
    let (start, end) = task.row_range(e);
    let first = rows.top(e, start);
    let next = e.var(first);
    let mut result = Ok(());
    e.range(start, end, 1, |e, y| {
        let top = rows.top(e, y);
        let from = e.b.use_var(next);
        let (from, to) = (e.b.ins().smax(from, top), e.add(top, slots));
        rows.copy(e, [from, to]);
        e.b.def_var(next, to);
        let count = rows.valid(e, top);
        let zero = e.int(0);
        let first = task.position(e, y, zero);
        e.times(g.groups, |e, group| {
            rows.addends(e, count, group);
            let to = match (buffer, stored) {
                (Some(buffer), _) => buffer,
                (None, Some((codes, _))) => e.at(task.result.base, first.flat, codes.pitch),
                (None, None) => zero,
            };
            let residual = stored.and_then(|(codes, _)| codes.residual).zip(task.residual());
            let residual = residual.map(|(r, codes)| e.at(codes.base, first.flat, r.pitch));
            rows.call(e, [count, group, to], residual);
        });
        if let Some(buffer) = buffer {
            result = task.finish_row(e, first, width, (buffer, apart), I32X4, None);
        }
    });
    result
}

/// The tile for a layer.
fn tile(layer: &IntLayer<'_>, source: Source, lanes: Lanes, finish: RowFinish) -> LookUpRows {
    let (g, Source { quads, pixel, .. }) = (&layer.g, source);
    let limit = pack::look_up_limit(layer.input.buffer.planes);
    LookUpRows { lanes, width: g.output[1], kernel: g.kernel[1], stride: g.strides[1], quads, pixel, limit, finish }
}

impl Rows<'_, '_> {
    /// The first input row under row `y` of the result.
    fn top(&self, e: &mut Emitter<'_, '_>, y: Value) -> Value {
        let top = e.mul(y, self.layer.g.strides[0]);
        e.b.ins().iadd_imm_s(top, -(self.layer.g.pads[0] as i64))
    }

    fn slot(&self, e: &mut Emitter<'_, '_>, y: Value) -> Value {
        let slots = e.int(self.slots);
        e.b.ins().urem(y, slots)
    }

    /// Copies the input rows `from` … `to` that there are into the ring, and sums their codes.
    fn copy(&self, e: &mut Emitter<'_, '_>, [from, to]: [Value; 2]) {
        let (g, pixel) = (&self.layer.g, self.source.pixel);
        let (zero, height) = (e.int(0), e.int(g.input[0]));
        let (from, to) = (e.b.ins().smax(from, zero), e.min(to, height));
        e.range(from, to, 1, |e, y| {
            let slot = self.slot(e, y);
            let out = e.at(self.ring, slot, self.row);
            let halves: Vec<Value> = (0..self.source.halves).map(|half| e.add(out, half * self.half())).collect();
            let (left, end) = (e.int(g.pads[1] * pixel), e.int(self.row));
            halves.iter().for_each(|&out| zeros(e, out, zero, left));
            let position = e.mul(y, g.input[1]);
            if self.layer.input.buffer.layout == Layout::Bits {
                self.copy_planes(e, position, out);
            } else {
                self.copy_bytes(e, position, out);
            }
            let behind = e.int((g.pads[1] + g.input[1]) * pixel);
            let last = e.b.ins().iadd_imm_s(end, -(VECTOR as i64));
            halves.iter().for_each(|&out| zeros(e, out, behind, last));
            if self.layer.w.offset != 0 {
                self.sum(e, slot, out);
            }
        });
    }

    /// Bytes from one ring to the next.
    fn half(&self) -> usize {
        self.slots * self.row
    }

    /// Copies a row from a position on, which lies as in the ring.
    fn copy_bytes(&self, e: &mut Emitter<'_, '_>, position: Value, out: Value) {
        let (g, pixel) = (&self.layer.g, self.source.pixel);
        let source = e.at(self.layer.input.base, position, pixel);
        let bytes = g.input[1] * pixel;
        let to = e.add(out, g.pads[1] * pixel);
        // Both move in variables: Cranelift would find the row's slot anew for each vector.
        let (source, to) = (e.var(source), e.var(to));
        let copy = |e: &mut Emitter<'_, '_>, ty, size: usize| {
            let (from, out) = (e.b.use_var(source), e.b.use_var(to));
            let v = e.read(ty, from, 0);
            e.store(v, out, 0);
            e.advance(source, size);
            e.advance(to, size);
        };
        e.times(bytes / VECTOR, |e, _| copy(e, types::I8X16, VECTOR));
        // No byte behind the image is read.
        for (ty, size) in [(types::I64, 8), (types::I32, 4), (types::I16, 2), (types::I8, 1)] {
            if bytes & size != 0 {
                copy(e, ty, size);
            }
        }
    }

    /// Copies a row from a position on from bit planes, two to a ring.
    fn copy_planes(&self, e: &mut Emitter<'_, '_>, position: Value, out: Value) {
        let (g, b) = (&self.layer.g, &self.layer.input.buffer);
        let from = e.at(self.layer.input.base, position, b.pixel());
        let to = e.add(out, g.pads[1] * self.source.pixel);
        let count = e.int(g.input[1]);
        self.source.spread(e, b, count, [from, to], self.half());
    }

    /// Σ of each column's codes of each group of a row.
    fn sum(&self, e: &mut Emitter<'_, '_>, slot: Value, codes: Value) {
        let g = &self.layer.g;
        e.times(g.groups, |e, group| {
            let row = e.at(group, slot, g.groups);
            let to = e.at(self.sums, row, self.pitch * 2);
            let codes = e.at(codes, group, self.source.group);
            let (to, next) = (e.var(to), e.var(codes));
            e.times(columns(g), |e, _| {
                let codes = e.b.use_var(next);
                let mut sum = self.sum_of_column(e, codes, 0);
                for half in 1..self.source.halves {
                    let codes = e.add(codes, half * self.half());
                    let part = self.sum_of_column(e, codes, half);
                    let part = e.b.ins().ishl_imm_u(part, 2 * half as i64);
                    sum = e.b.ins().iadd(sum, part);
                }
                let out = e.b.use_var(to);
                e.b.ins().istore16(MemFlagsData::new().with_notrap(), sum, out, 0);
                e.advance(next, self.source.pixel);
                e.advance(to, 2);
            });
        });
    }

    /// Σ of two bits of the codes of a column of a group, which lie at `codes`.
    fn sum_of_column(&self, e: &mut Emitter<'_, '_>, codes: Value, half: usize) -> Value {
        const UNROLL: usize = 4;
        let (quads, two) = (self.source.quads, self.layer.input.buffer.planes > 2 * half + 1);
        let zero = e.int(0);
        let (sum, at) = (e.var(zero), e.var(codes));
        let add = |e: &mut Emitter<'_, '_>, ty, offset: usize| {
            let at = e.b.use_var(at);
            let v = e.read(ty, at, offset as i32);
            let v = if ty == types::I64 { v } else { e.b.ins().uextend(types::I64, v) };
            let all = e.b.ins().popcnt(v);
            e.accumulate(sum, all);
            if two {
                let high = e.b.ins().band_imm_s(v, 0xF0F0_F0F0_F0F0_F0F0_u64 as i64);
                let high = e.b.ins().popcnt(high);
                e.accumulate(sum, high);
            }
        };
        e.times(quads / 8 / UNROLL, |e, _| {
            (0..UNROLL).for_each(|word| add(e, types::I64, 8 * word));
            e.advance(at, 8 * UNROLL);
        });
        let words = quads / 8 % UNROLL;
        (0..words).for_each(|word| add(e, types::I64, 8 * word));
        let mut done = 8 * words;
        for (ty, size) in [(types::I32, 4), (types::I16, 2), (types::I8, 1)] {
            if quads & size != 0 {
                add(e, ty, done);
                done += size;
            }
        }
        e.b.use_var(sum)
    }

    /// Lists the input rows under the row of the result whose window begins at `top`, of each ring, and behind the lists the addresses
    /// of their sums; gives their number.
    fn valid(&self, e: &mut Emitter<'_, '_>, top: Value) -> Value {
        let g = &self.layer.g;
        let zero = e.int(0);
        let count = e.var(zero);
        let tap = (g.channels / g.groups).div_ceil(8) * 16;
        e.times(g.kernel[0], |e, ky| {
            let y = e.at(top, ky, g.dilations[0]);
            let valid = e.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, y, g.input[0] as i64);
            e.when(valid, |e| {
                let slot = self.slot(e, y);
                let n = e.b.use_var(count);
                let entry = e.at(self.list, n, ENTRY);
                let codes = e.at(self.ring, slot, self.row);
                let weights = e.mul(ky, g.kernel[1] * tap);
                for half in 0..self.source.halves {
                    let (codes, at) = (e.add(codes, half * self.half()), (half * g.kernel[0] * ENTRY) as i32);
                    e.store(codes, entry, at);
                    e.store(weights, entry, at + 8);
                }
                let behind = e.add(self.list, self.source.halves * g.kernel[0] * ENTRY);
                let own = e.at(behind, n, 8);
                let sums = e.at(self.sums, slot, g.groups * self.pitch * 2);
                e.store(sums, own, 0);
                let n = e.add(n, 1);
                e.b.def_var(count, n);
            });
        });
        e.b.use_var(count)
    }

    /// Σ over the rows of each column's sum.
    fn add_columns(&self, e: &mut Emitter<'_, '_>, count: Value, group: Value) {
        let g = &self.layer.g;
        let zero = e.int(0);
        e.times(self.pitch / 8, |e, v| {
            let none = e.zeros(types::I16X8);
            let sum = e.var(none);
            e.range(zero, count, 1, |e, i| {
                let behind = e.add(self.list, self.source.halves * g.kernel[0] * ENTRY);
                let own = e.at(behind, i, 8);
                let row = e.load(types::I64, own, 0);
                let row = e.at(row, group, self.pitch * 2);
                let at = e.at(row, v, 16);
                let row = e.load(types::I16X8, at, 0);
                e.accumulate(sum, row);
            });
            let sum = e.b.use_var(sum);
            let to = e.at(self.columns, v, 16);
            e.store(sum, to, 0);
        });
    }

    /// What is added to each position's sums: of each column that its window reads, the sum over the rows.
    fn addends(&self, e: &mut Emitter<'_, '_>, count: Value, group: Value) {
        let (g, a, w) = (&self.layer.g, &self.layer.a, &self.layer.w);
        let taps = if w.offset == 0 { 0 } else { g.kernel[1] };
        if taps > 0 {
            self.add_columns(e, count, group);
        }
        let factor = a.step.wrapping_mul(w.offset);
        if g.strides[1] > 1 {
            return e.times(g.output[1], |e, x| {
                let (from, to) = (e.at(self.columns, x, 2 * g.strides[1]), e.at(self.frame.at, x, 4));
                let sum = e.sum_u16(from, (0..taps).map(|kx| 2 * kx as i32));
                let addend = e.b.ins().imul_imm_s(sum, i64::from(factor));
                e.store(addend, to, CODES_ADDENDS);
            });
        }
        let factor = e.splat_i32(factor);
        e.times(g.output[1].div_ceil(8), |e, v| {
            let from = e.at(self.columns, v, 16);
            let to = e.at(self.frame.at, v, 32);
            let mut sum = e.zeros(types::I16X8);
            for kx in 0..taps {
                let column = e.load(types::I16X8, from, 2 * kx as i32);
                sum = e.b.ins().iadd(sum, column);
            }
            for (at, half) in [(0, e.b.ins().uwiden_low(sum)), (16, e.b.ins().uwiden_high(sum))] {
                let addend = e.b.ins().imul(half, factor);
                e.store(addend, to, CODES_ADDENDS + at);
            }
        });
    }

    /// The results of a row of one group; `to` and `residual` are those of its first position.
    fn call(&self, e: &mut Emitter<'_, '_>, [count, group, to]: [Value; 3], residual: Option<Value>) {
        let g = &self.layer.g;
        let shift = e.mul(group, self.source.group);
        e.store(shift, self.frame.at, look_up_rows::shift(g.output[1]));
        self.frame.each_pair(e, g, [group, to], residual, |e, [weights, stride]| {
            for (half, tiles) in self.tiles.chunks(self.frame.planes).enumerate() {
                let list = e.add(self.list, half * g.kernel[0] * ENTRY);
                for (plane, &tile) in tiles.iter().enumerate() {
                    let weights = e.add(weights, plane * plane_bytes(g));
                    e.call(tile, &[list, count, weights, stride, self.tables, self.frame.at]);
                }
            }
        });
    }
}
