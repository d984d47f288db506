//! Sums over the samples, ascending, of what fused steps summed in each sample, and the batch statistics that follow.

use super::Frame;
use super::scalars::{decoding_scale, elements};
use crate::codegen::emitter::{Emitter, F32X4};
use crate::graph::types::ValueType;
use crate::graph::{Node, Value as GraphValue};
use crate::lower::train::{Form, Kind, Slot};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};

/// Emits the step of `channel_sum`, `channel_dot`, `batch_mean` or `batch_variance`.
///
/// # Errors
/// When an operand is missing.
pub fn emit(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, node: &Node) -> Result<&'static str, String> {
    let own = GraphValue { node: node.id, port: 0 };
    let x = frame.operand(node, 0)?;
    let ty = frame.graph.value_type(x).ok_or("operand 0 has no type")?;
    let (_, h, w) = ty.shape.stored().ok_or("operand 0 has no batch")?;
    let to = frame.base(e, Slot::own(own))?;
    let partial = Slot { value: own, kind: Kind::Partial };
    if frame.plan.buffers.contains_key(&partial) {
        let divide = node.op.name.starts_with("batch_");
        floats(e, frame, partial, to, divide.then_some((h * w) as i64))?;
    } else {
        integers(e, frame, node, Slot { value: x, kind: Kind::Moments }, ty, to)?;
    }
    Ok("sum over samples")
}

fn floats(
    e: &mut Emitter<'_, '_>,
    frame: &Frame<'_>,
    partial: Slot,
    to: Value,
    divide: Option<i64>,
) -> Result<(), String> {
    let from = frame.all(e, partial)?;
    let Form::Floats(channels) = frame.buffer(partial)?.form else { return Err("sums are floats".to_owned()) };
    let divisor = divide.map(|area| {
        let m = elements(e, frame, area, types::F32);
        e.b.ins().splat(F32X4, m)
    });
    e.times(channels.div_ceil(4), |e, i| {
        let zero = e.splat_f32(0.0);
        let sum = e.var(zero);
        let first = e.at(from.base, i, 16);
        let none = e.int(0);
        e.range(none, frame.batch, 1, |e, n| {
            let offset = e.b.ins().imul(n, from.stride);
            let at = e.b.ins().iadd(first, offset);
            let v = e.load(F32X4, at, 0);
            e.accumulate_float(sum, v);
        });
        let mut v = e.b.use_var(sum);
        if let Some(d) = divisor {
            v = e.b.ins().fdiv(v, d);
        }
        let at = e.at(to, i, 16);
        e.store(v, at, 0);
    });
    Ok(())
}

fn integers(
    e: &mut Emitter<'_, '_>,
    frame: &Frame<'_>,
    node: &Node,
    moments: Slot,
    ty: &ValueType,
    to: Value,
) -> Result<(), String> {
    let from = frame.all(e, moments)?;
    let Form::Longs(width) = frame.buffer(moments)?.form else { return Err("moments are integers".to_owned()) };
    let (channels, h, w) = ty.shape.stored().ok_or("operand 0 has no batch")?;
    let variance = node.op.name == "batch_variance";
    let mut factors = Vec::new();
    for i in if variance { 2 } else { 1 }..frame.graph.operands(node.id).len() {
        let base = frame.operand_base(e, node, i)?;
        factors.push(e.load(types::F32, base, 0));
    }
    let scale = decoding_scale(e, &ty.elem, &factors)?;
    let m = elements(e, frame, (h * w) as i64, types::F64);
    e.times(channels, |e, c| {
        let zero = e.int(0);
        let (sum, squares, carried) = (e.var(zero), e.var(zero), e.var(zero));
        let first = e.at(from.base, c, 8);
        e.range(zero, frame.batch, 1, |e, n| {
            let offset = e.b.ins().imul(n, from.stride);
            let at = e.b.ins().iadd(first, offset);
            let (s, q) = (e.load(types::I64, at, 0), e.load(types::I64, at, (4 * width) as i32));
            e.accumulate(sum, s);
            e.accumulate(squares, q);
            let total = e.b.use_var(squares);
            let carry = e.b.ins().icmp(IntCC::UnsignedLessThan, total, q);
            let carry = e.b.ins().uextend(types::I64, carry);
            e.accumulate(carried, carry);
        });
        let (sum, squares, carried) = (e.b.use_var(sum), e.b.use_var(squares), e.b.use_var(carried));
        let mean = e.b.ins().fcvt_from_sint(types::F64, sum);
        let mean = e.b.ins().fdiv(mean, m);
        let result = if variance {
            let q = from_wide(e, carried, squares);
            let q = e.b.ins().fdiv(q, m);
            let square = e.b.ins().fmul(mean, mean);
            let v = e.b.ins().fsub(q, square);
            let none = e.b.ins().f64const(0.0);
            let some = e.b.ins().fcmp(FloatCC::GreaterThan, v, none);
            let v = e.b.ins().select(some, v, none);
            let v = e.b.ins().fmul(v, scale);
            e.b.ins().fmul(v, scale)
        } else {
            e.b.ins().fmul(mean, scale)
        };
        let result = e.b.ins().fdemote(types::F32, result);
        let at = e.at(to, c, 4);
        e.store(result, at, 0);
    });
    Ok(())
}

/// high·2⁶⁴ + low, unsigned and high below 2⁶², rounded once to f64.
fn from_wide(e: &mut Emitter<'_, '_>, high: Value, low: Value) -> Value {
    // Shifted right until 63 bits hold it; a bit that falls off stays as the lowest one, which decides no tie wrongly
    // because f64 keeps 53 of the 63.
    let bits = e.b.ins().clz(high);
    let full = e.int(65);
    let shift = e.b.ins().isub(full, bits);
    let none = e.b.ins().icmp_imm_s(IntCC::SignedGreaterThanOrEqual, low, 0);
    let small = e.b.ins().icmp_imm_s(IntCC::Equal, high, 0);
    let small = e.b.ins().band(small, none);
    let zero = e.int(0);
    let shift = e.b.ins().select(small, zero, shift);
    // The shift is 0, or 1 … 64.
    let width = e.int(64);
    let left = e.b.ins().isub(width, shift);
    let whole = e.b.ins().icmp_imm_s(IntCC::Equal, shift, 0);
    let upper = e.b.ins().ishl(high, left);
    let upper = e.b.ins().select(whole, zero, upper);
    let all = e.b.ins().icmp_imm_s(IntCC::Equal, shift, 64);
    let lower = e.b.ins().ushr(low, shift);
    let lower = e.b.ins().select(all, zero, lower);
    let top = e.b.ins().bor(upper, lower);
    let lost = e.b.ins().ishl(low, left);
    let lost = e.b.ins().select(whole, zero, lost);
    let sticky = e.b.ins().icmp_imm_s(IntCC::NotEqual, lost, 0);
    let sticky = e.b.ins().uextend(types::I64, sticky);
    let top = e.b.ins().bor(top, sticky);
    let value = e.b.ins().fcvt_from_sint(types::F64, top);
    let exponent = e.b.ins().iadd_imm_s(shift, 1023);
    let exponent = e.b.ins().ishl_imm_u(exponent, 52);
    let power = e.b.ins().bitcast(types::F64, MemFlagsData::new(), exponent);
    e.b.ins().fmul(value, power)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::products::testing::{Code, Memory, build};
    use crate::codegen::target::Level;

    #[test]
    fn wide_sums_round_once() {
        let levels = Level::parse("native", &target_lexicon::Triple::host()).unwrap();
        let image = build(&levels[0], false, 3, |e, a| {
            let v = from_wide(e, a[0], a[1]);
            e.store(v, a[2], 0);
        });
        let code = Code::new(&image);
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            state
        };
        for i in 0..4000u32 {
            // Around ties: a few bits set far apart, and all widths.
            let wide = (u128::from(next()) << 64 | u128::from(next())) >> (2 + i % 126);
            let tie = (1u128 << (i % 120)) + (1u128 << (i % 61)) + u128::from(i % 3);
            for v in [wide, tie, (1 << 53) + 1, (1 << 64) - 1, 1 << 63, 0, u128::MAX >> 2] {
                let out = Memory::new(64, 0);
                code.call(&[(v >> 64) as u64, v as u64, out.address()]);
                let got = f64::from_le_bytes(out.bytes()[..8].try_into().unwrap());
                assert_eq!(got.to_bits(), (v as f64).to_bits(), "{v:#x}");
            }
        }
    }
}
