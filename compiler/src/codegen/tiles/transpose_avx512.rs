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
const LINE: i32 = 64;

/// Where the rows lie that are far apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apart {
    /// They are read.
    From,
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
            Apart::From => gather(a),
            Apart::To => scatter(a),
            Apart::Near => blocks(a, false),
        })
    }
}

fn gather(a: &mut CodeAssembler) -> Done {
    let mut again = a.create_label();
    a.set_label(&mut again)?;
    a.mov(rax, rdi)?;
    for &row in ZMM.iter().take(SIDE) {
        a.vmovups(row, zmmword_ptr(rax))?;
        a.add(rax, rdx)?;
    }
    for (i, column) in transposed(a)?.into_iter().enumerate() {
        a.vmovups(zmmword_ptr(rsi + LINE * i as i32), column)?;
    }
    a.add(rdi, LINE)?;
    a.add(rsi, LINE * SIDE as i32)?;
    a.dec(rcx)?;
    a.jnz(again)
}

fn scatter(a: &mut CodeAssembler) -> Done {
    let (mut near, mut done) = (a.create_label(), a.create_label());
    a.mov(rax, rsi)?;
    a.or(rax, rdx)?;
    a.test(eax, LINE as u32 - 1)?;
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
        a.vmovups(row, zmmword_ptr(rdi + LINE * i as i32))?;
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
    a.add(rdi, LINE * SIDE as i32)?;
    a.add(rsi, LINE)?;
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
