//! exp, log, tanh, sigmoid, erf and softmax. The project's own definitions: f64 polynomials built of exactly specified steps,
//! so that interpreter and generated code give the same bits on every machine.

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

/// tanh x = 1 − 2/(e^2x + 1), in f64, rounded once; odd by construction. NaN gives 1.
pub fn tanh(x: f32) -> f32 {
    let a = f64::from(x.abs());
    let t = 1.0 - 2.0 / (exp64(a + a) + 1.0);
    signed(t as f32, x)
}

/// The magnitude `y` with the sign of `x`, positive where that is NaN: the sign of a NaN differs between machines, and between
/// expressions that are otherwise equal.
fn signed(y: f32, x: f32) -> f32 {
    y.copysign(if x.is_nan() { 1.0 } else { x })
}

/// 1/(1 + e^−x), in f64, rounded once.
pub fn sigmoid(x: f32) -> f32 {
    (1.0 / (1.0 + exp64(-f64::from(x)))) as f32
}

/// erf x: x·p(x²/8 − 1) of |x| limited to 4, beyond which f32 knows nothing but ±1; p is a polynomial of degree 22 by Horner,
/// all in f64 with separate multiply and add, rounded once; odd by construction. NaN gives 1.
pub fn erf(x: f32) -> f32 {
    let a = f64::from(x.abs());
    let a = if a < 4.0 { a } else { 4.0 };
    let u = a * a * 0.125 - 1.0;
    let p = ERF.iter().fold(0.0, |p, c| p * u + c);
    signed((a * p) as f32, x)
}

/// Coefficients of the polynomial of [`erf`]: erf(a)/a as a function of u = a²/8 − 1, interpolated at the 23 Chebyshev nodes
/// of −1 … 1; its relative error is below 4e-13.
pub const ERF: [f64; 23] = [
    1.4883137738024427e-6,
    -4.586436654384096e-6,
    5.069598611100321e-6,
    -1.2635295810882527e-5,
    5.0516480984461565e-5,
    -0.00012649419013464726,
    0.0002730868781407246,
    -0.0006048631720031436,
    0.0012940700205056187,
    -0.0025830290325423205,
    0.004852986669306072,
    -0.008604359881842768,
    0.01434973873577006,
    -0.02247402944863727,
    0.033060611596419896,
    -0.04576504084136504,
    0.05988690674393009,
    -0.07472787156784315,
    0.09020899404424358,
    -0.10771044230403215,
    0.13167511689547207,
    -0.17657623330392602,
    0.35353099564340495,
];

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
pub static TANH: OpDef = unary("tanh", "tanh x = 1 − 2/(e^2x + 1), in f64; NaN gives 1.", &[], |e| map(e, tanh));
/// sigmoid
pub static SIGMOID: OpDef = unary("sigmoid", "1/(1 + e^−x), in f64.", &[], |e| map(e, sigmoid));
/// erf
pub static ERF_OP: OpDef = unary(
    "erf",
    "The error function 2/√π·∫₀ˣ e^−t² dt by the project's own f64 polynomial: ONNX Erf; NaN gives 1.",
    &[],
    |e| map(e, erf),
);

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
    fn erf_is_correct_to_a_unit_in_the_last_place() {
        // The series Σ 2ⁿ·x^(2n+1)/(2n+1)!!·2/√π·e^−x², all of whose terms are positive.
        let series = |x: f64| {
            let (mut term, mut sum, mut n) = (x, x, 1.0);
            while term > sum * 1e-18 {
                term *= 2.0 * x * x / (2.0 * n + 1.0);
                sum += term;
                n += 1.0;
            }
            sum * std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp()
        };
        let mut x = 1e-6f32;
        while x < 6.0 {
            let expected = series(x.into()) as f32;
            assert!((erf(x) - expected).abs() <= expected * f32::EPSILON / 2.0, "{x}: {} {expected}", erf(x));
            assert_eq!(erf(-x), -erf(x));
            x *= 1.000_7;
        }
        assert_eq!([erf(0.0), erf(1e-30), erf(4.0), erf(f32::INFINITY)], [0.0, 1.128_379_1e-30, 1.0, 1.0]);
        assert!(erf(-0.0).is_sign_negative());
    }

    #[test]
    fn the_sign_of_nan_is_nobodys() {
        for f in [tanh, erf] {
            assert_eq!([f(f32::NAN), f(-f32::NAN)], [1.0, 1.0]);
        }
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
