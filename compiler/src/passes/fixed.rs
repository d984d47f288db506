//! Fixed-point weights, as part of `lift`: what a float layer's weights become where its input is codes (numerics
//! contract, rule 2).
//!
//! ```text
//! before   v = decode(u)   y = conv(v, w, bias)                        w any floats, u pixels or activation codes
//! after    a = int_conv(u, W)   d = decode(a)   y = add(d, bias)       W = round(w·2^e), e one an output
//! ```
//!
//! Pixels with a mean and a deviation a channel come by a table, `lookup`. Where its values are affine in the pixel, slopes
//! go into the weights and the rest becomes the weights of one more channel, which holds the greatest code everywhere but in
//! the padding (`append_top`), where the float layer has zeros.
//!
//! The accumulator is exact, so the only error of a sum is that of its rounded weights: at most ½·2^−e a product of level 1.
//! That is what [`Fixed::bound`] says. A float chain of K products may be off by K·2⁻²⁴·Σ|w||x|, usually more.

use crate::graph::scale::Scale;
use crate::graph::types::CodeType;
use dorefa_runtime::tensor::{Data, Tensor};

/// Greatest magnitude of a fixed-point weight: three balanced digits of 8 bits, 127·(1 + 2⁸ + 2¹⁶).
pub const GREATEST: i64 = 8_355_711;

/// Accumulators are smaller in magnitude than 2 to this power: what is above their low 8 bits then fits 32.
pub const ACCUMULATOR_BITS: u32 = 39;

/// Levels under a window at most, those between its taps included: the sums of one digit's products then fit 32 bits for
/// any levels of 8 bits, and a kernel can hold what a position reads.
pub const WINDOW: usize = 1 << 16;

/// The weights of a layer in fixed point.
pub struct Fixed {
    /// Codes of the weights' shape.
    pub codes: Tensor,
    /// Their type; a scale 2^−e an output.
    pub ty: CodeType,
    /// Greatest error of a sum: ½·Σ_taps 2^−e·max|level|·scale of the input, of the output where that is greatest.
    pub bound: f64,
}

/// The weights (O, …) in fixed point for an input of type `input`; `None` where they are not finite floats or too far apart, or
/// the input has a scale a channel.
pub fn weights(tensor: &Tensor, input: &CodeType) -> Option<Fixed> {
    let w: Vec<f64> = tensor.as_f32()?.iter().map(|&v| f64::from(v)).collect();
    of_rows(tensor.shape(), &w, input)
}

/// [`weights`] (O,C,KH,KW) for an input whose values are those of `table`, (C or 1, top + 1), in place of its scale's. The
/// result has one more input channel where code 0 is not worth 0. `None` also where the values are not affine in the code.
pub fn weights_of_values(tensor: &Tensor, input: &CodeType, table: &Tensor) -> Option<Fixed> {
    let [outputs, channels, kh, kw] = *tensor.shape().first_chunk::<4>()?;
    let [scale] = *input.scale else { return None };
    let (w, values, taps, top) = (tensor.as_f32()?, table.as_f32()?, kh * kw, f64::from(input.top));
    let lines: Vec<(f64, f64)> = values.chunks(input.top as usize + 1).map(line).collect::<Option<_>>()?;
    if input.offset != 0 || input.step != 1 || !(lines.len() == 1 || lines.len() == channels) || taps == 0 {
        return None;
    }
    let appended = lines.iter().any(|l| l.0 != 0.0);
    let mut folded = Vec::with_capacity(outputs * (channels + 1) * taps);
    for row in w.chunks(channels * taps) {
        let mut constant = vec![0f64; taps];
        for (c, plane) in row.chunks(taps).enumerate() {
            let &(first, slope) = lines.get(if lines.len() == 1 { 0 } else { c })?;
            for (&w, sum) in plane.iter().zip(&mut constant) {
                folded.push(f64::from(w) * slope / scale.to_f64());
                *sum += f64::from(w) * first / (top * scale.to_f64());
            }
        }
        folded.extend(constant.into_iter().filter(|_| appended));
    }
    of_rows(&[outputs, channels + usize::from(appended), kh, kw], &folded, input)
}

/// The value of code 0 and the slope, where all values lie on a line but for their rounding to f32.
fn line(values: &[f32]) -> Option<(f64, f64)> {
    let (&first, &last) = values.first().zip(values.last())?;
    let (first, slope) = (f64::from(first), (f64::from(last) - f64::from(first)) / (values.len() - 1).max(1) as f64);
    let most = values.iter().fold(0f64, |a, v| a.max(f64::from(v.abs())));
    let on = |(i, &v): (usize, &f32)| (f64::from(v) - (first + slope * i as f64)).abs() <= most * 2f64.powi(-23);
    values.iter().enumerate().all(on).then_some((first, slope))
}

fn of_rows(shape: &[usize], w: &[f64], input: &CodeType) -> Option<Fixed> {
    let [scale] = *input.scale else { return None };
    let row = w.len() / (*shape.first()?).max(1);
    if !w.iter().all(|v| v.is_finite()) {
        return None;
    }
    if row == 0 {
        return None;
    }
    let (mut levels, mut scales, mut bound) = (Vec::with_capacity(w.len()), Vec::new(), 0f64);
    let (lo, hi) = input.levels();
    for row in w.chunks(row) {
        let (e, fixed) = output(row, (lo, hi))?;
        levels.extend(fixed);
        scales.push(Scale::power_of_two(-e)?);
        let most = lo.abs().max(hi.abs()) as f64;
        bound = bound.max(row.len() as f64 * most * scale.to_f64() * 0.5 * 2f64.powi(-e));
    }
    let (least, most) = (*levels.iter().min()?, *levels.iter().max()?);
    let ty = CodeType {
        top: u32::try_from((most - least).max(1)).ok()?,
        step: 1,
        offset: i32::try_from(least).ok()?,
        scale: scales.into(),
    };
    let codes = levels.iter().map(|l| (l - least) as i32).collect();
    Some(Fixed { codes: Tensor::new(shape, Data::I32(codes)).ok()?, ty, bound })
}

/// The exponent e and round(w·2^e) of one output's weights: e = ⌊log₂(GREATEST / max|w|)⌋, lowered until every accumulator
/// of the levels `lo` … `hi` is below 2 to the [`ACCUMULATOR_BITS`] in magnitude.
fn output(w: &[f64], levels: (i64, i64)) -> Option<(i32, Vec<i64>)> {
    let most = w.iter().fold(0f64, |a, v| a.max(v.abs()));
    if most == 0.0 {
        return Some((0, vec![0; w.len()]));
    }
    let fits = |e: i32| most * 2f64.powi(e) <= GREATEST as f64;
    let mut e = (GREATEST as f64 / most).log2() as i32 + 1;
    while !fits(e) {
        e -= 1;
    }
    for _ in 0..64 {
        // Multiplying by a power of two is exact.
        let fixed: Vec<i64> = w.iter().map(|&v| (v * 2f64.powi(e)).round_ties_even() as i64).collect();
        if reach(&fixed, levels)? < 1 << ACCUMULATOR_BITS {
            return keeps_ordinary_weights(w, e).then_some((e, fixed));
        }
        e -= 1;
    }
    None
}

/// Whether ½·2^−e is within what `lift` may change, K·2⁻²²·|w|, at the median of the weights that are not 0. One weight that is
/// far greater than the others would take their digits: then the layer stays float.
fn keeps_ordinary_weights(w: &[f64], e: i32) -> bool {
    let mut sizes: Vec<f64> = w.iter().map(|v| v.abs()).filter(|&v| v > 0.0).collect();
    sizes.sort_by(f64::total_cmp);
    let median = sizes.get(sizes.len() / 2).copied().unwrap_or(0.0);
    0.5 * 2f64.powi(-e) <= w.len() as f64 * 2f64.powi(-22) * median
}

/// The greatest magnitude of Σ weight·level over levels `lo` … `hi`, some of which may be absent.
pub fn reach(weights: &[i64], (lo, hi): (i64, i64)) -> Option<i64> {
    let sum = |sign: i64| weights.iter().map(|w| (w * sign).max(0)).sum::<i64>();
    let (positive, negative, up, down) = (sum(1), sum(-1), hi.max(0), (-lo).max(0));
    let side = |a: i64, b: i64| a.checked_mul(up)?.checked_add(b.checked_mul(down)?);
    Some(side(positive, negative)?.max(side(negative, positive)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_that_takes_the_others_digits_is_refused() {
        let mut w = vec![0.01; 64];
        assert!(output(&w, (0, 255)).is_some());
        w[5] = 1e4;
        assert!(output(&w, (0, 255)).is_none());
    }

    fn pixels() -> CodeType {
        CodeType { top: 255, step: 1, offset: 0, scale: vec![Scale::power_of_two(-8).expect("small")].into() }
    }

    fn levels(fixed: &Fixed) -> Vec<i64> {
        fixed.codes.as_i32().expect("codes").iter().map(|&u| fixed.ty.level(u.into())).collect()
    }

    #[test]
    fn exponents_are_as_great_as_the_digits_allow() {
        let power = |e| Scale::power_of_two(e).expect("small");
        for (most, e) in [(1.0, 22), (1.9, 22), (1.991, 22), (1.9922, 21), (0.5, 23), (3e-38, 147), (1e-45, 171)] {
            let w = Tensor::f32([2, 3], vec![most, -most / 3.0, 0.0, 0.0, 0.0, 0.0]).expect("fits");
            let fixed = weights(&w, &pixels()).expect("fixed");
            assert_eq!(fixed.ty.scale[0], power(-e), "{most}");
            assert_eq!(fixed.ty.scale[1], Scale::ONE);
            let got = levels(&fixed);
            assert_eq!(got[0], (f64::from(most) * 2f64.powi(e)).round_ties_even() as i64);
            assert!(got[0] <= GREATEST && (got[0] > GREATEST / 2 || most < 1e-40), "{most}: {}", got[0]);
            assert_eq!(got[2..], [0; 4]);
        }
    }

    #[test]
    fn exponents_are_lowered_where_accumulators_would_overflow() {
        // alexnet's first layer: 3·12·12 products of 8 bits. 432·255·8355711 exceeds 2³⁹, half of it does not.
        let all = |values: Vec<f32>| {
            let w = Tensor::f32([1, 432], values).expect("fits");
            let fixed = weights(&w, &pixels()).expect("fixed");
            assert!(reach(&levels(&fixed), (0, 255)).expect("fits") < 1 << 39);
            fixed.ty.scale[0].to_f64()
        };
        let greatest = GREATEST as f32 / (1 << 23) as f32;
        assert_eq!(all(vec![greatest; 432]), 2f64.powi(-22));
        assert_eq!(all(vec![-greatest; 432]), 2f64.powi(-22));
        let alternating: Vec<f32> = (0..432).map(|i| if i % 2 == 0 { greatest } else { -greatest }).collect();
        assert_eq!(all(alternating), 2f64.powi(-23));
        // 257 products never overflow.
        let w = Tensor::f32([1, 257], vec![greatest; 257]).expect("fits");
        assert_eq!(weights(&w, &pixels()).expect("fixed").ty.scale[0].to_f64(), 2f64.powi(-23));
    }

    #[test]
    fn signed_levels_count_both_ways() {
        assert_eq!(reach(&[3, -2], (-1, 1)), Some(5));
        assert_eq!(reach(&[3, -2], (0, 255)), Some(765));
        assert_eq!(reach(&[-3, 2], (-128, 127)), Some(3 * 128 + 2 * 127));
    }

    #[test]
    fn the_error_bound_holds() {
        let w = crate::passes::testing::noise(50, 3);
        let fixed = weights(&Tensor::f32([1, 50], w.clone()).expect("fits"), &pixels()).expect("fixed");
        let x: Vec<i64> = (0..50).map(|i| i * 37 % 256).collect();
        let exact: f64 = w.iter().zip(&x).map(|(&w, &x)| f64::from(w) * x as f64 / 256.0).sum();
        let acc: i64 = levels(&fixed).iter().zip(&x).map(|(w, x)| w * x).sum();
        let value = acc as f64 * fixed.ty.scale[0].to_f64() / 256.0;
        assert!((value - exact).abs() <= fixed.bound && fixed.bound < 1e-5, "{value} {exact} {}", fixed.bound);
    }

    #[test]
    fn tables_fold_into_weights() {
        let w = crate::passes::testing::noise(2 * 2 * 3, 5);
        let tensor = Tensor::f32([2, 2, 3, 1], w.clone()).expect("fits");
        let value = |c: usize, p: usize| ((p as f64 / 255.0 - [0.485, 0.406][c]) / [0.229, -0.225][c]) as f32;
        let table = |f: &dyn Fn(usize, usize) -> f32| {
            Tensor::f32([2, 256], (0..512).map(|i| f(i / 256, i % 256)).collect()).expect("fits")
        };
        let fixed = weights_of_values(&tensor, &pixels(), &table(&value)).expect("fixed");
        assert_eq!(fixed.codes.shape(), [2, 3, 3, 1]);
        let levels = levels(&fixed);
        for o in 0..2 {
            for tap in 0..3 {
                let pixels = [7 + 31 * tap as i64, 250 - 9 * tap as i64, 255];
                let at = |c: usize| levels[(o * 3 + c) * 3 + tap] as f64;
                let sum: f64 =
                    (0..3).map(|c| at(c) * pixels[c] as f64).sum::<f64>() * fixed.ty.scale[o].to_f64() / 256.0;
                let want: f64 =
                    (0..2).map(|c| f64::from(w[(o * 2 + c) * 3 + tap] * value(c, pixels[c] as usize))).sum();
                assert!((sum - want).abs() < 1e-5, "{sum} {want}");
            }
        }
        // No mean, no channel; a curve is no line.
        let plain = weights_of_values(&tensor, &pixels(), &table(&|_, p| p as f32 / 128.0)).expect("fixed");
        assert_eq!(plain.codes.shape(), [2, 2, 3, 1]);
        assert!(weights_of_values(&tensor, &pixels(), &table(&|_, p| (p * p) as f32)).is_none());
    }
}
