//! Operators that move elements: Reshape and its kin, Transpose, Concat, Pad. The batch stays axis 0 throughout.

use super::context::{Fail, Importer, Known, Sym, axis, int, ints, string, to_floats};
use super::proto::OnnxNode;
use crate::graph::Value;
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::types::{Dim, Shape};

const BATCH: &str = "moves axis 0, which must stay the batch: export the model so that axis 0 is only carried through";

/// Imports the node if it is one of this family.
pub(super) fn handle(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Option<Known>, Fail> {
    let value = match node.op_type.as_str() {
        "Reshape" => reshape(im, node)?,
        "Flatten" => flatten(im, node)?,
        "Squeeze" => squeeze(im, node)?,
        "Unsqueeze" => unsqueeze(im, node)?,
        "Transpose" => transpose(im, node)?,
        "Concat" => concat(im, node)?,
        "Pad" => pad(im, node)?,
        _ => return Ok(None),
    };
    Ok(Some(Known::Value(value)))
}

fn product(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1usize, |a, &d| a.checked_mul(d))
}

/// The extents without the batch that a target shape means for a value of `shape`.
pub(super) fn target(
    shape: &Shape,
    target: &[Sym],
    file_batch: Option<i64>,
    allow_zero: bool,
) -> Result<Vec<usize>, String> {
    let total = shape.sample_len().ok_or("the shape overflows")?;
    // 0 copies the extent of the input.
    let resolved: Vec<Sym> = target
        .iter()
        .enumerate()
        .map(|(i, &s)| match (s, shape.0.get(i)) {
            (Sym::Known(0), Some(Dim::Fixed(n))) if !allow_zero => Sym::Known(*n as i64),
            (Sym::Known(0), Some(Dim::Batch)) if !allow_zero => Sym::Batch,
            _ => s,
        })
        .collect();
    let rest = match (shape.has_batch(), resolved.split_first()) {
        (false, _) => &*resolved,
        (true, None) => return Err(BATCH.to_owned()),
        (true, Some((Sym::Batch, rest))) => rest,
        (true, Some((Sym::Known(-1), rest))) => rest,
        (true, Some((Sym::Known(n), rest))) if Some(*n) == file_batch => rest,
        (true, Some(_)) => return Err(BATCH.to_owned()),
    };
    let mut dims = Vec::new();
    let mut open = None;
    for s in rest {
        match *s {
            Sym::Known(-1) if open.is_none() => {
                open = Some(dims.len());
                dims.push(1);
            }
            Sym::Known(n) if n > 0 => dims.push(n as usize),
            Sym::Known(n) => return Err(format!("has the extent {n} in its target shape")),
            Sym::Batch => return Err(BATCH.to_owned()),
        }
    }
    let known = product(&dims).filter(|&p| p > 0).ok_or("the target shape overflows")?;
    if let Some(slot) = open.and_then(|i| dims.get_mut(i)) {
        *slot = total / known;
    }
    if product(&dims) != Some(total) {
        return Err(format!("an image of {shape} does not fit the target shape {dims:?}"));
    }
    Ok(dims)
}

fn reshape(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let x = im.input(node, 0)?;
    let wanted = match ints(node, "shape")? {
        Some(v) => v.into_iter().map(Sym::Known).collect(),
        None => im.ints_input(node, 1)?.ok_or("has no target shape")?,
    };
    let dims = target(&im.shape(x)?, &wanted, im.file_batch, int(node, "allowzero", 0)? != 0)?;
    im.reshaped(node, x, &dims)
}

fn flatten(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let x = im.input(node, 0)?;
    let shape = im.shape(x)?;
    let at = int(node, "axis", 1)?;
    let at = if at == shape.rank() as i64 { shape.rank() } else { axis(at, shape.rank())? };
    if shape.has_batch() {
        if at != 1 {
            return Err(BATCH.into());
        }
        let total = shape.sample_len().ok_or("the shape overflows")?;
        return im.reshaped(node, x, &[total]);
    }
    let (a, b) = shape.per_sample().split_at_checked(at).map(|(a, b)| (product(a), product(b))).ok_or("bad axis")?;
    im.reshaped(node, x, &[a.unwrap_or(0), b.unwrap_or(0)])
}

fn squeeze(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let x = im.input(node, 0)?;
    let shape = im.shape(x)?;
    let mut gone = Vec::new();
    match im.ints_of(node, "axes", 1)? {
        Some(axes) => {
            for a in axes {
                gone.push(axis(a, shape.rank())?);
            }
        }
        None => gone.extend((0..shape.rank()).filter(|&i| shape.0.get(i) == Some(&Dim::Fixed(1)))),
    }
    let mut dims = Vec::new();
    for (i, d) in shape.0.iter().enumerate() {
        match (gone.contains(&i), d) {
            (true, Dim::Fixed(1)) | (false, Dim::Batch) => {}
            (true, Dim::Batch) => return Err(BATCH.into()),
            (true, Dim::Fixed(n)) => return Err(format!("squeezes axis {i} of extent {n}").into()),
            (false, Dim::Fixed(n)) => dims.push(*n),
        }
    }
    im.reshaped(node, x, &dims)
}

fn unsqueeze(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let x = im.input(node, 0)?;
    let shape = im.shape(x)?;
    let axes = im.ints_of(node, "axes", 1)?.ok_or("has no axes")?;
    let rank = shape.rank().saturating_add(axes.len());
    if rank > 8 {
        return Err(format!("makes {rank} axes: at most 8 are supported").into());
    }
    let new = axes.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>, _>>()?;
    if shape.has_batch() && new.contains(&0) {
        return Err(BATCH.into());
    }
    let mut old = shape.0.iter();
    let dims: Vec<Dim> =
        (0..rank).filter_map(|i| if new.contains(&i) { Some(Dim::Fixed(1)) } else { old.next().copied() }).collect();
    im.reshaped(node, x, &Shape(dims).per_sample())
}

fn transpose(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let x = im.input(node, 0)?;
    let rank = im.shape(x)?.rank() as i64;
    let perm = ints(node, "perm")?.unwrap_or_else(|| (0..rank).rev().collect());
    if perm.iter().copied().eq(0..rank) {
        return Ok(x);
    }
    im.add_with("transpose", node, &[x], Attrs::new().with("perm", Attr::Ints(perm)))
}

fn concat(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let inputs = (0..node.inputs.len()).map(|i| im.input(node, i)).collect::<Result<Vec<_>, _>>()?;
    let rank = im.shape(*inputs.first().ok_or("has no input")?)?.rank();
    let at = axis(int(node, "axis", 1)?, rank)?;
    im.add_with("concat", node, &inputs, Attrs::new().with("axis", Attr::Int(at as i64)))
}

fn pad(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let x = im.input(node, 0)?;
    let mode = string(node, "mode", "constant")?;
    if mode != "constant" {
        return Err(format!("pads in mode `{mode}`: only `constant` is supported").into());
    }
    if im.input_name(node, 3).is_some() {
        return Err("pads selected axes: only the form with pads for all axes is supported".into());
    }
    let pads = im.ints_of(node, "pads", 1)?.ok_or("has no pads")?;
    let &[0, 0, top, left, 0, 0, bottom, right] = &*pads else {
        return Err(format!("pads {pads:?}: only height and width of an image (N,C,H,W) can be padded").into());
    };
    let value = match im.constant_input(node, 2)? {
        Some(t) => *to_floats(t)?.as_f32().and_then(<[f32]>::first).ok_or("has an empty padding value")?,
        None => super::context::float(node, "value", 0.0)?,
    };
    if [top, left, bottom, right] == [0; 4] {
        return Ok(x);
    }
    let attrs = Attrs::new().with("pads", Attr::Ints(vec![top, left, bottom, right]));
    im.add_with("pad", node, &[x], attrs.with("value", Attr::Float(value)))
}
