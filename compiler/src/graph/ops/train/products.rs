//! Products of the backward direction: input and weight gradients of convolutions and matrix products, of codes (exact
//! integers) and of floats (one chain in fixed order; numerics contract, rules 5 and 6).

use super::super::conv::{ATTRS, Geometry};
use super::super::integer::{acc_bounds, codes};
use super::super::{Eval, OpDef, f32_input};
use super::{INPUT, extents};
use crate::graph::attrs::{AttrDef, Attrs, Kind};
use crate::graph::scale::Scale;
use crate::graph::types::{AccType, CodeType, Dim, Elem, Shape, ValueType};

const KERNEL: AttrDef =
    AttrDef { name: "kernel", kind: Kind::Ints, required: true, doc: "[height, width] of the forward kernel" };
const INPUT_ATTRS: &[AttrDef] = &[ATTRS[0], ATTRS[1], ATTRS[2], ATTRS[3], INPUT];
const KERNEL_ATTRS: &[AttrDef] = &[ATTRS[0], ATTRS[1], ATTRS[2], ATTRS[3], KERNEL];

/// The forward geometry of an input gradient, from the shapes of dy and of the weights; and the input's shape.
pub fn input_geometry(attrs: &Attrs, dy: &Shape, weights: &Shape) -> Result<(Geometry, Shape), String> {
    let inner = weights.per_sample().get(1).copied().ok_or("weights must have two or four axes")?;
    let groups = usize::try_from(attrs.int("groups", 1)).map_err(|_| "`groups` is at least 1")?;
    let channels = inner.checked_mul(groups).ok_or("too many channels")?;
    let [h, w] = extents(attrs, "input")?;
    let input = match dy.rank() {
        2 if [h, w] == [1, 1] => Shape::batched(&[channels]),
        2 => return Err("the `input` of a matrix is [1, 1]".to_owned()),
        _ => Shape::batched(&[channels, h, w]),
    };
    let geometry = Geometry::new(attrs, &input, weights)?;
    if geometry.output_shape() != *dy {
        return Err(format!("the gradient must have shape {}, has {dy}", geometry.output_shape()));
    }
    Ok((geometry, input))
}

/// The forward geometry of a weight gradient, from the shapes of the forward input and of dy; and the weights' shape.
pub fn weight_geometry(attrs: &Attrs, x: &Shape, dy: &Shape) -> Result<(Geometry, Shape), String> {
    let groups = usize::try_from(attrs.int("groups", 1)).ok().filter(|&g| g > 0).ok_or("`groups` is at least 1")?;
    let channels = |s: &Shape| s.image().map(|i| i.0).ok_or_else(|| format!("must be (N,C,H,W) or (N,C), is {s}"));
    let (inner, outputs) = (channels(x)? / groups, channels(dy)?);
    let [kh, kw] = extents(attrs, "kernel")?;
    let weights = match x.rank() {
        2 if [kh, kw] == [1, 1] => Shape::fixed(&[outputs, inner]),
        2 => return Err("the `kernel` of a matrix is [1, 1]".to_owned()),
        _ => Shape::fixed(&[outputs, inner, kh, kw]),
    };
    let geometry = Geometry::new(attrs, x, &weights)?;
    if geometry.output_shape() != *dy {
        return Err(format!("the gradient must have shape {}, has {dy}", geometry.output_shape()));
    }
    Ok((geometry, weights))
}

/// The output positions along one axis that read input position `i`: for each tap in order, `None` where the tap falls
/// between the strides, else the output position, which may lie outside.
fn taps(g: &Geometry, axis: usize, i: usize) -> Vec<Option<Option<usize>>> {
    let tap = |k: usize| {
        let padded = (i + g.pads[axis]) as i64 - (k * g.dilations[axis]) as i64;
        let (stride, extent) = (g.strides[axis] as i64, g.output[axis]);
        (padded % stride == 0).then(|| usize::try_from(padded / stride).ok().filter(|&o| padded >= 0 && o < extent))
    };
    (0..g.kernel[axis]).map(tap).collect()
}

/// Every input gradient: folds, in (co, ky, kx) order, what `step(acc, dy, w)` makes of each tap; `None` for a tap outside dy.
fn input_gradient<T: Copy, R: Copy>(
    g: &Geometry,
    batch: usize,
    dy: &[T],
    w: &[T],
    start: R,
    step: impl Fn(R, Option<T>, T) -> R,
) -> Vec<R> {
    let (inner, rows) = (g.channels / g.groups, g.outputs / g.groups);
    let (positions, window) = (g.output[0] * g.output[1], g.kernel[0] * g.kernel[1]);
    let axis = |a: usize| (0..g.input[a]).map(|i| taps(g, a, i)).collect::<Vec<_>>();
    let (vertical, horizontal) = (axis(0), axis(1));
    let mut out = Vec::with_capacity(batch * g.channels * g.input[0] * g.input[1]);
    for (n, c) in (0..batch).flat_map(|n| (0..g.channels).map(move |c| (n, c))) {
        for (v, h) in vertical.iter().flat_map(|v| horizontal.iter().map(move |h| (v, h))) {
            let mut acc = start;
            for o in c / inner * rows..(c / inner + 1) * rows {
                for (ky, oy) in v.iter().enumerate().filter_map(|(k, o)| Some((k, (*o)?))) {
                    for (kx, ox) in h.iter().enumerate().filter_map(|(k, o)| Some((k, (*o)?))) {
                        let at = oy.zip(ox).map(|(y, x)| (n * g.outputs + o) * positions + y * g.output[1] + x);
                        let weight = (o * inner + c % inner) * window + ky * g.kernel[1] + kx;
                        if let Some(&weight) = w.get(weight) {
                            acc = step(acc, at.and_then(|i| dy.get(i).copied()), weight);
                        }
                    }
                }
            }
            out.push(acc);
        }
    }
    out
}

/// Every weight gradient, samples ascending: `add(total, sample, dot(x, dy))` over the output positions in row-major
/// order; x holds `pad` at padding taps.
fn weight_gradient<T: Copy, S>(
    g: &Geometry,
    batch: usize,
    [x, dy]: [&[T]; 2],
    pad: T,
    dot: impl Fn(&[T], &[T]) -> S,
    add: impl Fn(f32, usize, S) -> f32,
) -> Vec<f32> {
    let (inner, rows, window) = (g.channels / g.groups, g.outputs / g.groups, g.kernel[0] * g.kernel[1]);
    let (area, positions) = (g.input[0] * g.input[1], g.output[0] * g.output[1]);
    let mut out = vec![0f32; g.outputs * inner * window];
    let mut column = Vec::with_capacity(positions);
    for (n, c) in (0..batch).flat_map(|n| (0..g.channels).map(move |c| (n, c))) {
        for k in 0..window {
            let at = |axis: usize, o: usize, k: usize| {
                (o * g.strides[axis] + k * g.dilations[axis]).checked_sub(g.pads[axis]).filter(|&i| i < g.input[axis])
            };
            column.clear();
            for (oy, ox) in (0..g.output[0]).flat_map(|y| (0..g.output[1]).map(move |x| (y, x))) {
                let i = at(0, oy, k / g.kernel[1]).zip(at(1, ox, k % g.kernel[1]));
                let i = i.and_then(|(y, px)| x.get((n * g.channels + c) * area + y * g.input[1] + px));
                column.push(i.copied().unwrap_or(pad));
            }
            for o in c / inner * rows..(c / inner + 1) * rows {
                let row = (n * g.outputs + o) * positions;
                let slot = out.get_mut((o * inner + c % inner) * window + k);
                if let (Some(slot), Some(row)) = (slot, dy.get(row..row + positions)) {
                    *slot = add(*slot, n, dot(&column, row));
                }
            }
        }
    }
    out
}

fn shape(e: &Eval<'_>, i: usize) -> Result<Shape, String> {
    Ok(e.types.get(i).ok_or("an input is missing")?.shape.clone())
}

/// Input gradient of codes.
pub static INT_CONV_INPUT_GRAD: OpDef = OpDef {
    name: "int_conv_input_grad",
    doc: "The input gradient of int_conv, exact: the sum of gradient level · weight level over the valid taps. An \
          accumulator of the input's shape; its scale is the product of both, readers decode it with the factors of gradients \
          (m a sample) and weights (E). Inputs gradient codes (N,O,OH,OW) or (N,O), weight codes; attributes of the \
          convolution, and `input`.",
    inputs: (2, 2),
    attrs: INPUT_ATTRS,
    elementwise: false,
    infer: |attrs, types| {
        let ((g, dy), (w, weights)) = (codes(types, 0)?, codes(types, 1)?);
        let (geometry, input) = input_geometry(attrs, &dy, &weights)?;
        let terms = geometry.outputs / geometry.groups * geometry.kernel[0] * geometry.kernel[1];
        let (lo, hi) = acc_bounds(&g, &w, terms)?;
        let scale = product(&g, &w)?;
        Ok(vec![ValueType { elem: Elem::Acc(AccType { lo, hi, scale: [scale].into() }), ..ValueType::f32(input) }])
    },
    eval: |e| {
        let ((g, dy), (w, weights)) = (codes(e.types, 0)?, codes(e.types, 1)?);
        let (geometry, _) = input_geometry(e.attrs, &dy, &weights)?;
        let (dy, w) = (levels(&g, e.i32(0)?), levels(&w, e.i32(1)?));
        let tap = |acc: i64, dy: Option<i32>, w: i32| dy.map_or(acc, |dy| acc + i64::from(dy) * i64::from(w));
        e.accumulators(input_gradient(&geometry, e.batch, &dy, &w, 0, tap))
    },
};

fn levels(c: &CodeType, codes: &[i32]) -> Vec<i32> {
    codes.iter().map(|&u| c.level(u.into()) as i32).collect()
}

/// The exact product of two scales, one each.
fn product(a: &CodeType, b: &CodeType) -> Result<Scale, String> {
    match (&*a.scale, &*b.scale) {
        ([a], [b]) => a.times(*b).ok_or_else(|| "the scale's product needs over 96 bits".to_owned()),
        _ => Err("codes of a gradient product have one scale".to_owned()),
    }
}

/// Weight gradient of codes.
pub static INT_CONV_WEIGHT_GRAD: OpDef = OpDef {
    name: "int_conv_weight_grad",
    doc: "The weight gradient of int_conv, f32 in the weights' shape (O,C/groups,KH,KW), or (O,C) of matrices: samples \
          ascending, acc = mul_add(c_i, f32(S_i), acc) from +0 in the numeric profile; S_i is the sample's exact sum of \
          activation level · gradient level over output positions, c_i = f32((f64(m_i)·num)/den) with num/den the exact \
          product of both scales. Inputs activation codes, gradient codes, m [N]; attributes of the convolution, and `kernel`.",
    inputs: (3, 3),
    attrs: KERNEL_ATTRS,
    elementwise: false,
    infer: |attrs, types| {
        let ((a, x), (g, dy)) = (codes(types, 0)?, codes(types, 1)?);
        if f32_input(types, 2)?.shape != Shape::batched(&[]) {
            return Err("the maxima must have shape [N]".to_owned());
        }
        let (geometry, weights) = weight_geometry(attrs, &x, &dy)?;
        acc_bounds(&a, &g, geometry.output[0] * geometry.output[1])?;
        product(&a, &g)?;
        Ok(vec![ValueType::f32(weights)])
    },
    eval: |e| {
        let ((a, x), (g, dy)) = (codes(e.types, 0)?, codes(e.types, 1)?);
        let (geometry, _) = weight_geometry(e.attrs, &x, &dy)?;
        let (num, den) = product(&a, &g)?.parts();
        let factors: Vec<f32> = e.f32(2)?.iter().map(|&m| ((f64::from(m) * num) / den) as f32).collect();
        let (x, dy) = (levels(&a, e.i32(0)?), levels(&g, e.i32(1)?));
        let dot = |x: &[i32], dy: &[i32]| x.iter().zip(dy).map(|(&a, &b)| i64::from(a) * i64::from(b)).sum::<i64>();
        let add = |acc, n: usize, sum: i64| e.mul_add(factors.get(n).copied().unwrap_or(0.0), sum as f32, acc);
        e.floats(weight_gradient(&geometry, e.batch, [&x, &dy], 0, dot, add))
    },
};

/// Input gradient of floats.
pub static CONV_INPUT_GRAD: OpDef = OpDef {
    name: "conv_input_grad",
    doc: "The input gradient of conv or matmul: one mul_add chain from +0 in (co, ky, kx) order, in the numeric profile. A tap \
          between the strides is no part of it, a tap outside dy multiplies +0. Inputs dy, weights; attributes of the \
          convolution, and `input`.",
    inputs: (2, 2),
    attrs: INPUT_ATTRS,
    elementwise: false,
    infer: |attrs, types| {
        let (dy, w) = (f32_input(types, 0)?, f32_input(types, 1)?);
        Ok(vec![ValueType::f32(input_geometry(attrs, &dy.shape, &w.shape)?.1)])
    },
    eval: |e| {
        let (geometry, _) = input_geometry(e.attrs, &shape(e, 0)?, &shape(e, 1)?)?;
        let tap = |acc: f32, dy: Option<f32>, w: f32| e.mul_add(dy.unwrap_or(0.0), w, acc);
        e.floats(input_gradient(&geometry, e.batch, e.f32(0)?, e.f32(1)?, 0.0, tap))
    },
};

/// Weight gradient of floats.
pub static CONV_WEIGHT_GRAD: OpDef = OpDef {
    name: "conv_weight_grad",
    doc: "The weight gradient of conv or matmul in the weights' shape: per sample one mul_add chain from +0 over the output \
          positions in row-major order (padding taps read +0), in the numeric profile; then samples ascending, total = total \
          + S_i from +0. Inputs x, dy; attributes of the convolution, and `kernel`.",
    inputs: (2, 2),
    attrs: KERNEL_ATTRS,
    elementwise: false,
    infer: |attrs, types| {
        let (x, dy) = (f32_input(types, 0)?, f32_input(types, 1)?);
        Ok(vec![ValueType::f32(weight_geometry(attrs, &x.shape, &dy.shape)?.1)])
    },
    eval: |e| {
        let (geometry, _) = weight_geometry(e.attrs, &shape(e, 0)?, &shape(e, 1)?)?;
        let dot = |x: &[f32], dy: &[f32]| x.iter().zip(dy).fold(0.0, |acc, (&a, &b)| e.mul_add(a, b, acc));
        let add = |total, _, sum: f32| total + sum;
        e.floats(weight_gradient(&geometry, e.batch, [e.f32(0)?, e.f32(1)?], 0.0, dot, add))
    },
};

/// The kernel or input attribute of a shape: its last two extents, [1, 1] of a matrix.
pub fn image_extents(shape: &Shape) -> Vec<i64> {
    match *shape.0 {
        [_, _, Dim::Fixed(h), Dim::Fixed(w)] => vec![h as i64, w as i64],
        _ => vec![1, 1],
    }
}
