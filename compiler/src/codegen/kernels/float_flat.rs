//! Float layers of one position, fully connected ones: the first of several samples does all, so that each weight is read once
//! for them. Tile and order of the chains are those of `float_conv`, its reference, so the bits are the same.
//!
//! Cost: a sample by itself waits for its weights; eight together are bound by multiply-adds. Needs AVX2 and FMA, or AVX-512.

use super::float_conv::{FloatLayer, add_bias, tile_over};
use super::walk::WORD;
use super::{KernelError, Task};
use crate::codegen::emitter::{Emitter, F32X4};
use crate::codegen::image::FunctionId;
use crate::codegen::tiles::FloatShape;
use crate::lower::LINE;
use cranelift_codegen::ir::{InstBuilder, Value};

/// Outputs whose weights lie together.
pub(super) const OUTPUTS: usize = 32;
/// The farthest that samples may lie apart, in bytes, for a tile to reach them.
const FARTHEST: usize = 1 << 26;

/// Samples at once: a power of two, as batches often are.
fn at_once(avx512: bool, apart: usize) -> usize {
    match (avx512, apart <= FARTHEST) {
        (_, false) => 1,
        (true, _) => 8,
        (false, _) => 4,
    }
}

/// Samples whose tiles use a word's weights one after the other, while they lie in the second cache: a power of two.
const TOGETHER: usize = 64;

/// Emits the layer: a task does its words of outputs for [`TOGETHER`] samples if its own is the first of so many, else nothing; by
/// [`at_once`] of them, those that are left one by one.
pub(super) fn emit(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    layer: &FloatLayer,
    avx512: bool,
) -> Result<(), KernelError> {
    let most = at_once(avx512, layer.input.apart);
    let lanes = if avx512 { 16 } else { 8 };
    let buffer = e.stack(most * WORD * 4, LINE);
    let [many, one] = [most, 1].map(|samples| {
        // By itself a sample's tile reads whole rows of weights: half of them would come from afar twice.
        let vectors = if samples == 1 { OUTPUTS / lanes } else { 2 };
        let shape = tile_over(layer, [lanes, vectors, samples], layer.input.apart, WORD * 4);
        let function = shape.function(e.image).map_err(|m| (layer.node, m.to_string()))?;
        Ok(Tile { function, shape, buffer })
    });
    let (many, one) = (many?, one?);
    let mut result = Ok(());
    task.together(e, TOGETHER, |e, count| {
        let zero = e.int(0);
        let single = e.b.ins().band_imm_s(count, -(most as i64));
        let (start, end) = task.word_range(e);
        e.range(start, end, 1, |e, word| {
            for (from, to, tile) in [(zero, single, &many), (single, count, &one)] {
                e.range(from, to, tile.shape.positions, |e, ahead| {
                    let task = task.later(e, ahead);
                    let done = samples_word(e, &task, layer, tile, word);
                    result = std::mem::replace(&mut result, Ok(())).and(done);
                });
            }
        });
    });
    result
}

/// A tile of samples, and where its sums go: a word of outputs a sample.
struct Tile {
    function: FunctionId,
    shape: FloatShape,
    buffer: Value,
}

/// A word of outputs of the tile's samples, the task's and those behind it.
fn samples_word(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    layer: &FloatLayer,
    tile: &Tile,
    word: Value,
) -> Result<(), KernelError> {
    let input = task.main_operand(layer.node, 0)?.base;
    sums(e, task, layer, tile, [input, word]);
    let count = e.int(tile.shape.positions);
    task.finish_word(e, [word, count], tile.buffer, F32X4)
}

/// The sums of a word of outputs, of all the tile's samples.
fn sums(e: &mut Emitter<'_, '_>, task: &Task<'_>, layer: &FloatLayer, tile: &Tile, [input, word]: [Value; 2]) {
    let next = e.add(word, 1);
    let (from, to) = task.block_range(e, Some((word, next)), OUTPUTS, layer.g.outputs.div_ceil(OUTPUTS));
    e.range(from, to, 1, |e, block| {
        let weights = e.at(layer.weights, block, layer.g.taps() * OUTPUTS * 4);
        let inside = e.b.ins().isub(block, from);
        let out = e.at(tile.buffer, inside, OUTPUTS * 4);
        let bytes = 4 * tile.shape.lanes * tile.shape.vectors;
        for i in 0..OUTPUTS * 4 / bytes {
            let (weights, out) = (e.add(weights, i * bytes), e.add(out, i * bytes));
            e.call(tile.function, &[input, weights, out]);
        }
        let first = e.mul(block, OUTPUTS);
        e.times(tile.shape.positions, |e, ahead| {
            let out = e.at(out, ahead, tile.shape.pitch);
            add_bias(e, layer, first, out);
        });
    });
}
