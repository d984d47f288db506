//! Walks over a task's part of the result: its rows, or words of channels where there is one position, and the positions within.
//! Must never know what is done there.

use super::{KernelError, Task};
use crate::codegen::emitter::Emitter;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value};

/// A position: row, column and `y·W + x` of the result.
#[derive(Clone, Copy)]
pub struct Position {
    /// Row.
    pub y: Value,
    /// Column.
    pub x: Value,
    /// y·W + x.
    pub flat: Value,
}

/// Channels of a word, by which tasks of one position are split and bit planes are stored.
pub(super) const WORD: usize = 64;

/// The words of channels ([`WORD`]), from one to another, that a function is limited to.
pub(super) type Words = Option<(Value, Value)>;

impl Task<'_> {
    /// Whether tasks split the words of outputs instead of rows.
    pub(super) fn splits_channels(&self) -> bool {
        self.result.buffer.image.1 == 1 && self.step.tasks > 1
    }

    /// The words of result channels that this task computes.
    pub(super) fn word_range(&self, e: &mut Emitter<'_, '_>) -> (Value, Value) {
        let words = e.int(self.result.buffer.image.0.div_ceil(WORD));
        let next = e.add(self.part, 1);
        (self.cut(e, self.part, words), self.cut(e, next, words))
    }

    /// The blocks of `tile` result channels, of `blocks` in all, that `words` (see [`Task::word_range`]) stands for.
    pub(super) fn block_range(
        &self,
        e: &mut Emitter<'_, '_>,
        words: Words,
        tile: usize,
        blocks: usize,
    ) -> (Value, Value) {
        let all = e.int(blocks);
        match words {
            None => (e.int(0), all),
            Some((a, b)) => {
                let b = e.mul(b, WORD / tile);
                (e.mul(a, WORD / tile), e.min(b, all))
            }
        }
    }

    /// The rows of [`Task::result`] that this task computes; those of two tasks differ by at most one, or by one of a pool.
    pub(super) fn row_range(&self, e: &mut Emitter<'_, '_>) -> (Value, Value) {
        let h = self.result.buffer.image.1 / self.rows;
        if self.step.tasks == 1 || self.splits_channels() {
            return (e.int(0), e.int(h * self.rows));
        }
        let h = e.int(h);
        let next = e.add(self.part, 1);
        let [start, end] = [self.part, next].map(|part| {
            let row = self.cut(e, part, h);
            e.mul(row, self.rows)
        });
        (start, end)
    }

    /// The first of `n` rows or words that share `part` does: the shares before it have one more where that is not even.
    pub(super) fn cut(&self, e: &mut Emitter<'_, '_>, part: Value, n: Value) -> Value {
        let all = e.b.ins().imul(part, n);
        let all = e.b.ins().iadd(all, self.shares);
        let all = e.b.ins().iadd_imm_s(all, -1);
        e.b.ins().udiv(all, self.shares)
    }

    /// Calls `body` for every row of this task's part of the result.
    pub(super) fn each_row(
        &self,
        e: &mut Emitter<'_, '_>,
        mut body: impl FnMut(&Self, &mut Emitter<'_, '_>, Value) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        let mut result = Ok(());
        let (start, end) = self.row_range(e);
        e.range(start, end, 1, |e, y| result = body(self, e, y));
        result
    }

    /// The position (y, x) of the result.
    pub(super) fn position(&self, e: &mut Emitter<'_, '_>, y: Value, x: Value) -> Position {
        let flat = e.mul(y, self.result.buffer.image.2);
        Position { y, x, flat: e.b.ins().iadd(flat, x) }
    }

    /// Calls `body` at every position of this task's part of the result.
    pub(super) fn each_position(
        &self,
        e: &mut Emitter<'_, '_>,
        mut body: impl FnMut(&Self, &mut Emitter<'_, '_>, Position) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        self.each_row(e, |task, e, y| task.each_column(e, y, &mut body))
    }

    /// Calls `body` at every position of a row.
    pub(super) fn each_column(
        &self,
        e: &mut Emitter<'_, '_>,
        y: Value,
        mut body: impl FnMut(&Self, &mut Emitter<'_, '_>, Position) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        let mut result = Ok(());
        e.times(self.result.buffer.image.2, |e, x| {
            let p = self.position(e, y, x);
            result = body(self, e, p);
        });
        result
    }

    /// Calls `tile` at every position where `width` neighbours lie in `interior` (rows, columns of the result), `single` at
    /// the others. Both are emitted once.
    pub(super) fn each_tile(
        &self,
        e: &mut Emitter<'_, '_>,
        width: usize,
        [rows, columns]: [std::ops::Range<usize>; 2],
        mut tile: impl FnMut(&Self, &mut Emitter<'_, '_>, Position) -> Result<(), KernelError>,
        mut single: impl FnMut(&Self, &mut Emitter<'_, '_>, Position) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        let w = self.result.buffer.image.2;
        self.each_row(e, |task, e, y| {
            let shifted = e.b.ins().iadd_imm_s(y, -(rows.start as i64));
            let inside = e.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, shifted, rows.len() as i64);
            let (zero, end) = (e.int(0), e.int(w));
            let room = (columns.len() + 1).saturating_sub(width);
            let mut result = Ok(());
            e.walk(zero, end, |e, x| {
                let p = task.position(e, y, x);
                let shifted = e.b.ins().iadd_imm_s(x, -(columns.start as i64));
                let fits = e.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, shifted, room as i64);
                let fits = e.b.ins().band(inside, fits);
                let (one, many) = (e.int(1), e.int(width));
                let (first, second) = e.branch(fits, |e| tile(task, e, p), |e| single(task, e, p));
                result = first.and(second);
                e.b.ins().select(fits, many, one)
            });
            result
        })
    }
}
