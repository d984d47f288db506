//! Codes of sums of 16-entry look-ups row by row: up to 7 neighbouring positions × 32 outputs, by AVX2 at once, by SSE in two passes
//! over the rows. A column's table is loaded once for all horizontal taps that read it, which the tile of `look_up_avx2` does for
//! each tap anew. Reference: that tile, whose weights and thresholds it shares.
//!
//! Cost: about 170 MAC a cycle for 1-bit weights and codes of 1 or 2 bits, by SSE 80. Limits: stride and dilation 1 across, up to 3
//! taps.

use super::look_up_avx2::{LookUpCodes, codes_of_position};
use super::look_up_lanes::Lanes;
use super::{leaf, leaf_sse, repeat, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// What the tile is specialised to.
#[derive(Clone, Copy, Debug)]
pub struct LookUpRows {
    /// The instructions.
    pub lanes: Lanes,
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

/// Registers by number: byte sums of the positions, indices of the taps for two quads and for the first of them, a column's table,
/// what is looked up there.
const SUMS: [usize; POSITIONS] = [0, 1, 2, 3, 4, 5, 6];
const INDICES: [usize; TAPS] = [7, 8, 9];
const TABLE: usize = 10;
const PART: usize = 11;
const NIBBLES: usize = 12;
const PACKED: [usize; TAPS] = [13, 14, 15];
const SAVED: [AsmRegister64; 5] = [rbx, rbp, r13, r14, r15];
/// The next entry of the list, and its end.
const NEXT: AsmRegister64 = rbx;
const END: AsmRegister64 = rsi;
const CODES: AsmRegister64 = r10;
/// Weights of both blocks.
const WEIGHTS: [AsmRegister64; 2] = [r11, r15];

impl LookUpRows {
    /// The function `(rows, count, weights, stride, tables, frame)`: `rows` is a list of `count` entries of [`ENTRY`] bytes,
    /// `weights` and `weights + stride` are the two blocks, `frame` is of [`FRAME`] bytes.
    ///
    /// # Errors
    /// When a distance does not fit an instruction.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let LookUpRows { lanes, positions, kernel, quads, pixel, limit, codes } = self;
        if pixel * (positions + kernel) >= 1 << 30 || quads * kernel >= 1 << 24 {
            return Err(CodegenError::TooLarge(format!("rows of {quads} bytes a position")));
        }
        let name = format!("tile.look_up.rows.{lanes:?}.{positions}x{kernel}x{quads}.{pixel}.{limit}.{codes:?}");
        tile(image, &name, |a| self.assemble(a))
    }

    /// Bytes of a tap's weights of a block.
    fn tap(self) -> usize {
        self.quads.div_ceil(2) * 16
    }

    /// Addresses of the weights, one for each block that the lanes hold.
    fn weights(self) -> impl Iterator<Item = AsmRegister64> {
        WEIGHTS.into_iter().take(self.lanes.bytes() / 16)
    }

    /// Where the 16-bit sums of a position lie on the stack: those of all bytes, and of odd ones.
    fn sums(self, position: usize) -> [AsmMemoryOperand; 2] {
        let bytes = self.lanes.bytes();
        [0, bytes].map(|half| rsp + (2 * bytes * position + half) as i32)
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        match self.lanes {
            Lanes::Ymm => leaf(a, &SAVED, |a| {
                a.add(rcx, rdx)?;
                // Sums that cross cache lines would cost a tenth.
                a.mov(rbp, rsp)?;
                a.and(rsp, -32)?;
                self.walk(a, |a| self.pass(a))?;
                a.mov(rsp, rbp)
            }),
            Lanes::Xmm => leaf_sse(a, &SAVED, |a| {
                self.walk(a, |a| {
                    // Twice the number of the block.
                    a.xor(ebp, ebp)?;
                    let mut block = a.create_label();
                    a.set_label(&mut block)?;
                    self.pass(a)?;
                    a.add(rdx, rcx)?;
                    a.add(ebp, 2)?;
                    a.cmp(ebp, 4)?;
                    a.jne(block)
                })
            }),
        }
    }

    /// What all passes over the rows share, around them.
    fn walk(
        self,
        a: &mut CodeAssembler,
        passes: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
    ) -> Result<(), IcedError> {
        let room = (2 * self.lanes.bytes() * self.positions) as i32;
        a.sub(rsp, room)?;
        a.shl(END, ENTRY.ilog2())?;
        a.add(END, rdi)?;
        passes(a)?;
        a.add(rsp, room)
    }

    /// The codes of the blocks that the lanes hold.
    fn pass(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        a.mov(eax, 0x0F0F_0F0F_u32)?;
        self.lanes.splat(a, NIBBLES, eax)?;
        self.lanes.zero(a, TABLE)?;
        for at in (0..self.positions).flat_map(|i| self.sums(i)) {
            self.lanes.store(a, at, TABLE)?;
        }
        let (mut next, mut done) = (a.create_label(), a.create_label());
        a.mov(NEXT, rdi)?;
        a.cmp(NEXT, END)?;
        a.je(done)?;
        a.set_label(&mut next)?;
        self.row(a)?;
        a.cmp(NEXT, END)?;
        a.jne(next)?;
        a.set_label(&mut done)?;
        match self.lanes {
            Lanes::Xmm => {
                self.codes.prepare_block(a)?;
                (0..self.positions).try_for_each(|i| self.codes.block(a, i, self.sums(i)[0]))
            }
            Lanes::Ymm => {
                self.codes.prepare(a)?;
                (0..self.positions).try_for_each(|i| {
                    let [all, odd] = self.sums(i);
                    a.vmovdqu(ymm5, ymmword_ptr(all))?;
                    a.vmovdqu(ymm4, ymmword_ptr(odd))?;
                    codes_of_position(a, self.codes, i, [ymm5, ymm4])
                })
            }
        }
    }

    fn row(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        a.mov(CODES, qword_ptr(NEXT))?;
        a.add(CODES, qword_ptr(r9 + SHIFT))?;
        for (weights, block) in self.weights().zip([rdx, rcx]) {
            a.mov(weights, qword_ptr(NEXT + 8))?;
            a.add(weights, block)?;
        }
        a.add(NEXT, ENTRY as i32)?;
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
            self.lanes.zero(a, sum)?;
        }
        repeat(a, r13d, quads / 2, |a| self.pair(a, 2))?;
        if !quads.is_multiple_of(2) {
            self.pair(a, 1)?;
        }
        for (i, sum) in SUMS.into_iter().enumerate().take(self.positions) {
            let [all, odd] = self.sums(i);
            self.lanes.accumulate(a, all, sum, TABLE)?;
            self.lanes.shift_right(a, sum, 8)?;
            self.lanes.accumulate(a, odd, sum, TABLE)?;
        }
        Ok(())
    }

    /// One or two quads; moves the pointers on.
    fn pair(self, a: &mut CodeAssembler, quads: usize) -> Result<(), IcedError> {
        let lanes = self.lanes;
        for (kx, packed) in PACKED.into_iter().enumerate().take(self.kernel) {
            lanes.blocks(a, packed, WEIGHTS.map(|w| w + (kx * self.tap()) as i32))?;
        }
        for (quad, indices) in [INDICES, PACKED].into_iter().enumerate().take(quads) {
            for (index, packed) in indices.into_iter().zip(PACKED).take(self.kernel) {
                if quad > 0 {
                    lanes.shift_right(a, packed, 4)?;
                }
                lanes.and(a, index, [packed, NIBBLES])?;
            }
            for column in 0..self.positions + self.kernel - 1 {
                a.movzx(eax, byte_ptr(CODES + (column * self.pixel + quad) as i32))?;
                a.shl(eax, 4)?;
                lanes.table(a, TABLE, r8 + rax)?;
                let sum = |kx: usize| SUMS.get(..self.positions)?.get(column.checked_sub(kx)?).copied();
                let taps = indices.into_iter().enumerate().take(self.kernel);
                let mut readers = taps.filter_map(|(kx, index)| Some((index, sum(kx)?))).peekable();
                while let Some((index, sum)) = readers.next() {
                    lanes.look_up(a, sum, [TABLE, index, PART], readers.peek().is_none())?;
                }
            }
        }
        a.add(CODES, quads as i32)?;
        self.weights().try_for_each(|weights| a.add(weights, 16))
    }
}
