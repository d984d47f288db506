//! Constants and shape arithmetic, computed at import over numbers of which one may be the batch.

use super::arguments::{int, ints};
use super::axes::axis;
use super::context::{Fail, Importer, Known, Sym};
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
        "Size" => {
            let Known::Ints(dims, _) = shape(im, node)? else { return Ok(None) };
            let size = dims.into_iter().try_fold(Sym::Known(1), |a, b| arithmetic("Mul", a, b))?;
            return Ok(Some(Known::Ints(vec![size], true)));
        }
        "ConstantOfShape" => return constant_of_shape(im, node).map(Some),
        "Gather" | "Slice" => {
            let known = im.known(im.input_name(node, 0).ok_or("has no input")?)?;
            let Some((list, _)) = as_ints(&known).filter(|(list, scalar)| !scalar && list.len() <= LIST) else {
                return Ok(None);
            };
            return if node.op_type == "Gather" { gather(im, node, &list) } else { slice(im, node, &list).map(Some) };
        }
        "Concat" | "Squeeze" | "Unsqueeze" | "ReduceProd" | "Range" => {}
        name if BINARY.contains(&name) || name == "Where" => {}
        _ => return Ok(None),
    }
    // These are shape arithmetic where all their data are integers.
    let all = !matches!(node.op_type.as_str(), "Squeeze" | "Unsqueeze" | "ReduceProd");
    let count = if all { node.inputs.len() } else { 1 };
    let mut lists = Vec::new();
    for i in 0..count {
        let known = im.known(im.input_name(node, i).ok_or_else(|| format!("has no input {i}"))?)?;
        match as_ints(&known) {
            Some(list) if list.0.len() <= LIST => lists.push(list),
            _ => return Ok(None),
        }
    }
    match (node.op_type.as_str(), &*lists) {
        ("Concat", lists) => Ok(Some(Known::Ints(lists.iter().flat_map(|(l, _)| l.iter().copied()).collect(), false))),
        ("ReduceProd", [(list, _)]) => {
            let product = list.iter().try_fold(Sym::Known(1), |a, &b| arithmetic("Mul", a, b))?;
            Ok(Some(Known::Ints(vec![product], int(node, "keepdims", 1)? == 0)))
        }
        ("Range", [(start, true), (limit, true), (delta, true)]) => match (&**start, &**limit, &**delta) {
            (&[Sym::Known(a)], &[Sym::Known(b)], &[Sym::Known(d)]) if d != 0 => {
                let more = |v: &i64| if d > 0 { *v < b } else { *v > b };
                let values = std::iter::successors(Some(a), |v| v.checked_add(d)).take_while(more);
                Ok(Some(Known::Ints(values.take(LIST).map(Sym::Known).collect(), false)))
            }
            _ => Err("computes with the batch size, which is known only at the call: export without it".into()),
        },
        ("Where", [(c, sc), (a, sa), (b, sb)]) => {
            let len = [c, a, b].iter().map(|l| l.len()).max().unwrap_or(0);
            let pick = |v: &[Sym], i: usize| v.get(if v.len() == 1 { 0 } else { i }).copied().unwrap_or(Sym::Known(0));
            let chosen = (0..len).map(|i| if pick(c, i) == Sym::Known(0) { pick(b, i) } else { pick(a, i) });
            Ok(Some(Known::Ints(chosen.collect(), *sc && *sa && *sb)))
        }
        ("Unsqueeze", [(list, true)]) => Ok(Some(Known::Ints(list.clone(), false))),
        ("Squeeze", [(list, _)]) if list.len() == 1 => Ok(Some(Known::Ints(list.clone(), true))),
        (op, [(a, sa), (b, sb)]) if a.len() == b.len() || a.len() == 1 || b.len() == 1 => {
            let len = if a.len() == 1 { b.len() } else { a.len() };
            let pick = |v: &[Sym], i: usize| v.get(if v.len() == 1 { 0 } else { i }).copied().unwrap_or(Sym::Known(0));
            let values = (0..len).map(|i| arithmetic(op, pick(a, i), pick(b, i))).collect::<Result<_, Fail>>()?;
            Ok(Some(Known::Ints(values, *sa && *sb)))
        }
        _ => Ok(None),
    }
}

/// Operators on two lists of integers.
const BINARY: &[&str] = &[
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Mod",
    "Min",
    "Max",
    "Equal",
    "Greater",
    "Less",
    "GreaterOrEqual",
    "LessOrEqual",
    "And",
    "Or",
];

/// The longest list that counts as shape arithmetic; longer ones are tensors.
pub(super) const LIST: usize = 4096;

/// A constant of the shape that is computed: integers of one axis are a list, others a tensor, repeated for the batch.
fn constant_of_shape(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Known, Fail> {
    let dims = im.ints_input(node, 0)?.ok_or("has no shape")?;
    let value = match node.attributes.get("value") {
        Some(OnnxAttr::Tensor(t)) => tensor::decode(t, None)?,
        _ => Tensor::scalar(0.0),
    };
    let batch = dims.first() == Some(&Sym::Batch);
    let fixed: Option<Vec<usize>> = dims
        .iter()
        .skip(usize::from(batch))
        .map(|d| if let Sym::Known(n) = d { usize::try_from(*n).ok() } else { None })
        .collect();
    let fixed = fixed.ok_or("has a shape that depends on the batch size behind axis 0, or is negative")?;
    let count = fixed.iter().try_fold(1usize, |a, &d| a.checked_mul(d)).filter(|&n| n > 0 && n <= 1 << 24);
    let count = count.ok_or_else(|| format!("makes {fixed:?} elements"))?;
    if let (Some(&[n]), false, true) = (value.as_i64(), batch, fixed.len() <= 1 && count <= LIST) {
        return Ok(Known::Ints(vec![Sym::Known(n); count], fixed.is_empty()));
    }
    let whole = value.as_f32().is_none();
    let value = super::context::to_floats(value)?;
    let &[v] = value.as_f32().unwrap_or(&[]) else { return Err("attribute `value` must hold one number".into()) };
    let tensor = Tensor::f32(fixed, vec![v; count]).map_err(|e| e.to_string())?;
    let constant = im.constant(super::node_name(node), tensor)?;
    let constant = if batch { im.repeated(node, constant)? } else { constant };
    if whole {
        im.mark_integer(constant);
    }
    Ok(Known::Value(constant))
}

/// Integers of rank 0 or 1.
pub(super) fn as_ints(known: &Known) -> Option<(Vec<Sym>, bool)> {
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
        // No batch is negative: exporters ask whether an extent is left open.
        ("Equal", Sym::Batch, Sym::Known(n)) | ("Equal", Sym::Known(n), Sym::Batch) if n < 0 => Ok(Sym::Known(0)),
        ("Equal", Sym::Batch, Sym::Batch) => Ok(Sym::Known(1)),
        (_, Sym::Known(a), Sym::Known(b)) => {
            let result = match op {
                "Add" => a.checked_add(b),
                "Sub" => a.checked_sub(b),
                "Mul" => a.checked_mul(b),
                "Div" => a.checked_div(b),
                "Mod" => a.checked_rem_euclid(b),
                "Min" => Some(a.min(b)),
                "Max" => Some(a.max(b)),
                "Equal" => Some((a == b).into()),
                "Greater" => Some((a > b).into()),
                "Less" => Some((a < b).into()),
                "GreaterOrEqual" => Some((a >= b).into()),
                "LessOrEqual" => Some((a <= b).into()),
                "And" => Some((a != 0 && b != 0).into()),
                "Or" => Some((a != 0 || b != 0).into()),
                _ => None,
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
    let known = im.known(im.input_name(node, 0).ok_or("has no input")?)?;
    let dims: Vec<Sym> = match as_ints(&known) {
        // That of a list, which need not become a constant of the graph for it.
        Some((list, scalar)) => (0..usize::from(!scalar)).map(|_| Sym::Known(list.len() as i64)).collect(),
        None => {
            let x = im.input(node, 0)?;
            let dims = im.dims(x)?;
            dims.iter().map(|d| if let Dim::Fixed(n) = d { Sym::Known(*n as i64) } else { Sym::Batch }).collect()
        }
    };
    let bounds = bounds(int(node, "start", 0)?, int(node, "end", i64::MAX)?, dims.len());
    Ok(Known::Ints(dims.get(bounds).unwrap_or(&[]).to_vec(), false))
}

/// A range counted as ONNX does: negative from the end, clamped.
fn bounds(start: i64, end: i64, len: usize) -> std::ops::Range<usize> {
    let len = len as i64;
    let place = |i: i64| (if i < 0 { i.saturating_add(len) } else { i }).clamp(0, len) as usize;
    place(start)..place(end).max(place(start))
}

fn gather(im: &mut Importer<'_>, node: &OnnxNode, list: &[Sym]) -> Result<Option<Known>, Fail> {
    let known = im.known(im.input_name(node, 1).ok_or("has no indices")?)?;
    // Indices of more axes, or computed ones, select from the list as a tensor.
    let Some((indices, scalar)) = as_ints(&known) else { return Ok(None) };
    if int(node, "axis", 0)? != 0 {
        return Err("selects along an axis that a list does not have".into());
    }
    let mut picked = Vec::new();
    for index in indices {
        let Sym::Known(i) = index else { return Err("selects by the batch size".into()) };
        picked.push(list.get(axis(i, list.len())?).copied().unwrap_or(Sym::Known(0)));
    }
    Ok(Some(Known::Ints(picked, scalar)))
}

fn slice(im: &mut Importer<'_>, node: &OnnxNode, list: &[Sym]) -> Result<Known, Fail> {
    let starts = im.ints_of(node, "starts", 1)?.ok_or("has no starts")?;
    let ends = im.ints_of(node, "ends", 2)?.ok_or("has no ends")?;
    let steps = if ints(node, "starts")?.is_some() { None } else { im.ints_of(node, "steps", 4)? };
    let (&[start], &[end]) = (&*starts, &*ends) else { return Err("slices a list along several axes".into()) };
    let step = steps.and_then(|s| s.first().copied()).unwrap_or(1);
    let indices = super::select::range(start, end, step, list.len())?;
    Ok(Known::Ints(indices.iter().filter_map(|&i| list.get(i as usize).copied()).collect(), false))
}
