//! The strip that the split-integer and AMX kernels read: the levels of some input rows side by side, padding as zeros. Reads codes
//! in any layout.

use super::int_conv::IntLayer;
use super::layer::whole_words;
use super::{Operand, load_lanes_at};
use crate::codegen::chain::levels;
use crate::codegen::emitter::{Emitter, I32X4};
use crate::codegen::image::FunctionId;
use crate::codegen::tiles::unpack_avx512::{Planes, Unpack};
use crate::graph::types::Layout;
use crate::lower::Buffer;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};

/// A strip in memory.
pub(super) struct Strip {
    /// Its address.
    pub base: Value,
    /// Bytes of a row.
    pub row: usize,
    /// Rows to fill.
    pub tall: Value,
    /// Positions of a row.
    pub columns: usize,
    /// Bytes of a level: 1 or 2.
    pub element: usize,
}

/// Fills the strip with what the positions from row `top` and column `left` of the result on read. Rows are written in
/// ascending order and each from its left to its right, so what a store writes too far is written over, or lies behind what
/// anyone reads.
pub(super) fn copy(e: &mut Emitter<'_, '_>, layer: &IntLayer<'_>, strip: &Strip, [top, left]: [Value; 2]) {
    let g = &layer.g;
    let pixel = g.channels * strip.element;
    let start = |e: &mut Emitter<'_, '_>, at: Value, i: usize| {
        let at = e.mul(at, g.strides[i]);
        e.b.ins().iadd_imm_s(at, -(g.pads[i] as i64))
    };
    let (top, left) = (start(e, top, 0), start(e, left, 1));
    // Padding columns on the left, then those of the input.
    let (zero, columns) = (e.int(0), e.int(strip.columns));
    let before = e.b.ins().isub(zero, left);
    let before = e.b.ins().smax(before, zero);
    let before = e.min(before, columns);
    let first = e.b.ins().smax(left, zero);
    let (room, width) = (e.b.ins().isub(columns, before), e.int(g.input[1]));
    let count = e.b.ins().isub(width, first);
    let count = e.min(count, room);
    let count = e.b.ins().smax(count, zero);
    let (filled, after) = (e.mul(before, pixel), e.b.ins().iadd(before, count));
    let after = e.mul(after, pixel);
    let end = e.int(strip.row);
    e.range(zero, strip.tall, 1, |e, r| {
        let out = e.at(strip.base, r, strip.row);
        let y = e.b.ins().iadd(top, r);
        let inside = e.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, y, g.input[0] as i64);
        e.branch(
            inside,
            |e| {
                zeros(e, out, zero, filled);
                let (from, to) = (e.at(first, y, g.input[1]), e.b.ins().iadd(out, filled));
                pixels(e, layer, strip.element, [from, to], count);
                zeros(e, out, after, end);
            },
            |e| zeros(e, out, zero, end),
        );
    });
}

/// Zeros from byte `start` to `end` of a row, and up to 15 bytes beyond.
pub(super) fn zeros(e: &mut Emitter<'_, '_>, out: Value, start: Value, end: Value) {
    let zero = e.splat_i32(0);
    e.range(start, end, 16, |e, i| {
        let at = e.b.ins().iadd(out, i);
        e.store(zero, at, 0);
    });
}

/// The levels of `count` neighbouring positions from the flat index `from` on.
fn pixels(e: &mut Emitter<'_, '_>, layer: &IntLayer<'_>, element: usize, [from, to]: [Value; 2], count: Value) {
    let input = &layer.input;
    let (c, h, w) = input.buffer.image;
    // A channel that only the layer has holds the greatest code.
    let (channels, a) = (layer.g.channels, &layer.a);
    let constant = (channels > c).then(|| a.level(a.top.into()));
    let zero = e.int(0);
    let caller = input.buffer.layout == Layout::Dense && input.buffer.element() == 1;
    if caller && h * w > 1 {
        let start = if c == 3 && channels == 3 && (a.step, a.offset) == (1, 0) && h * w < 1 << 24 {
            sixteens(e, input, element, [from, to], count)
        } else {
            zero
        };
        return e.range(start, count, 1, |e, x| {
            let at = e.b.ins().iadd(input.base, from);
            let (at, to) = (e.b.ins().iadd(at, x), e.at(to, x, channels * element));
            let each = |e: &mut Emitter<'_, '_>, at: Value, to: Value, offset: i32| {
                let v = e.b.ins().uload8(types::I32, MemFlagsData::new().with_notrap(), at, offset * (h * w) as i32);
                let v = if a.step == 1 { v } else { e.b.ins().imul_imm_s(v, i64::from(a.step)) };
                let v = if a.offset == 0 { v } else { e.b.ins().iadd_imm_s(v, i64::from(a.offset)) };
                store_level(e, element, v, to, offset * element as i32);
            };
            if c <= 4 && h * w < 1 << 24 {
                (0..c as i32).for_each(|k| each(e, at, to, k));
            } else {
                e.times(c, |e, k| {
                    let (at, to) = (e.at(at, k, h * w), e.at(to, k, element));
                    each(e, at, to, 0);
                });
            }
            append(e, element, constant, to, c * element);
        });
    }
    if let Some(unpack) = unpacked(e, layer, element) {
        let from = e.at(input.base, from, input.buffer.pixel());
        e.call(unpack, &[from, to, count]);
        return;
    }
    e.range(zero, count, 1, |e, x| {
        let flat = e.b.ins().iadd(from, x);
        let to = e.at(to, x, channels * element);
        let end = e.int(c);
        e.range(zero, end, 4, |e, channel| {
            let codes = load_lanes_at(e, input, flat, channel);
            let levels = levels(e, &layer.a, codes);
            let narrow = e.b.ins().snarrow(levels, levels);
            let to = e.at(to, channel, element);
            if element == 2 {
                let v = e.cast(types::I64X2, narrow);
                let v = e.b.ins().extractlane(v, 0);
                e.store(v, to, 0);
            } else {
                let v = e.b.ins().unarrow(narrow, narrow);
                let v = e.cast(I32X4, v);
                let v = e.b.ins().extractlane(v, 0);
                e.store(v, to, 0);
            }
        });
        append(e, element, constant, to, c * element);
    });
}

/// What makes bytes of codes that must be the levels, where the level has it.
fn unpacked(e: &mut Emitter<'_, '_>, layer: &IntLayer<'_>, element: usize) -> Option<FunctionId> {
    let (b, a) = (&layer.input.buffer, &layer.a);
    let same = element == 1 && (a.step, a.offset) == (1, 0) && b.image.0 == layer.g.channels;
    if same { unpacking(e, b) } else { None }
}

/// What makes bytes of whole words of codes, `(codes, bytes, positions)`, where the level has it.
pub(super) fn unpacking(e: &mut Emitter<'_, '_>, b: &Buffer) -> Option<FunctionId> {
    let (planes, channels) = (Planes::of(b), b.image.0);
    let packed = b.layout == Layout::Nibbles || b.layout == Layout::Bits && whole_words(b);
    if !packed || !channels.is_multiple_of(64) || !planes.fits(e.level) {
        return None;
    }
    // A distance that fits no instruction leaves it to the loop.
    Unpack { planes, from: b.pixel(), blocks: channels / 64 }.function(e.image).ok()
}

/// Interleaves three planes of bytes, sixteen positions at a time; gives how many positions that were.
fn sixteens(e: &mut Emitter<'_, '_>, input: &Operand, element: usize, [from, to]: [Value; 2], count: Value) -> Value {
    let area = (input.buffer.image.1 * input.buffer.image.2) as i32;
    // Where the bytes of each plane go in each third of the result; an index of 255 gives 0.
    let place = |third: usize, plane: usize| {
        let at = |i: usize| if (16 * third + i) % 3 == plane { ((16 * third + i) / 3) as u8 } else { 255 };
        (0..16).map(at).collect::<Vec<u8>>()
    };
    let places = (0..9).flat_map(|i| place(i / 3, i % 3)).collect();
    let places = e.data("interleave", places);
    let at = e.b.ins().iadd(input.base, from);
    let (zero, whole) = (e.int(0), e.b.ins().band_imm_s(count, -16));
    let whole = e.b.ins().smax(whole, zero);
    e.range(zero, whole, 16, |e, x| {
        let (at, to) = (e.b.ins().iadd(at, x), e.at(to, x, 3 * element));
        let planes = [0, 1, 2].map(|k| e.load(types::I8X16, at, k * area));
        for third in 0..3 {
            let parts = [0, 1, 2].map(|plane| {
                let index = e.read(types::I8X16, places, ((third * 3 + plane) * 16) as i32);
                e.shuffle_bytes(planes[plane], index)
            });
            let both = e.b.ins().bor(parts[0], parts[1]);
            let bytes = e.b.ins().bor(both, parts[2]);
            let out = (third * 16 * element) as i32;
            if element == 1 {
                e.store(bytes, to, out);
            } else {
                let (low, high) = (e.b.ins().uwiden_low(bytes), e.b.ins().uwiden_high(bytes));
                e.store(low, to, out);
                e.store(high, to, out + 16);
            }
        }
    });
    whole
}

fn append(e: &mut Emitter<'_, '_>, element: usize, level: Option<i64>, to: Value, offset: usize) {
    if let Some(level) = level {
        let v = e.b.ins().iconst(types::I32, level);
        store_level(e, element, v, to, offset as i32);
    }
}

/// Stores one level of 32 bits.
fn store_level(e: &mut Emitter<'_, '_>, element: usize, v: Value, to: Value, offset: i32) {
    let flags = MemFlagsData::new().with_notrap();
    match element {
        2 => e.b.ins().istore16(flags, v, to, offset),
        _ => e.b.ins().istore8(flags, v, to, offset),
    };
}
