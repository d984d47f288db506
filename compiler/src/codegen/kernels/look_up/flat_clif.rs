//! Look-ups of one position × 64 outputs in CLIF, 128 bits wide, for aarch64: what `tiles::look_up_flat` computes, with the same
//! parameters, from the same weights. All 16-bit sums stay in registers.
//!
//! Cost: 33 instructions for 8 channels × 64 outputs. Must never know the graph.

use super::rows_clif::{accumulators, add_bytes};
use crate::codegen::CodegenError;
use crate::codegen::emitter::{Emitter, I32X4};
use crate::codegen::image::FunctionId;
use crate::codegen::leaf::leaf;
use crate::codegen::tiles::look_up_flat::LookUpFlat;
use crate::lower::pack::FLAT_TILE;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::Variable;

/// Vectors of a block.
const VECTORS: usize = FLAT_TILE / 16;
/// Pairs of quads at most that are written out: their tables are held for all vectors.
const UNROLL: usize = 5;

/// Addresses that move on.
#[derive(Clone, Copy)]
struct Streams {
    codes: Variable,
    weights: Variable,
    tables: Value,
}

/// The function of `e`'s level; `(codes, weights, tables, addend, out)` as of [`LookUpFlat::function`].
///
/// # Errors
/// When Cranelift refuses it.
pub(super) fn function(tile: LookUpFlat, e: &mut Emitter<'_, '_>) -> Result<FunctionId, CodegenError> {
    let name = format!("{}.{}", tile.name(), e.level.name);
    leaf(e, &name, 5, |e, p| {
        let [codes, weights, tables, addend, out] = *p else { return };
        let streams = Streams { codes: e.var(codes), weights: e.var(weights), tables };
        let none = e.zeros(types::I16X8);
        let totals = [(); VECTORS].map(|()| [e.var(none), e.var(none)]);
        e.repeat(tile.quads / tile.limit, |e| chunk(e, streams, totals, tile.limit / 2));
        if !tile.quads.is_multiple_of(tile.limit) {
            chunk(e, streams, totals, tile.quads % tile.limit / 2);
        }
        let addend = (!tile.add).then(|| {
            let addend = e.b.ins().ireduce(types::I32, addend);
            e.b.ins().splat(I32X4, addend)
        });
        // Of each 32 outputs the even bytes are the first sixteen.
        for (v, totals) in totals.into_iter().enumerate() {
            let sums = totals.map(|t| e.b.use_var(t));
            let first = 4 * (v * 16 / 32 * 32 + v * 16 % 32 / 2) as i32;
            accumulators(e, sums, (tile.factor, addend), out, [first, first + 64]);
        }
    })
}

/// Look-ups of so many pairs of quads, summed in bytes, then added to the 16-bit sums.
fn chunk(e: &mut Emitter<'_, '_>, streams: Streams, totals: [[Variable; 2]; VECTORS], pairs: usize) {
    let none = e.zeros(types::I8X16);
    let sums = [(); VECTORS].map(|()| e.var(none));
    let at_once = (1..=UNROLL).rev().find(|n| pairs.is_multiple_of(*n)).unwrap_or(1);
    e.repeat(pairs / at_once, |e| several(e, streams, sums, at_once));
    for (sum, [all, odd]) in sums.into_iter().zip(totals) {
        let sum = e.b.use_var(sum);
        let [low, high] = add_bytes(e, sum);
        e.accumulate(all, low);
        e.accumulate(odd, high);
    }
}

fn several(e: &mut Emitter<'_, '_>, streams: Streams, sums: [Variable; VECTORS], pairs: usize) {
    let (codes, weights) = (e.b.use_var(streams.codes), e.b.use_var(streams.weights));
    let tables: Vec<Value> = (0..2 * pairs)
        .map(|quad| {
            let byte = e.read_byte(codes, quad as i32);
            let offset = e.b.ins().ishl_imm_u(byte, 4);
            let at = e.b.ins().iadd(streams.tables, offset);
            e.read(types::I8X16, at, 0)
        })
        .collect();
    let mask = e.splat_i32(0x0F0F_0F0F);
    let mask = e.cast(types::I8X16, mask);
    for (v, sum) in sums.into_iter().enumerate() {
        for (pair, tables) in tables.chunks(2).enumerate() {
            let packed = e.read(types::I8X16, weights, (pair * FLAT_TILE + v * 16) as i32);
            let indices = [e.b.ins().band(packed, mask), e.b.ins().ushr_imm_u(packed, 4)];
            for (&table, index) in tables.iter().zip(indices) {
                let part = e.shuffle_bytes(table, index);
                e.accumulate(sum, part);
            }
        }
    }
    for (address, by) in [(streams.codes, 2 * pairs), (streams.weights, pairs * FLAT_TILE)] {
        e.advance(address, by);
    }
}
