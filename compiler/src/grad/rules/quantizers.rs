//! Quantisers: straight through the rounding, exact through the rest. The gradient quantiser makes codes of what it is given.
//! Dropout stands here as it shares their numbering of places.

use super::elementwise::slope;
use super::{Parts, missing, plain};
use crate::grad::builder::{Builder, Gradient};
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::{GraphError, Node, Value};

pub(super) fn weights(b: &mut Builder<'_>, node: &Node, dwq: Value) -> Result<Parts, GraphError> {
    let saved = b.saved.get(&node.id).cloned().unwrap_or_default().0;
    let one = |float| Ok(vec![(0, plain(float))]);
    let (Some(&t), Some(&max)) = (saved.get("tanh"), saved.get("max")) else { return one(dwq) };
    let name = |part: &str| format!("d{}_{part}", node.name);
    let dot = b.add("sum_product", &name("dot"), &[dwq, t], Attrs::new())?;
    let ties = b.add("count_equal_abs", &name("ties"), &[t, max], Attrs::new())?;
    one(b.add("tanh_weights_grad", &name("w"), &[dwq, t, max, dot, ties], Attrs::new())?)
}

pub(super) fn activation(b: &mut Builder<'_>, node: &Node, dy: Value) -> Result<Parts, GraphError> {
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
    Ok(vec![(0, plain(float))])
}

pub(super) fn gradient(b: &mut Builder<'_>, node: &Node, dy: Value) -> Result<Parts, GraphError> {
    let bits = node.attrs.int("bits", 32);
    if bits == 32 {
        return Ok(vec![(0, plain(dy))]);
    }
    let name = |part: &str| format!("d{}_{part}", node.name);
    let m = b.add("sample_max_abs", &name("max"), &[dy], Attrs::new())?;
    let place = b.places.get(&node.id).copied().unwrap_or(0);
    let attrs = Attrs::new().with("bits", Attr::Int(bits)).with("place", Attr::Int(place));
    let g = b.add("encode_gradient", &name("codes"), &[dy, m], attrs)?;
    let float = b.decode(&name("q"), g, &[Some(m)])?;
    Ok(vec![(0, Gradient { float, codes: (bits <= 8).then_some((g, m)) })])
}

/// The same elements are kept as on the way forward.
pub(super) fn dropout(b: &mut Builder<'_>, node: &Node, dy: Value) -> Result<Value, GraphError> {
    let place = b.places.get(&node.id).copied().unwrap_or(0);
    let attrs = node.attrs.clone().with("place", Attr::Int(place));
    b.add("dropout_mask", &format!("d{}", node.name), &[dy], attrs)
}
