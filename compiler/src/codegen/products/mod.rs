//! The convolution products of the training step, where both operands are known only at run time: forward, gradient of
//! the input and gradient of the weights, each of levels (i16 or bytes, exact in i32) or of floats (one chain an output).
//!
//! All of them run one micro-kernel ([`tile`]). A product says which layouts it reads and writes, and emits its work on
//! base addresses; it must never know steps, arenas or who calls it.

mod forward;
mod input_grad;
mod pack;
mod patch_clif;
mod patch_grad;
#[cfg(test)]
mod reference;
pub mod relayout;
mod rows;
#[cfg(test)]
mod speed;
#[cfg(test)]
pub(in crate::codegen) mod testing;
#[cfg(test)]
mod tests;
mod tile;
mod tile_clif;
mod weight_grad;

pub use forward::Forward;
pub use input_grad::InputGrad;
pub use relayout::{emit_planes_from_dense, emit_planes_from_levels, emit_planes_from_maps, emit_strips_from_levels};
pub use tile::{Arithmetic, Finish, Loop, Tile};
pub use weight_grad::{GradientLayout, WeightGrad};

use super::emitter::Emitter;
use crate::graph::ops::Geometry;
use crate::lower::train::layouts::{Levels, Planes, Range, Storage};
use cranelift_codegen::ir::{InstBuilder, Value};

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
    let Some(storage) = Storage::bytes(a) else { return false };
    let most = i64::from(a.greatest) + i64::from(storage.bias());
    i8::try_from(b.least).is_ok() && i8::try_from(b.greatest).is_ok() && 2 * most * i64::from(b.magnitude()) < 1 << 15
}

impl Operands {
    /// Refuses levels whose sum of `terms` products could leave i32, or that are no i16, or no bytes where they should be.
    fn check(self, terms: usize) -> Result<(), String> {
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

    fn integer(self) -> bool {
        self != Operands::Float
    }

    /// How the levels that rows read lie in memory; no matter for floats.
    fn storage(self) -> Storage {
        match self {
            Operands::Levels { a, bytes: true, .. } => Storage::bytes(a).unwrap_or(Storage::Words),
            _ => Storage::Words,
        }
    }

    /// Elements of the reduction that a step takes.
    fn together(self) -> usize {
        if self.integer() { self.storage().together() } else { 1 }
    }

    /// How a tile combines them in `e`'s numeric profile.
    fn arithmetic(self, e: &Emitter<'_, '_>) -> Arithmetic {
        match self {
            Operands::Levels { bytes: true, .. } => Arithmetic::Quads,
            Operands::Levels { .. } => Arithmetic::Pairs,
            Operands::Float if e.fma => Arithmetic::Fma,
            Operands::Float => Arithmetic::MulAdd,
        }
    }

    /// Whether a sum starts at what the bias of its rows' levels adds to it, negated.
    fn biased(self) -> bool {
        self.storage().bias() != 0
    }
}

/// A buffer with a part for each sample.
#[derive(Clone, Copy)]
pub struct Samples {
    /// Address of sample 0's part.
    pub base: Value,
    /// Bytes from one sample's part to the next; 64 bits, run-time.
    pub stride: Value,
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

    fn new(
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
    fn steps(&self) -> ([usize; 2], usize) {
        match self {
            InputLayout::Levels(l) => ([l.row(), l.pixel()], l.origin()),
            InputLayout::Planes(p) => ([p.row(), p.element], p.offset(p.border[0], p.border[1])),
        }
    }

    /// Bytes from one group's first channel to the next group's.
    fn group(&self, channels: usize) -> usize {
        match self {
            InputLayout::Levels(l) => channels.next_multiple_of(l.storage.together()) * l.storage.size(),
            InputLayout::Planes(p) => channels * p.plane(),
        }
    }

    /// The reduction over a group's channels and the taps, `taps` its loops over rows and columns: channels are innermost
    /// for levels, outermost for floats, as the chain's order demands.
    fn loops(&self, channels: usize, taps: [Loop; 2]) -> [Loop; 3] {
        match self {
            InputLayout::Levels(l) => {
                let count = channels.div_ceil(l.storage.together());
                [taps[0], taps[1], Loop { count, stride: 4 }]
            }
            InputLayout::Planes(p) => [Loop { count: channels, stride: p.plane() as i64 }, taps[0], taps[1]],
        }
    }
}

/// Rows of a task after which the idle rows of its last tile do not matter.
const FULL_ROWS: usize = 100;

/// [first, end) of `part` where 0 … total − 1 is shared among `parts`.
pub fn share(e: &mut Emitter<'_, '_>, part: Value, parts: usize, total: usize) -> [Value; 2] {
    if parts <= 1 {
        return [e.int(0), e.int(total)];
    }
    let bound = |e: &mut Emitter<'_, '_>, part: Value| {
        let (all, parts) = (e.mul(part, total), e.int(parts));
        e.b.ins().udiv(all, parts)
    };
    let next = e.add(part, 1);
    [bound(e, part), bound(e, next)]
}

/// Whether columns of different groups never meet in a block of 16, so that blocks may go to different tasks.
fn separable(groups: usize, columns: usize) -> bool {
    groups == 1 || columns.is_multiple_of(tile::COLUMNS)
}

/// Channels and outputs of a group.
fn group_sizes(g: &Geometry) -> [usize; 2] {
    [g.channels / g.groups, g.outputs / g.groups]
}

/// A unit's group, and its block within the group.
fn unit_parts(e: &mut Emitter<'_, '_>, unit: Value, blocks: usize) -> [Value; 2] {
    if blocks == 1 {
        return [unit, e.int(0)];
    }
    let blocks = e.int(blocks);
    let group = e.b.ins().udiv(unit, blocks);
    [group, e.b.ins().urem(unit, blocks)]
}
