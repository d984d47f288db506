//! Every operator and sink on eight and sixteen lanes against four, with values that overflow, and with more of them than
//! there are registers; and the instructions against what each level has.

use super::super::clif::{Played, Point};
use super::super::nest::{Nest, Sink};
use super::super::operators::clip;
use super::super::program::{Access, Binary, Compare, Element, Lane, Level as When, Op, Program, Type, Unary};
use super::{Leaf, widths};
use crate::codegen::emitter::Emitter;
use crate::codegen::products::testing::{Code, Memory, build};
use crate::codegen::target::Level;
use crate::codegen::tiles::tests::{only_avx2, only_level_4};
use crate::codegen::tiles::{Width, assembler};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};

/// Channels of the nests: one call does them all at either width.
const CHANNELS: usize = 32;
/// Bytes of a test's inputs, outputs and parameters.
const REGION: usize = 1 << 16;

/// What a nest is built on: addresses of inputs, of parameters and of results, and a factor.
struct Given {
    inputs: Value,
    parameters: Value,
    results: Value,
    factor: Value,
}

/// An image's elements, each row followed by `gap` columns.
fn image(base: Value, element: Element, [origin, width, gap]: [usize; 3]) -> Access {
    let column = CHANNELS * element.size();
    Access { base, element, origin, row: (width + gap) * column, column }
}

/// Floats and integers of all kinds that an image, the channels and the task give.
fn sources(p: &mut Program, given: &Given, width: usize) -> (Vec<Lane>, Vec<Lane>) {
    let point =
        |p: &mut Program, element, origin, gap| p.load(image(given.inputs, element, [origin, width, gap]), When::Point);
    let f = point(p, Element::F32, 0, 0);
    let g = point(p, Element::F32, 8192, 2);
    let c = p.load(Access::channels(given.parameters, Element::F32), When::Channel);
    let once = Access { origin: 512, ..Access::channels(given.parameters, Element::F32) };
    let once = p.load(once, When::Task);
    let integers = vec![
        point(p, Element::I32, 16384, 1),
        point(p, Element::I16, 24576, 0),
        point(p, Element::U8, 32768, 0),
        p.push(Op::Channel, Type::I32, When::Channel),
        p.push(Op::Flat, Type::I32, When::Point),
    ];
    let decoded = p.decode(integers[1], given.factor);
    (vec![f, g, c, once, decoded], integers)
}

/// Every operator once, on neighbouring sources.
fn every(p: &mut Program, floats: &[Lane], integers: &[Lane]) -> (Vec<Lane>, Vec<Lane>) {
    let (mut fs, mut is) = (Vec::new(), Vec::new());
    let pair = |list: &[Lane], i: usize| (list[i % list.len()], list[(i + 1) % list.len()]);
    let of_floats = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Less, Binary::Greater];
    for (i, op) in of_floats.into_iter().chain([Binary::And, Binary::Or, Binary::Xor]).enumerate() {
        let (a, b) = pair(floats, i);
        fs.push(p.push(Op::Binary(op, a, b), Type::F32, When::Constant));
    }
    for (i, op) in [Binary::IAdd, Binary::ISub, Binary::IMul, Binary::Xor, Binary::And].into_iter().enumerate() {
        let (a, b) = pair(integers, i);
        is.push(p.push(Op::Binary(op, a, b), Type::I32, When::Constant));
    }
    let unary = [Unary::Neg, Unary::Abs, Unary::Sqrt, Unary::Nearest, Unary::Floor, Unary::Ceil, Unary::Trunc];
    fs.extend(unary.iter().enumerate().map(|(i, &op)| p.unary(op, floats[i % floats.len()])));
    fs.push(p.unary(Unary::ToFloat, integers[0]));
    is.extend(floats.iter().map(|&f| p.unary(Unary::ToInteger, f)));
    let clipped = clip(p, floats[0], -3.0, 100.0);
    is.push(p.unary(Unary::ToInteger, clipped));
    is.push(p.shift_right(integers[0], 7));
    for (i, op) in [Compare::Equal, Compare::Above, Compare::AtLeast].into_iter().enumerate() {
        let ((a, b), (x, y)) = (pair(floats, i), pair(integers, i));
        let (m, n) = (p.compare(op, a, b), p.compare(op, x, y));
        let both = p.both(m, n);
        fs.push(p.select(m, b, a));
        is.push(p.select(both, x, y));
        is.push(p.select(n, y, x));
    }
    (fs, is)
}

/// Every operator and sink over an image, all results alive to the end.
fn nest(given: &Given, shape: [usize; 2]) -> Nest {
    let mut p = Program::default();
    let (floats, integers) = sources(&mut p, given, shape[1]);
    let (fs, is) = every(&mut p, &floats, &integers);
    let twice = fs.clone().into_iter().reduce(|a, b| p.fadd(a, b)).unwrap();
    let all = is.clone().into_iter().reduce(|a, b| p.xor(a, b)).unwrap();
    let at = |element, origin, gap| image(given.results, element, [origin, shape[1], gap]);
    let base = |origin: usize| Access { origin, ..Access::channels(given.results, Element::F32) };
    // As many of the results as there are addresses; the sums tell of the others.
    let mut sinks = vec![
        Sink::Store(at(Element::F32, 0, 0), twice),
        Sink::Store(at(Element::I32, 8192, 3), all),
        Sink::Store(at(Element::I16, 16384, 0), all),
        Sink::Store(at(Element::U8, 24576, 1), is[3]),
        Sink::Store(base(32768), floats[2]),
        Sink::Greatest(floats[0]),
        Sink::Greatest(p.abs(floats[1])),
    ];
    sinks.extend(fs.iter().map(|&v| Sink::Sum(given.results, v, None)));
    sinks.extend(fs.iter().zip(&floats).map(|(&a, &b)| Sink::Sum(given.results, a, Some(b))));
    sinks.extend(is.iter().map(|&v| Sink::Moments(given.results, 256, v)));
    Nest { program: p, sinks, image: shape }
}

/// Gives each sum a place of its own.
fn spread(e: &mut Emitter<'_, '_>, nest: &mut Nest, results: Value) {
    let mut at = 36864;
    for sink in &mut nest.sinks {
        if let Sink::Sum(base, ..) | Sink::Moments(base, ..) = sink {
            *base = e.add(results, at);
            at += 512;
        }
    }
    assert!(at <= REGION);
}

/// The results of the nest, computed in four lanes or by leaf functions of a width.
fn results(
    level: &Level,
    fma: bool,
    shape: [usize; 2],
    wide: Option<(Width, bool)>,
    keep: fn(usize) -> bool,
) -> Vec<u8> {
    let memory = [Memory::new(REGION, 0), Memory::new(4096, 0), Memory::new(REGION, 0x5a)];
    let [mut inputs, mut parameters, results] = memory;
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 2147483648.0, -2147483904.0, 1e-40, 0.5, 1.5, -2.5];
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as u32
    };
    for at in (0..REGION).step_by(4) {
        let v = if at < 16384 && next() % 4 > 0 {
            (next() as f32 / 1e9 - 1.0).to_bits()
        } else if at < 16384 {
            odd[next() as usize % odd.len()].to_bits()
        } else {
            next() ^ next() << 9
        };
        inputs.set(at, v.to_le_bytes());
        if at < 4096 {
            parameters.set(at, (next() as f32 / 1e9 - 1.0).to_le_bytes());
        }
    }
    let image = build(level, fma, 4, |e, a| {
        let factor = e.b.ins().bitcast(types::F64, MemFlagsData::new(), a[3]);
        let given = Given { inputs: a[0], parameters: a[1], results: a[2], factor };
        let mut nest = nest(&given, shape);
        let mut index = 0..;
        nest.sinks.retain(|_| index.next().is_some_and(keep));
        spread(e, &mut nest, a[2]);
        let mut played = Played::of_width(shape[1]);
        let zero = e.int(0);
        played.play(e, &nest.program, When::Task, Point { channel: zero, flat: zero, place: None });
        let none = e.splat_f32(0.0);
        let maxima = [e.var(none), e.var(none)];
        match wide {
            None => nest.narrow(e, &mut played, [0, CHANNELS], &maxima).unwrap(),
            Some((width, bands)) => {
                let leaf = Leaf::of(&nest, width, fma).expect("has a wide form");
                let leaf = if bands { leaf.over(CHANNELS) } else { leaf };
                assert_eq!(leaf.bands.is_some(), bands && shape[0] * shape[1] > 16, "{shape:?}");
                let stop = e.int(CHANNELS);
                let found = leaf.call(e, &played, [zero, stop]).unwrap();
                for (&maximum, lanes) in maxima.iter().zip(found) {
                    lanes.into_iter().for_each(|x| super::super::nest::keep_greatest(e, maximum, x, 4));
                }
            }
        }
        for (i, maximum) in maxima.into_iter().enumerate() {
            let v = super::super::nest::across(e, maximum);
            e.store(v, a[2], 36000 + 4 * i as i32);
        }
    });
    Code::new(&image).call(&[inputs.address(), parameters.address(), results.address(), 0.37f64.to_bits()]);
    results.bytes().to_vec()
}

/// Equal but for the payloads of NaNs, which no operator defines.
fn same(a: &[u8], b: &[u8]) {
    let mut wrong = Vec::new();
    for (i, (a, b)) in a.chunks(4).zip(b.chunks(4)).enumerate() {
        let [a, b] = [a, b].map(|v| u32::from_le_bytes(v.try_into().unwrap()));
        let nan = |v: u32| f32::from_bits(v).is_nan();
        let float = !(8192..32768).contains(&(4 * i));
        if !(a == b || float && nan(a) && nan(b)) {
            wrong.push(format!("{}: {a:#x} {b:#x}", 4 * i));
        }
    }
    assert!(wrong.is_empty(), "{} words differ: {}", wrong.len(), wrong[..wrong.len().min(40)].join(", "));
}

/// All sinks; the stores; two sums besides; and some of every kind, few enough for their sums to wait between bands.
const KEPT: [fn(usize) -> bool; 4] = [|_| true, |i| i < 7, |i| i < 9, |i| i < 7 || i % 9 == 0];

#[test]
fn wide_lanes_give_the_bits_of_four() {
    let levels = Level::parse("native", &target_lexicon::Triple::host()).unwrap();
    let (mut ran, mut banded) = (0, 0);
    for shape in [[1, 1], [3, 5], [2, 8], [1, 7], [4, 8], [5, 9], [1, 33]] {
        for fma in [false, true] {
            for (i, keep) in KEPT.into_iter().enumerate() {
                let all = [Width::Ymm, Width::Zmm].into_iter().filter(|&w| {
                    let mut has = false;
                    build(&levels[0], false, 0, |e, _| has = widths(e).contains(&w));
                    has
                });
                for width in all {
                    let four = results(&levels[0], fma, shape, None, keep);
                    same(&four, &results(&levels[0], fma, shape, Some((width, false)), keep));
                    if i > 0 {
                        same(&four, &results(&levels[0], fma, shape, Some((width, true)), keep));
                        banded += usize::from(shape[0] * shape[1] > 16);
                    }
                    ran += 1;
                }
            }
        }
    }
    if ran == 0 {
        eprintln!("SKIPPED: this machine has no AVX2");
    } else {
        assert!(banded > 0);
    }
}

#[test]
fn wide_lanes_hold_no_newer_instruction() {
    let level = &Level::parse("x86-64-v2", &target_lexicon::Triple::host()).unwrap()[0];
    // AVX-512 F, BW and DQ.
    let more = [
        "Vmovups",
        "Vbroadcastss",
        "Vbroadcastsd",
        "Vaddps",
        "Vsubps",
        "Vmulps",
        "Vdivps",
        "Vminps",
        "Vmaxps",
        "Vpsubd",
        "Vandps",
        "Vorps",
        "Vxorps",
        "Vrndscaleps",
        "Vsqrtps",
        "Vcvtdq2ps",
        "Vcvttps2dq",
        "Vcmpps",
        "Vpmovm2d",
        "Vpandd",
        "Vpsrld",
        "Vpcmpd",
        "Kandw",
        "Vblendmps",
        "Vcvtdq2pd",
        "Vmulpd",
        "Vcvtpd2ps",
        "Vinsertf64x4",
        "Vpmovsxwd",
        "Vpmovzxbd",
        "Vpmovsdw",
        "Vpmaxsd",
        "Vpmovusdb",
        "Vfmadd231ps",
        "Vpmovsxdq",
        "Vpmuldq",
    ];
    build(level, false, 4, |e, a| {
        let factor = e.b.ins().bitcast(types::F64, MemFlagsData::new(), a[3]);
        let nest = nest(&Given { inputs: a[0], parameters: a[1], results: a[2], factor }, [3, 5]);
        for fma in [false, true] {
            let assembled = |width| {
                let leaf = Leaf::of(&nest, width, fma).expect("has a wide form").over(CHANNELS);
                assembler(|a| leaf.assemble(a).map(|forgotten| assert_eq!(forgotten, None))).unwrap()
            };
            only_avx2(&assembled(Width::Ymm));
            only_level_4(&assembled(Width::Zmm), &more);
        }
    });
}
