//! Codes decided early, AVX2: i16 levels by the upper of two i16 digits, the sums of up to 6 positions × 16 outputs in flight.
//!
//! Bound: 32 MAC a cycle where hardly any code is open, twice what both digits cost; a position with an open code takes as long
//! again. AVX-VNNI multiplies and adds in one instruction instead of two.

use super::split::{INPUT, OUT, SplitFinish, SplitShape, TABLE, WEIGHTS};
use super::split_avx2::{self, LEVELS, PRODUCT, SUMS, Weights, add_products};
use super::split_early::{Early, NEXT, OPEN, SPARE, enter};
use crate::lower::split::VECTOR;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Positions of a tile at most: two sums each.
pub(super) const POSITIONS: usize = 6;
/// Behind the sums.
const WEIGHT: [AsmRegisterYmm; 2] = [ymm12, ymm13];
/// Sums of a position's lowest digit and half of the outputs, added at the end.
const PARTS: usize = 4;
/// The lanes of the first and of the second of a pair in half a register, two bits each.
const LANES: [u32; 2] = [0x00FF_00FF, 0xFF00_FF00];
/// Which outputs are sure, of the first half and of the second, two bits each.
pub(super) const SURE: [AsmRegister32; 2] = [r10d, eax];

type Done = Result<(), IcedError>;

/// The tile of this shape.
pub(super) struct Avx2(pub SplitShape);

impl Early for Avx2 {
    fn constants(&self, _: &mut CodeAssembler) -> Done {
        Ok(())
    }

    fn upper(&self, a: &mut CodeAssembler) -> Done {
        let s = self.0;
        let SplitFinish::Early { top, shift } = s.finish else { return Ok(()) };
        let sums = || SUMS.chunks(2).take(s.positions);
        sums().flatten().try_for_each(|&sum| a.vpxor(sum, sum, sum))?;
        SplitShape { planes: 1, ..s }.nest(a, |a, input, weights| step(s, a, weights, [input, s.position as i32]))?;
        spreads(a)?;
        let positions: Vec<(usize, &[AsmRegisterYmm])> = sums().enumerate().collect();
        for pair in positions.chunks(2) {
            let results: Vec<usize> = pair.iter().map(|(i, _)| *i).collect();
            let sum = |_: &mut CodeAssembler, i: usize, half: usize, _| Ok(SUMS[2 * i + half]);
            decide(s, a, &results, [top, shift as usize], sum)?;
            a.and(SURE[1], SURE[0])?;
            a.not(SURE[1])?;
            for (&(i, sums), lanes) in pair.iter().zip(LANES) {
                for (half, &sum) in sums.iter().enumerate() {
                    a.vmovdqu(ymmword_ptr(NEXT + 32 * half as i32), sum)?;
                }
                enter(s, a, i, lanes)?;
            }
        }
        Ok(())
    }

    fn lowest(&self, a: &mut CodeAssembler) -> Done {
        let s = self.0;
        let parts = &SUMS[..2 * PARTS];
        parts.iter().try_for_each(|&sum| a.vpxor(sum, sum, sum))?;
        SplitShape { planes: 1, ..s }.nest(a, |a, input, weights| {
            let first = 2 * (input as usize / 4 % PARTS);
            a.vpbroadcastd(LEVELS, dword_ptr(INPUT + input))?;
            for (half, &sum) in parts.iter().skip(first).take(2).enumerate() {
                add_products(s, a, sum, Weights::Read(WEIGHTS + (weights + 32 * half as i32)))?;
            }
            Ok(())
        })?;
        for distance in [PARTS, PARTS / 2] {
            for i in 0..distance {
                a.vpaddd(parts[i], parts[i], parts[i + distance])?;
            }
        }
        let top = s.finish.top();
        let planes = if top > 1 { 2 } else { 1 };
        let exact = SplitShape { finish: SplitFinish::Nibbles { top, planes }, ..s };
        exact.spread(a)?;
        for (half, &lo) in parts.iter().enumerate().take(2) {
            let hi = parts[2 + half];
            a.vmovdqu(hi, ymmword_ptr(OPEN + 32 * half as i32))?;
            split_avx2::finish(exact, a, &[lo, hi], 32 * half as i32, 2 * half as i32)?;
        }
        Ok(())
    }
}

/// Adds a step's products of all columns of a row, two sums each: the weights lie so far behind [`WEIGHTS`], the first column's levels and
/// the next one's so far behind [`INPUT`] and one another.
pub(super) fn step(s: SplitShape, a: &mut CodeAssembler, weights: i32, [input, position]: [i32; 2]) -> Done {
    for (half, weight) in WEIGHT.into_iter().enumerate() {
        a.vmovdqa(weight, ymmword_ptr(WEIGHTS + (weights + 32 * half as i32)))?;
    }
    for (t, sums) in SUMS.chunks(2).take(s.columns()).enumerate() {
        a.vpbroadcastd(LEVELS, dword_ptr(INPUT + (input + t as i32 * position)))?;
        for (&sum, weight) in sums.iter().zip(WEIGHT) {
            add_products(s, a, sum, Weights::Held(weight))?;
        }
    }
    Ok(())
}

/// Prepares what [`decide`] needs in general registers.
pub(super) fn spreads(a: &mut CodeAssembler) -> Done {
    let bits = [0x0F0F_0F0Fu64, 0xF0F0_F0F0];
    SPARE.into_iter().zip(bits).try_for_each(|(register, bits)| a.mov(register, bits))
}

/// Stores the codes of one or two results that their sums are sure of, which [`SURE`] says. `sum` says which
/// register has the sums of a result and half of the outputs, perhaps the one given to it. Overwrites r8, r10 and registers from
/// ymm12 on.
pub(super) fn decide(
    s: SplitShape,
    a: &mut CodeAssembler,
    pair: &[usize],
    [top, shift]: [usize; 2],
    sum: impl Fn(&mut CodeAssembler, usize, usize, AsmRegisterYmm) -> Result<AsmRegisterYmm, IcedError>,
) -> Done {
    let [Some(&one), Some(&other)] = [pair.first(), pair.last()] else { return Ok(()) };
    let [levels, second, odd, least] = [WEIGHT[0], WEIGHT[1], LEVELS, PRODUCT];
    for (half, sure) in SURE.into_iter().enumerate() {
        let bound = |vector: usize| ymmword_ptr(TABLE + ((2 * top + vector) * VECTOR + 32 * half) as i32);
        // Four lanes of one position, then the same of the other.
        for (result, to) in [(one, levels), (other, second)] {
            let sum = sum(a, result, half, to)?;
            a.vpsrad(to, sum, shift as u32)?;
        }
        a.vpackssdw(levels, levels, second)?;
        // The least distance from where a threshold begins to be open.
        for t in 0..top {
            let to = if t == 0 { least } else { second };
            a.vpsubw(to, levels, bound(2 * t + 1))?;
            if t > 0 {
                a.vpminuw(least, least, second)?;
            }
        }
        // Plane 1 says whether the second threshold is reached, plane 0 whether an odd number is.
        a.vpcmpgtw(odd, levels, bound(0))?;
        if top > 1 {
            a.vpcmpgtw(second, levels, bound(4))?;
            a.vpxor(odd, odd, second)?;
            a.vpcmpgtw(second, levels, bound(2))?;
            a.vpxor(odd, odd, second)?;
        } else {
            a.vpxor(second, second, second)?;
        }
        a.vpacksswb(odd, odd, second)?;
        // Open is what lies nearer than the bound's width.
        a.vmovdqu(levels, bound(2 * top))?;
        a.vpsubusw(levels, levels, least)?;
        a.vpxor(second, second, second)?;
        a.vpcmpeqw(levels, levels, second)?;
        a.vpmovmskb(eax, odd)?;
        for (&i, bits) in pair.iter().zip(SPARE) {
            a.pext(r8, rax, bits)?;
            a.mov(word_ptr(OUT + (s.result(i) + 2 * half as i32)), r8w)?;
        }
        a.vpmovmskb(sure, levels)?;
    }
    Ok(())
}
