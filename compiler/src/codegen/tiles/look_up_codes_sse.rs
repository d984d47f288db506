//! Codes of one block of 16 outputs from 16-bit sums, SSSE3; the sibling of what ends the tiles of `look_up_avx2`, from the same
//! thresholds and frame. Codes are counted in bytes: without BMI2 there is no `pdep` that spreads bits of planes to nibbles, but a
//! byte shuffle and two pairwise products put four codes into a byte.

use super::look_up_avx2::{CODES_ADDENDS, LookUpCodes, OUT, PAIR, THRESHOLDS};
use super::look_up_avx512::Store;
use super::look_up_chosen::RESIDUAL;
use super::look_up_lanes::Lanes;
use super::vectors::XMM;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

const FIRST: AsmRegisterXmm = xmm0;
const SECOND: AsmRegisterXmm = xmm1;
const SPARE: [AsmRegisterXmm; 2] = [xmm2, xmm3];
const COUNT: AsmRegisterXmm = xmm4;
const FACTOR: AsmRegisterXmm = xmm5;
/// What a residual chooses; the factor is then loaded for each position.
const CHOSEN: usize = 5;
/// Thresholds of the first and of the second eight outputs, from this register on, where no residual chooses them.
const LEVELS: usize = 6;
const FALLING: AsmRegisterXmm = xmm12;
/// Bit 1 of a code at bit 4, then the weights of the products.
const SPREAD: [(AsmRegisterXmm, u32); 3] = [(xmm13, 0x1110_0100), (xmm14, 0x0201_0201), (xmm15, 0x0004_0001)];

impl LookUpCodes {
    /// Loads what [`LookUpCodes::block`] needs from the frame at r9, of the block whose number is half of rbp.
    pub(super) fn prepare_block(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        a.mov(OUT, qword_ptr(r9))?;
        a.mov(THRESHOLDS, qword_ptr(r9 + 8))?;
        for t in (0..self.top).filter(|_| self.residual.is_none()) {
            for half in 0..2 {
                let from = THRESHOLDS + rbp * 8 + (t * 2 * PAIR + half * PAIR) as i32;
                a.movdqu(XMM[LEVELS + 2 * t + half], xmmword_ptr(from))?;
            }
        }
        self.prepare_residual(a)?;
        if self.residual.is_some() {
            a.lea(RESIDUAL, ptr(RESIDUAL + rbp * 2))?;
        }
        if self.falling {
            // Each bit of the mask to a byte.
            a.movd(FALLING, dword_ptr(THRESHOLDS + rbp + (self.threshold_rows() * 2 * PAIR) as i32))?;
            a.punpcklbw(FALLING, FALLING)?;
            a.pshuflw(FALLING, FALLING, 0b0101_0000)?;
            a.pshufd(FALLING, FALLING, 0b0101_0000)?;
            a.mov(rax, 0x8040_2010_0804_0201_u64)?;
            a.movq(SPARE[0], rax)?;
            a.punpcklqdq(SPARE[0], SPARE[0])?;
            a.pand(FALLING, SPARE[0])?;
            a.pcmpeqb(FALLING, SPARE[0])?;
        }
        if self.residual.is_none() {
            self.load_factor(a)?;
        }
        // A code of 16 bits is 4 bits of a byte, or 2 bits of planes.
        match self.store {
            Store::Bits(_) => a.add(OUT, rbp),
            Store::Nibbles(_) => {
                a.lea(OUT, ptr(OUT + rbp * 2))?;
                SPREAD.into_iter().try_for_each(|(register, value)| {
                    a.mov(eax, value)?;
                    a.movd(register, eax)?;
                    a.pshufd(register, register, 0)
                })
            }
        }
    }

    fn load_factor(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        if (1..=2).contains(&self.factor) {
            return Ok(());
        }
        a.mov(eax, self.factor)?;
        a.movd(FACTOR, eax)?;
        a.pshuflw(FACTOR, FACTOR, 0)?;
        a.pshufd(FACTOR, FACTOR, 0)
    }

    /// Stores the codes of position `i` from its 16-bit sums of all bytes and, behind them, of odd bytes. Overwrites xmm0 … xmm4
    /// and rax; with a residual xmm5 … xmm11 too.
    pub(super) fn block(self, a: &mut CodeAssembler, i: usize, sums: AsmMemoryOperand) -> Result<(), IcedError> {
        let [one, other] = SPARE;
        a.movdqu(FIRST, xmmword_ptr(sums))?;
        a.movdqu(SECOND, xmmword_ptr(sums + 16))?;
        a.movdqa(one, SECOND)?;
        a.psllw(one, 8)?;
        a.psubw(FIRST, one)?;
        a.movd(one, dword_ptr(r9 + (CODES_ADDENDS + 4 * i as i32)))?;
        a.pshuflw(one, one, 0)?;
        a.pshufd(one, one, 0)?;
        if self.residual.is_some() {
            self.load_factor(a)?;
        }
        for sum in [FIRST, SECOND] {
            match self.factor {
                1 => {}
                2 => a.paddw(sum, sum)?,
                _ => a.pmullw(sum, FACTOR)?,
            }
            a.paddw(sum, one)?;
        }
        self.masks(a, Lanes::Xmm, i, [2, 3])?;
        // A comparison that holds is −1.
        for t in 0..self.top {
            let holds = if t == 0 { COUNT } else { one };
            for (to, sum, half) in [(holds, FIRST, 0), (other, SECOND, 1)] {
                let mut threshold = LEVELS + 2 * t + half;
                if self.residual.is_some() {
                    threshold = CHOSEN;
                    self.chosen(a, Lanes::Xmm, [CHOSEN, 3], THRESHOLDS + rbp * 8, [t, half])?;
                }
                a.movdqa(to, sum)?;
                a.pcmpgtw(to, XMM[threshold])?;
            }
            a.packsswb(holds, other)?;
            if self.falling {
                a.pxor(holds, FALLING)?;
            }
            if t > 0 {
                a.paddb(COUNT, holds)?;
            }
        }
        a.pabsb(COUNT, COUNT)?;
        let at = OUT + (i * self.pitch) as i32;
        match self.store {
            Store::Bits(plane) => {
                let planes = [(0, 7), (plane as i32, 6)];
                planes.into_iter().take(if self.top > 1 { 2 } else { 1 }).try_for_each(|(plane, shift)| {
                    a.movdqa(one, COUNT)?;
                    a.psllw(one, shift)?;
                    a.pmovmskb(eax, one)?;
                    a.mov(word_ptr(at + plane), ax)
                })
            }
            Store::Nibbles(_) => {
                let [(spread, _), (pairs, _), (quads, _)] = SPREAD;
                a.movdqa(one, spread)?;
                a.pshufb(one, COUNT)?;
                a.pmaddubsw(one, pairs)?;
                a.pmaddwd(one, quads)?;
                a.packssdw(one, one)?;
                a.packuswb(one, one)?;
                a.movd(dword_ptr(at), one)
            }
        }
    }
}
