//! The product tile, AVX-512: 12 rows × 16 columns, one vector of B shared by the rows, the levels of A broadcast by the
//! instruction where it can. Bound: 64 MAC a cycle and port for levels, 128 for bytes, 16 for floats. Floats and bytes that
//! vpdpbusd multiplies are taken from two or three units at once where there are, 12 or 8 rows of them: with one, loads and not
//! sums were the bound.

use super::product::{Done, Registers};
use super::vectors::ZMM;
use crate::codegen::products::{Arithmetic, Finish, Units};
use iced_x86::code_asm::*;

/// Rows of a tile of one unit.
pub(super) const ROWS: usize = 12;
/// A unit's vector each.
const B_UNITS: [AsmRegisterZmm; 3] = [zmm24, zmm25, zmm26];
const B: AsmRegisterZmm = B_UNITS[0];
const SCALE: AsmRegisterZmm = zmm27;
const ONES: AsmRegisterZmm = zmm28;
/// Operands of A that cannot be broadcast in place, and products.
const A: AsmRegisterZmm = zmm29;
const PRODUCT: AsmRegisterZmm = zmm30;
/// Its lower half.
const WORDS: AsmRegisterYmm = ymm30;

/// Rows of a tile of so many units.
pub(super) fn rows(units: usize) -> usize {
    if units == 3 { 8 } else { ROWS }
}

/// The registers of 512 bits.
pub(super) struct Zmm {
    pub arithmetic: Arithmetic,
    /// Units side by side, more than one of integers only where vpdpbusd adds them.
    pub units: Units,
    /// vpdpbusd and vpdpwssd.
    pub vnni: bool,
    /// Sums are of 16 bits, of two products each, until they are widened.
    pub narrow: bool,
}

impl Zmm {
    /// The sums of a row: a register a unit, with the distances to its vectors in B and in C.
    fn sums(&self, row: usize) -> impl Iterator<Item = (AsmRegisterZmm, AsmRegisterZmm, [i32; 2])> {
        let Units { count, b, c } = self.units;
        let registers = ZMM.into_iter().skip(row * count).zip(B_UNITS).take(count);
        registers.enumerate().map(move |(i, (sum, vector))| (sum, vector, [(i * b) as i32, (i * c) as i32]))
    }

    /// sum + scale·f32(integers).
    fn scaled(&self, a: &mut CodeAssembler, sum: AsmRegisterZmm, integers: AsmRegisterZmm, fma: bool) -> Done {
        a.vcvtdq2ps(PRODUCT, integers)?;
        if fma {
            return a.vfmadd231ps(sum, PRODUCT, SCALE);
        }
        a.vmulps(PRODUCT, PRODUCT, SCALE)?;
        a.vaddps(sum, sum, PRODUCT)
    }
}

impl Registers for Zmm {
    fn prepare(&self, a: &mut CodeAssembler) -> Done {
        if self.arithmetic == Arithmetic::Quads && !self.vnni {
            a.vpternlogd(ONES, ONES, ONES, 0xff)?;
            a.vpabsw(ONES, ONES)?;
        }
        Ok(())
    }

    fn start(&self, a: &mut CodeAssembler, row: usize, from: Option<AsmMemoryOperand>) -> Done {
        self.sums(row).try_for_each(|(sum, _, [b, _])| match from {
            Some(from) => a.vmovups(sum, zmmword_ptr(from + b)),
            None => a.vpxord(sum, sum, sum),
        })
    }

    fn load(&self, a: &mut CodeAssembler, b: AsmMemoryOperand) -> Done {
        self.sums(0).try_for_each(|(_, vector, [unit, _])| a.vmovups(vector, zmmword_ptr(b + unit)))
    }

    fn combine(&self, a: &mut CodeAssembler, row: usize, from: AsmMemoryOperand, _: AsmMemoryOperand) -> Done {
        if self.units.count > 1 {
            a.vbroadcastss(A, dword_ptr(from))?;
            return self.sums(row).try_for_each(|(sum, b, _)| match self.arithmetic {
                Arithmetic::Fma => a.vfmadd231ps(sum, b, A),
                Arithmetic::Quads => a.vpdpbusd(sum, A, b),
                _ => {
                    a.vmulps(PRODUCT, b, A)?;
                    a.vaddps(sum, sum, PRODUCT)
                }
            });
        }
        let sum = ZMM[row];
        match self.arithmetic {
            Arithmetic::Fma => a.vfmadd231ps(sum, B, dword_bcst(from)),
            Arithmetic::MulAdd => {
                a.vmulps(PRODUCT, B, dword_bcst(from))?;
                a.vaddps(sum, sum, PRODUCT)
            }
            Arithmetic::Pairs if self.vnni => a.vpdpwssd(sum, B, dword_bcst(from)),
            Arithmetic::Pairs => {
                a.vpbroadcastd(A, dword_ptr(from))?;
                a.vpmaddwd(PRODUCT, A, B)?;
                a.vpaddd(sum, sum, PRODUCT)
            }
            Arithmetic::Quads if self.vnni => {
                a.vpbroadcastd(A, dword_ptr(from))?;
                a.vpdpbusd(sum, A, B)
            }
            Arithmetic::Quads => {
                a.vpbroadcastd(A, dword_ptr(from))?;
                a.vpmaddubsw(PRODUCT, A, B)?;
                if self.narrow {
                    return a.vpaddw(sum, sum, PRODUCT);
                }
                a.vpmaddwd(PRODUCT, PRODUCT, ONES)?;
                a.vpaddd(sum, sum, PRODUCT)
            }
        }
    }

    fn widen(&self, a: &mut CodeAssembler, row: usize, into: AsmMemoryOperand) -> Done {
        let (sum, into) = (ZMM[row], zmmword_ptr(into));
        a.vpmaddwd(PRODUCT, sum, ONES)?;
        a.vpaddd(PRODUCT, PRODUCT, into)?;
        a.vmovdqu32(into, PRODUCT)?;
        a.vpxord(sum, sum, sum)
    }

    fn widened(&self, a: &mut CodeAssembler, row: usize) -> Done {
        a.vpmaddwd(ZMM[row], ZMM[row], ONES)
    }

    fn add_start(&self, a: &mut CodeAssembler, row: usize, from: AsmMemoryOperand) -> Done {
        a.vpaddd(ZMM[row], ZMM[row], zmmword_ptr(from))
    }

    fn spill(&self, a: &mut CodeAssembler, row: usize, to: AsmMemoryOperand) -> Done {
        a.vmovdqu32(zmmword_ptr(to), ZMM[row])
    }

    fn add(&self, a: &mut CodeAssembler, row: usize, from: AsmMemoryOperand) -> Done {
        self.sums(row).try_for_each(|(sum, _, [b, _])| a.vaddps(sum, sum, zmmword_ptr(from + b)))
    }

    fn scale(&self, a: &mut CodeAssembler, from: AsmMemoryOperand) -> Done {
        a.vbroadcastss(SCALE, dword_ptr(from))
    }

    fn finish(&self, a: &mut CodeAssembler, row: usize, finish: Finish, to: AsmMemoryOperand) -> Done {
        self.sums(row).try_for_each(|(sum, _, [_, c])| {
            let (words, to) = (ymmword_ptr(to + c), zmmword_ptr(to + c));
            match finish {
                Finish::Store => {}
                Finish::Words => {
                    a.vpmovdw(WORDS, sum)?;
                    return a.vmovdqu16(words, WORDS);
                }
                Finish::Add => a.vaddps(sum, sum, to)?,
                Finish::AddScaled { fma } => {
                    a.vmovaps(A, sum)?;
                    a.vmovups(sum, to)?;
                    self.scaled(a, sum, A, fma)?;
                }
            }
            a.vmovups(to, sum)
        })
    }

    fn single(&self, a: &mut CodeAssembler, row: usize, fma: bool, [from, b]: [AsmMemoryOperand; 2]) -> Done {
        a.vpbroadcastd(A, dword_ptr(from))?;
        a.vpmaddwd(A, A, zmmword_ptr(b))?;
        self.scaled(a, ZMM[row], A, fma)
    }
}
