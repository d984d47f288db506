//! Digits of an open position, AVX-512 VNNI, output by output: mostly one of sixteen is open, and a run of the window takes one
//! product of 64 bytes for each, where a step of all sixteen outputs takes one for four bytes. The weights lie as `lower::split` turns
//! them by output. Reference: the other form, in `split_early_vnni`.
//!
//! Cost: a product a run and digit and 25 instructions for each open output. The other outputs' codes are sure whatever these sums
//! are, so theirs are 0 or left as they are.

use super::split::{SplitShape, WEIGHTS};
use super::split_early::{OPEN, lanes_at};
use super::vectors::{XMM, YMM, ZMM};
use crate::lower::split::{TILE, VECTOR};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Bytes of a product.
const PRODUCT: usize = 64;
/// Products of a digit at most, which are written out.
const MOST: usize = 24;
/// Instructions of an output beside its products.
const OUTPUT: usize = 25;
/// Sums of a position in flight: as many for each digit.
const SUMS: usize = 6;
const LEVELS: AsmRegisterZmm = zmm6;
/// The sums of each position's digits for all outputs lie behind these.
const FIRST: usize = 8;
/// Open outputs that are left, and the one at hand.
const LANES: AsmRegister32 = r8d;
const LANE: AsmRegister32 = r9d;
/// The lane at hand, and the bytes of a run's last product.
const AT: AsmRegisterK = k5;

/// Bytes of a run of the window.
fn run_bytes(s: SplitShape) -> usize {
    4 * s.loops[2]
}

/// Products of an output and digit.
fn products(s: SplitShape) -> usize {
    s.loops[0] * s.loops[1] * run_bytes(s).div_ceil(PRODUCT)
}

/// Whether this costs clearly less for the lowest digit than a step for four bytes of all outputs.
pub(super) fn pays(s: SplitShape) -> bool {
    products(s) <= MOST && 5 * (products(s) + OUTPUT) <= 4 * s.all_steps()
}

/// Whether all digits of a window's positions can be written out.
pub(super) fn fits(s: SplitShape) -> bool {
    let positions = s.of_result().positions;
    products(s) * positions <= 4 * MOST && FIRST + 2 * positions <= 28 && s.planes <= SUMS / 2
}

/// Instructions that all digits of an output of a window take, about.
pub(super) fn cost(s: SplitShape) -> usize {
    let positions = s.of_result().positions;
    positions * (products(s) * (1 + s.planes) + s.planes * OUTPUT) + 2 * OUTPUT
}

/// Leaves the lowest digit's sums of the open outputs of [`OPEN`]'s position in `lo`, 0 of the others. The position's levels lie
/// at rdi, the block's lowest digits at [`WEIGHTS`]; rax, r8 and r9 are overwritten.
pub(super) fn sums(s: SplitShape, a: &mut CodeAssembler, lo: AsmRegisterZmm) -> Result<(), IcedError> {
    a.vpxord(lo, lo, lo)?;
    each_open(s, a, |a| {
        position(s, a, 1, 0)?;
        a.vpbroadcastd(lo.k5(), xmm0)
    })
}

/// Leaves the sums of all digits of the open outputs of [`OPEN`]'s window: upper and lower part of each position, `bits` below the
/// point; those of other outputs are whatever they were. Takes and overwrites what [`sums`] does, the weights of all digits.
pub(super) fn all_digits(s: SplitShape, a: &mut CodeAssembler) -> Result<Vec<[AsmRegisterZmm; 2]>, IcedError> {
    let window = s.of_result();
    let parts: Vec<[AsmRegisterZmm; 2]> =
        (0..window.positions).map(|p| [ZMM[FIRST + 2 * p], ZMM[FIRST + 2 * p + 1]]).collect();
    each_open(s, a, |a| {
        for (p, &[hi, lo]) in parts.iter().enumerate() {
            position(s, a, s.planes, window.levels(p))?;
            let [first, second, third] = [0, 1, 2].map(|digit| XMM[digit * (SUMS / s.planes)]);
            if s.planes > 2 {
                a.vpslld(third, third, s.bits)?;
                a.vpaddd(second, second, third)?;
            }
            a.vpbroadcastd(lo.k5(), first)?;
            a.vpbroadcastd(hi.k5(), second)?;
        }
        Ok(())
    })?;
    Ok(parts)
}

/// `of_one` for each open output of [`OPEN`], whose weights lie at rax and whose lane is k5's.
fn each_open(
    s: SplitShape,
    a: &mut CodeAssembler,
    of_one: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Result<(), IcedError> {
    let rest = run_bytes(s) % PRODUCT;
    if rest > 0 {
        a.mov(rax, (1u64 << rest) - 1)?;
        a.kmovq(k6, rax)?;
    }
    a.mov(LANES, dword_ptr(OPEN + lanes_at(s)))?;
    let mut again = a.create_label();
    a.set_label(&mut again)?;
    a.tzcnt(LANE, LANES)?;
    a.blsr(LANES, LANES)?;
    a.mov(eax, 1)?;
    a.shlx(eax, eax, LANE)?;
    a.kmovw(AT, eax)?;
    a.imul_3(eax, LANE, (s.all_steps() * VECTOR / TILE) as i32)?;
    a.add(rax, WEIGHTS)?;
    of_one(a)?;
    a.test(LANES, LANES)?;
    a.jnz(again)
}

/// The sums of `digits` digits of the output whose weights lie at rax, those of further digits behind those of all outputs, and of the position whose levels
/// lie `levels` behind rdi: in the first lane of every `SUMS / digits`-th register.
fn position(s: SplitShape, a: &mut CodeAssembler, digits: usize, levels: i32) -> Result<(), IcedError> {
    let [rows, runs, _] = s.loops;
    let parts = (SUMS / digits).min(4);
    let registers = |digit: usize| digit * (SUMS / digits)..digit * (SUMS / digits) + parts;
    (0..digits).flat_map(registers).try_for_each(|i| a.vpxord(ZMM[i], ZMM[i], ZMM[i]))?;
    let all = (0..rows).flat_map(|row| (0..runs).map(move |run| (row, run))).enumerate();
    let pieces = all.flat_map(|(i, at)| (0..run_bytes(s)).step_by(PRODUCT).map(move |first| (i, at, first)));
    for (n, (i, (row, run), first)) in pieces.enumerate() {
        let at = zmmword_ptr(rdi + (levels + (row * s.steps[0] + run * s.steps[1] + first) as i32));
        // Behind a run's levels there need not be any memory.
        if run_bytes(s) - first >= PRODUCT {
            a.vmovdqu8(LEVELS, at)?;
        } else {
            a.vmovdqu8(LEVELS.k6().z(), at)?;
        }
        for digit in 0..digits {
            let weights = digit * s.all_steps() * VECTOR + i * run_bytes(s) + first;
            a.vpdpbusd(ZMM[digit * (SUMS / digits) + n % parts], LEVELS, zmmword_ptr(rax + weights as i32))?;
        }
    }
    (0..digits).try_for_each(|digit| fold(a, registers(digit)))
}

/// Adds up all lanes of neighbouring registers in the first lane of the first.
fn fold(a: &mut CodeAssembler, registers: std::ops::Range<usize>) -> Result<(), IcedError> {
    let (i, spare) = (registers.start, 7);
    for part in registers.skip(1) {
        a.vpaddd(ZMM[i], ZMM[i], ZMM[part])?;
    }
    a.vextracti64x4(YMM[spare], ZMM[i], 1)?;
    a.vpaddd(YMM[i], YMM[i], YMM[spare])?;
    a.vextracti128(XMM[spare], YMM[i], 1)?;
    a.vpaddd(XMM[i], XMM[i], XMM[spare])?;
    for order in [0x4E, 0xB1] {
        a.vpshufd(XMM[spare], XMM[i], order)?;
        a.vpaddd(XMM[i], XMM[i], XMM[spare])?;
    }
    Ok(())
}
