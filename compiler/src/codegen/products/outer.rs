//! Gradient of the weights of a layer with one output position, of small levels: an outer product a sample. Where the rows
//! are neighbours in memory and the level has AVX-512, they run tiles of their own, some rows over all samples at a time, whose
//! sums stay near until they are written in the weights' order: such a gradient is larger than any cache. Must never know
//! instructions.

use super::weight_grad::clear;
use super::weight_order::transpose;
use super::{GradientLayout, LINE, Operands, Samples, WeightGrad, group_sizes, unit_parts};
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
const MOST_BYTES: usize = 12 << 10;

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

    /// Task `part` over all samples, into the dense gradient.
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
        dense: Value,
    ) -> Result<(), CodegenError> {
        let ([chunks, chunk_rows], blocks) = (product.chunks(), product.blocks());
        let [unit, chunk] = unit_parts(e, part, chunks);
        let [group, block] = unit_parts(e, unit, blocks);
        let table = table_bytes(self.top);
        let most = MOST_BYTES / table;
        let make = TableShape { top: self.top }.function(e.image)?;
        let GradientLayout::Strips(strips) = &product.gradient else {
            return Err(CodegenError::Spec("a product of levels without strips".to_owned()));
        };
        let [inner, outputs] = group_sizes(&product.g);
        let a_group = e.mul(group, inner * product.input.plane());
        let b_block = e.mul(unit, strips.block());
        let to = e.mul(group, outputs);
        let to = e.at(to, block, COLUMNS);
        let task = Task {
            batch,
            samples: [(a, e.at(a_group, chunk, chunk_rows * 2)), (b, b_block)],
            scales,
            make,
            most,
            tables: e.stack(most * table, LINE),
            gathered: e.stack(most * GATHERED, LINE),
            sums: e.stack(GATHERED * COLUMNS * 4, LINE),
            dense: {
                let row = e.mul(to, product.rows() * 4);
                let row = e.b.ins().iadd(dense, row);
                e.at(row, chunk, chunk_rows * 4)
            },
            apart: product.rows(),
            outputs: [COLUMNS.min(outputs), outputs - (blocks - 1) * COLUMNS],
            last: e.b.ins().icmp_imm_s(IntCC::Equal, block, blocks as i64 - 1),
        };
        // A task of the last rows may have fewer.
        let last = product.rows() - (chunks - 1) * chunk_rows;
        let [all, fewer] = [chunk_rows.min(product.rows()), last].map(|rows| self.parts(e, rows));
        let (all, fewer) = (all?, fewer?);
        if chunks == 1 {
            return task.emit(e, &all);
        }
        let end = e.b.ins().icmp_imm_s(IntCC::Equal, chunk, chunks as i64 - 1);
        let (first, second) = e.branch(end, |e| task.emit(e, &fewer), |e| task.emit(e, &all));
        first.and(second)
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
                Ok(Rows { first, times, rows, gather: GatherShape { rows }.function(e.image)?, tiles })
            })
            .collect()
    }
}

/// Rows that are gathered alike, so many times, and what runs over them: first row, times, tile.
struct Rows {
    first: usize,
    times: usize,
    rows: usize,
    gather: FunctionId,
    tiles: Vec<(usize, usize, FunctionId)>,
}

/// A task's operands and memory.
struct Task {
    batch: Value,
    /// Rows and columns, with the offset of the task's first ones.
    samples: [(Samples, Value); 2],
    scales: Value,
    /// What makes tables, of so many samples at most.
    make: FunctionId,
    most: usize,
    tables: Value,
    gathered: Value,
    sums: Value,
    /// The dense gradient of the task's first output and row, and elements from one output to the next.
    dense: Value,
    apart: usize,
    /// Outputs of a block, and of the last; whether this is it.
    outputs: [usize; 2],
    last: Value,
}

impl Task {
    /// All rows, some at a time over all samples.
    fn emit(&self, e: &mut Emitter<'_, '_>, parts: &[Rows]) -> Result<(), CodegenError> {
        // The tables of few samples are made once, else for every part's samples in turn.
        let zero = e.int(0);
        let few = e.b.ins().icmp_imm_s(IntCC::SignedLessThanOrEqual, self.batch, self.most as i64);
        let many = e.b.ins().icmp_imm_s(IntCC::SignedGreaterThan, self.batch, self.most as i64);
        e.when(few, |e| self.make(e, zero, self.batch));
        for part in parts {
            let mut done = Ok(());
            e.times(part.times, |e, i| {
                let first = e.mul(i, GATHERED);
                let first = e.add(first, part.first);
                clear(e, self.sums, part.rows * COLUMNS * 4);
                e.walk(zero, self.batch, |e, sample| {
                    let (left, most) = (e.b.ins().isub(self.batch, sample), e.int(self.most));
                    let count = e.min(left, most);
                    e.when(many, |e| self.make(e, sample, count));
                    let (a, offset) = self.samples[0];
                    let from = a.at(e, sample, offset);
                    let from = e.at(from, first, 2);
                    e.call(part.gather, &[from, a.stride, self.gathered, count]);
                    for &(first, times, tile) in &part.tiles {
                        e.times(times, |e, i| {
                            let row = e.mul(i, ROWS);
                            let row = e.add(row, first);
                            let (from, to) = (e.b.ins().iadd(self.gathered, row), e.at(self.sums, row, COLUMNS * 4));
                            e.call(tile, &[from, self.tables, to, count]);
                        });
                    }
                    most
                });
                let to = e.at(self.dense, first, 4);
                let write = |e: &mut Emitter<'_, '_>, outputs: usize| {
                    transpose(e, [self.sums, to], [part.rows, self.apart], outputs)
                };
                let [all, fewer] = self.outputs;
                let (first, second) = if all == fewer {
                    (write(e, all), Ok(()))
                } else {
                    e.branch(self.last, |e| write(e, fewer), |e| write(e, all))
                };
                done = first.and(second);
            });
            done?;
        }
        Ok(())
    }

    /// The tables of `count` samples from `sample` on.
    fn make(&self, e: &mut Emitter<'_, '_>, sample: Value, count: Value) {
        let (b, offset) = self.samples[1];
        let (from, scale) = (b.at(e, sample, offset), e.at(self.scales, sample, 4));
        e.call(self.make, &[from, b.stride, scale, self.tables, count]);
    }
}
