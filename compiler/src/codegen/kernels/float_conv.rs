//! Float convolution and matrix product: one multiply-add chain an output in (ci, ky, kx) order from +0, padding taps as
//! +0, bias last (numerics contract, rule 5). Vectors run over output channels.
//!
//! One position × up to 48 outputs: 12 chains in flight, each multiply-add reading its weights from memory. Where all taps
//! are valid the inner loop only moves two pointers, or a tile of AVX2 or AVX-512 runs: of neighbouring positions, or of several
//! samples where there is but one position (`float_flat`). Cost: see [`cycles`]. Needs nothing beyond the level's base.

use super::choice::Kernel;
use super::layer::{Layer, demand};
use super::samples::one_position;
use super::{KernelError, Operand, Position, Task, float_flat};
use crate::codegen::CodegenError;
use crate::codegen::emitter::{Emitter, F32X4};
use crate::codegen::image::FunctionId;
use crate::codegen::taps::Taps;
use crate::codegen::target::{Level, x86};
use crate::codegen::tiles::FloatShape;
use crate::graph::ops::Geometry;
use crate::graph::types::Layout;
use crate::graph::{Node, NodeId};
use crate::lower::pack;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::Variable;

/// The most positions of a tile.
const POSITIONS: usize = 16;

/// Outputs computed together: the least padding, then the most accumulators.
fn tile(outputs: usize) -> usize {
    [48, 32, 16].into_iter().min_by_key(|t| outputs.next_multiple_of(*t)).unwrap_or(16)
}

/// A layer ready to be emitted.
pub(super) struct FloatLayer {
    pub node: NodeId,
    pub g: Geometry,
    pub input: Operand,
    pub weights: Value,
    bias: Option<Value>,
    buffer: Value,
    /// Outputs computed together.
    pub tile: usize,
    /// Elements of one position's sums in `buffer`.
    pitch: usize,
    /// The wide tile, where the level has one.
    wide: Option<(FunctionId, FloatShape)>,
}

/// Whether level and layer allow the kernel: tiles have all their taps, and are fused.
pub(super) fn fits(layer: &Layer<'_>, level: &Level, kernel: Kernel) -> Result<(), String> {
    let wide = match kernel {
        Kernel::FloatAvx512 => x86::AVX512,
        Kernel::FloatAvx2 => 0,
        _ => return Ok(()),
    };
    demand(level.has_x86(x86::AVX2 | x86::FMA | wide), "the level lacks the instructions")?;
    demand(layer.fma, "the numeric profile is nofma")?;
    demand(!flat(&layer.g) || one_position(&layer.g), "it has one position, and groups or padding")
}

/// Whether a layer has one position.
fn flat(g: &Geometry) -> bool {
    g.output == [1, 1]
}

/// 6.5 MAC a cycle with 128-bit FMA, 13 with AVX2, 15 with AVX-512, outputs by the block; then the chain. One position also
/// reads its weights.
pub(super) fn cycles(layer: &Layer<'_>, kernel: Kernel) -> f64 {
    let rate = match kernel {
        Kernel::FloatAvx512 => 15.0,
        Kernel::FloatAvx2 => 13.0,
        _ => 6.5,
    };
    let reading = if flat(&layer.g) { layer.reading(32.0, 1.0) } else { 0.0 };
    layer.macs(1, 16) / rate + reading + layer.chain()
}

/// Emits the kernel.
pub(super) fn emit(e: &mut Emitter<'_, '_>, task: &Task<'_>, node: &Node, kernel: Kernel) -> Result<(), KernelError> {
    let layer = prepare(e, task, node, kernel)?;
    if flat(&layer.g) {
        return match kernel {
            Kernel::Float => task.each_position(e, |task, e, p| single(e, task, &layer, p)),
            _ => float_flat::emit(e, task, &layer, kernel == Kernel::FloatAvx512),
        };
    }
    let interior = layer.g.interior();
    let width = layer.wide.map_or(1, |(_, shape)| shape.positions);
    task.each_tile(
        e,
        width,
        interior,
        |task, e, p| {
            match layer.wide {
                None => inside(e, &layer, p),
                Some(tile) => wide(e, &layer, tile, p),
            }
            let mut result = Ok(());
            e.times(width, |e, i| {
                let x = e.b.ins().iadd(p.x, i);
                let p = task.position(e, p.y, x);
                result = finish(e, task, &layer, p, i, None);
            });
            result
        },
        |task, e, p| single(e, task, &layer, p),
    )
}

fn prepare(e: &mut Emitter<'_, '_>, task: &Task<'_>, node: &Node, kernel: Kernel) -> Result<FloatLayer, KernelError> {
    let fail = |m: &str| (node.id, m.to_owned());
    let operands = task.graph.operands(node.id);
    let shape =
        |i: usize| operands.get(i).and_then(|&v| task.graph.value_type(v)).map(|t| &t.shape).ok_or(fail("no operand"));
    let g = Geometry::new(&node.attrs, shape(0)?, shape(1)?).map_err(|m| (node.id, m))?;
    let weights = operands.get(1).and_then(|&v| task.graph.constant(v)).and_then(|t| t.as_f32());
    let weights = weights.ok_or(fail("the weights must be constant"))?;
    let input = task.main_operand(node.id, 0)?.clone();
    let tile = if flat(&g) { float_flat::OUTPUTS } else { tile(g.outputs / g.groups) };
    let pitch = g.outputs.next_multiple_of(4) + tile;
    let table = e.data("weights", pack::float_weights(&g, weights, tile));
    let bias = operands.get(2).and_then(|&v| task.graph.constant(v)).and_then(|t| t.as_f32());
    let bias = bias.map(|b| {
        let mut padded = b.to_vec();
        padded.resize(pitch, 0.0);
        e.data("bias", pack::f32_bytes(&padded))
    });
    if operands.len() > 2 && bias.is_none() {
        return Err(fail("the bias must be constant"));
    }
    let buffer = task.lane_buffer(e, pitch * if flat(&g) { 1 } else { POSITIONS });
    let mut layer = FloatLayer { node: node.id, g, input, weights: table, bias, buffer, tile, pitch, wide: None };
    if kernel != Kernel::Float && !flat(&layer.g) {
        let avx512 = kernel == Kernel::FloatAvx512;
        layer.wide = Some(wide_tile(e, &layer, avx512).map_err(|m| (node.id, m.to_string()))?);
    }
    Ok(layer)
}

/// Runs the chain over position `index` of the buffer.
fn finish(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    layer: &FloatLayer,
    p: Position,
    index: Value,
    words: Option<(Value, Value)>,
) -> Result<(), KernelError> {
    let sums = e.at(layer.buffer, index, layer.pitch * 4);
    task.finish_from(e, p, words, sums, F32X4)
}

/// Adds the bias to a tile's sums at `out` for the outputs from `first` on, where there is one.
pub(super) fn add_bias(e: &mut Emitter<'_, '_>, layer: &FloatLayer, first: Value, out: Value) {
    let Some(bias) = layer.bias else { return };
    let bias = e.at(bias, first, 4);
    for i in 0..layer.tile / 4 {
        let (sum, b) = (e.load(F32X4, out, (i * 16) as i32), e.load(F32X4, bias, (i * 16) as i32));
        let sum = e.b.ins().fadd(sum, b);
        e.store(sum, out, (i * 16) as i32);
    }
}

/// Adds the bias and stores a position's sums at `buffer` for the outputs from `first` on.
fn store(e: &mut Emitter<'_, '_>, layer: &FloatLayer, sums: &[Value], first: Value, buffer: Value) {
    let out = e.at(buffer, first, 4);
    let bias = layer.bias.map(|b| e.at(b, first, 4));
    for (i, &sum) in sums.iter().enumerate() {
        let offset = (i * 16) as i32;
        let sum = match bias {
            None => sum,
            Some(bias) => {
                let b = e.load(F32X4, bias, offset);
                e.b.ins().fadd(sum, b)
            }
        };
        e.store(sum, out, offset);
    }
}

/// One position with all its taps, padding included.
fn single(e: &mut Emitter<'_, '_>, task: &Task<'_>, layer: &FloatLayer, p: Position) -> Result<(), KernelError> {
    let (g, tile) = (&layer.g, layer.tile);
    let per_group = g.outputs / g.groups;
    let blocks = per_group.div_ceil(tile);
    let words = task.splits_channels().then(|| task.word_range(e));
    e.times(g.groups, |e, group| {
        let (start, end) = task.block_range(e, words, tile, blocks);
        e.range(start, end, 1, |e, block| {
            let row = e.at(block, group, blocks);
            let row = e.at(layer.weights, row, g.taps() * tile * 4);
            let sums = sum_taps(e, layer, [p.y, p.x, group], row);
            let first = e.mul(block, tile);
            let first = e.at(first, group, per_group);
            store(e, layer, &sums, first, layer.buffer);
        });
    });
    let zero = e.int(0);
    finish(e, task, layer, p, zero, words)
}

fn sum_taps(e: &mut Emitter<'_, '_>, layer: &FloatLayer, [y, x, group]: [Value; 3], weights: Value) -> Vec<Value> {
    let (g, input) = (&layer.g, &layer.input);
    let inner = g.channels / g.groups;
    let zero = e.splat_f32(0.0);
    let sums: Vec<_> = (0..layer.tile / 4).map(|_| e.var(zero)).collect();
    let cursor = e.var(weights);
    let padded = g.pads != [0; 4];
    let taps = Taps::of_convolution(g);
    e.times(inner, |e, c| {
        let channel = e.at(c, group, inner);
        taps.each(e, y, x, |e, tap| {
            let (base, scale) = plane(e, input, channel);
            let v = if padded {
                let start = e.int(0);
                let flat = e.b.ins().select(tap.valid, tap.flat, start);
                let at = e.at(base, flat, scale);
                let (v, none) = (e.load(types::F32, at, 0), e.b.ins().f32const(0.0));
                e.b.ins().select(tap.valid, v, none)
            } else {
                let at = e.at(base, tap.flat, scale);
                e.load(types::F32, at, 0)
            };
            let row = e.advance(cursor, layer.tile * 4);
            multiply_add(e, &sums, v, row);
        });
    });
    sums.iter().map(|s| e.b.use_var(*s)).collect()
}

/// Adds input `v` times one tap's weights to the sums. Each weight vector has one reader, so that the multiply-add takes it
/// from memory.
fn multiply_add(e: &mut Emitter<'_, '_>, sums: &[Variable], v: Value, weights: Value) {
    let v = e.b.ins().splat(F32X4, v);
    for (i, &sum) in sums.iter().enumerate() {
        let w = e.load(F32X4, weights, (i * 16) as i32);
        let old = e.b.use_var(sum);
        let new = e.mul_add(v, w, old);
        e.b.def_var(sum, new);
    }
}

/// Address of a channel's first position, and the bytes from one position to the next.
fn plane(e: &mut Emitter<'_, '_>, input: &Operand, channel: Value) -> (Value, usize) {
    let (_, h, w) = input.buffer.image;
    match input.buffer.layout {
        Layout::Dense => (e.at(input.base, channel, h * w * 4), 4),
        _ => (e.at(input.base, channel, 4), input.buffer.pitch() * 4),
    }
}

/// A position whose taps are all valid.
fn inside(e: &mut Emitter<'_, '_>, layer: &FloatLayer, p: Position) {
    let (g, tile) = (&layer.g, layer.tile);
    let (inner, per_group) = (g.channels / g.groups, g.outputs / g.groups);
    let blocks = per_group.div_ceil(tile);
    let w = layer.input.buffer.image.2;
    let flat = corner(e, layer, p);
    e.times(g.groups, |e, group| {
        e.times(blocks, |e, block| {
            let row = e.at(block, group, blocks);
            let row = e.at(layer.weights, row, g.taps() * tile * 4);
            let (zero, cursor) = (e.splat_f32(0.0), e.var(row));
            let sums: Vec<_> = (0..tile / 4).map(|_| e.var(zero)).collect();
            e.times(inner, |e, c| {
                let channel = e.at(c, group, inner);
                let (base, scale) = plane(e, &layer.input, channel);
                let first = e.at(base, flat, scale);
                e.times(g.kernel[0], |e, ky| {
                    let row = e.at(first, ky, g.dilations[0] * w * scale);
                    let at = e.var(row);
                    // A loop, not unrolled: within a block Cranelift orders the work by accumulator and would spill.
                    e.times(g.kernel[1], |e, _| {
                        let (input, weights) = (e.b.use_var(at), e.b.use_var(cursor));
                        let v = e.load(types::F32, input, 0);
                        multiply_add(e, &sums, v, weights);
                        let (input, weights) = (e.add(input, g.dilations[1] * scale), e.add(weights, tile * 4));
                        e.b.def_var(at, input);
                        e.b.def_var(cursor, weights);
                    });
                });
            });
            let sums: Vec<_> = sums.iter().map(|s| e.b.use_var(*s)).collect();
            let first = e.mul(block, tile);
            let first = e.at(first, group, per_group);
            store(e, layer, &sums, first, layer.buffer);
        });
    });
}

fn wide_tile(
    e: &mut Emitter<'_, '_>,
    layer: &FloatLayer,
    avx512: bool,
) -> Result<(FunctionId, FloatShape), CodegenError> {
    let g = &layer.g;
    let scale = distances(layer)[1];
    let tile = FloatShape::of(avx512, layer.tile, g.interior()[1].len());
    let shape = tile_over(layer, tile, g.strides[1] * scale, layer.pitch * 4);
    Ok((shape.function(e.image)?, shape))
}

/// Bytes from a channel and from a column of the input to the next.
fn distances(layer: &FloatLayer) -> [usize; 2] {
    let (_, h, w) = layer.input.buffer.image;
    match layer.input.buffer.layout {
        Layout::Dense => [h * w * 4, 4],
        _ => [4, layer.input.buffer.pitch() * 4],
    }
}

/// A tile of lanes, vectors and positions, from one of which to the next it is `position` bytes in the input and `pitch` in
/// the result.
pub(super) fn tile_over(
    layer: &FloatLayer,
    [lanes, vectors, positions]: [usize; 3],
    position: usize,
    pitch: usize,
) -> FloatShape {
    let (g, [plane, scale]) = (&layer.g, distances(layer));
    FloatShape {
        lanes,
        vectors,
        positions,
        row: layer.tile * 4,
        extents: [g.channels / g.groups, g.kernel[0], g.kernel[1]],
        steps: [plane, g.dilations[0] * layer.input.buffer.image.2 * scale, g.dilations[1] * scale],
        position,
        pitch,
    }
}

/// A tile of neighbouring positions whose taps are all valid; the bias is added to what the tile stores.
fn wide(e: &mut Emitter<'_, '_>, layer: &FloatLayer, (function, shape): (FunctionId, FloatShape), p: Position) {
    let (g, tile) = (&layer.g, layer.tile);
    let (inner, per_group) = (g.channels / g.groups, g.outputs / g.groups);
    let blocks = per_group.div_ceil(tile);
    let flat = corner(e, layer, p);
    e.times(g.groups, |e, group| {
        let channel = e.mul(group, inner);
        let (base, scale) = plane(e, &layer.input, channel);
        let input = e.at(base, flat, scale);
        e.times(blocks, |e, block| {
            let row = e.at(block, group, blocks);
            let weights = e.at(layer.weights, row, g.taps() * tile * 4);
            let first = e.mul(block, tile);
            let first = e.at(first, group, per_group);
            let out = e.at(layer.buffer, first, 4);
            let bytes = 4 * shape.lanes * shape.vectors;
            for i in 0..4 * tile / bytes {
                let (weights, out) = (e.add(weights, i * bytes), e.add(out, i * bytes));
                e.call(function, &[input, weights, out]);
            }
            if layer.bias.is_some() {
                e.times(shape.positions, |e, index| {
                    let buffer = e.at(layer.buffer, index, layer.pitch * 4);
                    let out = e.at(buffer, first, 4);
                    add_bias(e, layer, first, out);
                });
            }
        });
    });
}

/// The flat index of a position's first tap.
fn corner(e: &mut Emitter<'_, '_>, layer: &FloatLayer, p: Position) -> Value {
    let g = &layer.g;
    let (y, x) = (e.mul(p.y, g.strides[0]), e.mul(p.x, g.strides[1]));
    let (y, x) = (e.b.ins().iadd_imm_s(y, -(g.pads[0] as i64)), e.b.ins().iadd_imm_s(x, -(g.pads[1] as i64)));
    let flat = e.mul(y, layer.input.buffer.image.2);
    e.b.ins().iadd(flat, x)
}
