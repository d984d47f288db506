//! Pools: windows over the image axes.

use super::conv::{pads, pair};
use super::{Eval, OpDef, f32_input};
use crate::graph::attrs::{AttrDef, Attrs, Kind};
use crate::graph::types::{Shape, ValueType};
use dorefa_runtime::tensor::Tensor;
use std::ops::Range;

/// Attributes of a pool.
pub const ATTRS: &[AttrDef] = &[
    AttrDef { name: "kernel", kind: Kind::Ints, required: true, doc: "[height, width] of the window" },
    AttrDef { name: "strides", kind: Kind::Ints, required: false, doc: "[vertical, horizontal], default 1" },
    AttrDef { name: "pads", kind: Kind::Ints, required: false, doc: "[top, left, bottom, right], default 0" },
    AttrDef { name: "ceil", kind: Kind::Bool, required: false, doc: "round the output's extent up, default false" },
    AttrDef {
        name: "count_padding",
        kind: Kind::Bool,
        required: false,
        doc: "average pool divides by the whole window, default false",
    },
    AttrDef { name: "dilations", kind: Kind::Ints, required: false, doc: "[vertical, horizontal], default 1" },
];

/// The geometry of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Channels.
    pub channels: usize,
    /// Input height and width.
    pub input: [usize; 2],
    /// Output height and width.
    pub output: [usize; 2],
    /// Window height and width.
    pub kernel: [usize; 2],
    /// Strides.
    pub strides: [usize; 2],
    /// Vertical and horizontal dilation.
    pub dilations: [usize; 2],
    /// Padding: top, left, bottom, right.
    pub pads: [usize; 4],
}

/// Outputs of an axis whose taps are all valid, for a window of `kernel`, `stride`, `dilation` and padding before.
pub(super) fn interior([kernel, stride, dilation, before]: [usize; 4], input: usize, output: usize) -> Range<usize> {
    let first = before.div_ceil(stride);
    let span = (kernel - 1) * dilation;
    let last = (input + before).checked_sub(span + 1).map_or(0, |room| room / stride + 1);
    first..last.min(output).max(first)
}

impl Window {
    /// Whether every window has a tap inside the image; of very many dilated windows it is not looked.
    pub fn reaches(&self) -> bool {
        const MOST: usize = 1 << 20;
        (0..2).all(|i| {
            // A window without gaps is wider than the padding.
            let (kernel, dilation) = (self.kernel[i], self.dilations[i]);
            let inside = |o: usize| {
                (0..kernel).any(|k| {
                    let at = o * self.strides[i] + k * dilation;
                    at >= self.pads[i] && at - self.pads[i] < self.input[i]
                })
            };
            dilation == 1 || (self.output[i].saturating_mul(kernel) <= MOST && (0..self.output[i]).all(inside))
        })
    }

    /// Rows and columns of the output whose taps are all valid.
    pub fn interior(&self) -> [Range<usize>; 2] {
        [0, 1].map(|i| {
            let window = [self.kernel[i], self.strides[i], self.dilations[i], self.pads[i]];
            interior(window, self.input[i], self.output[i])
        })
    }

    /// Whether every position of the image lies in one window.
    pub fn tiles(&self) -> bool {
        self.dilations == [1, 1]
            && self.pads == [0; 4]
            && self.strides == self.kernel
            && (0..2).all(|i| self.output[i] * self.strides[i] == self.input[i])
    }

    /// From the attributes and the input's shape (N,C,H,W).
    ///
    /// # Errors
    /// When the window does not fit.
    pub fn new(attrs: &Attrs, shape: &Shape) -> Result<Window, String> {
        let (channels, h, w) =
            shape.image().filter(|_| shape.rank() == 4).ok_or_else(|| format!("pools an image, not {shape}"))?;
        let (kernel, strides, pads) = (pair(attrs, "kernel", 1)?, pair(attrs, "strides", 1)?, pads(attrs)?);
        let dilations = pair(attrs, "dilations", 1)?;
        let extent = |i: usize, n: usize| -> Result<usize, String> {
            let span = (kernel[i] - 1).checked_mul(dilations[i]).ok_or("the window is too large")? + 1;
            if pads[i] >= span || pads[i + 2] >= span {
                return Err("padding must be smaller than the window".to_owned());
            }
            let room = (n + pads[i] + pads[i + 2]).checked_sub(span).ok_or("the window does not fit the image")?;
            let mut out = if attrs.bool("ceil", false) { room.div_ceil(strides[i]) } else { room / strides[i] } + 1;
            // A window that would start in the padding behind the image is dropped, as ONNX does.
            if (out - 1) * strides[i] >= n + pads[i] {
                out -= 1;
            }
            Ok(out)
        };
        let output = [extent(0, h)?, extent(1, w)?];
        Ok(Window { channels, input: [h, w], output, kernel, strides, dilations, pads })
    }

    /// The output's shape.
    pub fn output_shape(&self) -> Shape {
        Shape::batched(&[self.channels, self.output[0], self.output[1]])
    }

    /// Where tap `tap` of window `at` lies along axis `i`; `None` in the padding.
    fn place(&self, i: usize, at: usize, tap: usize) -> Option<usize> {
        let place = (at * self.strides[i] + tap * self.dilations[i]).checked_sub(self.pads[i])?;
        (place < self.input[i]).then_some(place)
    }

    /// Calls `f(channel, flat input indices of the valid taps in row-major order)` for every output in order.
    pub fn for_each_output(&self, batch: usize, mut f: impl FnMut(usize, &[usize])) {
        let mut places = Vec::new();
        self.for_each_tap(batch, |channel, taps| {
            places.clear();
            places.extend(taps.iter().map(|&(_, i)| i));
            f(channel, &places);
        });
    }

    /// Calls `f(channel, (tap ky·KW + kx, flat input index) of the valid taps in row-major order)` for every output in order.
    pub fn for_each_tap(&self, batch: usize, mut f: impl FnMut(usize, &[(usize, usize)])) {
        let mut taps = Vec::new();
        for plane in 0..batch * self.channels {
            for y in 0..self.output[0] {
                for x in 0..self.output[1] {
                    taps.clear();
                    for ky in 0..self.kernel[0] {
                        for kx in 0..self.kernel[1] {
                            if let (Some(iy), Some(ix)) = (self.place(0, y, ky), self.place(1, x, kx)) {
                                let flat = (plane * self.input[0] + iy) * self.input[1] + ix;
                                taps.push((ky * self.kernel[1] + kx, flat));
                            }
                        }
                    }
                    f(plane % self.channels, &taps);
                }
            }
        }
    }
}

fn infer(attrs: &Attrs, types: &[&ValueType]) -> Result<Vec<ValueType>, String> {
    Ok(vec![ValueType::f32(Window::new(attrs, &f32_input(types, 0)?.shape)?.output_shape())])
}

/// Evaluates `f(window, values of the valid taps in row-major order)` for every output.
fn pool(e: &Eval<'_>, f: impl Fn(&Window, &[f32]) -> f32) -> Result<Tensor, String> {
    let window = Window::new(e.attrs, &e.types.first().ok_or("input 0 is missing")?.shape)?;
    let (x, mut out, mut values) = (e.f32(0)?, Vec::new(), Vec::new());
    window.for_each_output(e.batch, |_, taps| {
        values.clear();
        values.extend(taps.iter().filter_map(|&i| x.get(i).copied()));
        out.push(f(&window, &values));
    });
    e.floats(out)
}

/// Max pool.
pub static MAX_POOL: OpDef = OpDef {
    name: "max_pool",
    doc: "ONNX MaxPool of x (N,C,H,W); padding never wins; taps in row-major order, a later one wins only if greater.",
    inputs: (1, 1),
    attrs: ATTRS,
    elementwise: false,
    infer,
    eval: |e| pool(e, |_, values| values.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })),
};

/// Average pool.
pub static AVERAGE_POOL: OpDef = OpDef {
    name: "average_pool",
    doc: "ONNX AveragePool of x (N,C,H,W): taps added in row-major order from +0, divided by their number.",
    inputs: (1, 1),
    attrs: ATTRS,
    elementwise: false,
    infer,
    eval: |e| {
        pool(e, |window, values| {
            let whole = e.attrs.bool("count_padding", false).then_some(window.kernel[0] * window.kernel[1]);
            values.iter().fold(0.0, |a, b| a + b) / whole.unwrap_or(values.len()) as f32
        })
    },
};

/// Global average pool.
pub static GLOBAL_AVERAGE_POOL: OpDef = OpDef {
    name: "global_average_pool",
    doc: "ONNX GlobalAveragePool: the mean over the image axes, kept as extent 1; the 4-lane sum divided by the count.",
    inputs: (1, 1),
    attrs: &[],
    elementwise: false,
    infer: |_, types| {
        let shape = &f32_input(types, 0)?.shape;
        let (c, _, _) = shape.image().filter(|_| shape.rank() == 4).ok_or("pools an image")?;
        Ok(vec![ValueType::f32(Shape::batched(&[c, 1, 1]))])
    },
    eval: |e| {
        let area = e.input(0)?.shape().iter().skip(2).product::<usize>().max(1);
        e.floats(e.f32(0)?.chunks(area).map(|p| super::reduce::lane_sum(p) / area as f32).collect())
    },
};
