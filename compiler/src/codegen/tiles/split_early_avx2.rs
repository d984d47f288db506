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
/// The lanes of the first and of the second of a pair, two bits each.
const LANES: [u32; 2] = [0x00FF_00FF, 0xFF00_FF00];
/// Which outputs are sure, of the first half.
const SURE: AsmRegister32 = r10d;

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
        SplitShape { planes: 1, ..s }.nest(a, |a, input, weights| {
            for (half, weight) in WEIGHT.into_iter().enumerate() {
                a.vmovdqa(weight, ymmword_ptr(WEIGHTS + (weights + 32 * half as i32)))?;
            }
            for (p, sums) in sums().enumerate() {
                a.vpbroadcastd(LEVELS, dword_ptr(INPUT + (input + (p * s.position) as i32)))?;
                for (&sum, weight) in sums.iter().zip(WEIGHT) {
                    add_products(s, a, sum, Weights::Held(weight))?;
                }
            }
            Ok(())
        })?;
        for (register, bits) in SPARE.into_iter().zip([0x0F0F_0F0Fu64, 0xF0F0_F0F0]) {
            a.mov(register, bits)?;
        }
        let positions: Vec<&[AsmRegisterYmm]> = sums().collect();
        for (i, pair) in positions.chunks(2).enumerate() {
            decide(s, a, pair, [top, shift as usize], 2 * i)?;
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

/// Stores the codes of one or two positions, the tile's `first` one on, that their upper digits' sums are sure of, and enters
/// those with others into the list.
fn decide(
    s: SplitShape,
    a: &mut CodeAssembler,
    pair: &[&[AsmRegisterYmm]],
    [top, shift]: [usize; 2],
    first: usize,
) -> Done {
    let [Some(one), Some(other)] = [pair.first(), pair.last()] else { return Ok(()) };
    let [levels, second, odd, least] = [WEIGHT[0], WEIGHT[1], LEVELS, PRODUCT];
    for (half, (&one, &other)) in one.iter().zip(other.iter()).enumerate() {
        let bound = |vector: usize| ymmword_ptr(TABLE + ((2 * top + vector) * VECTOR + 32 * half) as i32);
        // Four lanes of one position, then the same of the other.
        a.vpsrad(levels, one, shift as u32)?;
        a.vpsrad(second, other, shift as u32)?;
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
        for (i, bits) in SPARE.into_iter().enumerate().take(pair.len()) {
            a.pext(r8, rax, bits)?;
            a.mov(word_ptr(OUT + ((first + i) * s.pitch + 2 * half) as i32), r8w)?;
        }
        a.vpmovmskb(eax, levels)?;
        if half == 0 {
            a.mov(SURE, eax)?;
        } else {
            a.and(eax, SURE)?;
        }
    }
    a.not(eax)?;
    for (i, (sums, lanes)) in pair.iter().zip(LANES).enumerate() {
        for (half, &sum) in sums.iter().enumerate() {
            a.vmovdqu(ymmword_ptr(NEXT + 32 * half as i32), sum)?;
        }
        enter(s, a, first + i, lanes)?;
    }
    Ok(())
}
