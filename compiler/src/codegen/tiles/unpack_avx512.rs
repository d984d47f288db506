//! Codes in bit planes to the bytes that tiles of products read: a row of neighbouring positions of one group, 64 channels at a
//! time. Reference: `kernels::operand`. Needs AVX-512, for nibbles with VBMI.
//!
//! Cost: 5 instructions for 64 channels of two planes.

use super::vectors::ZMM;
use super::{repeat, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use crate::codegen::target::{Level, x86};
use crate::graph::types::Layout;
use crate::lower::Buffer;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// How the codes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planes {
    /// `Layout::Bits`, so many bytes from one plane to the next.
    Bits {
        /// Bytes.
        apart: usize,
        /// Planes: 1 to 8.
        planes: usize,
    },
    /// `Layout::Nibbles` of one or two planes.
    Nibbles,
}

impl Planes {
    /// How a buffer's codes lie.
    pub fn of(b: &Buffer) -> Planes {
        match b.layout {
            Layout::Nibbles => Planes::Nibbles,
            _ => Planes::Bits { apart: b.words() * 8, planes: b.planes },
        }
    }

    /// Whether `level` has the instructions.
    pub fn fits(self, level: &Level) -> bool {
        level.has_x86(if self == Planes::Nibbles { x86::V4 | x86::VBMI } else { x86::V4 })
    }
}

/// What the function is specialised to; distances in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Unpack {
    /// How the codes lie.
    pub planes: Planes,
    /// From one position's codes to the next.
    pub from: usize,
    /// Blocks of 64 channels of a position, 64 bytes each.
    pub blocks: usize,
}

/// Blocks that are written out.
const UNROLL: usize = 8;
const ONE: usize = 16;
const LOW: AsmRegisterZmm = zmm24;
const HIGH: AsmRegisterZmm = zmm25;

impl Unpack {
    /// The function `(codes, bytes, positions)`.
    ///
    /// # Errors
    /// When a distance does not fit an instruction.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let Unpack { planes, from, blocks } = self;
        if from.max(blocks * 64) >= 1 << 30 {
            return Err(CodegenError::TooLarge(format!("a position of {from} bytes")));
        }
        tile(image, &format!("tile.unpack.avx512.{planes:?}.{from}.{blocks}"), |a| self.assemble(a))
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let planes = if let Planes::Bits { planes, .. } = self.planes { planes } else { 2 };
        for q in 0..planes {
            a.mov(eax, u32::from_le_bytes([1 << q; 4]))?;
            a.vpbroadcastd(ZMM[ONE + q], eax)?;
        }
        if self.planes == Planes::Nibbles {
            // Where each byte's bit begins in the two bytes of eight channels; plane 1 begins a bit further down, as its bit counts
            // two.
            for (register, shifts) in [(LOW, [0, 1, 2, 3, 8, 9, 10, 11]), (HIGH, [3, 4, 5, 6, 11, 12, 13, 14])] {
                a.mov(rax, u64::from_le_bytes(shifts))?;
                a.vpbroadcastq(register, rax)?;
            }
        }
        let (mut again, mut end) = (a.create_label(), a.create_label());
        a.test(rdx, rdx)?;
        a.jz(end)?;
        a.set_label(&mut again)?;
        let unroll = (1..=UNROLL).rev().find(|u| self.blocks.is_multiple_of(*u)).unwrap_or(1);
        let width = if self.planes == Planes::Nibbles { 16 } else { 8 };
        repeat(a, ecx, self.blocks / unroll, |a| {
            (0..unroll).try_for_each(|i| self.block(a, (i * width) as i32, (64 * i) as i32))?;
            a.add(rdi, (unroll * width) as i32)?;
            a.add(rsi, (unroll * 64) as i32)
        })?;
        let left = self.from as i64 - (self.blocks * width) as i64;
        if left != 0 {
            a.add(rdi, left as i32)?;
        }
        a.dec(rdx)?;
        a.jnz(again)?;
        a.set_label(&mut end)?;
        a.vzeroupper()?;
        a.ret()
    }

    fn block(self, a: &mut CodeAssembler, from: i32, to: i32) -> Result<(), IcedError> {
        match self.planes {
            Planes::Nibbles => {
                a.vpmovzxwq(zmm0, xmmword_ptr(rdi + from))?;
                a.vpmultishiftqb(zmm1, LOW, zmm0)?;
                a.vpmultishiftqb(zmm0, HIGH, zmm0)?;
                a.vpandq(zmm1, zmm1, ZMM[ONE])?;
                // (zmm0 & two) | zmm1
                a.vpternlogq(zmm0, zmm1, ZMM[ONE + 1], 0xEC)?;
            }
            Planes::Bits { apart, planes } => {
                for q in 0..planes {
                    let bits = qword_ptr(rdi + (from + (q * apart) as i32));
                    a.kmovq(k1, bits)?;
                    match q {
                        0 => a.vmovdqu8(zmm0.k1().z(), ZMM[ONE])?,
                        _ => a.vpaddb(zmm0.k1(), zmm0, ZMM[ONE + q])?,
                    }
                }
            }
        }
        a.vmovdqu64(zmmword_ptr(rsi + to), zmm0)
    }
}
