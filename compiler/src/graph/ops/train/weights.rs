//! Weight quantisers that give codes, the reductions over whole tensors that they need, and their derivative.

use super::super::quantize::weight_code;
use super::super::reduce::{lane_sum, lane_tree};
use super::super::unary::sign;
use super::super::{Eval, OpDef, f32_input, steps};
use super::Spread::{Same, Scalar};
use super::activation::{BITS, code_type};
use super::{like_first, operand, reader, zip};
use crate::graph::attrs::Attrs;
use crate::graph::scale::Scale;
use crate::graph::types::{CodeType, Elem, Shape, ValueType};
use dorefa_runtime::tensor::Tensor;

/// One number of whole tensors that have no batch, all of one shape but `[1]` where `scalar` says so.
fn number(types: &[&ValueType], scalar: bool) -> Result<Vec<ValueType>, String> {
    let first = f32_input(types, 0)?;
    if first.shape.has_batch() {
        return Err(format!("reads a tensor without a batch, not {first}"));
    }
    for i in 1..types.len() {
        operand(types, i, &[if scalar { Scalar } else { Same }])?;
    }
    Ok(vec![ValueType::f32(Shape::fixed(&[1]))])
}

const fn whole(
    name: &'static str,
    doc: &'static str,
    inputs: usize,
    infer: fn(&Attrs, &[&ValueType]) -> Result<Vec<ValueType>, String>,
    eval: fn(&Eval<'_>) -> Result<Tensor, String>,
) -> OpDef {
    OpDef { name, doc, inputs: (inputs, inputs), attrs: &[], elementwise: false, infer, eval }
}

/// E
pub static MEAN_ABS: OpDef = whole(
    "mean_abs",
    "[1]: the 4-lane sum of |w| divided by the number of elements: E of 1-bit weights.",
    1,
    |_, types| number(types, false),
    |e| {
        let magnitudes: Vec<f32> = e.f32(0)?.iter().map(|v| v.abs()).collect();
        e.floats(vec![lane_sum(&magnitudes) / magnitudes.len().max(1) as f32])
    },
);

/// max |t|
pub static MAX_ABS: OpDef = whole(
    "max_abs",
    "[1]: the greatest |t|, from 0; NaN is never greater.",
    1,
    |_, types| number(types, false),
    |e| e.floats(vec![e.f32(0)?.iter().fold(0f32, |m, v| if v.abs() > m { v.abs() } else { m })]),
);

/// Σ a·b
pub static SUM_PRODUCT: OpDef = whole(
    "sum_product",
    "[1]: Σ a·b over whole tensors in row-major order: 4 lanes (index mod 4) by mul_add in the numeric profile, then \
     (l0+l2)+(l1+l3).",
    2,
    |_, types| number(types, false),
    |e| {
        let mut lanes = [0f32; 4];
        for (i, (&a, &b)) in e.f32(0)?.iter().zip(e.f32(1)?).enumerate() {
            lanes[i % 4] = e.mul_add(a, b, lanes[i % 4]);
        }
        e.floats(vec![lane_tree(lanes)])
    },
);

/// Number of maxima.
pub static COUNT_EQUAL_ABS: OpDef = whole(
    "count_equal_abs",
    "[1]: how many elements of t have |t| = m, as f32. Inputs t, m [1].",
    2,
    |_, types| number(types, true),
    |e| {
        let m = reader(e, 1)?.at(0);
        e.floats(vec![e.f32(0)?.iter().filter(|v| v.abs() == m).count() as f32])
    },
);

fn weight_type(attrs: &Attrs, types: &[&ValueType]) -> Result<Vec<ValueType>, String> {
    let (w, bits) = (f32_input(types, 0)?, attrs.int("bits", 0));
    match (bits, types.len()) {
        (1, 1) => {
            let sign = CodeType { top: 1, step: 2, offset: -1, scale: [Scale::ONE].into() };
            Ok(vec![w.with_elem(Elem::Codes(sign))])
        }
        (1, _) => Err("1 bit takes the weights alone".to_owned()),
        (_, 2) => {
            operand(types, 1, &[Scalar])?;
            Ok(vec![w.with_elem(Elem::Codes(code_type(bits, true)?))])
        }
        _ => Err("takes tanh of the weights and its greatest magnitude [1]".to_owned()),
    }
}

/// Weights to codes.
pub static ENCODE_WEIGHTS: OpDef = OpDef {
    name: "encode_weights",
    doc: "The codes of quantize_weights. 1 bit: u = w ≥ 0 of w, levels ±1, scale 1; readers decode with the factor \
          E = mean_abs(w). k bits, of t = tanh(w) and max = max_abs(t): u = round((max > 0 ? t/(2·max) + ½ : ½)·n), \
          n = 2^k − 1, step 2, offset −n, scale 1/n.",
    inputs: (1, 2),
    attrs: &[BITS],
    elementwise: true,
    infer: weight_type,
    eval: |e| {
        let bits = e.attrs.int("bits", 0);
        if bits == 1 {
            return e.codes(e.f32(0)?.iter().map(|&w| i32::from(w >= 0.0)).collect());
        }
        let (max, n) = (reader(e, 1)?, steps(bits));
        e.codes(e.f32(0)?.iter().enumerate().map(|(i, &t)| weight_code(t, max.at(i), n)).collect())
    },
};

/// Derivative of the weight quantiser.
pub static TANH_WEIGHTS_GRAD: OpDef = OpDef {
    name: "tanh_weights_grad",
    doc: "The gradient of weights of k ≥ 2 bits, straight through the rounding, exact through t/max with t = tanh(w), \
          max = max |t|: dt = dwq/max − (|t| = max ? (sign(t)·(dot/(max·max)))/ties : 0), dw = dt·(1 − t·t); max = 0 gives \
          0. Inputs dwq, t, max [1], dot = sum_product(dwq, t) [1], ties = count_equal_abs(t, max) [1].",
    inputs: (5, 5),
    attrs: &[],
    elementwise: true,
    infer: |_, types| like_first(types, &[Same, Scalar, Scalar, Scalar]),
    eval: |e| {
        zip(e, |dwq, [t, max, dot, ties]| {
            if max == 0.0 {
                return 0.0;
            }
            let share = if t.abs() == max { sign(t) * (dot / (max * max)) / ties } else { 0.0 };
            (dwq / max - share) * (1.0 - t * t)
        })
    },
};
