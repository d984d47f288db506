//! The bytes of every tile: what each level's tiles may hold, on whatever machine the tests run.

use super::amx_conv::{AmxConv, Place, Store};
use super::look_up_avx512::{self as look_up, LookUp64};
use super::look_up_flat::LookUpFlat;
use super::outer_avx512::{GatherShape, OuterShape, TableShape};
use super::pack_rows_avx512::PackRows;
use super::patches::Patches;
use super::product::Dot;
use super::product_amx::{self, ProductShape};
use super::transpose_avx512::Apart;
use super::unpack_avx512::{Planes, Unpack};
use super::weight_amx::{ShiftShape, Taps, WeightShape};
use super::winograd_squares::{SquareFilters, SquareRows, SquareSums};
use super::winograd_transforms::{DataTransform, FilterTransform, GradientSums};
use super::winograd_weights::{DataPlanes, GradientSteps, GradientTransform};
use super::*;
use crate::codegen::products::{Arithmetic, Finish, Loop, Tile, Units, Winograd};
use crate::lower::train::requirements::patch_grad::Chunk;

/// Every instruction of a tile is legal on a machine with AVX2 and FMA and no more.
pub(in crate::codegen) fn only_avx2(a: &CodeAssembler) {
    only_avxvnni(a);
    let dot = a.instructions().iter().find(|i| format!("{:?}", i.mnemonic()).starts_with("Vpdp"));
    assert!(dot.is_none(), "{dot:?} is one of AVX-VNNI");
}

/// Every instruction of a tile is legal on a machine with AVX2, FMA and AVX-VNNI and no more.
pub(in crate::codegen) fn only_avxvnni(a: &CodeAssembler) {
    for instruction in a.instructions() {
        let code = format!("{:?}", instruction.code());
        assert!(!code.starts_with("EVEX"), "{code}");
        assert!(code.starts_with("VEX") || !code.contains("mm_"), "{code} is no VEX form");
    }
}

/// Instructions up to SSE4.2 and POPCNT, as the tiles use them.
const LEVEL_2: [&str; 53] = [
    "Push",
    "Pop",
    "Ret",
    "Mov",
    "Movzx",
    "Lea",
    "Add",
    "Sub",
    "Imul",
    "Xor",
    "Shl",
    "Cmp",
    "And",
    "Dec",
    "Je",
    "Jne",
    "Movd",
    "Movq",
    "Movdqa",
    "Movdqu",
    "Pxor",
    "Pand",
    "Paddb",
    "Paddw",
    "Psubw",
    "Psllw",
    "Psrlw",
    "Pmullw",
    "Pcmpeqb",
    "Pcmpeqd",
    "Pcmpgtw",
    "Packsswb",
    "Packssdw",
    "Packuswb",
    "Punpcklbw",
    "Punpcklqdq",
    "Pshuflw",
    "Pshufd",
    "Pmovmskb",
    "Pmaddwd",
    "Psrld",
    "Pcmpeqw",
    "Paddd",
    "Pslld",
    "Pmulld",
    "Punpcklwd",
    "Punpckhwd",
    "Prefetcht0",
    "Prefetcht1",
    "Test",
    "Movups",
    "Andps",
    "Addps",
];
/// Of SSSE3.
const SSSE3: [&str; 3] = ["Pshufb", "Pabsb", "Pmaddubsw"];

/// Every instruction of a tile is legal on a machine of level v2.
pub(in crate::codegen) fn only_sse(a: &CodeAssembler) {
    for instruction in a.instructions() {
        let name = format!("{:?}", instruction.mnemonic());
        assert!(LEVEL_2.contains(&name.as_str()) || SSSE3.contains(&name.as_str()), "{:?}", instruction.code());
    }
}

/// Instructions of AVX-512 F, BW, DQ and of BMI1 and 2, as the tiles use them.
const LEVEL_4: [&str; 31] = [
    "Vmovdqa64",
    "Vmovdqu32",
    "Vmovdqu64",
    "Vpxord",
    "Vpaddb",
    "Vpaddw",
    "Vpaddd",
    "Vpaddq",
    "Vpsubw",
    "Vpsllq",
    "Vpsllw",
    "Vpsrlw",
    "Vpmullw",
    "Vpmulld",
    "Vpcmpw",
    "Vpandq",
    "Vpbroadcastw",
    "Vpbroadcastd",
    "Vpbroadcastq",
    "Vpmovzxwd",
    "Vpmovqd",
    "Vextracti64x4",
    "Vzeroupper",
    "Kmovq",
    "Kxorq",
    "Kunpckdq",
    "Pext",
    "Pdep",
    "Rorx",
    "Blsr",
    "Shlx",
];

/// Every vector instruction of a tile is one of level v4, or of `more`.
pub(in crate::codegen) fn only_level_4(a: &CodeAssembler, more: &[&str]) {
    for instruction in a.instructions() {
        let code = format!("{:?}", instruction.code());
        let Some(name) = code.strip_prefix("EVEX_").or(code.strip_prefix("VEX_")) else {
            assert!(!code.contains("mm_"), "{code} is no VEX form");
            continue;
        };
        let name = name.split('_').next().unwrap_or_default();
        assert!(LEVEL_4.contains(&name) || more.contains(&name), "{code}");
    }
}

#[test]
fn patch_tiles_of_level_4_hold_no_newer_instruction() -> Result<(), IcedError> {
    // AVX-512 F and BMI1.
    let floats = ["Vmovups", "Vbroadcastss", "Vfmadd231ps", "Vmulps", "Vaddps", "Vandps", "Vcmpps", "Vpord", "Blsr"];
    let masks = ["Vmovdqa32", "Vptestnmd", "Vpmovzxbd"];
    for (fma, row) in [(true, 320), (false, 64), (true, 4096)] {
        let shape = PatchTile { fma, ..patch_tile(Width::Zmm, row) };
        only_level_4(&assembler(|a| shape.assemble(a))?, &[&floats[..], &masks].concat());
    }
    Ok(())
}

#[test]
fn outer_products_of_level_4_hold_no_newer_instruction() -> Result<(), IcedError> {
    let more = ["Vbroadcastss", "Vmovups", "Vpslld", "Vpsrad", "Vcvtdq2ps", "Vaddps", "Vmulps", "Vfmadd231ps"];
    for rows in [192, 128, 7] {
        only_level_4(&assembler(|a| GatherShape { rows }.assemble(a))?, &["Vpmovwb"]);
    }
    for top in [1, 3, 15] {
        only_level_4(&assembler(|a| TableShape { top }.assemble(a))?, &more);
        for (rows, fma) in [(24, true), (24, false), (7, true), (17, false)] {
            only_level_4(&assembler(|a| OuterShape { top, rows, fma }.assemble(a))?, &more);
        }
    }
    Ok(())
}

#[test]
fn tiles_that_pack_for_level_4_hold_no_newer_instruction() -> Result<(), IcedError> {
    let moves = ["Vmovups", "Vmovntps", "Vunpcklps", "Vunpckhps", "Vunpcklpd", "Vunpckhpd", "Vshuff32x4"];
    let moves = [&moves[..], &["Vpmovwb", "Vinserti64x4"]].concat();
    let levels = [false, true].map(|past| Apart::FromLevels { past });
    for apart in [Apart::From, Apart::To, Apart::Near].into_iter().chain(levels) {
        only_level_4(&assembler(|a| apart.assemble(a))?, &moves);
    }
    let rows = ["Vmovdqu", "Vpand", "Vpor", "Vpslld", "Vpord", "Vpmaddubsw", "Vpmaddwd"];
    for bias in [0, 64] {
        only_level_4(&assembler(|a| PackRows { bias }.assemble(a))?, &rows);
    }
    Ok(())
}

#[test]
fn product_tiles_of_amx_hold_no_more_than_its_bytes() -> Result<(), IcedError> {
    let tiles = ["Tileloadd", "Tilestored", "Tilezero", "Tdpbusd"];
    for (count, rows) in [
        (1, product_amx::Rows::Even),
        (4, product_amx::Rows::Even),
        (3, product_amx::Rows::Listed(64)),
        (4, product_amx::Rows::Listed(192)),
    ] {
        for start in [true, false] {
            only_level_4(&assembler(|a| ProductShape { tiles: count, rows, start, words: false }.assemble(a))?, &tiles);
        }
        let words = ProductShape { tiles: count, rows, start: false, words: true };
        only_level_4(&assembler(|a| words.assemble(a))?, &[&tiles[..], &["Vpmovdw", "Vmovdqu"]].concat());
    }
    let floats = ["Vbroadcastss", "Vcvtdq2ps", "Vfmadd213ps", "Vmulps", "Vaddps", "Vmovups"];
    for fma in [true, false] {
        let taps = vec![(0, 0), (2048, 1), (-64, 2)];
        let part = Taps { a: 64, steps: 3, taps };
        let shape = WeightShape { parts: vec![part.clone(), part.clone(), part], plane: 448, count: 9, fma };
        only_level_4(&assembler(|a| shape.assemble(a))?, &[&tiles[..], &floats].concat());
    }
    for pitch in [5, 7] {
        let shape = ShiftShape { rows: 3, steps: 5, pitch, shifts: vec![0, 1, 3], copy: 4096 };
        only_level_4(&assembler(|a| shape.assemble(a))?, &["Vpslld", "Vpsrld", "Vpord"]);
    }
    Ok(())
}

#[test]
fn look_up_tiles_hold_no_more_than_vbmi() -> Result<(), IcedError> {
    let codes = |top, store| look_up::Finish::Codes { top, falling: top == 2, store, pitch: 32, residual: None };
    let residual = |codes, top, store| {
        let residual = Some(look_up::Residual { codes, channels: 64, pitch: 32 });
        look_up::Finish::Codes { top, falling: top == 2, store, pitch: 32, residual }
    };
    let every = [
        look_up::Finish::Sums { pitch: 512 },
        look_up::Finish::Words { pitch: 512 },
        codes(1, look_up::Store::Bits(8)),
        codes(2, look_up::Store::Nibbles(48)),
        residual(2, 3, look_up::Store::Nibbles(64)),
        residual(3, 2, look_up::Store::Bits(16)),
        residual(4, 1, look_up::Store::Bits(8)),
        residual(4, 3, look_up::Store::Nibbles(64)),
    ];
    for finish in every.into_iter().chain([codes(3, look_up::Store::Nibbles(64)), codes(3, look_up::Store::Bits(16))]) {
        for (positions, kernel, stride, limit, factor) in [(8, 3, 1, 14, 2), (6, 7, 2, 42, 1), (1, 5, 3, 2, -3i32)] {
            let (columns, sixes, planes) = ((positions - 1) * stride + kernel, 11, factor.unsigned_abs() as usize);
            let dilation = 1;
            let (rows, half) = (kernel, (planes == 1).then_some(40960));
            let shape = LookUp64 {
                positions,
                kernel,
                stride,
                dilation,
                columns,
                sixes,
                limit,
                planes,
                half,
                rows,
                factor,
                finish,
            };
            only_level_4(
                &assembler(|a| shape.assemble(a))?,
                &["Vpermb", "Kmovd", "Vpblendmw", "Vmovdqu16", "Prefetchw"],
            );
        }
    }
    for (words, planes) in [(1, 1), (2, 4), (9, 8)] {
        let shape = pack_avx512::Pack { words, planes, to: [8 * words, 8 * words * planes] };
        only_level_4(&assembler(|a| shape.assemble(a))?, &["Vptestmb"]);
    }
    for (channels, planes) in [(6, 1), (48, 2), (60, 2), (128, 2), (385, 1)] {
        let shape = nibbles_of_bytes::NibblesOfBytes { channels, planes, pixel: channels };
        only_level_4(&assembler(|a| shape.assemble(a))?, &["Vmovdqu8", "Vptestmb", "Vpbroadcastb"]);
    }
    for (channels, planes) in [(4, 2), (6, 1), (28, 1), (32, 2), (48, 2), (268, 2)] {
        let next = (planes == 2).then_some(14 * channels);
        let shape = TablesShape { channels, planes, row: channels / 4, pitch: 640, next };
        only_level_4(
            &assembler(|a| shape.assemble(a))?,
            &["Vpermb", "Vbroadcasti32x4", "Vpbroadcastd", "Vmovd", "Vmovdqa", "Prefetcht0"],
        );
    }
    Ok(())
}

#[test]
fn amx_tiles_hold_no_more_than_amx_and_vbmi() -> Result<(), IcedError> {
    let tiles = ["Tileloadd", "Tilestored", "Tilezero", "Tdpbusd", "Vpackssdw", "Vpermq", "Vpcmpgtw"];
    let digits = [
        "Vpternlogd",
        "Vmovdqa32",
        "Vpsubd",
        "Vpslld",
        "Vpsrad",
        "Vpsrld",
        "Vpcmpgtd",
        "Vpcmpeqd",
        "Vcvtps2pd",
        "Vcvtdq2pd",
        "Vmulpd",
        "Vaddpd",
    ];
    let more = ["Vcvtpd2ps", "Vpmovd2m", "Kxord", "Kxorw", "Korw", "Kmovd", "Kmovw", "Vmovdqu8"];
    let more = [&tiles[..], &digits, &more].concat();
    let codes = |top, place| Store::Codes { top, planes: if top > 1 { 2 } else { 1 }, place };
    let digits = |planes, finish| Store::Digits { planes, bits: 8, finish, pitch: 320 };
    let nibbles = SplitFinish::Nibbles { top: 3, planes: 2 };
    for store in [
        Store::Sums { pitch: 320 },
        codes(1, Place::Bits(8)),
        codes(2, Place::Nibbles),
        codes(3, Place::Bits(24)),
        digits(2, SplitFinish::Raw),
        digits(3, SplitFinish::Decode),
        digits(3, SplitFinish::Threshold(5)),
        digits(3, nibbles),
    ] {
        for (blocks, loops) in [(2, [3, 1, 3]), (1, [5, 5, 1]), (2, [1, 1, 26]), (1, [3, 2, 13])] {
            let shape = AmxConv { blocks, loops, steps: [3712, 64], position: 64, store };
            only_level_4(&assembler(|a| shape.assemble(a))?, &more);
        }
    }
    for planes in [Planes::Nibbles, Planes::Bits { apart: 8, planes: 1 }, Planes::Bits { apart: 40, planes: 8 }] {
        let shape = Unpack { planes, from: 80, blocks: 5 };
        let more = ["Vpmovzxwq", "Vpmultishiftqb", "Vpternlogq", "Vmovdqu8"];
        only_level_4(&assembler(|a| shape.assemble(a))?, &more);
    }
    for run in [15, 21, 36] {
        let shape = Patches { rows: 7, row: 690, run, stride: 6, patch: 192 };
        only_level_4(&assembler(|a| shape.assemble(a))?, &["Vmovdqu", "Vmovdqu8"]);
    }
    Ok(())
}

#[test]
fn popcount_tiles_hold_no_more_than_vpopcntdq() -> Result<(), IcedError> {
    for planes in [[1, 1], [1, 2], [2, 8], [4, 4], [5, 3]] {
        let vectors = PopcountShape::vectors(planes).expect("few planes");
        let shape = PopcountShape { planes, vectors, words: 3, plane_stride: 24, factor: 2 };
        only_level_4(&assembler(|a| shape.assemble(a))?, &["Vpopcntq"]);
    }
    assert_eq!((PopcountShape::vectors([2, 9]), PopcountShape::vectors([8, 4])), (None, None));
    Ok(())
}

fn look_ups_by_rows(lanes: Lanes) -> Vec<look_up_rows::LookUpRows> {
    let (nibbles, bits) = (look_up::Store::Nibbles(64), look_up::Store::Bits(16));
    let shapes = [(56, 3, 1, 16, 20), (2, 1, 2, 7, 60), (9, 2, 2, 33, 20), (7, 5, 1, 24, 20)];
    let codes = [
        (3, true, nibbles, 2, 4),
        (2, true, bits, -3, 3),
        (2, true, bits, -3, 0),
        (1, false, bits, 1, 2),
        (1, false, nibbles, 2, 0),
    ];
    let codes = codes.map(|(top, falling, store, factor, residual)| {
        let residual = (residual > 0).then_some(look_up::Residual { codes: residual, channels: 32, pitch: 24 });
        LookUpCodes { top, falling, store, pitch: 40, factor, residual }
    });
    let sums = [(2, false), (-3, true)].map(|(factor, add)| look_up_rows::RowFinish::Sums { pitch: 256, factor, add });
    let shape = |finish, (width, kernel, stride, quads, limit)| look_up_rows::LookUpRows {
        lanes,
        width,
        kernel,
        stride,
        quads,
        pixel: 40,
        limit,
        finish,
    };
    let words = [2, -3].map(|factor| look_up_rows::RowFinish::Words { pitch: 128, factor });
    let finishes = codes.map(look_up_rows::RowFinish::Codes).into_iter().chain(sums).chain(words);
    finishes.flat_map(|finish| shapes.map(|s| shape(finish, s))).collect()
}

fn flat_look_ups(lanes: Lanes) -> [LookUpFlat; 2] {
    let shapes = [(576, 20, 2, false), (2304, 60, -3, true)];
    shapes.map(|(quads, limit, factor, add)| LookUpFlat { lanes, quads, limit, factor, add })
}

#[test]
fn sse_tiles_hold_no_newer_instruction() -> Result<(), IcedError> {
    for shape in look_ups_by_rows(Lanes::Xmm) {
        only_sse(&assembler(|a| shape.assemble(a))?);
    }
    for shape in flat_look_ups(Lanes::Xmm) {
        only_sse(&assembler(|a| shape.assemble(a))?);
    }
    only_sse(&assembler(ahead::assemble)?);
    only_sse(&assembler(sum_abs::assemble)?);
    Ok(())
}

#[test]
fn avx2_tiles_hold_no_newer_instruction() -> Result<(), IcedError> {
    for positions in 1..=4 {
        for (quads, limit) in [(1, 20), (7, 20), (16, 60), (131, 20)] {
            let codes =
                |top, falling, store, factor| LookUpCodes { top, falling, store, pitch: 40, factor, residual: None };
            for codes in [
                None,
                Some(codes(3, false, look_up::Store::Nibbles(64), 2)),
                Some(codes(1, true, look_up::Store::Bits(8), 1)),
                Some(codes(2, true, look_up::Store::Bits(16), -3)),
            ] {
                let shape = LookUpShape { positions, taps: 9, quads, limit, codes };
                only_avx2(&assembler(|a| shape.assemble(a))?);
            }
        }
    }
    for shape in look_ups_by_rows(Lanes::Ymm) {
        only_avx2(&assembler(|a| shape.assemble(a))?);
    }
    for shape in flat_look_ups(Lanes::Ymm) {
        only_avx2(&assembler(|a| shape.assemble(a))?);
    }
    for outputs in [16, 32, 48] {
        let (extents, steps) = ([3, 5, 5], [6400, 160, 4]);
        let [lanes, vectors, positions] = FloatShape::of(false, outputs, 20);
        let shape = FloatShape { lanes, positions, vectors, row: 4 * outputs, extents, steps, position: 4, pitch: 256 };
        only_avx2(&assembler(|a| shape.assemble(a))?);
    }
    for (fma, row) in [(true, 320), (false, 64), (true, 1792)] {
        let shape = PatchTile { fma, ..patch_tile(Width::Ymm, row) };
        only_avx2(&assembler(|a| shape.assemble(a))?);
    }
    // AVX-512 F and BW.
    let products = ["Vmovups", "Vmovaps", "Vbroadcastss", "Vfmadd231ps", "Vmulps", "Vaddps", "Vcvtdq2ps"];
    let products = [
        &products[..],
        &["Vpternlogd", "Vpabsw", "Vpmaddwd", "Vpmaddubsw", "Vpaddw", "Vmovdqu32", "Vpmovdw", "Vmovdqu16"],
    ];
    let products = products.concat();
    for arithmetic in [Arithmetic::Fma, Arithmetic::MulAdd, Arithmetic::Pairs, Arithmetic::Quads] {
        let added = [true, false].map(|fma| Finish::AddScaled { fma });
        let words = arithmetic.integer().then_some(Finish::Words);
        for finish in [Finish::Store, Finish::Add, added[0], added[1]].into_iter().chain(words) {
            let nest = vec![Loop { count: 3, stride: 4000 }, Loop { count: 11, stride: 4 }];
            for loops in [nest, vec![Loop { count: 1, stride: 4 }]] {
                let start = !finish.adds();
                let units = Units::ONE;
                let shape = Tile {
                    arithmetic,
                    rows: 6,
                    loops,
                    b_step: 64,
                    finish,
                    start,
                    end: start,
                    units,
                    narrow: None,
                    winograd: None,
                };
                only_avx2(&assembler(|a| product::assemble(&shape, 256, Dot::Multiply, a))?);
                let wide = Tile { rows: 12, ..shape.clone() };
                only_level_4(&assembler(|a| product::assemble(&wide, 512, Dot::Multiply, a))?, &products);
                for depth in (0..shape.loops.len()).filter(|_| arithmetic == Arithmetic::Quads) {
                    let [shape, wide] = [&shape, &wide].map(|t| Tile { narrow: Some(depth), end: false, ..t.clone() });
                    only_avx2(&assembler(|a| product::assemble(&shape, 256, Dot::Multiply, a))?);
                    only_level_4(&assembler(|a| product::assemble(&wide, 512, Dot::Multiply, a))?, &products);
                }
                if !arithmetic.integer() {
                    for (rows, count) in [(12, 2), (8, 3)] {
                        let units = Units { count, b: 4800, c: 64 };
                        let several = Tile { rows, units, start: false, ..wide.clone() };
                        only_level_4(&assembler(|a| product::assemble(&several, 512, Dot::Multiply, a))?, &products);
                    }
                }
            }
        }
    }
    // Winograd's filtering: VNNI besides.
    let filtering = ["Vpdpbusd", "Vmovdqa32", "Vpsubd", "Vpsrad", "Vpslld", "Vpsubb", "Vpbroadcastb", "Vmovdqu8"];
    let tile = Tile::filtering(&[Loop { count: 3, stride: 900 }], Winograd { a: 70, c: 320 }, Finish::Store);
    for tile in filtering_tiles(tile) {
        only_level_4(&assembler(|a| product::assemble(&tile, 512, Dot::Evex, a))?, &filtering);
    }
    for pixel in [64, 200, 12] {
        let data = DataTransform { tiles: 9, odd: true, pixel, bias: 63 };
        only_level_4(&assembler(|a| data.assemble(a))?, &filtering);
    }
    only_level_4(&assembler(|a| FilterTransform { rows: 3, steps: 16 }.assemble(a))?, &filtering);
    // Along both axes.
    let rows = SquareRows { vectors: 20, row: 1280, bias: 63 };
    only_level_4(&assembler(|a| rows.assemble(a))?, &[&filtering[..], &["Vpavgb"]].concat());
    let filters = SquareFilters { steps: 16, reached: [vec![1..3, 0..3, 0..2], vec![0..3, 0..2]] };
    only_level_4(&assembler(|a| filters.assemble(a))?, &filtering);
    for units in 1..=3 {
        let sums = SquareSums { runs: vec![1, 16, 1], units, value: 6912, to: [256, 4608], addends: 17920 };
        only_level_4(&assembler(|a| sums.assemble(a))?, &filtering);
    }
    // The weight gradient's.
    let weights = ["Vpdpbusd", "Vmovdqa32", "Vpsubd", "Vpsrad", "Vcvtdq2ps", "Vbroadcastss", "Vmovups"];
    for (fma, sum) in [(false, &["Vmulps", "Vaddps"][..]), (true, &["Vfmadd213ps"])] {
        let distances = Winograd { a: 12288, c: 64 };
        let tile = Tile::filtering(&[Loop { count: 41, stride: 4 }], distances, Finish::AddScaled { fma });
        for tile in filtering_tiles(tile) {
            only_level_4(&assembler(|a| product::assemble(&tile, 512, Dot::Evex, a))?, &[&weights[..], sum].concat());
        }
    }
    let order = ["Vpunpcklbw", "Vpunpckhbw", "Vpunpcklwd", "Vpunpckhwd", "Vextracti32x4", "Vmovdqu"];
    let planes = DataPlanes { pixel: 128, channels: 100, plane: 192, value: 19200 };
    only_level_4(&assembler(|a| planes.assemble(a))?, &order);
    let steps = GradientSteps { steps: 41, vectors: 2, blocks: 7, block: 10752 };
    only_level_4(&assembler(|a| steps.assemble(a))?, &order);
    let pairs = GradientTransform { pairs: 4, odd: true, pixel: 128, vectors: 2, bias: 63 };
    only_level_4(&assembler(|a| pairs.assemble(a))?, &["Vpsubb", "Vpbroadcastb", "Vmovdqa32"]);
    only_level_4(&assembler(|a| GradientSums { steps: 41 }.assemble(a))?, &filtering);
    Ok(())
}

/// A tile of Winograd's filtering, and those of two and three units at once.
fn filtering_tiles(tile: Tile) -> impl Iterator<Item = Tile> {
    let units = |count| Units { count, b: 4800, c: 64 };
    let several = [2, 3].map(|count| Tile { rows: winograd::rows(count), units: units(count), ..tile.clone() });
    [tile].into_iter().chain(several)
}

/// Sums behind a pool: all instructions of the tile.
fn patch_tile(width: Width, row: usize) -> PatchTile {
    let chunk = Chunk { windows: 18, kernel: [2, 2], bits: 32, step: 4, strips: false, place: row };
    PatchTile { width, outputs: 43, pixel: 192, winner: 64, row, chunk, work: [4096, 8192, 12288], fma: true }
}
