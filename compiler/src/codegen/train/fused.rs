//! Fused steps: element-wise values evaluated at every point, stored or summed. Channels outside, positions inside, so that
//! what belongs to a channel stays in registers. Sums follow the numerics contract: lane = position mod 4, then
//! (l0 + l2) + (l1 + l3).

use super::Frame;
use super::values::{Point, Values, pixel};
use crate::codegen::emitter::{Emitter, F32X4, I32X4};
use crate::codegen::lanes::pick;
use crate::lower::train::layouts::Levels;
use crate::lower::train::{CHUNK, Domain, Form, Phase, Sink, Slot};
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::Variable;

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
    phases.iter().try_for_each(|p| phase(e, frame, domain, p))?;
    Ok("fused")
}

fn phase(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, domain: Domain, phase: &Phase) -> Result<(), String> {
    let (mut targets, mut bases) = (Vec::new(), Vec::new());
    for sink in &phase.sinks {
        let slot = sink.slot();
        bases.push((slot, frame.base(e, slot)?));
        match *sink {
            Sink::Store(v, _) => targets.push((v, true)),
            Sink::SampleMax(v) => targets.push((frame.operand(frame.node(v.node)?, 0)?, false)),
            Sink::ChannelSum(_, terms) => targets.extend(terms.into_iter().flatten().map(|t| (t, false))),
            Sink::Deviations(_, x, mean) => targets.extend([(x, false), (mean, false)]),
            Sink::Moments(v) => targets.push((v, false)),
        }
    }
    let values = Values::new(e, frame, domain, &phase.reads, &targets)?;
    let sinks = &phase.sinks;
    let mut fused = Fused { frame, sinks, bases, values, operands: Vec::new(), maxima: Vec::new() };
    match domain {
        Domain::Flat(len) => fused.parameter(e, len),
        Domain::Image(c, h, w) => fused.image(e, c, [h, w]),
    }
}

struct Fused<'a, 'g> {
    frame: &'a Frame<'g>,
    sinks: &'a [Sink],
    bases: Vec<(Slot, Value)>,
    values: Values<'a, 'g>,
    /// Accumulators of the sinks, for the channels at hand.
    operands: Vec<Vec<Variable>>,
    /// Of `SampleMax` sinks, for the whole sample.
    maxima: Vec<Option<Variable>>,
}

impl Fused<'_, '_> {
    fn parameter(&mut self, e: &mut Emitter<'_, '_>, len: usize) -> Result<(), String> {
        let (start, end) = (e.mul(self.frame.task, CHUNK), e.int(len));
        let stop = e.add(start, CHUNK);
        let stop = e.min(stop, end);
        let flat = e.int(0);
        let mut result = Ok(());
        e.range(start, stop, 4, |e, channel| result = self.stores(e, Point { channel, flat, place: None }, 4));
        result
    }

    fn image(&mut self, e: &mut Emitter<'_, '_>, channels: usize, area: [usize; 2]) -> Result<(), String> {
        for (slot, base) in &self.bases {
            if let Form::Levels(levels) = &self.frame.buffer(*slot)?.form
                && (levels.slots() != channels || levels.border != [0; 4])
            {
                fill(e, *base, levels.bytes(), levels.storage.bias());
            }
        }
        for sink in self.sinks {
            let zero = e.splat_f32(0.0);
            self.maxima.push(matches!(sink, Sink::SampleMax(_)).then(|| e.var(zero)));
        }
        let mut result = Ok(());
        let (zero, whole) = (e.int(0), e.int(channels / 4 * 4));
        if channels >= 4 {
            e.range(zero, whole, 4, |e, channel| result = self.channels(e, channel, area, 4));
        }
        result?;
        if !channels.is_multiple_of(4) {
            self.channels(e, whole, area, channels % 4)?;
        }
        for (i, maximum) in self.maxima.clone().into_iter().enumerate() {
            if let (Some(maximum), Some(&(_, base))) = (maximum, self.bases.get(i)) {
                store_maximum(e, maximum, base);
            }
        }
        Ok(())
    }

    /// All positions of four channels, of which `valid` exist.
    fn channels(
        &mut self,
        e: &mut Emitter<'_, '_>,
        channel: Value,
        [height, width]: [usize; 2],
        valid: usize,
    ) -> Result<(), String> {
        let area = height * width;
        self.values.at_channel(e, channel)?;
        self.operands = self.sinks.iter().map(|s| accumulators(e, s)).collect();
        let lanes = if self.operands.iter().any(|o| !o.is_empty()) { 4 } else { 1 };
        let mut result = Ok(());
        if lanes == 1 {
            e.times(height, |e, y| {
                e.times(width, |e, x| {
                    let flat = e.at(x, y, width);
                    result = self.point(e, Point { channel, flat, place: Some((y, x)) }, 0, valid);
                });
            });
            result?;
            return self.finish(e, channel);
        }
        let (zero, whole) = (e.int(0), e.int(area / lanes * lanes));
        if area >= lanes {
            e.range(zero, whole, lanes, |e, flat| {
                for lane in 0..lanes {
                    let flat = e.add(flat, lane);
                    let done = self.point(e, Point { channel, flat, place: None }, lane, valid);
                    if done.is_err() {
                        result = done;
                    }
                }
            });
        }
        result?;
        for lane in 0..area % lanes {
            let flat = e.add(whole, lane);
            self.point(e, Point { channel, flat, place: None }, lane, valid)?;
        }
        self.finish(e, channel)
    }

    fn point(&mut self, e: &mut Emitter<'_, '_>, point: Point, lane: usize, valid: usize) -> Result<(), String> {
        self.stores(e, point, valid)?;
        for (i, sink) in self.sinks.iter().enumerate() {
            let accumulators = self.operands.get(i).map(Vec::as_slice).unwrap_or(&[]);
            match *sink {
                Sink::Store(..) => {}
                Sink::SampleMax(node) => {
                    let x = self.values.lanes(self.frame.operand(self.frame.node(node.node)?, 0)?)?;
                    let Some(&Some(maximum)) = self.maxima.get(i) else { continue };
                    let mut x = e.b.ins().fabs(x);
                    if valid < 4 {
                        let mask = e.first_lanes(valid);
                        let zero = e.splat_f32(0.0);
                        x = e.select(mask, x, zero);
                    }
                    let old = e.b.use_var(maximum);
                    let new = pick(e, FloatCC::GreaterThan, x, old);
                    e.b.def_var(maximum, new);
                }
                Sink::ChannelSum(_, [a, b]) => {
                    let Some(&sum) = accumulators.get(lane) else { continue };
                    let a = self.values.lanes(a.ok_or("nothing to sum")?)?;
                    let old = e.b.use_var(sum);
                    let new = match b {
                        None => e.b.ins().fadd(old, a),
                        Some(b) => {
                            let b = self.values.lanes(b)?;
                            e.mul_add(a, b, old)
                        }
                    };
                    e.b.def_var(sum, new);
                }
                Sink::Deviations(_, x, mean) => {
                    let Some(&sum) = accumulators.get(lane) else { continue };
                    let (x, mean) = (self.values.lanes(x)?, self.values.lanes(mean)?);
                    let d = e.b.ins().fsub(x, mean);
                    let old = e.b.use_var(sum);
                    let new = e.mul_add(d, d, old);
                    e.b.def_var(sum, new);
                }
                Sink::Moments(v) => {
                    let a = self.values.lanes(v)?;
                    let (low, high) = (e.b.ins().swiden_low(a), e.b.ins().swiden_high(a));
                    let (square_low, square_high) = (e.b.ins().imul(low, low), e.b.ins().imul(high, high));
                    for (&sum, v) in accumulators.iter().zip([low, high, square_low, square_high]) {
                        e.accumulate(sum, v);
                    }
                }
            }
        }
        Ok(())
    }

    /// Evaluates the point and stores what is stored there, of `valid` channels.
    fn stores(&mut self, e: &mut Emitter<'_, '_>, point: Point, valid: usize) -> Result<(), String> {
        self.values.at_point(e, point)?;
        for (sink, (slot, base)) in self.sinks.iter().zip(&self.bases) {
            let Sink::Store(value, _) = *sink else { continue };
            let v = self.values.lanes(value)?;
            match &self.frame.buffer(*slot)?.form {
                Form::Floats(1) if self.frame.over_samples() => {
                    let one = e.b.ins().extractlane(v, 0);
                    e.store(one, *base, 0);
                }
                Form::Floats(_) => {
                    let at = e.at(*base, point.channel, 4);
                    e.store(v, at, 0);
                }
                Form::Words(_) => {
                    let at = e.at(*base, point.channel, 2);
                    store_words(e, v, at, 4);
                }
                Form::Maps(maps) => {
                    let at = e.at(*base, point.flat, maps.pixel());
                    let at = e.at(at, point.channel, 4);
                    e.store(v, at, 0);
                }
                Form::Levels(levels) => store_levels(e, levels, *base, point, v, valid),
                _ => return Err("is not stored in lanes".to_owned()),
            }
        }
        Ok(())
    }

    /// Stores the sums of the channels at hand.
    fn finish(&self, e: &mut Emitter<'_, '_>, channel: Value) -> Result<(), String> {
        for ((sink, sums), (slot, base)) in self.sinks.iter().zip(&self.operands).zip(&self.bases) {
            let sums: Vec<Value> = sums.iter().map(|&v| e.b.use_var(v)).collect();
            match (sink, &*sums) {
                (Sink::Moments(_), &[low, high, square_low, square_high]) => {
                    let Form::Longs(n) = self.frame.buffer(*slot)?.form else { continue };
                    let at = e.at(*base, channel, 8);
                    let squares = (4 * n) as i32;
                    for (v, offset) in [(low, 0), (high, 16), (square_low, squares), (square_high, squares + 16)] {
                        e.store(v, at, offset);
                    }
                }
                (_, &[a, b, c, d]) => {
                    let sum = e.lane_tree([a, b, c, d]);
                    let at = e.at(*base, channel, 4);
                    e.store(sum, at, 0);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Zeroed accumulators of a sink for four channels.
fn accumulators(e: &mut Emitter<'_, '_>, sink: &Sink) -> Vec<Variable> {
    let zero = e.splat_i32(0);
    let zero = match sink {
        Sink::Store(..) | Sink::SampleMax(_) => return Vec::new(),
        Sink::ChannelSum(..) | Sink::Deviations(..) => e.cast(F32X4, zero),
        Sink::Moments(_) => e.cast(types::I64X2, zero),
    };
    (0..4).map(|_| e.var(zero)).collect()
}

fn store_maximum(e: &mut Emitter<'_, '_>, maximum: Variable, base: Value) {
    let v = e.b.use_var(maximum);
    let mut best = e.b.ins().extractlane(v, 0);
    for lane in 1..4u8 {
        let other = e.b.ins().extractlane(v, lane);
        best = e.b.ins().fmax(best, other);
    }
    let (least, zero) = (e.b.ins().f32const(LEAST), e.b.ins().f32const(0.0));
    let small = e.b.ins().fcmp(FloatCC::LessThan, best, least);
    let best = e.b.ins().select(small, zero, best);
    e.store(best, base, 0);
}

/// Fills `bytes` (a multiple of 16) with zero.
pub(super) fn clear(e: &mut Emitter<'_, '_>, base: Value, bytes: usize) {
    fill(e, base, bytes, 0);
}

/// Fills `bytes` (a multiple of 16) with one value.
fn fill(e: &mut Emitter<'_, '_>, base: Value, bytes: usize, value: u8) {
    let all = e.splat_i32(i32::from_ne_bytes([value; 4]));
    e.times(bytes.div_ceil(16), |e, i| {
        let at = e.at(base, i, 16);
        e.store(all, at, 0);
    });
}

/// The low halves of the first `valid` lanes.
fn store_words(e: &mut Emitter<'_, '_>, v: Value, at: Value, valid: usize) {
    let narrow = e.b.ins().snarrow(v, v);
    match valid {
        4 => {
            let narrow = e.cast(types::I64X2, narrow);
            let four = e.b.ins().extractlane(narrow, 0);
            e.store(four, at, 0);
        }
        _ => {
            for lane in 0..valid as u8 {
                let one = e.b.ins().extractlane(narrow, lane);
                e.store(one, at, 2 * i32::from(lane));
            }
        }
    }
}

/// The first `valid` lanes as bytes, biased.
fn store_bytes(e: &mut Emitter<'_, '_>, v: Value, at: Value, valid: usize) {
    let narrow = e.b.ins().snarrow(v, v);
    let narrow = e.b.ins().unarrow(narrow, narrow);
    if valid == 4 {
        let narrow = e.cast(I32X4, narrow);
        let four = e.b.ins().extractlane(narrow, 0);
        return e.store(four, at, 0);
    }
    for lane in 0..valid as u8 {
        let one = e.b.ins().extractlane(narrow, lane);
        e.store(one, at, lane.into());
    }
}

fn store_levels(e: &mut Emitter<'_, '_>, levels: &Levels, base: Value, point: Point, v: Value, valid: usize) {
    let at = pixel(e, base, point, levels);
    let size = levels.storage.size();
    let v = match levels.storage.bias() {
        0 => v,
        bias => {
            let bias = e.splat_i32(bias.into());
            e.b.ins().iadd(v, bias)
        }
    };
    let per_group = levels.channels / levels.groups;
    if levels.groups == 1 || per_group == levels.group() {
        let at = e.at(at, point.channel, size);
        return if size == 1 { store_bytes(e, v, at, valid) } else { store_words(e, v, at, valid) };
    }
    // Every group starts at a slot of its own.
    for lane in 0..valid as u8 {
        let channel = e.add(point.channel, lane.into());
        let width = e.int(per_group);
        let (group, within) = (e.b.ins().udiv(channel, width), e.b.ins().urem(channel, width));
        let slot = e.at(within, group, levels.group());
        let at = e.at(at, slot, size);
        let one = e.b.ins().extractlane(v, lane);
        let one = e.b.ins().ireduce(if size == 1 { types::I8 } else { types::I16 }, one);
        e.store(one, at, 0);
    }
}
