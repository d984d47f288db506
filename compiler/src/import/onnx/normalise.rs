//! Normalisation by statistics of the sample itself: of layers, instances, groups, and by a norm. In the steps of their
//! definitions.

use super::arguments::{float, int};
use super::axes::axis;
use super::context::{Fail, Importer, Known};
use super::proto::OnnxNode;
use crate::graph::Value;
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::types::Dim;

/// Imports the node if it is one of this family.
pub(super) fn handle(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Option<Known>, Fail> {
    let value = match node.op_type.as_str() {
        "LayerNormalization" | "RMSNormalization" => layer(im, node)?,
        "InstanceNormalization" => instance(im, node)?,
        "GroupNormalization" => group(im, node)?,
        "LpNormalization" => by_norm(im, node)?,
        _ => return Ok(None),
    };
    Ok(Some(Known::Value(value)))
}

/// An element-wise operator of two values.
fn two(im: &mut Importer<'_>, node: &OnnxNode, op: &str, a: Value, b: Value) -> Result<Value, Fail> {
    im.elementwise(op, node, &[a, b], Attrs::new())
}

/// A reduction over the graph's axes `axes`, which stay with extent 1.
fn over(im: &mut Importer<'_>, node: &OnnxNode, op: &str, x: Value, axes: &[usize]) -> Result<Value, Fail> {
    let axes = axes.iter().map(|&a| a as i64).collect();
    im.add_with(op, node, &[x], Attrs::new().with("axes", Attr::Ints(axes)))
}

/// d/√(mean(d²) + epsilon) over the graph's axes `axes`, d = x − mean(x), or x where not `centred`.
fn standard(im: &mut Importer<'_>, node: &OnnxNode, x: Value, axes: &[usize], centred: bool) -> Result<Value, Fail> {
    let mut d = x;
    if centred {
        let mean = over(im, node, "reduce_mean", x, axes)?;
        d = two(im, node, "sub", x, mean)?;
    }
    let square = im.add("mul", node, &[d, d])?;
    let variance = over(im, node, "reduce_mean", square, axes)?;
    let epsilon = im.scalar("epsilon", float(node, "epsilon", 1e-5)?)?;
    let variance = two(im, node, "add", variance, epsilon)?;
    let deviation = im.add("sqrt", node, &[variance])?;
    two(im, node, "div", d, deviation)
}

/// y·scale + bias, inputs 1 and 2, of which the latter may be left out; `dims` is the shape that they are given.
fn affine(im: &mut Importer<'_>, node: &OnnxNode, mut y: Value, dims: Option<&[usize]>) -> Result<Value, Fail> {
    for (i, op) in [(1, "mul"), (2, "add")] {
        if i == 1 || im.input_name(node, i).is_some() {
            let mut by = im.input(node, i)?;
            if let Some(dims) = dims {
                by = im.reshaped(node, by, dims)?;
            }
            y = two(im, node, op, y, by)?;
        }
    }
    Ok(y)
}

/// Over the axes from `axis` on.
fn layer(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let x = im.input(node, 0)?;
    let rank = im.dims(x)?.len();
    let first = axis(int(node, "axis", -1)?, rank)?;
    let axes = (first..rank).map(|a| im.axis(x, a as i64)).collect::<Result<Vec<_>, _>>()?;
    let y = standard(im, node, x, &axes, node.op_type == "LayerNormalization")?;
    affine(im, node, y, None)
}

/// An image's channels and the number of axes behind them.
fn channels(im: &Importer<'_>, x: Value) -> Result<(usize, usize), Fail> {
    match *im.shape(x)?.0 {
        [_, Dim::Fixed(c), ref rest @ ..] if !rest.is_empty() => Ok((c, rest.len())),
        _ => Err("works on an image (N,C,…): at least three axes are expected".into()),
    }
}

/// Each channel of a sample by itself.
fn instance(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let x = im.input(node, 0)?;
    let x = im.images(node, x)?;
    let (c, behind) = channels(im, x)?;
    let axes: Vec<usize> = (2..2 + behind).collect();
    let y = standard(im, node, x, &axes, true)?;
    let dims: Vec<usize> = std::iter::once(c).chain(std::iter::repeat_n(1, behind)).collect();
    let y = affine(im, node, y, Some(&dims))?;
    im.samples(node, y)
}

/// Groups of channels; scale and bias are one a group before operator set 21, one a channel from then on.
fn group(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let x = im.input(node, 0)?;
    let x = im.images(node, x)?;
    let (c, behind) = channels(im, x)?;
    let groups = usize::try_from(int(node, "num_groups", 0)?).ok().filter(|&g| g > 0 && c % g == 0);
    let g = groups.ok_or_else(|| format!("has {c} channels, which do not fall into its groups"))?;
    let dims = im.shape(x)?.per_sample();
    let rows = dims.iter().product::<usize>() / g;
    let grouped = im.reshaped(node, x, &[g, rows])?;
    let mut y = standard(im, node, grouped, &[2], true)?;
    if im.opset < 21 {
        y = affine(im, node, y, Some(&[g, 1]))?;
        y = im.reshaped(node, y, &dims)?;
    } else {
        y = im.reshaped(node, y, &dims)?;
        let one: Vec<usize> = std::iter::once(c).chain(std::iter::repeat_n(1, behind)).collect();
        y = affine(im, node, y, Some(&one))?;
    }
    im.samples(node, y)
}

/// x by the sum of its magnitudes or the root of the sum of its squares, along one axis; 0 where that is 0.
fn by_norm(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let x = im.input(node, 0)?;
    let at = im.axis(x, int(node, "axis", -1)?)?;
    let norm = match int(node, "p", 2)? {
        1 => {
            let size = im.add("abs", node, &[x])?;
            over(im, node, "reduce_sum", size, &[at])?
        }
        2 => {
            let square = im.add("mul", node, &[x, x])?;
            let sum = over(im, node, "reduce_sum", square, &[at])?;
            im.add("sqrt", node, &[sum])?
        }
        p => return Err(format!("has the norm p = {p}: 1 and 2 are supported").into()),
    };
    let zero = im.scalar("zero", 0.0)?;
    let none = two(im, node, "equal", norm, zero)?;
    let quotient = two(im, node, "div", x, norm)?;
    im.elementwise("select", node, &[none, zero, quotient], Attrs::new())
}
