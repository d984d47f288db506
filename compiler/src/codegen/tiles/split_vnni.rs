//! The split-integer tile, AVX-512 VNNI: u8 levels by i8 digits, 16 outputs at a time, up to 9 positions × 3 digits = 27
//! sums in flight. Bound: 21 MAC a cycle on one 512-bit port, 42 on two.

use super::split::{INPUT, OUT, SplitFinish, SplitShape, TABLE, WEIGHTS};
use super::vectors::ZMM;
use crate::lower::split::VECTOR;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Behind the sums, which are the first 27 registers.
const DIGITS: [AsmRegisterZmm; 3] = [zmm27, zmm28, zmm29];
const LEVELS: AsmRegisterZmm = zmm30;
const CODE: AsmRegisterZmm = zmm30;
const CONSTANT: AsmRegisterZmm = zmm31;
/// The masks of up to three thresholds.
pub(super) const REACHED: [AsmRegisterK; 3] = [k1, k2, k3];

pub(super) fn assemble(s: SplitShape, a: &mut CodeAssembler) -> Result<(), IcedError> {
    products(s, a, &DIGITS, LEVELS)?;
    constants(s, a)?;
    for (p, sums) in ZMM.chunks(s.planes).take(s.positions).enumerate() {
        if let (SplitFinish::Halved, &[sum]) = (s.finish, sums) {
            a.vpaddd(sum, sum, sum)?;
            a.vpaddd(sum, sum, dword_bcst(TABLE + 4 * p))?;
        }
        finish(s, a, sums, (p * s.pitch) as i32)?;
    }
    a.vzeroupper()?;
    a.ret()
}

/// Adds up the products of `s.planes` digits of all positions, in the first registers; `digits` and `levels` are overwritten.
pub(super) fn products(
    s: SplitShape,
    a: &mut CodeAssembler,
    digits: &[AsmRegisterZmm],
    levels: AsmRegisterZmm,
) -> Result<(), IcedError> {
    for sum in ZMM.iter().take(s.planes * s.positions) {
        a.vpxord(*sum, *sum, *sum)?;
    }
    s.nest(a, |a, input, weights| {
        for (plane, &vector) in digits.iter().take(s.planes).enumerate() {
            a.vmovdqa32(vector, zmmword_ptr(WEIGHTS + (weights + (plane * VECTOR) as i32)))?;
        }
        for (p, sums) in ZMM.chunks(s.planes).take(s.positions).enumerate() {
            a.vpbroadcastd(levels, dword_ptr(INPUT + (input + s.levels(p))))?;
            for (&sum, &vector) in sums.iter().zip(digits) {
                a.vpdpbusd(sum, levels, vector)?;
            }
        }
        Ok(())
    })
}

/// Prepares what [`finish`] needs.
pub(super) fn constants(s: SplitShape, a: &mut CodeAssembler) -> Result<(), IcedError> {
    match s.finish {
        SplitFinish::Raw | SplitFinish::Halved => {}
        SplitFinish::Decode => {
            a.mov(eax, f32::to_bits(2f32.powi(s.bits as i32)))?;
            a.vpbroadcastd(CONSTANT, eax)?;
            a.vcvtps2pd(CONSTANT, ymm31)?;
        }
        _ if masks(s.finish) => a.vpternlogd(CONSTANT, CONSTANT, CONSTANT, 0xff)?,
        _ => {
            a.mov(eax, 1)?;
            a.vpbroadcastd(CONSTANT, eax)?;
        }
    }
    s.spread(a)
}

/// Stores the results of one position from its sums, which it overwrites, as well as registers from zmm27 on, rax, r8 and the
/// masks.
pub(super) fn finish(s: SplitShape, a: &mut CodeAssembler, sums: &[AsmRegisterZmm], at: i32) -> Result<(), IcedError> {
    let [first, second, spare] = DIGITS;
    let Some(&lo) = sums.first() else { return Ok(()) };
    let hi = sums.get(1).copied().unwrap_or(spare);
    if s.planes == 1 {
        a.vpxord(hi, hi, hi)?;
    }
    if let Some(&third) = sums.get(2) {
        a.vpslld(third, third, s.bits)?;
        a.vpaddd(hi, hi, third)?;
    }
    if matches!(s.finish, SplitFinish::Raw | SplitFinish::Halved) {
        a.vpslld(hi, hi, s.bits)?;
        a.vpaddd(hi, hi, lo)?;
        return a.vmovdqu32(zmmword_ptr(OUT + at), hi);
    }
    carry(s, a, [hi, lo], first)?;
    if masks(s.finish) {
        return planes(s, a, [hi, lo], at);
    }
    if s.finish != SplitFinish::Decode {
        a.vpxord(CODE, CODE, CODE)?;
        for t in 0..s.finish.top() {
            let part = |i: usize| zmmword_ptr(TABLE + ((2 * t + i) * VECTOR) as i32);
            a.vpcmpgtd(k1, hi, part(0))?;
            a.vpcmpeqd(k2, hi, part(0))?;
            a.vpcmpgtd(k2.k2(), lo, part(1))?;
            a.korw(k1, k1, k2)?;
            a.vpaddd(CODE.k1(), CODE, CONSTANT)?;
        }
        if let SplitFinish::Nibbles { planes, .. } = s.finish {
            return nibbles(a, planes, at);
        }
        return a.vmovdqu32(zmmword_ptr(OUT + at), CODE);
    }
    // Eight values at a time, in f64.
    for half in 0..2 {
        a.vextracti64x4(ymm27, hi, half as u32)?;
        a.vextracti64x4(ymm28, lo, half as u32)?;
        a.vcvtdq2pd(first, ymm27)?;
        a.vcvtdq2pd(second, ymm28)?;
        a.vmulpd(first, first, CONSTANT)?;
        a.vaddpd(first, first, second)?;
        a.vmulpd(first, first, zmmword_ptr(TABLE + 64 * half))?;
        a.vcvtpd2ps(ymm27, first)?;
        a.vmovdqu32(ymmword_ptr(OUT + (at + 32 * half)), ymm27)?;
    }
    Ok(())
}

/// Stores the low bits of the sixteen codes in [`CODE`].
fn nibbles(a: &mut CodeAssembler, planes: usize, at: i32) -> Result<(), IcedError> {
    let [spare, ..] = DIGITS;
    a.vpslld(spare, CODE, 31)?;
    a.vpmovd2m(k1, spare)?;
    a.kmovw(eax, k1)?;
    a.pdep(eax, eax, r10d)?;
    if planes > 1 {
        a.vpslld(spare, CODE, 30)?;
        a.vpmovd2m(k1, spare)?;
        a.kmovw(r8d, k1)?;
        a.pdep(r8d, r8d, r11d)?;
        a.or(eax, r8d)?;
    }
    a.mov(dword_ptr(OUT + at), eax)
}

/// Moves what is above the lower part's bits to the upper part.
pub(super) fn carry(
    s: SplitShape,
    a: &mut CodeAssembler,
    [hi, lo]: [AsmRegisterZmm; 2],
    spare: AsmRegisterZmm,
) -> Result<(), IcedError> {
    a.vpsrad(spare, lo, s.bits)?;
    a.vpaddd(hi, hi, spare)?;
    a.vpslld(lo, lo, 32 - s.bits)?;
    a.vpsrld(lo, lo, 32 - s.bits)
}

/// Whether the bit planes follow from the thresholds' masks by themselves: those of codes up to 1 or 3.
fn masks(finish: SplitFinish) -> bool {
    use SplitFinish::{Early, Nibbles, Pooled};
    matches!(finish, Early { .. } | Pooled { .. } | Nibbles { top: 1, planes: 1 } | Nibbles { top: 3, planes: 2 })
}

/// Stores the codes of sixteen accumulators.
pub(super) fn planes(
    s: SplitShape,
    a: &mut CodeAssembler,
    [hi, lo]: [AsmRegisterZmm; 2],
    at: i32,
) -> Result<(), IcedError> {
    reached(s, a, [hi, lo], REACHED)?;
    store_planes(a, s.finish.top(), at)
}

/// Which of sixteen accumulators reach each threshold; overwrites [`CODE`] and k4.
pub(super) fn reached(
    s: SplitShape,
    a: &mut CodeAssembler,
    [hi, lo]: [AsmRegisterZmm; 2],
    masks: [AsmRegisterK; 3],
) -> Result<(), IcedError> {
    for (t, reached) in masks.into_iter().enumerate().take(s.finish.top()) {
        let part = |i: usize| zmmword_ptr(TABLE + ((2 * t + i) * VECTOR) as i32);
        // hi, and one more where lo reaches its part, passes the upper part.
        a.vpcmpgtd(k4, lo, part(1))?;
        a.vmovdqa32(CODE, hi)?;
        a.vpsubd(CODE.k4(), hi, CONSTANT)?;
        a.vpcmpgtd(reached, CODE, part(0))?;
    }
    Ok(())
}

/// Stores sixteen codes from the masks of the thresholds that they reach.
pub(super) fn store_planes(a: &mut CodeAssembler, top: usize, at: i32) -> Result<(), IcedError> {
    planes_of_masks(a, top)?;
    a.mov(dword_ptr(OUT + at), eax)
}

/// Sixteen codes in eax from the masks of the thresholds that they reach, [`REACHED`]: plane 1 is that of the second, plane 0 says
/// whether an odd number is reached.
pub(super) fn planes_of_masks(a: &mut CodeAssembler, top: usize) -> Result<(), IcedError> {
    if top == 3 {
        a.kmovw(r8d, k2)?;
        a.kxorw(k1, k1, k2)?;
        a.kxorw(k1, k1, k3)?;
        a.pdep(r8d, r8d, r11d)?;
    }
    a.kmovw(eax, k1)?;
    a.pdep(eax, eax, r10d)?;
    if top == 3 {
        a.or(eax, r8d)?;
    }
    Ok(())
}
