//! The project's own exp, log, tanh, sigmoid and erf in CLIF, step for step those of the operator table.

use super::emitter::{Emitter, F32X4};
use super::lanes::pick;
use crate::graph::ops::{ERF_COEFFICIENTS, EXP_COEFFICIENTS, LOG_COEFFICIENTS};
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};

/// Applies exp, log, tanh, erf or sigmoid to each lane in scalar f64.
pub fn each_lane(e: &mut Emitter<'_, '_>, name: &str, x: Value) -> Value {
    let mut out = x;
    for lane in 0..4u8 {
        let v = e.b.ins().extractlane(x, lane);
        let v = match name {
            "exp" => exp(e, v),
            "log" => {
                let v = e.b.ins().fpromote(types::F64, v);
                let y = full_log64(e, v);
                e.b.ins().fdemote(types::F32, y)
            }
            "tanh" => tanh(e, v),
            "erf" => erf(e, v),
            _ => sigmoid(e, v),
        };
        out = e.b.ins().insertlane(out, v, lane);
    }
    debug_assert_eq!(e.b.func.dfg.value_type(out), F32X4);
    out
}

/// x^y of each pair of lanes in scalar f64.
pub fn each_pair(e: &mut Emitter<'_, '_>, x: Value, y: Value) -> Value {
    let mut out = x;
    for lane in 0..4u8 {
        let (a, b) = (e.b.ins().extractlane(x, lane), e.b.ins().extractlane(y, lane));
        let v = pow(e, a, b);
        out = e.b.ins().insertlane(out, v, lane);
    }
    out
}

fn pow(e: &mut Emitter<'_, '_>, x: Value, y: Value) -> Value {
    let (x, y) = (e.b.ins().fpromote(types::F64, x), e.b.ins().fpromote(types::F64, y));
    let a = e.b.ins().fabs(x);
    let l = full_log64(e, a);
    let l = e.b.ins().fmul(y, l);
    let magnitude = exp64(e, l);
    let half = e.b.ins().f64const(0.5);
    let half = e.b.ins().fmul(y, half);
    let below = e.b.ins().floor(half);
    let even = e.b.ins().fcmp(FloatCC::Equal, below, half);
    let minus = e.b.ins().fneg(magnitude);
    let signed = e.b.ins().select(even, magnitude, minus);
    let below = e.b.ins().floor(y);
    let whole = e.b.ins().fcmp(FloatCC::Equal, below, y);
    let nan = e.b.ins().f64const(f64::NAN);
    let negative = e.b.ins().select(whole, signed, nan);
    let (zero, one) = (e.b.ins().f64const(0.0), e.b.ins().f64const(1.0));
    let below = e.b.ins().fcmp(FloatCC::LessThan, x, zero);
    let power = e.b.ins().select(below, negative, magnitude);
    let none = e.b.ins().fcmp(FloatCC::Equal, y, zero);
    let power = e.b.ins().select(none, one, power);
    e.b.ins().fdemote(types::F32, power)
}

/// e^x of a scalar f32.
pub fn exp(e: &mut Emitter<'_, '_>, x: Value) -> Value {
    let x = e.b.ins().fpromote(types::F64, x);
    let y = exp64(e, x);
    e.b.ins().fdemote(types::F32, y)
}

fn tanh(e: &mut Emitter<'_, '_>, x: Value) -> Value {
    let a = e.b.ins().fabs(x);
    let a = e.b.ins().fpromote(types::F64, a);
    let a = e.b.ins().fadd(a, a);
    let p = exp64(e, a);
    let (one, two) = (e.b.ins().f64const(1.0), e.b.ins().f64const(2.0));
    let d = e.b.ins().fadd(p, one);
    let q = e.b.ins().fdiv(two, d);
    let t = e.b.ins().fsub(one, q);
    let t = e.b.ins().fdemote(types::F32, t);
    signed(e, t, x)
}

/// The magnitude `y` with the sign of `x`, positive where that is NaN.
fn signed(e: &mut Emitter<'_, '_>, y: Value, x: Value) -> Value {
    let one = e.b.ins().f32const(1.0);
    let number = e.b.ins().fcmp(FloatCC::Equal, x, x);
    let sign = e.b.ins().select(number, x, one);
    e.b.ins().fcopysign(y, sign)
}

fn sigmoid(e: &mut Emitter<'_, '_>, x: Value) -> Value {
    let x = e.b.ins().fpromote(types::F64, x);
    let x = e.b.ins().fneg(x);
    let p = exp64(e, x);
    let one = e.b.ins().f64const(1.0);
    let d = e.b.ins().fadd(one, p);
    let y = e.b.ins().fdiv(one, d);
    e.b.ins().fdemote(types::F32, y)
}

fn erf(e: &mut Emitter<'_, '_>, x: Value) -> Value {
    let a = e.b.ins().fabs(x);
    let a = e.b.ins().fpromote(types::F64, a);
    let limit = e.b.ins().f64const(4.0);
    let below = e.b.ins().fcmp(FloatCC::LessThan, a, limit);
    let a = e.b.ins().select(below, a, limit);
    let square = e.b.ins().fmul(a, a);
    let (eighth, one) = (e.b.ins().f64const(0.125), e.b.ins().f64const(1.0));
    let u = e.b.ins().fmul(square, eighth);
    let u = e.b.ins().fsub(u, one);
    let p = polynomial(e, &ERF_COEFFICIENTS, u);
    let y = e.b.ins().fmul(a, p);
    let y = e.b.ins().fdemote(types::F32, y);
    signed(e, y, x)
}

/// A polynomial in `x` by Horner, the highest coefficient first, with separate multiply and add.
fn polynomial(e: &mut Emitter<'_, '_>, coefficients: &[f64], x: Value) -> Value {
    let mut p = e.b.ins().f64const(0.0);
    for &c in coefficients {
        let product = e.b.ins().fmul(p, x);
        let c = e.b.ins().f64const(c);
        p = e.b.ins().fadd(product, c);
    }
    p
}

fn exp64(e: &mut Emitter<'_, '_>, x: Value) -> Value {
    let (lo, hi) = (e.b.ins().f64const(-200.0), e.b.ins().f64const(200.0));
    let above = e.b.ins().fcmp(FloatCC::GreaterThan, x, lo);
    let x = e.b.ins().select(above, x, lo);
    let below = e.b.ins().fcmp(FloatCC::LessThan, x, hi);
    let x = e.b.ins().select(below, x, hi);
    let log2e = e.b.ins().f64const(std::f64::consts::LOG2_E);
    let k = e.b.ins().fmul(x, log2e);
    let k = e.b.ins().nearest(k);
    let ln2 = e.b.ins().f64const(std::f64::consts::LN_2);
    let part = e.b.ins().fmul(k, ln2);
    let r = e.b.ins().fsub(x, part);
    let p = polynomial(e, &EXP_COEFFICIENTS, r);
    let k = e.b.ins().fcvt_to_sint_sat(types::I64, k);
    let biased = e.b.ins().iadd_imm_s(k, 1023);
    let bits = e.b.ins().ishl_imm_u(biased, 52);
    let power = e.b.ins().bitcast(types::F64, MemFlagsData::new(), bits);
    e.b.ins().fmul(p, power)
}

/// Largest of the lanes seen so far, as the definition of max pool wants it: the later wins only if greater.
pub fn later_if_greater(e: &mut Emitter<'_, '_>, best: Value, later: Value) -> Value {
    pick(e, FloatCC::GreaterThan, later, best)
}

/// ln x of a positive scalar f32, by the steps of the operator table.
pub fn log(e: &mut Emitter<'_, '_>, x: Value) -> Value {
    let x = e.b.ins().fpromote(types::F64, x);
    let y = log64(e, x);
    e.b.ins().fdemote(types::F32, y)
}

/// ln x of any scalar f64.
fn full_log64(e: &mut Emitter<'_, '_>, x: Value) -> Value {
    let inside = log64(e, x);
    let (infinity, lowest) = (e.b.ins().f64const(f64::INFINITY), e.b.ins().f64const(f64::NEG_INFINITY));
    let (zero, nan) = (e.b.ins().f64const(0.0), e.b.ins().f64const(f64::NAN));
    let top = e.b.ins().fcmp(FloatCC::Equal, x, infinity);
    let inside = e.b.ins().select(top, x, inside);
    let none = e.b.ins().fcmp(FloatCC::Equal, x, zero);
    let inside = e.b.ins().select(none, lowest, inside);
    let defined = e.b.ins().fcmp(FloatCC::GreaterThanOrEqual, x, zero);
    e.b.ins().select(defined, inside, nan)
}

fn log64(e: &mut Emitter<'_, '_>, x: Value) -> Value {
    let bits = e.b.ins().bitcast(types::I64, MemFlagsData::new(), x);
    let root_half = e.b.ins().iconst(types::I64, 0x3fe6_a09e_667f_3bcd);
    let k = e.b.ins().isub(bits, root_half);
    let k = e.b.ins().sshr_imm_u(k, 52);
    let shifted = e.b.ins().ishl_imm_u(k, 52);
    let m = e.b.ins().isub(bits, shifted);
    let m = e.b.ins().bitcast(types::F64, MemFlagsData::new(), m);
    let one = e.b.ins().f64const(1.0);
    let (above, below) = (e.b.ins().fsub(m, one), e.b.ins().fadd(m, one));
    let s = e.b.ins().fdiv(above, below);
    let z = e.b.ins().fmul(s, s);
    let p = polynomial(e, &LOG_COEFFICIENTS, z);
    let k = e.b.ins().fcvt_from_sint(types::F64, k);
    let ln2 = e.b.ins().f64const(std::f64::consts::LN_2);
    let whole = e.b.ins().fmul(k, ln2);
    let twice = e.b.ins().fadd(s, s);
    let part = e.b.ins().fmul(twice, p);
    e.b.ins().fadd(whole, part)
}

/// Floats in memory.
#[derive(Clone, Copy)]
pub struct Row {
    /// The address of the first.
    pub base: Value,
    /// Bytes from one to the next.
    pub step: usize,
}

impl Row {
    /// The address of number `i`.
    fn at(self, e: &mut Emitter<'_, '_>, i: Value) -> Value {
        e.at(self.base, i, self.step)
    }
}

/// The greatest of `n` floats and the lowest place that has it; NaN never wins.
pub fn greatest(e: &mut Emitter<'_, '_>, from: Row, n: usize) -> (Value, Value) {
    let least = e.b.ins().f32const(f32::NEG_INFINITY);
    let none = e.int(0);
    let (top, best) = (e.var(least), e.var(none));
    e.times(n, |e, i| {
        let at = from.at(e, i);
        let v = e.load(types::F32, at, 0);
        let (old, place) = (e.b.use_var(top), e.b.use_var(best));
        let greater = e.b.ins().fcmp(FloatCC::GreaterThan, v, old);
        let (v, i) = (e.b.ins().select(greater, v, old), e.b.ins().select(greater, i, place));
        e.b.def_var(top, v);
        e.b.def_var(best, i);
    });
    (e.b.use_var(top), e.b.use_var(best))
}

/// Stores e^(z − top) of `n` floats and gives their sum by four lanes.
pub fn sum_of_powers(e: &mut Emitter<'_, '_>, from: Row, top: Value, to: Row, n: usize) -> Value {
    let zero = e.b.ins().f32const(0.0);
    e.lane_sum(n, zero, |e, i| {
        let at = from.at(e, i);
        let v = e.load(types::F32, at, 0);
        let v = e.b.ins().fsub(v, top);
        let p = exp(e, v);
        let out = to.at(e, i);
        e.store(p, out, 0);
        p
    })
}

/// The softmax of `n` floats.
pub fn softmax(e: &mut Emitter<'_, '_>, from: Row, to: Row, n: usize) {
    let (top, _) = greatest(e, from, n);
    let sum = sum_of_powers(e, from, top, to, n);
    e.times(n, |e, i| {
        let at = to.at(e, i);
        let v = e.load(types::F32, at, 0);
        let v = e.b.ins().fdiv(v, sum);
        e.store(v, at, 0);
    });
}
