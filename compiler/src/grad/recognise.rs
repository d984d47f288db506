//! What an imported network computes in f32 steps, as the operators that training knows: DoReFa's quantisers, and biases that
//! stand behind their layer. Weights are recognised by evaluation: a chain that gives the values of `quantize_weights` is it.
//!
//! ```text
//! before   a = clip(x, lo=0, hi=1)   b = mul(a, 3)   c = round(b)   y = div(c, 3)
//! after    y = quantize_activation(x, bits=2)
//! before   a = reduce_mean(abs(@w))   y = mul(sign(div(@w, a)), a)
//! after    y = quantize_weights(@w, bits=1)
//! ```

use crate::graph::attrs::{Attr, Attrs};
use crate::graph::ops::{known, steps};
use crate::graph::{Graph, GraphError, Node, NodeId, Value};
use crate::interp;
use crate::passes::{PassError, dead, fold, recover, transpose};
use dorefa_runtime::tensor::Tensor;
use std::sync::Arc;

/// Greatest difference of a weight from what `quantize_weights` gives, as a share of the greatest weight.
const TOLERANCE: f32 = 1e-5;

/// Most bits of weights that are told apart.
const MOST_BITS: i64 = 8;

/// Rows of fewer weights are codes by chance.
const LEAST_ROW: usize = 8;

/// Rewrites an imported network.
///
/// # Errors
/// One line for each layer whose weights only its quantiser would train.
pub fn recognise(graph: &mut Graph) -> Result<(), PassError> {
    dead::sweep(graph);
    transpose::run(graph)?;
    for id in graph.order() {
        match graph.node(id).cloned() {
            Some(node) if node.op.name == "round" => activation(graph, id)?,
            Some(node) if matches!(node.op.name, "conv" | "matmul") => bias(graph, &node)?,
            _ => {}
        }
    }
    let mut folded = graph.clone();
    fold::run(&mut folded, true)?;
    let mut problems = Vec::new();
    for id in graph.order() {
        let Some(node) = graph.node(id).filter(|n| matches!(n.op.name, "conv" | "matmul")).cloned() else { continue };
        let values = folded.operands(id).get(1).and_then(|&w| folded.constant(w)).cloned();
        if let (Some(&w), Some(values)) = (graph.operands(id).get(1), values)
            && let Some(problem) = weights(graph, &node, w, &values)?
        {
            problems.push(format!("{} ({}): {problem}", node.name, node.op.name));
        }
    }
    dead::sweep(graph);
    if problems.is_empty() { Ok(()) } else { Err(PassError::Input(problems.join("\n"))) }
}

/// The number that all elements of a constant are.
fn number(graph: &Graph, value: Value) -> Option<f32> {
    let data = graph.constant(value)?.as_f32()?;
    let &first = data.first()?;
    data.iter().all(|&v| v == first).then_some(first)
}

/// The other operand of a node of an operator that takes two, one of which is a number that fits.
fn with_number(graph: &Graph, value: Value, op: &str, fits: impl Fn(f32) -> bool) -> Option<Value> {
    let node = graph.node(value.node).filter(|n| n.op.name == op)?;
    let &[a, b] = &*graph.operands(node.id) else { return None };
    let is = |v: Value| number(graph, v).is_some_and(&fits);
    if is(b) { Some(a) } else { is(a).then_some(b) }
}

/// What is bounded to 0 … 1, and how: the value, and `bound` of `quantize_activation`.
fn bounded(graph: &Graph, value: Value) -> Option<(Value, &'static str)> {
    let magnitude = |v: Value| {
        let node = graph.node(v.node).filter(|n| n.op.name == "abs")?;
        graph.operands(node.id).first().map(|&x| (x, "abs"))
    };
    let (one, zero) = (|v: f32| v == 1.0, |v: f32| v == 0.0);
    if let Some(node) = graph.node(value.node).filter(|n| n.op.name == "clip" && n.attrs.float("hi", 0.0) == 1.0) {
        let &x = graph.operands(node.id).first()?;
        let whole = node.attrs.float("lo", f32::NEG_INFINITY) == 0.0;
        return magnitude(x).or(whole.then_some((x, "clip")));
    }
    if let Some(x) = with_number(graph, value, "max", zero).and_then(|v| with_number(graph, v, "min", one)) {
        return Some((x, "clip"));
    }
    let below = with_number(graph, value, "min", one)?;
    magnitude(below).or_else(|| with_number(graph, below, "max", zero).map(|x| (x, "clip")))
}

/// `round(h·n)/n`, h in 0 … 1 and n = 2^bits − 1.
fn activation(graph: &mut Graph, round: NodeId) -> Result<(), GraphError> {
    let own = Value { node: round, port: 0 };
    let even = graph.node(round).is_some_and(|n| n.attrs.word("mode", "half_even") == "half_even");
    let Some(&scaled) = graph.operands(round).first().filter(|_| even) else { return Ok(()) };
    let Some((bits, h)) = (1..=16).find_map(|k| Some((k, with_number(graph, scaled, "mul", |v| v == steps(k))?)))
    else {
        return Ok(());
    };
    let n = steps(bits);
    let divides = |user: &Value| {
        with_number(graph, *user, "div", |v| v == n) == Some(own)
            || with_number(graph, *user, "mul", |v| v == 1.0 / n) == Some(own)
    };
    let users = graph.users(own).into_iter().map(|(node, _)| Value { node, port: 0 });
    let (Some((x, bound)), Some(last)) = (bounded(graph, h), { users }.find(divides)) else { return Ok(()) };
    let name = graph.node(last.node).map_or(String::new(), |n| n.name.clone());
    let attrs = Attrs::new().with("bits", Attr::Int(bits)).with("bound", Attr::Word(bound.to_owned()));
    let new = graph.add(known("quantize_activation"), &name, &[x], attrs)?;
    graph.replace(last, new);
    Ok(())
}

/// The one constant of the shape `shape` that `value` is computed from; everything else must be numbers.
fn latent(graph: &Graph, value: Value, shape: &[usize]) -> Option<Value> {
    let (mut found, mut left, mut seen) = (None, vec![value], std::collections::BTreeSet::new());
    while let Some(v) = left.pop() {
        if !seen.insert(v) {
            continue;
        }
        match graph.constant(v) {
            Some(tensor) if tensor.shape() == shape && found.is_none() => found = Some(v),
            Some(_) => {
                number(graph, v)?;
            }
            None => left.extend(graph.operands(v.node)),
        }
    }
    found
}

/// What `quantize_weights` of so many bits makes of weights.
fn quantised(weights: &Tensor, bits: i64) -> Option<Tensor> {
    let mut graph = Graph::new("weights");
    let w = graph.add_constant("w", weights.clone()).ok()?;
    let q = graph.add(known("quantize_weights"), "q", &[w], Attrs::new().with("bits", Attr::Int(bits))).ok()?;
    interp::fold(&graph, q.node, true)?.ok()
}

fn equal(a: &Tensor, b: &Tensor) -> bool {
    let (Some(a), Some(b)) = (a.as_f32(), b.as_f32()) else { return false };
    let allowed = TOLERANCE * b.iter().fold(0f32, |m, v| m.max(v.abs()));
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= allowed)
}

/// Puts the quantiser before the weights `w` of a layer, whose values are `values`; or says why they cannot be trained.
fn weights(graph: &mut Graph, node: &Node, w: Value, values: &Tensor) -> Result<Option<String>, GraphError> {
    let operator = graph.node(w.node).map_or("", |n| n.op.name);
    if operator != "constant" {
        if ["quantize_weights", "quant", "bipolar_quant", "reshape", "transpose"].contains(&operator) {
            return Ok(None);
        }
        let Some(latent) = latent(graph, w, values.shape()) else {
            return Ok(Some(
                "its weights are computed from several constants, which training would not change".to_owned(),
            ));
        };
        let found = graph
            .constant(latent)
            .and_then(|t| (1..=MOST_BITS).find(|&k| quantised(t, k).is_some_and(|q| equal(&q, values))));
        let Some(bits) = found else {
            return Ok(Some(format!(
                "its weights are computed by {operator} and others, which are no quantiser of DoReFa's; write the network \
                 as a .dorefa graph with quantize_weights in their place"
            )));
        };
        quantise(graph, node, latent, bits)?;
        return Ok(None);
    }
    let row = values.len() / values.shape().first().copied().unwrap_or(1).max(1);
    let varied = values.as_f32().is_some_and(|v| v.windows(2).any(|w| w.first() != w.last()));
    let Some((_, ty)) = recover::codes(values, None).filter(|_| row >= LEAST_ROW && varied) else { return Ok(None) };
    let (bits, one) = (ty.bits(), ty.scale.len() == 1);
    let odd = (ty.step, i64::from(ty.offset)) == (2, -i64::from(ty.top));
    let trained = match bits {
        1 => values.clone(),
        // Weights whose codes these are: their tanh, divided by the greatest, is the level.
        _ => match values.as_f32().map(|v| v.iter().map(|v| (v * 1f32.tanh()).atanh()).collect()) {
            Some(v) => Tensor::f32(values.shape(), v).unwrap_or_else(|_| values.clone()),
            None => values.clone(),
        },
    };
    let bits = i64::from(bits);
    // The mean of many equal magnitudes is not quite theirs.
    if odd && one && (bits == 1 || quantised(&trained, bits).is_some_and(|q| equal(&q, values))) {
        graph.set_constant(w.node, Arc::new(trained))?;
        quantise(graph, node, w, bits)?;
        return Ok(None);
    }
    Ok(Some(format!(
        "its weights are {bits}-bit codes that the exporter folded, so that their quantiser is lost; export without \
         constant folding, or write the network as a .dorefa graph with quantize_weights"
    )))
}

fn quantise(graph: &mut Graph, node: &Node, w: Value, bits: i64) -> Result<(), GraphError> {
    let attrs = Attrs::new().with("bits", Attr::Int(bits));
    let q = graph.add(known("quantize_weights"), &format!("{}_weights", node.name), &[w], attrs)?;
    graph.set_operand(node.id, 1, q);
    let own = Value { node: node.id, port: 0 };
    // Its gradient may be quantised too: by --bits.
    let attrs = Attrs::new().with("bits", Attr::Int(32));
    let g = graph.add(known("quantize_gradient"), &format!("{}_gradient", node.name), &[own], attrs)?;
    graph.replace(own, g);
    graph.set_operand(g.node, 0, own);
    Ok(())
}

/// A constant a channel that is added to a layer without a bias is its bias.
fn bias(graph: &mut Graph, node: &Node) -> Result<(), GraphError> {
    let own = Value { node: node.id, port: 0 };
    let operands = graph.operands(node.id);
    let (&[x, w], Some(user)) = (&*operands, graph.sole_user(own)) else { return Ok(()) };
    let Some(sum) = graph.node(user).filter(|n| n.op.name == "add") else { return Ok(()) };
    let Some(shape) = sum.types.first().map(|t| t.shape.clone()) else { return Ok(()) };
    let Some(other) = graph.operands(user).into_iter().find(|&v| v != own) else { return Ok(()) };
    let aligned = graph.value_type(other).map(|t| t.shape.aligned(&shape)).unwrap_or_default();
    let (Some(tensor), Some((channels, ..))) = (graph.constant(other).cloned(), shape.image()) else { return Ok(()) };
    if tensor.len() != channels || aligned.first() != Some(&channels) || !graph.users(other).iter().all(|u| u.0 == user)
    {
        return Ok(());
    }
    let name = graph.node(other.node).map_or(String::new(), |n| n.name.clone());
    let flat = (*tensor).clone().reshape(vec![channels]).map_err(|e| GraphError {
        name: name.clone(),
        op: "constant".to_owned(),
        message: e.to_string(),
    })?;
    let (sum, attrs) = (sum.name.clone(), node.attrs.clone());
    let b = graph.add_constant(&format!("{name}.b"), flat)?;
    let new = graph.add(node.op, &sum, &[x, w, b], attrs)?;
    graph.replace(Value { node: user, port: 0 }, new);
    Ok(())
}

#[cfg(test)]
#[path = "recognise_tests.rs"]
mod tests;
