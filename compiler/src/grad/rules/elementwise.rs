//! Functions of one value and of two. A value that was spread over another gets the sum over what it was spread.

use super::{Parts, missing, plain, problem, shape};
use crate::grad::builder::Builder;
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::types::Shape;
use crate::graph::{GraphError, Node, Value};

/// dy·(1 − p·q), halved where told.
pub(super) fn slope(
    b: &mut Builder<'_>,
    name: &str,
    dy: Value,
    [p, q]: [Value; 2],
    half: Option<f32>,
) -> Result<Value, GraphError> {
    let square = b.add("mul", name, &[p, q], Attrs::new())?;
    let minus = b.add("neg", name, &[square], Attrs::new())?;
    let one = b.literal(1.0)?;
    let rest = b.add("add", name, &[minus, one], Attrs::new())?;
    let d = b.add("mul", name, &[dy, rest], Attrs::new())?;
    match half {
        None => Ok(d),
        Some(half) => {
            let half = b.literal(half)?;
            b.add("mul", name, &[d, half], Attrs::new())
        }
    }
}

/// The derivative by what the function gave; of abs by what it was given.
pub(super) fn unary(b: &mut Builder<'_>, node: &Node, operands: &[Value], dy: Value) -> Result<Value, GraphError> {
    let name = format!("d{}", node.name);
    let &x = operands.first().ok_or_else(|| missing(node))?;
    let value = if node.op.name == "abs" { x } else { Value { node: node.id, port: 0 } };
    let y = b.float(value)?;
    let mut add = |op: &str, inputs: &[Value]| b.add(op, &name, inputs, Attrs::new());
    match node.op.name {
        "abs" => {
            let sign = add("sign", &[y])?;
            add("mul", &[dy, sign])
        }
        "exp" => add("mul", &[dy, y]),
        "sqrt" => {
            let twice = add("add", &[y, y])?;
            add("div", &[dy, twice])
        }
        "tanh" => slope(b, &name, dy, [y, y], None),
        "softmax" => {
            let product = add("mul", &[dy, y])?;
            let last = Attrs::new().with("axes", Attr::Ints(vec![-1]));
            let sum = b.add("reduce_sum", &name, &[product], last)?;
            let centred = b.add("sub", &name, &[dy, sum], Attrs::new())?;
            b.add("mul", &name, &[centred, y], Attrs::new())
        }
        _ => {
            let d = add("mul", &[dy, y])?;
            let one = b.literal(1.0)?;
            let rest = b.add("sub", &name, &[one, y], Attrs::new())?;
            b.add("mul", &name, &[d, rest], Attrs::new())
        }
    }
}

/// The sum of `d` over the axes along which an operand of shape `own` was spread.
fn gathered(b: &mut Builder<'_>, node: &Node, d: Value, own: &Shape) -> Result<Value, GraphError> {
    let Some(whole) = node.types.first().map(|t| &t.shape).filter(|s| *s != own) else { return Ok(d) };
    if own.rank() != whole.rank() || own.has_batch() != whole.has_batch() {
        return Err(problem(node, "spreads what is trained over a batch; give both operands one shape"));
    }
    let axes = own.0.iter().zip(&whole.0).enumerate().filter(|(_, (a, b))| a != b).map(|(i, _)| i as i64);
    let attrs = Attrs::new().with("axes", Attr::Ints(axes.collect()));
    b.add("reduce_sum", &format!("d{}", node.name), &[d], attrs)
}

/// What each operand is sent, before it is gathered.
fn partials(b: &mut Builder<'_>, node: &Node, [p, q]: [Value; 2], dy: Value) -> Result<[Value; 2], GraphError> {
    let (x, y) = (b.float(p)?, b.float(q)?);
    let name = format!("d{}", node.name);
    let mut add = |op: &str, inputs: &[Value]| b.add(op, &name, inputs, Attrs::new());
    Ok(match node.op.name {
        "add" => [dy, dy],
        "sub" => [dy, add("neg", &[dy])?],
        "mul" => [add("mul", &[dy, y])?, add("mul", &[dy, x])?],
        "div" => {
            let dx = add("div", &[dy, y])?;
            let product = add("mul", &[dx, x])?;
            let ratio = add("div", &[product, y])?;
            [dx, add("neg", &[ratio])?]
        }
        // The first operand wins only if it is less (min) or greater (max).
        kind => {
            let difference = if kind == "max" { add("sub", &[x, y])? } else { add("sub", &[y, x])? };
            let dx = add("relu_grad", &[dy, difference])?;
            [dx, add("sub", &[dy, dx])?]
        }
    })
}

pub(super) fn binary(b: &mut Builder<'_>, node: &Node, operands: &[Value], dy: Value) -> Result<Parts, GraphError> {
    let &[p, q] = operands else { return Err(missing(node)) };
    let mut parts = Vec::new();
    for (port, d) in partials(b, node, [p, q], dy)?.into_iter().enumerate() {
        if operands.get(port).is_some_and(|v| b.wanted.contains(v)) {
            let own = shape(b, node, operands, port)?;
            parts.push((port, plain(gathered(b, node, d, &own)?)));
        }
    }
    Ok(parts)
}
