//! Builds the 64-entry tables of a row of positions from codes that are bytes, channels innermost: a mask of bits for each
//! plane, then one constant table for each plane, added. Reference: `lower::strips::tables`. Cost: about 3 cycles a table. Needs
//! AVX-512 BW and BMI2.

use super::{leaf, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use crate::lower::strips::{SIX, TABLE};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// What the function is specialised to.
#[derive(Clone, Copy, Debug)]
pub struct ByteTables {
    /// Channels of a position; up to 64 bytes behind the last are read.
    pub channels: usize,
    /// Planes of the codes, 1 or 2.
    pub planes: usize,
    /// Bytes from a position to the next.
    pub pixel: usize,
    /// Bytes from a position's table to that of the next six channels.
    pub pitch: usize,
}

/// Channels that are read at once: whole tables.
const CHUNK: usize = 60;
const SAVED: [AsmRegister64; 5] = [rbx, rbp, r12, r14, r15];
/// Which bits are channels, of a whole chunk and of the last.
const MASKS: [AsmRegister64; 2] = [r9, r10];
const TABLES: AsmRegister64 = rbx;
const CODES: AsmRegisterZmm = zmm1;
/// All bytes 1, all bytes 2.
const BITS: [AsmRegisterZmm; 2] = [zmm2, zmm3];
const PLANES: [AsmRegister64; 2] = [r14, r15];
const SUM: AsmRegister64 = rbp;

impl ByteTables {
    /// The function `(codes, positions, tables, constants, sums)`: `constants` is `lower::strips::tables`, `sums` takes the sum of
    /// each position's codes as u16.
    ///
    /// # Errors
    /// When a distance does not fit an instruction.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let ByteTables { channels, planes, pixel, pitch } = self;
        if pixel >= 1 << 30 || channels.div_ceil(SIX) * pitch >= 1 << 30 {
            return Err(CodegenError::TooLarge(format!("tables of {channels} channels")));
        }
        tile(image, &format!("tile.tables.bytes.{channels}x{planes}.{pixel}.{pitch}"), |a| self.assemble(a))
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let chunks = self.channels.div_ceil(CHUNK);
        let rest = self.channels - chunks.saturating_sub(1) * CHUNK;
        leaf(a, &SAVED, |a| {
            let (mut next, mut done) = (a.create_label(), a.create_label());
            a.test(rsi, rsi)?;
            a.jz(done)?;
            for (register, bits) in MASKS.into_iter().zip([CHUNK, rest]) {
                a.mov(register, (1u64 << bits) - 1)?;
            }
            for (register, byte) in BITS.into_iter().zip([1, 2]) {
                a.mov(eax, byte)?;
                a.vpbroadcastb(register, eax)?;
            }
            a.set_label(&mut next)?;
            a.xor(ebp, ebp)?;
            a.mov(TABLES, rdx)?;
            for chunk in 0..chunks {
                let (channels, mask) = if chunk + 1 < chunks { (CHUNK, MASKS[0]) } else { (rest, MASKS[1]) };
                self.chunk(a, chunk, channels, mask)?;
            }
            a.mov(word_ptr(r8), bp)?;
            a.add(r8, 2)?;
            a.add(rdi, self.pixel as i32)?;
            a.add(rdx, TABLE as i32)?;
            a.dec(rsi)?;
            a.jnz(next)?;
            a.set_label(&mut done)
        })
    }

    fn chunk(self, a: &mut CodeAssembler, chunk: usize, channels: usize, mask: AsmRegister64) -> Result<(), IcedError> {
        a.vmovdqu8(CODES, zmmword_ptr(rdi + (chunk * CHUNK) as i32))?;
        for (q, (plane, bits)) in PLANES.into_iter().zip(BITS).enumerate().take(self.planes) {
            a.vptestmb(k1, CODES, bits)?;
            a.kmovq(plane, k1)?;
            a.and(plane, mask)?;
            a.popcnt(rax, plane)?;
            a.lea(SUM, ptr(SUM + rax * (1 << q)))?;
        }
        for i in 0..channels.div_ceil(SIX) {
            // Six bits, times the 64 bytes of a table.
            let turn = ((SIX * i + 58) % 64) as u32;
            a.rorx(rax, PLANES[0], turn)?;
            a.and(eax, 0xFC0)?;
            a.vmovdqa64(zmm0, zmmword_ptr(rcx + rax))?;
            if self.planes > 1 {
                a.rorx(rax, PLANES[1], turn)?;
                a.and(eax, 0xFC0)?;
                a.vpaddb(zmm0, zmm0, zmmword_ptr(rcx + rax + 64 * TABLE))?;
            }
            a.vmovdqa64(zmmword_ptr(TABLES + ((chunk * CHUNK / SIX + i) * self.pitch) as i32), zmm0)?;
        }
        Ok(())
    }
}
