//! Kernels: one file each, those of layers with weights registered in `choice`, the rest in [`emit_step`]. This file holds what
//! they share: the task's prologue, access to values in any layout, and the tail that runs the chain and stores.

mod amx;
mod box_sums;
pub mod choice;
mod code_sum;
mod float_conv;
mod float_flat;
mod folds;
mod int_conv;
mod int_direct;
pub mod layer;
mod look_up;
mod look_up64;
mod look_up_codes_clif;
mod look_up_flat;
mod look_up_flat_clif;
mod look_up_rows;
mod look_up_rows_clif;
mod moves;
mod nibble_pool;
mod pool;
mod popcount;
mod rows;
mod samples;
mod split;
mod split_input;
mod split_lanes;
mod split_lanes_early;
mod split_tiling;
mod split_winograd;
mod spread;
mod store;
mod wide_chain;

pub use moves::Gather;
pub use samples::one_position;

use super::call::{ARENA, BATCH, INPUTS, OUTPUTS};
use super::chain::Chain;
use super::emitter::{Emitter, F32X4, I32X4};
use super::shares::Shares;
use crate::graph::types::Layout;
use crate::graph::{Graph, Node, NodeId, Value as GraphValue};
use crate::lower::split::stored as split_stored;
use crate::lower::{Buffer, Place, Plan, Step, pools};
use choice::Kernel;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};
use layer::{Layer, codes_behind};
use std::collections::BTreeMap;

/// What went wrong in a kernel: the node and the reason.
pub type KernelError = (NodeId, String);

/// A value of the graph as one function sees it.
#[derive(Clone)]
pub struct Operand {
    buffer: Buffer,
    base: Value,
    /// Elements from one position to the next where channels are innermost.
    pitch: usize,
    /// Bytes from a sample to the next; 0 where all samples read the same.
    apart: usize,
}

impl Operand {
    fn new(buffer: Buffer, base: Value) -> Operand {
        let pitch = buffer.pitch();
        Operand { buffer, base, pitch, apart: 0 }
    }

    /// Floats of a sample: row-major, or channels innermost with so many elements from one position to the next.
    pub fn floats(base: Value, image: (usize, usize, usize), pitch: Option<usize>) -> Operand {
        let layout = if pitch.is_some() { Layout::Nhwc } else { Layout::Dense };
        let buffer = Buffer { place: Place::Arena(0), layout, image, planes: 0, group: image.0, integer: false };
        Operand { pitch: pitch.unwrap_or(buffer.pitch()), ..Operand::new(buffer, base) }
    }
}

/// One task's function: a step on a part of one sample.
#[derive(Clone)]
pub struct Task<'g> {
    graph: &'g Graph,
    step: &'g Step,
    chain: Chain<'g>,
    operands: BTreeMap<GraphValue, Operand>,
    /// What the kernel and the chain make.
    result: Operand,
    /// Rows of it for one row of the step's result, by which tasks are divided.
    rows: usize,
    sample: Value,
    /// Tasks of the sample in this call.
    shares: Value,
    /// Which of them this is, from 0 on.
    part: Value,
    call: Value,
    worker: Value,
    /// Bytes of a sample's part of the arena, and of a worker's scratch memory behind all samples.
    arena: [usize; 2],
}

/// How a step's work on a sample is shared out where each call decides; else it always has all its tasks.
pub fn shares(plan: &Plan, step: &Step, kernel: Option<Kernel>) -> Option<Shares> {
    let most = step.tasks as u64;
    let own = matches!(kernel, Some(Kernel::Amx | Kernel::SplitAmx));
    let rows = plan.buffers.get(&step.made)?.image.1;
    match (most, rows) {
        (..=1, _) => None,
        _ if own => None,
        (_, 1) => Some(Shares::Words(most)),
        _ => Some(Shares::Rows(most)),
    }
}

/// Emits the body of a step's task function `(call, i, worker)`, a layer with weights by `kernel`, which fits it; returns the
/// kernel's name for the report.
///
/// # Errors
/// The node that the kernels cannot run, and why.
pub fn emit_step(
    e: &mut Emitter<'_, '_>,
    graph: &Graph,
    plan: &Plan,
    step: &Step,
    kernel: Option<Kernel>,
) -> Result<&'static str, KernelError> {
    let entry = e.b.create_block();
    e.b.append_block_params_for_function_params(entry);
    e.b.switch_to_block(entry);
    e.b.seal_block(entry);
    let params: Vec<Value> = e.b.block_params(entry).to_vec();
    let node = step.main.or(step.chain.first().copied()).unwrap_or(step.result.node);
    let [call, index, worker] = *params else { return Err((node, "the task has no parameters".to_owned())) };
    let shares = match shares(plan, step, kernel) {
        Some(shares) => shares.of(&mut e.b, call),
        None => e.int(step.tasks),
    };
    let (sample, part) = match step.tasks {
        1 => (index, e.int(0)),
        _ => (e.b.ins().udiv(index, shares), e.b.ins().urem(index, shares)),
    };
    let arena = [plan.arena as usize, plan.scratch as usize];
    let scratch = if step.pool.is_some() { scratch(e, call, worker, arena) } else { call };
    let mut operands = BTreeMap::new();
    let nodes = step.main.iter().chain(&step.chain);
    let wanted: Vec<GraphValue> = nodes.flat_map(|&n| graph.operands(n)).chain([step.made, step.result]).collect();
    for value in wanted {
        if let Some(tensor) = graph.constant(value) {
            if let Some(constant) = moves::constant(e, graph, step, value, tensor) {
                operands.insert(value, constant);
            }
        } else if let Some(buffer) = plan.buffers.get(&split_stored(graph, value)) {
            let (base, apart) = match buffer.place {
                Place::Worker(offset) => (e.add(scratch, offset as usize), 0),
                _ => address(e, call, sample, buffer, arena[0]),
            };
            operands.insert(value, Operand { apart, ..Operand::new(buffer.clone(), base) });
        }
    }
    let result = operands.get(&step.made).cloned().ok_or((node, "the result has no place".to_owned()))?;
    let chain = Chain::prepare(e, graph, &step.chain)?;
    let rows = pools::rows(graph, step.pool);
    let task = Task { graph, step, chain, operands, result, rows, sample, shares, part, call, worker, arena };
    let name = match step.main.and_then(|id| graph.node(id)) {
        None => {
            let source = task.operand(step.source, node)?.clone();
            task.each_row(e, |task, e, y| {
                let zero = e.int(0);
                let first = task.position(e, y, zero);
                if task.row_of(e, &source, first)? {
                    return Ok(());
                }
                task.each_column(e, y, |task, e, position| {
                    task.finish(e, position, None, &mut |e, channel| {
                        Ok(moves::load_broadcast(e, &source, task.result.buffer.image, position, channel))
                    })
                })
            })?;
            "element-wise"
        }
        Some(main) => match main.op.name {
            "conv" | "matmul" | "int_conv" => weights(e, &task, plan, kernel, main)?,
            "max_pool" | "average_pool" | "code_pool" | "sum_pool" => pool::windows(e, &task, main)?,
            "global_average_pool" => pool::global(e, &task, main)?,
            "softmax" => rows::softmax(e, &task, main)?,
            name if crate::lower::GATHERS.contains(&name) => moves::emit(e, &task, main)?,
            other => return Err((main.id, format!("{other} has no kernel"))),
        },
    };
    e.b.ins().return_(&[]);
    Ok(name)
}

/// Emits a layer with weights.
fn weights(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    plan: &Plan,
    kernel: Option<Kernel>,
    main: &Node,
) -> Result<&'static str, KernelError> {
    let fail = || (main.id, "no kernel was chosen".to_owned());
    let layer = Layer::of(task.graph, plan, task.step, e.fma)?.ok_or_else(fail)?;
    let kernel = kernel.ok_or_else(fail)?;
    match layer.codes {
        Some(_) => int_conv::emit(e, task, &layer, kernel)?,
        None => float_conv::emit(e, task, main, kernel)?,
    }
    let pools = || match kernel {
        Kernel::SplitWinograd => split_winograd::pools(&layer),
        _ => split_tiling::pools(&layer, kernel),
    };
    if let Some(node) = task.step.pool.filter(|_| !pools()).and_then(|id| task.graph.node(id)) {
        pool::behind(e, task, node)?;
    }
    Ok(kernel.name())
}

/// A worker's `plan.scratch` bytes, aligned to 64; `arena` as in [`Task`].
fn scratch(e: &mut Emitter<'_, '_>, call: Value, worker: Value, arena: [usize; 2]) -> Value {
    let [base, batch] = [ARENA, BATCH].map(|at| e.load(types::I64, call, at));
    let base = e.at(base, batch, arena[0]);
    let worker = e.b.ins().uextend(types::I64, worker);
    e.at(base, worker, arena[1])
}

/// Where a sample's value lies, and bytes from a sample to the next.
fn address(e: &mut Emitter<'_, '_>, call: Value, sample: Value, buffer: &Buffer, arena: usize) -> (Value, usize) {
    let table = |e: &mut Emitter<'_, '_>, list: i32, i: usize| {
        let list = e.load(types::I64, call, list);
        e.load(types::I64, list, 8 * i as i32)
    };
    let (base, stride, offset) = match buffer.place {
        Place::Input(i) => (table(e, INPUTS, i), buffer.bytes(), 0),
        Place::Output(i) => (table(e, OUTPUTS, i), buffer.bytes(), 0),
        Place::Arena(offset) | Place::Worker(offset) => (e.load(types::I64, call, ARENA), arena, offset as usize),
    };
    let base = e.at(base, sample, stride);
    (e.add(base, offset), stride)
}

/// A position: row, column and `y·W + x` of the result.
#[derive(Clone, Copy)]
pub struct Position {
    /// Row.
    pub y: Value,
    /// Column.
    pub x: Value,
    /// y·W + x.
    pub flat: Value,
}

/// Reads four lanes of a value at the position `flat` = y·W + x.
fn load_lanes_at(e: &mut Emitter<'_, '_>, o: &Operand, flat: Value, channel: Value) -> Value {
    let ty = if o.buffer.integer { I32X4 } else { F32X4 };
    let (c, h, w) = o.buffer.image;
    match o.buffer.layout {
        Layout::Nhwc => {
            let row = e.at(o.base, flat, o.buffer.pitch() * 4);
            let at = e.at(row, channel, 4);
            e.load(ty, at, 0)
        }
        Layout::Dense if h * w == 1 && c % 4 == 0 && o.buffer.element() == 4 => {
            let at = e.at(o.base, channel, 4);
            e.load(ty, at, 0)
        }
        Layout::Dense => {
            let zero = e.splat_i32(0);
            let mut lanes = e.cast(ty, zero);
            let last = e.int(c - 1);
            for lane in 0..4u8 {
                let c = e.add(channel, lane.into());
                let c = e.min(c, last);
                let element = o.buffer.element();
                let plane = e.at(o.base, c, h * w * element);
                let at = e.at(plane, flat, element);
                let v = if element == 1 {
                    e.b.ins().uload8(types::I32, MemFlagsData::new().with_notrap(), at, 0)
                } else {
                    e.load(ty.lane_type(), at, 0)
                };
                lanes = e.b.ins().insertlane(lanes, v, lane);
            }
            lanes
        }
        Layout::Nibbles => {
            let row = e.at(o.base, flat, o.buffer.pixel());
            let byte = e.b.ins().ushr_imm_u(channel, 2);
            let at = e.b.ins().iadd(row, byte);
            let v = e.b.ins().uload8(types::I32, MemFlagsData::new().with_notrap(), at, 0);
            planes_to_lanes(e, o.buffer.planes, |e, q| e.b.ins().ushr_imm_u(v, 4 * q as i64))
        }
        Layout::Bits => {
            let (word, bit) = word_of(e, &o.buffer, channel);
            let row = e.at(o.base, flat, o.buffer.pixel());
            let at = e.at(row, word, 8);
            let stride = o.buffer.words() * 8;
            planes_to_lanes(e, o.buffer.planes, |e, q| {
                let v = e.load(types::I64, at, (q * stride) as i32);
                let v = e.b.ins().ushr(v, bit);
                e.b.ins().ireduce(types::I32, v)
            })
        }
    }
}

/// Four codes from bits 0 … 3 of each plane.
fn planes_to_lanes(
    e: &mut Emitter<'_, '_>,
    planes: usize,
    mut plane: impl FnMut(&mut Emitter<'_, '_>, usize) -> Value,
) -> Value {
    let selector = e.data("lane_bits", [1u32, 2, 4, 8].iter().flat_map(|v| v.to_le_bytes()).collect());
    let selector = e.load(I32X4, selector, 0);
    let zero = e.splat_i32(0);
    let mut code = zero;
    for q in 0..planes {
        let v = plane(e, q);
        let v = e.b.ins().splat(I32X4, v);
        let v = e.b.ins().band(v, selector);
        let mask = e.b.ins().icmp(IntCC::NotEqual, v, zero);
        let weight = e.splat_i32(1 << q);
        let part = e.b.ins().band(mask, weight);
        code = e.b.ins().bor(code, part);
    }
    code
}

/// The word and bit of a channel in [`Layout::Bits`].
fn word_of(e: &mut Emitter<'_, '_>, buffer: &Buffer, channel: Value) -> (Value, Value) {
    let (group, inside) = if buffer.group == buffer.image.0 {
        (None, channel)
    } else {
        let g = e.int(buffer.group);
        (Some(e.b.ins().udiv(channel, g)), e.b.ins().urem(channel, g))
    };
    let mut word = e.b.ins().ushr_imm_u(inside, 6);
    if let Some(g) = group {
        word = e.at(word, g, buffer.group.div_ceil(64));
    }
    (word, e.b.ins().band_imm_s(inside, 63))
}

/// The words of 64 channels, from one to another, that a function is limited to.
type Words = Option<(Value, Value)>;

/// Lanes of the step's main result at a channel.
type Source<'f> = dyn FnMut(&mut Emitter<'_, '_>, Value) -> Result<Value, KernelError> + 'f;

impl Task<'_> {
    fn operand(&self, value: GraphValue, node: NodeId) -> Result<&Operand, KernelError> {
        self.operands.get(&value).ok_or((node, "an operand is not in memory".to_owned()))
    }

    /// Operand `i` of the main node.
    fn main_operand(&self, node: NodeId, i: usize) -> Result<&Operand, KernelError> {
        let value = self.graph.operands(node).get(i).copied().ok_or((node, format!("operand {i} is missing")))?;
        self.operand(value, node)
    }

    /// The samples of the call.
    fn batch(&self, e: &mut Emitter<'_, '_>) -> Value {
        e.load(types::I64, self.call, BATCH)
    }

    /// Whether tasks split the words of outputs instead of rows.
    fn splits_channels(&self) -> bool {
        self.result.buffer.image.1 == 1 && self.step.tasks > 1
    }

    /// The words of 64 result channels that this task computes.
    fn word_range(&self, e: &mut Emitter<'_, '_>) -> (Value, Value) {
        let words = e.int(self.result.buffer.image.0.div_ceil(64));
        let next = e.add(self.part, 1);
        (self.cut(e, self.part, words), self.cut(e, next, words))
    }

    /// The blocks of `tile` result channels, of `blocks` in all, that `words` (see [`Task::word_range`]) stands for.
    fn block_range(
        &self,
        e: &mut Emitter<'_, '_>,
        words: Option<(Value, Value)>,
        tile: usize,
        blocks: usize,
    ) -> (Value, Value) {
        let all = e.int(blocks);
        match words {
            None => (e.int(0), all),
            Some((a, b)) => {
                let b = e.mul(b, 64 / tile);
                (e.mul(a, 64 / tile), e.min(b, all))
            }
        }
    }

    /// This worker's `plan.scratch` bytes, aligned to 64.
    fn scratch(&self, e: &mut Emitter<'_, '_>) -> Value {
        scratch(e, self.call, self.worker, self.arena)
    }

    /// The codes that choose among the thresholds behind the step.
    fn residual(&self) -> Option<&Operand> {
        self.operands.get(&codes_behind(self.graph, self.step)?.residual?.0)
    }

    /// The rows of [`Task::result`] that this task computes; those of two tasks differ by at most one, or by one of a pool.
    fn row_range(&self, e: &mut Emitter<'_, '_>) -> (Value, Value) {
        let h = self.result.buffer.image.1 / self.rows;
        if self.step.tasks == 1 || self.splits_channels() {
            return (e.int(0), e.int(h * self.rows));
        }
        let h = e.int(h);
        let next = e.add(self.part, 1);
        let [start, end] = [self.part, next].map(|part| {
            let row = self.cut(e, part, h);
            e.mul(row, self.rows)
        });
        (start, end)
    }

    /// The first of `n` rows or words that share `part` does: the shares before it have one more where that is not even.
    fn cut(&self, e: &mut Emitter<'_, '_>, part: Value, n: Value) -> Value {
        let all = e.b.ins().imul(part, n);
        let all = e.b.ins().iadd(all, self.shares);
        let all = e.b.ins().iadd_imm_s(all, -1);
        e.b.ins().udiv(all, self.shares)
    }

    /// Calls `body` for every row of this task's part of the result.
    fn each_row(
        &self,
        e: &mut Emitter<'_, '_>,
        mut body: impl FnMut(&Self, &mut Emitter<'_, '_>, Value) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        let mut failed = None;
        let (start, end) = self.row_range(e);
        e.range(start, end, 1, |e, y| {
            if let Err(error) = body(self, e, y) {
                failed = Some(error);
            }
        });
        failed.map_or(Ok(()), Err)
    }

    /// The position (y, x) of the result.
    fn position(&self, e: &mut Emitter<'_, '_>, y: Value, x: Value) -> Position {
        let flat = e.mul(y, self.result.buffer.image.2);
        Position { y, x, flat: e.b.ins().iadd(flat, x) }
    }

    /// Calls `body` at every position of this task's part of the result.
    fn each_position(
        &self,
        e: &mut Emitter<'_, '_>,
        mut body: impl FnMut(&Self, &mut Emitter<'_, '_>, Position) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        self.each_row(e, |task, e, y| task.each_column(e, y, &mut body))
    }

    /// Calls `body` at every position of a row.
    fn each_column(
        &self,
        e: &mut Emitter<'_, '_>,
        y: Value,
        mut body: impl FnMut(&Self, &mut Emitter<'_, '_>, Position) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        let mut result = Ok(());
        e.times(self.result.buffer.image.2, |e, x| {
            let p = self.position(e, y, x);
            result = body(self, e, p);
        });
        result
    }

    /// Calls `tile` at every position where `width` neighbours lie in `interior` (rows, columns of the result), `single` at
    /// the others. Both are emitted once.
    fn each_tile(
        &self,
        e: &mut Emitter<'_, '_>,
        width: usize,
        [rows, columns]: [std::ops::Range<usize>; 2],
        mut tile: impl FnMut(&Self, &mut Emitter<'_, '_>, Position) -> Result<(), KernelError>,
        mut single: impl FnMut(&Self, &mut Emitter<'_, '_>, Position) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        let w = self.result.buffer.image.2;
        self.each_row(e, |task, e, y| {
            let shifted = e.b.ins().iadd_imm_s(y, -(rows.start as i64));
            let inside = e.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, shifted, rows.len() as i64);
            let (zero, end) = (e.int(0), e.int(w));
            let room = (columns.len() + 1).saturating_sub(width);
            let mut result = Ok(());
            e.walk(zero, end, |e, x| {
                let p = task.position(e, y, x);
                let shifted = e.b.ins().iadd_imm_s(x, -(columns.start as i64));
                let fits = e.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, shifted, room as i64);
                let fits = e.b.ins().band(inside, fits);
                let (one, many) = (e.int(1), e.int(width));
                let (first, second) = e.branch(fits, |e| tile(task, e, p), |e| single(task, e, p));
                result = first.and(second);
                e.b.ins().select(fits, many, one)
            });
            result
        })
    }

    /// A buffer on the stack for one position's results, `channels` elements of 4 bytes and some room.
    fn lane_buffer(&self, e: &mut Emitter<'_, '_>, channels: usize) -> Value {
        e.stack((channels.next_multiple_of(64) + 64) * 4, 16)
    }
}
