//! A lane program evaluated at every channel and position of an image, or every element of a parameter, with what is stored
//! or summed there. Channels outside, positions inside, so that what belongs to a channel stays in registers. Sums follow the
//! numerics contract: lane = position mod 4, then (l0 + l2) + (l1 + l3).

use super::clif::{self, Played, Point};
use super::pick;
use super::program::{Access, Lane, Level, Program};
use super::wide::{self, Leaf};
use crate::codegen::emitter::{Emitter, F32X4};
use crate::codegen::tiles::Width;
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::Variable;

/// What is done with values at each point.
#[derive(Clone, Copy, Debug)]
pub enum Sink {
    /// Stored.
    Store(Access, Lane),
    /// Stored, with a gap behind every so many channels: where it lies, channels a group, slots a group.
    Grouped(Access, Lane, [usize; 2]),
    /// The first lane is stored as a scalar at this address.
    Single(Value, Lane),
    /// The greatest of all points, none below zero.
    Greatest(Lane),
    /// One f32 a channel at this address: the sum over the positions of a, or of a·b.
    Sum(Value, Lane, Option<Lane>),
    /// One i64 a channel at this address, and so many bytes on: sums of the integers and of their squares.
    Moments(Value, usize, Lane),
}

/// A program and its sinks.
pub struct Nest {
    /// The values.
    pub program: Program,
    /// What becomes of them.
    pub sinks: Vec<Sink>,
    /// Height and width; of a parameter [1, 1].
    pub image: [usize; 2],
}

/// The accumulators of one sink, for the channels at hand.
type Accumulators = Vec<Variable>;

impl Nest {
    /// Evaluates the elements `start` … `stop` of a parameter; up to 15 beyond are written too. Gives the width of a leaf
    /// function that does it.
    ///
    /// # Errors
    /// When a value was not played.
    pub fn elements(
        &self,
        e: &mut Emitter<'_, '_>,
        played: &mut Played,
        [start, stop]: [Value; 2],
    ) -> Result<Option<Width>, String> {
        if let Some(width) = Width::of(e.level)
            && let Some(leaf) = Leaf::of(self, width, e.fma)
        {
            leaf.call(e, played, [start, stop])?;
            return Ok(Some(width));
        }
        let flat = e.int(0);
        let mut result = Ok(());
        e.range(start, stop, 4, |e, channel| {
            let point = Point { channel, flat, place: None };
            played.play(e, &self.program, Level::Channel, point);
            result = self.point(e, played, point, 4, (&[], 0), &[]);
        });
        result.map(|()| None)
    }

    /// Evaluates all `channels`; gives the results of the [`Sink::Greatest`] in order, scalars, and the greatest width of
    /// leaf functions that do it.
    ///
    /// # Errors
    /// When a value was not played.
    pub fn channels(
        &self,
        e: &mut Emitter<'_, '_>,
        played: &mut Played,
        channels: usize,
    ) -> Result<(Vec<Value>, Option<Width>), String> {
        let zero = e.splat_f32(0.0);
        let greatest = self.sinks.iter().filter(|s| matches!(s, Sink::Greatest(_)));
        let maxima: Vec<Variable> = greatest.map(|_| e.var(zero)).collect();
        let (done, width) = self.wide(e, played, channels, &maxima)?;
        self.narrow(e, played, [done, channels], &maxima)?;
        Ok((maxima.into_iter().map(|v| across(e, v)).collect(), width))
    }

    /// The channels from `done` on in four lanes.
    pub(super) fn narrow(
        &self,
        e: &mut Emitter<'_, '_>,
        played: &mut Played,
        [done, channels]: [usize; 2],
        maxima: &[Variable],
    ) -> Result<(), String> {
        let (mut result, whole) = (Ok(()), channels / 4 * 4);
        if whole > done {
            let (first, whole) = (e.int(done), e.int(whole));
            e.range(first, whole, 4, |e, channel| result = self.positions(e, played, channel, 4, maxima));
        }
        result?;
        if !channels.is_multiple_of(4) {
            let whole = e.int(whole);
            self.positions(e, played, whole, channels % 4, maxima)?;
        }
        Ok(())
    }

    /// As many channels as wide leaf functions can do, the widest first; how many, and the greatest width.
    fn wide(
        &self,
        e: &mut Emitter<'_, '_>,
        played: &Played,
        channels: usize,
        maxima: &[Variable],
    ) -> Result<(usize, Option<Width>), String> {
        let (mut done, mut greatest) = (0, None);
        for width in wide::widths(e) {
            let stop = done + (channels - done) / width.lanes() * width.lanes();
            if stop == done {
                continue;
            }
            let Some(leaf) = Leaf::of(self, width, e.fma).map(|leaf| leaf.over(stop - done)) else { continue };
            let range = [e.int(done), e.int(stop)];
            for (&maximum, lanes) in maxima.iter().zip(leaf.call(e, played, range)?) {
                lanes.into_iter().for_each(|x| keep_greatest(e, maximum, x, 4));
            }
            (done, greatest) = (stop, greatest.or(Some(width)));
        }
        Ok((done, greatest))
    }

    /// All positions of four channels, of which `valid` exist.
    fn positions(
        &self,
        e: &mut Emitter<'_, '_>,
        played: &mut Played,
        channel: Value,
        valid: usize,
        maxima: &[Variable],
    ) -> Result<(), String> {
        let [height, width] = self.image;
        let area = height * width;
        let flat = e.int(0);
        played.play(e, &self.program, Level::Channel, Point { channel, flat, place: None });
        let sums: Vec<Accumulators> = self.sinks.iter().map(|s| accumulators(e, s)).collect();
        let mut result = Ok(());
        if sums.iter().all(Vec::is_empty) {
            e.times(height, |e, y| {
                e.times(width, |e, x| {
                    let flat = e.at(x, y, width);
                    let point = Point { channel, flat, place: Some((y, x)) };
                    result = self.point(e, played, point, valid, (&sums, 0), maxima);
                });
            });
            return result;
        }
        let (zero, whole) = (e.int(0), e.int(area / 4 * 4));
        if area >= 4 {
            e.range(zero, whole, 4, |e, flat| {
                for lane in 0..4 {
                    let flat = e.add(flat, lane);
                    let point = Point { channel, flat, place: None };
                    let done = self.point(e, played, point, valid, (&sums, lane), maxima);
                    if done.is_err() {
                        result = done;
                    }
                }
            });
        }
        result?;
        for lane in 0..area % 4 {
            let flat = e.add(whole, lane);
            self.point(e, played, Point { channel, flat, place: None }, valid, (&sums, lane), maxima)?;
        }
        self.finish(e, channel, &sums);
        Ok(())
    }

    /// Evaluates a point and does with it what the sinks say.
    fn point(
        &self,
        e: &mut Emitter<'_, '_>,
        played: &mut Played,
        point: Point,
        valid: usize,
        (sums, lane): (&[Accumulators], usize),
        maxima: &[Variable],
    ) -> Result<(), String> {
        played.play(e, &self.program, Level::Point, point);
        let get = |v: Lane| played.lanes(v).ok_or("a value was not computed");
        let mut maxima = maxima.iter();
        for (i, sink) in self.sinks.iter().enumerate() {
            let sums = sums.get(i).map_or(&[][..], Vec::as_slice);
            match *sink {
                Sink::Store(at, v) => {
                    let address = clif::address(e, at, point, self.image[1]);
                    clif::store(e, at.element, get(v)?, address, valid);
                }
                Sink::Grouped(at, v, groups) => {
                    let none = Point { channel: e.int(0), ..point };
                    let address = clif::address(e, at, none, self.image[1]);
                    grouped(e, address, at, [point.channel, get(v)?], valid, groups);
                }
                Sink::Single(address, v) => {
                    let one = e.b.ins().extractlane(get(v)?, 0);
                    e.store(one, address, 0);
                }
                Sink::Greatest(v) => {
                    if let Some(&maximum) = maxima.next() {
                        keep_greatest(e, maximum, get(v)?, valid);
                    }
                }
                Sink::Sum(_, a, b) => {
                    let Some(&sum) = sums.get(lane) else { continue };
                    let (a, old) = (get(a)?, e.b.use_var(sum));
                    let new = match b {
                        None => e.b.ins().fadd(old, a),
                        Some(b) => e.mul_add(a, get(b)?, old),
                    };
                    e.b.def_var(sum, new);
                }
                Sink::Moments(_, _, v) => {
                    let a = get(v)?;
                    let (low, high) = (e.b.ins().swiden_low(a), e.b.ins().swiden_high(a));
                    let (square_low, square_high) = (e.b.ins().imul(low, low), e.b.ins().imul(high, high));
                    for (&sum, v) in sums.iter().zip([low, high, square_low, square_high]) {
                        e.accumulate(sum, v);
                    }
                }
            }
        }
        Ok(())
    }

    /// Stores the sums of the channels at hand.
    fn finish(&self, e: &mut Emitter<'_, '_>, channel: Value, sums: &[Accumulators]) {
        for (sink, sums) in self.sinks.iter().zip(sums) {
            let sums: Vec<Value> = sums.iter().map(|&v| e.b.use_var(v)).collect();
            match (sink, &*sums) {
                (Sink::Moments(base, squares, _), &[low, high, square_low, square_high]) => {
                    let at = e.at(*base, channel, 8);
                    let squares = *squares as i32;
                    for (v, offset) in [(low, 0), (high, 16), (square_low, squares), (square_high, squares + 16)] {
                        e.store(v, at, offset);
                    }
                }
                (Sink::Sum(base, ..), &[a, b, c, d]) => {
                    let sum = e.lane_tree([a, b, c, d]);
                    let at = e.at(*base, channel, 4);
                    e.store(sum, at, 0);
                }
                _ => {}
            }
        }
    }
}

/// Zeroed accumulators of a sink for four channels.
fn accumulators(e: &mut Emitter<'_, '_>, sink: &Sink) -> Accumulators {
    let zero = e.splat_i32(0);
    let zero = match sink {
        Sink::Sum(..) => e.cast(F32X4, zero),
        Sink::Moments(..) => e.cast(types::I64X2, zero),
        _ => return Vec::new(),
    };
    (0..4).map(|_| e.var(zero)).collect()
}

pub(super) fn keep_greatest(e: &mut Emitter<'_, '_>, maximum: Variable, mut x: Value, valid: usize) {
    if valid < 4 {
        let mask = e.first_lanes(valid);
        let zero = e.splat_f32(0.0);
        x = e.select(mask, x, zero);
    }
    let old = e.b.use_var(maximum);
    let new = pick(e, FloatCC::GreaterThan, x, old);
    e.b.def_var(maximum, new);
}

/// The greatest of four lanes.
pub(super) fn across(e: &mut Emitter<'_, '_>, maximum: Variable) -> Value {
    let v = e.b.use_var(maximum);
    let first = e.b.ins().extractlane(v, 0);
    (1..4u8).fold(first, |best, lane| {
        let other = e.b.ins().extractlane(v, lane);
        e.b.ins().fmax(best, other)
    })
}

/// Stores lanes whose groups start at slots of their own.
fn grouped(
    e: &mut Emitter<'_, '_>,
    position: Value,
    at: Access,
    [channel, v]: [Value; 2],
    valid: usize,
    [per_group, slots]: [usize; 2],
) {
    let size = at.element.size();
    for lane in 0..valid as u8 {
        let channel = e.add(channel, lane.into());
        let width = e.int(per_group);
        let (group, within) = (e.b.ins().udiv(channel, width), e.b.ins().urem(channel, width));
        let slot = e.at(within, group, slots);
        let at = e.at(position, slot, size);
        let one = e.b.ins().extractlane(v, lane);
        let one = if size < 4 { e.b.ins().ireduce(if size == 1 { types::I8 } else { types::I16 }, one) } else { one };
        e.store(one, at, 0);
    }
}
