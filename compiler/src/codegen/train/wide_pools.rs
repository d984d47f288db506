//! Max pools of floats as nests over the output's positions, where a level has wide lanes: one access a tap. `pools` is the
//! reference, and takes windows that leave the image. Their gradients gain nothing by it: they wait for memory.

use super::pools::Area;
use super::values::of_maps;
use crate::codegen::emitter::Emitter;
use crate::codegen::lanes::clif::Played;
use crate::codegen::lanes::nest::{Nest, Sink};
use crate::codegen::lanes::program::{Access, Element, Level, Program};
use crate::codegen::lanes::wide::{self, Leaf};
use crate::codegen::tiles::Width;
use crate::graph::ops::Window;

/// Element `tap` of every window, taps in row-major order.
fn at_tap(area: &Area<'_>, window: &Window, tap: usize) -> Access {
    let ([ky, kx], pixel) = ([tap / window.kernel[1], tap % window.kernel[1]], area.maps.pixel());
    let row = window.input[1] * pixel;
    Access {
        base: area.base,
        element: Element::F32,
        origin: ky * row + kx * pixel,
        row: window.strides[0] * row,
        column: window.strides[1] * pixel,
    }
}

/// The greatest of each window, the later only if greater. Gives the width, if the level has one for it.
///
/// # Errors
/// When the nest cannot be emitted.
pub fn forward(e: &mut Emitter<'_, '_>, window: &Window, [from, to]: [&Area<'_>; 2]) -> Result<Option<Width>, String> {
    let mut p = Program::default();
    let mut best = p.float(f32::NEG_INFINITY);
    for tap in 0..window.kernel[0] * window.kernel[1] {
        let v = p.load(at_tap(from, window, tap), Level::Point);
        best = p.greater(v, best);
    }
    let image = [window.output[0], window.output[1]];
    let nest = Nest { program: p, sinks: vec![Sink::Store(of_maps(to.base, to.maps, Element::F32), best)], image };
    let whole = |w: &Width| window.channels >= w.lanes() && Leaf::of(&nest, *w, e.fma).is_some();
    if !wide::widths(e).iter().any(whole) {
        return Ok(None);
    }
    let (_, width) = nest.channels(e, &mut Played::of_width(image[1]), window.channels)?;
    Ok(width)
}
