//! The products of levels on AMX against the plain references: shapes that its tiles take, each in the way that it is meant
//! for, with levels at random and with all at their greatest. Where the machine has no AMX its instructions run in software;
//! that the code needs no other instruction is tested everywhere, in `tiles`.

use super::reference::{geometry, plain};
use super::tests::{forward_of_levels, input_grad_of_levels, limits, ranges, weight_grad_of_levels};
use super::*;
use crate::codegen::image::Image;
use crate::codegen::target::{Level, host_features};
use crate::graph::ops::Geometry;
use crate::lower::train::layouts::{Range, Storage};

/// The level of these tests, where it runs.
pub(super) fn amx() -> Option<Level> {
    let level = Level::parse("x86-64-v4+vnni+amx", &"x86_64-unknown-linux-gnu".parse().unwrap()).unwrap();
    let level = level.into_iter().next().unwrap();
    if level.features & !(host_features() | dorefac_emulator::install()) != 0 {
        eprintln!("SKIPPED: this machine lacks AVX-512 with VNNI, which the code has besides AMX");
        return None;
    }
    Some(level)
}

/// Runs `test` on both profiles with all operands of bytes, at random and at their greatest; it gives the code, which must
/// hold a function of `kind`.
fn check(
    geometries: &[Geometry],
    kind: &str,
    bytes: impl Fn(Range, Range) -> bool,
    test: impl Fn(&Level, bool, &Geometry, Operands, [Range; 2]) -> Image,
) {
    let Some(level) = amx() else { return };
    for (i, g) in geometries.iter().enumerate() {
        for (a, b, _) in limits().into_iter().filter(|&(a, b, both)| both && bytes(a, b)) {
            let operands = Operands::Levels { a, b, bytes: true };
            let greatest = ranges(operands).map(|r| Range { least: r.greatest, greatest: r.greatest });
            for (fma, data) in [(i % 2 == 0, ranges(operands)), (i % 2 == 1, greatest)] {
                let image = test(&level, fma, g, operands, data);
                assert!(image.functions.iter().any(|f| f.name.starts_with(kind)), "no {kind} for {g:?}");
            }
        }
    }
}

#[test]
fn forward_products() {
    let tiles = [
        geometry(64, 20, 1, [7, 6], plain(3, 1, 1)),
        geometry(128, 16, 2, [6, 9], plain(3, 1, 0)),
        geometry(64, 17, 1, [5, 40], plain(3, 2, 1)),
        geometry(64, 4, 1, [16, 17], plain(1, 1, 0)),
        geometry(64, 7, 1, [12, 33], ([3, 2], [1, 1], [1, 0, 2, 1], [2, 3])),
        geometry(128, 18, 1, [3, 3], plain(3, 1, 0)),
    ];
    check(&tiles, "tile.product.amx", |_, _| true, forward_of_levels);
    // Channels that fill no line, of levels without a bias.
    let padded = [geometry(48, 33, 1, [9, 10], plain(3, 1, 1)), geometry(112, 5, 1, [4, 4], plain(2, 1, 1))];
    check(&padded, "tile.product.amx", |a, _| a.least == 0, forward_of_levels);
}

#[test]
fn input_gradients() {
    let tiles = [
        geometry(20, 64, 1, [7, 6], plain(3, 1, 1)),
        geometry(33, 64, 1, [9, 9], plain(3, 1, 0)),
        geometry(32, 128, 2, [8, 9], plain(3, 1, 1)),
        geometry(8, 64, 1, [11, 40], plain(3, 2, 1)),
        geometry(16, 128, 1, [2, 3], ([2, 3], [1, 1], [0; 4], [1, 1])),
    ];
    check(&tiles, "tile.product.amx", |_, _| true, input_grad_of_levels);
}

#[test]
fn weight_gradients() {
    let tiles = [
        geometry(16, 20, 1, [7, 7], plain(3, 1, 1)),
        geometry(48, 64, 1, [18, 18], plain(3, 1, 1)),
        geometry(32, 33, 1, [9, 9], plain(3, 1, 0)),
        geometry(64, 16, 2, [6, 11], plain(3, 1, 1)),
        geometry(16, 17, 1, [13, 12], plain(3, 2, 1)),
        geometry(16, 5, 1, [11, 9], ([2, 4], [1, 2], [2, 1, 0, 2], [2, 3])),
        geometry(32, 6, 1, [8, 9], plain(5, 1, 2)),
        geometry(16, 18, 1, [1, 70], ([1, 5], [1, 1], [0, 2, 0, 2], [1, 1])),
    ];
    check(
        &tiles,
        "tile.weight_grad.amx",
        |a, _| a.least == 0,
        |level, fma, g, operands, data| {
            let stored = ranges(operands).map(|range| Storage::bytes(range).unwrap());
            weight_grad_of_levels(level, fma, g, operands, stored, data)
        },
    );
}
