//! Operators that move elements, and averages and sums: each element of the operand gets what its places in the result got.

use super::{Parts, missing, plain, problem, reshaped, shape};
use crate::grad::builder::Builder;
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::ops::reduced_axes;
use crate::graph::types::{Dim, Shape};
use crate::graph::{GraphError, Node, Value};

/// The gradient of `take` adds at most so many parts.
const MOST_PLACES: usize = 64;

fn name(node: &Node) -> String {
    format!("d{}", node.name)
}

pub(super) fn average(b: &mut Builder<'_>, node: &Node, operands: &[Value], dy: Value) -> Result<Value, GraphError> {
    let (_, h, w) = shape(b, node, operands, 0)?.image().ok_or_else(|| missing(node))?;
    let attrs = node.attrs.clone().with("input", Attr::Ints(vec![h as i64, w as i64]));
    b.add(&format!("{}_grad", node.op.name), &name(node), &[dy], attrs)
}

/// To the tap that won.
pub(super) fn pooled(b: &mut Builder<'_>, node: &Node, operands: &[Value], dy: Value) -> Result<Value, GraphError> {
    let x = b.float(*operands.first().ok_or_else(|| missing(node))?)?;
    to_winner(b, node, [dy, x], &node.attrs)
}

fn to_winner(b: &mut Builder<'_>, node: &Node, [dy, x]: [Value; 2], window: &Attrs) -> Result<Value, GraphError> {
    let (_, h, w) = b.graph.value_type(x).and_then(|t| t.shape.image()).ok_or_else(|| missing(node))?;
    let winner = b.add("max_pool_winner", &format!("{}_winner", node.name), &[x], window.clone())?;
    let attrs = window.clone().with("input", Attr::Ints(vec![h as i64, w as i64]));
    b.add("max_pool_grad", &name(node), &[dy, winner], attrs)
}

pub(super) fn reshape(b: &mut Builder<'_>, node: &Node, operands: &[Value], dy: Value) -> Result<Value, GraphError> {
    let dims = shape(b, node, operands, 0)?.per_sample().iter().map(|&d| d as i64).collect();
    b.add("reshape", &name(node), &[dy], Attrs::new().with("shape", Attr::Ints(dims)))
}

/// By the inverse permutation.
pub(super) fn transpose(b: &mut Builder<'_>, node: &Node, dy: Value) -> Result<Value, GraphError> {
    turned_back(b, node, dy, node.attrs.ints("perm"))
}

fn turned_back(b: &mut Builder<'_>, node: &Node, v: Value, perm: &[i64]) -> Result<Value, GraphError> {
    let place = |axis: usize| perm.iter().position(|&p| p == axis as i64).map(|i| i as i64);
    let inverse = (0..perm.len()).map(place).collect::<Option<Vec<i64>>>();
    let inverse = inverse.ok_or_else(|| problem(node, "`perm` is no permutation"))?;
    b.add("transpose", &name(node), &[v], Attrs::new().with("perm", Attr::Ints(inverse)))
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

/// The axis of a selection, and the operand's extent along it.
fn selection(b: &Builder<'_>, node: &Node, operands: &[Value]) -> Result<(usize, usize), GraphError> {
    let axis = usize::try_from(node.attrs.int("axis", 1)).map_err(|_| problem(node, "`axis` is at least 0"))?;
    let Some(&Dim::Fixed(extent)) = shape(b, node, operands, 0)?.0.get(axis) else { return Err(missing(node)) };
    Ok((axis, extent))
}

fn taken(b: &mut Builder<'_>, node: &Node, v: Value, axis: usize, indices: Vec<i64>) -> Result<Value, GraphError> {
    let attrs = Attrs::new().with("axis", Attr::Int(axis as i64)).with("indices", Attr::Ints(indices));
    b.add("take", &name(node), &[v], attrs)
}

/// Zero where nothing was selected.
pub(super) fn slice_grad(b: &mut Builder<'_>, node: &Node, operands: &[Value], dy: Value) -> Result<Value, GraphError> {
    let (axis, extent) = selection(b, node, operands)?;
    let (start, length) = (node.attrs.int("start", 0), node.attrs.int("length", 1));
    let inside = |i: i64| if (0..length).contains(&(i - start)) { i - start } else { -1 };
    taken(b, node, dy, axis, (0..extent as i64).map(inside).collect())
}

/// What all places that took an element were sent, added in their order.
pub(super) fn take(b: &mut Builder<'_>, node: &Node, operands: &[Value], dy: Value) -> Result<Value, GraphError> {
    let (axis, extent) = selection(b, node, operands)?;
    let mut places: Vec<Vec<i64>> = vec![Vec::new(); extent];
    for (i, &from) in (0..).zip(node.attrs.ints("indices")) {
        if let Some(list) = usize::try_from(from).ok().and_then(|from| places.get_mut(from)) {
            list.push(i);
        }
    }
    let times = places.iter().map(Vec::len).max().unwrap_or(0).max(1);
    if times > MOST_PLACES {
        return Err(problem(node, &format!("takes an element {times} times; let it broadcast in what reads it")));
    }
    let nth = |n: usize| places.iter().map(|list| list.get(n).copied().unwrap_or(-1)).collect();
    let mut total = taken(b, node, dy, axis, nth(0))?;
    for n in 1..times {
        let part = taken(b, node, dy, axis, nth(n))?;
        total = b.add("add", &name(node), &[total, part], Attrs::new())?;
    }
    Ok(total)
}

/// To the first maximum in row-major order: what was folded becomes the columns of an image, one window each.
pub(super) fn greatest(b: &mut Builder<'_>, node: &Node, operands: &[Value], dy: Value) -> Result<Value, GraphError> {
    let input = shape(b, node, operands, 0)?;
    let reduced = reduced_axes(&node.attrs, input.rank()).map_err(|e| problem(node, &e))?;
    let axes = |folded: bool| reduced.iter().zip(0i64..).filter(move |(r, _)| **r == folded).map(|(_, i)| i);
    let order: Vec<i64> = axes(false).chain(axes(true)).collect();
    let extent = |i: i64| usize::try_from(i).ok().and_then(|i| input.0.get(i).copied());
    let count = |folded: bool| -> usize {
        let fixed = |i| if let Some(Dim::Fixed(n)) = extent(i) { Some(n) } else { None };
        axes(folded).filter_map(fixed).product()
    };
    let (rows, columns) = (count(false), count(true));
    let x = b.float(*operands.first().ok_or_else(|| missing(node))?)?;
    let turned = b.add("transpose", &name(node), &[x], Attrs::new().with("perm", Attr::Ints(order.clone())))?;
    let between = b.graph.value_type(turned).map(|t| t.shape.clone()).ok_or_else(|| missing(node))?;
    let rowed = reshaped(b, turned, &Shape::batched(&[rows, 1, columns]))?;
    let dy = reshaped(b, dy, &Shape::batched(&[rows, 1, 1]))?;
    let window = Attrs::new().with("kernel", Attr::Ints(vec![1, columns as i64]));
    let d = to_winner(b, node, [dy, rowed], &window)?;
    let d = reshaped(b, d, &between)?;
    turned_back(b, node, d, &order)
}
