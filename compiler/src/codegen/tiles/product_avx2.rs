//! The product tile, AVX2: 6 rows × 16 columns, 12 sums in flight, each vector of B shared by the rows. Bound: 32 MAC a cycle
//! for levels, 64 for bytes where one instruction adds four products or where sums of two stay 16 bits wide, 16 for floats.

use super::product::{Done, Dot, Registers};
use crate::codegen::products::{Arithmetic, Finish};
use iced_x86::code_asm::*;

/// Rows of a tile.
pub(super) const ROWS: usize = 6;
const SUMS: [[AsmRegisterYmm; 2]; ROWS] =
    [[ymm0, ymm1], [ymm2, ymm3], [ymm4, ymm5], [ymm6, ymm7], [ymm8, ymm9], [ymm10, ymm11]];
const B: [AsmRegisterYmm; 2] = [ymm12, ymm13];
const A: AsmRegisterYmm = ymm14;
const TEMPORARY: AsmRegisterYmm = ymm15;
/// The factor of a reduction's sums; B is not wanted then.
const SCALE: AsmRegisterYmm = B[0];
/// Ones, where bytes are multiplied without VNNI: the second vector of B is then read from memory by each row.
const ONES: AsmRegisterYmm = B[1];

/// The registers of 256 bits.
pub(super) struct Ymm {
    pub arithmetic: Arithmetic,
    pub dot: Dot,
    /// Sums are of 16 bits, of two products each, until they are widened.
    pub narrow: bool,
}

/// All 16-bit lanes one.
pub(super) fn ones(a: &mut CodeAssembler, register: AsmRegisterYmm) -> Done {
    a.vpcmpeqw(register, register, register)?;
    a.vpabsw(register, register)
}

/// Adds 16-bit sums, widened, to 32-bit ones in memory, and begins again at zero; `ones` is [`ones`], `spare` is overwritten.
pub(super) fn widen(
    a: &mut CodeAssembler,
    sum: AsmRegisterYmm,
    into: AsmMemoryOperand,
    [ones, spare]: [AsmRegisterYmm; 2],
) -> Done {
    let into = ymmword_ptr(into);
    a.vpmaddwd(spare, sum, ones)?;
    a.vpaddd(spare, spare, into)?;
    a.vmovdqu(into, spare)?;
    a.vpxor(sum, sum, sum)
}

impl Ymm {
    fn with_ones(&self) -> bool {
        (self.arithmetic, self.dot) == (Arithmetic::Quads, Dot::Multiply) && !self.narrow
    }

    fn bytes(&self, a: &mut CodeAssembler, sums: [AsmRegisterYmm; 2], b: AsmMemoryOperand) -> Done {
        match self.dot {
            Dot::Multiply if self.narrow => {
                a.vpmaddubsw(TEMPORARY, A, B[0])?;
                a.vpmaddubsw(A, A, B[1])?;
                a.vpaddw(sums[0], sums[0], TEMPORARY)?;
                a.vpaddw(sums[1], sums[1], A)
            }
            Dot::Vex => {
                a.vpdpbusd(sums[0], A, B[0])?;
                a.vpdpbusd(sums[1], A, B[1])
            }
            Dot::Evex => {
                a.evex().vpdpbusd(sums[0], A, B[0])?;
                a.evex().vpdpbusd(sums[1], A, B[1])
            }
            Dot::Multiply => {
                a.vpmaddubsw(TEMPORARY, A, B[0])?;
                a.vpmaddubsw(A, A, ymmword_ptr(b + 32))?;
                a.vpmaddwd(TEMPORARY, TEMPORARY, ONES)?;
                a.vpmaddwd(A, A, ONES)?;
                a.vpaddd(sums[0], sums[0], TEMPORARY)?;
                a.vpaddd(sums[1], sums[1], A)
            }
        }
    }

    /// sum + scale·f32(integers), the integers in the temporary register.
    fn scaled(&self, a: &mut CodeAssembler, sum: AsmRegisterYmm, fma: bool) -> Done {
        a.vcvtdq2ps(TEMPORARY, TEMPORARY)?;
        if fma {
            return a.vfmadd231ps(sum, TEMPORARY, SCALE);
        }
        a.vmulps(TEMPORARY, TEMPORARY, SCALE)?;
        a.vaddps(sum, sum, TEMPORARY)
    }
}

impl Registers for Ymm {
    fn prepare(&self, a: &mut CodeAssembler) -> Done {
        if self.with_ones() { ones(a, ONES) } else { Ok(()) }
    }

    fn start(&self, a: &mut CodeAssembler, row: usize, from: Option<AsmMemoryOperand>) -> Done {
        for (half, sum) in SUMS[row].into_iter().enumerate() {
            match from {
                Some(from) => a.vmovups(sum, ymmword_ptr(from + 32 * half as i32))?,
                None => a.vpxor(sum, sum, sum)?,
            }
        }
        Ok(())
    }

    fn load(&self, a: &mut CodeAssembler, b: AsmMemoryOperand) -> Done {
        a.vmovups(B[0], ymmword_ptr(b))?;
        if self.with_ones() { Ok(()) } else { a.vmovups(B[1], ymmword_ptr(b + 32)) }
    }

    fn combine(&self, a: &mut CodeAssembler, row: usize, from: AsmMemoryOperand, b: AsmMemoryOperand) -> Done {
        let sums = SUMS[row];
        match self.arithmetic {
            Arithmetic::Fma => {
                a.vbroadcastss(A, dword_ptr(from))?;
                a.vfmadd231ps(sums[0], A, B[0])?;
                a.vfmadd231ps(sums[1], A, B[1])
            }
            Arithmetic::MulAdd => {
                a.vbroadcastss(A, dword_ptr(from))?;
                a.vmulps(TEMPORARY, A, B[0])?;
                a.vmulps(A, A, B[1])?;
                a.vaddps(sums[0], sums[0], TEMPORARY)?;
                a.vaddps(sums[1], sums[1], A)
            }
            Arithmetic::Pairs => {
                a.vpbroadcastd(A, dword_ptr(from))?;
                a.vpmaddwd(TEMPORARY, A, B[0])?;
                a.vpmaddwd(A, A, B[1])?;
                a.vpaddd(sums[0], sums[0], TEMPORARY)?;
                a.vpaddd(sums[1], sums[1], A)
            }
            Arithmetic::Quads => {
                a.vpbroadcastd(A, dword_ptr(from))?;
                self.bytes(a, sums, b)
            }
        }
    }

    fn widen(&self, a: &mut CodeAssembler, row: usize, into: AsmMemoryOperand) -> Done {
        if row == 0 {
            ones(a, A)?;
        }
        for (half, sum) in SUMS[row].into_iter().enumerate() {
            widen(a, sum, into + 32 * half as i32, [A, TEMPORARY])?;
        }
        Ok(())
    }

    fn widened(&self, a: &mut CodeAssembler, row: usize) -> Done {
        if row == 0 {
            ones(a, A)?;
        }
        SUMS[row].into_iter().try_for_each(|sum| a.vpmaddwd(sum, sum, A))
    }

    fn add_start(&self, a: &mut CodeAssembler, row: usize, from: AsmMemoryOperand) -> Done {
        let halves = SUMS[row].into_iter().enumerate();
        halves.into_iter().try_for_each(|(half, sum)| a.vpaddd(sum, sum, ymmword_ptr(from + 32 * half as i32)))
    }

    fn spill(&self, a: &mut CodeAssembler, row: usize, to: AsmMemoryOperand) -> Done {
        let halves = SUMS[row].into_iter().enumerate();
        halves.into_iter().try_for_each(|(half, sum)| a.vmovdqu(ymmword_ptr(to + 32 * half as i32), sum))
    }

    fn add(&self, a: &mut CodeAssembler, row: usize, from: AsmMemoryOperand) -> Done {
        let halves = SUMS[row].into_iter().enumerate();
        halves.into_iter().try_for_each(|(half, sum)| a.vaddps(sum, sum, ymmword_ptr(from + 32 * half as i32)))
    }

    fn scale(&self, a: &mut CodeAssembler, from: AsmMemoryOperand) -> Done {
        a.vbroadcastss(SCALE, dword_ptr(from))
    }

    fn finish(&self, a: &mut CodeAssembler, row: usize, finish: Finish, to: AsmMemoryOperand) -> Done {
        if finish == Finish::Words {
            let [low, high] = SUMS[row];
            a.vpackssdw(low, low, high)?;
            a.vpermq(low, low, 0b11_01_10_00)?;
            return a.vmovdqu(ymmword_ptr(to), low);
        }
        for (half, sum) in SUMS[row].into_iter().enumerate() {
            let at = ymmword_ptr(to + 32 * half as i32);
            match finish {
                Finish::Store | Finish::Words => {}
                Finish::Add => a.vaddps(sum, sum, at)?,
                Finish::AddScaled { fma } => {
                    a.vmovaps(TEMPORARY, sum)?;
                    a.vmovups(sum, at)?;
                    self.scaled(a, sum, fma)?;
                }
            }
            a.vmovups(at, sum)?;
        }
        Ok(())
    }

    fn single(&self, a: &mut CodeAssembler, row: usize, fma: bool, [from, b]: [AsmMemoryOperand; 2]) -> Done {
        a.vpbroadcastd(A, dword_ptr(from))?;
        for (half, sum) in SUMS[row].into_iter().enumerate() {
            a.vpmaddwd(TEMPORARY, A, ymmword_ptr(b + 32 * half as i32))?;
            self.scaled(a, sum, fma)?;
        }
        Ok(())
    }
}
