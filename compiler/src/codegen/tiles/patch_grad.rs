//! The inner part of the weight gradient by patches, 256 or 512 bits wide. Reference: `products::patch_clif`; each sum has
//! the same order, so the bits are the same. Bound: one vector of patches is loaded for each multiplication, 16 MAC a cycle.

use super::vectors::{Width, XMM};
use super::{leaf, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use crate::lower::train::requirements::patch_grad::Chunk;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// What the tile is specialised to; distances in bytes.
#[derive(Clone, Copy, Debug)]
pub struct PatchTile {
    /// Of its vectors.
    pub width: Width,
    /// Outputs.
    pub outputs: usize,
    /// From one window's gradient to the next.
    pub pixel: usize,
    /// From one window's winners to the next; 0 where there are none.
    pub winner: usize,
    /// Of a patch, and of the sums of an output: a multiple of 64.
    pub row: usize,
    /// The positions that are done at once.
    pub chunk: Chunk,
    /// Where masks, totals and the patches' lanes begin in the work memory.
    pub work: [usize; 3],
    /// Multiplications and additions are one.
    pub fma: bool,
}

const GRADIENT: AsmRegister64 = rdi;
const WINNERS: AsmRegister64 = rsi;
const SUMS: AsmRegister64 = rdx;
const WORK: AsmRegister64 = rcx;
const COUNT: AsmRegister64 = r8;
/// Of the output at hand.
const TOTALS: AsmRegister64 = r12;
const OUTPUT: AsmRegister64 = r13;
const SAVED: [AsmRegister64; 3] = [rbx, TOTALS, OUTPUT];

/// Vectors with a use of their own while an output's sums are in the others.
const FACTOR: usize = 15;
const SPARE: usize = 14;
const TOTAL: usize = 13;
const LANE: usize = 12;

impl PatchTile {
    /// The function `(gradient, winners, sums, work, count)` of [`crate::lower::train::requirements::patch_grad`]'s buffers.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let PatchTile { width, outputs, pixel, winner, row, chunk, work, fma } = self;
        let name = format!("tile.patch_grad.{width:?}.{outputs}.{pixel}.{winner}.{row}.{chunk:?}.{work:?}.{fma}");
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
        let ([masks, totals, _], words) = (self.work, self.chunk.words());
        let mut output = a.create_label();
        a.xor(OUTPUT, OUTPUT)?;
        a.lea(TOTALS, qword_ptr(WORK + totals as i32))?;
        a.set_label(&mut output)?;
        for pair in 0..words / 2 {
            let mut done = a.create_label();
            // The masks of 16 outputs are 64 bytes of first words, then 64 of second ones and so on.
            a.mov(r9, OUTPUT)?;
            a.and(r9, 15)?;
            a.mov(r10, OUTPUT)?;
            a.sub(r10, r9)?;
            a.imul_3(r10, r10, words as i32)?;
            a.add(r10, r9)?;
            let at = (masks + 128 * pair) as i32;
            a.mov(eax, dword_ptr(WORK + r10 * 4 + at))?;
            a.mov(r10d, dword_ptr(WORK + r10 * 4 + (at + 64)))?;
            a.shl(r10, 32)?;
            a.or(rax, r10)?;
            a.jz(done)?;
            self.output(a, 64 * pair)?;
            a.set_label(&mut done)?;
        }
        a.add(SUMS, self.row as i32)?;
        a.add(TOTALS, 16)?;
        a.add(GRADIENT, 4)?;
        a.inc(WINNERS)?;
        a.inc(OUTPUT)?;
        a.cmp(OUTPUT, self.outputs as i32)?;
        a.jb(output)
    }

    /// Bit i of an output's mask for a row of taps: the gradient of window i is not zero and goes there. Rows beyond the
    /// window's have none.
    fn masks(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let (width, lanes) = (self.width, self.width.lanes());
        let Chunk { kernel: [rows, columns], bits: group, .. } = self.chunk;
        let (zero, bits, minus, here, tap, spare, first_mask) = (0, 1, 2, 3, 4, 5, 6);
        width.zero(a, zero)?;
        a.mov(ebx, -1)?;
        width.splat(a, minus, ebx)?;
        a.mov(ebx, 1)?;
        // Windows of the halves: of the low one in r9, of the high one in r10.
        a.mov(r9d, 32)?;
        a.cmp(r9, COUNT)?;
        a.cmova(r9, COUNT)?;
        a.mov(r10, COUNT)?;
        a.sub(r10, r9)?;
        for vector in 0..self.outputs.div_ceil(lanes) {
            let first = vector * lanes;
            let block = self.work[0] + 64 * self.chunk.words() * (first / 16) + 4 * (first % 16);
            for (half, count) in [(0, r9), (1, r10)].into_iter().take(group / 32) {
                let (mut next, mut end) = (a.create_label(), a.create_label());
                for row in 0..rows {
                    width.zero(a, first_mask + row)?;
                }
                a.mov(r11, count)?;
                a.test(r11, r11)?;
                a.jz(end)?;
                width.splat(a, bits, ebx)?;
                a.lea(rax, qword_ptr(GRADIENT + (4 * first + half * 32 * self.pixel) as i32))?;
                a.lea(OUTPUT, qword_ptr(WINNERS + (first + half * 32 * self.winner) as i32))?;
                a.set_label(&mut next)?;
                width.where_not(a, [here, bits, zero], qword_ptr(rax))?;
                if self.winner == 0 {
                    width.or(a, first_mask, here)?;
                } else {
                    // Counted down tap by tap.
                    width.load_bytes(a, tap, qword_ptr(OUTPUT))?;
                    for i in 0..rows * columns {
                        if i > 0 {
                            width.add_i32(a, tap, [tap, minus])?;
                        }
                        width.or_where_none(a, [first_mask + i / columns, here, tap, zero, spare])?;
                    }
                    a.add(OUTPUT, self.winner as i32)?;
                }
                width.add_i32(a, bits, [bits, bits])?;
                a.add(rax, self.pixel as i32)?;
                a.dec(r11)?;
                a.jnz(next)?;
                a.set_label(&mut end)?;
                for row in 0..self.chunk.words() * 32 / group {
                    let mask = if row < rows { first_mask + row } else { zero };
                    let word = row * group / 32 + half;
                    width.store(a, qword_ptr(WORK + (block + 64 * word) as i32), mask)?;
                }
            }
        }
        Ok(())
    }

    /// Adds gradient times patch to the sums of an output for each bit of two words of its masks, rax, those from
    /// bit `before` on, and the gradient to its lane.
    fn output(self, a: &mut CodeAssembler, before: usize) -> Result<(), IcedError> {
        let (width, bytes) = (self.width, self.width.lanes() * 4);
        let free: Vec<usize> = (0..width.registers()).filter(|r| !(LANE..=FACTOR).contains(r)).collect();
        let vectors = self.row / bytes;
        let Chunk { bits, step, strips, place, .. } = self.chunk;
        // The places of strips count on from one pair of words to the next.
        let skipped = if strips { before * step } else { 0 };
        let most = vectors.div_ceil(vectors.div_ceil(free.len()));
        for first in (0..vectors).step_by(most) {
            let sums = || free.iter().zip(first..vectors).map(|(&r, i)| (r, i * bytes)).take(most);
            for (sum, offset) in sums() {
                width.load(a, sum, qword_ptr(SUMS + offset as i32))?;
            }
            if first == 0 {
                a.vmovups(XMM[TOTAL], xmmword_ptr(TOTALS))?;
            }
            let mut next = a.create_label();
            a.mov(rbx, rax)?;
            a.set_label(&mut next)?;
            a.tzcnt(r10, rbx)?;
            if strips {
                a.imul_3(r9, r10, step as i32)?;
            }
            if bits < 64 {
                a.and(r10d, bits as i32 - 1)?;
            }
            if !strips {
                a.imul_3(r9, r10, step as i32)?;
            }
            if self.winner > 0 {
                a.imul_3(r11, r10, self.winner as i32)?;
                a.movzx(r11d, byte_ptr(WINNERS + r11))?;
                a.add(r9, r11)?;
            }
            a.imul_3(r10, r10, self.pixel as i32)?;
            width.broadcast(a, FACTOR, qword_ptr(GRADIENT + r10))?;
            a.imul_3(r11, r9, place as i32)?;
            for (sum, offset) in sums() {
                width.mul_add(
                    a,
                    self.fma,
                    [sum, FACTOR, SPARE],
                    qword_ptr(WORK + r11 + (offset + skipped * place) as i32),
                )?;
            }
            if first == 0 {
                a.shl(r9, 4)?;
                a.vandps(XMM[LANE], XMM[FACTOR], xmmword_ptr(WORK + r9 + (self.work[2] + 16 * skipped) as i32))?;
                a.vaddps(XMM[TOTAL], XMM[TOTAL], XMM[LANE])?;
            }
            a.blsr(rbx, rbx)?;
            a.jnz(next)?;
            if first == 0 {
                a.vmovups(xmmword_ptr(TOTALS), XMM[TOTAL])?;
            }
            for (sum, offset) in sums() {
                width.store(a, qword_ptr(SUMS + offset as i32), sum)?;
            }
        }
        Ok(())
    }
}
