//! The forward product of weights ±1 and codes of few bits by 64-entry tables made of the codes (layouts in [`crate::lower::strips`]),
//! as inference has it: a byte permutation serves 64 outputs × 6 channels. Weights are indices of tables here, packed anew
//! each step. Reference: the product of bytes in `tests`.
//!
//! Cost: as `kernels::look_up64`, 600 to 800 GMAC/s in place of 200. Limits: see [`LookUp::of`]. Needs AVX-512 with VBMI, and is
//! not taken where there is AMX.

use super::looked::{self, Looked};
use super::{Forward, Samples, share};
use crate::codegen::CodegenError;
use crate::codegen::emitter::Emitter;
use crate::codegen::image::FunctionId;
use crate::codegen::target::{Level, x86};
use crate::codegen::tiles::TablesShape;
use crate::codegen::tiles::look_up_avx512::{ADDENDS, Finish, LookUp64, ROW_ENTRY};
use crate::codegen::tiles::nibbles_of_bytes::NibblesOfBytes;
use crate::codegen::window_sums::Windows;
use crate::lower::LINE;
use crate::lower::strips::{self, BLOCK, SIX, Strips, TABLE, WIDEST};
use crate::lower::train::layouts::Levels;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};

/// Bytes of tables up to which they lie on the stack.
const MOST: usize = 256 << 10;

/// A forward product that is looked up.
pub(super) struct LookUp<'a> {
    forward: &'a Forward,
    levels: &'a Levels,
    strips: Strips,
    planes: usize,
}

/// What one sample's rows need besides its own memory.
struct Memory {
    ring: Value,
    codes: Value,
    sums: Value,
    tables: Value,
    rows: Value,
    addends: Value,
    column_sums: Value,
}

/// The functions of a strip of so many positions.
struct Strip {
    positions: usize,
    nibbles: FunctionId,
    build: FunctionId,
    tile: FunctionId,
}

impl<'a> LookUp<'a> {
    /// The product, where a level has the instructions and it has the form: codes as [`looked::codes`] says, outputs of a group by 64,
    /// and tables of a strip's rows that fit the stack.
    pub(super) fn of(forward: &'a Forward, level: &Level) -> Option<LookUp<'a>> {
        let (g, (levels, planes)) = (&forward.g, looked::codes(forward)?);
        let machine = level.has_x86(x86::V4 | x86::VBMI) && !level.has_x86(x86::AMX);
        let form = (g.outputs / g.groups).is_multiple_of(BLOCK) && g.kernel[1] <= WIDEST;
        let strips = Strips::of(g, 1);
        (machine && form && strips.lanes_at() <= MOST).then_some(LookUp { forward, levels, strips, planes })
    }

    /// Bytes of the indices of a block of outputs.
    fn block_bytes(&self) -> usize {
        let g = &self.forward.g;
        g.kernel[0] * g.kernel[1] * self.strips.sixes * BLOCK
    }

    /// Channels of a group.
    fn channels(&self) -> usize {
        self.forward.g.channels / self.forward.g.groups
    }

    /// The bits of six channels' weights of an output, 1 where the weight is 1.
    fn index(&self, e: &mut Emitter<'_, '_>, src: Value, [output, channel, tap]: [Value; 3]) -> Value {
        let g = &self.forward.g;
        let taps = g.kernel[0] * g.kernel[1];
        let last = e.int(self.channels() - 1);
        let mut byte = e.b.ins().iconst(types::I32, 0);
        for i in 0..SIX {
            let own = e.add(channel, i);
            let inside = e.b.ins().icmp(IntCC::UnsignedLessThanOrEqual, own, last);
            let own = e.min(own, last);
            let row = e.at(own, output, self.channels());
            let at = e.at(tap, row, taps);
            let at = e.at(src, at, 2);
            let level = e.b.ins().sload16(types::I32, MemFlagsData::new().with_notrap(), at, 0);
            let one = e.b.ins().icmp_imm_s(IntCC::SignedGreaterThan, level, 0);
            let one = e.b.ins().band(one, inside);
            let bit = e.b.ins().uextend(types::I32, one);
            let bit = e.b.ins().ishl_imm_u(bit, i as i64);
            byte = e.b.ins().bor(byte, bit);
        }
        byte
    }

    /// Packs `part` of `parts` output by output, [`looked::TAPS`] neighbouring taps at a time: in the order of the indices each
    /// weight would be read by itself.
    fn pack_taps(&self, e: &mut Emitter<'_, '_>, part: Value, parts: usize, [src, dst]: [Value; 2]) {
        let (g, sixes) = (&self.forward.g, self.strips.sixes);
        let (taps, channels) = (g.kernel[0] * g.kernel[1], self.channels());
        let [first, end] = share(e, part, parts, g.outputs / BLOCK * sixes);
        let place = |tap: usize| (tap / g.kernel[1] * sixes * g.kernel[1] + tap % g.kernel[1]) * BLOCK;
        let places: Vec<usize> = (0..taps).map(place).collect();
        e.range(first, end, 1, |e, item| {
            let number = e.int(sixes);
            let (block, six) = (e.b.ins().udiv(item, number), e.b.ins().urem(item, number));
            let (output, channel) = (e.mul(block, BLOCK), e.mul(six, SIX));
            let to = e.at(dst, block, self.block_bytes());
            let to = e.at(to, six, g.kernel[1] * BLOCK);
            let from = e.at(channel, output, channels);
            let from = e.at(src, from, taps * 2);
            let some = |e: &mut Emitter<'_, '_>, some: usize| {
                e.times(BLOCK, |e, output| {
                    let from = e.at(from, output, channels * taps * 2);
                    let lane = looked::lane(e, output, BLOCK);
                    let to = e.b.ins().iadd(to, lane);
                    looked::pack_taps(e, [from, to], some, &places);
                });
            };
            match channels % SIX {
                0 => some(e, SIX),
                rest => {
                    let last = e.b.ins().icmp_imm_s(IntCC::Equal, six, sixes as i64 - 1);
                    e.branch(last, |e| some(e, rest), |e| some(e, SIX));
                }
            }
        });
    }

    fn strip(&self, e: &mut Emitter<'_, '_>, positions: usize) -> Result<Strip, CodegenError> {
        let (g, s, planes) = (&self.forward.g, &self.strips, self.planes);
        let columns = s.columns(positions);
        let nibbles = self.nibbles();
        let build =
            TablesShape { channels: self.channels(), planes, row: nibbles.row(), pitch: columns * TABLE, next: None };
        let tile = LookUp64 {
            positions,
            kernel: g.kernel[1],
            stride: g.strides[1],
            dilation: g.dilations[1],
            columns,
            sixes: s.sixes,
            limit: strips::limit(planes),
            planes: 1,
            half: None,
            rows: g.kernel[0],
            factor: 2,
            finish: self.finish(),
        };
        let [nibbles, build, tile] = [nibbles.function(e.image)?, build.function(e.image)?, tile.function(e.image)?];
        Ok(Strip { positions, nibbles, build, tile })
    }

    /// How the sums are stored.
    fn finish(&self) -> Finish {
        let pitch = self.forward.output.pixel();
        if self.forward.output.element == 2 { Finish::Words { pitch } } else { Finish::Sums { pitch } }
    }

    /// What brings the codes of a group into the layout that tables are made of.
    fn nibbles(&self) -> NibblesOfBytes {
        NibblesOfBytes { channels: self.channels(), planes: self.planes, pixel: self.levels.pixel() }
    }

    /// A strip from column `x` of the result on, from top to bottom; rows are counted from the border's.
    fn columns(&self, e: &mut Emitter<'_, '_>, m: &Memory, strip: &Strip, x: Value, [from, packed, to]: [Value; 3]) {
        let (g, s) = (&self.forward.g, &self.strips);
        let pixel = self.forward.output.pixel();
        let left = e.at(from, x, g.strides[1] * self.levels.pixel());
        let zero = e.int(0);
        let next = e.var(zero);
        e.times(g.output[0], |e, y| {
            let top = e.mul(y, g.strides[0]);
            let built = e.b.use_var(next);
            let (first, end) = (e.b.ins().smax(built, top), e.add(top, s.slots));
            e.range(first, end, 1, |e, row| {
                let codes = e.at(left, row, self.levels.row());
                let [tables, sums] = self.slot(e, m, strip, row);
                let count = e.int(s.columns(strip.positions));
                e.call(strip.nibbles, &[codes, count, m.codes]);
                e.call(strip.build, &[m.codes, count, tables, m.tables, sums]);
            });
            e.b.def_var(next, end);
            self.list(e, m, strip, top);
            self.add_columns(e, m, strip);
            let position = e.at(x, y, g.output[1]);
            let to = e.at(to, position, pixel);
            e.times(g.outputs / g.groups / BLOCK, |e, block| {
                let weights = e.at(packed, block, self.block_bytes());
                let (to, count) = (e.at(to, block, BLOCK * self.forward.output.element), e.int(g.kernel[0]));
                e.call(strip.tile, &[m.rows, count, weights, m.tables, m.addends, to]);
            });
        });
    }

    /// Where the tables of an input row lie, and the sums of its codes.
    fn slot(&self, e: &mut Emitter<'_, '_>, m: &Memory, strip: &Strip, row: Value) -> [Value; 2] {
        let s = &self.strips;
        let slots = e.int(s.slots);
        let slot = e.b.ins().urem(row, slots);
        let tables = e.at(m.ring, slot, s.sixes * s.columns(strip.positions) * TABLE);
        [tables, e.at(m.sums, slot, s.sums_pitch() * 2)]
    }

    /// Lists the rows of the window that begins at row `top`.
    fn list(&self, e: &mut Emitter<'_, '_>, m: &Memory, strip: &Strip, top: Value) {
        let g = &self.forward.g;
        for ky in 0..g.kernel[0] {
            let row = e.add(top, ky * g.dilations[0]);
            let [tables, sums] = self.slot(e, m, strip, row);
            let weights = e.int(ky * self.strips.sixes * g.kernel[1] * BLOCK);
            for (i, v) in [tables, weights, sums].into_iter().enumerate() {
                e.store(v, m.rows, (ky * ROW_ENTRY + 8 * i) as i32);
            }
        }
    }

    /// Each position's addend, −Σ of the codes under its window: weights are 2·bit − 1.
    fn add_columns(&self, e: &mut Emitter<'_, '_>, m: &Memory, strip: &Strip) {
        let g = &self.forward.g;
        let windows = Windows { g, positions: strip.positions, scale: -1 };
        windows.store_addends(e, [m.column_sums, m.addends], |e, vectors, of_row| {
            let rows = (0..g.kernel[0]).map(|ky| e.load(types::I64, m.rows, (ky * ROW_ENTRY + 16) as i32));
            let rows: Vec<Value> = rows.collect();
            let vector = |v| rows.iter().map(|&row| of_row(e, row, v)).collect::<Vec<_>>();
            let vectors: Vec<Vec<Value>> = (0..vectors).map(vector).collect();
            vectors.into_iter().filter_map(|sums| sums.into_iter().reduce(|a, b| e.b.ins().iadd(a, b))).collect()
        });
    }
}

impl Looked for LookUp<'_> {
    fn name(&self) -> &'static str {
        "look-up 64 forward"
    }

    /// As `strips::weights` does.
    fn pack(&self, e: &mut Emitter<'_, '_>, part: Value, parts: usize, [src, dst]: [Value; 2]) {
        let g = &self.forward.g;
        let ([rows, columns], sixes) = (g.kernel, self.strips.sixes);
        if rows * columns >= looked::TAPS {
            return self.pack_taps(e, part, parts, [src, dst]);
        }
        let [first, end] = share(e, part, parts, g.outputs / BLOCK * rows * sixes * columns);
        e.range(first, end, 1, |e, vector| {
            let mut rest = vector;
            let mut digit = |e: &mut Emitter<'_, '_>, n: usize| {
                let n = e.int(n);
                let digit = e.b.ins().urem(rest, n);
                rest = e.b.ins().udiv(rest, n);
                digit
            };
            let (kx, six, ky) = (digit(e, columns), digit(e, sixes), digit(e, rows));
            let output = e.mul(rest, BLOCK);
            let channel = e.mul(six, SIX);
            let to = e.at(dst, vector, BLOCK);
            let tap = e.at(kx, ky, columns);
            looked::pack_vector(e, [to, output], BLOCK, |e, output| self.index(e, src, [output, channel, tap]));
        });
    }

    fn emit(
        &self,
        e: &mut Emitter<'_, '_>,
        samples: [Value; 2],
        operands: [Samples; 2],
        packed: Value,
    ) -> Result<(), CodegenError> {
        let (g, s) = (&self.forward.g, &self.strips);
        // The last row's sums are read by a whole vector from any tap on.
        let ring = e.stack(s.lanes_at() + LINE, LINE);
        let m = Memory {
            ring,
            sums: e.add(ring, s.sums_at()),
            codes: e.stack(self.nibbles().row() * s.columns(s.positions), 16),
            tables: e.data("quad_tables", strips::quad_tables()),
            rows: e.stack(g.kernel[0] * ROW_ENTRY, 8),
            addends: e.stack(ADDENDS + 8, 8),
            column_sums: e.stack(s.sums_pitch() * 2, 16),
        };
        let mut all = Vec::new();
        for [first, count, positions] in s.parts() {
            all.push((first, count, self.strip(e, positions)?));
        }
        let weights = (packed, BLOCK, self.block_bytes());
        looked::each_group(e, (self.forward, self.levels), samples, operands, weights, |e, addresses| {
            for (first, count, strip) in &all {
                e.times(*count, |e, i| {
                    let x = e.mul(i, strip.positions);
                    let x = e.add(x, *first);
                    self.columns(e, &m, strip, x, addresses);
                });
            }
        });
        Ok(())
    }
}
