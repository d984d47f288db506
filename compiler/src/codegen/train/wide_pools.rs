//! Max pools of floats and their gradients as nests over the output's positions, where a level has wide lanes: one access a tap.
//! `pools` is the reference, and takes windows that leave the image.

use super::pool_windows::{Area, unrolled};
use crate::codegen::emitter::Emitter;
use crate::codegen::lanes::clif::Played;
use crate::codegen::lanes::nest::{Nest, Sink};
use crate::codegen::lanes::program::{Access, Compare, Element, Level, Program};
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

/// The greatest of each window inside the image and the tap that it is, where they are wanted; a later tap wins only if
/// greater. Gives the width of the lanes.
///
/// # Errors
/// When the nest cannot be emitted.
pub fn forward(
    e: &mut Emitter<'_, '_>,
    window: &Window,
    from: &Area<'_>,
    to: [Option<Access>; 2],
) -> Result<Option<Width>, String> {
    if !fits(e, window) {
        return Ok(None);
    }
    let interior = window.interior();
    let ([y, x], image) = (interior.each_ref().map(|r| r.start), interior.each_ref().map(ExactSizeIterator::len));
    let mut p = Program::default();
    let (mut best, mut winner) = (p.float(f32::NEG_INFINITY), p.integer(0));
    for tap in 0..window.kernel[0] * window.kernel[1] {
        let (v, number) = (p.load(at_tap(from, window, [y, x], tap), Level::Point), p.integer(tap as i32));
        let later = p.compare(Compare::Above, v, best);
        winner = p.select(later, number, winner);
        best = p.greater(v, best);
    }
    let inside = |whole: Access| Access { origin: whole.origin + y * whole.row + x * whole.column, ..whole };
    let sinks = to.into_iter().zip([best, winner]);
    let sinks = sinks.filter_map(|(to, v)| Some(Sink::Store(inside(to?), v))).collect();
    let nest = Nest { program: p, sinks, image };
    let (_, width) = nest.channels(e, &mut Played::of_width(image[1]), window.channels)?;
    Ok(width)
}

/// The gradient of the windows of row `y` of the output that lie inside the image, from `dy` and the winners: as
/// `pools::max_grad`. Gives the width of the lanes.
///
/// # Errors
/// When the nest cannot be emitted.
pub fn gradient(
    e: &mut Emitter<'_, '_>,
    window: &Window,
    from: [Access; 2],
    to: &Area<'_>,
    y: Value,
    apart: bool,
) -> Result<Option<Width>, String> {
    let [rows, columns] = window.interior();
    let (first, count) = ([rows.start, columns.start], columns.len());
    let (row, before) = (window.input[1] * to.maps.pixel(), e.b.ins().iadd_imm_s(y, -(rows.start as i64)));
    let to = Area { maps: to.maps, base: e.at(to.base, before, window.strides[0] * row) };
    let mut p = Program::default();
    let zero = p.float(0.0);
    let [mut dy, winner] = from.map(|whole| {
        let row = Access {
            base: e.at(whole.base, y, whole.row),
            origin: whole.origin + columns.start * whole.column,
            ..whole
        };
        p.load(row, Level::Point)
    });
    if apart {
        dy = p.fadd(zero, dy);
    }
    let mut sinks = Vec::new();
    for tap in 0..window.kernel[0] * window.kernel[1] {
        let number = p.integer(tap as i32);
        let here = p.compare(Compare::Equal, winner, number);
        let share = p.select(here, dy, zero);
        let at = at_tap(&to, window, first, tap);
        let sum = if apart {
            share
        } else {
            let old = p.load(at, Level::Point);
            p.fadd(old, share)
        };
        sinks.push(Sink::Store(at, sum));
    }
    let nest = Nest { program: p, sinks, image: [1, count] };
    let (_, width) = nest.channels(e, &mut Played::of_width(count), window.channels)?;
    Ok(width)
}
