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
/// One bit a pair of positions that is decided, the first one's the highest.
const DECIDED: AsmRegister32 = ebx;
/// The bytes of the first and of the second of a pair.
const PAIR: [AsmRegister64; 2] = [r13, r14];

/// Positions of a tile at most, where so many digits are multiplied in any case.
pub(super) fn positions(always: usize) -> usize {
    MOST.get(always.saturating_sub(1)).map_or(0, |most| most / always)
}

pub(super) fn assemble(s: SplitShape, a: &mut CodeAssembler) -> Result<(), IcedError> {
    let SplitFinish::Early { top, shift } = s.finish else { return Ok(()) };
    let always = s.planes - 1;
    let upper: Vec<AsmRegisterZmm> = ZMM.iter().step_by(always).take(s.positions).copied().collect();
    leaf(a, &[rbx, FIRST, LOWEST, PAIR[0], PAIR[1]], |a| {
        a.mov(FIRST, rdi)?;
        a.lea(LOWEST, qword_ptr(WEIGHTS + (s.all_steps() * always * VECTOR) as i32))?;
        split_vnni::products(SplitShape { planes: always, ..s }, a, &DIGITS, LEVELS)?;
        split_vnni::constants(s, a)?;
        for (register, bytes) in [(r10, 0x0F0F), (r11, 0xF0F0), (PAIR[0], 0x00FF), (PAIR[1], 0xFF00)] {
            a.mov(register, bytes * 0x0001_0001_0001_0001_u64)?;
        }
        a.xor(DECIDED, DECIDED)?;
        for (i, pair) in upper.chunks(2).enumerate() {
            if always > 1 {
                for &sum in pair {
                    add_last(s, a, sum)?;
                }
            }
            decide(s, a, pair, [top, shift as usize], (2 * i * s.pitch) as i32)?;
        }
        let (mut done, mut lowest) = (a.create_label(), a.create_label());
        let pairs = s.positions.div_ceil(2);
        a.cmp(DECIDED, (1i32 << pairs) - 1)?;
        a.je(done)?;
        for (i, pair) in upper.chunks(2).enumerate() {
            let mut next = a.create_label();
            a.test(DECIDED, 1 << (pairs - 1 - i))?;
            a.jnz(next)?;
            for (p, &sum) in pair.iter().enumerate().map(|(j, sum)| (2 * i + j, sum)) {
                a.vmovdqa32(DIGITS[1], sum)?;
                a.lea(rdi, qword_ptr(FIRST + (p * s.position) as i32))?;
                a.push(OUT)?;
                a.add(OUT, (p * s.pitch) as i32)?;
                a.call(lowest)?;
                a.pop(OUT)?;
            }
            a.set_label(&mut next)?;
        }
        a.jmp(done)?;
        a.set_label(&mut lowest)?;
        add_lowest(s, a)?;
        a.ret()?;
        a.set_label(&mut done)
    })
}

/// Adds the last digit's sum, in the register behind, to that of the one before.
fn add_last(s: SplitShape, a: &mut CodeAssembler, sum: AsmRegisterZmm) -> Result<(), IcedError> {
    let Some(&last) = ZMM.iter().skip_while(|&&z| z != sum).nth(1) else { return Ok(()) };
    a.vpslld(last, last, s.bits)?;
    a.vpaddd(sum, sum, last)
}

/// Stores the codes of one or two positions that their upper digits' sums are sure of, and notes whether these are all.
fn decide(
    s: SplitShape,
    a: &mut CodeAssembler,
    sums: &[AsmRegisterZmm],
    [top, shift]: [usize; 2],
    at: i32,
) -> Result<(), IcedError> {
    let [Some(&first), Some(&second)] = [sums.first(), sums.last()] else { return Ok(()) };
    // Four lanes of one position, then the same of the other.
    a.vpsrad(LEVELS, first, shift as u32)?;
    a.vpsrad(DIGITS[0], second, shift as u32)?;
    a.vpackssdw(LEVELS, LEVELS, DIGITS[0])?;
    for (t, sure) in split_vnni::REACHED.into_iter().enumerate().take(top) {
        let part = |i: usize| zmmword_ptr(TABLE + ((2 * (top + t) + i) * VECTOR) as i32);
        a.vpcmpgtw(sure, LEVELS, part(0))?;
        if t == 0 {
            a.vpcmpgtw(k5, LEVELS, part(1))?;
            a.kxord(k5, k5, sure)?;
        } else {
            a.vpcmpgtw(k4, LEVELS, part(1))?;
            a.kxord(k4, k4, sure)?;
            a.kord(k5, k5, k4)?;
        }
    }
    if top == 3 {
        a.kmovd(r8d, k2)?;
        a.kxord(k1, k1, k2)?;
        a.kxord(k1, k1, k3)?;
        a.pdep(r8, r8, r11)?;
    }
    a.kmovd(eax, k1)?;
    a.pdep(rax, rax, r10)?;
    if top == 3 {
        a.or(rax, r8)?;
    }
    for (i, bytes) in PAIR.into_iter().enumerate().take(sums.len()) {
        a.pext(r8, rax, bytes)?;
        a.mov(dword_ptr(OUT + (at + (i * s.pitch) as i32)), r8d)?;
    }
    // The carry of a comparison with 1: set where no bit is.
    a.kmovd(eax, k5)?;
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
