//! Pools of floats and their gradients: four channels at a time, windows in row-major order.

use super::Frame;
pub use super::pool_windows::Area;
use super::pool_windows::{Lies, Place, Row, channels, covers, each, taps, window};
use super::values::{of_levels, of_maps};
use super::wide_pools;
use crate::codegen::emitter::{Emitter, F32X4, I32X4};
use crate::codegen::functions::later_if_greater;
use crate::codegen::lanes::clif::{self, Point};
use crate::codegen::lanes::program::{Access, Element};
use crate::codegen::tiles::Width;
use crate::graph::ops::Window;
use crate::graph::types::Shape;
use crate::graph::{Node, Value as GraphValue};
use crate::lower::train::{Form, Slot};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value, types};

fn shape<'g>(frame: &Frame<'g>, value: GraphValue) -> Result<&'g Shape, String> {
    frame.graph.value_type(value).map(|t| &t.shape).ok_or_else(|| "a value has no type".to_owned())
}

/// How many taps an average divides by.
fn divisor(e: &mut Emitter<'_, '_>, window: &Window, place: &Place, all: bool) -> Value {
    if all || place.window == Lies::Inside || covers(window) {
        return e.splat_f32((window.kernel[0] * window.kernel[1]) as f32);
    }
    let zero = e.int(0);
    let count = e.var(zero);
    taps(e, window, place, |e, _| {
        e.advance(count, 1);
    });
    let n = e.b.use_var(count);
    let n = e.b.ins().fcvt_from_sint(types::F32, n);
    e.b.ins().splat(F32X4, n)
}

/// Where winners lie.
///
/// # Errors
/// When they are no codes in memory.
fn winners(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, value: GraphValue) -> Result<Access, String> {
    let slot = Slot::own(value);
    let base = frame.base(e, slot)?;
    match &frame.buffer(slot)?.form {
        Form::Levels(levels) => Ok(of_levels(base, levels)),
        Form::Maps(maps) => Ok(of_maps(base, maps, Element::I32)),
        _ => Err("winners are codes".to_owned()),
    }
}

/// `average_pool` and `global_average_pool`.
///
/// # Errors
/// When the operand is no image.
pub fn average(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, node: &Node) -> Result<&'static str, String> {
    let input = frame.operand(node, 0)?;
    let window = window(node, shape(frame, input)?)?;
    let (from, to) = (Area::new(e, frame, input)?, Area::new(e, frame, GraphValue { node: node.id, port: 0 })?);
    let global = node.op.name.starts_with("global");
    let all = node.attrs.bool("count_padding", false);
    each(e, &window, None, None, |e, place| {
        let n = divisor(e, &window, &place, all);
        channels(e, &window, |e, channel| {
            let start = e.splat_f32(0.0);
            let read = |e: &mut Emitter<'_, '_>, flat: Value| {
                let at = from.at(e, flat, channel);
                e.load(F32X4, at, 0)
            };
            let sum = if global {
                e.lane_sum(window.input[0] * window.input[1], start, read)
            } else {
                let sum = e.var(start);
                taps(e, &window, &place, |e, [_, flat]| {
                    let v = read(e, flat);
                    e.accumulate_float(sum, v);
                });
                e.b.use_var(sum)
            };
            let (v, at) = (e.b.ins().fdiv(sum, n), to.at(e, place.flat, channel));
            e.store(v, at, 0);
        });
    });
    Ok("average pool")
}

/// `max_pool` and `max_pool_winner`, whichever the step writes.
///
/// # Errors
/// When the operand is no image.
pub fn max(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, node: &Node) -> Result<&'static str, String> {
    let input = frame.operand(node, 0)?;
    let window = window(node, shape(frame, input)?)?;
    let from = Area::new(e, frame, input)?;
    let mut to = [None; 2];
    for slot in &frame.step.writes {
        if frame.node(slot.value.node)?.op.name == "max_pool_winner" {
            to[1] = Some(winners(e, frame, slot.value)?);
        } else {
            let area = Area::new(e, frame, slot.value)?;
            to[0] = Some(of_maps(area.base, area.maps, Element::F32));
        }
    }
    let wide = wide_pools::forward(e, &window, &from, to)?;
    let name = match wide {
        Some(Width::Zmm) => "max pool, AVX-512",
        Some(Width::Ymm) => "max pool, AVX2",
        None => "max pool",
    };
    if wide.is_some() && covers(&window) {
        return Ok(name);
    }
    let mut done = |_: &mut Emitter<'_, '_>, _| {};
    let row: Option<Row<'_>> = if wide.is_some() { Some(&mut done) } else { None };
    each(e, &window, None, row, |e, place| {
        channels(e, &window, |e, channel| {
            let found = greatest(e, &window, &place, &from, channel, to[1].is_some());
            let point = Point { channel, flat: place.flat, place: Some(place.at.into()) };
            for (to, v) in to.into_iter().zip(found) {
                let Some(to) = to else { continue };
                let at = clif::address(e, to, point, window.output[1]);
                clif::store(e, to.element, v, at, 4);
            }
        });
    });
    Ok(name)
}

/// The greatest of a window, a later tap only if greater than −∞ and all before it, and the tap that it is, the first
/// where none is, which is told only if `winner`.
fn greatest(
    e: &mut Emitter<'_, '_>,
    window: &Window,
    place: &Place,
    x: &Area<'_>,
    channel: Value,
    winner: bool,
) -> [Value; 2] {
    let (least, none) = (e.splat_f32(f32::NEG_INFINITY), e.splat_i32(-1));
    // A tap that comes twice is no greater the second time, but may come first as one outside.
    if place.window == Lies::Inside || (place.window == Lies::Near && !winner) {
        let first = [least, e.splat_i32(0)];
        let taps = x.taps(e, window, place, channel).into_iter().enumerate();
        return taps.fold(first, |[best, at], (tap, (address, offset))| {
            let v = e.load(F32X4, address, offset);
            let (greater, tap) = (e.b.ins().fcmp(FloatCC::GreaterThan, v, best), e.splat_i32(tap as i32));
            [later_if_greater(e, best, v), e.select(greater, tap, at)]
        });
    }
    let found = [least, none].map(|v| e.var(v));
    taps(e, window, place, |e, [tap, flat]| {
        let from = x.at(e, flat, channel);
        let v = e.load(F32X4, from, 0);
        let [best, at] = found.map(|v| e.b.use_var(v));
        let greater = e.b.ins().fcmp(FloatCC::GreaterThan, v, best);
        let first = e.b.ins().icmp(IntCC::Equal, at, none);
        let take = e.b.ins().bor(greater, first);
        let tap = numbered(e, tap);
        let now = [later_if_greater(e, best, v), e.select(take, tap, at)];
        found.into_iter().zip(now).for_each(|(var, v)| e.b.def_var(var, v));
    });
    found.map(|v| e.b.use_var(v))
}

/// A tap's number in all lanes.
fn numbered(e: &mut Emitter<'_, '_>, tap: Value) -> Value {
    let tap = e.b.ins().ireduce(types::I32, tap);
    e.b.ins().splat(I32X4, tap)
}

/// `max_pool_grad(dy, winner)`. `dy` or zero is added everywhere, which changes no sum that began at zero: it is never −0.
/// Where windows are apart, what was there is zero, and is not loaded.
///
/// # Errors
/// When the operands are no images.
pub fn max_grad(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, node: &Node) -> Result<&'static str, String> {
    let own = GraphValue { node: node.id, port: 0 };
    let window = window(node, shape(frame, own)?)?;
    let (dy, winner) = (frame.operand(node, 0)?, frame.operand(node, 1)?);
    let (dy, winner, to) = (Area::new(e, frame, dy)?, winners(e, frame, winner)?, Area::new(e, frame, own)?);
    let from = [of_maps(dy.base, dy.maps, Element::F32), winner];
    // Windows side by side write each position once.
    let apart = window.dilations == [1, 1] && (0..2).all(|i| window.strides[i] >= window.kernel[i]);
    let fresh = if window.tiles() { None } else { Some(&to) };
    let mut width = Ok(None);
    let mut wide = |e: &mut Emitter<'_, '_>, y| width = wide_pools::gradient(e, &window, from, &to, y, apart);
    let row: Option<Row<'_>> = if wide_pools::fits(e, &window) { Some(&mut wide) } else { None };
    each(e, &window, fresh, row, |e, place| {
        channels(e, &window, |e, channel| {
            let point = Point { channel, flat: place.flat, place: Some(place.at.into()) };
            let [mut dy, winner] = from.map(|at| clif::load(e, at, point, window.output[1]));
            let zero = e.splat_f32(0.0);
            if place.window != Lies::Anywhere {
                // A tap that comes twice must not overwrite.
                let apart = apart && place.window == Lies::Inside;
                if apart {
                    dy = e.b.ins().fadd(zero, dy);
                }
                for (tap, (at, offset)) in to.taps(e, &window, &place, channel).into_iter().enumerate() {
                    let tap = e.splat_i32(tap as i32);
                    let here = e.b.ins().icmp(IntCC::Equal, winner, tap);
                    let mut share = e.select(here, dy, zero);
                    if !apart {
                        let old = e.load(F32X4, at, offset);
                        share = e.b.ins().fadd(old, share);
                    }
                    e.store(share, at, offset);
                }
                return;
            }
            taps(e, &window, &place, |e, [tap, flat]| {
                let (at, tap) = (to.at(e, flat, channel), numbered(e, tap));
                let here = e.b.ins().icmp(IntCC::Equal, winner, tap);
                let old = if apart { zero } else { e.load(F32X4, at, 0) };
                let sum = e.b.ins().fadd(old, dy);
                let new = e.select(here, sum, old);
                e.store(new, at, 0);
            });
        });
    });
    Ok(match width? {
        Some(Width::Zmm) => "max pool gradient, AVX-512",
        Some(Width::Ymm) => "max pool gradient, AVX2",
        None => "max pool gradient",
    })
}

/// `average_pool_grad(dy)` and `global_average_pool_grad(dy)`: the same share to every tap.
///
/// # Errors
/// When the operand is no image.
pub fn average_grad(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, node: &Node) -> Result<&'static str, String> {
    let own = GraphValue { node: node.id, port: 0 };
    let window = window(node, shape(frame, own)?)?;
    let dy = frame.operand(node, 0)?;
    let (dy, to) = (Area::new(e, frame, dy)?, Area::new(e, frame, own)?);
    let all = node.attrs.bool("count_padding", false);
    each(e, &window, Some(&to), None, |e, place| {
        let n = divisor(e, &window, &place, all);
        channels(e, &window, |e, channel| {
            let from = dy.at(e, place.flat, channel);
            let v = e.load(F32X4, from, 0);
            let share = e.b.ins().fdiv(v, n);
            taps(e, &window, &place, |e, [_, flat]| {
                let at = to.at(e, flat, channel);
                if node.op.name.starts_with("global") {
                    return e.store(share, at, 0);
                }
                let old = e.load(F32X4, at, 0);
                let new = e.b.ins().fadd(old, share);
                e.store(new, at, 0);
            });
        });
    });
    Ok("average pool gradient")
}
