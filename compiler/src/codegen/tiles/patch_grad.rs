//! The inner part of the weight gradient by patches, 256 or 512 bits wide. Reference: `products::patch_clif`; each sum has
//! the same order, so the bits are the same. Bound: one vector of patches is loaded for each multiplication, 16 MAC a cycle.

use super::vectors::Width;
use super::{leaf, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// What the tile is specialised to; distances in bytes.
#[derive(Clone, Copy, Debug)]
pub struct PatchTile {
    /// Of its vectors.
    pub width: Width,
    /// Outputs.
    pub outputs: usize,
    /// From one position's gradient to the next.
    pub pixel: usize,
    /// Of a patch, and of the sums of an output: a multiple of 64.
    pub row: usize,
    /// Multiplications and additions are one.
    pub fma: bool,
}

const GRADIENT: AsmRegister64 = rdi;
const PATCHES: AsmRegister64 = rsi;
const SUMS: AsmRegister64 = rdx;
const MASKS: AsmRegister64 = rcx;
const SAVED: [AsmRegister64; 1] = [rbx];

impl PatchTile {
    /// The function `(gradient, patches, sums, masks, count)` of [`crate::lower::train::requirements::patch_grad`]'s buffers.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let PatchTile { width, outputs, pixel, row, fma } = self;
        let name = format!("tile.patch_grad.{width:?}.{outputs}.{pixel}.{row}.{fma}");
        tile(image, &name, |a| self.assemble(a))
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        leaf(a, &SAVED, |a| {
            self.masks(a)?;
            self.outputs(a)
        })
    }

    /// All outputs that have a gradient.
    fn outputs(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let (mut output, mut done) = (a.create_label(), a.create_label());
        a.xor(r8d, r8d)?;
        a.set_label(&mut output)?;
        // The masks of 16 outputs are 64 bytes of low halves, then 64 of high ones.
        a.mov(r9d, r8d)?;
        a.and(r9d, 15)?;
        a.lea(r10, qword_ptr(r8 + r8))?;
        a.sub(r10, r9)?;
        a.mov(eax, dword_ptr(MASKS + r10 * 4))?;
        a.mov(r10d, dword_ptr(MASKS + r10 * 4 + 64))?;
        a.shl(r10, 32)?;
        a.or(rax, r10)?;
        a.jz(done)?;
        self.output(a)?;
        a.set_label(&mut done)?;
        a.add(SUMS, self.row as i32)?;
        a.add(GRADIENT, 4)?;
        a.inc(r8d)?;
        a.cmp(r8d, self.outputs as i32)?;
        a.jb(output)
    }

    /// Bit i of an output's mask: the gradient of position i is not zero.
    fn masks(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let (width, lanes) = (self.width, self.width.lanes());
        let (mask, bits, zero, spare) = (0, 1, 2, 3);
        width.zero(a, zero)?;
        a.mov(ebx, 1)?;
        // Positions of the halves: of the low one in r9, of the high one in r10.
        a.mov(r9d, 32)?;
        a.cmp(r8, r9)?;
        a.cmovb(r9, r8)?;
        a.mov(r10, r8)?;
        a.sub(r10, r9)?;
        for vector in 0..self.outputs.div_ceil(lanes) {
            let first = vector * lanes;
            let at = 128 * (first / 16) + 4 * (first % 16);
            for (half, count) in [(0, r9), (1, r10)] {
                let (mut next, mut end) = (a.create_label(), a.create_label());
                width.zero(a, mask)?;
                a.mov(r11, count)?;
                a.test(r11, r11)?;
                a.jz(end)?;
                width.splat(a, bits, ebx)?;
                a.lea(rax, qword_ptr(GRADIENT + (4 * first + half * 32 * self.pixel) as i32))?;
                a.set_label(&mut next)?;
                width.or_where_not(a, [mask, bits, zero, spare], qword_ptr(rax))?;
                width.add_i32(a, bits, [bits, bits])?;
                a.add(rax, self.pixel as i32)?;
                a.dec(r11)?;
                a.jnz(next)?;
                a.set_label(&mut end)?;
                width.store(a, qword_ptr(MASKS + (at + 64 * half) as i32), mask)?;
            }
        }
        Ok(())
    }

    /// Adds gradient times patch to the sums of an output for each bit of its mask, rax.
    fn output(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let (width, bytes) = (self.width, self.width.lanes() * 4);
        let (factor, spare) = (width.registers() - 1, width.registers() - 2);
        let vectors = self.row / bytes;
        let most = vectors.div_ceil(vectors.div_ceil(spare));
        for first in (0..vectors).step_by(most) {
            let count = most.min(vectors - first);
            let offset = |i: usize| ((first + i) * bytes) as i32;
            for i in 0..count {
                width.load(a, i, qword_ptr(SUMS + offset(i)))?;
            }
            let mut next = a.create_label();
            a.mov(rbx, rax)?;
            a.set_label(&mut next)?;
            a.tzcnt(r10, rbx)?;
            a.imul_3(r11, r10, self.row as i32)?;
            a.imul_3(r10, r10, self.pixel as i32)?;
            width.broadcast(a, factor, qword_ptr(GRADIENT + r10))?;
            for i in 0..count {
                width.mul_add(a, self.fma, [i, factor, spare], qword_ptr(PATCHES + r11 + offset(i)))?;
            }
            a.blsr(rbx, rbx)?;
            a.jnz(next)?;
            for i in 0..count {
                width.store(a, qword_ptr(SUMS + offset(i)), i)?;
            }
        }
        Ok(())
    }
}
