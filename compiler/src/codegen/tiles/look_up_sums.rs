//! Accumulators of 16-bit sums of look-ups, AVX2 and SSE: what the tiles that store no codes share. Must never know where sums lie.

use super::look_up_lanes::Lanes;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// How accumulators follow from sums.
#[derive(Clone, Copy)]
pub(super) struct Accumulators {
    pub lanes: Lanes,
    /// The accumulator is this times the sum, plus the addend.
    pub factor: i32,
    /// It is added to what is there, without the addend.
    pub add: bool,
    /// It is stored as i16, which it fits; not where it is added.
    pub words: bool,
}

/// Registers by number: sums of even and of odd bytes, what is free, two widened parts, the addend, the factor and zeros.
const EVEN: usize = 0;
const ODD: usize = 1;
const PART: usize = 2;
const WIDE: [usize; 2] = [3, 4];
const ADDEND: usize = 5;
const FACTOR: usize = 6;
pub(super) const ZERO: usize = 7;

type Done = Result<(), IcedError>;

impl Accumulators {
    /// Bits by which the factor moves a sum, if it is a power of two.
    fn shift(self) -> Option<u32> {
        u32::try_from(self.factor).ok().filter(|f| f.is_power_of_two()).map(u32::trailing_zeros)
    }

    /// Prepares the registers of all sums; eax is overwritten.
    pub(super) fn prepare(self, a: &mut CodeAssembler) -> Done {
        self.lanes.zero(a, ZERO)?;
        if self.shift().is_some() {
            return Ok(());
        }
        let factor = if self.words { u32::from(self.factor as u16) * 0x10001 } else { self.factor as u32 };
        a.mov(eax, factor)?;
        self.lanes.splat(a, FACTOR, eax)
    }

    /// What is added to the next accumulators; the register is overwritten.
    pub(super) fn addend(self, a: &mut CodeAssembler, from: AsmRegister32) -> Done {
        if self.words {
            a.and(from, 0xffff)?;
            a.imul_3(from, from, 0x10001)?;
        }
        self.lanes.splat(a, ADDEND, from)
    }

    /// Stores the accumulators of a register of bytes from the 16-bit sums of all of them and of the odd ones: those of the even bytes
    /// at `to`, those of the odd ones `odd` bytes behind, the second part of either `half` bytes behind the first.
    pub(super) fn store(
        self,
        a: &mut CodeAssembler,
        [all_sums, odd_sums]: [AsmMemoryOperand; 2],
        to: AsmMemoryOperand,
        [odd, half]: [usize; 2],
    ) -> Done {
        let lanes = self.lanes;
        lanes.load(a, EVEN, all_sums)?;
        lanes.load(a, ODD, odd_sums)?;
        lanes.copy(a, PART, ODD)?;
        lanes.shift_left(a, PART, 8)?;
        lanes.subtract(a, EVEN, PART)?;
        for (sums, at) in [(EVEN, 0), (ODD, odd)] {
            if self.words {
                self.store_words(a, sums, to + at, half)?;
                continue;
            }
            lanes.widen(a, WIDE, [sums, ZERO])?;
            for (part, wide) in WIDE.into_iter().enumerate() {
                let to = to + (at + part * half) as i32;
                match self.shift() {
                    Some(0) => {}
                    Some(by) => lanes.shift_left_dwords(a, wide, by as i32)?,
                    None => lanes.multiply(a, wide, FACTOR)?,
                }
                if self.add {
                    lanes.load(a, PART, to)?;
                    lanes.add_dwords(a, wide, PART)?;
                } else {
                    lanes.add_dwords(a, wide, ADDEND)?;
                }
                lanes.store(a, to, wide)?;
            }
        }
        Ok(())
    }

    /// Sums, factors and addends modulo 2¹⁶ give what fits i16.
    fn store_words(self, a: &mut CodeAssembler, sums: usize, to: AsmMemoryOperand, half: usize) -> Done {
        match self.shift() {
            Some(0) => {}
            Some(by) => self.lanes.shift_left(a, sums, by as i32)?,
            None => self.lanes.multiply_words(a, sums, FACTOR)?,
        }
        self.lanes.add_words(a, sums, ADDEND)?;
        self.lanes.store_blocks(a, [to, to + half as i32], sums)
    }
}
