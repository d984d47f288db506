//! Transformed rows of levels for Winograd's minimal filtering along y: B times n rows of bytes (AVX-512) or of i16 (AVX2), as i16, for
//! every phase (`lower::split_winograd`). Bound: an addition for each of B's bits, 32 or 16 levels at a time.
//!
//! Behind a row's levels up to 63 bytes of each row are read and up to 64 of the transformed rows written.

use super::vectors::{Width, YMM, ZMM, either};
use super::{leaf, repeat, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use crate::lower::split_winograd::Filter;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Levels that a row is filled up to: a vector of the widest.
const LEVELS: usize = 32;

/// What the function is specialised to; distances in bytes.
#[derive(Clone, Copy, Debug)]
pub struct RowTransform {
    /// Of the vectors: bytes are read at 512 bits, i16 at 256.
    pub width: Width,
    /// The filter.
    pub filter: Filter,
    /// Levels of a row.
    pub levels: usize,
    /// From one row of levels to the next.
    pub from: usize,
    /// From one transformed row to the next.
    pub to: usize,
}

impl RowTransform {
    /// Bytes of a transformed row of so many levels.
    pub fn row(levels: usize) -> usize {
        2 * levels.next_multiple_of(LEVELS)
    }

    /// The function `(levels, transformed)`: the uppermost row; for each phase the transformed rows.
    ///
    /// # Errors
    /// When a distance does not fit an instruction.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let RowTransform { width, filter, levels, from, to } = self;
        if filter.phases * filter.values() * from.max(to) >= 1 << 30 {
            return Err(CodegenError::TooLarge(format!("rows of {levels} levels")));
        }
        tile(image, &format!("tile.split.winograd.rows.{width:?}.{filter:?}.{levels}.{from}.{to}"), |a| {
            self.assemble(a)
        })
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let levels = 2 * self.width.lanes();
        let element = if self.width == Width::Zmm { 1 } else { 2 };
        leaf(a, &[], |a| {
            repeat(a, ecx, self.levels.div_ceil(levels), |a| {
                (0..self.filter.phases).try_for_each(|phase| self.phase(a, phase))?;
                a.add(rdi, (element * levels) as i32)?;
                a.add(rsi, 2 * levels as i32)
            })
        })
    }

    fn phase(self, a: &mut CodeAssembler, phase: usize) -> Result<(), IcedError> {
        let (filter, multiplied) = (self.filter, self.filter.multiplied(phase));
        // The last row is only in the last value.
        for row in 0..multiplied {
            let from = rdi + ((row * filter.phases + phase) * self.from) as i32;
            match self.width {
                Width::Zmm => a.vpmovzxbw(ZMM[row], ymmword_ptr(from))?,
                Width::Ymm => a.vmovdqu(YMM[row], ymmword_ptr(from))?,
            }
        }
        for (v, factors) in filter.input().into_iter().enumerate().take(multiplied) {
            self.width.zero(a, self.result())?;
            for (row, &factor) in factors.iter().enumerate() {
                self.add_multiple(a, row, factor)?;
            }
            let to = rsi + ((phase * filter.values() + v) * self.to) as i32;
            match self.width {
                Width::Zmm => a.vmovdqu16(zmmword_ptr(to), ZMM[self.result()])?,
                Width::Ymm => a.vmovdqu(ymmword_ptr(to), YMM[self.result()])?,
            }
        }
        Ok(())
    }

    /// What is made; a multiple of a row is in the register behind.
    fn result(self) -> usize {
        self.width.registers() - 2
    }

    /// Adds `factor` times a row to the result.
    fn add_multiple(self, a: &mut CodeAssembler, row: usize, factor: i64) -> Result<(), IcedError> {
        let (width, result) = (self.width, self.result());
        for bit in (0..i64::BITS).filter(|bit| factor.unsigned_abs() >> bit & 1 == 1) {
            let multiple = if bit == 0 { row } else { result + 1 };
            match width {
                _ if bit == 0 => {}
                Width::Zmm => a.vpsllw(ZMM[multiple], ZMM[row], bit)?,
                Width::Ymm => a.vpsllw(YMM[multiple], YMM[row], bit)?,
            }
            if factor > 0 {
                either!(width, a.vpaddw([result], [result], [multiple]))?;
            } else {
                either!(width, a.vpsubw([result], [result], [multiple]))?;
            }
        }
        Ok(())
    }
}
