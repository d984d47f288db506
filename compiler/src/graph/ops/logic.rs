//! Comparisons and choice. Truth values are the floats 1 and 0; every number but 0 counts as true.

use super::binary::{binary, broadcast, broadcast_shape, zip};
use super::{Eval, OpDef, f32_input};
use crate::graph::attrs::Attrs;
use crate::graph::types::ValueType;
use dorefa_runtime::tensor::Tensor;

fn truth(holds: bool) -> f32 {
    f32::from(u8::from(holds))
}

/// a = b
pub static EQUAL: OpDef =
    binary("equal", "a = b ? 1 : 0, broadcast; NaN equals nothing. ONNX Equal.", |e| zip(e, |a, b| truth(a == b)));
/// a > b
pub static GREATER: OpDef =
    binary("greater", "a > b ? 1 : 0, broadcast. ONNX Greater, and Less with its operands exchanged.", |e| {
        zip(e, |a, b| truth(a > b))
    });
/// a ≥ b
pub static GREATER_EQUAL: OpDef = binary(
    "greater_equal",
    "a ≥ b ? 1 : 0, broadcast. ONNX GreaterOrEqual, and LessOrEqual with its operands exchanged.",
    |e| zip(e, |a, b| truth(a >= b)),
);

/// condition ? a : b
pub static SELECT: OpDef = OpDef {
    name: "select",
    doc: "c ≠ 0 ? a : b of inputs c, a, b, which broadcast: ONNX Where.",
    inputs: (3, 3),
    attrs: &[],
    elementwise: true,
    infer: infer_select,
    eval: select,
};

fn infer_select(_: &Attrs, types: &[&ValueType]) -> Result<Vec<ValueType>, String> {
    let shape = |i: usize| f32_input(types, i).map(|t| &t.shape);
    let all = broadcast_shape(&broadcast_shape(shape(0)?, shape(1)?)?, shape(2)?)?;
    Ok(vec![ValueType::f32(all)])
}

fn select(e: &Eval<'_>) -> Result<Tensor, String> {
    let shape = e.shape();
    let read = |i: usize| Ok::<_, String>(broadcast(e.input(i)?, e.f32(i)?, &shape));
    let (c, a, b) = (read(0)?, read(1)?, read(2)?);
    e.floats((0..shape.iter().product()).map(|i| if c(i) != 0.0 { a(i) } else { b(i) }).collect())
}
