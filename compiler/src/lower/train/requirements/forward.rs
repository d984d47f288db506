//! What a forward product requires.

use super::{FULL_ROWS, InputLayout, Operands, Packing, border};
use crate::graph::ops::Geometry;
use crate::lower::train::layouts::Maps;

/// A forward product.
pub struct Forward {
    /// What it reads. The border may be enlarged.
    pub input: InputLayout,
    /// What it writes: f32, or accumulators, as i16 where they fit and there are enough of them for their bytes to matter. The pitch
    /// may be enlarged.
    pub output: Maps,
    pub(crate) g: Geometry,
    pub(crate) operands: Operands,
    pub(crate) bias: bool,
    /// Whether the weights are −1 and 1 alone.
    pub(crate) signs: bool,
    taps: [Vec<usize>; 1],
}

impl Forward {
    /// The product of the convolution `g`.
    ///
    /// # Errors
    /// When the sums may not fit i32 or an operand 31 bits of address.
    pub fn new(g: &Geometry, operands: Operands) -> Result<Forward, String> {
        operands.check(g.taps())?;
        let input = InputLayout::new(operands, g.channels, g.groups, g.input, border(g))?;
        let words = operands.sums_are_words(g.taps()) && !few(g);
        let output = Maps::new(g.outputs, g.groups, g.output)?.words(words);
        Ok(Forward {
            input,
            output,
            g: g.clone(),
            operands,
            bias: false,
            signs: false,
            taps: [(0..g.kernel[0] * g.kernel[1]).collect()],
        })
    }

    /// The same that adds a bias, one an output, last; only of floats.
    ///
    /// # Errors
    /// When the operands are levels.
    pub fn biased(self, bias: bool) -> Result<Forward, String> {
        if bias && self.operands.integer() {
            return Err("a product of levels has no bias".to_owned());
        }
        Ok(Forward { bias, ..self })
    }

    /// The same whose weights are −1 and 1 alone, if `signs`.
    pub fn of_signs(self, signs: bool) -> Forward {
        Forward { signs, ..self }
    }

    /// Its packed weights, whose units tasks may share.
    pub fn packing(&self) -> Packing<'_> {
        Packing {
            g: &self.g,
            operands: self.operands,
            transposed: false,
            sequences: &self.taps,
            bias: self.bias,
            filtered: false,
            squares: None,
        }
    }

    /// Whether tasks should take all samples and some of the units, because a sample has few rows.
    pub fn over_batch(&self) -> bool {
        few(&self.g)
    }

    /// Samples that a task should take so that few rows of its last tile are idle.
    pub fn samples_per_task(&self) -> usize {
        FULL_ROWS.div_ceil(self.g.output[0] * self.g.output[1])
    }
}

/// Whether a sample has few rows.
fn few(g: &Geometry) -> bool {
    g.output[0] * g.output[1] <= 8
}
