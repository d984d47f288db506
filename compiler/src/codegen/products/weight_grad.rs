//! Gradient of a convolution's weights: rows are taps (ci, ky, kx), columns output channels, the reduction runs over the
//! output positions of a sample in row-major order, and samples are added in ascending order. Levels are summed exactly in
//! a sample and added as fma(c_i, f32(S_i), sum); floats are one chain a sample.

use super::outer::OuterProducts;
use super::relayout::transpose_four;
use super::rows;
use super::tile::{COLUMNS, Finish, Loop, Tile, TileFunction};
use super::weight_amx::WeightTiles;
use super::{GradientLayout, Samples, WeightGrad, group_sizes, share, unit_parts};
use crate::codegen::CodegenError;
use crate::codegen::emitter::{Emitter, F32X4};
use crate::codegen::target::{Level, x86};
use crate::codegen::tiles::transpose_avx512::{Apart, SIDE};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// Bytes of the gradient that a tile reads again from the first-level cache.
const NEAR: usize = 24 << 10;

impl WeightGrad {
    fn tile(&self, e: &Emitter<'_, '_>) -> Tile {
        let (g, row) = (&self.g, self.input.row() as i64);
        let [h, w] = g.output;
        let element = self.input.element as i64;
        let (loops, b_step, finish) = match &self.gradient {
            GradientLayout::Strips(strips) => (
                [Loop { count: h, stride: row }, Loop { count: strips.steps(), stride: 4 }],
                COLUMNS * 4,
                Finish::AddScaled { fma: e.fma },
            ),
            GradientLayout::Maps(m) => (
                [
                    Loop { count: h, stride: g.strides[0] as i64 * row },
                    Loop { count: w, stride: g.strides[1] as i64 * element },
                ],
                m.pixel(),
                Finish::Add,
            ),
        };
        let tile = Tile::new(e.level, self.operands.arithmetic(e), &loops, b_step, finish);
        tile.narrow(e.level, self.operands.narrow_steps())
    }

    /// Whether [`WeightGrad::emit`] writes the gradient in the weights' order, and nothing else.
    pub fn writes_dense(&self, level: &Level, fma: bool) -> bool {
        let levels = self.operands.integer();
        levels && WeightTiles::new(self, level, fma).is_none() && OuterProducts::new(self, level).is_some()
    }

    /// Task `part` of [`WeightGrad::tasks`] over the samples 0 … batch − 1. `scales` leads to the factors c_i of integer
    /// sums, an f32 a sample. `to` are the scratch memory of all tasks and the dense gradient.
    ///
    /// # Errors
    /// When the code generator fails or integer sums have no factors.
    #[allow(clippy::too_many_arguments)]
    pub fn emit(
        &self,
        e: &mut Emitter<'_, '_>,
        part: Value,
        batch: Value,
        a: Samples,
        b: Samples,
        scales: Option<Value>,
        [scratch, dense]: [Value; 2],
    ) -> Result<(), CodegenError> {
        if scales.is_none() && self.operands.integer() {
            return Err(CodegenError::Spec("a product of levels without factors".to_owned()));
        }
        if let Some(scales) = scales {
            if let Some(tiles) = WeightTiles::new(self, e.level, e.fma) {
                return tiles.emit(e, self, part, batch, [a, b], scales, scratch);
            }
            if let Some(tiles) = OuterProducts::new(self, e.level) {
                return tiles.emit(e, self, part, batch, [a, b], scales, dense);
            }
        }
        let [chunks, chunk_rows] = self.chunks();
        let (tile, apart) = (self.tile(e), chunks * chunk_rows * COLUMNS * 4);
        let tile = tile.beside(e.level, self.blocks(), [self.block(), apart]).unwrap_or(tile);
        let units = tile.units.count;
        let function = tile.function(e)?;
        let [unit, chunk] = unit_parts(e, part, chunks);
        // Tasks of units that are taken together share their rows instead.
        let (unit, rows) = together(e, unit, units, chunk_rows / tile.rows);
        let rows = rows.map(|row| e.mul(row, tile.rows));
        let [group, block] = unit_parts(e, unit, self.blocks());
        let sums = e.at(chunk, unit, chunks);
        let sums = e.at(scratch, sums, chunk_rows * COLUMNS * 4);
        for unit in 0..units {
            let sums = e.add(sums, unit * apart);
            clear_rows(e, sums, rows);
        }
        let a_group = e.mul(group, group_sizes(&self.g)[0] * self.input.plane());
        let b_block = match &self.gradient {
            GradientLayout::Strips(_) => e.mul(unit, self.block()),
            GradientLayout::Maps(_) => {
                let first = e.mul(group, self.g.outputs / self.g.groups * 4);
                e.at(first, block, self.block())
            }
        };
        let first_row = e.mul(chunk, chunk_rows);
        let near = self.samples_at_once(units);
        let (zero, most) = (e.int(0), e.int(near));
        e.range(zero, batch, near, |e, sample| {
            let left = e.b.ins().isub(batch, sample);
            let count = e.min(left, most);
            let [a_base, b_base] = [(a, a_group), (b, b_block)].map(|(s, offset)| s.at(e, sample, offset));
            let scales = scales.map_or(b_base, |s| e.at(s, sample, 4));
            let call = [b_base, count, a.stride, b.stride, scales];
            self.rows_of_task(e, function, [first_row, rows[0], rows[1]], a_base, sums, &call);
        });
        Ok(())
    }

    /// Bytes from a block of the gradient's columns to the next.
    fn block(&self) -> usize {
        if let GradientLayout::Strips(strips) = &self.gradient { strips.block() } else { COLUMNS * 4 }
    }

    /// Samples for which a tile of so many units keeps its sums before the next tile.
    fn samples_at_once(&self, units: usize) -> usize {
        // Of one position a tile reads so little that each sample's page costs more than the sums, if they are near too.
        if self.g.output == [1, 1] && self.rows() * COLUMNS * 4 <= NEAR + NEAR / 2 {
            return 1;
        }
        let bytes = match &self.gradient {
            GradientLayout::Strips(p) => units * p.block(),
            GradientLayout::Maps(m) => self.g.output[0] * self.g.output[1] * m.pixel().min(128),
        };
        (NEAR / bytes.max(1)).clamp(1, 128)
    }

    /// Runs the tile over the rows `start` … `end` of a chunk that begins at row `first`; `call` are its arguments behind the
    /// table.
    fn rows_of_task(
        &self,
        e: &mut Emitter<'_, '_>,
        tile: TileFunction,
        [first, start, end]: [Value; 3],
        a: Value,
        sums: Value,
        call: &[Value],
    ) {
        let (g, plane) = (&self.g, self.input.plane());
        let taps = self.tap_offsets(e);
        let count = g.kernel[0] * g.kernel[1];
        let taps_of_channel = e.int(count);
        let begin = e.b.ins().iadd(first, start);
        let channel = e.b.ins().udiv(begin, taps_of_channel);
        let tap = e.b.ins().urem(begin, taps_of_channel);
        let at = e.at(a, channel, plane);
        let (at, tap) = (e.var(at), e.var(tap));
        let table = rows::table(e, tile.rows);
        let (zero, all) = (e.int(0), e.int(self.rows()));
        let left = e.b.ins().isub(all, first);
        e.range(start, end, tile.rows, |e, row| {
            for i in 0..tile.rows {
                let this = e.add(row, i);
                let (channel, t) = (e.b.use_var(at), e.b.use_var(tap));
                let offset = e.at(taps, t, 8);
                let offset = e.read(types::I64, offset, 0);
                let from = e.b.ins().iadd(channel, offset);
                // A row of padding repeats the group's first tap.
                let real = e.b.ins().icmp(IntCC::SignedLessThan, this, left);
                let from = e.b.ins().select(real, from, a);
                e.store(from, table, 8 * i as i32);
                let to = e.at(sums, this, COLUMNS * 4);
                e.store(to, table, (8 * (tile.rows + i)) as i32);
                let next = e.add(t, 1);
                let full = e.b.ins().icmp_imm_s(IntCC::Equal, next, count as i64);
                let further = e.add(channel, plane);
                let (next, channel) = (e.b.ins().select(full, zero, next), e.b.ins().select(full, further, channel));
                e.b.def_var(tap, next);
                e.b.def_var(at, channel);
            }
            let arguments: Vec<Value> = [table].iter().chain(call).copied().collect();
            e.call(tile.function, &arguments);
        });
    }

    /// A table of the byte at which each tap (ky, kx) of a channel starts.
    fn tap_offsets(&self, e: &mut Emitter<'_, '_>) -> Value {
        let bytes = self.offsets().into_iter().flat_map(|offset| (offset as u64).to_le_bytes()).collect();
        e.data("taps", bytes)
    }

    /// The byte of a channel's planes at which each tap (ky, kx) starts.
    pub(super) fn offsets(&self) -> Vec<usize> {
        let (g, p) = (&self.g, &self.input);
        let corner = [p.border[0] - g.pads[0], p.border[1] - g.pads[1]];
        let offset = |tap: usize| {
            let [ky, kx] = [tap / g.kernel[1], tap % g.kernel[1]];
            p.offset(corner[0] + ky * g.dilations[0], corner[1] + kx * g.dilations[1])
        };
        (0..g.kernel[0] * g.kernel[1]).map(offset).collect()
    }

    /// Writes the outputs of `part` of `parts` of the finished sums as dense f32 (O, C/groups, KH, KW), where that is left to do.
    pub fn emit_dense(
        &self,
        e: &mut Emitter<'_, '_>,
        part: Value,
        parts: usize,
        scratch: Value,
        dst: Value,
    ) -> Result<(), CodegenError> {
        if self.writes_dense(e.level, e.fma) {
            return Ok(());
        }
        let (rows, [chunks, chunk_rows]) = (self.rows(), self.chunks());
        let outputs = self.g.outputs / self.g.groups;
        // Outputs that are done together: never of two groups.
        let step = [COLUMNS, 4].into_iter().find(|&n| outputs.is_multiple_of(n)).unwrap_or(1);
        let [first, end] = share(e, part, parts, self.g.outputs / step);
        let mut done = Ok(());
        e.range(first, end, 1, |e, some| {
            let [group, some] = unit_parts(e, some, outputs / step);
            let o = e.mul(some, step);
            let sixteen = e.int(COLUMNS);
            let (block, column) = (e.b.ins().udiv(o, sixteen), e.b.ins().urem(o, sixteen));
            let unit = e.at(block, group, self.blocks());
            let from = e.at(scratch, unit, chunks * chunk_rows * COLUMNS * 4);
            let from = e.at(from, column, 4);
            let to = e.mul(group, outputs * rows * 4);
            let to = e.at(to, o, rows * 4);
            let to = e.b.ins().iadd(dst, to);
            done = transpose(e, [from, to], [rows, rows], step);
        });
        done
    }
}

/// Writes `rows` rows of the sums of so many outputs, side by side in each, as as many rows of the dense gradient, `apart`
/// elements from each other: together, so that what is read is read once, and a line of each at a time, as their lines compete
/// for the same places of the cache.
pub(super) fn transpose(
    e: &mut Emitter<'_, '_>,
    [from, to]: [Value; 2],
    [rows, apart]: [usize; 2],
    outputs: usize,
) -> Result<(), CodegenError> {
    const LINE: usize = 16;
    let whole = if rows >= 4 { outputs / 4 * 4 } else { 0 };
    let several = |e: &mut Emitter<'_, '_>, row: Value, count: usize| {
        let (from, to) = (e.at(from, row, COLUMNS * 4), e.at(to, row, 4));
        for output in (0..whole).step_by(4) {
            let parts: Vec<[Value; 4]> = (0..count / 4).map(|part| four(e, from, 4 * part, output)).collect();
            for i in 0..4 {
                for (part, vectors) in parts.iter().enumerate() {
                    e.store(vectors[i], to, (4 * (output + i) * apart + 16 * part) as i32);
                }
            }
        }
    };
    if whole > 0 {
        let lines = rows / LINE;
        if lines > 0 && outputs == SIDE && e.level.has_x86(x86::AVX512) {
            let tile = Apart::To.function(e.image)?;
            let [apart, lines] = [apart * 4, lines].map(|n| e.int(n));
            e.call(tile, &[from, to, apart, lines]);
        } else {
            e.times(lines, |e, i| {
                let row = e.mul(i, LINE);
                several(e, row, LINE);
            });
        }
        for row in (rows / LINE * LINE..rows).step_by(4) {
            // The last four, some of them again.
            let row = e.int(row.min(rows - 4));
            several(e, row, 4);
        }
    }
    if whole < outputs {
        e.times(rows, |e, row| {
            let (from, to) = (e.at(from, row, COLUMNS * 4), e.at(to, row, 4));
            for i in whole..outputs {
                let v = e.read(types::F32, from, 4 * i as i32);
                e.store(v, to, (4 * i * apart) as i32);
            }
        });
    }
    Ok(())
}

/// Four rows of the sums of four outputs, the first ones at `from`, as four outputs of four rows.
fn four(e: &mut Emitter<'_, '_>, from: Value, row: usize, output: usize) -> [Value; 4] {
    let at = |i: usize| (((row + i) * COLUMNS + output) * 4) as i32;
    let v = [0, 1, 2, 3].map(|i| e.read(F32X4, from, at(i)));
    transpose_four(e, v)
}

/// The first of `units` units that are taken together with `unit`, and that one's share of their `tiles` tiles of rows.
fn together(e: &mut Emitter<'_, '_>, unit: Value, units: usize, tiles: usize) -> (Value, [Value; 2]) {
    let count = e.int(units);
    let among = e.b.ins().urem(unit, count);
    (e.b.ins().isub(unit, among), share(e, among, units, tiles))
}

/// Writes zeros to rows of sums.
fn clear_rows(e: &mut Emitter<'_, '_>, sums: Value, [start, end]: [Value; 2]) {
    e.range(start, end, 1, |e, row| {
        let at = e.at(sums, row, COLUMNS * 4);
        clear(e, at, COLUMNS * 4);
    });
}

/// Writes zeros; `bytes` is a multiple of 16.
pub(super) fn clear(e: &mut Emitter<'_, '_>, at: Value, bytes: usize) {
    let zero = e.splat_f32(0.0);
    debug_assert_eq!(e.b.func.dfg.value_type(zero), F32X4);
    e.times(bytes / 16, |e, i| {
        let at = e.at(at, i, 16);
        e.store(zero, at, 0);
    });
}
