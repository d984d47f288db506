//! The forward product of weights ±1 and codes of few bits by 16-entry tables of the codes, row by row, as inference has it
//! (`tiles::look_up_rows`): an input row's codes become bytes of four channels in a ring on the stack. Weights are indices, packed
//! anew each step. Reference: the product of bytes in `tests`.
//!
//! Cost: as `kernels::look_up`, twice to three times as fast as products of bytes. Limits: see [`LookUpRows::of`]. Needs AVX2 and
//! BMI2, and is taken where there is no AVX-512.

use super::looked::{self, Looked};
use super::{Forward, Samples, share};
use crate::codegen::CodegenError;
use crate::codegen::emitter::Emitter;
use crate::codegen::image::FunctionId;
use crate::codegen::target::{Level, x86};
use crate::codegen::tiles::look_up_rows::{self as tiles, ENTRY, RowFinish, TAPS};
use crate::codegen::tiles::quads_of_bytes::QuadsOfBytes;
use crate::codegen::tiles::{CODES_ADDENDS, Lanes, PAIR};
use crate::lower::LINE;
use crate::lower::pack::{self, LOOK_UP_TILE};
use crate::lower::train::layouts::Levels;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};

/// Bytes of the ring and of a row's sums, which lie on the stack, at most.
const MOST: usize = 96 << 10;
/// A forward product that is looked up row by row.
pub(super) struct LookUpRows<'a> {
    forward: &'a Forward,
    levels: &'a Levels,
    planes: usize,
}

/// Addresses on the stack and of constants.
struct Memory {
    ring: Value,
    sums: Value,
    columns: Value,
    list: Value,
    frame: Value,
    tables: Value,
}

impl<'a> LookUpRows<'a> {
    /// The product, where a level has the instructions and it has the form: codes as [`looked::codes`] says, channels of a group by 8
    /// and its outputs by 32, several positions, and rows that fit the stack.
    pub(super) fn of(forward: &'a Forward, level: &Level) -> Option<LookUpRows<'a>> {
        let (g, (levels, planes)) = (&forward.g, looked::codes(forward)?);
        let machine = level.has_x86(x86::V3) && !level.has(x86::AVX512);
        let blocks = (g.outputs / g.groups).is_multiple_of(PAIR) && (g.channels / g.groups).is_multiple_of(8);
        let across = g.kernel[1] <= TAPS && g.dilations[1] == 1 && g.output[1] > 1;
        let product = LookUpRows { forward, levels, planes };
        let fits = product.slots() * (product.row() + 2 * product.pitch()) + tiles::stack(g.output[1]) <= MOST;
        (machine && blocks && across && fits).then_some(product)
    }

    /// Bytes of four channels of a group.
    fn quads(&self) -> usize {
        self.forward.g.channels / self.forward.g.groups / 4
    }

    /// Input rows under a row of the result, those between taps included.
    fn slots(&self) -> usize {
        let g = &self.forward.g;
        (g.kernel[0] - 1) * g.dilations[0] + 1
    }

    /// Columns under a row of the result.
    fn columns(&self) -> usize {
        let g = &self.forward.g;
        (g.output[1] - 1) * g.strides[1] + g.kernel[1]
    }

    /// Bytes of a row of the ring.
    fn row(&self) -> usize {
        (self.columns() * self.quads()).next_multiple_of(16)
    }

    /// Elements of a row's sums, one a column.
    fn pitch(&self) -> usize {
        self.columns().next_multiple_of(8)
    }

    /// Bytes of the indices of a tap of a block of 16 outputs.
    fn tap(&self) -> usize {
        self.quads().div_ceil(2) * LOOK_UP_TILE
    }

    /// Bytes of the indices of a block of 16 outputs.
    fn block_bytes(&self) -> usize {
        self.forward.g.kernel[0] * self.forward.g.kernel[1] * self.tap()
    }

    /// The bits of eight channels' weights of an output, 1 where the weight is 1.
    fn index(&self, e: &mut Emitter<'_, '_>, src: Value, [output, channel, tap]: [Value; 3]) -> Value {
        let g = &self.forward.g;
        let taps = g.kernel[0] * g.kernel[1];
        let row = e.at(channel, output, g.channels / g.groups);
        let at = e.at(tap, row, taps);
        let at = e.at(src, at, 2);
        let mut byte = e.b.ins().iconst(types::I32, 0);
        for i in 0..8 {
            let level = e.b.ins().sload16(types::I32, MemFlagsData::new().with_notrap(), at, (2 * i * taps) as i32);
            // Of ±1 the sign's complement.
            let sign = e.b.ins().ushr_imm_u(level, 31);
            let one = e.b.ins().bxor_imm_u(sign, 1);
            let bit = e.b.ins().ishl_imm_u(one, i as i64);
            byte = e.b.ins().bor(byte, bit);
        }
        byte
    }

    /// The row tile.
    fn tile(&self) -> tiles::LookUpRows {
        let g = &self.forward.g;
        tiles::LookUpRows {
            lanes: Lanes::Ymm,
            width: g.output[1],
            kernel: g.kernel[1],
            stride: g.strides[1],
            quads: self.quads(),
            pixel: self.quads(),
            limit: pack::look_up_limit(self.planes),
            finish: self.finish(),
        }
    }

    /// How the sums are stored.
    fn finish(&self) -> RowFinish {
        let (pitch, factor) = (self.forward.output.pixel(), 2);
        match self.forward.output.element {
            2 => RowFinish::Words { pitch, factor },
            _ => RowFinish::Sums { pitch, factor, add: false },
        }
    }

    /// One group of a sample, from top to bottom; rows are counted from the border's.
    fn group(
        &self,
        e: &mut Emitter<'_, '_>,
        m: &Memory,
        [convert, tile]: [FunctionId; 2],
        [from, packed, to]: [Value; 3],
    ) {
        let g = &self.forward.g;
        let zero = e.int(0);
        let next = e.var(zero);
        let stride = e.int(self.block_bytes());
        let count = e.int(g.kernel[0]);
        e.store(zero, m.frame, tiles::shift(g.output[1]));
        e.times(g.output[0], |e, y| {
            let top = e.mul(y, g.strides[0]);
            let done = e.b.use_var(next);
            let (first, end) = (e.b.ins().smax(done, top), e.add(top, self.slots()));
            e.range(first, end, 1, |e, row| {
                let codes = e.at(from, row, self.levels.row());
                let [to, sums] = self.slot(e, m, row);
                let columns = e.int(self.columns());
                e.call(convert, &[codes, columns, to, sums]);
            });
            e.b.def_var(next, end);
            let sums = self.list(e, m, top);
            self.addends(e, m, &sums);
            let position = e.mul(y, g.output[1] * self.forward.output.pixel());
            let to = e.b.ins().iadd(to, position);
            e.times(g.outputs / g.groups / PAIR, |e, pair| {
                let weights = e.at(packed, pair, 2 * self.block_bytes());
                let to = e.at(to, pair, PAIR * self.forward.output.element);
                e.store(to, m.frame, 0);
                e.call(tile, &[m.list, count, weights, stride, m.tables, m.frame]);
            });
        });
    }

    /// Where the codes of an input row lie, and its columns' sums.
    fn slot(&self, e: &mut Emitter<'_, '_>, m: &Memory, row: Value) -> [Value; 2] {
        let slots = e.int(self.slots());
        let slot = e.b.ins().urem(row, slots);
        [e.at(m.ring, slot, self.row()), e.at(m.sums, slot, 2 * self.pitch())]
    }

    /// Lists the rows of the window that begins at row `top`; gives the addresses of their sums.
    fn list(&self, e: &mut Emitter<'_, '_>, m: &Memory, top: Value) -> Vec<Value> {
        let g = &self.forward.g;
        let row = |ky: usize| {
            let row = e.add(top, ky * g.dilations[0]);
            let [codes, sums] = self.slot(e, m, row);
            let weights = e.int(ky * g.kernel[1] * self.tap());
            e.store(codes, m.list, (ky * ENTRY) as i32);
            e.store(weights, m.list, (ky * ENTRY + 8) as i32);
            sums
        };
        (0..g.kernel[0]).map(row).collect()
    }

    /// Each position's addend, −Σ of the codes under its window: weights are 2·bit − 1.
    fn addends(&self, e: &mut Emitter<'_, '_>, m: &Memory, sums: &[Value]) {
        let g = &self.forward.g;
        e.times(self.pitch() / 8, |e, v| {
            let rows = sums.iter().map(|&row| {
                let at = e.at(row, v, 16);
                e.load(types::I16X8, at, 0)
            });
            let rows: Vec<Value> = rows.collect();
            if let Some(sum) = rows.into_iter().reduce(|a, b| e.b.ins().iadd(a, b)) {
                let to = e.at(m.columns, v, 16);
                e.store(sum, to, 0);
            }
        });
        e.times(g.output[1], |e, x| {
            let (from, to) = (e.at(m.columns, x, 2 * g.strides[1]), e.at(m.frame, x, 4));
            let sum = e.sum_u16(from, (0..g.kernel[1]).map(|kx| 2 * kx as i32));
            let addend = e.b.ins().ineg(sum);
            e.store(addend, to, CODES_ADDENDS);
        });
    }
}

impl Looked for LookUpRows<'_> {
    fn name(&self) -> &'static str {
        "look-up 16 forward"
    }

    /// As `pack::look_up_weights` does.
    fn pack(&self, e: &mut Emitter<'_, '_>, part: Value, parts: usize, [src, dst]: [Value; 2]) {
        let g = &self.forward.g;
        let (taps, pairs) = (g.kernel[0] * g.kernel[1], self.quads().div_ceil(2));
        let [first, end] = share(e, part, parts, g.outputs / LOOK_UP_TILE * taps * pairs);
        e.range(first, end, 1, |e, vector| {
            let (pairs, taps) = (e.int(pairs), e.int(taps));
            let (pair, rest) = (e.b.ins().urem(vector, pairs), e.b.ins().udiv(vector, pairs));
            let (tap, block) = (e.b.ins().urem(rest, taps), e.b.ins().udiv(rest, taps));
            let (output, channel) = (e.mul(block, LOOK_UP_TILE), e.mul(pair, 8));
            let to = e.at(dst, vector, LOOK_UP_TILE);
            looked::pack_vector(e, [to, output], LOOK_UP_TILE, |e, output| self.index(e, src, [output, channel, tap]));
        });
    }

    fn emit(
        &self,
        e: &mut Emitter<'_, '_>,
        samples: [Value; 2],
        operands: [Samples; 2],
        packed: Value,
    ) -> Result<(), CodegenError> {
        let g = &self.forward.g;
        let convert = QuadsOfBytes { channels: 4 * self.quads(), pixel: self.levels.pixel() }.function(e.image)?;
        let tile = self.tile().function(e.image)?;
        let m = Memory {
            ring: e.stack(self.slots() * self.row(), LINE),
            sums: e.stack(self.slots() * self.pitch() * 2, LINE),
            columns: e.stack(self.pitch() * 2, LINE),
            list: e.stack(g.kernel[0] * ENTRY, 8),
            frame: e.stack(tiles::frame(g.output[1]), 8),
            tables: e.data("look_up_tables", pack::paired_tables()),
        };
        let weights = (packed, LOOK_UP_TILE, self.block_bytes());
        looked::each_group(e, (self.forward, self.levels), samples, operands, weights, |e, addresses| {
            self.group(e, &m, [convert, tile], addresses);
        });
        Ok(())
    }
}
