//! The sum of magnitudes in four lanes: one chain of additions a lane, as long as a parameter. It waits for memory only if what it
//! reads is asked for ahead by instructions that do not wait themselves, which Cranelift has none of. Any x86-64 level. Reference:
//! `train::reduce`.
//!
//! Bound: four additions one after another a line.

use super::{leaf_sse, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use crate::lower::LINE;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Bytes that are asked for ahead.
const AHEAD: i32 = 2048;

/// The function `(from, lines, sums)`: adds the magnitudes of so many lines, at least one, to the four sums.
///
/// # Errors
/// When it cannot be assembled.
pub fn sum_abs(image: &mut Image) -> Result<FunctionId, CodegenError> {
    tile(image, "tile.sum_abs", assemble)
}

pub(super) fn assemble(a: &mut CodeAssembler) -> Result<(), IcedError> {
    leaf_sse(a, &[], |a| {
        a.movups(xmm0, xmmword_ptr(rdx))?;
        a.pcmpeqd(xmm1, xmm1)?;
        a.psrld(xmm1, 1)?;
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.prefetcht0(byte_ptr(rdi + AHEAD))?;
        for at in (0..LINE as i32).step_by(16) {
            a.movups(xmm2, xmmword_ptr(rdi + at))?;
            a.andps(xmm2, xmm1)?;
            a.addps(xmm0, xmm2)?;
        }
        a.add(rdi, LINE as i32)?;
        a.dec(rsi)?;
        a.jnz(again)?;
        a.movups(xmmword_ptr(rdx), xmm0)
    })
}
