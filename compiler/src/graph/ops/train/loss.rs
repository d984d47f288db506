//! The loss, its gradient, and what is counted: softmax cross entropy over codes of labels.

use super::super::activation::{exp, log};
use super::super::integer::codes;
use super::super::reduce::lane_sum;
use super::super::{Eval, OpDef, f32_input};
use crate::graph::attrs::Attrs;
use crate::graph::types::{Shape, ValueType};
use dorefa_runtime::tensor::Tensor;

/// Number of classes: logits (N,K), labels [N] of codes 0 … K − 1.
fn classes(types: &[&ValueType]) -> Result<usize, String> {
    let logits = &f32_input(types, 0)?.shape;
    let classes = match (logits.rank(), logits.image()) {
        (2, Some((k, _, _))) => k,
        _ => return Err(format!("logits must be (N,K), are {logits}")),
    };
    let (labels, shape) = codes(types, 1)?;
    if shape != Shape::batched(&[]) || labels.top as usize + 1 != classes || labels.step != 1 || labels.offset != 0 {
        return Err(format!("labels must be codes 0 … {} of shape [N]", classes.saturating_sub(1)));
    }
    Ok(classes)
}

fn per_sample(_: &Attrs, types: &[&ValueType]) -> Result<Vec<ValueType>, String> {
    classes(types).map(|_| vec![ValueType::f32(Shape::batched(&[]))])
}

/// A row of logits: its greatest, the powers e^(z − greatest), and their 4-lane sum.
fn powers(row: &[f32]) -> (f32, Vec<f32>, f32) {
    let top = row.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    let powers: Vec<f32> = row.iter().map(|z| exp(z - top)).collect();
    let sum = lane_sum(&powers);
    (top, powers, sum)
}

/// Rows of logits with their labels.
fn rows<'a>(e: &'a Eval<'_>) -> Result<impl Iterator<Item = (&'a [f32], usize)>, String> {
    let k = classes(e.types)?;
    Ok(e.f32(0)?.chunks(k.max(1)).zip(e.i32(1)?).map(|(row, &label)| (row, label as usize)))
}

/// Loss of each sample.
pub static SOFTMAX_CROSS_ENTROPY: OpDef = OpDef {
    name: "softmax_cross_entropy",
    doc: "[N]: log(Σ e^(z − max)) − (z[label] − max), the sum by 4 lanes, exp and log the project's own. Inputs logits \
          (N,K), labels [N] (codes 0 … K − 1).",
    inputs: (2, 2),
    attrs: &[],
    elementwise: false,
    infer: per_sample,
    eval: |e| {
        let loss = |(row, label): (&[f32], usize)| {
            let (top, _, sum) = powers(row);
            log(sum) - (row.get(label).copied().unwrap_or(f32::NAN) - top)
        };
        e.floats(rows(e)?.map(loss).collect())
    },
};

/// Gradient of the mean loss.
pub static SOFTMAX_CROSS_ENTROPY_GRAD: OpDef = OpDef {
    name: "softmax_cross_entropy_grad",
    doc: "(e^(z − max) / Σ − (the label ? 1 : 0)) · (f32(loss_scale) / f32(N)): the gradient of the mean loss with respect \
          to the logits. Inputs logits (N,K), labels [N].",
    inputs: (2, 2),
    attrs: &[],
    elementwise: false,
    infer: |_, types| classes(types).and_then(|_| Ok(vec![ValueType::f32(f32_input(types, 0)?.shape.clone())])),
    eval: |e| {
        let factor = e.context.loss_scale as f32 / e.batch as f32;
        let mut out = Vec::new();
        for (row, label) in rows(e)? {
            let (_, powers, sum) = powers(row);
            let one = |k: usize| if k == label { 1.0 } else { 0.0 };
            out.extend(powers.iter().enumerate().map(|(k, p)| (p / sum - one(k)) * factor));
        }
        e.floats(out)
    },
};

/// Whether a sample is classified right.
pub static CORRECT: OpDef = OpDef {
    name: "correct",
    doc: "[N]: 1 where the greatest logit is the label's, else 0; the lowest of equal ones counts, NaN never wins. Inputs \
          logits (N,K), labels [N].",
    inputs: (2, 2),
    attrs: &[],
    elementwise: false,
    infer: per_sample,
    eval: |e| {
        let hit = |(row, label): (&[f32], usize)| {
            let best = row
                .iter()
                .enumerate()
                .fold((0, f32::NEG_INFINITY), |best, (k, &z)| if z > best.1 { (k, z) } else { best });
            if best.0 == label { 1.0 } else { 0.0 }
        };
        e.floats(rows(e)?.map(hit).collect())
    },
};

fn scalar(_: &Attrs, types: &[&ValueType]) -> Result<Vec<ValueType>, String> {
    let v = f32_input(types, 0)?;
    if v.shape == Shape::batched(&[]) {
        Ok(vec![ValueType::f32(Shape::fixed(&[1]))])
    } else {
        Err("reads [N]".to_owned())
    }
}

fn sum(e: &Eval<'_>) -> Result<f32, String> {
    Ok(e.f32(0)?.iter().fold(0.0, |a, b| a + b))
}

fn one(e: &Eval<'_>, value: f32) -> Result<Tensor, String> {
    e.floats(vec![value])
}

/// Mean over samples.
pub static SAMPLE_MEAN: OpDef = OpDef {
    name: "sample_mean",
    doc: "[1]: the samples added in ascending order from +0, divided by f32(N). Input [N].",
    inputs: (1, 1),
    attrs: &[],
    elementwise: false,
    infer: scalar,
    eval: |e| one(e, sum(e)? / e.batch as f32),
};

/// Sum over samples.
pub static SAMPLE_SUM: OpDef = OpDef {
    name: "sample_sum",
    doc: "[1]: the samples added in ascending order from +0. Input [N].",
    inputs: (1, 1),
    attrs: &[],
    elementwise: false,
    infer: scalar,
    eval: |e| one(e, sum(e)?),
};
