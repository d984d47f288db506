//! The split-integer tile by Winograd's minimal filtering along y: n transformed rows × some positions side by side × 16 outputs, which
//! become m rows of positions; codes are decided from these sums, which approximate the accumulators (`lower::split_winograd`), and of
//! those that stay open all digits are multiplied. Reference: `kernels::split_lanes`; all of it is exact, so the bits are the same.
//!
//! This file holds what the instruction sets share: shape, name, call and the inverse transform.

use super::split::{Instructions, SplitShape};
use super::split_winograd_avx2::Avx2;
use super::split_winograd_vnni::Vnni;
use super::vectors::Width;
use super::{split_by_output_avx2, split_by_output_vnni, split_early, split_winograd_avx2, split_winograd_vnni, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use crate::lower::split::VECTOR;
use crate::lower::split_winograd::{Filter, SplitWinograd};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// What the tile is specialised to; distances in bytes.
#[derive(Clone, Copy, Debug)]
pub struct WinogradShape {
    /// Positions, results and what open ones read: levels as they are, all digits by output.
    pub exact: SplitShape,
    /// The filter.
    pub filter: Filter,
    /// Steps of two transformed elements.
    pub steps: usize,
    /// From one transformed row to the next.
    pub row: usize,
    /// From one position's transformed levels to the next.
    pub position: usize,
}

impl WinogradShape {
    /// Positions side by side of a tile: the fewest that pay, and at most.
    pub fn columns_of(filter: Filter, instructions: Instructions) -> [usize; 2] {
        match instructions {
            Instructions::Vnni => split_winograd_vnni::columns(filter),
            _ => split_winograd_avx2::COLUMNS,
        }
    }

    /// Whether what stays open can be finished.
    pub fn fits(exact: SplitShape) -> bool {
        match exact.instructions {
            Instructions::Vnni => split_by_output_vnni::fits(exact),
            _ => split_by_output_avx2::fits(exact),
        }
    }

    /// Instructions that an open output takes, about.
    pub fn open(exact: SplitShape) -> usize {
        match exact.instructions {
            Instructions::Vnni => split_by_output_vnni::cost(exact),
            _ => split_by_output_avx2::cost(exact),
        }
    }

    /// Bytes of the list, aligned to 64, and behind it of the sums that a tile of 256 bits keeps.
    pub fn list(self) -> usize {
        let kept = match self.exact.instructions {
            Instructions::Vnni => 0,
            _ => self.filter.values() * self.exact.columns() * VECTOR,
        };
        SplitShape::LIST + kept
    }

    /// The function `(input, weights, out, table, tiles, list, transformed)`: as [`SplitShape::function`] where codes are decided
    /// early, with the weights of `SplitWinograd::pack`, [`WinogradShape::list`] bytes, and the first position's transformed levels.
    ///
    /// # Errors
    /// When a distance does not fit an instruction.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let WinogradShape { exact, filter, steps, row, position } = self;
        let farthest = [exact.farthest(), filter.phases * filter.values() * row, filter.products() * steps * VECTOR];
        if farthest.iter().any(|d| *d >= 1 << 30) {
            return Err(CodegenError::TooLarge(format!("a tile of {filter:?} over {steps} steps")));
        }
        let name = format!("tile.split.winograd.{filter:?}.{steps}.{row}.{position}.{}", exact.name());
        tile(image, &name, |a| self.assemble(a))
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        match self.exact.instructions {
            Instructions::Vnni => split_early::assemble(self.exact, &Vnni(self), a),
            _ => split_early::assemble(self.exact, &Avx2(self), a),
        }
    }

    /// Bytes of a block's transformed weights, behind which those of all digits lie.
    pub(super) fn weights(self) -> usize {
        self.filter.products() * self.steps * VECTOR
    }

    pub(super) fn columns(self) -> usize {
        self.exact.columns()
    }
}

/// Sums of products, one register a value, as those of the rows of results: A applied in place, by sums and differences of the products
/// of opposite points. Gives where they are; of the other values' registers the fourth is free, where there is one.
pub(super) fn inverse(
    filter: Filter,
    width: Width,
    a: &mut CodeAssembler,
    values: &[usize],
    spare: usize,
) -> Result<Vec<usize>, IcedError> {
    let (Some((&origin, rest)), rows) = (values.split_first(), filter.results) else { return Ok(Vec::new()) };
    let Some((&infinity, finite)) = rest.split_last() else { return Ok(Vec::new()) };
    // Sum and difference of the products of each pair of opposite points; the same of a point without its opposite.
    let mut pairs = Vec::new();
    for pair in finite.chunks(2) {
        match *pair {
            [one, other] => {
                width.sub_i32(a, spare, [one, other])?;
                width.add_i32(a, one, [one, other])?;
                width.copy_i32(a, other, spare)?;
                pairs.push([one, other]);
            }
            _ => pairs.extend(pair.iter().map(|&one| [one, one])),
        }
    }
    let Some((&ones, twos)) = pairs.split_first() else { return Ok(Vec::new()) };
    let (last, two) = (rows - 1, twos.first().copied());
    let multiple_of_two = |a: &mut CodeAssembler, to: usize, row: usize| match two {
        None => Ok(()),
        Some(two) if row == 0 => width.add_i32(a, to, [to, two[0]]),
        Some(two) => {
            width.shift_up_i32(a, spare, two[row % 2], row as u32)?;
            width.add_i32(a, to, [to, spare])
        }
    };
    // The last row first, as rows between take the registers of the others of their parity.
    width.add_i32(a, infinity, [infinity, ones[last % 2]])?;
    multiple_of_two(a, infinity, last)?;
    width.add_i32(a, origin, [origin, ones[0]])?;
    multiple_of_two(a, origin, 0)?;
    let mut results = vec![origin];
    for row in 1..last {
        let one = ones[row % 2];
        multiple_of_two(a, one, row)?;
        results.push(one);
    }
    results.push(infinity);
    Ok(results)
}

/// The positions and results of a tile of the filter for rows of `width` positions, of whole windows where results are pooled: the fewest
/// beyond the row, then the most at once. `None` where a row is too short. `SplitShape::with` completes it.
pub fn exact(
    w: &SplitWinograd,
    instructions: Instructions,
    planes: usize,
    width: usize,
    window: Option<[usize; 2]>,
) -> Option<SplitShape> {
    let across = window.map_or(1, |[_, across]| across);
    let [fewest, most] = WinogradShape::columns_of(w.filter, instructions);
    let fitting = (fewest..=most.min(width)).filter(|c| c.is_multiple_of(across));
    let columns = fitting.rev().min_by_key(|&c| width.next_multiple_of(c))?;
    Some(SplitShape::of_rows(instructions, planes, [w.filter.results, columns], window, w.shift))
}
