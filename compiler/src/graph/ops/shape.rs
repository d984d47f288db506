//! Operators that move elements without changing them.

use super::{Eval, OpDef};
use crate::graph::attrs::{AttrDef, Kind};
use crate::graph::types::{Dim, Shape, ValueType};
use dorefa_runtime::tensor::{Data, Tensor};

/// Gathers elements by flat index, whatever their type; `None` gives the fill value 0 or `fill`.
pub(super) fn gather(
    e: &Eval<'_>,
    x: &Tensor,
    fill: f32,
    index: impl Iterator<Item = Option<usize>>,
) -> Result<Tensor, String> {
    fn pick<T: Copy>(v: &[T], fill: T, index: impl Iterator<Item = Option<usize>>) -> Vec<T> {
        index.map(|i| i.and_then(|i| v.get(i).copied()).unwrap_or(fill)).collect()
    }
    let data = match x.data() {
        Data::F32(v) => Data::F32(pick(v, fill, index)),
        Data::I32(v) => Data::I32(pick(v, 0, index)),
        Data::I64(v) => Data::I64(pick(v, 0, index)),
        Data::U8(v) => Data::U8(pick(v, 0, index)),
    };
    Tensor::new(e.shape(), data).map_err(|e| e.to_string())
}

/// Reshape.
pub static RESHAPE: OpDef = OpDef {
    name: "reshape",
    doc: "The same elements in row-major order under another shape; the batch stays axis 0. `shape` holds the extents of a \
          sample (all extents where there is no batch). ONNX Reshape, Flatten, Squeeze and Unsqueeze.",
    inputs: (1, 1),
    attrs: &[AttrDef { name: "shape", kind: Kind::Ints, required: true, doc: "extents without the batch" }],
    elementwise: false,
    infer: |attrs, types| {
        let x = types.first().ok_or("input 0 is missing")?;
        let dims =
            attrs.ints("shape").iter().map(|&d| usize::try_from(d).map_err(|_| "extents are at least 0".to_owned()));
        let dims = dims.collect::<Result<Vec<_>, _>>()?;
        let shape = if x.shape.has_batch() { Shape::batched(&dims) } else { Shape::fixed(&dims) };
        if shape.sample_len().is_none() || shape.sample_len() != x.shape.sample_len() {
            return Err(format!("{} elements a sample do not fit {shape}", x.shape));
        }
        Ok(vec![ValueType { elem: x.elem.clone(), shape, layout: Default::default() }])
    },
    eval: |e| e.input(0)?.clone().reshape(e.shape()).map_err(|e| e.to_string()),
};

/// Transpose.
pub static TRANSPOSE: OpDef = OpDef {
    name: "transpose",
    doc: "ONNX Transpose: axis i of the output is axis perm[i] of the input; the batch stays axis 0.",
    inputs: (1, 1),
    attrs: &[AttrDef { name: "perm", kind: Kind::Ints, required: true, doc: "the permutation" }],
    elementwise: false,
    infer: |attrs, types| {
        let x = types.first().ok_or("input 0 is missing")?;
        let perm = attrs.ints("perm");
        let mut sorted = perm.to_vec();
        sorted.sort_unstable();
        if sorted != (0..x.shape.rank() as i64).collect::<Vec<_>>() {
            return Err(format!("`perm` is no permutation of {} axes", x.shape.rank()));
        }
        if x.shape.has_batch() && perm.first() != Some(&0) {
            return Err("the batch must stay axis 0".to_owned());
        }
        let dims = perm.iter().filter_map(|&p| x.shape.0.get(p as usize).copied()).collect();
        Ok(vec![ValueType { elem: x.elem.clone(), shape: Shape(dims), layout: Default::default() }])
    },
    eval: |e| {
        let x = e.input(0)?;
        let mut strides = vec![1usize; x.shape().len()];
        for i in (1..strides.len()).rev() {
            strides[i - 1] = strides[i] * x.shape()[i];
        }
        let out = e.shape();
        let steps: Vec<usize> = e.attrs.ints("perm").iter().filter_map(|&p| strides.get(p as usize).copied()).collect();
        let at = |mut i: usize| {
            out.iter().zip(&steps).rev().fold(0, |at, (&d, &s)| {
                let digit = i % d.max(1);
                i /= d.max(1);
                at + digit * s
            })
        };
        gather(e, x, 0.0, (0..x.len()).map(|i| Some(at(i))))
    },
};

/// Concat.
pub static CONCAT: OpDef = OpDef {
    name: "concat",
    doc: "ONNX Concat along `axis`, which is not the batch, of f32 tensors, or of codes of one type and scale.",
    inputs: (1, 64),
    attrs: &[AttrDef { name: "axis", kind: Kind::Int, required: true, doc: "axis, at least 1 where there is a batch" }],
    elementwise: false,
    infer: |attrs, types| {
        let first = types.first().ok_or("input 0 is missing")?;
        let axis = usize::try_from(attrs.int("axis", 1)).map_err(|_| "`axis` is at least 0")?;
        super::take::selectable(first, axis)?;
        let mut shape = first.shape.clone();
        let mut total = 0usize;
        for ty in types {
            if ty.elem != first.elem || ty.acc().is_some() {
                return Err(format!("joins f32, or codes of one type: has {first} and {ty}"));
            }
            let s = &ty.shape;
            let Some(Dim::Fixed(n)) = s.0.get(axis) else {
                return Err(format!("{s} has no axis {axis} to join"));
            };
            let same =
                s.rank() == shape.rank() && s.0.iter().zip(&shape.0).enumerate().all(|(j, (a, b))| j == axis || a == b);
            if !same {
                return Err(format!("{s} and {} differ outside axis {axis}", first.shape));
            }
            total = total.checked_add(*n).ok_or("too large")?;
        }
        if let Some(d) = shape.0.get_mut(axis) {
            *d = Dim::Fixed(total);
        }
        Ok(vec![ValueType { elem: first.elem.clone(), shape, layout: Default::default() }])
    },
    eval: |e| {
        let axis = e.attrs.int("axis", 1) as usize;
        let outer: usize = e.shape().iter().take(axis).product();
        if e.inputs.iter().all(|t| t.as_f32().is_some()) {
            return e.floats(joined(outer, &(0..e.inputs.len()).map(|i| e.f32(i)).collect::<Result<Vec<_>, _>>()?));
        }
        e.codes(joined(outer, &(0..e.inputs.len()).map(|i| e.i32(i)).collect::<Result<Vec<_>, _>>()?))
    },
};

/// The rows of all parts in turn, of which each part has `outer`.
fn joined<T: Copy>(outer: usize, parts: &[&[T]]) -> Vec<T> {
    let row = |p: &&[T]| p.len() / outer.max(1);
    let rows = (0..outer).flat_map(|o| parts.iter().map(move |p| p.get(o * row(p)..(o + 1) * row(p)).unwrap_or(&[])));
    rows.flatten().copied().collect()
}

/// Pad.
pub static PAD: OpDef = OpDef {
    name: "pad",
    doc: "ONNX Pad, constant mode, of an image (N,C,H,W) by f32 `value`.",
    inputs: (1, 1),
    attrs: &[
        AttrDef { name: "pads", kind: Kind::Ints, required: true, doc: "[top, left, bottom, right]" },
        AttrDef { name: "value", kind: Kind::Float, required: false, doc: "the border's value, default 0" },
    ],
    elementwise: false,
    infer: |attrs, types| {
        let x = super::f32_input(types, 0)?;
        let (c, h, w) = x.shape.image().filter(|_| x.shape.rank() == 4).ok_or("pads an image")?;
        let [t, l, b, r] = super::conv::pads(attrs)?;
        Ok(vec![ValueType::f32(Shape::batched(&[c, h + t + b, w + l + r]))])
    },
    eval: |e| {
        let [t, l, ..] = super::conv::pads(e.attrs)?;
        let x = e.input(0)?;
        let (&[_, _, h, w], &[_, _, oh, ow]) = (x.shape(), &*e.shape()) else {
            return Err("pads an image".to_owned());
        };
        let len: usize = e.shape().iter().product();
        let index = (0..len).map(|i| {
            let (plane, y, px) = (i / (oh * ow), i / ow % oh, i % ow);
            let (y, px) = (y.checked_sub(t).filter(|&y| y < h)?, px.checked_sub(l).filter(|&px| px < w)?);
            Some((plane * h + y) * w + px)
        });
        gather(e, x, e.attrs.float("value", 0.0), index)
    },
};

/// Slice.
pub static SLICE: OpDef = OpDef {
    name: "slice",
    doc: "`length` elements from `start` on along `axis`, which is not the batch: ONNX Slice and Split, and the gradient of \
          concat and pad.",
    inputs: (1, 1),
    attrs: &[
        AttrDef { name: "axis", kind: Kind::Int, required: true, doc: "axis, at least 1 where there is a batch" },
        AttrDef { name: "start", kind: Kind::Int, required: true, doc: "first element, from 0" },
        AttrDef { name: "length", kind: Kind::Int, required: true, doc: "number of elements, at least 1" },
    ],
    elementwise: false,
    infer: |attrs, types| {
        let x = types.first().ok_or("input 0 is missing")?;
        let mut shape = x.shape.clone();
        let part = ["axis", "start", "length"].map(|name| usize::try_from(attrs.int(name, 0)));
        let [Ok(axis), Ok(start), Ok(length)] = part else {
            return Err("`axis`, `start` and `length` are at least 0".to_owned());
        };
        super::take::selectable(x, axis)?;
        match shape.0.get_mut(axis) {
            Some(Dim::Fixed(n)) if length > 0 && start.checked_add(length).is_some_and(|end| end <= *n) => {
                *n = length;
                Ok(vec![ValueType { elem: x.elem.clone(), shape, layout: Default::default() }])
            }
            _ => Err(format!("{shape} has no elements {start} … {} along axis {axis}", start.saturating_add(length))),
        }
    },
    eval: |e| {
        let start = e.attrs.int("start", 0) as usize;
        let end = start + e.attrs.int("length", 1) as usize;
        super::take::select(e, (start..end).map(Some), 0.0)
    },
};
