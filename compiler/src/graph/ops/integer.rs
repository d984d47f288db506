//! Integer operators: what `lift` and the passes after it make of quantisers and convolutions.
//!
//! All are exact. Accumulators are i64 here; a kernel takes the narrowest type that the proved range allows.

use super::pool::Window;
use super::{Eval, OpDef};
use crate::graph::attrs::{Attr, AttrDef, Attrs, Kind};
use crate::graph::scale::Scale;
use crate::graph::types::{AccType, CodeType, Elem, Scales, Shape, ValueType};
use dorefa_runtime::tensor::{Data, Tensor};

pub(super) fn codes(types: &[&ValueType], i: usize) -> Result<(CodeType, Shape), String> {
    let ty = types.get(i).ok_or_else(|| format!("input {i} is missing"))?;
    let c = ty.codes().ok_or_else(|| format!("input {i} must be codes, is {ty}"))?;
    Ok((check_levels(c.clone())?, ty.shape.clone()))
}

/// Kernels and interpreter hold levels in 32 bits.
fn check_levels(c: CodeType) -> Result<CodeType, String> {
    let (lo, hi) = c.levels();
    if lo >= i32::MIN.into() && hi <= i32::MAX.into() { Ok(c) } else { Err("levels need more than 32 bits".to_owned()) }
}

pub(super) fn code_type(attrs: &Attrs) -> Result<CodeType, String> {
    let top = u32::try_from(attrs.int("top", 0)).ok().filter(|t| (1..=65535).contains(t)).ok_or("top is 1 … 65535")?;
    let step =
        i32::try_from(attrs.int("step", 1)).ok().filter(|s| (1..=1 << 16).contains(s)).ok_or("step is 1 … 65536")?;
    let offset =
        i32::try_from(attrs.int("offset", 0)).ok().filter(|o| o.abs() <= 1 << 24).ok_or("offset is too large")?;
    let scale: Scales = attrs.scales("scale").into();
    if scale.is_empty() {
        return Err("scale is empty".to_owned());
    }
    check_levels(CodeType { top, step, offset, scale })
}

/// The attributes that [`code_type`] reads.
pub fn code_attrs(c: &CodeType) -> Attrs {
    Attrs::new()
        .with("top", Attr::Int(c.top.into()))
        .with("step", Attr::Int(c.step.into()))
        .with("offset", Attr::Int(c.offset.into()))
        .with("scale", Attr::Scales(c.scale.to_vec()))
}

pub(super) const CODE_ATTRS: &[AttrDef] = &[
    AttrDef { name: "top", kind: Kind::Int, required: true, doc: "greatest code" },
    AttrDef { name: "step", kind: Kind::Int, required: false, doc: "distance of neighbouring levels, default 1" },
    AttrDef { name: "offset", kind: Kind::Int, required: false, doc: "level of code 0, default 0" },
    AttrDef { name: "scale", kind: Kind::Scales, required: true, doc: "value of level 1, one or one a channel" },
];

/// f32 levels to codes.
pub static ENCODE: OpDef = OpDef {
    name: "encode",
    doc: "Levels as floats to codes: u = (level − offset) / step, saturated to 0 … top; NaN gives 0. `scale` only \
          says what a level is worth; the input is the level itself, as the file's own rounding left it.",
    inputs: (1, 1),
    attrs: CODE_ATTRS,
    elementwise: true,
    infer: |attrs, types| {
        let x = super::f32_input(types, 0)?;
        Ok(vec![x.with_elem(Elem::Codes(code_type(attrs)?))])
    },
    eval: |e| {
        let c = code_type(e.attrs)?;
        let data = e.f32(0)?.iter().map(|&v| encode(&c, v)).collect();
        Tensor::new(e.shape(), Data::I32(data)).map_err(|e| e.to_string())
    },
};

/// The code of a float level; see [`ENCODE`].
pub fn encode(c: &CodeType, level: f32) -> i32 {
    // Both subtractions and the division are exact for integer levels below 2²⁴.
    let u = (level - c.offset as f32) / c.step as f32;
    (u as i32).clamp(0, c.top as i32)
}

/// Codes or accumulators to floats.
pub static DECODE: OpDef = OpDef {
    name: "decode",
    doc: "The value of codes or accumulators: f32(f64(level)·S). S is the exact scale rounded once to f64; with factors f1, \
          f2, each [1] or [N] f32, which are known only at run time, S = ((f64(f1)·f64(f2))·num)/den with num/den the exact \
          scale, each rounded to f64.",
    inputs: (1, 3),
    attrs: &[],
    elementwise: true,
    infer: |_, types| {
        let x = types.first().ok_or("input 0 is missing")?;
        x.codes().cloned().map(check_levels).transpose()?;
        if x.elem == Elem::F32 {
            return Err("decodes codes or accumulators, not f32".to_owned());
        }
        for i in 1..types.len() {
            let shape = &super::f32_input(types, i)?.shape;
            if *shape != Shape::fixed(&[1]) && !(*shape == Shape::batched(&[]) && x.shape.has_batch()) {
                return Err(format!("factor {i} must have shape [1] or [N], has {shape}"));
            }
        }
        Ok(vec![x.with_elem(Elem::F32)])
    },
    eval: |e| {
        let ty = e.types.first().ok_or("input 0 is missing")?;
        let channel = channel_of(&e.shape(), if ty.shape.has_batch() { 1 } else { 0 });
        let levels: Vec<i64> = match &ty.elem {
            Elem::Codes(c) => e.i32(0)?.iter().map(|&u| c.level(u.into())).collect(),
            Elem::Acc(_) => e.i64(0)?.to_vec(),
            Elem::F32 => return Err("decodes codes or accumulators, not f32".to_owned()),
        };
        let scales = scales(ty)?;
        if e.inputs.len() == 1 {
            let scales: Vec<f64> = scales.iter().map(|s| s.to_f64()).collect();
            return e.floats(levels.iter().enumerate().map(|(i, &l)| decode(l, pick(&scales, channel(i)))).collect());
        }
        let parts: Vec<_> = scales.iter().map(|s| s.parts()).collect();
        let factor = factor(e, 1)?;
        let scale = |i: usize| scaled(factor(i), pick(&parts, channel(i)));
        e.floats(levels.iter().enumerate().map(|(i, &l)| decode(l, scale(i))).collect())
    },
};

/// The scales of codes or accumulators.
fn scales(ty: &ValueType) -> Result<Scales, String> {
    match &ty.elem {
        Elem::Codes(c) => Ok(c.scale.clone()),
        Elem::Acc(a) => Ok(a.scale.clone()),
        Elem::F32 => Err("codes or accumulators are read, not f32".to_owned()),
    }
}

/// The product of the factors from input `first` on, at each element of input 0; 1 where there are none.
fn factor<'a>(e: &Eval<'a>, first: usize) -> Result<impl Fn(usize) -> f64 + use<'a>, String> {
    let readers = (first..e.inputs.len()).map(|i| super::train::reader(e, i)).collect::<Result<Vec<_>, _>>()?;
    // The product of two f32 is exact in f64.
    Ok(move |i| readers.iter().map(|r| f64::from(r.at(i))).product())
}

fn scaled(factor: f64, (num, den): (f64, f64)) -> f64 {
    (factor * num) / den
}

/// The scales of input 0 as decode takes them, with factors of shape `[1]` from input `first` on.
pub(super) fn factor_scales(e: &Eval<'_>, first: usize) -> Result<Vec<f64>, String> {
    let scales = scales(e.types.first().ok_or("input 0 is missing")?)?;
    if e.inputs.len() == first {
        return Ok(scales.iter().map(|s| s.to_f64()).collect());
    }
    let factor = factor(e, first)?(0);
    Ok(scales.iter().map(|s| scaled(factor, s.parts())).collect())
}

/// The value of a level.
pub fn decode(level: i64, scale: f64) -> f32 {
    (level as f64 * scale) as f32
}

pub(super) fn pick<T: Copy + Default>(list: &[T], channel: usize) -> T {
    if list.len() == 1 { list.first() } else { list.get(channel) }.copied().unwrap_or_default()
}

/// Maps a flat index to the index along `axis`.
pub(super) fn channel_of(shape: &[usize], axis: usize) -> impl Fn(usize) -> usize + use<> {
    let inner: usize = shape.iter().skip(axis + 1).product::<usize>().max(1);
    let extent = shape.get(axis).copied().unwrap_or(1).max(1);
    move |i| i / inner % extent
}

/// Least and greatest sum of `terms` products of levels, some of which may be absent.
pub(super) fn acc_bounds(a: &CodeType, b: &CodeType, terms: usize) -> Result<(i64, i64), String> {
    let ((al, ah), (bl, bh)) = (a.levels(), b.levels());
    let products = [al * bl, al * bh, ah * bl, ah * bh, 0];
    let terms = i64::try_from(terms).unwrap_or(i64::MAX);
    let bound = |v: Option<&i64>| v.and_then(|v| v.checked_mul(terms)).ok_or("the accumulator does not fit 64 bits");
    Ok((bound(products.iter().min())?, bound(products.iter().max())?))
}

/// Exact convolution of codes.
pub static INT_CONV: OpDef = OpDef {
    name: "int_conv",
    doc: "Convolution of activation levels (N,C,H,W or N,C) and weight levels (O,C/groups,KH,KW), exact. A padding tap \
          holds level 0. Output (N,O,OH,OW); its scale is the product of both.",
    inputs: (2, 2),
    attrs: super::conv::ATTRS,
    elementwise: false,
    infer: |attrs, types| {
        let ((a, shape), (w, wshape)) = (codes(types, 0)?, codes(types, 1)?);
        let geometry = super::conv::Geometry::new(attrs, &shape, &wshape)?;
        let (lo, hi) = acc_bounds(&a, &w, geometry.taps())?;
        let [sa] = *a.scale else {
            return Err("activations have a scale a channel".to_owned());
        };
        let scale = w
            .scale
            .iter()
            .map(|s| s.times(sa))
            .collect::<Option<Vec<Scale>>>()
            .ok_or("the scale's product needs over 96 bits")?;
        Ok(vec![ValueType {
            elem: Elem::Acc(AccType { lo, hi, scale: scale.into() }),
            ..ValueType::f32(geometry.output_shape())
        }])
    },
    eval: int_conv,
};

fn int_conv(e: &Eval<'_>) -> Result<Tensor, String> {
    let (a, ashape) = codes(e.types, 0)?;
    let (w, wshape) = codes(e.types, 1)?;
    let geometry = super::conv::Geometry::new(e.attrs, &ashape, &wshape)?;
    let x: Vec<i32> = e.i32(0)?.iter().map(|&u| a.level(u.into()) as i32).collect();
    let k: Vec<i32> = e.i32(1)?.iter().map(|&u| w.level(u.into()) as i32).collect();
    let narrow = matches!(&e.output.elem, Elem::Acc(t) if t.fits_i32());
    let out = geometry.convolve(e.batch, &x, &k, 0, |_, x, w| {
        if narrow {
            // Every partial sum lies in the proved range, so 32 bits hold it.
            i64::from(x.iter().zip(w).map(|(&a, &b)| a.wrapping_mul(b)).fold(0i32, i32::wrapping_add))
        } else {
            x.iter().zip(w).map(|(&a, &b)| i64::from(a) * i64::from(b)).sum()
        }
    });
    Tensor::new(e.shape(), Data::I64(out)).map_err(|e| e.to_string())
}

/// Accumulators to codes by thresholds.
pub static THRESHOLD: OpDef = OpDef {
    name: "threshold",
    doc: "Accumulators (N,O,…) to codes by integer thresholds T of shape (O, top+1): u = count of t in T[o][0..top] with \
          acc ≥ t on a rising channel (T[o][top] = 1), with −acc ≥ t on a falling one (−1). A constant channel has \
          thresholds beyond the reachable range. Made by evaluation of the float chain it stands for.",
    inputs: (2, 2),
    attrs: CODE_ATTRS,
    elementwise: true,
    infer: |attrs, types| {
        let c = code_type(attrs)?;
        let x = types.first().ok_or("input 0 is missing")?;
        x.acc().ok_or("thresholds read an accumulator")?;
        let channels = x.shape.image().ok_or("thresholds read an image or a matrix")?.0;
        let t = types.get(1).ok_or("input 1 is missing")?;
        if t.shape != Shape::fixed(&[channels, c.top as usize + 1]) {
            return Err(format!("thresholds must have shape [{channels}, {}], have {}", c.top + 1, t.shape));
        }
        Ok(vec![x.with_elem(Elem::Codes(c))])
    },
    eval: |e| {
        let top = code_type(e.attrs)?.top as usize;
        let (acc, t) = (e.i64(0)?, e.i64(1)?);
        let channel = channel_of(&e.shape(), 1);
        let code = |(i, &a): (usize, &i64)| {
            let row = t.get(channel(i) * (top + 1)..).and_then(|r| r.get(..=top)).unwrap_or(&[]);
            let (direction, row) = row.split_last().unwrap_or((&1, &[]));
            row.iter().filter(|&&t| a * direction >= t).count() as i32
        };
        Tensor::new(e.shape(), Data::I32(acc.iter().enumerate().map(code).collect())).map_err(|e| e.to_string())
    },
};

/// Max or min pool of codes.
pub static CODE_POOL: OpDef = OpDef {
    name: "code_pool",
    doc: "Max pool of codes, or min pool on the channels where `minimum` (O, 0 or 1; all 0 where absent) says so: a max \
          pool moved across a falling chain. Padding never wins.",
    inputs: (1, 2),
    attrs: super::pool::ATTRS,
    elementwise: false,
    infer: |attrs, types| {
        let (c, shape) = codes(types, 0)?;
        let out = Window::new(attrs, &shape)?.output_shape();
        Ok(vec![ValueType { elem: Elem::Codes(c), ..ValueType::f32(out) }])
    },
    eval: |e| {
        let (_, shape) = codes(e.types, 0)?;
        let window = Window::new(e.attrs, &shape)?;
        let x = e.i32(0)?;
        let minimum = if e.inputs.len() > 1 { e.i64(1)?.to_vec() } else { vec![0] };
        let mut out = Vec::new();
        window.for_each_output(e.batch, |channel, taps| {
            let codes = taps.iter().filter_map(|&i| x.get(i).copied());
            let best = if pick(&minimum, channel) != 0 { codes.min() } else { codes.max() };
            out.push(best.unwrap_or(0));
        });
        Tensor::new(e.shape(), Data::I32(out)).map_err(|e| e.to_string())
    },
};

/// Sum pool of codes.
pub static SUM_POOL: OpDef = OpDef {
    name: "sum_pool",
    doc: "Sum of the levels under a window, exact; a padding tap holds level 0. What `lift` makes of an average pool of \
          codes, whose division by the number of taps stays a float step.",
    inputs: (1, 1),
    attrs: super::pool::ATTRS,
    elementwise: false,
    infer: |attrs, types| {
        let (c, shape) = codes(types, 0)?;
        let window = Window::new(attrs, &shape)?;
        let taps = i64::try_from(window.kernel[0].saturating_mul(window.kernel[1])).unwrap_or(i64::MAX);
        let (lo, hi) = c.levels();
        let bound = |level: i64| level.checked_mul(taps).ok_or("the sum does not fit 64 bits");
        let acc = AccType { lo: bound(lo.min(0))?, hi: bound(hi.max(0))?, scale: c.scale.clone() };
        Ok(vec![ValueType { elem: Elem::Acc(acc), ..ValueType::f32(window.output_shape()) }])
    },
    eval: |e| {
        let (c, shape) = codes(e.types, 0)?;
        let window = Window::new(e.attrs, &shape)?;
        let (x, mut out) = (e.i32(0)?, Vec::new());
        window.for_each_output(e.batch, |_, taps| {
            out.push(taps.iter().filter_map(|&i| x.get(i)).map(|&u| c.level(u.into())).sum());
        });
        Tensor::new(e.shape(), Data::I64(out)).map_err(|e| e.to_string())
    },
};

/// One more channel of the greatest code.
pub static APPEND_TOP: OpDef = OpDef {
    name: "append_top",
    doc: "Codes (N,C,H,W) with one more channel, the last, that holds the greatest code everywhere: through it a convolution \
          adds a constant for each valid tap, and none for padding.",
    inputs: (1, 1),
    attrs: &[],
    elementwise: false,
    infer: |_, types| {
        let (c, shape) = codes(types, 0)?;
        let (4, Some((channels, h, w))) = (shape.rank(), shape.image()) else {
            return Err(format!("takes images (N,C,H,W), has {shape}"));
        };
        Ok(vec![ValueType { elem: Elem::Codes(c), ..ValueType::f32(Shape::batched(&[channels + 1, h, w])) }])
    },
    eval: |e| {
        let (c, shape) = codes(e.types, 0)?;
        let sample = shape.sample_len().unwrap_or(0).max(1);
        let area = shape.image().map_or(1, |(_, h, w)| h * w);
        let samples = e.i32(0)?.chunks(sample);
        let out = samples.flat_map(|s| s.iter().copied().chain(std::iter::repeat_n(c.top as i32, area)));
        Tensor::new(e.shape(), Data::I32(out.collect())).map_err(|e| e.to_string())
    },
};

/// A value for each code.
pub static LOOKUP: OpDef = OpDef {
    name: "lookup",
    doc: "Codes u and a table (C, top+1) or (1, top+1) of f32: y = table[c][u], c the place along axis 1. What a pixel is \
          worth where no exact scale says it.",
    inputs: (2, 2),
    attrs: &[],
    elementwise: true,
    infer: |_, types| {
        let (c, shape) = codes(types, 0)?;
        let table = super::f32_input(types, 1)?.shape.clone();
        let channels = if shape.has_batch() { shape.per_sample().first().copied().unwrap_or(1) } else { 1 };
        let width = c.top as usize + 1;
        if table != Shape::fixed(&[channels, width]) && table != Shape::fixed(&[1, width]) {
            return Err(format!("the table must be ({channels} or 1, {width}), is {table}"));
        }
        Ok(vec![ValueType::f32(shape)])
    },
    eval: |e| {
        let width = codes(e.types, 0)?.0.top as usize + 1;
        let (u, table) = (e.i32(0)?, e.f32(1)?);
        let (channel, single) = (channel_of(&e.shape(), 1), table.len() == width);
        let row = |i: usize| if single { 0 } else { channel(i) * width };
        let out = u.iter().enumerate().map(|(i, &u)| table.get(row(i) + u as usize).copied().unwrap_or(0.0));
        e.floats(out.collect())
    },
};
