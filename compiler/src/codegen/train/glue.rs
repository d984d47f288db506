//! The steps of a product around its kernel: addresses of what it reads and writes, and the split among tasks.

use super::Frame;
use super::late;
use super::scalars::scaled;
use crate::codegen::emitter::Emitter;
use crate::codegen::products::{GradientLayout, InputLayout, PatchOperands, Samples, WeightGrad, relayout, share};
use crate::graph::{Node, Value as GraphValue};
use crate::lower::train::layouts::Maps;
use crate::lower::train::{self, Form, Kind, Part, Product, ProductPlan, Slot, Tasks};
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// Emits one step of a product.
///
/// # Errors
/// When the operands do not fit the kernel.
pub fn emit(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, product: &Product) -> Result<&'static str, String> {
    let node = frame.node(product.node)?;
    let main = *product.from.first().ok_or("a product reads nothing")?;
    match product.part {
        Part::Pack => pack(e, frame, node, &product.from, product.to),
        Part::Planes | Part::Strips if matches!(product.to.kind, Kind::Operand(_)) => {
            operand(e, frame, node, product, main)
        }
        Part::Planes => planes(e, frame, main, product.to),
        Part::Strips => {
            let (Form::Levels(from), Form::Strips(to)) = (&frame.buffer(main)?.form, &frame.buffer(product.to)?.form)
            else {
                return Err("strips are made of levels".to_owned());
            };
            if !from.serves(to.groups) {
                return Err("is read by products of different groups".to_owned());
            }
            let (src, dst) = (frame.base(e, main)?, frame.base(e, product.to)?);
            relayout::emit_strips_from_levels(e, from, src, to, dst);
            Ok("to strips")
        }
        Part::Scales => scales(e, frame, node, main, product.to),
        Part::Run => run(e, frame, node, product),
        Part::Dense => {
            let (src, dst) = (frame.all(e, main)?, frame.base(e, product.to)?);
            match train::plan(frame.graph, node)? {
                ProductPlan::WeightGrad(plan, _) if plan.writes_dense(e.level, e.fma) => return Ok("nothing to do"),
                ProductPlan::WeightGrad(plan, _) => {
                    plan.emit_dense(e, frame.task, parts(frame), src.base, dst).map_err(|e| e.to_string())?;
                }
                ProductPlan::PatchGrad(plan, _) => {
                    plan.emit_dense(e, frame.task, parts(frame), frame.batch, src, dst);
                }
                _ => return Err("is no weight gradient".to_owned()),
            }
            Ok("to the weights' order")
        }
    }
}

fn parts(frame: &Frame<'_>) -> usize {
    if let Tasks::Fixed(n) = frame.step.tasks { n } else { 1 }
}

fn pack(
    e: &mut Emitter<'_, '_>,
    frame: &Frame<'_>,
    node: &Node,
    from: &[Slot],
    to: Slot,
) -> Result<&'static str, String> {
    let from = from.iter().map(|&s| frame.base(e, s)).collect::<Result<Vec<_>, _>>()?;
    let (&src, dst) = (from.first().ok_or("packs nothing")?, frame.base(e, to)?);
    let bias = from.get(1).copied();
    let packed = match train::plan(frame.graph, node)? {
        ProductPlan::Forward(plan, _) => plan.pack(e, frame.task, parts(frame), [src, dst], bias),
        ProductPlan::InputGrad(plan, _) => plan.packing().emit(e, frame.task, parts(frame), src, bias, dst),
        _ => return Err("has no weights to pack".to_owned()),
    };
    packed.map(|()| "pack weights").map_err(|e| e.to_string())
}

fn planes(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, from: Slot, to: Slot) -> Result<&'static str, String> {
    let Form::Planes(planes) = &frame.buffer(to)?.form else { return Err("are no planes".to_owned()) };
    let (src, dst) = (frame.base(e, from)?, frame.base(e, to)?);
    match &frame.buffer(from)?.form {
        Form::Levels(levels) => relayout::emit_planes_from_levels(e, levels, src, planes, dst),
        Form::Maps(maps) => relayout::emit_planes_from_maps(e, maps, src, planes, dst),
        Form::Image(element) => relayout::emit_planes_from_dense(e, *element == 1, src, planes, dst),
        _ => return Err("planes are made of levels, maps or an input".to_owned()),
    }
    Ok("to planes")
}

/// An operand of a weight gradient as its kernel at this level wants it.
fn operand(
    e: &mut Emitter<'_, '_>,
    frame: &Frame<'_>,
    node: &Node,
    product: &Product,
    from: Slot,
) -> Result<&'static str, String> {
    let ProductPlan::WeightGrad(plan, _) = train::plan(frame.graph, node)? else {
        return Err("is no weight gradient".to_owned());
    };
    let Form::Levels(levels) = &frame.buffer(from)?.form else { return Err("is made of levels".to_owned()) };
    let bases = [frame.base(e, from)?, frame.base(e, product.to)?];
    if product.part == Part::Planes {
        return plan.emit_input(e, levels, bases).map_err(|e| e.to_string());
    }
    // The groups of a gradient that another product reads may lie apart.
    if !levels.serves(plan.groups()) {
        return Err("is read by products of different groups".to_owned());
    }
    plan.emit_gradient(e, levels, bases).map_err(|e| e.to_string())
}

/// c_i = f32(m_i · scale of both codes).
fn scales(
    e: &mut Emitter<'_, '_>,
    frame: &Frame<'_>,
    node: &Node,
    from: Slot,
    to: Slot,
) -> Result<&'static str, String> {
    let mut scale = crate::graph::scale::Scale::ONE;
    for i in 0..2 {
        let operand = frame.operand(node, i)?;
        let codes = frame.graph.value_type(operand).and_then(|t| t.codes()).ok_or("multiplies codes")?;
        let &[one] = &*codes.scale else { return Err("codes have a scale a channel".to_owned()) };
        scale = scale.times(one).ok_or("the scale's product needs over 96 bits")?;
    }
    let (src, dst) = (frame.all(e, from)?, frame.all(e, to)?);
    let zero = e.int(0);
    e.range(zero, frame.batch, 1, |e, n| {
        let from = e.at(src.base, n, 4);
        let m = e.load(types::F32, from, 0);
        let c = scaled(e, scale, &[m]);
        let c = e.b.ins().fdemote(types::F32, c);
        let to = e.at(dst.base, n, 4);
        e.store(c, to, 0);
    });
    Ok("scales")
}

/// Samples and units of this task: `several` samples with all units, or the whole batch with a share of the units. Tasks
/// beyond the last sample have none.
fn split(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, units: usize, several: usize) -> ([Value; 2], [Value; 2]) {
    let zero = e.int(0);
    match frame.step.tasks {
        Tasks::Samples => {
            let first = e.mul(frame.task, several);
            let end = e.add(first, several);
            let samples = [first, end].map(|n| e.min(n, frame.batch));
            (samples, [zero, e.int(units)])
        }
        Tasks::Fixed(n) => ([zero, frame.batch], share(e, frame.task, n, units)),
    }
}

/// The layout that a product found in memory: at least what it asked for.
fn found(wanted: &InputLayout, form: &Form) -> Result<InputLayout, String> {
    match (wanted, form) {
        (InputLayout::Levels(w), Form::Levels(l)) if l.serves(w.groups) && l.storage == w.storage => {
            Ok(InputLayout::Levels(l.clone()))
        }
        (InputLayout::Levels(_), Form::Levels(_)) => Err("is read by products of different groups".to_owned()),
        (InputLayout::Planes(_), Form::Planes(p)) => Ok(InputLayout::Planes(p.clone())),
        _ => Err("an operand lies in another layout than the product reads".to_owned()),
    }
}

fn maps(form: &Form) -> Result<Maps, String> {
    if let Form::Maps(m) = form { Ok(m.clone()) } else { Err("a product writes maps".to_owned()) }
}

fn run(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, node: &Node, product: &Product) -> Result<&'static str, String> {
    let [a, b, ..] = *product.from else { return Err("a product has two operands".to_owned()) };
    let form = |s: Slot| frame.buffer(s).map(|b| &b.form);
    let left = frame.all(e, a)?;
    match train::plan(frame.graph, node)? {
        ProductPlan::Forward(mut plan, _) => {
            plan.input = found(&plan.input, form(a)?)?;
            plan.output = maps(form(product.to)?)?;
            let (samples, units) = split(e, frame, plan.packing().units(), plan.samples_per_task());
            let (packed, c) = (frame.all(e, b)?.base, frame.all(e, product.to)?);
            plan.emit(e, samples, units, left, packed, c).map_err(|e| e.to_string())?;
            Ok(plan.name(e.level))
        }
        ProductPlan::InputGrad(mut plan, _) => {
            plan.gradient = found(&plan.gradient, form(a)?)?;
            plan.input = maps(form(product.to)?)?;
            let (samples, units) = split(e, frame, plan.packing().units(), plan.samples_per_task());
            let (packed, c) = (frame.all(e, b)?.base, frame.all(e, product.to)?);
            plan.emit(e, samples, units, left, packed, c).map_err(|e| e.to_string())?;
            Ok(plan.name(e.level))
        }
        ProductPlan::PatchGrad(mut plan, _) => {
            if let Form::Planes(p) = form(a)? {
                plan.input = p.clone();
            }
            plan.gradient = maps(form(b)?)?;
            let mut winners = None;
            if let (Some(pool), Some(&slot)) = (&mut plan.pool, product.from.get(2)) {
                let Form::Levels(levels) = form(slot)? else { return Err("winners are bytes".to_owned()) };
                pool.winners = levels.clone();
                winners = Some(frame.base(e, slot)?);
            }
            let [input, gradient, sums] = [frame.base(e, a)?, frame.base(e, b)?, frame.base(e, product.to)?];
            let work = frame.base(e, Slot { kind: Kind::Work, ..product.to })?;
            let partial = frame.step.writes.iter().filter(|s| s.kind == Kind::Partial);
            let totals = partial.map(|&s| frame.base(e, s)).collect::<Result<Vec<_>, _>>()?;
            let operands = PatchOperands { input, gradient, winners, sums, work, totals: &totals };
            plan.emit(e, operands).map_err(|e| e.to_string())?;
            Ok("float weight gradient by patches")
        }
        ProductPlan::WeightGrad(mut plan, _) => {
            let ([left, right], scales) = weight_operands(e, frame, product, &mut plan)?;
            let (scratch, dense) = (frame.base(e, product.to)?, Slot::own(GraphValue { node: node.id, port: 0 }));
            let to = [scratch, frame.base(e, dense)?];
            let emit = |e: &mut Emitter<'_, '_>| plan.emit(e, frame.task, frame.batch, left, right, scales, to);
            let mut done = Ok(());
            match scales.filter(|_| frame.plan.is_late(node.id) && plan.writes_dense(e.level, e.fma)) {
                None => done = emit(e),
                Some(scales) => {
                    let early = late::early(e, frame, scales);
                    e.when(early, |e| done = emit(e));
                }
            }
            done.map(|()| plan.name(e.level)).map_err(|e| e.to_string())
        }
    }
}

/// Both operands of a weight gradient, and the factors of one of levels; `plan` learns how they lie.
pub(super) fn weight_operands(
    e: &mut Emitter<'_, '_>,
    frame: &Frame<'_>,
    product: &Product,
    plan: &mut WeightGrad,
) -> Result<([Samples; 2], Option<Value>), String> {
    let [a, b, ..] = *product.from else { return Err("a product has two operands".to_owned()) };
    if let Form::Planes(p) = &frame.buffer(a)?.form {
        plan.input = p.clone();
    }
    if let Form::Maps(m) = &frame.buffer(b)?.form {
        plan.gradient = GradientLayout::Maps(m.clone());
    }
    let operands = [frame.all(e, a)?, frame.all(e, b)?];
    let scales = product.from.get(2).map(|&s| frame.all(e, s)).transpose()?;
    Ok((operands, scales.map(|s| s.base)))
}
