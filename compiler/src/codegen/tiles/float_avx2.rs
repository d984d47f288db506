//! Float multiply-add chains of one position whose taps are all valid, AVX2 and FMA: one or two blocks of up to 48 outputs.
//! Reference: `kernels::float_conv`; the chain of each output has the same order, so the bits are the same.
//! Cost: 12 to 15 MAC a cycle.

use super::tile;
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// What the tile is specialised to; distances in bytes.
#[derive(Clone, Copy, Debug)]
pub struct FloatShape {
    /// Outputs of a block, a multiple of 8.
    pub outputs: usize,
    /// Blocks, 1 or 2; `outputs · blocks` ≤ 96.
    pub blocks: usize,
    /// Channels, kernel rows, kernel columns.
    pub extents: [usize; 3],
    /// From one channel, row and column of the taps to the next.
    pub steps: [usize; 3],
}

const SUMS: [AsmRegisterYmm; 12] = [ymm0, ymm1, ymm2, ymm3, ymm4, ymm5, ymm6, ymm7, ymm8, ymm9, ymm10, ymm11];

impl FloatShape {
    /// The function `(input, weights, stride, out)`: `weights` and `weights + stride` are the blocks; the sums go to `out`,
    /// block behind block.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let ([c, ky, kx], [sc, sy, sx]) = (self.extents, self.steps);
        let name = format!("tile.float.avx2.{}x{}.{c}x{ky}x{kx}.{sc}.{sy}.{sx}", self.outputs, self.blocks);
        tile(image, &name, |a| self.assemble(a))
    }

    fn assemble(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let vectors = self.outputs / 8;
        a.add(rdx, rsi)?;
        for sum in SUMS.iter().take(vectors * self.blocks) {
            a.vxorps(*sum, *sum, *sum)?;
        }
        let [mut channel, mut row] = [a.create_label(), a.create_label()];
        a.mov(r8d, self.extents[0] as u32)?;
        a.set_label(&mut channel)?;
        a.mov(rax, rdi)?;
        a.mov(r9d, self.extents[1] as u32)?;
        a.set_label(&mut row)?;
        self.columns(a, vectors)?;
        a.add(rax, self.steps[1] as i32)?;
        a.dec(r9d)?;
        a.jnz(row)?;
        a.add(rdi, self.steps[0] as i32)?;
        a.dec(r8d)?;
        a.jnz(channel)?;
        for (i, sum) in SUMS.iter().take(vectors * self.blocks).enumerate() {
            a.vmovups(ymmword_ptr(rcx + (i * 32) as i32), *sum)?;
        }
        a.vzeroupper()?;
        a.ret()
    }

    fn columns(self, a: &mut CodeAssembler, vectors: usize) -> Result<(), IcedError> {
        for x in 0..self.extents[2] {
            a.vbroadcastss(ymm15, dword_ptr(rax + (x * self.steps[2]) as i32))?;
            for (i, sum) in SUMS.iter().take(vectors * self.blocks).enumerate() {
                let at = ((x * self.outputs + i % vectors * 8) * 4) as i32;
                let base = if i < vectors { rsi } else { rdx };
                a.vfmadd231ps(*sum, ymm15, ymmword_ptr(base + at))?;
            }
        }
        let bytes = (self.extents[2] * self.outputs * 4) as i32;
        a.add(rsi, bytes)?;
        if self.blocks > 1 {
            a.add(rdx, bytes)?;
        }
        Ok(())
    }
}
