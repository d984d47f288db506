//! ONNX's own quantisation: QuantizeLinear and DequantizeLinear, in steps of float arithmetic whose results are integers.

use super::context::{Fail, Importer, Known, axis, int};
use super::proto::OnnxNode;
use super::tensor;
use crate::graph::Value;
use crate::graph::attrs::{Attr, Attrs};
use dorefa_runtime::tensor::{Data, Tensor};

/// Imports the node if it is one of this family.
pub(super) fn handle(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Option<Known>, Fail> {
    Ok(match node.op_type.as_str() {
        "QuantizeLinear" => Some(Known::Value(quantize(im, node)?)),
        "DequantizeLinear" => Some(Known::Value(dequantize(im, node)?)),
        _ => None,
    })
}

/// saturate(round(x/s) + z): rounds first, then saturates.
fn quantize(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let x = im.input(node, 0)?;
    let (scale, zero) = parameters(im, node, x)?;
    let code = match im.input_name(node, 2) {
        Some(name) => im.element_type(name),
        None => i32::try_from(int(node, "output_dtype", 2)?).unwrap_or(0),
    };
    let (lo, hi) = tensor::int_range(code)
        .filter(|(_, hi)| *hi < 1 << 24)
        .ok_or("quantises to a type that is not supported: use an integer type of 2 to 16 bits")?;
    let mut y = im.add("div", node, &[x, scale])?;
    y = im.add("round", node, &[y])?;
    if let Some(zero) = zero {
        y = im.add("add", node, &[y, zero])?;
    }
    let bounds = Attrs::new().with("lo", Attr::Float(lo as f32)).with("hi", Attr::Float(hi as f32));
    im.add_with("clip", node, &[y], bounds)
}

/// (q − z)·s.
fn dequantize(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let mut y = im.input(node, 0)?;
    let (scale, zero) = parameters(im, node, y)?;
    if let Some(zero) = zero {
        y = im.add("sub", node, &[y, zero])?;
    }
    im.add("mul", node, &[y, scale])
}

/// Scale and zero point (none where zero), shaped to broadcast along the axis.
fn parameters(im: &mut Importer<'_>, node: &OnnxNode, x: Value) -> Result<(Value, Option<Value>), Fail> {
    if int(node, "block_size", 0)? != 0 {
        return Err("has blocked scales: only scales for the tensor or one axis are supported".into());
    }
    let rank = im.shape(x)?.rank();
    let scale = im.input(node, 1)?;
    let scale = along(im, node, scale, rank)?;
    let zero = match im.constant_input(node, 2)? {
        Some(t) if !is_zero(&t) => {
            let zero = im.input(node, 2)?;
            Some(along(im, node, zero, rank)?)
        }
        _ => None,
    };
    Ok((scale, zero))
}

fn is_zero(t: &Tensor) -> bool {
    match t.data() {
        Data::F32(v) => v.iter().all(|&x| x == 0.0),
        Data::I64(v) => v.iter().all(|&x| x == 0),
        Data::I32(v) => v.iter().all(|&x| x == 0),
        Data::U8(v) => v.iter().all(|&x| x == 0),
    }
}

fn along(im: &mut Importer<'_>, node: &OnnxNode, value: Value, rank: usize) -> Result<Value, Fail> {
    let shape = im.shape(value)?;
    let &[count] = &*shape.per_sample() else {
        return if shape.rank() == 0 { Ok(value) } else { Err(format!("has parameters of shape {shape}").into()) };
    };
    if count == 1 {
        return Ok(value);
    }
    let at = axis(int(node, "axis", 1)?, rank)?;
    let dims: Vec<usize> = (at..rank).map(|i| if i == at { count } else { 1 }).collect();
    im.reshaped(node, value, &dims)
}
