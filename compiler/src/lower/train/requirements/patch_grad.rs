//! What the weight gradient of a float layer with few taps reads and writes: see `codegen::products::patch_grad`. Pure
//! arithmetic; it must never know an instruction set.

use super::border;
use crate::graph::ops::Geometry;
use crate::lower::train::layouts::{Maps, Planes, SLACK};

/// Positions whose patches lie side by side: as many as a mask has bits.
pub const POSITIONS: usize = 64;

/// Floats that the rows of a patch and of the sums are a multiple of, whatever the width of vectors.
const LANES: usize = 16;

/// A float product for the gradient of the weights that goes from output to output instead of from tap to tap, so that it
/// can pass over zero gradients. Each sample is summed on its own, then the samples.
pub struct PatchGrad {
    /// The convolution's input, f32, one phase. The border may be enlarged.
    pub input: Planes,
    /// The output's gradient. The pitch may be enlarged.
    pub gradient: Maps,
    pub(crate) g: Geometry,
}

impl PatchGrad {
    /// The product of the convolution `g`, if it is of the kind that gains: neighbouring taps read neighbours, and a
    /// sample's sums are no larger than its gradient.
    ///
    /// # Errors
    /// When an operand may not fit 31 bits of address.
    pub fn new(g: &Geometry) -> Result<Option<PatchGrad>, String> {
        let input = Planes::new(g.channels, g.input, border(g), [1; 2], 4)?;
        let gradient = Maps::new(g.outputs, g.groups, g.output)?;
        let product = PatchGrad { input, gradient, g: g.clone() };
        let neighbours = g.kernel[1] == 1 || g.dilations[1] == 1;
        let gains = g.groups == 1 && neighbours && g.outputs * product.row() <= product.gradient.bytes();
        Ok(gains.then_some(product))
    }

    /// Bytes of a patch, and of the sums of an output.
    pub(crate) fn row(&self) -> usize {
        self.g.taps().next_multiple_of(LANES) * 4
    }

    /// Bytes of a sample's sums: f32 `o·row + (ci·KH + ky)·KW + kx`, the rows padded.
    pub(crate) fn sums(&self) -> usize {
        self.g.outputs * self.row()
    }

    /// Bytes of the patches of [`POSITIONS`] positions.
    pub(crate) fn patches(&self) -> usize {
        POSITIONS * self.row() + SLACK
    }

    /// Blocks of outputs that have their masks side by side.
    pub(crate) fn blocks(&self) -> usize {
        self.g.outputs.div_ceil(LANES)
    }

    /// Bytes of a sample's sums, then of what the kernel needs besides: patches, and the masks of blocks of 16 outputs, the
    /// low halves before the high ones.
    pub fn scratch_bytes(&self) -> usize {
        self.sums() + self.patches() + self.blocks() * LANES * 8
    }
}
