//! Weight gradients by Winograd's minimal filtering against the plain reference: every level computes the same, and those that
//! have the tile use it.

use super::reference::{geometry, plain};
use super::tests::{levels, on, weight_grad_of_levels};
use super::*;
use crate::lower::train::layouts::{Range, Storage};

#[test]
fn weight_grad_by_minimal_filtering() {
    if !levels().iter().any(winograd::multiplies) {
        eprintln!("SKIPPED: Winograd's filtering, as this CPU lacks AVX-512 VNNI, or has AMX");
    }
    let row = |k: usize, pads: [usize; 4]| ([k, 3], [1, 1], pads, [1, 1]);
    let shapes = [
        geometry(5, 7, 1, [7, 6], plain(3, 1, 1)),
        geometry(17, 18, 1, [18, 18], plain(3, 1, 1)),
        geometry(33, 10, 1, [9, 9], plain(3, 1, 0)),
        geometry(16, 33, 1, [9, 11], plain(3, 1, 1)),
        geometry(50, 16, 1, [13, 8], row(1, [0, 1, 0, 1])),
        geometry(4, 18, 1, [12, 7], row(5, [1, 0, 3, 2])),
        geometry(18, 3, 1, [8, 13], row(2, [0, 2, 1, 0])),
    ];
    let limits = [(3, 63), (63, 63)];
    for (top, gradient) in limits {
        let (a, b) = (Range { least: 0, greatest: top }, Range::symmetric(gradient));
        let operands = Operands::Levels { a, b, bytes: true };
        let stored = [a, b].map(|range| Storage::bytes(range).unwrap());
        let only = |level: i32| Range { least: level, greatest: level };
        let extremes = [[only(top), only(gradient)], [only(top), only(-gradient)]];
        on(&shapes, |level, fma, g| {
            for data in extremes.into_iter().chain([[a, b]]) {
                let image = weight_grad_of_levels(level, fma, g, operands, stored, data);
                let tile = image.functions.iter().any(|f| f.name.contains("winograd"));
                assert_eq!(tile, winograd::multiplies(level), "{} {g:?}", level.name);
            }
        });
    }
}

/// Levels whose transforms are no bytes, other windows, and layers of few positions keep the plain tile.
#[test]
fn what_is_not_filtered() {
    let wide = |top, gradient| Operands::Levels {
        a: Range { least: 0, greatest: top },
        b: Range::symmetric(gradient),
        bytes: true,
    };
    let filtered = |g: &crate::graph::ops::Geometry, operands| WeightGrad::new(g, operands).unwrap().pairs.is_some();
    let image = |window| geometry(8, 16, 1, [18, 18], window);
    assert!(filtered(&image(plain(3, 1, 1)), wide(63, 63)));
    assert!(!filtered(&image(plain(3, 1, 1)), wide(64, 63)));
    assert!(!filtered(&image(plain(3, 1, 1)), wide(63, 64)));
    assert!(!filtered(&image(plain(3, 2, 1)), wide(3, 63)));
    assert!(!filtered(&image(plain(5, 1, 1)), wide(3, 63)));
    assert!(!filtered(&image(([3, 3], [1, 1], [1; 4], [1, 2])), wide(3, 63)));
    assert!(!filtered(&geometry(8, 16, 1, [4, 4], plain(3, 1, 0)), wide(3, 63)));
    assert!(!filtered(&geometry(8, 16, 2, [18, 18], plain(3, 1, 1)), wide(3, 63)));
    let signed = Operands::Levels { a: Range::symmetric(3), b: Range::symmetric(63), bytes: true };
    assert!(!filtered(&image(plain(3, 1, 1)), signed));
}
