//! Concatenations of quantised values: made of codes where all parts have the same code type.
//!
//! ```text
//! before   p = div(a, 3)   q = div(b, 3)   y = concat(p, q)        a and b whole numbers
//! after    c = concat(a, b)   y = div(c, 3)
//!
//! before   c = concat(a, b)   u = encode(c)                        after `lift`
//! after    v = encode(a)   w = encode(b)   u = concat(v, w)
//! ```

use super::ranges::ranges;
use super::{PassError, add, name_of, op_of, uniform};
use crate::graph::attrs::Attrs;
use crate::graph::{Graph, NodeId, Value};

/// Moves equal scaling steps of all parts behind the concatenation, where the parts are whole numbers before them.
///
/// # Errors
/// When a moved operator does not fit, which is a bug.
pub fn sink(graph: &mut Graph) -> Result<(), PassError> {
    for id in graph.order() {
        let mut node = id;
        while op_of(graph, Value { node, port: 0 }) == "concat" {
            match sink_one(graph, node)? {
                Some(new) => node = new,
                None => break,
            }
        }
    }
    super::dead::run(graph)
}

/// The step of one part: its operator, its data operand and its constant.
fn step(graph: &Graph, part: Value) -> Option<(&'static str, Value, f32, Value)> {
    let op = op_of(graph, part);
    let &[x, c] = &*graph.operands(part.node) else { return None };
    let scaling = matches!(op, "mul" | "div" | "add" | "sub");
    let same = graph.value_type(x)?.shape == graph.value_type(part)?.shape;
    (scaling && same && graph.constant(x).is_none()).then_some((op, x, uniform(graph, c)?, c))
}

/// The concatenation of what stands before the steps, if these are equal.
fn sink_one(graph: &mut Graph, id: NodeId) -> Result<Option<NodeId>, PassError> {
    let parts = graph.operands(id);
    let steps: Option<Vec<_>> = parts.iter().map(|&p| step(graph, p)).collect();
    let Some(steps) = steps else { return Ok(None) };
    let Some(&(op, _, c, constant)) = steps.first() else { return Ok(None) };
    if !steps.iter().all(|s| s.0 == op && s.2.to_bits() == c.to_bits()) {
        return Ok(None);
    }
    // Whole before this step, or before another of the kind.
    let known = ranges(graph);
    let whole = |v: &Value| known.get(v).is_some_and(|r| r.whole && r.bounded());
    let scaled = |v: &Value| whole(v) || graph.operands(v.node).first().is_some_and(whole);
    // One value: one for each place along the axis would be too few behind it.
    let single = graph.constant(constant).is_some_and(|t| t.len() == 1 && t.shape().len() <= 1);
    if !single || !steps.iter().all(|s| scaled(&s.1)) {
        return Ok(None);
    }
    let value = Value { node: id, port: 0 };
    let (name, attrs) = (name_of(graph, value), graph.node(id).map(|n| n.attrs.clone()).unwrap_or_default());
    let inner: Vec<Value> = steps.iter().map(|s| s.1).collect();
    let joined = add(graph, "concat", &format!("{name}_levels"), &inner, attrs)?;
    let y = add(graph, op, &format!("{name}_scaled"), &[joined, constant], Attrs::new())?;
    graph.replace(value, y);
    graph.remove(id);
    Ok(Some(joined.node))
}

/// Encodes the parts instead of the whole.
///
/// # Errors
/// When a new operator does not fit, which is a bug.
pub fn encode(graph: &mut Graph) -> Result<(), PassError> {
    for id in graph.order() {
        let value = Value { node: id, port: 0 };
        let Some(&joined) = graph.operands(id).first() else { continue };
        if op_of(graph, value) != "encode"
            || op_of(graph, joined) != "concat"
            || graph.sole_user(joined) != Some(id)
            || graph.operands(joined.node).iter().any(|&v| graph.constant(v).is_some())
        {
            continue;
        }
        let attrs = |v: Value| graph.node(v.node).map(|n| n.attrs.clone()).unwrap_or_default();
        let (codes, along) = (attrs(value), attrs(joined));
        // Scales of channels are those of the whole.
        if codes.scales("scale").len() != 1 {
            continue;
        }
        let mut parts = Vec::new();
        for part in graph.operands(joined.node) {
            let name = format!("{}_codes", name_of(graph, part));
            parts.push(add(graph, "encode", &name, &[part], codes.clone())?);
        }
        let new = add(graph, "concat", &format!("{}_codes", name_of(graph, joined)), &parts, along)?;
        graph.replace(value, new);
        graph.remove(id);
    }
    super::dead::run(graph)
}
