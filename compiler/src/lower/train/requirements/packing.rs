//! The sizes of packed weights.

use super::winograd::{TAPS, VALUES};
use super::winograd_squares::Squares;
use super::{COLUMNS, Operands, group_sizes, separable};
use crate::graph::ops::Geometry;

/// Bytes behind the last unit that a tile of several steps may read, though it multiplies them by zeros.
const BEHIND: usize = 15 * COLUMNS * 4;

/// Which weights a product's tiles read, in order.
pub struct Packing<'a> {
    /// The convolution.
    pub(crate) g: &'a Geometry,
    /// What is multiplied.
    pub(crate) operands: Operands,
    /// The columns are the convolution's inputs rather than its outputs.
    pub(crate) transposed: bool,
    /// Sequences of taps ky·KW + kx. Each sequence is a reduction over channels and its taps: levels take the channels,
    /// two or four a step, within each tap, floats the taps within each channel.
    pub(crate) sequences: &'a [Vec<usize>],
    /// A bias, a float an output, follows; only where the columns are outputs.
    pub(crate) bias: bool,
    /// Behind the units lie those of the transformed filters ([`super::winograd`]), for levels that multiply them: sequence by
    /// sequence what the sums of each value start at, then row by row of taps, step by step, a vector a value.
    pub(crate) filtered: bool,
    /// Behind those, those of filters transformed along both axes ([`super::winograd_squares`]), of the sequence whose number is given: for
    /// each value along y a sequence of a row of taps, then what is added to the results that the same taps reach, row by row.
    pub(crate) squares: Option<(Squares, usize)>,
}

impl Packing<'_> {
    /// Channels of the reduction and columns, of a group.
    pub(crate) fn sizes(&self) -> [usize; 2] {
        let [channels, outputs] = group_sizes(self.g);
        if self.transposed { [outputs, channels] } else { [channels, outputs] }
    }

    /// Blocks of columns of a group.
    pub(crate) fn blocks(&self) -> usize {
        self.sizes()[1].div_ceil(COLUMNS)
    }

    /// Bytes of a sequence of `taps` taps.
    pub(crate) fn sequence_bytes(&self, taps: usize) -> usize {
        let steps = self.sizes()[0].div_ceil(self.operands.together());
        let start = usize::from(self.operands.biased() && taps > 0);
        (steps * taps + start) * COLUMNS * 4
    }

    /// Bytes of a unit.
    pub(crate) fn unit_bytes(&self) -> usize {
        let bias = if self.bias { COLUMNS * 4 } else { 0 };
        self.sequences.iter().map(|taps| self.sequence_bytes(taps.len())).sum::<usize>() + bias
    }

    /// Units: blocks of 16 columns, over all groups.
    pub fn units(&self) -> usize {
        self.g.groups * self.blocks()
    }

    /// Whether tasks may take some of the units each; else all of them.
    pub fn splits(&self) -> bool {
        separable(self.g.groups, self.sizes()[1])
    }

    /// Bytes of all units, and of what a tile that begins in the last step reads behind them.
    pub fn bytes(&self) -> usize {
        let squares = self.squares.as_ref().map(|(squares, _)| self.units() * self.square_bytes(squares));
        self.squares_at() + squares.unwrap_or(0)
    }

    /// Bytes of all units of filters transformed along x.
    fn all_filters(&self) -> usize {
        if self.filtered { self.units() * self.filter_bytes() } else { 0 }
    }

    /// Where the first unit of filters transformed along both axes lies.
    pub(crate) fn squares_at(&self) -> usize {
        self.filters_at() + self.all_filters()
    }

    /// Where the first unit of transformed filters lies.
    pub(crate) fn filters_at(&self) -> usize {
        self.units() * self.unit_bytes() + BEHIND
    }

    /// Bytes of a sequence of `taps` taps as transformed filters.
    pub(crate) fn filter_sequence(&self, taps: usize) -> usize {
        let steps = self.sizes()[0].div_ceil(self.operands.together());
        (1 + steps * (taps / TAPS)) * VALUES * COLUMNS * 4
    }

    /// Bytes of a unit of filters transformed along both axes, with its addends.
    pub(crate) fn square_bytes(&self, squares: &Squares) -> usize {
        self.addends_at() + squares.reached(0).len() * squares.reached(1).len() * COLUMNS * 4
    }

    /// Where the addends lie among them.
    pub(crate) fn addends_at(&self) -> usize {
        VALUES * self.filter_sequence(TAPS)
    }

    /// Bytes of a unit of transformed filters.
    pub(crate) fn filter_bytes(&self) -> usize {
        self.sequences.iter().map(|taps| self.filter_sequence(taps.len())).sum()
    }
}
