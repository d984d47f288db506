//! Quantisers, f32 in and f32 out: the file's own arithmetic, step by step. `recognize` expands those on activations into
//! primitive steps of the same bits; `lift` turns the result into codes.

use super::unary::{MODES, clip, map, round, same_type};
use super::{Eval, OpDef, f32_input};
use crate::graph::attrs::{AttrDef, Kind};
use crate::graph::types::{Dim, Shape, ValueType};
use dorefa_runtime::tensor::Tensor;

const BITS: AttrDef = AttrDef { name: "bits", kind: Kind::Int, required: true, doc: "bits, 1 … 8; 32 is float" };

/// Levels 2^bits − 1 as a float.
pub fn steps(bits: i64) -> f32 {
    ((1u64 << bits.clamp(1, 24)) - 1) as f32
}

fn check_bits(bits: i64) -> Result<(), String> {
    if (1..=16).contains(&bits) || bits == 32 {
        Ok(())
    } else {
        Err(format!("{bits} bits: 1 … 16 or 32 are supported"))
    }
}

/// DoReFa's weight quantiser as codes: (codes u, scale E or 1). Value = scale·(2u − n)/n. Paper §2.3.
pub fn weight_codes(bits: i64, w: &[f32]) -> (Vec<i32>, f32) {
    if bits == 1 {
        let magnitudes: Vec<f32> = w.iter().map(|v| v.abs()).collect();
        let e = super::reduce::lane_sum(&magnitudes) / w.len().max(1) as f32;
        return (w.iter().map(|&v| i32::from(v >= 0.0)).collect(), e);
    }
    let n = steps(bits);
    let t: Vec<f32> = w.iter().map(|&v| super::activation::tanh(v)).collect();
    let top = t.iter().fold(0f32, |a, b| a.max(b.abs()));
    (t.iter().map(|&v| weight_code(v, top, n)).collect(), 1.0)
}

/// The code of one weight of k ≥ 2 bits from t = tanh(w) and the greatest |t|; `n` = 2^k − 1.
pub fn weight_code(t: f32, top: f32, n: f32) -> i32 {
    let unit = if top > 0.0 { t / (2.0 * top) + 0.5 } else { 0.5 };
    (unit * n).round_ties_even() as i32
}

/// The attribute that names h(x) of [`bounded`].
pub(super) const BOUND: AttrDef =
    AttrDef { name: "bound", kind: Kind::Word(&["clip", "abs", "tanh"]), required: false, doc: "h, default clip" };

/// h(x) of the activation quantiser, in 0 … 1.
pub fn bounded(bound: &str, x: f32) -> f32 {
    match bound {
        "abs" => clip(x.abs(), f32::NEG_INFINITY, 1.0),
        "tanh" => (super::activation::tanh(x) + 1.0) / 2.0,
        _ => clip(x, 0.0, 1.0),
    }
}

/// DoReFa weights.
pub static QUANTIZE_WEIGHTS: OpDef = OpDef {
    name: "quantize_weights",
    doc: "DoReFa weights (paper §2.3): bits 1: E·sign(w), E the mean of |w| (4-lane sum), sign(0) = 1; bits k: \
          2·round(n·(tanh w / (2·max|tanh w|) + ½))/n − 1, n = 2^k − 1; bits 32: w.",
    inputs: (1, 1),
    attrs: &[BITS],
    elementwise: false,
    infer: |attrs, types| check_bits(attrs.int("bits", 32)).and_then(|()| same_type(attrs, types)),
    eval: |e| {
        let bits = e.attrs.int("bits", 32);
        if bits == 32 {
            return Ok(e.input(0)?.clone());
        }
        let (codes, scale) = weight_codes(bits, e.f32(0)?);
        let n = steps(bits);
        e.floats(
            codes
                .iter()
                .map(|&u| if bits == 1 { (2 * u - 1) as f32 * scale } else { 2.0 * (u as f32 / n) - 1.0 })
                .collect(),
        )
    },
};

/// DoReFa activations.
pub static QUANTIZE_ACTIVATION: OpDef = OpDef {
    name: "quantize_activation",
    doc: "DoReFa activations (paper §2.4): round(h(x)·n)/n, n = 2^bits − 1; h is clip to 0 … 1, min(1, |x|) (`abs`) or \
          (tanh(x)+1)/2 (`tanh`); bits 32: relu.",
    inputs: (1, 1),
    attrs: &[BITS, BOUND],
    elementwise: true,
    infer: |attrs, types| check_bits(attrs.int("bits", 32)).and_then(|()| same_type(attrs, types)),
    eval: |e| {
        let bits = e.attrs.int("bits", 32);
        if bits == 32 {
            return map(e, |v| if v > 0.0 { v } else { 0.0 });
        }
        let n = steps(bits);
        let bound = e.attrs.word("bound", "clip");
        map(e, |v| (bounded(bound, v) * n).round_ties_even() / n)
    },
};

/// DoReFa gradients.
pub static QUANTIZE_GRADIENT: OpDef = OpDef {
    name: "quantize_gradient",
    doc: "The place where DoReFa quantises the gradient (paper §2.5): the identity in the forward direction.",
    inputs: (1, 1),
    attrs: &[BITS],
    elementwise: true,
    infer: |attrs, types| check_bits(attrs.int("bits", 32)).and_then(|()| same_type(attrs, types)),
    eval: |e| Ok(e.input(0)?.clone()),
};

/// Bounds of QONNX Quant: signed [−2^(b−1)+narrow, 2^(b−1)−1], unsigned [0, 2^b−1−narrow].
pub fn quant_bounds(bits: i64, signed: bool, narrow: bool) -> (f32, f32) {
    let n = f32::from(narrow);
    if signed {
        let half = (1u64 << (bits - 1).clamp(0, 31)) as f32;
        (n - half, half - 1.0)
    } else {
        (0.0, (1u64 << bits.clamp(1, 32)) as f32 - 1.0 - n)
    }
}

/// QONNX Quant.
pub static QUANT: OpDef = OpDef {
    name: "quant",
    doc: "QONNX Quant / IntQuant: t = x/s + z; clamp; round; (t − z)·s. Inputs x, s, z, which broadcast. Signed 1-bit \
          ones mean ±1 in that dialect and are imported as bipolar_quant.",
    inputs: (3, 3),
    attrs: &[
        AttrDef { name: "bits", kind: Kind::Int, required: true, doc: "bits, 1 … 24" },
        AttrDef { name: "signed", kind: Kind::Bool, required: false, doc: "signed levels, default true" },
        AttrDef { name: "narrow", kind: Kind::Bool, required: false, doc: "without the extreme level, default false" },
        AttrDef { name: "mode", kind: Kind::Word(MODES), required: false, doc: "rounding mode, default half_even" },
    ],
    elementwise: true,
    infer: |attrs, types| {
        if !(1..=24).contains(&attrs.int("bits", 8)) {
            return Err("bits is 1 … 24".to_owned());
        }
        parameters(types)?;
        same_type(attrs, types)
    },
    eval: |e| {
        let (lo, hi) =
            quant_bounds(e.attrs.int("bits", 8), e.attrs.bool("signed", true), e.attrs.bool("narrow", false));
        let mode = e.attrs.word("mode", "half_even");
        zip3(e, |x, s, z| (round(mode, clip(x / s + z, lo, hi)) - z) * s)
    },
};

/// Checks that scale and zero point broadcast to the shape of what they quantise, without changing it.
fn parameters(types: &[&ValueType]) -> Result<(), String> {
    let x = &f32_input(types, 0)?.shape;
    for i in 1..types.len() {
        let own = &f32_input(types, i)?.shape;
        let pairs = own.0.iter().rev().zip(x.0.iter().rev());
        if own.rank() > x.rank() || !pairs.into_iter().all(|(a, b)| a == b || *a == Dim::Fixed(1)) {
            return Err(format!("input {i} of shape {own} does not broadcast to {x}"));
        }
    }
    Ok(())
}

fn zip3(e: &Eval<'_>, f: impl Fn(f32, f32, f32) -> f32) -> Result<Tensor, String> {
    let shape = e.shape();
    let read = |i: usize| Ok::<_, String>(super::binary::broadcast(e.input(i)?, e.f32(i)?, &shape));
    let (s, z) = (read(1)?, read(2)?);
    e.floats(e.f32(0)?.iter().enumerate().map(|(i, &x)| f(x, s(i), z(i))).collect())
}

/// BipolarQuant.
pub static BIPOLAR_QUANT: OpDef = OpDef {
    name: "bipolar_quant",
    doc: "QONNX BipolarQuant: x ≥ 0 ? s : −s. Inputs x and s, which broadcasts.",
    inputs: (2, 2),
    attrs: &[],
    elementwise: true,
    infer: |attrs, types| parameters(types).and_then(|()| same_type(attrs, types)),
    eval: |e| {
        let shape = e.shape();
        let s = super::binary::broadcast(e.input(1)?, e.f32(1)?, &shape);
        e.floats(e.f32(0)?.iter().enumerate().map(|(i, &x)| if x >= 0.0 { s(i) } else { -s(i) }).collect())
    },
};

/// MultiThreshold.
pub static MULTI_THRESHOLD: OpDef = OpDef {
    name: "multi_threshold",
    doc: "FINN MultiThreshold without its scale and bias, which the importer adds as mul and add: the count of thresholds \
          T (C or 1, B) of the element's channel (axis 1) with x ≥ T.",
    inputs: (2, 2),
    attrs: &[],
    elementwise: true,
    infer: |attrs, types| {
        let x = f32_input(types, 0)?;
        let t = f32_input(types, 1)?;
        let channels = x.shape.per_sample().first().copied().unwrap_or(1);
        let rows = t.shape.per_sample();
        if t.shape.rank() != 2
            || t.shape == Shape::default()
            || (rows.first() != Some(&1) && rows.first() != Some(&channels))
        {
            return Err(format!("thresholds must have shape (C or 1, B) for {channels} channels, have {}", t.shape));
        }
        let out: Result<Vec<ValueType>, String> = same_type(attrs, types);
        out
    },
    eval: |e| {
        let &[rows, count] = e.input(1)?.shape() else {
            return Err("thresholds must have two axes".to_owned());
        };
        let t = e.f32(1)?;
        let inner = e.shape().iter().skip(2).product::<usize>().max(1);
        let out = e.f32(0)?.iter().enumerate().map(|(i, &x)| {
            let row = i / inner % rows.max(1);
            t.get(row * count..(row + 1) * count).unwrap_or(&[]).iter().filter(|&&t| x >= t).count() as f32
        });
        e.floats(out.collect())
    },
};
