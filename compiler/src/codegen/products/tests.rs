//! All six products against plain references, with their packing and relayouts, on every level.

use super::reference::{Number, Random, forward, geometries, input_grad, weight_grad};
use super::testing::{Code, Memory, build};
use super::tests_patches::{behind, patch_image};
use super::*;
use crate::codegen::image::Image;
use crate::codegen::target::Level;
use crate::graph::ops::Geometry;
use crate::lower::train::layouts::{Levels, Maps, Planes, Range, Storage};
use crate::lower::train::requirements::patch_grad::PatchGrad;

/// Samples: where a sample has few positions so many that they fill tiles of samples, whole groups of them and one more.
pub(super) fn batch(g: &Geometry) -> usize {
    if g.output == [1, 1] && g.channels.is_multiple_of(64) { 80 } else { 3 }
}

/// Levels (C, H, W) a sample in their layout.
pub(super) fn levels_memory(l: &Levels, samples: &[Vec<i32>]) -> Memory {
    let mut m = Memory::new(samples.len() * l.bytes(), l.storage.bias());
    for (n, values) in samples.iter().enumerate() {
        for (i, &v) in values.iter().enumerate() {
            let [h, w] = l.image;
            let (c, y, x) = (i / (h * w), i / w % h, i % w);
            let at = n * l.bytes() + l.origin() + y * l.row() + x * l.pixel() + l.slot(c) * l.storage.size();
            match l.storage {
                Storage::Words => m.set(at, (v as i16).to_le_bytes()),
                Storage::Bytes { bias } => m.set(at, [u8::try_from(v + i32::from(bias)).unwrap()]),
            }
        }
    }
    m
}

pub(super) fn maps_memory(maps: &Maps, samples: &[Vec<f32>]) -> Memory {
    let mut m = Memory::new(samples.len() * maps.bytes(), 0x7f);
    for (n, values) in samples.iter().enumerate() {
        let area = maps.image[0] * maps.image[1];
        for (i, &v) in values.iter().enumerate() {
            m.set(n * maps.bytes() + i % area * maps.pixel() + i / area * 4, v.to_le_bytes());
        }
    }
    m
}

/// Samples of maps (C, H, W).
fn read_maps(maps: &Maps, m: &Memory, n: usize) -> Vec<[u8; 4]> {
    let area = maps.image[0] * maps.image[1];
    let at = |i: usize| n * maps.bytes() + i % area * maps.pixel() + i / area * maps.element;
    let words = |i: usize| i32::from(i16::from_le_bytes(m.get(at(i)))).to_le_bytes();
    (0..maps.channels * area).map(|i| if maps.element == 2 { words(i) } else { m.get(at(i)) }).collect()
}

pub(super) fn levels() -> Vec<Level> {
    let triple = "x86_64-unknown-linux-gnu".parse().unwrap();
    let all = Level::parse("x86-64-v2,x86-64-v3,native", &triple);
    let mut all = all.or_else(|_| Level::parse("x86-64-v2,x86-64-v3", &triple)).unwrap();
    all.retain(|l| crate::codegen::target::host_features() & l.features == l.features);
    all
}

/// Runs a test on every level and in every numeric profile that it has.
fn everywhere(test: impl Fn(&Level, bool, &Geometry)) {
    on(&geometries(), test);
}

pub(super) fn on(geometries: &[Geometry], test: impl Fn(&Level, bool, &Geometry)) {
    for level in levels() {
        for fma in [false, true].into_iter().filter(|&fma| !fma || level.has_fma()) {
            geometries.iter().for_each(|g| test(&level, fma, g));
        }
    }
}

/// Runs a test of levels everywhere, and at their other limits on a few geometries.
fn at_limits(test: impl Fn(&Level, bool, &Geometry, Operands)) {
    for (i, (a, b, bytes)) in limits().into_iter().enumerate() {
        let few = if i < 2 { geometries() } else { geometries().into_iter().skip(i).step_by(4).collect() };
        on(&few, |level, fma, g| test(level, fma, g, Operands::Levels { a, b, bytes }));
    }
}

/// Arguments: pairs of base and stride, then addresses.
fn samples(p: &[Value], i: usize) -> Samples {
    Samples { base: p[2 * i], stride: p[2 * i + 1] }
}

const LEVELS: Operands = words(255, 255);

pub(super) const fn words(a: i32, b: i32) -> Operands {
    Operands::Levels { a: Range { least: -a, greatest: a }, b: Range { least: -b, greatest: b }, bytes: false }
}

/// Levels at the limits of what is multiplied as words and as bytes.
pub(super) fn limits() -> Vec<(Range, Range, bool)> {
    let range = |least, greatest| Range { least, greatest };
    vec![
        (Range::symmetric(255), Range::symmetric(255), false),
        (range(0, 255), Range::symmetric(64), true),
        (range(0, 127), range(-128, 127), true),
        (range(-63, 63), range(-128, 127), true),
        (range(-127, 128), range(-64, 1), true),
    ]
}

pub(super) fn per_sample<T>(g: &Geometry, n: usize, mut f: impl FnMut(usize) -> Vec<T>) -> Vec<Vec<T>> {
    (0..batch(g)).map(|_| f(n)).collect()
}

/// The operand of the rows in its layout: levels as they are, floats from maps by the relayout under test.
pub(super) fn float_planes(level: &Level, from: &Maps, to: &Planes, samples: &[Vec<f32>]) -> Memory {
    let (maps, planes) = (maps_memory(from, samples), Memory::new(samples.len() * to.bytes(), 0x7f));
    let code = Code::new(&build(level, false, 2, |e, p| emit_planes_from_maps(e, from, p[0], to, p[1])));
    for n in 0..samples.len() {
        code.call(&[maps.address() + (n * from.bytes()) as u64, planes.address() + (n * to.bytes()) as u64]);
    }
    planes
}

fn check_maps<T: Number>(g: &Geometry, what: &str, maps: &Maps, m: &Memory, expected: &[Vec<T>]) {
    for (n, expected) in expected.iter().enumerate() {
        let expected: Vec<_> = expected.iter().map(|v| v.bits()).collect();
        assert_eq!(read_maps(maps, m, n), expected, "{what}, sample {n}, {g:?}");
    }
}

/// The image of a forward product or its counterpart: arguments A, C, dense weights, packed weights.
fn image(
    level: &Level,
    fma: bool,
    pack: impl Fn(&mut Emitter<'_, '_>, Value, usize, Value, Value),
    emit: impl FnOnce(&mut Emitter<'_, '_>, Samples, Value, Samples) -> Result<(), crate::codegen::CodegenError>,
) -> Image {
    build(level, fma, 6, |e, p| {
        for part in 0..3 {
            let part = e.int(part);
            pack(e, part, 3, p[4], p[5]);
        }
        emit(e, samples(p, 0), p[5], samples(p, 1)).unwrap();
    })
}

fn run(image: &Image, a: (&Memory, usize), c: (&Memory, usize), dense: &Memory, packed: &Memory) {
    let list = [a.0.address(), a.1 as u64, c.0.address(), c.1 as u64, dense.address(), packed.address()];
    Code::new(image).call(&list);
}

/// Runs `one` on all samples and units at once, or each sample range with each unit, as tasks would.
fn pieces(
    e: &mut Emitter<'_, '_>,
    count: usize,
    units: usize,
    splits: bool,
    mut one: impl FnMut(&mut Emitter<'_, '_>, [Value; 2], [Value; 2]) -> Result<(), crate::codegen::CodegenError>,
) -> Result<(), crate::codegen::CodegenError> {
    let ranges = |n: usize, split: bool| if split { vec![[n - 1, n], [0, n - 1]] } else { vec![[0, n]] };
    for samples in ranges(count, splits) {
        for units in ranges(units, splits) {
            let (samples, units) = (samples.map(|n| e.int(n)), units.map(|n| e.int(n)));
            one(e, samples, units)?;
        }
    }
    Ok(())
}

/// The bias of a biased product lies behind the dense weights.
fn forward_image(level: &Level, fma: bool, product: &Forward, weights: usize) -> Image {
    image(
        level,
        fma,
        |e, part, parts, src, dst| {
            let bias = e.add(src, weights * 4);
            product.pack(e, part, parts, [src, dst], Some(bias)).unwrap();
        },
        |e, a, packed, c| {
            let (units, splits) = (product.packing().units(), product.packing().splits());
            pieces(e, batch(&product.g), units, splits, |e, n, units| product.emit(e, n, units, a, packed, c))
        },
    )
}

fn input_image(level: &Level, fma: bool, product: &InputGrad) -> Image {
    image(
        level,
        fma,
        |e, part, parts, src, dst| product.packing().emit(e, part, parts, src, None, dst).unwrap(),
        |e, a, packed, c| {
            let (units, splits) = (product.packing().units(), product.packing().splits());
            pieces(e, batch(&product.g), units, splits, |e, n, units| product.emit(e, n, units, a, packed, c))
        },
    )
}

/// Borders and a pitch that another reader might want, in both senses: a product must take them from the layouts.
fn widen(input: &mut InputLayout, output: &mut Maps) {
    let more = |border: [usize; 4]| [border[0] + 1, border[1] + 2, border[2] + 3, border[3] + 1];
    match input {
        InputLayout::Levels(l) => l.border = more(l.border),
        InputLayout::Planes(p) => p.border = more(p.border),
    }
    output.pitch += 16;
}

/// The levels that operands may hold.
pub(super) fn ranges(operands: Operands) -> [Range; 2] {
    let Operands::Levels { a, b, .. } = operands else { panic!() };
    [a, b]
}

#[test]
fn forward_levels() {
    at_limits(|level, fma, g, operands| drop(forward_of_levels(level, fma, g, operands, ranges(operands))));
}

/// Sums that just fit i16 are stored as such: at random, and all at their greatest and least.
#[test]
fn forward_levels_as_words() {
    on(&geometries(), |level, fma, g| {
        let most = i32::from(i16::MAX) / g.taps() as i32;
        let (unsigned, signed) = (Range { least: 0, greatest: most.min(255) }, Range::symmetric(most.min(255)));
        for (a, b, bytes) in [(unsigned, 1, true), (signed, 1, false), (Range::symmetric(3), most / 3, false)] {
            let operands = Operands::Levels { a, b: Range::symmetric(b), bytes };
            let few = g.output[0] * g.output[1] <= 8;
            assert_eq!(Forward::new(g, operands).unwrap().output.element, if few { 4 } else { 2 });
            forward_of_levels(level, fma, g, operands, ranges(operands));
            for b in [b, -b] {
                let all = |v| Range { least: v, greatest: v };
                forward_of_levels(level, fma, g, operands, [all(a.greatest), all(b)]);
            }
        }
    });
    let fits = |terms| words(127, 1).sums_are_words(terms);
    assert_eq!((fits(258), fits(259), Operands::Float.sums_are_words(1)), (true, false, false));
}

/// Checks the product of levels within the ranges given; returns its code.
pub(super) fn forward_of_levels(
    level: &Level,
    fma: bool,
    g: &Geometry,
    operands: Operands,
    [left, right]: [Range; 2],
) -> Image {
    let w = Random(2).levels(g.outputs * g.taps(), right);
    forward_of_weights(level, fma, Forward::new(g, operands).unwrap(), left, &w)
}

/// Checks a product of levels within the range given and weights; returns its code.
pub(super) fn forward_of_weights(level: &Level, fma: bool, mut product: Forward, left: Range, w: &[i32]) -> Image {
    let (mut random, g) = (Random(1), &product.g.clone());
    if fma {
        widen(&mut product.input, &mut product.output);
    }
    let InputLayout::Levels(layout) = &product.input else { panic!() };
    let x = per_sample(g, g.channels * g.input[0] * g.input[1], |n| random.levels(n, left));
    let (a, c) = (levels_memory(layout, &x), Memory::new(batch(g) * product.output.bytes(), 0x55));
    let dense = Memory::of(w.iter().map(|&v| (v as i16).to_le_bytes()));
    let packed = Memory::new(product.packing().bytes(), 0x55);
    let image = forward_image(level, fma, &product, 0);
    run(&image, (&a, layout.bytes()), (&c, product.output.bytes()), &dense, &packed);
    let expected: Vec<_> = x.iter().map(|x| forward(g, x, w, fma)).collect();
    check_maps(g, &level.name, &product.output, &c, &expected);
    image
}

#[test]
fn forward_floats() {
    everywhere(|level, fma, g| {
        let mut random = Random(2);
        let mut product = Forward::new(g, Operands::Float).unwrap().biased(fma || g.groups > 1).unwrap();
        if fma {
            widen(&mut product.input, &mut product.output);
        }
        let InputLayout::Planes(layout) = &product.input else { panic!() };
        let x = per_sample(g, g.channels * g.input[0] * g.input[1], |n| random.floats(n));
        let (w, bias) = (random.floats(g.outputs * g.taps()), random.floats(g.outputs));
        let maps = Maps::new(g.channels, 1, g.input).unwrap();
        let (a, c) = (float_planes(level, &maps, layout, &x), Memory::new(batch(g) * product.output.bytes(), 0x55));
        let dense = Memory::of(w.iter().chain(&bias).map(|v| v.to_le_bytes()));
        let packed = Memory::new(product.packing().bytes(), 0x55);
        let image = forward_image(level, fma, &product, w.len());
        run(&image, (&a, layout.bytes()), (&c, product.output.bytes()), &dense, &packed);
        let area = g.output[0] * g.output[1];
        let mut expected: Vec<_> = x.iter().map(|x| forward(g, x, &w, fma)).collect();
        if fma || g.groups > 1 {
            for (i, sum) in expected.iter_mut().flat_map(|sample| sample.iter_mut().enumerate()) {
                *sum += bias[i / area];
            }
        }
        check_maps(g, &level.name, &product.output, &c, &expected);
    });
}

#[test]
fn input_grad_levels() {
    at_limits(|level, fma, g, operands| drop(input_grad_of_levels(level, fma, g, operands, ranges(operands))));
}

/// Checks the product of levels within the ranges given; returns its code.
pub(super) fn input_grad_of_levels(
    level: &Level,
    fma: bool,
    g: &Geometry,
    operands: Operands,
    [left, right]: [Range; 2],
) -> Image {
    input_grad_of_product(
        level,
        fma,
        g,
        InputGrad::new(g, operands).unwrap(),
        |random, n| random.levels(n, left),
        right,
    )
}

/// The same of a product, whose gradient's levels are drawn by `draw`.
pub(super) fn input_grad_of_product(
    level: &Level,
    fma: bool,
    g: &Geometry,
    mut product: InputGrad,
    draw: impl Fn(&mut Random, usize) -> Vec<i32>,
    right: Range,
) -> Image {
    let mut random = Random(3);
    if fma {
        widen(&mut product.gradient, &mut product.input);
    }
    let InputLayout::Levels(layout) = &product.gradient else { panic!() };
    let dy = per_sample(g, g.outputs * g.output[0] * g.output[1], |n| draw(&mut random, n));
    let w = random.levels(g.outputs * g.taps(), right);
    let (a, c) = (levels_memory(layout, &dy), Memory::new(batch(g) * product.input.bytes(), 0x55));
    let dense = Memory::of(w.iter().map(|&v| (v as i16).to_le_bytes()));
    let packed = Memory::new(product.packing().bytes(), 0x55);
    let image = input_image(level, fma, &product);
    run(&image, (&a, layout.bytes()), (&c, product.input.bytes()), &dense, &packed);
    let expected: Vec<_> = dy.iter().map(|dy| input_grad(g, dy, &w, fma)).collect();
    check_maps(g, &level.name, &product.input, &c, &expected);
    image
}

#[test]
fn input_grad_floats() {
    everywhere(|level, fma, g| {
        let mut random = Random(4);
        let mut product = InputGrad::new(g, Operands::Float).unwrap();
        if fma {
            widen(&mut product.gradient, &mut product.input);
        }
        let InputLayout::Planes(layout) = &product.gradient else { panic!() };
        let dy = per_sample(g, g.outputs * g.output[0] * g.output[1], |n| random.floats(n));
        let w = random.floats(g.outputs * g.taps());
        let maps = Maps::new(g.outputs, 1, g.output).unwrap();
        let (a, c) = (float_planes(level, &maps, layout, &dy), Memory::new(batch(g) * product.input.bytes(), 0x55));
        let dense = Memory::of(w.iter().map(|v| v.to_le_bytes()));
        let packed = Memory::new(product.packing().bytes(), 0x55);
        let image = input_image(level, fma, &product);
        run(&image, (&a, layout.bytes()), (&c, product.input.bytes()), &dense, &packed);
        let expected: Vec<_> = dy.iter().map(|dy| input_grad(g, dy, &w, fma)).collect();
        check_maps(g, &level.name, &product.input, &c, &expected);
    });
}

/// Arguments: A, B, scales, sums, dense result.
fn weight_image(level: &Level, fma: bool, product: &WeightGrad) -> Image {
    build(level, fma, 7, |e, p| {
        e.times(product.tasks(), |e, part| {
            let batch = e.int(batch(&product.g));
            let scales = matches!(product.gradient, GradientLayout::Strips(_)).then_some(p[4]);
            product.emit(e, part, batch, samples(p, 0), samples(p, 1), scales, [p[5], p[6]]).unwrap();
        });
        e.times(3, |e, part| product.emit_dense(e, part, 3, p[5], p[6]).unwrap());
    })
}

fn operand_bytes(product: &WeightGrad) -> [usize; 2] {
    product.own_operands().unwrap_or([product.input.bytes(), product.gradient.bytes()])
}

fn check_weights(
    g: &Geometry,
    level: &Level,
    fma: bool,
    product: &WeightGrad,
    operands: [&Memory; 3],
    expected: &[f32],
) -> Image {
    let [a, b, scales] = operands;
    let (sums, dense) = (Memory::new(product.scratch_bytes(), 0x7f), Memory::new(expected.len() * 4, 0x55));
    let [a_stride, b_stride] = operand_bytes(product).map(|bytes| bytes as u64);
    let list = [a.address(), a_stride, b.address(), b_stride, scales.address(), sums.address(), dense.address()];
    let image = weight_image(level, fma, product);
    Code::new(&image).call(&list);
    for (i, v) in expected.iter().enumerate() {
        assert_eq!(f32::from_le_bytes(dense.get(4 * i)).to_bits(), v.to_bits(), "{}, weight {i}, {g:?}", level.name);
    }
    image
}

#[test]
fn weight_grad_levels() {
    let stored = |range: Range| Storage::bytes(range).unwrap_or(Storage::Words);
    at_limits(|level, fma, g, operands| {
        let Operands::Levels { a, b, .. } = operands else { panic!() };
        weight_grad_of_levels(level, fma, g, operands, [stored(a), stored(b)], [a, b]);
    });
    // Bytes whose products need words, and words of both.
    let (a, b) = (Range { least: 0, greatest: 255 }, Range::symmetric(127));
    for storage in [[stored(a), stored(b)], [Storage::Words; 2]] {
        let operands = Operands::Levels { a, b, bytes: false };
        on(&geometries()[..6], |level, fma, g| {
            weight_grad_of_levels(level, fma, g, operands, storage, [a, b]);
        });
    }
}

/// Checks the product of levels that lie in memory so, within the ranges given; returns its code.
pub(super) fn weight_grad_of_levels(
    level: &Level,
    fma: bool,
    g: &Geometry,
    operands: Operands,
    storage: [Storage; 2],
    [left, right]: [Range; 2],
) -> Image {
    let mut random = Random(5);
    let mut product = WeightGrad::new(g, operands).unwrap();
    if fma && g.groups == 1 {
        product.input.border = product.input.border.map(|b| b + 1);
    }
    let x = per_sample(g, g.channels * g.input[0] * g.input[1], |n| random.levels(n, left));
    let dy = per_sample(g, g.outputs * g.output[0] * g.output[1], |n| random.levels(n, right));
    let factors = random.floats(batch(g));
    let mut expected = vec![0f32; g.outputs * g.taps()];
    for n in 0..batch(g) {
        for (sum, s) in expected.iter_mut().zip(weight_grad(g, &x[n], &dy[n], fma)) {
            *sum = <f32 as Number>::mul_add(factors[n], s as f32, *sum, fma);
        }
    }
    let border = if product.own_operands().is_some() { product.input.border } else { [1, 2, 0, 1] };
    let xl = Levels::new(g.channels, g.groups, g.input, border, storage[0]).unwrap();
    let gl = Levels::new(g.outputs, g.groups, g.output, [2, 0, 1, 1], storage[1]).unwrap();
    let (xm, gm) = (levels_memory(&xl, &x), levels_memory(&gl, &dy));
    let sizes = operand_bytes(&product);
    let [a, b] = sizes.map(|bytes| Memory::new(batch(g) * bytes, 0x55));
    let code = Code::new(&build(level, fma, 4, |e, p| {
        product.emit_input(e, &xl, [p[0], p[1]]).unwrap();
        product.emit_gradient(e, &gl, [p[2], p[3]]).unwrap();
    }));
    for n in 0..batch(g) {
        let at = |m: &Memory, bytes: usize| m.address() + (n * bytes) as u64;
        let (ai, bi) = (at(&a, sizes[0]), at(&b, sizes[1]));
        code.call(&[at(&xm, xl.bytes()), ai, at(&gm, gl.bytes()), bi]);
    }
    let scales = Memory::of(factors.iter().map(|f| f.to_le_bytes()));
    check_weights(g, level, fma, &product, [&a, &b, &scales], &expected)
}

#[test]
fn weight_grad_floats() {
    everywhere(|level, fma, g| {
        let mut random = Random(6);
        let mut product = WeightGrad::new(g, Operands::Float).unwrap();
        if fma {
            product.input.border = product.input.border.map(|b| b + 1);
            if let GradientLayout::Maps(maps) = &mut product.gradient {
                maps.pitch += 16;
            }
        }
        let x = per_sample(g, g.channels * g.input[0] * g.input[1], |n| random.floats(n));
        let dy = per_sample(g, g.outputs * g.output[0] * g.output[1], |n| random.floats(n));
        let mut expected = vec![0f32; g.outputs * g.taps()];
        for n in 0..batch(g) {
            for (sum, s) in expected.iter_mut().zip(weight_grad(g, &x[n], &dy[n], fma)) {
                *sum += s;
            }
        }
        let GradientLayout::Maps(maps) = &product.gradient else { panic!() };
        let a = Memory::new(batch(g) * product.input.bytes(), 0x7f);
        let dense = Memory::of(x.iter().flatten().map(|v| v.to_le_bytes()));
        let code =
            Code::new(&build(level, fma, 2, |e, p| emit_planes_from_dense(e, false, p[0], &product.input, p[1])));
        for (n, x) in x.iter().enumerate() {
            let from = dense.address() + (n * x.len() * 4) as u64;
            code.call(&[from, a.address() + (n * product.input.bytes()) as u64]);
        }
        let b = maps_memory(maps, &dy);
        check_weights(g, level, fma, &product, [&a, &b, &b], &expected);
    });
}

#[test]
fn pixels_become_planes() {
    let to = Planes::new(2, [3, 5], [1, 2, 0, 1], [1, 1], 4).unwrap();
    let pixels: Vec<u8> = (0..30).map(|i| i * 8 + 7).collect();
    let (from, planes) = (Memory::of(pixels.iter().map(|&p| [p])), Memory::new(to.bytes(), 0x55));
    for level in levels() {
        Code::new(&build(&level, false, 2, |e, p| emit_planes_from_dense(e, true, p[0], &to, p[1])))
            .call(&[from.address(), planes.address()]);
        for (i, &pixel) in pixels.iter().enumerate() {
            let at = i / 15 * to.plane() + to.offset(1 + i / 5 % 3, 2 + i % 5);
            assert_eq!(f32::from_le_bytes(planes.get(at)), f32::from(pixel));
        }
        assert_eq!(planes.get(to.offset(0, 3)), [0; 4]);
    }
}

/// Without a border a plane is copied as it lies: many floats at once, four, and the last ones.
#[test]
fn images_become_planes() {
    for image in [[5, 9], [2, 2], [6, 11], [1, 64], [7, 5]] {
        let to = Planes::new(3, image, [0; 4], [1, 1], 4).unwrap();
        let area = image[0] * image[1];
        let floats = Random(9).floats(3 * area);
        for level in levels() {
            let (from, planes) = (Memory::of(floats.iter().map(|v| v.to_le_bytes())), Memory::new(to.bytes(), 0x55));
            Code::new(&build(&level, false, 2, |e, p| emit_planes_from_dense(e, false, p[0], &to, p[1])))
                .call(&[from.address(), planes.address()]);
            let at = |i: usize| i / area * to.plane() + to.offset(i % area / image[1], i % image[1]);
            let found: Vec<f32> = (0..floats.len()).map(|i| f32::from_le_bytes(planes.get(at(i)))).collect();
            assert_eq!(found, floats, "{image:?}");
            assert_eq!(planes.get(3 * to.plane()), [0x55; 4]);
        }
    }
}

#[test]
fn every_level_compiles() {
    let all = "x86-64-v2,x86-64-v3,x86-64-v3+avxvnni,x86-64-v4,x86-64-v4+vnni,x86-64-v4+amx";
    let x86 = Level::parse(all, &"x86_64-unknown-linux-gnu".parse().unwrap()).unwrap();
    let arm = Level::parse("generic,generic+dotprod+i8mm", &"aarch64-unknown-linux-gnu".parse().unwrap()).unwrap();
    let bytes = Operands::Levels { a: Range { least: 0, greatest: 3 }, b: Range::symmetric(63), bytes: true };
    for level in x86.iter().chain(&arm) {
        for g in geometries() {
            for operands in [LEVELS, bytes, Operands::Float] {
                let fma = level.has_fma();
                forward_image(level, fma, &Forward::new(&g, operands).unwrap(), 0).check().unwrap();
                input_image(level, fma, &InputGrad::new(&g, operands).unwrap()).check().unwrap();
                weight_image(level, fma, &WeightGrad::new(&g, operands).unwrap()).check().unwrap();
            }
            if let Some(product) = PatchGrad::new(&g).unwrap() {
                patch_image(level, level.has_fma(), &product).check().unwrap();
            }
            if let Some(product) = behind(&g, [2, 2]) {
                patch_image(level, level.has_fma(), &product).check().unwrap();
            }
        }
    }
}

/// The form that the tile of levels is written in must stay the one that these machines have instructions for.
#[test]
fn levels_become_their_instructions() {
    let bytes = Operands::Levels { a: Range { least: 0, greatest: 3 }, b: Range::symmetric(63), bytes: true };
    let (x86, arm) = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu");
    let levels = [
        ("x86-64-v2", x86, LEVELS, &["pmaddwd"][..]),
        ("generic", arm, LEVELS, &["smull ", "smull2 ", "addp "]),
        ("x86-64-v2", x86, bytes, &["pmaddubsw", "pmaddwd"]),
        ("generic", arm, bytes, &["addp "]),
        ("generic+i8mm", arm, bytes, &["usdot "]),
    ];
    for (name, triple, operands, instructions) in levels {
        let level = &Level::parse(name, &triple.parse().unwrap()).unwrap()[0];
        let g = &geometries()[0];
        let image = forward_image(level, level.has_fma(), &Forward::new(g, operands).unwrap(), 0);
        let asm =
            image.functions.iter().find(|f| f.name.starts_with("tile")).and_then(|f| f.code.as_ref()?.asm.as_ref());
        let asm = asm.expect("a tile");
        for instruction in instructions {
            let count = asm.matches(instruction).count();
            assert_eq!(count, if level.has_fma() { 16 } else { 8 }, "{instruction} in {asm}");
        }
    }
}
