//! The element-wise operators of training on lanes, in the order and rounding of the operator table.

use super::noise;
use crate::codegen::lanes::operators::{clip, function, sign};
use crate::codegen::lanes::program::{Compare, Lane, Program, Unary};
use crate::graph::attrs::Attrs;
use crate::graph::ops::steps;
use crate::graph::types::CodeType;

/// The operator `op` on lanes; `None` if it is not one of training's, or operands are missing.
pub fn apply(p: &mut Program, op: &str, attrs: &Attrs, inputs: &[Lane]) -> Option<Lane> {
    let x = *inputs.first()?;
    let input = |i: usize| inputs.get(i).copied();
    Some(match op {
        "channel_affine" => {
            let scaled = p.fmul(x, input(1)?);
            p.fadd(scaled, input(2)?)
        }
        "channel_normalize" => {
            let d = p.fsub(x, input(1)?);
            p.fmul(d, input(2)?)
        }
        "batch_norm_grad" => {
            let (xhat, a, b, s) = (input(1)?, input(2)?, input(3)?, input(4)?);
            let left = p.fsub(x, b);
            let right = p.fmul(xhat, a);
            let d = p.fsub(left, right);
            p.fmul(d, s)
        }
        "encode_activation" => encode_activation(p, attrs, x),
        "relu_grad" => {
            let zero = p.float(0.0);
            let mask = p.compare(Compare::Above, input(1)?, zero);
            p.select(mask, x, zero)
        }
        "clip_grad" => {
            let (lo, hi) = (attrs.float("lo", f32::NEG_INFINITY), attrs.float("hi", f32::INFINITY));
            let (lo, hi, zero) = (p.float(lo), p.float(hi), p.float(0.0));
            let above = p.compare(Compare::AtLeast, input(1)?, lo);
            let below = p.compare(Compare::AtLeast, hi, input(1)?);
            let mask = p.both(above, below);
            p.select(mask, x, zero)
        }
        "abs_bound_grad" => {
            let (one, zero) = (p.float(1.0), p.float(0.0));
            let magnitude = p.abs(input(1)?);
            let mask = p.compare(Compare::AtLeast, one, magnitude);
            let s = sign(p, input(1)?);
            let d = p.fmul(x, s);
            p.select(mask, d, zero)
        }
        "leaky_relu_grad" => {
            let (zero, alpha) = (p.float(0.0), p.float(attrs.float("alpha", 0.01)));
            let scaled = p.fmul(alpha, x);
            let mask = p.compare(Compare::Above, input(1)?, zero);
            p.select(mask, x, scaled)
        }
        "moment" => moment(p, x, input(1)?, input(2)?),
        "moment_squared" => {
            let square = p.fmul(input(1)?, input(1)?);
            moment(p, x, square, input(2)?)
        }
        "adam_step" => {
            let (m, v, rate, epsilon) = (input(1)?, input(2)?, input(3)?, input(4)?);
            let root = p.unary(Unary::Sqrt, v);
            let d = p.fadd(root, epsilon);
            let q = p.fdiv(m, d);
            let step = p.fmul(rate, q);
            p.fsub(x, step)
        }
        "momentum" => {
            let kept = p.fmul(input(2)?, x);
            p.fadd(kept, input(1)?)
        }
        "descend" => {
            let step = p.fmul(input(2)?, input(1)?);
            p.fsub(x, step)
        }
        "tanh_weights_grad" => tanh_weights_grad(p, [x, input(1)?, input(2)?, input(3)?, input(4)?]),
        _ => return None,
    })
}

/// Codes round(h(x)·n).
fn encode_activation(p: &mut Program, attrs: &Attrs, x: Lane) -> Lane {
    let n = steps(attrs.int("bits", 1));
    let h = match attrs.word("bound", "clip") {
        "abs" => {
            let magnitude = p.abs(x);
            clip(p, magnitude, f32::NEG_INFINITY, 1.0)
        }
        "tanh" => {
            let (t, one, two) = (function(p, "tanh", x), p.float(1.0), p.float(2.0));
            let t = p.fadd(t, one);
            p.fdiv(t, two)
        }
        _ => clip(p, x, 0.0, 1.0),
    };
    let n = p.float(n);
    let u = p.fmul(h, n);
    let u = p.nearest(u);
    p.unary(Unary::ToInteger, u)
}

/// Levels 2c − n of gradients: c = clamp(rte(dy·f32(n/(2m)) + n/2 + ν)).
pub fn encode_gradient(p: &mut Program, bits: i64, [dy, m]: [Lane; 2], nu: Lane) -> Lane {
    let (n, zero, two) = (p.float(steps(bits)), p.float(0.0), p.float(2.0));
    let double = p.fmul(m, two);
    let r = p.fdiv(n, double);
    let none = p.compare(Compare::Equal, m, zero);
    let r = p.select(none, zero, r);
    let half = p.float(steps(bits) / 2.0);
    let v = p.fmul(dy, r);
    let v = p.fadd(v, half);
    let v = p.fadd(v, nu);
    let v = p.nearest(v);
    let v = clip(p, v, 0.0, steps(bits));
    let v = p.unary(Unary::ToInteger, v);
    let v = p.iadd(v, v);
    let n = p.integer(steps(bits) as i32);
    p.isub(v, n)
}

/// Elements that dropout keeps, times 1/(1 − rate) where they are floats; 24 random bits each.
pub fn dropout(p: &mut Program, x: Lane, bits: Lane, rate: f32, codes: bool) -> Lane {
    let mask = noise::keeps(p, bits, rate);
    if codes {
        let zero = p.integer(0);
        return p.select(mask, x, zero);
    }
    let (factor, zero) = (p.float(1.0 / (1.0 - rate)), p.float(0.0));
    let kept = p.fmul(x, factor);
    p.select(mask, kept, zero)
}

/// Levels of weights: ±1 of the weight's sign, or 2·rte(unit(t)·n) − n of t = tanh w. `None` for other operands.
pub fn encode_weights(p: &mut Program, codes: &CodeType, inputs: &[Lane]) -> Option<Lane> {
    let n = codes.top;
    let zero = p.float(0.0);
    match *inputs {
        [w] => {
            let (one, minus) = (p.integer(1), p.integer(-1));
            let up = p.compare(Compare::AtLeast, w, zero);
            Some(p.select(up, one, minus))
        }
        [t, top] => {
            let (two, half, steps) = (p.float(2.0), p.float(0.5), p.float(n as f32));
            let double = p.fmul(two, top);
            let unit = p.fdiv(t, double);
            let unit = p.fadd(unit, half);
            let some = p.compare(Compare::Above, top, zero);
            let unit = p.select(some, unit, half);
            let u = p.fmul(unit, steps);
            let u = p.nearest(u);
            let u = p.unary(Unary::ToInteger, u);
            let u = p.iadd(u, u);
            let n = p.integer(n as i32);
            Some(p.isub(u, n))
        }
        _ => None,
    }
}

/// β·m + (1 − β)·g
fn moment(p: &mut Program, m: Lane, g: Lane, beta: Lane) -> Lane {
    let one = p.float(1.0);
    let kept = p.fmul(beta, m);
    let rest = p.fsub(one, beta);
    let new = p.fmul(rest, g);
    p.fadd(kept, new)
}

fn tanh_weights_grad(p: &mut Program, [dwq, t, max, dot, ties]: [Lane; 5]) -> Lane {
    let (zero, one) = (p.float(0.0), p.float(1.0));
    let square = p.fmul(max, max);
    let q = p.fdiv(dot, square);
    let s = sign(p, t);
    let share = p.fmul(s, q);
    let share = p.fdiv(share, ties);
    let magnitude = p.abs(t);
    let top = p.compare(Compare::Equal, magnitude, max);
    let share = p.select(top, share, zero);
    let d = p.fdiv(dwq, max);
    let dt = p.fsub(d, share);
    let tt = p.fmul(t, t);
    let slope = p.fsub(one, tt);
    let dw = p.fmul(dt, slope);
    let none = p.compare(Compare::Equal, max, zero);
    p.select(none, zero, dw)
}
