//! Sums of neighbouring products of small integers in 128-bit lanes, in the forms that instruction selection knows. Must never know
//! what is multiplied.

use super::emitter::Emitter;
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// Sums of two products of i16; this form becomes pmaddwd, or smull, smull2 and addp.
pub(super) fn pairs(e: &mut Emitter<'_, '_>, a: Value, b: Value) -> Value {
    let (a, b) = (e.cast(types::I16X8, a), e.cast(types::I16X8, b));
    let (al, bl) = (e.b.ins().swiden_low(a), e.b.ins().swiden_low(b));
    let (ah, bh) = (e.b.ins().swiden_high(a), e.b.ins().swiden_high(b));
    let (l, h) = (e.b.ins().imul(al, bl), e.b.ins().imul(ah, bh));
    e.b.ins().iadd_pairwise(l, h)
}

/// Sums of four products of bytes, those of `a` with a sign or without, those of `b` with one; this form becomes sdot or usdot where there
/// is one and a sum is added to it, behind it. A product fits i16.
pub(super) fn quads(e: &mut Emitter<'_, '_>, a: Value, b: Value, signed: bool) -> Value {
    let (a, b) = (e.cast(types::I8X16, a), e.cast(types::I8X16, b));
    let a = if signed {
        [e.b.ins().swiden_low(a), e.b.ins().swiden_high(a)]
    } else {
        [e.b.ins().uwiden_low(a), e.b.ins().uwiden_high(a)]
    };
    let b = [e.b.ins().swiden_low(b), e.b.ins().swiden_high(b)];
    let [low, high] = [0, 1].map(|half| {
        let p = e.b.ins().imul(a[half], b[half]);
        let (low, high) = (e.b.ins().swiden_low(p), e.b.ins().swiden_high(p));
        e.b.ins().iadd_pairwise(low, high)
    });
    e.b.ins().iadd_pairwise(low, high)
}
