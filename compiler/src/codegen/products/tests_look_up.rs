//! Forward products of signs and few bits, looked up where the machine can, against the reference; and where they are not.

use super::tests::{forward_of_weights, levels, on};
use super::{Forward, Operands};
use crate::codegen::target::{Level, host_features, x86};
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::ops::Geometry;
use crate::graph::types::Shape;
use crate::lower::train::layouts::Range;

fn geometry(
    channels: usize,
    image: [usize; 2],
    outputs: usize,
    kernel: [usize; 2],
    strides: i64,
    pad: i64,
) -> Geometry {
    let attrs = Attrs::new()
        .with("pads", Attr::Ints(vec![pad, pad, pad, pad]))
        .with("strides", Attr::Ints(vec![strides, strides]));
    let weights = Shape::fixed(&[outputs, channels, kernel[0], kernel[1]]);
    Geometry::new(&attrs, &Shape::batched(&[channels, image[0], image[1]]), &weights).expect("fits")
}

fn geometries() -> Vec<Geometry> {
    let dilated = Attrs::new().with("dilations", Attr::Ints(vec![2, 3])).with("pads", Attr::Ints(vec![2, 1, 0, 3]));
    let grouped = Attrs::new().with("groups", Attr::Int(2)).with("pads", Attr::Ints(vec![1, 1, 1, 1]));
    let shapes = (Shape::batched(&[61, 5, 9]), Shape::fixed(&[64, 61, 2, 3]));
    vec![
        geometry(48, [4, 10], 64, [3, 3], 1, 1),
        geometry(64, [6, 6], 128, [3, 3], 1, 0),
        geometry(5, [6, 11], 64, [1, 1], 1, 0),
        geometry(60, [5, 19], 64, [5, 4], 2, 2),
        geometry(130, [3, 3], 64, [3, 3], 1, 1),
        geometry(6, [2, 21], 192, [2, 7], 1, 1),
        geometry(72, [5, 19], 64, [5, 4], 2, 2),
        geometry(136, [4, 9], 64, [2, 5], 1, 1),
        geometry(8, [9, 16], 128, [3, 1], 3, 0),
        Geometry::new(&dilated, &shapes.0, &shapes.1).expect("fits"),
        Geometry::new(&grouped, &Shape::batched(&[26, 4, 5]), &Shape::fixed(&[128, 13, 3, 3])).expect("fits"),
        Geometry::new(&grouped, &Shape::batched(&[48, 4, 5]), &Shape::fixed(&[128, 24, 3, 3])).expect("fits"),
    ]
}

fn operands(a: i32) -> Operands {
    Operands::Levels { a: Range { least: 0, greatest: a }, b: Range::symmetric(1), bytes: true }
}

/// −1 and 1 at random, and all the greatest, all the least.
fn weights(g: &Geometry) -> [Vec<i32>; 3] {
    let n = g.outputs * g.taps();
    [(0..n).map(|i| if i * 7919 / 13 % 7 < 3 { -1 } else { 1 }).collect(), vec![1; n], vec![-1; n]]
}

#[test]
fn signs_and_few_bits() {
    on(&geometries(), |level, fma, g| {
        for a in [1, 3] {
            let product = || Forward::new(g, operands(a)).expect("fits").of_signs(true);
            let machine = level.has_x86(x86::V4 | x86::VBMI) && !level.has_x86(x86::AMX);
            assert_eq!(product().name(level) == "look-up 64 forward", machine, "{}", level.name);
            let inner = g.channels / g.groups;
            let rows = level.has_x86(x86::V3) && !level.has(x86::AVX512);
            let rows = rows && inner.is_multiple_of(8) && g.kernel[1] <= 5 && g.dilations[1] == 1;
            assert_eq!(product().name(level) == "look-up 16 forward", rows, "{}", level.name);
            // With the greatest codes alone too: sums of bytes must not overflow.
            for (w, least) in weights(g).iter().zip([0, a, a]) {
                forward_of_weights(level, fma, product(), Range { least, greatest: a }, w);
            }
        }
    });
    let x86 = Level::parse("x86-64-v4+vbmi", &"x86_64-unknown-linux-gnu".parse().expect("a triple")).expect("a level");
    if x86.iter().any(|l| l.features & !host_features() != 0) {
        eprintln!("SKIPPED: products by look-up, as this CPU lacks x86-64-v4+vbmi");
    }
}

/// The products above are stored as i16; these sums are too great.
#[test]
fn sums_beyond_words() {
    let g = geometry(440, [7, 7], 64, [5, 5], 1, 0);
    let product = || Forward::new(&g, operands(3)).expect("fits").of_signs(true);
    assert_eq!(product().output.element, 4);
    for level in levels() {
        for sign in [1, -1] {
            let weights = vec![sign; g.outputs * g.taps()];
            forward_of_weights(&level, false, product(), Range { least: 3, greatest: 3 }, &weights);
        }
    }
}

#[test]
fn what_is_not_looked_up() {
    let all = Level::parse("x86-64-v4+vbmi", &"x86_64-unknown-linux-gnu".parse().expect("a triple")).expect("a level");
    let name = |g: &Geometry, operands: Operands, signs: bool| {
        Forward::new(g, operands).expect("fits").of_signs(signs).name(all.first().expect("one"))
    };
    let g = geometry(64, [9, 9], 64, [3, 3], 1, 0);
    assert_eq!(name(&g, operands(3), true), "look-up 64 forward");
    assert_eq!(name(&g, operands(3), false), "levels forward");
    assert_eq!(name(&g, operands(7), true), "levels forward");
    assert_eq!(name(&geometry(64, [9, 9], 96, [3, 3], 1, 0), operands(3), true), "levels forward");
    assert_eq!(name(&geometry(64, [3, 3], 64, [3, 3], 1, 0), operands(3), true), "levels forward");
    let words = Operands::Levels { a: Range { least: 0, greatest: 3 }, b: Range::symmetric(1), bytes: false };
    assert_eq!(name(&g, words, true), "levels forward");
}
