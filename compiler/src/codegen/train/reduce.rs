//! Operators over whole parameters or vectors: each one task, in order.

use super::scalars::elements;
use super::{Frame, at};
use crate::codegen::emitter::{Emitter, F32X4};
use crate::codegen::lanes::pick;
use crate::codegen::target::Arch;
use crate::codegen::tiles::sum_abs::sum_abs;
use crate::graph::{Node, Value as GraphValue};
use crate::lower::train::{Form, PIECE, Slot};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};

/// Emits `mean_abs`, `max_abs`, `sum_product`, `count_equal_abs`, `sample_mean` or `sample_sum`.
///
/// # Errors
/// When there is no kernel.
pub fn emit(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, node: &Node) -> Result<&'static str, String> {
    let to = frame.base(e, Slot::own(GraphValue { node: node.id, port: 0 }))?;
    let x = frame.operand_base(e, node, 0)?;
    let result = match node.op.name {
        "sample_mean" | "sample_sum" => {
            let zero = e.b.ins().f32const(0.0);
            let (sum, none) = (e.var(zero), e.int(0));
            e.range(none, frame.batch, 1, |e, n| {
                let at = e.at(x, n, 4);
                let v = e.load(types::F32, at, 0);
                e.accumulate_float(sum, v);
            });
            let sum = e.b.use_var(sum);
            if node.op.name == "sample_sum" {
                sum
            } else {
                let n = elements(e, frame, 1, types::F32);
                e.b.ins().fdiv(sum, n)
            }
        }
        name @ ("mean_abs" | "max_abs" | "sum_product" | "count_equal_abs") => {
            let value = frame.operand(node, 0)?;
            let len = frame.graph.value_type(value).and_then(|t| t.shape.sample_len()).ok_or("has no shape")?;
            let other = if name == "mean_abs" || name == "max_abs" { x } else { frame.operand_base(e, node, 1)? };
            let sums = parameter(e, name, [x, other], len)?;
            let lanes = [0, 1, 2, 3].map(|i| e.b.ins().extractlane(sums, i));
            if name == "max_abs" {
                let [first, rest @ ..] = lanes;
                rest.into_iter().fold(first, |a, b| e.b.ins().fmax(a, b))
            } else {
                let sum = e.lane_tree(lanes);
                let n = e.b.ins().f32const(len as f32);
                if name == "mean_abs" { e.b.ins().fdiv(sum, n) } else { sum }
            }
        }
        other => return Err(format!("{other} has no kernel in a training step")),
    };
    e.store(result, to, 0);
    Ok("reduction")
}

/// Four lanes over all elements of a parameter; element i goes to lane i mod 4.
fn parameter(e: &mut Emitter<'_, '_>, name: &str, [x, other]: [Value; 2], len: usize) -> Result<Value, String> {
    let zero = e.splat_f32(0.0);
    let sum = e.var(zero);
    let second = (name == "count_equal_abs").then(|| {
        let m = e.load(types::F32, other, 0);
        e.b.ins().splat(F32X4, m)
    });
    let step = |e: &mut Emitter<'_, '_>, i: Value, mask: Option<Value>| {
        let at = e.at(x, i, 4);
        let (v, old) = (e.load(F32X4, at, 0), e.b.use_var(sum));
        let new = match name {
            "sum_product" => {
                let at = e.at(other, i, 4);
                let w = e.load(F32X4, at, 0);
                e.mul_add(v, w, old)
            }
            "max_abs" => {
                let v = e.b.ins().fabs(v);
                pick(e, FloatCC::GreaterThan, v, old)
            }
            "count_equal_abs" => {
                let (v, one) = (e.b.ins().fabs(v), e.splat_f32(1.0));
                let equal = e.b.ins().fcmp(FloatCC::Equal, v, second.unwrap_or(zero));
                let one = e.select(equal, one, zero);
                e.b.ins().fadd(old, one)
            }
            _ => {
                let v = e.b.ins().fabs(v);
                e.b.ins().fadd(old, v)
            }
        };
        let new = mask.map_or(new, |mask| e.select(mask, new, old));
        e.b.def_var(sum, new);
    };
    let lines = len / LINE;
    if name == "mean_abs" && lines > 0 && e.level.arch == Arch::X86_64 {
        let function = sum_abs(e.image).map_err(|e| e.to_string())?;
        let (sums, count) = (e.stack(16, 16), e.int(lines));
        e.store(zero, sums, 0);
        e.call(function, &[x, count, sums]);
        let sums = e.load(F32X4, sums, 0);
        e.b.def_var(sum, sums);
        tail(e, [lines * LINE, len], step);
        return Ok(e.b.use_var(sum));
    }
    let whole = (len / AHEAD).saturating_sub(1) * AHEAD;
    let (start, end) = (e.int(0), e.int(whole));
    e.range(start, end, LINE, |e, i| {
        touch(e, x, i);
        if name == "sum_product" {
            touch(e, other, i);
        }
        for part in (0..LINE).step_by(4) {
            let i = e.add(i, part);
            step(e, i, None);
        }
    });
    tail(e, [whole, len], step);
    Ok(e.b.use_var(sum))
}

/// Floats of a line of the cache.
const LINE: usize = 16;
/// Floats of a page.
const PAGE: usize = 1024;
/// Pages that are touched in turn.
const PAGES: usize = 4;
/// Floats of so many pages, and the distance from what a chain reads to what is touched.
const AHEAD: usize = PAGES * PAGE;

/// Brings what a chain of additions will read into the cache, a line for every line that begins at element `i`: by itself it
/// would wait for memory at the beginning of every page, several pages at once do not.
fn touch(e: &mut Emitter<'_, '_>, x: Value, i: Value) {
    let block = e.b.ins().band_imm_s(i, -(AHEAD as i64));
    let line = e.b.ins().band_imm_s(i, (AHEAD - 1) as i64);
    // Elements of the block before this line are four times those before the touched one in its page.
    let page = e.b.ins().band_imm_s(i, (LINE * (PAGES - 1)) as i64);
    let within = e.b.ins().isub(line, page);
    let within = e.b.ins().ushr_imm_u(within, i64::from(PAGES.trailing_zeros()));
    let at = e.at(x, block, 4);
    let at = e.at(at, page, 4 * PAGE / LINE);
    let at = e.at(at, within, 4);
    // A load that might trap is kept though nothing reads it.
    e.b.ins().load(types::I64, MemFlagsData::new(), at, 4 * AHEAD as i32);
}

/// `adam_rate` = lr·√(1 − β₂ᵗ)/(1 − β₁ᵗ), `adam_epsilon` = ε·√(1 − β₂ᵗ), powers by repeated squaring.
///
/// # Errors
/// Never; the signature is that of all steps.
pub fn adam_rate(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, node: &Node) -> Result<&'static str, String> {
    let to = frame.base(e, Slot::own(GraphValue { node: node.id, port: 0 }))?;
    let number = |e: &mut Emitter<'_, '_>, name: &str| {
        let offset = at::HYPER.iter().find(|(n, _)| *n == name).map_or(0, |h| h.1);
        e.load(types::F64, frame.train, offset)
    };
    let (lr, beta1, beta2) = (number(e, "lr"), number(e, "beta1"), number(e, "beta2"));
    let t = e.load(types::I64, frame.train, at::STEP);
    let one = e.b.ins().f64const(1.0);
    let left = |e: &mut Emitter<'_, '_>, beta: Value| {
        let p = power(e, beta, t);
        e.b.ins().fsub(one, p)
    };
    let second = left(e, beta2);
    let root = e.b.ins().sqrt(second);
    let rate = if node.attrs.word("name", "") == "adam_epsilon" {
        let epsilon = number(e, "epsilon");
        e.b.ins().fmul(epsilon, root)
    } else {
        let (rate, first) = (e.b.ins().fmul(lr, root), left(e, beta1));
        e.b.ins().fdiv(rate, first)
    };
    let rate = e.b.ins().fdemote(types::F32, rate);
    e.store(rate, to, 0);
    Ok("rate")
}

/// base^exponent, the lowest bit first.
fn power(e: &mut Emitter<'_, '_>, base: Value, exponent: Value) -> Value {
    let one = e.b.ins().f64const(1.0);
    let (result, square, rest) = (e.var(one), e.var(base), e.var(exponent));
    let (zero, bits) = (e.int(0), e.int(64));
    e.range(zero, bits, 1, |e, _| {
        let (r, s, n) = (e.b.use_var(result), e.b.use_var(square), e.b.use_var(rest));
        let product = e.b.ins().fmul(r, s);
        let odd = e.b.ins().band_imm_s(n, 1);
        let r = e.b.ins().select(odd, product, r);
        let s = e.b.ins().fmul(s, s);
        let n = e.b.ins().ushr_imm_u(n, 1);
        e.b.def_var(result, r);
        e.b.def_var(square, s);
        e.b.def_var(rest, n);
    });
    e.b.use_var(result)
}

/// Sets this task's flag where its piece of a slot holds a number that is not finite.
///
/// # Errors
/// When a slot is not in memory.
pub fn check(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, slots: &[Slot]) -> Result<&'static str, String> {
    let flags = frame.step.writes.first().ok_or("a check writes flags")?;
    let flags = frame.base(e, *flags)?;
    let flag = e.at(flags, frame.task, 4);
    // The first task of the slot.
    let mut first = 0;
    for &slot in slots {
        let Form::Floats(len) = frame.buffer(slot)?.form else { return Err("checks floats".to_owned()) };
        let base = frame.base(e, slot)?;
        let factors = frame.plan.factors(&slot).map(|f| frame.base(e, f)).transpose()?;
        let (whole, rest) = (len / PIECE, len % PIECE);
        for (start, pieces, len) in [(0, whole, PIECE), (whole, usize::from(rest > 0), rest)] {
            if pieces == 0 {
                continue;
            }
            let piece = e.b.ins().iadd_imm_s(frame.task, -((first + start) as i64));
            let mine = e.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, piece, pieces as i64);
            e.when(mine, |e| {
                let none = e.b.ins().iconst(types::I32, 0);
                let any = e.var(none);
                let look = |e: &mut Emitter<'_, '_>| {
                    let from = e.at(base, piece, 4 * PIECE);
                    let from = e.add(from, 4 * PIECE * start);
                    let found = not_finite(e, from, len);
                    e.b.def_var(any, found);
                };
                match factors.map(|f| beyond(e, frame, f)) {
                    None => look(e),
                    Some(beyond) => e.when(beyond, look),
                }
                let any = e.b.use_var(any);
                e.store(any, flag, 0);
            });
        }
        first += frame.plan.pieces(&slot);
    }
    Ok("finite?")
}

/// Whether the factors of the samples leave open that Σ c_i·S_i, |S_i| < 2³¹, is finite: unless Σ |c_i| is far from the
/// greatest float. The gradient is far larger than they are.
pub fn beyond(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, factors: Value) -> Value {
    const MOST: f32 = (1u128 << 90) as f32;
    let (zero, none) = (e.b.ins().f32const(0.0), e.int(0));
    let sum = e.var(zero);
    e.range(none, frame.batch, 1, |e, i| {
        let at = e.at(factors, i, 4);
        let c = e.load(types::F32, at, 0);
        let c = e.b.ins().fabs(c);
        e.accumulate_float(sum, c);
    });
    let (sum, most) = (e.b.use_var(sum), e.b.ins().f32const(MOST));
    e.b.ins().fcmp(FloatCC::UnorderedOrGreaterThanOrEqual, sum, most)
}

/// Whether one of so many floats is not finite, 0 or 1. Several streams at once: one by itself waits for memory at every page.
fn not_finite(e: &mut Emitter<'_, '_>, from: Value, len: usize) -> Value {
    const STREAMS: usize = 4;
    let none = e.splat_i32(0);
    let bad = e.var(none);
    let wrong = |e: &mut Emitter<'_, '_>, at: Value, offset: usize| {
        let v = e.load(F32X4, at, offset as i32);
        let (d, zero) = (e.b.ins().fsub(v, v), e.splat_f32(0.0));
        e.b.ins().fcmp(FloatCC::NotEqual, d, zero)
    };
    let part = len / STREAMS / 4 * 4;
    let (start, end) = (e.int(0), e.int(part));
    e.range(start, end, 4, |e, i| {
        let at = e.at(from, i, 4);
        let mut any = e.b.use_var(bad);
        for stream in 0..STREAMS {
            let wrong = wrong(e, at, 4 * stream * part);
            any = e.b.ins().bor(any, wrong);
        }
        e.b.def_var(bad, any);
    });
    let rest = e.add(from, 4 * STREAMS * part);
    tail(e, [0, len - STREAMS * part], |e, i, mask| {
        let at = e.at(rest, i, 4);
        let wrong = wrong(e, at, 0);
        let wrong = mask.map_or(wrong, |mask| e.b.ins().band(wrong, mask));
        let old = e.b.use_var(bad);
        let new = e.b.ins().bor(old, wrong);
        e.b.def_var(bad, new);
    });
    let v = e.b.use_var(bad);
    let any = e.b.ins().vany_true(v);
    e.b.ins().uextend(types::I32, any)
}

/// Calls `body` for every four elements from `start`, a multiple of 4, to `len`; with a mask of those that exist for the last.
fn tail(e: &mut Emitter<'_, '_>, [start, len]: [usize; 2], body: impl Fn(&mut Emitter<'_, '_>, Value, Option<Value>)) {
    let (start, whole) = (e.int(start), e.int(len / 4 * 4));
    e.range(start, whole, 4, |e, i| body(e, i, None));
    if !len.is_multiple_of(4) {
        let mask = e.first_lanes(len % 4);
        body(e, whole, Some(mask));
    }
}
