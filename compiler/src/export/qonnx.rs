//! The QONNX dialect: DoReFa's quantisers become Quant and BipolarQuant.
//!
//! ```text
//! before   q = quantize_weights(w, bits=1)        after   q = bipolar_quant(±E, E)
//! before   q = quantize_weights(w, bits=k)        after   q = quant(values, 2/n, n/2, bits=k, signed=false)
//! before   q = quantize_activation(x, bits=k)     after   a = mul(x, n)   b = relu(a)
//!                                                         c = quant(b, 1, 0, bits=k, signed=false)   q = div(c, n)
//! ```
//!
//! Activations are scaled outside Quant, because x·n and x/(1/n) round differently. Quant clamps, so DoReFa's own clip is
//! not written; Relu is, because tools of this dialect tell an unsigned quantiser by it. The half zero point of weights is
//! how Quant expresses levels without a zero; `passes::recover` knows it again.

use super::float::FMA;
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::{Graph, NodeId, Value, ops};
use crate::interp;
use crate::passes::{PassError, dead};
use dorefa_runtime::tensor::Tensor;

/// Rewrites the graph; constants are folded, but for what quantisers make of them.
///
/// # Errors
/// When an operator refuses its constants.
pub(super) fn rewrite(graph: &mut Graph) -> Result<(), PassError> {
    dead::run(graph)?;
    for id in graph.order() {
        let Some(node) = graph.node(id) else { continue };
        let (name, op, attrs) = (node.name.clone(), node.op.name, node.attrs.clone());
        let new = match (op, &*graph.operands(id)) {
            ("quantize_weights", &[w]) => weights(graph, &name, id, w, attrs.int("bits", 32))?,
            ("quantize_activation", &[x]) => Some(activation(graph, &name, x, &attrs)?),
            ("step", &[x]) => {
                let one = scalar(graph, &name, "one", 1.0)?;
                Some(add(graph, "bipolar_quant", &format!("{name}_quant"), &[x, one], Attrs::new())?)
            }
            ("quant" | "bipolar_quant" | "input" | "constant", _) => None,
            _ => folded(graph, &name, id)?,
        };
        if let Some(new) = new {
            graph.replace(Value { node: id, port: 0 }, new);
            graph.remove(id);
        }
    }
    dead::run(graph)
}

fn add(graph: &mut Graph, op: &str, name: &str, inputs: &[Value], attrs: Attrs) -> Result<Value, PassError> {
    Ok(graph.add(ops::known(op), name, inputs, attrs)?)
}

fn scalar(graph: &mut Graph, name: &str, what: &str, value: f32) -> Result<Value, PassError> {
    Ok(graph.add_constant(&format!("{name}_{what}"), Tensor::scalar(value))?)
}

/// The value of a node whose operands are constants, as a constant.
fn folded(graph: &mut Graph, name: &str, id: NodeId) -> Result<Option<Value>, PassError> {
    let Some(result) = interp::fold(graph, id, FMA) else { return Ok(None) };
    let tensor = result.map_err(|e| PassError::Input(format!("{name}: {e}")))?;
    Ok(Some(graph.add_constant(&format!("{name}_folded"), tensor)?))
}

/// Quantised constants, which the node quantises once more to themselves; `None` where the weights are computed.
fn weights(graph: &mut Graph, name: &str, id: NodeId, w: Value, bits: i64) -> Result<Option<Value>, PassError> {
    let latent = graph.constant(w).cloned();
    let (Some(latent), Some(values)) = (latent, folded(graph, name, id)?) else { return Ok(None) };
    let quant = format!("{name}_quant");
    if bits == 1 {
        let (_, magnitude) = ops::weight_codes(1, latent.as_f32().unwrap_or(&[]));
        let e = scalar(graph, name, "scale", magnitude)?;
        return add(graph, "bipolar_quant", &quant, &[values, e], Attrs::new()).map(Some);
    }
    let n = ops::steps(bits);
    let (s, z) = (scalar(graph, name, "scale", 2.0 / n)?, scalar(graph, name, "zero", n / 2.0)?);
    add(graph, "quant", &quant, &[values, s, z], unsigned(bits)).map(Some)
}

fn activation(graph: &mut Graph, name: &str, x: Value, attrs: &Attrs) -> Result<Value, PassError> {
    let bits = attrs.int("bits", 32);
    let step = |what: &str| format!("{name}_{what}");
    if bits == 32 {
        return add(graph, "relu", &step("relu"), &[x], Attrs::new());
    }
    let bound = attrs.word("bound", "clip");
    let mut h = match bound {
        "abs" => add(graph, "abs", &step("abs"), &[x], Attrs::new())?,
        "tanh" => {
            let (one, two) = (scalar(graph, name, "one", 1.0)?, scalar(graph, name, "two", 2.0)?);
            let t = add(graph, "tanh", &step("tanh"), &[x], Attrs::new())?;
            let t = add(graph, "add", &step("shift"), &[t, one], Attrs::new())?;
            add(graph, "div", &step("half"), &[t, two], Attrs::new())?
        }
        _ => x,
    };
    let n = scalar(graph, name, "n", ops::steps(bits))?;
    if bits > 1 {
        h = add(graph, "mul", &step("mul"), &[h, n], Attrs::new())?;
    }
    if bound == "clip" {
        h = add(graph, "relu", &step("relu"), &[h], Attrs::new())?;
    }
    let (s, z) = (scalar(graph, name, "unit", 1.0)?, scalar(graph, name, "zero", 0.0)?);
    h = add(graph, "quant", &step("quant"), &[h, s, z], unsigned(bits))?;
    if bits > 1 { add(graph, "div", &step("div"), &[h, n], Attrs::new()) } else { Ok(h) }
}

fn unsigned(bits: i64) -> Attrs {
    Attrs::new().with("bits", Attr::Int(bits)).with("signed", Attr::Bool(false))
}
