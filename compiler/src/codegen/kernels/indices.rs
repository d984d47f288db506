//! Row-major indices of elements: from places and back. Must never know what lies there.

use crate::codegen::emitter::Emitter;
use cranelift_codegen::ir::{InstBuilder, Value};

/// Channel, row and column.
pub(super) type Point = [Value; 3];

/// Elements from one place of each axis to the next.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut out = vec![1; shape.len()];
    let mut inner = 1;
    for (s, d) in out.iter_mut().zip(shape).rev() {
        *s = inner;
        inner *= d;
    }
    out
}

/// v / by, unsigned.
pub(super) fn divide(e: &mut Emitter<'_, '_>, v: Value, by: usize) -> Value {
    if by == 1 {
        return v;
    }
    let by = e.int(by);
    e.b.ins().udiv(v, by)
}

/// v mod by, unsigned.
pub(super) fn remainder(e: &mut Emitter<'_, '_>, v: Value, by: usize) -> Value {
    let by = e.int(by);
    e.b.ins().urem(v, by)
}

/// The row-major index of a place.
pub(super) fn flatten(e: &mut Emitter<'_, '_>, [c, y, x]: Point, (_, h, w): (usize, usize, usize)) -> Value {
    if h * w == 1 {
        return c;
    }
    let row = e.at(y, c, h);
    e.at(x, row, w)
}

/// Σ digit·step of a row-major index under `shape`.
pub(super) fn along(e: &mut Emitter<'_, '_>, index: Value, shape: &[usize], steps: &[usize]) -> Value {
    let (mut rest, mut sum) = (index, e.int(0));
    for (i, (&d, &s)) in shape.iter().zip(steps).enumerate().rev() {
        let digit = if i == 0 { rest } else { remainder(e, rest, d) };
        sum = e.at(sum, digit, s);
        rest = divide(e, rest, d);
    }
    sum
}
