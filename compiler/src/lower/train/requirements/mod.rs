//! What the products of the training step require of lowering: the layouts of their operands, the sizes of their buffers
//! and how they are divided into tasks. The same types emit the kernels, in `codegen::products`; here they are arithmetic
//! that must never know an instruction set.

mod forward;
mod input_grad;
mod packing;
pub mod patch_grad;
mod weight_grad;
pub(crate) mod winograd;
pub(crate) mod winograd_squares;
pub(crate) mod winograd_weights;

pub use forward::Forward;
pub use input_grad::InputGrad;
pub use packing::Packing;
pub use patch_grad::PatchGrad;
pub use weight_grad::WeightGrad;

use super::layouts::{Levels, Maps, Planes, Range, Storage, Strips};
use crate::graph::ops::Geometry;

/// Columns of a tile.
pub const COLUMNS: usize = 16;

/// What the number of rows of every tile divides.
pub const ROWS_MULTIPLE: usize = 24;

/// Rows of a task after which the idle rows of its last tile do not matter.
pub(crate) const FULL_ROWS: usize = 100;

/// What a product multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operands {
    /// Floats, in one chain an output.
    Float,
    /// Levels; the sums are exact i32.
    Levels {
        /// The activations' or gradients' levels that the product's rows read.
        a: Range,
        /// The other operand's levels.
        b: Range,
        /// Multiply bytes, which [`bytes_suffice`] must allow; else i16.
        bytes: bool,
    },
}

/// Whether levels may be multiplied as bytes, those of `a` plus a bias unsigned and those of `b` signed: each must fit, and
/// so must the sum of two products fit i16, for an instruction that adds two there. The machine has no say, as all code of
/// an image shares one layout.
pub fn bytes_suffice(a: Range, b: Range) -> bool {
    pair_of_bytes(a, b).is_some_and(|sum| sum < 1 << 15)
}

/// The greatest sum of two products of bytes, in magnitude.
fn pair_of_bytes(a: Range, b: Range) -> Option<i64> {
    let most = i64::from(a.greatest) + i64::from(Storage::bytes(a)?.bias());
    let signed = i8::try_from(b.least).is_ok() && i8::try_from(b.greatest).is_ok();
    signed.then_some(2 * most * i64::from(b.magnitude()))
}

impl Operands {
    /// Refuses levels whose sum of `terms` products could leave i32, or that are no i16, or no bytes where they should be.
    pub(crate) fn check(self, terms: usize) -> Result<(), String> {
        let Operands::Levels { a, b, bytes } = self else { return Ok(()) };
        if bytes && !bytes_suffice(a, b) {
            return Err(format!("levels {a:?} and {b:?} are not multiplied as bytes"));
        }
        // A sum of biased levels is exact modulo 2³², and so is what is left when the bias is taken off.
        let (a, b) = (a.magnitude(), b.magnitude());
        let bound = u64::from(a).checked_mul(u64::from(b)).and_then(|p| p.checked_mul(terms as u64));
        if a.max(b) < 1 << 15 && bound.is_some_and(|s| s < 1 << 31) {
            return Ok(());
        }
        Err(format!(
            "a sum of {terms} products of levels up to {a} and {b} does not fit 32 bits; use fewer bits, or 32 for float"
        ))
    }

    /// Whether no sum of so many products leaves i16.
    pub(crate) fn sums_are_words(self, terms: usize) -> bool {
        let Operands::Levels { a, b, .. } = self else { return false };
        let product = u64::from(a.magnitude()) * u64::from(b.magnitude());
        product.checked_mul(terms as u64).is_some_and(|sum| sum < 1 << 15)
    }

    pub(crate) fn integer(self) -> bool {
        self != Operands::Float
    }

    /// How the levels that rows read lie in memory; no matter for floats.
    pub(crate) fn storage(self) -> Storage {
        match self {
            Operands::Levels { a, bytes: true, .. } => Storage::bytes(a).unwrap_or(Storage::Words),
            _ => Storage::Words,
        }
    }

    /// Elements of the reduction that a step takes.
    pub(crate) fn together(self) -> usize {
        if self.integer() { self.storage().together() } else { 1 }
    }

    /// Steps of bytes whose sums of two products are sure to add up to an i16.
    pub(crate) fn narrow_steps(self) -> usize {
        match self {
            Operands::Levels { a, b, bytes: true } => {
                pair_of_bytes(a, b).map_or(0, |sum| i64::from(i16::MAX) / sum.max(1)) as usize
            }
            _ => 0,
        }
    }

    /// Whether a sum starts at what the bias of its rows' levels adds to it, negated.
    pub(crate) fn biased(self) -> bool {
        self.storage().bias() != 0
    }
}

/// The layout of the operand that a product's rows read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputLayout {
    /// Of levels.
    Levels(Levels),
    /// Of floats; one phase.
    Planes(Planes),
}

impl InputLayout {
    /// Bytes of a sample.
    pub fn bytes(&self) -> usize {
        match self {
            InputLayout::Levels(l) => l.bytes(),
            InputLayout::Planes(p) => p.bytes(),
        }
    }

    pub(crate) fn new(
        operands: Operands,
        channels: usize,
        groups: usize,
        image: [usize; 2],
        border: [usize; 4],
    ) -> Result<InputLayout, String> {
        Ok(if operands.integer() {
            InputLayout::Levels(Levels::new(channels, groups, image, border, operands.storage())?)
        } else {
            InputLayout::Planes(Planes::new(channels, image, border, [1; 2], 4)?)
        })
    }

    /// Bytes from one column, row to the next, and to the position (0, 0) of the image.
    pub(crate) fn steps(&self) -> ([usize; 2], usize) {
        match self {
            InputLayout::Levels(l) => ([l.row(), l.pixel()], l.origin()),
            InputLayout::Planes(p) => ([p.row(), p.element], p.offset(p.border[0], p.border[1])),
        }
    }

    /// Bytes behind a position's channels that are known to be zero.
    pub(crate) fn zeros(&self) -> usize {
        match self {
            InputLayout::Levels(l) => l.zeros(),
            InputLayout::Planes(_) => 0,
        }
    }

    /// Bytes behind the last position that may be read.
    pub(crate) fn behind(&self) -> usize {
        match self {
            InputLayout::Levels(l) => l.behind(),
            InputLayout::Planes(_) => 0,
        }
    }

    /// Bytes from one group's first channel to the next group's.
    pub(crate) fn group(&self, channels: usize) -> usize {
        match self {
            InputLayout::Levels(l) => channels.next_multiple_of(l.storage.together()) * l.storage.size(),
            InputLayout::Planes(p) => channels * p.plane(),
        }
    }
}

/// The layout of the gradient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GradientLayout {
    /// Of levels.
    Strips(Strips),
    /// Of floats.
    Maps(Maps),
}

impl GradientLayout {
    /// Bytes of a sample.
    pub fn bytes(&self) -> usize {
        match self {
            GradientLayout::Strips(p) => p.bytes(),
            GradientLayout::Maps(m) => m.bytes(),
        }
    }
}

/// Whether columns of different groups never meet in a block of 16, so that blocks may go to different tasks.
pub(crate) fn separable(groups: usize, columns: usize) -> bool {
    groups == 1 || columns.is_multiple_of(COLUMNS)
}

/// Top, left, bottom and right, as far as windows read beyond the input.
pub(crate) fn border(g: &Geometry) -> [usize; 4] {
    let behind = |i: usize| {
        let reach = (g.output[i] - 1) * g.strides[i] + (g.kernel[i] - 1) * g.dilations[i] + 1;
        reach.saturating_sub(g.pads[i] + g.input[i])
    };
    [g.pads[0], g.pads[1], behind(0), behind(1)]
}

/// Channels and outputs of a group.
pub(crate) fn group_sizes(g: &Geometry) -> [usize; 2] {
    [g.channels / g.groups, g.outputs / g.groups]
}
