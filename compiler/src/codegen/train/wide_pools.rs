//! Max pools of floats as nests over the output's positions, where a level has wide lanes: one access a tap. `pools` is the
//! reference, and takes windows that leave the image.

use super::pool_windows::Area;
use super::values::of_maps;
use crate::codegen::emitter::Emitter;
use crate::codegen::lanes::clif::Played;
use crate::codegen::lanes::nest::{Nest, Sink};
use crate::codegen::lanes::program::{Access, Element, Level, Program};
use crate::codegen::lanes::wide::{self, Leaf};
use crate::codegen::tiles::Width;
use crate::graph::ops::Window;

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

/// The greatest of each window inside the image, the later only if greater. Gives the width, if the level has one for it and
/// there are such windows.
///
/// # Errors
/// When the nest cannot be emitted.
pub fn forward(e: &mut Emitter<'_, '_>, window: &Window, [from, to]: [&Area<'_>; 2]) -> Result<Option<Width>, String> {
    let interior = window.interior();
    let ([y, x], image) = (interior.each_ref().map(|r| r.start), interior.each_ref().map(ExactSizeIterator::len));
    if image.contains(&0) {
        return Ok(None);
    }
    let mut p = Program::default();
    let mut best = p.float(f32::NEG_INFINITY);
    for tap in 0..window.kernel[0] * window.kernel[1] {
        let v = p.load(at_tap(from, window, [y, x], tap), Level::Point);
        best = p.greater(v, best);
    }
    let whole = of_maps(to.base, to.maps, Element::F32);
    let inside = Access { origin: y * whole.row + x * whole.column, ..whole };
    let nest = Nest { program: p, sinks: vec![Sink::Store(inside, best)], image };
    let whole = |w: &Width| window.channels >= w.lanes() && Leaf::of(&nest, *w, e.fma).is_some();
    if !wide::widths(e).iter().any(whole) {
        return Ok(None);
    }
    let (_, width) = nest.channels(e, &mut Played::of_width(image[1]), window.channels)?;
    Ok(width)
}
