//! The element-wise operators of training on four lanes, in the order and rounding of the operator table.

use crate::codegen::emitter::{Emitter, I32X4};
use crate::codegen::functions;
use crate::codegen::lanes::{clip, sign};
use crate::graph::attrs::Attrs;
use crate::graph::ops::steps;
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value};

/// The operator `op` on lanes; `None` if it is not one of training's, or operands are missing.
pub fn apply(e: &mut Emitter<'_, '_>, op: &str, attrs: &Attrs, inputs: &[Value]) -> Option<Value> {
    let x = *inputs.first()?;
    let input = |i: usize| inputs.get(i).copied();
    Some(match op {
        "channel_affine" => {
            let p = e.b.ins().fmul(x, input(1)?);
            e.b.ins().fadd(p, input(2)?)
        }
        "channel_normalize" => {
            let d = e.b.ins().fsub(x, input(1)?);
            e.b.ins().fmul(d, input(2)?)
        }
        "batch_norm_grad" => {
            let (xhat, a, b, s) = (input(1)?, input(2)?, input(3)?, input(4)?);
            let left = e.b.ins().fsub(x, b);
            let right = e.b.ins().fmul(xhat, a);
            let d = e.b.ins().fsub(left, right);
            e.b.ins().fmul(d, s)
        }
        "encode_activation" => encode_activation(e, attrs, x),
        "relu_grad" => {
            let zero = e.splat_f32(0.0);
            let mask = e.b.ins().fcmp(FloatCC::GreaterThan, input(1)?, zero);
            e.select(mask, x, zero)
        }
        "clip_grad" => {
            let (lo, hi) = (attrs.float("lo", f32::NEG_INFINITY), attrs.float("hi", f32::INFINITY));
            let (lo, hi, zero) = (e.splat_f32(lo), e.splat_f32(hi), e.splat_f32(0.0));
            let above = e.b.ins().fcmp(FloatCC::LessThanOrEqual, lo, input(1)?);
            let below = e.b.ins().fcmp(FloatCC::LessThanOrEqual, input(1)?, hi);
            let mask = e.b.ins().band(above, below);
            e.select(mask, x, zero)
        }
        "abs_bound_grad" => {
            let (one, zero) = (e.splat_f32(1.0), e.splat_f32(0.0));
            let magnitude = e.b.ins().fabs(input(1)?);
            let mask = e.b.ins().fcmp(FloatCC::LessThanOrEqual, magnitude, one);
            let s = sign(e, input(1)?);
            let d = e.b.ins().fmul(x, s);
            e.select(mask, d, zero)
        }
        "leaky_relu_grad" => {
            let (zero, alpha) = (e.splat_f32(0.0), e.splat_f32(attrs.float("alpha", 0.01)));
            let scaled = e.b.ins().fmul(alpha, x);
            let mask = e.b.ins().fcmp(FloatCC::GreaterThan, input(1)?, zero);
            e.select(mask, x, scaled)
        }
        "moment" => moment(e, x, input(1)?, input(2)?),
        "moment_squared" => {
            let square = e.b.ins().fmul(input(1)?, input(1)?);
            moment(e, x, square, input(2)?)
        }
        "adam_step" => {
            let (m, v, rate, epsilon) = (input(1)?, input(2)?, input(3)?, input(4)?);
            let root = e.b.ins().sqrt(v);
            let d = e.b.ins().fadd(root, epsilon);
            let q = e.b.ins().fdiv(m, d);
            let step = e.b.ins().fmul(rate, q);
            e.b.ins().fsub(x, step)
        }
        "momentum" => {
            let kept = e.b.ins().fmul(input(2)?, x);
            e.b.ins().fadd(kept, input(1)?)
        }
        "descend" => {
            let step = e.b.ins().fmul(input(2)?, input(1)?);
            e.b.ins().fsub(x, step)
        }
        "tanh_weights_grad" => tanh_weights_grad(e, [x, input(1)?, input(2)?, input(3)?, input(4)?]),
        _ => return None,
    })
}

/// Codes round(h(x)·n).
fn encode_activation(e: &mut Emitter<'_, '_>, attrs: &Attrs, x: Value) -> Value {
    let n = steps(attrs.int("bits", 1));
    let h = match attrs.word("bound", "clip") {
        "abs" => {
            let magnitude = e.b.ins().fabs(x);
            clip(e, magnitude, f32::NEG_INFINITY, 1.0)
        }
        "tanh" => {
            let (t, one, two) = (functions::each_lane(e, "tanh", x), e.splat_f32(1.0), e.splat_f32(2.0));
            let t = e.b.ins().fadd(t, one);
            e.b.ins().fdiv(t, two)
        }
        _ => clip(e, x, 0.0, 1.0),
    };
    let n = e.splat_f32(n);
    let u = e.b.ins().fmul(h, n);
    let u = e.b.ins().nearest(u);
    e.b.ins().fcvt_to_sint_sat(I32X4, u)
}

/// β·m + (1 − β)·g
fn moment(e: &mut Emitter<'_, '_>, m: Value, g: Value, beta: Value) -> Value {
    let one = e.splat_f32(1.0);
    let kept = e.b.ins().fmul(beta, m);
    let rest = e.b.ins().fsub(one, beta);
    let new = e.b.ins().fmul(rest, g);
    e.b.ins().fadd(kept, new)
}

fn tanh_weights_grad(e: &mut Emitter<'_, '_>, [dwq, t, max, dot, ties]: [Value; 5]) -> Value {
    let (zero, one) = (e.splat_f32(0.0), e.splat_f32(1.0));
    let square = e.b.ins().fmul(max, max);
    let q = e.b.ins().fdiv(dot, square);
    let s = sign(e, t);
    let share = e.b.ins().fmul(s, q);
    let share = e.b.ins().fdiv(share, ties);
    let magnitude = e.b.ins().fabs(t);
    let top = e.b.ins().fcmp(FloatCC::Equal, magnitude, max);
    let share = e.select(top, share, zero);
    let d = e.b.ins().fdiv(dwq, max);
    let dt = e.b.ins().fsub(d, share);
    let tt = e.b.ins().fmul(t, t);
    let slope = e.b.ins().fsub(one, tt);
    let dw = e.b.ins().fmul(dt, slope);
    let none = e.b.ins().fcmp(FloatCC::Equal, max, zero);
    e.select(none, zero, dw)
}
