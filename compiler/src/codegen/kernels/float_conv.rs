//! Float convolution and matrix product: one multiply-add chain an output in (ci, ky, kx) order from +0, padding taps as
//! +0, bias last (numerics contract, rule 5). Vectors run over output channels; up to 48 outputs live in registers.
//!
//! Cost: about 8 MAC a cycle with 128-bit FMA. Needs nothing beyond the level's base.

use super::{KernelError, Task};
use crate::codegen::emitter::{Emitter, F32X4};
use crate::graph::Node;
use crate::graph::ops::Geometry;
use crate::graph::types::Layout;
use crate::lower::pack;
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// Outputs computed together: the least padding, then the most accumulators.
fn tile(outputs: usize) -> usize {
    [48, 32, 16].into_iter().min_by_key(|t| outputs.next_multiple_of(*t)).unwrap_or(16)
}

pub(super) fn emit(e: &mut Emitter<'_, '_>, task: &Task<'_>, node: &Node) -> Result<&'static str, KernelError> {
    let fail = |m: &str| (node.id, m.to_owned());
    let operands = task.graph.operands(node.id);
    let shape =
        |i: usize| operands.get(i).and_then(|&v| task.graph.value_type(v)).map(|t| &t.shape).ok_or(fail("no operand"));
    let g = Geometry::new(&node.attrs, shape(0)?, shape(1)?).map_err(|m| (node.id, m))?;
    let weights = operands.get(1).and_then(|&v| task.graph.constant(v)).and_then(|t| t.as_f32());
    let weights = weights.ok_or(fail("the weights must be constant"))?;
    let input = task.main_operand(node.id, 0)?.clone();
    let per_group = g.outputs / g.groups;
    let tile = if task.splits_channels() { 32 } else { tile(per_group) };
    let blocks = per_group.div_ceil(tile);
    let table = e.data("weights", pack::float_weights(&g, weights, tile));
    let bias = operands.get(2).and_then(|&v| task.graph.constant(v)).and_then(|t| t.as_f32());
    let bias = bias.map(|b| {
        let mut padded = b.to_vec();
        padded.resize(g.outputs.next_multiple_of(4) + tile, 0.0);
        e.data("bias", pack::f32_bytes(&padded))
    });
    if operands.len() > 2 && bias.is_none() {
        return Err(fail("the bias must be constant"));
    }
    let buffer = task.lane_buffer(e, g.outputs + tile);
    task.each_position(e, |task, e, p| {
        let words = task.splits_channels().then(|| task.word_range(e));
        e.times(g.groups, |e, group| {
            let (start, end) = match words {
                None => (e.int(0), e.int(blocks)),
                Some((a, b)) => {
                    let (b, all) = (e.mul(b, 64 / tile), e.int(blocks));
                    (e.mul(a, 64 / tile), e.min(b, all))
                }
            };
            e.range(start, end, 1, |e, block| {
                let row = e.at(block, group, blocks);
                let row = e.at(table, row, g.taps() * tile * 4);
                let sums = sum_taps(e, &g, &input, [p.y, p.x, group], row, tile);
                let first = e.mul(block, tile);
                let first = e.at(first, group, per_group);
                let out = e.at(buffer, first, 4);
                for (i, sum) in sums.into_iter().enumerate() {
                    let offset = (i * 16) as i32;
                    let sum = match bias {
                        None => sum,
                        Some(bias) => {
                            let at = e.at(bias, first, 4);
                            let b = e.load(F32X4, at, offset);
                            e.b.ins().fadd(sum, b)
                        }
                    };
                    e.store(sum, out, offset);
                }
            });
        });
        task.finish(e, p, words, &mut |e, channel| {
            let at = e.at(buffer, channel, 4);
            Ok(e.load(F32X4, at, 0))
        })
    })?;
    Ok("float chain")
}

fn sum_taps(
    e: &mut Emitter<'_, '_>,
    g: &Geometry,
    input: &super::Operand,
    [y, x, group]: [Value; 3],
    weights: Value,
    tile: usize,
) -> Vec<Value> {
    let inner = g.channels / g.groups;
    let zero = e.splat_f32(0.0);
    let sums: Vec<_> = (0..tile / 4).map(|_| e.var(zero)).collect();
    let cursor = e.var(weights);
    let padded = g.pads != [0; 4];
    let (_, h, w) = input.buffer.image;
    e.times(inner, |e, c| {
        let channel = e.at(c, group, inner);
        e.times(g.kernel[0], |e, ky| {
            let (iy, vy) = e.tap(y, ky, [g.strides[0], g.dilations[0], g.pads[0], h]);
            e.times(g.kernel[1], |e, kx| {
                let (ix, vx) = e.tap(x, kx, [g.strides[1], g.dilations[1], g.pads[1], w]);
                let flat = e.mul(iy, w);
                let flat = e.b.ins().iadd(flat, ix);
                let (position, scale) = match input.buffer.layout {
                    Layout::Dense => (e.at(input.base, channel, h * w * 4), 4),
                    _ => (e.at(input.base, channel, 4), input.buffer.pitch() * 4),
                };
                let v = if padded {
                    let valid = e.b.ins().band(vy, vx);
                    let start = e.int(0);
                    let flat = e.b.ins().select(valid, flat, start);
                    let at = e.at(position, flat, scale);
                    let (v, none) = (e.load(types::F32, at, 0), e.b.ins().f32const(0.0));
                    e.b.ins().select(valid, v, none)
                } else {
                    let at = e.at(position, flat, scale);
                    e.load(types::F32, at, 0)
                };
                let v = e.b.ins().splat(F32X4, v);
                let row = e.b.use_var(cursor);
                for (i, sum) in sums.iter().enumerate() {
                    let w = e.load(F32X4, row, (i * 16) as i32);
                    let old = e.b.use_var(*sum);
                    let new = e.mul_add(v, w, old);
                    e.b.def_var(*sum, new);
                }
                let next = e.add(row, tile * 4);
                e.b.def_var(cursor, next);
            });
        });
    });
    sums.iter().map(|s| e.b.use_var(*s)).collect()
}
