//! Bit planes as bytes of four channels, two bits a channel, by which look-ups choose tables. Must never know what is looked up.

use crate::codegen::emitter::Emitter;
use crate::graph::ops::Geometry;
use crate::graph::types::Layout;
use crate::lower::{Buffer, strips};
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// Bytes that a word of 64 channels becomes.
pub(super) const WORD_QUADS: usize = 16;

/// How a position's codes lie where tables are chosen by bytes of four channels: as they are, or spread from bit planes.
#[derive(Clone, Copy)]
pub(super) struct Source {
    /// How many there are of a position: two bits of the codes each.
    pub halves: usize,
    /// Bytes that a group has.
    pub quads: usize,
    /// Bytes from a group to the next.
    pub group: usize,
    /// Bytes from a position to the next.
    pub pixel: usize,
}

impl Source {
    /// Of codes that lie so, `None` where they are neither nibbles nor planes of up to 4 bits.
    pub(super) fn of(g: &Geometry, b: &Buffer) -> Option<Source> {
        let (inner, halves) = (g.channels / g.groups, strips::halves(b)?);
        let [quads, group] = match b.layout {
            Layout::Nibbles => [inner / 4; 2],
            _ => [inner.div_ceil(4), inner.div_ceil(64) * WORD_QUADS],
        };
        Some(Source { halves, quads, group, pixel: g.groups * group })
    }

    /// Spreads so many positions from bit planes, two to a byte of four channels: the lower ones to the second address, the upper
    /// ones `half` bytes behind.
    pub(super) fn spread(self, e: &mut Emitter<'_, '_>, b: &Buffer, count: Value, [from, to]: [Value; 2], half: usize) {
        let (words, plane) = (self.pixel / WORD_QUADS, b.words() * 8);
        let (zero, source, to) = (e.int(0), e.var(from), e.var(to));
        e.range(zero, count, 1, |e, _| {
            e.times(words, |e, word| {
                let from = e.b.use_var(source);
                let (from, to) = (e.at(from, word, 8), e.b.use_var(to));
                let to = e.at(to, word, WORD_QUADS);
                let planes: Vec<Value> = (0..b.planes).map(|p| e.read(types::I64, from, (p * plane) as i32)).collect();
                for (i, pair) in planes.chunks(2).enumerate() {
                    let to = e.add(to, i * half);
                    spread(e, pair, to);
                }
            });
            e.advance(source, b.pixel());
            e.advance(to, self.pixel);
        });
    }
}

/// Writes the bytes of 64 channels from a word of one plane or of two, the first in the lower bits of each byte.
pub(super) fn spread(e: &mut Emitter<'_, '_>, planes: &[Value], to: Value) {
    for half in 0..2 {
        let mut bytes = e.int(0);
        for (p, &plane) in planes.iter().enumerate() {
            let part = e.b.ins().ushr_imm_u(plane, 32 * half);
            let part = nibbles(e, part);
            let part = e.b.ins().ishl_imm_u(part, 4 * p as i64);
            bytes = e.b.ins().bor(bytes, part);
        }
        e.store(bytes, to, 8 * half as i32);
    }
}

/// The eight nibbles of the lower 32 bits, a byte each.
fn nibbles(e: &mut Emitter<'_, '_>, word: Value) -> Value {
    let mut v = e.b.ins().band_imm_s(word, 0xFFFF_FFFF);
    for (by, mask) in [(16, 0x0000_FFFF_0000_FFFF_u64), (8, 0x00FF_00FF_00FF_00FF), (4, 0x0F0F_0F0F_0F0F_0F0F)] {
        let moved = e.b.ins().ishl_imm_u(v, by);
        let both = e.b.ins().bor(v, moved);
        v = e.b.ins().band_imm_s(both, mask as i64);
    }
    v
}
