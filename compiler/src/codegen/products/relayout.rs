//! Conversions between the operands' layouts, one sample each. The whole destination is written, border included.

use crate::codegen::emitter::{Emitter, F32X4};
use crate::lower::train::layouts::{Levels, Maps, Planes, Storage, Strips};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Type, Value, types};
use cranelift_frontend::Variable;

/// Columns that a transposition takes at once.
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

/// Planes of the same or a greater size of element from levels, eight columns at a time. Bytes stay bytes only without a
/// bias.
pub fn emit_planes_from_levels(e: &mut Emitter<'_, '_>, from: &Levels, src: Value, to: &Planes, dst: Value) {
    debug_assert!(to.element == 2 || from.storage == Storage::Bytes { bias: 0 });
    let (group, size, lanes) = (from.channels / from.groups, from.storage.size(), channels_at_once(to));
    let src = e.add(src, from.origin());
    clear(e, dst, to.channels * to.plane());
    e.times(from.groups, |e, g| {
        let src = e.at(src, g, from.group() * size);
        let dst = e.at(dst, g, group * to.plane());
        e.times(group / lanes, |e, block| {
            let (src, dst) = (e.at(src, block, lanes * size), e.at(dst, block, lanes * to.plane()));
            channels_from_levels(e, from, src, to, dst, lanes);
        });
        if !group.is_multiple_of(lanes) {
            let whole = group / lanes * lanes;
            let (src, dst) = (e.add(src, whole * size), e.add(dst, whole * to.plane()));
            channels_from_levels(e, from, src, to, dst, group % lanes);
        }
    });
}

/// Channels in a vector of a column.
fn channels_at_once(to: &Planes) -> usize {
    16 / to.element
}

/// The planes of a vector's channels; both addresses are of the first of them.
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
                transpose_levels(e, from.storage, [src, dst], step * from.pixel(), to, [channels, columns]);
            };
            e.times(count / LANES, |e, i| {
                let (src, dst) = (e.at(src, i, LANES * step * from.pixel()), e.at(dst, i, LANES * to.element));
                block(e, src, dst, LANES);
            });
            if count < LANES {
                block(e, src, dst, count);
            } else if !count.is_multiple_of(LANES) {
                // The last eight, some of them again.
                let again = count - LANES;
                let (src, dst) = (e.add(src, again * step * from.pixel()), e.add(dst, again * to.element));
                block(e, src, dst, LANES);
            }
        }
    });
}

/// A vector of levels of one column, of the size that `element` says, without their bias.
fn read_levels(e: &mut Emitter<'_, '_>, storage: Storage, element: usize, at: Value, offset: usize) -> Value {
    let offset = offset as i32;
    match storage {
        Storage::Words => e.read(types::I16X8, at, offset),
        Storage::Bytes { bias } if element == 2 => {
            let eight = e.b.ins().uload8x8(MemFlagsData::new().with_notrap(), at, offset);
            without(e, eight, types::I16, bias)
        }
        Storage::Bytes { bias } => {
            let sixteen = e.read(types::I8X16, at, offset);
            without(e, sixteen, types::I8, bias)
        }
    }
}

/// Takes a bias off levels.
fn without(e: &mut Emitter<'_, '_>, levels: Value, lane: Type, bias: u8) -> Value {
    if bias == 0 {
        return levels;
    }
    let ty = e.b.func.dfg.value_type(levels);
    let bias = e.b.ins().iconst(lane, i64::from(bias));
    let bias = e.b.ins().splat(ty, bias);
    e.b.ins().isub(levels, bias)
}

/// A vector's channels of up to eight columns, `column` bytes apart, to the rows of planes.
fn transpose_levels(
    e: &mut Emitter<'_, '_>,
    storage: Storage,
    [src, dst]: [Value; 2],
    column: usize,
    to: &Planes,
    [channels, columns]: [usize; 2],
) {
    let zero = e.splat_i32(0);
    let mut v = [e.cast(types::I8X16, zero); LANES];
    for (i, v) in v.iter_mut().enumerate().take(columns) {
        *v = read_levels(e, storage, to.element, src, i * column);
    }
    // Each round joins vectors of columns that are 1, 2, 4 apart: after the last a vector holds the columns of one channel,
    // or of two channels of bytes.
    for round in 0..3 {
        let (bytes, apart) = (to.element << round, 1 << round);
        let mut next = v;
        for (i, half) in (0..LANES).filter(|i| i & apart == 0).flat_map(|i| [(i, 0), (i, 1)]) {
            // The halves of vector i are halves of halves: in order by the reversed bits of i.
            let place = if round == 2 { 2 * [0, 2, 1, 3][i] + half } else { i + half * apart };
            next[place] = interleave(e, v[i], v[i + apart], bytes, half * 8 / bytes);
        }
        v = next;
    }
    for channel in 0..channels {
        let at = channel * to.plane();
        match to.element {
            1 => store_levels(e, v[channel / 2], channel % 2 * LANES, dst, at, columns),
            _ => store_levels(e, v[channel], 0, dst, at, 2 * columns),
        }
    }
}

/// Stores `count` bytes of a vector from byte `first` on, a multiple of 8.
fn store_levels(e: &mut Emitter<'_, '_>, v: Value, first: usize, at: Value, offset: usize, count: usize) {
    if count == 16 {
        return e.store(v, at, offset as i32);
    }
    let mut done = 0;
    for vector in [types::I64X2, types::I32X4, types::I16X8, types::I8X16] {
        let size = vector.lane_type().bytes() as usize;
        if count - done >= size {
            let lanes = e.cast(vector, v);
            let part = e.b.ins().extractlane(lanes, ((first + done) / size) as u8);
            e.store(part, at, (offset + done) as i32);
            done += size;
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
    let floats = source.element == types::F32 && source.column == 4;
    if floats && to.border == [0; 4] && to.phases == [1, 1] && h * w >= 4 {
        // A plane is as it lies.
        e.times(to.channels, |e, c| {
            let offset = channel(e, c);
            let from = e.b.ins().iadd(source.base, offset);
            let plane = e.at(dst, c, to.plane());
            copy(e, from, plane, h * w);
        });
        return;
    }
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
            if floats && to.phases[1] == 1 && w >= 4 {
                let at = e.add(row, to.offset(0, to.border[1]));
                return copy(e, from, at, w);
            }
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

/// Floats that are copied at once.
const SEVERAL: usize = 32;

/// Copies `count` neighbouring floats, at least four; the last four perhaps twice.
fn copy(e: &mut Emitter<'_, '_>, from: Value, to: Value, count: usize) {
    let four = |e: &mut Emitter<'_, '_>, [from, to]: [Value; 2]| {
        let v = e.read(F32X4, from, 0);
        e.store(v, to, 0);
    };
    let several = count / SEVERAL;
    e.times(several, |e, i| {
        let both = [from, to].map(|base| e.at(base, i, 4 * SEVERAL));
        for offset in (0..4 * SEVERAL).step_by(16) {
            let both = both.map(|base| e.add(base, offset));
            four(e, both);
        }
    });
    e.times(count % SEVERAL / 4, |e, i| {
        let both = [from, to].map(|base| e.add(base, 4 * SEVERAL * several)).map(|base| e.at(base, i, 16));
        four(e, both);
    });
    if !count.is_multiple_of(4) {
        let both = [from, to].map(|base| e.add(base, 4 * (count - 4)));
        four(e, both);
    }
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

/// Strips of gradient levels, whose elements are no smaller than the levels.
pub fn emit_strips_from_levels(e: &mut Emitter<'_, '_>, from: &Levels, src: Value, to: &Strips, dst: Value) {
    let ([h, w], n) = (to.image, to.together());
    let group = (to.channels / to.groups).next_multiple_of(from.storage.together());
    let base = e.add(src, from.origin());
    let cursor = e.var(dst);
    e.times(to.groups, |e, g| {
        let base = e.at(base, g, group * from.storage.size());
        e.times(to.blocks(), |e, block| {
            let base = e.at(base, block, 16 * from.storage.size());
            e.times(h, |e, y| {
                let row = e.at(base, y, from.row());
                e.times(w / n, |e, x| {
                    let at = e.at(row, x, n * from.pixel());
                    strip(e, from, to, at, n, cursor);
                });
                if !w.is_multiple_of(n) {
                    let at = e.add(row, w / n * n * from.pixel());
                    strip(e, from, to, at, w % n, cursor);
                }
            });
        });
    });
}

/// Interleaves 16 channels of `columns` columns, and of zeros for those that are missing. The channels beyond the group's
/// last are whatever stands there: their sums are not read.
fn strip(e: &mut Emitter<'_, '_>, from: &Levels, to: &Strips, at: Value, columns: usize, cursor: Variable) {
    let here = e.b.use_var(cursor);
    let zero = e.splat_i32(0);
    for part in 0..to.element {
        let mut v = [zero; 4];
        for (x, v) in v.iter_mut().enumerate().take(columns) {
            let offset = x * from.pixel() + part * (16 / to.element) * from.storage.size();
            *v = read_levels(e, from.storage, to.element, at, offset);
        }
        let join = |e: &mut Emitter<'_, '_>, a: Value, b: Value, bytes: usize| {
            [0, 8 / bytes].map(|first| interleave(e, a, b, bytes, first))
        };
        let whole = if to.element == 2 {
            join(e, v[0], v[1], 2).to_vec()
        } else {
            let (a, b) = (join(e, v[0], v[1], 1), join(e, v[2], v[3], 1));
            [join(e, a[0], b[0], 2), join(e, a[1], b[1], 2)].concat()
        };
        let offset = 64 / to.element * part;
        whole.into_iter().enumerate().for_each(|(i, v)| e.store(v, here, (offset + 16 * i) as i32));
    }
    let next = e.add(here, 64);
    e.b.def_var(cursor, next);
}

/// Elements of `bytes` bytes of `a` and `b` from number `first` on, alternating, as many as a vector holds.
pub fn interleave(e: &mut Emitter<'_, '_>, a: Value, b: Value, bytes: usize, first: usize) -> Value {
    let lanes = first..first + 8 / bytes;
    let from = |start: usize| (start..start + bytes).map(|i| i as u8);
    let bytes: Vec<u8> = lanes.flat_map(|l| from(l * bytes).chain(from(16 + l * bytes))).collect();
    let mask = e.b.func.dfg.immediates.push(bytes.into());
    let (a, b) = (e.cast(types::I8X16, a), e.cast(types::I8X16, b));
    e.b.ins().shuffle(a, b, mask)
}

/// Four vectors of four elements of 4 bytes, transposed.
pub fn transpose_four(e: &mut Emitter<'_, '_>, v: [Value; 4]) -> [Value; 4] {
    let [l0, h0, l1, h1] = [(v[0], v[2], 0), (v[0], v[2], 2), (v[1], v[3], 0), (v[1], v[3], 2)]
        .map(|(a, b, first)| interleave(e, a, b, 4, first));
    [(l0, l1, 0), (l0, l1, 2), (h0, h1, 0), (h0, h1, 2)].map(|(a, b, first)| interleave(e, a, b, 4, first))
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
