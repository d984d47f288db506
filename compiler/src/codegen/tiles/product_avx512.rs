//! The product tile, AVX-512: 12 rows × 16 columns, one vector of B shared by the rows, the levels of A broadcast by the
//! instruction where it can. Bound: 64 MAC a cycle and port for levels, 128 for bytes, 16 for floats.

use super::product::{Done, Registers};
use super::vectors::ZMM;
use crate::codegen::products::{Arithmetic, Finish};
use iced_x86::code_asm::*;

/// Rows of a tile.
pub(super) const ROWS: usize = 12;
const B: AsmRegisterZmm = zmm16;
const SCALE: AsmRegisterZmm = zmm17;
const ONES: AsmRegisterZmm = zmm18;
/// Operands of A that cannot be broadcast in place, and products.
const A: AsmRegisterZmm = zmm19;
const PRODUCT: AsmRegisterZmm = zmm20;

/// The registers of 512 bits.
pub(super) struct Zmm {
    pub arithmetic: Arithmetic,
    /// vpdpbusd and vpdpwssd.
    pub vnni: bool,
}

impl Zmm {
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
        let sum = ZMM[row];
        match from {
            Some(from) => a.vmovups(sum, zmmword_ptr(from)),
            None => a.vpxord(sum, sum, sum),
        }
    }

    fn load(&self, a: &mut CodeAssembler, b: AsmMemoryOperand) -> Done {
        a.vmovups(B, zmmword_ptr(b))
    }

    fn combine(&self, a: &mut CodeAssembler, row: usize, from: AsmMemoryOperand, _: AsmMemoryOperand) -> Done {
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
                a.vpmaddwd(PRODUCT, PRODUCT, ONES)?;
                a.vpaddd(sum, sum, PRODUCT)
            }
        }
    }

    fn add(&self, a: &mut CodeAssembler, row: usize, from: AsmMemoryOperand) -> Done {
        a.vaddps(ZMM[row], ZMM[row], zmmword_ptr(from))
    }

    fn scale(&self, a: &mut CodeAssembler, from: AsmMemoryOperand) -> Done {
        a.vbroadcastss(SCALE, dword_ptr(from))
    }

    fn finish(&self, a: &mut CodeAssembler, row: usize, finish: Finish, to: AsmMemoryOperand) -> Done {
        let sum = ZMM[row];
        match finish {
            Finish::Store => return a.vmovups(zmmword_ptr(to), sum),
            Finish::Add => self.add(a, row, to)?,
            Finish::AddScaled { fma } => {
                a.vmovaps(A, sum)?;
                a.vmovups(sum, zmmword_ptr(to))?;
                self.scaled(a, sum, A, fma)?;
            }
        }
        a.vmovups(zmmword_ptr(to), sum)
    }

    fn single(&self, a: &mut CodeAssembler, row: usize, fma: bool, [from, b]: [AsmMemoryOperand; 2]) -> Done {
        a.vpbroadcastd(A, dword_ptr(from))?;
        a.vpmaddwd(A, A, zmmword_ptr(b))?;
        self.scaled(a, ZMM[row], A, fma)
    }
}
