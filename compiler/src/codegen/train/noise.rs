//! The counter-based noise of `graph::noise`, on lanes.

use super::{Frame, at};
use crate::codegen::emitter::Emitter;
use crate::codegen::lanes::program::{Compare, Lane, Program, Unary};
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::FunctionBuilder;

/// The two halves of a key, i32 scalars.
#[derive(Clone, Copy)]
pub struct Key(pub Value, pub Value);

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
        k = mix(&mut e.b, mixed);
    }
    let low = e.b.ins().ireduce(types::I32, k);
    let high = e.b.ins().ushr_imm_u(k, 32);
    let high = e.b.ins().ireduce(types::I32, high);
    Key(low, high)
}

/// The finaliser of SplitMix64.
pub fn mix(b: &mut FunctionBuilder<'_>, mut z: Value) -> Value {
    for (shift, factor) in [(30, Some(0xbf58_476d_1ce4_e5b9u64)), (27, Some(0x94d0_49bb_1331_11eb)), (31, None)] {
        let high = b.ins().ushr_imm_u(z, shift);
        z = b.ins().bxor(z, high);
        if let Some(factor) = factor {
            let factor = b.ins().iconst(types::I64, factor as i64);
            z = b.ins().imul(z, factor);
        }
    }
    z
}

/// 24 random bits for each element: their places in C, H, W order. The key's halves are in all lanes.
pub fn bits(p: &mut Program, key: [Lane; 2], element: Lane) -> Lane {
    let shift = |p: &mut Program, x: Lane, by: u8| {
        let high = p.shift_right(x, by);
        p.xor(x, high)
    };
    let golden = p.integer(0x9E37_79B1u32 as i32);
    let x = p.imul(element, golden);
    let x = p.iadd(x, key[0]);
    let x = shift(p, x, 16);
    let c = p.integer(0x85EB_CA6Bu32 as i32);
    let x = p.imul(x, c);
    let x = p.xor(x, key[1]);
    let x = shift(p, x, 13);
    let c = p.integer(0xC2B2_AE35u32 as i32);
    let x = p.imul(x, c);
    let x = shift(p, x, 16);
    p.shift_right(x, 8)
}

/// ν in [−½, ½).
pub fn uniform(p: &mut Program, bits: Lane) -> Lane {
    let v = p.unary(Unary::ToFloat, bits);
    let (unit, half) = (p.float(1.0 / 16_777_216.0), p.float(0.5));
    let v = p.fmul(v, unit);
    p.fsub(v, half)
}

/// Where dropout at `rate` keeps the element: a mask.
pub fn keeps(p: &mut Program, bits: Lane, rate: f32) -> Lane {
    let least = (f64::from(rate) * 16_777_216.0).round() as i32;
    let least = p.integer(least);
    p.compare(Compare::AtLeast, bits, least)
}
