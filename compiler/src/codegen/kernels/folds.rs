//! Operators that fold many elements into each element of the result: reductions over axes, and products of two computed
//! matrices. Elements are read one at a time in the order of the operator table. Cost: a few cycles an element read.

use super::Operand;
use super::gather::Gather;
use super::indices::{along, divide, remainder, strides};
use super::operand::load_flat;
use crate::codegen::emitter::Emitter;
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// The element of the result whose row-major index is `flat`.
pub(super) fn element(e: &mut Emitter<'_, '_>, g: &Gather<'_>, flat: Value) -> Value {
    match &*g.inputs {
        [a, b, ..] => product(e, g, [a, b], flat),
        [input] => reduce(e, g, input, flat),
        [] => e.b.ins().f32const(0.0),
    }
}

/// Σ a[row, k]·b[k, column] in order of k from +0.
fn product(e: &mut Emitter<'_, '_>, g: &Gather<'_>, [a, b]: [&Operand; 2], flat: Value) -> Value {
    let last = |i: usize| g.shapes.get(i).and_then(|s| s.last().copied()).unwrap_or(1);
    let (k, columns) = (last(0), last(1));
    let rows = g.shape.iter().rev().nth(1).copied().unwrap_or(1);
    let (row, column) = (divide(e, flat, columns), remainder(e, flat, columns));
    let matrix = divide(e, row, rows);
    let left = e.mul(row, k);
    let right = e.at(column, matrix, k * columns);
    let zero = e.b.ins().f32const(0.0);
    let sum = e.var(zero);
    e.times(k, |e, i| {
        let (x, y) = (e.b.ins().iadd(left, i), e.at(right, i, columns));
        let (x, y, old) = (load_flat(e, a, x), load_flat(e, b, y), e.b.use_var(sum));
        let new = e.mul_add(x, y, old);
        e.b.def_var(sum, new);
    });
    e.b.use_var(sum)
}

/// Maximum, its place, or the sum by 4 virtual lanes (position mod 4), (l0 + l2) + (l1 + l3), for a mean divided by the
/// count.
fn reduce(e: &mut Emitter<'_, '_>, g: &Gather<'_>, input: &Operand, flat: Value) -> Value {
    let slots = g.slots;
    let shape = g.shapes.first().map_or(&[][..], |s| s);
    let rank = shape.len() as i64 + g.batch;
    let axes = g.node.attrs.ints("axes");
    let reduced: Vec<bool> =
        (g.batch..rank).map(|i| axes.is_empty() || axes.iter().any(|&a| a == i || a + rank == i)).collect();
    let steps = strides(shape);
    let side = |want: bool| -> (Vec<usize>, Vec<usize>) {
        let all = shape.iter().zip(&steps).zip(&reduced).filter(|(_, r)| **r == want);
        all.map(|((&d, &s), _)| (d, s)).unzip()
    };
    let ((kept, kept_steps), (dims, dim_steps)) = (side(false), side(true));
    let base = along(e, flat, &kept, &kept_steps);
    let count: usize = dims.iter().product();
    let dims: Vec<(usize, usize)> = dims.into_iter().zip(dim_steps).collect();
    if g.node.op.name == "arg_max" {
        return arg_max(e, input, base, &dims, g.node.attrs.bool("last", false));
    }
    if g.node.op.name == "reduce_max" {
        let lowest = e.b.ins().f32const(f32::NEG_INFINITY);
        let best = e.var(lowest);
        nest(e, &dims, base, &mut |e, at| {
            let (v, old) = (load_flat(e, input, at), e.b.use_var(best));
            let greater = e.b.ins().fcmp(FloatCC::GreaterThan, v, old);
            let new = e.b.ins().select(greater, v, old);
            e.b.def_var(best, new);
        });
        return e.b.use_var(best);
    }
    let (zero, none) = (e.b.ins().f32const(0.0), e.int(0));
    let done = e.var(none);
    for lane in 0..4 {
        e.store(zero, slots, 16 + 4 * lane);
    }
    nest(e, &dims, base, &mut |e, at| {
        let (v, n) = (load_flat(e, input, at), e.b.use_var(done));
        let lane = e.b.ins().band_imm_s(n, 3);
        let lane = e.at(slots, lane, 4);
        let old = e.load(types::F32, lane, 16);
        let new = e.b.ins().fadd(old, v);
        e.store(new, lane, 16);
        let n = e.add(n, 1);
        e.b.def_var(done, n);
    });
    let lane = |e: &mut Emitter<'_, '_>, i: i32| e.load(types::F32, slots, 16 + 4 * i);
    let lanes = [0, 1, 2, 3].map(|i| lane(e, i));
    let sum = e.lane_tree(lanes);
    if g.node.op.name == "reduce_sum" {
        return sum;
    }
    let n = e.b.ins().f32const(count as f32);
    e.b.ins().fdiv(sum, n)
}

/// The place of the maximum along the one axis of `dims`.
fn arg_max(e: &mut Emitter<'_, '_>, input: &Operand, base: Value, dims: &[(usize, usize)], last: bool) -> Value {
    let (lowest, none) = (e.b.ins().f32const(f32::NEG_INFINITY), e.b.ins().f32const(0.0));
    let (best, place) = (e.var(lowest), e.var(none));
    let &(extent, step) = dims.first().unwrap_or(&(1, 1));
    e.times(extent, |e, i| {
        let at = e.at(base, i, step);
        let (v, old, known) = (load_flat(e, input, at), e.b.use_var(best), e.b.use_var(place));
        let cc = if last { FloatCC::GreaterThanOrEqual } else { FloatCC::GreaterThan };
        let wins = e.b.ins().fcmp(cc, v, old);
        let here = e.b.ins().fcvt_from_sint(types::F32, i);
        let (v, here) = (e.b.ins().select(wins, v, old), e.b.ins().select(wins, here, known));
        e.b.def_var(best, v);
        e.b.def_var(place, here);
    });
    e.b.use_var(place)
}

/// Loops over `dims` of (extent, step), outermost first.
fn nest(
    e: &mut Emitter<'_, '_>,
    dims: &[(usize, usize)],
    base: Value,
    body: &mut dyn FnMut(&mut Emitter<'_, '_>, Value),
) {
    match dims.split_first() {
        None => body(e, base),
        Some((&(extent, step), inner)) => e.times(extent, |e, i| {
            let base = e.at(base, i, step);
            nest(e, inner, base, body);
        }),
    }
}
