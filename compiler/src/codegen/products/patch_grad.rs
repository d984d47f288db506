//! Gradient of the weights of a float layer with few taps, where most gradients may be zero because a pool or a clip lies
//! behind it. For each output it walks over the positions whose gradient is not zero and adds gradient times patch to the
//! output's taps, which lie across the lanes; a skipped zero changes no bit. Behind a max pool, the gradient that is read is the
//! pool's, and the winners tell the positions; rows of windows visit those of their first rows before those of their second.
//! Each sample is one chain in row-major order;
//! samples are added in ascending order by [`PatchGrad::emit_dense`].

use super::patch_walk::Walk;
use super::{Samples, patch_clif, share};
use crate::codegen::CodegenError;
use crate::codegen::emitter::{Emitter, F32X4};
use crate::codegen::tiles::{PatchTile, Width};
use crate::lower::train::requirements::patch_grad::PatchGrad;
use cranelift_codegen::ir::{InstBuilder, Value, types};

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

/// Writes zeros; `bytes` is a multiple of 16.
fn clear(e: &mut Emitter<'_, '_>, at: Value, bytes: usize) {
    let zero = e.splat_f32(0.0);
    e.times(bytes / 16, |e, i| {
        let at = e.at(at, i, 16);
        e.store(zero, at, 0);
    });
}
