//! Conversions between the operands' layouts, one sample each. The whole destination is written, border included.

use crate::codegen::emitter::Emitter;
use crate::lower::train::layouts::{Levels, Maps, Pairs, Planes};
use cranelift_codegen::ir::{InstBuilder, Type, Value, types};
use cranelift_frontend::Variable;

/// Where an element of the source lies: base + offset(c) + y·row + x·column.
struct Source {
    base: Value,
    row: usize,
    column: usize,
    element: Type,
    /// Bytes become floats.
    pixels: bool,
}

/// i16 planes from levels.
pub fn emit_planes_from_levels(e: &mut Emitter<'_, '_>, from: &Levels, src: Value, to: &Planes, dst: Value) {
    let base = e.add(src, from.origin());
    let source = Source { base, row: from.row(), column: from.pixel(), element: types::I16, pixels: false };
    let group = from.channels / from.groups;
    planes(e, &source, to, dst, |e, c| {
        let one = e.int(group);
        let (g, i) = (e.b.ins().udiv(c, one), e.b.ins().urem(c, one));
        let slot = e.at(i, g, group.next_multiple_of(2));
        e.mul(slot, 2)
    });
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
        for (i, first_lane) in [(0, 0), (1, 4)] {
            let v = interleave(e, first, second, first_lane);
            e.store(v, to, 32 * half + 16 * i);
        }
    }
    let to = e.add(to, 64);
    e.b.def_var(cursor, to);
}

/// Four lanes of each of two i16x8 from `lane` on, alternating.
fn interleave(e: &mut Emitter<'_, '_>, a: Value, b: Value, lane: u8) -> Value {
    let bytes: Vec<u8> = (lane..lane + 4).flat_map(|l| [2 * l, 2 * l + 1, 16 + 2 * l, 17 + 2 * l]).collect();
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
