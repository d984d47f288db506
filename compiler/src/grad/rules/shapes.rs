//! Operators that move elements, and averages and sums: each element of the operand gets what its places in the result got.

use super::{Parts, missing, plain, problem, reshaped, shape};
use crate::grad::builder::Builder;
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::ops::reduced_axes;
use crate::graph::types::{Dim, Shape};
use crate::graph::{GraphError, Node, Value};

fn name(node: &Node) -> String {
    format!("d{}", node.name)
}

pub(super) fn average(b: &mut Builder<'_>, node: &Node, operands: &[Value], dy: Value) -> Result<Value, GraphError> {
    let (_, h, w) = shape(b, node, operands, 0)?.image().ok_or_else(|| missing(node))?;
    let attrs = node.attrs.clone().with("input", Attr::Ints(vec![h as i64, w as i64]));
    b.add(&format!("{}_grad", node.op.name), &name(node), &[dy], attrs)
}

pub(super) fn reshape(b: &mut Builder<'_>, node: &Node, operands: &[Value], dy: Value) -> Result<Value, GraphError> {
    let dims = shape(b, node, operands, 0)?.per_sample().iter().map(|&d| d as i64).collect();
    b.add("reshape", &name(node), &[dy], Attrs::new().with("shape", Attr::Ints(dims)))
}

/// By the inverse permutation.
pub(super) fn transpose(b: &mut Builder<'_>, node: &Node, dy: Value) -> Result<Value, GraphError> {
    let perm = node.attrs.ints("perm");
    let place = |axis: usize| perm.iter().position(|&p| p == axis as i64).map(|i| i as i64);
    let inverse = (0..perm.len()).map(place).collect::<Option<Vec<i64>>>();
    let inverse = inverse.ok_or_else(|| problem(node, "`perm` is no permutation"))?;
    b.add("transpose", &name(node), &[dy], Attrs::new().with("perm", Attr::Ints(inverse)))
}

fn slice(b: &mut Builder<'_>, node: &Node, v: Value, [axis, start, length]: [usize; 3]) -> Result<Value, GraphError> {
    let attr = |n: usize| Attr::Int(n as i64);
    let attrs = Attrs::new().with("axis", attr(axis)).with("start", attr(start)).with("length", attr(length));
    b.add("slice", &name(node), &[v], attrs)
}

/// What was inside the border.
pub(super) fn pad(b: &mut Builder<'_>, node: &Node, operands: &[Value], dy: Value) -> Result<Value, GraphError> {
    let (_, h, w) = shape(b, node, operands, 0)?.image().ok_or_else(|| missing(node))?;
    let before = |i: usize| node.attrs.ints("pads").get(i).and_then(|&p| usize::try_from(p).ok()).unwrap_or(0);
    let rows = slice(b, node, dy, [2, before(0), h])?;
    slice(b, node, rows, [3, before(1), w])
}

/// To each operand its part.
pub(super) fn concat(b: &mut Builder<'_>, node: &Node, operands: &[Value], dy: Value) -> Result<Parts, GraphError> {
    let axis = usize::try_from(node.attrs.int("axis", 1)).map_err(|_| problem(node, "`axis` is at least 0"))?;
    let (mut start, mut parts) = (0, Vec::new());
    for (port, &operand) in operands.iter().enumerate() {
        let Some(&Dim::Fixed(length)) = shape(b, node, operands, port)?.0.get(axis) else { return Err(missing(node)) };
        if b.wanted.contains(&operand) {
            parts.push((port, plain(slice(b, node, dy, [axis, start, length])?)));
        }
        start += length;
    }
    Ok(parts)
}

/// dy over every element that was added up, divided by their number if that was the mean.
pub(super) fn reduce(b: &mut Builder<'_>, node: &Node, operands: &[Value], dy: Value) -> Result<Value, GraphError> {
    let input = shape(b, node, operands, 0)?;
    let reduced = reduced_axes(&node.attrs, input.rank()).map_err(|e| problem(node, &e))?;
    let kept = input.0.iter().zip(&reduced).map(|(&d, &r)| if r { Dim::Fixed(1) } else { d }).collect();
    let kept = reshaped(b, dy, &Shape(kept))?;
    let count = input.0.iter().zip(&reduced).filter(|(_, r)| **r).map(|(d, _)| match d {
        Dim::Fixed(n) => *n,
        Dim::Batch => 1,
    });
    let (op, number) = match node.op.name {
        "reduce_sum" => ("mul", 1.0),
        _ => ("div", count.product::<usize>() as f32),
    };
    // Broadcasting against a literal of the operand's shape repeats what was reduced.
    let dims = input.per_sample().iter().map(|&d| d as i64).collect();
    let attrs = Attrs::new().with("value", Attr::Float(number)).with("shape", Attr::Ints(dims));
    let spread = b.add("literal", &format!("{}_elements", name(node)), &[], attrs)?;
    b.add(op, &name(node), &[kept, spread], Attrs::new())
}
