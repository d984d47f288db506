//! Float convolution, and the geometry that every convolution shares.

use super::{Eval, OpDef, f32_input};
use crate::graph::attrs::{AttrDef, Attrs, Kind};
use crate::graph::types::{Dim, Shape, ValueType};
use dorefa_runtime::tensor::Tensor;

/// Attributes of a convolution.
pub const ATTRS: &[AttrDef] = &[
    AttrDef { name: "strides", kind: Kind::Ints, required: false, doc: "[vertical, horizontal], default 1" },
    AttrDef { name: "pads", kind: Kind::Ints, required: false, doc: "[top, left, bottom, right], default 0" },
    AttrDef { name: "dilations", kind: Kind::Ints, required: false, doc: "[vertical, horizontal], default 1" },
    AttrDef { name: "groups", kind: Kind::Int, required: false, doc: "number of groups, default 1" },
];

/// A pair attribute such as `strides`, at least 1 each.
pub(super) fn pair(attrs: &Attrs, name: &str, default: usize) -> Result<[usize; 2], String> {
    match *attrs.ints(name) {
        [] => Ok([default; 2]),
        [a, b] if (1..=1 << 20).contains(&a) && (1..=1 << 20).contains(&b) => Ok([a as usize, b as usize]),
        _ => Err(format!("`{name}` takes two numbers of at least 1")),
    }
}

/// The attribute `pads`.
pub(super) fn pads(attrs: &Attrs) -> Result<[usize; 4], String> {
    match *attrs.ints("pads") {
        [] => Ok([0; 4]),
        [t, l, b, r] if [t, l, b, r].iter().all(|p| (0..=1 << 20).contains(p)) => {
            Ok([t as usize, l as usize, b as usize, r as usize])
        }
        _ => Err("`pads` takes four numbers of at least 0: top, left, bottom, right".to_owned()),
    }
}

/// The geometry of a convolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Input channels, all groups.
    pub channels: usize,
    /// Input height and width.
    pub input: [usize; 2],
    /// Output channels, all groups.
    pub outputs: usize,
    /// Output height and width.
    pub output: [usize; 2],
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Vertical and horizontal stride.
    pub strides: [usize; 2],
    /// Vertical and horizontal dilation.
    pub dilations: [usize; 2],
    /// Padding: top, left, bottom, right.
    pub pads: [usize; 4],
    /// Groups.
    pub groups: usize,
    flat: bool,
}

impl Geometry {
    /// From the attributes, the input's shape (N,C,H,W or N,C) and the weights' shape (O,C/groups,KH,KW or O,C).
    ///
    /// # Errors
    /// When they do not fit one another.
    pub fn new(attrs: &Attrs, input: &Shape, weights: &Shape) -> Result<Geometry, String> {
        let (channels, h, w) = input.image().ok_or_else(|| format!("input must be (N,C,H,W) or (N,C), is {input}"))?;
        let (outputs, inner, kernel) = match *weights.0 {
            [Dim::Fixed(o), Dim::Fixed(c), Dim::Fixed(kh), Dim::Fixed(kw)] => (o, c, [kh, kw]),
            [Dim::Fixed(o), Dim::Fixed(c)] => (o, c, [1, 1]),
            _ => {
                return Err(format!("weights must be (O,C,KH,KW) or (O,C), are {weights}"));
            }
        };
        let groups = usize::try_from(attrs.int("groups", 1)).ok().filter(|&g| g > 0).ok_or("`groups` is at least 1")?;
        if inner.checked_mul(groups) != Some(channels) || outputs % groups != 0 {
            return Err(format!(
                "{groups} groups of {inner} channels and {outputs} outputs do not fit {channels} input channels"
            ));
        }
        let (strides, dilations, pads) = (pair(attrs, "strides", 1)?, pair(attrs, "dilations", 1)?, pads(attrs)?);
        let extent = |i: usize, n: usize| -> Result<usize, String> {
            let span = (kernel[i] - 1).checked_mul(dilations[i]).ok_or("the kernel is too large")? + 1;
            let padded = n + pads[i] + pads[i + 2];
            let room = padded
                .checked_sub(span)
                .ok_or_else(|| format!("a kernel spanning {span} does not fit an extent of {padded}"))?;
            Ok(room / strides[i] + 1)
        };
        if kernel.contains(&0) {
            return Err("the kernel is empty".to_owned());
        }
        let output = [extent(0, h)?, extent(1, w)?];
        let flat = input.rank() == 2;
        Ok(Geometry { channels, input: [h, w], outputs, output, kernel, strides, dilations, pads, groups, flat })
    }

    /// The output's shape.
    pub fn output_shape(&self) -> Shape {
        if self.flat {
            Shape::batched(&[self.outputs])
        } else {
            Shape::batched(&[self.outputs, self.output[0], self.output[1]])
        }
    }

    /// Products that one output sums, padding taps included.
    pub fn taps(&self) -> usize {
        self.channels / self.groups * self.kernel[0] * self.kernel[1]
    }

    /// Multiplications of one sample, padding taps included.
    pub fn macs(&self) -> u64 {
        (self.taps() * self.outputs * self.output[0] * self.output[1]) as u64
    }

    /// Rows and columns of the output whose taps are all valid.
    pub fn interior(&self) -> [std::ops::Range<usize>; 2] {
        [0, 1].map(|i| {
            let window = [self.kernel[i], self.strides[i], self.dilations[i], self.pads[i]];
            super::pool::interior(window, self.input[i], self.output[i])
        })
    }

    /// Calls `f(sample, group, y, x, patch)` for every output position; the patch holds the flat input index of each tap
    /// in (ci, ky, kx) order, `None` for a padding tap.
    pub fn for_each_patch(&self, batch: usize, mut f: impl FnMut(usize, usize, usize, usize, &[Option<usize>])) {
        let inner = self.channels / self.groups;
        let mut patch = Vec::with_capacity(self.taps());
        for n in 0..batch {
            for g in 0..self.groups {
                for y in 0..self.output[0] {
                    for x in 0..self.output[1] {
                        patch.clear();
                        for c in g * inner..(g + 1) * inner {
                            for ky in 0..self.kernel[0] {
                                let iy = (y * self.strides[0] + ky * self.dilations[0]).checked_sub(self.pads[0]);
                                for kx in 0..self.kernel[1] {
                                    let ix = (x * self.strides[1] + kx * self.dilations[1]).checked_sub(self.pads[1]);
                                    patch.push(match (iy, ix) {
                                        (Some(iy), Some(ix)) if iy < self.input[0] && ix < self.input[1] => {
                                            Some(((n * self.channels + c) * self.input[0] + iy) * self.input[1] + ix)
                                        }
                                        _ => None,
                                    });
                                }
                            }
                        }
                        f(n, g, y, x, &patch);
                    }
                }
            }
        }
    }

    /// Evaluates `dot(patch values, weight row)` for every output; patch values of padding taps are `pad`.
    pub fn convolve<T: Copy, R: Copy + Default>(
        &self,
        batch: usize,
        x: &[T],
        w: &[T],
        pad: T,
        dot: impl Fn(usize, &[T], &[T]) -> R,
    ) -> Vec<R> {
        let (rows, taps) = (self.outputs / self.groups, self.taps());
        let area = self.output[0] * self.output[1];
        let mut out = vec![R::default(); batch * self.outputs * area];
        let mut values = Vec::with_capacity(taps);
        self.for_each_patch(batch, |n, g, y, px, patch| {
            values.clear();
            values.extend(patch.iter().map(|i| i.and_then(|i| x.get(i).copied()).unwrap_or(pad)));
            for o in g * rows..(g + 1) * rows {
                if let (Some(row), Some(slot)) = (
                    w.get(o * taps..(o + 1) * taps),
                    out.get_mut((n * self.outputs + o) * area + y * self.output[1] + px),
                ) {
                    *slot = dot(o, &values, row);
                }
            }
        });
        out
    }
}

/// Convolution of floats.
pub static CONV: OpDef = OpDef {
    name: "conv",
    doc: "Convolution of x (N,C,H,W), weights (O,C/groups,KH,KW) and an optional bias (O): ONNX Conv. One chain an output \
          in (ci, ky, kx) order from +0, padding taps included as +0, the bias added last.",
    inputs: (2, 3),
    attrs: ATTRS,
    elementwise: false,
    infer: |attrs, types| {
        let (x, w) = (f32_input(types, 0)?, f32_input(types, 1)?);
        let geometry = Geometry::new(attrs, &x.shape, &w.shape)?;
        if types.len() > 2 && f32_input(types, 2)?.shape != Shape::fixed(&[geometry.outputs]) {
            return Err(format!("the bias must have shape [{}]", geometry.outputs));
        }
        Ok(vec![ValueType::f32(geometry.output_shape())])
    },
    eval: float_conv,
};

pub(super) fn float_conv(e: &Eval<'_>) -> Result<Tensor, String> {
    let shape = |i: usize| e.types.get(i).map(|t| &t.shape).ok_or("an input is missing");
    let geometry = Geometry::new(e.attrs, shape(0)?, shape(1)?)?;
    let bias = if e.inputs.len() > 2 { Some(e.f32(2)?) } else { None };
    let data = geometry.convolve(e.batch, e.f32(0)?, e.f32(1)?, 0.0, |o, x, w| {
        let sum = x.iter().zip(w).fold(0.0, |acc, (&a, &b)| e.mul_add(a, b, acc));
        bias.and_then(|b| b.get(o)).map_or(sum, |b| sum + b)
    });
    e.floats(data)
}
