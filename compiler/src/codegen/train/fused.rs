//! Fused steps: element-wise values evaluated at every point, stored or summed. A phase becomes a lane program with sinks,
//! which `codegen::lanes` runs.

use super::Frame;
use super::borders::surround;
use super::values::{Values, of_levels, of_maps};
use crate::codegen::emitter::Emitter;
use crate::codegen::lanes::clif::Played;
use crate::codegen::lanes::nest::{self, Nest};
use crate::codegen::lanes::program::{Access, Element, Lane, Type};
use crate::codegen::tiles::Width;
use crate::lower::train::layouts::Levels;
use crate::lower::train::{CHUNK, Domain, Form, Phase, Sink, Slot};
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value};

/// The least gradient magnitude that is not taken for zero.
const LEAST: f32 = 1.0 / (1u128 << 100) as f32;

/// Emits a fused step.
///
/// # Errors
/// What cannot be evaluated.
pub fn emit(
    e: &mut Emitter<'_, '_>,
    frame: &Frame<'_>,
    domain: Domain,
    phases: &[Phase],
) -> Result<&'static str, String> {
    let widths = phases.iter().map(|p| phase(e, frame, domain, p)).collect::<Result<Vec<_>, _>>()?;
    // The narrowest phase tells: one lane function in four lanes can cost more than all others.
    let narrowest = widths.into_iter().min_by_key(|w| w.map_or(0, Width::lanes));
    Ok(name(narrowest.flatten()))
}

/// What profiles call a fused step.
pub fn name(width: Option<Width>) -> &'static str {
    match width {
        None => "fused",
        Some(Width::Ymm) => "fused, AVX2",
        Some(Width::Zmm) => "fused, AVX-512",
    }
}

/// Emits one phase; gives the width of its leaf function, if it has one.
fn phase(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, domain: Domain, phase: &Phase) -> Result<Option<Width>, String> {
    let channels = match domain {
        Domain::Flat(len) => {
            let (start, end) = (e.mul(frame.task, CHUNK), e.int(len));
            let stop = e.add(start, CHUNK);
            let stop = e.min(stop, end);
            return elements(e, frame, len, phase, [start, stop]);
        }
        Domain::Image(channels, ..) => channels,
    };
    let (nest, mut played, maxima) = nest(e, frame, domain, phase)?;
    for sink in &phase.sinks {
        if let Form::Levels(levels) = &frame.buffer(sink.slot())?.form {
            let base = frame.base(e, sink.slot())?;
            surround(e, levels, base);
        }
    }
    let (found, width) = nest.channels(e, &mut played, channels)?;
    found.into_iter().zip(maxima).for_each(|(v, base)| store_maximum(e, v, base));
    Ok(width)
}

/// Emits one phase over the elements `start` … `stop` of a parameter of so many; up to 15 beyond are written too.
///
/// # Errors
/// What cannot be evaluated.
pub fn elements(
    e: &mut Emitter<'_, '_>,
    frame: &Frame<'_>,
    len: usize,
    phase: &Phase,
    range: [Value; 2],
) -> Result<Option<Width>, String> {
    let (nest, mut played, _) = nest(e, frame, Domain::Flat(len), phase)?;
    nest.elements(e, &mut played, range)
}

/// The program of a phase, what of it belongs to the task, and where its maxima are stored.
fn nest(
    e: &mut Emitter<'_, '_>,
    frame: &Frame<'_>,
    domain: Domain,
    phase: &Phase,
) -> Result<(Nest, Played, Vec<Value>), String> {
    let mut targets = Vec::new();
    for sink in &phase.sinks {
        match *sink {
            Sink::Store(v, _) => targets.push((v, true)),
            Sink::SampleMax(v) => targets.push((frame.operand(frame.node(v.node)?, 0)?, false)),
            Sink::ChannelSum(_, terms) => targets.extend(terms.into_iter().flatten().map(|t| (t, false))),
            Sink::Deviations(_, x, mean) => targets.extend([(x, false), (mean, false)]),
            Sink::Moments(v) => targets.push((v, false)),
        }
    }
    let mut values = Values::new(e, frame, domain, &phase.reads, &targets)?;
    let mut maxima = Vec::new();
    let mut sinks = Vec::new();
    for sink in &phase.sinks {
        sinks.push(lane_sink(e, frame, &mut values, sink)?);
        if matches!(sink, Sink::SampleMax(_)) {
            maxima.push(values.address(e, sink.slot())?);
        }
    }
    let image = if let Domain::Image(_, h, w) = domain { [h, w] } else { [1, 1] };
    let played = std::mem::take(&mut values.played);
    Ok((Nest { program: values.program, sinks, image }, played, maxima))
}

/// What a sink takes, in lanes, and where it puts it.
fn lane_sink(
    e: &mut Emitter<'_, '_>,
    frame: &Frame<'_>,
    values: &mut Values<'_, '_>,
    sink: &Sink,
) -> Result<nest::Sink, String> {
    let slot = sink.slot();
    let base = values.address(e, slot)?;
    Ok(match *sink {
        Sink::Store(value, _) => {
            let v = values.lanes(value)?;
            store(frame, values, slot, base, v)?
        }
        Sink::SampleMax(node) => {
            let x = values.lanes(frame.operand(frame.node(node.node)?, 0)?)?;
            nest::Sink::Greatest(values.program.abs(x))
        }
        Sink::ChannelSum(_, [a, b]) => {
            let a = values.lanes(a.ok_or("nothing to sum")?)?;
            let b = b.map(|b| values.lanes(b)).transpose()?;
            nest::Sink::Sum(base, a, b)
        }
        Sink::Deviations(_, x, mean) => {
            let (x, mean) = (values.lanes(x)?, values.lanes(mean)?);
            let d = values.program.fsub(x, mean);
            nest::Sink::Sum(base, d, Some(d))
        }
        Sink::Moments(v) => {
            let Form::Longs(n) = frame.buffer(slot)?.form else { return Err("moments are integers".to_owned()) };
            nest::Sink::Moments(base, 4 * n, values.lanes(v)?)
        }
    })
}

fn store(
    frame: &Frame<'_>,
    values: &mut Values<'_, '_>,
    slot: Slot,
    base: Value,
    v: Lane,
) -> Result<nest::Sink, String> {
    let element = if values.program.ty(v) == Type::F32 { Element::F32 } else { Element::I32 };
    Ok(match &frame.buffer(slot)?.form {
        Form::Floats(1) if frame.over_samples() => nest::Sink::Single(base, v),
        Form::Floats(_) => nest::Sink::Store(Access::channels(base, element), v),
        Form::Words(_) => nest::Sink::Store(Access::channels(base, Element::I16), v),
        Form::Maps(maps) => nest::Sink::Store(of_maps(base, maps, element), v),
        Form::Levels(levels) => store_levels(values, levels, base, v),
        _ => return Err("is not stored in lanes".to_owned()),
    })
}

fn store_levels(values: &mut Values<'_, '_>, levels: &Levels, base: Value, v: Lane) -> nest::Sink {
    let v = match levels.storage.bias() {
        0 => v,
        bias => {
            let bias = values.program.integer(bias.into());
            values.program.iadd(v, bias)
        }
    };
    let (at, per_group) = (of_levels(base, levels), levels.channels / levels.groups);
    if levels.groups == 1 || per_group == levels.group() {
        return nest::Sink::Store(at, v);
    }
    nest::Sink::Grouped(at, v, [per_group, levels.group()])
}

/// A maximum below the least magnitude is zero.
fn store_maximum(e: &mut Emitter<'_, '_>, best: Value, base: Value) {
    let (least, zero) = (e.b.ins().f32const(LEAST), e.b.ins().f32const(0.0));
    let small = e.b.ins().fcmp(FloatCC::LessThan, best, least);
    let best = e.b.ins().select(small, zero, best);
    e.store(best, base, 0);
}
