//! Codes of sums of 16-entry look-ups, AVX2, row by row: up to 7 neighbouring positions × 32 outputs. A column's table is loaded
//! once for all horizontal taps that read it, which the tile of `look_up_avx2` does for each tap anew. Reference: that tile,
//! whose weights and thresholds it shares.
//!
//! Cost: about 170 MAC a cycle for 1-bit weights and codes of 1 or 2 bits. Limits: stride and dilation 1 across, up to 3 taps.

use super::look_up_avx2::{LookUpCodes, codes_of_position};
use super::{leaf, repeat, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// What the tile is specialised to.
#[derive(Clone, Copy, Debug)]
pub struct LookUpRows {
    /// Positions, 1 … 7.
    pub positions: usize,
    /// Horizontal taps, 1 … 3.
    pub kernel: usize,
    /// Bytes of four channels of a group.
    pub quads: usize,
    /// Bytes from a column to the next.
    pub pixel: usize,
    /// Look-ups that a byte lane can sum.
    pub limit: usize,
    /// What is stored.
    pub codes: LookUpCodes,
}

/// Positions of a tile at most.
pub const POSITIONS: usize = 7;
/// Horizontal taps at most.
pub const TAPS: usize = 3;
/// Bytes of an entry of the list of rows: the address of the first column's codes, the offset of the row's weights.
pub const ENTRY: usize = 16;
/// Of the frame: addresses of the codes and of the thresholds, an i32 for each position, and what is added to the rows' addresses.
pub const FRAME: usize = 56;
/// Where the addresses' addend lies there.
pub const SHIFT: i32 = 48;

const SUMS: [AsmRegisterYmm; POSITIONS] = [ymm0, ymm1, ymm2, ymm3, ymm4, ymm5, ymm6];
const INDICES: [AsmRegisterYmm; TAPS] = [ymm7, ymm8, ymm9];
const TABLE: AsmRegisterYmm = ymm10;
const PART: AsmRegisterYmm = ymm11;
const NIBBLES: AsmRegisterYmm = ymm12;
/// Indices of two quads, and their lower halves.
const PACKED: [(AsmRegisterYmm, AsmRegisterXmm); TAPS] = [(ymm13, xmm13), (ymm14, xmm14), (ymm15, xmm15)];
const SAVED: [AsmRegister64; 5] = [rbx, rbp, r13, r14, r15];
const CODES: AsmRegister64 = r10;
/// Weights of both blocks.
const WEIGHTS: [AsmRegister64; 2] = [r11, rbp];

impl LookUpRows {
    /// The function `(rows, count, weights, stride, tables, frame)`: `rows` is a list of `count` entries of [`ENTRY`] bytes,
    /// `weights` and `weights + stride` are the two blocks, `frame` is of [`FRAME`] bytes.
    ///
    /// # Errors
    /// When a distance does not fit an instruction.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let LookUpRows { positions, kernel, quads, pixel, limit, codes } = self;
        if pixel * (positions + kernel) >= 1 << 30 || quads * kernel >= 1 << 24 {
            return Err(CodegenError::TooLarge(format!("rows of {quads} bytes a position")));
        }
        let name = format!("tile.look_up.rows.{positions}x{kernel}x{quads}.{pixel}.{limit}.{codes:?}");
        tile(image, &name, |a| self.assemble(a))
    }

    /// Bytes of a tap's weights of a block.
    fn tap(self) -> usize {
        self.quads.div_ceil(2) * 16
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let room = 64 * self.positions as i32;
        leaf(a, &SAVED, |a| {
            a.sub(rsp, room)?;
            a.add(rcx, rdx)?;
            a.mov(eax, 0x0F0F_0F0F_u32)?;
            a.vmovd(xmm12, eax)?;
            a.vpbroadcastd(NIBBLES, xmm12)?;
            a.vpxor(TABLE, TABLE, TABLE)?;
            for i in 0..2 * self.positions as i32 {
                a.vmovdqu(ymmword_ptr(rsp + 32 * i), TABLE)?;
            }
            let (mut next, mut done) = (a.create_label(), a.create_label());
            a.test(rsi, rsi)?;
            a.jz(done)?;
            a.set_label(&mut next)?;
            self.row(a)?;
            a.dec(rsi)?;
            a.jnz(next)?;
            a.set_label(&mut done)?;
            self.codes.prepare(a)?;
            for i in 0..self.positions {
                let at = 64 * i as i32;
                a.vmovdqu(ymm5, ymmword_ptr(rsp + at))?;
                a.vmovdqu(ymm4, ymmword_ptr(rsp + (at + 32)))?;
                codes_of_position(a, self.codes, i, [ymm5, ymm4])?;
            }
            a.add(rsp, room)
        })
    }

    fn row(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        a.mov(CODES, qword_ptr(rdi))?;
        a.add(CODES, qword_ptr(r9 + SHIFT))?;
        for (weights, block) in WEIGHTS.into_iter().zip([rdx, rcx]) {
            a.mov(weights, qword_ptr(rdi + 8))?;
            a.add(weights, block)?;
        }
        a.add(rdi, ENTRY as i32)?;
        // Whole pairs of quads between flushes.
        let most = (self.limit / self.kernel / 2 * 2).min(self.quads.next_multiple_of(2)).max(2);
        repeat(a, r14d, self.quads / most, |a| self.chunk(a, most))?;
        match self.quads % most {
            0 => Ok(()),
            rest => self.chunk(a, rest),
        }
    }

    /// The look-ups of `quads`, summed in bytes and added to the 16-bit sums.
    fn chunk(self, a: &mut CodeAssembler, quads: usize) -> Result<(), IcedError> {
        for sum in SUMS.into_iter().take(self.positions) {
            a.vpxor(sum, sum, sum)?;
        }
        repeat(a, r13d, quads / 2, |a| self.pair(a, 2))?;
        if !quads.is_multiple_of(2) {
            self.pair(a, 1)?;
        }
        for (i, sum) in SUMS.into_iter().enumerate().take(self.positions) {
            let at = 64 * i as i32;
            a.vpaddw(TABLE, sum, ymmword_ptr(rsp + at))?;
            a.vmovdqu(ymmword_ptr(rsp + at), TABLE)?;
            a.vpsrlw(sum, sum, 8)?;
            a.vpaddw(sum, sum, ymmword_ptr(rsp + (at + 32)))?;
            a.vmovdqu(ymmword_ptr(rsp + (at + 32)), sum)?;
        }
        Ok(())
    }

    /// One or two quads; moves the pointers on.
    fn pair(self, a: &mut CodeAssembler, quads: usize) -> Result<(), IcedError> {
        for (kx, (packed, lower)) in PACKED.into_iter().enumerate().take(self.kernel) {
            let at = (kx * self.tap()) as i32;
            a.vmovdqu(lower, xmmword_ptr(WEIGHTS[0] + at))?;
            a.vinserti128(packed, packed, xmmword_ptr(WEIGHTS[1] + at), 1)?;
        }
        for quad in 0..quads {
            for ((packed, _), index) in PACKED.into_iter().zip(INDICES).take(self.kernel) {
                if quad == 0 {
                    a.vpand(index, packed, NIBBLES)?;
                } else {
                    a.vpsrlw(index, packed, 4)?;
                    a.vpand(index, index, NIBBLES)?;
                }
            }
            for column in 0..self.positions + self.kernel - 1 {
                a.movzx(eax, byte_ptr(CODES + (column * self.pixel + quad) as i32))?;
                a.shl(eax, 4)?;
                a.vbroadcasti128(TABLE, xmmword_ptr(r8 + rax))?;
                for (kx, index) in INDICES.into_iter().enumerate().take(self.kernel) {
                    let Some(&sum) = column.checked_sub(kx).and_then(|r| SUMS.get(..self.positions)?.get(r)) else {
                        continue;
                    };
                    a.vpshufb(PART, TABLE, index)?;
                    a.vpaddb(sum, sum, PART)?;
                }
            }
        }
        a.add(CODES, quads as i32)?;
        a.add(WEIGHTS[0], 16)?;
        a.add(WEIGHTS[1], 16)
    }
}
