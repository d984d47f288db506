//! Gradients by Winograd's minimal filtering against the plain references: at the levels that just fit bytes, all at their limits
//! too, with odd and even widths, borders, groups and channels that fill no vector.

use super::reference::geometry;
use super::tests::{input_grad_of_levels, levels};
use super::{InputGrad, Operands, winograd};
use crate::codegen::image::Image;
use crate::codegen::target::Level;
use crate::graph::ops::Geometry;
use crate::lower::train::layouts::Range;

fn geometries() -> Vec<Geometry> {
    vec![
        geometry(16, 64, 1, [6, 8], ([3, 3], [1, 1], [1; 4], [1, 1])),
        geometry(20, 70, 1, [5, 7], ([3, 3], [1, 1], [0; 4], [1, 1])),
        geometry(3, 130, 1, [4, 5], ([1, 3], [1, 1], [0, 1, 0, 1], [1, 1])),
        geometry(24, 12, 2, [7, 9], ([2, 3], [1, 1], [1, 2, 0, 0], [1, 1])),
        geometry(33, 5, 1, [5, 4], ([5, 3], [1, 1], [2, 1, 2, 1], [1, 1])),
    ]
}

/// Checks a product at every level, of levels at random and of the greatest and the least alone; says on which it is filtered.
fn every(test: impl Fn(&Level, bool, &Geometry, Operands, [Range; 2]) -> Image) {
    let only = |level: i32| Range { least: level, greatest: level };
    let mut machine = false;
    for level in levels() {
        let multiplies = winograd::multiplies(&level);
        machine |= multiplies;
        for (g, (a, b)) in geometries().into_iter().flat_map(|g| ranges().map(|r| (g.clone(), r))) {
            let operands = Operands::Levels { a, b, bytes: true };
            for (a, b) in [(a, b), (only(a.greatest), only(b.greatest)), (only(a.least), only(b.greatest))] {
                let image = test(&level, level.has_fma(), &g, operands, [a, b]);
                let filtered = image.functions.iter().any(|f| f.name.contains(".winograd"));
                assert_eq!(filtered, multiplies, "{} {g:?}", level.name);
            }
        }
    }
    if !machine {
        eprintln!("SKIPPED: Winograd's filtering, as this CPU lacks AVX-512 VNNI, or has AMX");
    }
}

/// Gradients of 6 bits with signs; the most of either that fits bytes.
fn ranges() -> [(Range, Range); 3] {
    let extreme = Range { least: -64, greatest: 63 };
    [
        (Range::symmetric(63), Range::symmetric(1)),
        (extreme, Range::symmetric(42)),
        (extreme, Range { least: -42, greatest: 0 }),
    ]
}

#[test]
fn input_gradient() {
    every(input_grad_of_levels);
}

#[test]
fn what_is_not_filtered() {
    let g = |kernel, stride, dilation| geometry(16, 64, 1, [9, 9], (kernel, stride, [1; 4], dilation));
    let filtered = |g: &Geometry, a, b| {
        let operands = Operands::Levels { a, b, bytes: true };
        InputGrad::new(g, operands).is_ok_and(|product| product.filtered())
    };
    let (gradient, signs) = (Range::symmetric(63), Range::symmetric(1));
    assert!(filtered(&g([3, 3], [1, 1], [1, 1]), gradient, signs));
    // A row of two or five taps, strides, and taps apart.
    assert!(!filtered(&g([3, 2], [1, 1], [1, 1]), gradient, signs));
    assert!(!filtered(&g([3, 5], [1, 1], [1, 1]), gradient, signs));
    assert!(!filtered(&g([3, 3], [1, 2], [1, 1]), gradient, signs));
    assert!(!filtered(&g([3, 3], [1, 1], [1, 2]), gradient, signs));
    // Sums of two levels, or of three weights, that are no bytes.
    assert!(!filtered(&g([3, 3], [1, 1], [1, 1]), Range { least: -64, greatest: 64 }, signs));
    assert!(!filtered(&g([3, 3], [1, 1], [1, 1]), Range { least: -65, greatest: 60 }, signs));
    assert!(!filtered(&g([3, 3], [1, 1], [1, 1]), gradient, Range::symmetric(43)));
    // What a stack does not hold.
    let large = geometry(8, 512, 1, [64, 64], ([3, 3], [1, 1], [1; 4], [1, 1]));
    assert!(!filtered(&large, gradient, signs));
}
