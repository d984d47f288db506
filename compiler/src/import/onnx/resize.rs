//! Resize and Upsample: nearest neighbours as selections, linear interpolation as weighted sums of two selections an axis.

use super::arguments::{int, ints, string};
use super::axes::{BATCH, axis};
use super::context::{Fail, Importer, Known, to_floats};
use super::proto::OnnxNode;
use crate::graph::Value;
use crate::graph::attrs::Attrs;
use crate::graph::types::Dim;
use dorefa_runtime::tensor::Tensor;

/// The greatest extent that is made.
const LONGEST: f64 = (1 << 20) as f64;

/// Imports the node if it is one of this family.
pub(super) fn handle(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Option<Known>, Fail> {
    match node.op_type.as_str() {
        "Resize" | "Upsample" => resize(im, node).map(|v| Some(Known::Value(v))),
        _ => Ok(None),
    }
}

/// How one axis is resized.
struct Axis {
    /// Elements before and after.
    from: usize,
    to: usize,
    /// to/from as the file gives it.
    scale: f64,
    /// from·scale before rounding where the file gives scales, else `to`.
    exact: f64,
}

impl Axis {
    /// The place in the input of element `i` of the result.
    fn origin(&self, mode: &str, i: usize) -> Result<f64, Fail> {
        let (x, from, to) = (i as f64, self.from as f64, self.to as f64);
        let last = self.exact - 1.0;
        let half = (x + 0.5) / self.scale - 0.5;
        Ok(match mode {
            "half_pixel" => half,
            "half_pixel_symmetric" => from / 2.0 * (1.0 - to / (self.scale * from)) + half,
            "pytorch_half_pixel" => {
                if self.to > 1 {
                    half
                } else {
                    0.0
                }
            }
            "align_corners" => {
                if self.to > 1 {
                    x * (from - 1.0) / last
                } else {
                    0.0
                }
            }
            "asymmetric" => x / self.scale,
            _ => return Err(format!("has the coordinates `{mode}`, which are not supported").into()),
        })
    }

    fn clamped(&self, place: f64) -> i64 {
        (place as i64).clamp(0, self.from as i64 - 1)
    }
}

fn resize(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let mut x = im.input(node, 0)?;
    let dims = im.dims(x)?;
    let lead = im.shape(x)?.rank() - dims.len();
    let old = node.op_type == "Upsample" || im.opset < 11;
    let mode = string(node, "mode", "nearest")?.to_owned();
    let coordinates = string(node, "coordinate_transformation_mode", if old { "asymmetric" } else { "half_pixel" })?;
    let rounding = string(node, "nearest_mode", if old { "floor" } else { "round_prefer_floor" })?;
    if int(node, "antialias", 0)? != 0 {
        return Err("filters (antialias): only plain sampling is supported".into());
    }
    for (i, part) in axes(im, node, &dims, old)? {
        let at = i + lead;
        if part.from == part.to && part.scale == 1.0 {
            continue;
        }
        let origins = (0..part.to).map(|o| part.origin(coordinates, o)).collect::<Result<Vec<_>, _>>()?;
        x = match &*mode {
            "nearest" => {
                // Before operator set 11 nothing says how; ONNX's tests round up where the image shrinks.
                let rounding = if old && part.scale < 1.0 { "ceil" } else { rounding };
                let nearest = |&c: &f64| match rounding {
                    "floor" => Ok(part.clamped(c.floor())),
                    "ceil" => Ok(part.clamped(c.ceil())),
                    "round_prefer_floor" => Ok(part.clamped((c - 0.5).ceil())),
                    "round_prefer_ceil" => Ok(part.clamped((c + 0.5).floor())),
                    other => Err(Fail::Message(format!("rounds by `{other}`, which does not exist"))),
                };
                let places = origins.iter().map(nearest).collect::<Result<Vec<_>, _>>()?;
                im.taken(node, x, at, places)?
            }
            "linear" | "bilinear" => linear(im, node, x, (at, &part), &origins)?,
            mode => return Err(format!("resizes in mode `{mode}`: nearest and linear are supported").into()),
        };
    }
    Ok(x)
}

/// a·(1 − t) + b·t of the two neighbours of each place.
fn linear(
    im: &mut Importer<'_>,
    node: &OnnxNode,
    x: Value,
    (at, part): (usize, &Axis),
    origins: &[f64],
) -> Result<Value, Fail> {
    let behind = im.shape(x)?.rank() - at - 1;
    let shape: Vec<usize> = std::iter::once(part.to).chain(std::iter::repeat_n(1, behind)).collect();
    let mut sides = Vec::new();
    for side in [0.0, 1.0] {
        let places = origins.iter().map(|c| part.clamped(c.floor() + side)).collect();
        let weights = origins.iter().map(|c| (if side == 1.0 { c - c.floor() } else { 1.0 - (c - c.floor()) }) as f32);
        let weights = Tensor::f32(shape.clone(), weights.collect()).map_err(|e| e.to_string())?;
        let neighbour = im.taken(node, x, at, places)?;
        let weights = im.constant("weights", weights)?;
        sides.push(im.add("mul", node, &[neighbour, weights])?);
    }
    im.elementwise("add", node, &sides, Attrs::new())
}

/// What becomes of each axis that is resized, by the file's number of the axis.
fn axes(im: &mut Importer<'_>, node: &OnnxNode, dims: &[Dim], old: bool) -> Result<Vec<(usize, Axis)>, Fail> {
    let chosen = match ints(node, "axes")? {
        Some(list) => list.iter().map(|&a| axis(a, dims.len())).collect::<Result<Vec<_>, _>>()?,
        None => (0..dims.len()).collect(),
    };
    let floats = |t: Tensor| to_floats(t).map(|t| t.as_f32().map(<[f32]>::to_vec).unwrap_or_default());
    let scales = match node.attributes.get("scales") {
        Some(super::proto::OnnxAttr::Floats(v)) => v.clone(),
        _ => match im.constant_input(node, if old { 1 } else { 2 })? {
            Some(t) => floats(t)?,
            None => Vec::new(),
        },
    };
    let sizes = if scales.is_empty() { im.ints_input(node, 3)?.unwrap_or_default() } else { Vec::new() };
    if scales.len().max(sizes.len()) != chosen.len() {
        return Err(format!("needs one scale or size for each of {} axes", chosen.len()).into());
    }
    let mut out = Vec::new();
    for (i, &a) in chosen.iter().enumerate() {
        let Some(&Dim::Fixed(from)) = dims.get(a) else {
            let kept = scales.get(i).is_some_and(|s| *s == 1.0)
                || sizes.get(i).is_some_and(|s| match *s {
                    super::context::Sym::Batch => true,
                    super::context::Sym::Known(n) => Some(n) == im.file_batch,
                });
            if kept {
                continue;
            }
            return Err(BATCH.into());
        };
        let scale = match (scales.get(i), sizes.get(i)) {
            (Some(&s), _) => f64::from(s),
            (None, Some(&super::context::Sym::Known(n))) => n as f64 / from as f64,
            _ => return Err("has a size that depends on the batch".into()),
        };
        out.push((a, Axis { from, to: 0, scale, exact: 0.0 }));
    }
    let policy = string(node, "keep_aspect_ratio_policy", "stretch")?;
    if !sizes.is_empty() && policy != "stretch" {
        let all = out.iter().map(|(_, p)| p.scale);
        let one = if policy == "not_larger" { all.fold(f64::INFINITY, f64::min) } else { all.fold(0.0, f64::max) };
        out.iter_mut().for_each(|(_, p)| p.scale = one);
    }
    for (a, part) in &mut out {
        let extent = part.scale * part.from as f64;
        let extent = if sizes.is_empty() { extent.floor() } else { (extent + 0.5).floor() };
        if !(1.0..=LONGEST).contains(&extent) || !part.scale.is_finite() {
            return Err(format!("makes {extent} elements of axis {a}").into());
        }
        part.to = extent as usize;
        part.exact = if sizes.is_empty() { part.scale * part.from as f64 } else { extent };
    }
    Ok(out)
}
