//! Sums of table look-ups, AVX2: up to 4 positions × 32 outputs, that is two blocks of 16, and either the sums or codes by
//! thresholds, compared while the sums lie in registers. Reference: `kernels::look_up::tile_clif` with the chain behind it,
//! whose limits hold here too. Cost: about 120 MAC a cycle for 1-bit weights and 2-bit activations.

use super::look_up_avx512::{Residual, Store};
use super::look_up_lanes::Lanes;
use super::{leaf, repeat, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// What the tile is specialised to.
#[derive(Clone, Copy, Debug)]
pub struct LookUpShape {
    /// Positions, 1 … 4.
    pub positions: usize,
    /// Taps of the kernel.
    pub taps: usize,
    /// Bytes of four channels that a tap has in a group.
    pub quads: usize,
    /// Look-ups that a byte lane can sum.
    pub limit: usize,
    /// What becomes of the sums, if they are not stored.
    pub codes: Option<LookUpCodes>,
}

/// Codes of sums by thresholds; accumulators lie within ±32 766.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookUpCodes {
    /// The greatest code, up to 3.
    pub top: usize,
    /// Whether comparisons of some outputs are negated.
    pub falling: bool,
    /// How the codes are stored.
    pub store: Store,
    /// Bytes from a position to the next.
    pub pitch: usize,
    /// The accumulator is this times the sum, plus the position's addend.
    pub factor: i32,
    /// Codes that choose among thresholds, of [`PAIR`] channels; only row by row.
    pub residual: Option<Residual>,
}

/// What a tile that stores codes reads in place of the address of sums: addresses of the codes, of the thresholds and of the
/// residual's codes, then an i32 for each position.
pub const CODES_FRAME: usize = 40;
/// Where the address of the residual's codes lies there.
pub const CODES_RESIDUAL: i32 = 16;
/// Where the positions' addends lie there.
pub const CODES_ADDENDS: i32 = 24;
/// Outputs of a tile.
pub const PAIR: usize = 32;

const SUMS: [AsmRegisterYmm; 4] = [ymm0, ymm1, ymm2, ymm3];
const ALL: [AsmRegisterYmm; 4] = [ymm4, ymm5, ymm6, ymm7];
const HIGH: [AsmRegisterYmm; 4] = [ymm8, ymm9, ymm10, ymm11];
const ROWS: [AsmRegister64; 4] = [r10, r11, rbx, rbp];
const SAVED: [AsmRegister64; 5] = [rbx, rbp, r13, r14, r15];

impl LookUpShape {
    /// The function `(pointers, shift, weights, stride, tables, sums)`: `pointers` is positions × taps addresses, to each of
    /// which `shift` bytes are added; `weights` and `weights + stride` are the two blocks; `sums` takes 32 u16 a position, or is
    /// a frame ([`CODES_FRAME`]).
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let LookUpShape { positions, taps, quads, limit, codes } = self;
        let codes = codes.map_or(String::new(), |c| format!(".{c:?}"));
        let name = format!("tile.look_up.avx2.{positions}x{taps}x{quads}.{limit}{codes}");
        tile(image, &name, |a| self.assemble(a))
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        leaf(a, &SAVED, |a| {
            a.add(rcx, rdx)?;
            a.mov(eax, 0x0F0F_0F0F_u32)?;
            a.vmovd(xmm15, eax)?;
            a.vpbroadcastd(ymm15, xmm15)?;
            for (all, high) in ALL.into_iter().zip(HIGH).take(self.positions) {
                a.vpxor(all, all, all)?;
                a.vpxor(high, high, high)?;
            }
            repeat(a, r15d, self.taps, |a| self.tap(a))?;
            match self.codes {
                Some(codes) => self.store_codes(a, codes),
                None => self.store(a),
            }
        })
    }

    /// The quads of one tap.
    fn tap(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        for (i, row) in ROWS.into_iter().enumerate().take(self.positions) {
            a.mov(row, qword_ptr(rdi + (i * self.taps * 8) as i32))?;
            a.add(row, rsi)?;
        }
        a.add(rdi, 8)?;
        repeat(a, r14d, self.quads / self.limit, |a| self.chunk(a, self.limit))?;
        match self.quads % self.limit {
            0 => Ok(()),
            rest => self.chunk(a, rest),
        }
    }

    /// `quads` look-ups a position summed in bytes, then added to the 16-bit sums.
    fn chunk(self, a: &mut CodeAssembler, quads: usize) -> Result<(), IcedError> {
        const UNROLL: usize = 5;
        for sum in SUMS.iter().take(self.positions) {
            a.vpxor(*sum, *sum, *sum)?;
        }
        let rounds = quads / 2 / UNROLL;
        repeat(a, r13d, rounds, |a| self.pairs(a, 2 * UNROLL))?;
        let rest = quads - rounds * 2 * UNROLL;
        if rest > 0 {
            self.pairs(a, rest)?;
        }
        for ((all, high), sum) in ALL.into_iter().zip(HIGH).zip(SUMS).take(self.positions) {
            a.vpaddw(all, all, sum)?;
            a.vpsrlw(sum, sum, 8)?;
            a.vpaddw(high, high, sum)?;
        }
        Ok(())
    }

    /// `quads` look-ups, unrolled; moves the pointers on.
    fn pairs(self, a: &mut CodeAssembler, quads: usize) -> Result<(), IcedError> {
        for quad in 0..quads {
            let index = if quad % 2 == 0 {
                let at = (quad / 2 * 16) as i32;
                a.vmovdqu(xmm12, xmmword_ptr(rdx + at))?;
                a.vinserti128(ymm12, ymm12, xmmword_ptr(rcx + at), 1)?;
                a.vpand(ymm13, ymm12, ymm15)?;
                ymm13
            } else {
                a.vpsrlw(ymm12, ymm12, 4)?;
                a.vpand(ymm12, ymm12, ymm15)?;
                ymm12
            };
            for (row, sum) in ROWS.into_iter().zip(SUMS).take(self.positions) {
                a.movzx(eax, byte_ptr(row + quad as i32))?;
                a.shl(eax, 4)?;
                a.vbroadcasti128(ymm14, xmmword_ptr(r8 + rax))?;
                a.vpshufb(ymm14, ymm14, index)?;
                a.vpaddb(sum, sum, ymm14)?;
            }
        }
        for row in ROWS.iter().take(self.positions) {
            a.add(*row, quads as i32)?;
        }
        let bytes = (quads.div_ceil(2) * 16) as i32;
        a.add(rdx, bytes)?;
        a.add(rcx, bytes)
    }

    /// Outputs in order: even bytes of a block are its outputs 0 … 7, odd ones 8 … 15.
    fn store(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        // The lower halves of HIGH.
        const LOW: [AsmRegisterXmm; 4] = [xmm8, xmm9, xmm10, xmm11];
        for (i, ((all, high), low)) in ALL.into_iter().zip(HIGH).zip(LOW).enumerate().take(self.positions) {
            let at = (i * 64) as i32;
            a.vpsllw(ymm0, high, 8)?;
            a.vpsubw(ymm0, all, ymm0)?;
            a.vmovdqu(xmmword_ptr(r9 + at), xmm0)?;
            a.vmovdqu(xmmword_ptr(r9 + at + 16), low)?;
            a.vextracti128(xmmword_ptr(r9 + at + 32), ymm0, 1)?;
            a.vextracti128(xmmword_ptr(r9 + at + 48), high, 1)?;
        }
        Ok(())
    }

    fn store_codes(self, a: &mut CodeAssembler, codes: LookUpCodes) -> Result<(), IcedError> {
        codes.prepare(a)?;
        let sums = ALL.into_iter().zip(HIGH).enumerate().take(self.positions);
        sums.into_iter().try_for_each(|(i, (all, high))| codes_of_position(a, codes, i, [all, high]))
    }
}

/// Addresses of the codes and of the thresholds, and what spreads the bits of the planes.
pub(super) const OUT: AsmRegister64 = r10;
pub(super) const THRESHOLDS: AsmRegister64 = r11;
const SPREAD: [AsmRegister64; 2] = [r13, r14];
const FACTOR: (AsmRegisterYmm, AsmRegisterXmm) = (ymm15, xmm15);

impl LookUpCodes {
    /// Loads what [`codes_of_position`] needs from the frame at r9.
    pub(super) fn prepare(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        a.mov(OUT, qword_ptr(r9))?;
        a.mov(THRESHOLDS, qword_ptr(r9 + 8))?;
        self.prepare_residual(a)?;
        if let Store::Nibbles(_) = self.store {
            a.mov(SPREAD[0], 0x0F0F_0F0F_0F0F_0F0F_u64)?;
            a.mov(SPREAD[1], 0xF0F0_F0F0_F0F0_F0F0_u64)?;
        }
        if !(1..=2).contains(&self.factor) {
            a.mov(eax, self.factor)?;
            a.vmovd(FACTOR.1, eax)?;
            a.vpbroadcastw(FACTOR.0, FACTOR.1)?;
        }
        Ok(())
    }
}

/// Stores the codes of position `i` from its 16-bit sums of all and of odd bytes: for each threshold one comparison of the outputs
/// 0 … 7 and 16 … 23, one of the others. Overwrites ymm0 … ymm3, rax, rbx and rdx; with a residual ymm6 … ymm12 too.
pub(super) fn codes_of_position(
    a: &mut CodeAssembler,
    codes: LookUpCodes,
    i: usize,
    [all, second]: [AsmRegisterYmm; 2],
) -> Result<(), IcedError> {
    let first = ymm0;
    a.vpsllw(first, second, 8)?;
    a.vpsubw(first, all, first)?;
    a.vpbroadcastw(ymm1, word_ptr(r9 + (CODES_ADDENDS + 4 * i as i32)))?;
    for sum in [first, second] {
        match codes.factor {
            1 => {}
            2 => a.vpaddw(sum, sum, sum)?,
            _ => a.vpmullw(sum, sum, FACTOR.0)?,
        }
        a.vpaddw(sum, sum, ymm1)?;
    }
    codes.masks(a, Lanes::Ymm, i, [2, 3])?;
    // Bit planes in eax and edx: an odd number of thresholds, and the second.
    for t in 0..codes.top {
        for (half, (to, sum)) in [(ymm2, first), (ymm3, second)].into_iter().enumerate() {
            if codes.residual.is_some() {
                codes.chosen(a, Lanes::Ymm, [2 + half, 12], THRESHOLDS + 0, [t, half])?;
                a.vpcmpgtw(to, sum, to)?;
            } else {
                a.vpcmpgtw(to, sum, ymmword_ptr(THRESHOLDS + (t * 2 * PAIR + half * PAIR) as i32))?;
            }
        }
        a.vpacksswb(ymm2, ymm2, ymm3)?;
        let into = if t == 0 { eax } else { ebx };
        a.vpmovmskb(into, ymm2)?;
        if codes.falling {
            a.xor(into, dword_ptr(THRESHOLDS + (codes.threshold_rows() * 2 * PAIR) as i32))?;
        }
        if t > 0 {
            a.xor(eax, ebx)?;
        }
        if t == 1 {
            a.mov(edx, ebx)?;
        }
    }
    let at = OUT + (i * codes.pitch) as i32;
    match codes.store {
        Store::Bits(plane) => {
            a.mov(dword_ptr(at), eax)?;
            if codes.top > 1 {
                a.mov(dword_ptr(at + plane as i32), edx)?;
            }
        }
        Store::Nibbles(_) => {
            a.pdep(rax, rax, SPREAD[0])?;
            if codes.top > 1 {
                a.pdep(rbx, rdx, SPREAD[1])?;
                a.or(rax, rbx)?;
            }
            a.mov(qword_ptr(at), rax)?;
        }
    }
    Ok(())
}
