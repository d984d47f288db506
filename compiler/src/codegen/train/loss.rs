//! Softmax, softmax cross entropy, its gradient, and what is counted: rows of scores.

use super::pools::Area;
use super::scalars::elements;
use super::{Frame, at};
use crate::codegen::emitter::Emitter;
use crate::codegen::functions::{self, Row, greatest, sum_of_powers};
use crate::graph::{Node, Value as GraphValue};
use crate::lower::train::{Form, Slot};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, types};

fn classes(frame: &Frame<'_>, value: GraphValue) -> Result<usize, String> {
    let ty = frame.graph.value_type(value).ok_or("scores have no type")?;
    ty.shape.image().filter(|i| (i.1, i.2) == (1, 1)).map(|i| i.0).ok_or_else(|| "scores must be (N,K)".to_owned())
}

/// Emits `softmax_cross_entropy`, `softmax_cross_entropy_grad` or `correct`.
///
/// # Errors
/// When the scores are no matrix.
pub fn emit(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, node: &Node) -> Result<&'static str, String> {
    let k = classes(frame, frame.operand(node, 0)?)?;
    let (z, labels) = (frame.operand_base(e, node, 0)?, frame.operand_base(e, node, 1)?);
    let own = Slot::own(GraphValue { node: node.id, port: 0 });
    let to = frame.base(e, own)?;
    let label = e.load(types::I32, labels, 0);
    let label = e.b.ins().sextend(types::I64, label);
    let row = |base| Row { base, step: 4 };
    let (top, best) = greatest(e, row(z), k);
    let (zero, one) = (e.b.ins().f32const(0.0), e.b.ins().f32const(1.0));
    if node.op.name == "correct" {
        let hit = e.b.ins().icmp(IntCC::Equal, best, label);
        let v = e.b.ins().select(hit, one, zero);
        e.store(v, to, 0);
        return Ok("count");
    }
    let powers = e.stack(k.next_multiple_of(4) * 4, 16);
    let sum = sum_of_powers(e, row(z), top, row(powers), k);
    if node.op.name == "softmax_cross_entropy" {
        let log = functions::log(e, sum);
        let at = e.at(z, label, 4);
        let own = e.load(types::F32, at, 0);
        let own = e.b.ins().fsub(own, top);
        let loss = e.b.ins().fsub(log, own);
        e.store(loss, to, 0);
        return Ok("softmax cross entropy");
    }
    let offset = at::HYPER.iter().find(|h| h.0 == "loss_scale").map_or(0, |h| h.1);
    let scale = e.load(types::F64, frame.train, offset);
    let scale = e.b.ins().fdemote(types::F32, scale);
    let n = elements(e, frame, 1, types::F32);
    let factor = e.b.ins().fdiv(scale, n);
    e.times(k, |e, i| {
        let from = e.at(powers, i, 4);
        let p = e.load(types::F32, from, 0);
        let q = e.b.ins().fdiv(p, sum);
        let right = e.b.ins().icmp(IntCC::Equal, i, label);
        let minus = e.b.ins().select(right, one, zero);
        let d = e.b.ins().fsub(q, minus);
        let d = e.b.ins().fmul(d, factor);
        let to = e.at(to, i, 4);
        e.store(d, to, 0);
    });
    // Products read whole blocks of columns; what stood in those beyond the last may be subnormal, which is slow to multiply.
    if let Form::Maps(maps) = &frame.buffer(own)?.form {
        (k..maps.pitch).for_each(|i| e.store(zero, to, 4 * i as i32));
    }
    Ok("softmax cross entropy gradient")
}

/// Emits `softmax`: rows along the last axis.
///
/// # Errors
/// When an operand is not in maps.
pub fn softmax(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, node: &Node) -> Result<&'static str, String> {
    let own = GraphValue { node: node.id, port: 0 };
    let (from, to) = (Area::new(e, frame, frame.operand(node, 0)?)?, Area::new(e, frame, own)?);
    let shape = &node.types.first().ok_or("has no type")?.shape;
    let (channels, height, width) = shape.stored().ok_or("has no batch")?;
    // Of an image a row is one channel's columns; of anything else the elements lie together, as channels.
    let n = shape.per_sample().last().copied().unwrap_or(1).max(1);
    let image = height * width > 1;
    let rows = if image { channels } else { channels / n };
    e.times(height, |e, y| {
        e.times(rows, |e, i| {
            let flat = e.mul(y, width);
            let first = if image { i } else { e.mul(i, n) };
            let [from, to] = [&from, &to].map(|area| {
                let step = if image { area.maps.pixel() } else { 4 };
                Row { base: area.at(e, flat, first), step }
            });
            functions::softmax(e, from, to, n);
        });
    });
    Ok("softmax")
}

/// Copies the scores to the caller's output.
///
/// # Errors
/// When the scores are no matrix.
pub fn scores(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, value: GraphValue) -> Result<&'static str, String> {
    let k = classes(frame, value)?;
    let z = frame.base(e, Slot::own(value))?;
    let list = e.read(types::I64, frame.call, at::OUTPUTS);
    let to = e.read(types::I64, list, 0);
    let to = e.at(to, frame.task, 4 * k);
    e.times(k, |e, i| {
        let (from, to) = (e.at(z, i, 4), e.at(to, i, 4));
        let v = e.load(types::F32, from, 0);
        e.store(v, to, 0);
    });
    Ok("scores")
}
