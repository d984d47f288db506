//! Codes of at most 2 bits that are bytes, channels innermost, as bytes of four channels, two bits a channel: what chooses a table of
//! `pack::paired_tables`; and the sum of each position's codes. Reference: the products by bytes. Cost: 9 instructions for 8
//! channels. Needs BMI2 and POPCNT.

use super::{leaf_sse, repeat, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// What the function is specialised to.
#[derive(Clone, Copy, Debug)]
pub struct QuadsOfBytes {
    /// Channels of a position, a multiple of 8.
    pub channels: usize,
    /// Bytes from a position to the next.
    pub pixel: usize,
}

/// Steps of 8 channels that are written out.
const UNROLL: usize = 8;
/// The bits of a code in each byte.
const CODES: AsmRegister64 = r8;
const SUM: AsmRegister64 = r9;

impl QuadsOfBytes {
    /// The function `(codes, positions, to, sums)`: `to` takes channels / 4 bytes a position, `sums` a u16.
    ///
    /// # Errors
    /// When a distance does not fit an instruction.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let QuadsOfBytes { channels, pixel } = self;
        if pixel >= 1 << 30 || channels >= 1 << 24 {
            return Err(CodegenError::TooLarge(format!("codes of {channels} channels")));
        }
        tile(image, &format!("tile.quads.{channels}.{pixel}"), |a| self.assemble(a))
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        leaf_sse(a, &[], |a| {
            let mut next = a.create_label();
            a.mov(CODES, 0x0303_0303_0303_0303_u64)?;
            a.set_label(&mut next)?;
            a.xor(r9d, r9d)?;
            let steps = self.channels / 8;
            repeat(a, r10d, steps / UNROLL, |a| self.steps(a, UNROLL))?;
            self.steps(a, steps % UNROLL)?;
            a.mov(word_ptr(rcx), r9w)?;
            a.add(rcx, 2)?;
            a.add(rdi, (self.pixel - self.channels) as i32)?;
            a.dec(rsi)?;
            a.jnz(next)
        })
    }

    fn steps(self, a: &mut CodeAssembler, count: usize) -> Result<(), IcedError> {
        for step in 0..count {
            a.mov(rax, qword_ptr(rdi + 8 * step))?;
            a.pext(rax, rax, CODES)?;
            a.mov(word_ptr(rdx + 2 * step), ax)?;
            a.popcnt(r11, rax)?;
            a.add(SUM, r11)?;
            a.and(eax, 0xAAAA)?;
            a.popcnt(r11, rax)?;
            a.add(SUM, r11)?;
        }
        if count > 0 {
            a.add(rdi, 8 * count as i32)?;
            a.add(rdx, 2 * count as i32)?;
        }
        Ok(())
    }
}
