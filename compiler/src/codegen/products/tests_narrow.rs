//! Products of bytes whose sums stay 16 bits wide as long as they are sure to fit: with the greatest and the least levels alone, which
//! random ones do not come near, in reductions longer than that.

use super::reference::geometry;
use super::tests::{forward_of_levels, input_grad_of_levels, levels, ranges, weight_grad_of_levels};
use super::{Arithmetic, Finish, Loop, Operands, Tile};
use crate::codegen::image::Image;
use crate::codegen::target::Level;
use crate::codegen::tiles::product::multiplies_pairs;
use crate::graph::ops::Geometry;
use crate::lower::train::layouts::{Range, Storage};

/// Activations of 2 bits and gradients of 6, gradients and signs, and levels of which few fit.
fn operands() -> [Operands; 4] {
    let levels = |a, b| Operands::Levels { a, b, bytes: true };
    let (activations, wide) = (Range { least: 0, greatest: 3 }, Range { least: 0, greatest: 15 });
    [
        levels(activations, Range::symmetric(31)),
        levels(Range::symmetric(31), Range::symmetric(1)),
        levels(wide, Range::symmetric(63)),
        levels(Range { least: 0, greatest: 127 }, Range::symmetric(127)),
    ]
}

fn geometries() -> Vec<Geometry> {
    vec![
        geometry(128, 20, 1, [3, 4], ([3, 3], [1, 1], [1; 4], [1, 1])),
        geometry(24, 136, 1, [5, 6], ([2, 3], [2, 1], [0; 4], [1, 2])),
        geometry(4, 16, 1, [30, 32], ([1, 1], [1, 1], [0; 4], [1, 1])),
    ]
}

/// Checks a product at the levels that have such sums, of levels at random and of the greatest products of either sign.
fn every(test: impl Fn(&Level, bool, &Geometry, Operands, [Range; 2]) -> Image) {
    let only = |level: i32| Range { least: level, greatest: level };
    let mut levels = levels();
    levels.retain(multiplies_pairs);
    if levels.is_empty() {
        eprintln!("SKIPPED: 16-bit sums of products of bytes, as this CPU lacks x86-64-v3");
    }
    for (level, g) in levels.iter().flat_map(|level| geometries().into_iter().map(move |g| (level, g))) {
        let mut narrow = false;
        for operands in operands() {
            let [a, b] = ranges(operands);
            for (a, b) in [(a, b), (only(a.greatest), only(b.greatest)), (only(a.greatest), only(b.least))] {
                let image = test(level, level.has_fma(), &g, operands, [a, b]);
                narrow |= image.functions.iter().any(|f| f.name.contains(".narrow"));
            }
        }
        assert!(narrow, "{} {g:?}", level.name);
    }
}

#[test]
fn loops_are_divided_so_that_sums_fit() {
    let levels = Level::parse("x86-64-v3", &"x86_64-unknown-linux-gnu".parse().expect("a triple")).expect("a level");
    let level = levels.first().expect("one");
    let tile = |counts: &[usize], steps: usize| {
        // Strides that do not continue one another.
        let loops: Vec<Loop> =
            counts.iter().enumerate().map(|(i, &count)| Loop { count, stride: 7 - i as i64 }).collect();
        let tile = Tile::new(level, Arithmetic::Quads, &loops, 64, Finish::Store).narrow(level, steps);
        (tile.loops.iter().map(|l| (l.count, l.stride)).collect::<Vec<_>>(), tile.narrow)
    };
    assert_eq!(tile(&[3, 48], 144), (vec![(3, 7), (48, 6)], Some(0)));
    assert_eq!(tile(&[4, 48], 100), (vec![(2, 14), (2, 7), (48, 6)], Some(1)));
    assert_eq!(tile(&[3, 48], 100), (vec![(3, 7), (48, 6)], Some(1)));
    assert_eq!(tile(&[3, 48], 20), (vec![(3, 7), (3, 96), (16, 6)], Some(2)));
    // A prime number of steps has no parts.
    assert_eq!(tile(&[3, 47], 20), (vec![(3, 7), (47, 6)], None));
    assert_eq!(tile(&[3, 48], 4), (vec![(3, 7), (48, 6)], None));
    assert_eq!(tile(&[2, 3, 5, 7], 20), (vec![(2, 7), (3, 6), (5, 5), (7, 4)], None));
    assert_eq!(tile(&[], 4), (vec![], None));
}

#[test]
fn forward() {
    every(forward_of_levels);
}

#[test]
fn input_gradient() {
    every(input_grad_of_levels);
}

#[test]
fn weight_gradient() {
    let stored = |range: Range| Storage::bytes(range).unwrap_or(Storage::Words);
    every(|level, fma, g, operands, [a, b]| {
        let storage = ranges(operands).map(stored);
        weight_grad_of_levels(level, fma, g, operands, storage, [a, b])
    });
}
