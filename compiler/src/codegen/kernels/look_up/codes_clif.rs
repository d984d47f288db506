//! Codes of 16-bit sums of row by row look-ups in CLIF, for aarch64: what ends the tiles of `tiles::look_up_codes_sse`, from the same
//! thresholds and frame. Reference: the chain's `threshold` and `residual_threshold` on four lanes.
//!
//! Cost: 36 instructions for 16 outputs and 3 thresholds; 100 where a residual of 4 codes chooses among the thresholds: with bits b0
//! and b1 of its code as masks a threshold is A ^ (b0 & B) ^ (b1 & C) ^ (b0 & b1 & D). Must never know the graph.

use crate::codegen::emitter::{Emitter, I32X4};
use crate::codegen::kernels::store::{nibbles_by_sums, plane_bits};
use crate::codegen::tiles::look_up_avx512::{Residual, Store};
use crate::codegen::tiles::{CODES_ADDENDS, CODES_RESIDUAL, LookUpCodes, PAIR};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};

/// Bytes of a threshold of a pair of blocks.
const ROW: usize = 2 * PAIR;

/// What is stored, and where the addresses of the row's first position lie.
#[derive(Clone, Copy)]
pub(super) struct Codes {
    codes: LookUpCodes,
    thresholds: Value,
    out: Value,
    addends: Value,
    residual: Option<(Residual, Value)>,
}

impl Codes {
    /// For the positions from `x` on.
    pub(super) fn new(e: &mut Emitter<'_, '_>, codes: LookUpCodes, frame: Value, x: Value) -> Codes {
        let [out, thresholds] = [0, 8].map(|at| e.load(types::I64, frame, at));
        let residual = codes.residual.map(|r| {
            let first = e.load(types::I64, frame, CODES_RESIDUAL);
            (r, e.at(first, x, r.pitch))
        });
        let (out, addends) = (e.at(out, x, codes.pitch), e.at(frame, x, 4));
        Codes { codes, thresholds, out, addends, residual }
    }

    /// Stores the codes of position `p` and a block from the sums of all bytes and those of odd ones.
    pub(super) fn store(&self, e: &mut Emitter<'_, '_>, sums: [Value; 2], p: usize, block: usize) {
        let addend = e.load(types::I16, self.addends, CODES_ADDENDS + 4 * p as i32);
        let halves = words(e, sums, (self.codes.factor, addend));
        let masks = self.masks(e, p, block);
        let counts = [0, 1].map(|half| self.count(e, halves[half], masks.map(|m| m[half]), [block, half]));
        let count = e.b.ins().snarrow(counts[0], counts[1]);
        let codes = self.turned(e, count, block);
        self.store_codes(e, codes, p * self.codes.pitch, block);
    }

    /// How many thresholds the accumulators of a half pass.
    fn count(
        &self,
        e: &mut Emitter<'_, '_>,
        accumulators: Value,
        masks: Option<[Value; 3]>,
        [block, half]: [usize; 2],
    ) -> Value {
        let mut count = e.zeros(types::I16X8);
        let row = |e: &mut Emitter<'_, '_>, index: usize| {
            e.read(types::I16X8, self.thresholds, (index * ROW + 16 * block + 32 * half) as i32)
        };
        for t in 0..self.codes.top {
            let mut threshold = row(e, t);
            let codes = self.residual.map_or(1, |(r, _)| r.codes);
            for (code, mask) in masks.into_iter().flatten().enumerate().take(codes - 1) {
                let term = row(e, (code + 1) * self.codes.top + t);
                let term = e.b.ins().band(term, mask);
                threshold = e.b.ins().bxor(threshold, term);
            }
            let passed = e.b.ins().icmp(IntCC::SignedGreaterThan, accumulators, threshold);
            count = e.b.ins().isub(count, passed);
        }
        count
    }

    /// Of each half of the outputs the masks of bit 0 of the residual's codes, of bit 1 and of both.
    fn masks(&self, e: &mut Emitter<'_, '_>, p: usize, block: usize) -> Option<[[Value; 3]; 2]> {
        let (residual, first) = self.residual?;
        // Four channels a byte, bit 0 of each in the lower half.
        let word = e.load(types::I32, first, (p * residual.pitch + 4 * block) as i32);
        let word = e.b.ins().splat(I32X4, word);
        let word = e.cast(types::I8X16, word);
        let places = |half: u8| (0..16).map(|i| if i % 2 == 0 { 2 * half + i / 8 } else { 0xFF }).collect::<Vec<u8>>();
        let bits = |shift: u32| (0..8).flat_map(|lane| (1u16 << (lane % 4 + shift)).to_le_bytes()).collect::<Vec<u8>>();
        let mut constant = |bytes: Vec<u8>, ty| {
            let at = e.data("masks", bytes);
            e.read(ty, at, 0)
        };
        let places = [0, 1].map(|half| constant(places(half), types::I8X16));
        let bits = [0, 4].map(|shift| constant(bits(shift), types::I16X8));
        Some(places.map(|places| {
            let bytes = e.b.ins().swizzle(word, places);
            let bytes = e.cast(types::I16X8, bytes);
            let [low, high] = bits.map(|bits| {
                let set = e.b.ins().band(bytes, bits);
                e.b.ins().icmp(IntCC::Equal, set, bits)
            });
            [low, high, e.b.ins().band(low, high)]
        }))
    }

    /// Codes of how many thresholds are passed: of channels that fall, of how many are not.
    fn turned(&self, e: &mut Emitter<'_, '_>, count: Value, block: usize) -> Value {
        if !self.codes.falling {
            return count;
        }
        let at = (self.codes.threshold_rows() * ROW + 2 * block) as i32;
        let mask = e.b.ins().uload16(types::I32, MemFlagsData::new().with_notrap(), self.thresholds, at);
        let mask = e.b.ins().splat(I32X4, mask);
        let mask = e.cast(types::I8X16, mask);
        let mut constant = |bytes: Vec<u8>| {
            let at = e.data("masks", bytes);
            e.read(types::I8X16, at, 0)
        };
        let (places, bits) =
            (constant((0..16).map(|i| i / 8).collect()), constant((0..16).map(|i| 1 << (i % 8)).collect()));
        let mask = e.shuffle_bytes(mask, places);
        let mask = e.b.ins().band(mask, bits);
        let falls = e.b.ins().icmp(IntCC::Equal, mask, bits);
        // top − count is !count + top + 1.
        let other = e.b.ins().bxor(count, falls);
        let more = e.splat_i32(i32::from_le_bytes([self.codes.top as u8 + 1; 4]));
        let more = e.cast(types::I8X16, more);
        let more = e.b.ins().band(more, falls);
        e.b.ins().iadd(other, more)
    }

    /// Stores sixteen codes, a byte each.
    fn store_codes(&self, e: &mut Emitter<'_, '_>, codes: Value, from: usize, block: usize) {
        let two = self.codes.top > 1;
        match self.codes.store {
            Store::Nibbles(_) => {
                let bytes = nibbles_by_sums(e, codes, two);
                e.store(bytes, self.out, (from + 4 * block) as i32);
            }
            Store::Bits(plane) => {
                for (q, at) in [0, plane].into_iter().enumerate().take(if two { 2 } else { 1 }) {
                    let bits = plane_bits(e, codes, q);
                    let flags = MemFlagsData::new().with_notrap();
                    e.b.ins().istore16(flags, bits, self.out, (from + at + 2 * block) as i32);
                }
            }
        }
    }
}

/// The accumulators of even bytes and of odd ones in 16 bits: `factor` times the sums plus the addend, an i16.
pub(super) fn words(e: &mut Emitter<'_, '_>, sums: [Value; 2], (factor, addend): (i32, Value)) -> [Value; 2] {
    let addend = e.b.ins().splat(types::I16X8, addend);
    even_odd(e, sums).map(|sums| {
        let v = times(e, sums, factor);
        e.b.ins().iadd(v, addend)
    })
}

/// The 16-bit sums of even bytes and of odd ones, from those of all bytes and of odd ones.
pub(super) fn even_odd(e: &mut Emitter<'_, '_>, [all, odd]: [Value; 2]) -> [Value; 2] {
    let shifted = e.b.ins().ishl_imm_u(odd, 8);
    [e.b.ins().isub(all, shifted), odd]
}

/// Lanes of 16 or 32 bits times a constant.
pub(super) fn times(e: &mut Emitter<'_, '_>, v: Value, factor: i32) -> Value {
    match factor {
        1 => v,
        2 => e.b.ins().iadd(v, v),
        _ => {
            let ty = e.b.func.dfg.value_type(v);
            let lane = if ty == I32X4 { i64::from(factor as u32) } else { i64::from(factor as u16) };
            let factor = e.b.ins().iconst(ty.lane_type(), lane);
            let factor = e.b.ins().splat(ty, factor);
            e.b.ins().imul(v, factor)
        }
    }
}
