//! The counter-based noise of `graph::noise`, on four lanes.

use super::{Frame, at};
use crate::codegen::emitter::{Emitter, F32X4, I32X4};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// The two halves of a key, in all lanes.
#[derive(Clone, Copy)]
pub struct Key(Value, Value);

/// The key of this task's sample at a place of the source graph.
pub fn key(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, place: i64) -> Key {
    let mut k = e.int(0);
    let step = e.load(types::I64, frame.train, at::STEP);
    let seeds = [at::SEED, at::SEED + 8].map(|o| e.load(types::I64, frame.train, o));
    let first = e.load(types::I64, frame.train, at::SAMPLE0);
    let sample = e.b.ins().iadd(first, frame.task);
    let place = e.b.ins().iconst(types::I64, place);
    for v in [seeds[0], seeds[1], step, place, sample] {
        let mixed = e.b.ins().bxor(k, v);
        let golden = e.b.ins().iconst(types::I64, 0x9e37_79b9_7f4a_7c15u64 as i64);
        let mixed = e.b.ins().iadd(mixed, golden);
        k = mix(e, mixed);
    }
    let low = e.b.ins().ireduce(types::I32, k);
    let high = e.b.ins().ushr_imm_u(k, 32);
    let high = e.b.ins().ireduce(types::I32, high);
    Key(e.b.ins().splat(I32X4, low), e.b.ins().splat(I32X4, high))
}

/// The finaliser of SplitMix64.
fn mix(e: &mut Emitter<'_, '_>, mut z: Value) -> Value {
    for (shift, factor) in [(30, Some(0xbf58_476d_1ce4_e5b9u64)), (27, Some(0x94d0_49bb_1331_11eb)), (31, None)] {
        let high = e.b.ins().ushr_imm_u(z, shift);
        z = e.b.ins().bxor(z, high);
        if let Some(factor) = factor {
            let factor = e.b.ins().iconst(types::I64, factor as i64);
            z = e.b.ins().imul(z, factor);
        }
    }
    z
}

/// 24 random bits for each of four elements: their places in C, H, W order.
pub fn bits(e: &mut Emitter<'_, '_>, key: Key, element: Value) -> Value {
    let factor = |e: &mut Emitter<'_, '_>, v: u32| e.splat_i32(v as i32);
    let shift = |e: &mut Emitter<'_, '_>, x: Value, by: i64| {
        let high = e.b.ins().ushr_imm_u(x, by);
        e.b.ins().bxor(x, high)
    };
    let golden = factor(e, 0x9E37_79B1);
    let x = e.b.ins().imul(element, golden);
    let x = e.b.ins().iadd(x, key.0);
    let x = shift(e, x, 16);
    let c = factor(e, 0x85EB_CA6B);
    let x = e.b.ins().imul(x, c);
    let x = e.b.ins().bxor(x, key.1);
    let x = shift(e, x, 13);
    let c = factor(e, 0xC2B2_AE35);
    let x = e.b.ins().imul(x, c);
    let x = shift(e, x, 16);
    e.b.ins().ushr_imm_u(x, 8)
}

/// ν in [−½, ½).
pub fn uniform(e: &mut Emitter<'_, '_>, bits: Value) -> Value {
    let v = e.b.ins().fcvt_from_sint(F32X4, bits);
    let (unit, half) = (e.splat_f32(1.0 / 16_777_216.0), e.splat_f32(0.5));
    let v = e.b.ins().fmul(v, unit);
    e.b.ins().fsub(v, half)
}

/// Where dropout at `rate` keeps the element: an all-ones mask.
pub fn keeps(e: &mut Emitter<'_, '_>, bits: Value, rate: f32) -> Value {
    let least = (f64::from(rate) * 16_777_216.0).round() as i32;
    let least = e.splat_i32(least);
    e.b.ins().icmp(IntCC::SignedGreaterThanOrEqual, bits, least)
}
