//! Transformed rows of levels for Winograd's minimal filtering along y, AVX-512: B times n rows of bytes, as i16, for every phase
//! (`lower::split_winograd`). Bound: an addition for each of B's bits, 32 levels at a time.
//!
//! Behind a row's levels up to 63 bytes of each row are read and up to 64 of the transformed rows written.

use super::vectors::ZMM;
use super::{leaf, repeat, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use crate::lower::split_winograd::Filter;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Levels of a vector.
const LEVELS: usize = 32;
/// What is made, and a multiple of a row.
const RESULT: AsmRegisterZmm = zmm30;
const MULTIPLE: AsmRegisterZmm = zmm31;

/// What the function is specialised to; distances in bytes.
#[derive(Clone, Copy, Debug)]
pub struct RowTransform {
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
        let RowTransform { filter, levels, from, to } = self;
        if filter.phases * filter.values() * from.max(to) >= 1 << 30 {
            return Err(CodegenError::TooLarge(format!("rows of {levels} levels")));
        }
        tile(image, &format!("tile.split.winograd.rows.{filter:?}.{levels}.{from}.{to}"), |a| self.assemble(a))
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        leaf(a, &[], |a| {
            repeat(a, ecx, self.levels.div_ceil(LEVELS), |a| {
                (0..self.filter.phases).try_for_each(|phase| self.phase(a, phase))?;
                a.add(rdi, LEVELS as i32)?;
                a.add(rsi, 2 * LEVELS as i32)
            })
        })
    }

    fn phase(self, a: &mut CodeAssembler, phase: usize) -> Result<(), IcedError> {
        let (filter, multiplied) = (self.filter, self.filter.multiplied(phase));
        // The last row is only in the last value.
        for (i, row) in ZMM.into_iter().enumerate().take(multiplied) {
            a.vpmovzxbw(row, ymmword_ptr(rdi + ((i * filter.phases + phase) * self.from) as i32))?;
        }
        for (v, factors) in filter.input().into_iter().enumerate().take(multiplied) {
            a.vpxord(RESULT, RESULT, RESULT)?;
            for (&factor, row) in factors.iter().zip(ZMM) {
                add_multiple(a, row, factor)?;
            }
            a.vmovdqu16(zmmword_ptr(rsi + ((phase * filter.values() + v) * self.to) as i32), RESULT)?;
        }
        Ok(())
    }
}

/// Adds `factor` times a row to the result.
fn add_multiple(a: &mut CodeAssembler, row: AsmRegisterZmm, factor: i64) -> Result<(), IcedError> {
    for bit in (0..i64::BITS).filter(|bit| factor.unsigned_abs() >> bit & 1 == 1) {
        let multiple = if bit == 0 { row } else { MULTIPLE };
        if bit > 0 {
            a.vpsllw(MULTIPLE, row, bit)?;
        }
        if factor > 0 {
            a.vpaddw(RESULT, RESULT, multiple)?;
        } else {
            a.vpsubw(RESULT, RESULT, multiple)?;
        }
    }
    Ok(())
}
