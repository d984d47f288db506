//! The products by their definitions, on dense tensors, and the shapes that the tests try.

use super::group_sizes;
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::ops::Geometry;
use crate::graph::types::Shape;
use crate::lower::train::layouts::Range;

/// kernel, strides, pads, dilations.
/// Kernel, strides, pads, dilations.
pub type Window = ([usize; 2], [usize; 2], [usize; 4], [usize; 2]);

/// channels, outputs, groups, image, window.
pub fn geometry(c: usize, o: usize, groups: usize, [h, w]: [usize; 2], (kernel, s, p, d): Window) -> Geometry {
    let ints = |v: &[usize]| Attr::Ints(v.iter().map(|&v| v as i64).collect());
    let attrs = Attrs::new().with("strides", ints(&s)).with("pads", ints(&p)).with("dilations", ints(&d));
    let attrs = attrs.with("groups", Attr::Int(groups as i64));
    Geometry::new(&attrs, &Shape::batched(&[c, h, w]), &Shape::fixed(&[o, c / groups, kernel[0], kernel[1]])).unwrap()
}

/// A square window of size k, with strides s and pads p.
pub fn plain(k: usize, s: usize, p: usize) -> Window {
    ([k, k], [s, s], [p; 4], [1, 1])
}

pub fn geometries() -> Vec<Geometry> {
    vec![
        geometry(5, 7, 1, [7, 6], plain(3, 1, 1)),
        geometry(16, 32, 1, [5, 5], plain(3, 1, 0)),
        geometry(9, 17, 1, [9, 10], plain(3, 2, 1)),
        geometry(3, 20, 1, [13, 11], plain(5, 4, 2)),
        geometry(6, 4, 1, [6, 7], plain(1, 2, 0)),
        geometry(6, 10, 2, [6, 5], plain(3, 1, 1)),
        geometry(4, 4, 4, [5, 6], plain(3, 2, 1)),
        geometry(24, 48, 2, [4, 4], plain(2, 1, 0)),
        geometry(4, 5, 1, [9, 8], ([3, 2], [1, 2], [2, 1, 0, 2], [2, 3])),
        geometry(4, 6, 1, [9, 9], ([3, 3], [2, 2], [2, 2, 2, 2], [2, 2])),
        geometry(8, 18, 1, [5, 5], plain(5, 1, 0)),
        geometry(9, 20, 1, [3, 11], plain(3, 1, 1)),
        geometry(9, 3, 1, [4, 21], plain(3, 2, 1)),
        geometry(7, 33, 1, [1, 1], plain(1, 1, 0)),
        geometry(40, 10, 1, [1, 1], plain(1, 1, 0)),
        geometry(32, 22, 1, [1, 1], plain(1, 1, 0)),
        geometry(3, 44, 1, [8, 7], plain(3, 1, 1)),
        geometry(4, 16, 1, [1, 6], ([1, 3], [1, 1], [0, 1, 0, 1], [1, 1])),
    ]
}

/// The same numbers each time.
pub struct Random(pub u32);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
        self.0 >> 8
    }

    /// Levels, half of them extreme.
    pub fn levels(&mut self, n: usize, Range { least, greatest }: Range) -> Vec<i32> {
        let level = |r: u32| match r % 4 {
            0 => greatest,
            1 => least,
            _ => (r >> 2) as i32 % (greatest - least + 1) + least,
        };
        (0..n).map(|_| level(self.next())).collect()
    }

    pub fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n)
            .map(|_| {
                (self.next() as f32 / (1 << 23) as f32 - 1.0) * if self.next().is_multiple_of(5) { 0.0 } else { 1.3 }
            })
            .collect()
    }
}

/// An i32 or f32 with its arithmetic.
pub trait Number: Copy + PartialEq + std::fmt::Debug + Default {
    fn mul_add(a: Self, b: Self, c: Self, fma: bool) -> Self;
    fn bits(self) -> [u8; 4];
}

impl Number for i32 {
    fn mul_add(a: i32, b: i32, c: i32, _: bool) -> i32 {
        a * b + c
    }
    fn bits(self) -> [u8; 4] {
        self.to_le_bytes()
    }
}

impl Number for f32 {
    fn mul_add(a: f32, b: f32, c: f32, fma: bool) -> f32 {
        if fma { a.mul_add(b, c) } else { c + a * b }
    }
    fn bits(self) -> [u8; 4] {
        self.to_le_bytes()
    }
}

/// Index of (c, y, x) in a sample, if it is inside.
fn inside(image: [usize; 2], c: usize, y: i64, x: i64) -> Option<usize> {
    let [h, w] = image.map(|n| n as i64);
    ((0..h).contains(&y) && (0..w).contains(&x)).then(|| (c as i64 * h + y) as usize * image[1] + x as usize)
}

fn input_position(g: &Geometry, y: usize, x: usize, ky: usize, kx: usize) -> [i64; 2] {
    let at = |i: usize, o: usize, k: usize| (o * g.strides[i] + k * g.dilations[i]) as i64 - g.pads[i] as i64;
    [at(0, y, ky), at(1, x, kx)]
}

/// Forward, one sample: outputs (O, OH, OW).
pub fn forward<T: Number>(g: &Geometry, x: &[T], w: &[T], fma: bool) -> Vec<T> {
    let [inner, outputs] = group_sizes(g);
    let mut out = Vec::new();
    for o in 0..g.outputs {
        for oy in 0..g.output[0] {
            for ox in 0..g.output[1] {
                let mut sum = T::default();
                for ci in 0..inner {
                    for ky in 0..g.kernel[0] {
                        for kx in 0..g.kernel[1] {
                            let [iy, ix] = input_position(g, oy, ox, ky, kx);
                            let v = inside(g.input, o / outputs * inner + ci, iy, ix).map_or(T::default(), |i| x[i]);
                            sum = T::mul_add(v, w[((o * inner + ci) * g.kernel[0] + ky) * g.kernel[1] + kx], sum, fma);
                        }
                    }
                }
                out.push(sum);
            }
        }
    }
    out
}

/// Gradient of the input, one sample: (C, H, W), over valid taps in (co, ky, kx) order.
pub fn input_grad<T: Number>(g: &Geometry, dy: &[T], w: &[T], fma: bool) -> Vec<T> {
    let [inner, outputs] = group_sizes(g);
    let mut out = Vec::new();
    for c in 0..g.channels {
        for iy in 0..g.input[0] {
            for ix in 0..g.input[1] {
                let mut sum = T::default();
                for co in 0..outputs {
                    let o = c / inner * outputs + co;
                    for ky in 0..g.kernel[0] {
                        for kx in 0..g.kernel[1] {
                            let at =
                                |i: usize, p: usize, k: usize| (p + g.pads[i]) as i64 - (k * g.dilations[i]) as i64;
                            let (y, x) = (at(0, iy, ky), at(1, ix, kx));
                            let [sy, sx] = g.strides.map(|s| s as i64);
                            if y % sy != 0 || x % sx != 0 {
                                continue;
                            }
                            let Some(i) = inside(g.output, o, y / sy, x / sx) else { continue };
                            let tap = ((o * inner + c % inner) * g.kernel[0] + ky) * g.kernel[1] + kx;
                            sum = T::mul_add(dy[i], w[tap], sum, fma);
                        }
                    }
                }
                out.push(sum);
            }
        }
    }
    out
}

/// Gradient of the weights, one sample: (O, C/groups, KH, KW), over the output positions.
pub fn weight_grad<T: Number>(g: &Geometry, x: &[T], dy: &[T], fma: bool) -> Vec<T> {
    let [inner, outputs] = group_sizes(g);
    let mut out = Vec::new();
    for o in 0..g.outputs {
        for ci in 0..inner {
            for ky in 0..g.kernel[0] {
                for kx in 0..g.kernel[1] {
                    let mut sum = T::default();
                    for oy in 0..g.output[0] {
                        for ox in 0..g.output[1] {
                            let [iy, ix] = input_position(g, oy, ox, ky, kx);
                            let v = inside(g.input, o / outputs * inner + ci, iy, ix).map_or(T::default(), |i| x[i]);
                            sum = T::mul_add(v, dy[(o * g.output[0] + oy) * g.output[1] + ox], sum, fma);
                        }
                    }
                    out.push(sum);
                }
            }
        }
    }
    out
}
