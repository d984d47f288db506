//! Gradient of a convolution's weights on AMX, of levels that lie as bytes: which tiles of the planes each tap reads and
//! which copy of the gradient it meets. Must never know instructions.

use super::weight_grad::clear;
use super::{GradientLayout, Samples, WeightGrad, group_sizes, share, unit_parts};
use crate::codegen::CodegenError;
use crate::codegen::emitter::Emitter;
use crate::codegen::target::{Level, x86};
use crate::codegen::tiles::amx::{ROW, ROWS, with_tiles};
use crate::codegen::tiles::product_amx::TILE;
use crate::codegen::tiles::weight_amx::{ShiftShape, TOGETHER, Taps, WeightShape};
use crate::lower::LINE;
use crate::lower::train::requirements::COLUMNS;
use cranelift_codegen::ir::Value;

/// Bytes of the copies of a gradient's block, which lie on the stack, at most.
const MOST_BYTES: usize = 40 << 10;
/// Products of tiles in a function at most.
const MOST_PRODUCTS: usize = 512;

/// The work of one sample.
pub(super) struct WeightTiles {
    shift: ShiftShape,
    shape: WeightShape,
    /// Bytes before the first step of a copy that tiles read, and hold zeros.
    before: usize,
}

impl WeightTiles {
    /// For `product` at `level`, if tiles serve it.
    pub(super) fn new(product: &WeightGrad, level: &Level, fma: bool) -> Option<WeightTiles> {
        let (g, planes) = (&product.g, &product.input);
        let GradientLayout::Strips(strips) = &product.gradient else { return None };
        let fits = level.has_x86(x86::AMX) && (planes.element, strips.element) == (1, 1);
        let pitch = planes.row() / 4;
        let whole = planes.row().is_multiple_of(4) && planes.plane().is_multiple_of(ROW) && pitch >= strips.steps();
        if !(fits && whole && group_sizes(g)[0].is_multiple_of(ROWS)) {
            return None;
        }
        // The last byte of a plane that the first tap reads.
        let last = (g.output[0] - 1) * planes.row() + g.output[1] - 1;
        let offsets = product.offsets();
        let range = |taps: &[usize]| {
            let (first, end) = (taps.iter().min()? / ROW, (taps.iter().max()? + last) / ROW + 1);
            Some((first, end - first))
        };
        let mut groups: Vec<&[usize]> = Vec::new();
        let mut rest = &offsets[..];
        while !rest.is_empty() {
            let alone = |n: usize| rest.get(n).and_then(|&o| range(&[o])).map_or(0, |r| r.1);
            let fits = |n: &usize| range(&rest[..*n]).is_some_and(|r| r.1 <= (0..*n).map(alone).max().unwrap_or(0));
            let n = (1..=TOGETHER.min(rest.len())).rev().find(fits).unwrap_or(1);
            let (group, others) = rest.split_at(n);
            groups.push(group);
            rest = others;
        }
        let mut shifts: Vec<u8> = offsets.iter().map(|o| (o % 4) as u8).collect();
        shifts.sort_unstable();
        shifts.dedup();
        // A tile that begins at byte 64·t of a plane meets the step 16·t − o / 4 of the copy that is shifted by o % 4.
        let step = |first: usize, o: usize| (16 * first) as i64 - (o / 4) as i64;
        let ranges = groups.iter().map(|group| range(group)).collect::<Option<Vec<_>>>()?;
        let met = || groups.iter().zip(&ranges).flat_map(|(g, r)| g.iter().map(move |&o| (step(r.0, o), r.1)));
        let before = met().map(|(first, _)| -first).max()?.max(0) as usize * ROW;
        let written = ((g.output[0] - 1) * pitch + strips.steps() + 1) as i64;
        let end = met().map(|(first, steps)| first + 16 * steps as i64).max()?.max(written);
        let copy = before + end as usize * ROW;
        let place = |o: usize| shifts.iter().position(|&s| usize::from(s) == o % 4).unwrap_or(0) * copy;
        let mut tap = 0;
        let parts = groups.iter().zip(&ranges).map(|(group, &(first, steps))| {
            let taps = group.iter().map(|&o| {
                tap += 1;
                (step(first, o) * ROW as i64 + place(o) as i64, tap - 1)
            });
            Taps { a: first * ROW, steps, taps: taps.collect() }
        });
        let parts: Vec<Taps> = parts.collect();
        let products: usize = parts.iter().map(|p| p.steps * p.taps.len()).sum();
        if shifts.len() * copy > MOST_BYTES || products > MOST_PRODUCTS {
            return None;
        }
        let shape = WeightShape { parts, plane: planes.plane(), count: offsets.len(), fma };
        let shift = ShiftShape { rows: g.output[0], steps: strips.steps(), pitch, shifts, copy };
        Some(WeightTiles { shift, shape, before })
    }

    /// Task `part`: for each sample the copies of its block of gradients, then all taps of the task's channels.
    ///
    /// # Errors
    /// When the code generator fails.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn emit(
        &self,
        e: &mut Emitter<'_, '_>,
        product: &WeightGrad,
        part: Value,
        batch: Value,
        [a, b]: [Samples; 2],
        scales: Value,
        scratch: Value,
    ) -> Result<(), CodegenError> {
        let [chunks, chunk_rows] = product.chunks();
        let [unit, chunk] = unit_parts(e, part, chunks);
        let [group, _] = unit_parts(e, unit, product.blocks());
        let inner = group_sizes(&product.g)[0];
        let sixteens = share(e, chunk, chunks, inner / ROWS);
        let bytes = ROWS * self.shape.count * COLUMNS * 4;
        let sums = e.at(scratch, unit, chunks * chunk_rows * COLUMNS * 4);
        e.range(sixteens[0], sixteens[1], 1, |e, i| {
            let sums = e.at(sums, i, bytes);
            clear(e, sums, bytes);
        });
        let copies = self.shift.copy * self.shift.shifts.len();
        let room = e.stack(copies, LINE);
        clear(e, room, copies);
        let room = e.add(room, self.before);
        let plane = self.shape.plane;
        let a_group = e.mul(group, inner * plane);
        let b_block = if let GradientLayout::Strips(s) = &product.gradient { s.block() } else { 0 };
        let b_block = e.mul(unit, b_block);
        let (shift, tiles) = (self.shift.function(e.image)?, self.shape.function(e.image)?);
        with_tiles(
            e,
            |e| e,
            |e| {
                let zero = e.int(0);
                e.range(zero, batch, 1, |e, sample| {
                    let [a, b] = [(a, a_group), (b, b_block)].map(|(s, offset)| s.at(e, sample, offset));
                    let scale = e.at(scales, sample, 4);
                    e.call(shift, &[b, room]);
                    e.range(sixteens[0], sixteens[1], 1, |e, i| {
                        let (a, sums) = (e.at(a, i, ROWS * plane), e.at(sums, i, bytes));
                        e.call(tiles, &[a, room, sums, scale]);
                    });
                });
                Ok(())
            },
        )
    }
}

const _: () = assert!(TILE == ROWS * COLUMNS * 4);
