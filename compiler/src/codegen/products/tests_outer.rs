//! Weight gradients by outer products against the plain reference, on every level that the machine has.

use super::reference::{geometry, plain};
use super::tests::{on, weight_grad_of_levels};
use super::*;
use crate::codegen::target::x86;
use crate::lower::train::layouts::{Range, Storage};

/// Layers with one output position, with few levels: the products come from tables where the level has tiles for it.
#[test]
fn weight_grad_outer_products() {
    let shapes = [
        geometry(8, 18, 1, [5, 5], plain(5, 1, 0)),
        geometry(40, 10, 1, [1, 1], plain(1, 1, 0)),
        geometry(64, 16, 2, [3, 3], plain(3, 1, 0)),
        geometry(64, 300, 1, [1, 1], plain(1, 1, 0)),
    ];
    for (top, gradient) in [(1, 63), (3, 63), (15, 255)] {
        let (a, b) = (Range { least: 0, greatest: top }, Range::symmetric(gradient));
        let greatest = [a, b].map(|r| Range { least: r.greatest, greatest: r.greatest });
        let operands = Operands::Levels { a, b, bytes: bytes_suffice(a, b) };
        let stored = [a, b].map(|range| Storage::bytes(range).unwrap_or(Storage::Words));
        on(&shapes, |level, fma, g| {
            for data in [[a, b], greatest] {
                let image = weight_grad_of_levels(level, fma, g, operands, stored, data);
                let tiles = image.functions.iter().any(|f| f.name.starts_with("tile.outer"));
                // With a border the rows are no neighbours.
                assert_eq!(tiles, (!fma || g.groups > 1) && level.has_x86(x86::AVX512), "{} {g:?}", level.name);
            }
        });
    }
}
