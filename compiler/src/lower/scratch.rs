//! A worker's scratch memory: what the hungriest kernel wants, whichever level runs it, then what a step pools.

use super::{LINE, Place, Plan, Step, amx, geometry, is, strips};
use crate::graph::Graph;

/// Fills in the scratch memory's size and places there what steps pool.
pub(super) fn plan(graph: &Graph, plan: &mut Plan) {
    let kernels = kernels(graph, plan);
    plan.scratch = kernels;
    for step in plan.steps.iter().filter(|s| s.pool.is_some()) {
        if let Some(buffer) = plan.buffers.get_mut(&step.made) {
            buffer.place = Place::Worker(kernels);
            plan.scratch = plan.scratch.max(kernels + buffer.bytes().next_multiple_of(LINE) as u64);
        }
    }
}

/// What the hungriest kernel wants.
fn kernels(graph: &Graph, plan: &Plan) -> u64 {
    let integer = |s: &&Step| s.main.and_then(|id| graph.node(id)).is_some_and(|n| is(n, &["int_conv"]));
    let bytes = plan.steps.iter().filter(integer).filter_map(|s| {
        let g = geometry(graph, s.main?)?;
        let tables = looks_up(graph, plan, s).map_or(0, |halves| strips::Strips::of(&g, halves).scratch());
        Some(tables.max(if g.output == [1, 1] { 0 } else { amx::scratch(&g) }))
    });
    bytes.max().unwrap_or(0).next_multiple_of(LINE) as u64
}

/// The rings of tables that a convolution of several positions can read its codes by.
pub(super) fn looks_up(graph: &Graph, plan: &Plan, step: &Step) -> Option<usize> {
    let main = step.main.filter(|&id| graph.node(id).is_some_and(|n| is(n, &["int_conv"])))?;
    let input = graph.operands(main).first().and_then(|v| plan.buffers.get(v))?;
    geometry(graph, main).filter(|g| g.output != [1, 1] && g.kernel[1] <= strips::WIDEST)?;
    strips::halves(input)
}
