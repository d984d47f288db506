//! Operators that gather: reshape, transpose, concat, pad, slice, take; reductions and products are in `folds`. Each result
//! element is read, one at a time, from any layout by its logical index; the chain and the store are those of every kernel.
//! Cost: a few cycles an element, plus one division an axis where the shapes are no images.

use super::indices::{Point, along, divide, flatten, remainder, strides};
use super::operand::{load, load_flat, scalar};
use super::{KernelError, Operand, Task, folds};
use crate::codegen::emitter::{Emitter, F32X4, I32X4};
use crate::graph::{Graph, Node};
use crate::lower::pack;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

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
        let slots = e.stack(32, 16);
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
