//! Gradient of the weights of a float layer with few taps, where most gradients may be zero because a pool or a clip lies
//! behind it. For each output it walks over the positions whose gradient is not zero and adds gradient times patch to the
//! output's taps, which lie across the lanes; a skipped zero changes no bit. Each sample is one chain in row-major order;
//! samples are added in ascending order by [`PatchGrad::emit_dense`].

use super::{Samples, patch_clif, share};
use crate::codegen::CodegenError;
use crate::codegen::emitter::{Emitter, F32X4};
use crate::codegen::tiles::{PatchTile, Width};
use crate::lower::train::requirements::patch_grad::{POSITIONS, PatchGrad};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::Variable;

/// Vectors of the result that are summed over the samples together: two lines of memory.
const TOGETHER: usize = 8;

impl PatchGrad {
    /// One sample: `scratch` is its sums and what lies behind them.
    ///
    /// # Errors
    /// When the code generator fails.
    pub fn emit(
        &self,
        e: &mut Emitter<'_, '_>,
        input: Value,
        gradient: Value,
        scratch: Value,
    ) -> Result<(), CodegenError> {
        let area = self.g.output[0] * self.g.output[1];
        let tile = match Width::of(e.level) {
            Some(width) => {
                let pixel = self.gradient.pixel();
                let shape = PatchTile { width, outputs: self.g.outputs, pixel, row: self.row(), fma: e.fma };
                Some(shape.function(e.image)?)
            }
            None => None,
        };
        let patches = e.add(scratch, self.sums());
        let masks = e.add(patches, self.patches());
        // Lanes beyond the taps hold zeros or neighbours, never what might slow arithmetic down.
        clear(e, scratch, self.sums() + self.patches());
        let walk = Walk::new(e, self, input);
        let (zero, end, most) = (e.int(0), e.int(area), e.int(POSITIONS));
        e.range(zero, end, POSITIONS, |e, first| {
            let left = e.b.ins().isub(end, first);
            let count = e.min(left, most);
            walk.patches(e, self, count, patches);
            let gradient = e.at(gradient, first, self.gradient.pixel());
            match tile {
                Some(tile) => e.call(tile, &[gradient, patches, scratch, masks, count]),
                None => patch_clif::chunk(e, self, [gradient, patches, scratch, masks, count]),
            }
        });
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
            e.times(taps / (4 * TOGETHER), |e, block| {
                let (from, to) = (e.at(from, block, 16 * TOGETHER), e.at(to, block, 16 * TOGETHER));
                added(e, batch, Samples { base: from, ..sums }, to, TOGETHER * 4);
            });
            let whole = taps / (4 * TOGETHER) * 4 * TOGETHER;
            let (from, to) = (e.add(from, whole * 4), e.add(to, whole * 4));
            added(e, batch, Samples { base: from, ..sums }, to, taps - whole);
        });
    }
}

/// The first `count` floats of all samples' sums, added in the samples' order.
fn added(e: &mut Emitter<'_, '_>, batch: Value, sums: Samples, to: Value, count: usize) {
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
    for (i, &total) in totals.iter().enumerate() {
        let v = e.b.use_var(total);
        match count - 4 * i {
            4.. => e.store(v, to, 16 * i as i32),
            // The next output's taps begin behind these.
            rest => (0..rest).for_each(|lane| {
                let one = e.b.ins().extractlane(v, lane as u8);
                e.store(one, to, (16 * i + 4 * lane) as i32);
            }),
        }
    }
}

/// Walks over the output positions of a sample and copies their patches.
struct Walk {
    /// Address of the position's first tap.
    at: Variable,
    column: Variable,
}

impl Walk {
    fn new(e: &mut Emitter<'_, '_>, product: &PatchGrad, input: Value) -> Walk {
        let (g, p) = (&product.g, &product.input);
        let corner = p.offset(p.border[0] - g.pads[0], p.border[1] - g.pads[1]);
        let (at, zero) = (e.add(input, corner), e.int(0));
        Walk { at: e.var(at), column: e.var(zero) }
    }

    /// Copies the next `count` patches, taps in (ci, ky, kx) order.
    fn patches(&self, e: &mut Emitter<'_, '_>, product: &PatchGrad, count: Value, to: Value) {
        let (g, p, zero) = (&product.g, &product.input, e.int(0));
        let [kh, kw] = g.kernel;
        let step = (g.strides[1] * p.element) as i64;
        let turn = (g.strides[0] * p.row()) as i64 - step * g.output[1] as i64;
        e.range(zero, count, 1, |e, i| {
            let (from, to) = (e.b.use_var(self.at), e.at(to, i, product.row()));
            e.times(g.channels, |e, channel| {
                let (from, to) = (e.at(from, channel, p.plane()), e.at(to, channel, kh * kw * 4));
                for ky in 0..kh {
                    copy(e, kw, (from, ky * g.dilations[0] * p.row()), (to, ky * kw * 4));
                }
            });
            let next = e.b.use_var(self.column);
            let next = e.add(next, 1);
            let full = e.b.ins().icmp_imm_s(IntCC::Equal, next, g.output[1] as i64);
            let next = e.b.ins().select(full, zero, next);
            e.b.def_var(self.column, next);
            let turn = e.b.ins().iconst(types::I64, turn);
            let turn = e.b.ins().select(full, turn, zero);
            let moved = e.b.ins().iadd_imm_s(from, step);
            let moved = e.b.ins().iadd(moved, turn);
            e.b.def_var(self.at, moved);
        });
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
