//! Winograd's minimal filtering along y, AVX-512 VNNI: the sums of n transformed rows × up to 30/n positions side by side × 16 outputs
//! in flight, all values of a position at once.
//!
//! Bound: vpdpwssd, n products of two elements for m positions; an add takes another port. Transformed levels are broadcast from
//! memory as they are multiplied.

use super::split::{OUT, SplitFinish, WEIGHTS};
use super::split_early::{self, Early, LANES, OPEN, enter, seventh};
use super::split_early_vnni::{DIGITS, LEVELS, spreads, sure};
use super::split_pooled_vnni::{greatest_of, of_window, reached_by_any};
use super::split_winograd::{WinogradShape, inverse};
use super::vectors::{Width, ZMM};
use super::{repeat, split_by_output_vnni, split_vnni};
use crate::lower::split::VECTOR;
use crate::lower::split_winograd::Filter;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Registers for sums; two more are for weights and constants.
const SUMS: usize = 30;
/// Sums in flight at least.
const FEWEST: usize = 10;
/// Steps that are written out at most.
const UNROLLED: usize = 8;
/// The weights of a value, and what the inverse transform takes besides.
const SPARE: usize = 30;

/// Positions side by side of a tile: fewer would wait for each other's products; and at most.
pub(super) fn columns(filter: Filter) -> [usize; 2] {
    // Where nothing becomes free, the last registers are left to deciding codes.
    let sums = if filter.values() > 4 { SUMS } else { SUMS - 2 };
    [FEWEST.div_ceil(filter.values()), sums / filter.values()]
}

/// The tile of this shape.
pub(super) struct Vnni(pub WinogradShape);

impl Vnni {
    /// The sum of value `v` and column `t`.
    fn sum(&self, v: usize, t: usize) -> AsmRegisterZmm {
        ZMM[v * self.0.columns() + t]
    }

    /// Adds up the products of all phases.
    fn products(&self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let phase = |a: &mut CodeAssembler, values: usize| {
            repeat(a, r9d, self.0.steps / UNROLLED, |a| self.several(a, UNROLLED, values))?;
            self.several(a, self.0.steps % UNROLLED, values)?;
            a.add(rax, (self.0.filter.values() * self.0.row - 4 * self.0.steps) as i32)
        };
        let short = self.0.filter.short;
        repeat(a, r8d, self.0.filter.phases - short, |a| phase(a, self.0.filter.values()))?;
        repeat(a, r8d, short, |a| phase(a, self.0.filter.values() - 1))
    }

    /// Some steps of a phase of which so many values are multiplied.
    fn several(&self, a: &mut CodeAssembler, count: usize, values: usize) -> Result<(), IcedError> {
        for i in 0..count {
            for v in 0..values {
                a.vmovdqa32(ZMM[SPARE], zmmword_ptr(WEIGHTS + ((i * values + v) * VECTOR) as i32))?;
                for t in 0..self.0.columns() {
                    let levels = v * self.0.row + t * self.0.position + 4 * i;
                    a.vpdpwssd(self.sum(v, t), ZMM[SPARE], dword_bcst(rax + levels as i32))?;
                }
            }
        }
        if count > 0 {
            a.add(rax, 4 * count as i32)?;
            a.add(WEIGHTS, (count * values * VECTOR) as i32)?;
        }
        Ok(())
    }

    /// Stores the codes of one or two results from the sums of all positions, and enters those that stay open.
    fn decide(&self, a: &mut CodeAssembler, sums: &[AsmRegisterZmm], pair: &[usize]) -> Result<(), IcedError> {
        let s = self.0.exact;
        let (SplitFinish::Early { top, shift } | SplitFinish::Pooled { top, shift, .. }) = s.finish else {
            return Ok(());
        };
        let mut each = Vec::new();
        for (&result, to) in pair.iter().zip([LEVELS, DIGITS[0]]) {
            let window = of_window(s, sums, result);
            match *window {
                [only] => each.push(only),
                _ => {
                    greatest_of(a, &window, to)?;
                    each.push(to);
                }
            }
        }
        let ([Some(&one), Some(&other)], Some(&first)) = ([each.first(), each.last()], pair.first()) else {
            return Ok(());
        };
        sure(s, a, [one, other], [top, shift as usize], [first, pair.len()])?;
        // Mostly neither is open.
        let mut decided = a.create_label();
        a.test(eax, eax)?;
        a.jz(decided)?;
        pair.iter().zip(LANES).try_for_each(|(&result, lanes)| enter(s, a, result, lanes))?;
        a.set_label(&mut decided)?;
        a.zero_bytes()
    }

    /// The sums of column `t` as those of its rows of results. Gives where they are.
    fn inverse(&self, a: &mut CodeAssembler, t: usize) -> Result<Vec<AsmRegisterZmm>, IcedError> {
        let values: Vec<usize> = (0..self.0.filter.values()).map(|v| v * self.0.columns() + t).collect();
        let mut rows = inverse(self.0.filter, Width::Zmm, a, &values, SPARE)?;
        // Deciding codes takes the last registers.
        if let (&[_, _, _, free, _, ..], Some(last)) = (&values[..], rows.last_mut()) {
            Width::Zmm.copy_i32(a, free, *last)?;
            *last = free;
        }
        Ok(rows.into_iter().map(|register| ZMM[register]).collect())
    }
}

impl Early for Vnni {
    fn constants(&self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        split_vnni::constants(self.0.exact, a)
    }

    fn upper(&self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let s = self.0.exact;
        a.mov(rax, qword_ptr(rsp + seventh()))?;
        a.add(qword_ptr(rsp + seventh()), (self.0.columns() * self.0.position) as i32)?;
        for &sum in &ZMM[..self.0.filter.values() * self.0.columns()] {
            a.vpxord(sum, sum, sum)?;
        }
        self.products(a)?;
        let columns = (0..self.0.columns()).map(|t| self.inverse(a, t)).collect::<Result<Vec<_>, _>>()?;
        let sums: Vec<AsmRegisterZmm> =
            (0..s.rows.count).flat_map(|row| columns.iter().filter_map(move |c| c.get(row))).copied().collect();
        spreads(a)?;
        // Pairs of one row.
        for row in 0..s.results() / s.across() {
            let results: Vec<usize> = (row * s.across()..(row + 1) * s.across()).collect();
            results.chunks(2).try_for_each(|pair| self.decide(a, &sums, pair))?;
        }
        Ok(())
    }

    fn lowest(&self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let s = self.0.exact;
        // Behind the transformed weights.
        a.lea(WEIGHTS, qword_ptr(split_early::BLOCK + self.0.weights() as i32))?;
        for (p, parts) in split_by_output_vnni::all_digits(s, a)?.into_iter().enumerate() {
            reached_by_any(s, a, p, parts)?;
        }
        split_vnni::planes_of_masks(a, s.finish.top())?;
        // Only open outputs' codes are made here.
        a.mov(r8d, dword_ptr(OPEN + split_early::lanes_at(s)))?;
        a.pdep(r9d, r8d, r10d)?;
        a.pdep(r8d, r8d, r11d)?;
        a.or(r9d, r8d)?;
        a.and(eax, r9d)?;
        a.andn(r8d, r9d, dword_ptr(OUT))?;
        a.or(eax, r8d)?;
        a.mov(dword_ptr(OUT), eax)
    }
}
