//! Operators that gather: reshape, transpose, concat, pad, and reductions over axes. Each result element is read, one at a
//! time, from any layout by its logical index; the chain and the store are those of every kernel. Also reads of operands
//! that broadcast. Cost: a few cycles an element, plus one division an axis where the shapes are no images.

use super::{KernelError, Operand, Position, Task, load_lanes_at, word_of};
use crate::codegen::chain;
use crate::codegen::emitter::{Emitter, F32X4, I32X4};
use crate::graph::types::Layout;
use crate::graph::{Graph, Node, Value as GraphValue};
use crate::lower::{Buffer, Place, Step, pack};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, StackSlotData, StackSlotKind, Value, types};
use dorefa_runtime::tensor::Tensor;

/// Channel, row and column.
type Point = [Value; 3];

/// Emits the kernel of a gathering operator.
pub(super) fn emit(e: &mut Emitter<'_, '_>, task: &Task<'_>, node: &Node) -> Result<&'static str, KernelError> {
    let plan = Gather::new(task, node)?;
    let (channels, _, _) = task.result.buffer.image;
    let slots = StackSlotData::new(StackSlotKind::ExplicitSlot, 32, 4);
    let slots = e.b.create_sized_stack_slot(slots);
    let slots = e.b.ins().stack_addr(types::I64, slots, 0);
    let ty = if node.types.first().is_some_and(|t| t.elem != crate::graph::types::Elem::F32) { I32X4 } else { F32X4 };
    task.each_position(e, |task, e, p| {
        task.finish(e, p, None, &mut |e, channel| {
            let last = e.int(channels - 1);
            e.times(4, |e, lane| {
                let c = e.b.ins().iadd(channel, lane);
                let c = e.min(c, last);
                let v = plan.element(e, task, [c, p.y, p.x], slots);
                let at = e.at(slots, lane, 4);
                e.store(v, at, 0);
            });
            Ok(e.load(ty, slots, 0))
        })
    })?;
    Ok(match node.op.name {
        "reshape" | "transpose" => "move",
        "concat" => "concat",
        "pad" => "pad",
        _ => "reduce",
    })
}

/// What a gathering operator reads for one element of its result.
struct Gather<'a> {
    node: &'a Node,
    inputs: Vec<Operand>,
    /// Extents of each operand without the batch.
    shapes: Vec<Vec<usize>>,
    /// Extents of the result without the batch.
    shape: Vec<usize>,
}

fn strides(shape: &[usize]) -> Vec<usize> {
    let mut out = vec![1; shape.len()];
    let mut inner = 1;
    for (s, d) in out.iter_mut().zip(shape).rev() {
        *s = inner;
        inner *= d;
    }
    out
}

impl<'a> Gather<'a> {
    fn new(task: &Task<'_>, node: &'a Node) -> Result<Gather<'a>, KernelError> {
        let mut gather = Gather { node, inputs: Vec::new(), shapes: Vec::new(), shape: Vec::new() };
        for (i, &v) in task.graph.operands(node.id).iter().enumerate() {
            gather.inputs.push(task.main_operand(node.id, i)?.clone());
            gather.shapes.push(task.graph.value_type(v).map_or(Vec::new(), |t| t.shape.per_sample()));
        }
        gather.shape = node.types.first().map_or(Vec::new(), |t| t.shape.per_sample());
        if gather.inputs.is_empty() { Err((node.id, "no operand".to_owned())) } else { Ok(gather) }
    }

    /// Whether operand 0 and the result are both images of three axes, whose places need no division.
    fn images(&self) -> bool {
        self.shape.len() == 3 && self.shapes.iter().all(|s| s.len() == 3)
    }

    fn element(&self, e: &mut Emitter<'_, '_>, task: &Task<'_>, at: Point, slots: Value) -> Value {
        let Some(input) = self.inputs.first() else { return e.b.ins().iconst(types::I32, 0) };
        let image = task.result.buffer.image;
        match self.node.op.name {
            "transpose" if self.images() => {
                let mut from = at;
                for (&p, &v) in self.node.attrs.ints("perm").iter().skip(1).zip(&at) {
                    if let Some(slot) = from.get_mut((p - 1).max(0) as usize) {
                        *slot = v;
                    }
                }
                load(e, input, from)
            }
            "transpose" => {
                let flat = flatten(e, at, image);
                let from = self.shapes.first().map_or(Vec::new(), |s| strides(s));
                let perm = self.node.attrs.ints("perm").iter().skip(1);
                let steps: Vec<usize> = perm.filter_map(|&p| from.get((p - 1).max(0) as usize).copied()).collect();
                let flat = along(e, flat, &self.shape, &steps);
                load_flat(e, input, flat)
            }
            "concat" => self.concat(e, at, image),
            "pad" => self.pad(e, input, at),
            "reshape" => {
                let flat = flatten(e, at, image);
                load_flat(e, input, flat)
            }
            _ => {
                let flat = flatten(e, at, image);
                self.reduce(e, input, flat, slots)
            }
        }
    }

    fn concat(&self, e: &mut Emitter<'_, '_>, at: Point, image: (usize, usize, usize)) -> Value {
        let axis = (self.node.attrs.int("axis", 1) - 1).max(0) as usize;
        let inner: usize = self.shape.iter().skip(axis + 1).product();
        let total = self.shape.get(axis).copied().unwrap_or(1);
        let zero = e.b.ins().f32const(0.0);
        let value = e.var(zero);
        let flat = flatten(e, at, image);
        let images = self.images();
        let digit = match at.get(axis) {
            Some(&v) if images => v,
            _ => {
                let q = divide(e, flat, inner);
                remainder(e, q, total)
            }
        };
        let mut start = 0;
        for (input, shape) in self.inputs.iter().zip(&self.shapes) {
            let own = shape.get(axis).copied().unwrap_or(1);
            let k = e.b.ins().iadd_imm_s(digit, -(start as i64));
            let inside = e.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, k, own as i64);
            e.when(inside, |e| {
                let v = if images {
                    let mut from = at;
                    if let Some(slot) = from.get_mut(axis) {
                        *slot = k;
                    }
                    load(e, input, from)
                } else {
                    let outer = divide(e, flat, inner * total);
                    let row = e.at(k, outer, own);
                    let rest = remainder(e, flat, inner);
                    let from = e.at(rest, row, inner);
                    load_flat(e, input, from)
                };
                e.b.def_var(value, v);
            });
            start += own;
        }
        e.b.use_var(value)
    }

    fn pad(&self, e: &mut Emitter<'_, '_>, input: &Operand, [c, y, x]: Point) -> Value {
        let pads = self.node.attrs.ints("pads");
        let before = |i: usize| pads.get(i).copied().unwrap_or(0);
        let (_, h, w) = input.buffer.image;
        let fill = e.b.ins().f32const(self.node.attrs.float("value", 0.0));
        let value = e.var(fill);
        let (y, x) = (e.b.ins().iadd_imm_s(y, -before(0)), e.b.ins().iadd_imm_s(x, -before(1)));
        let (vy, vx) = (
            e.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, y, h as i64),
            e.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, x, w as i64),
        );
        let inside = e.b.ins().band(vy, vx);
        e.when(inside, |e| {
            let v = load(e, input, [c, y, x]);
            e.b.def_var(value, v);
        });
        e.b.use_var(value)
    }

    /// Maximum, or the sum by 4 virtual lanes (position mod 4), (l0 + l2) + (l1 + l3), for a mean divided by the count.
    fn reduce(&self, e: &mut Emitter<'_, '_>, input: &Operand, flat: Value, slots: Value) -> Value {
        let shape = self.shapes.first().map_or(&[][..], |s| s);
        let rank = shape.len() as i64 + 1;
        let axes = self.node.attrs.ints("axes");
        let reduced: Vec<bool> =
            (1..rank).map(|i| axes.is_empty() || axes.iter().any(|&a| a == i || a + rank == i)).collect();
        let steps = strides(shape);
        let side = |want: bool| -> (Vec<usize>, Vec<usize>) {
            let all = shape.iter().zip(&steps).zip(&reduced).filter(|(_, r)| **r == want);
            all.map(|((&d, &s), _)| (d, s)).unzip()
        };
        let ((kept, kept_steps), (dims, dim_steps)) = (side(false), side(true));
        let base = along(e, flat, &kept, &kept_steps);
        let count: usize = dims.iter().product();
        let dims: Vec<(usize, usize)> = dims.into_iter().zip(dim_steps).collect();
        if self.node.op.name == "reduce_max" {
            let lowest = e.b.ins().f32const(f32::NEG_INFINITY);
            let best = e.var(lowest);
            nest(e, &dims, base, &mut |e, at| {
                let (v, old) = (load_flat(e, input, at), e.b.use_var(best));
                let greater = e.b.ins().fcmp(FloatCC::GreaterThan, v, old);
                let new = e.b.ins().select(greater, v, old);
                e.b.def_var(best, new);
            });
            return e.b.use_var(best);
        }
        let (zero, none) = (e.b.ins().f32const(0.0), e.int(0));
        let done = e.var(none);
        for lane in 0..4 {
            e.store(zero, slots, 16 + 4 * lane);
        }
        nest(e, &dims, base, &mut |e, at| {
            let (v, n) = (load_flat(e, input, at), e.b.use_var(done));
            let lane = e.b.ins().band_imm_s(n, 3);
            let lane = e.at(slots, lane, 4);
            let old = e.load(types::F32, lane, 16);
            let new = e.b.ins().fadd(old, v);
            e.store(new, lane, 16);
            let n = e.add(n, 1);
            e.b.def_var(done, n);
        });
        let lane = |e: &mut Emitter<'_, '_>, i: i32| e.load(types::F32, slots, 16 + 4 * i);
        let lanes = [0, 1, 2, 3].map(|i| lane(e, i));
        let sum = e.lane_tree(lanes);
        if self.node.op.name == "reduce_sum" {
            return sum;
        }
        let n = e.b.ins().f32const(count as f32);
        e.b.ins().fdiv(sum, n)
    }
}

fn divide(e: &mut Emitter<'_, '_>, v: Value, by: usize) -> Value {
    if by == 1 {
        return v;
    }
    let by = e.int(by);
    e.b.ins().udiv(v, by)
}

fn remainder(e: &mut Emitter<'_, '_>, v: Value, by: usize) -> Value {
    let by = e.int(by);
    e.b.ins().urem(v, by)
}

/// The row-major index of a place.
fn flatten(e: &mut Emitter<'_, '_>, [c, y, x]: Point, (_, h, w): (usize, usize, usize)) -> Value {
    if h * w == 1 {
        return c;
    }
    let row = e.at(y, c, h);
    e.at(x, row, w)
}

/// Σ digit·step of a row-major index under `shape`.
fn along(e: &mut Emitter<'_, '_>, index: Value, shape: &[usize], steps: &[usize]) -> Value {
    let (mut rest, mut sum) = (index, e.int(0));
    for (i, (&d, &s)) in shape.iter().zip(steps).enumerate().rev() {
        let digit = if i == 0 { rest } else { remainder(e, rest, d) };
        sum = e.at(sum, digit, s);
        rest = divide(e, rest, d);
    }
    sum
}

/// Loops over `dims` of (extent, step), outermost first.
fn nest(
    e: &mut Emitter<'_, '_>,
    dims: &[(usize, usize)],
    base: Value,
    body: &mut dyn FnMut(&mut Emitter<'_, '_>, Value),
) {
    match dims.split_first() {
        None => body(e, base),
        Some((&(extent, step), inner)) => e.times(extent, |e, i| {
            let base = e.at(base, i, step);
            nest(e, inner, base, body);
        }),
    }
}

/// The element of a row-major index.
fn load_flat(e: &mut Emitter<'_, '_>, o: &Operand, index: Value) -> Value {
    let (_, h, w) = o.buffer.image;
    if o.buffer.layout == Layout::Dense {
        let at = e.at(o.base, index, 4);
        return e.load(scalar(o), at, 0);
    }
    let zero = e.int(0);
    if h * w == 1 {
        return load(e, o, [index, zero, zero]);
    }
    let (c, inside) = (divide(e, index, h * w), remainder(e, index, h * w));
    let (y, x) = (divide(e, inside, w), remainder(e, inside, w));
    load(e, o, [c, y, x])
}

fn scalar(o: &Operand) -> types::Type {
    if o.buffer.integer { types::I32 } else { types::F32 }
}

/// The element at a place.
fn load(e: &mut Emitter<'_, '_>, o: &Operand, [c, y, x]: Point) -> Value {
    let b = &o.buffer;
    let (_, h, w) = b.image;
    let flat = e.at(x, y, w);
    match b.layout {
        Layout::Dense => {
            let index = e.at(flat, c, h * w);
            let at = e.at(o.base, index, 4);
            e.load(scalar(o), at, 0)
        }
        Layout::Nhwc => {
            let index = e.at(c, flat, b.pitch());
            let at = e.at(o.base, index, 4);
            e.load(scalar(o), at, 0)
        }
        Layout::Nibbles => {
            let row = e.at(o.base, flat, b.image.0 / 4);
            let byte = e.b.ins().ushr_imm_u(c, 2);
            let at = e.b.ins().iadd(row, byte);
            let v = e.b.ins().uload8(types::I32, MemFlagsData::new().with_notrap(), at, 0);
            let lane = e.b.ins().band_imm_s(c, 3);
            let v = e.b.ins().ushr(v, lane);
            let (low, high) = (e.b.ins().band_imm_s(v, 1), e.b.ins().ushr_imm_u(v, 3));
            let high = e.b.ins().band_imm_s(high, 2);
            e.b.ins().bor(low, high)
        }
        Layout::Bits => {
            let (word, bit) = word_of(e, b, c);
            let row = e.at(o.base, flat, b.planes * b.words() * 8);
            let at = e.at(row, word, 8);
            let mut code = e.int(0);
            for q in 0..b.planes {
                let v = e.load(types::I64, at, (q * b.words() * 8) as i32);
                let v = e.b.ins().ushr(v, bit);
                let v = e.b.ins().band_imm_s(v, 1);
                let v = e.b.ins().ishl_imm_u(v, q as i64);
                code = e.b.ins().bor(code, v);
            }
            e.b.ins().ireduce(types::I32, code)
        }
    }
}

/// A constant of the chain that is neither one value nor one a channel, as an operand in memory.
pub(super) fn constant(
    e: &mut Emitter<'_, '_>,
    graph: &Graph,
    step: &Step,
    value: GraphValue,
    tensor: &Tensor,
) -> Option<Operand> {
    let user = step.chain.iter().find(|&&n| graph.operands(n).contains(&value))?;
    let (node, data) = (graph.node(*user)?, tensor.as_f32()?);
    let shape = &node.types.first()?.shape;
    if node.op.inputs != (2, 2) || node.op.name == "multi_threshold" || chain::channel_constant(tensor, shape) {
        return None;
    }
    let image = shape.stored()?;
    let (c, h, w) = image;
    // The constant as the result sees it: broadcast, channels innermost.
    let (rest, mut steps) = (shape.per_sample(), vec![0; shape.rank()]);
    for (slot, (&d, s)) in steps.iter_mut().rev().zip(tensor.shape().iter().zip(strides(tensor.shape())).rev()) {
        *slot = if d == 1 { 0 } else { s };
    }
    let read = |mut index: usize| {
        let mut at = 0;
        for (&d, s) in rest.iter().zip(steps.iter().skip(1)).rev() {
            at += index % d * s;
            index /= d;
        }
        data.get(at).copied().unwrap_or(0.0)
    };
    let pitch = c.next_multiple_of(4);
    let all = (0..h * w).flat_map(|p| (0..pitch).map(move |k| (p, k)));
    let all: Vec<f32> = all.map(|(p, k)| if k < c { read(k * h * w + p) } else { 0.0 }).collect();
    let base = e.data("operand", pack::f32_bytes(&all));
    let buffer = Buffer { place: Place::Arena(0), layout: Layout::Nhwc, image, planes: 0, group: c, integer: false };
    Some(Operand { buffer, base })
}

/// Four lanes of an operand at a position of a result of extents `image`, to which it broadcasts.
pub(super) fn load_broadcast(
    e: &mut Emitter<'_, '_>,
    o: &Operand,
    image: (usize, usize, usize),
    p: Position,
    channel: Value,
) -> Value {
    let (c, h, w) = o.buffer.image;
    if o.buffer.image == image {
        return load_lanes_at(e, o, p.flat, channel);
    }
    let zero = e.int(0);
    let (y, x) = (if h == 1 { zero } else { p.y }, if w == 1 { zero } else { p.x });
    if c == 1 && image.0 != 1 {
        let one = load(e, o, [zero, y, x]);
        let ty = if o.buffer.integer { I32X4 } else { F32X4 };
        return e.b.ins().splat(ty, one);
    }
    let flat = e.at(x, y, w);
    load_lanes_at(e, o, flat, channel)
}
