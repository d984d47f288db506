//! The steps of training: one function `(call, i, worker)` each. Fused element-wise steps are in `fused`, their values in
//! `values`; the products' kernels in `codegen::products`; every other operator has a file of its own.
//!
//! It must never know how the graph was built.

mod borders;
mod combine;
mod fused;
mod glue;
mod gradients;
mod late;
mod loss;
mod moves;
mod noise;
mod operators;
mod pool_windows;
mod pools;
mod reduce;
mod scalars;
mod values;
mod wide_pools;

pub use noise::mix;

use crate::codegen::emitter::Emitter;
use crate::codegen::products::Samples;
use crate::graph::{Graph, Node, NodeId, Value as GraphValue};
use crate::lower::train::{Buffer, Form, Place, Plan, Slot, Step, Tasks, Work};
use crate::lower::{GATHERS, LINE};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// What went wrong in a step: the node and the reason.
pub type StepProblem = (NodeId, String);

/// Offsets of `dorefac_call` and `dorefac_train`.
pub(crate) mod at {
    pub use crate::codegen::call::{ARENA, ARENA_SIZE, BATCH, INPUTS, OUTPUTS, PROFILE, TRAIN};
    pub const STEP: i32 = 8;
    pub const SEED: i32 = 16;
    pub const SAMPLE0: i32 = 32;
    pub const STATE: i32 = 40;
    pub const GRADS: i32 = 48;
    pub const LABELS: i32 = 56;
    pub const HYPER: [(&str, i32); 7] = [
        ("lr", 64),
        ("beta1", 72),
        ("beta2", 80),
        ("epsilon", 88),
        ("weight_decay", 96),
        ("bn_momentum", 104),
        ("loss_scale", 112),
    ];
    pub const LOSS: i32 = 120;
    pub const CORRECT: i32 = 128;
    pub const BAD_STATE: i32 = 136;
}

/// One step's function.
#[derive(Clone, Copy)]
pub(super) struct Frame<'g> {
    pub graph: &'g Graph,
    pub plan: &'g Plan,
    pub step: &'g Step,
    /// `dorefac_call`.
    pub call: Value,
    /// `dorefac_train`.
    pub train: Value,
    /// The batch.
    pub batch: Value,
    /// The task's number: the sample where tasks are samples.
    pub task: Value,
    arena: Value,
    vector: Value,
    samples: Value,
    worker: Value,
    /// A slot that lies elsewhere than the plan says, and where.
    moved: Option<(Slot, Value)>,
}

/// Emits the function of a step; returns its kernel's name.
///
/// # Errors
/// The node that the kernels cannot run, and why.
pub fn emit_step(
    e: &mut Emitter<'_, '_>,
    graph: &Graph,
    plan: &Plan,
    step: &Step,
) -> Result<&'static str, StepProblem> {
    let params = e.enter();
    let [call, task, worker] = *params else { return Err((step.node, "the task has no parameters".to_owned())) };
    let frame = Frame::new(e, graph, plan, step, [call, task, worker]);
    let name = frame.work(e).map_err(|m| (step.node, m))?;
    e.b.ins().return_(&[]);
    Ok(name)
}

impl<'g> Frame<'g> {
    fn new(
        e: &mut Emitter<'_, '_>,
        graph: &'g Graph,
        plan: &'g Plan,
        step: &'g Step,
        [call, task, worker]: [Value; 3],
    ) -> Frame<'g> {
        let train = e.read(types::I64, call, at::TRAIN);
        let batch = e.read(types::I64, call, at::BATCH);
        let arena = e.read(types::I64, call, at::ARENA);
        // A vector holds the batch, up to a multiple of 16 samples.
        let rounded = e.add(batch, 15);
        let rounded = e.b.ins().band_imm_s(rounded, -16);
        let vector = e.mul(rounded, 4);
        let samples = e.add(arena, plan.fixed as usize);
        let samples = e.at(samples, vector, plan.vectors as usize);
        Frame { graph, plan, step, call, train, batch, task, arena, vector, samples, worker, moved: None }
    }

    fn work(&self, e: &mut Emitter<'_, '_>) -> Result<&'static str, String> {
        match &self.step.work {
            Work::Fused { domain, phases } => fused::emit(e, self, *domain, phases),
            Work::Combine(node) => combine::emit(e, self, self.node(*node)?),
            Work::Product(product) => glue::emit(e, self, product),
            Work::Check(slots) => reduce::check(e, self, slots),
            Work::Gradients(list) => gradients::emit(e, self, list),
            Work::Late(product, phase) => late::emit(e, self, product, phase),
            Work::Scores(value) => loss::scores(e, self, *value),
            Work::Operators(list) => match &**list {
                [one] => self.operator(e, self.node(*one)?),
                all => self.one_each(e, all),
            },
        }
    }

    /// Operator i in task i.
    fn one_each(&self, e: &mut Emitter<'_, '_>, all: &[NodeId]) -> Result<&'static str, String> {
        for (i, &id) in all.iter().enumerate() {
            let (node, mut result) = (self.node(id)?, Ok(""));
            let mine = e.b.ins().icmp_imm_s(IntCC::Equal, self.task, i as i64);
            e.when(mine, |e| result = self.operator(e, node));
            result?;
        }
        Ok("several reductions")
    }

    fn operator(&self, e: &mut Emitter<'_, '_>, node: &Node) -> Result<&'static str, String> {
        match node.op.name {
            "max_pool" | "max_pool_winner" => pools::max(e, self, node),
            "average_pool" | "global_average_pool" => pools::average(e, self, node),
            "max_pool_grad" => pools::max_grad(e, self, node),
            "average_pool_grad" | "global_average_pool_grad" => pools::average_grad(e, self, node),
            "softmax_cross_entropy" | "softmax_cross_entropy_grad" | "correct" => loss::emit(e, self, node),
            "softmax" => loss::softmax(e, self, node),
            name if GATHERS.contains(&name) => moves::emit(e, self, node),
            "hyper" => reduce::adam_rate(e, self, node),
            _ => reduce::emit(e, self, node),
        }
    }

    /// A node of the graph.
    pub fn node(&self, id: NodeId) -> Result<&'g Node, String> {
        self.graph.node(id).ok_or_else(|| "a node is missing".to_owned())
    }

    /// Operand `i` of a node.
    pub fn operand(&self, node: &Node, i: usize) -> Result<GraphValue, String> {
        self.graph.operands(node.id).get(i).copied().ok_or_else(|| format!("operand {i} is missing"))
    }

    /// The buffer of a slot.
    pub fn buffer(&self, slot: Slot) -> Result<&'g Buffer, String> {
        self.plan.buffers.get(&slot).ok_or_else(|| "a value is not in memory".to_owned())
    }

    /// Whether tasks are samples.
    pub fn over_samples(&self) -> bool {
        self.step.tasks == Tasks::Samples
    }

    /// The slot of every sample: the first one's address, and the distance to the next.
    pub fn all(&self, e: &mut Emitter<'_, '_>, slot: Slot) -> Result<Samples, String> {
        let buffer = self.buffer(slot)?;
        let stride = |e: &mut Emitter<'_, '_>, n: usize| e.int(n);
        if let Some((_, base)) = self.moved.filter(|&(moved, _)| moved == slot) {
            return Ok(Samples { base, stride: stride(e, 0) });
        }
        Ok(match buffer.place {
            Place::Input(i) => {
                let list = e.read(types::I64, self.call, at::INPUTS);
                let base = e.read(types::I64, list, 8 * i as i32);
                let ty = self.graph.value_type(slot.value).ok_or("an input has no type")?;
                let element = if let Form::Image(n) = buffer.form { n } else { 4 };
                let bytes = ty.shape.sample_len().unwrap_or(0) * element;
                Samples { base, stride: stride(e, bytes) }
            }
            Place::Labels => Samples { base: e.read(types::I64, self.train, at::LABELS), stride: stride(e, 4) },
            Place::State(offset) => {
                let state = e.read(types::I64, self.train, at::STATE);
                Samples { base: e.add(state, offset as usize), stride: stride(e, 0) }
            }
            Place::Gradient(offset) => {
                let gradients = e.read(types::I64, self.train, at::GRADS);
                Samples { base: e.add(gradients, offset as usize), stride: stride(e, 0) }
            }
            Place::Fixed(offset) => Samples { base: e.add(self.arena, offset as usize), stride: stride(e, 0) },
            Place::Vector(k) => {
                let base = e.add(self.arena, self.plan.fixed as usize);
                Samples { base: e.at(base, self.vector, k as usize), stride: stride(e, 4) }
            }
            Place::Sample(offset) => {
                let base = e.add(self.samples, offset as usize);
                Samples { base, stride: stride(e, self.plan.per_sample as usize) }
            }
            Place::Local(offset) => self.local(e, offset as usize),
        })
    }

    /// What lies `offset` bytes into the worker's part, at the arena's end; where a hook asks for what each step made, into the
    /// sample's second part, behind the first ones of all samples. Only one of the two is ever touched.
    fn local(&self, e: &mut Emitter<'_, '_>, offset: usize) -> Samples {
        let plan = self.plan;
        let size = e.read(types::I64, self.call, at::ARENA_SIZE);
        let end = e.b.ins().iadd(self.arena, size);
        let end = e.b.ins().band_imm_s(end, -(LINE as i64));
        let worker = e.b.ins().uextend(types::I64, self.worker);
        let below = e.add(worker, 1);
        let below = e.mul(below, plan.local as usize);
        let mine = e.b.ins().isub(end, below);
        let each = e.at(self.samples, self.batch, plan.per_sample as usize);
        let hook = e.read(types::I64, self.call, at::PROFILE);
        let base = e.b.ins().select(hook, each, mine);
        let (distance, none) = (e.int(plan.local as usize), e.int(0));
        Samples { base: e.add(base, offset), stride: e.b.ins().select(hook, distance, none) }
    }

    /// The address of a slot, of this task's sample where tasks are samples.
    pub fn base(&self, e: &mut Emitter<'_, '_>, slot: Slot) -> Result<Value, String> {
        let all = self.all(e, slot)?;
        if !self.over_samples() {
            return Ok(all.base);
        }
        let offset = e.b.ins().imul(all.stride, self.task);
        Ok(e.b.ins().iadd(all.base, offset))
    }

    /// The address of an operand of a node.
    pub fn operand_base(&self, e: &mut Emitter<'_, '_>, node: &Node, i: usize) -> Result<Value, String> {
        let value = self.operand(node, i)?;
        self.base(e, Slot::own(value))
    }
}
