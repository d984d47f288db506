//! Softmax, on whole rows. Scalar; it is a vanishing part of any network.

use super::{KernelError, Task};
use crate::codegen::emitter::Emitter;
use crate::codegen::functions::exp;
use crate::graph::Node;
use crate::graph::types::Layout;
use crate::lower::Buffer;
use cranelift_codegen::ir::condcodes::FloatCC;
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
    let mut failed = None;
    e.times(rows, |e, i| {
        let (from, to) = (e.at(input.base, i, n * 4), e.at(task.result.base, i, n * 4));
        if row(e, n, from, to).is_none() {
            failed = Some((node.id, "four lanes".to_owned()));
        }
    });
    failed.map_or(Ok("softmax"), Err)
}

fn row(e: &mut Emitter<'_, '_>, n: usize, from: Value, to: Value) -> Option<()> {
    let lowest = e.b.ins().f32const(f32::NEG_INFINITY);
    let top = e.var(lowest);
    e.times(n, |e, i| {
        let at = e.at(from, i, 4);
        let (v, old) = (e.load(types::F32, at, 0), e.b.use_var(top));
        let greater = e.b.ins().fcmp(FloatCC::GreaterThan, v, old);
        let new = e.b.ins().select(greater, v, old);
        e.b.def_var(top, new);
    });
    let zero = e.b.ins().f32const(0.0);
    let lanes: Vec<_> = (0..4).map(|_| e.var(zero)).collect();
    for (lane, sum) in lanes.iter().enumerate() {
        let (start, end) = (e.int(lane), e.int(n));
        e.range(start, end, 4, |e, i| {
            let at = e.at(from, i, 4);
            let (v, top) = (e.load(types::F32, at, 0), e.b.use_var(top));
            let v = e.b.ins().fsub(v, top);
            let v = exp(e, v);
            let out = e.at(to, i, 4);
            e.store(v, out, 0);
            let old = e.b.use_var(*sum);
            let new = e.b.ins().fadd(old, v);
            e.b.def_var(*sum, new);
        });
    }
    let l: Vec<_> = lanes.iter().map(|s| e.b.use_var(*s)).collect();
    let [l0, l1, l2, l3] = *l else { return None };
    let (even, odd) = (e.b.ins().fadd(l0, l2), e.b.ins().fadd(l1, l3));
    let sum = e.b.ins().fadd(even, odd);
    e.times(n, |e, i| {
        let at = e.at(to, i, 4);
        let v = e.load(types::F32, at, 0);
        let v = e.b.ins().fdiv(v, sum);
        e.store(v, at, 0);
    });
    Some(())
}
