//! The product tile of Winograd's minimal filtering along x, AVX-512 VNNI: 6 rows × 16 columns, where a row stands for neighbouring
//! results of one transformed tile of four values, each with a vector of B and a sum of its own. What the sums become is the
//! inverse transform; `products::winograd` has the formulas. Bound: as many products a cycle as the plain tile, of which there are
//! two thirds as many. Reference: the plain products.

use super::product::{Done, Registers};
use super::vectors::ZMM;
use crate::codegen::products::{Finish, Tile, Winograd};
use crate::lower::train::requirements::winograd::VALUES;
use iced_x86::code_asm::*;

/// Rows of a tile.
pub const ROWS: usize = 6;
/// Bytes of a vector.
const VECTOR: usize = 64;
/// A value's vector each, behind the sums.
const B: [AsmRegisterZmm; VALUES] = [zmm24, zmm25, zmm26, zmm27];
const A: AsmRegisterZmm = zmm28;
const SCALE: AsmRegisterZmm = zmm29;
const BOTH: AsmRegisterZmm = zmm30;

/// Two rows of the samples ahead: the first three rows are a channel's as a rule, and so are the others, whose first is enough.
const AHEAD: [AsmRegister64; 2] = [r8, r9];

/// The rows of A that a tile prefetches: those of as many samples ahead as it adds, where it adds several.
pub(super) fn ahead(t: &Tile) -> impl Iterator<Item = AsmRegister64> {
    let several = t.winograd.is_some() && t.finish.adds();
    AHEAD.into_iter().filter(move |_| several)
}

/// Prepares the rows ahead of `rows`, from the number of samples in rdx and the distance from one to the next in rcx.
pub(super) fn look_ahead(t: &Tile, a: &mut CodeAssembler, rows: [AsmRegister64; 2]) -> Done {
    ahead(t).zip(rows).try_for_each(|(ahead, row)| {
        a.mov(ahead, rdx)?;
        a.imul_2(ahead, rcx)?;
        a.add(ahead, row)
    })
}

/// Prefetches what step `step` of the next call that takes the same rows reads: a value a step, as a line lasts for many. The
/// planes of a few channels are too short for the machine to foresee them.
pub(super) fn prefetch(t: &Tile, a: &mut CodeAssembler, at: (AsmRegister64, i32), step: usize) -> Done {
    let distance = t.winograd.map_or(0, |w| step % VALUES * w.a);
    ahead(t).try_for_each(|row| a.prefetcht1(byte_ptr(row + at.0 + at.1 + distance)))
}

/// The registers of the tile.
pub(super) struct Zmm(pub Winograd);

impl Zmm {
    /// The sums of a row, one a value.
    fn sums(row: usize) -> [AsmRegisterZmm; VALUES] {
        std::array::from_fn(|i| ZMM[row * VALUES + i])
    }

    /// Adds the scaled taps of F(3,2) to floats.
    fn add_taps(&self, a: &mut CodeAssembler, row: usize, fma: bool, to: AsmMemoryOperand) -> Done {
        let [m0, m1, m2, m3] = Zmm::sums(row);
        a.vpaddd(BOTH, m1, m2)?;
        a.vpsubd(m1, m1, m2)?;
        a.vpaddd(m0, m0, BOTH)?;
        a.vpaddd(m3, m3, BOTH)?;
        for (i, tap) in [m0, m1, m3].into_iter().enumerate() {
            let to = zmmword_ptr(to + i * self.0.c);
            a.vpsrad(tap, tap, 1)?;
            a.vcvtdq2ps(tap, tap)?;
            if fma {
                a.vfmadd213ps(tap, SCALE, to)?;
            } else {
                a.vmulps(tap, tap, SCALE)?;
                a.vaddps(tap, tap, to)?;
            }
            a.vmovups(to, tap)?;
        }
        Ok(())
    }
}

impl Registers for Zmm {
    /// All rows start at the same four vectors, read once: short reductions would wait for 24 loads.
    fn start(&self, a: &mut CodeAssembler, row: usize, from: Option<AsmMemoryOperand>) -> Done {
        if let (Some(from), 0) = (from, row) {
            self.load(a, from)?;
        }
        Zmm::sums(row).into_iter().zip(B).try_for_each(|(sum, start)| match from {
            Some(_) => a.vmovdqa32(sum, start),
            None => a.vpxord(sum, sum, sum),
        })
    }

    fn load(&self, a: &mut CodeAssembler, b: AsmMemoryOperand) -> Done {
        B.into_iter().enumerate().try_for_each(|(i, vector)| a.vmovdqu32(vector, zmmword_ptr(b + i * VECTOR)))
    }

    fn combine(&self, a: &mut CodeAssembler, row: usize, from: AsmMemoryOperand, _: AsmMemoryOperand) -> Done {
        Zmm::sums(row).into_iter().zip(B).enumerate().try_for_each(|(i, (sum, b))| {
            a.vpbroadcastd(A, dword_ptr(from + i * self.0.a))?;
            a.vpdpbusd(sum, A, b)
        })
    }

    /// Two neighbouring results of F(2,3), or three taps of F(3,2).
    fn finish(&self, a: &mut CodeAssembler, row: usize, finish: Finish, to: AsmMemoryOperand) -> Done {
        if let Finish::AddScaled { fma } = finish {
            return self.add_taps(a, row, fma, to);
        }
        let [m0, m1, m2, m3] = Zmm::sums(row);
        a.vpaddd(m0, m0, m1)?;
        a.vpaddd(m0, m0, m2)?;
        a.vpsubd(m1, m1, m2)?;
        a.vpsubd(m1, m1, m3)?;
        for (i, result) in [m0, m1].into_iter().enumerate() {
            a.vpsrad(result, result, 1)?;
            a.vmovdqu32(zmmword_ptr(to + i * self.0.c), result)?;
        }
        Ok(())
    }

    fn scale(&self, a: &mut CodeAssembler, from: AsmMemoryOperand) -> Done {
        a.vbroadcastss(SCALE, dword_ptr(from))
    }
}
