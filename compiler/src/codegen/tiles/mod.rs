//! Wide tiles: leaf functions of 256-bit and 512-bit instructions, which Cranelift cannot emit, assembled and put into the same image;
//! and of 128-bit ones where Cranelift's loop costs twice as much. A tile computes what a kernel's 128-bit inner loop computes, from
//! the same packed weights, to the same bits.
//!
//! A tile follows the System V convention and touches volatile registers only, or saves them. One function serves every
//! step and level with the same shape. Must never know the graph.

pub mod ahead;
pub mod amx;
pub mod amx_conv;
mod amx_digits;
mod float_avx2;
mod float_avx512;
mod look_up_avx2;
pub mod look_up_avx512;
mod look_up_chosen;
mod look_up_codes;
mod look_up_codes_sse;
pub mod look_up_flat;
mod look_up_lanes;
mod look_up_quads;
pub mod look_up_rows;
mod look_up_sums;
pub mod nibbles_of_bytes;
pub mod outer_avx512;
pub mod pack_avx512;
pub mod pack_rows_avx512;
mod patch_grad;
pub mod patches;
mod popcount_avx512;
pub mod product;
pub mod product_amx;
mod product_avx2;
mod product_avx512;
pub mod quads_of_bytes;
pub mod split;
mod split_avx2;
mod split_by_output_avx2;
mod split_by_output_vnni;
pub mod split_bytes_avx2;
mod split_early;
mod split_early_avx2;
mod split_early_vnni;
mod split_pooled_vnni;
mod split_vnni;
pub mod split_winograd;
mod split_winograd_avx2;
pub mod split_winograd_rows;
mod split_winograd_vnni;
pub mod sum_abs;
mod tables_avx512;
#[cfg(test)]
pub(super) mod tests;
#[cfg(test)]
mod tests_split;
pub mod transpose_avx512;
pub mod unpack_avx512;
pub(super) mod vectors;
pub mod weight_amx;
pub mod winograd;
pub mod winograd_squares;
pub mod winograd_transforms;
pub mod winograd_weights;

pub use float_avx2::FloatShape;
pub use look_up_avx2::{CODES_ADDENDS, CODES_FRAME, CODES_RESIDUAL, LookUpCodes, LookUpShape, PAIR};
pub use look_up_lanes::Lanes;
pub use patch_grad::PatchTile;
pub use popcount_avx512::PopcountShape;
pub use split::{SplitFinish, SplitShape};
pub use tables_avx512::TablesShape;
pub use vectors::Width;
pub(super) use vectors::either;

use super::CodegenError;
use super::image::{FunctionId, Image};
use iced_x86::IcedError;
use iced_x86::code_asm::{AsmRegister32, AsmRegister64, CodeAssembler};

/// The tile of this name, assembled on first use.
pub(super) fn tile(
    image: &mut Image,
    name: &str,
    assemble: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Result<FunctionId, CodegenError> {
    image.function_once(name, |image, id| {
        let failed = |e: IcedError| CodegenError::Compile { name: name.to_owned(), detail: e.to_string() };
        let bytes = assembler(assemble).and_then(|mut a| a.assemble(0)).map_err(failed)?;
        image.define_bytes(id, bytes, Vec::new(), 32)
    })
}

pub(super) fn assembler(
    assemble: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Result<CodeAssembler, IcedError> {
    let mut a = CodeAssembler::new(64)?;
    // VEX forms only: an EVEX form would be illegal on AVX2 machines.
    a.set_prefer_vex(true);
    assemble(&mut a)?;
    Ok(a)
}

/// A leaf function: `body` between saving and restoring what the caller keeps, then the return.
pub(super) fn leaf(
    a: &mut CodeAssembler,
    saved: &[AsmRegister64],
    body: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Result<(), IcedError> {
    leaf_sse(a, saved, |a| {
        body(a)?;
        a.vzeroupper()
    })
}

/// A [`leaf`] that leaves the upper halves of vectors alone: a level without AVX has no `vzeroupper`.
pub(super) fn leaf_sse(
    a: &mut CodeAssembler,
    saved: &[AsmRegister64],
    body: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Result<(), IcedError> {
    for &r in saved {
        a.push(r)?;
    }
    body(a)?;
    for &r in saved.iter().rev() {
        a.pop(r)?;
    }
    a.ret()
}

/// `body`, `times` times, which may be none; `counter` is the loop's where there is one.
pub(super) fn repeat(
    a: &mut CodeAssembler,
    counter: AsmRegister32,
    times: usize,
    mut body: impl FnMut(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Result<(), IcedError> {
    match times {
        0 => return Ok(()),
        1 => return body(a),
        _ => a.mov(counter, times as u32)?,
    }
    let mut again = a.create_label();
    a.set_label(&mut again)?;
    body(a)?;
    a.dec(counter)?;
    a.jnz(again)
}
