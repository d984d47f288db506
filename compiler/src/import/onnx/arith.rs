//! Element-wise arithmetic, comparisons, casts, and operators that change nothing.

use super::arguments::{float, int};
use super::context::{Fail, Importer, Known, to_floats};
use super::proto::OnnxNode;
use super::tensor;
use crate::graph::Value;
use crate::graph::attrs::{Attr, Attrs};
use dorefa_runtime::tensor::{Data, Tensor};
use std::sync::Arc;

/// Imports the node if it is one of this family.
pub(super) fn handle(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Option<Known>, Fail> {
    let value = match node.op_type.as_str() {
        "Neg" => unary(im, node, "neg", Attrs::new())?,
        "Abs" => unary(im, node, "abs", Attrs::new())?,
        "Sqrt" => unary(im, node, "sqrt", Attrs::new())?,
        "Sign" => unary(im, node, "sign", Attrs::new())?,
        "Exp" => unary(im, node, "exp", Attrs::new())?,
        "Log" => unary(im, node, "log", Attrs::new())?,
        "Round" => unary(im, node, "round", Attrs::new())?,
        "Floor" => unary(im, node, "round", mode("floor"))?,
        "Ceil" => unary(im, node, "round", mode("ceil"))?,
        "Reciprocal" => {
            let (one, x) = (im.scalar("one", 1.0)?, im.input(node, 0)?);
            im.elementwise("div", node, &[one, x], Attrs::new())?
        }
        "Clip" => clip(im, node)?,
        "Add" | "Sum" => chain(im, node, "add")?,
        "Sub" => binary(im, node, "sub", [0, 1])?,
        "Mul" => binary(im, node, "mul", [0, 1])?,
        "Div" => divide(im, node)?,
        "Min" => chain(im, node, "min")?,
        "Max" => chain(im, node, "max")?,
        "Mean" => {
            let sum = chain(im, node, "add")?;
            let count = im.scalar("count", node.inputs.len() as f32)?;
            im.elementwise("div", node, &[sum, count], Attrs::new())?
        }
        "Pow" => power(im, node)?,
        "Equal" => binary(im, node, "equal", [0, 1])?,
        "Greater" => binary(im, node, "greater", [0, 1])?,
        "Less" => binary(im, node, "greater", [1, 0])?,
        "GreaterOrEqual" => binary(im, node, "greater_equal", [0, 1])?,
        "LessOrEqual" => binary(im, node, "greater_equal", [1, 0])?,
        // Truth values are 0 and 1.
        "And" => binary(im, node, "min", [0, 1])?,
        "Or" => binary(im, node, "max", [0, 1])?,
        "Xor" => {
            let equal = binary(im, node, "equal", [0, 1])?;
            negation(im, node, equal)?
        }
        "Not" => {
            let x = im.input(node, 0)?;
            negation(im, node, x)?
        }
        "Where" => {
            let inputs = (0..3).map(|i| im.input(node, i)).collect::<Result<Vec<_>, _>>()?;
            im.elementwise("select", node, &inputs, Attrs::new())?
        }
        "Identity" => return im.known(im.input_name(node, 0).ok_or("has no input")?).map(Some),
        "Dropout" => {
            // A rate of 0 drops nothing, in training neither.
            let none = im.opset >= 12 && im.input_name(node, 1).is_some() && im.scalar_input(node, 1)? == Some(0.0);
            if !none && im.input_name(node, 2).is_some() && im.scalar_input(node, 2)? != Some(0.0) {
                return Err("drops values: export the model in inference mode (model.eval())".into());
            }
            return im.known(im.input_name(node, 0).ok_or("has no input")?).map(Some);
        }
        "Cast" => return cast(im, node, int(node, "to", 0)?).map(Some),
        "CastLike" => {
            let to = kind(im, node)?;
            return cast(im, node, to).map(Some);
        }
        _ => return Ok(None),
    };
    if matches!(node.op_type.as_str(), "Equal" | "Greater" | "Less" | "GreaterOrEqual" | "LessOrEqual" | "Not") {
        im.mark_integer(value);
    }
    Ok(Some(Known::Value(value)))
}

fn mode(word: &str) -> Attrs {
    Attrs::new().with("mode", Attr::Word(word.to_owned()))
}

/// An operator on the first input.
pub(super) fn unary(im: &mut Importer<'_>, node: &OnnxNode, op: &str, attrs: Attrs) -> Result<Value, Fail> {
    let x = im.input(node, 0)?;
    im.add_with(op, node, &[x], attrs)
}

/// An operator on two inputs in this order.
fn binary(im: &mut Importer<'_>, node: &OnnxNode, op: &str, [a, b]: [usize; 2]) -> Result<Value, Fail> {
    let inputs = [im.input(node, a)?, im.input(node, b)?];
    im.elementwise(op, node, &inputs, Attrs::new())
}

/// 1 − x of a truth value.
fn negation(im: &mut Importer<'_>, node: &OnnxNode, x: Value) -> Result<Value, Fail> {
    let one = im.scalar("one", 1.0)?;
    im.elementwise("sub", node, &[one, x], Attrs::new())
}

/// Integers are divided towards zero.
fn divide(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let inputs = [im.input(node, 0)?, im.input(node, 1)?];
    let quotient = im.elementwise("div", node, &inputs, Attrs::new())?;
    if inputs.iter().all(|&v| im.is_integer(v)) {
        return im.add_with("round", node, &[quotient], mode("down"));
    }
    Ok(quotient)
}

/// Any number of inputs, from left to right.
fn chain(im: &mut Importer<'_>, node: &OnnxNode, op: &str) -> Result<Value, Fail> {
    let mut value = im.input(node, 0)?;
    for i in 1..node.inputs.len() {
        let next = im.input(node, i)?;
        value = im.elementwise(op, node, &[value, next], Attrs::new())?;
    }
    Ok(value)
}

fn clip(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let mut x = im.input(node, 0)?;
    let mut attrs = Attrs::new();
    for (i, old, new, op) in [(1, "min", "lo", "max"), (2, "max", "hi", "min")] {
        if let Some(name) = im.input_name(node, i).filter(|_| !node.attributes.contains_key(old)) {
            let bound = im.value(name)?;
            if im.shape(bound)?.has_batch() {
                // A computed bound: max(x, lo), then min(x, hi).
                if !attrs.0.is_empty() {
                    x = im.add_with("clip", node, &[x], std::mem::replace(&mut attrs, Attrs::new()))?;
                }
                x = im.elementwise(op, node, &[x, bound], Attrs::new())?;
                continue;
            }
        }
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

/// Exponents that arithmetic expresses exactly are written as such.
fn power(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let (x, y) = (im.input(node, 0)?, im.input(node, 1)?);
    let exponent = match im.graph.constant(y).and_then(|t| t.as_f32()) {
        Some(&[one]) if im.dims(y)?.len() <= im.dims(x)?.len() => Some(one),
        _ => None,
    };
    match exponent {
        Some(1.0) => Ok(x),
        Some(2.0) => im.elementwise("mul", node, &[x, x], Attrs::new()),
        Some(0.5) => im.add("sqrt", node, &[x]),
        Some(-1.0 | -0.5) => {
            let one = im.scalar("one", 1.0)?;
            let root = if exponent == Some(-1.0) { x } else { im.add("sqrt", node, &[x])? };
            im.elementwise("div", node, &[one, root], Attrs::new())
        }
        _ => im.elementwise("pow", node, &[x, y], Attrs::new()),
    }
}

/// Casts: of values that depend on the image, floats become whole numbers towards zero, or truth values.
fn cast(im: &mut Importer<'_>, node: &OnnxNode, to: i64) -> Result<Known, Fail> {
    let code = i32::try_from(to).unwrap_or(0);
    let known = im.known(im.input_name(node, 0).ok_or("has no input")?)?;
    match known {
        Known::Ints(..) if code == 6 || code == 7 => return Ok(known),
        Known::Value(value) if im.graph.constant(value).is_none() => return cast_value(im, node, value, code),
        _ => {}
    }
    let tensor = im.constant_input(node, 0)?.ok_or("has no input")?;
    if code == 1 {
        return Ok(Known::Tensor(Arc::new(to_floats(tensor)?)));
    }
    let truth = code == 9;
    let (lo, hi) = match code {
        7 => (i64::MIN, i64::MAX),
        9 => (0, 1),
        _ => tensor::int_range(code)
            .ok_or_else(|| format!("casts to {}, which is not supported", tensor::type_name(code)))?,
    };
    let (shape, data) = tensor.into_parts();
    let ints: Vec<i64> = match data {
        Data::F32(v) if truth => v.iter().map(|&x| i64::from(x != 0.0)).collect(),
        Data::F32(v) => v.iter().map(|&x| x as i64).collect(),
        Data::I64(v) => v,
        Data::I32(v) => v.iter().map(|&x| x.into()).collect(),
        Data::U8(v) => v.iter().map(|&x| x.into()).collect(),
    };
    let ints: Vec<i64> = if truth { ints.iter().map(|&n| i64::from(n != 0)).collect() } else { ints };
    if ints.iter().any(|n| !(lo..=hi).contains(n)) {
        return Err(format!("casts numbers that {} does not hold", tensor::type_name(code)).into());
    }
    let tensor = Tensor::new(shape, Data::I64(ints)).map_err(|e| e.to_string())?;
    Ok(Known::Tensor(Arc::new(tensor)))
}

/// The element type of input 1, whose values are not read.
fn kind(im: &mut Importer<'_>, node: &OnnxNode) -> Result<i64, Fail> {
    let name = im.input_name(node, 1).ok_or("has no input 1")?;
    match im.element_type(name) {
        0 => {
            let like = im.value(name)?;
            // Of computed integers no more is known.
            if im.is_integer(like) { Err("casts to the type of computed integers: use Cast".into()) } else { Ok(1) }
        }
        code => Ok(code.into()),
    }
}

fn cast_value(im: &mut Importer<'_>, node: &OnnxNode, value: Value, code: i32) -> Result<Known, Fail> {
    let result = match code {
        1 => return Ok(Known::Value(value)),
        9 => {
            let zero = im.scalar("zero", 0.0)?;
            let none = im.elementwise("equal", node, &[value, zero], Attrs::new())?;
            negation(im, node, none)?
        }
        6 | 7 if im.is_integer(value) => value,
        6 | 7 => im.add_with("round", node, &[value], mode("down"))?,
        _ => {
            let name = tensor::type_name(code);
            return Err(format!("casts to {name}, which may not hold the value: export in FLOAT or INT64").into());
        }
    };
    im.mark_integer(result);
    Ok(Known::Value(result))
}
