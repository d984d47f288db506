//! Operators on integers: QLinearConv, QLinearMatMul, ConvInteger, MatMulInteger, in float arithmetic whose sums are whole
//! numbers, which `lift` makes integers of.

use super::context::{Fail, Importer, Known, to_floats};
use super::proto::OnnxNode;
use super::{layers, linear, tensor};
use crate::graph::Value;
use crate::graph::attrs::{Attr, Attrs};
use dorefa_runtime::tensor::Tensor;

/// Imports the node if it is one of this family.
pub(super) fn handle(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Option<Known>, Fail> {
    let value = match node.op_type.as_str() {
        "QLinearConv" => {
            let sums = conv(im, node, [0, 2, 3, 5], Some(8))?;
            let rank = im.shape(sums)?.rank();
            requantised(im, node, sums, [1, 4, 6, 7], rank.saturating_sub(2))?
        }
        "QLinearMatMul" => {
            let sums = matmul(im, node, [0, 2, 3, 5])?;
            requantised(im, node, sums, [1, 4, 6, 7], 0)?
        }
        "ConvInteger" => conv(im, node, [0, 2, 1, 3], None)?,
        "MatMulInteger" => matmul(im, node, [0, 2, 1, 3])?,
        _ => return Ok(None),
    };
    im.mark_integer(value);
    Ok(Some(Known::Value(value)))
}

/// Input `i` less its zero point, input `zero`; zero points of one axis stand along the first axis
/// where `rows`, else along the last.
fn centred(im: &mut Importer<'_>, node: &OnnxNode, i: usize, zero: usize, rows: bool) -> Result<Value, Fail> {
    let x = im.input(node, i)?;
    let Some(t) = im.constant_input(node, zero)? else { return Ok(x) };
    let t = to_floats(t)?;
    if t.as_f32().is_some_and(|v| v.iter().all(|&z| z == 0.0)) {
        return Ok(x);
    }
    let rank = im.dims(x)?.len();
    let mut shape = if t.len() == 1 { Vec::new() } else { t.shape().to_vec() };
    if rows && shape.len() == 1 {
        shape.resize(rank, 1);
    }
    let t = t.reshape(shape).map_err(|e| e.to_string())?;
    let zero = im.constant("zero_point", t)?;
    im.elementwise("sub", node, &[x, zero], Attrs::new())
}

/// The node as the float operator `op` of values that are known by these names.
fn as_float(node: &OnnxNode, op: &str, inputs: Vec<String>) -> OnnxNode {
    OnnxNode { op_type: op.to_owned(), domain: String::new(), inputs, ..node.clone() }
}

fn conv(
    im: &mut Importer<'_>,
    node: &OnnxNode,
    [x, xz, w, wz]: [usize; 4],
    bias: Option<usize>,
) -> Result<Value, Fail> {
    let x = centred(im, node, x, xz, false)?;
    let w = centred(im, node, w, wz, true)?;
    let mut inputs = vec![im.temporary(0, x), im.temporary(1, w)];
    if let Some(name) = bias.and_then(|b| im.input_name(node, b)) {
        inputs.push(name.to_owned());
    }
    match layers::handle(im, &as_float(node, "Conv", inputs))? {
        Some(Known::Value(y)) => Ok(y),
        _ => Err("has no result".into()),
    }
}

fn matmul(im: &mut Importer<'_>, node: &OnnxNode, [a, az, b, bz]: [usize; 4]) -> Result<Value, Fail> {
    let a = centred(im, node, a, az, false)?;
    let b = centred(im, node, b, bz, false)?;
    linear::matmul(im, node, a, b)
}

/// saturate(round(sums·(a·b/y)) + zero): the scales a, b, y and the zero point are inputs; those of several channels stand
/// in front of `behind` axes.
fn requantised(
    im: &mut Importer<'_>,
    node: &OnnxNode,
    sums: Value,
    [a, b, y, zero]: [usize; 4],
    behind: usize,
) -> Result<Value, Fail> {
    let mut scales = Vec::new();
    for i in [a, b, y] {
        let t = to_floats(im.constant_input(node, i)?.ok_or("has no scale")?)?;
        scales.push(t.as_f32().map(<[f32]>::to_vec).unwrap_or_default());
    }
    let count = scales.iter().map(Vec::len).max().unwrap_or(1);
    let at = |s: &[f32], i: usize| s.get(if s.len() == 1 { 0 } else { i }).copied().unwrap_or(1.0);
    let factors: Vec<f32> = match &*scales {
        [a, b, y] => (0..count).map(|i| at(a, i) * at(b, i) / at(y, i)).collect(),
        _ => return Err("has no scales".into()),
    };
    if factors.iter().any(|f| !f.is_finite() || *f <= 0.0) {
        return Err("has scales that are not positive numbers".into());
    }
    let shape =
        if count == 1 { vec![] } else { std::iter::once(count).chain(std::iter::repeat_n(1, behind)).collect() };
    let factors = im.constant("factors", Tensor::f32(shape, factors).map_err(|e| e.to_string())?)?;
    let scaled = im.elementwise("mul", node, &[sums, factors], Attrs::new())?;
    let mut q = im.add("round", node, &[scaled])?;
    let code = im.input_name(node, zero).map_or(2, |name| im.element_type(name));
    if im.scalar_input(node, zero)?.is_some_and(|z| z != 0.0) {
        let zero = im.input(node, zero)?;
        let zero = im.scalar_of(zero)?;
        q = im.elementwise("add", node, &[q, zero], Attrs::new())?;
    }
    let (lo, hi) =
        tensor::int_range(code).filter(|(_, hi)| *hi < 1 << 16).ok_or("has a zero point of no integer type")?;
    let bounds = Attrs::new().with("lo", Attr::Float(lo as f32)).with("hi", Attr::Float(hi as f32));
    im.add_with("clip", node, &[q], bounds)
}
