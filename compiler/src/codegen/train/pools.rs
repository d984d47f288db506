//! Pools of floats and their gradients: four channels at a time, windows in row-major order.

use super::Frame;
pub use super::pool_windows::Area;
use super::pool_windows::{Lies, Place, Row, channels, covers, each, taps, window};
use super::wide_pools;
use crate::codegen::emitter::{Emitter, F32X4, I32X4};
use crate::codegen::functions::later_if_greater;
use crate::codegen::tiles::Width;
use crate::graph::ops::Window;
use crate::graph::types::Shape;
use crate::graph::{Node, Value as GraphValue};
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
        let one = e.int(1);
        e.accumulate(count, one);
    });
    let n = e.b.use_var(count);
    let n = e.b.ins().fcvt_from_sint(types::F32, n);
    e.b.ins().splat(F32X4, n)
}

/// `max_pool`, `average_pool` and `global_average_pool`.
///
/// # Errors
/// When the operand is no image.
pub fn forward(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, node: &Node) -> Result<&'static str, String> {
    let input = frame.operand(node, 0)?;
    let window = window(node, shape(frame, input)?)?;
    let (from, to) = (Area::new(e, frame, input)?, Area::new(e, frame, GraphValue { node: node.id, port: 0 })?);
    let global = node.op.name.starts_with("global");
    let max = node.op.name == "max_pool";
    let all = node.attrs.bool("count_padding", false);
    let wide = if max { wide_pools::forward(e, &window, [&from, &to])? } else { None };
    let name = match wide {
        Some(Width::Zmm) => "max pool, AVX-512",
        Some(Width::Ymm) => "max pool, AVX2",
        None if max => "max pool",
        None => "average pool",
    };
    if wide.is_some() && covers(&window) {
        return Ok(name);
    }
    let mut done = |_: &mut Emitter<'_, '_>, _| {};
    let row: Option<Row<'_>> = if wide.is_some() { Some(&mut done) } else { None };
    each(e, &window, None, row, |e, place| {
        let n = if max { None } else { Some(divisor(e, &window, &place, all)) };
        channels(e, &window, |e, channel| {
            let start = e.splat_f32(if max { f32::NEG_INFINITY } else { 0.0 });
            let read = |e: &mut Emitter<'_, '_>, flat: Value| {
                let at = from.at(e, flat, channel);
                e.load(F32X4, at, 0)
            };
            let mut v = if global {
                e.lane_sum(window.input[0] * window.input[1], start, read)
            } else if max && place.window != Lies::Anywhere {
                from.taps(e, &window, &place, channel).into_iter().fold(start, |old, (at, offset)| {
                    let v = e.load(F32X4, at, offset);
                    later_if_greater(e, old, v)
                })
            } else {
                let sum = e.var(start);
                taps(e, &window, &place, |e, flat| {
                    let (v, old) = (read(e, flat), e.b.use_var(sum));
                    let new = if max { later_if_greater(e, old, v) } else { e.b.ins().fadd(old, v) };
                    e.b.def_var(sum, new);
                });
                e.b.use_var(sum)
            };
            if let Some(n) = n {
                v = e.b.ins().fdiv(v, n);
            }
            let at = to.at(e, place.flat, channel);
            e.store(v, at, 0);
        });
    });
    Ok(name)
}

/// `max_pool_grad(dy, x)`: to the first maximum of each window.
///
/// # Errors
/// When the operands are no images.
pub fn max_grad(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, node: &Node) -> Result<&'static str, String> {
    let (dy, x) = (frame.operand(node, 0)?, frame.operand(node, 1)?);
    let window = window(node, shape(frame, x)?)?;
    let (dy, x) = (Area::new(e, frame, dy)?, Area::new(e, frame, x)?);
    let to = Area::new(e, frame, GraphValue { node: node.id, port: 0 })?;
    // Windows side by side write each position once.
    let apart = window.dilations == [1, 1] && (0..2).all(|i| window.strides[i] >= window.kernel[i]);
    let tiled = (0..2)
        .all(|i| window.strides[i] == window.kernel[i] && window.output[i] * window.strides[i] == window.input[i]);
    let fresh = if tiled && covers(&window) { None } else { Some(&to) };
    let mut width = Ok(None);
    let mut wide = |e: &mut Emitter<'_, '_>, y| width = wide_pools::gradient(e, &window, [&dy, &x, &to], y, apart);
    let row: Option<Row<'_>> = if wide_pools::fits(e, &window) { Some(&mut wide) } else { None };
    each(e, &window, fresh, row, |e, place| {
        channels(e, &window, |e, channel| {
            let from = dy.at(e, place.flat, channel);
            let dy = e.load(F32X4, from, 0);
            if place.window != Lies::Anywhere {
                let [x, to] = [&x, &to].map(|area| area.taps(e, &window, &place, channel));
                // A tap that comes twice must not overwrite.
                return unrolled_grad(e, dy, x, to, apart && place.window == Lies::Inside);
            }
            let first = first_greatest(e, &window, &place, &x, channel);
            taps(e, &window, &place, |e, flat| {
                let at = to.at(e, flat, channel);
                let flat = e.b.ins().ireduce(types::I32, flat);
                let flat = e.b.ins().splat(I32X4, flat);
                let here = e.b.ins().icmp(IntCC::Equal, flat, first);
                let old = if apart { e.splat_f32(0.0) } else { e.load(F32X4, at, 0) };
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

/// Where in the image the first maximum of a window lies, that is the last tap that was greater than all before it.
fn first_greatest(e: &mut Emitter<'_, '_>, window: &Window, place: &Place, x: &Area<'_>, channel: Value) -> Value {
    let (least, none) = (e.splat_f32(f32::NEG_INFINITY), e.splat_i32(-1));
    let (best, at) = (e.var(least), e.var(none));
    taps(e, window, place, |e, flat| {
        let from = x.at(e, flat, channel);
        let v = e.load(F32X4, from, 0);
        let (old, index) = (e.b.use_var(best), e.b.use_var(at));
        let greater = e.b.ins().fcmp(FloatCC::GreaterThan, v, old);
        let first = e.b.ins().icmp(IntCC::Equal, index, none);
        let take = e.b.ins().bor(greater, first);
        let flat = e.b.ins().ireduce(types::I32, flat);
        let flat = e.b.ins().splat(I32X4, flat);
        let (v, flat) = (e.select(take, v, old), e.select(take, flat, index));
        e.b.def_var(best, v);
        e.b.def_var(at, flat);
    });
    e.b.use_var(at)
}

/// The gradient of an unrolled window: to its first tap unless the greatest is greater, which it is not if that tap is NaN,
/// else to the first that equals the greatest, so that a tap that comes twice gets it once. Taps are loaded twice, as so many
/// masks would not stay in registers.
/// `dy` or zero is added everywhere, which changes no sum that began at zero: it is never −0. Where windows are `apart`, what
/// was there is zero, and is not loaded.
fn unrolled_grad(e: &mut Emitter<'_, '_>, dy: Value, x: Vec<(Value, i32)>, to: Vec<(Value, i32)>, apart: bool) {
    let mut best = None;
    for &(at, offset) in &x {
        let v = e.load(F32X4, at, offset);
        best = Some(best.map_or(v, |best| later_if_greater(e, best, v)));
    }
    let Some(best) = best else { return };
    let zero = e.splat_f32(0.0);
    let dy = if apart { e.b.ins().fadd(zero, dy) } else { dy };
    let dy = e.cast(I32X4, dy);
    let mut left = None;
    for ((x, offset), (to, target)) in x.into_iter().zip(to) {
        let v = e.load(F32X4, x, offset);
        let (share, rest) = match left {
            None => {
                let later = e.b.ins().fcmp(FloatCC::GreaterThan, best, v);
                (e.b.ins().band_not(dy, later), later)
            }
            Some(left) => {
                let equal = e.b.ins().fcmp(FloatCC::Equal, best, v);
                let here = e.b.ins().band(left, equal);
                (e.b.ins().band(dy, here), e.b.ins().band_not(left, equal))
            }
        };
        left = Some(rest);
        let mut share = e.cast(F32X4, share);
        if !apart {
            let old = e.load(F32X4, to, target);
            share = e.b.ins().fadd(old, share);
        }
        e.store(share, to, target);
    }
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
            taps(e, &window, &place, |e, flat| {
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
