//! Sums of 16-entry look-ups row by row, or codes of them: all positions of a row, 7 at a time, × 32 outputs, by AVX2 at once, by
//! SSE in two passes. A column's table is loaded once for all horizontal taps that read it, which the tile of `look_up_avx2` does for each tap
//! anew; and the indices that lie packed are taken apart once for all tiles of the row. Reference: that tile, whose weights and
//! thresholds it shares.
//!
//! Cost: see `kernels::look_up`; what is not look-ups is a sixth of the time with 64 channels. Limits: dilation 1 across, up to 5
//! taps.

use super::look_up_avx2::{CODES_ADDENDS, LookUpCodes, OUT, codes_of_position};
use super::look_up_chosen::RESIDUAL;
use super::look_up_lanes::Lanes;
use super::look_up_quads::{CODES, INLINE_TAPS, NIBBLES, SUMS, TABLE};
use super::look_up_sums::{Accumulators, ZERO};
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
    /// Positions of a row.
    pub width: usize,
    /// Horizontal taps, 1 … 5.
    pub kernel: usize,
    /// Columns from a position to the next.
    pub stride: usize,
    /// Bytes of four channels of a group.
    pub quads: usize,
    /// Bytes from a column to the next.
    pub pixel: usize,
    /// Look-ups that a byte lane can sum.
    pub limit: usize,
    /// What is stored.
    pub finish: RowFinish,
}

/// What becomes of a row's sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowFinish {
    /// Codes.
    Codes(LookUpCodes),
    /// Accumulators as i32.
    Sums {
        /// Bytes from a position to the next.
        pitch: usize,
        /// The accumulator is this times the sum, plus the position's addend.
        factor: i32,
        /// It is added to what is there, without the addend: of the weights' second bit plane and those behind it.
        add: bool,
    },
    /// Accumulators as i16, which they fit.
    Words {
        /// Bytes from a position to the next.
        pitch: usize,
        /// The accumulator is this times the sum, plus the position's addend.
        factor: i32,
    },
}

impl RowFinish {
    /// Bytes from a position's result to the next.
    fn pitch(self) -> usize {
        match self {
            RowFinish::Codes(codes) => codes.pitch,
            RowFinish::Sums { pitch, .. } | RowFinish::Words { pitch, .. } => pitch,
        }
    }
}

/// Horizontal taps at most.
pub const TAPS: usize = 5;
/// Bytes of an entry of the list of rows: the address of the first column's codes, the offset of the row's weights.
pub const ENTRY: usize = 16;

/// Positions whose sums are in registers at once.
pub(super) const POSITIONS: usize = 7;
const SAVED: [AsmRegister64; 6] = [rbx, rbp, r12, r13, r14, r15];
/// The next entry of the list.
const NEXT: AsmRegister64 = rbx;
/// Weights of both blocks.
pub(super) const WEIGHTS: [AsmRegister64; 2] = [r11, r15];
/// 16-bit sums on the stack.
const TOTALS: AsmRegister64 = rsi;
/// Counters of chunks and of tiles of a row.
const CHUNKS: AsmRegister32 = ebp;
const TILES: AsmRegister32 = r12d;
/// On the stack: the caller's stack, the list's end, twice the number of the block; then indices and sums.
const STACK: i32 = 0;
const END: i32 = 8;
const BLOCK: i32 = 16;
/// Bytes before the indices.
pub(super) const ROOM: usize = 32;

/// Bytes of the frame for rows of `width` positions: addresses of the codes and of the thresholds, an i32 for each position, and
/// what is added to the rows' addresses.
pub fn frame(width: usize) -> usize {
    shift(width) as usize + 8
}

/// Where the addresses' addend lies there.
pub fn shift(width: usize) -> i32 {
    CODES_ADDENDS + 4 * width.next_multiple_of(8) as i32
}

/// Bytes of the stack that sums of rows of `width` positions take.
pub fn stack(width: usize) -> usize {
    (width + POSITIONS) * 64
}

type Done = Result<(), IcedError>;

impl LookUpRows {
    /// The function `(rows, count, weights, stride, tables, frame)`: `rows` is a list of `count` entries of [`ENTRY`] bytes,
    /// `weights` and `weights + stride` are the two blocks, `frame` is of [`frame`] bytes.
    ///
    /// # Errors
    /// When a distance does not fit an instruction.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        self.check()?;
        tile(image, &self.name(), |a| self.assemble(a))
    }

    /// # Errors
    /// When a distance does not fit an instruction.
    pub fn check(self) -> Result<(), CodegenError> {
        let LookUpRows { width, kernel, stride, quads, pixel, finish, .. } = self;
        if pixel * (width * stride + kernel) >= 1 << 30
            || finish.pitch() * width >= 1 << 30
            || quads * kernel >= 1 << 24
        {
            return Err(CodegenError::TooLarge(format!("rows of {quads} bytes a position")));
        }
        Ok(())
    }

    /// What the function is called.
    pub fn name(self) -> String {
        let LookUpRows { lanes, width, kernel, stride, quads, pixel, limit, finish } = self;
        format!("tile.look_up.rows.{lanes:?}.{width}x{kernel}s{stride}x{quads}.{pixel}.{limit}.{finish:?}")
    }

    /// Bytes of a tap's weights of a block.
    pub fn tap(self) -> usize {
        self.quads.div_ceil(2) * 16
    }

    /// Positions of a tile: the tiles of a row are about as wide as one another.
    pub fn positions(self) -> usize {
        self.width.div_ceil(self.width.div_ceil(POSITIONS))
    }

    /// Whether indices are taken apart before the tiles of a row; one tile's loop does so itself, if it has the registers.
    pub(super) fn apart(self) -> bool {
        self.tiles() > 1 || self.kernel > INLINE_TAPS
    }

    /// Tiles of a row.
    pub fn tiles(self) -> usize {
        self.width.div_ceil(self.positions())
    }

    /// Positions that the last tile of a row shares with its neighbour.
    fn overlap(self) -> usize {
        self.tiles() * self.positions() - self.width
    }

    /// Whole pairs of quads between additions to the 16-bit sums.
    pub fn chunk_quads(self) -> usize {
        (self.limit / self.kernel / 2 * 2).min(self.quads.next_multiple_of(2)).max(2)
    }

    /// Addresses of the weights, one for each block that the lanes hold.
    pub(super) fn weights(self) -> impl Iterator<Item = AsmRegister64> {
        WEIGHTS.into_iter().take(self.lanes.bytes() / 16)
    }

    /// Where the 16-bit sums of a position of a tile lie: those of all bytes, and of odd ones.
    fn totals(self, position: usize) -> [AsmMemoryOperand; 2] {
        let bytes = self.lanes.bytes();
        [0, bytes].map(|half| TOTALS + (2 * bytes * position + half) as i32)
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Done {
        match self.lanes {
            Lanes::Ymm => leaf(a, &SAVED, |a| {
                a.add(rcx, rdx)?;
                self.on_stack(a, |a| self.pass(a))
            }),
            Lanes::Xmm => leaf_sse(a, &SAVED, |a| {
                self.on_stack(a, |a| {
                    a.mov(qword_ptr(rsp + BLOCK), 0)?;
                    let mut block = a.create_label();
                    a.set_label(&mut block)?;
                    self.pass(a)?;
                    a.add(rdx, rcx)?;
                    a.add(qword_ptr(rsp + BLOCK), 2)?;
                    a.cmp(qword_ptr(rsp + BLOCK), 4)?;
                    a.jne(block)
                })
            }),
        }
    }

    /// The stack around all passes; registers are stored where no cache line ends within one.
    fn on_stack(self, a: &mut CodeAssembler, passes: impl FnOnce(&mut CodeAssembler) -> Done) -> Done {
        let sums = 2 * self.lanes.bytes() * self.positions() * self.tiles();
        a.mov(rax, rsp)?;
        a.sub(rsp, (ROOM + self.index_bytes() + sums) as i32)?;
        a.and(rsp, -32)?;
        a.mov(qword_ptr(rsp + STACK), rax)?;
        a.shl(rsi, ENTRY.ilog2())?;
        a.add(rsi, rdi)?;
        a.mov(qword_ptr(rsp + END), rsi)?;
        passes(a)?;
        a.mov(rsp, qword_ptr(rsp + STACK))
    }

    /// Bytes of a chunk's indices.
    fn index_bytes(self) -> usize {
        self.chunk_quads() * self.kernel * self.lanes.bytes()
    }

    /// `body` for each tile of a row, [`TOTALS`] being its sums. What `moves` lists goes on by so many bytes a position; the last
    /// tile overlaps its neighbour rather than being narrower.
    fn each_tile(
        self,
        a: &mut CodeAssembler,
        moves: &[(AsmRegister64, usize)],
        mut body: impl FnMut(&mut CodeAssembler) -> Done,
    ) -> Done {
        let (tiles, positions, overlap) = (self.tiles(), self.positions(), self.overlap());
        a.lea(TOTALS, ptr(rsp + (ROOM + self.index_bytes()) as i32))?;
        repeat(a, TILES, tiles, |a| {
            if overlap > 0 && !moves.is_empty() {
                let mut before = a.create_label();
                a.cmp(TILES, 1)?;
                a.jne(before)?;
                moves.iter().try_for_each(|&(register, bytes)| a.sub(register, (overlap * bytes) as i32))?;
                a.set_label(&mut before)?;
            }
            body(a)?;
            moves.iter().try_for_each(|&(register, bytes)| a.add(register, (positions * bytes) as i32))?;
            a.add(TOTALS, (2 * self.lanes.bytes() * positions) as i32)
        })
    }

    /// The codes of the blocks that the lanes hold.
    fn pass(self, a: &mut CodeAssembler) -> Done {
        a.mov(eax, 0x0F0F_0F0F_u32)?;
        self.lanes.splat(a, NIBBLES, eax)?;
        self.lanes.zero(a, TABLE)?;
        let all = || (0..self.positions()).flat_map(|i| self.totals(i));
        self.each_tile(a, &[], |a| all().try_for_each(|at| self.lanes.store(a, at, TABLE)))?;
        let (mut next, mut done) = (a.create_label(), a.create_label());
        a.mov(NEXT, rdi)?;
        a.cmp(NEXT, qword_ptr(rsp + END))?;
        a.je(done)?;
        a.set_label(&mut next)?;
        self.row(a)?;
        a.cmp(NEXT, qword_ptr(rsp + END))?;
        a.jne(next)?;
        a.set_label(&mut done)?;
        match self.finish {
            RowFinish::Codes(codes) => self.store_codes(a, codes),
            RowFinish::Sums { pitch, factor, add } => {
                self.store_sums(a, pitch, Accumulators { lanes: self.lanes, factor, add, words: false })
            }
            RowFinish::Words { pitch, factor } => {
                self.store_sums(a, pitch, Accumulators { lanes: self.lanes, factor, add: false, words: true })
            }
        }
    }

    fn store_codes(self, a: &mut CodeAssembler, codes: LookUpCodes) -> Done {
        let residual = codes.residual.map(|r| (RESIDUAL, r.pitch));
        let moves: Vec<_> = [(OUT, codes.pitch), (r9, 4)].into_iter().chain(residual).collect();
        match self.lanes {
            Lanes::Xmm => {
                a.mov(rbp, qword_ptr(rsp + BLOCK))?;
                codes.prepare_block(a)?;
                self.each_tile(a, &moves, |a| {
                    (0..self.positions()).try_for_each(|i| codes.block(a, i, self.totals(i)[0]))
                })?;
                a.sub(r9, 4 * self.width as i32)
            }
            Lanes::Ymm => {
                codes.prepare(a)?;
                self.each_tile(a, &moves, |a| {
                    (0..self.positions()).try_for_each(|i| {
                        let [all, odd] = self.totals(i);
                        a.vmovdqu(ymm5, ymmword_ptr(all))?;
                        a.vmovdqu(ymm4, ymmword_ptr(odd))?;
                        codes_of_position(a, codes, i, [ymm5, ymm4])
                    })
                })
            }
        }
    }

    /// Stores accumulators: of each block first its outputs 0 … 7, then the others.
    fn store_sums(self, a: &mut CodeAssembler, pitch: usize, sums: Accumulators) -> Done {
        let lanes = self.lanes;
        a.mov(OUT, qword_ptr(r9))?;
        if lanes == Lanes::Xmm {
            // A block is 16 accumulators.
            a.mov(rbp, qword_ptr(rsp + BLOCK))?;
            a.shl(rbp, if sums.words { 4 } else { 5 })?;
            a.add(OUT, rbp)?;
        }
        sums.prepare(a)?;
        if sums.add {
            // What two tiles have is added once.
            let last = ROOM + self.index_bytes() + 2 * lanes.bytes() * self.positions() * (self.tiles() - 1);
            for part in 0..2 * self.overlap() {
                lanes.store(a, rsp + (last + part * lanes.bytes()) as i32, ZERO)?;
            }
        }
        // The second part is the other half of the block with SSE, the other block's with AVX2.
        let [odd, half] = match (lanes, sums.words) {
            (Lanes::Xmm, false) => [32, 16],
            (Lanes::Ymm, false) => [32, 64],
            (_, true) => [16, 32],
        };
        self.each_tile(a, &[(OUT, pitch), (r9, 4)], |a| {
            for i in 0..self.positions() {
                a.mov(eax, dword_ptr(r9 + (CODES_ADDENDS + 4 * i as i32)))?;
                sums.addend(a, eax)?;
                sums.store(a, self.totals(i), OUT + (i * pitch) as i32, [odd, half])?;
            }
            Ok(())
        })?;
        if lanes == Lanes::Xmm { a.sub(r9, 4 * self.width as i32) } else { Ok(()) }
    }

    /// What an input row adds to the sums.
    fn row(self, a: &mut CodeAssembler) -> Done {
        a.mov(CODES, qword_ptr(NEXT))?;
        a.add(CODES, qword_ptr(r9 + shift(self.width)))?;
        for (weights, block) in self.weights().zip([rdx, rcx]) {
            a.mov(weights, qword_ptr(NEXT + 8))?;
            a.add(weights, block)?;
        }
        a.add(NEXT, ENTRY as i32)?;
        let most = self.chunk_quads();
        repeat(a, CHUNKS, self.quads / most, |a| self.chunk(a, most))?;
        match self.quads % most {
            0 => Ok(()),
            rest => self.chunk(a, rest),
        }
    }

    /// The look-ups of `quads` of all positions of one input row, summed in bytes and added to the 16-bit sums.
    fn chunk(self, a: &mut CodeAssembler, quads: usize) -> Done {
        if self.apart() {
            self.take_apart(a, quads)?;
        }
        self.each_tile(a, &[(CODES, self.stride * self.pixel)], |a| {
            let sums = SUMS.into_iter().take(self.positions());
            sums.clone().try_for_each(|sum| self.lanes.zero(a, sum))?;
            self.all_look_ups(a, quads)?;
            a.sub(CODES, quads as i32)?;
            sums.enumerate().try_for_each(|(i, sum)| {
                let [all, odd] = self.totals(i);
                self.lanes.accumulate(a, all, sum, TABLE)?;
                self.lanes.shift_right(a, sum, 8)?;
                self.lanes.accumulate(a, odd, sum, TABLE)
            })
        })?;
        // From behind the row to the next quads of its first column.
        a.add(CODES, quads as i32 - (self.width * self.stride * self.pixel) as i32)
    }
}
