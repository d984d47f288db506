//! The steps of a product: packing weights, bringing activations and gradients into the layout that the product's kernel
//! wants, the product itself, and what follows it.

use super::layouts::{Levels, Maps, Planes, Range, Storage, Strips};
use super::patches::patches;
use super::requirements::{
    Forward, GradientLayout, InputGrad, InputLayout, Operands, PatchGrad, WeightGrad, bytes_suffice,
};
use super::schedule::Scheduler;
use super::{Buffer, Form, Kind, Place, Slot, Tasks, Work};
use crate::graph::ops::Geometry;
use crate::graph::types::{Elem, ValueType};
use crate::graph::{Graph, Node, NodeId, Value};

/// A part of a product.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Part {
    /// Dense weights and their bias → packed.
    Pack,
    /// Levels, maps or the caller's image → planes.
    Planes,
    /// Levels → strips.
    Strips,
    /// m of each sample → c_i of each sample.
    Scales,
    /// The product.
    Run,
    /// Sums of a weight gradient → the weights' order.
    Dense,
}

/// One step of a product.
#[derive(Clone, PartialEq, Debug)]
pub struct Product {
    /// The product's node.
    pub node: NodeId,
    /// Which part of it.
    pub part: Part,
    /// What it reads, the main operand first.
    pub from: Vec<Slot>,
    /// What it writes.
    pub to: Slot,
}

/// The kernel of a product.
pub enum Plan {
    /// Outputs.
    Forward(Forward, Geometry),
    /// Gradient of the input.
    InputGrad(InputGrad, Geometry),
    /// Gradient of the weights.
    WeightGrad(WeightGrad, Geometry),
    /// Gradient of the weights, in floats, by patches.
    PatchGrad(PatchGrad, Geometry),
}

/// The kernel of a product's node, with the layouts that it wants.
///
/// # Errors
/// When the operands do not fit the kernels.
pub fn plan(graph: &Graph, node: &Node) -> Result<Plan, String> {
    let types: Vec<&ValueType> = graph.operands(node.id).iter().filter_map(|&v| graph.value_type(v)).collect();
    let (Some(&a), Some(&b), Some(own)) = (types.first(), types.get(1), node.types.first()) else {
        return Err("an operand is missing".to_owned());
    };
    let operands = |a_type: &ValueType, b_type: &ValueType| match (range(a_type), range(b_type)) {
        (Some(a), Some(b)) => {
            let in_bytes = |i: usize| {
                let value = graph.operands(node.id).get(i).copied();
                value.is_some_and(|v| storage(graph, v) != Storage::Words)
            };
            // A weight gradient reads both as they lie; the weights of the others are packed as wanted.
            let both = !node.op.name.ends_with("weight_grad") || (in_bytes(1) && bytes_suffice(a, b));
            Operands::Levels { a, b, bytes: in_bytes(0) && both }
        }
        _ => Operands::Float,
    };
    Ok(match node.op.name {
        "conv_input_grad" | "int_conv_input_grad" => {
            let geometry = Geometry::new(&node.attrs, &own.shape, &b.shape)?;
            let odd = a.codes().is_some_and(|c| c.step == 2 && c.offset % 2 != 0);
            Plan::InputGrad(InputGrad::new(&geometry, operands(a, b))?.of_odd(odd), geometry)
        }
        "conv_weight_grad" | "int_conv_weight_grad" => {
            let geometry = Geometry::new(&node.attrs, &a.shape, &own.shape)?;
            match operands(a, b) {
                Operands::Float if let Some(patches) = patches(graph, node)? => Plan::PatchGrad(patches, geometry),
                operands => Plan::WeightGrad(WeightGrad::new(&geometry, operands)?, geometry),
            }
        }
        _ => {
            let geometry = Geometry::new(&node.attrs, &a.shape, &b.shape)?;
            let bias = types.len() > 2;
            let signs = b.codes().is_some_and(|c| (c.top, c.step, c.offset) == (1, 2, -1));
            Plan::Forward(Forward::new(&geometry, operands(a, b))?.biased(bias)?.of_signs(signs), geometry)
        }
    })
}

/// Samples that a task of the product takes where its tasks are samples: task i those from i times as many on.
pub fn samples_per_task(graph: &Graph, product: &Product) -> Result<usize, String> {
    let node = graph.node(product.node).ok_or("a node is missing")?;
    Ok(match (product.part, plan(graph, node)?) {
        (Part::Run, Plan::Forward(plan, _)) => plan.samples_per_task(),
        (Part::Run, Plan::InputGrad(plan, _)) => plan.samples_per_task(),
        _ => 1,
    })
}

/// The levels of codes; `None` of anything else.
fn range(ty: &ValueType) -> Option<Range> {
    let (least, greatest) = ty.codes()?.levels();
    // Levels beyond 32 bits do not exist; a product refuses what it cannot hold.
    let bound = |v: i64| v.clamp(-i64::from(i32::MAX), i64::from(i32::MAX)) as i32;
    Some(Range { least: bound(least), greatest: bound(greatest) })
}

/// How the levels of a value lie in memory: as bytes where all products that read them as they lie can multiply bytes.
/// It follows from the graph alone, as all code of an image shares the layout.
pub fn storage(graph: &Graph, value: Value) -> Storage {
    let Some(own) = graph.value_type(value).and_then(range) else { return Storage::Words };
    let suffices = |node: &Node| {
        let operands = graph.operands(node.id);
        let weights = operands.get(1).and_then(|&w| graph.value_type(w)).and_then(range);
        let reads = matches!(node.op.name, "int_conv" | "int_conv_input_grad") && operands.first() == Some(&value);
        !reads || weights.is_some_and(|w| bytes_suffice(own, w))
    };
    let all = graph.order().into_iter().filter_map(|id| graph.node(id)).all(suffices);
    Storage::bytes(own).filter(|_| all).unwrap_or(Storage::Words)
}

impl Scheduler<'_> {
    pub(super) fn product(&mut self, node: &Node, part: Part, tasks: Tasks, from: Vec<Slot>, to: Slot) {
        let reads = from.clone();
        let product = Product { node: node.id, part, from, to };
        self.step(node.id, Work::Product(Box::new(product)), tasks, reads, vec![to]);
    }

    /// The operand in the layout that a product reads; `element` is 4 for floats.
    fn input(&mut self, node: &Node, value: Value, wanted: InputLayout) -> Result<Slot, String> {
        match wanted {
            InputLayout::Levels(levels) => self.levels(value, &levels),
            InputLayout::Planes(planes) => self.planes(node, value, planes),
        }
    }

    /// Codes as levels whose border is at least `wanted`'s.
    fn levels(&mut self, value: Value, wanted: &Levels) -> Result<Slot, String> {
        let slot = self.materialise(value)?;
        if let Some(Buffer { form: Form::Levels(have), .. }) = self.plan.buffers.get_mut(&slot) {
            // One group is what a buffer has before a product with more reads it, and what a relayout asks for.
            if have.groups == 1 || wanted.groups == 1 || have.serves(wanted.groups) {
                let groups = if have.groups == 1 { wanted.groups } else { have.groups };
                *have = Levels { groups, ..have.cover(wanted) };
                return Ok(slot);
            }
            return Err("is read by products of different groups".to_owned());
        }
        Err("codes must be computed in the step".to_owned())
    }

    pub(super) fn planes(&mut self, node: &Node, value: Value, wanted: Planes) -> Result<Slot, String> {
        let kind = Kind::Planes(wanted.element as u8, wanted.phases[0] as u8, wanted.phases[1] as u8);
        let slot = Slot { value, kind };
        if let Some(Buffer { form: Form::Planes(have), .. }) = self.plan.buffers.get_mut(&slot) {
            *have = have.cover(&wanted);
            return Ok(slot);
        }
        let from = self.materialise(value)?;
        self.slot(value, kind, Place::Sample(0), Form::Planes(wanted));
        self.product(node, Part::Planes, Tasks::Samples, vec![from], slot);
        Ok(slot)
    }

    /// Weights, and a bias if there is one, packed.
    fn packed(&mut self, node: &Node, weights: [Option<Value>; 2], bytes: usize) -> Result<Slot, String> {
        let from = weights.into_iter().flatten().map(|v| self.materialise(v)).collect::<Result<_, _>>()?;
        let own = Value { node: node.id, port: 0 };
        let slot = self.slot(own, Kind::Packed, Place::Fixed(0), Form::Bytes(bytes));
        self.product(node, Part::Pack, Tasks::Fixed(parts(bytes)), from, slot);
        Ok(slot)
    }

    /// The result's maps; a product writes at least what `wanted` says.
    fn maps(&mut self, node: &Node, wanted: &Maps) -> Slot {
        let own = Value { node: node.id, port: 0 };
        self.slot(own, Kind::Own, Place::Sample(0), Form::Maps(wanted.clone()))
    }

    pub(super) fn forward(&mut self, node: &Node) -> Result<(), String> {
        let Plan::Forward(plan, _) = plan(self.graph, node)? else { return Ok(()) };
        let (x, w) = (self.operand(node, 0)?, self.operand(node, 1)?);
        let a = self.input(node, x, plan.input.clone())?;
        let bias = self.graph.operands(node.id).get(2).copied();
        let packed = self.packed(node, [Some(w), bias], plan.packing().bytes())?;
        let to = self.maps(node, &plan.output);
        let tasks = if plan.over_batch() { Tasks::Fixed(plan.packing().units()) } else { Tasks::Samples };
        self.product(node, Part::Run, tasks, vec![a, packed], to);
        Ok(())
    }

    pub(super) fn input_grad(&mut self, node: &Node) -> Result<(), String> {
        let Plan::InputGrad(plan, _) = plan(self.graph, node)? else { return Ok(()) };
        let (g, w) = (self.operand(node, 0)?, self.operand(node, 1)?);
        let a = self.input(node, g, plan.gradient.clone())?;
        let packed = self.packed(node, [Some(w), None], plan.packing().bytes())?;
        let to = self.maps(node, &plan.input);
        let tasks = if plan.over_batch() { Tasks::Fixed(plan.packing().units()) } else { Tasks::Samples };
        self.product(node, Part::Run, tasks, vec![a, packed], to);
        Ok(())
    }

    pub(super) fn weight_grad(&mut self, node: &Node) -> Result<(), String> {
        let (x, g) = (self.operand(node, 0)?, self.operand(node, 1)?);
        let own = Value { node: node.id, port: 0 };
        let plan = match plan(self.graph, node)? {
            Plan::WeightGrad(plan, _) => plan,
            Plan::PatchGrad(plan, _) => return self.patch_grad(node, [x, g], &plan),
            _ => return Ok(()),
        };
        if plan.input.element < 4 {
            let storage = storage(self.graph, x);
            let border = if plan.own_operands().is_some() { plan.input.border } else { [0; 4] };
            let levels = Levels::new(plan.input.channels, 1, plan.input.image, border, storage)?;
            self.levels(x, &levels)?;
        }
        let own_operands = plan.own_operands();
        let a = match own_operands {
            Some([bytes, _]) => self.own_operand(node, x, 0, bytes)?,
            None => self.planes(node, x, plan.input.clone())?,
        };
        let (b, scales) = match &plan.gradient {
            GradientLayout::Strips(strips) => {
                let b = match own_operands {
                    Some([_, bytes]) => {
                        self.levels(g, &strips.levels(storage(self.graph, g))?)?;
                        self.own_operand(node, g, 1, bytes)?
                    }
                    None => self.strips(node, g, strips.clone())?,
                };
                let m = self.operand(node, 2)?;
                let m = self.materialise(m)?;
                let scales = self.slot(own, Kind::Scales, Place::Vector(0), Form::Floats(1));
                self.product(node, Part::Scales, Tasks::Fixed(1), vec![m], scales);
                (b, Some(scales))
            }
            GradientLayout::Maps(maps) => (self.gradient_maps(g, maps)?, None),
        };
        let scratch = self.slot(own, Kind::Scratch, Place::Fixed(0), Form::Bytes(plan.scratch_bytes()));
        let dense = self.dense_slot(own)?;
        let from: Vec<Slot> = [Some(a), Some(b), scales].into_iter().flatten().collect();
        // At some levels the product writes the weights' order at once, at others its sums first.
        let product = Product { node: node.id, part: Part::Run, from: from.clone(), to: scratch };
        let tasks = Tasks::Fixed(plan.tasks());
        self.step(node.id, Work::Product(Box::new(product)), tasks, from, vec![scratch, dense]);
        self.dense(node, own, scratch)
    }

    /// An operand of a weight gradient, of levels, in a layout that only its kernel at the machine's level knows.
    fn own_operand(&mut self, node: &Node, value: Value, i: u8, bytes: usize) -> Result<Slot, String> {
        let from = self.materialise(value)?;
        let own = Value { node: node.id, port: 0 };
        let slot = self.slot(own, Kind::Operand(i), Place::Sample(0), Form::Bytes(bytes));
        let part = if i == 0 { Part::Planes } else { Part::Strips };
        self.product(node, part, Tasks::Samples, vec![from], slot);
        Ok(slot)
    }

    /// A float gradient as maps whose pitch is at least `wanted`'s.
    pub(super) fn gradient_maps(&mut self, value: Value, wanted: &Maps) -> Result<Slot, String> {
        let slot = self.materialise(value)?;
        if let Some(Buffer { form: Form::Maps(have), .. }) = self.plan.buffers.get_mut(&slot) {
            have.pitch = have.pitch.max(wanted.pitch);
        }
        Ok(slot)
    }

    /// The weights' gradient in the weights' order.
    pub(super) fn dense(&mut self, node: &Node, own: Value, scratch: Slot) -> Result<(), String> {
        let (dense, len) = (self.dense_slot(own)?, self.weights(own)?);
        self.product(node, Part::Dense, Tasks::Fixed(parts(4 * len)), vec![scratch], dense);
        Ok(())
    }

    fn dense_slot(&mut self, own: Value) -> Result<Slot, String> {
        let len = self.weights(own)?;
        Ok(self.slot(own, Kind::Own, Place::Fixed(0), Form::Floats(len)))
    }

    fn weights(&self, own: Value) -> Result<usize, String> {
        self.ty(own)?.shape.sample_len().ok_or_else(|| "the weights have no shape".to_owned())
    }

    fn strips(&mut self, node: &Node, value: Value, wanted: Strips) -> Result<Slot, String> {
        let slot = Slot { value, kind: Kind::Strips(wanted.element as u8) };
        if self.plan.buffers.contains_key(&slot) {
            return Ok(slot);
        }
        let from = self.levels(value, &wanted.levels(storage(self.graph, value))?)?;
        self.slot(value, slot.kind, Place::Sample(0), Form::Strips(wanted));
        self.product(node, Part::Strips, Tasks::Samples, vec![from], slot);
        Ok(slot)
    }
}

/// Tasks for moving so many bytes.
fn parts(bytes: usize) -> usize {
    bytes.div_ceil(1 << 16).clamp(1, 64)
}

/// Whether a value's elements are i32 in memory.
pub fn integer(ty: &ValueType) -> bool {
    ty.elem != Elem::F32
}
