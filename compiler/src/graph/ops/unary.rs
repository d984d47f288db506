//! Element-wise operators of one input. All follow IEEE single precision; clip and relu turn NaN into the lower bound.

use super::{Eval, OpDef, f32_input};
use crate::graph::attrs::{AttrDef, Attrs, Kind};
use crate::graph::types::ValueType;
use dorefa_runtime::tensor::Tensor;

pub(super) fn same_type(_: &Attrs, types: &[&ValueType]) -> Result<Vec<ValueType>, String> {
    Ok(vec![ValueType::f32(f32_input(types, 0)?.shape.clone())])
}

pub(super) fn map(e: &Eval<'_>, f: impl Fn(f32) -> f32) -> Result<Tensor, String> {
    e.floats(e.f32(0)?.iter().map(|&v| f(v)).collect())
}

pub(super) const fn unary(
    name: &'static str,
    doc: &'static str,
    attrs: &'static [AttrDef],
    eval: fn(&Eval<'_>) -> Result<Tensor, String>,
) -> OpDef {
    OpDef { name, doc, inputs: (1, 1), attrs, elementwise: true, infer: same_type, eval }
}

/// −x
pub static NEG: OpDef = unary("neg", "−x.", &[], |e| map(e, |v| -v));
/// |x|
pub static ABS: OpDef = unary("abs", "The absolute value.", &[], |e| map(e, f32::abs));
/// √x
pub static SQRT: OpDef = unary("sqrt", "The square root, correctly rounded.", &[], |e| map(e, f32::sqrt));
/// sign
pub static SIGN: OpDef = unary("sign", "−1, 0 or 1: ONNX Sign; NaN gives 0.", &[], |e| map(e, sign));
/// step
pub static STEP: OpDef = unary("step", "x ≥ 0 ? 1 : −1, NaN gives −1: the sign with sign(0) = 1.", &[], |e| {
    map(e, |v| if v >= 0.0 { 1.0 } else { -1.0 })
});
/// max(x, 0)
pub static RELU: OpDef = unary("relu", "x > 0 ? x : 0.", &[], |e| map(e, |v| if v > 0.0 { v } else { 0.0 }));

/// −1, 0 or 1.
pub fn sign(v: f32) -> f32 {
    if v > 0.0 {
        1.0
    } else if v < 0.0 {
        -1.0
    } else {
        0.0
    }
}

/// Rounding modes by the names of QONNX.
pub const MODES: &[&str] = &["half_even", "ceil", "floor", "up", "down", "half_up", "half_down"];

/// Rounds to an integer. `up` is away from zero, `down` towards zero; `half_up` and `half_down` decide ties so.
pub fn round(mode: &str, v: f32) -> f32 {
    match mode {
        "ceil" => v.ceil(),
        "floor" => v.floor(),
        "up" => {
            if v > 0.0 {
                v.ceil()
            } else {
                v.floor()
            }
        }
        "down" => v.trunc(),
        "half_up" => v.round(),
        "half_down" => {
            let t = v.trunc();
            if (v - t).abs() > 0.5 { t + 1f32.copysign(v) } else { t }
        }
        _ => v.round_ties_even(),
    }
}

/// Round.
pub static ROUND: OpDef = unary(
    "round",
    "Rounds to an integer; half-even by default, as ONNX Round.",
    &[AttrDef { name: "mode", kind: Kind::Word(MODES), required: false, doc: "rounding mode, default half_even" }],
    |e| {
        let mode = e.attrs.word("mode", "half_even");
        map(e, |v| round(mode, v))
    },
);

/// LeakyRelu.
pub static LEAKY_RELU: OpDef = unary(
    "leaky_relu",
    "x > 0 ? x : alpha·x: ONNX LeakyRelu.",
    &[AttrDef { name: "alpha", kind: Kind::Float, required: false, doc: "slope below zero, default 0.01" }],
    |e| {
        let alpha = e.attrs.float("alpha", 0.01);
        map(e, |v| if v > 0.0 { v } else { alpha * v })
    },
);

/// The definition of clip: x > lo ? x : lo, then y < hi ? y : hi.
pub fn clip(v: f32, lo: f32, hi: f32) -> f32 {
    let y = if v > lo { v } else { lo };
    if y < hi { y } else { hi }
}

/// Clip.
pub static CLIP: OpDef = unary(
    "clip",
    "x > lo ? x : lo, then y < hi ? y : hi: ONNX Clip; NaN gives lo.",
    &[
        AttrDef { name: "lo", kind: Kind::Float, required: false, doc: "lower bound, default −∞" },
        AttrDef { name: "hi", kind: Kind::Float, required: false, doc: "upper bound, default +∞" },
    ],
    |e| {
        let (lo, hi) = (e.attrs.float("lo", f32::NEG_INFINITY), e.attrs.float("hi", f32::INFINITY));
        map(e, |v| clip(v, lo, hi))
    },
);
