//! Rows of levels that lie far apart, i16, as vectors of 16 columns of four bytes, one of each of four rows, AVX-512: neighbouring
//! columns in one call, whose vectors lie far apart too. What a column's sums start at, −bias · the sum of its bytes, is added up
//! on the way. Reference: `products::pack`.
//!
//! Bound: the memory that is read and written; the rows are asked for ahead, as pieces of rows on pages of their own are foreseen by
//! no machine.

use super::{leaf, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Rows of a vector.
pub const ROWS: usize = 4;
/// Fours of rows that are asked for ahead.
const AHEAD: u32 = 8;
/// Bytes of 16 levels.
const LEVELS: i32 = 32;

const ROW: [AsmRegisterYmm; ROWS] = [ymm0, ymm1, ymm2, ymm3];
const LOW: AsmRegisterYmm = ymm4;
const ONES: AsmRegisterZmm = zmm5;
const FACTOR: AsmRegisterZmm = zmm6;

/// What the function is specialised to.
#[derive(Clone, Copy, Debug)]
pub struct PackRows {
    /// What the other operand's bytes are too great by; 0 has no starts.
    pub bias: u8,
}

impl PackRows {
    /// The function `(from, to, starts, apart, next, count)`: so many times 16 columns, at least one, of four rows `apart` bytes from
    /// each other; vectors, and what the sums start at, lie `next` bytes from each other.
    ///
    /// # Errors
    /// When it cannot be assembled.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        tile(image, &format!("tile.pack_rows.512.{}", self.bias), |a| self.assemble(a))
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        leaf(a, &[], |a| {
            a.mov(eax, 0x00ff_00ffu32)?;
            a.vpbroadcastd(LOW, eax)?;
            a.mov(eax, 0x0101_0101u32)?;
            a.vpbroadcastd(ONES, eax)?;
            let factor = u32::from(i16::from(self.bias).wrapping_neg() as u16);
            a.mov(eax, factor << 16 | factor)?;
            a.vpbroadcastd(FACTOR, eax)?;
            // Three rows on; the place that is asked for.
            a.lea(r10, qword_ptr(rcx + rcx * 2))?;
            a.mov(rax, rcx)?;
            a.shl(rax, (AHEAD * ROWS as u32).ilog2())?;
            a.add(rax, rdi)?;
            let mut again = a.create_label();
            a.set_label(&mut again)?;
            self.sixteen(a)?;
            a.add(rdi, LEVELS)?;
            a.add(rax, LEVELS)?;
            a.add(rsi, r8)?;
            a.add(rdx, r8)?;
            a.dec(r9)?;
            a.jnz(again)
        })
    }

    fn sixteen(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let rows = |base: AsmRegister64| [base + 0, base + rcx, base + rcx * 2, base + r10];
        rows(rax).into_iter().try_for_each(|at| a.prefetcht1(byte_ptr(at)))?;
        for (row, at) in ROW.into_iter().zip(rows(rdi)) {
            a.vmovdqu(row, ymmword_ptr(at))?;
        }
        for (even, odd) in [(ymm0, ymm1), (ymm2, ymm3)] {
            a.vpand(even, even, LOW)?;
            a.vpsllw(odd, odd, 8)?;
            a.vpor(even, even, odd)?;
        }
        a.vpmovzxwd(zmm0, ymm0)?;
        a.vpmovzxwd(zmm2, ymm2)?;
        a.vpslld(zmm2, zmm2, 16)?;
        a.vpord(zmm0, zmm0, zmm2)?;
        a.vmovdqu64(zmmword_ptr(rsi), zmm0)?;
        if self.bias == 0 {
            return Ok(());
        }
        a.vpmaddubsw(zmm1, ONES, zmm0)?;
        a.vpmaddwd(zmm1, zmm1, FACTOR)?;
        a.vpaddd(zmm1, zmm1, zmmword_ptr(rdx))?;
        a.vmovdqu64(zmmword_ptr(rdx), zmm1)
    }
}
