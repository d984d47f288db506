//! Pools of floats and their gradients: four channels at a time, windows in row-major order.

use super::Frame;
use super::fused::clear;
use super::wide_pools;
use crate::codegen::emitter::{Emitter, F32X4, I32X4};
use crate::codegen::functions::later_if_greater;
use crate::codegen::taps::Taps;
use crate::codegen::tiles::Width;
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::ops::Window;
use crate::graph::types::Shape;
use crate::graph::{Node, Value as GraphValue};
use crate::lower::train::layouts::Maps;
use crate::lower::train::{Form, Slot};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// Maps in memory.
pub struct Area<'g> {
    /// How they lie.
    pub maps: &'g Maps,
    /// Where.
    pub base: Value,
}

impl Area<'_> {
    /// The maps of a value.
    ///
    /// # Errors
    /// When it lies in another form.
    pub fn new<'g>(e: &mut Emitter<'_, '_>, frame: &Frame<'g>, value: GraphValue) -> Result<Area<'g>, String> {
        let Form::Maps(maps) = &frame.buffer(Slot::own(value))?.form else {
            return Err("reads and writes maps of floats".to_owned());
        };
        Ok(Area { maps, base: frame.base(e, Slot::own(value))? })
    }

    /// The address of four channels of the first tap of a window without padding, and the bytes from there to every tap in
    /// row-major order.
    fn window(
        &self,
        e: &mut Emitter<'_, '_>,
        window: &Window,
        [y, x]: [Value; 2],
        channel: Value,
    ) -> (Value, Vec<i32>) {
        let row = e.mul(y, window.strides[0] * window.input[1]);
        let first = e.at(row, x, window.strides[1]);
        let columns = |ky: usize| (0..window.kernel[1]).map(move |kx| ky * window.input[1] + kx);
        let taps = (0..window.kernel[0]).flat_map(columns).map(|flat| (flat * self.maps.pixel()) as i32);
        (self.at(e, first, channel), taps.collect())
    }

    /// The address of four channels of a position.
    pub fn at(&self, e: &mut Emitter<'_, '_>, flat: Value, channel: Value) -> Value {
        let at = e.at(self.base, flat, self.maps.pixel());
        e.at(at, channel, 4)
    }
}

/// The window of a pool over an input of `shape`; a global pool's is the whole image.
fn window(node: &Node, shape: &Shape) -> Result<Window, String> {
    if !node.op.name.starts_with("global") {
        return Window::new(&node.attrs, shape);
    }
    let (_, h, w) = shape.image().ok_or("pools an image")?;
    Window::new(&Attrs::new().with("kernel", Attr::Ints(vec![h as i64, w as i64])), shape)
}

fn shape<'g>(frame: &Frame<'g>, value: GraphValue) -> Result<&'g Shape, String> {
    frame.graph.value_type(value).map(|t| &t.shape).ok_or_else(|| "a value has no type".to_owned())
}

/// Calls `body` at every position of the window's output for every four channels.
fn each(
    e: &mut Emitter<'_, '_>,
    window: &Window,
    mut body: impl FnMut(&mut Emitter<'_, '_>, [Value; 2], Value, Value),
) {
    e.times(window.output[0], |e, y| {
        e.times(window.output[1], |e, x| {
            let flat = e.at(x, y, window.output[1]);
            e.times(window.channels.div_ceil(4), |e, c| {
                let channel = e.mul(c, 4);
                body(e, [y, x], flat, channel);
            });
        });
    });
}

/// Calls `body` for every valid tap of a window, in row-major order.
fn taps(
    e: &mut Emitter<'_, '_>,
    window: &Window,
    [y, x]: [Value; 2],
    mut body: impl FnMut(&mut Emitter<'_, '_>, Value),
) {
    if !unrolled(window) {
        return Taps::of_pool(window).each(e, y, x, |e, tap| e.when(tap.valid, |e| body(e, tap.flat)));
    }
    let row = e.mul(y, window.strides[0] * window.input[1]);
    let corner = e.at(row, x, window.strides[1]);
    for ky in 0..window.kernel[0] {
        for kx in 0..window.kernel[1] {
            let flat = e.add(corner, ky * window.input[1] + kx);
            body(e, flat);
        }
    }
}

/// Windows of so many taps without padding are unrolled.
const UNROLLED: usize = 9;

fn unrolled(window: &Window) -> bool {
    covers(window) && window.dilations == [1, 1] && window.kernel[0] * window.kernel[1] <= UNROLLED
}

/// How many taps an average divides by.
fn divisor(e: &mut Emitter<'_, '_>, window: &Window, at: [Value; 2], whole: bool) -> Value {
    if whole || covers(window) {
        return e.splat_f32((window.kernel[0] * window.kernel[1]) as f32);
    }
    let zero = e.int(0);
    let count = e.var(zero);
    taps(e, window, at, |e, _| {
        let one = e.int(1);
        e.accumulate(count, one);
    });
    let n = e.b.use_var(count);
    let n = e.b.ins().fcvt_from_sint(types::F32, n);
    e.b.ins().splat(F32X4, n)
}

/// Whether every window lies inside the image.
fn covers(window: &Window) -> bool {
    let end = |i: usize| (window.output[i] - 1) * window.strides[i] + (window.kernel[i] - 1) * window.dilations[i] + 1;
    window.pads[..2] == [0; 2] && (0..2).all(|i| end(i) <= window.input[i])
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
    let whole = node.attrs.bool("count_padding", false);
    if max
        && unrolled(&window)
        && let Some(width) = wide_pools::forward(e, &window, [&from, &to])?
    {
        return Ok(if width == Width::Zmm { "max pool, AVX-512" } else { "max pool, AVX2" });
    }
    each(e, &window, |e, at, flat, channel| {
        let start = e.splat_f32(if max { f32::NEG_INFINITY } else { 0.0 });
        let read = |e: &mut Emitter<'_, '_>, flat: Value| {
            let at = from.at(e, flat, channel);
            e.load(F32X4, at, 0)
        };
        let mut v = if global {
            e.lane_sum(window.input[0] * window.input[1], start, read)
        } else if max && unrolled(&window) {
            let (at, taps) = from.window(e, &window, at, channel);
            taps.into_iter().fold(start, |old, offset| {
                let v = e.load(F32X4, at, offset);
                later_if_greater(e, old, v)
            })
        } else {
            let sum = e.var(start);
            taps(e, &window, at, |e, flat| {
                let (v, old) = (read(e, flat), e.b.use_var(sum));
                let new = if max { later_if_greater(e, old, v) } else { e.b.ins().fadd(old, v) };
                e.b.def_var(sum, new);
            });
            e.b.use_var(sum)
        };
        if !max {
            let n = divisor(e, &window, at, whole);
            v = e.b.ins().fdiv(v, n);
        }
        let at = to.at(e, flat, channel);
        e.store(v, at, 0);
    });
    Ok(if max { "max pool" } else { "average pool" })
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
    if !(tiled && covers(&window)) {
        clear(e, to.base, to.maps.bytes());
    }
    if apart && unrolled(&window) {
        each(e, &window, |e, at, flat, channel| {
            let from = dy.at(e, flat, channel);
            let dy = e.load(F32X4, from, 0);
            let [x, to] = [&x, &to].map(|area| area.window(e, &window, at, channel));
            apart_grad(e, dy, x, to);
        });
        return Ok("max pool gradient");
    }
    each(e, &window, |e, at, flat, channel| {
        let (least, none) = (e.splat_f32(f32::NEG_INFINITY), e.splat_i32(-1));
        let (best, place) = (e.var(least), e.var(none));
        taps(e, &window, at, |e, flat| {
            let at = x.at(e, flat, channel);
            let v = e.load(F32X4, at, 0);
            let (old, index) = (e.b.use_var(best), e.b.use_var(place));
            let greater = e.b.ins().fcmp(FloatCC::GreaterThan, v, old);
            let first = e.b.ins().icmp(IntCC::Equal, index, none);
            let take = e.b.ins().bor(greater, first);
            let flat = e.b.ins().ireduce(types::I32, flat);
            let flat = e.b.ins().splat(I32X4, flat);
            let (v, flat) = (e.select(take, v, old), e.select(take, flat, index));
            e.b.def_var(best, v);
            e.b.def_var(place, flat);
        });
        let place = e.b.use_var(place);
        let from = dy.at(e, flat, channel);
        let dy = e.load(F32X4, from, 0);
        taps(e, &window, at, |e, flat| {
            let at = to.at(e, flat, channel);
            let flat = e.b.ins().ireduce(types::I32, flat);
            let flat = e.b.ins().splat(I32X4, flat);
            let here = e.b.ins().icmp(IntCC::Equal, flat, place);
            let old = if apart { e.splat_f32(0.0) } else { e.load(F32X4, at, 0) };
            let sum = e.b.ins().fadd(old, dy);
            let new = e.select(here, sum, old);
            e.store(new, at, 0);
        });
    });
    Ok("max pool gradient")
}

/// A window whose taps are no other's: the gradient goes to the last tap that was greater than all before it.
fn apart_grad(e: &mut Emitter<'_, '_>, dy: Value, (x, taps): (Value, Vec<i32>), (to, targets): (Value, Vec<i32>)) {
    let (mut best, mut greater) = (None, Vec::new());
    for offset in taps {
        let v = e.load(F32X4, x, offset);
        best = Some(match best {
            None => v,
            Some(best) => {
                let mask = e.b.ins().fcmp(FloatCC::GreaterThan, v, best);
                greater.push(mask);
                e.select(mask, v, best)
            }
        });
    }
    let zero = e.splat_f32(0.0);
    let sum = e.b.ins().fadd(zero, dy);
    let sum = e.cast(I32X4, sum);
    let mut left = e.splat_i32(-1);
    for (i, offset) in targets.into_iter().enumerate().rev() {
        let here = match i.checked_sub(1).and_then(|i| greater.get(i)) {
            Some(&mask) => e.b.ins().band(left, mask),
            None => left,
        };
        left = e.b.ins().band_not(left, here);
        let share = e.b.ins().band(sum, here);
        e.store(share, to, offset);
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
    let whole = node.attrs.bool("count_padding", false);
    clear(e, to.base, to.maps.bytes());
    each(e, &window, |e, at, flat, channel| {
        let from = dy.at(e, flat, channel);
        let (v, n) = (e.load(F32X4, from, 0), divisor(e, &window, at, whole));
        let share = e.b.ins().fdiv(v, n);
        taps(e, &window, at, |e, flat| {
            let at = to.at(e, flat, channel);
            if node.op.name.starts_with("global") {
                return e.store(share, at, 0);
            }
            let old = e.load(F32X4, at, 0);
            let new = e.b.ins().fadd(old, share);
            e.store(new, at, 0);
        });
    });
    Ok("average pool gradient")
}
