//! The weight gradient of one sample on AMX: rows are 16 channels of activations, a plane each, columns 16 outputs, and the
//! reduction runs over the bytes of a plane. A tap moves the gradient instead of the activations, so that every tile of
//! either begins at a cache line; for the distances that are no whole steps there are copies of the gradient that are
//! shifted by bytes. Reference: `products::tile_clif`; a sample's sums are exact, and so are the bits.
//!
//! Must never know convolutions.

use super::amx::{REGISTERS, ROW, ROWS};
use super::product_amx::TILE;
use super::{leaf, repeat, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

type Done = Result<(), IcedError>;

/// Taps that are summed together.
pub const TOGETHER: usize = 3;

const PLANE: AsmRegister64 = r8;
const LINE: AsmRegister64 = r9;
const SCALE: AsmRegisterZmm = zmm31;

/// Taps that read the same tiles of activations.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Taps {
    /// Byte of the plane where the first tile begins.
    pub a: usize,
    /// Tiles.
    pub steps: usize,
    /// For each tap, at most [`TOGETHER`], the byte of the gradients that the first tile meets, and the tap's number.
    pub taps: Vec<(i64, usize)>,
}

/// A leaf function `(a, b, sums, scale)`: sums = sums + scale·f32(S) for 16 channels and all taps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WeightShape {
    /// All taps.
    pub parts: Vec<Taps>,
    /// Bytes from one channel's plane to the next.
    pub plane: usize,
    /// Taps of a channel: rows of sums.
    pub count: usize,
    /// One rounding.
    pub fma: bool,
}

impl WeightShape {
    /// Its function.
    ///
    /// # Errors
    /// When it cannot be assembled.
    pub fn function(&self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        tile(image, &format!("tile.weight_grad.amx.{self:?}"), |a| self.assemble(a))
    }

    pub(super) fn assemble(&self, a: &mut CodeAssembler) -> Done {
        leaf(a, &[rbp], |a| {
            a.mov(rbp, rsp)?;
            a.sub(rsp, (2 * TOGETHER * TILE) as i32)?;
            a.and(rsp, -(ROW as i32))?;
            a.mov(PLANE, self.plane as u64)?;
            a.mov(LINE, ROW as u64)?;
            a.vbroadcastss(SCALE, dword_ptr(rcx))?;
            // What is summed last is added while the tile registers sum the next.
            let mut before = None;
            for (i, part) in self.parts.iter().enumerate() {
                let half = i % 2 * TOGETHER;
                sum(a, part, half)?;
                if let Some((part, half)) = before.replace((part, half)) {
                    self.add(a, part, half)?;
                }
                for (i, &sums) in REGISTERS.iter().enumerate().skip(half).take(part.taps.len()) {
                    a.tilestored(ptr(rsp + LINE * 1 + (i * TILE) as i32), sums)?;
                }
            }
            if let Some((part, half)) = before {
                self.add(a, part, half)?;
            }
            a.mov(rsp, rbp)
        })
    }

    /// Adds what was summed to the sums.
    fn add(&self, a: &mut CodeAssembler, part: &Taps, half: usize) -> Done {
        for (i, &(_, tap)) in part.taps.iter().enumerate() {
            for row in 0..ROWS {
                let from = rsp + ((half + i) * TILE + row * ROW) as i32;
                let to = zmmword_ptr(rdx + ((row * self.count + tap) * ROW) as i32);
                a.vcvtdq2ps(zmm0, zmmword_ptr(from))?;
                if self.fma {
                    a.vfmadd213ps(zmm0, SCALE, to)?;
                } else {
                    a.vmulps(zmm0, zmm0, SCALE)?;
                    a.vaddps(zmm0, zmm0, to)?;
                }
                a.vmovups(to, zmm0)?;
            }
        }
        Ok(())
    }
}

/// The sums of some taps into the tile registers from `half` on.
fn sum(a: &mut CodeAssembler, part: &Taps, half: usize) -> Done {
    let [.., x, y] = REGISTERS;
    let sums = || REGISTERS.iter().skip(half).zip(&part.taps);
    for (&sum, _) in sums() {
        a.tilezero(sum)?;
    }
    for step in 0..part.steps {
        a.tileloadd(x, ptr(rdi + PLANE * 1 + (part.a + step * ROW) as i32))?;
        for (&sum, &(b, _)) in sums() {
            a.tileloadd(y, ptr(rsi + LINE * 1 + (b as i32 + (step * TILE) as i32)))?;
            a.tdpbusd(sum, x, y)?;
        }
    }
    Ok(())
}

/// A leaf function `(from, to)` that copies a sample's strips of gradients into rows further apart, shifted by bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShiftShape {
    /// Rows of the image.
    pub rows: usize,
    /// Steps of a row, 64 bytes each.
    pub steps: usize,
    /// Steps from one row to the next in the copies; what lies between is not written, but the step behind a row may be.
    pub pitch: usize,
    /// By how many bytes, below 4, each copy is shifted towards higher addresses.
    pub shifts: Vec<u8>,
    /// Bytes from one copy to the next.
    pub copy: usize,
}

impl ShiftShape {
    /// Its function.
    ///
    /// # Errors
    /// When it cannot be assembled.
    pub fn function(&self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        tile(image, &format!("tile.shift.amx.{self:?}"), |a| self.assemble(a))
    }

    pub(super) fn assemble(&self, a: &mut CodeAssembler) -> Done {
        let apart = self.pitch > self.steps;
        leaf(a, &[], |a| {
            a.vpxord(zmm0, zmm0, zmm0)?;
            repeat(a, ecx, self.rows, |a| {
                for step in 0..self.steps {
                    a.vmovdqu64(zmm1, zmmword_ptr(rdi + (step * ROW) as i32))?;
                    self.step(a, step)?;
                    a.vmovdqa64(zmm0, zmm1)?;
                }
                if apart {
                    a.vpxord(zmm1, zmm1, zmm1)?;
                    self.step(a, self.steps)?;
                    a.vpxord(zmm0, zmm0, zmm0)?;
                }
                a.add(rdi, (self.steps * ROW) as i32)?;
                a.add(rsi, (self.pitch * ROW) as i32)
            })?;
            if apart {
                return Ok(());
            }
            a.vpxord(zmm1, zmm1, zmm1)?;
            self.step(a, 0)
        })
    }

    /// The copies of step `step` from zmm1 and, in zmm0, the step before it.
    fn step(&self, a: &mut CodeAssembler, step: usize) -> Done {
        for (i, &shift) in self.shifts.iter().enumerate() {
            let to = zmmword_ptr(rsi + (i * self.copy + step * ROW) as i32);
            if shift == 0 {
                a.vmovdqu64(to, zmm1)?;
                continue;
            }
            a.vpslld(zmm2, zmm1, i32::from(8 * shift))?;
            a.vpsrld(zmm3, zmm0, i32::from(32 - 8 * shift))?;
            a.vpord(zmm2, zmm2, zmm3)?;
            a.vmovdqu64(to, zmm2)?;
        }
        Ok(())
    }
}
