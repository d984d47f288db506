//! The product tile of Winograd's minimal filtering along x, AVX-512 VNNI: 6 rows × 16 columns, 3 × 32 or 2 × 48, where a row stands
//! for neighbouring results of one transformed tile of four values, each with a vector of B and a sum of its own a unit. What the
//! sums become is the inverse transform; `products::winograd` has the formulas. Bound: as many products a cycle as the plain tile,
//! of which there are two thirds as many; 24 of them wait for 28 loads of one unit, for 20 of two or three. Reference: the plain
//! products.

use super::product::{Done, Registers};
use super::vectors::ZMM;
use crate::codegen::products::{Finish, Tile, Units, Winograd};
use crate::lower::train::requirements::winograd::VALUES;
use iced_x86::code_asm::*;

/// Bytes of a vector.
const VECTOR: usize = 64;
/// A unit's vector of a value each, behind the sums.
const B: [AsmRegisterZmm; 3] = [zmm24, zmm25, zmm26];
const A: AsmRegisterZmm = zmm28;
const SCALE: AsmRegisterZmm = zmm29;
const BOTH: AsmRegisterZmm = zmm30;

/// Rows of a tile of so many units: 24 sums.
pub fn rows(units: usize) -> usize {
    6 / units
}

/// How many of `units` units a tile should take at once, and the rows that it then has.
pub fn together(units: usize) -> [usize; 2] {
    let together = [2, 3].into_iter().find(|n| units.is_multiple_of(*n)).unwrap_or(1);
    [together, rows(together)]
}

/// Rows of the samples ahead, one for three rows of a tile: the first three rows are a channel's as a rule, and so are the others,
/// whose first is enough.
const AHEAD: [AsmRegister64; 2] = [r8, r9];

/// The rows of A that a tile prefetches: those of as many samples ahead as it adds, where it adds several.
pub(super) fn ahead(t: &Tile) -> impl Iterator<Item = AsmRegister64> {
    let several = t.winograd.is_some() && t.finish.adds();
    AHEAD.into_iter().take(if several { t.rows.div_ceil(3) } else { 0 })
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
pub(super) struct Zmm {
    pub distances: Winograd,
    pub units: Units,
}

impl Zmm {
    /// The sums of a row of each unit, one a value, with the distances to the unit's vectors in B and in C.
    fn sums(&self, row: usize) -> impl Iterator<Item = ([AsmRegisterZmm; VALUES], [i32; 2])> {
        let Units { count, b, c } = self.units;
        let first = move |unit: usize| (row * count + unit) * VALUES;
        (0..count)
            .map(move |unit| (std::array::from_fn(|i| ZMM[first(unit) + i]), [(unit * b) as i32, (unit * c) as i32]))
    }

    /// Two neighbouring results of F(2,3).
    fn store_results(
        &self,
        a: &mut CodeAssembler,
        [m0, m1, m2, m3]: [AsmRegisterZmm; VALUES],
        to: AsmMemoryOperand,
    ) -> Done {
        a.vpaddd(m0, m0, m1)?;
        a.vpaddd(m0, m0, m2)?;
        a.vpsubd(m1, m1, m2)?;
        a.vpsubd(m1, m1, m3)?;
        for (i, result) in [m0, m1].into_iter().enumerate() {
            a.vpsrad(result, result, 1)?;
            a.vmovdqu32(zmmword_ptr(to + i * self.distances.c), result)?;
        }
        Ok(())
    }

    /// Adds the scaled taps of F(3,2) to floats.
    fn add_taps(
        &self,
        a: &mut CodeAssembler,
        [m0, m1, m2, m3]: [AsmRegisterZmm; VALUES],
        fma: bool,
        to: AsmMemoryOperand,
    ) -> Done {
        a.vpaddd(BOTH, m1, m2)?;
        a.vpsubd(m1, m1, m2)?;
        a.vpaddd(m0, m0, BOTH)?;
        a.vpaddd(m3, m3, BOTH)?;
        for (i, tap) in [m0, m1, m3].into_iter().enumerate() {
            let to = zmmword_ptr(to + i * self.distances.c);
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
    /// All rows start at the same vectors, read once: short reductions would wait for 24 loads.
    fn start(&self, a: &mut CodeAssembler, row: usize, from: Option<AsmMemoryOperand>) -> Done {
        for ((sums, [b, _]), (first, _)) in self.sums(row).zip(self.sums(0)) {
            for (i, (sum, first)) in sums.into_iter().zip(first).enumerate() {
                match from {
                    Some(from) if row == 0 => a.vmovdqu32(sum, zmmword_ptr(from + b + i * VECTOR))?,
                    Some(_) => a.vmovdqa32(sum, first)?,
                    None => a.vpxord(sum, sum, sum)?,
                }
            }
        }
        Ok(())
    }

    /// Value by value, so that one value's vectors of B are held at a time.
    fn step(&self, a: &mut CodeAssembler, rows: &[AsmMemoryOperand], b: AsmMemoryOperand) -> Done {
        for value in 0..VALUES {
            for ((_, [unit, _]), vector) in self.sums(0).zip(B) {
                a.vmovdqu32(vector, zmmword_ptr(b + unit + value * VECTOR))?;
            }
            for (row, &from) in rows.iter().enumerate() {
                a.vpbroadcastd(A, dword_ptr(from + value * self.distances.a))?;
                self.sums(row).zip(B).try_for_each(|((sums, _), vector)| a.vpdpbusd(sums[value], A, vector))?;
            }
        }
        Ok(())
    }

    /// Two neighbouring results of F(2,3), or three taps of F(3,2).
    fn finish(&self, a: &mut CodeAssembler, row: usize, finish: Finish, to: AsmMemoryOperand) -> Done {
        self.sums(row).try_for_each(|(sums, [_, unit])| match finish {
            Finish::AddScaled { fma } => self.add_taps(a, sums, fma, to + unit),
            _ => self.store_results(a, sums, to + unit),
        })
    }

    fn scale(&self, a: &mut CodeAssembler, from: AsmMemoryOperand) -> Done {
        a.vbroadcastss(SCALE, dword_ptr(from))
    }
}
