//! Gradient of the weights of a layer with one output position, of small levels: an outer product a sample. Where the rows
//! are neighbours in memory and the level has AVX-512, they run tiles of their own. Must never know instructions.

use super::weight_grad::clear;
use super::{GradientLayout, Operands, Samples, WeightGrad, group_sizes, lines, unit_parts};
use crate::codegen::CodegenError;
use crate::codegen::emitter::Emitter;
use crate::codegen::image::FunctionId;
use crate::codegen::target::{Level, x86};
use crate::codegen::tiles::outer_avx512::{GATHERED, GatherShape, OuterShape, ROWS, TableShape, table_bytes};
use crate::lower::train::requirements::COLUMNS;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value};

/// The greatest level that tables are made for.
const MOST: i32 = 15;
/// Bytes of tables, which lie on the stack, at most.
const MOST_BYTES: usize = 16 << 10;

/// The tiles of a weight gradient.
pub(super) struct OuterProducts {
    /// The greatest level of the rows.
    top: usize,
}

impl OuterProducts {
    /// For `product` at `level`, if tiles serve it.
    pub(super) fn new(product: &WeightGrad, level: &Level) -> Option<OuterProducts> {
        let (g, planes) = (&product.g, &product.input);
        let Operands::Levels { a, bytes: false, .. } = product.operands else { return None };
        let neighbours = product.offsets().into_iter().eq((0..g.kernel[0] * g.kernel[1]).map(|tap| 2 * tap));
        let dense = planes.element == 2 && neighbours && planes.plane() == 2 * g.kernel[0] * g.kernel[1];
        let small = a.least >= 0 && a.greatest <= MOST;
        let fits = level.has_x86(x86::AVX512) && g.output == [1, 1] && dense && small;
        fits.then_some(OuterProducts { top: a.greatest as usize })
    }

    /// Task `part` over all samples.
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
        let sums = e.at(scratch, part, chunk_rows * COLUMNS * 4);
        clear(e, sums, chunk_rows * COLUMNS * 4);
        let table = table_bytes(self.top);
        let most = MOST_BYTES / table;
        let (tables, gathered) = (lines(e, most * table), lines(e, most * GATHERED * 2));
        let make = TableShape { top: self.top }.function(e.image)?;
        let GradientLayout::Strips(strips) = &product.gradient else {
            return Err(CodegenError::Spec("a product of levels without strips".to_owned()));
        };
        let a_group = e.mul(group, group_sizes(&product.g)[0] * product.input.plane());
        let a_group = e.at(a_group, chunk, chunk_rows * 2);
        let b_block = e.mul(unit, strips.block());
        // A task of the last rows may have fewer.
        let last = product.rows() - (chunks - 1) * chunk_rows;
        let [all, fewer] = [chunk_rows.min(product.rows()), last].map(|rows| self.parts(e, rows));
        let (all, fewer) = (all?, fewer?);
        let (zero, most) = (e.int(0), e.int(most));
        e.walk(zero, batch, |e, sample| {
            let left = e.b.ins().isub(batch, sample);
            let count = e.min(left, most);
            let [a_base, b_base] = [(a, a_group), (b, b_block)].map(|(s, offset)| s.at(e, sample, offset));
            let scale = e.at(scales, sample, 4);
            e.call(make, &[b_base, b.stride, scale, tables, count]);
            let rows = |e: &mut Emitter<'_, '_>, parts: &[Rows]| {
                for part in parts {
                    e.times(part.times, |e, i| {
                        let first = e.mul(i, GATHERED);
                        let first = e.add(first, part.first);
                        let (from, sums) = (e.at(a_base, first, 2), e.at(sums, first, COLUMNS * 4));
                        e.call(part.gather, &[from, a.stride, gathered, count]);
                        for &(first, times, tile) in &part.tiles {
                            e.times(times, |e, i| {
                                let row = e.mul(i, ROWS);
                                let row = e.add(row, first);
                                let (from, to) = (e.at(gathered, row, 2), e.at(sums, row, COLUMNS * 4));
                                e.call(tile, &[from, tables, to, count]);
                            });
                        }
                    });
                }
            };
            if chunks == 1 {
                rows(e, &all);
            } else {
                let end = e.b.ins().icmp_imm_s(IntCC::Equal, chunk, chunks as i64 - 1);
                e.branch(end, |e| rows(e, &fewer), |e| rows(e, &all));
            }
            most
        });
        Ok(())
    }

    /// The rows of a task: what is gathered whole, then the rest.
    fn parts(&self, e: &mut Emitter<'_, '_>, rows: usize) -> Result<Vec<Rows>, CodegenError> {
        let whole = rows / GATHERED;
        let parts = [(0, whole, GATHERED), (whole * GATHERED, 1, rows % GATHERED)];
        let parts = parts.into_iter().filter(|&(_, times, rows)| times * rows > 0);
        parts
            .map(|(first, times, rows)| {
                let tiles = [(0, rows / ROWS, ROWS), (rows / ROWS * ROWS, 1, rows % ROWS)];
                let tiles = tiles.into_iter().filter(|&(_, times, rows)| times * rows > 0);
                let tiles = tiles.map(|(first, times, rows)| {
                    let shape = OuterShape { top: self.top, rows, fma: e.fma };
                    Ok((first, times, shape.function(e.image)?))
                });
                let tiles = tiles.collect::<Result<Vec<_>, CodegenError>>()?;
                Ok(Rows { first, times, gather: GatherShape { rows }.function(e.image)?, tiles })
            })
            .collect()
    }
}

/// Rows that are gathered alike, so many times, and what runs over them: first row, times, tile.
struct Rows {
    first: usize,
    times: usize,
    gather: FunctionId,
    tiles: Vec<(usize, usize, FunctionId)>,
}
