//! Asks for lines of memory before they are read: pieces of rows that lie far apart, which no prefetcher of the machine follows.
//! Any level with SSE. Must never know what lies there.

use super::{leaf_sse, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// The function `(at, apart, lines, rows)`: so many lines, at least one, of each of so many rows, `apart` bytes from each other, come
/// to the second cache.
///
/// # Errors
/// When it cannot be assembled.
pub fn ahead(image: &mut Image) -> Result<FunctionId, CodegenError> {
    tile(image, "tile.ahead", assemble)
}

pub(super) fn assemble(a: &mut CodeAssembler) -> Result<(), IcedError> {
    leaf_sse(a, &[], |a| {
        let (mut row, mut line, mut end) = (a.create_label(), a.create_label(), a.create_label());
        a.test(rcx, rcx)?;
        a.jz(end)?;
        a.set_label(&mut row)?;
        a.mov(rax, rdi)?;
        a.mov(r8, rdx)?;
        a.set_label(&mut line)?;
        a.prefetcht1(byte_ptr(rax))?;
        a.add(rax, 64)?;
        a.dec(r8)?;
        a.jnz(line)?;
        a.add(rdi, rsi)?;
        a.dec(rcx)?;
        a.jnz(row)?;
        a.set_label(&mut end)
    })
}
