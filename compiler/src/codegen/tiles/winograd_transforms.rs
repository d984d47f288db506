//! What Winograd's minimal filtering F(2,3) multiplies, made by AVX-512: rows of transformed tiles of levels that lie as bytes,
//! channels last, and vectors of transformed filters of packed ones. Formulas: `lower::train::requirements::winograd`.
//! Bound: the stores, four a tile and 64 channels. The filters' sums, which take the data's bias off, need VNNI.

use super::vectors::ZMM;
use super::{leaf, repeat, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use crate::lower::train::requirements::winograd::{BIAS, TAPS, VALUES};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Bytes of a vector.
const VECTOR: usize = 64;

/// Rows of transformed levels.
#[derive(Clone, Copy, Debug)]
pub struct DataTransform {
    /// Tiles of a row, each two columns behind the one before; then, if `odd`, one that is one column behind.
    pub tiles: usize,
    /// Whether there is that last tile.
    pub odd: bool,
    /// Bytes of a pixel, and of a value of a tile.
    pub pixel: usize,
    /// The levels' own bias.
    pub bias: u8,
}

const TURN: AsmRegisterZmm = zmm30;
const RAISE: AsmRegisterZmm = zmm31;

impl DataTransform {
    /// The function `(from, to)`: the first tile's first pixel, and where its values go.
    ///
    /// # Errors
    /// When the assembler fails.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let DataTransform { tiles, odd, pixel, bias } = self;
        tile(image, &format!("tile.winograd.data.{tiles}.{odd}.{pixel}.{bias}"), |a| self.assemble(a))
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        leaf(a, &[], |a| {
            // A difference plus the bias is one with its highest bit turned.
            for (constant, byte) in [(TURN, BIAS), (RAISE, BIAS.wrapping_sub(self.bias.wrapping_mul(2)))] {
                a.mov(eax, u32::from(byte))?;
                a.vpbroadcastb(constant, eax)?;
            }
            let rest = self.pixel % VECTOR;
            if rest > 0 {
                a.mov(rax, (1u64 << rest) - 1)?;
                a.kmovq(k1, rax)?;
            }
            repeat(a, ecx, self.tiles, |a| {
                self.one(a)?;
                a.add(rdi, (2 * self.pixel) as i32)?;
                a.add(rsi, (VALUES * self.pixel) as i32)
            })?;
            if self.odd {
                a.sub(rdi, self.pixel as i32)?;
                self.one(a)?;
            }
            Ok(())
        })
    }

    /// All channels of a tile.
    fn one(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        a.mov(r8, rdi)?;
        a.mov(r9, rsi)?;
        repeat(a, edx, self.pixel / VECTOR, |a| {
            self.vector(a, false)?;
            a.add(r8, VECTOR as i32)?;
            a.add(r9, VECTOR as i32)
        })?;
        if self.pixel.is_multiple_of(VECTOR) { Ok(()) } else { self.vector(a, true) }
    }

    /// 64 channels of a tile, or those that are left.
    fn vector(self, a: &mut CodeAssembler, rest: bool) -> Result<(), IcedError> {
        let [d0, d1, d2, d3] = [zmm0, zmm1, zmm2, zmm3];
        let [v0, v1, v2, v3] = [zmm4, zmm5, zmm6, zmm7];
        for (i, d) in [d0, d1, d2, d3].into_iter().enumerate() {
            let from = zmmword_ptr(r8 + i * self.pixel);
            if rest { a.vmovdqu8(d.k1().z(), from)? } else { a.vmovdqu8(d, from)? }
        }
        a.vpsubb(v0, d0, d2)?;
        a.vpaddb(v1, d1, d2)?;
        a.vpsubb(v2, d2, d1)?;
        a.vpsubb(v3, d1, d3)?;
        a.vpaddb(v1, v1, RAISE)?;
        for v in [v0, v2, v3] {
            a.vpxord(v, v, TURN)?;
        }
        for (i, v) in [v0, v1, v2, v3].into_iter().enumerate() {
            let to = zmmword_ptr(r9 + i * self.pixel);
            if rest { a.vmovdqu8(to.k1(), v)? } else { a.vmovdqu8(to, v)? }
        }
        Ok(())
    }
}

/// Begins the sums of B's bytes.
pub(super) fn clear(a: &mut CodeAssembler, sums: &[AsmRegisterZmm]) -> Result<(), IcedError> {
    a.mov(eax, 0x0101_0101)?;
    a.vpbroadcastd(ONES, eax)?;
    sums.iter().try_for_each(|&sum| a.vpxord(sum, sum, sum))
}

/// Writes what the products' sums start at, so that the data's bias is taken off: of the sums of B's bytes.
pub(super) fn starts(a: &mut CodeAssembler, sums: &[AsmRegisterZmm], to: AsmRegister64) -> Result<(), IcedError> {
    for (i, &sum) in sums.iter().enumerate() {
        a.vpslld(sum, sum, BIAS.trailing_zeros())?;
        a.vpxord(zmm0, zmm0, zmm0)?;
        a.vpsubd(sum, zmm0, sum)?;
        a.vmovdqu32(zmmword_ptr(to + i * VECTOR), sum)?;
    }
    Ok(())
}

/// What the sums of products with a transformed gradient start at.
#[derive(Clone, Copy, Debug)]
pub struct GradientSums {
    /// Steps of the gradient.
    pub steps: usize,
}

impl GradientSums {
    /// The function `(at)`: where the starts go; the gradient lies behind them.
    ///
    /// # Errors
    /// When the assembler fails.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        tile(image, &format!("tile.winograd.sums.{}", self.steps), |a| self.assemble(a))
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let sums = &ZMM[8..8 + VALUES];
        leaf(a, &[], |a| {
            clear(a, sums)?;
            a.mov(rsi, rdi)?;
            repeat(a, ecx, self.steps, |a| {
                a.add(rsi, (VALUES * VECTOR) as i32)?;
                let mut each = sums.iter().enumerate();
                each.try_for_each(|(i, &sum)| a.vpdpbusd(sum, ONES, zmmword_ptr(rsi + i * VECTOR)))
            })?;
            starts(a, sums, rdi)
        })
    }
}

/// Transformed filters of a sequence of packed taps.
#[derive(Clone, Copy, Debug)]
pub struct FilterTransform {
    /// Rows of three taps.
    pub rows: usize,
    /// Steps of a tap.
    pub steps: usize,
}

pub(super) const ONES: AsmRegisterZmm = zmm31;

impl FilterTransform {
    /// The function `(from, to)`: the first tap's first vector, and where what the sums start at goes, with the filters behind it.
    ///
    /// # Errors
    /// When a distance does not fit an instruction.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let FilterTransform { rows, steps } = self;
        if steps >= 1 << 20 {
            return Err(CodegenError::TooLarge(format!("filters of {steps} steps")));
        }
        tile(image, &format!("tile.winograd.filter.{rows}x{steps}"), |a| self.assemble(a))
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let sums = &ZMM[8..8 + VALUES];
        let tap = self.steps * VECTOR;
        leaf(a, &[], |a| {
            clear(a, sums)?;
            a.lea(r8, qword_ptr(rsi + (VALUES * VECTOR) as i32))?;
            repeat(a, ecx, self.rows, |a| {
                repeat(a, edx, self.steps, |a| {
                    for (i, w) in [zmm0, zmm1, zmm2].into_iter().enumerate() {
                        a.vmovdqu32(w, zmmword_ptr(rdi + i * tap))?;
                    }
                    filter(a, sums)?;
                    a.add(rdi, VECTOR as i32)?;
                    a.add(r8, (VALUES * VECTOR) as i32)
                })?;
                a.add(rdi, ((TAPS - 1) * tap) as i32)
            })?;
            starts(a, sums, rsi)
        })
    }
}

/// The filters of one step of three taps in the first registers, to r8; adds up their bytes.
pub(super) fn filter(a: &mut CodeAssembler, sums: &[AsmRegisterZmm]) -> Result<(), IcedError> {
    let [w0, w1, w2, both] = [zmm0, zmm1, zmm2, zmm3];
    let u = [zmm4, zmm5, zmm6, zmm7];
    let [u0, u1, u2, u3] = u;
    a.vpaddb(both, w0, w2)?;
    a.vpaddb(u0, w0, w0)?;
    a.vpaddb(u1, both, w1)?;
    a.vpsubb(u2, both, w1)?;
    a.vpaddb(u3, w2, w2)?;
    for (i, (u, &sum)) in u.into_iter().zip(sums).enumerate() {
        a.vmovdqu32(zmmword_ptr(r8 + i * VECTOR), u)?;
        a.vpdpbusd(sum, ONES, u)?;
    }
    Ok(())
}
