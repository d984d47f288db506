//! Expands quantisers on computed values into primitive f32 steps of the same bits. Those on constants stay for `recover`.
//!
//! ```text
//! before   q = quantize_activation(x, bits=2)
//! after    a = clip(x, lo=0, hi=1)   b = mul(a, 3)   c = round(b)   q = div(c, 3)
//!
//! before   q = quant(x, s, z, bits=2, signed=false)
//! after    a = div(x, s)   b = add(a, z)   c = clip(b, lo=0, hi=3)   d = round(c)   e = sub(d, z)   q = mul(e, s)
//!
//! before   q = bipolar_quant(x, s)
//! after    a = step(x)   q = mul(a, s)
//! ```

use super::{PassError, add};
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::{Graph, Value, ops};
use dorefa_runtime::tensor::Tensor;
use std::collections::BTreeSet;

/// Expands the quantisers.
///
/// # Errors
/// When a step does not fit, which is a bug.
pub fn run(graph: &mut Graph) -> Result<(), PassError> {
    let mut constant: BTreeSet<Value> = BTreeSet::new();
    for id in graph.order() {
        let Some(node) = graph.node(id) else { continue };
        let (name, op, attrs) = (node.name.clone(), node.op.name, node.attrs.clone());
        let (value, operands) = (Value { node: id, port: 0 }, graph.operands(id));
        if op == "constant" || (!operands.is_empty() && operands.iter().all(|v| constant.contains(v))) {
            constant.insert(value);
            continue;
        }
        let new = match (op, &*operands) {
            ("quantize_activation", &[x]) => activation(graph, &name, x, &attrs)?,
            ("quant", &[x, s, z]) => quant(graph, &name, x, s, z, &attrs)?,
            ("bipolar_quant", &[x, s]) => {
                let s = scalar(graph, s)?;
                let t = add(graph, "step", &format!("{name}_step"), &[x], Attrs::new())?;
                add(graph, "mul", &format!("{name}_scale"), &[t, s], Attrs::new())?
            }
            _ => continue,
        };
        graph.replace(value, new);
        graph.remove(id);
    }
    Ok(())
}

fn activation(graph: &mut Graph, name: &str, x: Value, attrs: &Attrs) -> Result<Value, PassError> {
    let bits = attrs.int("bits", 32);
    if bits == 32 {
        return add(graph, "relu", &format!("{name}_relu"), &[x], Attrs::new());
    }
    let one = Attr::Float(1.0);
    let h = match attrs.word("bound", "clip") {
        "abs" => {
            let a = add(graph, "abs", &format!("{name}_abs"), &[x], Attrs::new())?;
            add(graph, "clip", &format!("{name}_clip"), &[a], Attrs::new().with("hi", one))?
        }
        "tanh" => {
            let t = add(graph, "tanh", &format!("{name}_tanh"), &[x], Attrs::new())?;
            let one = graph.add_constant(&format!("{name}_one"), Tensor::scalar(1.0))?;
            let two = graph.add_constant(&format!("{name}_two"), Tensor::scalar(2.0))?;
            let t = add(graph, "add", &format!("{name}_shift"), &[t, one], Attrs::new())?;
            add(graph, "div", &format!("{name}_half"), &[t, two], Attrs::new())?
        }
        _ => {
            let bounds = Attrs::new().with("lo", Attr::Float(0.0)).with("hi", one);
            add(graph, "clip", &format!("{name}_clip"), &[x], bounds)?
        }
    };
    let n = graph.add_constant(&format!("{name}_n"), Tensor::scalar(ops::steps(bits)))?;
    let m = add(graph, "mul", &format!("{name}_mul"), &[h, n], Attrs::new())?;
    let r = add(graph, "round", &format!("{name}_round"), &[m], Attrs::new())?;
    add(graph, "div", &format!("{name}_div"), &[r, n], Attrs::new())
}

fn quant(graph: &mut Graph, name: &str, x: Value, s: Value, z: Value, attrs: &Attrs) -> Result<Value, PassError> {
    let (s, z) = (scalar(graph, s)?, scalar(graph, z)?);
    let (lo, hi) = ops::quant_bounds(attrs.int("bits", 8), attrs.bool("signed", true), attrs.bool("narrow", false));
    let bounds = Attrs::new().with("lo", Attr::Float(lo)).with("hi", Attr::Float(hi));
    let mode = Attrs::new().with("mode", Attr::Word(attrs.word("mode", "half_even").to_owned()));
    let t = add(graph, "div", &format!("{name}_div"), &[x, s], Attrs::new())?;
    let t = add(graph, "add", &format!("{name}_zero"), &[t, z], Attrs::new())?;
    let t = add(graph, "clip", &format!("{name}_clip"), &[t], bounds)?;
    let t = add(graph, "round", &format!("{name}_round"), &[t], mode)?;
    let t = add(graph, "sub", &format!("{name}_unzero"), &[t, z], Attrs::new())?;
    add(graph, "mul", &format!("{name}_scale"), &[t, s], Attrs::new())
}

/// A constant of one element as a scalar, so that its rank never adds axes.
fn scalar(graph: &mut Graph, value: Value) -> Result<Value, PassError> {
    let one = graph.constant(value).filter(|t| t.len() == 1 && !t.shape().is_empty()).and_then(|t| t.as_f32());
    match one.and_then(|v| v.first().copied()) {
        Some(v) => Ok(graph.add_constant(&super::name_of(graph, value), Tensor::scalar(v))?),
        None => Ok(value),
    }
}
