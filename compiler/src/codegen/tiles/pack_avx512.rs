//! Bytes of codes to bit planes: neighbouring positions, 64 channels at a time; the inverse of `unpack_avx512`. Reference:
//! `kernels::store`. Needs AVX-512 BW. Cost: 3 instructions for each plane of 64 channels.

use super::{repeat, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// What the function is specialised to; distances in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Pack {
    /// Words of 64 channels of a position.
    pub words: usize,
    /// Planes: 1 to 8.
    pub planes: usize,
    /// From one plane to the next, and from one position's planes to the next.
    pub to: [usize; 2],
}

/// A vector for each plane, all of whose bytes have its bit, behind the codes.
const BITS: [AsmRegisterZmm; 8] = [zmm1, zmm2, zmm3, zmm4, zmm5, zmm6, zmm7, zmm16];
/// Planes are made in turn in masks of their own, so that none waits for another.
const MASKS: [AsmRegisterK; 4] = [k1, k2, k3, k4];

impl Pack {
    /// The function `(bytes, planes, positions)`, of at least one position.
    ///
    /// # Errors
    /// When a distance does not fit an instruction.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let Pack { words, planes, to } = self;
        if (words * 64).max(to[0] * planes).max(to[1]) >= 1 << 30 {
            return Err(CodegenError::TooLarge(format!("a position of {words} words")));
        }
        tile(image, &format!("tile.pack.avx512.{words}x{planes}.{to:?}"), |a| self.assemble(a))
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        for (q, register) in BITS.into_iter().enumerate().take(self.planes) {
            a.mov(eax, u32::from_le_bytes([1 << q; 4]))?;
            a.vpbroadcastd(register, eax)?;
        }
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.mov(r8, rsi)?;
        repeat(a, ecx, self.words, |a| {
            a.vmovdqu64(zmm0, zmmword_ptr(rdi))?;
            for (q, bits) in BITS.into_iter().enumerate().take(self.planes) {
                let mask = MASKS[q % MASKS.len()];
                a.vptestmb(mask, zmm0, bits)?;
                a.kmovq(qword_ptr(r8 + (q * self.to[0]) as i32), mask)?;
            }
            a.add(rdi, 64)?;
            a.add(r8, 8)
        })?;
        a.add(rsi, self.to[1] as i32)?;
        a.dec(rdx)?;
        a.jnz(again)?;
        a.vzeroupper()?;
        a.ret()
    }
}
