//! Walks over the rows of a product and fills the tile's table of addresses, a tile at a time.

use super::Samples;
use super::tile::TileFunction;
use crate::codegen::emitter::Emitter;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::Variable;

/// Positions of an image and what lies at them; distances in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Rows and columns.
    pub extent: [usize; 2],
    /// From one row, column of A to the next.
    pub a: [usize; 2],
    /// From one row, column of C to the next.
    pub c: [usize; 2],
}

/// The stack table of a tile's addresses.
pub fn table(e: &mut Emitter<'_, '_>, rows: usize) -> Value {
    e.stack(16 * rows, 8)
}

/// An address that walks over positions of samples.
struct Cursor {
    address: Variable,
    /// What it moves by: to the next column; besides, at the end of a row; besides, at the end of a sample.
    steps: [i64; 2],
    sample: Value,
}

impl Cursor {
    fn new(
        e: &mut Emitter<'_, '_>,
        samples: Samples,
        first: Value,
        offset: Value,
        grid: &Grid,
        step: [usize; 2],
    ) -> Cursor {
        let start = samples.at(e, first, offset);
        let [h, w] = grid.extent;
        let [row, column] = step.map(|s| s as i64);
        let sample = e.b.ins().iadd_imm_s(samples.stride, -(row * h as i64));
        Cursor { address: e.var(start), steps: [column, row - column * w as i64], sample }
    }

    fn at(&self, e: &mut Emitter<'_, '_>) -> Value {
        e.b.use_var(self.address)
    }

    /// Moves on where `more`; `row` and `sample` say whether a row and a sample end here.
    fn advance(&self, e: &mut Emitter<'_, '_>, more: Value, row: Value, sample: Value) {
        let zero = e.int(0);
        let at = e.b.use_var(self.address);
        let end_of_row = e.b.ins().iconst(types::I64, self.steps[1]);
        let end_of_row = e.b.ins().select(row, end_of_row, zero);
        let end_of_sample = e.b.ins().select(sample, self.sample, zero);
        let step = e.b.ins().iadd_imm_s(end_of_row, self.steps[0]);
        let step = e.b.ins().iadd(step, end_of_sample);
        let next = e.b.ins().iadd(at, step);
        let next = e.b.ins().select(more, next, at);
        e.b.def_var(self.address, next);
    }
}

/// Calls `tile` for all positions of the samples [first, end), with `b` as the other operand. The offsets are added to all
/// addresses. Rows beyond the last position repeat it.
pub fn positions(
    e: &mut Emitter<'_, '_>,
    tile: TileFunction,
    grid: &Grid,
    [first, end]: [Value; 2],
    [(a, a_offset), (c, c_offset)]: [(Samples, Value); 2],
    b: Value,
) {
    let table = table(e, tile.rows);
    let [h, w] = grid.extent;
    let cursors = [Cursor::new(e, a, first, a_offset, grid, grid.a), Cursor::new(e, c, first, c_offset, grid, grid.c)];
    let zero = e.int(0);
    let (x, y) = (e.var(zero), e.var(zero));
    let samples = e.b.ins().isub(end, first);
    let total = e.mul(samples, h * w);
    e.range(zero, total, tile.rows, |e, i| {
        let left = e.b.ins().isub(total, i);
        for r in 0..tile.rows {
            for (side, cursor) in cursors.iter().enumerate() {
                let at = cursor.at(e);
                e.store(at, table, (8 * (side * tile.rows + r)) as i32);
            }
            let more = e.b.ins().icmp_imm_s(IntCC::SignedGreaterThan, left, (r + 1) as i64);
            let row = count(e, x, w, None);
            let sample = count(e, y, h, Some(row));
            cursors.iter().for_each(|cursor| cursor.advance(e, more, row, sample));
        }
        e.call(tile.function, &[table, b]);
    });
}

/// Counts up, where `when` if given, and back to 0 at `n`; gives whether it did.
fn count(e: &mut Emitter<'_, '_>, counter: Variable, n: usize, when: Option<Value>) -> Value {
    if n == 1 {
        return when.unwrap_or_else(|| e.b.ins().iconst(types::I8, 1));
    }
    let (old, zero) = (e.b.use_var(counter), e.int(0));
    let new = match when {
        None => e.add(old, 1),
        Some(when) => {
            let step = e.b.ins().uextend(types::I64, when);
            e.b.ins().iadd(old, step)
        }
    };
    let full = e.b.ins().icmp_imm_s(IntCC::Equal, new, n as i64);
    let new = e.b.ins().select(full, zero, new);
    e.b.def_var(counter, new);
    full
}
