//! The verifier: every invariant of a graph, checked after each pass. A violation after import is the user's input; after a
//! pass it is our bug.

use super::types::{Dim, Elem};
use super::{Graph, ops};
use dorefa_runtime::tensor::Data;
use std::collections::BTreeSet;

/// Checks a graph. The invariants:
///
/// 1. there is no cycle and every operand exists;
/// 2. the number of operands fits the operator, and so do the attributes;
/// 3. each node's types are those that its operator infers (layouts aside);
/// 4. a constant's tensor has its type's shape, and codes lie in 0 … top;
/// 5. only axis 0 is the batch, extents are at least 1;
/// 6. outputs exist, and there is at least one;
/// 7. an update's target is a constant, updated once, and its value exists and has the constant's type.
///
/// # Errors
/// One line a violation, each naming the node.
pub fn verify(graph: &Graph) -> Result<(), Vec<String>> {
    let mut problems = Vec::new();
    let order = graph.order();
    if order.len() != graph.len() {
        problems.push("the graph has a cycle".to_owned());
    }
    for id in order {
        let Some(node) = graph.node(id) else { continue };
        let mut fail = |message: String| problems.push(format!("{} ({}): {message}", node.name, node.op.name));
        if let Err(message) = ops::check_attrs(node.op, &node.attrs) {
            fail(message);
        }
        let operands = graph.operands(id);
        if operands.len() < node.op.inputs.0 || operands.len() > node.op.inputs.1 {
            fail(format!("has {} operands", operands.len()));
            continue;
        }
        let types: Option<Vec<_>> = operands.iter().map(|&v| graph.value_type(v)).collect();
        let Some(types) = types else {
            fail("an operand does not exist".to_owned());
            continue;
        };
        if *node.op != ops::INPUT && *node.op != ops::CONSTANT {
            match (node.op.infer)(&node.attrs, &types) {
                Err(message) => fail(message),
                Ok(inferred) => {
                    let same = inferred.len() == node.types.len()
                        && inferred.iter().zip(&node.types).all(|(a, b)| a.elem == b.elem && a.shape == b.shape);
                    if !same {
                        fail(format!("is typed {:?}, infers {inferred:?}", node.types));
                    }
                }
            }
        }
        for ty in &node.types {
            if ty.shape.0.iter().skip(1).any(|d| *d == Dim::Batch) || ty.shape.0.contains(&Dim::Fixed(0)) {
                fail(format!("has the shape {}", ty.shape));
            }
        }
        if *node.op == ops::CONSTANT {
            check_constant(node, &mut fail);
        }
    }
    if graph.outputs().is_empty() {
        problems.push("the graph has no output".to_owned());
    }
    for (name, value) in graph.outputs() {
        if graph.value_type(*value).is_none() {
            problems.push(format!("output {name} does not exist"));
        }
    }
    let mut updated = BTreeSet::new();
    for update in graph.updates() {
        let name = graph.node(update.node).map_or("", |n| &n.name);
        if let Some(message) = graph.update_problem(update) {
            problems.push(format!("{name} (update): {message}"));
        }
        if !updated.insert(update.node) {
            problems.push(format!("{name} (update): is updated twice"));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn check_constant(node: &super::Node, fail: &mut impl FnMut(String)) {
    let (Some(tensor), Some(ty)) = (&node.tensor, node.types.first()) else {
        return fail("has no data".to_owned());
    };
    if ty.shape.per_sample() != tensor.shape() {
        fail(format!("has data of shape {:?}, is typed {ty}", tensor.shape()));
    }
    match (&ty.elem, tensor.data()) {
        (Elem::F32, Data::F32(_)) | (Elem::Acc(_), Data::I64(_)) => {}
        (Elem::Codes(c), Data::I32(v)) => {
            if v.iter().any(|&u| u < 0 || u as u32 > c.top) {
                fail(format!("holds a code outside 0 … {}", c.top));
            }
        }
        (_, data) => fail(format!("holds {} data, is typed {ty}", data.type_name())),
    }
}
