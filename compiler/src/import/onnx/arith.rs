//! Element-wise arithmetic, activations, reductions, and operators that change nothing.

use super::context::{Fail, Importer, Known, axis, float, int, to_floats};
use super::proto::OnnxNode;
use super::tensor;
use crate::graph::Value;
use crate::graph::attrs::{Attr, Attrs};
use dorefa_runtime::tensor::{Data, Tensor};
use std::sync::Arc;

/// Imports the node if it is one of this family.
pub(super) fn handle(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Option<Known>, Fail> {
    let value = match node.op_type.as_str() {
        "Relu" => unary(im, node, "relu", Attrs::new())?,
        "Neg" => unary(im, node, "neg", Attrs::new())?,
        "Abs" => unary(im, node, "abs", Attrs::new())?,
        "Sqrt" => unary(im, node, "sqrt", Attrs::new())?,
        "Sign" => unary(im, node, "sign", Attrs::new())?,
        "Exp" => unary(im, node, "exp", Attrs::new())?,
        "Tanh" => unary(im, node, "tanh", Attrs::new())?,
        "Sigmoid" => unary(im, node, "sigmoid", Attrs::new())?,
        "Round" => unary(im, node, "round", Attrs::new())?,
        "Floor" => unary(im, node, "round", mode("floor"))?,
        "Ceil" => unary(im, node, "round", mode("ceil"))?,
        "LeakyRelu" => {
            let alpha = float(node, "alpha", 0.01)?;
            unary(im, node, "leaky_relu", Attrs::new().with("alpha", Attr::Float(alpha)))?
        }
        "Clip" => clip(im, node)?,
        "Add" | "Sum" => chain(im, node, "add")?,
        "Sub" => binary(im, node, "sub")?,
        "Mul" => binary(im, node, "mul")?,
        "Div" => binary(im, node, "div")?,
        "Min" => chain(im, node, "min")?,
        "Max" => chain(im, node, "max")?,
        "Pow" => power(im, node)?,
        "ReduceMean" => reduce(im, node, "reduce_mean", 18)?,
        "ReduceMax" => reduce(im, node, "reduce_max", 18)?,
        "ReduceSum" => reduce(im, node, "reduce_sum", 13)?,
        "Softmax" => softmax(im, node)?,
        "Identity" => return im.known(im.input_name(node, 0).ok_or("has no input")?).map(Some),
        "Dropout" => {
            if im.input_name(node, 2).is_some() && im.scalar_input(node, 2)? != Some(0.0) {
                return Err("drops values: export the model in inference mode (model.eval())".into());
            }
            return im.known(im.input_name(node, 0).ok_or("has no input")?).map(Some);
        }
        "Cast" => return cast(im, node).map(Some),
        _ => return Ok(None),
    };
    Ok(Some(Known::Value(value)))
}

fn mode(word: &str) -> Attrs {
    Attrs::new().with("mode", Attr::Word(word.to_owned()))
}

fn unary(im: &mut Importer<'_>, node: &OnnxNode, op: &str, attrs: Attrs) -> Result<Value, Fail> {
    let x = im.input(node, 0)?;
    im.add_with(op, node, &[x], attrs)
}

fn binary(im: &mut Importer<'_>, node: &OnnxNode, op: &str) -> Result<Value, Fail> {
    let (a, b) = (im.input(node, 0)?, im.input(node, 1)?);
    im.add(op, node, &[a, b])
}

/// Any number of inputs, from left to right.
fn chain(im: &mut Importer<'_>, node: &OnnxNode, op: &str) -> Result<Value, Fail> {
    let mut value = im.input(node, 0)?;
    for i in 1..node.inputs.len() {
        let next = im.input(node, i)?;
        value = im.add(op, node, &[value, next])?;
    }
    Ok(value)
}

fn clip(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let x = im.input(node, 0)?;
    let mut attrs = Attrs::new();
    for (i, old, new) in [(1, "min", "lo"), (2, "max", "hi")] {
        let bound = match node.attributes.contains_key(old) {
            true => Some(float(node, old, 0.0)?),
            false => im.scalar_input(node, i)?,
        };
        if let Some(bound) = bound {
            if bound.is_nan() {
                return Err(format!("has the bound `{old}` NaN").into());
            }
            attrs = attrs.with(new, Attr::Float(bound));
        }
    }
    im.add_with("clip", node, &[x], attrs)
}

/// Powers of constants are computed here; of others, the exponents that the operators express.
fn power(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let exponent = im.scalar_input(node, 1)?.ok_or("has no exponent")?;
    let x = im.input(node, 0)?;
    if exponent == 0.5 {
        return im.add("sqrt", node, &[x]);
    }
    if let Some(tensor) = im.graph.constant(x).cloned() {
        let data = tensor.as_f32().unwrap_or(&[]);
        let powers = data.iter().map(|&v| f64::from(v).powf(exponent.into()) as f32).collect();
        let powers = Tensor::f32(tensor.shape(), powers).map_err(|e| e.to_string())?;
        return im.constant(super::node_name(node), powers);
    }
    match exponent {
        1.0 => Ok(x),
        2.0 => im.add("mul", node, &[x, x]),
        -1.0 | -0.5 => {
            let one = im.scalar("one", 1.0)?;
            let root = if exponent == -1.0 { x } else { im.add("sqrt", node, &[x])? };
            im.add("div", node, &[one, root])
        }
        _ => Err(format!("has the exponent {exponent}: only 2, 1, 0.5, −0.5 and −1 are supported").into()),
    }
}

/// `since` is the operator set from which on the axes are an input.
fn reduce(im: &mut Importer<'_>, node: &OnnxNode, op: &str, since: i64) -> Result<Value, Fail> {
    let x = im.input(node, 0)?;
    let axes = im.ints_of(node, "axes", 1)?.unwrap_or_default();
    if axes.is_empty() && im.opset >= since && int(node, "noop_with_empty_axes", 0)? != 0 {
        return Ok(x);
    }
    let rank = im.shape(x)?.rank();
    let axes = axes.iter().map(|&a| axis(a, rank).map(|a| a as i64)).collect::<Result<Vec<_>, _>>()?;
    let keep = Attr::Bool(int(node, "keepdims", 1)? != 0);
    im.add_with(op, node, &[x], Attrs::new().with("axes", Attr::Ints(axes)).with("keepdims", keep))
}

fn softmax(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let x = im.input(node, 0)?;
    let rank = im.shape(x)?.rank();
    let at = axis(int(node, "axis", if im.opset < 13 { 1 } else { -1 })?, rank)?;
    if at + 1 != rank {
        return Err(format!("runs along axis {at} of {rank}: only the last axis is supported").into());
    }
    im.add_with("softmax", node, &[x], Attrs::new().with("axis", Attr::Int(-1)))
}

/// Casts constants; of values that depend on the image, only float to float is no change.
fn cast(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Known, Fail> {
    let to = int(node, "to", 0)?;
    let code = i32::try_from(to).unwrap_or(0);
    let known = im.known(im.input_name(node, 0).ok_or("has no input")?)?;
    match known {
        Known::Ints(..) if code == 6 || code == 7 => return Ok(known),
        Known::Value(value) if im.graph.constant(value).is_none() => {
            if code == 1 {
                return Ok(known);
            }
            let name = tensor::type_name(code);
            return Err(format!("casts a float to {name}: export in FLOAT, with Floor or Round where meant").into());
        }
        _ => {}
    }
    let tensor = im.constant_input(node, 0)?.ok_or("has no input")?;
    if code == 1 {
        return Ok(Known::Tensor(Arc::new(to_floats(tensor)?)));
    }
    let (lo, hi) = match code {
        7 => (i64::MIN, i64::MAX),
        _ => tensor::int_range(code)
            .ok_or_else(|| format!("casts to {}, which is not supported", tensor::type_name(code)))?,
    };
    let (shape, data) = tensor.into_parts();
    let ints: Vec<i64> = match data {
        Data::F32(v) => v.iter().map(|&x| x as i64).collect(),
        Data::I64(v) => v,
        Data::I32(v) => v.iter().map(|&x| x.into()).collect(),
        Data::U8(v) => v.iter().map(|&x| x.into()).collect(),
    };
    if ints.iter().any(|n| !(lo..=hi).contains(n)) {
        return Err(format!("casts numbers that {} does not hold", tensor::type_name(code)).into());
    }
    let tensor = Tensor::new(shape, Data::I64(ints)).map_err(|e| e.to_string())?;
    Ok(Known::Tensor(Arc::new(tensor)))
}
