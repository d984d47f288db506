//! Float multiply-add chains where all taps are valid, AVX2 and FMA: up to 4 positions × 24 outputs or 6 × 16, that is 12 chains in
//! flight which share each weight vector, or one position × 96; with AVX-512 (`float_avx512`) up to 27 of twice the width. Reference:
//! `kernels::float_conv`; the chain of each output has the same order, so the bits are the same. Cost: 12 to 15 MAC a cycle.

use super::{float_avx512, repeat, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use crate::lower::LINE;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// What the tile is specialised to; distances in bytes.
#[derive(Clone, Copy, Debug)]
pub struct FloatShape {
    /// Outputs of a vector: 8, or 16 with AVX-512.
    pub lanes: usize,
    /// Positions of a tile.
    pub positions: usize,
    /// Vectors of outputs: up to 3, or 12 of one position.
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

/// How far ahead weights are fetched where only one position reads them.
pub(super) const AHEAD: i32 = 2048;

impl FloatShape {
    /// Lanes, vectors and positions for a block of `outputs`, a multiple of 16 up to 48, where `columns` neighbouring
    /// positions have all their taps.
    pub fn of(avx512: bool, outputs: usize, columns: usize) -> [usize; 3] {
        if avx512 {
            let vectors = (outputs / 16).clamp(1, 3);
            return [16, vectors, float_avx512::positions(vectors, columns)];
        }
        let vectors = if outputs.is_multiple_of(24) { 3 } else { 2 };
        [8, vectors, SUMS.len() / vectors]
    }

    /// The function `(input, weights, out)`: the first position's first tap, the first output's weights, its sum.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let ([c, ky, kx], [sc, sy, sx]) = (self.extents, self.steps);
        let FloatShape { lanes, positions, vectors, row, position, pitch, .. } = self;
        let name =
            format!("tile.float.{lanes}.{positions}.{vectors}.{row}.{c}x{ky}x{kx}.{sc}.{sy}.{sx}.{position}.{pitch}");
        tile(image, &name, |a| self.assemble(a))
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        if self.lanes == 16 {
            return float_avx512::assemble(self, a);
        }
        let used = self.positions * self.vectors;
        for &sum in SUMS.iter().take(used) {
            a.vxorps(sum, sum, sum)?;
        }
        self.nest(a, |a| self.columns(a))?;
        for (i, sum) in SUMS.iter().take(used).enumerate() {
            let at = i / self.vectors * self.pitch + i % self.vectors * 32;
            a.vmovups(ymmword_ptr(rdx + at as i32), *sum)?;
        }
        a.vzeroupper()?;
        a.ret()
    }

    /// The loops over channels and kernel rows; `columns` does a row, from the input at rax and the weights at rsi.
    pub(super) fn nest(
        self,
        a: &mut CodeAssembler,
        columns: impl Fn(&mut CodeAssembler) -> Result<(), IcedError>,
    ) -> Result<(), IcedError> {
        repeat(a, r8d, self.extents[0], |a| {
            a.mov(rax, rdi)?;
            repeat(a, r9d, self.extents[1], |a| {
                columns(a)?;
                a.add(rax, self.steps[1] as i32)
            })?;
            a.add(rdi, self.steps[0] as i32)
        })
    }

    fn columns(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        for x in 0..self.extents[2] {
            let weights = |i: usize| rsi + (x * self.row + i * 32) as i32;
            let input = |p: usize| dword_ptr(rax + (x * self.steps[2] + p * self.position) as i32);
            if self.positions == 1 {
                // Each weight is read once, so it need not be in a register.
                a.vbroadcastss(ymm15, input(0))?;
                for (i, &sum) in SUMS.iter().enumerate().take(self.vectors) {
                    if (i * 32).is_multiple_of(LINE) {
                        a.prefetcht0(byte_ptr(weights(i) + AHEAD))?;
                    }
                    a.vfmadd231ps(sum, ymm15, ymmword_ptr(weights(i)))?;
                }
                continue;
            }
            for (i, w) in WEIGHTS.iter().take(self.vectors).enumerate() {
                a.vmovups(*w, ymmword_ptr(weights(i)))?;
            }
            for (p, sums) in SUMS.chunks(self.vectors).take(self.positions).enumerate() {
                a.vbroadcastss(ymm15, input(p))?;
                for (sum, w) in sums.iter().zip(WEIGHTS) {
                    a.vfmadd231ps(*sum, ymm15, w)?;
                }
            }
        }
        a.add(rsi, (self.extents[2] * self.row) as i32)
    }
}
