//! The split-integer tile by Winograd's minimal filtering along y, AVX-512 VNNI: n transformed rows × up to 30/n positions side by
//! side × 16 outputs, which become m rows of positions; codes are decided from these sums, which approximate the accumulators
//! (`lower::split_winograd`), and of those that stay open all digits are multiplied.
//!
//! Bound: vpdpwssd, n products of two elements for m positions; an add takes another port. Transformed levels are broadcast from
//! memory as they are multiplied.

use super::split::{OUT, SplitFinish, SplitShape, WEIGHTS};
use super::split_early::{self, Early, OPEN, enter, seventh};
use super::split_early_vnni::{DIGITS, LANES, LEVELS, spreads, sure};
use super::split_pooled_vnni::{greatest_of, of_window, reached_by_any};
use super::vectors::ZMM;
use super::{repeat, split_by_output_vnni, split_vnni, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use crate::lower::split::VECTOR;
use crate::lower::split_winograd::{Filter, SplitWinograd};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Registers for sums; two more are for weights and constants.
const SUMS: usize = 30;
/// Sums in flight at least.
const FEWEST: usize = 10;
/// Steps that are written out at most.
const UNROLLED: usize = 8;
/// The weights of a value, and what the inverse transform takes besides.
const SPARE: AsmRegisterZmm = zmm30;

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
    /// Positions side by side of a tile at most.
    pub fn widest(filter: Filter) -> usize {
        // Where nothing becomes free, the last registers are left to deciding codes.
        let sums = if filter.values() > 4 { SUMS } else { SUMS - 2 };
        sums / filter.values()
    }

    /// Whether what stays open can be finished.
    pub fn fits(exact: SplitShape) -> bool {
        split_by_output_vnni::fits(exact)
    }

    /// Instructions that an open output takes, about.
    pub fn open(exact: SplitShape) -> usize {
        split_by_output_vnni::cost(exact)
    }

    /// The function `(input, weights, out, table, tiles, list, transformed)`: as [`SplitShape::function`] where codes are decided
    /// early, with the weights of `SplitWinograd::pack`, and the first position's transformed levels.
    ///
    /// # Errors
    /// When a distance does not fit an instruction.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let WinogradShape { exact, filter, steps, row, position } = self;
        let farthest = [exact.farthest(), filter.values() * row, filter.products() * steps * VECTOR];
        if farthest.iter().any(|d| *d >= 1 << 30) {
            return Err(CodegenError::TooLarge(format!("a tile of {filter:?} over {steps} steps")));
        }
        let name = format!("tile.split.winograd.{filter:?}.{steps}.{row}.{position}.{}", exact.name());
        tile(image, &name, |a| self.assemble(a))
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        split_early::assemble(self.exact, &self, a)
    }

    fn columns(self) -> usize {
        self.exact.columns()
    }

    /// The sum of value `v` and column `t`.
    fn sum(self, v: usize, t: usize) -> AsmRegisterZmm {
        ZMM[v * self.columns() + t]
    }

    /// Adds up the products of all phases.
    fn products(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let phase = |a: &mut CodeAssembler, values: usize| {
            repeat(a, r9d, self.steps / UNROLLED, |a| self.several(a, UNROLLED, values))?;
            self.several(a, self.steps % UNROLLED, values)?;
            a.add(rax, (self.filter.values() * self.row - 4 * self.steps) as i32)
        };
        let short = self.filter.short;
        repeat(a, r8d, self.filter.phases - short, |a| phase(a, self.filter.values()))?;
        repeat(a, r8d, short, |a| phase(a, self.filter.values() - 1))
    }

    /// Some steps of a phase of which so many values are multiplied.
    fn several(self, a: &mut CodeAssembler, count: usize, values: usize) -> Result<(), IcedError> {
        for i in 0..count {
            for v in 0..values {
                a.vmovdqa32(SPARE, zmmword_ptr(WEIGHTS + ((i * values + v) * VECTOR) as i32))?;
                for t in 0..self.columns() {
                    let levels = v * self.row + t * self.position + 4 * i;
                    a.vpdpwssd(self.sum(v, t), SPARE, dword_bcst(rax + levels as i32))?;
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
    fn decide(self, a: &mut CodeAssembler, sums: &[AsmRegisterZmm], pair: &[usize]) -> Result<(), IcedError> {
        let s = self.exact;
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

    /// The sums of column `t` as those of its rows of results: A applied in place, by sums and differences of the products of
    /// opposite points. Gives where they are.
    fn inverse(self, a: &mut CodeAssembler, t: usize) -> Result<Vec<AsmRegisterZmm>, IcedError> {
        let (n, rows) = (self.filter.values(), self.filter.results);
        let value = |v: usize| self.sum(v, t);
        let (origin, infinity) = (value(0), value(n - 1));
        // Sum and difference of the products of each pair of opposite points; the same of a point without its opposite.
        let mut pairs = Vec::new();
        for first in (1..n - 1).step_by(2) {
            let (one, other) = (value(first), value(first + 1));
            if first + 1 < n - 1 {
                a.vpsubd(SPARE, one, other)?;
                a.vpaddd(one, one, other)?;
                a.vmovdqa32(other, SPARE)?;
                pairs.push([one, other]);
            } else {
                pairs.push([one, one]);
            }
        }
        let Some((&ones, twos)) = pairs.split_first() else { return Ok(Vec::new()) };
        let (last, two) = (rows - 1, twos.first().copied());
        let multiple_of_two = |a: &mut CodeAssembler, to: AsmRegisterZmm, row: usize| match two {
            None => Ok(()),
            Some(two) => {
                a.vpslld(SPARE, two[row % 2], row as u32)?;
                a.vpaddd(to, to, SPARE)
            }
        };
        // The last row first, as rows between take the registers of the others of their parity.
        a.vpaddd(infinity, infinity, ones[last % 2])?;
        multiple_of_two(a, infinity, last)?;
        a.vpaddd(origin, origin, ones[0])?;
        multiple_of_two(a, origin, 0)?;
        let mut results = vec![origin];
        for row in 1..last {
            let one = ones[row % 2];
            multiple_of_two(a, one, row)?;
            results.push(one);
        }
        // Deciding codes takes the last registers.
        let end = two.map_or(infinity, |[free, _]| free);
        if two.is_some() {
            a.vmovdqa32(end, infinity)?;
        }
        results.push(end);
        Ok(results)
    }
}

impl Early for WinogradShape {
    fn constants(&self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        split_vnni::constants(self.exact, a)
    }

    fn upper(&self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let s = self.exact;
        a.mov(rax, qword_ptr(rsp + seventh()))?;
        a.add(qword_ptr(rsp + seventh()), (self.columns() * self.position) as i32)?;
        for &sum in &ZMM[..self.filter.values() * self.columns()] {
            a.vpxord(sum, sum, sum)?;
        }
        self.products(a)?;
        let columns = (0..self.columns()).map(|t| self.inverse(a, t)).collect::<Result<Vec<_>, _>>()?;
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
        let s = self.exact;
        // Behind the transformed weights.
        a.lea(WEIGHTS, qword_ptr(split_early::BLOCK + (self.filter.products() * self.steps * VECTOR) as i32))?;
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

/// The positions and results of a tile of the filter for rows of `width` positions, of whole windows where results are pooled: the fewest
/// beyond the row, then the most at once. `None` where a row is too short. `SplitShape::with` completes it.
pub fn exact(w: &SplitWinograd, planes: usize, width: usize, window: Option<[usize; 2]>) -> Option<SplitShape> {
    let across = window.map_or(1, |[_, across]| across);
    // Fewer products in flight would wait for each other.
    let fewest = FEWEST.div_ceil(w.filter.values());
    let fitting = (fewest..=WinogradShape::widest(w.filter).min(width)).filter(|c| c.is_multiple_of(across));
    let columns = fitting.rev().min_by_key(|&c| width.next_multiple_of(c))?;
    Some(SplitShape::of_rows(planes, [w.filter.results, columns], window, w.shift))
}
