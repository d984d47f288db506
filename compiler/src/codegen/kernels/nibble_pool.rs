//! Pools of codes in the nibble layout, up to 64 channels at once by boolean arithmetic. Reference: `pool::windows`.
//!
//! With the high plane h in bits 4 … 7 and the low plane l in bits 0 … 3 of each byte, the codes of a window need two unions,
//! that of the codes and that of h & l: the greatest code has its high bit where any has it, and its low bit where one has
//! both, or, where none has a high bit, where any has a low one. A min pool is a max pool of complements.
//!
//! Cost: 5 operations a tap and vector where all taps are valid. Limits: codes of at most 2 bits; a 1-bit code has no high
//! plane, for which the same holds. Needs nothing beyond the level's base.

use super::layer::whole_words;
use super::pool::each_tap;
use super::{KernelError, Operand, Position, Task};
use crate::codegen::emitter::{Emitter, I32X4};
use crate::graph::ops::Window;
use crate::graph::types::{CodeType, Layout};
use crate::lower::Place;
use cranelift_codegen::ir::{InstBuilder, Type, Value, types};

/// Taps that are unrolled at most where all are valid.
const UNROLLED: usize = 16;

/// A step's pool.
struct Pool<'a> {
    window: &'a Window,
    input: &'a Operand,
    /// Complements of the channels of a min pool.
    flips: Option<Value>,
}

/// The unions over the taps so far.
#[derive(Clone, Copy)]
struct Unions {
    any: Value,
    both: Value,
}

/// Whether this kernel can run the step: nibbles to nibbles, or to whole words of bits, with nothing behind it.
pub(super) fn fits(task: &Task<'_>, input: &Operand) -> bool {
    let (from, to) = (&input.buffer, &task.result.buffer);
    let words = to.layout == Layout::Bits && to.image.0.is_multiple_of(64) && whole_words(to) && to.planes <= 2;
    task.step.chain.is_empty() && from.layout == Layout::Nibbles && (to.layout == Layout::Nibbles || words)
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
    // What complements a code: its bits in both planes on the channels of a min pool.
    let flips = minimum.map(|m| {
        let top = if code.bits() > 1 { 0x11 } else { 0x01 };
        let flip = |q: &[i64]| q.iter().enumerate().map(|(i, &v)| if v != 0 { top << i } else { 0u8 }).sum();
        e.data("minimum", m.chunks(4).map(flip).collect())
    });
    let pool = Pool { window, input, flips };
    let few = window.kernel[0] * window.kernel[1] <= UNROLLED;
    let interior = if few { window.interior() } else { [0..0, 0..0] };
    task.each_tile(
        e,
        1,
        interior,
        |task, e, p| {
            pool.position(e, task, p, true);
            Ok(())
        },
        |task, e, p| {
            pool.position(e, task, p, false);
            Ok(())
        },
    )
}

impl Pool<'_> {
    /// All channels of a position; `inside`: every tap is valid.
    fn position(&self, e: &mut Emitter<'_, '_>, task: &Task<'_>, p: Position, inside: bool) {
        let bytes = self.window.channels / 4;
        if task.result.buffer.layout == Layout::Bits {
            let (pixel, planes) = (task.result.buffer.pixel(), task.result.buffer.planes);
            let to = e.at(task.result.base, p.flat, pixel);
            return e.times(bytes / 16, |e, i| {
                let first = e.mul(i, 16);
                let v = self.vector(e, I32X4, first, p, inside);
                let to = e.at(to, i, 8);
                for plane in 0..planes {
                    let word = word(e, v, plane);
                    e.store(word, to, (plane * task.result.buffer.words() * 8) as i32);
                }
            });
        }
        let to = e.at(task.result.base, p.flat, bytes);
        let one = |e: &mut Emitter<'_, '_>, ty: Type, first: Value| {
            let v = self.vector(e, ty, first, p, inside);
            let at = e.b.ins().iadd(to, first);
            e.store(v, at, 0);
        };
        e.times(bytes / 16, |e, i| {
            let first = e.mul(i, 16);
            one(e, I32X4, first);
        });
        let mut done = bytes / 16 * 16;
        for (ty, width) in [(types::I64, 8), (types::I32, 4), (types::I16, 2), (types::I8, 1)] {
            if bytes & width != 0 {
                let first = e.int(done);
                one(e, ty, first);
                done += width;
            }
        }
    }

    /// The greatest codes of the channels of a vector from byte `first` on.
    fn vector(&self, e: &mut Emitter<'_, '_>, ty: Type, first: Value, p: Position, inside: bool) -> Value {
        let bytes = self.window.channels / 4;
        let own = matches!(self.input.buffer.place, Place::Worker(_));
        let base = e.b.ins().iadd(self.input.base, first);
        let flip = self.flips.map(|table| {
            let at = e.b.ins().iadd(table, first);
            e.read(ty, at, 0)
        });
        let zero = constant(e, ty, 0);
        let unions = if inside {
            let origin = [(p.y, 0), (p.x, 1)].map(|(v, i)| {
                let v = e.mul(v, self.window.strides[i]);
                e.b.ins().iadd_imm_s(v, -(self.window.pads[i] as i64))
            });
            let flat = e.at(origin[1], origin[0], self.window.input[1]);
            let at = e.at(base, flat, bytes);
            let mut unions = Unions { any: zero, both: zero };
            for tap in 0..self.window.kernel[0] * self.window.kernel[1] {
                let [ky, kx] = [tap / self.window.kernel[1], tap % self.window.kernel[1]];
                let [dy, dx] = self.window.dilations;
                let offset = (ky * dy * self.window.input[1] + kx * dx) * bytes;
                let at = e.add(at, offset);
                unions = unions.with(e, ty, (at, own), flip);
            }
            unions
        } else {
            let (any, both) = (e.var(zero), e.var(zero));
            each_tap(e, self.window, [p.y, p.x], |e, flat| {
                let at = e.at(base, flat, bytes);
                let old = Unions { any: e.b.use_var(any), both: e.b.use_var(both) };
                let new = old.with(e, ty, (at, own), flip);
                e.b.def_var(any, new.any);
                e.b.def_var(both, new.both);
            });
            Unions { any: e.b.use_var(any), both: e.b.use_var(both) }
        };
        let v = unions.greatest(e, ty);
        flip.map_or(v, |f| e.b.ins().bxor(v, f))
    }
}

impl Unions {
    /// With one more tap, the codes at an address, whether the task's own.
    fn with(self, e: &mut Emitter<'_, '_>, ty: Type, (at, own): (Value, bool), flip: Option<Value>) -> Unions {
        // What the task itself has written must not be read ahead of that.
        let v = if own { e.load(ty, at, 0) } else { e.read(ty, at, 0) };
        let v = flip.map_or(v, |f| e.b.ins().bxor(v, f));
        let high = e.b.ins().ushr_imm_u(v, 4);
        let both = e.b.ins().band(v, high);
        Unions { any: e.b.ins().bor(self.any, v), both: e.b.ins().bor(self.both, both) }
    }

    /// The greatest codes. Bits 4 … 7 of `both` hold what neighbours left there.
    fn greatest(self, e: &mut Emitter<'_, '_>, ty: Type) -> Value {
        let (low, high) = (constant(e, ty, 0x0F), constant(e, ty, 0xF0));
        let h = e.b.ins().band(self.any, high);
        let down = e.b.ins().ushr_imm_u(h, 4);
        let alone = e.b.ins().band_not(self.any, down);
        let l = e.b.ins().bor(alone, self.both);
        let l = e.b.ins().band(l, low);
        e.b.ins().bor(h, l)
    }
}

/// A plane of 64 codes in nibbles as a word, channel 0 in its lowest bit.
fn word(e: &mut Emitter<'_, '_>, v: Value, plane: usize) -> Value {
    let halves = e.cast(types::I64X2, v);
    let [low, high] = [0, 1].map(|half| {
        let mut x = e.b.ins().extractlane(halves, half);
        if plane > 0 {
            x = e.b.ins().ushr_imm_u(x, 4);
        }
        // Nibbles at every eighth bit, pairs of them at every sixteenth, and so on.
        x = e.b.ins().band_imm_u(x, 0x0F0F_0F0F_0F0F_0F0F);
        for (by, mask) in [(4, 0x00FF_00FF_00FF_00FF), (8, 0x0000_FFFF_0000_FFFF), (16, 0x0000_0000_FFFF_FFFF)] {
            let down = e.b.ins().ushr_imm_u(x, by);
            x = e.b.ins().bor(x, down);
            x = e.b.ins().band_imm_u(x, mask);
        }
        x
    });
    let high = e.b.ins().ishl_imm_u(high, 32);
    e.b.ins().bor(low, high)
}

fn constant(e: &mut Emitter<'_, '_>, ty: Type, byte: u8) -> Value {
    if ty == I32X4 {
        return e.splat_i32(i32::from_le_bytes([byte; 4]));
    }
    let v = i64::from_le_bytes([byte; 8]);
    let v = if ty == types::I64 { v } else { v & ((1 << ty.bits()) - 1) };
    e.b.ins().iconst(ty, v)
}
