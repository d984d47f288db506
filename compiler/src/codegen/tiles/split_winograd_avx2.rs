//! Winograd's minimal filtering along y, AVX2: the sums of one transformed row × up to 6 positions side by side × 16 outputs in flight,
//! as of codes decided early; each value's are kept in memory until the last one's are made, 4 kB at most.
//!
//! Bound: vpmaddwd and vpaddd, 24 of them and 8 loads a step of 6 positions and two elements, n steps for m rows. Keeping sums, the
//! inverse transform and deciding take a fourth of the time where steps are few, as in svhn's first layer. AVX-VNNI
//! multiplies and adds in one instruction instead of two.

use super::split::{INPUT, SplitFinish, WEIGHTS};
use super::split_avx2::SUMS;
use super::split_early::{BLOCK, Early, LANES, LIST, enter, seventh};
use super::split_early_avx2::{POSITIONS, decide, spreads, step};
use super::split_pooled_vnni::of_window;
use super::split_winograd::{WinogradShape, inverse};
use super::vectors::{Width, YMM};
use super::{repeat, split_by_output_avx2};
use crate::lower::split::VECTOR;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Positions side by side of a tile: with fewer, reading weights takes longer than the products; and at most.
pub(super) const COLUMNS: [usize; 2] = [4, POSITIONS];
/// Steps that are written out at most.
const UNROLLED: usize = 12;
/// Overwritten by the inverse transform, behind the values.
const BEHIND: usize = 12;
/// One of two bits.
const EVEN: u64 = 0x5555_5555_5555_5555;
/// The sums that are kept.
const KEPT: AsmRegister64 = r11;
/// A value's transformed levels and weights.
const VALUE: [AsmRegister64; 2] = [rdi, r10];
/// Values to go, before deciding codes takes the register.
const TO_GO: AsmRegister32 = r13d;

type Done = Result<(), IcedError>;

/// The tile of this shape.
pub(super) struct Avx2(pub WinogradShape);

impl Avx2 {
    /// Bytes of a value's sums.
    fn kept(&self) -> usize {
        self.0.columns() * VECTOR
    }

    /// Keeps the sums of all values.
    fn products(&self, a: &mut CodeAssembler) -> Done {
        let n = self.0.filter.values();
        // The last phases have one value less.
        let alike = if self.0.filter.short > 0 { n - 1 } else { n };
        a.mov(VALUE[1], WEIGHTS)?;
        repeat(a, TO_GO, alike, |a| self.value(a, self.0.filter.short))?;
        if alike < n { self.value(a, 0) } else { Ok(()) }
    }

    /// Keeps the sums of a value, with so many of the phases that have one less, and goes to the next.
    fn value(&self, a: &mut CodeAssembler, short: usize) -> Done {
        let WinogradShape { exact, filter, .. } = self.0;
        let sums = &SUMS[..2 * exact.columns()];
        sums.iter().try_for_each(|&sum| a.vpxor(sum, sum, sum))?;
        a.mov(INPUT, VALUE[0])?;
        a.mov(WEIGHTS, VALUE[1])?;
        repeat(a, r8d, filter.phases - filter.short, |a| self.phase(a, filter.values()))?;
        // Of the values before this one, a phase with one less has the same weights in front of it.
        repeat(a, r8d, short, |a| self.phase(a, filter.values() - 1))?;
        for (i, &sum) in sums.iter().enumerate() {
            a.vmovdqa(ymmword_ptr(KEPT + 32 * i), sum)?;
        }
        a.add(VALUE[0], self.0.row as i32)?;
        a.add(VALUE[1], VECTOR as i32)?;
        a.add(KEPT, self.kept() as i32)
    }

    /// Adds the products of a phase of so many values.
    fn phase(&self, a: &mut CodeAssembler, values: usize) -> Done {
        let WinogradShape { exact, filter, steps, row, position } = self.0;
        // The most at once of those that leave the fewest over.
        let unrolled = (UNROLLED / 2..=UNROLLED.min(steps)).rev().min_by_key(|u| steps % u).unwrap_or(steps);
        let several = |a: &mut CodeAssembler, count: usize| {
            for i in 0..count {
                step(exact, a, (i * values * VECTOR) as i32, [4 * i as i32, position as i32])?;
            }
            a.add(INPUT, 4 * count as i32)?;
            a.add(WEIGHTS, (count * values * VECTOR) as i32)
        };
        repeat(a, r9d, steps / unrolled, |a| several(a, unrolled))?;
        if !steps.is_multiple_of(unrolled) {
            several(a, steps % unrolled)?;
        }
        a.add(INPUT, (filter.values() * row - 4 * steps) as i32)
    }

    /// The kept sums as those of the rows of results, in place of the first values'.
    fn transform(&self, a: &mut CodeAssembler) -> Done {
        let vectors = 2 * self.0.columns();
        let values: Vec<usize> = (0..self.0.filter.values()).collect();
        repeat(a, r8d, vectors, |a| {
            for &v in &values {
                a.vmovdqa(YMM[v], ymmword_ptr(KEPT + v * self.kept()))?;
            }
            let rows = inverse(self.0.filter, Width::Ymm, a, &values, BEHIND)?;
            for (row, sum) in rows.into_iter().enumerate() {
                a.vmovdqa(ymmword_ptr(KEPT + row * self.kept()), YMM[sum])?;
            }
            a.add(KEPT, 32)
        })?;
        a.sub(KEPT, 32 * vectors as i32)
    }

    /// Stores the codes of one or two results from the sums of their rows, and enters those that stay open.
    fn decide(&self, a: &mut CodeAssembler, pair: &[usize]) -> Done {
        let s = self.0.exact;
        let (SplitFinish::Early { top, shift } | SplitFinish::Pooled { top, shift, .. }) = s.finish else {
            return Ok(());
        };
        let positions: Vec<usize> = (0..s.positions).collect();
        // The greatest of a window.
        let sum = |a: &mut CodeAssembler, result: usize, half: usize, to: AsmRegisterYmm| {
            for (i, p) in of_window(s, &positions, result).into_iter().enumerate() {
                let at = ymmword_ptr(KEPT + (p * VECTOR + 32 * half));
                if i == 0 { a.vmovdqa(to, at)? } else { a.vpmaxsd(to, to, at)? }
            }
            Ok(to)
        };
        decide(s, a, pair, [top, shift as usize], sum)?;
        // Mostly neither is open.
        let mut decided = a.create_label();
        a.shl(rax, 32)?;
        a.or(rax, r10)?;
        a.not(rax)?;
        a.test(rax, rax)?;
        a.jz(decided)?;
        // A bit each, as [`LANES`] says.
        a.mov(r8, EVEN)?;
        a.pext(rax, rax, r8)?;
        pair.iter().zip(LANES).try_for_each(|(&result, lanes)| enter(s, a, result, lanes))?;
        a.set_label(&mut decided)?;
        a.zero_bytes()
    }
}

impl Early for Avx2 {
    fn constants(&self, _: &mut CodeAssembler) -> Done {
        Ok(())
    }

    fn upper(&self, a: &mut CodeAssembler) -> Done {
        let s = self.0.exact;
        a.mov(VALUE[0], qword_ptr(rsp + seventh()))?;
        a.add(qword_ptr(rsp + seventh()), (s.columns() * self.0.position) as i32)?;
        // Behind the list, which lies at the top of the stack.
        let kept = |a: &mut CodeAssembler| {
            a.mov(KEPT, qword_ptr(rsp))?;
            a.add(KEPT, LIST as i32)
        };
        kept(a)?;
        self.products(a)?;
        kept(a)?;
        self.transform(a)?;
        spreads(a)?;
        // Pairs of one row.
        for row in 0..s.results() / s.across() {
            let results: Vec<usize> = (row * s.across()..(row + 1) * s.across()).collect();
            results.chunks(2).try_for_each(|pair| self.decide(a, pair))?;
        }
        Ok(())
    }

    fn lowest(&self, a: &mut CodeAssembler) -> Done {
        a.lea(WEIGHTS, qword_ptr(BLOCK + self.0.weights() as i32))?;
        split_by_output_avx2::codes(self.0.exact, a)
    }
}
