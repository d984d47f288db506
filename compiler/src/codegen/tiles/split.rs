//! The split-integer tile: neighbouring positions × 16 outputs of a convolution with fixed-point weights, from the sums of
//! digits to what is stored. Reference: `kernels::split_lanes`; all of it is exact, so the bits are the same.
//!
//! This file holds what the instruction sets share: shape, name, call and the nest of loops.

use super::split_pooled_vnni;
use super::{
    repeat, split_avx2, split_by_output_vnni, split_bytes_avx2, split_early, split_early_avx2, split_early_vnni,
    split_vnni, tile,
};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use crate::codegen::target::{Level, x86};
use crate::lower::split::{Products, Split, VECTOR};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// What a tile stores of an accumulator: four bytes an output but where it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitFinish {
    /// Its low 32 bits.
    Raw,
    /// Twice that of one digit plus the position's addend, an i32 each; the table is those (`kernels::box_sums`).
    Halved,
    /// Its value as f32.
    Decode,
    /// How many of so many thresholds it reaches.
    Threshold(usize),
    /// The same as `Layout::Nibbles` with so many bit planes, two bits an output.
    Nibbles {
        /// Thresholds.
        top: usize,
        /// Bit planes: 1 or 2.
        planes: usize,
    },
    /// The same for one or three thresholds, each in its own bit plane or two, decided early where the upper digits suffice.
    Early {
        /// Thresholds.
        top: usize,
        /// Low bits of the upper digits' sum that are ignored.
        shift: u32,
    },
    /// The same of the greatest accumulator of each window of positions; windows lie side by side.
    Pooled {
        /// Thresholds.
        top: usize,
        /// As of `Early`.
        shift: u32,
        /// Height and width.
        window: [usize; 2],
    },
}

impl SplitFinish {
    /// Bytes of the thresholds or scales of a block of outputs.
    pub fn table_bytes(self) -> usize {
        match self {
            SplitFinish::Decode => 2 * VECTOR,
            SplitFinish::Early { top, .. } | SplitFinish::Pooled { top, .. } => (4 * top + 1) * VECTOR,
            other => other.top() * 2 * VECTOR,
        }
    }

    /// Thresholds.
    pub fn top(self) -> usize {
        match self {
            SplitFinish::Raw | SplitFinish::Halved | SplitFinish::Decode => 0,
            SplitFinish::Threshold(top) => top,
            SplitFinish::Nibbles { top, .. } | SplitFinish::Early { top, .. } | SplitFinish::Pooled { top, .. } => top,
        }
    }
}

/// Rows of positions of a tile; distances in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// How many.
    pub count: usize,
    /// From the levels of one to those of the next.
    pub levels: usize,
    /// From the results of one to those of the next, where windows do not take all.
    pub results: usize,
}

impl Rows {
    pub(super) const ONE: Rows = Rows { count: 1, levels: 0, results: 0 };
}

/// The instructions of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instructions {
    /// vpmaddwd and vpaddd, 256 bits.
    Avx2 {
        /// vpdpwssd of AVX-VNNI instead.
        dot: bool,
    },
    /// vpmaddubsw and vpaddw, 256 bits, 16-bit sums holding so many steps; vpdpbusd of AVX-VNNI where that is not said.
    Bytes(Option<usize>),
    /// vpdpbusd, 512 bits.
    Vnni,
}

/// What the tile is specialised to; distances in bytes.
#[derive(Clone, Copy, Debug)]
pub struct SplitShape {
    pub(super) instructions: Instructions,
    /// Positions of a tile.
    pub positions: usize,
    /// Digits of a weight.
    pub(super) planes: usize,
    /// Bits of a digit but the last.
    pub(super) bits: u32,
    /// Loops over runs, then the steps of a run.
    pub(super) loops: [usize; 3],
    /// From one run of either loop to the next.
    pub(super) steps: [usize; 2],
    /// From one position's levels to the next.
    pub(super) position: usize,
    /// From one position's results to the next.
    pub(super) pitch: usize,
    /// Of the positions.
    pub(super) rows: Rows,
    /// What is stored.
    pub(super) finish: SplitFinish,
}

/// Positions of a tile of AVX-512 at least that decides codes early: fewer would wait for their sums.
const FEWEST: usize = 7;

/// Where a step's levels are read from; moves on by four bytes a step.
pub(super) const INPUT: AsmRegister64 = rax;
/// The weights of the step.
pub(super) const WEIGHTS: AsmRegister64 = rsi;
/// Where results go.
pub(super) const OUT: AsmRegister64 = rdx;
/// The table of thresholds or scales.
pub(super) const TABLE: AsmRegister64 = rcx;

impl SplitShape {
    /// Bytes of the list of open positions, aligned to 64.
    pub const LIST: usize = split_early::LIST;

    /// Whether the tile can store codes of a level's result as [`SplitFinish::Nibbles`].
    pub fn stores_nibbles(level: &Level) -> bool {
        level.has(x86::BMI2)
    }

    /// Whether a level multiplies bytes, four at a time, and stores codes.
    pub fn quads(level: &Level) -> bool {
        level.has_x86(x86::AVX512 | x86::VNNI | x86::BMI2)
    }

    /// The tile for rows of `width` positions: AVX2's for pairs, the others for quads; [`SplitShape::with`] completes it.
    pub fn of(split: &Split, width: usize, instructions: Instructions) -> SplitShape {
        let planes = split.planes;
        let most = match (instructions, split.early) {
            (Instructions::Bytes(_), _) => split_bytes_avx2::POSITIONS,
            (Instructions::Vnni, Some(_)) => split_early_vnni::positions(split.always()),
            (Instructions::Vnni, None) => 27 / planes.max(1),
            (Instructions::Avx2 { .. }, Some(_)) => split_early_avx2::POSITIONS,
            (Instructions::Avx2 { .. }, None) => 12 / planes.max(1),
        };
        let most = most.min(width).max(1);
        // The fewest positions beyond the row, then the most at once.
        let positions = (most.div_ceil(2)..=most).rev().min_by_key(|p| width.next_multiple_of(*p)).unwrap_or(1);
        let (loops, steps) = ([0; 3], [0; 2]);
        let (rows, finish) = (Rows::ONE, SplitFinish::Raw);
        SplitShape { instructions, positions, planes, bits: 0, loops, steps, position: 0, pitch: 0, rows, finish }
    }

    /// AVX-512 VNNI's tile of whole windows of rows of `width` positions, `None` where those do not divide a row;
    /// [`SplitShape::with`] completes it.
    pub fn pooled(split: &Split, window: [usize; 2], width: usize) -> Option<SplitShape> {
        let shift = split.early.filter(|_| split.products == Products::Quads)?;
        let most = split_early::MOST / window[0];
        let least = FEWEST.div_ceil(window[0]);
        let whole = |c: &usize| c.is_multiple_of(window[1]) && width.is_multiple_of(*c);
        let columns = (least..=most).rev().find(whole)?;
        let (positions, rows) = (window[0] * columns, Rows { count: window[0], ..Rows::ONE });
        let finish = SplitFinish::Pooled { top: 0, shift, window };
        Some(SplitShape { positions, rows, ..SplitShape::finishing(split.planes, split.bits, finish) })
    }

    /// The tile of some rows and columns of positions, of whole windows where there are any; [`SplitShape::with`] completes it.
    pub fn of_rows(
        instructions: Instructions,
        planes: usize,
        [rows, columns]: [usize; 2],
        window: Option<[usize; 2]>,
        shift: u32,
    ) -> SplitShape {
        let finish = match window {
            Some(window) => SplitFinish::Pooled { top: 0, shift, window },
            None => SplitFinish::Early { top: 0, shift },
        };
        let (positions, rows) = (rows * columns, Rows { count: rows, ..Rows::ONE });
        SplitShape { instructions, positions, rows, ..SplitShape::finishing(planes, 0, finish) }
    }

    /// Height and width of the positions that share a result.
    pub fn window(self) -> [usize; 2] {
        if let SplitFinish::Pooled { window, .. } = self.finish { window } else { [1, 1] }
    }

    /// What is stored.
    pub fn finish(self) -> SplitFinish {
        self.finish
    }

    /// Rows of positions.
    pub fn rows(self) -> Rows {
        self.rows
    }

    /// Neighbouring positions of a row.
    pub fn columns(self) -> usize {
        self.positions / self.rows.count
    }

    /// Neighbouring results of a row.
    pub(super) fn across(self) -> usize {
        self.columns() / self.window()[1]
    }

    /// Results of a tile.
    pub(super) fn results(self) -> usize {
        self.across() * (self.rows.count / self.window()[0])
    }

    /// From the tile's first result to result `i`, row by row.
    pub(super) fn result(self, i: usize) -> i32 {
        (i / self.across() * self.rows.results + i % self.across() * self.pitch) as i32
    }

    /// The first position of result `i`.
    pub(super) fn first(self, i: usize) -> usize {
        let [height, width] = self.window();
        i / self.across() * height * self.columns() + i % self.across() * width
    }

    /// The positions of one result by itself.
    pub(super) fn of_result(self) -> SplitShape {
        let [height, width] = self.window();
        SplitShape { positions: height * width, rows: Rows { count: height, ..self.rows }, ..self }
    }

    /// From the levels of the tile's first position to those of position `i`, row by row.
    pub(super) fn levels(self, i: usize) -> i32 {
        (i / self.columns() * self.rows.levels + i % self.columns() * self.position) as i32
    }

    /// What becomes of sums of digits of AVX-512, by itself.
    pub(super) fn finishing(planes: usize, bits: u32, finish: SplitFinish) -> SplitShape {
        let (instructions, positions) = (Instructions::Vnni, 1);
        let (loops, steps, rows) = ([0; 3], [0; 2], Rows::ONE);
        SplitShape { instructions, positions, planes, bits, loops, steps, position: 0, pitch: 0, rows, finish }
    }

    /// The tile for a layer: `steps` from one row and run to the next, `position` and `pitch` from one position's levels and
    /// results to the next.
    pub fn with(
        self,
        split: &Split,
        steps: [usize; 2],
        position: usize,
        pitch: usize,
        finish: SplitFinish,
    ) -> SplitShape {
        let loops = [split.runs[0], split.runs[1], split.steps()];
        SplitShape { bits: split.bits, loops, steps, position, pitch, finish, ..self }
    }

    /// The same with so many bytes from the levels and results of one row of positions to those of the next.
    pub fn with_rows(self, [levels, results]: [usize; 2]) -> SplitShape {
        SplitShape { rows: Rows { levels, results, ..self.rows }, ..self }
    }

    /// The same with vpdpwssd where it multiplies pairs and a level has that of 256 bits.
    pub fn with_dot(self, level: &Level) -> SplitShape {
        match self.instructions {
            Instructions::Avx2 { .. } => {
                SplitShape { instructions: Instructions::Avx2 { dot: level.has_x86(x86::AVXVNNI) }, ..self }
            }
            _ => self,
        }
    }

    /// The function `(input, weights, out, table)`: the first position's first level, the block's weights, its first result,
    /// its thresholds or scales. Where codes are decided early, `(input, weights, out, table, tiles, list)`: as many tiles side by
    /// side, and [`SplitShape::LIST`] bytes for open positions.
    ///
    /// # Errors
    /// When a distance does not fit an instruction.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        if self.farthest() >= 1 << 30 {
            return Err(CodegenError::TooLarge(format!("a split-integer tile over {:?}", self.loops)));
        }
        tile(image, &format!("tile.split.{}", self.name()), |a| self.assemble(a))
    }

    /// The greatest distance.
    pub(super) fn farthest(self) -> usize {
        let SplitShape { positions, planes, loops: [a, b, c], steps, position, pitch, rows, .. } = self;
        let rows = rows.count * rows.levels.max(rows.results);
        let all = [a * steps[0], b * steps[1], c * planes * VECTOR, positions * position, positions * pitch, rows];
        all.into_iter().max().unwrap_or(0)
    }

    /// What tells it from others.
    pub(super) fn name(self) -> String {
        let SplitShape { instructions, positions, planes, bits, loops, steps, position, pitch, rows, finish } = self;
        let [a, b, c] = loops;
        format!(
            "{instructions:?}.{positions}.{planes}x{bits}.{a}x{b}x{c}.{steps:?}.{position}.{pitch}.{rows:?}.{finish:?}"
        )
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let early = matches!(self.finish, SplitFinish::Early { .. });
        match self.instructions {
            _ if matches!(self.finish, SplitFinish::Pooled { .. }) => {
                split_early::assemble(self, &split_pooled_vnni::Pooled(self), a)
            }
            Instructions::Avx2 { .. } if early => split_early::assemble(self, &split_early_avx2::Avx2(self), a),
            Instructions::Avx2 { .. } => split_avx2::assemble(self, a),
            Instructions::Bytes(limit) => split_bytes_avx2::assemble(self, limit, a),
            Instructions::Vnni if early => split_early::assemble(self, &split_early_vnni::Vnni(self), a),
            Instructions::Vnni => split_vnni::assemble(self, a),
        }
    }

    /// Whether the tile reads the lowest digits of a block by output, as [`Split::by_output`] turns them.
    pub fn by_output(self) -> bool {
        let early = matches!(self.finish, SplitFinish::Early { .. });
        early && self.instructions == Instructions::Vnni && split_by_output_vnni::pays(self)
    }

    /// Steps of the whole reduction.
    pub(super) fn all_steps(self) -> usize {
        self.loops.iter().product()
    }

    /// What spreads mask bits to the nibbles of bytes: the lower ones for plane 0, the upper ones for plane 1.
    pub(super) fn spread(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        if let SplitFinish::Nibbles { .. } = self.finish {
            a.mov(r10d, 0x0F0F_0F0Fu32)?;
            a.mov(r11d, 0xF0F0_F0F0u32)?;
        }
        Ok(())
    }

    /// The loops over runs and steps; `step` gets how far the unrolled step's levels and weights lie from the registers.
    pub(super) fn nest(
        self,
        a: &mut CodeAssembler,
        step: impl FnMut(&mut CodeAssembler, i32, i32) -> Result<(), IcedError>,
    ) -> Result<(), IcedError> {
        self.nest_in_parts(a, self.loops[2], step, |_| Ok(()))
    }

    /// The same with the steps of a run in parts of at most `most`, with `between` behind each.
    pub(super) fn nest_in_parts(
        self,
        a: &mut CodeAssembler,
        most: usize,
        mut step: impl FnMut(&mut CodeAssembler, i32, i32) -> Result<(), IcedError>,
        mut between: impl FnMut(&mut CodeAssembler) -> Result<(), IcedError>,
    ) -> Result<(), IcedError> {
        let [rows, runs, steps] = self.loops;
        let weights = self.planes * VECTOR;
        let mut several = |a: &mut CodeAssembler, count: usize| {
            (0..count).try_for_each(|i| step(a, 4 * i as i32, (i * weights) as i32))?;
            a.add(INPUT, 4 * count as i32)?;
            a.add(WEIGHTS, (count * weights) as i32)
        };
        let mut part = |a: &mut CodeAssembler, steps: usize| {
            // The most at once of those that leave the fewest over.
            let unroll =
                if steps <= 16 { steps.max(1) } else { (8..=16).rev().min_by_key(|u| steps % u).unwrap_or(16) };
            a.push(rcx)?;
            repeat(a, ecx, steps / unroll, |a| several(a, unroll))?;
            a.pop(rcx)?;
            if !steps.is_multiple_of(unroll) {
                several(a, steps % unroll)?;
            }
            between(a)
        };
        repeat(a, r8d, rows, |a| {
            a.mov(r11, rdi)?;
            repeat(a, r9d, runs, |a| {
                a.mov(INPUT, r11)?;
                (0..steps).step_by(most.max(1)).try_for_each(|first| part(a, most.min(steps - first)))?;
                a.add(r11, self.steps[1] as i32)
            })?;
            a.add(rdi, self.steps[0] as i32)
        })
    }
}
