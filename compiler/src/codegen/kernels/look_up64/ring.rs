//! The ring of tables of 64-entry look-ups: the tables of as many input rows as a row of the result reads, of one strip, in the
//! worker's scratch memory (layout: `lower::strips`), and the sums of each column's codes beside them. Must never know the weights.

use super::{LookUp64, Memory, Strip};
use crate::codegen::emitter::Emitter;
use crate::lower::strips::TABLE;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

impl LookUp64<'_, '_> {
    /// Bytes of the tables of a group of one input row.
    pub(super) fn row_bytes(&self, strip: &Strip) -> usize {
        self.strips.sixes * strip.columns * TABLE
    }

    /// Empties the columns of the ring that lie in the padding: they are never built.
    pub(super) fn clear_padding(&self, e: &mut Emitter<'_, '_>, m: &Memory, strip: &Strip, left: Value) {
        let (g, s) = (&self.layer.g, &self.strips);
        if g.pads[1] == 0 && g.interior()[1].len() == g.output[1] {
            return;
        }
        let zero = e.splat_i32(0);
        let none = e.b.ins().iconst(types::I16, 0);
        e.times(strip.columns, |e, column| {
            let x = e.b.ins().iadd(left, column);
            let outside = e.b.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, x, g.input[1] as i64);
            e.when(outside, |e| {
                e.times(s.halves, |e, half| {
                    let first = e.at(m.ring, half, s.ring());
                    let first = e.at(first, column, TABLE);
                    e.times(s.slots * g.groups * s.sixes, |e, i| {
                        let table = e.at(first, i, strip.columns * TABLE);
                        (0..TABLE as i32).step_by(16).for_each(|at| e.store(zero, table, at));
                    });
                });
                let first = e.at(m.sums, column, 2);
                e.times(s.halves * s.slots * g.groups, |e, i| {
                    let sum = e.at(first, i, s.sums_pitch() * 2);
                    e.store(none, sum, 0);
                });
            });
        });
    }

    /// Makes the tables of the input rows `from` … `to` that there are, from column `left` on.
    pub(super) fn build(
        &self,
        e: &mut Emitter<'_, '_>,
        m: &Memory,
        strip: &Strip,
        left: Value,
        [from, to]: [Value; 2],
    ) {
        let (g, s) = (&self.layer.g, &self.strips);
        let (zero, height, width) = (e.int(0), e.int(g.input[0]), e.int(g.input[1]));
        let (from, to) = (e.b.ins().smax(from, zero), e.min(to, height));
        let columns = e.int(strip.columns);
        let negative = e.b.ins().ineg(left);
        let skipped = e.b.ins().smax(negative, zero);
        let skipped = e.min(skipped, columns);
        let room = e.b.ins().isub(width, left);
        let until = e.min(room, columns);
        let count = e.b.ins().isub(until, skipped);
        let count = e.b.ins().smax(count, zero);
        let column = e.b.ins().iadd(left, skipped);
        e.range(from, to, 1, |e, y| {
            let slot = self.slot(e, y);
            let position = e.at(column, y, g.input[1]);
            let codes = self.row(e, m, position, count);
            e.times(g.groups, |e, group| {
                let codes = e.at(codes, group, self.source.group);
                let row = e.at(group, slot, g.groups);
                let tables = e.at(m.ring, row, self.row_bytes(strip));
                let tables = e.at(tables, skipped, TABLE);
                let sums = e.at(m.sums, row, s.sums_pitch() * 2);
                let sums = e.at(sums, skipped, 2);
                for (half, &build) in strip.build.iter().enumerate() {
                    let codes = e.add(codes, half * s.codes());
                    let (tables, sums) = (e.add(tables, half * s.ring()), e.add(sums, half * s.sums()));
                    e.call(build, &[codes, count, tables, m.tables, sums]);
                }
            });
        });
    }

    /// The codes of so many positions, as bytes of four channels; of the halves behind the first, [`Strips::codes`] bytes apart.
    fn row(&self, e: &mut Emitter<'_, '_>, m: &Memory, position: Value, count: Value) -> Value {
        let b = &self.layer.input.buffer;
        let from = e.at(self.layer.input.base, position, b.pixel());
        if !self.planes() {
            return from;
        }
        self.source.spread(e, b, count, [from, m.codes], self.strips.codes());
        m.codes
    }

    /// Where an input row lies in the ring.
    pub(super) fn slot(&self, e: &mut Emitter<'_, '_>, y: Value) -> Value {
        let slots = e.int(self.strips.slots);
        e.b.ins().urem(y, slots)
    }
}
