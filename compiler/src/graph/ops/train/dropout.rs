//! Dropout: the source graph's operator, and the masked product that both directions of training use.

use super::super::unary::same_type;
use super::super::{Eval, OpDef};
use super::PLACE;
use crate::graph::attrs::{AttrDef, Attrs, Kind};
use crate::graph::noise;
use crate::graph::scale::Scale;
use crate::graph::types::{CodeType, Elem, ValueType};
use dorefa_runtime::tensor::Tensor;

const RATE: AttrDef =
    AttrDef { name: "rate", kind: Kind::Float, required: true, doc: "share of elements that become 0, 0 ≤ rate < 1" };

/// 1/(1 − rate), exact for the shortest decimal number that reads as `rate` (0.3 means 3/10).
///
/// # Errors
/// When the rate is outside 0 … 1, or has more digits than 64 bits hold.
pub fn keep_scale(rate: f32) -> Result<Scale, String> {
    if !(0.0..1.0).contains(&rate) {
        return Err(format!("the rate {rate} is not in 0 … 1 (1 excluded)"));
    }
    let text = rate.to_string();
    let digits = text.split_once('.').map_or("", |(_, d)| d);
    let exact = || {
        let ten = 10u64.checked_pow(u32::try_from(digits.len()).ok()?)?;
        let part: u64 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
        Scale::ratio(ten, ten.checked_sub(part)?)
    };
    exact().ok_or_else(|| format!("the rate {rate} has too many digits; round it"))
}

/// Dropout of the source graph.
pub static DROPOUT: OpDef = OpDef {
    name: "dropout",
    doc: "The place where training drops elements: the identity in inference. ONNX Dropout.",
    inputs: (1, 1),
    attrs: &[RATE],
    elementwise: true,
    infer: |attrs, types| keep_scale(attrs.float("rate", 0.0)).and_then(|_| same_type(attrs, types)),
    eval: |e| Ok(e.input(0)?.clone()),
};

fn scaled(codes: &CodeType, keep: Scale) -> Result<CodeType, String> {
    codes.zero_code().ok_or("the codes hold no level 0 for what is dropped; drop before quantising")?;
    let scale = codes.scale.iter().map(|s| s.times(keep)).collect::<Option<Vec<_>>>();
    Ok(CodeType { scale: scale.ok_or("the scale needs over 96 bits; round the rate")?.into(), ..codes.clone() })
}

fn infer(attrs: &Attrs, types: &[&ValueType]) -> Result<Vec<ValueType>, String> {
    let x = types.first().ok_or("input 0 is missing")?;
    let keep = keep_scale(attrs.float("rate", 0.0))?;
    if !x.shape.has_batch() || attrs.int("place", -1) < 0 {
        return Err("drops elements of a batch, at a `place` of at least 0".to_owned());
    }
    match &x.elem {
        Elem::F32 => Ok(vec![ValueType::f32(x.shape.clone())]),
        Elem::Codes(c) => Ok(vec![x.with_elem(Elem::Codes(scaled(c, keep)?))]),
        Elem::Acc(_) => Err("drops f32 or codes, not accumulators".to_owned()),
    }
}

/// Which elements are kept, in order.
fn kept(e: &Eval<'_>, len: usize) -> Vec<bool> {
    let place = e.attrs.int("place", 0) as u64;
    let least = noise::dropout_threshold(e.attrs.float("rate", 0.0));
    let mut out = Vec::with_capacity(len);
    for sample in 0..e.batch {
        let key = e.noise_key(place, sample);
        out.extend((0..len / e.batch).map(|i| noise::bits(key, i as u32) >= least));
    }
    out
}

/// Dropout of the training step.
pub static DROPOUT_MASK: OpDef = OpDef {
    name: "dropout_mask",
    doc: "Keeps an element where its 24 noise bits are at least round(rate·2²⁴). f32: keep ? x·f32(1/(1−rate)) : 0. Codes: \
          keep ? u : the code of level 0, the type's scale times the exact 1/(1−rate). The gradient is the same operator \
          with the same `place` on f32. Input x, batched.",
    inputs: (1, 1),
    attrs: &[RATE, PLACE],
    elementwise: true,
    infer,
    eval: |e: &Eval<'_>| -> Result<Tensor, String> {
        let keep = kept(e, e.input(0)?.len());
        let ty = e.types.first().ok_or("input 0 is missing")?;
        if let Some(codes) = ty.codes() {
            let zero = codes.zero_code().ok_or("the codes hold no level 0")? as i32;
            return e.codes(e.i32(0)?.iter().zip(&keep).map(|(&u, &k)| if k { u } else { zero }).collect());
        }
        let scale = keep_scale(e.attrs.float("rate", 0.0))?.to_f64() as f32;
        e.floats(e.f32(0)?.iter().zip(&keep).map(|(&x, &k)| if k { x * scale } else { 0.0 }).collect())
    },
};
