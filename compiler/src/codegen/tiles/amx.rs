//! What every kernel on AMX shares: the shape of the tile registers, which a task sets before its first tile instruction and
//! gives back after its last. All eight hold 16 rows of 64 bytes: rows that a product does not need cost nothing more, and
//! columns that hold zeros change no sum.
//!
//! Must never know what is multiplied.

use super::tile;
use crate::codegen::CodegenError;
use crate::codegen::emitter::Emitter;
use crate::codegen::image::{FunctionId, Image};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Rows of a tile register.
pub const ROWS: usize = 16;
/// Bytes of a row: 16 sums of 32 bits, 64 elements of A, or four of each of 16 columns of B.
pub const ROW: usize = 64;
/// The tile registers.
pub(super) const REGISTERS: [AsmRegisterTmm; 8] = [tmm0, tmm1, tmm2, tmm3, tmm4, tmm5, tmm6, tmm7];

/// The operand of `ldtilecfg`: palette 1, then 16-bit bytes a row from byte 16 on, rows from byte 48 on.
fn configuration() -> Vec<u8> {
    let mut bytes = vec![0u8; 64];
    bytes[0] = 1;
    for i in 0..REGISTERS.len() {
        bytes[16 + 2 * i] = ROW as u8;
        bytes[48 + i] = ROWS as u8;
    }
    bytes
}

/// `body` between setting the tile registers' shape and giving them back; nothing else in a task may do that.
///
/// # Errors
/// What `body` fails with, or the code generator.
pub fn with_tiles<E>(
    e: &mut Emitter<'_, '_>,
    failed: impl Fn(CodegenError) -> E,
    body: impl FnOnce(&mut Emitter<'_, '_>) -> Result<(), E>,
) -> Result<(), E> {
    let shape = e.data("amx_tiles", configuration());
    let [begin, end] = [configure(e.image), release(e.image)].map(|f| f.map_err(&failed));
    let (begin, end) = (begin?, end?);
    e.call(begin, &[shape]);
    body(e)?;
    e.call(end, &[]);
    Ok(())
}

/// The function `(configuration)`.
fn configure(image: &mut Image) -> Result<FunctionId, CodegenError> {
    tile(image, "tile.amx.configure", begin)
}

/// The function `()`.
fn release(image: &mut Image) -> Result<FunctionId, CodegenError> {
    tile(image, "tile.amx.release", finish)
}

fn begin(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.ldtilecfg(zmmword_ptr(rdi))?;
    a.ret()
}

fn finish(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.tilerelease()?;
    a.ret()
}
