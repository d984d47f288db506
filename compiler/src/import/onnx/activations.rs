//! Activation functions and softmax, written in the few operators of the graph where those compute the same floats.

use super::arguments::{float, string};
use super::arith::unary;
use super::axes::axis;
use super::context::{Fail, Importer, Known};
use super::proto::OnnxNode;
use super::reduce::over;
use crate::graph::Value;
use crate::graph::attrs::{Attr, Attrs};

/// Imports the node if it is one of this family.
pub(super) fn handle(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Option<Known>, Fail> {
    let value = match node.op_type.as_str() {
        "Relu" => unary(im, node, "relu", Attrs::new())?,
        "Tanh" => unary(im, node, "tanh", Attrs::new())?,
        "Sigmoid" => unary(im, node, "sigmoid", Attrs::new())?,
        "Erf" => unary(im, node, "erf", Attrs::new())?,
        "LeakyRelu" => {
            let alpha = float(node, "alpha", 0.01)?;
            unary(im, node, "leaky_relu", Attrs::new().with("alpha", Attr::Float(alpha)))?
        }
        "PRelu" => {
            let inputs = [im.input(node, 0)?, im.input(node, 1)?];
            im.elementwise("prelu", node, &inputs, Attrs::new())?
        }
        "Elu" | "Selu" | "Celu" => exponential(im, node)?,
        "HardSigmoid" => {
            let x = im.input(node, 0)?;
            hard_sigmoid(im, node, x, float(node, "alpha", 0.2)?, float(node, "beta", 0.5)?)?
        }
        "HardSwish" => {
            let x = im.input(node, 0)?;
            let gate = hard_sigmoid(im, node, x, 1.0 / 6.0, 0.5)?;
            im.add("mul", node, &[x, gate])?
        }
        "Swish" => {
            let x = im.input(node, 0)?;
            let scaled = with(im, node, "mul", x, float(node, "alpha", 1.0)?)?;
            let gate = im.add("sigmoid", node, &[scaled])?;
            im.add("mul", node, &[x, gate])?
        }
        "Softplus" => {
            let x = im.input(node, 0)?;
            softplus(im, node, x)?
        }
        "Gelu" => {
            let x = im.input(node, 0)?;
            let form = string(node, "approximate", "none")?;
            let gate = match form {
                "none" => {
                    let inner = with(im, node, "mul", x, std::f32::consts::FRAC_1_SQRT_2)?;
                    im.add("erf", node, &[inner])?
                }
                "tanh" => tanh_gate(im, node, x)?,
                _ => {
                    return Err(
                        format!("has the attribute `approximate` {form:?}, but `none` or `tanh` is expected").into()
                    );
                }
            };
            let gate = with(im, node, "add", gate, 1.0)?;
            let half = with(im, node, "mul", x, 0.5)?;
            im.add("mul", node, &[half, gate])?
        }
        "Mish" => {
            let x = im.input(node, 0)?;
            let soft = softplus(im, node, x)?;
            let gate = im.add("tanh", node, &[soft])?;
            im.add("mul", node, &[x, gate])?
        }
        "Softsign" => {
            let x = im.input(node, 0)?;
            let size = im.add("abs", node, &[x])?;
            let below = with(im, node, "add", size, 1.0)?;
            im.add("div", node, &[x, below])?
        }
        "ThresholdedRelu" => {
            let x = im.input(node, 0)?;
            let above = with(im, node, "greater", x, float(node, "alpha", 1.0)?)?;
            let zero = im.scalar("zero", 0.0)?;
            im.elementwise("select", node, &[above, x, zero], Attrs::new())?
        }
        "Softmax" | "LogSoftmax" => softmax(im, node)?,
        _ => return Ok(None),
    };
    Ok(Some(Known::Value(value)))
}

/// An operator of a value and a number.
fn with(im: &mut Importer<'_>, node: &OnnxNode, op: &str, x: Value, c: f32) -> Result<Value, Fail> {
    if (op == "mul" && c == 1.0) || (op == "add" && c == 0.0) {
        return Ok(x);
    }
    let c = im.scalar(op, c)?;
    im.elementwise(op, node, &[x, c], Attrs::new())
}

fn bounded(im: &mut Importer<'_>, node: &OnnxNode, x: Value, lo: Option<f32>, hi: f32) -> Result<Value, Fail> {
    let attrs = Attrs::new().with("hi", Attr::Float(hi));
    let attrs = lo.map_or(attrs.clone(), |lo| attrs.with("lo", Attr::Float(lo)));
    im.add_with("clip", node, &[x], attrs)
}

/// clip(x·alpha + beta, 0, 1)
fn hard_sigmoid(im: &mut Importer<'_>, node: &OnnxNode, x: Value, alpha: f32, beta: f32) -> Result<Value, Fail> {
    let y = with(im, node, "mul", x, alpha)?;
    let y = with(im, node, "add", y, beta)?;
    bounded(im, node, y, Some(0.0), 1.0)
}

/// tanh(√(2/π)·(x + 0.044715·x³)): what approximates erf(x/√2) in Gelu.
fn tanh_gate(im: &mut Importer<'_>, node: &OnnxNode, x: Value) -> Result<Value, Fail> {
    let square = im.add("mul", node, &[x, x])?;
    let cube = im.add("mul", node, &[square, x])?;
    let small = with(im, node, "mul", cube, 0.044_715)?;
    let sum = im.add("add", node, &[x, small])?;
    let inner = with(im, node, "mul", sum, (2.0 / std::f32::consts::PI).sqrt())?;
    im.add("tanh", node, &[inner])
}

/// ln(e^−|x| + 1) + max(x, 0): ln(e^x + 1) without overflow.
fn softplus(im: &mut Importer<'_>, node: &OnnxNode, x: Value) -> Result<Value, Fail> {
    let size = im.add("abs", node, &[x])?;
    let minus = im.add("neg", node, &[size])?;
    let power = im.add("exp", node, &[minus])?;
    let sum = with(im, node, "add", power, 1.0)?;
    let small = im.add("log", node, &[sum])?;
    let positive = im.add("relu", node, &[x])?;
    im.add("add", node, &[positive, small])
}

/// Elu, Selu and Celu: gamma·(max(x, 0) + alpha·(e^(min(x, 0)/width) − 1)). One of both terms is always zero.
fn exponential(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let x = im.input(node, 0)?;
    let (alpha, gamma, width) = match node.op_type.as_str() {
        "Selu" => (float(node, "alpha", 1.673_263_2)?, float(node, "gamma", 1.050_701)?, 1.0),
        "Celu" => (float(node, "alpha", 1.0)?, 1.0, float(node, "alpha", 1.0)?),
        _ => (float(node, "alpha", 1.0)?, 1.0, 1.0),
    };
    let mut low = bounded(im, node, x, None, 0.0)?;
    if width != 1.0 {
        low = with(im, node, "div", low, width)?;
    }
    let power = im.add("exp", node, &[low])?;
    let below = with(im, node, "sub", power, 1.0)?;
    let below = with(im, node, "mul", below, alpha)?;
    let above = im.add("relu", node, &[x])?;
    let y = im.add("add", node, &[above, below])?;
    with(im, node, "mul", y, gamma)
}

/// Softmax and its logarithm along one axis; before operator set 13 along all axes from one on, as a matrix.
fn softmax(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let x = im.input(node, 0)?;
    let dims = im.dims(x)?;
    let old = im.opset < 13;
    let given = super::arguments::int(node, "axis", if old { 1 } else { -1 })?;
    let at = axis(given, dims.len())?;
    if !old || at + 1 == dims.len() {
        return along(im, node, x, given);
    }
    let rest: usize =
        dims.iter().skip(at).map(|d| if let crate::graph::types::Dim::Fixed(n) = d { *n } else { 0 }).product();
    if rest == 0 {
        return Err(super::axes::BATCH.into());
    }
    let rows: Vec<_> = dims.iter().take(at).copied().chain([crate::graph::types::Dim::Fixed(rest)]).collect();
    let flat = im.shaped(node, x, &rows)?;
    let y = along(im, node, flat, -1)?;
    im.shaped(node, y, &dims)
}

fn along(im: &mut Importer<'_>, node: &OnnxNode, x: Value, given: i64) -> Result<Value, Fail> {
    let at = im.axis(x, given)?;
    let logarithm = node.op_type == "LogSoftmax";
    if at + 1 == im.shape(x)?.rank() && !logarithm {
        return im.add_with("softmax", node, &[x], Attrs::new().with("axis", Attr::Int(-1)));
    }
    // The steps of `softmax`, one after another.
    let top = over(im, node, "reduce_max", x, at)?;
    let below = im.add("sub", node, &[x, top])?;
    let powers = im.add("exp", node, &[below])?;
    let sum = over(im, node, "reduce_sum", powers, at)?;
    if !logarithm {
        return im.add("div", node, &[powers, sum]);
    }
    let log = im.add("log", node, &[sum])?;
    im.add("sub", node, &[below, log])
}
