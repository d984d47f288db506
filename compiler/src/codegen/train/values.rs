//! Element-wise values of a training graph on four lanes: four neighbouring channels of a position, or four elements of a
//! parameter. A value is read where it is stored, else computed from its operands, once a point. Codes are levels here.

use super::noise::{self, Key};
use super::{Frame, at};
use crate::codegen::emitter::{Emitter, F32X4, I32X4};
use crate::codegen::lanes::{self, clip};
use crate::graph::ops::steps;
use crate::graph::scale::Scale;
use crate::graph::types::{CodeType, Elem};
use crate::graph::{Node, Value as GraphValue};
use crate::lower::pack;
use crate::lower::train::layouts::Storage;
use crate::lower::train::{Domain, Form, Kind, Slot, domain, is_vector};
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};
use std::collections::{BTreeMap, BTreeSet};

/// How often a value changes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Level {
    /// Never in a task: scalars, and what belongs to a sample.
    Task,
    /// With the channel.
    Channel,
    /// At each point.
    Point,
}

/// A point: four lanes from `channel` (or element) on.
#[derive(Clone, Copy)]
pub struct Point {
    /// The first of four channels; in a parameter the first of four elements.
    pub channel: Value,
    /// y·W + x; 0 in a parameter.
    pub flat: Value,
    /// (y, x) where they are at hand.
    pub place: Option<(Value, Value)>,
}

/// What the lanes of a step are computed from.
pub struct Values<'a, 'g> {
    frame: &'a Frame<'g>,
    domain: Domain,
    /// What lies in memory; everything else is computed.
    reads: &'a BTreeSet<Slot>,
    bases: BTreeMap<Slot, Value>,
    memo: [BTreeMap<GraphValue, Value>; 3],
    /// Decoding scales, as f64 in both lanes.
    scales: BTreeMap<GraphValue, Value>,
    keys: BTreeMap<GraphValue, Key>,
    /// Every value that the step evaluates, operands first.
    needed: Vec<GraphValue>,
}

impl<'a, 'g> Values<'a, 'g> {
    /// Prepares the evaluation of `targets`; everything that does not change in the task is computed here.
    pub fn new(
        e: &mut Emitter<'_, '_>,
        frame: &'a Frame<'g>,
        domain: Domain,
        reads: &'a BTreeSet<Slot>,
        targets: &[(GraphValue, bool)],
    ) -> Result<Self, String> {
        let mut v = Values {
            frame,
            domain,
            reads,
            bases: BTreeMap::new(),
            memo: Default::default(),
            scales: BTreeMap::new(),
            keys: BTreeMap::new(),
            needed: Vec::new(),
        };
        for &(target, top) in targets {
            v.need(e, target, top)?;
        }
        let zero = e.int(0);
        v.evaluate_level(e, Level::Task, Point { channel: zero, flat: zero, place: None })?;
        for value in v.needed.clone() {
            v.prepare(e, value)?;
        }
        Ok(v)
    }

    /// Lists `value` behind its operands, and takes the addresses of what is read.
    fn need(&mut self, e: &mut Emitter<'_, '_>, value: GraphValue, target: bool) -> Result<(), String> {
        if self.needed.contains(&value) {
            return Ok(());
        }
        let frame = self.frame;
        let (own, raw) = (Slot::own(value), Slot { value, kind: Kind::Raw });
        let read = |slot: &Slot| self.reads.contains(slot);
        let slot = [own, raw].into_iter().find(|s| read(s) && !(target && *s == own));
        if let Some(slot) = slot {
            let base = frame.base(e, slot)?;
            self.bases.insert(slot, base);
        }
        if slot.is_none() || slot == Some(raw) {
            let first = if slot.is_some() { 2 } else { 0 };
            for operand in frame.graph.operands(value.node).into_iter().skip(first) {
                self.need(e, operand, false)?;
            }
        }
        self.needed.push(value);
        Ok(())
    }

    /// What a node needs besides lanes: its scale, its noise's key.
    fn prepare(&mut self, e: &mut Emitter<'_, '_>, value: GraphValue) -> Result<(), String> {
        let node = self.frame.node(value.node)?;
        if self.bases.contains_key(&Slot::own(value)) {
            return Ok(());
        }
        match node.op.name {
            "decode" => {
                let operands = self.frame.graph.operands(node.id);
                let ty = operands.first().and_then(|&v| self.frame.graph.value_type(v)).ok_or("nothing to decode")?;
                let factors = operands.iter().skip(1).map(|v| self.task_value(*v)).collect::<Result<Vec<_>, _>>()?;
                let scale = decoding_scale(e, &ty.elem, &factors)?;
                let scale = e.b.ins().splat(types::F64X2, scale);
                self.scales.insert(value, scale);
            }
            "encode_gradient" | "dropout_mask" => {
                let key = noise::key(e, self.frame, node.attrs.int("place", 0));
                self.keys.insert(value, key);
            }
            _ => {}
        }
        Ok(())
    }

    fn task_value(&self, value: GraphValue) -> Result<Value, String> {
        let [task, ..] = &self.memo;
        task.get(&value).copied().ok_or_else(|| "a factor is neither a scalar nor one a sample".to_owned())
    }

    fn level(&self, value: GraphValue) -> Result<Level, String> {
        let ty = self.frame.graph.value_type(value).ok_or("a value has no type")?;
        let own = domain(ty).ok_or("a value has no points")?;
        Ok(match (own, self.domain) {
            (Domain::Flat(1), _) => Level::Task,
            _ if is_vector(ty) && self.frame.over_samples() => Level::Task,
            (a, b) if a == b => Level::Point,
            (Domain::Flat(n), Domain::Image(c, ..)) if n == c => Level::Channel,
            _ => {
                let name = self.frame.node(value.node).map_or("", |n| &n.name);
                return Err(format!("{name} broadcasts in a way that training has no kernel for: {ty}"));
            }
        })
    }

    fn evaluate_level(&mut self, e: &mut Emitter<'_, '_>, level: Level, point: Point) -> Result<(), String> {
        for value in self.needed.clone() {
            if self.level(value)? == level {
                let lanes = self.evaluate(e, value, point)?;
                if let Some(memo) = self.memo.get_mut(level as usize) {
                    memo.insert(value, lanes);
                }
            }
        }
        Ok(())
    }

    /// Computes what changes with the channel only; to be called where the channel changes.
    pub fn at_channel(&mut self, e: &mut Emitter<'_, '_>, channel: Value) -> Result<(), String> {
        let flat = e.int(0);
        self.evaluate_level(e, Level::Channel, Point { channel, flat, place: None })
    }

    /// Computes everything at a point.
    pub fn at_point(&mut self, e: &mut Emitter<'_, '_>, point: Point) -> Result<(), String> {
        let [.., points] = &mut self.memo;
        points.clear();
        self.evaluate_level(e, Level::Point, point)
    }

    /// The lanes of a value that was computed.
    pub fn lanes(&self, value: GraphValue) -> Result<Value, String> {
        let found = self.memo.iter().rev().find_map(|m| m.get(&value).copied());
        found.ok_or_else(|| "a value was not computed".to_owned())
    }

    fn evaluate(&mut self, e: &mut Emitter<'_, '_>, value: GraphValue, point: Point) -> Result<Value, String> {
        let node = self.frame.node(value.node)?;
        let level = self.level(value)?;
        for slot in [Slot::own(value), Slot { value, kind: Kind::Raw }] {
            if let Some(&base) = self.bases.get(&slot) {
                let v = self.read(e, slot, base, level, point)?;
                let biased = slot.kind == Kind::Raw;
                let bias = self.frame.graph.operands(node.id).get(2).copied().filter(|_| biased);
                return match bias {
                    Some(bias) => {
                        let bias = self.lanes(bias)?;
                        Ok(e.b.ins().fadd(v, bias))
                    }
                    None => Ok(v),
                };
            }
        }
        if let Some(tensor) = &node.tensor {
            let data = tensor.as_f32().ok_or("a constant of a training step must be f32")?;
            if let [one] = data {
                return Ok(e.splat_f32(*one));
            }
            let base = e.data("constant", pack::per_channel(data, data.len()));
            let at = e.at(base, point.channel, 4);
            return Ok(e.load(F32X4, at, 0));
        }
        let operands = self.frame.graph.operands(node.id);
        let inputs = operands.iter().map(|&v| self.lanes(v)).collect::<Result<Vec<_>, _>>()?;
        self.operator(e, value, node, &inputs, point)
    }

    /// Reads lanes of a stored value.
    fn read(
        &self,
        e: &mut Emitter<'_, '_>,
        slot: Slot,
        base: Value,
        level: Level,
        point: Point,
    ) -> Result<Value, String> {
        let ty = self.frame.graph.value_type(slot.value).ok_or("a value has no type")?;
        let lanes = if ty.elem == Elem::F32 { F32X4 } else { I32X4 };
        if level == Level::Task {
            let one = e.load(lanes.lane_type(), base, 0);
            return Ok(e.b.ins().splat(lanes, one));
        }
        match &self.frame.buffer(slot)?.form {
            Form::Floats(_) => {
                let at = e.at(base, point.channel, 4);
                Ok(e.load(lanes, at, 0))
            }
            Form::Words(_) => {
                let at = e.at(base, point.channel, 2);
                Ok(words(e, at))
            }
            Form::Maps(maps) => {
                let at = e.at(base, point.flat, maps.pixel());
                let at = e.at(at, point.channel, 4);
                Ok(e.load(lanes, at, 0))
            }
            Form::Levels(levels) => {
                if levels.groups > 1 && levels.slots() != levels.channels {
                    return Err("codes of groups of odd numbers of channels are not read in lanes".to_owned());
                }
                let at = pixel(e, base, point, levels);
                let at = e.at(at, point.channel, levels.storage.size());
                match levels.storage {
                    Storage::Words => Ok(words(e, at)),
                    Storage::Bytes { bias } => Ok(biased_bytes(e, at, bias)),
                }
            }
            Form::Image(4) => {
                let (Domain::Image(c, h, w), true) = (self.domain, ty.elem == Elem::F32) else {
                    return Err("the labels are not read in lanes".to_owned());
                };
                let zero = e.splat_i32(0);
                let mut v = e.cast(F32X4, zero);
                for lane in 0..c.min(4) {
                    let (channel, last) = (e.add(point.channel, lane), e.int(c - 1));
                    let channel = e.min(channel, last);
                    let plane = e.at(base, channel, h * w * 4);
                    let at = e.at(plane, point.flat, 4);
                    let one = e.load(types::F32, at, 0);
                    v = e.b.ins().insertlane(v, one, lane as u8);
                }
                Ok(v)
            }
            _ => Err("is not read in lanes".to_owned()),
        }
    }

    fn operator(
        &self,
        e: &mut Emitter<'_, '_>,
        value: GraphValue,
        node: &Node,
        inputs: &[Value],
        point: Point,
    ) -> Result<Value, String> {
        let attrs = &node.attrs;
        let input = |i: usize| inputs.get(i).copied().ok_or_else(|| format!("operand {i} is missing"));
        match node.op.name {
            "literal" => return Ok(e.splat_f32(attrs.float("value", 0.0))),
            "hyper" => return hyper(e, self.frame, attrs.word("name", "")),
            "per_element" => {
                let m = elements(e, self.frame, attrs.int("area", 1), types::F32);
                let m = e.b.ins().splat(F32X4, m);
                return Ok(e.b.ins().fdiv(input(0)?, m));
            }
            "unbiased" => {
                let factor = unbiased(e, self.frame, attrs.int("area", 1));
                return Ok(e.b.ins().fmul(input(0)?, factor));
            }
            "decode" => {
                let scale = self.scales.get(&value).copied().ok_or("a scale is missing")?;
                return Ok(decode(e, input(0)?, scale));
            }
            "encode_gradient" => {
                let bits = self.noise(e, value, point)?;
                let nu = noise::uniform(e, bits);
                return Ok(encode_gradient(e, attrs.int("bits", 8), [input(0)?, input(1)?], nu));
            }
            "dropout_mask" => {
                let bits = self.noise(e, value, point)?;
                let rate = attrs.float("rate", 0.5);
                let mask = noise::keeps(e, bits, rate);
                let zero = e.splat_i32(0);
                let codes = node.types.first().and_then(|t| t.codes()).is_some();
                let kept = if codes {
                    input(0)?
                } else {
                    let factor = e.splat_f32(1.0 / (1.0 - rate));
                    e.b.ins().fmul(input(0)?, factor)
                };
                let zero = e.cast(e.b.func.dfg.value_type(kept), zero);
                return Ok(e.select(mask, kept, zero));
            }
            "encode_weights" => {
                return encode_weights(e, node.types.first().and_then(|t| t.codes()).ok_or("encodes codes")?, inputs);
            }
            _ => {}
        }
        super::lanes::apply(e, node.op.name, attrs, inputs)
            .or_else(|| lanes::apply(e, node.op.name, attrs, inputs))
            .ok_or_else(|| {
                format!("{} has no element-wise kernel in training; train with `--engine interp`", node.op.name)
            })
    }

    fn noise(&self, e: &mut Emitter<'_, '_>, value: GraphValue, point: Point) -> Result<Value, String> {
        let key = self.keys.get(&value).copied().ok_or("a key is missing")?;
        let Domain::Image(_, h, w) = self.domain else { return Err("noise is of samples".to_owned()) };
        let first = e.mul(point.channel, h * w);
        let first = e.b.ins().iadd(first, point.flat);
        let first = e.b.ins().ireduce(types::I32, first);
        let first = e.b.ins().splat(I32X4, first);
        let places: Vec<u8> = (0..4u32).flat_map(|i| (i * (h * w) as u32).to_le_bytes()).collect();
        let places = e.data("places", places);
        let places = e.read(I32X4, places, 0);
        let element = e.b.ins().iadd(first, places);
        Ok(noise::bits(e, key, element))
    }
}

/// The address of the levels of a position.
pub fn pixel(
    e: &mut Emitter<'_, '_>,
    base: Value,
    point: Point,
    levels: &crate::lower::train::layouts::Levels,
) -> Value {
    let [h, w] = levels.image;
    let at = e.add(base, levels.origin());
    if h * w == 1 {
        return at;
    }
    if levels.row() == w * levels.pixel() {
        return e.at(at, point.flat, levels.pixel());
    }
    let width = e.int(w);
    let (y, x) = point.place.unwrap_or_else(|| (e.b.ins().udiv(point.flat, width), e.b.ins().urem(point.flat, width)));
    let row = e.at(at, y, levels.row());
    e.at(row, x, levels.pixel())
}

/// Four 16-bit levels.
fn words(e: &mut Emitter<'_, '_>, at: Value) -> Value {
    e.b.ins().sload16x4(MemFlagsData::new().with_notrap(), at, 0)
}

/// Four levels of bytes with a bias.
fn biased_bytes(e: &mut Emitter<'_, '_>, at: Value, bias: u8) -> Value {
    let four = e.load(types::I32, at, 0);
    let four = e.b.ins().scalar_to_vector(I32X4, four);
    let four = e.cast(types::I8X16, four);
    let four = e.b.ins().uwiden_low(four);
    let four = e.b.ins().uwiden_low(four);
    let bias = e.splat_i32(bias.into());
    e.b.ins().isub(four, bias)
}

/// A number of the call as f32 in all lanes.
fn hyper(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, name: &str) -> Result<Value, String> {
    let offset =
        at::HYPER.iter().find(|(n, _)| *n == name).ok_or_else(|| format!("`{name}` is no number of the call"))?;
    let v = e.read(types::F64, frame.train, offset.1);
    let v = e.b.ins().fdemote(types::F32, v);
    Ok(e.b.ins().splat(F32X4, v))
}

/// Batch · area as a float.
pub fn elements(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, area: i64, ty: types::Type) -> Value {
    let n = e.b.ins().imul_imm_s(frame.batch, area);
    e.b.ins().fcvt_from_sint(ty, n)
}

/// f32(M/(M − 1)) in all lanes, 1 where M is 1.
fn unbiased(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, area: i64) -> Value {
    let m = elements(e, frame, area, types::F64);
    let one = e.b.ins().f64const(1.0);
    let less = e.b.ins().fsub(m, one);
    let q = e.b.ins().fdiv(m, less);
    let single = e.b.ins().fcmp(FloatCC::Equal, m, one);
    let q = e.b.ins().select(single, one, q);
    let q = e.b.ins().fdemote(types::F32, q);
    e.b.ins().splat(F32X4, q)
}

/// The scale of `elem` times up to two factors, given in lanes, as f64: ((f1·f2)·num)/den.
pub fn decoding_scale(e: &mut Emitter<'_, '_>, elem: &Elem, factors: &[Value]) -> Result<Value, String> {
    let scales = match elem {
        Elem::Codes(c) => &c.scale,
        Elem::Acc(a) => &a.scale,
        Elem::F32 => return Err("decodes codes or accumulators".to_owned()),
    };
    let &[scale] = &**scales else { return Err("has a scale a channel, which training does not have".to_owned()) };
    if factors.is_empty() {
        return Ok(e.b.ins().f64const(scale.to_f64()));
    }
    Ok(scaled(e, scale, factors))
}

/// (product of the factors · num)/den in f64.
pub fn scaled(e: &mut Emitter<'_, '_>, scale: Scale, factors: &[Value]) -> Value {
    let mut product = None;
    for &f in factors {
        let f = if e.b.func.dfg.value_type(f) == F32X4 { e.b.ins().extractlane(f, 0) } else { f };
        let f = e.b.ins().fpromote(types::F64, f);
        product = Some(product.map_or(f, |p| e.b.ins().fmul(p, f)));
    }
    let (num, den) = scale.parts();
    let (num, den) = (e.b.ins().f64const(num), e.b.ins().f64const(den));
    let product = product.unwrap_or_else(|| e.b.ins().f64const(1.0));
    let product = e.b.ins().fmul(product, num);
    e.b.ins().fdiv(product, den)
}

/// f32(f64(level)·scale), the scale in both lanes.
fn decode(e: &mut Emitter<'_, '_>, levels: Value, scale: Value) -> Value {
    let half = |e: &mut Emitter<'_, '_>, v: Value| {
        let d = e.b.ins().fcvt_from_sint(types::F64X2, v);
        let p = e.b.ins().fmul(d, scale);
        let f = e.b.ins().fvdemote(p);
        e.cast(types::I64X2, f)
    };
    // Only the low half converts in one instruction.
    let top = e.cast(types::I64X2, levels);
    let top = e.b.ins().extractlane(top, 1);
    let top = e.b.ins().splat(types::I64X2, top);
    let top = e.cast(I32X4, top);
    let (low, high) = (e.b.ins().swiden_low(levels), e.b.ins().swiden_low(top));
    let (low, high) = (half(e, low), half(e, high));
    let high = e.b.ins().extractlane(high, 0);
    let both = e.b.ins().insertlane(low, high, 1);
    e.cast(F32X4, both)
}

/// Levels 2c − n of gradients.
fn encode_gradient(e: &mut Emitter<'_, '_>, bits: i64, [dy, m]: [Value; 2], nu: Value) -> Value {
    let (n, zero, two) = (e.splat_f32(steps(bits)), e.splat_f32(0.0), e.splat_f32(2.0));
    let double = e.b.ins().fmul(m, two);
    let r = e.b.ins().fdiv(n, double);
    let none = e.b.ins().fcmp(FloatCC::Equal, m, zero);
    let r = e.select(none, zero, r);
    let half = e.splat_f32(steps(bits) / 2.0);
    let v = e.b.ins().fmul(dy, r);
    let v = e.b.ins().fadd(v, half);
    let v = e.b.ins().fadd(v, nu);
    let v = e.b.ins().nearest(v);
    let v = clip(e, v, 0.0, steps(bits));
    let v = e.b.ins().fcvt_to_sint_sat(I32X4, v);
    let v = e.b.ins().iadd(v, v);
    let n = e.splat_i32(steps(bits) as i32);
    e.b.ins().isub(v, n)
}

/// Levels of weights: ±1 of the weight's sign, or 2·rte(unit(t)·n) − n of t = tanh w.
fn encode_weights(e: &mut Emitter<'_, '_>, codes: &CodeType, inputs: &[Value]) -> Result<Value, String> {
    let n = codes.top;
    let zero = e.splat_f32(0.0);
    match *inputs {
        [w] => {
            let (one, minus) = (e.splat_i32(1), e.splat_i32(-1));
            let up = e.b.ins().fcmp(FloatCC::GreaterThanOrEqual, w, zero);
            Ok(e.select(up, one, minus))
        }
        [t, top] => {
            let (two, half, steps) = (e.splat_f32(2.0), e.splat_f32(0.5), e.splat_f32(n as f32));
            let double = e.b.ins().fmul(two, top);
            let unit = e.b.ins().fdiv(t, double);
            let unit = e.b.ins().fadd(unit, half);
            let some = e.b.ins().fcmp(FloatCC::GreaterThan, top, zero);
            let unit = e.select(some, unit, half);
            let u = e.b.ins().fmul(unit, steps);
            let u = e.b.ins().nearest(u);
            let u = e.b.ins().fcvt_to_sint_sat(I32X4, u);
            let u = e.b.ins().iadd(u, u);
            let n = e.splat_i32(n as i32);
            Ok(e.b.ins().isub(u, n))
        }
        _ => Err("takes weights, or tanh of weights and its greatest magnitude".to_owned()),
    }
}
