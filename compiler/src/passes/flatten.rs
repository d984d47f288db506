//! Fully connected layers over flattened images, as part of `lift`.
//!
//! ```text
//! before   f = reshape(x, shape=[512])   y = matmul(f, w)              x (N, 8, 8, 8)
//! after    c = conv(x, w as (O, 8, 8, 8))   y = reshape(c, shape=[O])
//! ```
//!
//! The order of summation is the same, so the bits are.

use super::{PassError, add, name_of, op_of};
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::types::Dim;
use crate::graph::{Graph, NodeId, Value};

/// Turns a matrix product over a flattened image into a convolution with a full kernel, so that flattening moves nothing.
///
/// # Errors
/// When the convolution does not fit, which is a bug.
pub fn run(graph: &mut Graph, id: NodeId) -> Result<(), PassError> {
    let operands = graph.operands(id);
    let Some((node, (&x, &weights))) = graph.node(id).zip(operands.first().zip(operands.get(1))) else { return Ok(()) };
    if !matches!(node.op.name, "matmul" | "int_conv" | "conv")
        || graph.value_type(x).is_none_or(|t| t.shape.rank() != 2)
    {
        return Ok(());
    }
    let (name, op, attrs) = (node.name.clone(), node.op.name, node.attrs.clone());
    let decoded = if op_of(graph, x) == "decode" { graph.operands(x.node).first().copied() } else { None };
    let Some(mut image) = flattened(graph, decoded.unwrap_or(x)) else { return Ok(()) };
    let Some((c, h, w)) = graph.value_type(image).filter(|t| t.shape.rank() == 4).and_then(|t| t.shape.image()) else {
        return Ok(());
    };
    let Some((tensor, ty)) = graph.constant(weights).cloned().zip(graph.value_type(weights).cloned()) else {
        return Ok(());
    };
    let [Dim::Fixed(o), Dim::Fixed(inner)] = *ty.shape.0 else { return Ok(()) };
    if inner != c * h * w || attrs.int("groups", 1) != 1 {
        return Ok(());
    }
    let tensor = (*tensor).clone().reshape(vec![o, c, h, w]).map_err(|e| e.to_string())?;
    let kernel = graph.add_typed_constant(&format!("{}_kernel", name_of(graph, weights)), tensor, ty.elem);
    if decoded.is_some() {
        // decode(reshape(codes)) is reshape(decode(codes)).
        image = add(graph, "decode", &format!("{}_value", name_of(graph, image)), &[image], Attrs::new())?;
    }
    let mut inputs = vec![image, kernel];
    inputs.extend(operands.get(2));
    let op = if op == "int_conv" { "int_conv" } else { "conv" };
    let y = add(graph, op, &format!("{name}_full"), &inputs, Attrs::new())?;
    let y =
        add(graph, "reshape", &format!("{name}_flat"), &[y], Attrs::new().with("shape", Attr::Ints(vec![o as i64])))?;
    graph.replace(Value { node: id, port: 0 }, y);
    graph.remove(id);
    Ok(())
}

/// The image that a chain of reshapes flattens.
fn flattened(graph: &Graph, mut x: Value) -> Option<Value> {
    while op_of(graph, x) == "reshape" {
        x = *graph.operands(x.node).first()?;
        if graph.value_type(x)?.shape.rank() == 4 {
            return Some(x);
        }
    }
    None
}
