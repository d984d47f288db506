//! The finished sums of a weight gradient, rows of 16 outputs each, in the weights' order: outputs of rows.

use super::outer::{Finished, Take};
use super::relayout::transpose_four;
use super::tile::COLUMNS;
use super::{WeightGrad, share, unit_parts};
use crate::codegen::CodegenError;
use crate::codegen::emitter::{Emitter, F32X4};
use crate::codegen::target::x86;
use crate::codegen::tiles::transpose_avx512::{Apart, SIDE};
use cranelift_codegen::ir::{InstBuilder, Value, types};

impl WeightGrad {
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

/// The dense gradient, whose outputs are so many elements apart, takes finished sums.
pub(super) struct Dense {
    pub base: Value,
    pub apart: usize,
}

impl Take for Dense {
    fn ahead(&self, _: &mut Emitter<'_, '_>, _: &Finished, _: (Value, usize)) -> Result<(), CodegenError> {
        Ok(())
    }

    fn take(&self, e: &mut Emitter<'_, '_>, rows: &Finished, sums: Value) -> Result<(), CodegenError> {
        let to = e.at(self.base, rows.output, self.apart * 4);
        let to = e.at(to, rows.row, 4);
        let write =
            |e: &mut Emitter<'_, '_>, outputs: usize| transpose(e, [sums, to], [rows.rows, self.apart], outputs);
        let [all, fewer] = rows.outputs;
        if all == fewer {
            return write(e, all);
        }
        let (first, second) = e.branch(rows.last, |e| write(e, fewer), |e| write(e, all));
        first.and(second)
    }
}

/// Writes `rows` rows, whole vectors, of the sums of all outputs of a block one output after another, near enough to be read at
/// once; only at levels with AVX-512.
pub fn transpose_near(e: &mut Emitter<'_, '_>, [from, to]: [Value; 2], rows: usize) -> Result<(), CodegenError> {
    let tile = Apart::Near.function(e.image)?;
    let [apart, vectors] = [rows * 4, rows / SIDE].map(|n| e.int(n));
    e.call(tile, &[from, to, apart, vectors]);
    Ok(())
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
