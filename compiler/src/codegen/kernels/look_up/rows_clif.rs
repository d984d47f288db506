//! Row by row look-ups in CLIF, 128 bits wide, for aarch64: what `tiles::look_up_rows` computes, with the same parameters, from the same
//! rows and weights, both blocks of a pair at once. A byte of four channels chooses a table, which all taps that read the column
//! share; `tbl` looks up 16 outputs × 4 channels.
//!
//! Cost: with 3 taps and 7 positions 130 instructions for a byte of every column: 5 for 100 multiply-accumulates. Where there are more
//! than 3 taps the two halves of the weights' bytes have a loop each: registers would not hold the indices of both. Must never know
//! the graph.

use super::codes_clif::{Codes, even_odd, times, words};
use crate::codegen::CodegenError;
use crate::codegen::emitter::{Emitter, I32X4};
use crate::codegen::image::FunctionId;
use crate::codegen::leaf::leaf;
use crate::codegen::tiles::CODES_ADDENDS;
use crate::codegen::tiles::look_up_rows::{self, ENTRY, LookUpRows, RowFinish};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::Variable;
use std::ops::Range;

/// Blocks of 16 outputs.
const BLOCKS: usize = 2;
/// Taps up to which registers hold the indices of both halves of a byte.
const KEPT: usize = 3;

/// Addresses and lengths that the function gets.
#[derive(Clone, Copy)]
struct Frame {
    rows: Value,
    count: Value,
    weights: [Value; BLOCKS],
    tables: Value,
    frame: Value,
    /// 16-bit sums of a tile: of every position and block those of all bytes and of odd ones.
    totals: Value,
}

/// The function of `e`'s level; `(rows, count, weights, stride, tables, frame)` as of [`LookUpRows::function`].
///
/// # Errors
/// When Cranelift refuses it.
pub(super) fn function(tile: LookUpRows, e: &mut Emitter<'_, '_>) -> Result<FunctionId, CodegenError> {
    tile.check()?;
    let name = format!("{}.{}", tile.name(), e.level.name);
    leaf(e, &name, 6, |e, p| {
        let [rows, count, weights, stride, tables, frame] = *p else { return };
        let second = e.b.ins().iadd(weights, stride);
        let totals = e.stack(tile.positions() * BLOCKS * 32, 16);
        let frame = Frame { rows, count, weights: [weights, second], tables, frame, totals };
        let last = e.int(tile.width - tile.positions());
        // The last tile overlaps its neighbour rather than being narrower.
        e.times(tile.tiles(), |e, i| {
            let x = e.mul(i, tile.positions());
            let x = e.min(x, last);
            tile_of_positions(tile, e, frame, [x, i]);
        });
    })
}

/// The sums of the positions from `x` on, tile `index` of the row.
fn tile_of_positions(tile: LookUpRows, e: &mut Emitter<'_, '_>, f: Frame, [x, index]: [Value; 2]) {
    let none = e.splat_i32(0);
    (0..tile.positions() * BLOCKS * 2).for_each(|i| e.store(none, f.totals, 16 * i as i32));
    let shift = e.load(types::I64, f.frame, look_up_rows::shift(tile.width));
    let column = e.at(shift, x, tile.stride * tile.pixel);
    let (zero, most) = (e.int(0), tile.chunk_quads());
    e.range(zero, f.count, 1, |e, i| {
        let entry = e.at(f.rows, i, ENTRY);
        let (codes, offset) = (e.load(types::I64, entry, 0), e.load(types::I64, entry, 8));
        let codes = e.b.ins().iadd(codes, column);
        let codes = e.var(codes);
        let weights = f.weights.map(|w| {
            let w = e.b.ins().iadd(w, offset);
            e.var(w)
        });
        e.repeat(tile.quads / most, |e| chunk(tile, e, f, codes, weights, most));
        if !tile.quads.is_multiple_of(most) {
            chunk(tile, e, f, codes, weights, tile.quads % most);
        }
    });
    match tile.finish {
        RowFinish::Codes(codes) => {
            let codes = Codes::new(e, codes, f.frame, x);
            for (p, block) in (0..tile.positions()).flat_map(|p| (0..BLOCKS).map(move |block| (p, block))) {
                let sums = f.sums(e, p, block);
                codes.store(e, sums, p, block);
            }
        }
        RowFinish::Sums { pitch, factor, add } => store_sums(tile, e, f, [x, index], (factor, add), pitch),
        RowFinish::Words { pitch, factor } => store_words(tile, e, f, x, factor, pitch),
    }
}

/// The look-ups of `quads` of one input row, summed in bytes and added to the 16-bit sums.
fn chunk(
    tile: LookUpRows,
    e: &mut Emitter<'_, '_>,
    f: Frame,
    codes: Variable,
    weights: [Variable; BLOCKS],
    quads: usize,
) {
    let none = e.zeros(types::I8X16);
    let sums: Vec<Variable> = (0..tile.positions() * BLOCKS).map(|_| e.var(none)).collect();
    let start = e.b.use_var(codes);
    let blocks = weights.map(|w| e.b.use_var(w));
    let (whole, odd) = (quads / 2, quads % 2);
    let loops = if tile.kernel > KEPT { [(whole + odd, 0..1), (whole, 1..2)] } else { [(whole, 0..2), (odd, 0..1)] };
    for (i, (count, halves)) in loops.into_iter().enumerate() {
        if i > 0 && tile.kernel > KEPT {
            e.b.def_var(codes, start);
            weights.into_iter().zip(blocks).for_each(|(w, first)| e.b.def_var(w, first));
        }
        e.repeat(count, |e| pair(tile, e, f.tables, codes, weights, &sums, halves.clone()));
    }
    let next = e.add(start, quads);
    e.b.def_var(codes, next);
    for (w, first) in weights.into_iter().zip(blocks) {
        let next = e.add(first, (whole + odd) * 16);
        e.b.def_var(w, next);
    }
    for (i, &sum) in sums.iter().enumerate() {
        let sum = e.b.use_var(sum);
        for (part, v) in add_bytes(e, sum).into_iter().enumerate() {
            let at = (32 * i + 16 * part) as i32;
            let old = e.load(types::I16X8, f.totals, at);
            let new = e.b.ins().iadd(old, v);
            e.store(new, f.totals, at);
        }
    }
}

/// What a vector of byte sums adds to the 16-bit sums of all bytes and to those of odd ones.
pub(super) fn add_bytes(e: &mut Emitter<'_, '_>, sums: Value) -> [Value; 2] {
    let all = e.cast(types::I16X8, sums);
    [all, e.b.ins().ushr_imm_u(all, 8)]
}

/// One or two quads of all columns: the indices of both lie in the halves of the weights' bytes. Goes on to the next pair.
fn pair(
    tile: LookUpRows,
    e: &mut Emitter<'_, '_>,
    tables: Value,
    codes: Variable,
    weights: [Variable; BLOCKS],
    sums: &[Variable],
    halves: Range<usize>,
) {
    let from = e.b.use_var(codes);
    let blocks = weights.map(|w| e.b.use_var(w));
    let at = |kx: usize| (kx * tile.tap()) as i32;
    let packed = (0..tile.kernel).flat_map(|kx| blocks.map(|block| (block, at(kx))));
    let packed: Vec<Value> = packed.map(|(block, at)| e.read(types::I8X16, block, at)).collect();
    let mask = e.splat_i32(0x0F0F_0F0F);
    let mask = e.cast(types::I8X16, mask);
    for quad in halves {
        let index = |e: &mut Emitter<'_, '_>, &packed: &Value| match quad {
            0 => e.b.ins().band(packed, mask),
            _ => e.b.ins().ushr_imm_u(packed, 4),
        };
        let indices: Vec<Value> = packed.iter().map(|v| index(e, v)).collect();
        for column in 0..(tile.positions() - 1) * tile.stride + tile.kernel {
            look_up(tile, e, [tables, from], [column, quad], &indices, sums);
        }
    }
    e.advance(codes, 2);
    for w in weights {
        e.advance(w, 16);
    }
}

/// Adds what a quad of one column gives to every position whose window reads it.
fn look_up(
    tile: LookUpRows,
    e: &mut Emitter<'_, '_>,
    [tables, codes]: [Value; 2],
    [column, quad]: [usize; 2],
    indices: &[Value],
    sums: &[Variable],
) {
    let positions = (0..tile.positions()).filter(|p| (0..tile.kernel).contains(&column.wrapping_sub(p * tile.stride)));
    let mut table = None;
    for p in positions {
        let table = *table.get_or_insert_with(|| {
            let byte = e.read_byte(codes, (column * tile.pixel + quad) as i32);
            let offset = e.b.ins().ishl_imm_u(byte, 4);
            let at = e.b.ins().iadd(tables, offset);
            e.read(types::I8X16, at, 0)
        });
        let tap = column - p * tile.stride;
        for (block, &index) in indices.iter().skip(tap * BLOCKS).take(BLOCKS).enumerate() {
            let part = e.shuffle_bytes(table, index);
            if let Some(&sum) = sums.get(p * BLOCKS + block) {
                e.accumulate(sum, part);
            }
        }
    }
}

impl Frame {
    /// The sums of all bytes of a position and block, and those of odd ones.
    fn sums(self, e: &mut Emitter<'_, '_>, p: usize, block: usize) -> [Value; 2] {
        [0, 16].map(|odd| e.load(types::I16X8, self.totals, (32 * (p * BLOCKS + block)) as i32 + odd))
    }
}

/// Stores the accumulators of all positions: of each block first its outputs 0 … 7, then the others.
fn store_sums(
    tile: LookUpRows,
    e: &mut Emitter<'_, '_>,
    f: Frame,
    [x, index]: [Value; 2],
    (factor, add): (i32, bool),
    pitch: usize,
) {
    let overlap = tile.tiles() * tile.positions() - tile.width;
    if add && overlap > 0 {
        // What two tiles have is added once.
        let last = e.b.ins().icmp_imm_u(IntCC::Equal, index, tile.tiles() as i64 - 1);
        e.when(last, |e| {
            let none = e.splat_i32(0);
            (0..overlap * BLOCKS * 2).for_each(|i| e.store(none, f.totals, 16 * i as i32));
        });
    }
    let out = e.load(types::I64, f.frame, 0);
    let (out, addends) = (e.at(out, x, pitch), e.at(f.frame, x, 4));
    for p in 0..tile.positions() {
        let addend = (!add).then(|| {
            let addend = e.load(types::I32, addends, CODES_ADDENDS + 4 * p as i32);
            e.b.ins().splat(I32X4, addend)
        });
        for block in 0..BLOCKS {
            let sums = f.sums(e, p, block);
            let first = (p * pitch + 64 * block) as i32;
            accumulators(e, sums, (factor, addend), out, [first, first + 32]);
        }
    }
}

/// The same in 16 bits, which the accumulators fit.
fn store_words(tile: LookUpRows, e: &mut Emitter<'_, '_>, f: Frame, x: Value, factor: i32, pitch: usize) {
    let out = e.load(types::I64, f.frame, 0);
    let (out, addends) = (e.at(out, x, pitch), e.at(f.frame, x, 4));
    for p in 0..tile.positions() {
        let addend = e.load(types::I16, addends, CODES_ADDENDS + 4 * p as i32);
        for block in 0..BLOCKS {
            let sums = f.sums(e, p, block);
            for (half, accumulators) in words(e, sums, (factor, addend)).into_iter().enumerate() {
                e.store(accumulators, out, (p * pitch + 32 * block + 16 * half) as i32);
            }
        }
    }
}

/// Stores the accumulators of 16-bit sums of all bytes and of odd ones: `factor` times the sum plus the addend, or what is there. Those of
/// even and of odd bytes go so many bytes from `out` on.
pub(super) fn accumulators(
    e: &mut Emitter<'_, '_>,
    sums: [Value; 2],
    (factor, addend): (i32, Option<Value>),
    out: Value,
    places: [i32; 2],
) {
    for (place, sums) in places.into_iter().zip(even_odd(e, sums)) {
        let quarters = [e.b.ins().uwiden_low(sums), e.b.ins().uwiden_high(sums)];
        for (at, v) in [place, place + 16].into_iter().zip(quarters) {
            let v = times(e, v, factor);
            let other = match addend {
                Some(addend) => addend,
                None => e.load(I32X4, out, at),
            };
            let v = e.b.ins().iadd(v, other);
            e.store(v, out, at);
        }
    }
}
