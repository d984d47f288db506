//! Sums of the codes under the windows of neighbouring positions, from the sums of each column's codes in the rows of the input, and
//! the addends that follow from them: up to eight positions in the lanes of one vector where the stride is 1. Must never know
//! what made the columns' sums.

use super::emitter::Emitter;
use crate::graph::ops::Geometry;
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// Positions of a vector.
const POSITIONS: usize = 8;

/// The windows of some neighbouring positions.
pub(super) struct Windows<'g> {
    pub g: &'g Geometry,
    pub positions: usize,
    /// An addend is the sum of the codes, which is at most 65 535, times this.
    pub scale: i64,
}

impl Windows<'_> {
    /// Whether the positions are the lanes of one vector.
    pub(super) fn in_lanes(&self) -> bool {
        self.g.strides[1] == 1 && self.positions <= POSITIONS
    }

    /// Of an input row, whose columns' sums lie at `row` as u16: what it adds to the sums of eight positions. Lanes behind the last
    /// position hold what happens to lie behind the columns, of which up to 14 bytes are read.
    pub(super) fn of_row(&self, e: &mut Emitter<'_, '_>, row: Value) -> Value {
        let columns = (0..self.g.kernel[1]).map(|kx| e.load(types::I16X8, row, 2 * (kx * self.g.dilations[1]) as i32));
        let columns: Vec<Value> = columns.collect();
        let sum = columns.into_iter().reduce(|a, b| e.b.ins().iadd(a, b));
        sum.unwrap_or_else(|| none(e))
    }

    /// Stores the addends, as i32, of eight positions' sums.
    pub(super) fn store(&self, e: &mut Emitter<'_, '_>, sums: Value, to: Value) {
        let scale = e.splat_i32(self.scale as i32);
        let halves = [e.b.ins().uwiden_low(sums), e.b.ins().uwiden_high(sums)];
        for (i, half) in halves.into_iter().enumerate() {
            let addends = e.b.ins().imul(half, scale);
            e.store(addends, to, 16 * i as i32);
        }
    }

    /// The same of any stride, from the sums of the columns of all rows.
    pub(super) fn store_each(&self, e: &mut Emitter<'_, '_>, columns: Value, to: Value) {
        let g = self.g;
        for r in 0..self.positions {
            let column = |kx: usize| 2 * (r * g.strides[1] + kx * g.dilations[1]) as i32;
            let sum = e.sum_u16(columns, (0..g.kernel[1]).map(column));
            let addend = e.b.ins().imul_imm_s(sum, self.scale);
            e.store(addend, to, 4 * r as i32);
        }
    }
}

/// Eight sums of nothing.
pub(super) fn none(e: &mut Emitter<'_, '_>) -> Value {
    let zero = e.splat_i32(0);
    e.cast(types::I16X8, zero)
}
