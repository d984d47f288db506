//! Operators on whole rows: softmax and the copy of a reshape. Scalar; they are a vanishing part of any network.

use super::{KernelError, Task};
use crate::codegen::emitter::Emitter;
use crate::codegen::functions::exp;
use crate::graph::Node;
use crate::graph::types::Layout;
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, types};

pub(super) fn softmax(e: &mut Emitter<'_, '_>, task: &Task<'_>, node: &Node) -> Result<&'static str, KernelError> {
    let input = task.main_operand(node.id, 0)?.clone();
    let (n, h, w) = input.buffer.image;
    if h * w != 1 {
        return Err((node.id, "softmax runs on (N,C) values only".to_owned()));
    }
    let lowest = e.b.ins().f32const(f32::NEG_INFINITY);
    let top = e.var(lowest);
    e.times(n, |e, i| {
        let at = e.at(input.base, i, 4);
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
            let at = e.at(input.base, i, 4);
            let (v, top) = (e.load(types::F32, at, 0), e.b.use_var(top));
            let v = e.b.ins().fsub(v, top);
            let v = exp(e, v);
            let out = e.at(task.result.base, i, 4);
            e.store(v, out, 0);
            let old = e.b.use_var(*sum);
            let new = e.b.ins().fadd(old, v);
            e.b.def_var(*sum, new);
        });
    }
    let l: Vec<_> = lanes.iter().map(|s| e.b.use_var(*s)).collect();
    let [l0, l1, l2, l3] = *l else { return Err((node.id, "four lanes".to_owned())) };
    let (even, odd) = (e.b.ins().fadd(l0, l2), e.b.ins().fadd(l1, l3));
    let sum = e.b.ins().fadd(even, odd);
    e.times(n, |e, i| {
        let at = e.at(task.result.base, i, 4);
        let v = e.load(types::F32, at, 0);
        let v = e.b.ins().fdiv(v, sum);
        e.store(v, at, 0);
    });
    Ok("softmax")
}

pub(super) fn copy(e: &mut Emitter<'_, '_>, task: &Task<'_>, node: &Node) -> Result<&'static str, KernelError> {
    let input = task.main_operand(node.id, 0)?.clone();
    let (c, h, w) = input.buffer.image;
    let flat = |layout: Layout, area: usize| layout == Layout::Dense || (layout == Layout::Nhwc && area == 1);
    let result = &task.result.buffer;
    if !flat(input.buffer.layout, h * w) || !flat(result.layout, result.image.1 * result.image.2) {
        return Err((node.id, "a reshape between these layouts has no kernel yet".to_owned()));
    }
    e.times(c * h * w, |e, i| {
        let (from, to) = (e.at(input.base, i, 4), e.at(task.result.base, i, 4));
        let v = e.load(types::I32, from, 0);
        e.store(v, to, 0);
    });
    Ok("copy")
}
