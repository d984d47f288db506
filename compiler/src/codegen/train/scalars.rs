//! Numbers that are the same for a whole task: those of the call, counts, scales.

use super::{Frame, at};
use crate::codegen::emitter::{Emitter, F32X4};
use crate::graph::scale::Scale;
use crate::graph::types::Elem;
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// A number of the call as f32.
pub fn hyper(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, name: &str) -> Result<Value, String> {
    let offset =
        at::HYPER.iter().find(|(n, _)| *n == name).ok_or_else(|| format!("`{name}` is no number of the call"))?;
    let v = e.read(types::F64, frame.train, offset.1);
    Ok(e.b.ins().fdemote(types::F32, v))
}

/// Batch · area as a float.
pub fn elements(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, area: i64, ty: types::Type) -> Value {
    let n = e.b.ins().imul_imm_s(frame.batch, area);
    e.b.ins().fcvt_from_sint(ty, n)
}

/// f32(M/(M − 1)), 1 where M is 1.
pub fn unbiased(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, area: i64) -> Value {
    let m = elements(e, frame, area, types::F64);
    let one = e.b.ins().f64const(1.0);
    let less = e.b.ins().fsub(m, one);
    let q = e.b.ins().fdiv(m, less);
    let single = e.b.ins().fcmp(FloatCC::Equal, m, one);
    let q = e.b.ins().select(single, one, q);
    e.b.ins().fdemote(types::F32, q)
}

/// The scale of `elem` times up to two factors, given in lanes, as f64: ((f1·f2)·num)/den.
pub fn decoding_scale(e: &mut Emitter<'_, '_>, elem: &Elem, factors: &[Value]) -> Result<Value, String> {
    let scales = match elem {
        Elem::Codes(c) => &c.scale,
        Elem::Acc(a) => &a.scale,
        Elem::F32 => return Err("decodes codes or accumulators".to_owned()),
    };
    let &[scale] = &**scales else { return Err("has a scale a channel, which training does not have".to_owned()) };
    if factors.is_empty() {
        return Ok(e.b.ins().f64const(scale.to_f64()));
    }
    Ok(scaled(e, scale, factors))
}

/// (product of the factors · num)/den in f64.
pub fn scaled(e: &mut Emitter<'_, '_>, scale: Scale, factors: &[Value]) -> Value {
    let mut product = None;
    for &f in factors {
        let f = if e.b.func.dfg.value_type(f) == F32X4 { e.b.ins().extractlane(f, 0) } else { f };
        let f = e.b.ins().fpromote(types::F64, f);
        product = Some(product.map_or(f, |p| e.b.ins().fmul(p, f)));
    }
    let (num, den) = scale.parts();
    let (num, den) = (e.b.ins().f64const(num), e.b.ins().f64const(den));
    let product = product.unwrap_or_else(|| e.b.ins().f64const(1.0));
    let product = e.b.ins().fmul(product, num);
    e.b.ins().fdiv(product, den)
}
