//! Reductions over axes, with the fixed summation order of the numerics contract (rule 5).

use super::{Eval, OpDef, f32_input};
use crate::graph::attrs::{AttrDef, Attrs, Kind};
use crate::graph::types::{Dim, Shape, ValueType};
use dorefa_runtime::tensor::Tensor;

const ATTRS: &[AttrDef] = &[
    AttrDef {
        name: "axes",
        kind: Kind::Ints,
        required: false,
        doc: "axes to reduce, default all; negative from the end",
    },
    AttrDef { name: "keepdims", kind: Kind::Bool, required: false, doc: "keep reduced axes as extent 1, default true" },
];

/// Sum by 4 virtual lanes (position mod 4), then (l0 + l2) + (l1 + l3).
pub fn lane_sum(values: &[f32]) -> f32 {
    let mut lanes = [0f32; 4];
    for (i, v) in values.iter().enumerate() {
        lanes[i % 4] += v;
    }
    lane_tree(lanes)
}

/// (l0 + l2) + (l1 + l3)
pub fn lane_tree(lanes: [f32; 4]) -> f32 {
    (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])
}

/// Which of `rank` axes a reduction sums over.
///
/// # Errors
/// When an axis does not exist.
pub fn axes(attrs: &Attrs, rank: usize) -> Result<Vec<bool>, String> {
    let list = attrs.ints("axes");
    let mut reduced = vec![list.is_empty(); rank];
    for &a in list {
        let a = if a < 0 { a + rank as i64 } else { a };
        *usize::try_from(a).ok().and_then(|a| reduced.get_mut(a)).ok_or_else(|| format!("axis {a} of {rank}"))? = true;
    }
    Ok(reduced)
}

fn infer(attrs: &Attrs, types: &[&ValueType]) -> Result<Vec<ValueType>, String> {
    let shape = &f32_input(types, 0)?.shape;
    let reduced = axes(attrs, shape.rank())?;
    if shape.has_batch() && reduced.first() == Some(&true) {
        return Err("cannot reduce over the batch".to_owned());
    }
    let keep = attrs.bool("keepdims", true);
    let dims = shape.0.iter().zip(&reduced).filter_map(|(&d, &r)| match (r, keep) {
        (true, true) => Some(Dim::Fixed(1)),
        (true, false) => None,
        (false, _) => Some(d),
    });
    Ok(vec![ValueType::f32(Shape(dims.collect()))])
}

fn reduce(e: &Eval<'_>, f: impl Fn(&[f32]) -> f32) -> Result<Tensor, String> {
    let x = e.input(0)?;
    let (shape, data) = (x.shape(), e.f32(0)?);
    let reduced = axes(e.attrs, shape.len())?;
    // Large weights are reduced as a whole, without a copy.
    if reduced.iter().all(|r| *r) {
        return e.floats(vec![f(data)]);
    }
    let outputs: usize = shape.iter().zip(&reduced).filter(|(_, r)| !**r).map(|(d, _)| d).product();
    let mut groups: Vec<Vec<f32>> = vec![Vec::new(); outputs];
    for (i, &v) in data.iter().enumerate() {
        let (mut rest, mut at, mut scale) = (i, 0, 1);
        for (&d, &r) in shape.iter().zip(&reduced).rev() {
            if !r {
                at += rest % d * scale;
                scale *= d;
            }
            rest /= d;
        }
        if let Some(g) = groups.get_mut(at) {
            g.push(v);
        }
    }
    e.floats(groups.iter().map(|g| f(g)).collect())
}

const fn reduction(name: &'static str, doc: &'static str, eval: fn(&Eval<'_>) -> Result<Tensor, String>) -> OpDef {
    OpDef { name, doc, inputs: (1, 1), attrs: ATTRS, elementwise: false, infer, eval }
}

/// mean
pub static REDUCE_MEAN: OpDef =
    reduction("reduce_mean", "The mean over axes: the 4-lane sum divided by the count.", |e| {
        reduce(e, |g| lane_sum(g) / g.len() as f32)
    });
/// max
pub static REDUCE_MAX: OpDef = reduction("reduce_max", "The maximum over axes.", |e| {
    reduce(e, |g| g.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a }))
});
/// sum
pub static REDUCE_SUM: OpDef = reduction("reduce_sum", "The 4-lane sum over axes.", |e| reduce(e, lane_sum));

/// argmax
pub static ARG_MAX: OpDef = OpDef {
    name: "arg_max",
    doc: "The place of the maximum along one axis, counted from 0, as f32: ONNX ArgMax. The lowest place of several, or the \
          highest where `last`; NaN never wins.",
    inputs: (1, 1),
    attrs: &[
        AttrDef { name: "axes", kind: Kind::Ints, required: true, doc: "the axis; negative from the end" },
        AttrDef { name: "keepdims", kind: Kind::Bool, required: false, doc: "keep the axis as extent 1, default true" },
        AttrDef { name: "last", kind: Kind::Bool, required: false, doc: "the highest place of several, default false" },
    ],
    elementwise: false,
    infer: |attrs, types| {
        if attrs.ints("axes").len() != 1 {
            return Err("`axes` takes one axis".to_owned());
        }
        infer(attrs, types)
    },
    eval: |e| {
        let last = e.attrs.bool("last", false);
        reduce(e, |g| {
            let mut best = (f32::NEG_INFINITY, 0);
            for (i, &v) in g.iter().enumerate() {
                if v > best.0 || (last && v == best.0) {
                    best = (v, i);
                }
            }
            best.1 as f32
        })
    },
};
