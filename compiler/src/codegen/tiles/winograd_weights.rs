//! The operands of a weight gradient by Winograd's minimal filtering F(3,2), AVX-512: transformed levels, channels last, become
//! planes; pairs of a gradient are transformed, and become steps of four pairs. Formulas and layouts:
//! `lower::train::requirements::winograd_weights`. Bound: the stores of 16 bytes, as many as there are lanes.

use super::vectors::{XMM, ZMM};
use super::{leaf, repeat, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use crate::lower::train::requirements::winograd::VALUES;
use crate::lower::train::requirements::winograd_weights::{LANES, STEP};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

type Done = Result<(), IcedError>;

/// Bytes of a vector, and of a lane.
const VECTOR: usize = 64;
const LANE: usize = 16;

/// Planes of transformed levels.
#[derive(Clone, Copy, Debug)]
pub struct DataPlanes {
    /// Bytes from one value of a pair to the next.
    pub pixel: usize,
    /// Channels.
    pub channels: usize,
    /// Bytes of a plane, a multiple of 16.
    pub plane: usize,
    /// Bytes from one value's planes to the next.
    pub value: usize,
}

impl DataPlanes {
    /// The function `(from, to)`: the first pair's first value, and the first channel's plane.
    ///
    /// # Errors
    /// When a distance does not fit an instruction.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let DataPlanes { pixel, channels, plane, value } = self;
        if VECTOR.max(LANES) * plane.max(VALUES * pixel) >= 1 << 31 || value >= 1 << 31 {
            return Err(CodegenError::TooLarge(format!("planes of {plane} bytes")));
        }
        tile(image, &format!("tile.winograd.planes.{pixel}x{channels}.{plane}.{value}"), |a| self.assemble(a))
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Done {
        leaf(a, &[], |a| {
            a.mov(eax, (self.plane / LANES) as u32)?;
            let mut again = a.create_label();
            a.set_label(&mut again)?;
            a.mov(r8, rdi)?;
            a.mov(r9, rsi)?;
            repeat(a, ecx, VALUES, |a| {
                a.mov(r10, r8)?;
                a.mov(r11, r9)?;
                repeat(a, edx, self.channels / VECTOR, |a| {
                    self.block(a, VECTOR)?;
                    a.add(r10, VECTOR as i32)?;
                    a.add(r11, (VECTOR * self.plane) as i32)
                })?;
                self.block(a, self.channels % VECTOR)?;
                a.add(r8, self.pixel as i32)?;
                a.add(r9, self.value as i32)
            })?;
            a.add(rdi, (LANES * VALUES * self.pixel) as i32)?;
            a.add(rsi, LANES as i32)?;
            a.dec(eax)?;
            a.jnz(again)
        })
    }

    /// 16 pairs of so many channels of a value, at most a vector's.
    fn block(self, a: &mut CodeAssembler, channels: usize) -> Done {
        if channels == 0 {
            return Ok(());
        }
        let (mut v, mut next): ([_; LANES], [_; LANES]) =
            (std::array::from_fn(|i| ZMM[i]), std::array::from_fn(|i| ZMM[LANES + i]));
        for (pair, &v) in v.iter().enumerate() {
            a.vmovdqu32(v, zmmword_ptr(r10 + pair * VALUES * self.pixel))?;
        }
        // Each round turns the bits of a byte's row and of its place in the lane by one.
        for _ in 0..LANES.ilog2() {
            for i in 0..LANES / 2 {
                a.vpunpcklbw(next[2 * i], v[i], v[i + LANES / 2])?;
                a.vpunpckhbw(next[2 * i + 1], v[i], v[i + LANES / 2])?;
            }
            (v, next) = (next, v);
        }
        for channel in 0..channels {
            let to = xmmword_ptr(r11 + channel * self.plane);
            lane(a, to, channel % LANE, channel / LANE)?;
        }
        Ok(())
    }
}

/// Stores a lane of a register, the first of which have other instructions.
fn lane(a: &mut CodeAssembler, to: AsmMemoryOperand, register: usize, lane: usize) -> Done {
    match lane {
        0 => a.vmovdqu(to, XMM[register]),
        _ => a.vextracti32x4(to, ZMM[register], lane as i32),
    }
}

/// A row of a gradient's pairs, transformed, channels last.
#[derive(Clone, Copy, Debug)]
pub struct GradientTransform {
    /// Pairs whose second column exists; then, if `odd`, one without.
    pub pairs: usize,
    /// Whether there is that last pair.
    pub odd: bool,
    /// Bytes of a pixel of the gradient.
    pub pixel: usize,
    /// Vectors of outputs.
    pub vectors: usize,
    /// The levels' bias.
    pub bias: u8,
}

impl GradientTransform {
    /// The function `(from, to)`: the row's first pixel, and where the first pair's values go.
    ///
    /// # Errors
    /// When the assembler fails.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let GradientTransform { pairs, odd, pixel, vectors, bias } = self;
        tile(image, &format!("tile.winograd.gradient.{pairs}.{odd}.{pixel}.{vectors}.{bias}"), |a| self.assemble(a))
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Done {
        leaf(a, &[], |a| {
            for (constant, byte) in [(ONCE, self.bias), (TWICE, self.bias.wrapping_mul(2))] {
                a.mov(eax, u32::from(byte))?;
                a.vpbroadcastb(constant, eax)?;
            }
            repeat(a, ecx, self.pairs, |a| self.pair(a, true))?;
            if self.odd { self.pair(a, false) } else { Ok(()) }
        })
    }

    /// All outputs of a pair.
    fn pair(self, a: &mut CodeAssembler, second: bool) -> Done {
        let apart = self.vectors * VECTOR;
        let [g0, g1, u0, u1, u2, u3] = [zmm0, zmm1, zmm2, zmm3, zmm4, zmm5];
        a.mov(r8, rdi)?;
        repeat(a, edx, self.vectors, |a| {
            a.vmovdqu32(g0, zmmword_ptr(r8))?;
            if second {
                a.vmovdqu32(g1, zmmword_ptr(r8 + self.pixel))?;
            } else {
                a.vmovdqa32(g1, ONCE)?;
            }
            a.vpaddb(u0, g0, g0)?;
            a.vpsubb(u0, u0, TWICE)?;
            a.vpaddb(u1, g0, g1)?;
            a.vpsubb(u1, u1, TWICE)?;
            a.vpsubb(u2, g0, g1)?;
            a.vpaddb(u3, g1, g1)?;
            a.vpsubb(u3, TWICE, u3)?;
            for (i, u) in [u0, u1, u2, u3].into_iter().enumerate() {
                a.vmovdqu32(zmmword_ptr(rsi + i * apart), u)?;
            }
            a.add(r8, VECTOR as i32)?;
            a.add(rsi, VECTOR as i32)
        })?;
        a.add(rsi, ((VALUES - 1) * apart) as i32)?;
        a.add(rdi, (2 * self.pixel) as i32)
    }
}

const ONCE: AsmRegisterZmm = zmm30;
const TWICE: AsmRegisterZmm = zmm31;

/// Steps of four pairs of a transformed gradient.
#[derive(Clone, Copy, Debug)]
pub struct GradientSteps {
    /// How many.
    pub steps: usize,
    /// Vectors of outputs, and blocks of 16 outputs.
    pub vectors: usize,
    pub blocks: usize,
    /// Bytes of a block.
    pub block: usize,
}

impl GradientSteps {
    /// The function `(from, to)`: the first pair's first value, and where the first block's first step goes.
    ///
    /// # Errors
    /// When a distance does not fit an instruction.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let GradientSteps { steps, vectors, blocks, block } = self;
        if STEP * block >= 1 << 31 || STEP * VALUES * vectors * VECTOR >= 1 << 31 {
            return Err(CodegenError::TooLarge(format!("blocks of {block} bytes")));
        }
        tile(image, &format!("tile.winograd.steps.{steps}.{vectors}.{blocks}.{block}"), |a| self.assemble(a))
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Done {
        let apart = self.vectors * VECTOR;
        leaf(a, &[], |a| {
            repeat(a, ecx, self.steps, |a| {
                repeat(a, edx, VALUES, |a| {
                    a.mov(r8, rdi)?;
                    a.mov(r9, rsi)?;
                    repeat(a, eax, self.blocks / STEP, |a| {
                        self.vector(a, STEP)?;
                        a.add(r8, VECTOR as i32)?;
                        a.add(r9, (STEP * self.block) as i32)
                    })?;
                    self.vector(a, self.blocks % STEP)?;
                    a.add(rdi, apart as i32)?;
                    a.add(rsi, VECTOR as i32)
                })?;
                a.add(rdi, ((STEP - 1) * VALUES * apart) as i32)
            })
        })
    }

    /// A value of four pairs, of so many blocks of outputs, at most a vector's.
    fn vector(self, a: &mut CodeAssembler, blocks: usize) -> Done {
        if blocks == 0 {
            return Ok(());
        }
        let apart = VALUES * self.vectors * VECTOR;
        let [v0, v1, v2, v3] = [zmm4, zmm5, zmm6, zmm7];
        let [a0, a1, b0, b1] = [zmm8, zmm9, zmm10, zmm11];
        for (pair, v) in [v0, v1, v2, v3].into_iter().enumerate() {
            a.vmovdqu32(v, zmmword_ptr(r8 + pair * apart))?;
        }
        for (low, high, [x, y]) in [(a0, a1, [v0, v1]), (b0, b1, [v2, v3])] {
            a.vpunpcklbw(low, x, y)?;
            a.vpunpckhbw(high, x, y)?;
        }
        for (i, [x, y]) in [[a0, b0], [a1, b1]].into_iter().enumerate() {
            a.vpunpcklwd(ZMM[2 * i], x, y)?;
            a.vpunpckhwd(ZMM[2 * i + 1], x, y)?;
        }
        for block in 0..blocks {
            for quarter in 0..STEP {
                lane(a, xmmword_ptr(r9 + block * self.block + quarter * LANE), quarter, block)?;
            }
        }
        Ok(())
    }
}
