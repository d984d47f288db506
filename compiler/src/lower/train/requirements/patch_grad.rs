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
/// bits' order is that of the positions. What the positions read lies at numbered places: that of tap t of the window of bit i is
/// `step·i + t`.
#[derive(Clone, Copy, Debug)]
pub struct Chunk {
    /// Windows.
    pub windows: usize,
    /// Rows and columns of one.
    pub kernel: [usize; 2],
    /// Bits for each row of taps: 32 or 64.
    pub bits: usize,
    /// Places from one window to the next.
    pub step: usize,
    /// Whether places are positions of strips, one for each row of taps, whose bits count on; else all of a window's taps come
    /// before the next window's.
    pub strips: bool,
    /// Bytes from one place to the next.
    pub place: usize,
}

impl Chunk {
    /// Taps of a window.
    pub fn taps(self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Places.
    pub fn places(self) -> usize {
        let before = if self.strips { (self.kernel[0] - 1) * self.bits } else { 0 };
        (before + self.windows) * self.step + if self.strips { self.taps() } else { 0 }
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
        let place = self.row();
        let Some(Pool { kernel, .. }) = self.pool else {
            return Chunk { windows: POSITIONS, kernel: [1, 1], bits: 64, step: 1, strips: false, place };
        };
        let windows = self.gradient.image[1];
        let bits = windows.next_multiple_of(32);
        match self.column() {
            Some(column) => {
                Chunk { windows, kernel, bits, step: kernel[1], strips: true, place: self.g.strides[1] * column * 4 }
            }
            None => Chunk { windows, kernel, bits, step: kernel[0] * kernel[1], strips: false, place },
        }
    }

    /// Where patches of neighbouring positions can overlap, as a strip of columns of the input, each of so many floats, in which a
    /// patch is a piece: the floats (ci, ky) of a column, padded to whole vectors, where a patch takes no more of them so. The taps
    /// of the sums then lie as (kx, ci, ky).
    pub(crate) fn column(&self) -> Option<usize> {
        let (g, pool) = (&self.g, self.pool.as_ref()?);
        let column = (g.channels * g.kernel[0]).next_multiple_of(LANES);
        // The strip of a row of taps must end where that of the next one begins.
        let bits = self.gradient.image[1].next_multiple_of(32);
        let fits = self.columns() <= (bits + 1) * pool.kernel[1] * g.strides[1];
        let same = g.kernel[1] * column == g.taps().next_multiple_of(LANES) && column <= 4 * LANES;
        (same && fits && g.dilations[1] == 1).then_some(column)
    }

    /// Columns of a strip, by fours.
    pub(crate) fn columns(&self) -> usize {
        ((self.g.output[1] - 1) * self.g.strides[1] + self.g.kernel[1]).next_multiple_of(4)
    }

    /// Bytes of a patch, and of the sums of an output.
    pub(crate) fn row(&self) -> usize {
        self.g.taps().next_multiple_of(LANES) * 4
    }

    /// Bytes of a sample's sums: f32 `o·row + tap`, taps in (ci, ky, kx) order, the rows padded; see [`PatchGrad::column`].
    pub fn sums(&self) -> usize {
        self.g.outputs * self.row()
    }

    /// Bytes of the patches of a chunk.
    pub(crate) fn patches(&self) -> usize {
        let (chunk, column) = (self.chunk(), self.column().unwrap_or(0) * 4);
        // The last strip ends with its last patch, or what is written by fours.
        (chunk.places() * chunk.place + (self.g.kernel[1] + 3) * column + SLACK).next_multiple_of(64)
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
        [masks, totals, lanes, lanes + chunk.places() * 16]
    }

    /// Bytes that the kernel needs besides the sums.
    pub fn work_bytes(&self) -> usize {
        self.work()[3]
    }
}
