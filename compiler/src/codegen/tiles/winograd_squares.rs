//! What Winograd's minimal filtering along both axes needs besides that along x, AVX-512: the gradient's rows halved and transformed
//! along y, the filters transformed along both axes, what is added to the results, and the sums along y at the end. Formulas:
//! `lower::train::requirements::winograd_squares`. Bound: the stores. Sums of bytes need VNNI.

use super::vectors::ZMM;
use super::winograd_transforms::{ONES, clear, filter, starts};
use super::{leaf, repeat, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use crate::lower::train::requirements::winograd::{TAPS, VALUES};
use iced_x86::IcedError;
use iced_x86::code_asm::*;
use std::ops::Range;

type Done = Result<(), IcedError>;

/// Bytes of a vector.
const VECTOR: usize = 64;

/// Four rows of odd levels, halved and transformed.
#[derive(Clone, Copy, Debug)]
pub struct SquareRows {
    /// Vectors of a row.
    pub vectors: usize,
    /// Bytes from one row to the next.
    pub row: usize,
    /// The levels' bias, which is odd, as the levels are: their bytes are even.
    pub bias: u8,
}

impl SquareRows {
    /// The function `(from, to)`: the first row, and where the four rows of values go, signed, one behind the other.
    ///
    /// # Errors
    /// When a distance does not fit an instruction.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let SquareRows { vectors, row, bias } = self;
        if VALUES * row.max(vectors * VECTOR) >= 1 << 31 {
            return Err(CodegenError::TooLarge(format!("rows of {row} bytes")));
        }
        tile(image, &format!("tile.winograd.squares.rows.{vectors}.{row}.{bias}"), |a| self.assemble(a))
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Done {
        let (zero, twice) = (zmm30, zmm31);
        let [h0, h1, h2, h3] = [zmm0, zmm1, zmm2, zmm3];
        let [e0, e1, e2, e3] = [zmm4, zmm5, zmm6, zmm7];
        leaf(a, &[], |a| {
            a.vpxord(zero, zero, zero)?;
            a.mov(eax, u32::from(self.bias.wrapping_add(1)))?;
            a.vpbroadcastb(twice, eax)?;
            repeat(a, ecx, self.vectors, |a| {
                // (byte + 1)/2 is the code where there is one, and h = 0's where there is none.
                for (i, h) in [h0, h1, h2, h3].into_iter().enumerate() {
                    a.vpavgb(h, zero, zmmword_ptr(rdi + i * self.row))?;
                }
                a.vpsubb(e0, h0, h2)?;
                a.vpaddb(e1, h1, h2)?;
                a.vpsubb(e1, e1, twice)?;
                a.vpsubb(e2, h2, h1)?;
                a.vpsubb(e3, h1, h3)?;
                for (i, e) in [e0, e1, e2, e3].into_iter().enumerate() {
                    a.vmovdqu32(zmmword_ptr(rsi + i * self.vectors * VECTOR), e)?;
                }
                a.add(rdi, VECTOR as i32)?;
                a.add(rsi, VECTOR as i32)
            })
        })
    }
}

/// Filters transformed along both axes, of nine packed taps, and what is added to the results.
#[derive(Clone, Debug)]
pub struct SquareFilters {
    /// Steps of a tap.
    pub steps: usize,
    /// Rows, columns of taps that reach a result: of each result's sum.
    pub reached: [Vec<Range<usize>>; 2],
}

impl SquareFilters {
    /// The function `(from, to)`: the first tap's first vector, and where what the sums start at goes, with the filters behind it, one
    /// value along y after another, and the addends behind them.
    ///
    /// # Errors
    /// When a distance does not fit an instruction.
    pub fn function(&self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let SquareFilters { steps, reached } = self;
        if *steps >= 1 << 20 {
            return Err(CodegenError::TooLarge(format!("filters of {steps} steps")));
        }
        tile(image, &format!("tile.winograd.squares.filters.{steps}.{reached:?}"), |a| self.assemble(a))
    }

    pub(super) fn assemble(&self, a: &mut CodeAssembler) -> Done {
        let sums = &ZMM[8..8 + VALUES];
        leaf(a, &[], |a| {
            for value in 0..VALUES {
                clear(a, sums)?;
                a.mov(r9, rdi)?;
                a.lea(r8, qword_ptr(rsi + (VALUES * VECTOR) as i32))?;
                repeat(a, edx, self.steps, |a| {
                    for column in 0..TAPS {
                        self.along_y(a, value, column)?;
                    }
                    filter(a, sums)?;
                    a.add(r9, VECTOR as i32)?;
                    a.add(r8, (VALUES * VECTOR) as i32)
                })?;
                starts(a, sums, rsi)?;
                a.add(rsi, ((1 + self.steps) * VALUES * VECTOR) as i32)?;
            }
            self.addends(a)
        })
    }

    /// The bytes of a tap's vectors before those of the first.
    fn tap(&self, row: usize, column: usize) -> usize {
        (row * TAPS + column) * self.steps * VECTOR
    }

    /// A column's taps transformed along y, for [`filter`].
    fn along_y(&self, a: &mut CodeAssembler, value: usize, column: usize) -> Done {
        let w = ZMM[column];
        let at = |row: usize| zmmword_ptr(r9 + self.tap(row, column));
        let last = TAPS - 1;
        a.vmovdqu32(w, at(if value == VALUES - 1 { last } else { 0 }))?;
        match value {
            0 | 3 => return a.vpaddb(w, w, w),
            1 => a.vpaddb(w, w, at(1))?,
            _ => a.vpsubb(w, w, at(1))?,
        }
        a.vpaddb(w, w, at(last))
    }

    /// The sums of the taps that reach a result.
    fn addends(&self, a: &mut CodeAssembler) -> Done {
        let sums = &ZMM[8..8 + TAPS * TAPS];
        clear(a, sums)?;
        repeat(a, edx, self.steps, |a| {
            for (i, &sum) in sums.iter().enumerate() {
                a.vpdpbusd(sum, ONES, zmmword_ptr(rdi + self.tap(i / TAPS, i % TAPS)))?;
            }
            a.add(rdi, VECTOR as i32)
        })?;
        let [rows, columns] = &self.reached;
        for (rows, columns) in rows.iter().flat_map(|rows| columns.iter().map(move |columns| (rows, columns))) {
            a.vpxord(zmm0, zmm0, zmm0)?;
            for tap in rows.clone().flat_map(|row| columns.clone().map(move |column| row * TAPS + column)) {
                a.vpaddd(zmm0, zmm0, sums[tap])?;
            }
            a.vmovdqu32(zmmword_ptr(rsi), zmm0)?;
            a.add(rsi, VECTOR as i32)?;
        }
        Ok(())
    }
}

/// Two rows of results of a row of tiles.
#[derive(Clone, Debug)]
pub struct SquareSums {
    /// Results of a row with the same addend, one after another.
    pub runs: Vec<usize>,
    /// Blocks of 16 columns, side by side.
    pub units: usize,
    /// Bytes from one value along y to the next.
    pub value: usize,
    /// Bytes from one column, row of results to the next.
    pub to: [usize; 2],
    /// Bytes from a unit's addends to the next one's.
    pub addends: usize,
}

impl SquareSums {
    /// The function `(from, to, addend, addend)`: the first column's sums along x, of all units one after another, the first result,
    /// and the addends of both rows.
    ///
    /// # Errors
    /// When a distance does not fit an instruction.
    pub fn function(&self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let SquareSums { runs, units, value, to, addends } = self;
        if [VALUES * value, to[1] + units * VECTOR, units * addends].iter().any(|&n| n >= 1 << 31) {
            return Err(CodegenError::TooLarge(format!("rows of {} bytes", to[1])));
        }
        let name = format!("tile.winograd.squares.sums.{runs:?}.{units}.{value}.{to:?}.{addends}");
        tile(image, &name, |a| self.assemble(a))
    }

    pub(super) fn assemble(&self, a: &mut CodeAssembler) -> Done {
        leaf(a, &[], |a| {
            for &run in &self.runs {
                for unit in 0..self.units {
                    for (addend, from) in self.both(unit).into_iter().zip([rdx, rcx]) {
                        a.vmovdqu32(addend, zmmword_ptr(from + unit * self.addends))?;
                    }
                }
                repeat(a, eax, run, |a| {
                    for unit in 0..self.units {
                        self.column(a, unit)?;
                    }
                    a.add(rdi, (self.units * VECTOR) as i32)?;
                    a.add(rsi, self.to[0] as i32)
                })?;
                a.add(rdx, VECTOR as i32)?;
                a.add(rcx, VECTOR as i32)?;
            }
            Ok(())
        })
    }

    /// The addends of a unit's two rows.
    fn both(&self, unit: usize) -> [AsmRegisterZmm; 2] {
        [ZMM[16 + 2 * unit], ZMM[17 + 2 * unit]]
    }

    /// A column of a unit: z0 + z1 + z2 and z1 − z2 − z3, and what is added.
    fn column(&self, a: &mut CodeAssembler, unit: usize) -> Done {
        let [first, second] = self.both(unit);
        let [above, below, z] = [ZMM[3 * unit], ZMM[3 * unit + 1], ZMM[3 * unit + 2]];
        let at = |value: usize| zmmword_ptr(rdi + (value * self.value + unit * VECTOR));
        a.vmovdqu32(z, at(1))?;
        a.vpaddd(above, first, z)?;
        a.vpaddd(below, second, z)?;
        a.vmovdqu32(z, at(2))?;
        a.vpaddd(above, above, z)?;
        a.vpsubd(below, below, z)?;
        a.vpaddd(above, above, at(0))?;
        a.vpsubd(below, below, at(3))?;
        a.vmovdqu32(zmmword_ptr(rsi + unit * VECTOR), above)?;
        a.vmovdqu32(zmmword_ptr(rsi + (self.to[1] + unit * VECTOR)), below)
    }
}
