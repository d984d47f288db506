//! Element-wise values of a training graph as a lane program: neighbouring channels of a position, or neighbouring elements
//! of a parameter. A value is read where it is stored, else computed from its operands. Codes are levels here.

use super::{Frame, noise, operators, scalars};
use crate::codegen::emitter::Emitter;
use crate::codegen::lanes::clif::{Played, Point};
use crate::codegen::lanes::operators as common;
use crate::codegen::lanes::program::{Access, Element, Lane, Level, Op, Program, Type};
use crate::graph::types::{Elem, ValueType};
use crate::graph::{Node, Value as GraphValue};
use crate::lower::pack;
use crate::lower::train::layouts::{Levels, Maps, Storage};
use crate::lower::train::{Domain, Form, Slot, domain, is_vector};
use cranelift_codegen::ir::{Value, types};
use std::collections::{BTreeMap, BTreeSet};

/// The lanes of a step and what they are computed from.
pub struct Values<'a, 'g> {
    frame: &'a Frame<'g>,
    domain: Domain,
    /// What lies in memory; everything else is computed.
    reads: &'a BTreeSet<Slot>,
    /// Slots that values are read from.
    sources: BTreeSet<Slot>,
    addresses: BTreeMap<Slot, Value>,
    memo: BTreeMap<GraphValue, Lane>,
    /// Every value that the step evaluates, operands first.
    needed: Vec<GraphValue>,
    /// The program so far.
    pub program: Program,
    /// What belongs to the task, computed.
    pub played: Played,
}

impl<'a, 'g> Values<'a, 'g> {
    /// Records the evaluation of `targets`; everything that does not change in the task is computed here.
    ///
    /// # Errors
    /// What has no lanes.
    pub fn new(
        e: &mut Emitter<'_, '_>,
        frame: &'a Frame<'g>,
        domain: Domain,
        reads: &'a BTreeSet<Slot>,
        targets: &[(GraphValue, bool)],
    ) -> Result<Self, String> {
        let width = if let Domain::Image(_, _, w) = domain { w } else { 1 };
        let mut v = Values {
            frame,
            domain,
            reads,
            sources: BTreeSet::new(),
            addresses: BTreeMap::new(),
            memo: BTreeMap::new(),
            needed: Vec::new(),
            program: Program::default(),
            played: Played::of_width(width),
        };
        for &(target, top) in targets {
            v.need(target, top)?;
        }
        // Scales are computed from what belongs to the task.
        for of_task in [true, false] {
            for value in v.needed.clone() {
                if (v.level(value)? == Level::Task) == of_task {
                    let lane = v.record(e, value)?;
                    v.memo.insert(value, lane);
                }
            }
            let none = e.int(0);
            v.played.play(e, &v.program, Level::Task, Point { channel: none, flat: none, place: None });
        }
        Ok(v)
    }

    /// Lists `value` behind its operands, and what is read.
    fn need(&mut self, value: GraphValue, target: bool) -> Result<(), String> {
        if self.needed.contains(&value) {
            return Ok(());
        }
        let slot = Some(Slot::own(value)).filter(|slot| self.reads.contains(slot) && !target);
        self.sources.extend(slot);
        if slot.is_none() {
            for operand in self.frame.graph.operands(value.node) {
                self.need(operand, false)?;
            }
        }
        self.needed.push(value);
        Ok(())
    }

    /// The address of a slot.
    ///
    /// # Errors
    /// When it is not in memory.
    pub fn address(&mut self, e: &mut Emitter<'_, '_>, slot: Slot) -> Result<Value, String> {
        if let Some(&known) = self.addresses.get(&slot) {
            return Ok(known);
        }
        let base = self.frame.base(e, slot)?;
        self.addresses.insert(slot, base);
        Ok(base)
    }

    fn level(&self, value: GraphValue) -> Result<Level, String> {
        let ty = self.frame.graph.value_type(value).ok_or("a value has no type")?;
        let own = domain(ty).ok_or("a value has no points")?;
        let literal = self.frame.node(value.node)?.op.name == "literal";
        Ok(match (own, self.domain) {
            (Domain::Flat(1), _) => Level::Task,
            _ if literal || is_vector(ty) && self.frame.over_samples() => Level::Task,
            (a, b) if a == b => Level::Point,
            (Domain::Image(1, 1, 1), Domain::Image(..)) => Level::Task,
            (Domain::Flat(n) | Domain::Image(n, 1, 1), Domain::Image(c, ..)) if n == c => Level::Channel,
            _ => {
                let name = self.frame.node(value.node).map_or("", |n| &n.name);
                return Err(format!("{name} broadcasts in a way that training has no kernel for: {ty}"));
            }
        })
    }

    /// The lanes of a value.
    ///
    /// # Errors
    /// When it was not recorded.
    pub fn lanes(&self, value: GraphValue) -> Result<Lane, String> {
        self.memo.get(&value).copied().ok_or_else(|| "a value was not computed".to_owned())
    }

    fn record(&mut self, e: &mut Emitter<'_, '_>, value: GraphValue) -> Result<Lane, String> {
        let node = self.frame.node(value.node)?;
        let operands = self.frame.graph.operands(node.id);
        if self.sources.contains(&Slot::own(value)) {
            return self.read(e, Slot::own(value));
        }
        if let Some(tensor) = &node.tensor {
            let data = tensor.as_f32().ok_or("a constant of a training step must be f32")?;
            if let [one] = data {
                return Ok(self.program.float(*one));
            }
            let base = e.data("constant", pack::per_channel(data, data.len().next_multiple_of(16)));
            let level = self.level(value)?;
            return Ok(self.program.load(Access::channels(base, Element::F32), level));
        }
        let inputs = operands.iter().map(|&v| self.lanes(v)).collect::<Result<Vec<_>, _>>()?;
        self.operator(e, node, &inputs)
    }

    /// Reads lanes of a stored value.
    fn read(&mut self, e: &mut Emitter<'_, '_>, slot: Slot) -> Result<Lane, String> {
        let ty = self.frame.graph.value_type(slot.value).ok_or("a value has no type")?;
        let (base, level) = (self.address(e, slot)?, self.level(slot.value)?);
        let element = if ty.elem == Elem::F32 { Element::F32 } else { Element::I32 };
        if level == Level::Task {
            return Ok(self.program.load(Access::channels(base, element), level));
        }
        let p = &mut self.program;
        match &self.frame.buffer(slot)?.form {
            Form::Floats(_) => Ok(p.load(Access::channels(base, element), level)),
            Form::Words(_) => Ok(p.load(Access::channels(base, Element::I16), level)),
            Form::Maps(_) if level == Level::Channel => Ok(p.load(Access::channels(base, element), level)),
            Form::Maps(maps) => {
                let element = if maps.element == 2 { Element::I16 } else { element };
                Ok(p.load(of_maps(base, maps, element), level))
            }
            Form::Levels(levels) => {
                if levels.groups > 1 && levels.slots() != levels.channels {
                    return Err("codes of groups of odd numbers of channels are not read in lanes".to_owned());
                }
                let v = p.load(of_levels(base, levels), level);
                Ok(match levels.storage.bias() {
                    0 => v,
                    bias => {
                        let bias = p.integer(bias.into());
                        p.isub(v, bias)
                    }
                })
            }
            Form::Image(4) => match (self.domain, element) {
                (Domain::Image(c, h, w), Element::F32) => {
                    Ok(p.push(Op::Planar(base, c, h * w * 4), Type::F32, Level::Point))
                }
                _ => Err("the labels are not read in lanes".to_owned()),
            },
            _ => Err("is not read in lanes".to_owned()),
        }
    }

    /// A scalar of the function in all lanes.
    fn scalar(&mut self, e: &Emitter<'_, '_>, v: Value) -> Lane {
        let ty = if e.b.func.dfg.value_type(v) == types::F32 { Type::F32 } else { Type::I32 };
        self.program.push(Op::Scalar(v), ty, Level::Task)
    }

    fn operator(&mut self, e: &mut Emitter<'_, '_>, node: &Node, inputs: &[Lane]) -> Result<Lane, String> {
        let attrs = &node.attrs;
        let input = |i: usize| inputs.get(i).copied().ok_or_else(|| format!("operand {i} is missing"));
        match node.op.name {
            "literal" => return Ok(self.program.float(attrs.float("value", 0.0))),
            "hyper" => {
                let v = scalars::hyper(e, self.frame, attrs.word("name", ""))?;
                return Ok(self.scalar(e, v));
            }
            "per_element" => {
                let m = scalars::elements(e, self.frame, attrs.int("area", 1), types::F32);
                let m = self.scalar(e, m);
                return Ok(self.program.fdiv(input(0)?, m));
            }
            "unbiased" => {
                let factor = scalars::unbiased(e, self.frame, attrs.int("area", 1));
                let factor = self.scalar(e, factor);
                return Ok(self.program.fmul(input(0)?, factor));
            }
            "decode" => {
                let scale = self.decoding_scale(e, node, inputs)?;
                return Ok(self.program.decode(input(0)?, scale));
            }
            "encode_gradient" => {
                let bits = self.noise(e, node)?;
                let p = &mut self.program;
                let nu = noise::uniform(p, bits);
                return Ok(operators::encode_gradient(p, attrs.int("bits", 8), [input(0)?, input(1)?], nu));
            }
            "dropout_mask" => {
                let bits = self.noise(e, node)?;
                let codes = node.types.first().is_some_and(|t: &ValueType| t.codes().is_some());
                return Ok(operators::dropout(&mut self.program, input(0)?, bits, attrs.float("rate", 0.5), codes));
            }
            "encode_weights" => {
                let codes = node.types.first().and_then(|t| t.codes()).ok_or("encodes codes")?;
                return operators::encode_weights(&mut self.program, codes, inputs)
                    .ok_or_else(|| "takes weights, or tanh of weights and its greatest magnitude".to_owned());
            }
            _ => {}
        }
        operators::apply(&mut self.program, node.op.name, attrs, inputs)
            .or_else(|| common::apply(&mut self.program, node.op.name, attrs, inputs))
            .ok_or_else(|| {
                format!("{} has no element-wise kernel in training; train with `--engine interp`", node.op.name)
            })
    }

    /// The f64 scale of a `decode`, whose factors belong to the task.
    fn decoding_scale(&self, e: &mut Emitter<'_, '_>, node: &Node, inputs: &[Lane]) -> Result<Value, String> {
        let operand = self.frame.operand(node, 0)?;
        let ty = self.frame.graph.value_type(operand).ok_or("nothing to decode")?;
        let of_task = |v: &Lane| {
            let level = self.program.node(*v).level;
            let lanes = if level <= Level::Task { self.played.lanes(*v) } else { None };
            lanes.ok_or_else(|| "a factor is neither a scalar nor one a sample".to_owned())
        };
        let factors = inputs.iter().skip(1).map(of_task).collect::<Result<Vec<_>, _>>()?;
        scalars::decoding_scale(e, &ty.elem, &factors)
    }

    fn noise(&mut self, e: &mut Emitter<'_, '_>, node: &Node) -> Result<Lane, String> {
        let Domain::Image(_, h, w) = self.domain else { return Err("noise is of samples".to_owned()) };
        let noise::Key(low, high) = noise::key(e, self.frame, node.attrs.int("place", 0));
        let key = [self.scalar(e, low), self.scalar(e, high)];
        let p = &mut self.program;
        let channel = p.push(Op::Channel, Type::I32, Level::Channel);
        let area = p.integer((h * w) as i32);
        let first = p.imul(channel, area);
        let flat = p.push(Op::Flat, Type::I32, Level::Point);
        let element = p.iadd(first, flat);
        Ok(noise::bits(p, key, element))
    }
}

/// Elements of maps.
pub fn of_maps(base: Value, maps: &Maps, element: Element) -> Access {
    Access { base, element, origin: 0, row: maps.image[1] * maps.pixel(), column: maps.pixel() }
}

/// Levels, as they lie.
pub fn of_levels(base: Value, levels: &Levels) -> Access {
    let element = if levels.storage == Storage::Words { Element::I16 } else { Element::U8 };
    let (row, column) = if levels.image == [1, 1] { (0, 0) } else { (levels.row(), levels.pixel()) };
    Access { base, element, origin: levels.origin(), row, column }
}
