//! Pools on lanes: windows of floats or codes, and the global average. Taps in row-major window order; padding never wins.

use super::{KernelError, Operand, Position, Task, code_sum, load_lanes_at, nibble_pool};
use crate::codegen::chain::{Chain, levels};
use crate::codegen::emitter::{Emitter, I32X4};
use crate::codegen::functions::later_if_greater;
use crate::codegen::taps::Taps;
use crate::graph::Node;
use crate::graph::ops::Window;
use crate::graph::types::CodeType;
use crate::lower::{Step, pack};
use cranelift_codegen::ir::{InstBuilder, Value, types};

pub(super) fn windows(e: &mut Emitter<'_, '_>, task: &Task<'_>, node: &Node) -> Result<&'static str, KernelError> {
    let operands = task.graph.operands(node.id);
    let ty = operands.first().and_then(|&v| task.graph.value_type(v)).ok_or((node.id, "no operand".to_owned()))?;
    let window = Window::new(&node.attrs, &ty.shape).map_err(|m| (node.id, m))?;
    let input = task.main_operand(node.id, 0)?.clone();
    let whole = node.attrs.bool("count_padding", false).then_some(window.kernel[0] * window.kernel[1]);
    let code = ty.codes();
    let minimum = operands.get(1).and_then(|&v| task.graph.constant(v)).and_then(|t| t.as_i64());
    if let Some(code) = code.filter(|_| nibble_pool::fits(task, &input)) {
        nibble_pool::emit(e, task, &window, &input, code, minimum)?;
        return Ok("code pool, packed");
    }
    if let Some(code) = code.filter(|_| node.op.name == "sum_pool" && code_sum::fits(&window, &input)) {
        code_sum::emit(e, task, &input, code)?;
        return Ok("code sum, whole images");
    }
    let minimum = minimum.map(|m| {
        let masks: Vec<i32> = m.iter().map(|&v| -i32::from(v != 0)).collect();
        e.data("minimum", pack::i32_bytes(&pack::transposed(&masks, window.channels, 1, 0)))
    });
    let pool = Pool { op: node.op.name, window: &window, input: &input, code, minimum, whole };
    task.each_position(e, |task, e, p| task.finish(e, p, None, &mut |e, channel| Ok(pool.lanes(e, p, channel))))?;
    Ok(match pool.op {
        "code_pool" => "code pool",
        "sum_pool" => "code sum",
        _ => "float pool",
    })
}

/// A pool on four lanes.
struct Pool<'a> {
    op: &'a str,
    window: &'a Window,
    input: &'a Operand,
    code: Option<&'a CodeType>,
    /// All ones for channels whose least code is wanted.
    minimum: Option<Value>,
    /// What an average divides by, if not by the taps that are valid.
    whole: Option<usize>,
}

impl Pool<'_> {
    /// The result of the window at a position, of four channels.
    fn lanes(&self, e: &mut Emitter<'_, '_>, p: Position, channel: Value) -> Value {
        let mask = self.minimum.map(|table| {
            let at = e.at(table, channel, 4);
            e.load(I32X4, at, 0)
        });
        let start = self.start(e, mask);
        let (best, zero) = (e.var(start), e.int(0));
        let count = e.var(zero);
        each_tap(e, self.window, [p.y, p.x], |e, flat| {
            let v = load_lanes_at(e, self.input, flat, channel);
            let old = e.b.use_var(best);
            let new = self.fold(e, [old, v], mask);
            e.b.def_var(best, new);
            e.advance(count, 1);
        });
        let best = e.b.use_var(best);
        if self.op != "average_pool" {
            return best;
        }
        let divisor = match self.whole {
            Some(n) => e.splat_f32(n as f32),
            None => {
                let n = e.b.use_var(count);
                let n = e.b.ins().fcvt_from_sint(types::F32, n);
                e.b.ins().splat(types::F32X4, n)
            }
        };
        e.b.ins().fdiv(best, divisor)
    }

    /// What a window without taps gives.
    fn start(&self, e: &mut Emitter<'_, '_>, mask: Option<Value>) -> Value {
        let start = match self.op {
            "max_pool" => e.splat_f32(f32::NEG_INFINITY),
            "average_pool" => e.splat_f32(0.0),
            _ => e.splat_i32(0),
        };
        match mask {
            None => start,
            Some(mask) => {
                let top = e.splat_i32(self.code.map_or(0, |c| c.top as i32));
                e.select(mask, top, start)
            }
        }
    }

    fn fold(&self, e: &mut Emitter<'_, '_>, [old, v]: [Value; 2], mask: Option<Value>) -> Value {
        match (self.op, mask) {
            ("max_pool", _) => later_if_greater(e, old, v),
            ("average_pool", _) => e.b.ins().fadd(old, v),
            ("sum_pool", _) => {
                let v = self.code.map_or(v, |c| levels(e, c, v));
                e.b.ins().iadd(old, v)
            }
            (_, None) => e.b.ins().smax(old, v),
            (_, Some(mask)) => {
                let (low, high) = (e.b.ins().smin(old, v), e.b.ins().smax(old, v));
                e.select(mask, low, high)
            }
        }
    }
}

/// Emits the pool that is part of a layer's step, of what the task has made.
///
/// # Errors
/// The node that could not be emitted, and why.
pub(super) fn behind(e: &mut Emitter<'_, '_>, task: &Task<'_>, node: &Node) -> Result<(), KernelError> {
    let (value, tasks) = (task.step.result, task.step.tasks);
    let result = task.operand(value, node.id)?.clone();
    let step =
        Step { main: Some(node.id), chain: Vec::new(), source: value, made: value, pool: None, result: value, tasks };
    let chain = Chain::prepare(e, task.graph, &step.chain)?;
    windows(e, &Task { step: &step, chain, result, rows: 1, ..task.clone() }, node).map(|_| ())
}

/// Calls `body` with the input index of every valid tap, in row-major window order.
pub(super) fn each_tap(
    e: &mut Emitter<'_, '_>,
    window: &Window,
    [y, x]: [Value; 2],
    mut body: impl FnMut(&mut Emitter<'_, '_>, Value),
) {
    Taps::of_pool(window).each(e, y, x, |e, tap| e.when(tap.valid, |e| body(e, tap.flat)));
}

/// Mean over all positions: 4 virtual lanes by position mod 4, then (l0 + l2) + (l1 + l3).
pub(super) fn global(e: &mut Emitter<'_, '_>, task: &Task<'_>, node: &Node) -> Result<&'static str, KernelError> {
    let input = task.main_operand(node.id, 0)?.clone();
    let area = input.buffer.image.1 * input.buffer.image.2;
    task.each_position(e, |task, e, p| {
        task.finish(e, p, None, &mut |e, channel| {
            let zero = e.splat_f32(0.0);
            let sum = e.lane_sum(area, zero, |e, flat| load_lanes_at(e, &input, flat, channel));
            let n = e.splat_f32(area as f32);
            Ok(e.b.ins().fdiv(sum, n))
        })
    })?;
    Ok("global average")
}
