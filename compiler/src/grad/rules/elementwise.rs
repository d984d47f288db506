//! Functions of one value and of two. A value that was spread over another gets the sum over what it was spread.

use super::{Parts, missing, plain, problem, reshaped, shape};
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

/// The derivative by what the function gave; of abs, log and erf by what it was given.
pub(super) fn unary(b: &mut Builder<'_>, node: &Node, operands: &[Value], dy: Value) -> Result<Value, GraphError> {
    let name = format!("d{}", node.name);
    let &x = operands.first().ok_or_else(|| missing(node))?;
    let value = if ["abs", "log", "erf"].contains(&node.op.name) { x } else { Value { node: node.id, port: 0 } };
    let y = b.float(value)?;
    let mut add = |op: &str, inputs: &[Value]| b.add(op, &name, inputs, Attrs::new());
    match node.op.name {
        "abs" => {
            let sign = add("sign", &[y])?;
            add("mul", &[dy, sign])
        }
        "exp" => add("mul", &[dy, y]),
        "log" => add("div", &[dy, y]),
        "erf" => {
            let square = add("mul", &[y, y])?;
            let minus = add("neg", &[square])?;
            let bell = add("exp", &[minus])?;
            let d = add("mul", &[dy, bell])?;
            let height = b.literal(std::f32::consts::FRAC_2_SQRT_PI)?;
            b.add("mul", &name, &[d, height], Attrs::new())
        }
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

/// The sum of `d` over the axes along which an operand of shape `own` was spread, and over the batch where it has none.
pub(super) fn gathered(b: &mut Builder<'_>, node: &Node, d: Value, own: &Shape) -> Result<Value, GraphError> {
    let Some(whole) = node.types.first().map(|t| &t.shape).filter(|s| *s != own) else { return Ok(d) };
    let name = format!("d{}", node.name);
    if own.has_batch() == whole.has_batch() {
        let axes = own.0.iter().zip(&whole.0).enumerate().filter(|(_, (a, b))| a != b).map(|(i, _)| i as i64);
        let attrs = Attrs::new().with("axes", Attr::Ints(axes.collect()));
        return b.add("reduce_sum", &name, &[d], attrs);
    }
    let (all, aligned) = (whole.per_sample(), own.aligned(whole));
    let channels = aligned.first() == all.first() && aligned.iter().skip(1).all(|&n| n == 1) && whole.image().is_some();
    if channels {
        let sum = b.add("channel_sum", &name, &[d], Attrs::new())?;
        return reshaped(b, sum, own);
    }
    // Over the batch element by element, then over the other axes.
    let flat = reshaped(b, d, &Shape::batched(&[all.iter().product()]))?;
    let sum = b.add("channel_sum", &name, &[flat], Attrs::new())?;
    let mut sum = reshaped(b, sum, &Shape::fixed(&all))?;
    let axes: Vec<i64> = aligned.iter().zip(&all).zip(0..).filter(|((a, b), _)| a != b).map(|(_, i)| i).collect();
    if !axes.is_empty() {
        sum = b.add("reduce_sum", &name, &[sum], Attrs::new().with("axes", Attr::Ints(axes)))?;
    }
    reshaped(b, sum, own)
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
        "prelu" => {
            let above = add("relu_grad", &[dy, x])?;
            let below = add("sub", &[dy, above])?;
            let scaled = add("mul", &[below, y])?;
            [add("add", &[above, scaled])?, add("mul", &[below, x])?]
        }
        "pow" => {
            let one = b.literal(1.0)?;
            let mut add = |op: &str, inputs: &[Value]| b.add(op, &name, inputs, Attrs::new());
            let less = add("sub", &[y, one])?;
            let power = add("pow", &[x, less])?;
            let slope = add("mul", &[y, power])?;
            [add("mul", &[dy, slope])?, dy]
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
    if node.op.name == "pow" && b.wanted.contains(&q) {
        return Err(problem(
            node,
            "has a computed exponent, which has no gradient; write exp(mul(exponent, log(base)))",
        ));
    }
    let sent = partials(b, node, [p, q], dy)?;
    each(b, node, operands, sent.into_iter().enumerate())
}

/// The choice of an element sends the gradient to what was chosen.
pub(super) fn select(b: &mut Builder<'_>, node: &Node, operands: &[Value], dy: Value) -> Result<Parts, GraphError> {
    let &[condition, _, _] = operands else { return Err(missing(node)) };
    let (condition, zero) = (b.float(condition)?, b.literal(0.0)?);
    let name = format!("d{}", node.name);
    let first = b.add("select", &name, &[condition, dy, zero], Attrs::new())?;
    let second = b.add("select", &name, &[condition, zero, dy], Attrs::new())?;
    each(b, node, operands, [(1, first), (2, second)])
}

/// What was sent to each operand by its port, gathered where the operand was spread.
fn each(
    b: &mut Builder<'_>,
    node: &Node,
    operands: &[Value],
    sent: impl IntoIterator<Item = (usize, Value)>,
) -> Result<Parts, GraphError> {
    let mut parts = Vec::new();
    for (port, d) in sent {
        if operands.get(port).is_some_and(|v| b.wanted.contains(v)) {
            let own = shape(b, node, operands, port)?;
            parts.push((port, plain(gathered(b, node, d, &own)?)));
        }
    }
    Ok(parts)
}
