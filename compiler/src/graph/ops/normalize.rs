//! Batch normalisation with fixed statistics.

use super::{OpDef, f32_input};
use crate::graph::attrs::{AttrDef, Kind};
use crate::graph::types::{Shape, ValueType};

/// Per-channel scale and offset of a batch normalisation, each step rounded to f32: s = γ/√(var+ε), o = β − mean·s.
pub fn scale_offset(gamma: f32, beta: f32, mean: f32, variance: f32, epsilon: f32) -> (f32, f32) {
    let s = gamma / (variance + epsilon).sqrt();
    (s, beta - mean * s)
}

/// Batch normalisation.
pub static BATCH_NORM: OpDef = OpDef {
    name: "batch_norm",
    doc: "ONNX BatchNormalization on axis 1 with fixed statistics: inputs x, γ, β, mean, variance (C each). \
          s = γ/√(var+ε), o = β − mean·s, each rounded to f32; y = x·s + o, unfused.",
    inputs: (5, 5),
    attrs: &[AttrDef {
        name: "epsilon",
        kind: Kind::Float,
        required: false,
        doc: "added to the variance, default 1e-5",
    }],
    elementwise: true,
    infer: |_, types| {
        let x = f32_input(types, 0)?;
        let channels = x.shape.per_sample().first().copied().ok_or("the input has no channels")?;
        for i in 1..5 {
            if f32_input(types, i)?.shape != Shape::fixed(&[channels]) {
                return Err(format!("input {i} must have shape [{channels}]"));
            }
        }
        Ok(vec![ValueType::f32(x.shape.clone())])
    },
    eval: |e| {
        let epsilon = e.attrs.float("epsilon", 1e-5);
        let (x, p) = (e.f32(0)?, [e.f32(1)?, e.f32(2)?, e.f32(3)?, e.f32(4)?]);
        let pairs: Vec<_> = p[0]
            .iter()
            .zip(p[1])
            .zip(p[2].iter().zip(p[3]))
            .map(|((&g, &b), (&m, &v))| scale_offset(g, b, m, v, epsilon))
            .collect();
        let area = e.shape().iter().skip(2).product::<usize>().max(1);
        let out = x.chunks(area).enumerate().flat_map(|(i, row)| {
            let (s, o) = pairs.get(i % pairs.len().max(1)).copied().unwrap_or_default();
            row.iter().map(move |v| v * s + o)
        });
        e.floats(out.collect())
    },
};
