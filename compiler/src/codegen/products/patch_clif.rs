//! The inner part of [`PatchGrad`] in CLIF, 128 bits wide: it defines what the wide tile computes. Arguments are the
//! addresses of the gradients of a chunk's windows, their winners, the sums and the work memory, and the number of windows.

use crate::codegen::emitter::{Emitter, F32X4, I32X4};
use crate::codegen::lanes::clif;
use crate::lower::train::requirements::patch_grad::PatchGrad;
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value, types};
use std::ops::Range;

/// Vectors of taps whose sums stay in registers.
const VECTORS: usize = 10;

pub(super) fn chunk(e: &mut Emitter<'_, '_>, product: &PatchGrad, [gradient, winners, sums, work, count]: [Value; 5]) {
    let [masks, totals, ..] = product.work();
    let (masks, totals) = (e.add(work, masks), e.add(work, totals));
    let words = product.chunk().words();
    for word in 0..words {
        make_masks(e, product, word, [gradient, winners, masks, count]);
    }
    e.times(product.g.outputs, |e, o| {
        let (gradient, winners) = (e.at(gradient, o, 4), e.b.ins().iadd(winners, o));
        let (sums, totals) = (e.at(sums, o, product.row()), e.at(totals, o, 16));
        let at = mask_address(e, product, masks, o);
        for pair in 0..words / 2 {
            let [low, high] = [0, 64].map(|offset| {
                let half = e.load(types::I32, at, 128 * pair as i32 + offset);
                e.b.ins().uextend(types::I64, half)
            });
            let high = e.b.ins().ishl_imm_u(high, 32);
            let mask = e.b.ins().bor(low, high);
            let vectors = product.row() / 16;
            for first in (0..vectors).step_by(VECTORS) {
                let range = first..vectors.min(first + VECTORS);
                accumulate(e, product, (mask, 64 * pair), range, [gradient, winners, work, sums, totals]);
            }
        }
    });
}

/// Where the first word of an output's masks lies.
fn mask_address(e: &mut Emitter<'_, '_>, product: &PatchGrad, masks: Value, o: Value) -> Value {
    let within = e.b.ins().band_imm_u(o, 15);
    let block = e.b.ins().isub(o, within);
    let at = e.at(masks, block, product.masks() / 16);
    e.at(at, within, 4)
}

/// Bit i of a word of an output's masks says that the gradient of a window is not zero, and goes to the row of taps that the
/// word belongs to.
fn make_masks(e: &mut Emitter<'_, '_>, product: &PatchGrad, word: usize, at: [Value; 4]) {
    let [gradient, winners, masks, count] = at;
    let (chunk, pixel) = (product.chunk(), product.gradient.pixel());
    let (row, before) = (word * 32 / chunk.bits, word * 32 % chunk.bits);
    let (zero, most) = (e.int(0), e.int(if row < chunk.kernel[0] { 32 } else { 0 }));
    let left = e.b.ins().iadd_imm_s(count, -(before as i64));
    let left = e.b.ins().smax(left, zero);
    let left = e.min(left, most);
    e.times(product.blocks() * 4, |e, four| {
        let from = e.at(gradient, four, 16);
        let from = e.add(from, before * pixel);
        let won = e.at(winners, four, 4);
        let (none, one) = (e.splat_i32(0), e.splat_i32(1));
        let (mask, bit) = (e.var(none), e.var(one));
        e.range(zero, left, 1, |e, i| {
            let at = e.at(from, i, pixel);
            let v = e.load(F32X4, at, 0);
            let zero = e.splat_f32(0.0);
            let mut there = e.b.ins().fcmp(FloatCC::NotEqual, v, zero);
            if let Some(pool) = &product.pool {
                let at = e.add(won, before * pool.winners.pixel());
                let at = e.at(at, i, pool.winners.pixel());
                let tap = clif::bytes(e, at);
                let [least, end] = [row, row + 1].map(|row| e.splat_i32((row * chunk.kernel[1]) as i32));
                let from = e.b.ins().icmp(IntCC::SignedGreaterThanOrEqual, tap, least);
                let to = e.b.ins().icmp(IntCC::SignedLessThan, tap, end);
                let here = e.b.ins().band(from, to);
                there = e.b.ins().band(there, here);
            }
            let (old, one) = (e.b.use_var(mask), e.b.use_var(bit));
            let there = e.b.ins().band(there, one);
            let new = e.b.ins().bor(old, there);
            e.b.def_var(mask, new);
            let next = e.b.ins().iadd(one, one);
            e.b.def_var(bit, next);
        });
        let channel = e.mul(four, 4);
        let at = mask_address(e, product, masks, channel);
        let mask = e.b.use_var(mask);
        debug_assert_eq!(e.b.func.dfg.value_type(mask), I32X4);
        e.store(mask, at, 64 * word as i32);
    });
}

/// Adds gradient times patch to these vectors of an output's sums for each bit of two words of its masks, those from bit
/// `bits` on, and with the first of them the gradient to its position's lane.
fn accumulate(
    e: &mut Emitter<'_, '_>,
    product: &PatchGrad,
    (mask, bits): (Value, usize),
    range: Range<usize>,
    [gradient, winners, work, sums, totals]: [Value; 5],
) {
    let (chunk, first) = (product.chunk(), range.start == 0);
    let offset = |i: usize| 16 * i as i32;
    let all: Vec<_> = range
        .map(|i| {
            let sum = e.load(F32X4, sums, offset(i));
            (e.var(sum), offset(i))
        })
        .collect();
    let total = e.load(F32X4, totals, 0);
    let (mask, total) = (e.var(mask), e.var(total));
    e.repeat_while(
        |e| {
            let left = e.b.use_var(mask);
            e.b.ins().icmp_imm_s(IntCC::NotEqual, left, 0)
        },
        |e| {
            let left = e.b.use_var(mask);
            let i = e.b.ins().ctz(left);
            let window = e.b.ins().band_imm_u(i, chunk.bits as i64 - 1);
            let fewer = e.b.ins().iadd_imm_s(left, -1);
            let fewer = e.b.ins().band(left, fewer);
            e.b.def_var(mask, fewer);
            let mut place = window;
            if let Some(pool) = &product.pool {
                let at = e.at(winners, window, pool.winners.pixel());
                let tap = e.read_byte(at, 0);
                let bit = if chunk.strips { e.add(i, bits) } else { window };
                place = e.at(tap, bit, chunk.step);
            }
            let (gradient, patch) = (e.at(gradient, window, product.gradient.pixel()), e.at(work, place, chunk.place));
            let g = e.load(types::F32, gradient, 0);
            let g = e.b.ins().splat(F32X4, g);
            for &(sum, offset) in &all {
                let (v, old) = (e.load(F32X4, patch, offset), e.b.use_var(sum));
                let new = e.mul_add(v, g, old);
                e.b.def_var(sum, new);
            }
            if first {
                let lane = e.add(work, product.work()[2]);
                let lane = e.at(lane, place, 16);
                let lane = e.load(I32X4, lane, 0);
                let here = e.cast(I32X4, g);
                let here = e.b.ins().band(here, lane);
                let (here, old) = (e.cast(F32X4, here), e.b.use_var(total));
                let new = e.b.ins().fadd(old, here);
                e.b.def_var(total, new);
            }
        },
    );
    if first {
        let v = e.b.use_var(total);
        e.store(v, totals, 0);
    }
    for (sum, offset) in all {
        let v = e.b.use_var(sum);
        e.store(v, sums, offset);
    }
}
