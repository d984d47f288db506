//! Sums of the codes under the windows of neighbouring positions, from the sums of each column's codes in the rows of the input, and
//! the addends that follow from them: up to eight positions in the lanes of one vector where the stride is 1. Must never know
//! what made the columns' sums.

use super::emitter::Emitter;
use crate::graph::ops::Geometry;
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// Positions of a vector.
const POSITIONS: usize = 8;

/// What a vector of a row is, given the row's address and the vector's number.
pub(super) type OfRow<'a> = dyn Fn(&mut Emitter<'_, '_>, Value, usize) -> Value + 'a;

/// The windows of some neighbouring positions.
pub(super) struct Windows<'g> {
    pub g: &'g Geometry,
    pub positions: usize,
    /// An addend is the sum of the codes, which is at most 65 535, times this.
    pub scale: i64,
}

impl Windows<'_> {
    /// Stores the positions' addends, as i32. `sum_rows` sums over the rows of the windows so many vectors of each row, the second
    /// function's of its address and the vector's number; `columns` has room for the sums of all columns.
    pub(super) fn store_addends(
        &self,
        e: &mut Emitter<'_, '_>,
        [columns, to]: [Value; 2],
        sum_rows: impl FnOnce(&mut Emitter<'_, '_>, usize, &OfRow<'_>) -> Vec<Value>,
    ) {
        if self.in_lanes() {
            let sums = sum_rows(e, 1, &|e, row, _| self.of_row(e, row));
            return sums.into_iter().for_each(|sums| self.store(e, sums, to));
        }
        let (g, [_, kernel]) = (self.g, self.g.kernel);
        let span = (self.positions - 1) * g.strides[1] + (kernel - 1) * g.dilations[1] + 1;
        let sums = sum_rows(e, span.div_ceil(8), &|e, row, v| e.load(types::I16X8, row, 16 * v as i32));
        for (v, sums) in sums.into_iter().enumerate() {
            e.store(sums, columns, 16 * v as i32);
        }
        self.store_each(e, columns, to);
    }

    /// Whether the positions are the lanes of one vector.
    fn in_lanes(&self) -> bool {
        self.g.strides[1] == 1 && self.positions <= POSITIONS
    }

    /// Of an input row, whose columns' sums lie at `row` as u16: what it adds to the sums of eight positions. Lanes behind the last
    /// position hold what happens to lie behind the columns, of which up to 14 bytes are read.
    fn of_row(&self, e: &mut Emitter<'_, '_>, row: Value) -> Value {
        let columns = (0..self.g.kernel[1]).map(|kx| e.load(types::I16X8, row, 2 * (kx * self.g.dilations[1]) as i32));
        let columns: Vec<Value> = columns.collect();
        let sum = columns.into_iter().reduce(|a, b| e.b.ins().iadd(a, b));
        sum.unwrap_or_else(|| e.zeros(types::I16X8))
    }

    /// Stores the addends, as i32, of eight positions' sums.
    fn store(&self, e: &mut Emitter<'_, '_>, sums: Value, to: Value) {
        let scale = e.splat_i32(self.scale as i32);
        let halves = [e.b.ins().uwiden_low(sums), e.b.ins().uwiden_high(sums)];
        for (i, half) in halves.into_iter().enumerate() {
            let addends = e.b.ins().imul(half, scale);
            e.store(addends, to, 16 * i as i32);
        }
    }

    /// The same of any stride, from the sums of the columns of all rows.
    fn store_each(&self, e: &mut Emitter<'_, '_>, columns: Value, to: Value) {
        let g = self.g;
        for r in 0..self.positions {
            let column = |kx: usize| 2 * (r * g.strides[1] + kx * g.dilations[1]) as i32;
            let sum = e.sum_u16(columns, (0..g.kernel[1]).map(column));
            let addend = e.b.ins().imul_imm_s(sum, self.scale);
            e.store(addend, to, 4 * r as i32);
        }
    }
}
