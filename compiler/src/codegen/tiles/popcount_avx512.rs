//! Sums of AND + popcount, AVX-512 VPOPCNTDQ: one position × up to 64 outputs. Reference: the 64-bit loop of
//! `kernels::int_conv`. Cost: about 330/(W·A) MAC a cycle; at batch 1 a fully connected layer is bound by reading its
//! weights, which are fetched ahead.

use super::vectors::ZMM as Z;
use super::{repeat, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// What the tile is specialised to.
#[derive(Clone, Copy, Debug)]
pub struct PopcountShape {
    /// Planes of weights and of activations, whose product is at most [`SUMS`].
    pub planes: [usize; 2],
    /// Vectors of eight outputs.
    pub vectors: usize,
    /// Words of 64 channels that a tap has in a group.
    pub words: usize,
    /// Bytes from an activation plane to the next.
    pub plane_stride: usize,
    /// The result is this times the sum, plus the addend.
    pub factor: i32,
}

/// Sums in registers.
pub const SUMS: usize = 16;
/// Activation planes in registers.
pub const ACTIVATIONS: usize = 8;
/// How far ahead weights are fetched.
const AHEAD: usize = 2048;

const A: [AsmRegisterZmm; ACTIVATIONS] = [zmm16, zmm17, zmm18, zmm19, zmm20, zmm21, zmm22, zmm23];
const WEIGHTS: AsmRegisterZmm = zmm24;
const PRODUCTS: [AsmRegisterZmm; 2] = [zmm25, zmm26];

impl PopcountShape {
    /// Vectors of outputs for so many planes.
    pub fn vectors([weights, activations]: [usize; 2]) -> Option<usize> {
        let most = SUMS.checked_div(weights * activations).filter(|_| activations <= ACTIVATIONS)?;
        [8, 4, 2, 1].into_iter().find(|&v| v <= most)
    }

    /// The function `(taps, count, shift, weights, addend, out)`: `taps` is a list of (address, offset in the weights), to
    /// each of which addresses `shift` bytes are added; `out` takes an i32 an output.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let PopcountShape { planes: [w, a], vectors, words, plane_stride, factor } = self;
        let name = format!("tile.popcount.avx512.w{w}a{a}.{vectors}x{words}.{plane_stride}.{factor}");
        tile(image, &name, |a| self.assemble(a))
    }

    fn sum(self, q: usize, p: usize, v: usize) -> AsmRegisterZmm {
        Z[(q * self.planes[1] + p) * self.vectors + v]
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let [weights, activations] = self.planes;
        let (mut next_tap, mut done) = (a.create_label(), a.create_label());
        for sum in Z.into_iter().take(weights * activations * self.vectors) {
            a.vpxord(sum, sum, sum)?;
        }
        a.test(rsi, rsi)?;
        a.jz(done)?;
        a.set_label(&mut next_tap)?;
        a.mov(r10, qword_ptr(rdi))?;
        a.mov(r11, qword_ptr(rdi + 8))?;
        a.add(r10, rdx)?;
        a.add(r11, rcx)?;
        a.add(rdi, 16)?;
        repeat(a, eax, self.words, |a| {
            self.word(a)?;
            a.add(r10, 8)?;
            a.add(r11, (weights * self.vectors * 64) as i32)
        })?;
        a.dec(rsi)?;
        a.jnz(next_tap)?;
        a.set_label(&mut done)?;
        self.store(a)?;
        a.vzeroupper()?;
        a.ret()
    }

    /// 64 channels of all outputs.
    fn word(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let [weights, activations] = self.planes;
        for (p, plane) in A.into_iter().enumerate().take(activations) {
            a.vpbroadcastq(plane, qword_ptr(r10 + p * self.plane_stride))?;
        }
        for q in 0..weights {
            for v in 0..self.vectors {
                let at = r11 + (q * self.vectors + v) * 64;
                a.prefetcht0(byte_ptr(at + AHEAD))?;
                a.vmovdqa64(WEIGHTS, zmmword_ptr(at))?;
                for (p, plane) in A.into_iter().enumerate().take(activations) {
                    let (sum, product) = (self.sum(q, p, v), PRODUCTS[p % 2]);
                    a.vpandq(product, WEIGHTS, plane)?;
                    a.vpopcntq(product, product)?;
                    a.vpaddq(sum, sum, product)?;
                }
            }
        }
        Ok(())
    }

    fn store(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let [weights, activations] = self.planes;
        a.mov(eax, self.factor)?;
        a.vpbroadcastd(zmm24, eax)?;
        a.vpbroadcastd(zmm25, r8d)?;
        for v in 0..self.vectors {
            let total = self.sum(0, 0, v);
            for (q, p) in (0..weights).flat_map(|q| (0..activations).map(move |p| (q, p))).skip(1) {
                let sum = self.sum(q, p, v);
                a.vpsllq(sum, sum, (p + q) as u32)?;
                a.vpaddq(total, total, sum)?;
            }
            a.vpmovqd(ymm26, total)?;
            // Whole vectors: the shorter VEX forms, which the assembler prefers, lack these registers.
            a.vpmulld(zmm26, zmm26, zmm24)?;
            a.vpaddd(zmm26, zmm26, zmm25)?;
            a.vmovdqu32(ymmword_ptr(r9 + 32 * v), ymm26)?;
        }
        Ok(())
    }
}
