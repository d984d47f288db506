//! Convolution by 16-entry table look-ups for activations of at most 2 bits, row by row of at most 4: the byte of four channels (layout
//! [`crate::graph::types::Layout::Nibbles`]) selects one of 256 constant tables, four weight bits an entry; one byte shuffle
//! serves 16 outputs × 4 channels. The sums are those of the bit-serial kernel (see `int_conv`), which is its reference.
//!
//! A tile is up to 4 neighbouring positions × 16 outputs. Padding taps read a row of zero bytes, whose table is all zero.
//!
//! Mostly tiles go row by row (`look_up_rows`), of SSE as well. Of what is left two blocks of outputs go to an AVX2 tile where there
//! is one. Where nothing but thresholds follow, these tiles store codes; else they leave accumulators for the chain.
//!
//! Cost: see [`cycles`]. Limits: an entry is at most 3·4 = 12 (2 bits) or 4 (1 bit), so a u8 lane
//! holds 20 or 60 look-ups; u16 sums hold K·top ≤ 65 535. Needs SSSE3 on x86-64 (`tbl` on aarch64).

use super::int_conv::IntLayer;
use super::layer::{Codes, Layer, codes_behind, demand};
use super::look_up_rows;
use super::spread::Source;
use super::{KernelError, Task};
use crate::codegen::CodegenError;
use crate::codegen::emitter::{Emitter, I32X4};
use crate::codegen::image::FunctionId;
use crate::codegen::taps::Taps;
use crate::codegen::target::{Level, x86};
use crate::codegen::tiles::look_up_avx512::{Residual, Store};
use crate::codegen::tiles::{CODES_ADDENDS, CODES_FRAME, CODES_RESIDUAL, Lanes, LookUpCodes, LookUpShape, PAIR};
use crate::graph::Graph;
use crate::graph::ops::Geometry;
use crate::graph::types::{CodeType, Layout};
use crate::lower::pack::{self, LOOK_UP_TILE};
use crate::lower::{Buffer, Step};
use cranelift_codegen::ir::{InstBuilder, StackSlotData, StackSlotKind, Type, Value, types};
use cranelift_frontend::Variable;

const I8X16: Type = types::I8X16;
const I16X8: Type = types::I16X8;
const UNROLL: usize = 4;

struct LookUp<'a, 'l> {
    layer: &'a IntLayer<'l>,
    /// Positions of a tile.
    positions: usize,
    /// Tables, weights, tap offsets, zero bytes; pointers of the taps (positions × taps) and box sums (positions) on the stack.
    tables: Value,
    weights: Value,
    offsets: Option<Value>,
    zeros: Value,
    pointers: Value,
    buffer: Value,
    pitch: usize,
}

impl LookUp<'_, '_> {
    fn taps(&self) -> usize {
        self.layer.g.kernel[0] * self.layer.g.kernel[1]
    }

    /// Look-ups that a byte can sum.
    fn limit(&self) -> usize {
        pack::look_up_limit(self.layer.input.buffer.planes)
    }

    fn quads(&self) -> usize {
        self.layer.g.channels / self.layer.g.groups / 4
    }
}

/// Whether level and layer allow the kernel, `wide` with the AVX2 tile.
pub(super) fn fits(layer: &Layer<'_>, level: &Level, wide: bool) -> Result<(), String> {
    demand(!wide || level.has_x86(x86::AVX2), "the level lacks AVX2")?;
    layer.in_lanes()?;
    let (Some(c), g) = (layer.codes, &layer.g) else { return Ok(()) };
    let outputs = g.outputs / g.groups;
    demand(g.output != [1, 1], "it has one position")?;
    demand(outputs.is_multiple_of(LOOK_UP_TILE), "the outputs of a group are no multiple of 16")?;
    demand(!wide || outputs >= 2 * LOOK_UP_TILE, "a group has fewer than 32 outputs")?;
    demand(g.taps() * c.a.top as usize <= u16::MAX.into(), "its sums could pass 65535")?;
    let rows = layer.input.layout != Layout::Bits || by_rows(c.a.offset, (g, layer.input), level, wide);
    demand(rows, "its codes lie in bit planes, and not so that tiles go row by row")
}

/// 45 MAC a cycle and weight bit with 128-bit shuffles, 78 with AVX2; row by row 85 and 150. Then the chain, where there is AVX2
/// in wide lanes and where a tile stores codes next to nothing.
pub(super) fn cycles(layer: &Layer<'_>, level: &Level, wide: bool) -> f64 {
    let (g, offset) = (&layer.g, layer.codes.map_or(0, |c| c.a.offset));
    let buffers = [Some(layer.input), Some(layer.result), layer.residual];
    let stored_as = |c: Codes<'_>| codes(layer.graph, layer.step, buffers, g, [c.a, c.w]);
    let rows = by_rows(offset, (g, layer.input), level, wide);
    let stored = layer.codes.and_then(stored_as).is_some_and(|_| stores_codes((g, layer.input), level, wide));
    let rate = match (wide, rows) {
        (false, false) => 45.0,
        (false, true) => 85.0,
        (true, false) => 78.0,
        (true, true) => 150.0,
    };
    let chain = match (stored, wide) {
        (true, _) => layer.positions() * g.outputs as f64 / 2.0,
        (false, true) => layer.chain() / 3.0,
        (false, false) => layer.chain(),
    };
    let halves = Source::of(g, layer.input).map_or(1, |s| s.halves);
    layer.macs(4, LOOK_UP_TILE) * layer.bits()[0] * halves as f64 / rate + chain
}

/// Whether tiles go row by row; `offset` is that of the activations' levels, which only the other kernel adds.
fn by_rows(offset: i32, (g, input): (&Geometry, &Buffer), level: &Level, wide: bool) -> bool {
    let has = level.has_x86(if wide { x86::AVX2 } else { x86::V2 }) || !wide && level.has_a64(0);
    offset == 0 && look_up_rows::fits(g, input) && has
}

/// Whether there is a tile that can store codes: the AVX2 tiles spread bits with BMI2, the SSE tile goes by rows only.
fn stores_codes((g, input): (&Geometry, &Buffer), level: &Level, wide: bool) -> bool {
    let narrow = level.has_x86(x86::V2) || level.has_a64(0);
    if wide { level.has_x86(x86::BMI2) } else { narrow && look_up_rows::fits(g, input) }
}

/// What a tile stores: codes where only thresholds follow that 16 bits can compare, of 1-bit weights and codes of at most 2 bits, and
/// the stored codes lie by whole pairs of blocks; codes of a residual choose among the thresholds where tiles go row by row.
fn codes(
    graph: &Graph,
    step: &Step,
    [input, b, residual]: [Option<&Buffer>; 3],
    g: &Geometry,
    [a, w]: [&CodeType; 2],
) -> Option<LookUpCodes> {
    let (t, b, input) = (codes_behind(graph, step).filter(|t| (1..=3).contains(&t.top))?, b?, input?);
    Source::of(g, input).filter(|s| s.halves == 1)?;
    let level = |c: &CodeType| c.levels().0.abs().max(c.levels().1.abs());
    let greatest = (g.taps() as i64).checked_mul(level(a))?.checked_mul(level(w))?;
    let outputs = g.outputs / g.groups;
    let form = w.bits() == 1 && a.offset == 0 && outputs.is_multiple_of(PAIR) && greatest <= 32_766;
    let store = match b.layout {
        Layout::Nibbles => Store::Nibbles(PAIR),
        // A word's bits beyond the last channel must be zero, which a tile of fewer than 64 outputs does not store.
        Layout::Bits if b.group.is_multiple_of(64) => Store::Bits(b.words() * 8),
        _ => return None,
    };
    let residual = match (t.residual, residual) {
        (None, _) => None,
        (Some((_, codes @ 2..=4)), Some(b)) if b.layout == Layout::Nibbles && look_up_rows::fits(g, input) => {
            Some(Residual { codes, channels: PAIR, pitch: b.pixel() })
        }
        _ => return None,
    };
    let width = residual.map_or(1, |r| r.codes) * t.top + 1;
    let falling = t.rows.iter().skip(width - 1).step_by(width).any(|&d| d < 0);
    let (factor, pitch) = (a.step.wrapping_mul(w.step), b.pixel());
    let codes = LookUpCodes { top: t.top, falling, store, pitch, factor, residual };
    (form && t.rows.len() == g.outputs * width).then_some(codes)
}

/// Emits the kernel, `wide` with the AVX2 tile.
pub(super) fn emit(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    layer: &IntLayer<'_>,
    wide: bool,
) -> Result<(), KernelError> {
    let g = &layer.g;
    let width = g.output[1];
    let positions = width.min(4);
    let taps = g.kernel[0] * g.kernel[1];
    let tables = e.data("look_up_tables", pack::look_up_tables());
    let weights = e.data("weights", pack::look_up_weights(g, layer.codes, layer.w.bits() as usize));
    let failed = |m: CodegenError| (task.step.result.node, m.to_string());
    let buffers = [Some(&layer.input), Some(&task.result), task.residual()].map(|o| o.map(|o| &o.buffer));
    let codes = codes(task.graph, task.step, buffers, g, [&layer.a, &layer.w]);
    let stored = codes.filter(|_| stores_codes((g, &layer.input.buffer), e.level, wide)).map(|codes| {
        let rows = codes_behind(task.graph, task.step).map_or(&[][..], |c| c.rows);
        let shape = [codes.residual.map_or(1, |r| r.codes), codes.top];
        (codes, e.data("thresholds", pack::pair_thresholds(rows, shape)))
    });
    if by_rows(layer.a.offset, (g, &layer.input.buffer), e.level, wide) {
        let lanes = if wide { Lanes::Ymm } else { Lanes::Xmm };
        return look_up_rows::emit(e, task, layer, lanes, stored, [tables, weights]);
    }
    let offsets = (layer.a.offset != 0)
        .then(|| e.data("tap_offsets", pack::tap_offsets(g, layer.codes, &layer.w, layer.a.offset)));
    let zeros = e.data("zeros", vec![0; g.channels / 4 + 16]);
    let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, (positions * taps * 8) as u32, 3);
    let slot = e.b.create_sized_stack_slot(slot);
    let pointers = e.b.ins().stack_addr(types::I64, slot, 0);
    let pitch = g.outputs.next_multiple_of(4);
    let buffer = task.lane_buffer(e, pitch * positions);
    let k = LookUp { layer, positions, tables, weights, offsets, zeros, pointers, buffer, pitch };
    let outputs = g.outputs / g.groups;
    let codes = stored.map(|(codes, _)| codes);
    let shape = LookUpShape { positions, taps, quads: k.quads(), limit: k.limit(), codes };
    let tile = if wide {
        Some((shape.function(e.image).map_err(failed)?, task.lane_buffer(e, positions * LOOK_UP_TILE)))
    } else {
        None
    };
    let frame = stored.map(|_| Frame { stored, planes: 1, at: e.stack(CODES_FRAME, 8), weights });
    task.each_row(e, |task, e, y| {
        let mut result = Ok(());
        e.times(width.div_ceil(positions), |e, column| {
            // The last tile overlaps its neighbour rather than being narrower.
            let (x, last) = (e.mul(column, positions), e.int(width - positions));
            let x = e.min(x, last);
            point(e, &k, y, x);
            e.times(g.groups, |e, group| {
                let sums = box_sums(e, &k, group);
                let blocks = outputs / LOOK_UP_TILE;
                if let (Some(frame), Some((function, _))) = (&frame, tile) {
                    let first = task.position(e, y, x);
                    let at = e.at(task.result.base, first.flat, task.result.buffer.pixel());
                    return store_codes(e, &k, frame, &sums, function, [group, at]);
                }
                let wide = if tile.is_some() { blocks / 2 } else { 0 };
                e.times(wide, |e, pair| {
                    let block = e.mul(pair, 2);
                    let row = e.at(block, group, blocks);
                    products(e, &k, [group, row], &sums, tile);
                });
                e.times(blocks - 2 * wide, |e, block| {
                    let block = e.add(block, 2 * wide);
                    let row = e.at(block, group, blocks);
                    products(e, &k, [group, row], &sums, None);
                });
            });
            if frame.is_some() {
                return;
            }
            let first = task.position(e, y, x);
            let done = task.finish_row(e, first, positions, (k.buffer, pitch * 4), I32X4, None);
            result = std::mem::replace(&mut result, Ok(())).and(done);
        });
        result
    })
}

/// What a tile reads that stores codes or goes row by row: its frame on the stack, and weights of so many planes; of codes how they
/// are stored, and their thresholds.
pub(super) struct Frame {
    pub stored: Option<(LookUpCodes, Value)>,
    pub planes: usize,
    pub at: Value,
    pub weights: Value,
}

impl Frame {
    /// Calls `tile` for each pair of blocks of a group, with the frame pointing to its thresholds, its results and the codes of the
    /// residual, if any; `to` and `residual` are those of the first position. It gets the pair's weights and the bytes of a block's.
    pub(super) fn each_pair(
        &self,
        e: &mut Emitter<'_, '_>,
        g: &Geometry,
        [group, to]: [Value; 2],
        residual: Option<Value>,
        mut tile: impl FnMut(&mut Emitter<'_, '_>, [Value; 2]),
    ) {
        let (pairs, block) = (g.outputs / g.groups / PAIR, self.planes * plane_bytes(g));
        let stride = e.int(block);
        let result = match self.stored {
            Some((codes, _)) if matches!(codes.store, Store::Bits(_)) => PAIR / 8,
            Some(_) => PAIR / 4,
            None => PAIR * 4,
        };
        e.times(pairs, |e, pair| {
            let pair = e.at(pair, group, pairs);
            let to = e.at(to, pair, result);
            if let Some((codes, table)) = self.stored {
                let table = e.at(table, pair, pack::pair_thresholds_pitch(codes.threshold_rows()));
                e.store(table, self.at, 8);
            }
            if let Some(residual) = residual {
                let codes = e.at(residual, pair, PAIR / 4);
                e.store(codes, self.at, CODES_RESIDUAL);
            }
            e.store(to, self.at, 0);
            let weights = e.at(self.weights, pair, 2 * block);
            tile(e, [weights, stride]);
        });
    }
}

/// Bytes of one plane of one block's weights.
pub(super) fn plane_bytes(g: &Geometry) -> usize {
    g.kernel[0] * g.kernel[1] * (g.channels / g.groups).div_ceil(8) * LOOK_UP_TILE
}

/// The codes of a tile's positions of one group, `to` those of the first position.
fn store_codes(
    e: &mut Emitter<'_, '_>,
    k: &LookUp<'_, '_>,
    frame: &Frame,
    box_sums: &[Value],
    function: FunctionId,
    [group, to]: [Value; 2],
) {
    let (g, a, w) = (&k.layer.g, &k.layer.a, &k.layer.w);
    let zero = e.int(0);
    for i in 0..k.positions {
        let sum = box_sums.get(i).copied().unwrap_or(zero);
        let addend = e.b.ins().imul_imm_s(sum, i64::from(a.step) * i64::from(w.offset));
        let addend = e.b.ins().ireduce(types::I32, addend);
        e.store(addend, frame.at, CODES_ADDENDS + 4 * i as i32);
    }
    let shift = e.mul(group, k.quads());
    frame.each_pair(e, g, [group, to], None, |e, [weights, stride]| {
        e.call(function, &[k.pointers, shift, weights, stride, k.tables, frame.at]);
    });
}

/// Fills in the taps' pointers: `pointers[position·taps + tap]`.
fn point(e: &mut Emitter<'_, '_>, k: &LookUp<'_, '_>, y: Value, x: Value) {
    let g = &k.layer.g;
    for i in 0..k.positions {
        let x = e.add(x, i);
        Taps::of_convolution(g).each(e, y, x, |e, tap| {
            let address = e.at(k.layer.input.base, tap.flat, g.channels / 4);
            let address = e.b.ins().select(tap.valid, address, k.zeros);
            let at = e.at(k.pointers, tap.index, 8);
            e.store(address, at, (i * k.taps() * 8) as i32);
        });
    }
}

fn pointer(e: &mut Emitter<'_, '_>, k: &LookUp<'_, '_>, tap: Value, position: usize) -> Value {
    let at = e.at(k.pointers, tap, 8);
    e.load(types::I64, at, (position * k.taps() * 8) as i32)
}

/// Σ of the activation codes under each position's taps, of one group; empty where the weights' offset is 0.
fn box_sums(e: &mut Emitter<'_, '_>, k: &LookUp<'_, '_>, group: Value) -> Vec<Value> {
    if k.layer.w.offset == 0 {
        return Vec::new();
    }
    let two = k.layer.input.buffer.planes > 1;
    let sum_of = |e: &mut Emitter<'_, '_>, v: Value| {
        let n = e.b.ins().popcnt(v);
        if !two {
            return n;
        }
        let high = e.b.ins().iconst(types::I64, 0xF0F0_F0F0_F0F0_F0F0_u64 as i64);
        let high = e.b.ins().band(v, high);
        let high = e.b.ins().popcnt(high);
        e.b.ins().iadd(n, high)
    };
    let quads = k.quads();
    let shift = e.mul(group, quads);
    (0..k.positions)
        .map(|i| {
            let zero = e.int(0);
            let sum = e.var(zero);
            e.times(k.taps(), |e, tap| {
                let base = pointer(e, k, tap, i);
                let base = e.b.ins().iadd(base, shift);
                if quads >= 8 {
                    e.times(quads / 8, |e, word| {
                        let at = e.at(base, word, 8);
                        let v = e.read(types::I64, at, 0);
                        let n = sum_of(e, v);
                        e.accumulate(sum, n);
                    });
                }
                let mut rest = quads / 8 * 8;
                for (ty, size) in [(types::I32, 4), (types::I16, 2), (types::I8, 1)] {
                    if quads & size != 0 {
                        let v = e.read(ty, base, rest as i32);
                        let v = e.b.ins().uextend(types::I64, v);
                        let n = sum_of(e, v);
                        e.accumulate(sum, n);
                        rest += size;
                    }
                }
            });
            e.b.use_var(sum)
        })
        .collect()
}

/// A wide tile and the memory for its sums.
type WideTile = Option<(FunctionId, Value)>;

/// The accumulators of a tile's positions into the buffer: one block of 16 outputs, or two by a wide tile.
fn products(e: &mut Emitter<'_, '_>, k: &LookUp<'_, '_>, [group, row]: [Value; 2], box_sums: &[Value], tile: WideTile) {
    let planes = k.layer.w.bits() as usize;
    let base = e.at(k.weights, row, planes * plane_bytes(&k.layer.g));
    let first = e.mul(row, LOOK_UP_TILE);
    // For each position the outputs by four.
    let mut totals: Vec<Vec<Value>> = vec![Vec::new(); k.positions];
    for q in 0..planes {
        let weights = e.add(base, q * plane_bytes(&k.layer.g));
        let sums = match tile {
            None => plane_sums(e, k, group, weights),
            Some((function, scratch)) => wide_sums(e, k, group, weights, function, scratch),
        };
        for (total, sums) in totals.iter_mut().zip(sums) {
            let parts = sums.into_iter().flat_map(|s| [e.b.ins().uwiden_low(s), e.b.ins().uwiden_high(s)]);
            let parts: Vec<Value> = parts.collect();
            if q == 0 {
                *total = parts;
                continue;
            }
            for (t, part) in total.iter_mut().zip(parts) {
                let part = e.b.ins().ishl_imm_u(part, q as i64);
                *t = e.b.ins().iadd(*t, part);
            }
        }
    }
    let out = e.at(k.buffer, first, 4);
    let (a, w) = (&k.layer.a, &k.layer.w);
    for (i, total) in totals.into_iter().enumerate() {
        let box_sum = box_sums.get(i).map(|&s| {
            let s = e.b.ins().imul_imm_s(s, i64::from(a.step) * i64::from(w.offset));
            let s = e.b.ins().ireduce(types::I32, s);
            e.b.ins().splat(I32X4, s)
        });
        for (lane, t) in total.into_iter().enumerate() {
            let factor = a.step.wrapping_mul(w.step);
            let mut v = match factor {
                1 => t,
                2 => e.b.ins().iadd(t, t),
                other => {
                    let f = e.splat_i32(other);
                    e.b.ins().imul(t, f)
                }
            };
            if let Some(s) = box_sum {
                v = e.b.ins().iadd(v, s);
            }
            if let Some(table) = k.offsets {
                v = add_offsets(e, k, v, table, first, [i, lane]);
            }
            e.store(v, out, ((i * k.pitch + lane * 4) * 4) as i32);
        }
    }
}

/// Adds the activation offset's part for every valid tap.
fn add_offsets(
    e: &mut Emitter<'_, '_>,
    k: &LookUp<'_, '_>,
    v: Value,
    table: Value,
    first: Value,
    [position, lane]: [usize; 2],
) -> Value {
    let sum = e.var(v);
    e.times(k.taps(), |e, tap| {
        let p = pointer(e, k, tap, position);
        let valid = e.b.ins().icmp(cranelift_codegen::ir::condcodes::IntCC::NotEqual, p, k.zeros);
        e.when(valid, |e| {
            let row = e.at(table, tap, k.pitch * 4);
            let at = e.at(row, first, 4);
            let part = e.load(I32X4, at, (lane * 16) as i32);
            e.accumulate(sum, part);
        });
    });
    e.b.use_var(sum)
}

/// Sums of one weight plane by a wide tile: for each position four vectors of 8 outputs as u16.
fn wide_sums(
    e: &mut Emitter<'_, '_>,
    k: &LookUp<'_, '_>,
    group: Value,
    weights: Value,
    function: FunctionId,
    scratch: Value,
) -> Vec<Vec<Value>> {
    let shift = e.mul(group, k.quads());
    let stride = e.int(k.layer.w.bits() as usize * plane_bytes(&k.layer.g));
    e.call(function, &[k.pointers, shift, weights, stride, k.tables, scratch]);
    let bytes = 4 * LOOK_UP_TILE;
    (0..k.positions).map(|i| (0..4).map(|v| e.load(I16X8, scratch, (i * bytes + v * 16) as i32)).collect()).collect()
}

/// Sums of one weight plane: for each position the outputs 0 … 7 and 8 … 15 as u16.
fn plane_sums(e: &mut Emitter<'_, '_>, k: &LookUp<'_, '_>, group: Value, weights: Value) -> Vec<Vec<Value>> {
    let (quads, limit) = (k.quads(), k.limit());
    let zero = e.splat_i32(0);
    let zero16 = e.cast(I16X8, zero);
    let sums: Vec<[Variable; 2]> = (0..k.positions).map(|_| [e.var(zero16), e.var(zero16)]).collect();
    let cursor = e.var(weights);
    let shift = e.mul(group, quads);
    e.times(k.taps(), |e, tap| {
        let rows: Vec<Value> = (0..k.positions)
            .map(|i| {
                let p = pointer(e, k, tap, i);
                e.b.ins().iadd(p, shift)
            })
            .collect();
        let full = quads / limit;
        if full > 0 {
            e.times(full, |e, chunk| {
                let first = e.mul(chunk, limit);
                flush(e, k, &rows, first, limit, cursor, &sums);
            });
        }
        if !quads.is_multiple_of(limit) {
            let first = e.int(full * limit);
            flush(e, k, &rows, first, quads % limit, cursor, &sums);
        }
    });
    sums.iter()
        .map(|&[all, high]| {
            let (all, high) = (e.b.use_var(all), e.b.use_var(high));
            let shifted = e.b.ins().ishl_imm_u(high, 8);
            vec![e.b.ins().isub(all, shifted), high]
        })
        .collect()
}

/// `count` look-ups from quad `first` on, summed in bytes and added to the 16-bit sums.
fn flush(
    e: &mut Emitter<'_, '_>,
    k: &LookUp<'_, '_>,
    rows: &[Value],
    first: Value,
    count: usize,
    cursor: Variable,
    sums: &[[Variable; 2]],
) {
    let zero = e.splat_i32(0);
    let zero8 = e.cast(I8X16, zero);
    let nibble = e.splat_i32(0x0F0F_0F0F);
    let nibble = e.cast(I8X16, nibble);
    let bytes: Vec<Variable> = rows.iter().map(|_| e.var(zero8)).collect();
    let unrolled = |e: &mut Emitter<'_, '_>, at: Value, n: usize| {
        let weights = e.b.use_var(cursor);
        for u in 0..n {
            let both = e.read(I8X16, weights, (u / 2 * LOOK_UP_TILE) as i32);
            let index = if u % 2 == 0 {
                both
            } else {
                let words = e.cast(I16X8, both);
                let words = e.b.ins().ushr_imm_u(words, 4);
                e.cast(I8X16, words)
            };
            let index = e.b.ins().band(index, nibble);
            for (&row, &sum) in rows.iter().zip(&bytes) {
                let address = e.b.ins().iadd(row, at);
                let v = e.read_byte(address, u as i32);
                let v = e.b.ins().ishl_imm_u(v, 4);
                let table = e.b.ins().iadd(k.tables, v);
                let table = e.read(I8X16, table, 0);
                let part = e.shuffle_bytes(table, index);
                e.accumulate(sum, part);
            }
        }
        let next = e.add(weights, n.div_ceil(2) * LOOK_UP_TILE);
        e.b.def_var(cursor, next);
    };
    e.times(count / UNROLL, |e, i| {
        let at = e.at(first, i, UNROLL);
        unrolled(e, at, UNROLL);
    });
    if !count.is_multiple_of(UNROLL) {
        let at = e.add(first, count / UNROLL * UNROLL);
        unrolled(e, at, count % UNROLL);
    }
    for (&[all, high], &byte) in sums.iter().zip(&bytes) {
        let v = e.b.use_var(byte);
        let v = e.cast(I16X8, v);
        e.accumulate(all, v);
        let top = e.b.ins().ushr_imm_u(v, 8);
        e.accumulate(high, top);
    }
}
