//! Operators that give the elements other axes: Reshape and its kin, Transpose, Concat, DepthToSpace. Where the file's axis 0
//! is the batch, it stays axis 0 throughout.

use super::arguments::{int, ints, string};
use super::axes::{BATCH, axis};
use super::context::{Fail, Importer, Known, Sym};
use super::proto::OnnxNode;
use crate::graph::Value;
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::types::{Dim, Shape};

/// Imports the node if it is one of this family.
pub(super) fn handle(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Option<Known>, Fail> {
    let value = match node.op_type.as_str() {
        "Reshape" => reshape(im, node)?,
        "Flatten" => flatten(im, node)?,
        "Squeeze" => squeeze(im, node)?,
        "Unsqueeze" => unsqueeze(im, node)?,
        "Transpose" => transpose(im, node)?,
        "Concat" => concat(im, node)?,
        "DepthToSpace" | "SpaceToDepth" => blocks(im, node)?,
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
    let shape = Shape(im.dims(x)?);
    let dims = target(&shape, &wanted, im.file_batch, int(node, "allowzero", 0)? != 0)?;
    im.reshaped(node, x, &dims)
}

fn flatten(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let x = im.input(node, 0)?;
    let dims = im.dims(x)?;
    let at = int(node, "axis", 1)?;
    let at = if at == dims.len() as i64 { dims.len() } else { axis(at, dims.len())? };
    let (head, tail) = dims.split_at_checked(at).ok_or("has no such axis")?;
    let one = |part: &[Dim]| -> Result<Dim, Fail> {
        match part {
            [Dim::Batch] => Ok(Dim::Batch),
            _ if part.contains(&Dim::Batch) => Err(BATCH.into()),
            _ => Ok(Dim::Fixed(product(&Shape(part.to_vec()).per_sample()).ok_or("the shape overflows")?)),
        }
    };
    let dims = [one(head)?, one(tail)?];
    im.shaped(node, x, &dims)
}

fn squeeze(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let x = im.input(node, 0)?;
    let dims = im.dims(x)?;
    let gone = match im.ints_of(node, "axes", 1)? {
        Some(axes) => axes.iter().map(|&a| axis(a, dims.len())).collect::<Result<Vec<_>, _>>()?,
        None => (0..dims.len()).filter(|&i| dims.get(i) == Some(&Dim::Fixed(1))).collect(),
    };
    for &i in &gone {
        match dims.get(i) {
            Some(Dim::Fixed(1)) => {}
            Some(Dim::Fixed(n)) => return Err(format!("squeezes axis {i} of extent {n}").into()),
            _ => return Err(BATCH.into()),
        }
    }
    let kept: Vec<Dim> = dims.iter().enumerate().filter(|(i, _)| !gone.contains(i)).map(|(_, d)| *d).collect();
    im.shaped(node, x, &kept)
}

fn unsqueeze(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let x = im.input(node, 0)?;
    let own = im.dims(x)?;
    let axes = im.ints_of(node, "axes", 1)?.ok_or("has no axes")?;
    let rank = own.len().saturating_add(axes.len());
    if rank > 8 {
        return Err(format!("makes {rank} axes: at most 8 are supported").into());
    }
    let new = axes.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>, _>>()?;
    let mut old = own.iter();
    let dims: Vec<Dim> =
        (0..rank).filter_map(|i| if new.contains(&i) { Some(Dim::Fixed(1)) } else { old.next().copied() }).collect();
    im.shaped(node, x, &dims)
}

fn transpose(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let x = im.input(node, 0)?;
    let rank = im.dims(x)?.len() as i64;
    let perm = ints(node, "perm")?.unwrap_or_else(|| (0..rank).rev().collect());
    if perm.iter().copied().eq(0..rank) {
        return Ok(x);
    }
    let lead = im.shape(x)?.rank() as i64 - rank;
    let perm = (0..lead).chain(perm.iter().map(|p| p.saturating_add(lead))).collect();
    im.add_with("transpose", node, &[x], Attrs::new().with("perm", Attr::Ints(perm)))
}

/// Joins up to 64 parts at a time, as many as the operator takes.
fn concat(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let mut parts = (0..node.inputs.len()).map(|i| im.input(node, i)).collect::<Result<Vec<_>, _>>()?;
    if im.lead == 1 && parts.iter().any(|&v| im.shape(v).is_ok_and(|s| s.has_batch())) {
        parts = parts.into_iter().map(|v| im.repeated(node, v)).collect::<Result<_, _>>()?;
    }
    for part in &mut parts {
        // Constants whose axis 0 is the file's batch of 1.
        let dims = im.dims(*part)?;
        if im.lead == 0
            && !im.shape(*part)?.has_batch()
            && im.file_batch == Some(1)
            && dims.first() == Some(&Dim::Fixed(1))
        {
            let rest = im.shaped(node, *part, dims.get(1..).unwrap_or(&[]))?;
            *part = im.repeated(node, rest)?;
        }
    }
    let at = im.axis(*parts.first().ok_or("has no input")?, int(node, "axis", 1)?)? as i64;
    while parts.len() > 1 {
        let groups = parts.chunks(64).map(<[Value]>::to_vec).collect::<Vec<_>>();
        parts = groups
            .iter()
            .map(|g| im.add_with("concat", node, g, Attrs::new().with("axis", Attr::Int(at))))
            .collect::<Result<_, _>>()?;
    }
    parts.first().copied().ok_or_else(|| "has no input".into())
}

/// DepthToSpace and SpaceToDepth: blocks of channels become blocks of pixels, or the other way.
fn blocks(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let x = im.input(node, 0)?;
    let x = im.images(node, x)?;
    let (c, h, w) = im.shape(x)?.image().ok_or("works on an image (N,C,H,W)")?;
    let size = usize::try_from(int(node, "blocksize", 0)?).ok().filter(|&b| (1..=1 << 12).contains(&b));
    let b = size.ok_or("attribute `blocksize` must be at least 1")?;
    let (parts, perm, shape) = if node.op_type == "DepthToSpace" {
        if c % (b * b) != 0 {
            return Err(format!("spreads {c} channels over blocks of {b} by {b}").into());
        }
        let inner = c / (b * b);
        match string(node, "mode", "DCR")? {
            "DCR" => (vec![b, b, inner, h, w], vec![0, 3, 4, 1, 5, 2], vec![inner, h * b, w * b]),
            "CRD" => (vec![inner, b, b, h, w], vec![0, 1, 4, 2, 5, 3], vec![inner, h * b, w * b]),
            mode => return Err(format!("attribute `mode` is `{mode}`: DCR or CRD is expected").into()),
        }
    } else {
        if h % b != 0 || w % b != 0 {
            return Err(format!("gathers blocks of {b} by {b} of an image of {h} by {w}").into());
        }
        let perm = match string(node, "mode", "DCR")? {
            "DCR" => vec![0, 3, 5, 1, 2, 4],
            "CRD" => vec![0, 1, 3, 5, 2, 4],
            mode => return Err(format!("attribute `mode` is `{mode}`: DCR or CRD is expected").into()),
        };
        (vec![c, h / b, b, w / b, b], perm, vec![c * b * b, h / b, w / b])
    };
    let mut y = im.reshaped(node, x, &parts)?;
    y = im.add_with("transpose", node, &[y], Attrs::new().with("perm", Attr::Ints(perm)))?;
    y = im.reshaped(node, y, &shape)?;
    im.samples(node, y)
}
