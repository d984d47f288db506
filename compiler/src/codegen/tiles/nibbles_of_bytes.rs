//! Codes of one or two bits that are bytes, channels innermost, in the nibble layout, which `tables_avx512` reads: masks of 64
//! channels for each plane, spread to the nibbles of bytes. Reference: `kernels::operand`. Cost: 20 instructions for 64
//! channels of two planes. Needs AVX-512 BW and BMI2.

use super::{leaf, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// What the function is specialised to.
#[derive(Clone, Copy, Debug)]
pub struct NibblesOfBytes {
    /// Channels of a position; up to 64 bytes behind the last are read.
    pub channels: usize,
    /// Planes of the codes, 1 or 2.
    pub planes: usize,
    /// Bytes from a position to the next.
    pub pixel: usize,
}

/// Channels of a vector.
const VECTOR: usize = 64;
/// Bytes that they become.
const QUADS: usize = VECTOR / 4;
/// All bytes 1, all bytes 2.
const BITS: [AsmRegisterZmm; 2] = [zmm2, zmm3];
/// Where the bits of each plane go.
const NIBBLES: [AsmRegister64; 2] = [r8, r9];
/// The channels of the last vector.
const LAST: AsmRegister64 = r10;
const SPREAD: AsmRegister64 = rbx;

impl NibblesOfBytes {
    /// Bytes of a position's codes in the nibble layout, whole vectors.
    pub fn row(self) -> usize {
        self.channels.div_ceil(VECTOR) * QUADS
    }

    /// The function `(codes, positions, to)`, of at least one position; `to` takes [`NibblesOfBytes::row`] bytes a position, zeros
    /// behind the last channel.
    ///
    /// # Errors
    /// When a distance does not fit an instruction.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let NibblesOfBytes { channels, planes, pixel } = self;
        if pixel.max(channels) >= 1 << 20 {
            return Err(CodegenError::TooLarge(format!("codes of {channels} channels")));
        }
        tile(image, &format!("tile.nibbles.{channels}x{planes}.{pixel}"), |a| self.assemble(a))
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        leaf(a, &[SPREAD], |a| {
            for (register, byte) in BITS.into_iter().zip([1, 2]) {
                a.mov(eax, byte)?;
                a.vpbroadcastb(register, eax)?;
            }
            for (register, byte) in NIBBLES.into_iter().zip([0x0F, 0xF0]) {
                a.mov(register, u64::from_ne_bytes([byte; 8]))?;
            }
            let rest = self.channels % VECTOR;
            if rest > 0 {
                a.mov(LAST, (1u64 << rest) - 1)?;
            }
            let mut next = a.create_label();
            a.set_label(&mut next)?;
            for first in (0..self.channels).step_by(VECTOR) {
                self.vector(a, first)?;
            }
            a.add(rdi, self.pixel as i32)?;
            a.add(rdx, self.row() as i32)?;
            a.dec(rsi)?;
            a.jnz(next)
        })
    }

    /// The channels from `first` on.
    fn vector(self, a: &mut CodeAssembler, first: usize) -> Result<(), IcedError> {
        let halves = [rax, rcx];
        a.vmovdqu8(zmm1, zmmword_ptr(rdi + first))?;
        for (q, (bits, nibbles)) in BITS.into_iter().zip(NIBBLES).enumerate().take(self.planes) {
            a.vptestmb(k1, zmm1, bits)?;
            a.kmovq(r11, k1)?;
            if first + VECTOR > self.channels {
                a.and(r11, LAST)?;
            }
            for half in halves {
                if q == 0 {
                    a.pdep(half, r11, nibbles)?;
                } else {
                    a.pdep(SPREAD, r11, nibbles)?;
                    a.or(half, SPREAD)?;
                }
                a.shr(r11, 32)?;
            }
        }
        for (i, half) in halves.into_iter().enumerate() {
            a.mov(qword_ptr(rdx + (first / 4 + 8 * i)), half)?;
        }
        Ok(())
    }
}
