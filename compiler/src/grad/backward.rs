//! The backward pass: the source's nodes in reverse; gradients of a value with several readers add in the readers' order.

use super::Ends;
use super::builder::{Builder, Gradient};
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::{GraphError, Node, NodeId, Value};
use std::collections::BTreeMap;

/// Gradients of source values: the reader's place in the graph's order and its port, and what it sends.
type Contributions = BTreeMap<Value, Vec<((usize, usize), Gradient)>>;

/// The gradient of every trained constant of the source.
pub(super) fn gradients(b: &mut Builder<'_>, ends: &Ends) -> Vec<(NodeId, Value)> {
    let mut contributions = Contributions::new();
    let order = b.source.order();
    match b.add("softmax_cross_entropy_grad", "dscores", &[ends.scores, ends.labels], Attrs::new()) {
        Ok(float) => {
            if let Some((_, output)) = b.source.outputs().first() {
                contributions.entry(*output).or_default().push(((usize::MAX, 0), Gradient { float, codes: None }));
            }
        }
        Err(problem) => b.problems.push(problem),
    }
    let mut found = Vec::new();
    for (place, &id) in order.iter().enumerate().rev() {
        let Some(node) = b.source.node(id) else { continue };
        let own = Value { node: id, port: 0 };
        let Some(parts) = contributions.remove(&own) else { continue };
        let result = sum(b, &node.name, parts).and_then(|dy| {
            if b.trained.contains(&id) {
                found.push((id, dy.float));
                return Ok(Vec::new());
            }
            node_gradients(b, node, dy)
        });
        match result {
            Err(problem) => b.problems.push(problem),
            Ok(parts) => {
                for (port, gradient) in parts {
                    let operand = b.source.operands(id).get(port).copied();
                    if let Some(value) = operand.filter(|v| b.wanted.contains(v)) {
                        contributions.entry(value).or_default().push(((place, port), gradient));
                    }
                }
            }
        }
    }
    found.reverse();
    found
}

fn sum(b: &mut Builder<'_>, name: &str, mut parts: Vec<((usize, usize), Gradient)>) -> Result<Gradient, GraphError> {
    parts.sort_by_key(|p| p.0);
    let mut parts = parts.into_iter().map(|p| p.1);
    let Some(mut total) = parts.next() else {
        return Err(GraphError { name: name.to_owned(), op: "gradient".to_owned(), message: "is empty".to_owned() });
    };
    for part in parts {
        let float = b.add("add", &format!("d{name}"), &[total.float, part.float], Attrs::new())?;
        total = Gradient { float, codes: None };
    }
    Ok(total)
}

/// Gradients of a node's operands, by port.
type Parts = Vec<(usize, Gradient)>;

/// The rules: one arm an operator.
fn node_gradients(b: &mut Builder<'_>, node: &Node, dy: Gradient) -> Result<Parts, GraphError> {
    let operands = b.source.operands(node.id);
    let own = Value { node: node.id, port: 0 };
    let name = format!("d{}", node.name);
    let none = Attrs::new;
    let plain = |float: Value| Gradient { float, codes: None };
    let x = operands.first().copied();
    let operand = |b: &mut Builder<'_>, i: usize| match operands.get(i) {
        Some(&v) => b.float(v),
        None => Err(missing(node)),
    };
    let one = |v: Value| Ok(vec![(0, plain(v))]);
    match node.op.name {
        "conv" | "matmul" => product(b, node, &operands, dy),
        "batch_norm" => batch_norm(b, node, &operands, dy.float),
        "quantize_weights" => quantize_weights(b, node, dy.float),
        "quantize_activation" => quantize_activation(b, node, dy.float),
        "quantize_gradient" => quantize_gradient(b, node, dy.float),
        "dropout" => {
            let place = b.places.get(&node.id).copied().unwrap_or(0);
            let attrs = node.attrs.clone().with("place", Attr::Int(place));
            one(b.add("dropout_mask", &name, &[dy.float], attrs)?)
        }
        "max_pool" => {
            let x = operand(b, 0)?;
            one(b.add("max_pool_grad", &name, &[dy.float, x], node.attrs.clone())?)
        }
        "average_pool" | "global_average_pool" => {
            let shape =
                x.and_then(|v| b.source.value_type(v)).and_then(|t| t.shape.image()).ok_or_else(|| missing(node))?;
            let attrs = node.attrs.clone().with("input", Attr::Ints(vec![shape.1 as i64, shape.2 as i64]));
            one(b.add(&format!("{}_grad", node.op.name), &name, &[dy.float], attrs)?)
        }
        "reshape" => {
            let shape =
                x.and_then(|v| b.source.value_type(v)).map(|t| t.shape.per_sample()).ok_or_else(|| missing(node))?;
            let dims = shape.iter().map(|&d| d as i64).collect();
            one(b.add("reshape", &name, &[dy.float], none().with("shape", Attr::Ints(dims)))?)
        }
        "relu" | "leaky_relu" | "clip" => {
            let x = operand(b, 0)?;
            one(b.add(&format!("{}_grad", node.op.name), &name, &[dy.float, x], node.attrs.clone())?)
        }
        "neg" => one(b.add("neg", &name, &[dy.float], none())?),
        "abs" => {
            let x = operand(b, 0)?;
            let s = b.add("sign", &name, &[x], none())?;
            one(b.add("mul", &name, &[dy.float, s], none())?)
        }
        "exp" => {
            let y = b.float(own)?;
            one(b.add("mul", &name, &[dy.float, y], none())?)
        }
        "sqrt" => {
            let y = b.float(own)?;
            let twice = b.add("add", &name, &[y, y], none())?;
            one(b.add("div", &name, &[dy.float, twice], none())?)
        }
        "tanh" => {
            let y = b.float(own)?;
            one(slope(b, &name, dy.float, [y, y], None)?)
        }
        "sigmoid" => {
            let y = b.float(own)?;
            let one_value = b.literal(1.0)?;
            let rest = b.add("sub", &name, &[one_value, y], none());
            // The literal spreads over y only where y stands first.
            let rest = match rest {
                Ok(v) => v,
                Err(_) => {
                    let minus = b.add("neg", &name, &[y], none())?;
                    b.add("add", &name, &[minus, one_value], none())?
                }
            };
            let d = b.add("mul", &name, &[dy.float, y], none())?;
            one(b.add("mul", &name, &[d, rest], none())?)
        }
        "add" | "sub" | "mul" | "div" | "min" | "max" => binary(b, node, &operands, dy.float),
        _ => Err(GraphError {
            name: node.name.clone(),
            op: node.op.name.to_owned(),
            message: "has no gradient yet; rewrite it with operators that have".to_owned(),
        }),
    }
}

fn missing(node: &Node) -> GraphError {
    GraphError { name: node.name.clone(), op: node.op.name.to_owned(), message: "lacks an operand".to_owned() }
}

/// dy·(1 − p·q), halved where told.
fn slope(
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

fn product(b: &mut Builder<'_>, node: &Node, operands: &[Value], dy: Gradient) -> Result<Parts, GraphError> {
    let (Some(&x), Some(&w)) = (operands.first(), operands.get(1)) else { return Err(missing(node)) };
    let (name, mut parts) = (format!("d{}", node.name), Vec::new());
    let shape = |v: Value| b.source.value_type(v).map(|t| t.shape.clone()).ok_or_else(|| missing(node));
    let (input, weights) = (shape(x)?, shape(w)?);
    let (_, h, width) = input.image().ok_or_else(|| missing(node))?;
    let (a, k) = (b.get(x).codes, b.get(w).codes);
    if b.wanted.contains(&x) {
        let attrs = node.attrs.clone().with("input", Attr::Ints(vec![h as i64, width as i64]));
        let float = match (dy.codes, k) {
            (Some((g, m)), Some(k)) => {
                let acc = b.add("int_conv_input_grad", &format!("{name}_int"), &[g, k.value], attrs)?;
                b.decode(&format!("{name}_x"), acc, &[Some(m), k.factor])?
            }
            _ => {
                let w = b.float(w)?;
                b.add("conv_input_grad", &format!("{name}_x"), &[dy.float, w], attrs)?
            }
        };
        parts.push((0, Gradient { float: reshaped(b, float, &input)?, codes: None }));
    }
    if b.wanted.contains(&w) {
        let dims = weights.per_sample();
        let kernel =
            dims.get(2..).filter(|k| k.len() == 2).map_or(vec![1, 1], |k| k.iter().map(|&d| d as i64).collect());
        let attrs = node.attrs.clone().with("kernel", Attr::Ints(kernel));
        let float = match (a, dy.codes) {
            (Some(a), Some((g, m))) => b.add("int_conv_weight_grad", &format!("{name}_w"), &[a.value, g, m], attrs)?,
            _ => {
                let x = b.float(x)?;
                b.add("conv_weight_grad", &format!("{name}_w"), &[x, dy.float], attrs)?
            }
        };
        parts.push((1, Gradient { float: reshaped(b, float, &weights)?, codes: None }));
    }
    if operands.len() > 2 {
        parts.push((
            2,
            Gradient { float: b.add("channel_sum", &format!("{name}_b"), &[dy.float], Attrs::new())?, codes: None },
        ));
    }
    Ok(parts)
}

/// The same elements in a shape that is the other's but for extents of 1.
fn reshaped(b: &mut Builder<'_>, v: Value, shape: &crate::graph::types::Shape) -> Result<Value, GraphError> {
    if b.graph.value_type(v).is_some_and(|t| t.shape == *shape) {
        return Ok(v);
    }
    let dims = shape.per_sample().iter().map(|&d| d as i64).collect();
    b.add("reshape", "as_read", &[v], Attrs::new().with("shape", Attr::Ints(dims)))
}

fn batch_norm(b: &mut Builder<'_>, node: &Node, operands: &[Value], dz: Value) -> Result<Parts, GraphError> {
    let &x = operands.first().ok_or_else(|| missing(node))?;
    let area = b.source.value_type(x).and_then(|t| t.shape.image()).map(|(_, h, w)| (h * w) as i64);
    let area = Attrs::new().with("area", Attr::Int(area.ok_or_else(|| missing(node))?));
    let saved = b.saved.get(&node.id).cloned().unwrap_or_default().0;
    let get = |name: &str| saved.get(name).copied().ok_or_else(|| missing(node));
    let (mean, root, scale) = (get("mean")?, get("root")?, get("scale")?);
    let input = b.float(x)?;
    let name = |part: &str| format!("d{}_{part}", node.name);
    let one = b.literal(1.0)?;
    let rstd = b.add("div", &name("rstd"), &[one, root], Attrs::new())?;
    let xhat = b.add("channel_normalize", &name("xhat"), &[input, mean, rstd], Attrs::new())?;
    let dgamma = b.add("channel_dot", &name("gamma"), &[dz, xhat], Attrs::new())?;
    let dbeta = b.add("channel_sum", &name("beta"), &[dz], Attrs::new())?;
    let plain = |float| Gradient { float, codes: None };
    let mut parts = vec![(1, plain(dgamma)), (2, plain(dbeta))];
    if b.wanted.contains(&x) {
        let (g, s) = (
            b.add("per_element", &name("gamma_mean"), &[dgamma], area.clone())?,
            b.add("per_element", &name("beta_mean"), &[dbeta], area)?,
        );
        parts.push((0, plain(b.add("batch_norm_grad", &name("x"), &[dz, xhat, g, s, scale], Attrs::new())?)));
    }
    Ok(parts)
}

fn quantize_weights(b: &mut Builder<'_>, node: &Node, dwq: Value) -> Result<Parts, GraphError> {
    let saved = b.saved.get(&node.id).cloned().unwrap_or_default().0;
    let plain = |float| Ok(vec![(0, Gradient { float, codes: None })]);
    let (Some(&t), Some(&max)) = (saved.get("tanh"), saved.get("max")) else { return plain(dwq) };
    let name = |part: &str| format!("d{}_{part}", node.name);
    let dot = b.add("sum_product", &name("dot"), &[dwq, t], Attrs::new())?;
    let ties = b.add("count_equal_abs", &name("ties"), &[t, max], Attrs::new())?;
    plain(b.add("tanh_weights_grad", &name("w"), &[dwq, t, max, dot, ties], Attrs::new())?)
}

fn quantize_activation(b: &mut Builder<'_>, node: &Node, dy: Value) -> Result<Parts, GraphError> {
    let x = b.saved.get(&node.id).and_then(|s| s.0.get("x").copied()).ok_or_else(|| missing(node))?;
    let name = format!("d{}", node.name);
    let float = match (node.attrs.int("bits", 32), node.attrs.word("bound", "clip")) {
        (32, _) => b.add("relu_grad", &name, &[dy, x], Attrs::new())?,
        (_, "abs") => b.add("abs_bound_grad", &name, &[dy, x], Attrs::new())?,
        (_, "tanh") => {
            let t = b.add("tanh", &name, &[x], Attrs::new())?;
            slope(b, &name, dy, [t, t], Some(0.5))?
        }
        _ => {
            let bounds = Attrs::new().with("lo", Attr::Float(0.0)).with("hi", Attr::Float(1.0));
            b.add("clip_grad", &name, &[dy, x], bounds)?
        }
    };
    Ok(vec![(0, Gradient { float, codes: None })])
}

fn quantize_gradient(b: &mut Builder<'_>, node: &Node, dy: Value) -> Result<Parts, GraphError> {
    let bits = node.attrs.int("bits", 32);
    if bits == 32 {
        return Ok(vec![(0, Gradient { float: dy, codes: None })]);
    }
    let name = |part: &str| format!("d{}_{part}", node.name);
    let m = b.add("sample_max_abs", &name("max"), &[dy], Attrs::new())?;
    let place = b.places.get(&node.id).copied().unwrap_or(0);
    let attrs = Attrs::new().with("bits", Attr::Int(bits)).with("place", Attr::Int(place));
    let g = b.add("encode_gradient", &name("codes"), &[dy, m], attrs)?;
    let float = b.decode(&name("q"), g, &[Some(m)])?;
    Ok(vec![(0, Gradient { float, codes: (bits <= 8).then_some((g, m)) })])
}

fn binary(b: &mut Builder<'_>, node: &Node, operands: &[Value], dy: Value) -> Result<Parts, GraphError> {
    let &[p, q] = operands else { return Err(missing(node)) };
    let widened = |v: &Value| b.source.value_type(*v).map(|t| &t.shape) != node.types.first().map(|t| &t.shape);
    if [p, q].iter().any(|v| b.wanted.contains(v) && widened(v)) {
        let message = "broadcasts what is trained; give both operands one shape".to_owned();
        return Err(GraphError { name: node.name.clone(), op: node.op.name.to_owned(), message });
    }
    let (x, y) = (b.float(p)?, b.float(q)?);
    let name = format!("d{}", node.name);
    let mut add = |op: &str, inputs: &[Value]| b.add(op, &name, inputs, Attrs::new());
    let (dx, dq) = match node.op.name {
        "add" => (dy, dy),
        "sub" => (dy, add("neg", &[dy])?),
        "mul" => (add("mul", &[dy, y])?, add("mul", &[dy, x])?),
        "div" => {
            let dx = add("div", &[dy, y])?;
            let product = add("mul", &[dx, x])?;
            let ratio = add("div", &[product, y])?;
            (dx, add("neg", &[ratio])?)
        }
        // The first operand wins only if it is less (min) or greater (max).
        kind => {
            let difference = if kind == "max" { add("sub", &[x, y])? } else { add("sub", &[y, x])? };
            let dx = add("relu_grad", &[dy, difference])?;
            (dx, add("sub", &[dy, dx])?)
        }
    };
    let plain = |float| Gradient { float, codes: None };
    Ok(vec![(0, plain(dx)), (1, plain(dq))])
}
