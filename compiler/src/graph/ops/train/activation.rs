//! Activation quantisers that give codes, and the derivatives of activations.

use super::super::quantize::bounded;
use super::super::unary::sign;
use super::super::{Eval, OpDef, f32_input, steps};
use super::Spread::Same;
use super::{like_first, zip};
use crate::graph::attrs::{AttrDef, Kind};
use crate::graph::scale::Scale;
use crate::graph::types::{CodeType, Elem};
use dorefa_runtime::tensor::Tensor;

/// `bits` of a quantiser that gives codes.
pub(super) const BITS: AttrDef = AttrDef { name: "bits", kind: Kind::Int, required: true, doc: "bits, 1 … 16" };

/// Codes 0 … n, n = 2^bits − 1, of levels `step`·u + offset (`-n` where `centred`, else 0) worth 1/n each.
pub(super) fn code_type(bits: i64, centred: bool) -> Result<CodeType, String> {
    let bits = u32::try_from(bits).ok().filter(|b| (1..=16).contains(b)).ok_or("bits is 1 … 16")?;
    let top = (1u32 << bits) - 1;
    let scale = Scale::ratio(1, top.into()).ok_or("has no scale")?;
    let (step, offset) = if centred { (2, -(top as i32)) } else { (1, 0) };
    Ok(CodeType { top, step, offset, scale: [scale].into() })
}

/// DoReFa activations as codes.
pub static ENCODE_ACTIVATION: OpDef = OpDef {
    name: "encode_activation",
    doc: "The codes of quantize_activation: u = round(h(x)·n), n = 2^bits − 1, top n, step 1, offset 0, scale 1/n.",
    inputs: (1, 1),
    attrs: &[BITS, super::super::quantize::BOUND],
    elementwise: true,
    infer: |attrs, types| {
        Ok(vec![f32_input(types, 0)?.with_elem(Elem::Codes(code_type(attrs.int("bits", 0), false)?))])
    },
    eval: |e| {
        let (n, bound) = (steps(e.attrs.int("bits", 0)), e.attrs.word("bound", "clip"));
        e.codes(e.f32(0)?.iter().map(|&v| (bounded(bound, v) * n).round_ties_even() as i32).collect())
    },
};

const fn gradient(
    name: &'static str,
    doc: &'static str,
    attrs: &'static [AttrDef],
    eval: fn(&Eval<'_>) -> Result<Tensor, String>,
) -> OpDef {
    OpDef { name, doc, inputs: (2, 2), attrs, elementwise: true, infer: |_, t| like_first(t, &[Same]), eval }
}

/// relu, backward.
pub static RELU_GRAD: OpDef =
    gradient("relu_grad", "x > 0 ? dy : 0. Inputs dy, x.", &[], |e| zip(e, |dy, [x]| if x > 0.0 { dy } else { 0.0 }));

/// clip, backward.
pub static CLIP_GRAD: OpDef = gradient(
    "clip_grad",
    "lo ≤ x ≤ hi ? dy : 0: the gradient passes at both bounds. Inputs dy, x.",
    &[
        AttrDef { name: "lo", kind: Kind::Float, required: false, doc: "lower bound, default −∞" },
        AttrDef { name: "hi", kind: Kind::Float, required: false, doc: "upper bound, default +∞" },
    ],
    |e| {
        let (lo, hi) = (e.attrs.float("lo", f32::NEG_INFINITY), e.attrs.float("hi", f32::INFINITY));
        zip(e, |dy, [x]| if lo <= x && x <= hi { dy } else { 0.0 })
    },
);

/// min(1, |x|), backward.
pub static ABS_BOUND_GRAD: OpDef =
    gradient("abs_bound_grad", "|x| ≤ 1 ? dy·sign(x) : 0, sign(0) = 0. Inputs dy, x.", &[], |e| {
        zip(e, |dy, [x]| if x.abs() <= 1.0 { dy * sign(x) } else { 0.0 })
    });

/// LeakyRelu, backward.
pub static LEAKY_RELU_GRAD: OpDef = gradient(
    "leaky_relu_grad",
    "x > 0 ? dy : alpha·dy. Inputs dy, x.",
    &[AttrDef { name: "alpha", kind: Kind::Float, required: false, doc: "slope below zero, default 0.01" }],
    |e| {
        let alpha = e.attrs.float("alpha", 0.01);
        zip(e, |dy, [x]| if x > 0.0 { dy } else { alpha * dy })
    },
);
