//! Float multiply-add chains where all taps are valid, AVX2 and FMA: 4 positions × 24 outputs or 6 × 16, that is 12 chains in
//! flight which share each weight vector. Reference: `kernels::float_conv`; the chain of each output has the same order, so
//! the bits are the same. Cost: 12 to 15 MAC a cycle.

use super::tile;
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// What the tile is specialised to; distances in bytes.
#[derive(Clone, Copy, Debug)]
pub struct FloatShape {
    /// Vectors of 8 outputs: 2 or 3.
    pub vectors: usize,
    /// From one tap's weights to the next.
    pub row: usize,
    /// Channels, kernel rows, kernel columns.
    pub extents: [usize; 3],
    /// From one channel, row and column of the taps to the next.
    pub steps: [usize; 3],
    /// From one position's input to the next.
    pub position: usize,
    /// From one position's sums to the next.
    pub pitch: usize,
}

const SUMS: [AsmRegisterYmm; 12] = [ymm0, ymm1, ymm2, ymm3, ymm4, ymm5, ymm6, ymm7, ymm8, ymm9, ymm10, ymm11];
const WEIGHTS: [AsmRegisterYmm; 3] = [ymm12, ymm13, ymm14];

impl FloatShape {
    /// Vectors for a block of `outputs`, a multiple of 16.
    pub fn vectors(outputs: usize) -> usize {
        if outputs.is_multiple_of(24) { 3 } else { 2 }
    }

    /// Positions of a tile.
    pub fn positions(self) -> usize {
        SUMS.len() / self.vectors
    }

    /// The function `(input, weights, out)`: the first position's first tap, the first output's weights, its sum.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let ([c, ky, kx], [sc, sy, sx]) = (self.extents, self.steps);
        let FloatShape { vectors, row, position, pitch, .. } = self;
        let name = format!("tile.float.avx2.{vectors}.{row}.{c}x{ky}x{kx}.{sc}.{sy}.{sx}.{position}.{pitch}");
        tile(image, &name, |a| self.assemble(a))
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        for sum in SUMS {
            a.vxorps(sum, sum, sum)?;
        }
        let [mut channel, mut row] = [a.create_label(), a.create_label()];
        a.mov(r8d, self.extents[0] as u32)?;
        a.set_label(&mut channel)?;
        a.mov(rax, rdi)?;
        a.mov(r9d, self.extents[1] as u32)?;
        a.set_label(&mut row)?;
        self.columns(a)?;
        a.add(rax, self.steps[1] as i32)?;
        a.dec(r9d)?;
        a.jnz(row)?;
        a.add(rdi, self.steps[0] as i32)?;
        a.dec(r8d)?;
        a.jnz(channel)?;
        for (i, sum) in SUMS.iter().enumerate() {
            let at = i / self.vectors * self.pitch + i % self.vectors * 32;
            a.vmovups(ymmword_ptr(rdx + at as i32), *sum)?;
        }
        a.vzeroupper()?;
        a.ret()
    }

    fn columns(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        for x in 0..self.extents[2] {
            for (i, w) in WEIGHTS.iter().take(self.vectors).enumerate() {
                a.vmovups(*w, ymmword_ptr(rsi + (x * self.row + i * 32) as i32))?;
            }
            for (p, sums) in SUMS.chunks(self.vectors).enumerate() {
                a.vbroadcastss(ymm15, dword_ptr(rax + (x * self.steps[2] + p * self.position) as i32))?;
                for (sum, w) in sums.iter().zip(WEIGHTS) {
                    a.vfmadd231ps(*sum, ymm15, w)?;
                }
            }
        }
        a.add(rsi, (self.extents[2] * self.row) as i32)
    }
}
