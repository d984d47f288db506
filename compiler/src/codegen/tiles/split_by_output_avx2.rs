//! Codes of the open outputs of a position or window, AVX2, output by output: i16 levels by i16 digits, 16 levels at a time, whose sums
//! become one accumulator, that is compared in 64 bits. The weights lie by output (`Split::digits_by_output`), each run filled up with
//! zeros, so what lies behind a run's levels does not matter: up to 30 bytes of it are read. In bytes: `split_by_output_vnni`.
//!
//! Cost: five instructions for 16 levels, 14 more a position and 40 for each open output.

use super::split::{OUT, SplitShape, TABLE, WEIGHTS};
use super::split_early::{OPEN, lanes_at};
use crate::lower::split::{PAIRS, TILE, VECTOR, pairs_by_output};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Products of a window's positions at most, which are written out.
const MOST: usize = 256;
/// Instructions of a position beside its products, and of an output.
const BESIDE: [usize; 2] = [14, 40];
/// A digit's sums.
const SUMS: [AsmRegisterYmm; 2] = [ymm0, ymm1];
const LEVELS: AsmRegisterYmm = ymm2;
const PRODUCT: AsmRegisterYmm = ymm3;
/// Open outputs that are left, then how many thresholds one reaches.
const LANES: AsmRegister32 = r8d;
const REACHED: AsmRegister32 = r8d;
/// The output at hand.
const LANE: AsmRegister32 = r9d;
/// A position's accumulator, and the greatest.
const SUM: AsmRegister64 = r10;
const GREATEST: AsmRegister64 = r11;

type Done = Result<(), IcedError>;

/// Bytes of a digit of an output.
fn digit_bytes(s: SplitShape) -> usize {
    s.loops[0] * s.loops[1] * pairs_by_output(s.loops[2])
}

/// Whether all products of a window's positions can be written out.
pub(super) fn fits(s: SplitShape) -> bool {
    s.planes == SUMS.len() && s.of_result().positions * digit_bytes(s) / PAIRS <= MOST
}

/// Instructions that all digits of an output of a window take, about.
pub(super) fn cost(s: SplitShape) -> usize {
    s.of_result().positions * (5 * digit_bytes(s) / PAIRS + BESIDE[0]) + BESIDE[1]
}

/// Stores the codes of the open outputs of [`OPEN`]'s window, whose first position's levels lie at rdi and the block's digits at
/// [`WEIGHTS`]; the others' stay as they are. Overwrites rax and r8 … r11.
pub(super) fn codes(s: SplitShape, a: &mut CodeAssembler) -> Done {
    let window = s.of_result();
    let mut again = a.create_label();
    a.mov(LANES, dword_ptr(OPEN + lanes_at(s)))?;
    a.set_label(&mut again)?;
    a.tzcnt(LANE, LANES)?;
    a.blsr(LANES, LANES)?;
    a.mov(dword_ptr(OPEN + lanes_at(s)), LANES)?;
    a.imul_3(eax, LANE, digit_bytes(s) as i32)?;
    a.add(rax, WEIGHTS)?;
    for p in 0..window.positions {
        accumulator(s, a, window.levels(p))?;
        if p == 0 {
            a.mov(GREATEST, SUM)?;
        } else {
            a.cmp(SUM, GREATEST)?;
            a.cmovg(GREATEST, SUM)?;
        }
    }
    reached(s, a)?;
    store(s, a)?;
    a.mov(LANES, dword_ptr(OPEN + lanes_at(s)))?;
    a.test(LANES, LANES)?;
    a.jnz(again)
}

/// The accumulator of the output whose weights lie at rax, and of the position whose levels lie `levels` behind rdi.
fn accumulator(s: SplitShape, a: &mut CodeAssembler, levels: i32) -> Done {
    let [rows, runs, _] = s.loops;
    SUMS.iter().try_for_each(|&sum| a.vpxor(sum, sum, sum))?;
    let all = (0..rows).flat_map(|row| (0..runs).map(move |run| row * s.steps[0] + run * s.steps[1]));
    let pieces = all.flat_map(|at| (0..pairs_by_output(s.loops[2])).step_by(PAIRS).map(move |first| at + first));
    for (i, at) in pieces.enumerate() {
        a.vmovdqu(LEVELS, ymmword_ptr(rdi + (levels + at as i32)))?;
        for (digit, sum) in SUMS.into_iter().enumerate() {
            let weights = digit * digit_bytes(s) * TILE + i * PAIRS;
            a.vpmaddwd(PRODUCT, LEVELS, ymmword_ptr(rax + weights as i32))?;
            a.vpaddd(sum, sum, PRODUCT)?;
        }
    }
    // Each half has the first digit's sum, then the second's.
    a.vphaddd(SUMS[0], SUMS[0], SUMS[1])?;
    a.vphaddd(SUMS[0], SUMS[0], SUMS[0])?;
    a.vextracti128(xmm1, SUMS[0], 1)?;
    a.vpaddd(xmm0, xmm0, xmm1)?;
    a.vmovq(r8, xmm0)?;
    a.movsxd(SUM, r8d)?;
    a.sar(r8, 32)?;
    a.shl(r8, s.bits)?;
    a.add(SUM, r8)
}

/// How many thresholds the greatest accumulator reaches.
fn reached(s: SplitShape, a: &mut CodeAssembler) -> Done {
    a.xor(REACHED, REACHED)?;
    for t in 0..s.finish.top() {
        let part = |i: usize| dword_ptr(TABLE + r9 * 4 + ((2 * t + i) * VECTOR) as i32);
        a.movsxd(SUM, part(0))?;
        a.shl(SUM, s.bits)?;
        a.movsxd(rax, part(1))?;
        a.add(SUM, rax)?;
        a.xor(eax, eax)?;
        a.cmp(GREATEST, SUM)?;
        a.setg(al)?;
        a.add(REACHED, eax)?;
    }
    Ok(())
}

/// Stores the code in its four outputs' byte: plane 0 in the lower half, plane 1 in the upper one.
fn store(s: SplitShape, a: &mut CodeAssembler) -> Done {
    a.mov(eax, LANE)?;
    a.and(eax, 12)?;
    a.add(LANE, eax)?;
    a.mov(r10d, if s.finish.top() > 1 { 0x11 } else { 0x01 })?;
    a.shlx(r10d, r10d, LANE)?;
    a.andn(r10d, r10d, dword_ptr(OUT))?;
    a.lea(eax, qword_ptr(r8 * 8))?;
    a.and(eax, 0x10)?;
    a.and(REACHED, 1)?;
    a.or(eax, REACHED)?;
    a.shlx(eax, eax, LANE)?;
    a.or(eax, r10d)?;
    a.mov(dword_ptr(OUT), eax)
}
