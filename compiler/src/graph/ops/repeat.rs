//! A constant as a value of every sample.

use super::{OpDef, f32_input};
use crate::graph::types::{Shape, ValueType};

/// Repeat.
pub static REPEAT: OpDef = OpDef {
    name: "repeat",
    doc: "The constant c for every sample of the batch of x, whose elements are not read: inputs c and x. ONNX Expand to the \
          batch's extent, and constants that are joined with or multiplied by computed values.",
    inputs: (2, 2),
    attrs: &[],
    elementwise: false,
    infer: |_, types| {
        let (c, x) = (f32_input(types, 0)?, types.get(1).ok_or("input 1 is missing")?);
        if c.shape.has_batch() || !x.shape.has_batch() {
            return Err(format!("repeats a constant for a batch, has {c} and {x}"));
        }
        Ok(vec![ValueType::f32(Shape::batched(&c.shape.per_sample()))])
    },
    eval: |e| e.floats(e.f32(0)?.repeat(e.batch)),
};
