//! Bit planes as bytes of four channels, two bits a channel, which choose the table of a 16-entry look-up. Must never know what is
//! looked up.

use crate::codegen::emitter::Emitter;
use cranelift_codegen::ir::{InstBuilder, Value};

/// Bytes that a word of 64 channels becomes.
pub(super) const WORD_QUADS: usize = 16;

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
