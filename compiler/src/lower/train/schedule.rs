//! Turns a training graph into steps, in the graph's order. Fused steps over the same points are joined where what they read
//! is there early enough.

use super::layouts::{Levels, Maps};
use super::patches::scattered;
use super::{Buffer, Domain, Form, Kind, Phase, Place, Plan, Sink, Slot, State, Step, Tasks, Work, domain, is_vector};
use crate::graph::types::{Elem, ValueType};
use crate::graph::{Graph, Node, NodeId, Value};
use crate::lower::{GATHERS, LowerError};
use std::collections::{BTreeMap, BTreeSet};

/// Operators whose kernels read and write whole values, besides [`GATHERS`].
const OPERATORS: &[&str] = &[
    "average_pool",
    "global_average_pool",
    "max_pool_grad",
    "average_pool_grad",
    "global_average_pool_grad",
    "softmax_cross_entropy",
    "softmax_cross_entropy_grad",
    "correct",
    "sample_mean",
    "sample_sum",
    "mean_abs",
    "max_abs",
    "sum_product",
    "count_equal_abs",
    "softmax",
];

/// Updates that read one another's states, and where each is stored.
type Group = (BTreeSet<Slot>, Vec<(Value, Slot)>);

/// A fused step's tasks go over so many elements of a parameter.
pub const CHUNK: usize = 1 << 14;

pub(super) struct Scheduler<'g> {
    pub graph: &'g Graph,
    pub plan: Plan,
    /// The step after which a slot is there.
    ready: BTreeMap<Slot, usize>,
}

/// Steps and slots without offsets.
pub(super) fn schedule(graph: &Graph, states: &[State]) -> Result<Plan, Vec<LowerError>> {
    let mut s = Scheduler { graph, plan: Plan::default(), ready: BTreeMap::new() };
    s.place_given(states);
    let mut problems = Vec::new();
    for id in graph.order() {
        if let Some(node) = graph.node(id)
            && let Err(message) = s.visit(node)
        {
            problems.push(LowerError { node: node.name.clone(), op: node.op.name.to_owned(), message });
        }
    }
    for (name, value) in graph.outputs() {
        if let Err(message) = s.output(name, *value) {
            problems.push(LowerError { node: name.clone(), op: "output".to_owned(), message });
        }
    }
    s.check(states);
    s.plan.updates = s.plan.steps.len();
    s.gradients(states);
    if let Err(message) = s.updates(states) {
        problems.push(LowerError { node: "update".to_owned(), op: "update".to_owned(), message });
    }
    if problems.is_empty() { Ok(s.plan) } else { Err(problems) }
}

/// Whether lanes of a value are computed from lanes of its operands.
pub fn in_lanes(graph: &Graph, node: &Node) -> bool {
    node.op.elementwise
        || node.op.name == "literal"
        || (node.op.name == "hyper" && !node.attrs.word("name", "").starts_with("adam_"))
        || same_domain(graph, node)
}

/// A reshape that moves nothing: the same image, or a parameter.
fn same_domain(graph: &Graph, node: &Node) -> bool {
    let operand = graph.operands(node.id).first().and_then(|&v| graph.value_type(v));
    let own = node.types.first();
    node.op.name == "reshape" && own.zip(operand).is_some_and(|(a, b)| domain(a).is_some() && domain(a) == domain(b))
}

impl Scheduler<'_> {
    fn place_given(&mut self, states: &[State]) {
        let mut inputs = 0;
        for &id in self.graph.inputs() {
            let value = Value { node: id, port: 0 };
            let labels = self.graph.value_type(value).is_some_and(|t| t.shape.rank() == 1 && t.codes().is_some());
            let pixels = self.graph.value_type(value).is_some_and(|t| t.codes().is_some());
            let place = if labels { Place::Labels } else { Place::Input(inputs) };
            inputs += usize::from(!labels);
            let form = Form::Image(if labels || !pixels { 4 } else { 1 });
            self.plan.buffers.insert(Slot::own(value), Buffer { place, form });
        }
        for state in states {
            let buffer = Buffer { place: Place::State(state.offset), form: Form::Floats(state.len) };
            self.plan.buffers.insert(Slot::own(Value { node: state.node, port: 0 }), buffer);
        }
    }

    fn visit(&mut self, node: &Node) -> Result<(), String> {
        let own = Value { node: node.id, port: 0 };
        match node.op.name {
            "input" | "constant" => Ok(()),
            "sample_max_abs" => self.reduction(node, Sink::SampleMax(own)),
            "channel_sum" | "channel_dot" | "batch_mean" | "batch_variance" => self.statistics(node),
            _ if in_lanes(self.graph, node) => self.broadcast(node),
            "conv" | "matmul" | "int_conv" => self.forward(node),
            "conv_input_grad" | "int_conv_input_grad" => self.input_grad(node),
            "conv_weight_grad" | "int_conv_weight_grad" => self.weight_grad(node),
            "max_pool" | "max_pool_winner" => self.max_pool(node),
            "max_pool_grad" if scattered(self.graph, own)?.is_some() => Ok(()),
            name if name == "hyper" || [OPERATORS, GATHERS].iter().any(|l| l.contains(&name)) => self.operator(node),
            _ => Err("has no kernel in a training step yet; train with `--engine interp`".to_owned()),
        }
    }

    /// What lanes read at other places than their own lies in memory.
    fn broadcast(&mut self, node: &Node) -> Result<(), String> {
        let at = node.types.first().and_then(domain);
        for v in self.graph.operands(node.id) {
            let ty = self.ty(v)?;
            if ty.shape.has_batch() && !is_vector(ty) && domain(ty) != at {
                self.materialise(v)?;
            }
        }
        Ok(())
    }

    /// The type of a value.
    pub fn ty(&self, value: Value) -> Result<&ValueType, String> {
        self.graph.value_type(value).ok_or_else(|| "a value has no type".to_owned())
    }

    /// Operand `i` of a node.
    pub fn operand(&self, node: &Node, i: usize) -> Result<Value, String> {
        self.graph.operands(node.id).get(i).copied().ok_or_else(|| format!("operand {i} is missing"))
    }

    /// The slots that evaluating `value` in lanes reads.
    pub fn roots(&self, value: Value, found: &mut BTreeSet<Slot>) {
        if self.plan.buffers.contains_key(&Slot::own(value)) {
            found.insert(Slot::own(value));
            return;
        }
        for operand in self.graph.operands(value.node) {
            self.roots(operand, found);
        }
    }

    /// Adds a slot in the arena.
    pub fn slot(&mut self, value: Value, kind: Kind, place: Place, form: Form) -> Slot {
        let slot = Slot { value, kind };
        let place = match place {
            Place::Vector(_) => {
                self.plan.vectors += 1;
                Place::Vector(self.plan.vectors - 1)
            }
            other => other,
        };
        self.plan.buffers.insert(slot, Buffer { place, form });
        slot
    }

    /// Adds a step behind everything.
    pub fn step(&mut self, node: NodeId, work: Work, tasks: Tasks, reads: Vec<Slot>, writes: Vec<Slot>) {
        for &slot in &writes {
            self.ready.insert(slot, self.plan.steps.len());
        }
        self.plan.steps.push(Step { node, work, tasks, reads, writes });
    }

    /// Adds a sink over `domain` to the first fused step that comes after all that it reads, or to a new one. What is read of
    /// the same sample may also be written by an earlier phase of that step.
    fn fuse(&mut self, node: NodeId, at: Domain, sink: Sink, values: &[Value], write: Slot) {
        let mut reads = BTreeSet::new();
        values.iter().for_each(|&v| self.roots(v, &mut reads));
        let local = |s: &&Slot| {
            let place = self.plan.buffers.get(*s).map(|b| b.place);
            matches!(at, Domain::Image(..)) && matches!(place, Some(Place::Sample(_) | Place::Vector(_)))
        };
        let after = |slots: &mut dyn Iterator<Item = &Slot>| slots.filter_map(|s| self.ready.get(s)).max().copied();
        let others = after(&mut reads.iter().filter(|s| !local(s))).map_or(0, |i| i + 1);
        let same = after(&mut reads.iter().filter(local)).unwrap_or(0);
        let fits = |s: &Step| matches!(&s.work, Work::Fused { domain, .. } if *domain == at);
        let candidates = self.plan.steps.iter().enumerate().skip(others.max(same));
        let found = { candidates }.find(|(_, s)| fits(s)).map(|(i, _)| i);
        if let Some(i) = found
            && let Some(step) = self.plan.steps.get_mut(i)
        {
            let written: BTreeSet<Slot> = step.writes.iter().copied().collect();
            if let Work::Fused { phases, .. } = &mut step.work {
                join(phases, sink, &reads, &written);
            }
            step.reads.extend(reads);
            step.writes.push(write);
            self.ready.insert(write, i);
            return;
        }
        let phases = vec![Phase { sinks: vec![sink], reads: reads.clone() }];
        let work = Work::Fused { domain: at, phases };
        self.step(node, work, tasks(at), reads.into_iter().collect(), vec![write]);
    }

    /// Lets a value lie in memory, evaluating it if it does not yet.
    pub fn materialise(&mut self, value: Value) -> Result<Slot, String> {
        let own = Slot::own(value);
        if self.plan.buffers.contains_key(&own) {
            return Ok(own);
        }
        let ty = self.ty(value)?.clone();
        let at = domain(&ty).ok_or("only values with a batch as axis 0 and parameters have kernels")?;
        let (place, form) = match (at, &ty.elem) {
            _ if is_vector(&ty) => (Place::Vector(0), Form::Floats(1)),
            (Domain::Flat(len), Elem::F32) => (Place::Fixed(0), Form::Floats(len)),
            (Domain::Flat(len), _) => (Place::Fixed(0), Form::Words(len)),
            (Domain::Image(c, h, w), Elem::F32) => (Place::Sample(0), Form::Maps(Maps::new(c, 1, [h, w])?)),
            (Domain::Image(c, h, w), _) => {
                let storage = super::storage(self.graph, value);
                (Place::Sample(0), Form::Levels(Levels::new(c, 1, [h, w], [0; 4], storage)?))
            }
        };
        // The slot must not be there yet while the step's roots are looked for.
        self.fuse(value.node, at, Sink::Store(value, own), &[value], own);
        self.slot(value, Kind::Own, place, form);
        Ok(own)
    }

    /// Loss and count are read at the end of the call; the scores are copied to the caller.
    fn output(&mut self, name: &str, value: Value) -> Result<(), String> {
        let slot = self.materialise(value)?;
        if name == "scores" {
            self.step(value.node, Work::Scores(value), Tasks::Samples, vec![slot], Vec::new());
        }
        Ok(())
    }

    fn reduction(&mut self, node: &Node, sink: Sink) -> Result<(), String> {
        let x = self.operand(node, 0)?;
        let at = domain(self.ty(x)?).ok_or("reduces values with a batch as axis 0")?;
        let own = Value { node: node.id, port: 0 };
        self.fuse(node.id, at, sink, &[x], Slot::own(own));
        self.slot(own, Kind::Own, Place::Vector(0), Form::Floats(1));
        // Who asks for the maximum reads the values again: stored while they are at hand, they need not be computed twice.
        self.materialise(x).map(|_| ())
    }

    /// Sums of each sample in a fused step, then their sum over the samples.
    fn statistics(&mut self, node: &Node) -> Result<(), String> {
        let own = Value { node: node.id, port: 0 };
        let x = self.operand(node, 0)?;
        let ty = self.ty(x)?.clone();
        let Some(at @ Domain::Image(channels, ..)) = domain(&ty) else {
            return Err("reduces values with a batch as axis 0".to_owned());
        };
        let (kind, value, sink, form) = match (node.op.name, &ty.elem) {
            ("batch_mean" | "batch_variance", Elem::Acc(_)) => {
                (Kind::Moments, x, Sink::Moments(x), Form::Longs(2 * channels.next_multiple_of(16)))
            }
            ("batch_variance", _) => {
                let mean = self.operand(node, 1)?;
                (Kind::Partial, own, Sink::Deviations(own, x, mean), Form::Floats(channels))
            }
            ("channel_dot", _) => {
                let terms = [Some(x), Some(self.operand(node, 1)?)];
                (Kind::Partial, own, Sink::ChannelSum(own, terms), Form::Floats(channels))
            }
            _ => (Kind::Partial, own, Sink::ChannelSum(own, [Some(x), None]), Form::Floats(channels)),
        };
        let partial = Slot { value, kind };
        if node.op.name == "channel_sum"
            && let Some(product) = self.by_patches(x)?
        {
            self.weight_grad(&product)?;
        }
        if !self.plan.buffers.contains_key(&partial) {
            let read: Vec<Value> = match sink {
                Sink::ChannelSum(_, terms) => terms.into_iter().flatten().collect(),
                Sink::Deviations(_, x, mean) => vec![x, mean],
                _ => vec![x],
            };
            self.fuse(node.id, at, sink, &read, partial);
            self.slot(value, kind, Place::Sample(0), form);
        }
        let result = self.slot(own, Kind::Own, Place::Fixed(0), Form::Floats(channels));
        let mut reads = BTreeSet::from([partial]);
        for factor in self.graph.operands(node.id).into_iter().skip(1) {
            if self.ty(factor)?.shape.sample_len() == Some(1) && kind == Kind::Moments {
                self.roots(factor, &mut reads);
            }
        }
        self.step(node.id, Work::Combine(node.id), Tasks::Fixed(1), reads.into_iter().collect(), vec![result]);
        Ok(())
    }

    fn operator(&mut self, node: &Node) -> Result<(), String> {
        let operands = self.graph.operands(node.id);
        let reads = operands.into_iter().map(|v| self.materialise(v)).collect::<Result<Vec<_>, _>>()?;
        let own = Value { node: node.id, port: 0 };
        let ty = self.ty(own)?.clone();
        let (place, form) = match domain(&ty).ok_or("only values with a batch as axis 0 and parameters have kernels")? {
            _ if is_vector(&ty) => (Place::Vector(0), Form::Floats(1)),
            Domain::Flat(len) => (Place::Fixed(0), Form::Floats(len)),
            Domain::Image(c, h, w) => (Place::Sample(0), Form::Maps(Maps::new(c, 1, [h, w])?)),
        };
        let per_sample = !matches!(place, Place::Fixed(_));
        let slot = self.slot(own, Kind::Own, place, form);
        let tasks = if per_sample { Tasks::Samples } else { Tasks::Fixed(1) };
        self.step(node.id, Work::Operators(vec![node.id]), tasks, reads, vec![slot]);
        Ok(())
    }

    /// A step that looks for numbers that are not finite among what the updates read.
    fn check(&mut self, states: &[State]) {
        let mut found: BTreeMap<Slot, u32> = BTreeMap::new();
        for (i, update) in self.graph.updates().iter().enumerate() {
            let mut roots = BTreeSet::new();
            self.roots(update.value, &mut roots);
            for slot in roots {
                let given = states.iter().any(|s| s.node == slot.value.node);
                let floats = self.plan.buffers.get(&slot).is_some_and(|b| matches!(b.form, Form::Floats(_)));
                if !given && floats {
                    found.entry(slot).or_insert(i as u32);
                }
            }
        }
        let Some((_, loss)) = self.graph.outputs().first().cloned().filter(|_| !found.is_empty()) else { return };
        let pieces = found.keys().map(|slot| self.plan.pieces(slot)).sum();
        let flags = self.slot(loss, Kind::Flags, Place::Fixed(0), Form::Floats(pieces));
        let (slots, numbers): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        self.plan.checked = numbers;
        let factors = slots.iter().filter_map(|slot| self.plan.factors(slot));
        let reads = slots.iter().copied().chain(factors).collect();
        self.step(loss.node, Work::Check(slots), Tasks::Fixed(pieces), reads, vec![flags]);
    }

    /// The updates, behind everything else: those that read one another's states in one step each.
    fn updates(&mut self, states: &[State]) -> Result<(), String> {
        let mut groups: Vec<Group> = Vec::new();
        for (state, update) in states.iter().zip(self.graph.updates()) {
            let target = Slot::own(Value { node: state.node, port: 0 });
            let mut roots = BTreeSet::from([target]);
            self.roots(update.value, &mut roots);
            roots.retain(|s| s.kind == Kind::Own && states.iter().any(|t| t.node == s.value.node));
            let mut own = vec![(update.value, target)];
            groups.retain_mut(|(others, members)| {
                let apart = others.is_disjoint(&roots);
                if !apart {
                    roots.append(others);
                    own.append(members);
                }
                apart
            });
            groups.push((roots, own));
        }
        let reads = |(_, members): &Group| {
            let mut reads = BTreeSet::new();
            members.iter().for_each(|&(v, _)| self.roots(v, &mut reads));
            reads
        };
        let all: Vec<BTreeSet<Slot>> = groups.iter().map(reads).collect();
        for (i, (_, members)) in groups.into_iter().enumerate() {
            let Some(reads) = all.get(i).cloned() else { continue };
            let Some(&(first, _)) = members.first() else { continue };
            let at = domain(self.ty(first)?).ok_or("a state has no shape")?;
            if let Some((v, _)) = members.iter().find(|(v, _)| self.ty(*v).ok().and_then(domain) != Some(at)) {
                let name = self.graph.node(v.node).map_or("", |n| &n.name);
                return Err(format!("{name}: updates that read one another must have one shape"));
            }
            let sinks: Vec<Sink> = members.iter().map(|&(v, s)| Sink::Store(v, s)).collect();
            let writes = members.iter().map(|&(_, s)| s).collect();
            let phase = Phase { sinks, reads: reads.clone() };
            let others: Vec<_> = all.iter().enumerate().filter(|&(j, _)| j != i).map(|(_, reads)| reads).collect();
            let (work, tasks, more) = match self.late(at, &reads, &others) {
                Some((product, tasks)) => {
                    let more = product.from.clone();
                    (Work::Late(product, phase), tasks, more)
                }
                None => (Work::Fused { domain: at, phases: vec![phase] }, tasks(at), Vec::new()),
            };
            self.step(first.node, work, tasks, reads.into_iter().chain(more).collect(), writes);
        }
        Ok(())
    }
}

fn tasks(at: Domain) -> Tasks {
    match at {
        Domain::Image(..) => Tasks::Samples,
        Domain::Flat(len) => Tasks::Fixed(len.div_ceil(CHUNK).max(1)),
    }
}

/// Adds a sink to the first phase behind those that write what it reads.
fn join(phases: &mut Vec<Phase>, sink: Sink, reads: &BTreeSet<Slot>, written: &BTreeSet<Slot>) {
    let wanted: BTreeSet<Slot> = reads.intersection(written).copied().collect();
    let writes = |p: &Phase| p.sinks.iter().any(|s| wanted.contains(&s.slot()));
    let first = phases.iter().rposition(writes).map_or(0, |i| i + 1);
    if first == phases.len() {
        phases.push(Phase::default());
    }
    if let Some(phase) = phases.get_mut(first) {
        phase.sinks.push(sink);
        phase.reads.extend(reads.iter().copied());
    }
}
