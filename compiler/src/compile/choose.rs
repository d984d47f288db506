//! The kernel of each layer with weights, and the plan that the choice needs: the cheapest by prediction, or the one that was
//! asked for. A kernel that reads another layout than the layer would have changes the plan.

use super::CompileError;
use crate::codegen::kernels::choice::{Candidate, Kernel, candidates};
use crate::codegen::kernels::layer::Layer;
use crate::codegen::target::Level;
use crate::graph::types::Layout;
use crate::graph::{Graph, NodeId};
use crate::lower::{self, LowerError, Plan, Step};
use std::collections::{BTreeMap, BTreeSet};

/// A kernel that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The layer: the name of its node or of its result, or the beginning of that up to an underscore; `*` is every layer that
    /// the kernel can compute.
    pub layer: String,
    /// The kernel's name or word.
    pub kernel: String,
    /// Whether the kernel was the fastest by measurement, rather than the user's will.
    pub measured: bool,
}

/// Why a kernel was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No other can compute the layer.
    Only,
    /// It is the cheapest by prediction.
    Cheapest,
    /// It was the fastest by measurement.
    Fastest,
    /// It was asked for.
    Forced,
}

impl Reason {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Reason::Only => "the only kernel that can compute it at this level",
            Reason::Cheapest => "cheapest of the kernels at this level",
            Reason::Fastest => "fastest of the kernels as measured",
            Reason::Forced => "forced",
        }
    }
}

/// The kernel of a layer, and what else could compute it with the layouts it has.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The kernel.
    pub kernel: Kernel,
    /// Why.
    pub reason: Reason,
    /// All candidates, the cheapest first.
    pub candidates: Vec<Candidate>,
}

/// The choices of a plan's steps: `None` where a step has no weights.
pub type Choices = Vec<Option<Choice>>;

/// A wish for one layer.
#[derive(Clone, Copy)]
struct Wanted {
    kernel: Kernel,
    /// Whether the layer was named; else it takes part where it can.
    named: bool,
    measured: bool,
}

/// Lowers `graph` and chooses kernels, for each level.
///
/// # Errors
/// Operators without a kernel; a wish that names no layer or kernel, or cannot be had: with what is possible.
pub fn choose(
    graph: &Graph,
    levels: &[Level],
    fma: bool,
    wishes: &[Wish],
) -> Result<(Plan, Vec<Choices>), CompileError> {
    let mut plan = lower::lower(graph).map_err(CompileError::Unsupported)?;
    let mut wanted = resolve(graph, &plan, wishes)?;
    while !wanted.is_empty() {
        plan = lower::lower_with(graph, &layouts(&wanted)).map_err(CompileError::Unsupported)?;
        let refused = refused(graph, &plan, levels, fma, &wanted)?;
        let named = refused.iter().filter(|(id, ..)| wanted.get(id).is_some_and(|w| w.named));
        let problems: Vec<String> = named.map(|r| refusal(graph, levels, fma, r)).collect::<Result<_, _>>()?;
        if !problems.is_empty() {
            return Err(CompileError::Kernels(problems));
        }
        if refused.is_empty() {
            break;
        }
        wanted.retain(|id, _| !refused.iter().any(|r| r.0 == *id));
        if wanted.is_empty() {
            let text = refused.first().map_or(String::new(), |r| r.2.clone());
            return Err(CompileError::Kernels(vec![format!("no layer can be computed by that kernel: {text}")]));
        }
    }
    let choices = levels.iter().map(|level| level_choices(graph, &plan, level, fma, &wanted));
    let choices = choices.collect::<Result<_, _>>()?;
    Ok((plan, choices))
}

/// The layouts that wanted kernels read.
fn layouts(wanted: &BTreeMap<NodeId, Wanted>) -> BTreeMap<NodeId, Layout> {
    wanted.iter().filter_map(|(&id, w)| Some((id, *w.kernel.reads().first()?))).collect()
}

fn level_choices(
    graph: &Graph,
    plan: &Plan,
    level: &Level,
    fma: bool,
    wanted: &BTreeMap<NodeId, Wanted>,
) -> Result<Choices, CompileError> {
    let mut problems = Vec::new();
    let mut one = |step: &Step| match Layer::of(graph, plan, step, fma) {
        Ok(layer) => layer.and_then(|layer| {
            let choice = step.main.and_then(|id| choice(&layer, level, wanted.get(&id)));
            if choice.is_none() {
                problems.extend(step.main.map(|id| problem(graph, id, nothing_fits(&layer, level))));
            }
            choice
        }),
        Err((id, message)) => {
            problems.push(problem(graph, id, message));
            None
        }
    };
    let choices = plan.steps.iter().map(&mut one).collect();
    if problems.is_empty() { Ok(choices) } else { Err(CompileError::Unsupported(problems)) }
}

fn choice(layer: &Layer<'_>, level: &Level, wanted: Option<&Wanted>) -> Option<Choice> {
    let candidates = candidates(layer, level);
    let cheapest = candidates.first()?.kernel;
    let (kernel, reason) = match wanted.filter(|w| candidates.iter().any(|c| c.kernel == w.kernel)) {
        Some(w) if w.measured => (w.kernel, Reason::Fastest),
        Some(w) => (w.kernel, Reason::Forced),
        None if candidates.len() == 1 => (cheapest, Reason::Only),
        None => (cheapest, Reason::Cheapest),
    };
    Some(Choice { kernel, reason, candidates })
}

fn nothing_fits(layer: &Layer<'_>, level: &Level) -> String {
    let why: BTreeSet<String> = Kernel::ALL.into_iter().filter_map(|k| k.fits(layer, level).err()).collect();
    format!("no kernel can compute it: {}; scale the weights", why.into_iter().collect::<Vec<_>>().join("; "))
}

fn problem(graph: &Graph, id: NodeId, message: String) -> LowerError {
    let node = graph.node(id);
    LowerError {
        node: node.map_or(String::new(), |n| n.name.clone()),
        op: node.map_or(String::new(), |n| n.op.name.to_owned()),
        message,
    }
}

/// Layers whose wanted kernel does not fit at some level: the kernel and why.
fn refused(
    graph: &Graph,
    plan: &Plan,
    levels: &[Level],
    fma: bool,
    wanted: &BTreeMap<NodeId, Wanted>,
) -> Result<Vec<(NodeId, Kernel, String)>, CompileError> {
    let mut found = Vec::new();
    for step in &plan.steps {
        let Some((id, w)) = step.main.and_then(|id| Some((id, wanted.get(&id)?))) else { continue };
        let layer = Layer::of(graph, plan, step, fma);
        let layer = layer.map_err(|(id, m)| CompileError::Unsupported(vec![problem(graph, id, m)]))?;
        let Some(layer) = layer else { continue };
        let reason = levels.iter().find_map(|level| Some((level, w.kernel.fits(&layer, level).err()?)));
        found.extend(reason.map(|(level, why)| (id, w.kernel, format!("{why} ({})", level.name))));
    }
    Ok(found)
}

/// Why a layer cannot have a kernel, and which it can have.
fn refusal(
    graph: &Graph,
    levels: &[Level],
    fma: bool,
    (id, kernel, why): &(NodeId, Kernel, String),
) -> Result<String, CompileError> {
    let mut possible = Vec::new();
    for kernel in Kernel::ALL {
        let wanted = BTreeMap::from([(*id, Wanted { kernel, named: true, measured: false })]);
        let Ok(plan) = lower::lower_with(graph, &layouts(&wanted)) else { continue };
        if refused(graph, &plan, levels, fma, &wanted)?.is_empty() {
            possible.push(kernel.word());
        }
    }
    let name = graph.node(*id).map_or("", |n| n.name.as_str());
    let (kernel, possible) = (kernel.word(), possible.join(", "));
    Ok(format!("layer {name} cannot have the kernel {kernel}: {why}; possible are {possible}"))
}

/// What is wanted of each layer; a later wish for a layer replaces an earlier one, one by name one for all.
fn resolve(graph: &Graph, plan: &Plan, wishes: &[Wish]) -> Result<BTreeMap<NodeId, Wanted>, CompileError> {
    let layers: Vec<(NodeId, String, String)> = named_layers(graph, plan);
    let (mut wanted, mut problems) = (BTreeMap::new(), Vec::new());
    let (every, named): (Vec<&Wish>, Vec<&Wish>) = wishes.iter().partition(|w| w.layer == "*");
    for wish in every.into_iter().chain(named) {
        let Some(kernel) = Kernel::parse(&wish.kernel) else {
            let words = Kernel::ALL.map(Kernel::word).join(", ");
            problems.push(format!("there is no kernel {}; there are {words}", wish.kernel));
            continue;
        };
        let measured = wish.measured;
        if wish.layer == "*" {
            wanted.extend(layers.iter().map(|(id, ..)| (*id, Wanted { kernel, named: false, measured })));
            continue;
        }
        match find(&layers, &wish.layer) {
            Ok(id) => drop(wanted.insert(id, Wanted { kernel, named: true, measured })),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(wanted) } else { Err(CompileError::Kernels(problems)) }
}

/// The layers with weights of a plan, with the names of their nodes and of their results.
fn named_layers(graph: &Graph, plan: &Plan) -> Vec<(NodeId, String, String)> {
    let name = |id| graph.node(id).map_or(String::new(), |n| n.name.clone());
    let weights = |s: &Step| {
        let node = graph.node(s.main?)?;
        crate::codegen::kernels::layer::OPERATORS.contains(&node.op.name).then_some(node.id)
    };
    plan.steps.iter().filter_map(|s| Some((weights(s)?, name(weights(s)?), name(s.result.node)))).collect()
}

fn find(layers: &[(NodeId, String, String)], text: &str) -> Result<NodeId, String> {
    let exact = layers.iter().find(|(_, node, result)| node == text || result == text);
    // The passes name what they make of a layer after it, with a word behind.
    let begins = |name: &String| name.strip_prefix(text).is_some_and(|rest| rest.starts_with('_'));
    let mut alike = layers.iter().filter(|(_, node, _)| begins(node));
    let unique = alike.next().filter(|_| alike.next().is_none());
    exact.or(unique).map(|l| l.0).ok_or_else(|| {
        let names: Vec<&str> = layers.iter().map(|l| l.1.as_str()).collect();
        format!("there is no layer {text} with weights; there are {}", names.join(", "))
    })
}
