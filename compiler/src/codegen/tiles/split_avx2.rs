//! The split-integer tile, AVX2: i16 levels by i16 digits, 8 outputs at a time, twice. 12 sums in flight. Bound: 16 MAC a
//! cycle with two digits, a third less with three; AVX-VNNI multiplies and adds in one instruction instead of two.

use super::split::{INPUT, Instructions, OUT, SplitFinish, SplitShape, TABLE, WEIGHTS};
use crate::lower::split::VECTOR;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

pub(super) const SUMS: [AsmRegisterYmm; 12] =
    [ymm0, ymm1, ymm2, ymm3, ymm4, ymm5, ymm6, ymm7, ymm8, ymm9, ymm10, ymm11];

pub(super) fn assemble(s: SplitShape, a: &mut CodeAssembler) -> Result<(), IcedError> {
    for half in 0..2 {
        let offset = 32 * half;
        // The second half starts over.
        a.push(rdi)?;
        a.push(WEIGHTS)?;
        half_tile(s, a, offset)?;
        a.pop(WEIGHTS)?;
        a.pop(rdi)?;
    }
    a.vzeroupper()?;
    a.ret()
}

fn half_tile(s: SplitShape, a: &mut CodeAssembler, offset: i32) -> Result<(), IcedError> {
    let used = s.planes * s.positions;
    for sum in SUMS.iter().take(used) {
        a.vpxor(*sum, *sum, *sum)?;
    }
    s.nest(a, |a, input, weights| {
        let digits = |plane: usize| weights + offset + (plane * VECTOR) as i32;
        // With two digits there are registers for their weights.
        let held = s.planes <= 2;
        for (plane, &weights) in [ymm12, ymm13].iter().take(s.planes).enumerate().filter(|_| held) {
            a.vmovdqa(weights, ymmword_ptr(WEIGHTS + digits(plane)))?;
        }
        for (p, sums) in SUMS.chunks(s.planes).take(s.positions).enumerate() {
            a.vpbroadcastd(LEVELS, dword_ptr(INPUT + (input + (p * s.position) as i32)))?;
            for (plane, &sum) in sums.iter().enumerate() {
                let from = match (held, plane) {
                    (true, 0) => Weights::Held(ymm12),
                    (true, _) => Weights::Held(ymm13),
                    _ => Weights::Read(WEIGHTS + digits(plane)),
                };
                add_products(s, a, sum, from)?;
            }
        }
        Ok(())
    })?;
    constants(s, a)?;
    for (p, sums) in SUMS.chunks(s.planes).take(s.positions).enumerate() {
        finish(s, a, sums, offset, (p * s.pitch) as i32 + offset / narrow(s))?;
    }
    Ok(())
}

/// The step's levels.
pub(super) const LEVELS: AsmRegisterYmm = ymm14;
/// Overwritten where products are added by an instruction of their own.
pub(super) const PRODUCT: AsmRegisterYmm = ymm15;

/// Where a step's weights are.
#[derive(Clone, Copy)]
pub(super) enum Weights {
    /// In a register.
    Held(AsmRegisterYmm),
    /// In memory.
    Read(AsmMemoryOperand),
}

/// Adds the products of the step's levels and weights.
pub(super) fn add_products(
    s: SplitShape,
    a: &mut CodeAssembler,
    sum: AsmRegisterYmm,
    weights: Weights,
) -> Result<(), IcedError> {
    let dot = s.instructions == Instructions::Avx2 { dot: true };
    match weights {
        Weights::Held(weights) if dot => return a.vpdpwssd(sum, LEVELS, weights),
        Weights::Read(weights) if dot => return a.vpdpwssd(sum, LEVELS, ymmword_ptr(weights)),
        Weights::Held(weights) => a.vpmaddwd(PRODUCT, LEVELS, weights)?,
        Weights::Read(weights) => a.vpmaddwd(PRODUCT, LEVELS, ymmword_ptr(weights))?,
    }
    a.vpaddd(sum, sum, PRODUCT)
}

/// How many times fewer bytes than an accumulator's four are stored of an output.
pub(super) fn narrow(s: SplitShape) -> i32 {
    if let SplitFinish::Nibbles { .. } = s.finish { 16 } else { 1 }
}

/// Loads what [`finish`] needs.
pub(super) fn constants(s: SplitShape, a: &mut CodeAssembler) -> Result<(), IcedError> {
    if s.finish == SplitFinish::Decode {
        a.mov(eax, f32::to_bits(2f32.powi(s.bits as i32)))?;
        a.vmovd(xmm15, eax)?;
        a.vcvtss2sd(xmm15, xmm15, xmm15)?;
        a.vpbroadcastq(ymm15, xmm15)?;
    }
    s.spread(a)
}

/// Stores the results of one position from its sums, which it overwrites; ymm12 … ymm14 are free.
pub(super) fn finish(
    s: SplitShape,
    a: &mut CodeAssembler,
    sums: &[AsmRegisterYmm],
    offset: i32,
    at: i32,
) -> Result<(), IcedError> {
    let Some(&lo) = sums.first() else { return Ok(()) };
    // Only decoding has a constant in ymm15.
    let spare = if s.finish == SplitFinish::Decode { ymm13 } else { ymm15 };
    let hi = sums.get(1).copied().unwrap_or(spare);
    if s.planes == 1 {
        a.vpxor(hi, hi, hi)?;
    }
    if let Some(&third) = sums.get(2) {
        a.vpslld(third, third, s.bits)?;
        a.vpaddd(hi, hi, third)?;
    }
    if s.finish == SplitFinish::Raw {
        a.vpslld(hi, hi, s.bits)?;
        a.vpaddd(hi, hi, lo)?;
        return a.vmovdqu(ymmword_ptr(OUT + at), hi);
    }
    a.vpsrad(ymm12, lo, s.bits)?;
    a.vpaddd(hi, hi, ymm12)?;
    a.vpslld(lo, lo, 32 - s.bits)?;
    a.vpsrld(lo, lo, 32 - s.bits)?;
    if s.finish != SplitFinish::Decode {
        a.vpxor(ymm12, ymm12, ymm12)?;
        for t in 0..s.finish.top() {
            let part = |i: usize| ymmword_ptr(TABLE + (((2 * t + i) * VECTOR) as i32 + offset));
            // hi > upper, or hi = upper and lo > lower: hi + (lo > lower) > upper. hi + 1 does not overflow.
            a.vpcmpgtd(ymm13, lo, part(1))?;
            a.vpsubd(ymm13, hi, ymm13)?;
            a.vpcmpgtd(ymm13, ymm13, part(0))?;
            a.vpsubd(ymm12, ymm12, ymm13)?;
        }
        if let SplitFinish::Nibbles { planes, .. } = s.finish {
            return nibbles(a, planes, at);
        }
        return a.vmovdqu(ymmword_ptr(OUT + at), ymm12);
    }
    // Four values at a time, in f64.
    for quarter in 0..2 {
        if quarter == 1 {
            a.vextracti128(xmm12, hi, 1)?;
            a.vextracti128(xmm14, lo, 1)?;
        } else {
            a.vmovdqa(ymm12, hi)?;
            a.vmovdqa(ymm14, lo)?;
        }
        a.vcvtdq2pd(ymm12, xmm12)?;
        a.vcvtdq2pd(ymm14, xmm14)?;
        a.vmulpd(ymm12, ymm12, ymm15)?;
        a.vaddpd(ymm12, ymm12, ymm14)?;
        a.vmulpd(ymm12, ymm12, ymmword_ptr(TABLE + (2 * offset + 32 * quarter)))?;
        a.vcvtpd2ps(xmm12, ymm12)?;
        a.vmovups(xmmword_ptr(OUT + (at + 16 * quarter)), xmm12)?;
    }
    Ok(())
}

/// Stores the low bits of the eight codes in ymm12.
fn nibbles(a: &mut CodeAssembler, planes: usize, at: i32) -> Result<(), IcedError> {
    a.vpslld(ymm13, ymm12, 31)?;
    a.vmovmskps(eax, ymm13)?;
    a.pdep(eax, eax, r10d)?;
    if planes > 1 {
        a.vpslld(ymm13, ymm12, 30)?;
        a.vmovmskps(r8d, ymm13)?;
        a.pdep(r8d, r8d, r11d)?;
        a.or(eax, r8d)?;
    }
    a.mov(word_ptr(OUT + at), ax)
}
