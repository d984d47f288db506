//! Sums of look-ups in 64-entry tables, AVX-512 VBMI: a row of up to 8 positions × 64 outputs, and either its accumulators or
//! its codes (`look_up_codes`). Reference: the interpreter; layouts: `lower::strips`.
//!
//! A byte permutation serves 64 outputs × 6 channels. Bytes sum `limit` look-ups; then they are added to A (16-bit lanes as
//! they are) and B (odd bytes), from which even sums are A − 256·B. Weight planes follow Horner's rule, high ones first.
//! Cost: 310 to 330 MAC a cycle for 1-bit weights and activations of 1 or 2 bits (Zen 4).

use super::vectors::ZMM as Z;
use super::{leaf, look_up_codes, repeat, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use crate::lower::LINE;
use crate::lower::strips::{self, BLOCK, TABLE};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Groups of channels up to which a chunk is unrolled.
const UNROLLED: usize = 8;
/// Look-ups whose products are added together.
const GROUP: usize = 4;
/// The most positions of a tile.
const MOST_POSITIONS: usize = 8;

/// What the tile is specialised to.
#[derive(Clone, Copy, Debug)]
pub struct LookUp64 {
    /// Positions, at most 8 and such that `3·positions + kernel + 5` registers are enough.
    pub positions: usize,
    /// Horizontal taps, stride and dilation.
    pub kernel: usize,
    /// Input columns from a position to the next.
    pub stride: usize,
    /// Input columns from a tap to the next.
    pub dilation: usize,
    /// Input columns of the strip: tables of one group of six channels.
    pub columns: usize,
    /// Groups of six channels.
    pub sixes: usize,
    /// Look-ups that a byte can sum.
    pub limit: usize,
    /// Weight planes.
    pub planes: usize,
    /// Bytes from the tables of the codes' low pair of bits to those of their high pair, where they have one; of one weight plane.
    pub half: Option<usize>,
    /// Vertical taps, valid or not: rows of a plane's weights.
    pub rows: usize,
    /// The accumulator is this times the sum, plus the position's addend.
    pub factor: i32,
    /// What becomes of the accumulators.
    pub finish: Finish,
}

/// What becomes of the accumulators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// Stored as i32, so many bytes from a position to the next.
    Sums {
        /// Bytes from a position to the next.
        pitch: usize,
    },
    /// Stored as i16, which they fit, so many bytes from a position to the next.
    Words {
        /// Bytes from a position to the next.
        pitch: usize,
    },
    /// Codes 0 … `top` ≤ 3 by thresholds; the accumulators lie within ±32 766.
    Codes {
        /// The greatest code.
        top: usize,
        /// Whether comparisons of some outputs are negated.
        falling: bool,
        /// Where the planes of 64 outputs go.
        store: Store,
        /// Bytes from a position to the next.
        pitch: usize,
        /// Codes at the same places that choose among thresholds.
        residual: Option<Residual>,
    },
}

/// Codes in the nibble layout that choose among thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Residual {
    /// How many there are: 2 … 4.
    pub codes: usize,
    /// Channels of a block.
    pub channels: usize,
    /// Bytes from a position to the next.
    pub pitch: usize,
}

/// How 64 codes of one position are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Four channels a byte, of so many channels.
    Nibbles(usize),
    /// A word a plane, so many bytes apart.
    Bits(usize),
}

/// Bytes of an entry of the list of rows: the row's tables, its offset in a plane's weights, and one word for the caller.
pub const ROW_ENTRY: usize = 24;
/// Bytes of the positions' addends, one i32 each; behind them lies the address of the first position's residual codes.
pub const ADDENDS: usize = 40;

/// The lower halves of [`Z`].
const Y: [AsmRegisterYmm; 32] = [
    ymm0, ymm1, ymm2, ymm3, ymm4, ymm5, ymm6, ymm7, ymm8, ymm9, ymm10, ymm11, ymm12, ymm13, ymm14, ymm15, ymm16, ymm17,
    ymm18, ymm19, ymm20, ymm21, ymm22, ymm23, ymm24, ymm25, ymm26, ymm27, ymm28, ymm29, ymm30, ymm31,
];
const SAVED: [AsmRegister64; 6] = [rbx, rbp, r12, r13, r14, r15];
const TABLES: AsmRegister64 = r10;
const INDICES: AsmRegister64 = r11;
/// Where the tables of the pair of bits at hand lie from those of the low one.
const HALF: AsmRegister64 = r14;

impl LookUp64 {
    /// The function `(rows, count, weights, thresholds, addends, out)`: `rows` is a list of `count` entries of
    /// [`ROW_ENTRY`] bytes, `weights` and `thresholds` those of the block, `addends` one i32 a position (see [`ADDENDS`]).
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let LookUp64 { positions, kernel, stride, dilation, columns, sixes, planes, rows, .. } = self;
        let finish = match self.finish {
            Finish::Sums { pitch } => format!("sums.{pitch}"),
            Finish::Words { pitch } => format!("words.{pitch}"),
            Finish::Codes { top, falling, store, pitch, residual } => {
                let turn = if falling { "f" } else { "" };
                let residual = residual.map_or(String::new(), |r| format!(".r{}x{}.{}", r.codes, r.channels, r.pitch));
                let turn = format!("{turn}{residual}");
                match store {
                    Store::Nibbles(n) => format!("n{n}.{top}{turn}.{pitch}"),
                    Store::Bits(n) => format!("b{n}.{top}{turn}.{pitch}"),
                }
            }
        };
        let half = self.half.map_or(String::new(), |bytes| format!("h{bytes}"));
        let shape = format!("{positions}x{rows}x{kernel}s{stride}d{dilation}c{columns}x{sixes}w{planes}{half}");
        let name = format!("tile.look_up.avx512.{shape}.{}.{}.{finish}", self.limit, self.factor);
        tile(image, &name, |a| self.assemble(a))
    }

    /// Bytes of one plane of a block's weights.
    fn plane_bytes(self) -> usize {
        self.rows * self.sixes * self.kernel * BLOCK
    }

    fn bytes(self, position: usize) -> AsmRegisterZmm {
        Z[position]
    }

    /// The 16-bit sums A.
    pub(super) fn all(self, position: usize) -> usize {
        self.positions + position
    }

    /// The 16-bit sums B.
    pub(super) fn odd(self, position: usize) -> usize {
        2 * self.positions + position
    }

    /// A register beside the sums.
    pub(super) fn free(self, i: usize) -> usize {
        3 * self.positions + i
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        leaf(a, &SAVED, |a| {
            self.claim(a)?;
            self.all_planes(a)?;
            match self.finish {
                Finish::Sums { pitch } => self.store_sums(a, pitch),
                Finish::Words { pitch } => self.store_words(a, pitch),
                Finish::Codes { top, falling, store, pitch, residual } => {
                    look_up_codes::store(self, a, [top, pitch], falling, store, residual)
                }
            }
        })
    }

    /// Asks for the lines that codes will be stored to: a store that waits for its line would hold up the next tables' stores
    /// behind it.
    fn claim(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let Finish::Codes { pitch, .. } = self.finish else { return Ok(()) };
        let mut asked = None;
        for at in (0..self.positions).map(|r| r * pitch) {
            if asked.is_none_or(|before| at - before >= LINE) || at + pitch >= self.positions * pitch {
                a.prefetchw(byte_ptr(r9 + at as i32))?;
                asked = Some(at);
            }
        }
        Ok(())
    }

    /// The sums of all weight planes, the high ones first.
    fn all_planes(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        for i in 0..2 * self.positions {
            let sum = Z[self.positions + i];
            a.vpxord(sum, sum, sum)?;
        }
        if let Some(half) = self.half {
            return self.halves(a, half);
        }
        if self.planes == 1 {
            return self.plane(a);
        }
        let (mut next_plane, mut last) = (a.create_label(), a.create_label());
        a.mov(r14d, self.planes as u32)?;
        a.set_label(&mut next_plane)?;
        self.plane(a)?;
        a.dec(r14d)?;
        a.jz(last)?;
        for i in 0..2 * self.positions {
            let sum = Z[self.positions + i];
            a.vpaddw(sum, sum, sum)?;
        }
        a.add(rdx, self.plane_bytes() as i32)?;
        a.jmp(next_plane)?;
        a.set_label(&mut last)
    }

    /// The sums of both pairs of bits of the codes, the high one first.
    fn halves(self, a: &mut CodeAssembler, half: usize) -> Result<(), IcedError> {
        let (mut again, mut last) = (a.create_label(), a.create_label());
        a.mov(HALF, half as u64)?;
        a.set_label(&mut again)?;
        self.plane(a)?;
        a.test(HALF, HALF)?;
        a.jz(last)?;
        for i in 0..2 * self.positions {
            let sum = Z[self.positions + i];
            a.vpsllw(sum, sum, 2)?;
        }
        a.xor(r14d, r14d)?;
        a.jmp(again)?;
        a.set_label(&mut last)?;
        a.zero_bytes()
    }

    /// All valid rows of one weight plane.
    fn plane(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let (mut next, mut done) = (a.create_label(), a.create_label());
        a.mov(rbx, rdi)?;
        a.mov(rbp, rsi)?;
        a.test(rbp, rbp)?;
        a.jz(done)?;
        a.set_label(&mut next)?;
        a.mov(TABLES, qword_ptr(rbx))?;
        if self.half.is_some() {
            a.add(TABLES, HALF)?;
        }
        a.mov(INDICES, qword_ptr(rbx + 8))?;
        a.add(INDICES, rdx)?;
        a.add(rbx, ROW_ENTRY as i32)?;
        let taps: Vec<usize> = (0..self.kernel).collect();
        if self.kernel > self.limit {
            repeat(a, r12d, self.sixes, |a| {
                for part in taps.chunks(self.limit) {
                    self.six(a, part, true)?;
                    self.flush(a)?;
                }
                self.advance(a)
            })?;
        } else {
            let most = (self.limit / self.kernel).min(self.sixes);
            for [count, sixes] in strips::chunks(self.sixes, most) {
                repeat(a, r12d, count, |a| self.chunk(a, &taps, sixes))?;
            }
        }
        a.dec(rbp)?;
        a.jnz(next)?;
        a.set_label(&mut done)
    }

    /// `sixes` groups of channels, then the flush.
    fn chunk(self, a: &mut CodeAssembler, taps: &[usize], sixes: usize) -> Result<(), IcedError> {
        self.six(a, taps, true)?;
        self.advance(a)?;
        if sixes <= UNROLLED {
            for _ in 1..sixes {
                self.six(a, taps, false)?;
                self.advance(a)?;
            }
        } else {
            repeat(a, r13d, sixes - 1, |a| {
                self.six(a, taps, false)?;
                self.advance(a)
            })?;
        }
        self.flush(a)
    }

    /// Moves on to the next six channels.
    fn advance(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        a.add(TABLES, (self.columns * TABLE) as i32)?;
        a.add(INDICES, (self.kernel * BLOCK) as i32)
    }

    /// The look-ups of six channels at some taps; `first` ones start the byte sums.
    ///
    /// Permutations and additions come in groups: Zen 4 spreads both over its pipes without loss only where several of a kind
    /// follow one another (1.0 cycles a look-up; 1.25 where they alternate, 1.31 with saturating additions).
    fn six(self, a: &mut CodeAssembler, taps: &[usize], first: bool) -> Result<(), IcedError> {
        let table = Z[self.free(0)];
        let product = |i: usize| Z[self.free(1 + i)];
        let index = |i: usize| Z[self.free(1 + GROUP + i)];
        for (i, tap) in taps.iter().enumerate() {
            a.vmovdqa64(index(i), zmmword_ptr(INDICES + tap * BLOCK))?;
        }
        let mut started = [!first; MOST_POSITIONS];
        let mut waiting = Vec::with_capacity(GROUP);
        for column in 0..self.columns {
            let at = TABLES + column * TABLE;
            let uses = (0..self.positions).flat_map(|r| taps.iter().enumerate().map(move |(i, tap)| (r, i, tap)));
            let uses: Vec<_> = uses.filter(|(r, _, tap)| r * self.stride + *tap * self.dilation == column).collect();
            if uses.len() > 1 {
                a.vmovdqa64(table, zmmword_ptr(at))?;
            }
            for &(r, i, _) in &uses {
                let adds = std::mem::replace(&mut started[r], true);
                let target = if adds { product(waiting.len()) } else { self.bytes(r) };
                if uses.len() > 1 {
                    a.vpermb(target, index(i), table)?;
                } else {
                    a.vpermb(target, index(i), zmmword_ptr(at))?;
                }
                if adds {
                    waiting.push(r);
                }
                if waiting.len() == GROUP {
                    self.add(a, &mut waiting)?;
                }
            }
        }
        self.add(a, &mut waiting)
    }

    /// Adds the products that wait, one for each position named, to the byte sums.
    fn add(self, a: &mut CodeAssembler, waiting: &mut Vec<usize>) -> Result<(), IcedError> {
        for (i, r) in waiting.drain(..).enumerate() {
            let sum = self.bytes(r);
            a.vpaddb(sum, sum, Z[self.free(1 + i)])?;
        }
        Ok(())
    }

    /// Adds the byte sums to the 16-bit sums.
    fn flush(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        for r in 0..self.positions {
            let (sum, all, odd) = (self.bytes(r), Z[self.all(r)], Z[self.odd(r)]);
            a.vpaddw(all, all, sum)?;
            a.vpsrlw(sum, sum, 8)?;
            a.vpaddw(odd, odd, sum)?;
        }
        Ok(())
    }

    /// Replaces A by the even sums: outputs 0 … 31 of the block; B holds outputs 32 … 63.
    fn separate(self, a: &mut CodeAssembler, position: usize) -> Result<(), IcedError> {
        let (all, odd, shifted) = (Z[self.all(position)], Z[self.odd(position)], self.bytes(position));
        a.vpsllw(shifted, odd, 8)?;
        a.vpsubw(all, all, shifted)
    }

    fn store_sums(self, a: &mut CodeAssembler, pitch: usize) -> Result<(), IcedError> {
        let (addend, factor, part) = (Z[self.free(0)], Z[self.free(1)], self.free(2));
        a.mov(eax, self.factor)?;
        a.vpbroadcastd(factor, eax)?;
        for r in 0..self.positions {
            self.separate(a, r)?;
            a.vpbroadcastd(addend, dword_ptr(r8 + 4 * r))?;
            for (half, sums) in [self.all(r), self.odd(r)].into_iter().enumerate() {
                for quarter in 0..2 {
                    let lanes = if quarter == 0 {
                        Y[sums]
                    } else {
                        a.vextracti64x4(Y[part], Z[sums], 1)?;
                        Y[part]
                    };
                    a.vpmovzxwd(Z[part], lanes)?;
                    if self.factor != 1 {
                        a.vpmulld(Z[part], Z[part], factor)?;
                    }
                    a.vpaddd(Z[part], Z[part], addend)?;
                    a.vmovdqu32(zmmword_ptr(r9 + (r * pitch + 128 * half + 64 * quarter)), Z[part])?;
                }
            }
        }
        Ok(())
    }

    fn store_words(self, a: &mut CodeAssembler, pitch: usize) -> Result<(), IcedError> {
        self.load_factor(a)?;
        for r in 0..self.positions {
            for (half, sums) in self.words(a, r)?.into_iter().enumerate() {
                a.vmovdqu16(zmmword_ptr(r9 + (r * pitch + 64 * half)), sums)?;
            }
        }
        Ok(())
    }

    /// What [`LookUp64::words`] multiplies by.
    pub(super) fn load_factor(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        if (1..=2).contains(&self.factor) {
            return Ok(());
        }
        a.mov(eax, self.factor)?;
        a.vpbroadcastw(Z[self.free(1)], eax)
    }

    /// The accumulators of a position, which fit i16: sums, factor and addend modulo 2¹⁶ give them. The first free register holds
    /// the addend, afterwards nothing.
    pub(super) fn words(self, a: &mut CodeAssembler, position: usize) -> Result<[AsmRegisterZmm; 2], IcedError> {
        let (addend, factor) = (Z[self.free(0)], Z[self.free(1)]);
        self.separate(a, position)?;
        a.vpbroadcastw(addend, word_ptr(r8 + 4 * position))?;
        let sums = [Z[self.all(position)], Z[self.odd(position)]];
        for sum in sums {
            match self.factor {
                1 => {}
                2 => a.vpaddw(sum, sum, sum)?,
                _ => a.vpmullw(sum, sum, factor)?,
            }
            a.vpaddw(sum, sum, addend)?;
        }
        Ok(sums)
    }
}
