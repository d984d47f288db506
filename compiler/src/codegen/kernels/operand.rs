//! Operands of a task: where a value lies, and reads of it in any layout, four lanes or one element at a time, also where it
//! broadcasts. Must never know what is computed from them.

use super::indices::{Point, divide, remainder, strides};
use super::walk::Position;
use crate::codegen::chain;
use crate::codegen::emitter::{Emitter, F32X4, I32X4};
use crate::graph::types::Layout;
use crate::graph::{Graph, Value as GraphValue};
use crate::lower::{Buffer, Place, Step, pack};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Type, Value, types};
use dorefa_runtime::tensor::Tensor;

/// A value of the graph as one function sees it.
#[derive(Clone)]
pub struct Operand {
    pub(super) buffer: Buffer,
    pub(super) base: Value,
    /// Elements from one position to the next where channels are innermost.
    pub(super) pitch: usize,
    /// Bytes from a sample to the next; 0 where all samples read the same.
    pub(super) apart: usize,
}

impl Operand {
    pub(super) fn new(buffer: Buffer, base: Value) -> Operand {
        let pitch = buffer.pitch();
        Operand { buffer, base, pitch, apart: 0 }
    }

    /// Floats of a sample: row-major, or channels innermost with so many elements from one position to the next.
    pub fn floats(base: Value, image: (usize, usize, usize), pitch: Option<usize>) -> Operand {
        let layout = if pitch.is_some() { Layout::Nhwc } else { Layout::Dense };
        let buffer = Buffer { place: Place::Arena(0), layout, image, planes: 0, group: image.0, integer: false };
        Operand { pitch: pitch.unwrap_or(buffer.pitch()), ..Operand::new(buffer, base) }
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

/// Reads four lanes of a value at the position `flat` = y·W + x.
pub(super) fn load_lanes_at(e: &mut Emitter<'_, '_>, o: &Operand, flat: Value, channel: Value) -> Value {
    let ty = if o.buffer.integer { I32X4 } else { F32X4 };
    let (c, h, w) = o.buffer.image;
    match o.buffer.layout {
        Layout::Nhwc => {
            let row = e.at(o.base, flat, o.buffer.pitch() * 4);
            let at = e.at(row, channel, 4);
            e.load(ty, at, 0)
        }
        Layout::Dense if h * w == 1 && c % 4 == 0 && o.buffer.element() == 4 => {
            let at = e.at(o.base, channel, 4);
            e.load(ty, at, 0)
        }
        Layout::Dense => {
            let mut lanes = e.zeros(ty);
            let last = e.int(c - 1);
            for lane in 0..4u8 {
                let c = e.add(channel, lane.into());
                let c = e.min(c, last);
                let element = o.buffer.element();
                let plane = e.at(o.base, c, h * w * element);
                let at = e.at(plane, flat, element);
                let v = if element == 1 {
                    e.b.ins().uload8(types::I32, MemFlagsData::new().with_notrap(), at, 0)
                } else {
                    e.load(ty.lane_type(), at, 0)
                };
                lanes = e.b.ins().insertlane(lanes, v, lane);
            }
            lanes
        }
        Layout::Nibbles => {
            let row = e.at(o.base, flat, o.buffer.pixel());
            let byte = e.b.ins().ushr_imm_u(channel, 2);
            let at = e.b.ins().iadd(row, byte);
            let v = e.b.ins().uload8(types::I32, MemFlagsData::new().with_notrap(), at, 0);
            planes_to_lanes(e, o.buffer.planes, |e, q| e.b.ins().ushr_imm_u(v, 4 * q as i64))
        }
        Layout::Bits => {
            let (word, bit) = word_of(e, &o.buffer, channel);
            let row = e.at(o.base, flat, o.buffer.pixel());
            let at = e.at(row, word, 8);
            let stride = o.buffer.words() * 8;
            planes_to_lanes(e, o.buffer.planes, |e, q| {
                let v = e.load(types::I64, at, (q * stride) as i32);
                let v = e.b.ins().ushr(v, bit);
                e.b.ins().ireduce(types::I32, v)
            })
        }
    }
}

/// Four codes from bits 0 … 3 of each plane.
fn planes_to_lanes(
    e: &mut Emitter<'_, '_>,
    planes: usize,
    mut plane: impl FnMut(&mut Emitter<'_, '_>, usize) -> Value,
) -> Value {
    let selector = e.data("lane_bits", [1u32, 2, 4, 8].iter().flat_map(|v| v.to_le_bytes()).collect());
    let selector = e.load(I32X4, selector, 0);
    let zero = e.splat_i32(0);
    let mut code = zero;
    for q in 0..planes {
        let v = plane(e, q);
        let v = e.b.ins().splat(I32X4, v);
        let v = e.b.ins().band(v, selector);
        let mask = e.b.ins().icmp(IntCC::NotEqual, v, zero);
        let weight = e.splat_i32(1 << q);
        let part = e.b.ins().band(mask, weight);
        code = e.b.ins().bor(code, part);
    }
    code
}

/// The word and bit of a channel in [`Layout::Bits`].
pub(super) fn word_of(e: &mut Emitter<'_, '_>, buffer: &Buffer, channel: Value) -> (Value, Value) {
    let (group, inside) = if buffer.group == buffer.image.0 {
        (None, channel)
    } else {
        let g = e.int(buffer.group);
        (Some(e.b.ins().udiv(channel, g)), e.b.ins().urem(channel, g))
    };
    let mut word = e.b.ins().ushr_imm_u(inside, 6);
    if let Some(g) = group {
        word = e.at(word, g, buffer.group.div_ceil(64));
    }
    (word, e.b.ins().band_imm_s(inside, 63))
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

pub(super) fn scalar(o: &Operand) -> Type {
    if o.buffer.integer { types::I32 } else { types::F32 }
}

/// The element at a place.
pub(super) fn load(e: &mut Emitter<'_, '_>, o: &Operand, [c, y, x]: Point) -> Value {
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
