//! Winograd's minimal filtering along x (Lavin and Gray 2016, §4.1), in integers: F(2,3) takes four products for two neighbouring
//! results of three taps, where six are the rule. With data d0 … d3 and taps w0 … w2,
//!
//! ```text
//! v = (d0 − d2, d1 + d2, d2 − d1, d1 − d3)        u = (2·w0, w0 + w1 + w2, w0 − w1 + w2, 2·w2)
//! m = v·u, summed over rows and channels           results (m0 + m1 + m2)/2 and (m1 − m2 − m3)/2
//! ```
//!
//! u is twice that of the paper, so that all of it is whole and the halves are exact. What is transformed must fit bytes, which
//! the levels decide, not the machine. Here are conditions and sizes; `codegen::products::winograd` emits it.

use super::input_grad::Phase;
use super::{InputGrad, InputLayout, Operands};
use crate::lower::train::layouts::Range;

/// Values of a transformed tile.
pub const VALUES: usize = 4;
/// Taps of the filter.
pub const TAPS: usize = 3;
/// Neighbouring results of a tile.
pub(super) const RESULTS: usize = 2;
/// What is added to transformed data, so that they are unsigned.
pub const BIAS: u8 = 128;
/// The narrowest image for which it is worth it.
pub(super) const NARROWEST: usize = 4;
/// The most bytes of transformed data, which lie on a task's stack.
pub(super) const MOST: usize = 256 << 10;

/// The transformed data of one sample: rows of tiles, each of four values of all channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transformed {
    /// Row and column of the data at which the first tile begins; may lie in the border.
    pub(crate) first: [i64; 2],
    /// Rows.
    pub(crate) rows: usize,
    /// Columns of the result.
    pub(crate) columns: usize,
    /// Bytes of a value: a pixel of the data.
    pub(crate) value: usize,
}

impl Transformed {
    /// Tiles of a row.
    pub(crate) fn tiles(&self) -> usize {
        self.columns.div_ceil(RESULTS)
    }

    /// The first result of a tile: the last ones of an odd row are computed with the one before.
    pub(crate) fn column(&self, tile: usize) -> usize {
        (tile * RESULTS).min(self.columns - RESULTS)
    }

    /// Bytes of a tile.
    pub(crate) fn tile(&self) -> usize {
        VALUES * self.value
    }

    /// Bytes of a row.
    pub(crate) fn row(&self) -> usize {
        self.tiles() * self.tile()
    }

    /// Bytes of all rows, and of what may be read and written behind them.
    pub(crate) fn bytes(&self) -> usize {
        self.rows * self.row() + 64
    }
}

impl InputGrad {
    /// Whether Winograd's filtering computes the product and gains by it, where a machine has the instructions.
    pub(crate) fn filtered(&self) -> bool {
        let Operands::Levels { a, b, bytes: true } = self.operands else { return false };
        let phases = self.phases();
        let [x] = &phases[1][..] else { return false };
        let consecutive = |p: &Phase| p.stride == 1 && !p.taps.is_empty() && (p.step == 1 || p.taps.len() == 1);
        let wide = x.taps.len() == TAPS && x.count >= NARROWEST && x.count == self.g.input[1];
        let shape = wide && phases.iter().flatten().all(consecutive) && !self.over_batch();
        shape && fits(a, b) && exact(a, b, self.terms()) && self.tiles(x, self.g.outputs).bytes() <= MOST
    }

    /// The gradient transformed, if it is: not where another reader's groups spread its channels too far.
    pub(super) fn transformed(&self) -> Option<Transformed> {
        let (InputLayout::Levels(levels), [x]) = (&self.gradient, &self.phases()[1][..]) else { return None };
        let transformed = self.tiles(x, levels.pixel());
        (self.filtered() && transformed.bytes() <= MOST).then_some(transformed)
    }

    /// The tiles of the rows that all phases reach, of so many bytes a value.
    fn tiles(&self, x: &Phase, value: usize) -> Transformed {
        let reach = self.phases()[0].iter().map(Phase::reach);
        let [top, bottom] = reach.reduce(|a, b| [a[0].min(b[0]), a[1].max(b[1])]).unwrap_or([0, -1]);
        let rows = usize::try_from(bottom - top + 1).unwrap_or(0);
        Transformed { first: [top, x.output], rows, columns: x.count, value }
    }
}

/// Whether transformed data and filters are bytes.
fn fits(data: Range, filter: Range) -> bool {
    bytes_of_data(data) && TAPS as u32 * filter.magnitude() <= i8::MAX as u32
}

/// Whether transformed data are bytes.
pub(super) fn bytes_of_data(data: Range) -> bool {
    let (least, greatest) = (i64::from(data.least), i64::from(data.greatest));
    let byte = |v: i64| i8::try_from(v).is_ok();
    [least - greatest, greatest - least, 2 * least, 2 * greatest].into_iter().all(byte)
}

/// Whether twice a sum of so many products fits 32 bits; sums on the way may wrap.
fn exact(a: Range, b: Range, terms: usize) -> bool {
    let product = u64::from(a.magnitude()) * u64::from(b.magnitude());
    product.checked_mul(terms as u64).and_then(|sum| sum.checked_mul(2)).is_some_and(|sum| sum < 1 << 31)
}
