//! DoReFa's gradient quantiser (paper §2.5): the maximum of each sample, then codes with noise.

use super::super::unary::clip;
use super::super::{OpDef, f32_input, steps};
use super::Spread::Sample;
use super::activation::{BITS, code_type};
use super::{PLACE, operand, reader};
use crate::graph::noise;
use crate::graph::types::{Elem, Shape, ValueType};

/// Maxima below this count as zero: n/(2m) would overflow.
pub const LEAST_MAXIMUM: f32 = f32::from_bits((127 - 100) << 23);

/// max |x| of each sample.
pub static SAMPLE_MAX_ABS: OpDef = OpDef {
    name: "sample_max_abs",
    doc: "[N]: the greatest |x| of each sample, NaN never greater; 0 where it is below 2⁻¹⁰⁰. Input x, batched.",
    inputs: (1, 1),
    attrs: &[],
    elementwise: false,
    infer: |_, types| {
        let x = f32_input(types, 0)?;
        if x.shape.has_batch() { Ok(vec![ValueType::f32(Shape::batched(&[]))]) } else { Err("reads a batch".into()) }
    },
    eval: |e| {
        let x = e.f32(0)?;
        let maxima = x.chunks((x.len() / e.batch.max(1)).max(1)).map(|sample| {
            let m = sample.iter().fold(0f32, |m, v| if v.abs() > m { v.abs() } else { m });
            if m < LEAST_MAXIMUM { 0.0 } else { m }
        });
        e.floats(maxima.collect())
    },
};

/// Gradients to codes.
pub static ENCODE_GRADIENT: OpDef = OpDef {
    name: "encode_gradient",
    doc: "Gradient codes: r = m = 0 ? 0 : n/(2·m), u = clip(round(((dy·r) + n/2) + ν), 0, n), every f32 step rounded; \
          ν by `graph::noise` from the step's seed, `place`, the sample and the element's index in C,H,W order. Top n, step \
          2, offset −n, scale 1/n; the value is m·(2u − n)/n, so that readers decode with the factor m. Inputs dy, m [N].",
    inputs: (2, 2),
    attrs: &[BITS, PLACE],
    elementwise: true,
    infer: |attrs, types| {
        let dy = f32_input(types, 0)?;
        operand(types, 1, &[Sample])?;
        if attrs.int("place", -1) < 0 {
            return Err("`place` is at least 0".to_owned());
        }
        Ok(vec![dy.with_elem(Elem::Codes(code_type(attrs.int("bits", 0), true)?))])
    },
    eval: |e| {
        let (n, place) = (steps(e.attrs.int("bits", 0)), e.attrs.int("place", 0) as u64);
        let (dy, maxima) = (e.f32(0)?, reader(e, 1)?);
        let len = (dy.len() / e.batch.max(1)).max(1);
        let mut out = Vec::with_capacity(dy.len());
        for (sample, row) in dy.chunks(len).enumerate() {
            let m = maxima.at(sample * len);
            let r = if m == 0.0 { 0.0 } else { n / (2.0 * m) };
            let key = e.noise_key(place, sample);
            let code = |(i, &dy): (usize, &f32)| {
                let level = ((dy * r) + n / 2.0) + noise::centred(key, i as u32);
                clip(level.round_ties_even(), 0.0, n) as i32
            };
            out.extend(row.iter().enumerate().map(code));
        }
        e.codes(out)
    },
};
