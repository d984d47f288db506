//! Grouping of a graph's nodes into steps: one kernel each with the element-wise chain and the pool of codes that follow it. Must
//! never know layouts.

use super::{LowerError, Step, is, pools, refuse, split};
use crate::graph::ops;
use crate::graph::{Graph, Node, NodeId, Value};
use std::collections::BTreeSet;

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
fn elementwise(graph: &Graph, node: &Node) -> bool {
    node.op.elementwise || same_image(graph, node)
}

fn same_image(graph: &Graph, node: &Node) -> bool {
    let image = |v: Option<&Value>| v.and_then(|&v| graph.value_type(v)).and_then(|t| t.shape.stored());
    let own = node.types.first().and_then(|t| t.shape.stored());
    is(node, &["reshape"]) && own.is_some() && own == image(graph.operands(node.id).first())
}

/// Whether the element-wise kernels can read every operand at the places of the result.
fn broadcasts(graph: &Graph, node: &Node) -> bool {
    let Some(shape) = node.types.first().map(|t| &t.shape) else { return false };
    let fits =
        |v: &Value| graph.constant(*v).is_some() || graph.value_type(*v).is_some_and(|t| t.shape.spreads_over(shape));
    shape.stored().is_some() && graph.operands(node.id).iter().all(fits)
}

/// The steps in order, and a problem for each node that none can compute.
pub(super) fn group(graph: &Graph) -> (Vec<Step>, Vec<LowerError>) {
    let done = graph.inputs().iter().map(|&node| Value { node, port: 0 }).collect();
    let (steps, problems, absorbed) = (Vec::new(), Vec::new(), BTreeSet::new());
    let mut grouping = Grouping { graph, steps, problems, done, absorbed };
    for node in graph.order().into_iter().filter_map(|id| graph.node(id)) {
        let elsewhere = grouping.absorbed.contains(&node.id) || split::appended_by_readers(graph, node.id);
        if !elsewhere && *node.op != ops::INPUT && *node.op != ops::CONSTANT {
            grouping.add(node);
        }
    }
    (grouping.steps, grouping.problems)
}

struct Grouping<'g> {
    graph: &'g Graph,
    steps: Vec<Step>,
    problems: Vec<LowerError>,
    /// The inputs, and what steps store.
    done: BTreeSet<Value>,
    /// Nodes that are part of the step of a node before them.
    absorbed: BTreeSet<NodeId>,
}

impl Grouping<'_> {
    /// The step that begins with a node.
    fn add(&mut self, node: &Node) {
        let (graph, own) = (self.graph, Value { node: node.id, port: 0 });
        let kernel = (is(node, KERNELS) || is(node, GATHERS)) && !same_image(graph, node);
        let (main, source) = if kernel {
            (Some(node.id), own)
        } else if elementwise(graph, node) {
            match graph.operands(node.id).into_iter().find(|&v| graph.constant(v).is_none()) {
                Some(source) => (None, source),
                None => return,
            }
        } else {
            return self.refuse(node, "has no kernel yet; run the model with `--engine interp`");
        };
        if main.is_none() && !broadcasts(graph, node) {
            self.refuse(node, "broadcasts values that are no images: reshape them to (N,C,H,W)");
        }
        let (mut chain, mut result) = (Vec::new(), own);
        chain.extend(main.is_none().then_some(node.id));
        // Softmax works on whole rows, `repeat` reads its constant in another layout than a chain: neither takes a tail.
        if !(main.is_some() && is(node, &["softmax", "repeat"])) {
            result = self.follow(own, &mut chain);
        }
        let wide = wide_accumulator(graph, source);
        let finished = if wide || split::fixed_point(graph, node.id) { finished(graph, &mut chain) } else { None };
        let source = match finished {
            Some(value) => value,
            None if wide => {
                let message = "needs more than 32 bits, and something other than one decode or threshold reads it";
                return self.refuse(node, message);
            }
            None => source,
        };
        let (made, pool) = (result, main.and_then(|main| pools::behind(graph, main, result)));
        if let Some(node) = pool {
            self.absorbed.insert(node);
            result = Value { node, port: 0 };
        }
        self.done.insert(result);
        self.steps.push(Step { main, chain, source, made, pool, result, tasks: 1 });
    }

    /// Absorbs the element-wise nodes behind a value into its chain; gives what the last of them makes.
    fn follow(&mut self, value: Value, chain: &mut Vec<NodeId>) -> Value {
        let (graph, mut result) = (self.graph, value);
        let image = |value| graph.value_type(value).map(|t| t.shape.stored());
        while let Some(user) = graph.sole_user(result).and_then(|next| graph.node(next)) {
            let ready = |v: &Value| *v == result || graph.constant(*v).is_some() || self.done.contains(v);
            let same = image(result) == user.types.first().map(|t| t.shape.stored());
            let fits = elementwise(graph, user) && same && broadcasts(graph, user);
            if !fits || !graph.operands(user.id).iter().all(ready) {
                break;
            }
            chain.push(user.id);
            self.absorbed.insert(user.id);
            result = Value { node: user.id, port: 0 };
        }
        result
    }

    fn refuse(&mut self, node: &Node, message: &str) {
        self.problems.push(refuse(node, message));
    }
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
