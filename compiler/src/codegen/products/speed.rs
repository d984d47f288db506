//! Speed of the products on svhn's layers, to be read by a person: `cargo test --release -p dorefac --lib
//! products::speed -- --ignored --nocapture`.

use super::reference::geometry;
use super::testing::{Code, Memory, build};
use super::*;
use crate::codegen::target::Level;
use crate::graph::ops::Geometry;
use crate::lower::train::layouts::{Levels, Range, Storage};
use std::time::Instant;

const BATCH: usize = 128;

/// Nanoseconds a cycle, from a chain of dependent multiplications and additions of 4 cycles.
fn cycle() -> f64 {
    let start = Instant::now();
    let mut x = std::hint::black_box(3u64);
    for _ in 0..20_000_000u64 {
        x = x.wrapping_mul(x | 1) + 1;
    }
    std::hint::black_box(x);
    start.elapsed().as_secs_f64() * 1e9 / 100e6
}

fn nanoseconds(code: &Code, list: &[u64]) -> f64 {
    (0..7)
        .map(|_| {
            let start = Instant::now();
            code.call(list);
            start.elapsed().as_secs_f64() * 1e9
        })
        .fold(f64::INFINITY, f64::min)
}

fn samples(p: &[Value], i: usize) -> Samples {
    Samples { base: p[2 * i], stride: p[2 * i + 1] }
}

fn levels(bytes: bool) -> Operands {
    Operands::Levels { a: Range { least: 0, greatest: 3 }, b: Range::symmetric(63), bytes }
}

/// The operands of a gradient of the input: gradients of 6 bits with weights of 1.
fn gradients(operands: Operands) -> Operands {
    match operands {
        Operands::Levels { bytes, .. } => Operands::Levels { a: Range::symmetric(63), b: Range::symmetric(1), bytes },
        Operands::Float => operands,
    }
}

#[test]
#[ignore = "prints times"]
fn svhn() {
    let cycle = cycle();
    println!("{:.2} GHz", 1.0 / cycle);
    let triple = "x86_64-unknown-linux-gnu".parse().unwrap();
    let layers = [
        ("conv2", geometry(64, 64, 1, [18, 18], ([3, 3], [1, 1], [1; 4], [1, 1]))),
        ("conv3", geometry(64, 128, 1, [9, 9], ([3, 3], [1, 1], [0; 4], [1, 1]))),
        ("conv4", geometry(128, 128, 1, [7, 7], ([3, 3], [1, 1], [1; 4], [1, 1]))),
        ("conv5", geometry(128, 128, 1, [7, 7], ([3, 3], [1, 1], [0; 4], [1, 1]))),
        ("conv6", geometry(128, 512, 1, [5, 5], ([5, 5], [1, 1], [0; 4], [1, 1]))),
        ("strided", geometry(64, 128, 1, [28, 28], ([3, 3], [2, 2], [1; 4], [1, 1]))),
    ];
    for level in Level::parse("x86-64-v2,x86-64-v3,native", &triple).unwrap() {
        for (name, g) in &layers {
            for (kind, operands) in [("words", levels(false)), ("bytes", levels(true)), ("floats", Operands::Float)] {
                let per = |ns: f64| format!("{:6.1}", g.macs() as f64 * BATCH as f64 * cycle / ns);
                let gradient = gradients(operands);
                let kernels = [forward(&level, g, operands), input(&level, g, gradient), weights(&level, g, operands)];
                let [f, x, w] = kernels.map(per);
                println!("{:10} {name:8} {kind}: forward {f}, dX {x}, dW {w} MAC/cycle", level.name);
            }
            for (kind, bytes) in [("words", false), ("bytes", true)] {
                println!("{:10} {name:8} {kind} in a MAC's share: {}", level.name, relayouts(&level, g, cycle, bytes));
            }
        }
    }
}

fn forward(level: &Level, g: &Geometry, operands: Operands) -> f64 {
    let product = Forward::new(g, operands).unwrap();
    let image = build(level, level.has_fma(), 5, |e, p| {
        let (n, units) = ([e.int(0), e.int(BATCH)], [e.int(0), e.int(product.packing().units())]);
        let one = |e: &mut Emitter<'_, '_>, n| product.emit(e, n, units, samples(p, 0), p[4], samples(p, 1)).unwrap();
        if product.over_batch() {
            return one(e, n);
        }
        e.range(n[0], n[1], 1, |e, i| {
            let next = e.add(i, 1);
            one(e, [i, next]);
        });
    });
    let (a, c) = (product.input.bytes(), product.output.bytes());
    time(&image, a, c, product.packing().bytes())
}

fn input(level: &Level, g: &Geometry, operands: Operands) -> f64 {
    let product = InputGrad::new(g, operands).unwrap();
    let image = build(level, level.has_fma(), 5, |e, p| {
        let (n, units) = ([e.int(0), e.int(BATCH)], [e.int(0), e.int(product.packing().units())]);
        let one = |e: &mut Emitter<'_, '_>, n| product.emit(e, n, units, samples(p, 0), p[4], samples(p, 1)).unwrap();
        if product.over_batch() {
            return one(e, n);
        }
        e.range(n[0], n[1], 1, |e, i| {
            let next = e.add(i, 1);
            one(e, [i, next]);
        });
    });
    let (a, c) = (product.gradient.bytes(), product.input.bytes());
    time(&image, a, c, product.packing().bytes())
}

fn time(image: &crate::codegen::image::Image, a: usize, c: usize, packed: usize) -> f64 {
    let (am, cm, b) = (Memory::new(BATCH * a, 0), Memory::new(BATCH * c, 0), Memory::new(packed, 0));
    nanoseconds(&Code::new(image), &[am.address(), a as u64, cm.address(), c as u64, b.address()])
}

fn weights(level: &Level, g: &Geometry, operands: Operands) -> f64 {
    let product = WeightGrad::new(g, operands).unwrap();
    let image = build(level, level.has_fma(), 6, |e, p| {
        e.times(product.tasks(), |e, part| {
            let batch = e.int(BATCH);
            let scales = operands.integer().then_some(p[4]);
            product.emit(e, part, batch, samples(p, 0), samples(p, 1), scales, [p[5], p[5]]).unwrap();
        });
    });
    let (a, b) = (product.input.bytes(), product.gradient.bytes());
    let (am, bm, s) = (Memory::new(BATCH * a, 0), Memory::new(BATCH * b, 0), Memory::new(4 * BATCH, 0));
    let sums = Memory::new(product.scratch_bytes(), 0);
    let list = [am.address(), a as u64, bm.address(), b as u64, s.address(), sums.address()];
    nanoseconds(&Code::new(&image), &list)
}

/// Times of everything that is not a product, as a share of 32 MAC a cycle; packing as that of one step of batch 128.
fn relayouts(level: &Level, g: &Geometry, cycle: f64, bytes: bool) -> String {
    let levels = levels(bytes);
    let storage = |bias| if bytes { Storage::Bytes { bias } } else { Storage::Words };
    let (f, x, w) = (
        Forward::new(g, levels).unwrap(),
        InputGrad::new(g, gradients(levels)).unwrap(),
        WeightGrad::new(g, levels).unwrap(),
    );
    let GradientLayout::Strips(strips) = &w.gradient else { panic!() };
    let (al, gl) = (
        Levels::new(g.channels, g.groups, g.input, [1; 4], storage(0)).unwrap(),
        Levels::new(g.outputs, g.groups, g.output, [1; 4], storage(63)).unwrap(),
    );
    let [a, gm, planes, p] =
        [al.bytes(), gl.bytes(), w.input.bytes(), w.gradient.bytes()].map(|bytes| Memory::new(bytes, 0));
    let dense = Memory::new(g.outputs * g.taps() * 4 + 64, 0);
    let packed = Memory::new(f.packing().bytes().max(x.packing().bytes()), 0);
    let sums = Memory::new(w.scratch_bytes(), 0);
    let codes = [
        ("planes", BATCH, build(level, false, 2, |e, v| emit_planes_from_levels(e, &al, v[0], &w.input, v[1]))),
        ("strips", BATCH, build(level, false, 2, |e, v| emit_strips_from_levels(e, &gl, v[0], strips, v[1]))),
    ];
    let mut text = String::new();
    let macs = g.macs() as f64;
    let mut add = |name: &str, samples: f64, ns: f64| {
        let share = ns / cycle / (macs * samples / 32.0) * 100.0;
        text.push_str(&format!("{name} {share:.1} %, "));
    };
    for ((name, _, image), [from, to]) in codes.iter().zip([[&a, &planes], [&gm, &p]]) {
        add(name, 1.0, nanoseconds(&Code::new(image), &[from.address(), to.address()]));
    }
    let all = |e: &mut Emitter<'_, '_>| e.int(0);
    let packs = [
        (
            "pack",
            build(level, false, 2, |e, v| {
                let part = all(e);
                f.packing().emit(e, part, 1, v[0], None, v[1]).unwrap()
            }),
        ),
        (
            "pack dX",
            build(level, false, 2, |e, v| {
                let part = all(e);
                x.packing().emit(e, part, 1, v[0], None, v[1]).unwrap()
            }),
        ),
    ];
    for (name, image) in &packs {
        add(name, 128.0, nanoseconds(&Code::new(image), &[dense.address(), packed.address()]));
    }
    let image = build(level, false, 2, |e, v| {
        let part = all(e);
        w.emit_dense(e, part, 1, v[0], v[1]).unwrap()
    });
    add("dense", 128.0, nanoseconds(&Code::new(&image), &[sums.address(), dense.address()]));
    text
}
