//! The weight gradient by patches against the plain reference, with and without a pool, on every level that the machine has.

use super::reference::{Random, geometries, geometry, plain, weight_grad};
use super::testing::{Code, Memory, build};
use super::tests::{batch, float_planes, levels_memory, maps_memory, on, per_sample};
use super::*;
use crate::codegen::image::Image;
use crate::codegen::target::Level;
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::ops::{Geometry, Window, lane_sum};
use crate::graph::types::Shape;
use crate::lower::train::layouts::{Maps, Range};
use crate::lower::train::requirements::patch_grad::PatchGrad;

#[test]
fn patch_grad_floats() {
    let mut shapes = geometries();
    shapes.extend([
        geometry(3, 48, 1, [14, 15], plain(5, 1, 0)),
        geometry(3, 21, 1, [40, 9], plain(3, 1, 1)),
        geometry(2, 37, 1, [31, 29], plain(9, 1, 4)),
        geometry(3, 8, 1, [60, 44], plain(12, 2, 0)),
        geometry(1, 5, 1, [12, 40], ([2, 3], [2, 1], [1, 2, 0, 2], [3, 1])),
    ]);
    let all = shapes.into_iter().filter(|g| PatchGrad::new(g).unwrap().is_some()).collect::<Vec<_>>();
    assert_eq!(all.len(), 9);
    on(&all, |level, fma, g| patch_grad_of_floats(level, fma, g, PatchGrad::new(g).unwrap().unwrap()));
}

/// Windows of two and three rows, even and odd rows of positions, up to and beyond 32 windows of a row; patches and strips.
#[test]
fn patch_grad_behind_a_pool() {
    let shapes = [
        (geometry(3, 48, 1, [16, 16], plain(5, 1, 0)), [2, 2]),
        (geometry(3, 21, 1, [18, 9], plain(3, 1, 1)), [3, 3]),
        (geometry(2, 10, 1, [4, 78], plain(3, 1, 1)), [2, 2]),
        (geometry(2, 40, 1, [12, 35], plain(9, 1, 4)), [3, 1]),
        (geometry(3, 8, 1, [60, 44], plain(12, 2, 0)), [1, 1]),
        (geometry(2, 20, 1, [3, 50], plain(3, 1, 1)), [3, 1]),
        (geometry(4, 12, 1, [21, 45], plain(4, 2, 1)), [2, 2]),
        (geometry(4, 20, 1, [7, 71], plain(4, 1, 1)), [3, 2]),
    ];
    for (g, kernel) in shapes {
        on(&[g], |level, fma, g| patch_grad_of_floats(level, fma, g, behind(g, kernel).unwrap()));
    }
}

#[test]
fn some_pools_keep_their_gradients() {
    let g = geometry(3, 48, 1, [16, 16], plain(5, 1, 0));
    for kernel in [[2, 2], [3, 4], [4, 4], [5, 5]] {
        assert_eq!(behind(&g, kernel).is_some(), kernel == [2, 2], "{kernel:?}");
    }
    assert!(behind(&geometry(1, 4, 1, [4, 130], plain(1, 1, 0)), [2, 2]).is_none());
}

/// The product behind a pool of such windows, side by side.
pub(super) fn behind(g: &Geometry, kernel: [usize; 2]) -> Option<PatchGrad> {
    let extents = Attr::Ints(kernel.iter().map(|&k| k as i64).collect());
    let attrs = Attrs::new().with("kernel", extents.clone()).with("strides", extents);
    let window = Window::new(&attrs, &Shape::batched(&[g.outputs, g.output[0], g.output[1]])).ok()?;
    PatchGrad::new(g).unwrap()?.behind(&window).unwrap()
}

/// Arguments: input, gradient, winners, sums, totals, dense result.
pub(super) fn patch_image(level: &Level, fma: bool, product: &PatchGrad) -> Image {
    build(level, fma, 12, |e, p| {
        e.times(batch(&product.g), |e, n| {
            let at = |e: &mut Emitter<'_, '_>, i: usize| {
                let offset = e.b.ins().imul(n, p[2 * i + 1]);
                e.b.ins().iadd(p[2 * i], offset)
            };
            let [input, gradient, winners, sums, total] = [0, 1, 2, 3, 4].map(|i| at(e, i));
            let winners = product.pool.as_ref().map(|_| winners);
            let operands = PatchOperands { input, gradient, winners, sums, work: p[10], totals: &[total] };
            product.emit(e, operands).unwrap();
        });
        let batch = e.int(batch(&product.g));
        e.times(3, |e, part| product.emit_dense(e, part, 3, batch, Samples { base: p[6], stride: p[7] }, p[11]));
    })
}

fn patch_grad_of_floats(level: &Level, fma: bool, g: &Geometry, mut product: PatchGrad) {
    let mut random = Random(7);
    if fma {
        product.input.border = product.input.border.map(|b| b + 1);
        product.gradient.pitch += 16;
    }
    let x = per_sample(g, g.channels * g.input[0] * g.input[1], |n| random.floats(n));
    let read = product.gradient.image;
    let dy = per_sample(g, g.outputs * read[0] * read[1], |n| {
        // Mostly zeros, of both signs.
        let (v, there) = (random.floats(n), random.levels(n, Range { least: 0, greatest: 5 }));
        v.into_iter().zip(there).map(|(v, t)| if t > 2 { v * 0.0 } else { v }).collect()
    });
    let [kh, kw] = product.pool.as_ref().map_or([1, 1], |pool| pool.kernel);
    let taps = Range { least: 0, greatest: (kh * kw - 1) as i32 };
    let winners = per_sample(g, g.outputs * read[0] * read[1], |n| random.levels(n, taps));
    let area = g.output[0] * g.output[1];
    let scattered = dy.iter().zip(&winners).map(|(dy, winners)| {
        let mut all = vec![0f32; g.outputs * area];
        for (i, (v, &tap)) in dy.iter().zip(winners).enumerate() {
            let (c, y, x) = (i / (read[0] * read[1]), i / read[1] % read[0], i % read[1]);
            let (ky, kx) = (tap as usize / kw, tap as usize % kw);
            all[c * area + (y * kh + ky) * g.output[1] + x * kw + kx] = *v;
        }
        all
    });
    let scattered: Vec<Vec<f32>> = scattered.collect();
    let mut expected = vec![0f32; g.outputs * g.taps()];
    for (x, dy) in x.iter().zip(&scattered) {
        expected.iter_mut().zip(weight_grad(g, x, dy, fma)).for_each(|(sum, s)| *sum += s);
    }
    let maps = Maps::new(g.channels, 1, g.input).unwrap();
    let (a, b) = (float_planes(level, &maps, &product.input, &x), maps_memory(&product.gradient, &dy));
    let (w, pitch) = match &product.pool {
        Some(pool) => (levels_memory(&pool.winners, &winners), pool.winners.bytes()),
        None => (Memory::new(64, 0), 0),
    };
    let (sums, totals) = (Memory::new(batch(g) * product.sums(), 0x7f), Memory::new(batch(g) * g.outputs * 4, 0x55));
    let (work, dense) = (Memory::new(product.work_bytes(), 0x7f), Memory::new(expected.len() * 4, 0x55));
    let code = Code::new(&patch_image(level, fma, &product));
    let strides = [product.input.bytes(), product.gradient.bytes(), pitch, product.sums(), g.outputs * 4];
    let operands = [&a, &b, &w, &sums, &totals].map(Memory::address).into_iter().zip(strides.map(|n| n as u64));
    let arguments = operands.flat_map(|(at, stride)| [at, stride]).chain([work.address(), dense.address()]);
    code.call(&arguments.collect::<Vec<_>>());
    for (i, v) in expected.iter().enumerate() {
        assert_eq!(f32::from_le_bytes(dense.get(4 * i)).to_bits(), v.to_bits(), "{}, weight {i}, {g:?}", level.name);
    }
    for (n, plane) in scattered.iter().flat_map(|dy| dy.chunks(area)).enumerate() {
        let total = lane_sum(plane);
        assert_eq!(f32::from_le_bytes(totals.get(4 * n)).to_bits(), total.to_bits(), "{}, sum {n}, {g:?}", level.name);
    }
}
