//! Element-wise operators on four f32 lanes that need nothing but their operands' lanes: every back end of the lanes (the
//! chain of an inference kernel, the fused steps of training) goes through [`apply`]. It must never know where lanes come
//! from.

use super::emitter::Emitter;
use super::functions;
use crate::graph::attrs::Attrs;
use crate::graph::ops::steps;
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value};

/// The operator `op` on lanes, in the order and rounding of the operator table; `None` if it needs more than lanes, or
/// operands are missing.
pub fn apply(e: &mut Emitter<'_, '_>, op: &str, attrs: &Attrs, inputs: &[Value]) -> Option<Value> {
    let x = *inputs.first()?;
    let second = inputs.get(1).copied();
    Some(match op {
        "add" => e.b.ins().fadd(x, second?),
        "sub" => e.b.ins().fsub(x, second?),
        "mul" => e.b.ins().fmul(x, second?),
        "div" => e.b.ins().fdiv(x, second?),
        "min" => pick(e, FloatCC::LessThan, x, second?),
        "max" => pick(e, FloatCC::GreaterThan, x, second?),
        "neg" => e.b.ins().fneg(x),
        "abs" => e.b.ins().fabs(x),
        "sqrt" => e.b.ins().sqrt(x),
        "relu" => {
            let zero = e.splat_f32(0.0);
            pick(e, FloatCC::GreaterThan, x, zero)
        }
        "leaky_relu" => {
            let (zero, alpha) = (e.splat_f32(0.0), e.splat_f32(attrs.float("alpha", 0.01)));
            let scaled = e.b.ins().fmul(alpha, x);
            let mask = e.b.ins().fcmp(FloatCC::GreaterThan, x, zero);
            e.select(mask, x, scaled)
        }
        "clip" => clip(e, x, attrs.float("lo", f32::NEG_INFINITY), attrs.float("hi", f32::INFINITY)),
        "step" => {
            let (zero, one, minus) = (e.splat_f32(0.0), e.splat_f32(1.0), e.splat_f32(-1.0));
            let mask = e.b.ins().fcmp(FloatCC::GreaterThanOrEqual, x, zero);
            e.select(mask, one, minus)
        }
        "sign" => sign(e, x),
        "round" => functions::round(e, attrs.word("mode", "half_even"), x),
        "exp" | "tanh" | "sigmoid" => functions::each_lane(e, op, x),
        "quantize_gradient" | "reshape" => x,
        // Other bounds and widths are expanded by the passes.
        "quantize_activation" if attrs.word("bound", "clip") == "clip" && attrs.int("bits", 32) <= 16 => {
            let n = e.splat_f32(steps(attrs.int("bits", 32)));
            let bounded = clip(e, x, 0.0, 1.0);
            let scaled = e.b.ins().fmul(bounded, n);
            let r = e.b.ins().nearest(scaled);
            e.b.ins().fdiv(r, n)
        }
        _ => return None,
    })
}

/// cc(a, b) ? a : b.
pub fn pick(e: &mut Emitter<'_, '_>, cc: FloatCC, a: Value, b: Value) -> Value {
    let mask = e.b.ins().fcmp(cc, a, b);
    e.select(mask, a, b)
}

/// x > lo ? x : lo, then y < hi ? y : hi: NaN gives lo.
pub fn clip(e: &mut Emitter<'_, '_>, x: Value, lo: f32, hi: f32) -> Value {
    let (lo, hi) = (e.splat_f32(lo), e.splat_f32(hi));
    let y = pick(e, FloatCC::GreaterThan, x, lo);
    pick(e, FloatCC::LessThan, y, hi)
}

/// 1, −1 or 0.
pub fn sign(e: &mut Emitter<'_, '_>, x: Value) -> Value {
    let (zero, one, minus) = (e.splat_f32(0.0), e.splat_f32(1.0), e.splat_f32(-1.0));
    let (up, down) = (e.b.ins().fcmp(FloatCC::GreaterThan, x, zero), e.b.ins().fcmp(FloatCC::LessThan, x, zero));
    let low = e.select(down, minus, zero);
    e.select(up, one, low)
}
