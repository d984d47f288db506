//! exp, tanh, sigmoid and softmax. The project's own definitions: f64 polynomials built of exactly specified steps, so that
//! interpreter and generated code give the same bits on every machine.

use super::OpDef;
use super::unary::{map, same_type, unary};
use crate::graph::attrs::{AttrDef, Kind};

/// e^x: x is split into k·ln 2 + r with |r| ≤ ln 2 / 2, e^r is a Taylor polynomial of degree 12 by Horner, all in f64
/// with separate multiply and add, the result rounded once to f32.
pub fn exp(x: f32) -> f32 {
    exp64(f64::from(x)) as f32
}

/// Coefficients 1/12! … 1/0! of the polynomial of [`exp`].
pub const EXP: [f64; 13] = [
    1.0 / 479001600.0,
    1.0 / 39916800.0,
    1.0 / 3628800.0,
    1.0 / 362880.0,
    1.0 / 40320.0,
    1.0 / 5040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
    1.0,
    1.0,
];

/// [`exp`] before its rounding; arguments are limited to ±200 (f32 overflows and underflows well before).
pub fn exp64(x: f64) -> f64 {
    let x = if x > -200.0 { x } else { -200.0 };
    let x = if x < 200.0 { x } else { 200.0 };
    let k = (x * std::f64::consts::LOG2_E).round_ties_even();
    let r = x - k * std::f64::consts::LN_2;
    let p = EXP.iter().fold(0.0, |p, c| p * r + c);
    p * f64::from_bits(((1023 + k as i64) as u64) << 52)
}

/// tanh x = 1 − 2/(e^2x + 1), in f64, rounded once; odd by construction.
pub fn tanh(x: f32) -> f32 {
    let a = f64::from(x.abs());
    let t = 1.0 - 2.0 / (exp64(a + a) + 1.0);
    (t as f32).copysign(x)
}

/// 1/(1 + e^−x), in f64, rounded once.
pub fn sigmoid(x: f32) -> f32 {
    (1.0 / (1.0 + exp64(-f64::from(x)))) as f32
}

/// ln x of a positive f32: x = m·2^e with √½ ≤ m < √2, s = (m − 1)/(m + 1), ln m = 2·(s + s³/3 + … + s^19/19) by Horner in
/// s², ln x = e·ln 2 + ln m; all in f64 with separate multiply and add, rounded once. Not positive: meaningless, but finite.
pub fn log(x: f32) -> f32 {
    log64(f64::from(x)) as f32
}

/// [`log`] before its rounding, of a positive f64.
fn log64(x: f64) -> f64 {
    const ROOT_HALF: i64 = 0x3fe6_a09e_667f_3bcd;
    let bits = x.to_bits() as i64;
    // Wrapping, as compiled code does: negative numbers come here too.
    let e = bits.wrapping_sub(ROOT_HALF) >> 52;
    let m = f64::from_bits(bits.wrapping_sub(e << 52) as u64);
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let p = LOG.iter().fold(0.0, |p, c| p * z + c);
    e as f64 * std::f64::consts::LN_2 + (s + s) * p
}

/// ln x for every x: −∞ at 0, ∞ at ∞, NaN below 0 and of NaN.
fn full_log64(x: f64) -> f64 {
    let inside = log64(x);
    let inside = if x == f64::INFINITY { x } else { inside };
    let inside = if x == 0.0 { f64::NEG_INFINITY } else { inside };
    if x >= 0.0 { inside } else { f64::NAN }
}

/// ln x for every x, rounded once.
pub fn full_log(x: f32) -> f32 {
    full_log64(f64::from(x)) as f32
}

/// x^y = e^(y·ln |x|) in f64, rounded once. y = 0 gives 1; a negative x has the sign of an odd whole y, and NaN where y is
/// not whole.
pub fn pow(x: f32, y: f32) -> f32 {
    let (x, y) = (f64::from(x), f64::from(y));
    let magnitude = exp64(y * full_log64(x.abs()));
    let half = y * 0.5;
    let signed = if half.floor() == half { magnitude } else { -magnitude };
    let negative = if y.floor() == y { signed } else { f64::NAN };
    let power = if x < 0.0 { negative } else { magnitude };
    let power = if y == 0.0 { 1.0 } else { power };
    power as f32
}

/// Coefficients 1/19, 1/17 … 1/3, 1 of the polynomial of [`log`].
pub const LOG: [f64; 10] =
    [1.0 / 19.0, 1.0 / 17.0, 1.0 / 15.0, 1.0 / 13.0, 1.0 / 11.0, 1.0 / 9.0, 1.0 / 7.0, 1.0 / 5.0, 1.0 / 3.0, 1.0];

/// exp
pub static EXP_OP: OpDef = unary("exp", "e^x by the project's own f64 polynomial; NaN gives 0.", &[], |e| map(e, exp));
/// log
pub static LOG_OP: OpDef =
    unary("log", "ln x by the project's own f64 series; −∞ at 0, NaN below: ONNX Log.", &[], |e| map(e, full_log));
/// tanh
pub static TANH: OpDef = unary("tanh", "tanh x = 1 − 2/(e^2x + 1), in f64.", &[], |e| map(e, tanh));
/// sigmoid
pub static SIGMOID: OpDef = unary("sigmoid", "1/(1 + e^−x), in f64.", &[], |e| map(e, sigmoid));

/// softmax
pub static SOFTMAX: OpDef = OpDef {
    name: "softmax",
    doc: "Softmax along the last axis: e^(x−max) / Σ, the sum by the 4-lane tree of the numerics contract, rule 5.",
    inputs: (1, 1),
    attrs: &[AttrDef { name: "axis", kind: Kind::Int, required: false, doc: "must be the last axis, default −1" }],
    elementwise: false,
    infer: |attrs, types| {
        let out = same_type(attrs, types)?;
        let rank = out.first().map_or(0, |t| t.shape.rank()) as i64;
        let axis = attrs.int("axis", -1);
        if axis == -1 || axis == rank - 1 { Ok(out) } else { Err("softmax runs along the last axis only".to_owned()) }
    },
    eval: |e| {
        let width = e.shape().last().copied().unwrap_or(1).max(1);
        let mut out = Vec::new();
        for row in e.f32(0)?.chunks(width) {
            let top = row.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
            let powers: Vec<f32> = row.iter().map(|v| exp(v - top)).collect();
            let sum = super::reduce::lane_sum(&powers);
            out.extend(powers.iter().map(|p| p / sum));
        }
        e.floats(out)
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pow_is_correct_to_a_unit_in_the_last_place() {
        for x in [0.001f32, 0.3, 1.0, 1.5, 3.0, 17.0, 1e6, -2.0, -7.5] {
            for y in [-3.0f32, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0] {
                let expected = f64::from(x).powf(y.into()) as f32;
                assert!((pow(x, y) - expected).abs() <= expected.abs() * f32::EPSILON, "{x}^{y}: {}", pow(x, y));
            }
        }
        assert_eq!([pow(0.0, 2.0), pow(0.0, 0.0), pow(0.0, -1.0), pow(9.0, 0.5)], [0.0, 1.0, f32::INFINITY, 3.0]);
        assert!(pow(-1.0, 0.5).is_nan() && full_log(-1.0).is_nan());
        assert_eq!([full_log(0.0), full_log(f32::INFINITY)], [f32::NEG_INFINITY, f32::INFINITY]);
    }

    #[test]
    fn log_is_correct_to_a_unit_in_the_last_place() {
        let mut x = 1.0f32;
        while x < 1e6 {
            let expected = f64::from(x).ln() as f32;
            assert!((log(x) - expected).abs() <= expected.abs() * f32::EPSILON, "{x}: {} {expected}", log(x));
            x *= 1.000_7;
        }
        assert_eq!(log(1.0), 0.0);
        assert!(log(0.0).is_finite());
    }
}
