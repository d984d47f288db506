//! Gradients of the input by Winograd's minimal filtering along both axes against the plain reference: of odd levels, at the most
//! that fits bytes, all at their limits too, with odd and even sizes, borders, groups and channels that fill no vector.

use super::reference::geometry;
use super::tests::{input_grad_of_product, levels};
use super::tests_amx::amx;
use super::{InputGrad, Operands, winograd};
use crate::graph::ops::Geometry;
use crate::lower::train::layouts::Range;

fn geometries() -> Vec<Geometry> {
    let at = |pads: [usize; 4]| ([3, 3], [1, 1], pads, [1, 1]);
    vec![
        geometry(32, 40, 1, [10, 18], at([1; 4])),
        geometry(20, 70, 1, [7, 6], at([1; 4])),
        geometry(48, 66, 1, [6, 5], at([2, 0, 1, 2])),
        geometry(17, 72, 1, [7, 7], at([0; 4])),
        geometry(40, 96, 2, [8, 9], at([2; 4])),
        geometry(10, 68, 1, [8, 7], at([0, 1, 2, 0])),
    ]
}

/// The most levels whose four halves are bytes, with weights whose sums of nine are; signs.
fn ranges() -> [(Range, Range); 2] {
    [(Range::symmetric(63), Range::symmetric(1)), (Range::symmetric(63), Range { least: -14, greatest: 14 })]
}

#[test]
fn input_gradient() {
    let only = |level: i32| Range { least: level, greatest: level };
    if !levels().iter().any(winograd::multiplies) {
        eprintln!("SKIPPED: Winograd's filtering, as this CPU lacks AVX-512 VNNI, or has AMX");
    }
    // With AMX the layouts are those of other levels, and the product is not filtered.
    for level in levels().into_iter().chain(amx()) {
        for (g, (a, b)) in geometries().into_iter().flat_map(|g| ranges().map(|r| (g.clone(), r))) {
            let product = || InputGrad::new(&g, Operands::Levels { a, b, bytes: true }).unwrap().of_odd(true);
            assert!(product().squares().is_some(), "{g:?}");
            for (a, b) in [(a, b), (only(a.greatest), only(b.greatest)), (only(a.least), only(b.greatest))] {
                let odd = |random: &mut super::reference::Random, n: usize| {
                    let halves = Range { least: (a.least - 1) / 2, greatest: (a.greatest - 1) / 2 };
                    random.levels(n, halves).into_iter().map(|h| 2 * h + 1).collect()
                };
                let image = input_grad_of_product(&level, level.has_fma(), &g, product(), odd, b);
                let squares = image.functions.iter().any(|f| f.name.contains(".squares."));
                assert_eq!(squares, winograd::multiplies(&level), "{} {g:?}", level.name);
            }
        }
    }
}

#[test]
fn what_is_not_filtered_along_both_axes() {
    let g = |kernel, stride, dilation| geometry(16, 64, 1, [18, 18], (kernel, stride, [1; 4], dilation));
    let of = |g: &Geometry, a, b| {
        let operands = Operands::Levels { a, b, bytes: true };
        InputGrad::new(g, operands).is_ok_and(|product| product.of_odd(true).squares().is_some())
    };
    let (gradient, signs) = (Range::symmetric(63), Range::symmetric(1));
    let plain = g([3, 3], [1, 1], [1, 1]);
    assert!(of(&plain, gradient, signs));
    // Other windows.
    assert!(!of(&g([1, 3], [1, 1], [1, 1]), gradient, signs));
    assert!(!of(&g([3, 3], [1, 2], [1, 1]), gradient, signs));
    assert!(!of(&g([3, 3], [1, 1], [2, 1]), gradient, signs));
    // Halves of four levels, or sums of nine weights, that are no bytes; even levels.
    assert!(!of(&plain, Range::symmetric(65), signs));
    assert!(!of(&plain, gradient, Range::symmetric(15)));
    assert!(!of(&plain, Range { least: -62, greatest: 62 }, signs));
    let operands = Operands::Levels { a: gradient, b: signs, bytes: true };
    assert!(InputGrad::new(&plain, operands).unwrap().squares().is_none());
}

/// Rows that few taps reach take less by themselves.
#[test]
fn some_rows() {
    let operands = Operands::Levels { a: Range::symmetric(63), b: Range::symmetric(1), bytes: true };
    let rows = |g: &Geometry| InputGrad::new(g, operands).unwrap().of_odd(true).squares().map(|squares| squares.rows());
    let at = |pads: [usize; 4]| ([3, 3], [1, 1], pads, [1, 1]);
    assert_eq!(rows(&geometry(128, 128, 1, [7, 7], at([0; 4]))), Some(1..5));
    assert_eq!(rows(&geometry(64, 128, 1, [9, 9], at([0; 4]))), Some(1..7));
    assert_eq!(rows(&geometry(64, 128, 1, [9, 9], at([1; 4]))), Some(0..8));
    assert_eq!(rows(&geometry(64, 8, 1, [9, 9], at([1; 4]))), None);
}
