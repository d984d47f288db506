//! Softmax, on whole rows. Scalar; it is a vanishing part of any network.

use super::{KernelError, Task};
use crate::codegen::emitter::Emitter;
use crate::codegen::functions::{greatest, sum_of_powers};
use crate::graph::Node;
use crate::graph::types::Layout;
use crate::lower::Buffer;
use cranelift_codegen::ir::{InstBuilder, Value, types};

pub(super) fn softmax(e: &mut Emitter<'_, '_>, task: &Task<'_>, node: &Node) -> Result<&'static str, KernelError> {
    let input = task.main_operand(node.id, 0)?.clone();
    let shape = node.types.first().map_or(Vec::new(), |t| t.shape.per_sample());
    let n = shape.last().copied().unwrap_or(1);
    let rows = shape.iter().product::<usize>() / n.max(1);
    let flat = |b: &Buffer| b.layout == Layout::Dense || b.image.1 * b.image.2 == 1;
    if !flat(&input.buffer) || !flat(&task.result.buffer) {
        return Err((node.id, "softmax reads rows that lie together".to_owned()));
    }
    e.times(rows, |e, i| {
        let (from, to) = (e.at(input.base, i, n * 4), e.at(task.result.base, i, n * 4));
        row(e, n, from, to);
    });
    Ok("softmax")
}

fn row(e: &mut Emitter<'_, '_>, n: usize, from: Value, to: Value) {
    let (top, _) = greatest(e, from, n);
    let sum = sum_of_powers(e, from, top, to, n);
    e.times(n, |e, i| {
        let at = e.at(to, i, 4);
        let v = e.load(types::F32, at, 0);
        let v = e.b.ins().fdiv(v, sum);
        e.store(v, at, 0);
    });
}
