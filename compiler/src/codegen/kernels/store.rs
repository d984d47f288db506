//! The tail of every kernel: runs the chain over the channels of one position and stores the result in its layout.

use super::operand::load_broadcast;
use super::walk::WORD;
use super::wide_chain::{SIXTEEN, packs_sixteen};
use super::{KernelError, Position, Task, Words};
use crate::codegen::emitter::{Emitter, F32X4};
use crate::codegen::target::Arch;
use crate::graph::types::Layout;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Type, Value, types};

/// Lanes of the step's main result at a channel.
type Source<'f> = dyn FnMut(&mut Emitter<'_, '_>, Value) -> Result<Value, KernelError> + 'f;

impl Task<'_> {
    /// Runs the chain over the result's channels at one position and stores: `words` limits it to these words of channels.
    pub(super) fn finish(
        &self,
        e: &mut Emitter<'_, '_>,
        p: Position,
        words: Words,
        source: &mut Source<'_>,
    ) -> Result<(), KernelError> {
        let mut failed = None;
        let mut lanes = |e: &mut Emitter<'_, '_>, channel: Value| {
            let value = source(e, channel).and_then(|v| {
                self.chain.emit(e, self.step.source, v, channel, &mut |e, other| match self.operands.get(&other) {
                    Some(o) => load_broadcast(e, o, self.result.buffer.image, p, channel),
                    None => e.splat_i32(0),
                })
            });
            match value {
                Ok(v) => v,
                Err(error) => {
                    failed = Some(error);
                    e.splat_i32(0)
                }
            }
        };
        let layout = self.result.buffer.layout;
        let wide = packs_sixteen(&self.result.buffer);
        let mut codes = |e: &mut Emitter<'_, '_>, c| if wide { sixteen(e, c, &mut lanes) } else { lanes(e, c) };
        if layout == Layout::Bits {
            self.store_bits(e, p, words, &mut codes);
        } else if wide {
            self.store_nibbles(e, p, words, &mut codes);
        } else {
            let end = self.result.buffer.pitch();
            let (start, end) = channels(e, words, end);
            e.range(start, end, 4, |e, channel| {
                let v = lanes(e, channel);
                self.store_lanes(e, p, channel, v);
            });
        }
        failed.map_or(Ok(()), Err)
    }

    /// [`Task::finish`] of lanes of type `ty` that lie in memory, four bytes a channel.
    pub(super) fn finish_from(
        &self,
        e: &mut Emitter<'_, '_>,
        p: Position,
        words: Words,
        lanes: Value,
        ty: Type,
    ) -> Result<(), KernelError> {
        self.finish(e, p, words, &mut |e, channel| {
            let at = e.at(lanes, channel, 4);
            Ok(e.load(ty, at, 0))
        })
    }

    /// Stores the codes of a position that lie in memory, a byte a channel; see [`packs_sixteen`].
    pub(super) fn store_packed(&self, e: &mut Emitter<'_, '_>, p: Position, words: Words, bytes: Value) {
        let mut codes = |e: &mut Emitter<'_, '_>, channel: Value| {
            let at = e.b.ins().iadd(bytes, channel);
            e.load(types::I8X16, at, 0)
        };
        match self.result.buffer.layout {
            Layout::Bits => self.store_bits(e, p, words, &mut codes),
            _ => self.store_nibbles(e, p, words, &mut codes),
        }
    }

    fn store_lanes(&self, e: &mut Emitter<'_, '_>, p: Position, channel: Value, v: Value) {
        let (c, h, w) = self.result.buffer.image;
        if self.result.buffer.layout == Layout::Nibbles {
            let row = e.at(self.result.base, p.flat, self.result.buffer.pixel());
            let at = e.b.ins().ushr_imm_u(channel, 2);
            let at = e.b.ins().iadd(row, at);
            let mut byte = plane_bits(e, v, 0);
            if self.result.buffer.planes > 1 {
                let high = plane_bits(e, v, 1);
                let high = e.b.ins().ishl_imm_u(high, 4);
                byte = e.b.ins().bor(byte, high);
            }
            e.b.ins().istore8(MemFlagsData::new().with_notrap(), byte, at, 0);
            return;
        }
        if self.result.buffer.layout == Layout::Nhwc || (h * w == 1 && c % 4 == 0) {
            let row = e.at(self.result.base, p.flat, self.result.buffer.pitch() * 4);
            let at = e.at(row, channel, 4);
            return e.store(v, at, 0);
        }
        for lane in 0..4u8 {
            let one = e.b.ins().extractlane(v, lane);
            let channel = e.add(channel, lane.into());
            let plane = e.at(self.result.base, channel, h * w * 4);
            let at = e.at(plane, p.flat, 4);
            if c % 4 == 0 {
                e.store(one, at, 0);
            } else {
                let inside = e.b.ins().icmp_imm_s(IntCC::SignedLessThan, channel, c as i64);
                e.when(inside, |e| e.store(one, at, 0));
            }
        }
    }

    fn store_bits(
        &self,
        e: &mut Emitter<'_, '_>,
        p: Position,
        words: Words,
        codes: &mut dyn FnMut(&mut Emitter<'_, '_>, Value) -> Value,
    ) {
        let b = &self.result.buffer;
        let (group, planes, per_group) = (b.group, b.planes, b.group.div_ceil(WORD));
        let row = e.at(self.result.base, p.flat, b.pixel());
        e.times(b.image.0 / group.max(1), |e, g| {
            let (start, end) = words.unwrap_or_else(|| (e.int(0), e.int(per_group)));
            e.range(start, end, 1, |e, word| {
                let first = e.mul(word, WORD);
                let left = e.int(group);
                let left = e.b.ins().isub(left, first);
                let full = e.int(WORD);
                let valid = e.min(left, full);
                let channel = e.at(first, g, group);
                let zero = e.int(0);
                let sums: Vec<_> = (0..planes).map(|_| e.var(zero)).collect();
                e.range(zero, valid, if packs_sixteen(b) { SIXTEEN } else { 4 }, |e, i| {
                    let c = e.b.ins().iadd(channel, i);
                    let code = codes(e, c);
                    for (q, sum) in sums.iter().enumerate() {
                        let bits = plane_bits(e, code, q);
                        let bits = e.b.ins().uextend(types::I64, bits);
                        let bits = e.b.ins().ishl(bits, i);
                        let old = e.b.use_var(*sum);
                        let new = e.b.ins().bor(old, bits);
                        e.b.def_var(*sum, new);
                    }
                });
                let at = e.at(word, g, per_group);
                let at = e.at(row, at, 8);
                for (q, sum) in sums.iter().enumerate() {
                    let mut v = e.b.use_var(*sum);
                    if group % 4 != 0 {
                        // Channels beyond the last must be zero: box sums count them.
                        let (one, all) = (e.int(1), e.b.ins().iconst(types::I64, -1));
                        let mask = e.b.ins().ishl(one, valid);
                        let mask = e.b.ins().iadd_imm_s(mask, -1);
                        let whole = e.b.ins().icmp_imm_s(IntCC::Equal, valid, WORD as i64);
                        let mask = e.b.ins().select(whole, all, mask);
                        v = e.b.ins().band(v, mask);
                    }
                    e.store(v, at, (q * b.words() * 8) as i32);
                }
            });
        });
    }

    /// Sixteen channels at a time: two masks of 16 bits, spread to the nibbles of four bytes.
    fn store_nibbles(
        &self,
        e: &mut Emitter<'_, '_>,
        p: Position,
        words: Words,
        codes: &mut dyn FnMut(&mut Emitter<'_, '_>, Value) -> Value,
    ) {
        let (c, two) = (self.result.buffer.image.0, self.result.buffer.planes > 1);
        let row = e.at(self.result.base, p.flat, self.result.buffer.pixel());
        let (start, end) = channels(e, words, c);
        let first = e.b.ins().ushr_imm_u(start, 2);
        let first = e.b.ins().iadd(row, first);
        // It moves in a variable: Cranelift would find the position anew for each vector.
        let to = e.var(first);
        e.range(start, end, SIXTEEN, |e, channel| {
            let codes = codes(e, channel);
            let at = e.advance(to, SIXTEEN / 4);
            if e.level.arch == Arch::Aarch64 {
                let bytes = nibbles_by_sums(e, codes, two);
                return e.store(bytes, at, 0);
            }
            let nibbles = |e: &mut Emitter<'_, '_>, q: usize| {
                let mut v = plane_bits(e, codes, q);
                for (by, mask) in [(8, 0x00FF_00FF), (4, 0x0F0F_0F0F)] {
                    let high = e.b.ins().ishl_imm_u(v, by);
                    let both = e.b.ins().bor(v, high);
                    v = e.b.ins().band_imm_u(both, mask);
                }
                v
            };
            let mut bytes = nibbles(e, 0);
            if two {
                let high = nibbles(e, 1);
                let high = e.b.ins().ishl_imm_u(high, 4);
                bytes = e.b.ins().bor(bytes, high);
            }
            e.store(bytes, at, 0);
        });
    }
}

/// The four bytes of sixteen codes below 4, as a float, where no instruction gathers the top bits of bytes: each code's bits go to the
/// place of its channel, then pairs of bytes are added.
pub(super) fn nibbles_by_sums(e: &mut Emitter<'_, '_>, codes: Value, two: bool) -> Value {
    let mut bits = codes;
    if two {
        let high = e.b.ins().ishl_imm_u(codes, 3);
        let both = e.b.ins().bor(codes, high);
        let mask = e.splat_i32(0x1111_1111);
        let mask = e.cast(types::I8X16, mask);
        bits = e.b.ins().band(both, mask);
    }
    let places = e.splat_i32(0x0804_0201);
    let places = e.cast(types::I8X16, places);
    let mut bytes = e.b.ins().imul(bits, places);
    for _ in 0..2 {
        bytes = e.b.ins().iadd_pairwise(bytes, bytes);
    }
    let bytes = e.cast(F32X4, bytes);
    e.b.ins().extractlane(bytes, 0)
}

/// The channels of some words, of `count` in all.
fn channels(e: &mut Emitter<'_, '_>, words: Words, count: usize) -> (Value, Value) {
    let end = e.int(count);
    match words {
        None => (e.int(0), end),
        Some((a, b)) => {
            let b = e.mul(b, WORD);
            (e.mul(a, WORD), e.min(b, end))
        }
    }
}

/// The codes of sixteen channels as bytes.
fn sixteen(
    e: &mut Emitter<'_, '_>,
    channel: Value,
    lanes: &mut dyn FnMut(&mut Emitter<'_, '_>, Value) -> Value,
) -> Value {
    let mut four = |e: &mut Emitter<'_, '_>, i: usize| {
        let c = e.add(channel, 4 * i);
        lanes(e, c)
    };
    let (a, b, c, d) = (four(e, 0), four(e, 1), four(e, 2), four(e, 3));
    let (low, high) = (e.b.ins().snarrow(a, b), e.b.ins().snarrow(c, d));
    e.b.ins().unarrow(low, high)
}

/// Plane `q` of four codes (i32x4) or sixteen (i8x16) as the low bits of an i32.
pub(super) fn plane_bits(e: &mut Emitter<'_, '_>, codes: Value, q: usize) -> Value {
    let wide = e.b.func.dfg.value_type(codes) == types::I8X16;
    // Bytes are shifted as 16-bit lanes: only the top bit of each byte counts afterwards.
    let lanes = if wide { e.cast(types::I16X8, codes) } else { codes };
    let top = if wide { 7 } else { 31 } - q as i64;
    let top = e.b.ins().ishl_imm_u(lanes, top);
    let top = if wide { e.cast(types::I8X16, top) } else { top };
    e.b.ins().vhigh_bits(types::I32, top)
}
