//! How many tasks a sample's step is divided into at most: rows of its result, or words of outputs. Must never know how many threads
//! there are, which each call decides.

use super::{Plan, Step, is, pools, scratch};
use crate::graph::{Graph, NodeId};

/// Fills in the tasks of every step.
pub(super) fn plan(graph: &Graph, plan: &mut Plan) {
    let tasks: Vec<usize> = plan.steps.iter().map(|step| count(graph, plan, step)).collect();
    for (step, tasks) in plan.steps.iter_mut().zip(tasks) {
        step.tasks = tasks;
    }
}

/// Rows of the result that one task computes.
pub fn rows_per_task(height: usize, tasks: usize) -> usize {
    height.div_ceil(tasks.max(1)).max(1)
}

/// So many that each has at least about 10 µs of work.
fn count(graph: &Graph, plan: &Plan, step: &Step) -> usize {
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
