//! Winograd's minimal filtering along both axes (Lavin and Gray 2016, §4.1), in integers: F(2×2, 3×3) takes sixteen products for four
//! neighbouring results of nine taps, where 36 are the rule and 24 along one axis. Transformed twice, a gradient of 6 bits would
//! leave bytes, but its levels are all odd: with g = 2h + 1 where there is one and h = 0 where there is none,
//!
//! ```text
//! Σ g·w = 2·Σ h·w + Σ of the taps w that lie inside the gradient
//! ```
//!
//! and four times h is a byte. Along y, with rows h0 … h3 of the gradient and rows w0 … w2 of taps,
//!
//! ```text
//! e = (h0 − h2, h1 + h2, h2 − h1, h1 − h3)        f = (2·w0, w0 + w1 + w2, w0 − w1 + w2, 2·w2)
//! z = e filtered by f along x ([`super::winograd`])        twice the sums of h·w: z0 + z1 + z2 and z1 − z2 − z3
//! ```
//!
//! Here are conditions and sizes; `codegen::products::winograd_squares` emits it.

use super::winograd::{MOST, NARROWEST, RESULTS, TAPS, Transformed, VALUES};
use super::{InputGrad, InputLayout, Operands};
use crate::lower::LINE;
use crate::lower::train::layouts::{Range, larger};
use std::ops::Range as Span;

/// Steps of the reduction that starting, finishing and adding up a tile's sums take as long as.
const AROUND: usize = 6;

/// The transformed gradient of one sample: for each value along y the rows of tiles, each of four values of all channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Squares {
    /// Row and column of the gradient at which the first tile begins; may lie in the border.
    pub(crate) first: [i64; 2],
    /// Rows and columns of the gradient.
    pub(crate) gradient: [usize; 2],
    /// The first row of the result.
    pub(crate) top: usize,
    /// Rows and columns of the result that they make.
    pub(crate) results: [usize; 2],
    /// Bytes of a value: a pixel of the gradient.
    pub(crate) value: usize,
}

impl Squares {
    /// Rows and columns of tiles.
    pub(crate) fn tiles(&self) -> [usize; 2] {
        self.results.map(|n| n.div_ceil(RESULTS))
    }

    /// The first result along an axis of a tile: the last ones of an odd number are computed with the one before.
    pub(crate) fn place(&self, axis: usize, tile: usize) -> usize {
        (tile * RESULTS).min(self.results[axis] - RESULTS)
    }

    /// The rows that they make.
    pub(crate) fn rows(&self) -> Span<usize> {
        self.top..self.top + self.results[0]
    }

    /// Bytes of a tile's values along x.
    pub(crate) fn tile(&self) -> usize {
        VALUES * self.value
    }

    /// Bytes of a row of tiles.
    pub(crate) fn row(&self) -> usize {
        self.tiles()[1] * self.tile()
    }

    /// Bytes of all rows of tiles of a value along y.
    pub(crate) fn plane(&self) -> usize {
        self.tiles()[0] * self.row()
    }

    /// Bytes of all planes, and of what may be read and written behind them.
    pub(crate) fn bytes(&self) -> usize {
        VALUES * self.plane() + LINE
    }

    /// Vectors of a row of the gradient.
    pub(crate) fn vectors(&self) -> usize {
        ((self.results[1] + TAPS - 1) * self.value).div_ceil(LINE)
    }

    /// Rows and columns of level 0 around the gradient that tiles read: top, left, bottom, right.
    fn border(&self) -> [usize; 4] {
        let before = |i: usize| usize::try_from(-self.first[i]).unwrap_or(0);
        let behind = |i: usize| {
            let end = self.first[i] + (self.results[i] + TAPS - 1) as i64;
            usize::try_from(end - self.gradient[i] as i64).unwrap_or(0)
        };
        [before(0), before(1), behind(0), behind(1)]
    }

    /// Along an axis the results that the same taps reach, as many one after another, with those taps.
    pub(crate) fn reached(&self, axis: usize) -> Vec<(usize, Span<usize>)> {
        let inside = 0..self.gradient[axis] as i64;
        let mut runs: Vec<(usize, Span<usize>)> = Vec::new();
        for at in 0..self.results[axis] {
            let there = |&tap: &usize| inside.contains(&(self.first[axis] + (at + tap) as i64));
            let first = (0..TAPS).find(there).unwrap_or(0);
            let taps = first..first + (0..TAPS).filter(there).count();
            match runs.last_mut() {
                Some((count, same)) if *same == taps => *count += 1,
                _ => runs.push((1, taps)),
            }
        }
        runs
    }
}

impl InputGrad {
    /// The same of a gradient without a level that is even, if `odd`; its border may have to be larger.
    pub fn of_odd(mut self, odd: bool) -> InputGrad {
        self.odd = odd;
        let squares = self.squares();
        if let (InputLayout::Levels(levels), Some(squares)) = (&mut self.gradient, squares) {
            levels.border = larger(levels.border, squares.border());
        }
        self
    }

    /// The gradient transformed along both axes, of as many bytes a value as it has channels, if some rows of the product are computed
    /// so and gain by it, where a machine has the instructions.
    pub(crate) fn squares(&self) -> Option<Squares> {
        let (Operands::Levels { a, b, bytes: true }, true) = (self.operands, self.odd) else { return None };
        let g = &self.g;
        let plain = g.kernel == [TAPS; 2] && g.strides == [1; 2] && g.dilations == [1; 2] && !self.over_batch();
        let wide = g.input.iter().all(|&n| n >= NARROWEST) && self.whole_sequence().is_some();
        if !(plain && wide && fits(a, b) && exact(a, b, self.terms())) {
            return None;
        }
        let rows = self.best_rows()?;
        let [y, x] = [0, 1].map(|i| g.pads[i] as i64 - (TAPS as i64 - 1));
        let (first, results) = ([y + rows.start as i64, x], [rows.len(), g.input[1]]);
        let squares = Squares { first, gradient: g.output, top: rows.start, results, value: g.outputs };
        (squares.bytes() <= MOST).then_some(squares)
    }

    /// The same of the gradient as it lies: not where another reader's groups spread its channels too far.
    fn squared(&self) -> Option<Squares> {
        let InputLayout::Levels(levels) = &self.gradient else { return None };
        let squares = Squares { value: levels.pixel(), ..self.squares()? };
        (squares.bytes() <= MOST).then_some(squares)
    }

    /// The gradient transformed along both axes for some rows, and along x for the others, if it is, as it lies.
    pub(crate) fn filtered_parts(&self) -> Option<(Option<Squares>, Option<Transformed>)> {
        let squares = if self.squares().is_some() { Some(self.squared()?) } else { None };
        let along_x = if self.packing().filtered { Some(self.transformed()?) } else { None };
        (squares.is_some() || along_x.is_some()).then_some((squares, along_x))
    }

    /// The sequence of all taps.
    pub(crate) fn whole_sequence(&self) -> Option<usize> {
        self.sequences().iter().position(|taps| taps.len() == TAPS * TAPS)
    }

    /// The rows that are best made of tiles, if any: those that few taps reach take less by themselves, where they can be filtered so.
    fn best_rows(&self) -> Option<Span<usize>> {
        let steps = (self.g.outputs / self.g.groups).div_ceil(self.operands.together());
        let row = |taps: usize| taps * steps + AROUND / 2;
        let alone = self.phases()[0].iter().flat_map(|phase| std::iter::repeat_n(row(phase.taps.len()), phase.count));
        let alone: Vec<usize> = alone.collect();
        let (all, whole) = (alone.iter().sum::<usize>(), 0..alone.len());
        let tiles = |rows: &Span<usize>| VALUES * (steps + AROUND) * rows.len().div_ceil(RESULTS);
        let cost = |rows: &Span<usize>| all - alone[rows.clone()].iter().sum::<usize>() + tiles(rows);
        let parts = whole.clone().flat_map(|top| (top + RESULTS..=alone.len()).map(move |end| top..end));
        let best = parts.filter(|rows| *rows == whole || self.filtered()).min_by_key(cost)?;
        (cost(&best) < all).then_some(best)
    }
}

/// The halves h of odd levels 2h + 1.
fn halves(levels: Range) -> Range {
    Range { least: (levels.least - 1) / 2, greatest: (levels.greatest - 1) / 2 }
}

/// Whether what is transformed are bytes, of the halves of odd levels and of filters.
fn fits(data: Range, filter: Range) -> bool {
    let (odd, half) = (data.least % 2 == -1, halves(data));
    let (least, greatest) = (i64::from(half.least), i64::from(half.greatest));
    let byte = |v: i64| i8::try_from(v).is_ok();
    let squares = [4 * least, 4 * greatest, 2 * (greatest - least)].into_iter().all(byte);
    odd && squares && (TAPS * TAPS) as u64 * u64::from(filter.magnitude()) <= i8::MAX as u64
}

/// Whether twice a sum along x fits 32 bits; sums on the way may wrap.
fn exact(data: Range, filter: Range, terms: usize) -> bool {
    let product = 4 * u64::from(halves(data).magnitude()) * u64::from(filter.magnitude());
    product.checked_mul(terms as u64).is_some_and(|sum| sum < 1 << 31)
}
