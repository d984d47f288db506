//! Operators that select, repeat or surround elements along axes: Slice, Split, Gather, Tile, Expand, Pad.

use super::arguments::{float, int, ints, string};
use super::axes::{BATCH, axis};
use super::context::{Fail, Importer, Known, Sym, to_floats};
use super::proto::OnnxNode;
use crate::graph::Value;
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::ops::take::LONGEST;
use crate::graph::types::{Dim, Shape};

/// Imports the node if it is one of this family.
pub(super) fn handle(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Option<Known>, Fail> {
    let value = match node.op_type.as_str() {
        "Slice" => slice(im, node)?,
        "Split" => split(im, node)?,
        "Gather" => gather(im, node)?,
        "Tile" => tile(im, node)?,
        "Expand" => expand(im, node)?,
        "Pad" => pad(im, node)?,
        _ => return Ok(None),
    };
    Ok(Some(Known::Value(value)))
}

/// The places start, start + step, … before `end` of `len` elements, counted as ONNX does: negative from the end, clamped.
pub(super) fn range(start: i64, end: i64, step: i64, len: usize) -> Result<Vec<i64>, Fail> {
    let len = len as i64;
    let from_end = |i: i64| if i < 0 { i.saturating_add(len) } else { i };
    let (start, end) = (from_end(start), from_end(end));
    if step > 0 {
        let (start, end) = (start.clamp(0, len), end.clamp(0, len));
        return Ok((start..end).step_by(usize::try_from(step).unwrap_or(usize::MAX)).collect());
    }
    if step == 0 {
        return Err("slices with step 0".into());
    }
    let (start, end) = (start.clamp(-1, len - 1), end.clamp(-1, len - 1));
    let by = usize::try_from(step.unsigned_abs()).unwrap_or(usize::MAX);
    Ok((end + 1..=start).rev().step_by(by).collect())
}

/// The graph's axis and extent of a file's axis; `None` where it is the batch.
fn extent(im: &Importer<'_>, x: Value, a: i64) -> Result<Option<(usize, usize)>, Fail> {
    let dims = im.dims(x)?;
    let at = axis(a, dims.len())?;
    Ok(match dims.get(at) {
        Some(Dim::Fixed(n)) => Some((at + im.shape(x)?.rank() - dims.len(), *n)),
        _ => None,
    })
}

fn slice(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let mut x = im.input(node, 0)?;
    let starts = im.ints_of(node, "starts", 1)?.ok_or("has no starts")?;
    let ends = im.ints_of(node, "ends", 2)?.ok_or("has no ends")?;
    let old = ints(node, "starts")?.is_some();
    let axes = if old { ints(node, "axes")? } else { im.ints_of(node, "axes", 3)? };
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = if old { None } else { im.ints_of(node, "steps", 4)? };
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()].iter().any(|&n| n != starts.len()) {
        return Err("has starts, ends, axes and steps of different number".into());
    }
    for (((&start, &end), &a), &step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let Some((at, n)) = extent(im, x, a)? else {
            // The whole batch may be asked for.
            if start == 0 && step == 1 && (end >= i64::from(i32::MAX) || Some(end) == im.file_batch) {
                continue;
            }
            return Err(BATCH.into());
        };
        let indices = range(start, end, step, n)?;
        if indices.is_empty() {
            return Err(format!("selects nothing of axis {a}, which has {n} elements").into());
        }
        x = im.taken(node, x, at, indices)?;
    }
    Ok(x)
}

fn split(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let x = im.input(node, 0)?;
    let a = int(node, "axis", 0)?;
    let (at, n) = extent(im, x, a)?.ok_or(BATCH)?;
    let sizes = match im.ints_of(node, "split", 1)? {
        Some(sizes) => sizes,
        None => {
            let parts = int(node, "num_outputs", node.outputs.len() as i64)?;
            let parts = usize::try_from(parts).ok().filter(|p| (1..=n).contains(p)).ok_or("splits into no parts")?;
            let each = n.div_ceil(parts);
            (0..parts).map(|i| (n.saturating_sub(i * each)).min(each) as i64).collect()
        }
    };
    let total = sizes.iter().try_fold(0i64, |sum, &s| if s >= 0 { sum.checked_add(s) } else { None });
    if total != Some(n as i64) || sizes.len() < node.outputs.len() {
        return Err(format!("splits {n} elements into parts of {sizes:?}").into());
    }
    let mut start = 0;
    let mut parts = Vec::new();
    for &size in &sizes {
        parts.push(match size {
            0 => Known::Unavailable,
            _ => Known::Value(im.taken(node, x, at, (start..start + size).collect())?),
        });
        start += size;
    }
    im.further = parts.split_off(1.min(parts.len()));
    match parts.first() {
        Some(&Known::Value(first)) => Ok(first),
        _ => Err("makes an empty part".into()),
    }
}

fn gather(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let x = im.input(node, 0)?;
    let (at, n) = extent(im, x, int(node, "axis", 0)?)?.ok_or(BATCH)?;
    let indices = im.constant_input(node, 1)?.ok_or("has no indices")?;
    let places = match (indices.as_i64(), indices.as_f32()) {
        (Some(v), _) => v.to_vec(),
        (_, Some(v)) => v.iter().map(|&v| v as i64).collect(),
        _ => return Err("has indices that are no integers".into()),
    };
    let places = places.iter().map(|&i| axis(i, n).map(|i| i as i64)).collect::<Result<Vec<_>, _>>()?;
    if places.is_empty() {
        return Err("selects nothing".into());
    }
    let y = im.taken(node, x, at, places)?;
    let own = im.dims(y)?;
    let at = at - (im.shape(y)?.rank() - own.len());
    let middle = indices.shape().iter().map(|&d| Dim::Fixed(d));
    let dims: Vec<Dim> = own.iter().take(at).copied().chain(middle).chain(own.iter().skip(at + 1).copied()).collect();
    im.shaped(node, y, &dims)
}

fn tile(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let mut x = im.input(node, 0)?;
    let repeats = im.ints_of(node, "repeats", 1)?.ok_or("has no repeats")?;
    if repeats.len() != im.dims(x)?.len() {
        return Err("needs one repeat for each axis".into());
    }
    for (i, &times) in repeats.iter().enumerate().filter(|(_, n)| **n != 1) {
        let (at, n) = extent(im, x, i as i64)?.ok_or(BATCH)?;
        let total = times.checked_mul(n as i64).filter(|t| (1..=LONGEST as i64).contains(t));
        let total = total.ok_or_else(|| format!("repeats axis {i} {times} times"))?;
        x = im.taken(node, x, at, (0..total).map(|t| t % n as i64).collect())?;
    }
    Ok(x)
}

fn expand(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let mut x = im.input(node, 0)?;
    let target = im.ints_input(node, 1)?.ok_or("has no target shape")?;
    let mut own = im.dims(x)?;
    let missing = target.len().saturating_sub(own.len());
    let computed = im.shape(x)?.has_batch();
    let batch = target.first().is_some_and(|&t| {
        t == Sym::Batch
            || (im.lead == 0 && computed && matches!((t, im.file_batch), (Sym::Known(n), Some(b)) if n == b))
    });
    if missing > 0 {
        own.splice(0..0, std::iter::repeat_n(Dim::Fixed(1), missing));
    }
    if im.lead == 0 && computed {
        if missing > 0 {
            return Err(BATCH.into());
        }
    } else if batch && own.first() == Some(&Dim::Fixed(1)) {
        // A constant for every sample of the batch.
        own.remove(0);
        x = im.shaped(node, x, &own)?;
        x = im.repeated(node, x)?;
        own = im.dims(x)?;
    } else if missing > 0 {
        x = im.shaped(node, x, &own)?;
    }
    let mut dims = Vec::new();
    let skipped = own.len().saturating_sub(target.len());
    for (i, d) in own.iter().enumerate() {
        dims.push(match (d, i.checked_sub(skipped).and_then(|i| target.get(i))) {
            (Dim::Fixed(1), Some(&Sym::Known(n))) => {
                Dim::Fixed(usize::try_from(n).ok().filter(|n| *n > 0).ok_or_else(|| format!("expands to {n}"))?)
            }
            (d, None | Some(Sym::Known(1) | Sym::Batch)) => *d,
            (Dim::Batch, Some(&Sym::Known(n))) if Some(n) == im.file_batch => Dim::Batch,
            (&Dim::Fixed(n), Some(&Sym::Known(t))) if n as i64 == t => Dim::Fixed(n),
            (d, t) => return Err(format!("expands an axis of {} to {t:?}", Shape(vec![*d])).into()),
        });
    }
    im.expanded(node, x, &dims)
}

fn pad(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let mut x = im.input(node, 0)?;
    let pads = im.ints_of(node, if im.opset < 2 { "paddings" } else { "pads" }, 1)?.ok_or("has no pads")?;
    let rank = im.dims(x)?.len();
    let axes = match im.input_name(node, 3) {
        Some(_) => im.ints_of(node, "axes", 3)?.unwrap_or_default(),
        None => (0..rank as i64).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(format!("has {} pads for {} axes", pads.len(), axes.len()).into());
    }
    let value = match im.constant_input(node, 2)? {
        Some(t) => to_floats(t)?.as_f32().and_then(<[f32]>::first).copied().unwrap_or(0.0),
        None => float(node, "value", 0.0)?,
    };
    let mode = string(node, "mode", "constant")?.to_owned();
    let (before, after) = pads.split_at(axes.len());
    let mut each: Vec<(usize, usize, i64, i64)> = Vec::new();
    for ((&a, &b), &c) in axes.iter().zip(before).zip(after).filter(|((_, b), c)| (**b, **c) != (0, 0)) {
        let (at, n) = extent(im, x, a)?.ok_or(BATCH)?;
        let total = (n as i64).checked_add(b).and_then(|t| t.checked_add(c));
        if !total.is_some_and(|t| (1..=LONGEST as i64).contains(&t)) {
            let limit =
                if total.is_some_and(|t| t < 1) { "less than 1".into() } else { format!("more than {LONGEST}") };
            return Err(format!("pads axis {a} of {n} elements by {b} and {c}: {limit} must not come out").into());
        }
        each.push((at, n, b, c));
    }
    let image = im.shape(x)?.has_batch() && im.shape(x)?.rank() == 4;
    if mode == "constant" && image && each.iter().all(|&(at, _, b, c)| at >= 2 && b >= 0 && c >= 0) {
        let of = |at: usize| each.iter().find(|e| e.0 == at).map_or((0, 0), |e| (e.2, e.3));
        let ((top, bottom), (left, right)) = (of(2), of(3));
        if each.is_empty() {
            return Ok(x);
        }
        let attrs = Attrs::new().with("pads", Attr::Ints(vec![top, left, bottom, right]));
        return im.add_with("pad", node, &[x], attrs.with("value", Attr::Float(value)));
    }
    for (at, n, before, after) in each {
        let n = n as i64;
        let mut places = Vec::new();
        for i in -before..n + after {
            places.push(match &*mode {
                "constant" => {
                    if (0..n).contains(&i) {
                        i
                    } else {
                        -1
                    }
                }
                "edge" => i.clamp(0, n - 1),
                "wrap" => i.rem_euclid(n),
                "reflect" if n > 1 => {
                    let period = 2 * (n - 1);
                    let at = i.rem_euclid(period);
                    at.min(period - at)
                }
                "reflect" => 0,
                mode => return Err(format!("pads in mode `{mode}`, which does not exist").into()),
            });
        }
        if places.contains(&-1) {
            let attrs = Attrs::new().with("axis", Attr::Int(at as i64)).with("indices", Attr::Ints(places));
            x = im.select(node, x, attrs.with("value", Attr::Float(value)))?;
        } else {
            x = im.taken(node, x, at, places)?;
        }
    }
    Ok(x)
}
