//! Element-wise operators that need nothing but their operands' lanes, in the order and rounding of the operator table: the
//! chain of an inference kernel and the fused steps of training go through [`apply`]. It must never know where lanes come
//! from, or how many there are.

use super::program::{Binary, Compare, Lane, Op, Program, Type, Unary};
use crate::graph::attrs::Attrs;
use crate::graph::ops::steps;

/// The operator `op` on lanes; `None` if it needs more than lanes, or operands are missing.
pub fn apply(p: &mut Program, op: &str, attrs: &Attrs, inputs: &[Lane]) -> Option<Lane> {
    let x = *inputs.first()?;
    let second = inputs.get(1).copied();
    Some(match op {
        "add" => p.fadd(x, second?),
        "sub" => p.fsub(x, second?),
        "mul" => p.fmul(x, second?),
        "div" => p.fdiv(x, second?),
        "min" => p.less(x, second?),
        "max" => p.greater(x, second?),
        "neg" => p.unary(Unary::Neg, x),
        "abs" => p.abs(x),
        "sqrt" => p.unary(Unary::Sqrt, x),
        "relu" => {
            let zero = p.float(0.0);
            p.greater(x, zero)
        }
        "leaky_relu" => {
            let slope = p.float(attrs.float("alpha", 0.01));
            leaky(p, x, slope)
        }
        "prelu" => leaky(p, x, second?),
        "equal" => truth(p, Compare::Equal, x, second?),
        "greater" => truth(p, Compare::Above, x, second?),
        "greater_equal" => truth(p, Compare::AtLeast, x, second?),
        "select" => {
            let (zero, third) = (p.float(0.0), *inputs.get(2)?);
            let none = p.compare(Compare::Equal, x, zero);
            p.select(none, third, second?)
        }
        "pow" => p.push(Op::Power(x, second?), Type::F32, super::program::Level::Constant),
        "clip" => clip(p, x, attrs.float("lo", f32::NEG_INFINITY), attrs.float("hi", f32::INFINITY)),
        "step" => {
            let (zero, one, minus) = (p.float(0.0), p.float(1.0), p.float(-1.0));
            let mask = p.compare(Compare::AtLeast, x, zero);
            p.select(mask, one, minus)
        }
        "sign" => sign(p, x),
        "round" => round(p, attrs.word("mode", "half_even"), x),
        "exp" => function(p, "exp", x),
        "log" => function(p, "log", x),
        "tanh" => function(p, "tanh", x),
        "sigmoid" => function(p, "sigmoid", x),
        "erf" => function(p, "erf", x),
        "quantize_gradient" | "reshape" => x,
        // Other bounds and widths are expanded by the passes.
        "quantize_activation" if attrs.word("bound", "clip") == "clip" && attrs.int("bits", 32) <= 16 => {
            let n = p.float(steps(attrs.int("bits", 32)));
            let bounded = clip(p, x, 0.0, 1.0);
            let scaled = p.fmul(bounded, n);
            let r = p.nearest(scaled);
            p.fdiv(r, n)
        }
        _ => return None,
    })
}

/// x > 0 ? x : slope·x
fn leaky(p: &mut Program, x: Lane, slope: Lane) -> Lane {
    let (zero, scaled) = (p.float(0.0), p.fmul(slope, x));
    let mask = p.compare(Compare::Above, x, zero);
    p.select(mask, x, scaled)
}

/// 1 where the comparison holds, else 0.
fn truth(p: &mut Program, compare: Compare, a: Lane, b: Lane) -> Lane {
    let (zero, one) = (p.float(0.0), p.float(1.0));
    let mask = p.compare(compare, a, b);
    p.select(mask, one, zero)
}

/// x > lo ? x : lo, then y < hi ? y : hi: NaN gives lo.
pub fn clip(p: &mut Program, x: Lane, lo: f32, hi: f32) -> Lane {
    let (lo, hi) = (p.float(lo), p.float(hi));
    let y = p.greater(x, lo);
    p.less(y, hi)
}

/// 1, −1 or 0.
pub fn sign(p: &mut Program, x: Lane) -> Lane {
    let (zero, one, minus) = (p.float(0.0), p.float(1.0), p.float(-1.0));
    let (up, down) = (p.compare(Compare::Above, x, zero), p.compare(Compare::Above, zero, x));
    let low = p.select(down, minus, zero);
    p.select(up, one, low)
}

/// exp, log, tanh, sigmoid or erf.
pub fn function(p: &mut Program, name: &'static str, x: Lane) -> Lane {
    p.push(Op::Function(name, x), Type::F32, super::program::Level::Constant)
}

/// A rounding mode.
pub fn round(p: &mut Program, mode: &str, x: Lane) -> Lane {
    match mode {
        "ceil" => p.unary(Unary::Ceil, x),
        "floor" => p.unary(Unary::Floor, x),
        "down" => p.unary(Unary::Trunc, x),
        "up" => {
            let (zero, up, down) = (p.float(0.0), p.unary(Unary::Ceil, x), p.unary(Unary::Floor, x));
            let mask = p.compare(Compare::Above, x, zero);
            p.select(mask, up, down)
        }
        "half_up" | "half_down" => {
            // t plus or minus one where the fraction reaches (half_up) or passes (half_down) one half.
            let t = p.unary(Unary::Trunc, x);
            let fraction = p.fsub(x, t);
            let fraction = p.abs(fraction);
            let half = p.float(0.5);
            let compare = if mode == "half_up" { Compare::AtLeast } else { Compare::Above };
            let mask = p.compare(compare, fraction, half);
            let away = one_with_sign_of(p, x);
            let further = p.fadd(t, away);
            p.select(mask, further, t)
        }
        _ => p.nearest(x),
    }
}

/// 1 or −1 as the sign bit says.
fn one_with_sign_of(p: &mut Program, x: Lane) -> Lane {
    let (one, top) = (p.float(1.0), p.float(-0.0));
    let mut bits = |op, a, b| p.push(Op::Binary(op, a, b), Type::F32, super::program::Level::Constant);
    let sign = bits(Binary::And, x, top);
    bits(Binary::Or, one, sign)
}
