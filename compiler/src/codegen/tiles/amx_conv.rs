//! The convolution tile on AMX: 32 positions × 32 outputs of weights of one digit, or 16 × 32 of two or three (what becomes of
//! those is said by `amx_digits`), from the products to what is stored. A call computes all positions of a strip for a pair of
//! blocks of outputs. Layouts are those of `lower::amx`. Reference: the sums of the bit-serial and of the split kernel; all of
//! it is exact.
//!
//! Bound: 1024 MAC a cycle; a product takes 16 cycles, a load of a tile 8 where its rows lie in lines of their own.

use super::amx::{REGISTERS, ROW};
use super::split::SplitFinish;
use super::{amx_digits, leaf, repeat, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use crate::lower::amx::{ENTRY, TILE, WEIGHTS};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Where the codes of a position go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `Layout::Bits` with so many bytes from one plane to the next.
    Bits(usize),
    /// `Layout::Nibbles`.
    Nibbles,
}

/// What is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Sums as i32, so many bytes from one position to the next, also of positions between rows.
    Sums {
        /// Bytes.
        pitch: usize,
    },
    /// How many of `top` thresholds each sum reaches, in so many bit planes; sums fit 16 bits.
    Codes {
        /// Thresholds: 1 to 3.
        top: usize,
        /// Bit planes: 1 or 2.
        planes: usize,
        /// Where they go.
        place: Place,
    },
    /// What the split-integer tile makes of sums of digits.
    Digits {
        /// Planes of digits: 2 or 3.
        planes: usize,
        /// Bits of a digit but the last.
        bits: u32,
        /// What is stored; nibbles go where the table of positions says, all else also for positions between rows.
        finish: SplitFinish,
        /// Bytes from one position's results to the next.
        pitch: usize,
    },
}

impl Store {
    /// Planes of digits.
    pub(super) fn planes(self) -> usize {
        if let Store::Digits { planes, .. } = self { planes } else { 1 }
    }

    /// Tiles of positions that are computed together.
    pub(super) fn positions(self) -> usize {
        if self.planes() == 1 { 2 } else { 1 }
    }
}

/// What the tile is specialised to; distances in bytes.
#[derive(Clone, Copy, Debug)]
pub struct AmxConv {
    /// Blocks of 16 outputs: 1 or 2.
    pub blocks: usize,
    /// Rows of the reduction, runs a row, chunks a run.
    pub loops: [usize; 3],
    /// From one row, and from one run, of the strip to the next.
    pub steps: [usize; 2],
    /// From one position to the next.
    pub position: usize,
    /// What is stored.
    pub store: Store,
}

/// The distance of rows of weights.
const PACKED: AsmRegister64 = r11;
/// The distance of rows of positions.
const STRIDE: AsmRegister64 = r10;
/// Where each tile of positions reads.
const INPUT: [AsmRegister64; 2] = [rax, rbx];
/// The weights of the chunk.
const CURSOR: AsmRegister64 = r12;
/// What to store: the distance of rows of sums, or how far into the result the strip reaches.
pub(super) const LIMIT: AsmRegister64 = rbp;
/// Tiles on their way to codes.
pub(super) const SPILL: AsmRegister64 = r15;
const SAVED: [AsmRegister64; 6] = [rbx, rbp, r12, r13, r14, r15];
/// Of the arguments on the stack, behind the registers that are saved and the return address.
const ARGUMENTS: i32 = 8 * (SAVED.len() as i32 + 1);
const THRESHOLDS: [AsmRegisterZmm; 3] = [zmm16, zmm17, zmm18];
const ORDER: AsmRegisterZmm = zmm19;
const SUMS: AsmRegisterZmm = zmm0;
/// Steps of the innermost loop's body.
const UNROLL: usize = 12;

type Done = Result<(), IcedError>;

impl AmxConv {
    /// The function `(strip, weights, result, table, positions, count, limit, spill)`: `count` groups of tiles from the table of
    /// positions on; codes go where that says, below `limit` bytes from `result` on. `table` are the thresholds or scales. The
    /// last two arguments matter for codes and digits only.
    ///
    /// # Errors
    /// When a distance does not fit an instruction.
    pub fn function(self, image: &mut Image) -> Result<FunctionId, CodegenError> {
        let AmxConv { blocks, loops, steps, position, store } = self;
        let [a, b, c] = loops;
        let pitch = if let Store::Sums { pitch } | Store::Digits { pitch, .. } = store { pitch } else { 0 };
        let weights = c * blocks * store.planes() * WEIGHTS;
        let distances = [a * steps[0], b * steps[1], weights, 2 * TILE * position, 2 * TILE * pitch];
        if distances.iter().any(|d| *d >= 1 << 30) {
            return Err(CodegenError::TooLarge(format!("an AMX tile over {loops:?}")));
        }
        let name = format!("tile.amx.conv.{blocks}.{a}x{b}x{c}.{steps:?}.{position}.{store:?}");
        tile(image, &name, |a| self.assemble(a))
    }

    pub(super) fn assemble(self, a: &mut CodeAssembler) -> Done {
        leaf(a, &SAVED, |a| {
            a.mov(STRIDE, self.position as u64)?;
            a.mov(PACKED, ROW as u64)?;
            match self.store {
                Store::Sums { pitch } => a.mov(LIMIT, pitch as u64)?,
                Store::Digits { .. } => arguments(a)?,
                Store::Codes { top, .. } => {
                    arguments(a)?;
                    for (t, register) in THRESHOLDS.into_iter().enumerate().take(top) {
                        a.vmovdqa64(register, zmmword_ptr(rcx + (64 * t) as i32))?;
                    }
                    a.vmovdqa64(ORDER, zmmword_ptr(rcx + (64 * top) as i32))?;
                }
            }
            let (mut again, mut end) = (a.create_label(), a.create_label());
            a.test(r9, r9)?;
            a.jz(end)?;
            a.set_label(&mut again)?;
            self.products(a)?;
            self.store(a)?;
            a.add(r8, (self.store.positions() * ENTRY) as i32)?;
            a.dec(r9)?;
            a.jnz(again)?;
            a.set_label(&mut end)
        })
    }

    /// The sums of a group of tiles.
    fn products(self, a: &mut CodeAssembler) -> Done {
        let [rows, runs, chunks] = self.loops;
        let inputs = &INPUT[..self.store.positions()];
        for (i, &input) in inputs.iter().enumerate() {
            a.mov(input, qword_ptr(r8 + (i * ENTRY) as i32))?;
            a.add(input, rdi)?;
        }
        a.mov(CURSOR, rsi)?;
        for &sum in REGISTERS.iter().take(self.store.positions() * self.blocks * self.store.planes()) {
            a.tilezero(sum)?;
        }
        let unroll = (1..=UNROLL).rev().find(|u| chunks.is_multiple_of(*u)).unwrap_or(1);
        let forward = |a: &mut CodeAssembler, by: i64| {
            inputs.iter().filter(|_| by != 0).try_for_each(|&input| a.add(input, by as i32))
        };
        repeat(a, r13d, rows, |a| {
            repeat(a, r14d, runs, |a| {
                a.push(rcx)?;
                repeat(a, ecx, chunks / unroll, |a| {
                    (0..unroll).try_for_each(|i| self.chunk(a, i))?;
                    a.add(CURSOR, (unroll * self.tiles() * WEIGHTS) as i32)?;
                    forward(a, (unroll * ROW) as i64)
                })?;
                a.pop(rcx)?;
                forward(a, self.steps[1] as i64 - (chunks * ROW) as i64)
            })?;
            forward(a, self.steps[0] as i64 - (runs * self.steps[1]) as i64)
        })
    }

    /// Tiles of weights a chunk.
    fn tiles(self) -> usize {
        self.blocks * self.store.planes()
    }

    /// The products of chunk `i` behind the cursor.
    fn chunk(self, a: &mut CodeAssembler, i: usize) -> Done {
        if self.store.planes() > 1 {
            return self.digits(a, i);
        }
        let weights = |block: usize| ((i * self.blocks + block) * WEIGHTS) as i32;
        let [sums @ .., w0, w1, p0, p1] = REGISTERS;
        let (w, p) = ([w0, w1], [p0, p1]);
        a.tileloadd(w0, CURSOR + PACKED * 1 + weights(0))?;
        for (tile, (&input, &p)) in INPUT.iter().zip(&p).enumerate() {
            a.tileloadd(p, input + STRIDE * 1 + (i * ROW) as i32)?;
            a.tdpbusd(sums[tile * self.blocks], p, w0)?;
        }
        if self.blocks == 2 {
            a.tileloadd(w1, CURSOR + PACKED * 1 + weights(1))?;
            a.tdpbusd(sums[1], p[0], w[1])?;
            a.tdpbusd(sums[3], p[1], w[1])?;
        }
        Ok(())
    }

    /// The same for one tile of positions and several planes.
    fn digits(self, a: &mut CodeAssembler, i: usize) -> Done {
        let [.., w, p] = REGISTERS;
        a.tileloadd(p, INPUT[0] + STRIDE * 1 + (i * ROW) as i32)?;
        for (tile, &sum) in REGISTERS.iter().enumerate().take(self.tiles()) {
            a.tileloadd(w, CURSOR + PACKED * 1 + ((i * self.tiles() + tile) * WEIGHTS) as i32)?;
            a.tdpbusd(sum, p, w)?;
        }
        Ok(())
    }

    fn store(self, a: &mut CodeAssembler) -> Done {
        let (top, planes, place) = match self.store {
            Store::Sums { pitch } => return self.sums(a, pitch),
            Store::Digits { .. } => return amx_digits::store(&self, a),
            Store::Codes { top, planes, place } => (top, planes, place),
        };
        a.mov(r13, (self.blocks * ROW) as u64)?;
        for tile in 0..self.store.positions() {
            for block in 0..self.blocks {
                let at = (tile * TILE * self.blocks + block) * ROW;
                a.tilestored(SPILL + r13 * 1 + at as i32, REGISTERS[tile * self.blocks + block])?;
            }
        }
        for tile in 0..self.store.positions() {
            let (mut again, mut between) = (a.create_label(), a.create_label());
            a.lea(rax, ptr(SPILL + (tile * TILE * self.blocks * ROW) as i32))?;
            a.lea(r14, ptr(r8 + (tile * ENTRY + 8) as i32))?;
            a.mov(r13d, TILE as u32)?;
            a.set_label(&mut again)?;
            a.movsxd(rbx, dword_ptr(r14))?;
            a.cmp(rbx, LIMIT)?;
            a.jae(between)?;
            self.codes(a, top, planes, place)?;
            a.set_label(&mut between)?;
            a.add(rax, (self.blocks * ROW) as i32)?;
            a.add(r14, 4)?;
            a.dec(r13d)?;
            a.jnz(again)?;
        }
        Ok(())
    }

    /// Stores sums and moves on to those of the next group.
    fn sums(self, a: &mut CodeAssembler, pitch: usize) -> Done {
        for tile in 0..self.store.positions() {
            for block in 0..self.blocks {
                let at = tile * TILE * pitch + block * ROW;
                a.tilestored(rdx + LIMIT * 1 + at as i32, REGISTERS[tile * self.blocks + block])?;
            }
        }
        a.add(rdx, (self.store.positions() * TILE * pitch) as i32)
    }

    /// Stores the codes of the sums at rax; they belong rbx bytes behind rdx.
    fn codes(self, a: &mut CodeAssembler, top: usize, planes: usize, place: Place) -> Done {
        a.vmovdqa64(SUMS, zmmword_ptr(rax))?;
        match self.blocks {
            2 => a.vpackssdw(SUMS, SUMS, zmmword_ptr(rax + ROW as i32))?,
            _ => a.vpackssdw(SUMS, SUMS, SUMS)?,
        }
        a.vpermq(SUMS, ORDER, SUMS)?;
        for (mask, threshold) in [k1, k2, k3].into_iter().zip(THRESHOLDS).take(top) {
            a.vpcmpgtw(mask, SUMS, threshold)?;
        }
        // Bit 1 of the code is whether the second threshold is reached, bit 0 whether an odd number of them is.
        for &mask in [k2, k3].iter().take(top - 1) {
            a.kxord(k1, k1, mask)?;
        }
        let two = planes > 1 && top > 1;
        let at = |plane: i32| rdx + rbx + plane;
        match place {
            Place::Bits(apart) => {
                let plane = |a: &mut CodeAssembler, q: usize, mask| match self.blocks {
                    2 => a.kmovd(dword_ptr(at((q * apart) as i32)), mask),
                    _ => a.kmovw(word_ptr(at((q * apart) as i32)), mask),
                };
                plane(a, 0, k1)?;
                if two { plane(a, 1, k2) } else { Ok(()) }
            }
            Place::Nibbles => {
                let spread = |i: i32| qword_ptr(rcx + 64 * (top as i32 + 1) + 8 * i);
                a.kmovd(r12d, k1)?;
                a.pdep(r12, r12, spread(0))?;
                if two {
                    a.kmovd(r11d, k2)?;
                    a.pdep(PACKED, PACKED, spread(1))?;
                    a.or(r12, PACKED)?;
                    a.mov(PACKED, ROW as u64)?;
                }
                match self.blocks {
                    2 => a.mov(qword_ptr(at(0)), r12),
                    _ => a.mov(dword_ptr(at(0)), r12d),
                }
            }
        }
    }
}

/// Loads the arguments on the stack.
fn arguments(a: &mut CodeAssembler) -> Done {
    a.mov(LIMIT, qword_ptr(rsp + ARGUMENTS))?;
    a.mov(SPILL, qword_ptr(rsp + ARGUMENTS + 8))
}
