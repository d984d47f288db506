//! Split integers: convolution of codes with weights of any bits, fixed point among them, and accumulators beyond 32
//! bits. Weights are two digits of 12 bits multiplied as i16, or three of 8 bits multiplied as bytes (`lower::split`); each
//! digit's sums fit 32 bits, which is proved from the weights, and are combined exactly. Where a wide tile stores codes of one or
//! two bits, it multiplies the lowest digit only where the others leave a code open (`lower::early`). The widest stores a code a
//! window where the step pools.
//!
//! A task copies the input rows that a few output rows need into a strip on its stack: levels side by side in (y, x, c)
//! order, zeros for padding. Every position is then like every other. Where a lane of 32 bits holds no accumulator, the kernel
//! also does the layer's decode or threshold.
//!
//! Cost: see [`cycles`]. Needs nothing beyond the level's base.

use super::box_sums::BoxSums;
use super::choice::Kernel;
use super::int_conv::IntLayer;
use super::layer::{Layer, demand, thresholds};
use super::split_lanes::{Finish, Multiply};
use super::split_rows::{Gathered, row};
use super::split_tiling::{Strip, cut, digits, levels, narrow, patched, strip};
use super::{KernelError, Task, split_input};
use crate::codegen::CodegenError;
use crate::codegen::emitter::Emitter;
use crate::codegen::image::FunctionId;
use crate::codegen::target::{Level, a64, x86};
use crate::codegen::tiles::split_bytes_avx2::SHORTEST;
use crate::codegen::tiles::{SplitFinish, SplitShape};
use crate::graph::Value as GraphValue;
use crate::graph::ops::Geometry;
use crate::graph::types::Layout;
use crate::lower::split::{self, Products, TILE};
use cranelift_codegen::ir::{InstBuilder, Value};

/// A layer ready to be emitted.
pub(super) struct SplitLayer<'a> {
    /// What it computes.
    pub layer: &'a IntLayer<'a>,
    /// How it is split.
    pub split: split::Split,
    /// Address of the packed weights.
    pub weights: Value,
    /// What becomes of an accumulator.
    pub finish: Finish,
    /// The strip's address.
    pub strip: Value,
    /// Bytes of a row of the strip, a multiple of 16.
    pub row: usize,
    /// Output rows and columns a strip.
    pub extents: [usize; 2],
    /// Input rows a strip.
    pub tall: usize,
    /// Positions side by side whose sums are made together.
    pub positions: usize,
    /// What makes them, where it is no CLIF.
    pub tile: Option<(FunctionId, SplitShape)>,
    /// Where a tile's results lie.
    pub buffer: Value,
    /// Elements of one position there.
    pub pitch: usize,
    /// Whether the tile stores the step's result itself.
    pub direct: bool,
    /// Where tiles list the positions that upper digits leave open.
    pub list: Option<Value>,
    /// Where the CLIF keeps the upper digits' sums of a tile whose codes it decides early.
    pub kept: Value,
    /// How the CLIF multiplies.
    pub multiply: Multiply,
    /// The sums under windows, where weights are halved.
    pub boxes: Option<BoxSums>,
    /// The windows of a row's positions, where they are gathered.
    pub patches: Option<Gathered>,
}

/// Whether level and layer allow the kernel: the instructions, sums that are proved, and a window that fits a strip.
pub(super) fn fits(layer: &Layer<'_>, level: &Level, kernel: Kernel) -> Result<(), String> {
    match kernel {
        Kernel::SplitVnni => demand(SplitShape::quads(level), "the level lacks AVX-512 VNNI")?,
        Kernel::SplitAvx2 | Kernel::SplitBytesAvx2 => {
            demand(level.has_x86(x86::AVX2 | x86::BMI2), "the level lacks AVX2 with BMI2")?;
        }
        Kernel::SplitAvxVnni => {
            demand(level.has_x86(x86::AVXVNNI | x86::BMI2), "the level lacks AVX-VNNI with BMI2")?;
        }
        Kernel::SplitDot => {
            let dot = level.has_a64(a64::DOTPROD) || level.has_a64(a64::I8MM);
            demand(dot, "the level lacks sdot and usdot")?;
        }
        Kernel::SplitNeon => demand(level.has_a64(0), "the level is none of aarch64")?,
        _ => {}
    }
    let split = digits(layer, kernel).ok_or("its levels or sums do not fit the digits of its weights")?;
    if kernel == Kernel::SplitBytesAvx2 {
        demand(split.planes == 1, "its weights are more than one digit of 8 bits")?;
        let few = narrow(layer).is_some_and(|steps| steps >= SHORTEST);
        demand(few, "sums of its products leave 16 bits too soon")?;
    }
    demand(strip(layer, &split, kernel).is_some(), "its window is too long for a strip")
}

/// Products of digits a cycle: 6 with 128-bit pmaddwd, 22 with AVX2, 42 as bytes, 30 and 58 with AVX-VNNI (reckoned, not measured),
/// 105 with AVX-512 VNNI; 11 with NEON, 50 with dot products of bytes; runs are filled up to whole steps, outputs to blocks of 16. Copying a strip takes a cycle for every bit
/// plane of a level, one for an integer, 2 for a pixel, as often as windows of neighbouring strips overlap; all weights are read
/// for every tile; then the chain.
pub(super) fn cycles(layer: &Layer<'_>, kernel: Kernel) -> f64 {
    let g = &layer.g;
    let Some(split) = digits(layer, kernel) else { return f64::INFINITY };
    let rate = match kernel {
        Kernel::SplitVnni => 105.0,
        Kernel::SplitAvxVnni if split.products == Products::Quads => 58.0,
        Kernel::SplitAvxVnni => 30.0,
        Kernel::SplitBytesAvx2 => 42.0,
        Kernel::SplitAvx2 => 22.0,
        Kernel::SplitDot => 50.0,
        Kernel::SplitNeon => 11.0,
        _ => 6.0,
    };
    let Some((tile, strip)) = strip(layer, &split, kernel) else { return f64::INFINITY };
    let run = (split.runs[0] * split.runs[1] * split.steps() * split.products.together()) as f64;
    let outputs = (split.blocks(g) * TILE * g.groups) as f64;
    let strips = g.output[0].div_ceil(strip.extents[0]) * g.output[1].div_ceil(strip.extents[1]);
    let copied = (strips * strip.tall * strip.row / split.products.element()) as f64;
    let products = layer.positions() * outputs * run * split.always() as f64;
    let tiles = layer.positions() / tile.map_or(strip.positions, |t| t.positions) as f64;
    let bits = (8 * split.products.element() * split.always()) as f64;
    let copy = match layer.input.layout {
        Layout::Dense => 2.0,
        Layout::Nhwc => 1.0,
        Layout::Nibbles | Layout::Bits => layer.bits()[1],
    };
    let results = tile.map_or(1, |t| t.window().iter().product()) as f64;
    let chain =
        if tile.is_some() && split.early.is_some() { layer.positions() * outputs / results } else { layer.chain() };
    products / rate + copied * copy + layer.reading(bits, tiles) + chain
}

/// Emits the kernel.
///
/// # Errors
/// The node that could not be emitted, and why.
pub(super) fn emit(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    layer: &IntLayer<'_>,
    about: &Layer<'_>,
    kernel: Kernel,
) -> Result<(), KernelError> {
    let layer = prepare(e, task, layer, about, kernel)?;
    let g = &layer.layer.g;
    let words = task.splits_channels().then(|| task.word_range(e));
    let (start, end) = task.row_range(e);
    let mut result = Ok(());
    let [rows, columns] = layer.extents;
    let element = layer.split.products.element();
    let pixel = g.channels * element;
    e.range(start, end, rows, |e, top| {
        let (zero, width) = (e.int(0), e.int(g.output[1]));
        e.range(zero, width, columns, |e, left| {
            let [bottom, right] = [(top, rows), (left, columns)].map(|(from, by)| e.add(from, by));
            let (bottom, right) = (e.min(bottom, end), e.min(right, width));
            let fewer = e.b.ins().isub(bottom, top);
            let fewer = e.mul(fewer, g.strides[0]);
            let tall = e.b.ins().iadd_imm_s(fewer, layer.tall as i64 - (rows * g.strides[0]) as i64);
            let strip = split_input::Strip {
                base: layer.strip,
                row: layer.row,
                tall,
                columns: layer.row / pixel.max(1),
                element,
            };
            split_input::copy(e, layer.layer, &strip, [top, left]);
            if let Some(boxes) = layer.boxes {
                boxes.fill(e, &layer);
            }
            let window = layer.tile.map_or([1, 1], |(_, t)| t.window());
            e.range(top, bottom, window[0], |e, y| {
                let i = e.b.ins().isub(y, top);
                let input = e.at(layer.strip, i, g.strides[0] * layer.row);
                result = row(e, task, &layer, ([y, left, right, input], i), words);
            });
        });
    });
    result
}

fn prepare<'a>(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    layer: &'a IntLayer<'a>,
    about: &Layer<'_>,
    kernel: Kernel,
) -> Result<SplitLayer<'a>, KernelError> {
    let (g, node) = (&layer.g, about.node);
    let does_not_fit = || (node, "does not fit the split-integer kernel".to_owned());
    let failed = |m: CodegenError| (node, m.to_string());
    let (split, halves) = cut(about, kernel).ok_or_else(does_not_fit)?;
    let (shape, Strip { positions, extents, tall, row, size }) =
        strip(about, &split, kernel).ok_or_else(does_not_fit)?;
    let positions = shape.map_or(positions, |s| s.positions);
    let pixel = g.channels * split.products.element();
    let strip = e.stack(size, 64);
    let boxes = halves.is_some().then(|| BoxSums::new(e, [tall, row / pixel.max(1)], positions));
    let levels = halves.unwrap_or_else(|| levels(about));
    let finish = finish(e, task, about, &split, &levels);
    let direct = shape.and_then(|shape| stored(e, task, g, shape, finish));
    let vnni = shape.filter(|_| kernel == Kernel::SplitVnni);
    let whole = vnni.and_then(|shape| Some((shape, patched(about, &split)?)));
    let patches = whole.map(|(shape, whole)| Gathered::new(e, g, [&split, &whole], shape, [row, extents[1]]));
    let patches = patches.transpose().map_err(failed)?;
    let split = whole.map_or(split, |(_, whole)| whole);
    let pitch = g.outputs.next_multiple_of(4) + TILE;
    let buffer = task.lane_buffer(e, pitch * positions);
    let multiply = Multiply::new(e, layer, (&split, &levels), kernel);
    let shape = shape.map(|shape| {
        let kind = if boxes.is_some() { SplitFinish::Halved } else { direct.unwrap_or(finish.kind()) };
        let steps = [g.dilations[0] * row, g.dilations[1] * pixel];
        let [position, apart] = patches.map_or([g.strides[1] * pixel, g.strides[0] * row], |p| [p.pitch, p.row]);
        let pitch = if direct.is_some() { g.outputs / 4 } else { pitch * 4 };
        shape.with(&split, steps, position, pitch, kind).with_rows([apart, 0])
    });
    let tile = shape.map(|shape| Ok((shape.function(e.image)?, shape))).transpose().map_err(failed)?;
    let weights = split.weights(g, &levels);
    let by_output = shape.is_some_and(SplitShape::by_output);
    let weights = e.data("weights", if by_output { split.by_output(weights) } else { weights });
    let kept = e.stack(if shape.is_none() { positions * 4 * TILE } else { 0 }, 16);
    let list = shape.and(split.early).map(|_| e.stack(SplitShape::LIST, 64));
    Ok(SplitLayer {
        layer,
        split,
        weights,
        finish,
        strip,
        row,
        extents,
        tall,
        positions,
        tile,
        buffer,
        pitch,
        direct: direct.is_some(),
        list,
        kept,
        multiply,
        boxes,
        patches,
    })
}

/// What becomes of a layer's accumulators, with its table.
fn finish(e: &mut Emitter<'_, '_>, task: &Task<'_>, about: &Layer<'_>, split: &split::Split, levels: &[i64]) -> Finish {
    let g = &about.g;
    // The threshold that enters the chain, if it is one.
    match thresholds(task.graph, task.step.source.node) {
        Some((rows, top)) => {
            let early = about.codes.and_then(|c| split.early_thresholds(g, (rows, top), levels, c.a.levels()));
            let table = early.unwrap_or_else(|| split.thresholds(g, rows, top));
            Finish::Threshold { table: e.data("thresholds", table), top, early: split.early }
        }
        None if task.step.source == (GraphValue { node: about.node, port: 0 }) => Finish::Raw,
        None => {
            let scale = |o| about.codes.map_or(1.0, |c| c.acc.scale_of(o));
            Finish::Decode { table: e.data("scales", split.scales(g, scale)) }
        }
    }
}

/// What a tile stores, where that is the step's result itself.
fn stored(
    e: &Emitter<'_, '_>,
    task: &Task<'_>,
    g: &Geometry,
    shape: SplitShape,
    finish: Finish,
) -> Option<SplitFinish> {
    match (finish.kind(), shape.window()) {
        (early @ SplitFinish::Early { .. }, [1, 1]) => Some(early),
        (SplitFinish::Early { top, shift }, window) => Some(SplitFinish::Pooled { top, shift, window }),
        (kind, _) if kind.top() > 0 && stores(e, task, g, shape) => {
            Some(SplitFinish::Nibbles { top: kind.top(), planes: task.result.buffer.planes })
        }
        _ => None,
    }
}

/// Whether a step's result are codes of few bits that whole tiles and blocks make, so that the tile can store them.
fn stores(e: &Emitter<'_, '_>, task: &Task<'_>, g: &Geometry, tile: SplitShape) -> bool {
    let whole = g.output[1].is_multiple_of(tile.positions) && (g.outputs / g.groups).is_multiple_of(TILE);
    let nibbles = task.result.buffer.layout == Layout::Nibbles && task.step.chain.is_empty();
    whole && nibbles && !task.splits_channels() && SplitShape::stores_nibbles(e.level)
}
