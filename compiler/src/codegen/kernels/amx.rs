//! Convolution on AMX: bytes of codes by bytes of weights, 16 × 16 sums at a time (layouts in [`crate::lower::amx`]). A task
//! unpacks the input rows of a strip into the worker's scratch memory, then runs the tile for each pair of blocks of outputs.
//! Reference: the sums of the bit-serial kernel.
//!
//! Where nothing but thresholds follow, the tile stores codes; else it leaves accumulators for the chain. Tasks share rows,
//! but where these fill few tiles they share outputs.
//!
//! Weights of more than a byte are two or three digits (`lower::split`), whose sums the tile combines: then it also does the
//! layer's decode or threshold. Reference of those: `split_lanes`.
//!
//! Cost: see [`cycles`]. Limits: levels 0 … 255, sums of each digit that fit 32 bits. Needs AMX, which the
//! process must be granted, and AVX-512 with VBMI.

use super::choice::Kernel;
use super::int_conv::IntLayer;
use super::layer::{Layer, demand, only_thresholds, thresholds, whole_words};
use super::{KernelError, Task, Words, split_input};
use crate::codegen::emitter::{Emitter, F32X4, I32X4};
use crate::codegen::products::share;
use crate::codegen::target::{Level, x86};
use crate::codegen::tiles::SplitFinish;
use crate::codegen::tiles::amx::with_tiles;
use crate::codegen::tiles::amx_conv::{AmxConv, Place, Store};
use crate::codegen::tiles::patches::Patches;
use crate::codegen::tiles::unpack_avx512::{Planes, Unpack};
use crate::codegen::{CodegenError, FunctionId};
use crate::graph::Value as GraphValue;
use crate::graph::ops::Geometry;
use crate::graph::types::Layout;
use crate::lower::amx::{self, Fill, PAIR, SPILL, TILE, Tiles};
use crate::lower::split::Products;
use crate::lower::{Step, rows_per_task};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Type, Value, types};

/// The longest strip of one row.
const LONGEST: usize = 1 << 20;
/// Outputs by which tasks share them.
const SHARE: usize = 64;

/// Whether level and layer allow the kernel, of one digit a weight or of several.
pub(super) fn fits(layer: &Layer<'_>, level: &Level, kernel: Kernel) -> Result<(), String> {
    demand(level.has_x86(x86::AMX | x86::V4 | x86::VBMI), "the level lacks AMX with AVX-512 VBMI")?;
    if kernel == Kernel::Amx {
        layer.in_lanes()?;
    }
    // Before the weights are looked at: layers of one position have the most.
    demand(layer.g.output != [1, 1], "it has one position")?;
    let plan = Plan::of(layer, kernel).ok_or(match kernel {
        Kernel::Amx => "its levels and weights are no bytes",
        _ => "its levels are no bytes, or its sums do not fit digits of its weights",
    })?;
    demand(plan.tiles.strip(&layer.g, 1) <= LONGEST, "its window is too long for a strip")
}

/// 500 MAC a cycle over whole tiles, 7 bytes of weights a cycle, which are read from a distant cache once, 5 cycles for 64
/// channels of a position that are unpacked, one for a level that is copied; then the chain, in wide lanes. Codes cost 8
/// cycles for 32 outputs, digits 8 for 16.
pub(super) fn cycles(layer: &Layer<'_>, kernel: Kernel) -> f64 {
    let g = &layer.g;
    let Some(Plan { tiles, store, .. }) = Plan::of(layer, kernel) else { return f64::INFINITY };
    let share = match by_outputs(g, &tiles, layer.step, layer.result.image.0) {
        true => g.output[0],
        false => rows_per_task(g.output[0], layer.step.tasks),
    };
    let positions = tiles.count(g, share) * TILE * g.output[0] / share;
    let chunks = tiles.loops.iter().product::<usize>() * amx::CHUNK * tiles.split.planes;
    let outputs = g.groups * tiles.blocks() * TILE;
    let input = (tiles.columns * tiles.tall(g, g.output[0])) as f64;
    let filled = match tiles.fill {
        Fill::Unpacked => input * (g.groups * tiles.pixel / amx::CHUNK) as f64 * 5.0,
        Fill::Copied => input * g.channels as f64,
        Fill::Patches => input * g.channels as f64 + layer.positions() * (2 * g.kernel[0]) as f64,
    };
    let stored = match store {
        Store::Codes { .. } => positions as f64 * (g.outputs as f64) / 4.0,
        Store::Sums { .. } => layer.chain() / 3.0,
        Store::Digits { .. } => positions as f64 * (g.outputs as f64) / 2.0 + layer.chain() / 3.0,
    };
    let weights = (g.groups * tiles.blocks() * tiles.block_bytes()) as f64 / 7.0;
    (positions * chunks * outputs) as f64 / 500.0 + weights + filled + stored
}

/// How a layer is computed.
struct Plan<'g> {
    tiles: Tiles,
    store: Store,
    /// The thresholds that the tile compares with.
    thresholds: Option<(&'g [i64], usize)>,
}

impl<'g> Plan<'g> {
    /// `None` where bytes do not hold its levels, or the digits that the kernel takes its weights.
    fn of(layer: &Layer<'g>, kernel: Kernel) -> Option<Plan<'g>> {
        let (c, g) = (layer.codes?, &layer.g);
        let planar = match layer.input.layout {
            Layout::Bits => layer.input.planes <= 8,
            Layout::Nibbles => (g.channels / g.groups).is_multiple_of(4),
            _ => false,
        };
        let unpacked = planar && (c.a.step, c.a.offset) == (1, 0) && layer.input.image.0 == g.channels;
        let tiles = |split| Tiles::new(g, split, unpacked);
        if kernel == Kernel::Amx {
            let store = codes(layer);
            let thresholds = store.and_then(|_| only_thresholds(layer.graph, layer.step));
            let split = layer.split(Products::Quads, thresholds, |s| s.planes == 1).filter(|s| s.planes == 1)?;
            let store = store.unwrap_or(Store::Sums { pitch: tiles(split).pitch() * 4 });
            return Some(Plan { tiles: tiles(split), store, thresholds });
        }
        let thresholds = thresholds(layer.graph, layer.step.source.node);
        let split = layer.split(Products::Quads, thresholds, |s| s.planes == 1).filter(|s| s.planes > 1)?;
        let own = layer.step.source == GraphValue { node: layer.node, port: 0 };
        let whole = (g.outputs / g.groups).is_multiple_of(TILE) && layer.step.chain.is_empty();
        let finish = match thresholds {
            Some((_, top)) if whole && layer.result.layout == Layout::Nibbles => {
                SplitFinish::Nibbles { top, planes: layer.result.planes }
            }
            Some((_, top)) => SplitFinish::Threshold(top),
            None if own => SplitFinish::Raw,
            None => SplitFinish::Decode,
        };
        let pitch = tiles(split).pitch() * 4;
        let store = Store::Digits { planes: split.planes, bits: split.bits, finish, pitch };
        Some(Plan { tiles: tiles(split), store, thresholds })
    }

    /// The thresholds or scales that the tile reads.
    fn table(&self, layer: &Layer<'_>) -> Vec<u8> {
        let (g, split) = (&layer.g, &self.tiles.split);
        let scale = |o| layer.codes.map_or(1.0, |c| c.acc.scale_of(o));
        match (self.store, self.thresholds) {
            (Store::Codes { .. }, Some((rows, top))) => amx::thresholds(rows, top, [g.groups, g.outputs / g.groups]),
            (Store::Digits { .. }, Some((rows, top))) => split.thresholds(g, rows, top),
            (Store::Digits { finish: SplitFinish::Decode, .. }, _) => split.scales(g, scale),
            _ => Vec::new(),
        }
    }
}

/// Codes where only thresholds follow that 16 bits can compare, and the stored codes lie by whole bytes.
fn codes(layer: &Layer<'_>) -> Option<Store> {
    let (b, g) = (layer.result, &layer.g);
    let (rows, top) = only_thresholds(layer.graph, layer.step)?;
    let narrow = layer.codes.is_some_and(|c| c.acc.lo >= -32_766 && c.acc.hi <= 32_766);
    let whole = (g.outputs / g.groups).is_multiple_of(TILE) && rows.len() == g.outputs * (top + 1);
    let planes = if top > 1 { 2 } else { 1 };
    if !narrow || !whole || !(1..=3).contains(&top) || b.planes != planes {
        return None;
    }
    match b.layout {
        Layout::Nibbles => Some(Store::Codes { top, planes, place: Place::Nibbles }),
        // The tile writes no more than its outputs, and the rest of a word must be zero.
        Layout::Bits if whole_words(b) && b.image.0.is_multiple_of(64) => {
            Some(Store::Codes { top, planes, place: Place::Bits(b.words() * 8) })
        }
        _ => None,
    }
}

/// The kernel on one layer.
struct Amx<'a, 'l> {
    layer: &'a IntLayer<'l>,
    tiles: Tiles,
    store: Store,
    /// Rows of the result a strip, and input rows under it.
    rows: usize,
    tall: usize,
    /// Whether tasks share outputs.
    by_outputs: bool,
    /// Bytes of a position of the result, and of eight outputs there.
    pixel: usize,
    /// Where levels are unpacked or copied to, and where tiles read.
    levels: Value,
    strip: Value,
    sums: Value,
    spill: Value,
    weights: Value,
    /// Thresholds or scales.
    table: Value,
    positions: Value,
    /// Groups of tiles of a strip of so many rows.
    counts: Value,
    /// For pairs of blocks of a group's outputs, and for a block that is left.
    pairs: Option<FunctionId>,
    single: Option<FunctionId>,
    /// What unpacks codes or gathers patches.
    gather: Option<FunctionId>,
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
    let failed = |m: CodegenError| (about.node, m.to_string());
    let plan = Plan::of(about, kernel).ok_or((about.node, "does not fit the AMX kernel".to_owned()))?;
    let kernel = Amx::new(e, task, layer, about, plan).map_err(failed)?;
    with_tiles(e, failed, |e| kernel.run(e, task))
}

impl<'a, 'l> Amx<'a, 'l> {
    fn new(
        e: &mut Emitter<'_, '_>,
        task: &Task<'_>,
        layer: &'a IntLayer<'l>,
        about: &Layer<'_>,
        plan: Plan<'_>,
    ) -> Result<Self, CodegenError> {
        let table = plan.table(about);
        let Plan { tiles, store, thresholds } = plan;
        let (g, b) = (&layer.g, &task.result.buffer);
        let by_outputs = by_outputs(g, &tiles, task.step, b.image.0);
        let share = if by_outputs { g.output[0] } else { rows_per_task(g.output[0], task.step.tasks) };
        let rows = tiles.rows(g, share);
        let tall = tiles.tall(g, rows);
        let pixel = b.pixel();
        let counts = (0..=rows).flat_map(|n| {
            let count = if n == 0 { 0 } else { tiles.count(g, n) / tiles.together() };
            (count as i64).to_le_bytes()
        });
        let counts = e.data("counts", counts.collect());
        let conv = |blocks| AmxConv {
            blocks,
            loops: tiles.loops,
            steps: [g.dilations[0] * tiles.row(), g.dilations[1] * tiles.pixel],
            position: tiles.position,
            store,
        };
        let blocks = tiles.blocks();
        let pairs = (blocks > 1).then(|| conv(2).function(e.image)).transpose()?;
        let single = (blocks % 2 == 1).then(|| conv(1).function(e.image)).transpose()?;
        let gather = match tiles.fill {
            Fill::Unpacked => Some(unpack(&layer.input, &tiles).function(e.image)?),
            Fill::Copied => None,
            Fill::Patches => Some(patches(g, &tiles).function(e.image)?),
        };
        let spill = task.scratch(e);
        let levels_at = e.add(spill, SPILL);
        let strip = match tiles.fill {
            Fill::Patches => e.add(levels_at, tiles.levels(g, rows)),
            _ => levels_at,
        };
        Ok(Amx {
            layer,
            store,
            rows,
            tall,
            by_outputs,
            pixel,
            strip,
            sums: e.add(levels_at, tiles.strip(g, rows)),
            levels: levels_at,
            spill,
            weights: e.data("weights", tiles.weights(g, &about.levels(thresholds))),
            table: e.data("amx_table", table),
            positions: e.data("positions", tiles.table(g, rows, pixel)),
            counts,
            pairs,
            single,
            gather,
            tiles,
        })
    }

    fn run(&self, e: &mut Emitter<'_, '_>, task: &Task<'_>) -> Result<(), KernelError> {
        let g = &self.layer.g;
        let (start, end) = if self.by_outputs { (e.int(0), e.int(g.output[0])) } else { task.row_range(e) };
        let words = self.by_outputs.then(|| {
            let [start, end] = share(e, task.part, task.step.tasks, task.result.buffer.image.0 / SHARE);
            (start, end)
        });
        let mut result = Ok(());
        e.range(start, end, self.rows, |e, top| {
            let (left, most) = (e.b.ins().isub(end, top), e.int(self.rows));
            let rows = e.min(left, most);
            self.fill(e, [top, rows]);
            self.products(e, task, [top, rows], words);
            let Some((pitch, ty)) = self.lanes() else { return };
            let zero = e.int(0);
            e.range(zero, rows, 1, |e, row| {
                let y = e.b.ins().iadd(top, row);
                let first = task.position(e, y, zero);
                let sums = e.at(self.sums, row, self.tiles.row_positions * pitch);
                result = task.finish_row(e, first, g.output[1], (sums, pitch), ty, words);
            });
        });
        result
    }

    /// The bytes from one position to the next and the type of what the tile leaves for the chain.
    fn lanes(&self) -> Option<(usize, Type)> {
        match self.store {
            Store::Codes { .. } | Store::Digits { finish: SplitFinish::Nibbles { .. }, .. } => None,
            Store::Digits { finish: SplitFinish::Decode, pitch, .. } => Some((pitch, F32X4)),
            Store::Sums { pitch } | Store::Digits { pitch, .. } => Some((pitch, I32X4)),
        }
    }

    /// Fills the strip with the input rows under `rows` rows from `top` of the result on.
    fn fill(&self, e: &mut Emitter<'_, '_>, [top, rows]: [Value; 2]) {
        match (self.tiles.fill, self.gather) {
            (Fill::Unpacked, Some(unpack)) => self.unpack(e, unpack, top),
            (_, gather) => {
                let strip = split_input::Strip {
                    base: self.levels,
                    row: self.tiles.row(),
                    tall: e.int(self.tall),
                    columns: self.tiles.columns,
                    element: 1,
                };
                let zero = e.int(0);
                split_input::copy(e, self.layer, &strip, [top, zero]);
                let Some(gather) = gather else { return };
                let g = &self.layer.g;
                let count = e.int(g.output[1]);
                e.range(zero, rows, 1, |e, row| {
                    let from = e.at(self.levels, row, g.strides[0] * self.tiles.row());
                    let to = e.at(self.strip, row, g.output[1] * self.tiles.position);
                    e.call(gather, &[from, to, count]);
                });
            }
        }
    }

    /// Unpacks the input rows under those from `top` of the result on; zeros where there are none.
    fn unpack(&self, e: &mut Emitter<'_, '_>, unpack: FunctionId, top: Value) {
        let g = &self.layer.g;
        let (input, pixel, row) = (&self.layer.input, self.tiles.pixel, self.tiles.row());
        let before = g.pads[1].min(self.tiles.columns);
        let inside = (self.tiles.columns - before).min(g.input[1]);
        let top = e.mul(top, g.strides[0]);
        let top = e.b.ins().iadd_imm_s(top, -(g.pads[0] as i64));
        e.times(self.tall, |e, r| {
            let to = e.at(self.strip, r, row);
            let y = e.b.ins().iadd(top, r);
            let there = e.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, y, g.input[0] as i64);
            e.times(g.groups, |e, group| {
                let to = e.at(to, group, self.tiles.group(self.tall));
                let (zero, filled, end) = (e.int(0), e.int(before * pixel), e.int(row));
                e.branch(
                    there,
                    |e| {
                        split_input::zeros(e, to, zero, filled);
                        let from = e.at(input.base, y, g.input[1] * input.buffer.pixel());
                        let from = e.at(from, group, self.group_bytes());
                        let (to_first, count) = (e.b.ins().iadd(to, filled), e.int(inside));
                        e.call(unpack, &[from, to_first, count]);
                        let after = e.int((before + inside) * pixel);
                        split_input::zeros(e, to, after, end);
                    },
                    |e| split_input::zeros(e, to, zero, end),
                );
            });
        });
    }

    /// Bytes from one group's channels of the input to the next's.
    fn group_bytes(&self) -> usize {
        let inner = self.layer.g.channels / self.layer.g.groups;
        if self.layer.input.buffer.layout == Layout::Nibbles { inner / 4 } else { inner.div_ceil(64) * 8 }
    }

    /// The products of a strip, for the outputs of this task.
    fn products(&self, e: &mut Emitter<'_, '_>, task: &Task<'_>, [top, rows]: [Value; 2], words: Words) {
        let g = &self.layer.g;
        let (blocks, outputs) = (self.tiles.blocks(), g.outputs / g.groups);
        let at = e.at(self.counts, rows, 8);
        let count = e.load(types::I64, at, 0);
        let limit = e.mul(rows, g.output[1] * self.pixel);
        let zero = e.int(0);
        let first = task.position(e, top, zero);
        let codes = e.at(task.result.base, first.flat, self.pixel);
        e.times(g.groups, |e, group| {
            let strip = e.at(self.strip, group, self.tiles.group(self.tall));
            let weights = e.at(self.weights, group, blocks * self.tiles.block_bytes());
            let pair = |e: &mut Emitter<'_, '_>, pair: Value, function: FunctionId| {
                let weights = e.at(weights, pair, 2 * self.tiles.block_bytes());
                let first = e.mul(pair, PAIR);
                let channel = e.at(first, group, outputs);
                let result = if self.lanes().is_none() {
                    let bits = matches!(self.store, Store::Codes { place: Place::Bits(_), .. });
                    let bytes = e.b.ins().ushr_imm_u(channel, if bits { 3 } else { 2 });
                    e.b.ins().iadd(codes, bytes)
                } else {
                    // What a group's last block writes too far is written over by the next group.
                    e.at(self.sums, channel, 4)
                };
                let table = match self.store {
                    Store::Sums { .. } => self.table,
                    Store::Codes { top, .. } => {
                        let index = e.at(pair, group, outputs.div_ceil(PAIR));
                        e.at(self.table, index, amx::thresholds_pitch(top))
                    }
                    Store::Digits { finish, .. } => {
                        let index = e.mul(pair, 2);
                        let index = e.at(index, group, blocks);
                        e.at(self.table, index, finish.table_bytes())
                    }
                };
                e.call(function, &[strip, weights, result, table, self.positions, count, limit, self.spill]);
            };
            if let Some(function) = self.pairs {
                let (start, end) = task.block_range(e, words, PAIR, blocks / 2);
                e.range(start, end, 1, |e, i| pair(e, i, function));
            }
            if let Some(function) = self.single {
                let last = e.int(blocks / 2);
                pair(e, last, function);
            }
        });
    }
}

/// Whether tasks share outputs rather than rows: where strips of rows would need more tiles than that wins. A pool behind the
/// layer reads all outputs of its task's rows.
fn by_outputs(g: &Geometry, tiles: &Tiles, step: &Step, channels: usize) -> bool {
    let shared = g.groups == 1 && channels.is_multiple_of(SHARE) && step.tasks > 1 && step.pool.is_none();
    let share = rows_per_task(g.output[0], step.tasks);
    let whole = tiles.count(g, g.output[0]) as f64;
    let cut = (tiles.count(g, share) * g.output[0].div_ceil(share)) as f64;
    shared && tiles.rows(g, g.output[0]) == g.output[0] && (cut > 1.1 * whole || g.output[0] == 1)
}

fn unpack(input: &super::Operand, tiles: &Tiles) -> Unpack {
    let b = &input.buffer;
    Unpack { planes: Planes::of(b), from: b.pixel(), blocks: tiles.pixel / 64 }
}

fn patches(g: &Geometry, tiles: &Tiles) -> Patches {
    let [kernel, stride] = [g.kernel[0], g.strides[1] * tiles.pixel];
    Patches { rows: kernel, row: g.dilations[0] * tiles.row(), run: tiles.run, stride, patch: tiles.position }
}
