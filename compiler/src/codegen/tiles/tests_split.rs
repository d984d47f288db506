//! The bytes of the split-integer tiles: what each level's may hold, on whatever machine the tests run.

use super::split::{Instructions, Rows};
use super::split_winograd::WinogradShape;
use super::split_winograd_rows::RowTransform;
use super::tests::{only_avx2, only_avxvnni, only_level_4};
use super::*;
use crate::lower::split_winograd::Filter;

/// Of AVX-512 F, BW and VNNI, and BMI2.
const DIGITS: [&str; 29] = [
    "Vpdpbusd",
    "Vpbroadcastd",
    "Vpcmpgtd",
    "Vpcmpeqd",
    "Vpslld",
    "Vpsrad",
    "Vpsrld",
    "Vcvtdq2pd",
    "Kmovw",
    "Kord",
    "Kmovd",
    "Kxord",
    "Vpcmpgtw",
    "Vpcmpuw",
    "Vpminuw",
    "Vpackssdw",
    "Vpsubd",
    "Vmovdqa32",
    "Kxorw",
    "Korw",
    "Pdep",
    "Vpternlogd",
    "Vcvtps2pd",
    "Vmulpd",
    "Vaddpd",
    "Vcvtpd2ps",
    "Vmovdqu8",
    "Vpshufd",
    "Vextracti128",
];

const NIBBLES: SplitFinish = SplitFinish::Nibbles { top: 3, planes: 2 };
const EARLY: [SplitFinish; 2] = [SplitFinish::Early { top: 1, shift: 12 }, SplitFinish::Early { top: 3, shift: 12 }];

fn shape(instructions: Instructions, positions: usize, planes: usize, finish: SplitFinish) -> SplitShape {
    let (loops, steps, position, pitch, rows) = ([5, 2, 9], [700, 48], 24, 256, Rows::ONE);
    let bits = if instructions == Instructions::Vnni { 8 } else { 12 };
    SplitShape { instructions, positions, planes, bits, loops, steps, position, pitch, rows, finish }
}

#[test]
fn split_tiles_of_avx2_hold_no_newer_instruction() -> Result<(), IcedError> {
    let allowed = |dot, a: &CodeAssembler| if dot { only_avxvnni(a) } else { only_avx2(a) };
    for (planes, positions) in [(1, 12), (2, 6), (2, 5), (3, 4), (3, 1)] {
        let early = EARLY.into_iter().filter(|_| planes == 2);
        for finish in
            [SplitFinish::Raw, SplitFinish::Decode, SplitFinish::Threshold(3), NIBBLES].into_iter().chain(early)
        {
            for dot in [false, true] {
                let shape = shape(Instructions::Avx2 { dot }, positions, planes, finish);
                allowed(dot, &assembler(|a| shape.assemble(a))?);
                let limits: &[Option<usize>] = if dot { &[None] } else { &[Some(8), Some(1000)] };
                for &limit in limits.iter().filter(|_| planes == 1) {
                    let bytes = SplitShape { instructions: Instructions::Bytes(limit), positions: 6, ..shape };
                    allowed(dot, &assembler(|a| bytes.assemble(a))?);
                }
            }
        }
    }
    Ok(())
}

#[test]
fn split_tiles_of_vnni_hold_no_newer_instruction() -> Result<(), IcedError> {
    for (planes, positions) in [(2, 24), (3, 14), (3, 1), (2, 1)] {
        let windows = [([2, 2], 24, 1), ([3, 3], 27, 3), ([1, 2], 14, 3), ([4, 7], 28, 1)];
        for (window, positions, top) in windows.into_iter().filter(|_| positions > 1) {
            let finish = SplitFinish::Pooled { top, shift: 3, window };
            let rows = Rows { count: window[0], levels: 700, results: 0 };
            let shape = SplitShape { rows, pitch: 12, ..shape(Instructions::Vnni, positions, planes, finish) };
            only_level_4(&assembler(|a| shape.assemble(a))?, &[&DIGITS[..], &["Vpmaxsd"]].concat());
        }
        for finish in [EARLY[0], EARLY[1], SplitFinish::Decode, SplitFinish::Threshold(3), NIBBLES] {
            let positions = if EARLY.contains(&finish) { positions } else { positions.min(9) };
            let shape = shape(Instructions::Vnni, positions, planes, finish);
            only_level_4(&assembler(|a| shape.assemble(a))?, &DIGITS);
        }
    }
    Ok(())
}

#[test]
fn transformed_rows_hold_no_newer_instruction() -> Result<(), IcedError> {
    let more = ["Vpdpwssd", "Vmovdqu16", "Vpmovzxbw", "Vpmaxsd", "Andn"];
    let vnni = |a: &CodeAssembler| only_level_4(a, &[&DIGITS[..], &more].concat());
    for (results, taps, phases, short) in [(3, 3, 4, 0), (2, 5, 1, 0), (3, 4, 2, 1), (4, 2, 1, 0), (2, 2, 2, 1)] {
        let filter = Filter { results, taps, phases, short };
        for window in [None, Some([results, 2]), Some([results, 1])] {
            for top in [1, 3] {
                vnni(&assembler(|a| transformed(Instructions::Vnni, 3, filter, window, top).assemble(a))?);
                let avx2 = |dot| transformed(Instructions::Avx2 { dot }, 2, filter, window, top);
                only_avx2(&assembler(|a| avx2(false).assemble(a))?);
                only_avxvnni(&assembler(|a| avx2(true).assemble(a))?);
            }
        }
        let rows = RowTransform { width: Width::Zmm, filter, levels: 132, from: 144, to: RowTransform::row(132) };
        only_level_4(&assembler(|a| rows.assemble(a))?, &more);
        only_avx2(&assembler(|a| RowTransform { width: Width::Ymm, from: 288, ..rows }.assemble(a))?);
    }
    Ok(())
}

fn transformed(
    instructions: Instructions,
    planes: usize,
    filter: Filter,
    window: Option<[usize; 2]>,
    top: usize,
) -> WinogradShape {
    let [_, most] = WinogradShape::columns_of(filter, instructions);
    let finish = match window {
        Some(window) => SplitFinish::Pooled { top, shift: 3, window },
        None => SplitFinish::Early { top, shift: 3 },
    };
    let exact = SplitShape::of_rows(instructions, planes, [filter.results, most & !1], window, 3);
    let loops = [filter.phases * filter.taps - filter.short, 1, 9];
    let exact = SplitShape { bits: 8, loops, steps: [700, 12], position: 12, pitch: 24, finish, ..exact };
    WinogradShape { exact: exact.with_rows([700, 900]), filter, steps: 18, row: 1408, position: 24 }
}
