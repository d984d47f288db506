//! Sums of 16-entry look-ups of one position × 64 outputs, AVX2 and SSE: every table serves all of them, and weights are read as
//! one stream, ahead of their use. Reference: the 64-bit loop of `kernels::int_conv`.
//!
//! Cost: 22 instructions for 8 channels × 64 outputs with AVX2, 42 with SSE; at batch 1 a fully connected layer is bound by
//! reading its weights.

use super::look_up_lanes::Lanes;
use super::look_up_sums::Accumulators;
use super::{leaf, leaf_sse, repeat, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use crate::lower::pack::FLAT_TILE;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// What the tile is specialised to.
#[derive(Clone, Copy, Debug)]
pub struct LookUpFlat {
    /// The instructions.
    pub lanes: Lanes,
    /// Bytes of four channels, an even number.
    pub quads: usize,
    /// Look-ups that a byte lane can sum, an even number.
    pub limit: usize,
    /// The accumulator is this times the sum, plus the addend.
    pub factor: i32,
    /// It is added to what is there, without the addend: of the weights' second bit plane and those behind it.
    pub add: bool,
}

const CODES: AsmRegister64 = rdi;
const WEIGHTS: AsmRegister64 = rsi;
const TABLES: AsmRegister64 = rdx;
const OUT: AsmRegister64 = r8;
/// Bytes that the prefetcher is told of ahead.
const AHEAD: i32 = 2048;
/// Pairs of quads at most that are written out.
const UNROLL: usize = 10;

/// Registers by number: byte sums and packed indices of up to four vectors, a table, what is looked up there, a mask
/// and indices.
const SUMS: [usize; 4] = [0, 1, 2, 3];
const PACKED: [usize; 4] = [4, 5, 6, 7];
const TABLE: usize = 8;
const PART: usize = 9;
const NIBBLES: usize = 10;
const INDEX: usize = 11;
type Done = Result<(), IcedError>;

impl LookUpFlat {
    /// The function `(codes, weights, tables, addend, out)`: a byte for each quad, what `pack::flat_weights` makes of a plane of a
    /// block, `pack::look_up_tables`, an i32, and where 64 accumulators go as i32.
    ///
    /// # Errors
    /// When a distance does not fit an instruction.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        tile(image, &self.name(), |a| self.assemble(a))
    }

    /// What the function is called.
    pub fn name(self) -> String {
        let LookUpFlat { lanes, quads, limit, factor, add } = self;
        format!("tile.look_up.flat.{lanes:?}.{quads}.{limit}.{factor}.{add}")
    }

    /// Vectors of a block.
    fn vectors(self) -> usize {
        FLAT_TILE / self.lanes.bytes()
    }

    /// Where the 16-bit sums of a vector's even bytes, or of its odd ones, lie.
    fn totals(self, vector: usize, odd: usize) -> AsmMemoryOperand {
        rsp + ((2 * vector + odd) * self.lanes.bytes()) as i32
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Done {
        match self.lanes {
            Lanes::Ymm => leaf(a, &[], |a| self.all(a)),
            Lanes::Xmm => leaf_sse(a, &[], |a| self.all(a)),
        }
    }

    fn all(self, a: &mut CodeAssembler) -> Done {
        let lanes = self.lanes;
        a.mov(r9, rsp)?;
        a.sub(rsp, 2 * FLAT_TILE as i32)?;
        a.and(rsp, -32)?;
        a.mov(eax, 0x0F0F_0F0F_u32)?;
        lanes.splat(a, NIBBLES, eax)?;
        lanes.zero(a, TABLE)?;
        let totals = || (0..self.vectors()).flat_map(|v| [self.totals(v, 0), self.totals(v, 1)]);
        totals().try_for_each(|at| lanes.store(a, at, TABLE))?;
        repeat(a, r11d, self.quads / self.limit, |a| self.chunk(a, self.limit))?;
        match self.quads % self.limit {
            0 => {}
            rest => self.chunk(a, rest)?,
        }
        self.store(a)?;
        a.mov(rsp, r9)
    }

    /// `quads` look-ups an output summed in bytes, then added to the 16-bit sums.
    fn chunk(self, a: &mut CodeAssembler, quads: usize) -> Done {
        let (lanes, sums) = (self.lanes, || SUMS.into_iter().take(self.vectors()));
        sums().try_for_each(|sum| lanes.zero(a, sum))?;
        let (pairs, at_once) = (quads / 2, (quads / 2).min(UNROLL));
        repeat(a, r10d, pairs / at_once, |a| self.pairs(a, at_once))?;
        self.pairs(a, pairs % at_once)?;
        sums().enumerate().try_for_each(|(v, sum)| {
            lanes.accumulate(a, self.totals(v, 0), sum, PART)?;
            lanes.shift_right(a, sum, 8)?;
            lanes.accumulate(a, self.totals(v, 1), sum, PART)
        })
    }

    /// `count` pairs of quads; moves the pointers on.
    fn pairs(self, a: &mut CodeAssembler, count: usize) -> Done {
        let lanes = self.lanes;
        for pair in 0..count {
            let weights = WEIGHTS + (pair * FLAT_TILE) as i32;
            a.prefetcht0(byte_ptr(weights + AHEAD))?;
            for quad in 0..2 {
                a.movzx(eax, byte_ptr(CODES + (2 * pair + quad) as i32))?;
                a.shl(eax, 4)?;
                lanes.table(a, TABLE, TABLES + rax)?;
                for (v, (sum, packed)) in SUMS.into_iter().zip(PACKED).enumerate().take(self.vectors()) {
                    if quad == 0 {
                        lanes.load(a, packed, weights + (v * lanes.bytes()) as i32)?;
                        lanes.and(a, INDEX, [packed, NIBBLES])?;
                        lanes.shuffle(a, PART, [TABLE, INDEX])?;
                    } else {
                        lanes.shift_right(a, packed, 4)?;
                        lanes.and(a, packed, [packed, NIBBLES])?;
                        lanes.shuffle(a, PART, [TABLE, packed])?;
                    }
                    lanes.add_bytes(a, sum, PART)?;
                }
            }
        }
        if count > 0 {
            a.add(CODES, 2 * count as i32)?;
            a.add(WEIGHTS, (count * FLAT_TILE) as i32)?;
        }
        Ok(())
    }

    /// Stores the accumulators: of each 32 outputs the even bytes are the first sixteen.
    fn store(self, a: &mut CodeAssembler) -> Done {
        let LookUpFlat { lanes, factor, add, .. } = self;
        let sums = Accumulators { lanes, factor, add, words: false };
        sums.prepare(a)?;
        sums.addend(a, ecx)?;
        (0..self.vectors()).try_for_each(|v| {
            let at = v * lanes.bytes();
            let first = OUT + (4 * (at / 32 * 32 + at % 32 / 2)) as i32;
            sums.store(a, [self.totals(v, 0), self.totals(v, 1)], first, [64, lanes.bytes()])
        })
    }
}
