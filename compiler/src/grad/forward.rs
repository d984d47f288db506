//! The forward pass: the source's nodes in order, quantisers as codes, batch norm by the batch's statistics.

use super::Mode;
use super::builder::{Builder, Codes, Saved, Tracked};
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::scale::Scale;
use crate::graph::{GraphError, Node, Value};

/// Codes of more bits are computed as floats.
const MOST_BITS: i64 = 8;

/// Operators that the step computes of floats, as they are.
const FLOATS: &[&str] = &[
    "add",
    "sub",
    "mul",
    "div",
    "min",
    "max",
    "pow",
    "prelu",
    "equal",
    "greater",
    "greater_equal",
    "select",
    "neg",
    "abs",
    "sqrt",
    "sign",
    "step",
    "round",
    "relu",
    "leaky_relu",
    "clip",
    "exp",
    "log",
    "tanh",
    "sigmoid",
    "erf",
    "softmax",
    "average_pool",
    "global_average_pool",
    "reduce_mean",
    "reduce_max",
    "reduce_sum",
    "arg_max",
    "product",
    "concat",
    "pad",
    "take",
    "repeat",
];

/// Copies the source's nodes into the step.
pub(super) fn copy(b: &mut Builder<'_>) {
    for id in b.source.order() {
        let Some(node) = b.source.node(id) else { continue };
        // What reads a node that was refused is no problem of its own.
        if b.source.operands(id).iter().any(|v| !b.tracked.contains_key(v))
            || super::closing_softmax(b.source) == Some(id)
        {
            continue;
        }
        if let Err(problem) = forward(b, node) {
            b.problems.push(problem);
        }
    }
}

fn forward(b: &mut Builder<'_>, node: &Node) -> Result<(), GraphError> {
    let own = Value { node: node.id, port: 0 };
    let operands = b.source.operands(node.id);
    if operands.iter().any(|v| b.wanted.contains(v)) || b.trained.contains(&node.id) {
        b.wanted.insert(own);
    }
    let tracked = match node.op.name {
        "input" => {
            let ty = node.types.first().cloned().ok_or_else(|| problem(node, "has no type"))?;
            floats(b.graph.add_input(&node.name, ty))
        }
        "constant" => {
            let tensor = node.tensor.as_deref().cloned().ok_or_else(|| problem(node, "has no data"))?;
            floats(b.graph.add_constant(&node.name, tensor)?)
        }
        "conv" | "matmul" => product(b, node, &operands)?,
        "batch_norm" => batch_norm(b, node, &operands)?,
        "quantize_weights" => quantize_weights(b, node, &operands)?,
        "quantize_activation" => quantize_activation(b, node, &operands)?,
        "quantize_gradient" => b.get(first(node, &operands)?),
        "dropout" => dropout(b, node, &operands)?,
        "max_pool" | "reshape" | "transpose" | "slice" => moved(b, node, &operands)?,
        name if FLOATS.contains(&name) => {
            let inputs = operands.iter().map(|&v| b.float(v)).collect::<Result<Vec<_>, _>>()?;
            floats(b.add(node.op.name, &node.name, &inputs, node.attrs.clone())?)
        }
        "quant" | "bipolar_quant" | "multi_threshold" => {
            return Err(problem(
                node,
                "is a quantiser whose gradient training does not know; train a .dorefa graph that has quantize_weights \
                 or quantize_activation in its place",
            ));
        }
        _ => return Err(problem(node, "works on codes, which training makes itself; train the network before `lift`")),
    };
    b.tracked.insert(own, tracked);
    Ok(())
}

fn problem(node: &Node, message: &str) -> GraphError {
    GraphError { name: node.name.clone(), op: node.op.name.to_owned(), message: message.to_owned() }
}

fn floats(value: Value) -> Tracked {
    Tracked { float: Some(value), ..Tracked::default() }
}

fn first(node: &Node, operands: &[Value]) -> Result<Value, GraphError> {
    operands.first().copied().ok_or_else(|| problem(node, "has no operand"))
}

/// A convolution or matrix product: of integers where both operands are codes.
fn product(b: &mut Builder<'_>, node: &Node, operands: &[Value]) -> Result<Tracked, GraphError> {
    let (&[x, w], bias) = (operands.get(..2).unwrap_or(&[]), operands.get(2)) else {
        return Err(problem(node, "takes an input and weights"));
    };
    let bias = match bias {
        Some(&v) => Some(b.float(v)?),
        None => None,
    };
    let (Some(a), Some(k)) = (b.get(x).codes, b.get(w).codes) else {
        let (x, w) = (b.float(x)?, b.float(w)?);
        let inputs: Vec<Value> = [x, w].into_iter().chain(bias).collect();
        return Ok(floats(b.add(node.op.name, &node.name, &inputs, node.attrs.clone())?));
    };
    let acc = b.add("int_conv", &format!("{}_int", node.name), &[a.value, k.value], node.attrs.clone())?;
    let float = b.decode(&node.name, acc, &[k.factor])?;
    let Some(bias) = bias else {
        let acc = squares_fit(b, acc).then_some(Codes { value: acc, factor: k.factor });
        return Ok(Tracked { float: Some(float), codes: None, acc });
    };
    let channels = b.graph.value_type(bias).and_then(|t| t.shape.sample_len()).unwrap_or(1);
    let ones = Attrs::new().with("value", Attr::Float(1.0)).with("shape", Attr::Ints(vec![channels as i64]));
    let ones = b.add("literal", "ones", &[], ones)?;
    Ok(floats(b.add("channel_affine", &node.name, &[float, ones, bias], Attrs::new())?))
}

/// Whether 64 bits hold the sum of a sample's squared accumulators: else batch norm takes its statistics from the floats.
fn squares_fit(b: &Builder<'_>, acc: Value) -> bool {
    let bound = b.graph.value_type(acc).and_then(|t| {
        let (a, (_, h, w)) = (t.acc()?, t.shape.image()?);
        let most = i128::from(a.lo.unsigned_abs().max(a.hi.unsigned_abs()));
        most.checked_mul(most)?.checked_mul((h * w) as i128)
    });
    bound.is_some_and(|b| b < 1 << 63)
}

fn batch_norm(b: &mut Builder<'_>, node: &Node, operands: &[Value]) -> Result<Tracked, GraphError> {
    let &[x, gamma, beta, mean, var] = operands else { return Err(problem(node, "takes five operands")) };
    let area = b.source.value_type(x).and_then(|t| t.shape.image()).map(|(_, h, w)| h * w);
    let area = area.ok_or_else(|| problem(node, "normalises an image or a matrix"))?;
    let input = b.float(x)?;
    let [gamma, beta, running, running_var] = {
        let mut one = |v| b.float(v);
        [one(gamma)?, one(beta)?, one(mean)?, one(var)?]
    };
    let name = |part: &str| format!("{}_{part}", node.name);
    let (m, v) = match b.mode {
        Mode::Evaluate => (running, running_var),
        Mode::Train => {
            let (source, factor) = b.get(x).acc.map_or((input, None), |a| (a.value, a.factor));
            let with = |values: &[Value]| values.iter().copied().chain(factor).collect::<Vec<_>>();
            let m = b.add("batch_mean", &name("mean"), &with(&[source]), Attrs::new())?;
            let v = b.add("batch_variance", &name("variance"), &with(&[source, m]), Attrs::new())?;
            let momentum = b.hyper("bn_momentum")?;
            let next = b.add("moment", &name("running_mean"), &[running, m, momentum], Attrs::new())?;
            b.statistics.push((running.node, next));
            let area = Attrs::new().with("area", Attr::Int(area as i64));
            let unbiased = b.add("unbiased", &name("unbiased"), &[v], area)?;
            let next = b.add("moment", &name("running_var"), &[running_var, unbiased, momentum], Attrs::new())?;
            b.statistics.push((running_var.node, next));
            (m, v)
        }
    };
    let epsilon = b.literal(node.attrs.float("epsilon", 1e-5))?;
    let sum = b.add("add", &name("shifted"), &[v, epsilon], Attrs::new())?;
    let root = b.add("sqrt", &name("deviation"), &[sum], Attrs::new())?;
    let s = b.add("div", &name("scale"), &[gamma, root], Attrs::new())?;
    let product = b.add("mul", &name("centre"), &[m, s], Attrs::new())?;
    let o = b.add("sub", &name("offset"), &[beta, product], Attrs::new())?;
    let z = b.add("channel_affine", &node.name, &[input, s, o], Attrs::new())?;
    b.saved.insert(node.id, Saved([("mean", m), ("root", root), ("scale", s)].into()));
    Ok(floats(z))
}

fn quantize_weights(b: &mut Builder<'_>, node: &Node, operands: &[Value]) -> Result<Tracked, GraphError> {
    let w = b.float(first(node, operands)?)?;
    let bits = node.attrs.int("bits", 32);
    if bits == 32 {
        return Ok(floats(w));
    }
    let attrs = Attrs::new().with("bits", Attr::Int(bits));
    let name = |part: &str| format!("{}_{part}", node.name);
    let codes = if bits == 1 {
        let e = b.add("mean_abs", &name("e"), &[w], Attrs::new())?;
        Codes { value: b.add("encode_weights", &name("codes"), &[w], attrs)?, factor: Some(e) }
    } else {
        let t = b.add("tanh", &name("tanh"), &[w], Attrs::new())?;
        let max = b.add("max_abs", &name("max"), &[t], Attrs::new())?;
        b.saved.insert(node.id, Saved([("tanh", t), ("max", max)].into()));
        Codes { value: b.add("encode_weights", &name("codes"), &[t, max], attrs)?, factor: None }
    };
    coded(b, node, codes, bits)
}

/// Codes, which only products of at most 8 bits read as such.
fn coded(b: &mut Builder<'_>, node: &Node, codes: Codes, bits: i64) -> Result<Tracked, GraphError> {
    if bits <= MOST_BITS {
        return Ok(Tracked { codes: Some(codes), ..Tracked::default() });
    }
    Ok(floats(b.decode(&node.name, codes.value, &[codes.factor])?))
}

fn quantize_activation(b: &mut Builder<'_>, node: &Node, operands: &[Value]) -> Result<Tracked, GraphError> {
    let x = b.float(first(node, operands)?)?;
    let bits = node.attrs.int("bits", 32);
    b.saved.insert(node.id, Saved([("x", x)].into()));
    if bits == 32 {
        return Ok(floats(b.add("relu", &node.name, &[x], Attrs::new())?));
    }
    let value = b.add("encode_activation", &format!("{}_codes", node.name), &[x], node.attrs.clone())?;
    coded(b, node, Codes { value, factor: None }, bits)
}

fn dropout(b: &mut Builder<'_>, node: &Node, operands: &[Value]) -> Result<Tracked, GraphError> {
    let x = first(node, operands)?;
    if b.mode == Mode::Evaluate {
        return Ok(b.get(x));
    }
    let place = b.places.get(&node.id).copied().unwrap_or(0);
    let attrs = node.attrs.clone().with("place", Attr::Int(place));
    if let Some(codes) = b.get(x).codes {
        let value = b.add("dropout_mask", &format!("{}_codes", node.name), &[codes.value], attrs)?;
        return Ok(Tracked { codes: Some(Codes { value, ..codes }), ..Tracked::default() });
    }
    let x = b.float(x)?;
    Ok(floats(b.add("dropout_mask", &node.name, &[x], attrs)?))
}

/// What gives some of its operand's elements gives codes of codes: the floats lie on their levels, so that encoding them again
/// changes nothing.
fn moved(b: &mut Builder<'_>, node: &Node, operands: &[Value]) -> Result<Tracked, GraphError> {
    let x = first(node, operands)?;
    let input = b.float(x)?;
    let float = b.add(node.op.name, &node.name, &[input], node.attrs.clone())?;
    let Some(codes) = b.get(x).codes else { return Ok(floats(float)) };
    // Codes that dropout has rescaled are worth other values than those that encoding gives.
    let activations = b.graph.value_type(codes.value).and_then(|t| t.codes()).filter(|c| {
        codes.factor.is_none()
            && (c.step, c.offset) == (1, 0)
            && Scale::ratio(1, c.top.into()).is_some_and(|s| *c.scale == [s])
    });
    let Some(top) = activations.map(|c| c.top) else { return Ok(floats(float)) };
    let attrs = Attrs::new().with("bits", Attr::Int(i64::from(32 - top.leading_zeros())));
    let value = b.add("encode_activation", &format!("{}_codes", node.name), &[float], attrs)?;
    Ok(Tracked { float: Some(float), codes: Some(Codes { value, factor: None }), acc: None })
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
