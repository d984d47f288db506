//! Matrix product with constant or computed weights.

use super::{OpDef, f32_input};
use crate::graph::types::{Shape, ValueType};

/// Matrix product.
pub static MATMUL: OpDef = OpDef {
    name: "matmul",
    doc: "x (N,C) times weights (O,C), transposed: y[n][o] = Σ x[n][c]·w[o][c], with an optional bias (O) added last. ONNX \
          Gemm with transB and MatMul with the weights transposed at import. One chain an output in order of c.",
    inputs: (2, 3),
    attrs: &[],
    elementwise: false,
    infer: |attrs, types| {
        let (x, w) = (f32_input(types, 0)?, f32_input(types, 1)?);
        if x.shape.rank() != 2 || w.shape.rank() != 2 {
            return Err(format!("multiplies (N,C) by (O,C), has {} and {}", x.shape, w.shape));
        }
        let geometry = super::conv::Geometry::new(attrs, &x.shape, &w.shape)?;
        if types.len() > 2 && f32_input(types, 2)?.shape != Shape::fixed(&[geometry.outputs]) {
            return Err(format!("the bias must have shape [{}]", geometry.outputs));
        }
        Ok(vec![ValueType::f32(geometry.output_shape())])
    },
    eval: super::conv::float_conv,
};
