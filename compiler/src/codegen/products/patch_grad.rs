//! Gradient of the weights of a float layer with few taps, where most gradients may be zero because a pool or a clip lies
//! behind it. For each output it walks over the positions whose gradient is not zero and adds gradient times patch to the
//! output's taps, which lie across the lanes; a skipped zero changes no bit. Behind a max pool, the gradient that is read is the
//! pool's, and the winners tell the positions; rows of windows visit those of their first rows before those of their second.
//! Each sample is one chain in row-major order;
//! samples are added in ascending order by [`PatchGrad::emit_dense`].

use super::relayout::transpose_four;
use super::{Samples, patch_clif, share};
use crate::codegen::CodegenError;
use crate::codegen::emitter::{Emitter, F32X4};
use crate::codegen::tiles::{PatchTile, Width};
use crate::lower::train::requirements::patch_grad::PatchGrad;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::Variable;

/// Vectors of the result that are summed over the samples together: two lines of memory.
const TOGETHER: usize = 8;

/// What the gradient of one sample reads and writes, at these addresses.
#[derive(Clone, Copy)]
pub struct PatchOperands<'o> {
    /// The convolution's input.
    pub input: Value,
    /// The gradient, of the pool where there is one.
    pub gradient: Value,
    /// The pool's winners.
    pub winners: Option<Value>,
    /// The sums of the weights.
    pub sums: Value,
    /// Memory that nothing else wants.
    pub work: Value,
    /// Where the sum of the gradient over the positions goes, one f32 an output: four lanes, position mod 4. They begin at +0
    /// and thus are never −0, so that the zeros passed over change no bit of them either.
    pub totals: &'o [Value],
}

impl PatchGrad {
    /// One sample.
    ///
    /// # Errors
    /// When the code generator fails.
    pub fn emit(&self, e: &mut Emitter<'_, '_>, at: PatchOperands<'_>) -> Result<(), CodegenError> {
        let (chunk, [masks, totals, lanes, _]) = (self.chunk(), self.work());
        let winner = self.pool.as_ref().map_or(0, |pool| pool.winners.pixel());
        let tile = match Width::of(e.level) {
            Some(width) => {
                let (pixel, outputs) = (self.gradient.pixel(), self.g.outputs);
                let work = [masks, totals, lanes];
                let shape = PatchTile { width, outputs, pixel, winner, row: self.row(), chunk, work, fma: e.fma };
                Some(shape.function(e.image)?)
            }
            None => None,
        };
        // Lanes beyond the taps hold zeros or neighbours, never what might slow arithmetic down.
        clear(e, at.sums, self.sums());
        clear(e, at.work, self.patches());
        let totals = e.add(at.work, totals);
        clear(e, totals, self.g.outputs * 16);
        let walk = Walk::new(e, self, at.input);
        let none = e.int(0);
        let done = |e: &mut Emitter<'_, '_>, first: Value, count: Value| {
            let gradient = e.at(at.gradient, first, self.gradient.pixel());
            let winners = at.winners.map_or(none, |winners| e.at(winners, first, winner));
            let arguments = [gradient, winners, at.sums, at.work, count];
            match tile {
                Some(tile) => e.call(tile, &arguments),
                None => patch_clif::chunk(e, self, arguments),
            }
        };
        if self.pool.is_some() {
            let count = e.int(chunk.windows);
            e.times(self.gradient.image[0], |e, row| {
                walk.windows(e, self, row, at.work);
                let first = e.mul(row, chunk.windows);
                done(e, first, count);
            });
        } else {
            let (end, most) = (e.int(self.g.output[0] * self.g.output[1]), e.int(chunk.windows));
            e.range(none, end, chunk.windows, |e, first| {
                let left = e.b.ins().isub(end, first);
                let count = e.min(left, most);
                walk.patches(e, self, [first, count], at.work);
                done(e, first, count);
            });
        }
        if !at.totals.is_empty() {
            e.times(self.g.outputs, |e, o| {
                let from = e.at(totals, o, 16);
                let lanes = [0, 4, 8, 12].map(|offset| e.load(types::F32, from, offset));
                let total = e.lane_tree(lanes);
                for &to in at.totals {
                    let to = e.at(to, o, 4);
                    e.store(total, to, 0);
                }
            });
        }
        Ok(())
    }

    /// Writes the outputs of `part` of `parts` of the samples' sums, added, as dense f32 (O, C, KH, KW).
    pub fn emit_dense(
        &self,
        e: &mut Emitter<'_, '_>,
        part: Value,
        parts: usize,
        batch: Value,
        sums: Samples,
        dst: Value,
    ) {
        let taps = self.g.taps();
        let [first, end] = share(e, part, parts, self.g.outputs);
        e.range(first, end, 1, |e, o| {
            let offset = e.mul(o, self.row());
            let from = e.b.ins().iadd(sums.base, offset);
            let to = e.at(dst, o, taps * 4);
            if let Some(column) = self.column() {
                let (rows, columns) = (self.g.channels * self.g.kernel[0], self.g.kernel[1]);
                let all: Vec<_> = (0..columns * column)
                    .map(|i| (i % column < rows).then_some(i % column * columns + i / column))
                    .collect();
                for (i, places) in all.chunks(4 * TOGETHER).enumerate() {
                    let base = e.add(from, 16 * TOGETHER * i);
                    let totals = added(e, batch, Samples { base, ..sums }, places.len());
                    scatter(e, &totals, to, places);
                }
                return;
            }
            let add = |e: &mut Emitter<'_, '_>, base: Value, to: Value, count: usize| {
                let totals = added(e, batch, Samples { base, ..sums }, count);
                for (i, &v) in totals.iter().enumerate().take(count / 4) {
                    e.store(v, to, 16 * i as i32);
                }
                // The next output's taps begin behind the others.
                let places: Vec<_> = (0..count).map(|i| (i / 4 == count / 4).then_some(i)).collect();
                scatter(e, &totals, to, &places);
            };
            e.times(taps / (4 * TOGETHER), |e, block| {
                let (from, to) = (e.at(from, block, 16 * TOGETHER), e.at(to, block, 16 * TOGETHER));
                add(e, from, to, TOGETHER * 4);
            });
            let whole = taps / (4 * TOGETHER) * 4 * TOGETHER;
            let (from, to) = (e.add(from, whole * 4), e.add(to, whole * 4));
            add(e, from, to, taps - whole);
        });
    }
}

/// Stores those lanes of vectors, one after another, that have a place.
fn scatter(e: &mut Emitter<'_, '_>, vectors: &[Value], to: Value, places: &[Option<usize>]) {
    for (&v, places) in vectors.iter().zip(places.chunks(4)) {
        for (lane, place) in places.iter().enumerate().filter_map(|(lane, place)| Some((lane as u8, (*place)?))) {
            let one = e.b.ins().extractlane(v, lane);
            e.store(one, to, 4 * place as i32);
        }
    }
}

/// The first `count` floats of all samples' sums, added in the samples' order.
fn added(e: &mut Emitter<'_, '_>, batch: Value, sums: Samples, count: usize) -> Vec<Value> {
    let zero = e.splat_f32(0.0);
    let totals: Vec<_> = (0..count.div_ceil(4)).map(|_| e.var(zero)).collect();
    let none = e.int(0);
    e.range(none, batch, 1, |e, n| {
        let offset = e.b.ins().imul(n, sums.stride);
        let from = e.b.ins().iadd(sums.base, offset);
        for (i, &total) in totals.iter().enumerate() {
            let (v, old) = (e.read(F32X4, from, 16 * i as i32), e.b.use_var(total));
            let new = e.b.ins().fadd(old, v);
            e.b.def_var(total, new);
        }
    });
    totals.into_iter().map(|total| e.b.use_var(total)).collect()
}

/// Walks over the output positions of a sample and copies their patches.
struct Walk {
    /// Address of the first position's first tap.
    first: Value,
    /// Address of the next one's.
    at: Variable,
    column: Variable,
    /// Four masks of 32 bits, of which one is set, four times: the next one is 16 bytes on.
    lanes: Value,
}

impl Walk {
    fn new(e: &mut Emitter<'_, '_>, product: &PatchGrad, input: Value) -> Walk {
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
    fn patches(&self, e: &mut Emitter<'_, '_>, product: &PatchGrad, [first, count]: [Value; 2], to: Value) {
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
    fn windows(&self, e: &mut Emitter<'_, '_>, product: &PatchGrad, row: Value, to: Value) {
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
                        let (ci, ky) = ((group + i).min(rows - 1) / g.kernel[0], (group + i).min(rows - 1) % g.kernel[0]);
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
    fn patch(
        &self,
        e: &mut Emitter<'_, '_>,
        product: &PatchGrad,
        [index, flat]: [Value; 2],
        [from, work]: [Value; 2],
    ) {
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

/// Writes zeros; `bytes` is a multiple of 16.
fn clear(e: &mut Emitter<'_, '_>, at: Value, bytes: usize) {
    let zero = e.splat_f32(0.0);
    e.times(bytes / 16, |e, i| {
        let at = e.at(at, i, 16);
        e.store(zero, at, 0);
    });
}
