//! The convolution products of the training step, where both operands are known only at run time: forward, gradient of
//! the input and gradient of the weights, each of levels (i16 or bytes, exact in i32) or of floats (one chain an output).
//!
//! All but the gradient by patches run one micro-kernel ([`tile`]). Which layouts a product reads and writes and how it is
//! divided is said in `lower::train::requirements`; here it emits its work on base addresses. It must never know steps,
//! arenas or who calls it.

mod amx;
mod forward;
mod input_grad;
mod look_up;
mod look_up_rows;
mod looked;
mod outer;
mod pack;
mod patch_clif;
mod patch_grad;
mod patch_walk;
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
#[cfg(test)]
mod tests_amx;
#[cfg(test)]
mod tests_limits;
#[cfg(test)]
mod tests_look_up;
#[cfg(test)]
mod tests_narrow;
#[cfg(test)]
mod tests_outer;
#[cfg(test)]
mod tests_pack;
#[cfg(test)]
mod tests_patches;
#[cfg(test)]
mod tests_winograd;
#[cfg(test)]
mod tests_winograd_squares;
#[cfg(test)]
mod tests_winograd_weights;
mod tile;
mod tile_clif;
mod weight_amx;
mod weight_grad;
mod weight_order;
mod winograd;
mod winograd_squares;
mod winograd_weights;

pub use outer::{Finished, GATHERED, Take};
pub use patch_grad::PatchOperands;
pub use relayout::{emit_planes_from_dense, emit_planes_from_levels, emit_planes_from_maps, emit_strips_from_levels};
pub use tile::{Arithmetic, COLUMNS, Finish, Loop, Tile, Units, Winograd};
pub use weight_order::transpose_near;

pub(crate) use crate::lower::train::requirements::group_sizes;
pub use crate::lower::train::requirements::{
    Forward, GradientLayout, InputGrad, InputLayout, Operands, WeightGrad, bytes_suffice,
};

use super::CodegenError;
use super::emitter::Emitter;
use super::tiles::amx as amx_tiles;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value};

impl Operands {
    /// How a tile combines them in `e`'s numeric profile.
    fn arithmetic(self, e: &Emitter<'_, '_>) -> Arithmetic {
        match self {
            Operands::Levels { bytes: true, .. } => Arithmetic::Quads,
            Operands::Levels { .. } => Arithmetic::Pairs,
            Operands::Float if e.fma => Arithmetic::Fma,
            Operands::Float => Arithmetic::MulAdd,
        }
    }
}

impl InputLayout {
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

/// A buffer with a part for each sample.
#[derive(Clone, Copy)]
pub struct Samples {
    /// Address of sample 0's part.
    pub base: Value,
    /// Bytes from one sample's part to the next; 64 bits, run-time.
    pub stride: Value,
}

impl Samples {
    /// The address `offset` bytes into the part of sample `n`.
    fn at(self, e: &mut Emitter<'_, '_>, n: Value, offset: Value) -> Value {
        let at = e.b.ins().imul(n, self.stride);
        let at = e.b.ins().iadd(self.base, at);
        e.b.ins().iadd(at, offset)
    }
}

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

/// `body`, which uses the tile registers of AMX if `tiled`.
fn within_tiles(
    e: &mut Emitter<'_, '_>,
    tiled: bool,
    body: impl FnOnce(&mut Emitter<'_, '_>),
) -> Result<(), CodegenError> {
    let body = |e: &mut Emitter<'_, '_>| {
        body(e);
        Ok(())
    };
    if tiled { amx_tiles::with_tiles(e, |e| e, body) } else { body(e) }
}

/// Calls `body` with the units of a range, `several` at a time where there is a tile for so many, which it is told, and the rest
/// one at a time. Those at a time begin at a multiple of their number, so that they are of one group where it divides the blocks
/// of a group.
fn each_unit(
    e: &mut Emitter<'_, '_>,
    [first, end]: [Value; 2],
    several: Option<usize>,
    body: impl Fn(&mut Emitter<'_, '_>, Value, bool),
) {
    let Some(several) = several else { return e.range(first, end, 1, |e, unit| body(e, unit, false)) };
    let (one, together) = (e.int(1), e.int(several));
    e.walk(first, end, |e, unit| {
        let (behind, next) = (e.b.ins().urem(unit, together), e.add(unit, several));
        let aligned = e.b.ins().icmp_imm_s(IntCC::Equal, behind, 0);
        let inside = e.b.ins().icmp(IntCC::SignedLessThanOrEqual, next, end);
        let whole = e.b.ins().band(aligned, inside);
        e.branch(whole, |e| body(e, unit, true), |e| body(e, unit, false));
        e.b.ins().select(whole, together, one)
    });
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
