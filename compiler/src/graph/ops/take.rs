//! Selection along one axis.

use super::shape::gather;
use super::{Eval, OpDef};
use crate::graph::attrs::{AttrDef, Attrs, Kind};
use crate::graph::types::{Dim, Elem, ValueType};
use dorefa_runtime::tensor::Tensor;

/// Elements that an index list may make of one axis.
pub const LONGEST: usize = 1 << 20;

/// Take.
pub static TAKE: OpDef = OpDef {
    name: "take",
    doc: "Element i along `axis`, which is not the batch, is element indices[i] of the input, or `value` where indices[i] is \
          −1 (f32 only). ONNX Gather of constant indices, Slice with steps, Tile, Expand, nearest Resize, and Pad by edge, \
          reflection or wrapping.",
    inputs: (1, 1),
    attrs: &[
        AttrDef { name: "axis", kind: Kind::Int, required: true, doc: "axis, at least 1 where there is a batch" },
        AttrDef { name: "indices", kind: Kind::Ints, required: true, doc: "places along the axis, or −1" },
        AttrDef { name: "value", kind: Kind::Float, required: false, doc: "what −1 stands for, default 0" },
    ],
    elementwise: false,
    infer,
    eval,
};

fn infer(attrs: &Attrs, types: &[&ValueType]) -> Result<Vec<ValueType>, String> {
    let x = types.first().ok_or("input 0 is missing")?;
    let axis = usize::try_from(attrs.int("axis", 1)).map_err(|_| "`axis` is at least 0")?;
    selectable(x, axis)?;
    let indices = attrs.ints("indices");
    let mut shape = x.shape.clone();
    let Some(Dim::Fixed(n)) = shape.0.get_mut(axis) else {
        return Err(format!("{} has no axis {axis} to select from", x.shape));
    };
    let least = if x.elem == Elem::F32 { -1 } else { 0 };
    if let Some(bad) = indices.iter().find(|&&i| i < least || i >= *n as i64) {
        return Err(format!("selects element {bad} of {n} along axis {axis}"));
    }
    if indices.is_empty() || indices.len() > LONGEST {
        return Err(format!("selects {} elements", indices.len()));
    }
    *n = indices.len();
    if shape.sample_len().is_none() {
        return Err("the result is too large".to_owned());
    }
    Ok(vec![ValueType { elem: x.elem.clone(), shape, layout: Default::default() }])
}

/// Refuses the selection along an axis whose elements have scales of their own.
pub(super) fn selectable(x: &ValueType, axis: usize) -> Result<(), String> {
    let scales = match &x.elem {
        Elem::F32 => 1,
        Elem::Codes(c) => c.scale.len(),
        Elem::Acc(a) => a.scale.len(),
    };
    if scales == 1 || axis != 1 { Ok(()) } else { Err("selects channels of different scales".to_owned()) }
}

fn eval(e: &Eval<'_>) -> Result<Tensor, String> {
    let places = e.attrs.ints("indices").iter().map(|&i| usize::try_from(i).ok());
    select(e, places, e.attrs.float("value", 0.0))
}

/// The elements of operand 0 at these places along `axis`, or `fill`.
pub(super) fn select(
    e: &Eval<'_>,
    places: impl Iterator<Item = Option<usize>> + Clone,
    fill: f32,
) -> Result<Tensor, String> {
    let x = e.input(0)?;
    let axis = e.attrs.int("axis", 1) as usize;
    let inner: usize = x.shape().iter().skip(axis + 1).product();
    let outer: usize = x.shape().iter().take(axis).product();
    let own = x.shape().get(axis).copied().unwrap_or(1);
    let rows = (0..outer).flat_map(|o| places.clone().map(move |i| i.map(|i| o * own + i)));
    let index = rows.flat_map(|row| (0..inner).map(move |i| row.map(|row| row * inner + i)));
    gather(e, x, fill, index)
}
