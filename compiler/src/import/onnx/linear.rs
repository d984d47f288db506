//! Matrix products: Gemm and MatMul, with constant or computed factors.

use super::arguments::{float, int};
use super::context::{Fail, Importer, Known};
use super::layers::finite;
use super::proto::OnnxNode;
use crate::graph::Value;
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::types::{Dim, Shape};
use dorefa_runtime::tensor::Tensor;

/// Imports the node if it is one of this family.
pub(super) fn handle(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Option<Known>, Fail> {
    let value = match node.op_type.as_str() {
        "Gemm" => {
            finite(im, node)?;
            gemm(im, node)?
        }
        "MatMul" => {
            finite(im, node)?;
            let (a, b) = (im.input(node, 0)?, im.input(node, 1)?);
            matmul(im, node, a, b)?
        }
        _ => return Ok(None),
    };
    Ok(Some(Known::Value(value)))
}

/// The transpose of a matrix of weights: a constant is transposed here, a transpose is undone.
fn transposed(im: &mut Importer<'_>, node: &OnnxNode, w: Value) -> Result<Value, Fail> {
    let perm = Attrs::new().with("perm", Attr::Ints(vec![1, 0]));
    let producer = im.graph.node(w.node).ok_or(Fail::Poisoned)?;
    if producer.op.name == "transpose" && producer.attrs == perm {
        return im.graph.operands(w.node).first().copied().ok_or(Fail::Poisoned);
    }
    let name = format!("{}_t", producer.name);
    if let Some(tensor) = im.graph.constant(w)
        && let (&[rows, columns], Some(data)) = (tensor.shape(), tensor.as_f32())
    {
        let turned: Vec<f32> =
            (0..columns).flat_map(|c| data.iter().skip(c).step_by(columns.max(1)).copied()).collect();
        let turned = Tensor::f32(vec![columns, rows], turned).map_err(|e| e.to_string())?;
        return Ok(im.graph.add_constant(&name, turned)?);
    }
    im.add_with("transpose", node, &[w], perm)
}

/// A computed value with its last two axes exchanged.
fn exchanged(im: &mut Importer<'_>, node: &OnnxNode, v: Value) -> Result<Value, Fail> {
    let rank = im.shape(v)?.rank() as i64;
    if rank < 3 {
        return Err(super::axes::BATCH.into());
    }
    let perm = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
    im.add_with("transpose", node, &[v], Attrs::new().with("perm", Attr::Ints(perm)))
}

/// The product of two values as ONNX's MatMul has it.
pub(super) fn matmul(im: &mut Importer<'_>, node: &OnnxNode, a: Value, b: Value) -> Result<Value, Fail> {
    let (da, db) = (im.dims(a)?, im.dims(b)?);
    // A vector is a matrix of one row, or one column, which the result does not have.
    if let [k] = *da {
        let row = im.shaped(node, a, &[Dim::Fixed(1), k])?;
        let y = matmul(im, node, row, b)?;
        return without(im, node, y, if db.len() == 1 { 1 } else { 2 });
    }
    if let [k] = *db {
        let column = im.shaped(node, b, &[k, Dim::Fixed(1)])?;
        let y = matmul(im, node, a, column)?;
        return without(im, node, y, 1);
    }
    let computed = [im.shape(a)?.has_batch(), im.shape(b)?.has_batch()];
    let matrix = |d: &[Dim]| d.iter().rev().skip(2).all(|d| *d == Dim::Fixed(1));
    match computed {
        [true, false] if matrix(&db) => {
            let w = last_two(im, node, b, &db)?;
            let w = transposed(im, node, w)?;
            rows_by(im, node, a, w, None)
        }
        [false, true] if matrix(&da) && im.shape(b)?.rank() > 2 => {
            // (A·B)ᵀ = Bᵀ·Aᵀ
            let w = last_two(im, node, a, &da)?;
            let turned = exchanged(im, node, b)?;
            let y = rows_by(im, node, turned, w, None)?;
            exchanged(im, node, y)
        }
        _ => product(im, node, a, b),
    }
}

/// The result without its axis `from_end` from the end, whose extent is 1.
fn without(im: &mut Importer<'_>, node: &OnnxNode, y: Value, from_end: usize) -> Result<Value, Fail> {
    let mut dims = im.dims(y)?;
    let at = dims.len().checked_sub(from_end).ok_or("has no axis to remove")?;
    dims.remove(at);
    im.shaped(node, y, &dims)
}

/// A constant of leading extents 1 as a matrix.
fn last_two(im: &mut Importer<'_>, node: &OnnxNode, w: Value, dims: &[Dim]) -> Result<Value, Fail> {
    let at = dims.len().saturating_sub(2);
    im.shaped(node, w, dims.get(at..).unwrap_or(&[]))
}

/// The rows of `a` times weights (O, K), with a bias (O): a fully connected layer on every row.
fn rows_by(im: &mut Importer<'_>, node: &OnnxNode, a: Value, w: Value, bias: Option<Value>) -> Result<Value, Fail> {
    let inputs = |x: Value, w: Value| [Some(x), Some(w), bias].into_iter().flatten().collect::<Vec<_>>();
    let shape = im.shape(a)?.per_sample();
    let [o, k] = *im.shape(w)?.per_sample() else { return Err("multiplies by no matrix".into()) };
    let Some((&own, outer)) = shape.split_last() else { return Err(super::axes::BATCH.into()) };
    if own != k {
        return Err(format!("multiplies rows of {own} by a matrix of {k} rows").into());
    }
    let rows: usize = outer.iter().product();
    if outer.is_empty() {
        return im.add("matmul", node, &inputs(a, w));
    }
    let of = |head: &[usize], last: usize| head.iter().copied().chain([last]).collect::<Vec<_>>();
    if rows == 1 {
        let x = im.reshaped(node, a, &[k])?;
        let y = im.add("matmul", node, &inputs(x, w))?;
        return im.reshaped(node, y, &of(outer, o));
    }
    // Rows become the positions of an image of K channels.
    let turn = Attrs::new().with("perm", Attr::Ints(vec![0, 2, 1]));
    let mut x = im.reshaped(node, a, &[rows, k])?;
    x = im.add_with("transpose", node, &[x], turn.clone())?;
    x = im.reshaped(node, x, &[k, 1, rows])?;
    let w = im.reshaped(node, w, &[o, k, 1, 1])?;
    let mut y = im.add("conv", node, &inputs(x, w))?;
    y = im.reshaped(node, y, &[o, rows])?;
    y = im.add_with("transpose", node, &[y], turn)?;
    im.reshaped(node, y, &of(outer, o))
}

/// The product of two computed values, or of one and several constant matrices.
fn product(im: &mut Importer<'_>, node: &OnnxNode, a: Value, b: Value) -> Result<Value, Fail> {
    let mut sides = [a, b];
    if im.lead == 1 {
        for side in &mut sides {
            *side = im.repeated(node, *side)?;
        }
    }
    let sides = im.aligned(node, &sides)?;
    let (da, db) = match *sides {
        [a, b] => (im.dims(a)?, im.dims(b)?),
        _ => return Err("multiplies two matrices".into()),
    };
    let at = da.len().saturating_sub(2);
    let head: Vec<Dim> = da.iter().zip(&db).take(at).map(|(&x, &y)| if x == Dim::Fixed(1) { y } else { x }).collect();
    let mut out = Vec::new();
    for (side, dims) in sides.into_iter().zip([da, db]) {
        let wanted: Vec<Dim> = head.iter().chain(dims.get(at..).unwrap_or(&[])).copied().collect();
        let side = im.expanded(node, side, &wanted)?;
        if !im.shape(side)?.has_batch() {
            return Err("multiplies by several constant matrices along the batch: export with a fixed batch".into());
        }
        out.push(side);
    }
    im.add("product", node, &out)
}

fn gemm(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let (mut x, mut w) = (im.input(node, 0)?, im.input(node, 1)?);
    let computed = im.shape(w)?.has_batch();
    if int(node, "transA", 0)? != 0 {
        x = turned(im, node, x)?;
    }
    let (alpha, beta) = (float(node, "alpha", 1.0)?, float(node, "beta", 1.0)?);
    let mut bias = if im.input_name(node, 2).is_some() && beta != 0.0 { Some(im.input(node, 2)?) } else { None };
    if let Some(b) = bias.filter(|_| beta != 1.0) {
        let beta = im.scalar("beta", beta)?;
        bias = Some(im.elementwise("mul", node, &[b, beta], Attrs::new())?);
    }
    if computed || !im.shape(x)?.has_batch() {
        if int(node, "transB", 0)? != 0 {
            w = turned(im, node, w)?;
        }
        let y = matmul(im, node, x, w)?;
        return scaled(im, node, y, alpha, bias);
    }
    if int(node, "transB", 0)? == 0 {
        w = transposed(im, node, w)?;
    }
    let outputs = im.shape(w)?.per_sample().first().copied().unwrap_or(0);
    if let Some(b) = bias
        && im.shape(b)? == Shape::fixed(&[1, outputs])
    {
        bias = Some(im.reshaped(node, b, &[outputs])?);
    }
    if let Some(b) = bias
        && alpha == 1.0
        && im.shape(b)? == Shape::fixed(&[outputs])
    {
        return rows_by(im, node, x, w, bias);
    }
    let y = rows_by(im, node, x, w, None)?;
    scaled(im, node, y, alpha, bias)
}

/// y·alpha + bias
fn scaled(im: &mut Importer<'_>, node: &OnnxNode, y: Value, alpha: f32, bias: Option<Value>) -> Result<Value, Fail> {
    let mut y = y;
    if alpha != 1.0 {
        let alpha = im.scalar("alpha", alpha)?;
        y = im.elementwise("mul", node, &[y, alpha], Attrs::new())?;
    }
    if let Some(b) = bias { im.elementwise("add", node, &[y, b], Attrs::new()) } else { Ok(y) }
}

/// The transpose of a constant or computed matrix.
fn turned(im: &mut Importer<'_>, node: &OnnxNode, v: Value) -> Result<Value, Fail> {
    if im.shape(v)?.has_batch() { exchanged(im, node, v) } else { transposed(im, node, v) }
}
