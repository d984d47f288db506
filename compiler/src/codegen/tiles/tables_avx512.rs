//! Builds the 64-entry tables of a row of positions from codes in the nibble layout: bit extraction, then one constant table
//! for each plane, added. Reference: `lower::strips::tables`. Cost: about 3 cycles a table. Needs AVX-512 and BMI2.

use super::{leaf, repeat, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use crate::lower::strips::TABLE;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// What the tile is specialised to.
#[derive(Clone, Copy, Debug)]
pub struct TablesShape {
    /// Bytes of four channels that a position has in a group.
    pub quads: usize,
    /// Planes of the codes, 1 or 2.
    pub planes: usize,
    /// Bytes from a position to the next.
    pub row: usize,
    /// Bytes from a position's table to that of the next six channels.
    pub pitch: usize,
}

/// Quads of four tables.
const CHUNK: usize = 6;
const SAVED: [AsmRegister64; 6] = [rbx, rbp, r12, r13, r14, r15];
const LOW_NIBBLES: AsmRegister64 = r9;
const HIGH_NIBBLES: AsmRegister64 = r10;
const SOURCE: AsmRegister64 = r11;
const TABLES: AsmRegister64 = rbx;

impl TablesShape {
    /// The function `(codes, positions, tables, constants, sums)`: `positions` may be 0, `constants` is
    /// `lower::strips::tables`, `sums` takes the sum of each position's codes as u16.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let TablesShape { quads, planes, row, pitch } = self;
        let name = format!("tile.tables.avx512.{quads}x{planes}.{row}.{pitch}");
        tile(image, &name, |a| self.assemble(a))
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        leaf(a, &SAVED, |a| {
            let (mut next, mut done) = (a.create_label(), a.create_label());
            a.test(rsi, rsi)?;
            a.jz(done)?;
            a.mov(LOW_NIBBLES, 0x0F0F_0F0F_0F0F_u64)?;
            a.mov(HIGH_NIBBLES, 0xF0F0_F0F0_F0F0_u64)?;
            a.set_label(&mut next)?;
            a.mov(SOURCE, rdi)?;
            a.mov(TABLES, rdx)?;
            a.xor(ebp, ebp)?;
            self.position(a)?;
            a.mov(word_ptr(r8), bp)?;
            a.add(r8, 2)?;
            a.add(rdi, self.row as i32)?;
            a.add(rdx, TABLE as i32)?;
            a.dec(rsi)?;
            a.jnz(next)?;
            a.set_label(&mut done)
        })
    }

    fn position(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        // Whole words are read where the group's codes go on that far.
        let loose = if self.quads >= 8 { (self.quads - 8) / CHUNK + 1 } else { 0 };
        repeat(a, r12d, loose, |a| {
            a.mov(r13, qword_ptr(SOURCE))?;
            self.chunk(a, 4)?;
            a.add(SOURCE, CHUNK as i32)?;
            a.add(TABLES, (4 * self.pitch) as i32)
        })?;
        let mut rest = self.quads - loose * CHUNK;
        let mut at = 0;
        while rest > 0 {
            let n = rest.min(CHUNK);
            load(a, at, n)?;
            self.chunk(a, (4 * n).div_ceil(6))?;
            a.add(TABLES, (4 * self.pitch) as i32)?;
            (rest, at) = (rest - n, at + n);
        }
        Ok(())
    }

    /// The tables of the codes in r13.
    fn chunk(self, a: &mut CodeAssembler, tables: usize) -> Result<(), IcedError> {
        let two = self.planes > 1;
        a.pext(r14, r13, LOW_NIBBLES)?;
        a.popcnt(rax, r14)?;
        a.add(rbp, rax)?;
        if two {
            a.pext(r15, r13, HIGH_NIBBLES)?;
            a.popcnt(rax, r15)?;
            a.lea(rbp, ptr(rbp + rax * 2))?;
        }
        for i in 0..tables {
            // Six bits, times the 64 bytes of a table.
            let turn = ((6 * i + 26) % 32) as u32;
            a.rorx(eax, r14d, turn)?;
            a.and(eax, 0xFC0)?;
            a.vmovdqa64(zmm0, zmmword_ptr(rcx + rax))?;
            if two {
                a.rorx(eax, r15d, turn)?;
                a.and(eax, 0xFC0)?;
                a.vpaddb(zmm0, zmm0, zmmword_ptr(rcx + rax + 64 * TABLE))?;
            }
            a.vmovdqa64(zmmword_ptr(TABLES + i * self.pitch), zmm0)?;
        }
        Ok(())
    }
}

/// `n` bytes into r13, no byte beyond them touched.
fn load(a: &mut CodeAssembler, at: usize, n: usize) -> Result<(), IcedError> {
    let mut done = 0;
    for size in [4, 2, 1] {
        if n - done < size {
            continue;
        }
        let from = SOURCE + (at + done);
        let into = if done == 0 { r13d } else { eax };
        match size {
            4 => a.mov(into, dword_ptr(from))?,
            2 => a.movzx(into, word_ptr(from))?,
            _ => a.movzx(into, byte_ptr(from))?,
        }
        if done > 0 {
            a.shl(rax, 8 * done as u32)?;
            a.or(r13, rax)?;
        }
        done += size;
    }
    Ok(())
}
