//! Gradient of a convolution's weights: rows are taps (ci, ky, kx), columns output channels, the reduction runs over the
//! output positions of a sample in row-major order, and samples are added in ascending order. Levels are summed exactly in
//! a sample and added as fma(c_i, f32(S_i), sum); floats are one chain a sample.

use super::outer::{OuterProducts, Take};
use super::rows;
use super::tile::{COLUMNS, Finish, Loop, Tile, TileFunction, Winograd};
use super::weight_amx::WeightTiles;
use super::weight_order::Dense;
use super::{
    GradientLayout, Samples, WeightGrad, emit_planes_from_levels, emit_strips_from_levels, group_sizes, share,
    unit_parts,
};
use crate::codegen::CodegenError;
use crate::codegen::emitter::{Emitter, F32X4};
use crate::codegen::target::Level;
use crate::lower::train::layouts::Levels;
use crate::lower::train::requirements::border;
use crate::lower::train::requirements::winograd::TAPS;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// Bytes of the gradient that a tile reads again from the first-level cache.
const NEAR: usize = 24 << 10;

/// The rows of a product's tiles and the operands that they read.
struct Rows {
    tile: Tile,
    /// The byte of a channel's planes at which each row of the channel starts.
    starts: Vec<usize>,
    /// Bytes from one channel to the next.
    plane: usize,
    /// Taps of a row.
    taps: usize,
    /// Bytes from one block of the gradient's columns to the next.
    block: usize,
    /// Bytes of a block of the gradient that are read.
    read: usize,
}

impl WeightGrad {
    fn rows_at(&self, e: &Emitter<'_, '_>) -> Rows {
        if let Some(pairs) = self.filtered(e.level) {
            let steps = [Loop { count: pairs.steps(), stride: 4 }];
            let distances = Winograd { a: pairs.value(), c: COLUMNS * 4 };
            let (starts, plane, block) = (pairs.offsets(), pairs.plane(), pairs.block());
            let tile = Tile::filtering(&steps, distances, Finish::AddScaled { fma: e.fma });
            return Rows { tile, starts, plane, taps: TAPS, block, read: block };
        }
        let (block, read) = match &self.gradient {
            GradientLayout::Strips(strips) => (strips.block(), strips.block()),
            GradientLayout::Maps(m) => (COLUMNS * 4, self.g.output[0] * self.g.output[1] * m.pixel().min(128)),
        };
        Rows { tile: self.tile(e), starts: self.offsets(), plane: self.input.plane(), taps: 1, block, read }
    }

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

    /// What profiles call it at `level`.
    pub fn name(&self, level: &Level) -> &'static str {
        match (self.operands.integer(), self.filtered(level)) {
            (true, Some(_)) => "levels weight gradient, Winograd",
            (true, None) => "levels weight gradient",
            (false, _) => "float weight gradient",
        }
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
                let dense = Dense { base: dense, apart: self.rows() };
                return tiles.emit(e, self, part, batch, [a, b], scales, &dense);
            }
        }
        let [chunks, chunk_rows] = self.chunks();
        let (mut rows, apart) = (self.rows_at(e), chunks * chunk_rows * COLUMNS * 4);
        let several = rows.tile.beside(e.level, self.blocks(), [rows.block, apart]);
        rows.tile = several.unwrap_or(rows.tile);
        let units = rows.tile.units.count;
        let function = rows.tile.function(e)?;
        let [unit, chunk] = unit_parts(e, part, chunks);
        // Tasks of units that are taken together share their rows instead.
        let (unit, tiles) = together(e, unit, units, chunk_rows / rows.taps / function.rows);
        let range = tiles.map(|tile| e.mul(tile, function.rows));
        let [group, block] = unit_parts(e, unit, self.blocks());
        let sums = e.at(chunk, unit, chunks);
        let sums = e.at(scratch, sums, chunk_rows * COLUMNS * 4);
        for unit in 0..units {
            let sums = e.add(sums, unit * apart);
            e.range(range[0], range[1], 1, |e, row| {
                let at = e.at(sums, row, rows.taps * COLUMNS * 4);
                clear(e, at, rows.taps * COLUMNS * 4);
            });
        }
        let a_group = e.mul(group, group_sizes(&self.g)[0] * rows.plane);
        let b_block = match &self.gradient {
            GradientLayout::Strips(_) => e.mul(unit, rows.block),
            GradientLayout::Maps(_) => {
                let first = e.mul(group, self.g.outputs / self.g.groups * 4);
                e.at(first, block, rows.block)
            }
        };
        let first_row = e.mul(chunk, chunk_rows / rows.taps);
        let near = self.samples_at_once(units * rows.read);
        let (zero, most) = (e.int(0), e.int(near));
        e.range(zero, batch, near, |e, sample| {
            let left = e.b.ins().isub(batch, sample);
            let count = e.min(left, most);
            let [a_base, b_base] = [(a, a_group), (b, b_block)].map(|(s, offset)| s.at(e, sample, offset));
            let scales = scales.map_or(b_base, |s| e.at(s, sample, 4));
            let call = [b_base, count, a.stride, b.stride, scales];
            self.rows_of_task(e, &rows, function, [first_row, range[0], range[1]], [a_base, sums], &call);
        });
        Ok(())
    }

    /// The same where [`WeightGrad::writes_dense`], but `take` gets the sums, some rows at a time.
    ///
    /// # Errors
    /// When the code generator fails or there are no such tiles.
    #[allow(clippy::too_many_arguments)]
    pub fn emit_rows(
        &self,
        e: &mut Emitter<'_, '_>,
        part: Value,
        batch: Value,
        operands: [Samples; 2],
        scales: Value,
        take: &dyn Take,
    ) -> Result<(), CodegenError> {
        let tiles = OuterProducts::new(self, e.level);
        let tiles = tiles.ok_or_else(|| CodegenError::Spec("a weight gradient without outer products".to_owned()))?;
        tiles.emit(e, self, part, batch, operands, scales, take)
    }

    /// Brings a sample's activations, as levels, into the order that [`WeightGrad::emit`] reads; gives what it is.
    ///
    /// # Errors
    /// When the levels lie otherwise than required or the code generator fails.
    pub fn emit_input(
        &self,
        e: &mut Emitter<'_, '_>,
        from: &Levels,
        [src, dst]: [Value; 2],
    ) -> Result<&'static str, CodegenError> {
        if let Some(pairs) = self.filtered(e.level) {
            pairs.emit_input(e, border(&self.g), from, [src, dst])?;
            return Ok("to Winograd's planes");
        }
        emit_planes_from_levels(e, from, src, &self.input, dst);
        Ok("to planes")
    }

    /// The same of a gradient.
    ///
    /// # Errors
    /// When there are no strips or the code generator fails.
    pub fn emit_gradient(
        &self,
        e: &mut Emitter<'_, '_>,
        from: &Levels,
        [src, dst]: [Value; 2],
    ) -> Result<&'static str, CodegenError> {
        if let Some(pairs) = self.filtered(e.level) {
            pairs.emit_gradient(e, from, [src, dst])?;
            return Ok("to Winograd's strips");
        }
        let GradientLayout::Strips(strips) = &self.gradient else {
            return Err(CodegenError::Spec("strips are made of levels".to_owned()));
        };
        emit_strips_from_levels(e, from, src, strips, dst);
        Ok("to strips")
    }

    /// Samples for which a tile that reads so many bytes of each keeps its sums before the next tile.
    fn samples_at_once(&self, bytes: usize) -> usize {
        // Of one position a tile reads so little that each sample's page costs more than the sums, if they are near too.
        if self.g.output == [1, 1] && self.rows() * COLUMNS * 4 <= NEAR + NEAR / 2 {
            return 1;
        }
        (NEAR / bytes.max(1)).clamp(1, 128)
    }

    /// Runs the tile over the rows `start` … `end` of a chunk that begins at row `first`; `call` are its arguments behind the
    /// table.
    fn rows_of_task(
        &self,
        e: &mut Emitter<'_, '_>,
        rows: &Rows,
        tile: TileFunction,
        [first, start, end]: [Value; 3],
        [a, sums]: [Value; 2],
        call: &[Value],
    ) {
        let (plane, count) = (rows.plane, rows.starts.len());
        let starts = rows.starts.iter().flat_map(|&offset| (offset as u64).to_le_bytes()).collect();
        let starts = e.data("taps", starts);
        let rows_of_channel = e.int(count);
        let begin = e.b.ins().iadd(first, start);
        let channel = e.b.ins().udiv(begin, rows_of_channel);
        let tap = e.b.ins().urem(begin, rows_of_channel);
        let at = e.at(a, channel, plane);
        let (at, tap) = (e.var(at), e.var(tap));
        let table = rows::table(e, tile.rows);
        let (zero, all) = (e.int(0), e.int(self.rows() / rows.taps));
        let left = e.b.ins().isub(all, first);
        e.range(start, end, tile.rows, |e, row| {
            for i in 0..tile.rows {
                let this = e.add(row, i);
                let (channel, t) = (e.b.use_var(at), e.b.use_var(tap));
                let offset = e.at(starts, t, 8);
                let offset = e.read(types::I64, offset, 0);
                let from = e.b.ins().iadd(channel, offset);
                // A row of padding repeats the group's first tap.
                let real = e.b.ins().icmp(IntCC::SignedLessThan, this, left);
                let from = e.b.ins().select(real, from, a);
                e.store(from, table, 8 * i as i32);
                let to = e.at(sums, this, rows.taps * COLUMNS * 4);
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
}

/// The first of `units` units that are taken together with `unit`, and that one's share of their `tiles` tiles of rows.
fn together(e: &mut Emitter<'_, '_>, unit: Value, units: usize, tiles: usize) -> (Value, [Value; 2]) {
    let count = e.int(units);
    let among = e.b.ins().urem(unit, count);
    (e.b.ins().isub(unit, among), share(e, among, units, tiles))
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
