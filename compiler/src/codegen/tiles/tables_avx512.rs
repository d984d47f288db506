//! Builds the 64-entry tables of a row of positions from codes in the nibble layout. A byte of codes, four channels, chooses a
//! table of 16 sums; six channels are such a byte and half of the next, whose tables are spread over 64 bytes and added.
//! Reference: `lower::strips::tables`. Cost: 2.1 cycles a table on Zen 4, whose 512-bit stores take two, where the addition of two
//! tables of six bits took 2.9. Needs AVX-512 with VBMI.

use super::{leaf, repeat, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use crate::lower::strips::{QUAD_TABLES, SIX, TABLE};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// What the tile is specialised to.
#[derive(Clone, Copy, Debug)]
pub struct TablesShape {
    /// Channels that a position has in a group; bits of its last byte behind them are 0.
    pub channels: usize,
    /// Planes of the codes, 1 or 2.
    pub planes: usize,
    /// Bytes from a position to the next.
    pub row: usize,
    /// Bytes from a position's table to that of the next six channels.
    pub pitch: usize,
    /// Bytes from a row of the input to the next, whose codes are fetched meanwhile, if it lies there.
    pub next: Option<usize>,
}

/// Quads of eight tables, which a loop makes.
const CHUNK: usize = 12;
/// Quads of two tables.
const THREE: usize = 3;
const SAVED: [AsmRegister64; 3] = [rbx, rbp, r12];
const SOURCE: AsmRegister64 = r11;
const TABLES: AsmRegister64 = rbx;
const SUM: AsmRegister64 = rbp;
/// The bits of plane 1.
const HIGH_NIBBLES: AsmRegister64 = r9;
/// What spreads 4 entries over 64, and 16.
const SPREAD_PAIR: AsmRegisterZmm = zmm2;
const SPREAD_QUAD: AsmRegisterZmm = zmm3;

impl TablesShape {
    /// The function `(codes, positions, tables, constants, sums)`: `positions` may be 0, `constants` is
    /// `lower::strips::quad_tables`, `sums` takes the sum of each position's codes as u16.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let TablesShape { channels, planes, row, pitch, next } = self;
        let name = format!("tile.tables.avx512.{channels}x{planes}.{row}.{pitch}.{next:?}");
        tile(image, &name, |a| self.assemble(a))
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        leaf(a, &SAVED, |a| {
            let (mut next, mut done) = (a.create_label(), a.create_label());
            a.test(rsi, rsi)?;
            a.jz(done)?;
            a.mov(HIGH_NIBBLES, 0xF0F0_F0F0_F0F0_F0F0_u64)?;
            a.vmovdqa64(SPREAD_PAIR, zmmword_ptr(rcx + QUAD_TABLES.spread_pair))?;
            a.vmovdqa64(SPREAD_QUAD, zmmword_ptr(rcx + QUAD_TABLES.spread_quad))?;
            a.set_label(&mut next)?;
            a.mov(SOURCE, rdi)?;
            a.mov(TABLES, rdx)?;
            a.xor(ebp, ebp)?;
            if let Some(next) = self.next {
                let mut lines = (0..self.channels.div_ceil(4)).step_by(64);
                lines.try_for_each(|line| a.prefetcht0(byte_ptr(rdi + (next + line) as i32)))?;
            }
            repeat(a, r12d, self.channels / (4 * CHUNK), |a| {
                self.chunk(a, 4 * CHUNK)?;
                a.add(SOURCE, CHUNK as i32)?;
                a.add(TABLES, (CHUNK / THREE * 2 * self.pitch) as i32)
            })?;
            self.chunk(a, self.channels % (4 * CHUNK))?;
            a.mov(word_ptr(r8), bp)?;
            a.add(r8, 2)?;
            a.add(rdi, self.row as i32)?;
            a.add(rdx, TABLE as i32)?;
            a.dec(rsi)?;
            a.jnz(next)?;
            a.set_label(&mut done)
        })
    }

    /// The tables and the sum of some channels.
    fn chunk(self, a: &mut CodeAssembler, channels: usize) -> Result<(), IcedError> {
        let (quads, mut at) = (channels.div_ceil(4), 0);
        for size in [8, 4, 2, 1] {
            while quads - at >= size {
                self.add_codes(a, at, size)?;
                at += size;
            }
        }
        for first in (0..quads).step_by(THREE) {
            self.two_tables(a, first, channels - 4 * first)?;
        }
        Ok(())
    }

    /// Adds the codes of a word of 1, 2, 4 or 8 quads to the sum: its bits, and those of the high plane once more.
    fn add_codes(self, a: &mut CodeAssembler, at: usize, size: usize) -> Result<(), IcedError> {
        let from = SOURCE + at;
        match size {
            8 => a.mov(rax, qword_ptr(from))?,
            4 => a.mov(eax, dword_ptr(from))?,
            2 => a.movzx(eax, word_ptr(from))?,
            _ => a.movzx(eax, byte_ptr(from))?,
        }
        a.popcnt(r10, rax)?;
        a.add(SUM, r10)?;
        if self.planes > 1 {
            a.and(rax, HIGH_NIBBLES)?;
            a.popcnt(rax, rax)?;
            a.add(SUM, rax)?;
        }
        Ok(())
    }

    /// The tables of quad `first` and those two behind it that there are of so many channels: of the first with the low half of the
    /// second, and of its high half with the third.
    fn two_tables(self, a: &mut CodeAssembler, first: usize, channels: usize) -> Result<(), IcedError> {
        let quads = channels.div_ceil(4);
        let at = |i: usize| SOURCE + (first + i);
        let to = |i: usize| zmmword_ptr(TABLES + (first / THREE * 2 + i) * self.pitch);
        a.movzx(eax, byte_ptr(at(0)))?;
        a.shl(eax, 4)?;
        a.vbroadcasti32x4(zmm0, xmmword_ptr(rcx + rax))?;
        if quads > 1 {
            a.movzx(r10d, byte_ptr(at(1)))?;
            a.vmovd(xmm1, dword_ptr(rcx + r10 * 4 + QUAD_TABLES.low_pairs))?;
            a.vpermb(zmm1, SPREAD_PAIR, zmm1)?;
            a.vpaddb(zmm0, zmm0, zmm1)?;
        }
        a.vmovdqa64(to(0), zmm0)?;
        if channels > SIX {
            a.vpbroadcastd(zmm0, dword_ptr(rcx + r10 * 4 + QUAD_TABLES.high_pairs))?;
            if quads > 2 {
                a.movzx(eax, byte_ptr(at(2)))?;
                a.shl(eax, 4)?;
                a.vmovdqa(xmm1, xmmword_ptr(rcx + rax))?;
                a.vpermb(zmm1, SPREAD_QUAD, zmm1)?;
                a.vpaddb(zmm0, zmm0, zmm1)?;
            }
            a.vmovdqa64(to(1), zmm0)?;
        }
        Ok(())
    }
}
