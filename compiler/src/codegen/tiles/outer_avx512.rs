//! Outer products of levels, one a sample, added with the sample's factor: the weight gradient of a layer with one output
//! position. AVX-512: up to 24 rows × 16 columns of sums stay in registers over all samples. A row's level is not multiplied
//! but selects the columns' products from a table of the sample, so that a sum costs one instruction; eight rows' levels are
//! loaded at once, as a load a row would cost as much as its products. Bound: a row a cycle. Reference: `products::tile_clif`;
//! the products are exact, so the bits are the same.
//!
//! Must never know convolutions.

use super::{leaf, tile, vectors::ZMM};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

type Done = Result<(), IcedError>;

/// Rows of sums in registers.
pub const ROWS: usize = 24;
/// Bytes of a vector.
const VECTOR: usize = 64;
const A: AsmRegisterZmm = zmm24;
const SCALE: AsmRegisterZmm = zmm25;
const PRODUCT: AsmRegisterZmm = zmm26;

/// Bytes of a sample's table for levels up to `top`: its factor, then the columns' products with each level.
pub const fn table_bytes(top: usize) -> usize {
    (top + 2) * VECTOR
}

/// A leaf function `(b, stride, scales, tables, count)`: the tables of so many samples, whose columns are i16 in the lower
/// halves of 16 words.
#[derive(Clone, Copy, Debug)]
pub struct TableShape {
    /// The greatest level of the rows.
    pub top: usize,
}

impl TableShape {
    /// Its function.
    ///
    /// # Errors
    /// When it cannot be assembled.
    pub fn function(&self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        tile(image, &format!("tile.outer.table.512.{}", self.top), |a| self.assemble(a))
    }

    pub(super) fn assemble(&self, a: &mut CodeAssembler) -> Done {
        leaf(a, &[], |a| {
            let mut again = a.create_label();
            a.set_label(&mut again)?;
            a.vbroadcastss(SCALE, dword_ptr(rdx))?;
            a.vmovups(zmmword_ptr(rcx), SCALE)?;
            a.vmovdqu64(A, zmmword_ptr(rdi))?;
            a.vpslld(A, A, 16)?;
            a.vpsrad(A, A, 16)?;
            a.vcvtdq2ps(A, A)?;
            a.vpxord(PRODUCT, PRODUCT, PRODUCT)?;
            for level in 0..=self.top {
                a.vmovups(zmmword_ptr(rcx + ((level + 1) * VECTOR) as i32), PRODUCT)?;
                a.vaddps(PRODUCT, PRODUCT, A)?;
            }
            a.add(rcx, table_bytes(self.top) as i32)?;
            a.add(rdx, 4)?;
            a.add(rdi, rsi)?;
            a.dec(r8)?;
            a.jnz(again)
        })
    }
}

/// Rows of several tiles, whose levels are gathered from all samples before they are read, as each sample is on a page of
/// its own.
pub const GATHERED: usize = 8 * ROWS;

/// Rows whose levels are loaded at once.
const AT_ONCE: usize = 8;
/// A level's byte, which addresses scale: its table's distance in eighths.
const EIGHTHS: i32 = (VECTOR / 8).ilog2() as i32;

/// A leaf function `(a, stride, to, count)`: so many samples' levels as distances within a table, in bytes, [`GATHERED`] apart.
#[derive(Clone, Copy, Debug)]
pub struct GatherShape {
    /// Levels of a sample.
    pub rows: usize,
}

impl GatherShape {
    /// Its function.
    ///
    /// # Errors
    /// When it cannot be assembled.
    pub fn function(&self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        tile(image, &format!("tile.outer.gather.512.{}", self.rows), |a| self.assemble(a))
    }

    pub(super) fn assemble(&self, a: &mut CodeAssembler) -> Done {
        leaf(a, &[], |a| {
            let mut again = a.create_label();
            a.set_label(&mut again)?;
            for at in (0..2 * self.rows as i32).step_by(VECTOR) {
                a.vmovdqu64(A, zmmword_ptr(rdi + at))?;
                a.vpsllw(A, A, EIGHTHS)?;
                a.vpmovwb(ymmword_ptr(rdx + at / 2), A)?;
            }
            a.add(rdi, rsi)?;
            a.add(rdx, GATHERED as i32)?;
            a.dec(rcx)?;
            a.jnz(again)
        })
    }
}

/// A leaf function `(a, tables, sums, count)`: adds the outer products of so many samples to sums that lie one after
/// another; the levels of the rows are gathered, and are read to a multiple of eight.
#[derive(Clone, Copy, Debug)]
pub struct OuterShape {
    /// The greatest level of the rows.
    pub top: usize,
    /// Rows, at most [`ROWS`].
    pub rows: usize,
    /// One rounding.
    pub fma: bool,
}

impl OuterShape {
    /// Its function.
    ///
    /// # Errors
    /// When it cannot be assembled.
    pub fn function(&self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let OuterShape { top, rows, fma } = self;
        tile(image, &format!("tile.outer.512.{top}.{rows}.{fma}"), |a| self.assemble(a))
    }

    pub(super) fn assemble(&self, a: &mut CodeAssembler) -> Done {
        let sums = || ZMM.into_iter().enumerate().take(self.rows);
        leaf(a, &[], |a| {
            // Second bytes of a register lie only in the first registers.
            let (to, count, levels) = (r9, r8, rax);
            a.mov(to, rdx)?;
            a.mov(count, rcx)?;
            for (i, sum) in sums() {
                a.vmovups(sum, zmmword_ptr(to + (i * VECTOR) as i32))?;
            }
            let mut again = a.create_label();
            a.set_label(&mut again)?;
            a.vbroadcastss(SCALE, dword_ptr(rsi))?;
            for (i, sum) in sums() {
                if i % AT_ONCE == 0 {
                    a.mov(levels, qword_ptr(rdi + i as i32))?;
                } else if i % 2 == 0 {
                    a.shr(levels, 16)?;
                }
                let (low, distance, byte) = if i % 2 == 0 { (ecx, rcx, al) } else { (edx, rdx, ah) };
                a.movzx(low, byte)?;
                let product = zmmword_ptr(rsi + distance * 8 + VECTOR as i32);
                if self.fma {
                    a.vfmadd231ps(sum, SCALE, product)?;
                } else {
                    a.vmulps(PRODUCT, SCALE, product)?;
                    a.vaddps(sum, sum, PRODUCT)?;
                }
            }
            a.add(rdi, GATHERED as i32)?;
            a.add(rsi, table_bytes(self.top) as i32)?;
            a.dec(count)?;
            a.jnz(again)?;
            for (i, sum) in sums() {
                a.vmovups(zmmword_ptr(to + (i * VECTOR) as i32), sum)?;
            }
            Ok(())
        })
    }
}
