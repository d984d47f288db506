//! What a task of the split-integer kernel does with a strip: rows of the result, tile by tile of positions and block by block of
//! outputs. Windows of few bytes are gathered first, so that a tile reads them in one run.

use super::split::SplitLayer;
use super::split_lanes::Finish;
use super::split_tiling::PATCH;
use super::{KernelError, Task, split_lanes};
use crate::codegen::CodegenError;
use crate::codegen::emitter::{Emitter, F32X4, I32X4};
use crate::codegen::image::FunctionId;
use crate::codegen::tiles::SplitShape;
use crate::codegen::tiles::patches::Patches;
use crate::graph::ops::Geometry;
use crate::lower::split::{self, TILE};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value};

/// The windows of a row's positions side by side.
#[derive(Clone, Copy)]
pub(super) struct Gathered {
    /// What gathers them.
    pub function: FunctionId,
    /// Where.
    pub base: Value,
    /// Bytes from one to the next.
    pub pitch: usize,
    /// Bytes from those of one row of positions to those of the next.
    pub row: usize,
}

impl Gathered {
    /// Of a layer by rows and by whole windows, from a strip of so many bytes a row and positions side by side.
    pub fn new(
        e: &mut Emitter<'_, '_>,
        g: &Geometry,
        [rows, whole]: [&split::Split; 2],
        shape: SplitShape,
        [row, positions]: [usize; 2],
    ) -> Result<Gathered, CodegenError> {
        let pitch = whole.length.next_multiple_of(4);
        let stride = g.strides[1] * g.channels * rows.products.element();
        let windows = Patches { rows: rows.runs[0], row: g.dilations[0] * row, run: rows.length, stride, patch: pitch };
        let function = windows.function(e.image)?;
        let row = positions.next_multiple_of(shape.columns()) * pitch;
        Ok(Gathered { function, base: e.stack(shape.rows().count * row + 2 * PATCH, 64), pitch, row })
    }
}

/// One row of the result, the strip's row `of_strip`: tiles of positions, each block of outputs in turn.
pub(super) fn row(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    layer: &SplitLayer<'_>,
    ([y, start, end, input], of_strip): ([Value; 4], Value),
    words: Option<(Value, Value)>,
) -> Result<(), KernelError> {
    let g = &layer.layer.g;
    let positions = layer.positions;
    let (input, position) = match layer.patches {
        None => (input, g.strides[1] * g.channels * layer.split.products.element()),
        Some(patches) => (gather(e, layer, patches, [start, end, input]), patches.pitch),
    };
    if let Some(list) = layer.list {
        let out = first_result(e, task, layer, y, start)?;
        let count = e.b.ins().isub(end, start);
        let most = e.int(layer.tile.map_or(1, |(_, s)| s.columns()));
        let tiles = e.b.ins().udiv(count, most);
        blocks(e, task, layer, [input, out], words, &[tiles, list]);
        return Ok(());
    }
    let mut result = Ok(());
    e.range(start, end, positions, |e, x| {
        let column = e.b.ins().isub(x, start);
        let at = e.at(input, column, position);
        if let Some(boxes) = layer.boxes {
            boxes.add_windows(e, layer, [of_strip, column], positions);
        }
        if layer.direct {
            let p = task.position(e, y, x);
            let out = e.at(task.result.base, p.flat, g.outputs / 4);
            return blocks(e, task, layer, [at, out], words, &[]);
        }
        blocks(e, task, layer, [at, layer.buffer], words, &[]);
        result = finish_tile(e, task, layer, [y, x, end], words);
    });
    result
}

/// Gathers the windows of a row of tiles, that of the strip at `input`; gives where they lie.
fn gather(e: &mut Emitter<'_, '_>, layer: &SplitLayer<'_>, to: Gathered, [start, end, input]: [Value; 3]) -> Value {
    let count = e.b.ins().isub(end, start);
    for row in 0..layer.tile.map_or(1, |(_, tile)| tile.rows().count) {
        let from = e.add(input, row * layer.layer.g.strides[0] * layer.row);
        let at = e.add(to.base, row * to.row);
        e.call(to.function, &[from, at, count]);
    }
    to.base
}

/// Hands a tile's accumulators, those of positions up to `end`, to the chain.
fn finish_tile(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    layer: &SplitLayer<'_>,
    [y, x, end]: [Value; 3],
    words: Option<(Value, Value)>,
) -> Result<(), KernelError> {
    let positions = layer.positions;
    let ty = if matches!(layer.finish, Finish::Decode { .. }) { F32X4 } else { I32X4 };
    let (mut whole, mut rest) = (Ok(()), Ok(()));
    let mut all = |e: &mut Emitter<'_, '_>| {
        let p = task.position(e, y, x);
        whole = task.finish_row(e, p, positions, (layer.buffer, layer.pitch * 4), ty, words);
    };
    if layer.layer.g.output[1].is_multiple_of(positions) {
        all(e);
    } else {
        let (left, most) = (e.b.ins().isub(end, x), e.int(positions));
        let fits = e.b.ins().icmp(IntCC::SignedGreaterThanOrEqual, left, most);
        e.branch(fits, all, |e| {
            let zero = e.int(0);
            e.range(zero, left, 1, |e, i| {
                let x = e.b.ins().iadd(x, i);
                let p = task.position(e, y, x);
                let lanes = e.at(layer.buffer, i, layer.pitch * 4);
                rest = task.finish_from(e, p, words, lanes, ty);
            });
        });
    }
    whole.and(rest)
}

/// Where the codes of a row of tiles from a position of the layer on go: those of windows to the step's result.
fn first_result(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    layer: &SplitLayer<'_>,
    y: Value,
    x: Value,
) -> Result<Value, KernelError> {
    let window = layer.tile.map_or([1, 1], |(_, s)| s.window());
    if window == [1, 1] {
        let p = task.position(e, y, x);
        return Ok(e.at(task.result.base, p.flat, layer.layer.g.outputs / 4));
    }
    let [rows, columns] = window;
    let result = task.operand(task.step.result, task.step.result.node)?;
    let [y, x] = [(y, rows), (x, columns)].map(|(v, by)| {
        let by = e.int(by);
        e.b.ins().udiv(v, by)
    });
    let flat = e.mul(y, task.result.buffer.image.2 / columns);
    let flat = e.b.ins().iadd(flat, x);
    Ok(e.at(result.base, flat, layer.layer.g.outputs / 4))
}

/// Every block of outputs of a tile, or of a row of tiles; `more` is what the tile's function takes besides.
fn blocks(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    layer: &SplitLayer<'_>,
    [input, out]: [Value; 2],
    words: Option<(Value, Value)>,
    more: &[Value],
) {
    let g = &layer.layer.g;
    let (outputs, blocks) = (g.outputs / g.groups, layer.split.blocks(g));
    let inner = g.channels / g.groups * layer.split.products.element();
    e.times(g.groups, |e, group| {
        let input = e.at(input, group, inner);
        let (start, end) = task.block_range(e, words, TILE, blocks);
        e.range(start, end, 1, |e, block| {
            let index = e.at(block, group, blocks);
            let weights = e.at(layer.weights, index, layer.split.block_bytes());
            let first = e.mul(block, TILE);
            let first = e.at(first, group, outputs);
            let out = match layer.direct {
                true => {
                    let bytes = e.b.ins().ushr_imm_u(first, 2);
                    e.b.ins().iadd(out, bytes)
                }
                false => e.at(out, first, 4),
            };
            let table = match layer.boxes {
                Some(boxes) => boxes.windows,
                None => layer.finish.table(e, index),
            };
            match layer.tile {
                Some((function, _)) => e.call(function, &[&[input, weights, out, table], more].concat()),
                None => split_lanes::block(e, layer, index, [input, weights, out, table]),
            }
        });
    });
}
