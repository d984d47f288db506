//! A task's function: a step on a part of one sample. Its prologue finds what the step reads and writes and which part is this
//! task's. Must never know how a kernel computes.

use super::KernelError;
use super::choice::Kernel;
use super::layer::codes_behind;
use super::operand::{self, Operand};
use crate::codegen::call::{ARENA, BATCH, INPUTS, OUTPUTS};
use crate::codegen::chain::Chain;
use crate::codegen::emitter::Emitter;
use crate::codegen::shares::Shares;
use crate::graph::{Graph, NodeId, Value as GraphValue};
use crate::lower::split::stored as split_stored;
use crate::lower::{Buffer, Place, Plan, Step, pools};
use cranelift_codegen::ir::{InstBuilder, Value, types};
use std::collections::BTreeMap;

/// One task's function: a step on a part of one sample.
#[derive(Clone)]
pub struct Task<'g> {
    pub(super) graph: &'g Graph,
    pub(super) step: &'g Step,
    pub(super) chain: Chain<'g>,
    pub(super) operands: BTreeMap<GraphValue, Operand>,
    /// What the kernel and the chain make.
    pub(super) result: Operand,
    /// Rows of it for one row of the step's result, by which tasks are divided.
    pub(super) rows: usize,
    pub(super) sample: Value,
    /// Tasks of the sample in this call.
    pub(super) shares: Value,
    /// Which of them this is, from 0 on.
    pub(super) part: Value,
    pub(super) call: Value,
    pub(super) worker: Value,
    /// Bytes of a sample's part of the arena, and of a worker's scratch memory behind all samples.
    pub(super) arena: [usize; 2],
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

impl<'g> Task<'g> {
    /// Emits the prologue of a step's task function `(call, i, worker)`.
    pub(super) fn new(
        e: &mut Emitter<'_, '_>,
        graph: &'g Graph,
        plan: &Plan,
        step: &'g Step,
        kernel: Option<Kernel>,
    ) -> Result<Task<'g>, KernelError> {
        let params = e.enter();
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
                if let Some(constant) = operand::constant(e, graph, step, value, tensor) {
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
        Ok(Task { graph, step, chain, operands, result, rows, sample, shares, part, call, worker, arena })
    }

    pub(super) fn operand(&self, value: GraphValue, node: NodeId) -> Result<&Operand, KernelError> {
        self.operands.get(&value).ok_or((node, "an operand is not in memory".to_owned()))
    }

    /// Operand `i` of the main node.
    pub(super) fn main_operand(&self, node: NodeId, i: usize) -> Result<&Operand, KernelError> {
        let value = self.graph.operands(node).get(i).copied().ok_or((node, format!("operand {i} is missing")))?;
        self.operand(value, node)
    }

    /// The samples of the call.
    pub(super) fn batch(&self, e: &mut Emitter<'_, '_>) -> Value {
        e.load(types::I64, self.call, BATCH)
    }

    /// This worker's `plan.scratch` bytes, which begin at a cache line.
    pub(super) fn scratch(&self, e: &mut Emitter<'_, '_>) -> Value {
        scratch(e, self.call, self.worker, self.arena)
    }

    /// The codes that choose among the thresholds behind the step.
    pub(super) fn residual(&self) -> Option<&Operand> {
        self.operands.get(&codes_behind(self.graph, self.step)?.residual?.0)
    }

    /// A buffer on the stack for one position's results, `channels` elements of 4 bytes and some room.
    pub(super) fn lane_buffer(&self, e: &mut Emitter<'_, '_>, channels: usize) -> Value {
        e.stack((channels.next_multiple_of(64) + 64) * 4, 16)
    }
}

/// A worker's `plan.scratch` bytes, which begin at a cache line; `arena` as in [`Task`].
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
