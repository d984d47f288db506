//! The sums of a tile of 16-entry look-ups in CLIF, one block of 16 outputs: what the tile of `tiles::look_up_avx2` computes for two,
//! and its reference. Must never know what becomes of the sums.

use super::tile::{LookUp, pointer};
use crate::codegen::emitter::Emitter;
use crate::lower::pack::LOOK_UP_TILE;
use cranelift_codegen::ir::{InstBuilder, Type, Value, types};
use cranelift_frontend::Variable;

const I8X16: Type = types::I8X16;
const I16X8: Type = types::I16X8;
const UNROLL: usize = 4;

/// Sums of one weight plane: for each position the outputs 0 … 7 and 8 … 15 as u16.
pub(super) fn plane_sums(e: &mut Emitter<'_, '_>, k: &LookUp<'_, '_>, group: Value, weights: Value) -> Vec<Vec<Value>> {
    let (quads, limit) = (k.quads(), k.limit());
    let zero16 = e.zeros(I16X8);
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
    let zero8 = e.zeros(I8X16);
    let nibble = e.splat_i32(0x0F0F_0F0F);
    let nibble = e.cast(I8X16, nibble);
    let bytes: Vec<Variable> = rows.iter().map(|_| e.var(zero8)).collect();
    let unrolled = |e: &mut Emitter<'_, '_>, at: Value, n: usize| {
        let weights = e.advance(cursor, n.div_ceil(2) * LOOK_UP_TILE);
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
