//! Codes decided early, AVX-512 VNNI: upper digits' sums of up to 14 positions × 2 digits × 16 outputs in flight.
//!
//! Bound: 32 MAC a cycle with three digits on one 512-bit port, 64 on two, where hardly any code is open; a position with an
//! open code takes half as long again.

use super::split::{INPUT, OUT, SplitFinish, SplitShape, TABLE, WEIGHTS};
use super::split_early::{Early, LANES, MOST, NEXT, OPEN, SPARE, enter};
use super::vectors::ZMM;
use super::{split_by_output_vnni, split_vnni};
use crate::lower::split::VECTOR;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Behind the sums.
pub(super) const DIGITS: [AsmRegisterZmm; 2] = [zmm28, zmm29];
pub(super) const LEVELS: AsmRegisterZmm = zmm30;
/// Sums of a position's lowest digit, added at the end: as many as hide the latency of one.
pub(super) const PARTS: usize = 8;

/// Positions of a tile at most, where so many digits are multiplied in any case.
pub(super) fn positions(always: usize) -> usize {
    MOST / always.max(1)
}

/// The tile of this shape.
pub(super) struct Vnni(pub SplitShape);

impl Early for Vnni {
    fn constants(&self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        split_vnni::constants(self.0, a)
    }

    fn upper(&self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let s = self.0;
        let SplitFinish::Early { top, shift } = s.finish else { return Ok(()) };
        let always = s.planes - 1;
        split_vnni::products(SplitShape { planes: always, ..s }, a, &DIGITS, LEVELS)?;
        spreads(a)?;
        let sums: Vec<AsmRegisterZmm> = ZMM.iter().step_by(always).take(s.positions).copied().collect();
        for (i, pair) in sums.chunks(2).enumerate() {
            let [Some(&first), Some(&second)] = [pair.first(), pair.last()] else { continue };
            if always > 1 {
                pair.iter().try_for_each(|&sum| add_last(s, a, sum))?;
            }
            sure(s, a, [first, second], [top, shift as usize], [2 * i, pair.len()])?;
            // Mostly neither is open; both are entered without a branch each.
            let mut decided = a.create_label();
            a.test(eax, eax)?;
            a.jz(decided)?;
            for (p, (&sum, lanes)) in pair.iter().zip(LANES).enumerate() {
                a.vmovdqa32(zmmword_ptr(NEXT), sum)?;
                enter(s, a, 2 * i + p, lanes)?;
            }
            a.set_label(&mut decided)?;
            a.zero_bytes()?;
        }
        Ok(())
    }

    fn lowest(&self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        lowest(self.0, a)
    }
}

/// Adds the last digit's sum, in the register behind, to that of the one before.
fn add_last(s: SplitShape, a: &mut CodeAssembler, sum: AsmRegisterZmm) -> Result<(), IcedError> {
    let Some(&last) = ZMM.iter().skip_while(|&&z| z != sum).nth(1) else { return Ok(()) };
    a.vpslld(last, last, s.bits)?;
    a.vpaddd(sum, sum, last)
}

/// Prepares what [`sure`] needs in general registers.
pub(super) fn spreads(a: &mut CodeAssembler) -> Result<(), IcedError> {
    for (register, bytes) in [(r10, 0x0F0F), (r11, 0xF0F0), (SPARE[0], 0x00FF), (SPARE[1], 0xFF00)] {
        a.mov(register, bytes * 0x0001_0001_0001_0001_u64)?;
    }
    Ok(())
}

/// Stores the codes of one or two results, the tile's `first` one on, that their upper digits' sums are sure of; eax has the
/// [`LANES`] of each that are open. Overwrites [`LEVELS`] and [`DIGITS`].
pub(super) fn sure(
    s: SplitShape,
    a: &mut CodeAssembler,
    sums: [AsmRegisterZmm; 2],
    [top, shift]: [usize; 2],
    [first, count]: [usize; 2],
) -> Result<(), IcedError> {
    // Four lanes of one position, then the same of the other.
    a.vpsrad(LEVELS, sums[0], shift as u32)?;
    if count > 1 {
        a.vpsrad(DIGITS[0], sums[1], shift as u32)?;
    }
    a.vpackssdw(LEVELS, LEVELS, if count > 1 { DIGITS[0] } else { LEVELS })?;
    // The least distance from where a threshold begins to be open.
    let [least, distance] = DIGITS;
    let bound = |vector: usize| zmmword_ptr(TABLE + ((2 * top + vector) * VECTOR) as i32);
    for (t, sure) in split_vnni::REACHED.into_iter().enumerate().take(top) {
        a.vpcmpgtw(sure, LEVELS, bound(2 * t))?;
        let to = if t == 0 { least } else { distance };
        a.vpsubw(to, LEVELS, bound(2 * t + 1))?;
        if t > 0 {
            a.vpminuw(least, least, distance)?;
        }
    }
    a.vpcmpltuw(k5, least, bound(2 * top))?;
    // Masks are joined as integers, for which more ports are free.
    a.kmovd(eax, k1)?;
    if top == 3 {
        a.kmovd(r8d, k2)?;
        a.kmovd(r9d, k3)?;
        a.xor(eax, r8d)?;
        a.xor(eax, r9d)?;
        a.pdep(r8, r8, r11)?;
    }
    a.pdep(rax, rax, r10)?;
    if top == 3 {
        a.or(rax, r8)?;
    }
    for (i, bytes) in SPARE.into_iter().enumerate().take(count) {
        a.pext(r8, rax, bytes)?;
        a.mov(dword_ptr(OUT + s.result(first + i)), r8d)?;
    }
    a.kmovd(eax, k5)
}

/// The codes of the open position.
fn lowest(s: SplitShape, a: &mut CodeAssembler) -> Result<(), IcedError> {
    let [lo, upper] = DIGITS;
    if s.by_output() {
        split_by_output_vnni::sums(s, a, lo)?;
    } else {
        all_outputs(s, a, lo)?;
    }
    a.vmovdqa32(upper, zmmword_ptr(OPEN))?;
    split_vnni::carry(s, a, [upper, lo], LEVELS)?;
    split_vnni::planes(s, a, [upper, lo], 0)
}

/// Leaves the lowest digit's sums of all outputs in `lo`.
fn all_outputs(s: SplitShape, a: &mut CodeAssembler, lo: AsmRegisterZmm) -> Result<(), IcedError> {
    let parts = &ZMM[..PARTS];
    for &sum in parts {
        a.vpxord(sum, sum, sum)?;
    }
    a.push(r11)?;
    SplitShape { planes: 1, ..s }.nest(a, |a, input, weights| {
        let sum = parts[input as usize / 4 % PARTS];
        a.vpbroadcastd(LEVELS, dword_ptr(INPUT + input))?;
        a.vpdpbusd(sum, LEVELS, zmmword_ptr(WEIGHTS + weights))
    })?;
    a.pop(r11)?;
    for distance in [PARTS / 2, PARTS / 4, PARTS / 8] {
        for i in 0..distance {
            a.vpaddd(parts[i], parts[i], parts[i + distance])?;
        }
    }
    a.vmovdqa32(lo, parts[0])
}
