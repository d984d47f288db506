//! The taps of a window at a position: the loop that every convolution and pool shares.

use crate::codegen::emitter::Emitter;
use crate::graph::ops::{Geometry, Window};
use cranelift_codegen::ir::{InstBuilder, Value};

/// Where a window's taps lie; each pair is vertical, horizontal.
pub struct Taps {
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    /// Padding above and to the left.
    before: [usize; 2],
    input: [usize; 2],
}

/// One tap.
pub struct Tap {
    /// ky·KW + kx.
    pub index: Value,
    /// y·W + x in the input; meaningless where the tap is not valid.
    pub flat: Value,
    /// Whether it lies in the input, not in the padding.
    pub valid: Value,
}

impl Taps {
    /// Of a convolution.
    pub fn of_convolution(g: &Geometry) -> Taps {
        let before = [g.pads[0], g.pads[1]];
        Taps { kernel: g.kernel, strides: g.strides, dilations: g.dilations, before, input: g.input }
    }

    /// Of a pool.
    pub fn of_pool(w: &Window) -> Taps {
        let before = [w.pads[0], w.pads[1]];
        Taps { kernel: w.kernel, strides: w.strides, dilations: w.dilations, before, input: w.input }
    }

    /// Emits `body` for every tap of the window at row `y`, column `x` of the result, in row-major order.
    pub fn each(&self, e: &mut Emitter<'_, '_>, y: Value, x: Value, mut body: impl FnMut(&mut Emitter<'_, '_>, Tap)) {
        let axis = |i: usize| [self.strides[i], self.dilations[i], self.before[i], self.input[i]];
        e.times(self.kernel[0], |e, ky| {
            let (iy, vy) = e.tap(y, ky, axis(0));
            e.times(self.kernel[1], |e, kx| {
                let (ix, vx) = e.tap(x, kx, axis(1));
                let flat = e.at(ix, iy, self.input[1]);
                let index = e.at(kx, ky, self.kernel[1]);
                let valid = e.b.ins().band(vy, vx);
                body(e, Tap { index, flat, valid });
            });
        });
    }
}
