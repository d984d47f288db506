//! Codes decided early (`lower::early`) in CLIF: the upper digits' sums of a tile of positions mostly decide its codes; where one of them
//! stays open, the lowest digit of all of the tile is multiplied too. Reference: `split_lanes`, which it calls for that.
//!
//! Cost: 29 instructions for 8 outputs with 3 thresholds; a tile with an open code takes half as long again with three digits, as
//! long again with two. About one output in a thousand is open with 24-bit weights.

use super::split::SplitLayer;
use super::split_lanes::{exact, reduction};
use crate::codegen::emitter::{Emitter, I32X4};
use crate::lower::split::{TILE, VECTOR};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// Vectors of a position's outputs.
const VECTORS: usize = TILE / 4;

/// Stores the codes of the layer's positions from the sums of their upper digits.
pub(super) fn codes(
    e: &mut Emitter<'_, '_>,
    layer: &SplitLayer<'_>,
    index: Value,
    [input, weights, out, table]: [Value; 4],
    (sums, [top, shift]): (&[Value], [usize; 2]),
) {
    let upper: Vec<Value> = sums.chunks(layer.split.always() * VECTORS).flat_map(|s| upper(e, layer, s)).collect();
    // Sums that stayed in registers for the open codes would be spilled around both loops.
    upper.iter().enumerate().for_each(|(i, &v)| e.store(v, layer.kept, 16 * i as i32));
    let mut open = None;
    for (pair, sums) in upper.chunks(2 * VECTORS).enumerate() {
        for vector in 0..VECTORS {
            let one = |i: usize| sums.get(i * VECTORS + vector).copied();
            let Some(first) = one(0) else { continue };
            let (codes, undecided) = decide(e, [first, one(1).unwrap_or(first)], table, vector, [top, shift]);
            open = Some(match open {
                None => undecided,
                Some(open) => e.b.ins().bor(open, undecided),
            });
            let halves = [e.b.ins().swiden_low(codes), e.b.ins().swiden_high(codes)];
            for (i, half) in halves.into_iter().enumerate().take(sums.len() / VECTORS) {
                e.store(half, out, (((2 * pair + i) * layer.pitch + vector * 4) * 4) as i32);
            }
        }
    }
    let Some(open) = open else { return };
    let any = e.b.ins().vany_true(open);
    e.when(any, |e| {
        let behind = e.add(weights, layer.split.always_bytes());
        let lowest = reduction(e, layer, index, [input, behind], 0..1);
        for (i, lowest) in lowest.into_iter().enumerate() {
            let (p, v) = (i / VECTORS, i % VECTORS);
            let upper = e.load(I32X4, layer.kept, 16 * i as i32);
            let codes = exact(e, layer, [lowest, upper], table, v);
            e.store(codes, out, ((p * layer.pitch + v * 4) * 4) as i32);
        }
    });
}

/// The sums of a position's upper digits as one.
fn upper(e: &mut Emitter<'_, '_>, layer: &SplitLayer<'_>, digits: &[Value]) -> Vec<Value> {
    let (first, second) = digits.split_at(VECTORS.min(digits.len()));
    let both = first.iter().enumerate().map(|(v, &first)| match second.get(v) {
        None => first,
        Some(&second) => {
            let second = e.b.ins().ishl_imm_u(second, i64::from(layer.split.bits));
            e.b.ins().iadd(first, second)
        }
    });
    both.collect()
}

/// Codes of four outputs of one position and of another as i16, and which are open.
fn decide(
    e: &mut Emitter<'_, '_>,
    upper: [Value; 2],
    table: Value,
    vector: usize,
    [top, shift]: [usize; 2],
) -> (Value, Value) {
    let [first, second] = upper.map(|v| e.b.ins().sshr_imm_u(v, shift as i64));
    let levels = e.b.ins().snarrow(first, second);
    let bound = |e: &mut Emitter<'_, '_>, row: usize| {
        e.read(types::I16X8, table, ((2 * top + row) * VECTOR + vector * 16) as i32)
    };
    let none = e.splat_i32(0);
    let mut codes = e.cast(types::I16X8, none);
    let mut least = None;
    for t in 0..top {
        let (sure, may) = (bound(e, 2 * t), bound(e, 2 * t + 1));
        let reached = e.b.ins().icmp(IntCC::SignedGreaterThan, levels, sure);
        codes = e.b.ins().isub(codes, reached);
        let distance = e.b.ins().isub(levels, may);
        least = Some(match least {
            None => distance,
            Some(least) => e.b.ins().umin(least, distance),
        });
    }
    let width = bound(e, 2 * top);
    let open = match least {
        None => codes,
        Some(least) => e.b.ins().icmp(IntCC::UnsignedLessThan, least, width),
    };
    (codes, e.cast(I32X4, open))
}
