//! ONNX's own quantisation: QuantizeLinear and DequantizeLinear, in steps of float arithmetic whose results are integers.

use super::arguments::int;
use super::axes::axis;
use super::context::{Fail, Importer, Known};
use super::proto::OnnxNode;
use super::tensor;
use crate::graph::Value;
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::types::Dim;
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
        None => match i32::try_from(int(node, "output_dtype", 0)?).unwrap_or(0) {
            0 => 2,
            code => code,
        },
    };
    let (lo, hi) = tensor::int_range(code)
        .filter(|(_, hi)| *hi < 1 << 24)
        .ok_or("quantises to a type that is not supported: use an integer type of 2 to 16 bits")?;
    let mut y = im.elementwise("div", node, &[x, scale], Attrs::new())?;
    y = im.add("round", node, &[y])?;
    if let Some(zero) = zero {
        y = im.elementwise("add", node, &[y, zero], Attrs::new())?;
    }
    let bounds = Attrs::new().with("lo", Attr::Float(lo as f32)).with("hi", Attr::Float(hi as f32));
    let y = im.add_with("clip", node, &[y], bounds)?;
    im.mark_integer(y);
    Ok(y)
}

/// (q − z)·s.
fn dequantize(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let mut y = dequantized(im, node)?;
    let (scale, zero) = parameters(im, node, y)?;
    if let Some(zero) = zero {
        y = im.elementwise("sub", node, &[y, zero], Attrs::new())?;
    }
    im.elementwise("mul", node, &[y, scale], Attrs::new())
}

/// The integers that DequantizeLinear reads, as floats. Those beyond 2^24, such as biases beside codes of 16 bits, are rounded, as
/// the operator does before it multiplies.
fn dequantized(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let plain = im.constant_input(node, 2)?.is_none_or(|zero| is_zero(&zero));
    if let Some(name) = im.input_name(node, 0).map(str::to_owned).filter(|_| plain)
        && let Known::Tensor(t) = im.known(&name)?
    {
        let rounded: Option<Vec<f32>> = match t.data() {
            Data::I32(v) if v.iter().any(|n| n.unsigned_abs() > 1 << 24) => Some(v.iter().map(|&n| n as f32).collect()),
            Data::I64(v) if v.iter().any(|n| n.unsigned_abs() > 1 << 24) => Some(v.iter().map(|&n| n as f32).collect()),
            _ => None,
        };
        if let Some(rounded) = rounded {
            let tensor = Tensor::f32(t.shape(), rounded).map_err(|e| e.to_string())?;
            return im.constant(&name, tensor);
        }
    }
    im.input(node, 0)
}

/// Scale and zero point (none where zero), shaped to broadcast along the axis, or repeated within blocks.
fn parameters(im: &mut Importer<'_>, node: &OnnxNode, x: Value) -> Result<(Value, Option<Value>), Fail> {
    let block = int(node, "block_size", 0)?;
    let dims = im.dims(x)?;
    let scale = im.input(node, 1)?;
    let scale = along(im, node, scale, &dims, block)?;
    let zero = match im.constant_input(node, 2)? {
        Some(t) if !is_zero(&t) => {
            let zero = im.input(node, 2)?;
            Some(along(im, node, zero, &dims, block)?)
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

fn along(im: &mut Importer<'_>, node: &OnnxNode, value: Value, dims: &[Dim], block: i64) -> Result<Value, Fail> {
    let shape = im.shape(value)?;
    if shape.has_batch() {
        return Err("computes its scale from the input: only constant scales are supported".into());
    }
    if shape.sample_len() == Some(1) {
        return im.scalar_of(value);
    }
    let at = axis(int(node, "axis", 1)?, dims.len())?;
    let own = shape.per_sample();
    if let &[count] = &*own {
        let dims: Vec<usize> = (at..dims.len()).map(|i| if i == at { count } else { 1 }).collect();
        return im.reshaped(node, value, &dims);
    }
    let extent = match dims.get(at) {
        Some(&Dim::Fixed(n)) if own.len() == dims.len() => n as i64,
        _ => return Err(format!("has parameters of shape {shape} for an input of {} axes", dims.len()).into()),
    };
    let blocks = own.get(at).copied().unwrap_or(1) as i64;
    let block = if block > 0 { block } else { (extent + blocks - 1) / blocks.max(1) };
    if (extent + block - 1) / block != blocks {
        return Err(format!("has {blocks} blocks of {block} for {extent} elements of axis {at}").into());
    }
    im.taken(node, value, at, (0..extent).map(|i| i / block).collect())
}
