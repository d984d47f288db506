//! Lowering of a training step: groups a training graph into steps and places every value that crosses one.
//!
//! An element-wise value is never stored unless a kernel must read it from memory: it is evaluated again, from what is
//! stored, wherever it is needed (a *fused* step). So one step reads accumulators and writes codes, or reads accumulators and
//! sums what batch norm wants, with nothing in between in memory. Every other operator is a step of its own.
//!
//! It must never know an instruction set or a layout's inner order.

mod gradients;
mod late;
pub mod layouts;
mod levels;
mod memory;
mod order;
mod patches;
mod pools;
mod products;
pub mod requirements;
mod schedule;
mod spread;

pub use gradients::gradients;
pub use order::{apart, beside};
pub use products::{Part, Plan as ProductPlan, Product, integer, plan, samples_per_task, storage};
pub use schedule::{CHUNK, in_lanes};
pub use spread::spread;

use crate::graph::types::{Dim, Elem, ValueType};
use crate::graph::{Graph, NodeId, Role, Value};
use crate::lower::LowerError;
use layouts::{Levels, Maps, Planes, Strips};
use std::collections::{BTreeMap, BTreeSet};

/// Something that lies in memory: a value, or a form of it that one kernel wants.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Slot {
    /// The value.
    pub value: Value,
    /// Which form.
    pub kind: Kind,
}

/// The forms of a value in memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// The value itself.
    Own,
    /// Channel planes for a product: bytes an element, vertical and horizontal phases.
    Planes(u8, u8, u8),
    /// Strips of gradients for a weight gradient: bytes an element.
    Strips(u8),
    /// An operand of the weight gradient whose value it is, the first or the second, in a layout that depends on the machine.
    Operand(u8),
    /// Weights packed for the product whose value it is.
    Packed,
    /// Sums of a weight gradient before they are brought into the weights' order.
    Scratch,
    /// Memory that a weight gradient needs besides its sums.
    Work,
    /// Scales c_i of a weight gradient, one a sample.
    Scales,
    /// Sums of one sample, one a channel.
    Partial,
    /// The gradient of a parameter, for the caller.
    Gradient,
    /// Flags of the states whose gradients are not finite.
    Flags,
    /// Σ and Σ² of one sample's accumulators, one a channel each.
    Moments,
}

impl Slot {
    /// The value itself.
    pub fn own(value: Value) -> Slot {
        Slot { value, kind: Kind::Own }
    }
}

/// How a slot lies in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Form {
    /// One sample: f32 or i32, channels innermost.
    Maps(Maps),
    /// One sample: levels, channels innermost, with a border.
    Levels(Levels),
    /// One sample: channel planes.
    Planes(Planes),
    /// One sample: strips of gradients.
    Strips(Strips),
    /// One sample: channels outermost, no padding (the caller's input); bytes an element.
    Image(usize),
    /// 4 bytes an element, padded to 16 elements.
    Floats(usize),
    /// 2 bytes an element: weight levels.
    Words(usize),
    /// 8 bytes an element.
    Longs(usize),
    /// Bytes that only one product understands.
    Bytes(usize),
}

impl Form {
    /// Bytes, of one sample where there is one copy a sample.
    pub fn bytes(&self) -> usize {
        match self {
            Form::Maps(m) => m.bytes(),
            Form::Levels(l) => l.bytes(),
            Form::Planes(p) => p.bytes(),
            Form::Strips(p) => p.bytes(),
            Form::Image(_) => 0,
            Form::Floats(n) => n.next_multiple_of(16) * 4,
            Form::Words(n) => n.next_multiple_of(32) * 2,
            Form::Longs(n) => n.next_multiple_of(16) * 8,
            Form::Bytes(n) => *n,
        }
    }
}

/// Where a slot lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// The caller's input.
    Input(usize),
    /// The caller's labels, i32.
    Labels,
    /// The training state, at this byte.
    State(u64),
    /// The caller's gradients, at this byte.
    Gradient(u64),
    /// The part of the arena that does not depend on the batch.
    Fixed(u64),
    /// One f32 a sample, contiguous: the number of the vector.
    Vector(u64),
    /// The sample's part of the arena.
    Sample(u64),
    /// A worker's part of the arena, for what only one run of steps over samples reads and writes: the next sample overwrites
    /// it while it is in the cache. Where steps go over all samples one by one, a part for each sample behind all others'.
    Local(u64),
}

/// A slot in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Buffer {
    /// Where.
    pub place: Place,
    /// How.
    pub form: Form,
}

/// The points that a fused step visits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Domain {
    /// Channels, height and width of every sample.
    Image(usize, usize, usize),
    /// Elements of a parameter.
    Flat(usize),
}

/// What a fused step does at each point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sink {
    /// Evaluates a value and stores it: its own slot, or the state that it updates.
    Store(Value, Slot),
    /// The greatest magnitude of a sample: the node `sample_max_abs`.
    SampleMax(Value),
    /// The sums of one sample, one a channel, of the first value or of the product of both; for the slot `Partial` of the node.
    ChannelSum(Value, [Option<Value>; 2]),
    /// Σ and Σ² of accumulators, one a channel.
    Moments(Value),
    /// Float variance: sums of (x − mean)², one a channel: node, x, mean.
    Deviations(Value, Value, Value),
}

impl Sink {
    /// The slot that it writes.
    pub fn slot(&self) -> Slot {
        match *self {
            Sink::Store(_, slot) => slot,
            Sink::SampleMax(v) => Slot::own(v),
            Sink::ChannelSum(node, _) | Sink::Deviations(node, ..) => Slot { value: node, kind: Kind::Partial },
            Sink::Moments(v) => Slot { value: v, kind: Kind::Moments },
        }
    }
}

/// One pass over the points of a fused step.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Phase {
    /// What is done at each point.
    pub sinks: Vec<Sink>,
    /// What is read from memory.
    pub reads: BTreeSet<Slot>,
}

/// What a step does.
#[derive(Clone, PartialEq, Debug)]
pub enum Work {
    /// Element-wise values and reductions over them.
    Fused {
        /// Its points.
        domain: Domain,
        /// Passes over them, one after another; a later one may read what an earlier one wrote of the same sample.
        phases: Vec<Phase>,
    },
    /// Sums over samples of what fused steps summed: the node `channel_sum`, `channel_dot`, `batch_mean` or `batch_variance`.
    Combine(NodeId),
    /// A part of a product.
    Product(Box<Product>),
    /// Sets a flag for each piece of these slots that holds a number that is not finite; one task a piece ([`Plan::pieces`]).
    /// Reads the slots, and of weight gradients the factors that bound them ([`Plan::factors`]).
    Check(Vec<Slot>),
    /// Evaluates each gradient and stores it for the caller; one task a gradient.
    Gradients(Vec<(Value, Slot)>),
    /// What else a fused step over a parameter's elements would do, whose tasks are those of this weight gradient: a machine
    /// that makes the gradient a few rows at a time makes it here, the others read it from memory.
    Late(Box<Product>, Phase),
    /// Copies the scores to the caller.
    Scores(Value),
    /// Any other operators: the kernel of each reads and writes slots of kind `Own`. Several are whole tasks, one each.
    Operators(Vec<NodeId>),
}

/// Over what a step's tasks run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tasks {
    /// One task a sample.
    Samples,
    /// So many tasks, whatever the batch.
    Fixed(usize),
}

/// A step.
#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    /// The node that it is named after.
    pub node: NodeId,
    /// What it does.
    pub work: Work,
    /// Its tasks.
    pub tasks: Tasks,
    /// What it reads.
    pub reads: Vec<Slot>,
    /// What it writes.
    pub writes: Vec<Slot>,
}

/// A tensor of the training state.
#[derive(Clone, PartialEq, Debug)]
pub struct State {
    /// Its constant.
    pub node: NodeId,
    /// What it is.
    pub role: Role,
    /// Byte in the state.
    pub offset: u64,
    /// Elements.
    pub len: usize,
}

/// A lowered training step (or evaluation).
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Steps in order.
    pub steps: Vec<Step>,
    /// The steps that only loss and scores need end here.
    pub updates: usize,
    /// So many steps from there on only serve a caller that asks for gradients; those behind them change the state.
    pub gradients: usize,
    /// For each slot of `Work::Check` the number of the state whose update reads it.
    pub checked: Vec<u32>,
    /// Every slot.
    pub buffers: BTreeMap<Slot, Buffer>,
    /// Bytes of the arena whatever the batch.
    pub fixed: u64,
    /// Vectors of one f32 a sample.
    pub vectors: u64,
    /// Bytes of the arena a sample, vectors and [`Plan::local`] not included.
    pub per_sample: u64,
    /// Bytes of what lives in one run only, of one sample.
    pub local: u64,
}

impl Plan {
    /// For each flag of `Work::Check`, one a piece, the numbers of the state and of the step that wrote what its update reads.
    pub fn flags(&self) -> Vec<(u32, u32)> {
        let slots = self.steps.iter().find_map(|s| if let Work::Check(slots) = &s.work { Some(slots) } else { None });
        let writer = |slot: &Slot| self.steps.iter().position(|s| s.writes.contains(slot)).map_or(0, |i| i as u32);
        let each = |(&state, slot)| std::iter::repeat_n((state, writer(slot)), self.pieces(slot));
        self.checked.iter().zip(slots.into_iter().flatten()).flat_map(each).collect()
    }

    /// The factors c_i of a weight gradient of levels, Σ c_i·S_i with S_i below 2³¹; nothing else has such.
    pub fn factors(&self, slot: &Slot) -> Option<Slot> {
        let factors = Slot { kind: Kind::Scales, ..*slot };
        (slot.kind == Kind::Own && self.buffers.contains_key(&factors)).then_some(factors)
    }

    /// Whether the update that reads a weight gradient may make it itself.
    pub fn is_late(&self, gradient: NodeId) -> bool {
        self.steps.iter().any(|s| matches!(&s.work, Work::Late(product, _) if product.node == gradient))
    }

    /// Pieces of [`PIECE`] elements of a slot of floats: a task of `Work::Check` looks at each, slot after slot.
    pub fn pieces(&self, slot: &Slot) -> usize {
        match self.buffers.get(slot) {
            Some(Buffer { form: Form::Floats(len), .. }) => len.div_ceil(PIECE).max(1),
            _ => 1,
        }
    }
}

/// Elements that one task of `Work::Check` looks at.
pub const PIECE: usize = 1 << 18;

/// The training state of a graph: every constant in order of its id, on 64-byte boundaries, and its size.
pub fn states(graph: &Graph) -> (Vec<State>, u64) {
    let (mut states, mut offset) = (Vec::new(), 0u64);
    for update in graph.updates() {
        let Some(tensor) = graph.node(update.node).and_then(|n| n.tensor.as_ref()) else { continue };
        states.push(State { node: update.node, role: update.role, offset, len: tensor.len() });
        offset += Form::Floats(tensor.len()).bytes() as u64;
    }
    (states, offset)
}

/// Lowers `graph`, whose state lies as `states` says.
///
/// # Errors
/// One problem for every operator without a kernel.
pub fn lower(graph: &Graph, states: &[State]) -> Result<Plan, Vec<LowerError>> {
    let mut plan = schedule::schedule(graph, states)?;
    order::first(&mut plan);
    order::group(&mut plan);
    let runs = order::runs(graph, &plan);
    memory::place(&mut plan, &runs);
    Ok(plan)
}

/// The points of a value: an image for a value with a batch, else its elements.
pub fn domain(ty: &ValueType) -> Option<Domain> {
    if ty.shape.has_batch() {
        let (c, h, w) = ty.shape.stored()?;
        return Some(Domain::Image(c, h, w));
    }
    Some(Domain::Flat(ty.shape.sample_len()?))
}

/// Whether a value is one f32 a sample.
pub fn is_vector(ty: &ValueType) -> bool {
    ty.shape.0 == [Dim::Batch] && ty.elem == Elem::F32
}
