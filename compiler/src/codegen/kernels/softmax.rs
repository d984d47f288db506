//! Softmax, on whole rows. Scalar; it is a vanishing part of any network.

use super::{KernelError, Task};
use crate::codegen::emitter::Emitter;
use crate::codegen::functions::{self, Row};
use crate::graph::Node;
use crate::graph::types::Layout;
use crate::lower::Buffer;

pub(super) fn emit(e: &mut Emitter<'_, '_>, task: &Task<'_>, node: &Node) -> Result<&'static str, KernelError> {
    let input = task.main_operand(node.id, 0)?.clone();
    let shape = node.types.first().map_or(Vec::new(), |t| t.shape.per_sample());
    let n = shape.last().copied().unwrap_or(1);
    let rows = shape.iter().product::<usize>() / n.max(1);
    let flat = |b: &Buffer| b.layout == Layout::Dense || b.image.1 * b.image.2 == 1;
    if !flat(&input.buffer) || !flat(&task.result.buffer) {
        return Err((node.id, "softmax reads rows that lie together".to_owned()));
    }
    e.times(rows, |e, i| {
        let [from, to] = [input.base, task.result.base].map(|base| Row { base: e.at(base, i, n * 4), step: 4 });
        functions::softmax(e, from, to, n);
    });
    Ok("softmax")
}
