//! Conversions between the operands' layouts, one sample each. The whole destination is written, border included.

use crate::codegen::emitter::Emitter;
use crate::lower::train::layouts::{Levels, Maps, Pairs, Planes};
use cranelift_codegen::ir::{InstBuilder, Type, Value, types};
use cranelift_frontend::Variable;

/// Levels of a vector.
const LANES: usize = 8;

/// Where an element of the source lies: base + offset(c) + y·row + x·column.
struct Source {
    base: Value,
    row: usize,
    column: usize,
    element: Type,
    /// Bytes become floats.
    pixels: bool,
}

/// i16 planes from levels, eight channels and columns at a time.
pub fn emit_planes_from_levels(e: &mut Emitter<'_, '_>, from: &Levels, src: Value, to: &Planes, dst: Value) {
    let group = from.channels / from.groups;
    let src = e.add(src, from.origin());
    clear(e, dst, to.channels * to.plane());
    e.times(from.groups, |e, g| {
        let src = e.at(src, g, group.next_multiple_of(2) * 2);
        let dst = e.at(dst, g, group * to.plane());
        e.times(group / LANES, |e, block| {
            let (src, dst) = (e.at(src, block, LANES * 2), e.at(dst, block, LANES * to.plane()));
            channels_from_levels(e, from, src, to, dst, LANES);
        });
        if !group.is_multiple_of(LANES) {
            let whole = group / LANES * LANES;
            let (src, dst) = (e.add(src, whole * 2), e.add(dst, whole * to.plane()));
            channels_from_levels(e, from, src, to, dst, group % LANES);
        }
    });
}

/// The planes of `channels` ≤ 8 channels; both addresses are of the first of them.
fn channels_from_levels(e: &mut Emitter<'_, '_>, from: &Levels, src: Value, to: &Planes, dst: Value, channels: usize) {
    let ([h, w], step) = (to.image, to.phases[1]);
    e.times(h, |e, y| {
        let src = e.at(src, y, from.row());
        let bordered = e.add(y, to.border[0]);
        let row = phase_row(e, to, dst, bordered);
        for first in 0..step.min(w) {
            let count = (w - first).div_ceil(step);
            let src = e.add(src, first * from.pixel());
            let dst = e.add(row, to.offset(0, first + to.border[1]));
            let block = |e: &mut Emitter<'_, '_>, src: Value, dst: Value, columns: usize| {
                transpose_levels(e, src, step * from.pixel(), dst, to.plane(), [channels, columns]);
            };
            e.times(count / LANES, |e, i| {
                let (src, dst) = (e.at(src, i, LANES * step * from.pixel()), e.at(dst, i, LANES * 2));
                block(e, src, dst, LANES);
            });
            if count < LANES {
                block(e, src, dst, count);
            } else if !count.is_multiple_of(LANES) {
                // The last eight, some of them again.
                let again = count - LANES;
                let (src, dst) = (e.add(src, again * step * from.pixel()), e.add(dst, again * 2));
                block(e, src, dst, LANES);
            }
        }
    });
}

/// Up to eight channels of up to eight columns, `column` bytes apart, to rows `plane` bytes apart.
fn transpose_levels(
    e: &mut Emitter<'_, '_>,
    src: Value,
    column: usize,
    dst: Value,
    plane: usize,
    [channels, columns]: [usize; 2],
) {
    let zero = e.splat_i32(0);
    let zero = e.cast(types::I8X16, zero);
    let mut v = [zero; LANES];
    for (i, v) in v.iter_mut().enumerate().take(columns) {
        *v = e.read(types::I8X16, src, (i * column) as i32);
    }
    // Each round joins vectors of columns that are 4, 2, 1 apart, so that after the last a vector is a channel.
    for bytes in [2, 4, 8] {
        let half = |e: &mut Emitter<'_, '_>, i: usize, high: usize| {
            let (a, b) = match bytes {
                2 => (v[2 * i], v[2 * i + 1]),
                4 => (v[i / 2 * 4 + i % 2], v[i / 2 * 4 + i % 2 + 2]),
                _ => (v[i], v[i + 4]),
            };
            interleave(e, a, b, bytes, high * 8 / bytes)
        };
        let mut next = v;
        for i in 0..LANES / 2 {
            let at = match bytes {
                2 => [2 * i, 2 * i + 1],
                4 => [i / 2 * 4 + i % 2 * 2, i / 2 * 4 + i % 2 * 2 + 1],
                _ => [2 * i, 2 * i + 1],
            };
            next[at[0]] = half(e, i, 0);
            next[at[1]] = half(e, i, 1);
        }
        v = next;
    }
    for (i, v) in v.into_iter().enumerate().take(channels) {
        store_levels(e, v, dst, i * plane, columns);
    }
}

/// Stores the first `count` ≤ 8 levels of a vector.
fn store_levels(e: &mut Emitter<'_, '_>, v: Value, at: Value, offset: usize, count: usize) {
    if count == LANES {
        return e.store(v, at, offset as i32);
    }
    let mut done = 0;
    for (ty, vector, lanes) in
        [(types::I64, types::I64X2, 4), (types::I32, types::I32X4, 2), (types::I16, types::I16X8, 1)]
    {
        if count - done >= lanes {
            let vector = e.cast(vector, v);
            let part = e.b.ins().extractlane(vector, (done / lanes) as u8);
            debug_assert_eq!(e.b.func.dfg.value_type(part), ty);
            e.store(part, at, (offset + 2 * done) as i32);
            done += lanes;
        }
    }
}

/// f32 planes from maps.
pub fn emit_planes_from_maps(e: &mut Emitter<'_, '_>, from: &Maps, src: Value, to: &Planes, dst: Value) {
    let (row, column) = (from.image[1] * from.pixel(), from.pixel());
    let source = Source { base: src, row, column, element: types::F32, pixels: false };
    planes(e, &source, to, dst, |e, c| e.mul(c, 4));
}

/// f32 planes from dense (C,H,W) f32, or from bytes.
pub fn emit_planes_from_dense(e: &mut Emitter<'_, '_>, pixels: bool, src: Value, to: &Planes, dst: Value) {
    let (element, size) = if pixels { (types::I8, 1) } else { (types::F32, 4) };
    let [h, w] = to.image;
    let source = Source { base: src, row: w * size, column: size, element, pixels };
    planes(e, &source, to, dst, |e, c| e.mul(c, h * w * size));
}

fn planes(
    e: &mut Emitter<'_, '_>,
    source: &Source,
    to: &Planes,
    dst: Value,
    channel: impl Fn(&mut Emitter<'_, '_>, Value) -> Value,
) {
    let [h, w] = to.image;
    clear(e, dst, to.channels * to.plane());
    let ty = if to.element == 2 { types::I16 } else { types::F32 };
    e.times(to.channels, |e, c| {
        let offset = channel(e, c);
        let from = e.b.ins().iadd(source.base, offset);
        let plane = e.at(dst, c, to.plane());
        // Row by row of each phase: the phase's columns are neighbours.
        e.times(h, |e, y| {
            let from = e.at(from, y, source.row);
            let bordered = e.add(y, to.border[0]);
            let row = phase_row(e, to, plane, bordered);
            for first in 0..to.phases[1].min(w) {
                let count = (w - first).div_ceil(to.phases[1]);
                let from = e.add(from, first * source.column);
                let at = e.add(row, to.offset(0, first + to.border[1]));
                e.times(count, |e, i| {
                    let from = e.at(from, i, to.phases[1] * source.column);
                    let v = e.read(source.element, from, 0);
                    let v = if source.pixels { pixel(e, v) } else { v };
                    debug_assert_eq!(e.b.func.dfg.value_type(v), ty);
                    let at = e.at(at, i, to.element);
                    e.store(v, at, 0);
                });
            }
        });
    });
}

/// Address of the bordered row `y` of the first column's phase.
fn phase_row(e: &mut Emitter<'_, '_>, to: &Planes, plane: Value, y: Value) -> Value {
    if to.phases[0] == 1 {
        return e.at(plane, y, to.row());
    }
    let phases = e.int(to.phases[0]);
    let (index, phase) = (e.b.ins().udiv(y, phases), e.b.ins().urem(y, phases));
    let at = e.at(plane, phase, to.phases[1] * to.phase());
    e.at(at, index, to.row())
}

fn pixel(e: &mut Emitter<'_, '_>, v: Value) -> Value {
    let v = e.b.ins().uextend(types::I32, v);
    e.b.ins().fcvt_from_uint(types::F32, v)
}

/// Pairs of gradient levels.
pub fn emit_pairs_from_levels(e: &mut Emitter<'_, '_>, from: &Levels, src: Value, to: &Pairs, dst: Value) {
    let [h, w] = to.image;
    let group = to.channels / to.groups;
    let base = e.add(src, from.origin());
    let cursor = e.var(dst);
    e.times(to.groups, |e, g| {
        let base = e.at(base, g, group.next_multiple_of(2) * 2);
        e.times(to.blocks(), |e, block| {
            let base = e.at(base, block, 32);
            e.times(h, |e, y| {
                let row = e.at(base, y, from.row());
                e.times(w / 2, |e, x| {
                    let at = e.at(row, x, 2 * from.pixel());
                    pair(e, at, Some(from.pixel()), cursor);
                });
                if w % 2 == 1 {
                    let at = e.add(row, (w - 1) * from.pixel());
                    pair(e, at, None, cursor);
                }
            });
        });
    });
}

/// Interleaves 16 channels of a column with those of the next, `next` bytes on, or with zero. The channels beyond the group's
/// last are whatever stands there: their sums are not read.
fn pair(e: &mut Emitter<'_, '_>, at: Value, next: Option<usize>, cursor: Variable) {
    let to = e.b.use_var(cursor);
    for half in 0..2 {
        let first = e.read(types::I16X8, at, 16 * half);
        let second = match next {
            Some(next) => e.read(types::I16X8, at, 16 * half + next as i32),
            None => {
                let zero = e.splat_i32(0);
                e.cast(types::I16X8, zero)
            }
        };
        for (i, lane) in [(0, 0), (1, 4)] {
            let v = interleave(e, first, second, 2, lane);
            e.store(v, to, 32 * half + 16 * i);
        }
    }
    let to = e.add(to, 64);
    e.b.def_var(cursor, to);
}

/// Elements of `bytes` bytes of `a` and `b` from number `first` on, alternating, as many as a vector holds.
pub(super) fn interleave(e: &mut Emitter<'_, '_>, a: Value, b: Value, bytes: usize, first: usize) -> Value {
    let lanes = first..first + 8 / bytes;
    let from = |start: usize| (start..start + bytes).map(|i| i as u8);
    let bytes: Vec<u8> = lanes.flat_map(|l| from(l * bytes).chain(from(16 + l * bytes))).collect();
    let mask = e.b.func.dfg.immediates.push(bytes.into());
    let (a, b) = (e.cast(types::I8X16, a), e.cast(types::I8X16, b));
    e.b.ins().shuffle(a, b, mask)
}

/// Writes zeros.
fn clear(e: &mut Emitter<'_, '_>, at: Value, bytes: usize) {
    let zero = e.splat_i32(0);
    // The slack behind every layout takes the end of the last vector.
    e.times(bytes.div_ceil(16), |e, i| {
        let at = e.at(at, i, 16);
        e.store(zero, at, 0);
    });
}
