//! What the gradient of a convolution's weights requires.

use super::winograd::TAPS;
use super::winograd_weights::Pairs;
use super::{COLUMNS, GradientLayout, Operands, ROWS_MULTIPLE, border};
use crate::graph::ops::Geometry;
use crate::lower::train::layouts::{Maps, Planes, Strips};

/// Tasks that a product is divided into where it has the rows.
const TASKS: usize = 16;
/// Rows times positions of a sample below which a task waits for memory more than it computes.
const LEAST: usize = 1024;

/// A product for the gradient of the weights.
pub struct WeightGrad {
    /// The convolution's input: i16 or u8 with its strides as phases, or f32 with one phase. The border may be enlarged.
    pub input: Planes,
    /// The output's gradient. The pitch of maps may be enlarged.
    pub gradient: GradientLayout,
    pub(crate) g: Geometry,
    pub(crate) operands: Operands,
    /// Both operands as minimal filtering wants them, where that gains. Levels of the machine without it take the layouts above.
    pub(crate) pairs: Option<Pairs>,
}

impl WeightGrad {
    /// The product of the convolution `g`; `a` are the activations' levels.
    ///
    /// # Errors
    /// When the sums of a sample may not fit i32 or an operand 31 bits of address.
    pub fn new(g: &Geometry, operands: Operands) -> Result<WeightGrad, String> {
        operands.check(g.output[0] * g.output[1])?;
        let operands = narrowed(g, operands);
        let (phases, element) = if operands.integer() { (g.strides, operands.storage().size()) } else { ([1; 2], 4) };
        let input = Planes::new(g.channels, g.input, border(g), phases, element)?;
        let gradient = if operands.integer() {
            GradientLayout::Strips(Strips::new(g.outputs, g.groups, g.output, element)?)
        } else {
            GradientLayout::Maps(Maps::new(g.outputs, g.groups, g.output)?)
        };
        Ok(WeightGrad { input, gradient, g: g.clone(), operands, pairs: Pairs::new(g, operands) })
    }

    /// Groups of the convolution.
    pub fn groups(&self) -> usize {
        self.g.groups
    }

    /// Taps of an output.
    pub fn rows(&self) -> usize {
        self.g.taps()
    }

    pub(crate) fn blocks(&self) -> usize {
        (self.g.outputs / self.g.groups).div_ceil(COLUMNS)
    }

    /// Tasks of a block of columns, and their rows, the last task's padded.
    pub(crate) fn chunks(&self) -> [usize; 2] {
        let work = self.rows() * self.g.output[0] * self.g.output[1];
        let wanted = TASKS.div_ceil(self.g.groups * self.blocks()).min(work.div_ceil(LEAST)).max(1);
        let multiple = if self.pairs.is_some() { TAPS * ROWS_MULTIPLE } else { ROWS_MULTIPLE };
        let rows = self.rows().div_ceil(wanted).next_multiple_of(multiple);
        [self.rows().div_ceil(rows), rows]
    }

    /// Whether some machines make the gradient a few rows over all samples at a time, each a whole number of lines of the
    /// weights' order.
    pub fn in_lines(&self) -> bool {
        let [chunks, rows] = self.chunks();
        let whole = self.rows().is_multiple_of(COLUMNS) && (chunks == 1 || rows.is_multiple_of(COLUMNS));
        self.operands.integer() && self.g.output == [1, 1] && whole
    }

    /// Independent tasks, each over all samples.
    pub fn tasks(&self) -> usize {
        self.g.groups * self.blocks() * self.chunks()[0]
    }

    /// Bytes of a sample of both operands where they are this product's own: in which layout they lie depends on the machine.
    pub fn own_operands(&self) -> Option<[usize; 2]> {
        let pairs = self.pairs.as_ref()?;
        Some([self.input.bytes().max(pairs.input_bytes()), self.gradient.bytes().max(pairs.gradient_bytes())])
    }

    /// Bytes of the sums of all tasks: f32 `((group·blocks + o/16)·rows + row)·16 + o % 16`, the rows padded.
    pub fn scratch_bytes(&self) -> usize {
        self.tasks() * self.chunks()[1] * COLUMNS * 4
    }
}

/// Bytes only where they serve: a bias is not taken off here, and a step of two levels may be the whole reduction.
fn narrowed(g: &Geometry, operands: Operands) -> Operands {
    match operands {
        Operands::Levels { a, b, bytes } => {
            let steps = g.output[0] * g.output[1].div_ceil(2);
            Operands::Levels { a, b, bytes: bytes && a.least >= 0 && steps > 1 }
        }
        Operands::Float => operands,
    }
}
