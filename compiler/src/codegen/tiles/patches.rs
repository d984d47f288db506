//! The windows of neighbouring positions, each gathered into a row of bytes (im2col), for layers with few channels.
//! A run may spill into what lies behind it; that is written later, or meets weights of zero.
//!
//! Cost: a load and a store for each row of a window.

use super::tile;
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// What the function is specialised to; distances in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Patches {
    /// Rows of a window.
    pub rows: usize,
    /// From one row of the input to the next that a window reads.
    pub row: usize,
    /// Bytes of a row of a window: up to 64.
    pub run: usize,
    /// From one window to the next.
    pub stride: usize,
    /// From one patch to the next.
    pub patch: usize,
}

impl Patches {
    /// The function `(levels, patches, positions)`.
    ///
    /// # Errors
    /// When a distance does not fit an instruction.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let Patches { rows, row, run, stride, patch } = self;
        if (rows * row).max(stride).max(patch) >= 1 << 30 || run > 64 {
            return Err(CodegenError::TooLarge(format!("a window of {rows} rows of {run} bytes")));
        }
        tile(image, &format!("tile.patches.{rows}x{run}.{row}.{stride}.{patch}"), |a| self.assemble(a))
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let (mut again, mut end) = (a.create_label(), a.create_label());
        a.test(rdx, rdx)?;
        a.jz(end)?;
        a.set_label(&mut again)?;
        for y in 0..self.rows {
            let (from, to) = (rdi + (y * self.row) as i32, rsi + (y * self.run) as i32);
            match self.run {
                0..=16 => {
                    a.vmovdqu(xmm0, xmmword_ptr(from))?;
                    a.vmovdqu(xmmword_ptr(to), xmm0)?;
                }
                17..=32 => {
                    a.vmovdqu(ymm0, ymmword_ptr(from))?;
                    a.vmovdqu(ymmword_ptr(to), ymm0)?;
                }
                _ => {
                    a.vmovdqu8(zmm0, zmmword_ptr(from))?;
                    a.vmovdqu8(zmmword_ptr(to), zmm0)?;
                }
            }
        }
        a.add(rdi, self.stride as i32)?;
        a.add(rsi, self.patch as i32)?;
        a.dec(rdx)?;
        a.jnz(again)?;
        a.set_label(&mut end)?;
        a.vzeroupper()?;
        a.ret()
    }
}
