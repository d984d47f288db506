//! Sums over a channel of the whole batch, and the batch statistics that they give.

use super::super::integer::{factor_scales, pick};
use super::super::reduce::lane_tree;
use super::super::{Eval, OpDef, f32_input};
use super::{AREA, map_extents};
use crate::graph::attrs::Attrs;
use crate::graph::types::{Elem, Shape, ValueType};
use dorefa_runtime::tensor::Tensor;

fn channels(types: &[&ValueType], i: usize) -> Result<Vec<ValueType>, String> {
    let (c, _) = map_extents(&f32_input(types, i)?.shape)?;
    Ok(vec![ValueType::f32(Shape::fixed(&[c]))])
}

/// Sum over each channel: `lane(i, lane)` adds element `i` to a lane. Per sample 4 lanes by position mod 4 and the tree
/// (l0 + l2) + (l1 + l3); samples ascending from +0.
fn channel_sums(e: &Eval<'_>, lane: impl Fn(usize, f32) -> f32) -> Result<Vec<f32>, String> {
    let (c, area) = map_extents(&e.types.first().ok_or("input 0 is missing")?.shape)?;
    let mut sums = vec![0f32; c];
    for n in 0..e.batch {
        for (k, sum) in sums.iter_mut().enumerate() {
            let first = (n * c + k) * area;
            let mut lanes = [0f32; 4];
            for p in 0..area {
                lanes[p % 4] = lane(first + p, lanes[p % 4]);
            }
            *sum += lane_tree(lanes);
        }
    }
    Ok(sums)
}

/// Σ x
pub static CHANNEL_SUM: OpDef = OpDef {
    name: "channel_sum",
    doc: "[C]: the sum over samples and positions. Per sample 4 lanes (position y·W+x mod 4), then (l0+l2)+(l1+l3); samples \
          ascending from +0. Input x (N,C,H,W) or (N,C).",
    inputs: (1, 1),
    attrs: &[],
    elementwise: false,
    infer: |_, types| channels(types, 0),
    eval: |e| {
        let x = e.f32(0)?;
        e.floats(channel_sums(e, |i, lane| lane + x.get(i).copied().unwrap_or(0.0))?)
    },
};

/// Σ a·b
pub static CHANNEL_DOT: OpDef = OpDef {
    name: "channel_dot",
    doc: "[C]: the sum of a·b over samples and positions as channel_sum, a lane adding by mul_add(a, b, lane) in the \
          numeric profile. Inputs a, b of one shape.",
    inputs: (2, 2),
    attrs: &[],
    elementwise: false,
    infer: |_, types| {
        if f32_input(types, 0)?.shape != f32_input(types, 1)?.shape {
            return Err("both inputs must have one shape".to_owned());
        }
        channels(types, 0)
    },
    eval: |e| {
        let at = |v: &[f32], i: usize| v.get(i).copied().unwrap_or(0.0);
        let (a, b) = (e.f32(0)?, e.f32(1)?);
        e.floats(channel_sums(e, |i, lane| e.mul_add(at(a, i), at(b, i), lane))?)
    },
};

/// Inputs x, [mean,] factors: the channels of x, factors only for accumulators and `[1]`.
fn statistic_type(types: &[&ValueType], factors: usize) -> Result<Vec<ValueType>, String> {
    let x = types.first().ok_or("input 0 is missing")?;
    let (c, _) = map_extents(&x.shape)?;
    match &x.elem {
        Elem::Acc(_) => {}
        Elem::F32 if types.len() == factors => {}
        _ => return Err(format!("reads f32 without factors, or accumulators, not {x}")),
    }
    for i in factors..types.len() {
        if f32_input(types, i)?.shape != Shape::fixed(&[1]) {
            return Err(format!("factor {i} must have shape [1]"));
        }
    }
    Ok(vec![ValueType::f32(Shape::fixed(&[c]))])
}

/// Exact Σ A and Σ A² of each channel.
fn exact_sums(e: &Eval<'_>) -> Result<Vec<(i128, i128)>, String> {
    let (c, area) = map_extents(&e.types.first().ok_or("input 0 is missing")?.shape)?;
    let mut sums = vec![(0i128, 0i128); c];
    for (row, values) in e.i64(0)?.chunks(area.max(1)).enumerate() {
        if let Some(s) = sums.get_mut(row % c.max(1)) {
            values.iter().for_each(|&v| *s = (s.0 + i128::from(v), s.1 + i128::from(v) * i128::from(v)));
        }
    }
    Ok(sums)
}

/// N·H·W
fn elements(e: &Eval<'_>) -> Result<usize, String> {
    Ok(e.batch * map_extents(&e.types.first().ok_or("input 0 is missing")?.shape)?.1)
}

/// Mean of each channel.
pub static BATCH_MEAN: OpDef = OpDef {
    name: "batch_mean",
    doc: "[C]: the mean over samples and positions, M = N·H·W. Accumulators: f32((f64(Σ A)/M)·S), the sum exact, S the \
          scale of decode with the factors (each [1]); f32: channel_sum / f32(M). Inputs x, up to two factors.",
    inputs: (1, 3),
    attrs: &[],
    elementwise: false,
    infer: |_, types| statistic_type(types, 1),
    eval: |e| {
        let m = elements(e)?;
        if e.types.first().is_some_and(|t| t.elem == Elem::F32) {
            let x = e.f32(0)?;
            let sums = channel_sums(e, |i, lane| lane + x.get(i).copied().unwrap_or(0.0))?;
            return e.floats(sums.iter().map(|s| s / m as f32).collect());
        }
        let scales = factor_scales(e, 1)?;
        let mean = |(c, s): (usize, &(i128, i128))| ((s.0 as f64 / m as f64) * pick(&scales, c)) as f32;
        e.floats(exact_sums(e)?.iter().enumerate().map(mean).collect())
    },
};

/// Variance of each channel.
pub static BATCH_VARIANCE: OpDef = OpDef {
    name: "batch_variance",
    doc: "[C]: the biased variance over samples and positions, M = N·H·W. Accumulators: q = f64(Σ A²)/M − (f64(Σ A)/M)², \
          f32((max(q, 0)·S)·S), the sums exact, S the scale of decode with the factors (each [1]); f32: d = x − mean, \
          channel_dot(d, d) / f32(M). Inputs x, mean [C], up to two factors.",
    inputs: (2, 4),
    attrs: &[],
    elementwise: false,
    infer: |_, types| {
        let out = statistic_type(types, 2)?;
        if out.first().map(|t| &t.shape) != Some(&f32_input(types, 1)?.shape) {
            return Err("the mean must have one element a channel".to_owned());
        }
        Ok(out)
    },
    eval: |e| {
        let m = elements(e)?;
        if e.types.first().is_some_and(|t| t.elem == Elem::F32) {
            return float_variance(e, m);
        }
        let scales = factor_scales(e, 2)?;
        let variance = |(c, s): (usize, &(i128, i128))| {
            let (mean, scale) = (s.0 as f64 / m as f64, pick(&scales, c));
            let q = s.1 as f64 / m as f64 - mean * mean;
            ((if q > 0.0 { q } else { 0.0 }) * scale * scale) as f32
        };
        e.floats(exact_sums(e)?.iter().enumerate().map(variance).collect())
    },
};

fn float_variance(e: &Eval<'_>, m: usize) -> Result<Tensor, String> {
    let (x, mean) = (e.f32(0)?, super::reader(e, 1)?);
    let sums = channel_sums(e, |i, lane| {
        let d = x.get(i).copied().unwrap_or(0.0) - mean.at(i);
        e.mul_add(d, d, lane)
    })?;
    e.floats(sums.iter().map(|s| s / m as f32).collect())
}

fn fixed(attrs: &Attrs, types: &[&ValueType]) -> Result<Vec<ValueType>, String> {
    let v = f32_input(types, 0)?;
    if attrs.int("area", 0) < 1 {
        return Err("`area` is at least 1".to_owned());
    }
    if v.shape.has_batch() { Err(format!("reads no batch, is {v}")) } else { Ok(vec![ValueType::f32(v.shape.clone())]) }
}

/// v / M
pub static PER_ELEMENT: OpDef = OpDef {
    name: "per_element",
    doc: "v / f32(N·area): the mean that belongs to a sum over the batch. Input v without a batch.",
    inputs: (1, 1),
    attrs: &[AREA],
    elementwise: true,
    infer: fixed,
    eval: |e| {
        let m = e.batch * e.attrs.int("area", 1) as usize;
        e.floats(e.f32(0)?.iter().map(|v| v / m as f32).collect())
    },
};

/// var·M/(M − 1)
pub static UNBIASED: OpDef = OpDef {
    name: "unbiased",
    doc: "var·f32(M/(M − 1)), M = N·area in f64: the unbiased variance from the biased one; M = 1 gives var. Input var \
          without a batch.",
    inputs: (1, 1),
    attrs: &[AREA],
    elementwise: true,
    infer: fixed,
    eval: |e| {
        let m = (e.batch * e.attrs.int("area", 1) as usize) as f64;
        let factor = if m == 1.0 { 1.0 } else { (m / (m - 1.0)) as f32 };
        e.floats(e.f32(0)?.iter().map(|v| v * factor).collect())
    },
};
