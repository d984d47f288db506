//! Rows of 16 floats, one after another, as 16 rows far apart, or the reverse, AVX-512: 16 × 16 floats at a time are transposed in
//! registers and leave as whole lines. Those of rows far apart go past the caches where they begin at lines, for what is written
//! so is far larger than they are. Reference: `products::weight_order::transpose`, `products::pack`.
//!
//! Bound: the memory that is read and written.

use super::vectors::ZMM;
use super::{leaf, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

type Done = Result<(), IcedError>;

/// Floats of a vector, and vectors of a block.
pub const SIDE: usize = 16;
/// Bytes of a vector.
const VECTOR: i32 = 64;
/// Bytes that levels are asked for ahead.
const AHEAD: i32 = 1024;

/// Where the rows lie that are far apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apart {
    /// They are read.
    From,
    /// They are read, and hold bytes in the lower halves of i16, four of which make what is transposed.
    FromLevels {
        /// What is written goes past the caches, as it is larger than they are.
        past: bool,
    },
    /// They are written.
    To,
    /// They are written, and read soon.
    Near,
}

impl Apart {
    /// The function `(from, to, apart, blocks)`: of so many blocks, at least one, rows of 16 floats one after another on the one
    /// side are columns of 16 rows, `apart` bytes from each other, on the other side.
    ///
    /// # Errors
    /// When it cannot be assembled.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        tile(image, &format!("tile.transpose.512.{self:?}"), |a| self.assemble(a))
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Done {
        leaf(a, &[], |a| match self {
            Apart::From => gather(a, Gathered { levels: false, past: false }),
            Apart::FromLevels { past } => gather(a, Gathered { levels: true, past }),
            Apart::To => scatter(a),
            Apart::Near => blocks(a, false),
        })
    }
}

/// What the blocks of [`gather`] are read from and how they are written.
#[derive(Clone, Copy)]
struct Gathered {
    levels: bool,
    past: bool,
}

fn gather(a: &mut CodeAssembler, how: Gathered) -> Done {
    let (mut near, mut done) = (a.create_label(), a.create_label());
    if how.past {
        a.test(esi, VECTOR as u32 - 1)?;
        a.jnz(near)?;
        gather_blocks(a, how)?;
        // Other threads find what was written past the caches.
        a.sfence()?;
        a.jmp(done)?;
        a.set_label(&mut near)?;
        a.zero_bytes()?;
    }
    gather_blocks(a, Gathered { past: false, ..how })?;
    a.set_label(&mut done)?;
    a.zero_bytes()
}

fn gather_blocks(a: &mut CodeAssembler, Gathered { levels, past }: Gathered) -> Done {
    let mut again = a.create_label();
    a.set_label(&mut again)?;
    a.mov(rax, rdi)?;
    for &row in ZMM.iter().take(SIDE) {
        if levels {
            row_of_levels(a, row)?;
        } else {
            a.vmovups(row, zmmword_ptr(rax))?;
        }
        a.add(rax, rdx)?;
    }
    for (i, column) in transposed(a)?.into_iter().enumerate() {
        let to = zmmword_ptr(rsi + VECTOR * i as i32);
        if past {
            a.vmovntps(to, column)?;
        } else {
            a.vmovups(to, column)?;
        }
    }
    a.add(rdi, if levels { 2 * VECTOR } else { VECTOR })?;
    a.add(rsi, VECTOR * SIDE as i32)?;
    a.dec(rcx)?;
    a.jnz(again)
}

/// 64 levels as bytes.
fn row_of_levels(a: &mut CodeAssembler, row: AsmRegisterZmm) -> Done {
    const HALVES: [(AsmRegisterZmm, AsmRegisterYmm); 2] = [(zmm16, ymm16), (zmm17, ymm17)];
    for (i, (half, bytes)) in HALVES.into_iter().enumerate() {
        let at = rax + VECTOR * i as i32;
        // The prefetchers of machines follow fewer rows at once, and none beyond a page.
        a.prefetcht1(byte_ptr(at + AHEAD))?;
        a.vmovdqu64(half, zmmword_ptr(at))?;
        a.vpmovwb(bytes, half)?;
    }
    a.vinserti64x4(row, zmm16, ymm17, 1)
}

fn scatter(a: &mut CodeAssembler) -> Done {
    let (mut near, mut done) = (a.create_label(), a.create_label());
    a.mov(rax, rsi)?;
    a.or(rax, rdx)?;
    a.test(eax, VECTOR as u32 - 1)?;
    a.jnz(near)?;
    blocks(a, true)?;
    // Other threads find what was written past the caches.
    a.sfence()?;
    a.jmp(done)?;
    a.set_label(&mut near)?;
    a.zero_bytes()?;
    blocks(a, false)?;
    a.set_label(&mut done)?;
    a.zero_bytes()
}

fn blocks(a: &mut CodeAssembler, past: bool) -> Done {
    let mut again = a.create_label();
    a.set_label(&mut again)?;
    for (i, &row) in ZMM.iter().take(SIDE).enumerate() {
        a.vmovups(row, zmmword_ptr(rdi + VECTOR * i as i32))?;
    }
    let columns = transposed(a)?;
    a.mov(rax, rsi)?;
    for column in columns {
        if past {
            a.vmovntps(zmmword_ptr(rax), column)?;
        } else {
            a.vmovups(zmmword_ptr(rax), column)?;
        }
        a.add(rax, rdx)?;
    }
    a.add(rdi, VECTOR * SIDE as i32)?;
    a.add(rsi, VECTOR)?;
    a.dec(rcx)?;
    a.jnz(again)
}

/// Transposes the first 16 registers by way of the others; gives the columns' registers.
fn transposed(a: &mut CodeAssembler) -> Result<[AsmRegisterZmm; SIDE], IcedError> {
    let [low, high] = [0, SIDE].map(|first| move |i: usize| ZMM[first + i]);
    // Pairs of rows, interleaved: quarter q of register 2i + h holds columns 4q + 2h, 4q + 2h + 1 of rows 2i, 2i + 1.
    for i in 0..8 {
        a.vunpcklps(high(2 * i), low(2 * i), low(2 * i + 1))?;
        a.vunpckhps(high(2 * i + 1), low(2 * i), low(2 * i + 1))?;
    }
    // Fours of rows: quarter q of register 4i + c holds column 4q + c of rows 4i … 4i + 3.
    for i in 0..4 {
        for half in 0..2 {
            let (first, second) = (high(4 * i + half), high(4 * i + 2 + half));
            a.vunpcklpd(low(4 * i + 2 * half), first, second)?;
            a.vunpckhpd(low(4 * i + 2 * half + 1), first, second)?;
        }
    }
    // Quarters of rows 0 … 7 and of rows 8 … 15: columns c and c + 8, then c + 4 and c + 12.
    for c in 0..4 {
        for half in 0..2 {
            let (first, second) = (low(8 * half + c), low(8 * half + 4 + c));
            a.vshuff32x4(high(8 * half + c), first, second, 0x88)?;
            a.vshuff32x4(high(8 * half + 4 + c), first, second, 0xdd)?;
        }
    }
    for c in 0..8 {
        let (first, second) = (high(c), high(8 + c));
        a.vshuff32x4(low(c), first, second, 0x88)?;
        a.vshuff32x4(low(8 + c), first, second, 0xdd)?;
    }
    Ok(std::array::from_fn(low))
}
