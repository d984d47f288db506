//! Lowering: groups a graph's nodes into steps, one kernel each with the element-wise chain that follows it (`steps`), chooses the
//! memory layout of every value that crosses a step (`layouts`), plans the arena and the workers' scratch memory, and divides steps
//! into tasks. `pack`, `split`, `strips` and `amx` are the constants and shapes that kernels share with it; `train` lowers training
//! steps. It must never know an instruction set.

pub mod amx;
pub mod arena;
pub mod early;
mod layouts;
pub mod line;
pub mod pack;
pub mod pools;
mod scratch;
pub mod split;
pub mod split_winograd;
mod steps;
pub mod strips;
mod tasks;
pub mod train;

pub use steps::{GATHERS, wide_accumulator};
pub use tasks::rows_per_task;

use crate::graph::ops;
use crate::graph::types::Layout;
use crate::graph::{Graph, Node, NodeId, Value};
use std::collections::BTreeMap;

/// Why a graph cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{node} ({op}): {message}")]
pub struct LowerError {
    /// The node.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// What is missing and what to do.
    pub message: String,
}

/// Bytes of a cache line, at which begin values in memory and what kernels read by wide vectors.
pub const LINE: usize = 64;

/// Where a value lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// The caller's input.
    Input(usize),
    /// The caller's output.
    Output(usize),
    /// The sample's part of the arena, at this byte offset.
    Arena(u64),
    /// The worker's scratch memory, at this byte offset: what only the task that writes it reads.
    Worker(u64),
}

/// A value in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Where.
    pub place: Place,
    /// How.
    pub layout: Layout,
    /// Channels, height, width of a sample.
    pub image: (usize, usize, usize),
    /// Bit planes of codes, else 0.
    pub planes: usize,
    /// Channels a group of the reader's convolution: each group starts a new word of [`Layout::Bits`].
    pub group: usize,
    /// Whether the elements are i32 (codes, accumulators) rather than f32.
    pub integer: bool,
}

impl Buffer {
    /// Words a plane and position of [`Layout::Bits`].
    pub fn words(&self) -> usize {
        self.image.0 / self.group.max(1) * self.group.div_ceil(64)
    }

    /// Channels with the padding of [`Layout::Nhwc`].
    pub fn pitch(&self) -> usize {
        self.image.0.next_multiple_of(4)
    }

    /// Bytes of an element of [`Layout::Dense`]: the caller's codes are pixels of one byte.
    pub fn element(&self) -> usize {
        if self.integer && matches!(self.place, Place::Input(_)) { 1 } else { 4 }
    }

    /// Bytes of a position, all channels.
    pub fn pixel(&self) -> usize {
        match self.layout {
            Layout::Dense => self.image.0 * self.element(),
            Layout::Nhwc => self.pitch() * 4,
            Layout::Nibbles => self.image.0 / 4,
            Layout::Bits => self.planes * self.words() * 8,
        }
    }

    /// Bytes of a sample.
    pub fn bytes(&self) -> usize {
        self.image.1 * self.image.2 * self.pixel()
    }
}

/// One kernel with its tail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The node whose kernel runs; `None` for a pure element-wise step.
    pub main: Option<NodeId>,
    /// Element-wise nodes applied to its result while it is at hand, in order.
    pub chain: Vec<NodeId>,
    /// The value that enters the chain: the kernel's result, or the value that a pure element-wise step loads.
    pub source: Value,
    /// The value that the kernel and the chain make: the result, or what `pool` takes.
    pub made: Value,
    /// The pool of codes behind ([`pools`]).
    pub pool: Option<NodeId>,
    /// The value that is stored for other steps.
    pub result: Value,
    /// Tasks that one sample is split into.
    pub tasks: usize,
}

impl Step {
    /// Its nodes, in order.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.main.iter().chain(&self.chain).chain(&self.pool).copied()
    }
}

/// A lowered graph.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Steps in order.
    pub steps: Vec<Step>,
    /// Every value that lies in memory.
    pub buffers: BTreeMap<Value, Buffer>,
    /// Bytes of the arena a sample.
    pub arena: u64,
    /// Bytes of scratch memory a worker, behind the samples' parts; whole lines ([`LINE`]).
    pub scratch: u64,
}

/// Groups `graph` into steps and plans memory.
///
/// # Errors
/// One problem for every operator without a kernel.
pub fn lower(graph: &Graph) -> Result<Plan, Vec<LowerError>> {
    lower_with(graph, &BTreeMap::new())
}

/// As [`lower`], the inputs of some integer layers lying as `wanted` says, where their codes can.
///
/// # Errors
/// As [`lower`].
pub fn lower_with(graph: &Graph, wanted: &BTreeMap<NodeId, Layout>) -> Result<Plan, Vec<LowerError>> {
    let (steps, mut problems) = steps::group(graph);
    let mut plan = Plan { steps, ..Plan::default() };
    problems.extend(layouts::place(graph, &mut plan, wanted));
    if !problems.is_empty() {
        return Err(problems);
    }
    arena::plan(graph, &mut plan);
    scratch::plan(graph, &mut plan);
    tasks::plan(graph, &mut plan);
    Ok(plan)
}

fn refuse(node: &Node, message: &str) -> LowerError {
    LowerError { node: node.name.clone(), op: node.op.name.to_owned(), message: message.to_owned() }
}

fn is(node: &Node, names: &[&str]) -> bool {
    names.contains(&node.op.name)
}

/// The geometry of a node with weights.
pub(crate) fn geometry(graph: &Graph, id: NodeId) -> Option<ops::Geometry> {
    let types: Vec<_> = graph.operands(id).iter().filter_map(|&v| graph.value_type(v)).collect();
    let [x, w, ..] = *types else { return None };
    ops::Geometry::new(&graph.node(id)?.attrs, &x.shape, &w.shape).ok()
}
