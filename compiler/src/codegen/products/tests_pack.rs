//! Packed weights of layers with one tap, which some levels have tiles for, by the products that read them.

use super::reference::{Random, geometry, plain};
use super::testing::{Code, Memory, build};
use super::tests::{forward_of_levels, input_grad_of_levels, levels, on};
use super::{Forward, Operands, bytes_suffice};
use crate::codegen::target::x86;
use crate::lower::train::layouts::Range;

#[test]
fn weights_of_one_tap() {
    let shapes = [(64, 16), (64, 40), (192, 72), (80, 52)];
    let shapes = shapes.map(|(inputs, outputs)| geometry(inputs, outputs, 1, [1, 1], plain(1, 1, 0)));
    let (codes, gradients, signs) = (Range { least: 0, greatest: 3 }, Range::symmetric(63), Range::symmetric(1));
    let operands = |a: Range| Operands::Levels { a, b: signs, bytes: bytes_suffice(a, signs) };
    on(&shapes, |level, fma, g| {
        let wide = level.has_x86(x86::AVX512);
        for [a, b] in [[codes, signs], [Range { least: 3, ..codes }, Range { least: 1, ..signs }]] {
            let image = forward_of_levels(level, fma, g, operands(codes), [a, b]);
            let tile = image.functions.iter().any(|f| f.name.starts_with("tile.transpose.512.FromLevels"));
            assert_eq!(tile, wide && g.channels.is_multiple_of(64), "{} {g:?}", level.name);
        }
        for [a, b] in [[gradients, signs], [Range { least: 63, ..gradients }, Range { least: 1, ..signs }]] {
            let image = input_grad_of_levels(level, fma, g, operands(gradients), [a, b]);
            let tile = image.functions.iter().any(|f| f.name.starts_with("tile.pack_rows.512"));
            assert_eq!(tile, wide, "{} {g:?}", level.name);
        }
    });
}

/// What no cache holds is written past them.
#[test]
fn many_weights_of_one_tap() {
    const SIZES: [usize; 2] = [2048, 4096];
    let [inputs, outputs] = SIZES;
    let g = geometry(inputs, outputs, 1, [1, 1], plain(1, 1, 0));
    let (a, b) = (Range { least: 0, greatest: 3 }, Range::symmetric(1));
    let product = Forward::new(&g, Operands::Levels { a, b, bytes: bytes_suffice(a, b) }).unwrap();
    let weights = Random(7).levels(inputs * outputs, b);
    let from = Memory::of(weights.iter().map(|&v| (v as i16).to_le_bytes()));
    for level in levels().iter().filter(|l| l.has_x86(x86::AVX512)) {
        let to = Memory::new(product.packing().bytes(), 0x55);
        let image = build(level, true, 2, |e, p| {
            let all = e.int(0);
            product.packing().emit(e, all, 1, p[0], None, p[1]).unwrap();
        });
        let past = |name: &str| name.starts_with("tile.transpose.512.FromLevels") && name.contains("true");
        assert!(image.functions.iter().any(|f| past(&f.name)), "{}", level.name);
        Code::new(&image).call(&[from.address(), to.address()]);
        let packed = to.bytes();
        let right = |(i, &w): (usize, &i32)| {
            let (output, input) = (i / inputs, i % inputs);
            let vector = output / 16 * (inputs / 4) + input / 4;
            packed[vector * 64 + output % 16 * 4 + input % 4] as i8 == w as i8
        };
        assert!(weights.iter().enumerate().all(right), "{}", level.name);
    }
}
