//! Lowering: groups a graph's nodes into steps, one kernel each with the element-wise chain that follows it, chooses the
//! memory layout of every value that crosses a step, and plans the arena. It must never know an instruction set.

pub mod amx;
pub mod arena;
pub mod early;
pub mod line;
pub mod pack;
pub mod pools;
mod scratch;
pub mod split;
pub mod split_winograd;
pub mod strips;
pub mod train;

use crate::graph::ops::{self, OpDef};
use crate::graph::types::{Elem, Layout};
use crate::graph::{Graph, NodeId, Value};
use std::collections::{BTreeMap, BTreeSet};

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
    /// Bytes of scratch memory a worker, behind the samples' parts; a multiple of 64.
    pub scratch: u64,
}

/// Operators with a kernel of their own, besides [`GATHERS`].
const KERNELS: &[&str] = &[
    "conv",
    "matmul",
    "int_conv",
    "max_pool",
    "average_pool",
    "global_average_pool",
    "code_pool",
    "sum_pool",
    "softmax",
];

/// Operators that one kernel computes, reading element by element.
pub const GATHERS: &[&str] = &[
    "reshape",
    "transpose",
    "concat",
    "pad",
    "slice",
    "take",
    "repeat",
    "reduce_mean",
    "reduce_max",
    "reduce_sum",
    "arg_max",
    "product",
];

/// Whether a node works element by element: also a reshape that moves nothing in memory, such as (N,C) to (N,C,1,1).
fn elementwise(graph: &Graph, node: &crate::graph::Node) -> bool {
    node.op.elementwise || same_image(graph, node)
}

fn same_image(graph: &Graph, node: &crate::graph::Node) -> bool {
    let image = |v: Option<&Value>| v.and_then(|&v| graph.value_type(v)).and_then(|t| t.shape.stored());
    let own = node.types.first().and_then(|t| t.shape.stored());
    is(node, &["reshape"]) && own.is_some() && own == image(graph.operands(node.id).first())
}

/// Whether the element-wise kernels can read every operand at the places of the result.
fn broadcasts(graph: &Graph, node: &crate::graph::Node) -> bool {
    let Some(shape) = node.types.first().map(|t| &t.shape) else { return false };
    let fits =
        |v: &Value| graph.constant(*v).is_some() || graph.value_type(*v).is_some_and(|t| t.shape.spreads_over(shape));
    shape.stored().is_some() && graph.operands(node.id).iter().all(fits)
}

fn is(node: &crate::graph::Node, names: &[&str]) -> bool {
    names.contains(&node.op.name)
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
    let mut problems = Vec::new();
    let mut plan = Plan::default();
    let mut done: BTreeMap<Value, ()> = graph.inputs().iter().map(|&n| (Value { node: n, port: 0 }, ())).collect();
    let mut absorbed = BTreeSet::new();
    for id in graph.order() {
        let Some(node) = graph.node(id) else { continue };
        let elsewhere = absorbed.contains(&id) || split::appended_by_readers(graph, id);
        if elsewhere || *node.op == ops::INPUT || *node.op == ops::CONSTANT {
            continue;
        }
        let own = Value { node: id, port: 0 };
        let kernel = is(node, KERNELS) || is(node, GATHERS);
        let (main, source, first) = if kernel && !same_image(graph, node) {
            (Some(id), own, None)
        } else if elementwise(graph, node) {
            match graph.operands(id).into_iter().find(|&v| graph.constant(v).is_none()) {
                Some(source) => (None, source, Some(id)),
                None => continue,
            }
        } else {
            problems.push(refuse(
                node.name.clone(),
                node.op,
                "has no kernel yet; run the model with `--engine interp`",
            ));
            continue;
        };
        if main.is_none() && !broadcasts(graph, node) {
            let message = "broadcasts values that are no images: reshape them to (N,C,H,W)";
            problems.push(refuse(node.name.clone(), node.op, message));
        }
        let mut chain = Vec::new();
        let mut result = own;
        if let Some(first) = first {
            chain.push(first);
        }
        // Softmax works on whole rows, `repeat` reads its constant in another layout than a chain: neither takes a tail.
        while !main.is_some_and(|_| is(node, &["softmax", "repeat"])) {
            let Some(next) = graph.sole_user(result) else { break };
            let Some(user) = graph.node(next) else { break };
            let ready = |v: &Value| *v == result || graph.constant(*v).is_some() || done.contains_key(v);
            let same =
                graph.value_type(result).map(|t| t.shape.stored()) == user.types.first().map(|t| t.shape.stored());
            if !elementwise(graph, user) || !same || !broadcasts(graph, user) || !graph.operands(next).iter().all(ready)
            {
                break;
            }
            chain.push(next);
            absorbed.insert(next);
            result = Value { node: next, port: 0 };
        }
        let wide = wide_accumulator(graph, source);
        let finished = if wide || split::fixed_point(graph, id) { finished(graph, &mut chain) } else { None };
        let source = match finished {
            Some(value) => value,
            None if wide => {
                let message = "needs more than 32 bits, and something other than one decode or threshold reads it";
                problems.push(refuse(node.name.clone(), node.op, message));
                continue;
            }
            None => source,
        };
        let (made, pool) = (result, main.and_then(|main| pools::behind(graph, main, result)));
        if let Some(node) = pool {
            absorbed.insert(node);
            result = Value { node, port: 0 };
        }
        done.insert(result, ());
        plan.steps.push(Step { main, chain, source, made, pool, result, tasks: 1 });
    }
    problems.extend(place_buffers(graph, &mut plan, wanted).err().unwrap_or_default());
    if !problems.is_empty() {
        return Err(problems);
    }
    arena::plan(graph, &mut plan);
    scratch::plan(graph, &mut plan);
    for i in 0..plan.steps.len() {
        if let Some(step) = plan.steps.get(i) {
            let tasks = task_count(graph, &plan, step);
            if let Some(step) = plan.steps.get_mut(i) {
                step.tasks = tasks;
            }
        }
    }
    Ok(plan)
}

/// Whether a value is an accumulator that lanes of 32 bits do not hold: its kernel gives the decoded value or the code.
pub fn wide_accumulator(graph: &Graph, value: Value) -> bool {
    graph.value_type(value).and_then(|t| t.acc()).is_some_and(|a| !a.fits_i32())
}

/// Takes the decode or threshold, and a reshape before it, from the front of a chain: the kernel does it. Gives its value.
fn finished(graph: &Graph, chain: &mut Vec<NodeId>) -> Option<Value> {
    let at = chain.iter().position(|&id| graph.node(id).is_some_and(|n| is(n, &["decode", "threshold"])))?;
    let before = chain.get(..at)?.iter().filter_map(|&id| graph.node(id));
    if !before.into_iter().all(|n| is(n, &["reshape"])) {
        return None;
    }
    chain.drain(..=at).next_back().map(|node| Value { node, port: 0 })
}

fn refuse(node: String, op: &OpDef, message: &str) -> LowerError {
    LowerError { node, op: op.name.to_owned(), message: message.to_owned() }
}

/// The geometry of a node with weights.
pub(crate) fn geometry(graph: &Graph, id: NodeId) -> Option<ops::Geometry> {
    let types: Vec<_> = graph.operands(id).iter().filter_map(|&v| graph.value_type(v)).collect();
    let [x, w, ..] = *types else { return None };
    ops::Geometry::new(&graph.node(id)?.attrs, &x.shape, &w.shape).ok()
}

/// Rows of the result that one task computes: at least about 10 µs of work.
pub fn rows_per_task(height: usize, tasks: usize) -> usize {
    height.div_ceil(tasks.max(1)).max(1)
}

fn task_count(graph: &Graph, plan: &Plan, step: &Step) -> usize {
    let Some(buffer) = plan.buffers.get(&step.made) else { return 1 };
    let (c, h, w) = buffer.image;
    let rows = h / pools::rows(graph, step.pool);
    let main = step.main.and_then(|id| graph.node(id));
    if main.is_some_and(|n| is(n, &["softmax"])) {
        return 1;
    }
    let work = step.main.map_or(1, |id| taps(graph, id)) * c * h * w;
    if h > 1 {
        let wanted = (work / 100_000).max(1);
        if scratch::looks_up(graph, plan, step).is_none() {
            return wanted.min(16).min(rows);
        }
        // The tasks of a layer that makes tables of its input rows make those at their borders again. They are so large that 2,
        // 4 or 8 threads should have the same number each.
        return nearest_power_of_two(wanted.min(h.div_ceil(4))).min(8).min(rows);
    }
    // A fully connected layer is split by whole words of outputs.
    let conv = main.is_some_and(|n| is(n, &["int_conv", "conv", "matmul"]) && n.attrs.int("groups", 1) == 1);
    if conv && w == 1 && buffer.group == c { (work / 200_000).clamp(1, 16).min(c.div_ceil(64)) } else { 1 }
}

/// By the factor between them; 1 for 0.
fn nearest_power_of_two(n: usize) -> usize {
    let below = 1 << n.max(1).ilog2();
    // Above √2 · below.
    if n * n > 2 * below * below { 2 * below } else { below }
}

fn taps(graph: &Graph, id: NodeId) -> usize {
    let weights = graph.operands(id).get(1).and_then(|&v| graph.value_type(v)).map(|t| t.shape.per_sample());
    weights.map_or(4, |s| s.iter().skip(1).product::<usize>().max(1))
}

fn place_buffers(graph: &Graph, plan: &mut Plan, wanted: &BTreeMap<NodeId, Layout>) -> Result<(), Vec<LowerError>> {
    let mut problems = Vec::new();
    let inputs = graph.inputs().iter().enumerate().map(|(i, &n)| (Value { node: n, port: 0 }, Some(i)));
    let pooled = plan.steps.iter().filter(|s| s.pool.is_some()).map(|s| (s.made, None));
    let values: Vec<_> = inputs.chain(plan.steps.iter().map(|s| (s.result, None))).chain(pooled).collect();
    for (value, input) in values {
        let (Some(ty), Some(node)) = (graph.value_type(value), graph.node(value.node)) else { continue };
        let Some(image) = ty.shape.stored() else {
            problems.push(refuse(node.name.clone(), node.op, "only values with a batch as axis 0 have kernels"));
            continue;
        };
        let output = graph.outputs().iter().position(|(_, v)| *v == value);
        let integer = ty.elem != Elem::F32;
        let planes = ty.codes().map_or(0, |c| c.bits() as usize);
        let (layout, group) = choose_layout(graph, value, input.is_some() || output.is_some(), image, wanted);
        if output.is_some() && integer {
            problems.push(refuse(node.name.clone(), node.op, "an output of the graph must be f32"));
        }
        let place = match (input, output) {
            (Some(i), _) => Place::Input(i),
            (None, Some(o)) => Place::Output(o),
            (None, None) => Place::Arena(0),
        };
        plan.buffers.insert(value, Buffer { place, layout, image, planes, group, integer });
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Codes that a convolution reads lie as bit planes, grouped as it groups them; the caller's tensors are dense; the rest has
/// its channels innermost.
fn choose_layout(
    graph: &Graph,
    value: Value,
    callers: bool,
    image: (usize, usize, usize),
    wanted: &BTreeMap<NodeId, Layout>,
) -> (Layout, usize) {
    if callers {
        return (Layout::Dense, image.0);
    }
    let users = graph.users(value);
    let asked = users.iter().find_map(|(node, port)| wanted.get(node).filter(|_| *port == 0));
    // Fixed-point layers read any layout, so they have a say only where nobody else has.
    let wide = users
        .iter()
        .any(|&(node, _)| wide_accumulator(graph, Value { node, port: 0 }) && !split::fixed_point(graph, node))
        || !users.is_empty() && users.iter().all(|&(node, _)| split::fixed_point(graph, node));
    let planar = !wide && asked != Some(&Layout::Nhwc);
    if let Some(bits) = graph.value_type(value).and_then(|t| t.codes()).map(|c| c.bits()).filter(|_| planar) {
        let groups = readers_groups(graph, value);
        let group = image.0 / groups.last().copied().unwrap_or(1);
        // Whole quads, and whole words, are the same however they are grouped: if they are whole for every reader.
        let whole = |n: usize| group.is_multiple_of(n) && groups.iter().all(|g| (image.0 / g).is_multiple_of(n));
        if bits <= 2 && whole(4) && asked.map_or_else(|| reads_by_look_up(graph, value), |l| *l == Layout::Nibbles) {
            return (Layout::Nibbles, group);
        }
        if (groups.len() <= 1 && (group == image.0 || whole(4))) || whole(64) {
            return (Layout::Bits, group);
        }
    }
    let reshaped =
        graph.users(value).iter().filter_map(|(n, _)| graph.node(*n)).any(|n| is(n, &["reshape", "softmax"]));
    let own = graph.node(value.node).is_some_and(|n| is(n, &["reshape", "softmax"]));
    let flat = image.1 * image.2 == 1;
    let float = graph.value_type(value).is_some_and(|t| t.elem == Elem::F32);
    if (reshaped || own) && !flat && float { (Layout::Dense, image.0) } else { (Layout::Nhwc, image.0) }
}

/// Whether every convolution that reads the codes wants them for table look-ups: those with several positions, whose 16-bit
/// sums cannot overflow. Pools read any layout.
fn reads_by_look_up(graph: &Graph, value: Value) -> bool {
    let users = graph.users(value);
    users.iter().filter_map(|(n, _)| graph.node(*n)).all(|n| {
        let types: Vec<_> = graph.operands(n.id).iter().filter_map(|&v| graph.value_type(v)).collect();
        match (n.op.name, &*types) {
            ("int_conv", _) if split::fixed_point(graph, n.id) => true,
            ("int_conv", [x, w, ..]) => ops::Geometry::new(&n.attrs, &x.shape, &w.shape).is_ok_and(|g| {
                let top = x.codes().map_or(0, |c| c.top as usize);
                g.output != [1, 1] && g.taps() * top <= u16::MAX.into() && (g.outputs / g.groups).is_multiple_of(16)
            }),
            _ => true,
        }
    })
}

/// Groups of the convolutions that read a value, through pools of codes.
fn readers_groups(graph: &Graph, value: Value) -> BTreeSet<usize> {
    let users = graph.users(value);
    let groups = users.iter().filter_map(|(n, _)| graph.node(*n)).map(|n| match n.op.name {
        "int_conv" if split::fixed_point(graph, n.id) => BTreeSet::new(),
        "int_conv" => BTreeSet::from([n.attrs.int("groups", 1).max(1) as usize]),
        "code_pool" => readers_groups(graph, Value { node: n.id, port: 0 }),
        _ => BTreeSet::new(),
    });
    groups.flatten().collect()
}
