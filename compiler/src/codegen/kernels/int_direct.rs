//! Direct integer convolution on i32 codes, one output at a time: for groups too narrow for bit planes (depthwise layers).
//! Accumulator: wrapping i32, exact because the proved range fits. Cost: about one MAC in two cycles.

use super::int_conv::IntLayer;
use super::{KernelError, Task};
use crate::codegen::emitter::{Emitter, I32X4};
use crate::lower::pack;
use cranelift_codegen::ir::{InstBuilder, types};

pub(super) fn emit(e: &mut Emitter<'_, '_>, task: &Task<'_>, layer: &IntLayer<'_>) -> Result<(), KernelError> {
    let g = &layer.g;
    let (inner, outputs, taps) = (g.channels / g.groups, g.outputs / g.groups, g.kernel[0] * g.kernel[1]);
    let levels: Vec<i32> = layer.codes.iter().map(|&u| layer.w.level(u.into()) as i32).collect();
    let weights = e.data("weights", pack::i32_bytes(&levels));
    let buffer = task.lane_buffer(e, g.outputs);
    let [h, w] = g.input;
    task.each_position(e, |task, e, p| {
        e.times(g.outputs, |e, o| {
            let zero = e.b.ins().iconst(types::I32, 0);
            let sum = e.var(zero);
            let per_group = e.int(outputs);
            let group = e.b.ins().udiv(o, per_group);
            let row = e.at(weights, o, inner * taps * 4);
            e.times(g.kernel[0], |e, ky| {
                let (iy, vy) = e.tap(p.y, ky, [g.strides[0], g.dilations[0], g.pads[0], h]);
                e.times(g.kernel[1], |e, kx| {
                    let (ix, vx) = e.tap(p.x, kx, [g.strides[1], g.dilations[1], g.pads[1], w]);
                    let valid = e.b.ins().band(vy, vx);
                    e.when(valid, |e| {
                        let flat = e.mul(iy, w);
                        let flat = e.b.ins().iadd(flat, ix);
                        let position = e.at(layer.input.base, flat, layer.input.buffer.pitch() * 4);
                        let position = e.at(position, group, inner * 4);
                        let tap = e.mul(ky, g.kernel[1]);
                        let tap = e.b.ins().iadd(tap, kx);
                        let row = e.at(row, tap, 4);
                        e.times(inner, |e, c| {
                            let (a, k) = (e.at(position, c, 4), e.at(row, c, taps * 4));
                            let (a, k) = (e.load(types::I32, a, 0), e.load(types::I32, k, 0));
                            let a = e.b.ins().imul_imm_s(a, i64::from(layer.a.step));
                            let a = e.b.ins().iadd_imm_s(a, i64::from(layer.a.offset));
                            let product = e.b.ins().imul(a, k);
                            let old = e.b.use_var(sum);
                            let new = e.b.ins().iadd(old, product);
                            e.b.def_var(sum, new);
                        });
                    });
                });
            });
            let (sum, at) = (e.b.use_var(sum), e.at(buffer, o, 4));
            e.store(sum, at, 0);
        });
        task.finish(e, p, None, &mut |e, channel| {
            let at = e.at(buffer, channel, 4);
            Ok(e.load(I32X4, at, 0))
        })
    })
}
