//! What the tile of 64-entry tables stores of its sums: codes by thresholds, compared while the sums lie in registers, with the
//! codes of a residual choosing among the thresholds where there is one. Reference: the chain's `threshold` and
//! `residual_threshold` on four lanes.
//!
//! Cost: 4 comparisons and 2 blends a position for 2-bit codes, 7 cycles in all on Zen 4; of a residual of 2 bits 6 comparisons,
//! 18 loads and 6 blends.

use super::look_up_avx512::{ADDENDS, LookUp64, Residual, Store};
use super::vectors::ZMM as Z;
use crate::lower::strips::BLOCK;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

const NOT_LESS: u32 = 5;
/// Lanes of a vector: half a block.
const HALF: usize = BLOCK / 2;
/// The masks of up to three thresholds.
const REACHED: [AsmRegisterK; 3] = [k1, k2, k3];
/// What spreads bits to and gathers them from the nibbles of bytes: of plane 0, and of plane 1.
const LOW: AsmRegister64 = r13;
const HIGH: AsmRegister64 = r14;
/// The residual codes of the first position.
const CODES: AsmRegister64 = rdi;

/// Stores the codes of all positions, 0 … `top`, `pitch` bytes apart.
pub(super) fn store(
    tile: LookUp64,
    a: &mut CodeAssembler,
    [top, pitch]: [usize; 2],
    falling: bool,
    store: Store,
    residual: Option<Residual>,
) -> Result<(), IcedError> {
    tile.load_factor(a)?;
    let negated = rcx + residual.map_or(1, |r| r.codes) * top * BLOCK * 2;
    let chosen = (top == 3 && residual.is_none()).then_some(Chosen { tile, negated: falling.then_some(negated) });
    match chosen {
        Some(chosen) => chosen.load(a)?,
        None if falling => a.kmovq(k7, qword_ptr(negated))?,
        None => {}
    }
    if matches!(store, Store::Nibbles(_)) || residual.is_some() {
        a.mov(LOW, 0x0F0F_0F0F_0F0F_0F0F_u64)?;
        a.mov(HIGH, 0xF0F0_F0F0_F0F0_F0F0_u64)?;
    }
    if residual.is_some() {
        a.mov(CODES, qword_ptr(r8 + ADDENDS))?;
    }
    // The spare register held the position's byte sums, which are no more needed.
    for (r, spare) in Z.into_iter().enumerate().take(tile.positions) {
        let sums = tile.words(a, r)?;
        if let Some(chosen) = chosen {
            chosen.compare(a, sums, spare)?;
            chosen.store(a, store, r9 + (r * pitch) as i32)?;
            continue;
        }
        match residual {
            // The addend's register and the spare one hold thresholds.
            Some(codes) => compare_chosen(a, sums, [Z[tile.free(0)], spare], codes, r * codes.pitch, top)?,
            None => compare(a, sums, top)?,
        }
        planes(a, top, falling)?;
        store_planes(a, top, store, (r * pitch) as i32)?;
    }
    Ok(())
}

/// Codes 0 … 3 by two comparisons: with the middle threshold, whose result is the high plane, then with the one that it leaves in
/// question, whose result is the low plane.
#[derive(Clone, Copy)]
struct Chosen {
    tile: LookUp64,
    /// Where the mask of the outputs lies whose planes are to be negated.
    negated: Option<AsmMemoryOperand>,
}

/// The high plane and the low one, of both halves of the block.
const PLANES: [[AsmRegisterK; 2]; 2] = [[k1, k2], [k3, k4]];

impl Chosen {
    /// A half of a threshold's row, which lies in a register.
    fn row(self, threshold: usize, half: usize) -> AsmRegisterZmm {
        Z[self.tile.free(2 + 2 * threshold + half)]
    }

    fn load(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        for (t, half) in (0..3).flat_map(|t| [(t, 0), (t, 1)]) {
            a.vmovdqa64(self.row(t, half), zmmword_ptr(rcx + ((2 * t + half) * HALF * 2)))?;
        }
        Ok(())
    }

    fn compare(self, a: &mut CodeAssembler, sums: [AsmRegisterZmm; 2], row: AsmRegisterZmm) -> Result<(), IcedError> {
        let [high, low] = PLANES;
        for (half, sum) in sums.into_iter().enumerate() {
            a.vpcmpw(high[half], sum, self.row(1, half), NOT_LESS)?;
            let blended = if half == 0 { row.k1() } else { row.k2() };
            a.vpblendmw(blended, self.row(0, half), self.row(2, half))?;
            a.vpcmpw(low[half], sum, row, NOT_LESS)?;
        }
        Ok(())
    }

    fn store(self, a: &mut CodeAssembler, store: Store, to: AsmMemoryOperand) -> Result<(), IcedError> {
        let [high, low] = PLANES;
        match store {
            Store::Bits(plane) => {
                a.kunpckdq(low[0], low[1], low[0])?;
                a.kunpckdq(high[0], high[1], high[0])?;
                a.kmovq(rax, low[0])?;
                a.kmovq(r10, high[0])?;
                if let Some(mask) = self.negated {
                    a.xor(rax, qword_ptr(mask))?;
                    a.xor(r10, qword_ptr(mask))?;
                }
                a.mov(qword_ptr(to), rax)?;
                a.mov(qword_ptr(to + plane), r10)
            }
            Store::Nibbles(channels) => {
                for (half, first) in (0..channels.min(BLOCK)).step_by(HALF).enumerate() {
                    a.kmovd(eax, low[half])?;
                    a.kmovd(r10d, high[half])?;
                    if let Some(mask) = self.negated {
                        a.xor(eax, dword_ptr(mask + 4 * half))?;
                        a.xor(r10d, dword_ptr(mask + 4 * half))?;
                    }
                    a.pdep(r11, rax, LOW)?;
                    a.pdep(r12, r10, HIGH)?;
                    a.or(r11, r12)?;
                    let to = to + first / 4;
                    if channels - first >= HALF {
                        a.mov(qword_ptr(to), r11)?;
                    } else {
                        a.mov(dword_ptr(to), r11d)?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// Which outputs reach which threshold.
fn compare(a: &mut CodeAssembler, [first, second]: [AsmRegisterZmm; 2], top: usize) -> Result<(), IcedError> {
    for (t, mask) in REACHED.into_iter().enumerate().take(top) {
        let row = rcx + t * BLOCK * 2;
        a.vpcmpw(k4, first, zmmword_ptr(row), NOT_LESS)?;
        a.vpcmpw(k5, second, zmmword_ptr(row + 64), NOT_LESS)?;
        a.kunpckdq(mask, k5, k4)?;
    }
    Ok(())
}

/// The same with thresholds that the residual's codes, `at` bytes behind the first position's, choose.
fn compare_chosen(
    a: &mut CodeAssembler,
    sums: [AsmRegisterZmm; 2],
    [least, other]: [AsmRegisterZmm; 2],
    residual: Residual,
    at: usize,
    top: usize,
) -> Result<(), IcedError> {
    let (low, high) = (k4, k5);
    for (half, sum) in sums.into_iter().enumerate() {
        let channels = residual.channels.saturating_sub(half * HALF);
        if channels == 0 {
            break;
        }
        // Four channels a byte; what lies behind a position's may not be read.
        let codes = CODES + (at + half * HALF / 4);
        if channels >= HALF {
            a.mov(rax, qword_ptr(codes))?;
        } else {
            a.mov(eax, dword_ptr(codes))?;
        }
        if residual.codes > 2 {
            a.pext(r10, rax, HIGH)?;
            a.kmovd(high, r10d)?;
        }
        a.pext(rax, rax, LOW)?;
        a.kmovd(low, eax)?;
        for (t, mask) in REACHED.into_iter().enumerate().take(top) {
            let row = |code: usize| zmmword_ptr(rcx + ((code * top + t) * BLOCK * 2 + 64 * half));
            a.vmovdqu16(least, row(0))?;
            a.vmovdqu16(least.k4(), row(1))?;
            if residual.codes > 2 {
                a.vmovdqu16(other, row(2))?;
                if residual.codes > 3 {
                    a.vmovdqu16(other.k4(), row(3))?;
                }
                a.vpblendmw(least.k5(), least, other)?;
            }
            if half == 0 {
                a.vpcmpw(mask, sum, least, NOT_LESS)?;
            } else {
                a.vpcmpw(k6, sum, least, NOT_LESS)?;
                a.kunpckdq(mask, k6, mask)?;
            }
        }
    }
    Ok(())
}

/// The low plane of 64 codes in rax, the high plane in r10: with thresholds that ascend the comparisons m1 ⊇ m2 ⊇ m3 give
/// m1 ^ m2 ^ m3 and m2.
fn planes(a: &mut CodeAssembler, top: usize, falling: bool) -> Result<(), IcedError> {
    for &mask in REACHED.iter().take(top) {
        if falling {
            a.kxorq(mask, mask, k7)?;
        }
    }
    for &mask in REACHED.iter().take(top).skip(1) {
        a.kxorq(k1, k1, mask)?;
    }
    a.kmovq(rax, k1)?;
    if top > 1 {
        a.kmovq(r10, k2)?;
    }
    Ok(())
}

fn store_planes(a: &mut CodeAssembler, top: usize, store: Store, at: i32) -> Result<(), IcedError> {
    let at = r9 + at;
    match store {
        Store::Bits(plane) => {
            a.mov(qword_ptr(at), rax)?;
            if top > 1 {
                a.mov(qword_ptr(at + plane), r10)?;
            }
        }
        Store::Nibbles(channels) => {
            for first in (0..channels.min(BLOCK)).step_by(HALF) {
                a.pdep(r11, rax, LOW)?;
                a.shr(rax, HALF as u32)?;
                if top > 1 {
                    a.pdep(r12, r10, HIGH)?;
                    a.shr(r10, HALF as u32)?;
                    a.or(r11, r12)?;
                }
                if channels - first >= HALF {
                    a.mov(qword_ptr(at + first / 4), r11)?;
                } else {
                    a.mov(dword_ptr(at + first / 4), r11d)?;
                }
            }
        }
    }
    Ok(())
}
