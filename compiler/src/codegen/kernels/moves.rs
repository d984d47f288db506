//! Operators that gather: reshape, transpose, concat, pad, slice, take; reductions and products are in `folds`. Each result
//! element is read, one at a time, from any layout by its logical index; the chain and the store are those of every kernel.
//! Also reads of operands that broadcast. Cost: a few cycles an element, plus one division an axis where the shapes are no images.

use super::{KernelError, Operand, Position, Task, folds, load_lanes_at, word_of};
use crate::codegen::chain;
use crate::codegen::emitter::{Emitter, F32X4, I32X4};
use crate::graph::types::Layout;
use crate::graph::{Graph, Node, Value as GraphValue};
use crate::lower::{Step, pack};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, StackSlotData, StackSlotKind, Value, types};
use dorefa_runtime::tensor::Tensor;

/// Channel, row and column.
type Point = [Value; 3];

/// Emits the kernel of a gathering operator.
pub(super) fn emit(e: &mut Emitter<'_, '_>, task: &Task<'_>, node: &Node) -> Result<&'static str, KernelError> {
    let count = task.graph.operands(node.id).len();
    let inputs = (0..count).map(|i| task.main_operand(node.id, i).cloned()).collect::<Result<_, _>>()?;
    let plan = Gather::new(e, task.graph, node, inputs, task.result.buffer.image).map_err(|m| (node.id, m))?;
    let (channels, _, _) = plan.image;
    let ty = if node.types.first().is_some_and(|t| t.elem != crate::graph::types::Elem::F32) { I32X4 } else { F32X4 };
    task.each_position(e, |task, e, p| {
        task.finish(e, p, None, &mut |e, channel| {
            let last = e.int(channels - 1);
            e.times(4, |e, lane| {
                let c = e.b.ins().iadd(channel, lane);
                let c = e.min(c, last);
                let v = plan.element(e, [c, p.y, p.x]);
                let at = e.at(plan.slots, lane, 4);
                e.store(v, at, 0);
            });
            Ok(e.load(ty, plan.slots, 0))
        })
    })?;
    Ok(match node.op.name {
        "reshape" | "transpose" | "repeat" => "move",
        "concat" => "concat",
        "pad" => "pad",
        "slice" | "take" => "select",
        "product" => "matrix product",
        _ => "reduce",
    })
}

/// What a gathering operator reads for one element of its result.
pub struct Gather<'a> {
    pub(super) node: &'a Node,
    pub(super) inputs: Vec<Operand>,
    /// Extents of each operand without the batch.
    pub(super) shapes: Vec<Vec<usize>>,
    /// Extents of the result without the batch.
    pub(super) shape: Vec<usize>,
    /// Axes that the extents leave out: 1 where there is a batch.
    pub(super) batch: i64,
    /// Channels, height and width as which the result is stored.
    image: (usize, usize, usize),
    /// Address of the indices of `take`.
    table: Option<Value>,
    /// 32 bytes on the stack: four elements of the result, and the four lanes of a sum.
    pub(super) slots: Value,
}

pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut out = vec![1; shape.len()];
    let mut inner = 1;
    for (s, d) in out.iter_mut().zip(shape).rev() {
        *s = inner;
        inner *= d;
    }
    out
}

impl<'a> Gather<'a> {
    /// A node whose operands lie as `inputs` say and whose result is stored as `image`.
    ///
    /// # Errors
    /// When it has no operand.
    pub fn new(
        e: &mut Emitter<'_, '_>,
        graph: &Graph,
        node: &'a Node,
        inputs: Vec<Operand>,
        image: (usize, usize, usize),
    ) -> Result<Gather<'a>, String> {
        let own = node.types.first().map(|t| &t.shape).filter(|_| !inputs.is_empty()).ok_or("no operand")?;
        let slots = StackSlotData::new(StackSlotKind::ExplicitSlot, 32, 4);
        let slots = e.b.create_sized_stack_slot(slots);
        let slots = e.b.ins().stack_addr(types::I64, slots, 0);
        let table = (node.op.name == "take").then(|| {
            let indices: Vec<i32> = node.attrs.ints("indices").iter().map(|&i| i as i32).collect();
            e.data("indices", pack::i32_bytes(&indices))
        });
        let extents = |v| graph.value_type(v).map_or(Vec::new(), |t| t.shape.per_sample());
        let shapes = graph.operands(node.id).into_iter().map(extents).collect();
        let (shape, batch) = (own.per_sample(), i64::from(own.has_batch()));
        Ok(Gather { node, inputs, shapes, shape, batch, image, table, slots })
    }

    /// Whether operand 0 and the result are both images of three axes, whose places need no division.
    fn images(&self) -> bool {
        self.batch == 1 && self.shape.len() == 3 && self.shapes.iter().all(|s| s.len() == 3)
    }

    /// The element of the result at this channel, row and column.
    pub fn element(&self, e: &mut Emitter<'_, '_>, at: Point) -> Value {
        let Some(input) = self.inputs.first() else { return e.b.ins().iconst(types::I32, 0) };
        let image = self.image;
        let perm = self.node.attrs.ints("perm").iter().skip(self.batch as usize);
        let mut perm = perm.map(|&p| (p - self.batch).max(0) as usize);
        match self.node.op.name {
            "transpose" if self.images() => {
                let mut from = at;
                for (p, &v) in perm.zip(&at) {
                    if let Some(slot) = from.get_mut(p) {
                        *slot = v;
                    }
                }
                load(e, input, from)
            }
            "transpose" => {
                let flat = flatten(e, at, image);
                let from = self.shapes.first().map_or(Vec::new(), |s| strides(s));
                let steps: Vec<usize> = perm.by_ref().filter_map(|p| from.get(p).copied()).collect();
                let flat = along(e, flat, &self.shape, &steps);
                load_flat(e, input, flat)
            }
            "concat" => self.concat(e, at, image),
            "pad" => self.pad(e, input, at),
            "reshape" | "repeat" => {
                let flat = flatten(e, at, image);
                load_flat(e, input, flat)
            }
            "slice" => {
                let start = self.node.attrs.int("start", 0);
                self.moved(e, input, at, image, |e, digit| e.b.ins().iadd_imm_s(digit, start))
            }
            "take" => self.take(e, input, at, image),
            _ => {
                let flat = flatten(e, at, image);
                folds::element(e, self, flat)
            }
        }
    }

    /// The axis of `slice`, `take` and `concat`, not counting the batch.
    fn axis(&self) -> usize {
        (self.node.attrs.int("axis", 1) - self.batch).max(0) as usize
    }

    /// The place of an element along the operator's axis; `flat` is its row-major index.
    fn digit(&self, e: &mut Emitter<'_, '_>, at: Point, flat: Value) -> Value {
        let axis = self.axis();
        match at.get(axis) {
            Some(&v) if self.images() => v,
            _ => {
                let inner: usize = self.shape.iter().skip(axis + 1).product();
                let q = divide(e, flat, inner);
                remainder(e, q, self.shape.get(axis).copied().unwrap_or(1))
            }
        }
    }

    /// The element of operand 0 whose place along the operator's axis is `f` of the result's.
    fn moved(
        &self,
        e: &mut Emitter<'_, '_>,
        input: &Operand,
        at: Point,
        image: (usize, usize, usize),
        f: impl FnOnce(&mut Emitter<'_, '_>, Value) -> Value,
    ) -> Value {
        let flat = flatten(e, at, image);
        let digit = self.digit(e, at, flat);
        let place = f(e, digit);
        self.at_place(e, input, self.shapes.first().map_or(&[], |s| s), (at, flat), place)
    }

    /// The element of an operand of extents `shape` at the result's place, but at `place` along the operator's axis.
    fn at_place(
        &self,
        e: &mut Emitter<'_, '_>,
        input: &Operand,
        shape: &[usize],
        (at, flat): (Point, Value),
        place: Value,
    ) -> Value {
        let axis = self.axis();
        if self.images() {
            let mut from = at;
            if let Some(slot) = from.get_mut(axis) {
                *slot = place;
            }
            return load(e, input, from);
        }
        let inner: usize = self.shape.iter().skip(axis + 1).product();
        let total = self.shape.get(axis).copied().unwrap_or(1);
        let outer = divide(e, flat, inner * total);
        let row = e.at(place, outer, shape.get(axis).copied().unwrap_or(1));
        let rest = remainder(e, flat, inner);
        let from = e.at(rest, row, inner);
        load_flat(e, input, from)
    }

    fn take(&self, e: &mut Emitter<'_, '_>, input: &Operand, at: Point, image: (usize, usize, usize)) -> Value {
        let table = self.table.unwrap_or(input.base);
        let index = |e: &mut Emitter<'_, '_>, digit: Value| {
            let at = e.at(table, digit, 4);
            let index = e.read(types::I32, at, 0);
            e.b.ins().sextend(types::I64, index)
        };
        if !self.node.attrs.ints("indices").contains(&-1) {
            return self.moved(e, input, at, image, index);
        }
        let fill = e.b.ins().f32const(self.node.attrs.float("value", 0.0));
        let value = e.var(fill);
        let flat = flatten(e, at, image);
        let digit = self.digit(e, at, flat);
        let place = index(e, digit);
        let inside = e.b.ins().icmp_imm_s(IntCC::SignedGreaterThanOrEqual, place, 0);
        e.when(inside, |e| {
            let v = self.at_place(e, input, self.shapes.first().map_or(&[], |s| s), (at, flat), place);
            e.b.def_var(value, v);
        });
        e.b.use_var(value)
    }

    fn concat(&self, e: &mut Emitter<'_, '_>, at: Point, image: (usize, usize, usize)) -> Value {
        let axis = self.axis();
        let ty = self.inputs.first().map_or(types::F32, scalar);
        let zero = e.b.ins().iconst(types::I32, 0);
        let zero = if ty == types::F32 { e.b.ins().f32const(0.0) } else { zero };
        let value = e.var(zero);
        let flat = flatten(e, at, image);
        let digit = self.digit(e, at, flat);
        let mut start = 0;
        for (input, shape) in self.inputs.iter().zip(&self.shapes) {
            let own = shape.get(axis).copied().unwrap_or(1);
            let k = e.b.ins().iadd_imm_s(digit, -(start as i64));
            let inside = e.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, k, own as i64);
            e.when(inside, |e| {
                let v = self.at_place(e, input, shape, (at, flat), k);
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
}

pub(super) fn divide(e: &mut Emitter<'_, '_>, v: Value, by: usize) -> Value {
    if by == 1 {
        return v;
    }
    let by = e.int(by);
    e.b.ins().udiv(v, by)
}

pub(super) fn remainder(e: &mut Emitter<'_, '_>, v: Value, by: usize) -> Value {
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
pub(super) fn along(e: &mut Emitter<'_, '_>, index: Value, shape: &[usize], steps: &[usize]) -> Value {
    let (mut rest, mut sum) = (index, e.int(0));
    for (i, (&d, &s)) in shape.iter().zip(steps).enumerate().rev() {
        let digit = if i == 0 { rest } else { remainder(e, rest, d) };
        sum = e.at(sum, digit, s);
        rest = divide(e, rest, d);
    }
    sum
}

/// The element of a row-major index.
pub(super) fn load_flat(e: &mut Emitter<'_, '_>, o: &Operand, index: Value) -> Value {
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
            let index = e.at(c, flat, o.pitch);
            let at = e.at(o.base, index, 4);
            e.load(scalar(o), at, 0)
        }
        Layout::Nibbles => {
            let row = e.at(o.base, flat, b.pixel());
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
            let row = e.at(o.base, flat, b.pixel());
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
    if step.main.and_then(|m| graph.node(m)).is_some_and(|n| n.op.name == "repeat") {
        let base = e.data("operand", pack::f32_bytes(tensor.as_f32()?));
        return Some(Operand::floats(base, (tensor.len(), 1, 1), None));
    }
    let user = step.chain.iter().find(|&&n| graph.operands(n).contains(&value))?;
    let (node, data) = (graph.node(*user)?, tensor.as_f32()?);
    let shape = &node.types.first()?.shape;
    if !matches!(node.op.inputs, (2, 2) | (3, 3))
        || node.op.name == "multi_threshold"
        || chain::channel_constant(tensor, shape)
    {
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
    Some(Operand::floats(base, image, Some(pitch)))
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
