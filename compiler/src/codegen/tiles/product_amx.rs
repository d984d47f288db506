//! The product tile on AMX: up to four times 16 rows × 16 columns of C in tile registers, summed over steps of 64 bytes of A.
//! The packed vectors of B that 16 steps of `product` read, one after another, are one tile. Reference:
//! `products::tile_clif`; sums of integers are exact, so the bits are the same.
//!
//! Cost: 16 cycles a step and 16 rows, if the rows of A lie within cache lines; a row that crosses one triples the load.
//! Must never know convolutions.

use super::amx::{REGISTERS, ROW, ROWS};
use super::{leaf, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

type Done = Result<(), IcedError>;

/// Bytes of a tile.
pub const TILE: usize = ROWS * ROW;
/// Tiles of C that share a tile of B.
pub const TILES: usize = 4;

const SAVED: [AsmRegister64; 6] = [rbx, rbp, r12, r13, r14, r15];
/// Addresses of the tiles of A, and the same registers' lower halves.
const A: [AsmRegister64; TILES] = [r10, r11, r12, r13];
const A_LOW: [AsmRegister32; TILES] = [r10d, r11d, r12d, r13d];
const A_STRIDE: AsmRegister64 = rbx;
/// Bytes of a row of B, and of C where it is put aside.
const LINE: AsmRegister64 = r9;
const STEPS: AsmRegister64 = r14;
const LEFT: AsmRegister32 = r15d;

/// Where the rows of a tile lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Those of A so many bytes apart, those of C where a list says.
    Listed(usize),
    /// Those of A, and those of C, at distances that the caller gives.
    Even,
}

/// A leaf function of so many tiles of C, at most [`TILES`].
///
/// With listed rows it is `(a, b, c, list, steps)`: `list` holds for each tile the byte of A at which it begins, then the
/// number of rows to store, and for each the byte at which it stands in the sums and the one at which it lies in C; all are
/// u32. With even rows it is `(a, b, c, a_stride, c_stride, steps)`. `steps` holds their number, then the bytes of A and of B
/// at which each begins.
#[derive(Clone, Copy, Debug)]
pub struct ProductShape {
    /// Tiles of C.
    pub tiles: usize,
    /// Where their rows lie.
    pub rows: Rows,
    /// The sums start at the first vector of B, which no step counts.
    pub start: bool,
    /// They are stored as i16, which they fit; only where rows are listed.
    pub words: bool,
}

impl ProductShape {
    /// Its function.
    ///
    /// # Errors
    /// When it cannot be assembled.
    pub fn function(&self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let words = if self.words { ".words" } else { "" };
        let name = format!("tile.product.amx.{}.{:?}.{}{words}", self.tiles, self.rows, self.start);
        tile(image, &name, |a| self.assemble(a))
    }

    pub(super) fn assemble(&self, a: &mut CodeAssembler) -> Done {
        leaf(a, &SAVED, |a| {
            self.begin(a)?;
            self.steps(a)?;
            match self.rows {
                Rows::Listed(_) => self.store_listed(a),
                Rows::Even => self.store_evenly(a),
            }
        })
    }

    /// Addresses, distances and the first sums.
    fn begin(&self, a: &mut CodeAssembler) -> Done {
        match self.rows {
            Rows::Listed(stride) => {
                a.mov(STEPS, r8)?;
                a.mov(A_STRIDE, stride as u64)?;
                for (i, (&base, &low)) in A.iter().zip(&A_LOW).enumerate().take(self.tiles) {
                    a.mov(low, dword_ptr(rcx + 4 * i as i32))?;
                    a.add(base, rdi)?;
                }
            }
            Rows::Even => {
                a.mov(STEPS, r9)?;
                a.mov(A_STRIDE, rcx)?;
                a.shl(rcx, ROWS.ilog2())?;
                for &base in A.iter().take(self.tiles) {
                    a.mov(base, rdi)?;
                    a.add(rdi, rcx)?;
                }
            }
        }
        a.mov(LINE, ROW as u64)?;
        if self.start {
            // Every row is the same line.
            a.xor(eax, eax)?;
        }
        for &sums in REGISTERS.iter().take(self.tiles) {
            if self.start { a.tileloadd(sums, ptr(rsi + rax * 1))? } else { a.tilezero(sums)? }
        }
        if self.start { a.add(rsi, ROW as i32) } else { Ok(()) }
    }

    fn steps(&self, a: &mut CodeAssembler) -> Done {
        let [sums @ .., b, x, y, z] = REGISTERS;
        a.mov(LEFT, dword_ptr(STEPS))?;
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.mov(edi, dword_ptr(STEPS + 4))?;
        a.mov(eax, dword_ptr(STEPS + 8))?;
        a.add(STEPS, 8)?;
        a.add(rax, rsi)?;
        a.tileloadd(b, ptr(rax + LINE * 1))?;
        for (i, (&sum, &base)) in sums.iter().zip(&A).enumerate().take(self.tiles) {
            let rows = [x, y, z][i % 3];
            a.lea(rax, qword_ptr(base + rdi))?;
            a.tileloadd(rows, ptr(rax + A_STRIDE * 1))?;
            a.tdpbusd(sum, rows, b)?;
        }
        a.dec(LEFT)?;
        a.jnz(again)
    }

    fn store_evenly(&self, a: &mut CodeAssembler) -> Done {
        a.mov(rcx, r8)?;
        a.shl(rcx, ROWS.ilog2())?;
        for &sums in REGISTERS.iter().take(self.tiles) {
            a.tilestored(ptr(rdx + r8 * 1), sums)?;
            a.add(rdx, rcx)?;
        }
        Ok(())
    }

    /// By way of the stack, as the rows lie anywhere.
    fn store_listed(&self, a: &mut CodeAssembler) -> Done {
        a.mov(rbp, rsp)?;
        a.sub(rsp, (self.tiles * TILE) as i32)?;
        a.and(rsp, -(ROW as i32))?;
        for (i, &sums) in REGISTERS.iter().enumerate().take(self.tiles) {
            a.tilestored(ptr(rsp + LINE * 1 + (i * TILE) as i32), sums)?;
        }
        a.mov(LEFT, dword_ptr(rcx + 4 * self.tiles as i32))?;
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.mov(eax, dword_ptr(rcx + 4 * (self.tiles + 1) as i32))?;
        a.mov(edi, dword_ptr(rcx + 4 * (self.tiles + 2) as i32))?;
        a.vmovdqu64(zmm0, zmmword_ptr(rsp + rax))?;
        if self.words {
            a.vpmovdw(ymm0, zmm0)?;
            a.vmovdqu(ymmword_ptr(rdx + rdi), ymm0)?;
        } else {
            a.vmovdqu64(zmmword_ptr(rdx + rdi), zmm0)?;
        }
        a.add(rcx, 8)?;
        a.dec(LEFT)?;
        a.jnz(again)?;
        a.mov(rsp, rbp)
    }
}
