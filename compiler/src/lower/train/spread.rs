//! Repeats what element-wise operators of a training graph broadcast in a way that lanes do not: lanes read one number, one a
//! sample, one a channel, or one a place. Also lets kernels that read maps read no input of the caller, which lies otherwise.
//!
//! ```text
//! before   y = mul(x, s)                                x (N, 3, 4, 4), s (N, 1, 4, 4)
//! after    t = take(s, axis=1, indices=[0, 0, 0])    y = mul(x, t)
//! ```

use crate::graph::attrs::{Attr, Attrs};
use crate::graph::ops::known;
use crate::graph::types::{Elem, Shape};
use crate::graph::{Graph, GraphError, Node, NodeId, Value};

/// Operators whose operands broadcast as in ONNX.
const BROADCAST: &[&str] =
    &["add", "sub", "mul", "div", "min", "max", "pow", "prelu", "equal", "greater", "greater_equal", "select"];

/// Operators whose kernels read maps.
const MAPS: &[&str] =
    &["max_pool", "max_pool_winner", "max_pool_grad", "average_pool", "global_average_pool", "softmax"];

/// The same graph with such operands repeated.
///
/// # Errors
/// When a repetition does not fit, which is a bug.
pub fn spread(graph: &Graph) -> Result<Graph, GraphError> {
    let mut out = graph.clone();
    for id in graph.order() {
        let Some(node) = graph.node(id) else { continue };
        if BROADCAST.contains(&node.op.name) {
            operands(&mut out, node)?;
        } else if MAPS.contains(&node.op.name) {
            inputs(&mut out, id)?;
        }
    }
    Ok(out)
}

fn operands(graph: &mut Graph, node: &Node) -> Result<(), GraphError> {
    let Some(result) = node.types.first().map(|t| t.shape.clone()) else { return Ok(()) };
    for (port, v) in graph.operands(node.id).into_iter().enumerate() {
        let literal = graph.node(v.node).is_some_and(|n| n.op.name == "literal");
        let Some(own) = graph.value_type(v).map(|t| t.shape.clone()).filter(|_| !literal) else { continue };
        if !readable(&own, &result) {
            let repeated = repeated(graph, v, &own, &result)?;
            graph.set_operand(node.id, port as u16, repeated);
        }
    }
    Ok(())
}

/// Whether lanes of `result` can read an operand of shape `own`.
fn readable(own: &Shape, result: &Shape) -> bool {
    if own.sample_len() == Some(1) || (own.has_batch() == result.has_batch() && own.per_sample() == result.per_sample())
    {
        return true;
    }
    let (dims, all) = (own.aligned(result), result.per_sample());
    match (&*dims, result.image()) {
        (&[c, 1, 1], Some((channels, ..))) => c == channels,
        // What is no image is stored as a row of elements.
        (_, image) => result.has_batch() && dims == all && image.is_none_or(|(_, h, w)| h * w == 1),
    }
}

/// The operand in the shape of `result`.
fn repeated(graph: &mut Graph, v: Value, own: &Shape, result: &Shape) -> Result<Value, GraphError> {
    let name = format!("{}_spread", graph.node(v.node).map_or("", |n| &n.name));
    let (mut v, dims) = (v, own.aligned(result));
    if own.has_batch() != result.has_batch() || own.rank() != result.rank() {
        let shape = Attr::Ints(dims.iter().map(|&d| d as i64).collect());
        v = graph.add(known("reshape"), &name, &[v], Attrs::new().with("shape", shape))?;
    }
    let batched = graph.inputs().iter().map(|&node| Value { node, port: 0 });
    if !own.has_batch()
        && result.has_batch()
        && let Some(x) = { batched }.find(|&x| graph.value_type(x).is_some_and(|t| t.shape.has_batch()))
    {
        v = graph.add(known("repeat"), &name, &[v, x], Attrs::new())?;
    }
    let first = usize::from(result.has_batch());
    for (axis, (&extent, &whole)) in dims.iter().zip(&result.per_sample()).enumerate() {
        if extent != whole {
            let attrs = Attrs::new().with("axis", Attr::Int((axis + first) as i64));
            let attrs = attrs.with("indices", Attr::Ints(vec![0; whole]));
            v = graph.add(known("take"), &name, &[v], attrs)?;
        }
    }
    Ok(v)
}

/// Operands that are inputs of floats, through a reshape that moves nothing: lanes, which lowering stores as maps.
fn inputs(graph: &mut Graph, id: NodeId) -> Result<(), GraphError> {
    for (port, v) in graph.operands(id).into_iter().enumerate() {
        let Some(ty) = graph.value_type(v).filter(|t| t.elem == Elem::F32 && graph.inputs().contains(&v.node)) else {
            continue;
        };
        let dims = ty.shape.per_sample().into_iter().map(|d| d as i64).collect();
        let attrs = Attrs::new().with("shape", Attr::Ints(dims));
        let v = graph.add(known("reshape"), "pixels", &[v], attrs)?;
        graph.set_operand(id, port as u16, v);
    }
    Ok(())
}
