//! Gradient of the weights of a layer with one output position, of small levels: an outer product a sample. Where the rows
//! are neighbours in memory and the level has AVX-512, they run tiles of their own, some rows over all samples at a time, whose
//! sums stay near until they are taken: such a gradient is larger than any cache. Must never know instructions, nor what becomes
//! of the sums.

use super::weight_grad::clear;
use super::{GradientLayout, Operands, Samples, WeightGrad, group_sizes, unit_parts};
use crate::codegen::CodegenError;
use crate::codegen::emitter::Emitter;
use crate::codegen::image::FunctionId;
use crate::codegen::target::{Level, x86};
pub use crate::codegen::tiles::outer_avx512::GATHERED;
use crate::codegen::tiles::outer_avx512::{GatherShape, OuterShape, ROWS, TableShape, table_bytes};
use crate::lower::LINE;
use crate::lower::train::requirements::COLUMNS;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value};

/// The greatest level that tables are made for.
const MOST: i32 = 15;
/// Bytes of tables, which lie on the stack, at most.
const MOST_BYTES: usize = 12 << 10;

/// Finished sums: of so many rows of a block's outputs.
pub struct Finished {
    /// The first output, of all groups'.
    pub output: Value,
    /// Outputs of a block, and of the last one of a group; whether this is it.
    pub outputs: [usize; 2],
    /// See [`Finished::outputs`].
    pub last: Value,
    /// The first row, and how many.
    pub row: Value,
    /// See [`Finished::row`].
    pub rows: usize,
}

/// What becomes of finished sums.
pub trait Take {
    /// Part `i` of `parts` of what can be done before the sums of these rows are there.
    ///
    /// # Errors
    /// When the code generator fails.
    fn ahead(&self, e: &mut Emitter<'_, '_>, rows: &Finished, part: (Value, usize)) -> Result<(), CodegenError>;

    /// Takes the sums, rows of [`COLUMNS`] one after another.
    ///
    /// # Errors
    /// When the code generator fails.
    fn take(&self, e: &mut Emitter<'_, '_>, rows: &Finished, sums: Value) -> Result<(), CodegenError>;
}

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
        take: &dyn Take,
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
        let output = e.mul(group, outputs);
        let output = e.at(output, block, COLUMNS);
        let task = Task {
            batch,
            samples: [(a, e.at(a_group, chunk, chunk_rows * 2)), (b, b_block)],
            scales,
            make,
            most,
            tables: e.stack(most * table, LINE),
            gathered: e.stack(most * GATHERED, LINE),
            sums: e.stack(GATHERED * COLUMNS * 4, LINE),
            take,
            output,
            row: e.mul(chunk, chunk_rows),
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
struct Task<'a> {
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
    take: &'a dyn Take,
    /// The task's first output and row.
    output: Value,
    row: Value,
    /// Outputs of a block, and of the last; whether this is it.
    outputs: [usize; 2],
    last: Value,
}

impl Task<'_> {
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
                let finished = Finished {
                    output: self.output,
                    outputs: self.outputs,
                    last: self.last,
                    row: e.b.ins().iadd(self.row, first),
                    rows: part.rows,
                };
                clear(e, self.sums, part.rows * COLUMNS * 4);
                e.walk(zero, self.batch, |e, sample| {
                    let (left, most) = (e.b.ins().isub(self.batch, sample), e.int(self.most));
                    let count = e.min(left, most);
                    e.when(many, |e| self.make(e, sample, count));
                    let (a, offset) = self.samples[0];
                    let from = a.at(e, sample, offset);
                    let from = e.at(from, first, 2);
                    e.call(part.gather, &[from, a.stride, self.gathered, count]);
                    let begin = e.b.ins().icmp_imm_s(IntCC::Equal, sample, 0);
                    for (at, &(first, times, tile)) in part.tiles.iter().enumerate() {
                        e.times(times, |e, i| {
                            if at == 0 {
                                e.when(begin, |e| also(&mut done, self.take.ahead(e, &finished, (i, times))));
                            }
                            let row = e.mul(i, ROWS);
                            let row = e.add(row, first);
                            let (from, to) = (e.b.ins().iadd(self.gathered, row), e.at(self.sums, row, COLUMNS * 4));
                            e.call(tile, &[from, self.tables, to, count]);
                        });
                    }
                    most
                });
                also(&mut done, self.take.take(e, &finished, self.sums));
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

/// Keeps the first error.
fn also(done: &mut Result<(), CodegenError>, more: Result<(), CodegenError>) {
    if done.is_ok() {
        *done = more;
    }
}
