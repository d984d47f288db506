//! Kernels: one file each, those of layers with weights registered in `choice`, the rest in [`emit_step`]. What they share: the
//! task with its prologue (`task`), the walks over its part of the result (`walk`), reads of values in any layout (`operand`), and
//! the tail that runs the chain and stores (`store`, in wide lanes `wide_chain`).

mod amx;
mod box_sums;
pub mod choice;
mod code_sum;
mod float_conv;
mod float_flat;
mod folds;
mod gather;
mod indices;
mod int_conv;
mod int_direct;
pub mod layer;
mod look_up;
mod look_up64;
mod nibble_pool;
mod operand;
mod pool;
mod popcount;
mod samples;
mod softmax;
mod split;
mod split_input;
mod split_lanes;
mod split_lanes_early;
mod split_rows;
mod split_tiling;
mod split_winograd;
mod split_winograd_plan;
mod spread;
mod store;
mod task;
mod walk;
mod wide_chain;

pub use gather::Gather;
pub use operand::Operand;
pub use samples::one_position;
pub use task::shares;

use super::emitter::Emitter;
use crate::graph::{Graph, Node, NodeId};
use crate::lower::{Plan, Step};
use choice::Kernel;
use cranelift_codegen::ir::InstBuilder;
use layer::Layer;
use look_up::flat as look_up_flat;
use operand::{load_broadcast, load_lanes_at, word_of};
use task::Task;
use walk::{Position, Words};

/// What went wrong in a kernel: the node and the reason.
pub type KernelError = (NodeId, String);

/// Emits the body of a step's task function `(call, i, worker)`, a layer with weights by `kernel`, which fits it; returns the
/// kernel's name for the report.
///
/// # Errors
/// The node that the kernels cannot run, and why.
pub fn emit_step(
    e: &mut Emitter<'_, '_>,
    graph: &Graph,
    plan: &Plan,
    step: &Step,
    kernel: Option<Kernel>,
) -> Result<&'static str, KernelError> {
    let task = Task::new(e, graph, plan, step, kernel)?;
    let name = match step.main.and_then(|id| graph.node(id)) {
        None => elementwise(e, &task)?,
        Some(main) => match main.op.name {
            "conv" | "matmul" | "int_conv" => weights(e, &task, plan, kernel, main)?,
            "max_pool" | "average_pool" | "code_pool" | "sum_pool" => pool::windows(e, &task, main)?,
            "global_average_pool" => pool::global(e, &task, main)?,
            "softmax" => softmax::emit(e, &task, main)?,
            name if crate::lower::GATHERS.contains(&name) => gather::emit(e, &task, main)?,
            other => return Err((main.id, format!("{other} has no kernel"))),
        },
    };
    e.b.ins().return_(&[]);
    Ok(name)
}

/// Emits a step without a kernel: the chain of a stored value.
fn elementwise(e: &mut Emitter<'_, '_>, task: &Task<'_>) -> Result<&'static str, KernelError> {
    let node = task.step.chain.first().copied().unwrap_or(task.step.result.node);
    let source = task.operand(task.step.source, node)?.clone();
    task.each_row(e, |task, e, y| {
        let zero = e.int(0);
        let first = task.position(e, y, zero);
        if task.row_of(e, &source, first)? {
            return Ok(());
        }
        task.each_column(e, y, |task, e, position| {
            task.finish(e, position, None, &mut |e, channel| {
                Ok(load_broadcast(e, &source, task.result.buffer.image, position, channel))
            })
        })
    })?;
    Ok("element-wise")
}

/// Emits a layer with weights.
fn weights(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    plan: &Plan,
    kernel: Option<Kernel>,
    main: &Node,
) -> Result<&'static str, KernelError> {
    let fail = || (main.id, "no kernel was chosen".to_owned());
    let layer = Layer::of(task.graph, plan, task.step, e.fma)?.ok_or_else(fail)?;
    let kernel = kernel.ok_or_else(fail)?;
    match layer.codes {
        Some(_) => int_conv::emit(e, task, &layer, kernel)?,
        None => float_conv::emit(e, task, main, kernel)?,
    }
    if let Some(node) = task.step.pool.filter(|_| !kernel.pools(&layer)).and_then(|id| task.graph.node(id)) {
        pool::behind(e, task, node)?;
    }
    Ok(kernel.name())
}
