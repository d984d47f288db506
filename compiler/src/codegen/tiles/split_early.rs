//! The split-integer tile, AVX-512 VNNI, of codes decided early (`lower::early`): a row of positions, the upper digits' sums of up
//! to 14 positions × 2 digits in flight. Positions whose codes these leave open go into a list, without a branch; the lowest digit
//! is multiplied for those of the list when the row ends or the list is full. Reference: `kernels::split_lanes`.
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
/// Sums in flight at most.
const MOST: usize = 28;
/// Sums of a position's lowest digit, added at the end: as many as hide the latency of one.
const PARTS: usize = 8;

/// Bytes of an entry of the list of open positions: the upper digits' sum, then the addresses of the levels and of the result.
const ENTRY: usize = VECTOR + 64;
/// Entries with which the list counts as full: another tile's must still find room.
const FULL: usize = 64;
/// Bytes of the list, aligned to 64.
pub(super) const LIST: usize = (FULL + MOST) * ENTRY;

/// The tile's first position's levels.
const FIRST: AsmRegister64 = rbp;
/// The block's weights.
const BLOCK: AsmRegister64 = r12;
/// Tiles to go.
const TILES: AsmRegister64 = r15;
/// Where the next open position is entered.
const NEXT: AsmRegister64 = rbx;
/// The bytes of the first and of the second of a pair.
const PAIR: [AsmRegister64; 2] = [r13, r14];
/// The lanes of the first and of the second of a pair.
const LANES: [u32; 2] = [0x0F0F_0F0F, 0xF0F0_F0F0];
/// The entry whose codes are made.
const OPEN: AsmRegister64 = r13;
/// What [`OUT`] is meanwhile.
const KEPT: AsmRegister64 = r14;
const SAVED: [AsmRegister64; 6] = [NEXT, FIRST, BLOCK, PAIR[0], PAIR[1], TILES];

/// Positions of a tile at most, where so many digits are multiplied in any case.
pub(super) fn positions(always: usize) -> usize {
    MOST / always.max(1)
}

pub(super) fn assemble(s: SplitShape, a: &mut CodeAssembler) -> Result<(), IcedError> {
    let SplitFinish::Early { top, shift } = s.finish else { return Ok(()) };
    let always = s.planes - 1;
    let upper: Vec<AsmRegisterZmm> = ZMM.iter().step_by(always).take(s.positions).copied().collect();
    leaf(a, &SAVED, |a| {
        a.mov(FIRST, rdi)?;
        a.mov(BLOCK, WEIGHTS)?;
        a.mov(TILES, r8)?;
        a.mov(NEXT, r9)?;
        a.push(r9)?;
        split_vnni::constants(s, a)?;
        let (mut next, mut drain) = (a.create_label(), a.create_label());
        a.set_label(&mut next)?;
        a.mov(rdi, FIRST)?;
        a.mov(WEIGHTS, BLOCK)?;
        split_vnni::products(SplitShape { planes: always, ..s }, a, &DIGITS, LEVELS)?;
        for (register, bytes) in [(r10, 0x0F0F), (r11, 0xF0F0), (PAIR[0], 0x00FF), (PAIR[1], 0xFF00)] {
            a.mov(register, bytes * 0x0001_0001_0001_0001_u64)?;
        }
        for (i, pair) in upper.chunks(2).enumerate() {
            if always > 1 {
                for &sum in pair {
                    add_last(s, a, sum)?;
                }
            }
            decide(s, a, pair, [top, shift as usize], 2 * i)?;
        }
        a.add(FIRST, (s.positions * s.position) as i32)?;
        a.add(OUT, (s.positions * s.pitch) as i32)?;
        a.dec(TILES)?;
        a.jz(drain)?;
        a.mov(rax, qword_ptr(rsp))?;
        a.add(rax, (FULL * ENTRY) as i32)?;
        a.cmp(NEXT, rax)?;
        a.jb(next)?;
        a.set_label(&mut drain)?;
        a.mov(KEPT, OUT)?;
        a.mov(OPEN, qword_ptr(rsp))?;
        let (mut open, mut done) = (a.create_label(), a.create_label());
        a.set_label(&mut open)?;
        a.cmp(OPEN, NEXT)?;
        a.jae(done)?;
        add_lowest(s, a)?;
        a.add(OPEN, ENTRY as i32)?;
        a.jmp(open)?;
        a.set_label(&mut done)?;
        a.mov(OUT, KEPT)?;
        a.mov(NEXT, qword_ptr(rsp))?;
        a.test(TILES, TILES)?;
        a.jnz(next)?;
        a.pop(rax)
    })
}

/// Adds the last digit's sum, in the register behind, to that of the one before.
fn add_last(s: SplitShape, a: &mut CodeAssembler, sum: AsmRegisterZmm) -> Result<(), IcedError> {
    let Some(&last) = ZMM.iter().skip_while(|&&z| z != sum).nth(1) else { return Ok(()) };
    a.vpslld(last, last, s.bits)?;
    a.vpaddd(sum, sum, last)
}

/// Stores the codes of one or two positions, the tile's `first` one on, that their upper digits' sums are sure of, and enters
/// those with others into the list.
fn decide(
    s: SplitShape,
    a: &mut CodeAssembler,
    sums: &[AsmRegisterZmm],
    [top, shift]: [usize; 2],
    first_position: usize,
) -> Result<(), IcedError> {
    let [Some(&first), Some(&second)] = [sums.first(), sums.last()] else { return Ok(()) };
    let at = |i: usize| ((first_position + i) * s.pitch) as i32;
    // Four lanes of one position, then the same of the other.
    a.vpsrad(LEVELS, first, shift as u32)?;
    a.vpsrad(DIGITS[0], second, shift as u32)?;
    a.vpackssdw(LEVELS, LEVELS, DIGITS[0])?;
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
    for (i, bytes) in PAIR.into_iter().enumerate().take(sums.len()) {
        a.pext(r8, rax, bytes)?;
        a.mov(dword_ptr(OUT + at(i)), r8d)?;
    }
    a.kmovd(eax, k5)?;
    for (i, (&sum, lanes)) in sums.iter().zip(LANES).enumerate() {
        a.vmovdqa32(zmmword_ptr(NEXT), sum)?;
        a.lea(r8, qword_ptr(FIRST + ((first_position + i) * s.position) as i32))?;
        a.lea(r9, qword_ptr(OUT + at(i)))?;
        a.mov(qword_ptr(NEXT + VECTOR), r8)?;
        a.mov(qword_ptr(NEXT + (VECTOR + 8)), r9)?;
        a.xor(r8d, r8d)?;
        a.test(eax, lanes)?;
        a.setne(r8b)?;
        a.shl(r8d, ENTRY.trailing_zeros())?;
        a.add(NEXT, r8)?;
    }
    Ok(())
}

/// Stores the codes of [`OPEN`]'s position from all digits.
fn add_lowest(s: SplitShape, a: &mut CodeAssembler) -> Result<(), IcedError> {
    let (parts, [lo, upper]) = (&ZMM[..PARTS], DIGITS);
    for &sum in parts {
        a.vpxord(sum, sum, sum)?;
    }
    a.mov(rdi, qword_ptr(OPEN + VECTOR))?;
    a.mov(OUT, qword_ptr(OPEN + (VECTOR + 8)))?;
    a.lea(WEIGHTS, qword_ptr(BLOCK + (s.all_steps() * (s.planes - 1) * VECTOR) as i32))?;
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
    a.vmovdqa32(lo, parts[0])?;
    a.vmovdqa32(upper, zmmword_ptr(OPEN))?;
    split_vnni::carry(s, a, [upper, lo], LEVELS)?;
    split_vnni::planes(s, a, [upper, lo], 0)
}
