//! What the positions of a chunk read, side by side for [`PatchGrad`]: patches, or strips of which patches are pieces; and the
//! lane of each position.

use super::relayout::transpose_four;
use crate::codegen::emitter::{Emitter, F32X4};
use crate::lower::train::requirements::patch_grad::PatchGrad;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::Variable;

/// Walks over the output positions of a sample and copies their patches.
pub(super) struct Walk {
    /// Address of the first position's first tap.
    first: Value,
    /// Address of the next one's.
    at: Variable,
    column: Variable,
    /// Four masks of 32 bits, of which one is set, four times: the next one is 16 bytes on.
    lanes: Value,
}

impl Walk {
    pub(super) fn new(e: &mut Emitter<'_, '_>, product: &PatchGrad, input: Value) -> Walk {
        let (g, p) = (&product.g, &product.input);
        let corner = p.offset(p.border[0] - g.pads[0], p.border[1] - g.pads[1]);
        let (first, zero) = (e.add(input, corner), e.int(0));
        let lanes = (0..16).flat_map(|i| if i % 5 == 0 { [0xff; 4] } else { [0; 4] }).collect();
        Walk { first, at: e.var(first), column: e.var(zero), lanes: e.data("lanes", lanes) }
    }

    /// From one column of positions to the next, and from one row.
    fn steps(product: &PatchGrad) -> [usize; 2] {
        let (g, p) = (&product.g, &product.input);
        [g.strides[1] * p.element, g.strides[0] * p.row()]
    }

    /// Copies the next `count` patches, those of positions `first` on.
    pub(super) fn patches(&self, e: &mut Emitter<'_, '_>, product: &PatchGrad, [first, count]: [Value; 2], to: Value) {
        let (g, zero) = (&product.g, e.int(0));
        let [step, row] = Walk::steps(product);
        let turn = row as i64 - (step * g.output[1]) as i64;
        e.range(zero, count, 1, |e, i| {
            let (from, flat) = (e.b.use_var(self.at), e.b.ins().iadd(first, i));
            self.patch(e, product, [i, flat], [from, to]);
            let next = e.b.use_var(self.column);
            let next = e.add(next, 1);
            let full = e.b.ins().icmp_imm_s(IntCC::Equal, next, g.output[1] as i64);
            let next = e.b.ins().select(full, zero, next);
            e.b.def_var(self.column, next);
            let turn = e.b.ins().iconst(types::I64, turn);
            let turn = e.b.ins().select(full, turn, zero);
            let moved = e.b.ins().iadd_imm_s(from, step as i64);
            let moved = e.b.ins().iadd(moved, turn);
            e.b.def_var(self.at, moved);
        });
    }

    /// The patches of a row of windows.
    pub(super) fn windows(&self, e: &mut Emitter<'_, '_>, product: &PatchGrad, row: Value, to: Value) {
        match product.column() {
            Some(column) => self.strips(e, product, row, column, to),
            None => self.windows_apart(e, product, row, to),
        }
    }

    /// Writes the strip of each row of a row of windows, columns and floats of a column by fours.
    fn strips(&self, e: &mut Emitter<'_, '_>, product: &PatchGrad, row: Value, column: usize, work: Value) {
        let (g, p, chunk) = (&product.g, &product.input, product.chunk());
        let [kh, kw] = chunk.kernel;
        let first = e.mul(row, kh);
        for ky in 0..kh {
            let y = e.add(first, ky);
            let from = e.at(self.first, y, Walk::steps(product)[1]);
            let start = ky * (chunk.bits + 1) * kw;
            let to = e.add(work, start * chunk.place);
            e.times(product.columns() / 4, |e, four| {
                let (from, to) = (e.at(from, four, 16), e.at(to, four, 16 * column));
                let rows = g.channels * g.kernel[0];
                for group in (0..rows).step_by(4) {
                    let v = [0, 1, 2, 3].map(|i| {
                        // Lanes beyond the last row repeat it.
                        let (ci, ky) =
                            ((group + i).min(rows - 1) / g.kernel[0], (group + i).min(rows - 1) % g.kernel[0]);
                        e.read(F32X4, from, (ci * p.plane() + ky * g.dilations[0] * p.row()) as i32)
                    });
                    for (i, v) in transpose_four(e, v).into_iter().enumerate() {
                        e.store(v, to, 4 * (i * column + group) as i32);
                    }
                }
            });
            let flat = e.mul(y, g.output[1]);
            e.times(g.output[1], |e, x| {
                let flat = e.b.ins().iadd(flat, x);
                let place = e.add(x, start);
                self.lane(e, product, [place, flat], work);
            });
        }
    }

    /// Copies the patches of a row of windows, those of a window side by side.
    fn windows_apart(&self, e: &mut Emitter<'_, '_>, product: &PatchGrad, row: Value, to: Value) {
        let (chunk, [step, turn]) = (product.chunk(), Walk::steps(product));
        let [kh, kw] = chunk.kernel;
        let first = e.mul(row, kh);
        e.times(kh, |e, ky| {
            let y = e.b.ins().iadd(first, ky);
            let (from, flat) = (e.at(self.first, y, turn), e.mul(y, product.g.output[1]));
            let tap = e.mul(ky, kw);
            e.times(chunk.windows, |e, i| {
                let (from, flat, index) = (e.at(from, i, kw * step), e.at(flat, i, kw), e.at(tap, i, chunk.taps()));
                e.times(kw, |e, kx| {
                    let (from, flat) = (e.at(from, kx, step), e.b.ins().iadd(flat, kx));
                    let index = e.b.ins().iadd(index, kx);
                    self.patch(e, product, [index, flat], [from, to]);
                });
            });
        });
    }

    /// Copies patch `index`, that of position `flat`, taps in (ci, ky, kx) order, and its lanes.
    fn patch(&self, e: &mut Emitter<'_, '_>, product: &PatchGrad, [index, flat]: [Value; 2], [from, work]: [Value; 2]) {
        let (g, p) = (&product.g, &product.input);
        let [kh, kw] = g.kernel;
        let to = e.at(work, index, product.row());
        e.times(g.channels, |e, channel| {
            let (from, to) = (e.at(from, channel, p.plane()), e.at(to, channel, kh * kw * 4));
            for ky in 0..kh {
                copy(e, kw, (from, ky * g.dilations[0] * p.row()), (to, ky * kw * 4));
            }
        });
        self.lane(e, product, [index, flat], work);
    }

    /// Notes the lane of position `flat`, whose patch lies at a place.
    fn lane(&self, e: &mut Emitter<'_, '_>, product: &PatchGrad, [place, flat]: [Value; 2], work: Value) {
        let lane = e.b.ins().band_imm_u(flat, 3);
        let (lane, to) = (e.at(self.lanes, lane, 16), e.add(work, product.work()[2]));
        let (lane, to) = (e.read(F32X4, lane, 0), e.at(to, place, 16));
        e.store(lane, to, 0);
    }
}

/// Copies `count` floats. Up to three behind fewer than four are overwritten too: by the next row of the window or the next
/// patch later, or they are slack.
fn copy(e: &mut Emitter<'_, '_>, count: usize, from: (Value, usize), to: (Value, usize)) {
    let last = count.saturating_sub(4);
    for first in (0..last).step_by(4).chain([last]) {
        let v = e.read(F32X4, from.0, (from.1 + 4 * first) as i32);
        e.store(v, to.0, (to.1 + 4 * first) as i32);
    }
}
