//! Max pools of floats and their gradients as nests over the output's positions, where a level has wide lanes: one access a tap.
//! `pools` is the reference, and takes windows that leave the image.

use super::pool_windows::{Area, unrolled};
use super::values::of_maps;
use crate::codegen::emitter::Emitter;
use crate::codegen::lanes::clif::Played;
use crate::codegen::lanes::nest::{Nest, Sink};
use crate::codegen::lanes::program::{Access, Compare, Element, Lane, Level, Program};
use crate::codegen::lanes::wide;
use crate::codegen::tiles::Width;
use crate::graph::ops::Window;
use cranelift_codegen::ir::{InstBuilder, Value};

/// Whether a level has lanes for the windows inside the image, of which there are some, of few taps.
pub fn fits(e: &Emitter<'_, '_>, window: &Window) -> bool {
    let some = window.interior().iter().all(|r| !r.is_empty());
    some && unrolled(window) && wide::widths(e).iter().any(|w| window.channels >= w.lanes())
}

/// Element `tap` of every window from that of position (y, x) on, taps in row-major order; the window lies inside the image.
fn at_tap(area: &Area<'_>, window: &Window, [y, x]: [usize; 2], tap: usize) -> Access {
    let (place, taps, pixel) = ([y, x], [tap / window.kernel[1], tap % window.kernel[1]], area.maps.pixel());
    let first = |i: usize| place[i] * window.strides[i] + taps[i] * window.dilations[i] - window.pads[i];
    let row = window.input[1] * pixel;
    Access {
        base: area.base,
        element: Element::F32,
        origin: first(0) * row + first(1) * pixel,
        row: window.strides[0] * row,
        column: window.strides[1] * pixel,
    }
}

/// The greatest of the taps at hand, the later only if greater.
fn greatest(p: &mut Program, taps: &[Lane]) -> Lane {
    let least = p.float(f32::NEG_INFINITY);
    taps.iter().fold(least, |best, &v| p.greater(v, best))
}

/// The taps of the windows from that of position `at` on.
fn taps(p: &mut Program, area: &Area<'_>, window: &Window, at: [usize; 2]) -> Vec<Lane> {
    let all = 0..window.kernel[0] * window.kernel[1];
    all.map(|tap| p.load(at_tap(area, window, at, tap), Level::Point)).collect()
}

/// The greatest of each window inside the image, the later only if greater. Gives the width of the lanes.
///
/// # Errors
/// When the nest cannot be emitted.
pub fn forward(e: &mut Emitter<'_, '_>, window: &Window, [from, to]: [&Area<'_>; 2]) -> Result<Option<Width>, String> {
    if !fits(e, window) {
        return Ok(None);
    }
    let interior = window.interior();
    let ([y, x], image) = (interior.each_ref().map(|r| r.start), interior.each_ref().map(ExactSizeIterator::len));
    let mut p = Program::default();
    let taps = taps(&mut p, from, window, [y, x]);
    let best = greatest(&mut p, &taps);
    let whole = of_maps(to.base, to.maps, Element::F32);
    let inside = Access { origin: y * whole.row + x * whole.column, ..whole };
    let nest = Nest { program: p, sinks: vec![Sink::Store(inside, best)], image };
    let (_, width) = nest.channels(e, &mut Played::of_width(image[1]), window.channels)?;
    Ok(width)
}

/// The gradient of the windows of row `y` of the output that lie inside the image, from `dy`, the pooled `x`: as
/// `pools::unrolled_grad`. Gives the width of the lanes.
///
/// # Errors
/// When the nest cannot be emitted.
pub fn gradient(
    e: &mut Emitter<'_, '_>,
    window: &Window,
    [dy, x, to]: [&Area<'_>; 3],
    y: Value,
    apart: bool,
) -> Result<Option<Width>, String> {
    let [rows, columns] = window.interior();
    let (first, count) = ([rows.start, columns.start], columns.len());
    let (row, before) = (window.input[1] * x.maps.pixel(), e.b.ins().iadd_imm_s(y, -(rows.start as i64)));
    let [x, to] = [x, to].map(|area| Area { maps: area.maps, base: e.at(area.base, before, window.strides[0] * row) });
    let whole = of_maps(e.at(dy.base, y, window.output[1] * dy.maps.pixel()), dy.maps, Element::F32);
    let mut p = Program::default();
    let zero = p.float(0.0);
    let mut left = p.load(Access { origin: columns.start * whole.column, ..whole }, Level::Point);
    let taps = taps(&mut p, &x, window, first);
    let best = greatest(&mut p, &taps);
    if apart {
        left = p.fadd(zero, left);
    }
    let mut sinks = Vec::new();
    for (tap, v) in taps.into_iter().enumerate() {
        // The first tap has all unless the greatest is greater, the others what is left where they equal it.
        let (share, rest) = if tap == 0 {
            let later = p.compare(Compare::Above, best, v);
            (p.select(later, zero, left), p.select(later, left, zero))
        } else {
            let here = p.compare(Compare::Equal, best, v);
            (p.select(here, left, zero), p.select(here, zero, left))
        };
        let at = at_tap(&to, window, first, tap);
        let sum = if apart {
            share
        } else {
            let old = p.load(at, Level::Point);
            p.fadd(old, share)
        };
        sinks.push(Sink::Store(at, sum));
        left = rest;
    }
    let nest = Nest { program: p, sinks, image: [1, count] };
    let (_, width) = nest.channels(e, &mut Played::of_width(count), window.channels)?;
    Ok(width)
}
