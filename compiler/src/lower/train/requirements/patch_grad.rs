//! What the weight gradient of a float layer with few taps reads and writes: see `codegen::products::patch_grad`. Pure
//! arithmetic; it must never know an instruction set.

use super::border;
use crate::graph::ops::{Geometry, Window};
use crate::lower::train::layouts::{Levels, Maps, Planes, SLACK, Storage};

/// Positions whose patches lie side by side where no pool says otherwise: as many as a mask has bits.
const POSITIONS: usize = 64;

/// Patches that lie side by side are so many at most, which the first caches hold.
const MOST_PATCHES: usize = 256;

/// Windows of a pool have so many taps at most.
const MOST_TAPS: usize = 9;

/// Floats that the rows of a patch and of the sums are a multiple of, whatever the width of vectors.
const LANES: usize = 16;

/// A float product for the gradient of the weights that goes from output to output instead of from tap to tap, so that it
/// can pass over zero gradients. Each sample is summed on its own, then the samples.
pub struct PatchGrad {
    /// The convolution's input, f32, one phase. The border may be enlarged.
    pub input: Planes,
    /// The output's gradient, or that of its max pool. The pitch may be enlarged.
    pub gradient: Maps,
    /// The max pool behind the output, whose windows lie side by side.
    pub pool: Option<Pool>,
    pub(crate) g: Geometry,
}

/// A max pool of which the gradient is read.
pub struct Pool {
    /// Height and width of a window.
    pub kernel: [usize; 2],
    /// Which tap won each window.
    pub winners: Levels,
}

/// The positions that have their patches side by side: so many windows of a row, each so many rows and columns; without a pool
/// a window is a position, and a row all of them. Masks have a bit a window, a group of bits for each row of taps, so that the
/// bits' order is that of the positions.
#[derive(Clone, Copy, Debug)]
pub struct Chunk {
    /// Windows.
    pub windows: usize,
    /// Rows and columns of one.
    pub kernel: [usize; 2],
    /// Bits for each row of taps: 32 or 64.
    pub bits: usize,
}

impl Chunk {
    /// Taps of a window.
    pub fn taps(self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Masks of 32 bits of an output; they are read by twos.
    pub fn words(self) -> usize {
        (self.kernel[0] * self.bits).next_multiple_of(64) / 32
    }
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
        let product = PatchGrad { input, gradient, pool: None, g: g.clone() };
        let neighbours = g.kernel[1] == 1 || g.dilations[1] == 1;
        let gains = g.groups == 1 && neighbours && g.outputs * product.row() <= product.gradient.bytes();
        Ok(gains.then_some(product))
    }

    /// The same product reading the gradient of a max pool behind it, if that leaves the order of the positions: its windows
    /// lie side by side, and a row of them is a chunk.
    ///
    /// # Errors
    /// When an operand may not fit 31 bits of address.
    pub fn behind(self, pool: &Window) -> Result<Option<PatchGrad>, String> {
        let ([_, windows], kernel) = (pool.output, pool.kernel);
        let taps = kernel[0] * kernel[1];
        let near = taps <= MOST_TAPS && windows <= POSITIONS && windows * taps <= MOST_PATCHES;
        if !near || !pool.tiles() || pool.input != self.g.output || pool.channels != self.g.outputs {
            return Ok(None);
        }
        let gradient = Maps::new(pool.channels, 1, pool.output)?;
        let winners = Levels::new(pool.channels, 1, pool.output, [0; 4], Storage::Bytes { bias: 0 })?;
        Ok(Some(PatchGrad { gradient, pool: Some(Pool { kernel, winners }), ..self }))
    }

    /// The positions that are done together.
    pub fn chunk(&self) -> Chunk {
        match &self.pool {
            Some(pool) => {
                let windows = self.gradient.image[1];
                Chunk { windows, kernel: pool.kernel, bits: if windows <= 32 { 32 } else { 64 } }
            }
            None => Chunk { windows: POSITIONS, kernel: [1, 1], bits: 64 },
        }
    }

    /// Bytes of a patch, and of the sums of an output.
    pub(crate) fn row(&self) -> usize {
        self.g.taps().next_multiple_of(LANES) * 4
    }

    /// Bytes of a sample's sums: f32 `o·row + (ci·KH + ky)·KW + kx`, the rows padded.
    pub fn sums(&self) -> usize {
        self.g.outputs * self.row()
    }

    /// Bytes of the patches of a chunk.
    pub(crate) fn patches(&self) -> usize {
        let chunk = self.chunk();
        chunk.windows * chunk.taps() * self.row() + SLACK
    }

    /// Blocks of outputs that have their masks side by side: a word of each, then the next.
    pub(crate) fn blocks(&self) -> usize {
        self.g.outputs.div_ceil(LANES)
    }

    /// Bytes of an output's block of masks.
    pub(crate) fn masks(&self) -> usize {
        self.chunk().words() * LANES * 4
    }

    /// Where in the work memory, behind the patches, masks, the lanes of the outputs' sums over the positions and the patches'
    /// lanes begin, and where it ends. Each patch has four masks of 32 bits, of which that of its position's lane is set.
    pub(crate) fn work(&self) -> [usize; 4] {
        let chunk = self.chunk();
        let masks = self.patches();
        let totals = masks + self.blocks() * self.masks();
        let lanes = totals + self.g.outputs * 16;
        [masks, totals, lanes, lanes + chunk.windows * chunk.taps() * 16]
    }

    /// Bytes that the kernel needs besides the sums.
    pub fn work_bytes(&self) -> usize {
        self.work()[3]
    }
}
