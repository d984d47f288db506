//! Codes of whole windows decided early, AVX-512 VNNI: upper digits' sums of up to 28 positions × 16 outputs in flight, and one
//! code for each window of them.
//!
//! A window's code says which thresholds the greatest of its accumulators reaches. Every output's thresholds hold for
//! accumulators that rise with the code (falling channels' weights are negated), so it is the greatest code too. What
//! `lower::early` says of one position holds for the window: U is its greatest upper sum, which the position of that sum turns into
//! a threshold that is sure to be reached, or none does into one that is sure not to be, as the bounds of the lowest digit's sum are
//! those of every position. A window that stays open is finished by the accumulators of all its positions: a threshold is
//! reached where any of them reaches it.
//!
//! Few windows are open, so a branch goes round those of a pair, and one round each.

use super::split::{INPUT, SplitFinish, SplitShape, WEIGHTS};
use super::split_early::{BLOCK, Early, FIRST, LANES, OPEN, enter_window};
use super::split_early_vnni::{DIGITS, LEVELS, PARTS, spreads, sure};
use super::split_vnni;
use super::vectors::ZMM;
use crate::lower::split::VECTOR;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Thresholds that another position of a window reaches.
const MORE: [AsmRegisterK; 3] = [k5, k6, k7];

/// The tile of this shape.
pub(super) struct Pooled(pub SplitShape);

impl Early for Pooled {
    fn constants(&self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        split_vnni::constants(self.0, a)
    }

    fn upper(&self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let s = self.0;
        let SplitFinish::Pooled { top, shift, .. } = s.finish else { return Ok(()) };
        upper(s, a)?;
        spreads(a)?;
        let sums = &ZMM[..s.positions];
        let windows: Vec<(usize, Vec<AsmRegisterZmm>)> = (0..s.results()).map(|i| (i, of_window(s, sums, i))).collect();
        for pair in windows.chunks(2) {
            for ((_, sums), greatest) in pair.iter().zip([LEVELS, DIGITS[0]]) {
                greatest_of(a, sums, greatest)?;
            }
            let second = if pair.len() > 1 { DIGITS[0] } else { LEVELS };
            let first = pair.first().map_or(0, |(i, _)| *i);
            sure(s, a, [LEVELS, second], [top, shift as usize], [first, pair.len()])?;
            let mut decided = a.create_label();
            a.test(eax, eax)?;
            a.jz(decided)?;
            for ((i, sums), lanes) in pair.iter().zip(LANES) {
                let mut other = a.create_label();
                a.test(eax, lanes)?;
                a.jz(other)?;
                enter_window(s, a, *i, sums)?;
                a.set_label(&mut other)?;
                a.zero_bytes()?;
            }
            a.set_label(&mut decided)?;
            a.zero_bytes()?;
        }
        Ok(())
    }

    fn lowest(&self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let s = self.0;
        let window = SplitShape { planes: 1, ..s.of_result() };
        let positions = window.positions;
        let each = (PARTS / positions).max(1);
        let [digits, upper] = DIGITS;
        for &sum in &ZMM[..positions * each] {
            a.vpxord(sum, sum, sum)?;
        }
        a.push(r11)?;
        window.nest(a, |a, input, weights| {
            a.vmovdqa32(digits, zmmword_ptr(WEIGHTS + weights))?;
            for (p, parts) in ZMM.chunks(each).take(positions).enumerate() {
                a.vpbroadcastd(LEVELS, dword_ptr(INPUT + (input + window.levels(p))))?;
                a.vpdpbusd(parts[input as usize / 4 % each], LEVELS, digits)?;
            }
            Ok(())
        })?;
        a.pop(r11)?;
        for (p, parts) in ZMM.chunks(each).take(positions).enumerate() {
            let [lo, rest @ ..] = parts else { continue };
            for part in rest {
                a.vpaddd(*lo, *lo, *part)?;
            }
            a.vmovdqa32(upper, zmmword_ptr(OPEN + (p * VECTOR) as i32))?;
            reached_by_any(s, a, p, [upper, *lo])?;
        }
        split_vnni::store_planes(a, s.finish.top(), 0)
    }
}

/// Of what each of a tile's positions has, row by row, that of result `i`'s.
pub(super) fn of_window<T: Copy>(s: SplitShape, sums: &[T], i: usize) -> Vec<T> {
    let [height, width] = s.window();
    let row = |y: usize| sums.iter().skip(s.first(i) + y * s.columns()).take(width);
    (0..height).flat_map(row).copied().collect()
}

/// Adds the thresholds that a window's position `p` reaches, whose parts are overwritten, to those that the ones before it do.
pub(super) fn reached_by_any(
    s: SplitShape,
    a: &mut CodeAssembler,
    p: usize,
    parts: [AsmRegisterZmm; 2],
) -> Result<(), IcedError> {
    split_vnni::carry(s, a, parts, LEVELS)?;
    if p == 0 {
        return split_vnni::reached(s, a, parts, split_vnni::REACHED);
    }
    split_vnni::reached(s, a, parts, MORE)?;
    let mut both = split_vnni::REACHED.into_iter().zip(MORE).take(s.finish.top());
    both.try_for_each(|(all, more)| a.korw(all, all, more))
}

/// Adds up the upper digits' products of all positions, in a register each: the highest digit's, then, moved up by the bits of a
/// digit, the next one's on top of them. Twice as many positions as with a register a digit are twice as many windows for one
/// decision, which takes two of them at once anyway, and save the additions; where every position is decided by itself, reading
/// levels once a digit costs more than that.
fn upper(s: SplitShape, a: &mut CodeAssembler) -> Result<(), IcedError> {
    let (always, sums) = (s.planes - 1, &ZMM[..s.positions]);
    sums.iter().try_for_each(|&sum| a.vpxord(sum, sum, sum))?;
    for plane in (0..always).rev() {
        if plane + 1 < always {
            sums.iter().try_for_each(|&sum| a.vpslld(sum, sum, s.bits))?;
            a.mov(rdi, FIRST)?;
            a.mov(WEIGHTS, BLOCK)?;
        }
        SplitShape { planes: always, ..s }.nest(a, |a, input, weights| {
            a.vmovdqa32(DIGITS[0], zmmword_ptr(WEIGHTS + (weights + (plane * VECTOR) as i32)))?;
            for (p, &sum) in sums.iter().enumerate() {
                a.vpbroadcastd(LEVELS, dword_ptr(INPUT + (input + s.levels(p))))?;
                a.vpdpbusd(sum, LEVELS, DIGITS[0])?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// The greatest of some sums in each lane.
pub(super) fn greatest_of(a: &mut CodeAssembler, sums: &[AsmRegisterZmm], to: AsmRegisterZmm) -> Result<(), IcedError> {
    let [first, rest @ ..] = sums else { return Ok(()) };
    rest.iter().try_fold(*first, |so_far, &sum| a.vpmaxsd(to, so_far, sum).map(|()| to)).map(|_| ())
}
