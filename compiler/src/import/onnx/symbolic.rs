//! Constants and shape arithmetic, computed at import over numbers of which one may be the batch.

use super::context::{Fail, Importer, Known, Sym, axis, int, ints};
use super::proto::{OnnxAttr, OnnxNode};
use super::tensor;
use crate::graph::types::Dim;
use dorefa_runtime::tensor::{Data, Tensor};
use std::sync::Arc;

/// Imports the node if it is a constant, or if it computes with integers.
pub(super) fn handle(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Option<Known>, Fail> {
    match node.op_type.as_str() {
        "Constant" => return constant(node).map(Some),
        "Shape" => return shape(im, node).map(Some),
        "Gather" | "Slice" => {
            let known = im.known(im.input_name(node, 0).ok_or("has no input")?)?;
            let Some((list, _)) = as_ints(&known) else {
                return Err("selects from floats: only shape arithmetic is supported".into());
            };
            let picked = if node.op_type == "Gather" { gather(im, node, &list)? } else { slice(im, node, &list)? };
            return Ok(Some(picked));
        }
        "Concat" | "Squeeze" | "Unsqueeze" | "Add" | "Sub" | "Mul" | "Div" => {}
        _ => return Ok(None),
    }
    // These are shape arithmetic where all their data are integers.
    let all = matches!(node.op_type.as_str(), "Concat" | "Add" | "Sub" | "Mul" | "Div");
    let count = if all { node.inputs.len() } else { 1 };
    let mut lists = Vec::new();
    for i in 0..count {
        let known = im.known(im.input_name(node, i).ok_or_else(|| format!("has no input {i}"))?)?;
        match as_ints(&known) {
            Some(list) => lists.push(list),
            None => return Ok(None),
        }
    }
    match (node.op_type.as_str(), &*lists) {
        ("Concat", lists) => Ok(Some(Known::Ints(lists.iter().flat_map(|(l, _)| l.iter().copied()).collect(), false))),
        ("Unsqueeze", [(list, true)]) => Ok(Some(Known::Ints(list.clone(), false))),
        ("Squeeze", [(list, _)]) if list.len() == 1 => Ok(Some(Known::Ints(list.clone(), true))),
        (op, [(a, sa), (b, sb)]) if a.len() == b.len() || a.len() == 1 || b.len() == 1 => {
            let len = if a.len() == 1 { b.len() } else { a.len() };
            let pick = |v: &[Sym], i: usize| v.get(if v.len() == 1 { 0 } else { i }).copied().unwrap_or(Sym::Known(0));
            let values = (0..len).map(|i| arithmetic(op, pick(a, i), pick(b, i))).collect::<Result<_, Fail>>()?;
            Ok(Some(Known::Ints(values, *sa && *sb)))
        }
        _ => Err("computes with integers in a way that is not supported: fold shapes before the export".into()),
    }
}

/// Integers of rank 0 or 1.
fn as_ints(known: &Known) -> Option<(Vec<Sym>, bool)> {
    match known {
        Known::Ints(list, scalar) => Some((list.clone(), *scalar)),
        Known::Tensor(t) if t.shape().len() <= 1 => {
            Some((t.as_i64()?.iter().map(|&n| Sym::Known(n)).collect(), t.shape().is_empty()))
        }
        _ => None,
    }
}

fn arithmetic(op: &str, a: Sym, b: Sym) -> Result<Sym, Fail> {
    match (op, a, b) {
        ("Mul", Sym::Batch, Sym::Known(1)) | ("Mul", Sym::Known(1), Sym::Batch) => Ok(Sym::Batch),
        ("Div", Sym::Batch, Sym::Known(1)) | ("Add" | "Sub", Sym::Batch, Sym::Known(0)) => Ok(Sym::Batch),
        (_, Sym::Known(a), Sym::Known(b)) => {
            let result = match op {
                "Add" => a.checked_add(b),
                "Sub" => a.checked_sub(b),
                "Mul" => a.checked_mul(b),
                _ => a.checked_div(b),
            };
            result.map(Sym::Known).ok_or_else(|| format!("computes {a} {op} {b}").into())
        }
        _ => Err("computes with the batch size, which is known only at the call: export without it".into()),
    }
}

fn constant(node: &OnnxNode) -> Result<Known, Fail> {
    let made = |shape: Vec<usize>, data: Data| {
        Tensor::new(shape, data).map(|t| Known::Tensor(Arc::new(t))).map_err(|e| Fail::Message(e.to_string()))
    };
    if let Some((name, value)) = node.attributes.iter().next() {
        return match (name.as_str(), value) {
            ("value", OnnxAttr::Tensor(t)) => Ok(Known::Tensor(Arc::new(tensor::decode(t, None)?))),
            ("value_float", OnnxAttr::Float(v)) => made(vec![], Data::F32(vec![*v])),
            ("value_int", OnnxAttr::Int(v)) => made(vec![], Data::I64(vec![*v])),
            ("value_floats", OnnxAttr::Floats(v)) => made(vec![v.len()], Data::F32(v.clone())),
            ("value_ints", OnnxAttr::Ints(v)) => made(vec![v.len()], Data::I64(v.clone())),
            _ => Err(format!("holds `{name}`, which is not supported: store a dense tensor of numbers").into()),
        };
    }
    Err("has no value".into())
}

fn shape(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Known, Fail> {
    let x = im.input(node, 0)?;
    let dims: Vec<Sym> =
        im.shape(x)?.0.iter().map(|d| if let Dim::Fixed(n) = d { Sym::Known(*n as i64) } else { Sym::Batch }).collect();
    let bounds = bounds(int(node, "start", 0)?, int(node, "end", i64::MAX)?, dims.len());
    Ok(Known::Ints(dims.get(bounds).unwrap_or(&[]).to_vec(), false))
}

/// A range counted as ONNX does: negative from the end, clamped.
fn bounds(start: i64, end: i64, len: usize) -> std::ops::Range<usize> {
    let len = len as i64;
    let place = |i: i64| (if i < 0 { i.saturating_add(len) } else { i }).clamp(0, len) as usize;
    place(start)..place(end).max(place(start))
}

fn gather(im: &mut Importer<'_>, node: &OnnxNode, list: &[Sym]) -> Result<Known, Fail> {
    let indices = im.constant_input(node, 1)?.ok_or("has no indices")?;
    if int(node, "axis", 0)? != 0 || indices.shape().len() > 1 {
        return Err("selects along several axes: only shape arithmetic is supported".into());
    }
    let at = indices.as_i64().ok_or("has indices that are no integers")?;
    let picked = at.iter().map(|&i| axis(i, list.len()).map(|i| list.get(i).copied().unwrap_or(Sym::Known(0))));
    Ok(Known::Ints(picked.collect::<Result<_, _>>()?, indices.shape().is_empty()))
}

fn slice(im: &mut Importer<'_>, node: &OnnxNode, list: &[Sym]) -> Result<Known, Fail> {
    let starts = im.ints_of(node, "starts", 1)?.ok_or("has no starts")?;
    let ends = im.ints_of(node, "ends", 2)?.ok_or("has no ends")?;
    let steps = if ints(node, "starts")?.is_some() { None } else { im.ints_of(node, "steps", 4)? };
    match (&*starts, &*ends, steps.as_deref()) {
        (&[start], &[end], None | Some([1])) => {
            Ok(Known::Ints(list.get(bounds(start, end, list.len())).unwrap_or(&[]).to_vec(), false))
        }
        _ => Err("slices with steps or along several axes: only shape arithmetic is supported".into()),
    }
}
