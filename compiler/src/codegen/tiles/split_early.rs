//! The split-integer tile, AVX-512 VNNI, of codes decided early (`lower::early`): the upper digits' sums of up to 14 positions
//! × 2 digits in flight, then the lowest digit's for the positions whose codes these leave open. Reference:
//! `kernels::split_lanes`.
//!
//! Bound: 32 MAC a cycle with three digits on one 512-bit port, 64 on two, where hardly any code is open; a position with an
//! open code takes half as long again.

use super::leaf;
use super::split::{INPUT, OUT, SplitFinish, SplitShape, TABLE, WEIGHTS};
use super::split_vnni;
use super::vectors::ZMM;
use crate::lower::split::VECTOR;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Behind the sums.
const DIGITS: [AsmRegisterZmm; 2] = [zmm28, zmm29];
const LEVELS: AsmRegisterZmm = zmm30;
/// Sums in flight at most; of these, where there is one digit, so many that the open positions find accumulators.
const MOST: [usize; 2] = [24, 28];
/// The first position's levels.
const FIRST: AsmRegister64 = rbp;
/// The lowest digits.
const LOWEST: AsmRegister64 = r12;
/// One bit a position that is decided, the first one's the highest.
const DECIDED: AsmRegister32 = ebx;

/// Positions of a tile at most, where so many digits are multiplied in any case.
pub(super) fn positions(always: usize) -> usize {
    MOST.get(always.saturating_sub(1)).map_or(0, |most| most / always)
}

pub(super) fn assemble(s: SplitShape, a: &mut CodeAssembler) -> Result<(), IcedError> {
    let SplitFinish::Early { top } = s.finish else { return Ok(()) };
    let always = s.planes - 1;
    leaf(a, &[rbx, FIRST, LOWEST], |a| {
        a.mov(FIRST, rdi)?;
        a.lea(LOWEST, qword_ptr(WEIGHTS + (s.all_steps() * always * VECTOR) as i32))?;
        products(SplitShape { planes: always, ..s }, a)?;
        split_vnni::constants(s, a)?;
        a.xor(DECIDED, DECIDED)?;
        for (p, sums) in ZMM.chunks(always).take(s.positions).enumerate() {
            decide(s, a, sums.get(..always).unwrap_or_default(), top, (p * s.pitch) as i32)?;
        }
        let (mut done, mut lowest) = (a.create_label(), a.create_label());
        let all = (1u32 << s.positions) - 1;
        a.cmp(DECIDED, all as i32)?;
        a.je(done)?;
        for (p, &upper) in ZMM.iter().step_by(always).take(s.positions).enumerate() {
            let mut next = a.create_label();
            a.test(DECIDED, 1 << (s.positions - 1 - p))?;
            a.jnz(next)?;
            a.vmovdqa32(DIGITS[1], upper)?;
            a.lea(rdi, qword_ptr(FIRST + (p * s.position) as i32))?;
            a.push(OUT)?;
            a.add(OUT, (p * s.pitch) as i32)?;
            a.call(lowest)?;
            a.pop(OUT)?;
            a.set_label(&mut next)?;
        }
        a.jmp(done)?;
        a.set_label(&mut lowest)?;
        add_lowest(s, a)?;
        a.ret()?;
        a.set_label(&mut done)
    })
}

/// The sums of the digits that are multiplied in any case.
fn products(s: SplitShape, a: &mut CodeAssembler) -> Result<(), IcedError> {
    for sum in ZMM.iter().take(s.planes * s.positions) {
        a.vpxord(*sum, *sum, *sum)?;
    }
    s.nest(a, |a, input, weights| {
        for (plane, &digits) in DIGITS.iter().take(s.planes).enumerate() {
            a.vmovdqa32(digits, zmmword_ptr(WEIGHTS + (weights + (plane * VECTOR) as i32)))?;
        }
        for (p, sums) in ZMM.chunks(s.planes).take(s.positions).enumerate() {
            a.vpbroadcastd(LEVELS, dword_ptr(INPUT + (input + (p * s.position) as i32)))?;
            for (&sum, &digits) in sums.iter().zip(&DIGITS) {
                a.vpdpbusd(sum, LEVELS, digits)?;
            }
        }
        Ok(())
    })
}

/// Stores the codes that a position's upper digits are sure of, and notes whether these are all; leaves their sum in the
/// first register.
fn decide(s: SplitShape, a: &mut CodeAssembler, sums: &[AsmRegisterZmm], top: usize, at: i32) -> Result<(), IcedError> {
    let Some(&upper) = sums.first() else { return Ok(()) };
    if let Some(&last) = sums.get(1) {
        a.vpslld(last, last, s.bits)?;
        a.vpaddd(upper, upper, last)?;
    }
    for (t, sure) in split_vnni::REACHED.into_iter().enumerate().take(top) {
        let part = |i: usize| zmmword_ptr(TABLE + ((2 * (top + t) + i) * VECTOR) as i32);
        a.vpcmpgtd(sure, upper, part(0))?;
        if t == 0 {
            a.vpcmpgtd(k5, upper, part(1))?;
            a.kxorw(k5, k5, sure)?;
        } else {
            a.vpcmpgtd(k4, upper, part(1))?;
            a.kxorw(k4, k4, sure)?;
            a.korw(k5, k5, k4)?;
        }
    }
    split_vnni::store_planes(a, top, at)?;
    // The carry of a comparison with 1: set where no bit is.
    a.kmovw(eax, k5)?;
    a.cmp(eax, 1)?;
    a.adc(DECIDED, DECIDED)
}

/// Stores one position's codes from all digits; its levels at rdi, the upper digits' sum in the second digit's register.
fn add_lowest(s: SplitShape, a: &mut CodeAssembler) -> Result<(), IcedError> {
    let (always, upper) = (s.planes - 1, DIGITS[1]);
    let taken = |i: usize| i.is_multiple_of(always) && i < always * s.positions;
    let free: Vec<_> = (0..28).filter(|&i| !taken(i)).filter_map(|i| ZMM.get(i).copied()).take(4).collect();
    for &sum in &free {
        a.vpxord(sum, sum, sum)?;
    }
    a.mov(WEIGHTS, LOWEST)?;
    a.push(r11)?;
    SplitShape { planes: 1, ..s }.nest(a, |a, input, weights| {
        let Some(&sum) = free.get(input as usize / 4 % free.len().max(1)) else { return Ok(()) };
        a.vpbroadcastd(LEVELS, dword_ptr(INPUT + input))?;
        a.vpdpbusd(sum, LEVELS, zmmword_ptr(WEIGHTS + weights))
    })?;
    a.pop(r11)?;
    let lo = DIGITS[0];
    a.vpxord(lo, lo, lo)?;
    for &sum in &free {
        a.vpaddd(lo, lo, sum)?;
    }
    split_vnni::carry(s, a, [upper, lo], LEVELS)?;
    split_vnni::planes(s, a, [upper, lo], 0)
}
