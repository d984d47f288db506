//! Matrix products of two computed values.

use super::{Eval, OpDef, f32_input};
use crate::graph::attrs::Attrs;
use crate::graph::types::{Dim, ValueType};
use dorefa_runtime::tensor::Tensor;

/// Product.
pub static PRODUCT: OpDef = OpDef {
    name: "product",
    doc: "Matrix products of a (…, R, K) and b (…, K, C), whose leading axes are equal, the batch among them: (…, R, C). One \
          chain an element in order of K from +0. ONNX MatMul of two computed values.",
    inputs: (2, 2),
    attrs: &[],
    elementwise: false,
    infer,
    eval,
};

fn infer(_: &Attrs, types: &[&ValueType]) -> Result<Vec<ValueType>, String> {
    let (a, b) = (&f32_input(types, 0)?.shape, &f32_input(types, 1)?.shape);
    let fail = || format!("multiplies (…, R, K) by (…, K, C), has {a} and {b}");
    let (Some((head, &[rows, k])), Some((other, &[inner, columns]))) =
        (a.0.split_last_chunk::<2>(), b.0.split_last_chunk::<2>())
    else {
        return Err(fail());
    };
    if head != other || k != inner || [rows, k, columns].contains(&Dim::Batch) {
        return Err(fail());
    }
    let mut shape = a.clone();
    if let Some(last) = shape.0.last_mut() {
        *last = columns;
    }
    Ok(vec![ValueType::f32(shape)])
}

fn eval(e: &Eval<'_>) -> Result<Tensor, String> {
    let shape = |i: usize| Ok::<_, String>(e.input(i)?.shape().to_vec());
    let (sa, sb) = (shape(0)?, shape(1)?);
    let (Some(&[rows, k]), Some(&columns)) = (sa.last_chunk::<2>(), sb.last()) else {
        return Err("multiplies matrices".to_owned());
    };
    let (a, b) = (e.f32(0)?, e.f32(1)?);
    let mut out = Vec::with_capacity(a.len() / k.max(1) * columns);
    for (left, right) in a.chunks((rows * k).max(1)).zip(b.chunks((k * columns).max(1))) {
        for row in left.chunks(k.max(1)) {
            for c in 0..columns {
                let column = right.iter().skip(c).step_by(columns.max(1));
                out.push(row.iter().zip(column).fold(0.0, |sum, (&x, &y)| e.mul_add(x, y, sum)));
            }
        }
    }
    e.floats(out)
}
