//! Thresholds that a residual's codes choose, for the 16-bit lanes of row by row look-ups, AVX2 and SSE (SSSE3). With bits b0 and b1
//! of a code as masks, its threshold is A ^ (b0 & B) ^ (b1 & C) ^ (b0 & b1 & D), whose terms `pack::pair_thresholds` makes of the
//! thresholds of all codes: no blend, which the first machines with SSSE3 lack and which newer ones do at half the rate. Reference:
//! the chain's `residual_threshold` on four lanes.
//!
//! Cost: 14 instructions a position for the masks, 7 a threshold and half of the outputs for codes of 2 bits.

use super::look_up_avx2::{CODES_RESIDUAL, LookUpCodes, PAIR, THRESHOLDS};
use super::look_up_avx512::Residual;
use super::look_up_lanes::Lanes;
use crate::lower::pack::{PAIR_BITS, PAIR_PATTERN};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// The next position's residual codes.
pub(super) const RESIDUAL: AsmRegister64 = r15;
/// Registers by number: of each half of the outputs the masks of bit 0, of bit 1 and of both.
const MASKS: [[usize; 3]; 2] = [[6, 7, 8], [9, 10, 11]];
/// The codes, until the last mask is made.
const CODES: usize = MASKS[1][2];

type Done = Result<(), IcedError>;

impl LookUpCodes {
    /// Rows of 64 bytes of the thresholds.
    pub fn threshold_rows(self) -> usize {
        self.top * self.residual.map_or(1, |r| r.codes)
    }

    /// Loads the address of the residual's codes from the frame at r9.
    pub(super) fn prepare_residual(self, a: &mut CodeAssembler) -> Done {
        if self.residual.is_some() { a.mov(RESIDUAL, qword_ptr(r9 + CODES_RESIDUAL)) } else { Ok(()) }
    }

    /// Makes the masks of position `i`; the spare registers are overwritten.
    pub(super) fn masks(self, a: &mut CodeAssembler, lanes: Lanes, i: usize, [pattern, bits]: [usize; 2]) -> Done {
        let Some(Residual { pitch, .. }) = self.residual else { return Ok(()) };
        let behind = THRESHOLDS + (self.threshold_rows() * 2 * PAIR) as i32;
        let codes = RESIDUAL + (i * pitch) as i32;
        lanes.dwords(a, CODES, [codes, codes + 4], pattern)?;
        lanes.table(a, pattern, behind + PAIR_PATTERN as i32)?;
        lanes.table(a, bits, behind + PAIR_BITS as i32)?;
        for (half, [low, high, both]) in MASKS.into_iter().enumerate() {
            if half == 1 {
                lanes.shift_right_dwords(a, CODES, 16)?;
            }
            lanes.shuffle(a, low, [CODES, pattern])?;
            lanes.copy(a, high, low)?;
            lanes.shift_right(a, high, 4)?;
            for mask in [low, high] {
                lanes.and(a, mask, [mask, bits])?;
                lanes.equal(a, mask, bits)?;
            }
            lanes.and(a, both, [low, high])?;
        }
        Ok(())
    }

    /// `to` = what the accumulators of a half pass that reach threshold `t`; `rows` are the thresholds of the first. `spare` is
    /// overwritten.
    pub(super) fn chosen(
        self,
        a: &mut CodeAssembler,
        lanes: Lanes,
        [to, spare]: [usize; 2],
        rows: AsmMemoryOperand,
        [t, half]: [usize; 2],
    ) -> Done {
        let codes = self.residual.map_or(1, |r| r.codes);
        let row = |code: usize| rows + ((code * self.top + t) * 2 * PAIR + half * PAIR) as i32;
        lanes.load(a, to, row(0))?;
        for (code, &mask) in MASKS[half].iter().enumerate().take(codes - 1) {
            lanes.load(a, spare, row(code + 1))?;
            lanes.and(a, spare, [spare, mask])?;
            lanes.xor(a, to, spare)?;
        }
        Ok(())
    }
}
