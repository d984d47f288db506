//! Sums of the levels under each window of a strip, the same for all outputs: what halved weights need besides their products.
//! Odd weights w = 2·d + 1 that reach beyond a byte, those of 8 bits, have halves d that do not, so that one product of bytes does
//! instead of two:
//!
//! ```text
//!     Σ w·level = 2·Σ d·level + Σ level
//! ```
//!
//! Cost: a pass over the strip's bytes for each strip, and an addition for each tap and position.

use super::layer::Layer;
use super::split::SplitLayer;
use super::split_tiling::levels;
use crate::codegen::emitter::{Emitter, I32X4};
use crate::lower::split::{Products, Split};
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// Channels that are added together.
const TOGETHER: usize = 16;
/// The most channels whose sum of bytes, two and two, is sure to fit 16 bits in each of eight lanes.
const MOST: usize = 2048;

/// The halves of a layer's weight levels (O, C, KH, KW) and their split into one digit, where that saves one.
pub(super) fn halves(layer: &Layer<'_>, split: &Split) -> Option<(Vec<i64>, Split)> {
    let (g, codes) = (&layer.g, layer.codes?);
    let channels = g.groups == 1 && g.channels.is_multiple_of(TOGETHER) && g.channels <= MOST;
    if split.planes < 2 || split.products != Products::Quads || !channels {
        return None;
    }
    let weights = levels(layer);
    if weights.iter().any(|w| w % 2 == 0) {
        return None;
    }
    let halves: Vec<i64> = weights.iter().map(|w| (w - 1) / 2).collect();
    let one = Split::new(g, &halves, codes.a.levels(), Products::Quads).filter(|s| s.planes == 1)?;
    Some((halves, one))
}

/// Where they lie.
#[derive(Clone, Copy)]
pub(super) struct BoxSums {
    /// The sum of each position of the strip, an i32 each.
    positions: Value,
    /// Positions of a row of the strip.
    columns: usize,
    /// The sums of a tile's windows, an i32 each.
    pub windows: Value,
}

impl BoxSums {
    /// For a strip of so many rows and positions a row, and tiles of so many.
    pub(super) fn new(e: &mut Emitter<'_, '_>, [tall, columns]: [usize; 2], tile: usize) -> BoxSums {
        BoxSums { positions: e.stack(tall * columns * 4, 16), columns, windows: e.stack(tile * 4, 16) }
    }

    /// Adds up each position of the strip.
    pub(super) fn fill(self, e: &mut Emitter<'_, '_>, layer: &SplitLayer<'_>) {
        let channels = layer.layer.g.channels;
        e.times(layer.tall, |e, y| {
            let (from, to) = (e.at(layer.strip, y, layer.row), e.at(self.positions, y, self.columns * 4));
            e.times(self.columns, |e, x| {
                let (from, to) = (e.at(from, x, channels), e.at(to, x, 4));
                let none = e.zeros(types::I16X8);
                let sums = e.var(none);
                e.times(channels / TOGETHER, |e, i| {
                    let at = e.at(from, i, TOGETHER);
                    let levels = e.load(types::I8X16, at, 0);
                    let (low, high) = (e.b.ins().uwiden_low(levels), e.b.ins().uwiden_high(levels));
                    let pairs = e.b.ins().iadd(low, high);
                    e.accumulate(sums, pairs);
                });
                let sums = e.b.use_var(sums);
                let (low, high) = (e.b.ins().uwiden_low(sums), e.b.ins().uwiden_high(sums));
                let four = e.b.ins().iadd(low, high);
                let two = e.b.ins().iadd_pairwise(four, four);
                let one = e.b.ins().iadd_pairwise(two, two);
                debug_assert_eq!(e.b.func.dfg.value_type(one), I32X4);
                let one = e.b.ins().extractlane(one, 0);
                e.store(one, to, 0);
            });
        });
    }

    /// Adds up the windows of a tile whose first position is `x` of the strip's row `y` of the result.
    pub(super) fn add_windows(self, e: &mut Emitter<'_, '_>, layer: &SplitLayer<'_>, [y, x]: [Value; 2], tile: usize) {
        let g = &layer.layer.g;
        let first = e.mul(y, g.strides[0] * self.columns);
        let first = e.at(first, x, g.strides[1]);
        let first = e.at(self.positions, first, 4);
        e.times(tile, |e, i| {
            let from = e.at(first, i, g.strides[1] * 4);
            let zero = e.b.ins().iconst(types::I32, 0);
            let sum = e.var(zero);
            e.times(g.kernel[0], |e, ky| {
                let from = e.at(from, ky, g.dilations[0] * self.columns * 4);
                for kx in 0..g.kernel[1] {
                    let one = e.load(types::I32, from, (kx * g.dilations[1] * 4) as i32);
                    e.accumulate(sum, one);
                }
            });
            let (sum, to) = (e.b.use_var(sum), e.at(self.windows, i, 4));
            e.store(sum, to, 0);
        });
    }
}
