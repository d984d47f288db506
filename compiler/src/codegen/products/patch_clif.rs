//! The inner part of [`PatchGrad`] in CLIF, 128 bits wide: it defines what the wide tile computes. Arguments are the
//! addresses of the gradients of some positions, their patches, the sums and the masks, and the number of positions.

use crate::codegen::emitter::{Emitter, F32X4, I32X4};
use crate::lower::train::requirements::patch_grad::PatchGrad;
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// Vectors of taps whose sums stay in registers.
const VECTORS: usize = 10;

pub(super) fn chunk(e: &mut Emitter<'_, '_>, product: &PatchGrad, [gradient, patches, sums, masks, count]: [Value; 5]) {
    for half in 0..2 {
        make_masks(e, product, half, [gradient, masks, count]);
    }
    e.times(product.g.outputs, |e, o| {
        let at = mask_address(e, masks, o);
        let low = e.load(types::I32, at, 0);
        let high = e.load(types::I32, at, 64);
        let (low, high) = (e.b.ins().uextend(types::I64, low), e.b.ins().uextend(types::I64, high));
        let high = e.b.ins().ishl_imm_u(high, 32);
        let mask = e.b.ins().bor(low, high);
        let (gradient, sums) = (e.at(gradient, o, 4), e.at(sums, o, product.row()));
        let vectors = product.row() / 16;
        for first in (0..vectors).step_by(VECTORS) {
            let offset = first * 16;
            let count = VECTORS.min(vectors - first);
            let (patches, sums) = (e.add(patches, offset), e.add(sums, offset));
            accumulate(e, product, mask, count, [gradient, patches, sums]);
        }
    });
}

/// Where the low half of an output's mask lies.
fn mask_address(e: &mut Emitter<'_, '_>, masks: Value, o: Value) -> Value {
    let within = e.b.ins().band_imm_u(o, 15);
    let block = e.b.ins().isub(o, within);
    let at = e.at(masks, block, 8);
    e.at(at, within, 4)
}

/// Bit i of an output's half mask says that the gradient of position i of the half is not zero.
fn make_masks(e: &mut Emitter<'_, '_>, product: &PatchGrad, half: usize, [gradient, masks, count]: [Value; 3]) {
    let pixel = product.gradient.pixel();
    let (zero, most) = (e.int(0), e.int(32));
    let left = e.b.ins().iadd_imm_s(count, -32 * half as i64);
    let left = e.b.ins().smax(left, zero);
    let left = e.min(left, most);
    e.times(product.blocks() * 4, |e, four| {
        let from = e.at(gradient, four, 16);
        let from = e.add(from, 32 * half * pixel);
        let (none, one) = (e.splat_i32(0), e.splat_i32(1));
        let (mask, bit) = (e.var(none), e.var(one));
        e.range(zero, left, 1, |e, i| {
            let at = e.at(from, i, pixel);
            let v = e.load(F32X4, at, 0);
            let zero = e.splat_f32(0.0);
            let there = e.b.ins().fcmp(FloatCC::NotEqual, v, zero);
            let (old, one) = (e.b.use_var(mask), e.b.use_var(bit));
            let there = e.b.ins().band(there, one);
            let new = e.b.ins().bor(old, there);
            e.b.def_var(mask, new);
            let next = e.b.ins().iadd(one, one);
            e.b.def_var(bit, next);
        });
        let channel = e.mul(four, 4);
        let at = mask_address(e, masks, channel);
        let mask = e.b.use_var(mask);
        debug_assert_eq!(e.b.func.dfg.value_type(mask), I32X4);
        e.store(mask, at, 64 * half as i32);
    });
}

/// Adds gradient times patch to `count` vectors of an output's sums for each bit of its mask.
fn accumulate(
    e: &mut Emitter<'_, '_>,
    product: &PatchGrad,
    mask: Value,
    count: usize,
    [gradient, patches, sums]: [Value; 3],
) {
    let all: Vec<_> = (0..count)
        .map(|i| {
            let sum = e.load(F32X4, sums, 16 * i as i32);
            e.var(sum)
        })
        .collect();
    let mask = e.var(mask);
    e.repeat_while(
        |e| {
            let left = e.b.use_var(mask);
            e.b.ins().icmp_imm_s(IntCC::NotEqual, left, 0)
        },
        |e| {
            let left = e.b.use_var(mask);
            let i = e.b.ins().ctz(left);
            let fewer = e.b.ins().iadd_imm_s(left, -1);
            let fewer = e.b.ins().band(left, fewer);
            e.b.def_var(mask, fewer);
            let (gradient, patch) = (e.at(gradient, i, product.gradient.pixel()), e.at(patches, i, product.row()));
            let g = e.load(types::F32, gradient, 0);
            let g = e.b.ins().splat(F32X4, g);
            for (i, &sum) in all.iter().enumerate() {
                let (v, old) = (e.load(F32X4, patch, 16 * i as i32), e.b.use_var(sum));
                let new = e.mul_add(v, g, old);
                e.b.def_var(sum, new);
            }
        },
    );
    for (i, &sum) in all.iter().enumerate() {
        let v = e.b.use_var(sum);
        e.store(v, sums, 16 * i as i32);
    }
}
