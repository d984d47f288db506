//! The gradient of a convolution's weights by Winograd's minimal filtering along x, F(3,2), in integers: three taps of two
//! neighbouring outputs take four products, where six are the rule. With inputs d0 … d3 and gradients g0, g1
//!
//! ```text
//! v = (d0 − d2, d1 + d2, d2 − d1, d1 − d3)        u = (2·g0, g0 + g1, g0 − g1, −2·g1)
//! m = v·u, summed over rows and pairs             taps (m0 + m1 + m2)/2, (m1 − m2)/2 and (m1 + m2 + m3)/2
//! ```
//!
//! v is that of the gradient of the input. The reduction runs over all pairs of a sample, row after row without gaps, four at a
//! time. Here are conditions and layouts; `codegen::products::winograd_weights` emits it.

use super::winograd::{MOST, TAPS, VALUES, bytes_of_data};
use super::{COLUMNS, Operands};
use crate::graph::ops::Geometry;
use crate::lower::train::layouts::SLACK;

/// Outputs of a pair.
const OUTPUTS: usize = 2;
/// Pairs of a step.
pub(crate) const STEP: usize = 4;
/// Pairs that are brought into their order at once.
pub(crate) const LANES: usize = 16;
/// Bytes of a vector of channels.
const VECTOR: usize = 64;
/// Bytes that a channel takes at most.
const SPREAD: usize = 4;

/// The transformed operands of one sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairs {
    /// Pairs of a row.
    pub(crate) columns: usize,
    /// Rows of pairs of the gradient, and those of the input that its taps read.
    pub(crate) rows: [usize; 2],
    /// Channels of the input.
    pub(crate) channels: usize,
    /// Blocks of 16 outputs.
    pub(crate) blocks: usize,
}

impl Pairs {
    /// For the convolution `g` of bytes without a bias, if it can be had so and gains by it.
    pub(super) fn new(g: &Geometry, operands: Operands) -> Option<Pairs> {
        let Operands::Levels { a, b, bytes: true } = operands else { return None };
        let dense = g.groups == 1 && g.strides == [1, 1] && g.dilations == [1, 1];
        let [height, width] = g.output;
        let pairs = Pairs {
            columns: width.div_ceil(OUTPUTS),
            rows: [height, height + g.kernel[0] - 1],
            channels: g.channels,
            blocks: g.outputs.div_ceil(COLUMNS),
        };
        let fits = bytes_of_data(a) && 2 * b.magnitude() <= i8::MAX as u32;
        // Twice a sum must fit 32 bits; sums on the way may wrap.
        let terms = (OUTPUTS * height * pairs.columns) as u64;
        let product = 2 * u64::from(a.magnitude()) * u64::from(b.magnitude());
        let exact = product.checked_mul(terms).is_some_and(|sum| sum < 1 << 31);
        // Another reader's groups may spread the channels: one at a time to four bytes each.
        let pixel = (SPREAD * g.channels).next_multiple_of(VECTOR);
        let stages = [pairs.stage(pixel), pairs.steps() * STEP * pairs.pair()];
        let near = stages.into_iter().all(|bytes| bytes <= MOST);
        (dense && g.kernel[1] == TAPS && fits && exact && near && pairs.gains(width)).then_some(pairs)
    }

    /// Whether the tile takes less time than the plain one, with what transforming takes more than relaying out.
    fn gains(&self, width: usize) -> bool {
        // Cycles of 24 sums: of 18 rows of taps, or of 24. Starting and finishing them takes as long as four steps.
        let own = 24 * (self.steps() + 4 + TRANSFORMS);
        let plain = 24 * (self.rows[0] * width.div_ceil(STEP) + 4);
        4 * own < 3 * plain
    }

    /// Bytes of a plane: of one value and channel, all pairs of the rows that taps read.
    pub(crate) fn plane(&self) -> usize {
        (self.rows[1] * self.columns).next_multiple_of(LANES)
    }

    /// Bytes from one value's planes to the next.
    pub(crate) fn value(&self) -> usize {
        self.channels * self.plane()
    }

    /// Bytes of a sample's transformed input, unsigned: byte `(value·channels + c)·plane + y·columns + pair`.
    pub fn input_bytes(&self) -> usize {
        VALUES * self.value() + SLACK
    }

    /// Steps of the reduction.
    pub(crate) fn steps(&self) -> usize {
        (self.rows[0] * self.columns).div_ceil(STEP)
    }

    /// Bytes of a block of 16 outputs: for each value what its sums start at, then step by step for each value four neighbouring
    /// pairs side by side of each output, signed; zero behind the last pair.
    pub(crate) fn block(&self) -> usize {
        (1 + self.steps()) * VALUES * COLUMNS * 4
    }

    /// Bytes of a sample's transformed gradient.
    pub fn gradient_bytes(&self) -> usize {
        self.blocks * self.block() + SLACK
    }

    /// Vectors of all outputs, and bytes of a pair of the transformed gradient before it is brought into its order.
    pub(crate) fn vectors(&self) -> usize {
        (self.blocks * COLUMNS).div_ceil(VECTOR)
    }

    pub(crate) fn pair(&self) -> usize {
        VALUES * self.vectors() * VECTOR
    }

    /// Bytes of the transformed input before it is brought into its order, of so many bytes a pixel.
    pub(crate) fn stage(&self, pixel: usize) -> usize {
        self.plane() * VALUES * pixel + SLACK
    }
}

/// Steps that pay for the transforms.
const TRANSFORMS: usize = 2;
