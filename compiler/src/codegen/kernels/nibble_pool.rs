//! Pools of codes in the nibble layout, up to 64 channels at once by boolean arithmetic. Reference: `pool::windows`.
//!
//! With the high plane h in bits 4 … 7 and the low plane l in bits 0 … 3 of each byte, the greater of two codes is
//! h = a|b, l = a unless b's high bit alone is set, or b unless a's is. A min pool is a max pool of complements.
//!
//! Cost: about 12 operations a tap and vector. Limits: codes of at most 2 bits; a 1-bit code has no high plane, for which
//! the same formula holds. Needs nothing beyond the level's base.

use super::pool::each_tap;
use super::{KernelError, Operand, Task};
use crate::codegen::emitter::{Emitter, I32X4};
use crate::graph::ops::Window;
use crate::graph::types::{CodeType, Layout};
use cranelift_codegen::ir::{InstBuilder, Type, Value, types};

/// Bytes that a vector holds: the widest that divides a position's bytes.
fn vector(bytes: usize) -> (Type, usize) {
    let widths = [(I32X4, 16), (types::I64, 8), (types::I32, 4), (types::I16, 2)];
    widths.into_iter().find(|(_, n)| bytes.is_multiple_of(*n)).unwrap_or((types::I8, 1))
}

/// Whether this kernel can run the step: nibbles to nibbles with nothing behind it.
pub(super) fn fits(task: &Task<'_>, input: &Operand) -> bool {
    let nibbles = |o: &Operand| o.buffer.layout == Layout::Nibbles;
    task.step.chain.is_empty() && nibbles(input) && nibbles(&task.result)
}

/// Emits the pool; `minimum` marks the channels that take the least code.
pub(super) fn emit(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    window: &Window,
    input: &Operand,
    code: &CodeType,
    minimum: Option<&[i64]>,
) -> Result<(), KernelError> {
    let bytes = window.channels / 4;
    let (ty, width) = vector(bytes);
    // What complements a code: its bits in both planes on the channels of a min pool.
    let flips = minimum.map(|m| {
        let top = if code.bits() > 1 { 0x11 } else { 0x01 };
        let flip = |q: &[i64]| q.iter().enumerate().map(|(i, &v)| if v != 0 { top << i } else { 0u8 }).sum();
        e.data("minimum", m.chunks(4).map(flip).collect())
    });
    task.each_position(e, |task, e, p| {
        e.times(bytes / width, |e, i| {
            let channel = e.mul(i, width);
            let flip = flips.map(|table| {
                let at = e.b.ins().iadd(table, channel);
                e.read(ty, at, 0)
            });
            let zero = constant(e, ty, 0);
            let best = e.var(zero);
            each_tap(e, window, [p.y, p.x], |e, flat| {
                let at = e.at(input.base, flat, bytes);
                let at = e.b.ins().iadd(at, channel);
                let v = e.read(ty, at, 0);
                let v = flip.map_or(v, |f| e.b.ins().bxor(v, f));
                let old = e.b.use_var(best);
                let new = greater(e, ty, old, v);
                e.b.def_var(best, new);
            });
            let v = e.b.use_var(best);
            let v = flip.map_or(v, |f| e.b.ins().bxor(v, f));
            let at = e.at(task.result.base, p.flat, bytes);
            let at = e.b.ins().iadd(at, channel);
            e.store(v, at, 0);
        });
        Ok(())
    })
}

fn constant(e: &mut Emitter<'_, '_>, ty: Type, byte: u8) -> Value {
    if ty == I32X4 {
        return e.splat_i32(i32::from_le_bytes([byte; 4]));
    }
    let v = i64::from_le_bytes([byte; 8]);
    let v = if ty == types::I64 { v } else { v & ((1 << ty.bits()) - 1) };
    e.b.ins().iconst(ty, v)
}

fn greater(e: &mut Emitter<'_, '_>, ty: Type, a: Value, b: Value) -> Value {
    let low = constant(e, ty, 0x0F);
    let high = constant(e, ty, 0xF0);
    let down = |e: &mut Emitter<'_, '_>, v: Value| {
        let v = e.b.ins().ushr_imm_u(v, 4);
        e.b.ins().band(v, low)
    };
    let (ah, bh) = (down(e, a), down(e, b));
    let only_b = e.b.ins().band_not(bh, ah);
    let only_a = e.b.ins().band_not(ah, bh);
    let (al, bl) = (e.b.ins().band_not(a, only_b), e.b.ins().band_not(b, only_a));
    let l = e.b.ins().bor(al, bl);
    let l = e.b.ins().band(l, low);
    let h = e.b.ins().bor(a, b);
    let h = e.b.ins().band(h, high);
    e.b.ins().bor(h, l)
}
