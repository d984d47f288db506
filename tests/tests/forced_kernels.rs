//! Every kernel that this machine has, forced one by one on the same layers, with codes at their greatest, at their least, and
//! mixed: the interpreter's bits. And what a kernel that cannot be had says.

use dorefa_runtime::{Session, Tensor};
use dorefac::codegen::kernels::choice::Kernel;
use dorefac::codegen::target::{Arch, Level, a64, host_features, x86};
use dorefac::compile::{CompileError, Options, Wish, compile, profile};
use dorefac::graph::Graph;
use dorefac::{interp, text};
use dorefac_tests::layers::{self, Fill};
use dorefac_tests::machine;
use std::collections::BTreeSet;

fn network(channels: usize, size: usize, input: &str, layer: &str, weights: Fill) -> Graph {
    layers::network([channels, size], input, layer, weights, profile(&levels(None)))
}

/// The level `native`; with what may run in software and thus slowly for the kernels that are about it.
fn levels(kernel: Option<Kernel>) -> Vec<Level> {
    match kernel {
        Some(Kernel::Amx | Kernel::SplitAmx) => machine::native_with("amx"),
        Some(Kernel::SplitAvxVnni) => machine::native_with("avxvnni"),
        _ => machine::native_with(""),
    }
}

fn options(layer: &str, kernel: &str) -> Options {
    let wish = Wish { layer: layer.to_owned(), kernel: kernel.to_owned(), measured: false };
    Options { kernels: vec![wish], ..Options::default() }
}

/// Forces every kernel on the layer `c`; gives those that it can have.
fn force_all(graph: &Graph, channels: usize, size: usize) -> BTreeSet<Kernel> {
    // An instruction in software for every few products takes too long for these layers.
    let own = |k: &Kernel| *k != Kernel::SplitAvxVnni || host_features() & x86::AVXVNNI != 0;
    force(&Kernel::ALL.into_iter().filter(own).collect::<Vec<_>>(), graph, channels, size)
}

fn force(kernels: &[Kernel], graph: &Graph, channels: usize, size: usize) -> BTreeSet<Kernel> {
    kernels.iter().copied().filter(|&k| forced(k, &levels(Some(k)), graph, channels, size)).collect()
}

/// Whether the layer `c` can have a kernel at these levels; with the interpreter's bits then.
fn forced(kernel: Kernel, levels: &[Level], graph: &Graph, channels: usize, size: usize) -> bool {
    let fma = profile(levels);
    let compiled = match compile(graph, levels, &options("c", &kernel.word())) {
        Ok(compiled) => compiled,
        Err(CompileError::Kernels(lines)) => {
            assert!(lines.len() == 1 && lines[0].contains("; possible are "), "{lines:?}");
            eprintln!("{}", lines[0]);
            return false;
        }
        Err(other) => panic!("{other}"),
    };
    assert!(compiled.kernels.contains(&kernel.name()), "{:?}", compiled.kernels);
    let jit = machine::model(&compiled.image).expect("loads");
    for fill in Fill::ALL {
        let shape = vec![2, channels, size, size];
        let x = Tensor::f32(shape.clone(), (0..shape.iter().product()).map(|i| fill.value(i)).collect());
        let x = [x.expect("fits")];
        let want = interp::run(graph, &x, fma).expect("runs");
        for threads in [1, 3] {
            let got = Session::new(&jit, threads).expect("session").run(&x).expect("runs");
            let bits = |t: &[Tensor]| {
                t.iter().flat_map(|t| t.as_f32().unwrap_or(&[]).iter().map(|v| v.to_bits())).collect::<Vec<_>>()
            };
            assert!(bits(&want) == bits(&got), "{kernel:?}, pixels {fill:?}, {threads} threads");
        }
    }
    true
}

/// The kernels of `all` whose instructions run here.
fn here(all: &[Kernel]) -> BTreeSet<Kernel> {
    let has = |level: &str| {
        let levels = Level::parse(level, &"x86_64-unknown-linux-gnu".parse().expect("a triple")).expect("a level");
        levels.iter().all(machine::runs)
    };
    let arm = Arch::host() == Some(Arch::Aarch64);
    let runs = |k: &Kernel| match k {
        Kernel::Amx | Kernel::SplitAmx => has("x86-64-v4+vbmi+amx"),
        Kernel::LookUp64 => has("x86-64-v4+vbmi"),
        Kernel::PopcountAvx512 => has("x86-64-v4+vpopcntdq"),
        Kernel::SplitVnni | Kernel::SplitWinograd => has("x86-64-v4+vnni"),
        Kernel::SplitAvxVnni => host_features() & x86::AVXVNNI != 0,
        Kernel::FloatAvx512 => has("x86-64-v4"),
        Kernel::LookUp16Avx2 | Kernel::LookUpFlatAvx2 => has("x86-64-v3"),
        Kernel::SplitBytesAvx2 | Kernel::SplitAvx2 | Kernel::SplitWinogradAvx2 | Kernel::FloatAvx2 => has("x86-64-v3"),
        Kernel::LookUpFlat => arm || has("x86-64-v2"),
        Kernel::SplitDot => arm && host_features() & (a64::DOTPROD | a64::I8MM) != 0,
        Kernel::SplitNeon => arm,
        _ => true,
    };
    all.iter().copied().filter(runs).collect()
}

const BITS: [Kernel; 2] = [Kernel::PopcountAvx512, Kernel::Popcount];
const SPLIT: [Kernel; 6] =
    [Kernel::SplitVnni, Kernel::SplitAvxVnni, Kernel::SplitAvx2, Kernel::SplitDot, Kernel::SplitNeon, Kernel::Split];
/// Those that multiply bytes in one digit only, too.
const SMALL: [Kernel; 7] = [
    Kernel::SplitVnni,
    Kernel::SplitAvxVnni,
    Kernel::SplitBytesAvx2,
    Kernel::SplitAvx2,
    Kernel::SplitDot,
    Kernel::SplitNeon,
    Kernel::Split,
];
const TRANSFORMED: [Kernel; 2] = [Kernel::SplitWinograd, Kernel::SplitWinogradAvx2];
const FLAT: [Kernel; 2] = [Kernel::LookUpFlatAvx2, Kernel::LookUpFlat];
const LOOK_UP: [Kernel; 3] = [Kernel::LookUp64, Kernel::LookUp16Avx2, Kernel::LookUp16];

#[test]
fn few_bits_by_every_kernel() {
    for (w, a) in [(1, 1), (1, 2), (2, 2)] {
        let input = format!("quantize_activation(x, bits={a})");
        let layer = format!("c = conv(a, quantize_weights(@w: f32[64, 128, 3, 3], bits={w}), pads=[1, 1, 1, 1])");
        for (tail, weights) in Fill::ALL.map(|f| ("y = relu(c)", f)).into_iter().chain([(
            "q = quantize_activation(c, bits=2); y = conv(q, quantize_weights(@v: f32[16, 64, 1, 1], bits=1))",
            Fill::Mixed,
        )]) {
            let graph = network(128, 9, &input, &format!("{layer}; {tail}"), weights);
            let possible = force_all(&graph, 128, 9);
            let all = [&BITS[..], &SMALL, &LOOK_UP, &[Kernel::Amx, Kernel::Direct]].concat();
            assert_eq!(possible, here(&all), "W{w}A{a}");
        }
    }
}

/// Fully connected layers of few bits: channels and outputs that are no whole words, several taps, codes and floats behind them.
#[test]
fn one_position_by_every_kernel() {
    for (channels, size, outputs) in [(70, 1, 40), (256, 1, 130), (20, 3, 64), (1300, 2, 65)] {
        for (w, a) in [(1, 1), (1, 2), (2, 2), (3, 1)] {
            let input = format!("quantize_activation(x, bits={a})");
            let layer =
                format!("c = conv(a, quantize_weights(@w: f32[{outputs}, {channels}, {size}, {size}], bits={w}))");
            let codes = format!(
                "q = quantize_activation(c, bits=2); y = conv(q, quantize_weights(@v: f32[16, {outputs}, 1, 1], bits=1))"
            );
            for (tail, weights) in
                [("y = relu(c)", Fill::Greatest), ("y = relu(c)", Fill::Least), (&codes, Fill::Mixed)]
            {
                let graph = network(channels, size, &input, &format!("{layer}; {tail}"), weights);
                let possible = force(&[BITS, FLAT].concat(), &graph, channels, size);
                assert_eq!(possible, here(&[BITS, FLAT].concat()), "{channels}x{size}x{outputs} W{w}A{a}");
            }
        }
    }
}

/// Thresholds behind 16-entry look-ups: rows of odd widths, kernels, paddings, groups and channels, bits and nibbles, falling channels.
#[test]
fn codes_by_rows_of_look_ups() {
    let kernels = [Kernel::LookUp16Avx2, Kernel::LookUp16];
    for (channels, size, outputs, conv) in [
        (12, 9, 32, "@w: f32[32, 12, 3, 3], bits=1), pads=[1, 1, 1, 1]"),
        (20, 8, 64, "@w: f32[64, 20, 2, 2], bits=1), pads=[0, 1, 1, 0]"),
        (64, 15, 32, "@w: f32[32, 64, 3, 3], bits=1), pads=[2, 0, 1, 2], strides=[2, 1]"),
        (48, 7, 96, "@w: f32[96, 48, 3, 1], bits=1), dilations=[2, 1], pads=[2, 0, 2, 0]"),
        (24, 10, 64, "@w: f32[64, 12, 3, 3], bits=1), groups=2, pads=[1, 1, 1, 1]"),
        (260, 6, 32, "@w: f32[32, 260, 1, 3], bits=1), pads=[0, 1, 0, 1]"),
        // Three tiles a row, of which the last overlaps.
        (28, 19, 32, "@w: f32[32, 28, 3, 3], bits=1), pads=[1, 1, 1, 1]"),
        // Three blocks of 16 outputs a group are no pairs: not by rows.
        (32, 9, 96, "@w: f32[96, 16, 3, 3], bits=1), groups=2, pads=[1, 1, 1, 1]"),
        // A stride, and five taps across.
        (16, 9, 32, "@w: f32[32, 16, 3, 3], bits=1), strides=[1, 2], pads=[1, 1, 1, 1]"),
        (16, 9, 32, "@w: f32[32, 16, 5, 5], bits=1), pads=[2, 2, 2, 2]"),
        (24, 6, 32, "@w: f32[32, 24, 4, 4], bits=1), pads=[1, 1, 1, 1]"),
        (16, 11, 32, "@w: f32[32, 16, 5, 5], bits=1), strides=[2, 3], pads=[2, 2, 2, 2]"),
        // Six taps: not by rows.
        (16, 9, 32, "@w: f32[32, 16, 1, 6], bits=1), pads=[0, 2, 0, 3]"),
    ] {
        for (a, b) in [(1, 1), (2, 2), (2, 1)] {
            let layer = format!("c = conv(a, quantize_weights({conv}); n = mul(c, @g: f32[{outputs}, 1, 1])");
            let codes = format!("{layer}; q = quantize_activation(n, bits={b})");
            let input = format!("quantize_activation(x, bits={a})");
            for tail in [
                format!("y = conv(q, quantize_weights(@v: f32[16, {outputs}, 1, 1], bits=1))"),
                format!("y = conv(q, quantize_weights(@v: f32[5, {outputs}, 1, 1], bits=3))"),
            ] {
                let weights = if a == b { Fill::Mixed } else { Fill::Greatest };
                let graph = network(channels, size, &input, &format!("{codes}; {tail}"), weights);
                assert_eq!(force(&kernels, &graph, channels, size), here(&kernels), "{conv}");
            }
        }
    }
}

/// Forces `kernels` on layers of codes of 3 and 4 bits, in bit planes, with every filling; `last` outputs of the layer behind.
fn force_on_planes(kernels: &[Kernel], last: usize, layers: &[(usize, usize, usize, &str)]) {
    for &(channels, size, outputs, conv) in layers {
        for (a, b) in [(3, 4), (4, 2)] {
            let layer = format!("c = conv(a, quantize_weights({conv}); n = mul(c, @g: f32[{outputs}, 1, 1])");
            let codes = format!("{layer}; q = quantize_activation(n, bits={b})");
            let tail = format!("y = conv(q, quantize_weights(@v: f32[{last}, {outputs}, 1, 1], bits=1))");
            for weights in Fill::ALL {
                let input = format!("quantize_activation(x, bits={a})");
                let graph = network(channels, size, &input, &format!("{codes}; {tail}"), weights);
                assert_eq!(force(kernels, &graph, channels, size), here(kernels), "{conv}");
            }
        }
    }
}

/// Codes of 3 and 4 bits, in bit planes, are two rows of look-ups: of odd channels, groups, strides and several planes of weights.
#[test]
fn planes_by_rows_of_look_ups() {
    let layers = [
        (64, 9, 32, "@w: f32[32, 64, 3, 3], bits=1), pads=[1, 1, 1, 1]"),
        (128, 8, 64, "@w: f32[64, 64, 3, 3], bits=2), groups=2, pads=[1, 1, 1, 1]"),
        (70, 8, 64, "@w: f32[64, 70, 3, 3], bits=2), pads=[1, 1, 1, 1]"),
        (13, 16, 32, "@w: f32[32, 13, 5, 5], bits=1), strides=[1, 2], pads=[2, 2, 2, 2]"),
    ];
    force_on_planes(&[Kernel::LookUp16Avx2, Kernel::LookUp16], 16, &layers);
}

/// Sums of bytes are widened as seldom as the weights allow, so it matters which channels have them.
#[test]
fn uneven_weights_by_every_kernel() {
    for (a, b) in [(2, 2), (1, 4), (4, 1)] {
        let conv = "c = conv(a, quantize_weights(@w: f32[64, 68, 3, 3], bits=1), pads=[1, 1, 1, 1])";
        let codes = format!("{conv}; n = mul(c, @g: f32[64, 1, 1]); q = quantize_activation(n, bits={b})");
        let tail = "y = conv(q, quantize_weights(@v: f32[16, 64, 1, 1], bits=1))";
        let input = format!("quantize_activation(x, bits={a})");
        let graph = network(68, 9, &input, &format!("{codes}; {tail}"), Fill::Uneven);
        assert!(force_all(&graph, 68, 9).len() > 1, "{a}");
    }
}

/// Codes of 3 and 4 bits, in bit planes, are two rings of 64-entry tables, where weights have one bit.
#[test]
fn planes_by_rings_of_tables() {
    let layers = [
        (64, 9, 64, "@w: f32[64, 64, 3, 3], bits=1), pads=[1, 1, 1, 1]"),
        (128, 8, 64, "@w: f32[64, 64, 3, 3], bits=1), groups=2, pads=[1, 1, 1, 1]"),
        (36, 11, 96, "@w: f32[96, 36, 5, 5], bits=1), strides=[1, 2], pads=[2, 2, 2, 2]"),
        (48, 20, 128, "@w: f32[128, 48, 3, 3], bits=1), dilations=[2, 2], pads=[2, 2, 2, 2]"),
    ];
    force_on_planes(&[Kernel::LookUp64], 64, &layers);
}

/// Codes of 1 and 2 bits lie in bit planes where a fully connected layer reads them too.
#[test]
fn planes_that_others_read_by_tables() {
    let kernels = [Kernel::LookUp64];
    let flat = 64 * 81;
    for a in [1, 2] {
        let conv = "c = conv(a, quantize_weights(@w: f32[64, 64, 3, 3], bits=2), pads=[1, 1, 1, 1])";
        let codes = format!("{conv}; n = mul(c, @g: f32[64, 1, 1]); q = quantize_activation(n, bits=2)");
        let read = |of: &str, to: &str| {
            format!(
                "{to}f = reshape({of}, shape=[{flat}]); {to} = matmul({to}f, quantize_weights(@{to}w: f32[16, {flat}], bits=1))"
            )
        };
        let tail = format!("{}; {}; y = add(z, v)", read("a", "z"), read("q", "v"));
        for weights in Fill::ALL {
            let input = format!("quantize_activation(x, bits={a})");
            let graph = network(64, 9, &input, &format!("{codes}; {tail}"), weights);
            assert_eq!(force(&kernels, &graph, 64, 9), here(&kernels), "{a}");
        }
    }
}

/// A layer of codes to which its own input is added before the quantiser: the residual's codes choose among its thresholds.
#[test]
fn residual_adds_by_every_kernel() {
    let few = |bits: usize| format!("quantize_activation(x, bits={bits})");
    let three = "multi_threshold(x, @t: f32[1, 2])".to_owned();
    for (channels, groups, input, bits) in [
        (64, 1, few(2), 2),
        (128, 2, few(2), 1),
        (32, 1, few(1), 2),
        (48, 1, few(2), 2),
        (96, 2, few(1), 1),
        (64, 1, three, 2),
    ] {
        let (inner, flat) = (channels / groups, channels * 49);
        let conv = format!(
            "c = conv(a, quantize_weights(@w: f32[{channels}, {inner}, 3, 3], bits=1), pads=[1, 1, 1, 1], groups={groups})"
        );
        let steps =
            format!("n = mul(c, @g: f32[{channels}, 1, 1]); m = add(n, @o: f32[{channels}, 1, 1]); s = add(m, a)");
        let codes = format!("{conv}; {steps}; q = quantize_activation(s, bits={bits})");
        for tail in [
            format!("y = conv(q, quantize_weights(@v: f32[16, {channels}, 1, 1], bits=1))"),
            format!("f = reshape(q, shape=[{flat}]); y = matmul(f, quantize_weights(@v: f32[16, {flat}], bits=1))"),
            "y = global_average_pool(q)".to_owned(),
        ] {
            let graph = network(channels, 7, &input, &format!("{codes}; {tail}"), Fill::Mixed);
            let fused =
                graph.order().iter().any(|&id| graph.node(id).is_some_and(|n| n.op.name == "residual_threshold"));
            assert!(fused, "{}", text::print(&graph));
            let possible = force_all(&graph, channels, 7);
            assert!(
                possible.contains(&Kernel::LookUp64) == here(&[Kernel::LookUp64]).contains(&Kernel::LookUp64),
                "{possible:?}"
            );
        }
    }
}

#[test]
fn many_bits_by_every_kernel() {
    // Weights of 8 bits are odd multiples of half a step, up to 255: no byte, but two digits.
    let (amx, two) = ([Kernel::Amx], [Kernel::SplitAmx]);
    let small = &SMALL[..];
    for (w, a, popcounts, split, amx) in
        [(4, 4, &BITS[..], small, &amx), (3, 5, &BITS, small, &amx), (8, 8, &BITS[1..], &SPLIT, &two)]
    {
        let input = format!("quantize_activation(x, bits={a})");
        let layer =
            format!("c = conv(a, quantize_weights(@w: f32[24, 64, 3, 3], bits={w}), strides=[2, 2]); y = relu(c)");
        for weights in Fill::ALL {
            let possible = force_all(&network(64, 9, &input, &layer, weights), 64, 9);
            assert_eq!(possible, here(&[popcounts, split, &amx[..], &[Kernel::Direct]].concat()), "W{w}A{a}");
        }
    }
}

#[test]
fn groups_rows_fixed_point_and_floats_by_every_kernel() {
    let codes = "quantize_activation(x, bits=2)";
    let grouped =
        "c = conv(a, quantize_weights(@w: f32[128, 64, 3, 3], bits=1), groups=2, pads=[1, 1, 1, 1]); y = relu(c)";
    let flat = "c = conv(a, quantize_weights(@w: f32[130, 64, 6, 6], bits=2)); y = relu(c)";
    let depthwise = "c = conv(a, quantize_weights(@w: f32[8, 1, 3, 3], bits=2), groups=8); y = relu(c)";
    let fixed = "c = conv(a, @w: f32[24, 16, 3, 3]); y = relu(c)";
    let float = "c = conv(a, @w: f32[24, 16, 3, 3], pads=[1, 1, 1, 1]); y = relu(c)";
    for weights in Fill::ALL {
        let all = [&BITS[..], &SMALL, &LOOK_UP, &[Kernel::Amx, Kernel::Direct]].concat();
        assert_eq!(force_all(&network(128, 7, codes, grouped, weights), 128, 7), here(&all));
        let row = [&BITS[..], &SMALL, &FLAT, &[Kernel::Direct]].concat();
        assert_eq!(force_all(&network(64, 6, codes, flat, weights), 64, 6), here(&row));
        let possible = force_all(&network(8, 6, codes, depthwise, weights), 8, 6);
        assert!(possible.is_superset(&here(&[Kernel::Direct, Kernel::Split])), "{possible:?}");
        let floats = [Kernel::FloatAvx512, Kernel::FloatAvx2, Kernel::Float];
        assert_eq!(force_all(&network(16, 7, "abs(x)", float, weights), 16, 7), here(&floats));
    }
    let wide = [&SPLIT[..], &[Kernel::SplitAmx, Kernel::DirectWide]].concat();
    assert_eq!(force_all(&network(16, 7, codes, fixed, Fill::Rough), 16, 7), here(&wide));
}

/// Codes are pooled by the step that makes them, whichever kernel that is; a channel that falls behind the pool takes the least.
#[test]
fn pools_by_every_kernel() {
    let codes = "quantize_activation(x, bits=2)";
    let all = [&BITS[..], &SMALL, &LOOK_UP, &[Kernel::Amx, Kernel::Direct]].concat();
    let wide = [&SPLIT[..], &[Kernel::SplitAmx, Kernel::DirectWide]].concat();
    let transformed = [&wide[..], &TRANSFORMED].concat();
    let (pool, next) = ("max_pool(P, kernel=[2, 2], strides=[2, 2])", "y = conv(r, @k: f32[8, 64, 1, 1])");
    for bits in [1, 2, 3] {
        for tail in [
            format!(
                "m = mul(c, @g: f32[64, 1, 1]); p = {}; r = quantize_activation(p, bits={bits})",
                pool.replace('P', "m")
            ),
            format!(
                "p = {}; m = mul(p, @g: f32[64, 1, 1]); r = quantize_activation(m, bits={bits})",
                pool.replace('P', "c")
            ),
        ] {
            let tables = format!(
                "c = conv(a, quantize_weights(@w: f32[64, 64, 3, 3], bits=1), pads=[1, 1, 1, 1]); {tail}; {next}"
            );
            assert_eq!(force_all(&network(64, 6, codes, &tables, Fill::Mixed), 64, 6), here(&all), "{tables}");
            let fixed = format!("c = conv(a, @w: f32[64, 16, 3, 3], pads=[1, 1, 1, 1]); {tail}; {next}");
            let wide = if bits < 3 { &transformed } else { &wide };
            assert_eq!(force_all(&network(16, 6, codes, &fixed, Fill::Rough), 16, 6), here(wide), "{fixed}");
        }
    }
}

/// What [`with_tails`] puts behind a layer of O outputs: codes of 2 bits.
const CODES: &str = "quantize_activation(c, bits=2); y = conv(q, quantize_weights(@v: f32[16, O, 1, 1], bits=1))";
/// Codes of more bits than masks hold.
const MANY: &str = "quantize_activation(c, bits=4); y = conv(q, quantize_weights(@v: f32[16, O, 1, 1], bits=1))";

/// Geometries that AMX tiles treat differently: groups and channels that fill no chunk, an odd block of outputs, strides whose
/// rows begin tiles of their own, dilation, tasks that share outputs, strips of several rows, bit planes and nibbles.
#[test]
fn amx_on_every_geometry() {
    if here(&[Kernel::Amx]).is_empty() {
        eprintln!("SKIPPED: this CPU lacks AVX-512 VBMI, which the kernel has besides AMX");
        return;
    }
    // Four outputs have no look-up, so their reader asks for bit planes.
    let planes = "quantize_activation(c, bits=1); y = conv(q, quantize_weights(@v: f32[4, O, 1, 1], bits=1))";
    let cases = [
        (5, 9, "@w: f32[16, 5, 1, 1], bits=1", "pads=[1, 1, 1, 1]", 16, 1),
        (96, 13, "@w: f32[128, 48, 5, 5], bits=1", "groups=2, pads=[2, 2, 2, 2]", 128, 2),
        (48, 20, "@w: f32[48, 48, 3, 3], bits=2", "pads=[1, 1, 1, 1]", 48, 2),
        (64, 33, "@w: f32[32, 64, 3, 3], bits=1", "strides=[2, 2], pads=[1, 1, 1, 1]", 32, 2),
        (32, 17, "@w: f32[80, 32, 3, 3], bits=1", "dilations=[2, 3]", 80, 1),
        (64, 7, "@w: f32[512, 64, 3, 3], bits=1", "pads=[1, 1, 1, 1]", 512, 2),
        (12, 30, "@w: f32[16, 12, 4, 2], bits=2", "strides=[1, 2], pads=[0, 1, 2, 0]", 16, 3),
        (64, 40, "@w: f32[64, 64, 1, 1], bits=3", "strides=[1, 1]", 64, 2),
        (192, 12, "@w: f32[64, 192, 3, 1], bits=1", "strides=[3, 1], pads=[1, 0, 1, 0]", 64, 5),
    ];
    for (channels, size, weights, attributes, outputs, bits) in cases {
        let layer = format!("c = conv(a, quantize_weights({weights}), {attributes})");
        let fills = [Fill::Greatest, Fill::Mixed];
        with_tails(Kernel::Amx, [channels, size, outputs, bits], &layer, &[CODES, MANY, planes], &fills);
    }
}

/// Forces a kernel on the layer `c` of `outputs` outputs, over codes of `bits`: before each of the tails, which make `q`, and before
/// floats.
fn with_tails(
    kernel: Kernel,
    [channels, size, outputs, bits]: [usize; 4],
    layer: &str,
    tails: &[&str],
    fills: &[Fill],
) {
    let input = format!("quantize_activation(x, bits={bits})");
    let tails = tails.iter().map(|t| format!("q = {}", t.replace('O', &outputs.to_string())));
    for tail in tails.chain(["y = relu(c)".to_owned()]) {
        for &fill in fills {
            let graph = network(channels, size, &input, &format!("{layer}; {tail}"), fill);
            let possible = force(&[kernel], &graph, channels, size);
            assert!(possible.contains(&kernel), "{layer}");
        }
    }
}

/// Fixed-point weights on AMX: windows gathered into patches, strips of many channels, groups, and results as values, codes of
/// many levels and nibbles.
#[test]
fn digits_on_amx() {
    if here(&[Kernel::SplitAmx]).is_empty() {
        eprintln!("SKIPPED: this CPU lacks AVX-512 VBMI, which the kernel has besides AMX");
        return;
    }
    let cases = [
        (3, 33, "@w: f32[64, 3, 7, 7]", "strides=[2, 2], pads=[3, 3, 3, 3]", 64, 8),
        (3, 19, "@w: f32[48, 3, 5, 5]", "pads=[0, 0, 0, 0]", 48, 8),
        (4, 30, "@w: f32[20, 4, 12, 9]", "strides=[4, 3]", 20, 8),
        (64, 9, "@w: f32[32, 64, 3, 3]", "pads=[1, 1, 1, 1]", 32, 2),
        (96, 11, "@w: f32[32, 48, 3, 3]", "groups=2, dilations=[1, 2]", 32, 2),
    ];
    for (channels, size, weights, attributes, outputs, bits) in cases {
        let layer = format!("c = conv(a, {weights}, {attributes})");
        with_tails(Kernel::SplitAmx, [channels, size, outputs, bits], &layer, &[CODES, MANY], &[Fill::Rough]);
    }
}

/// Dot products of 256 bits, of which each may run in software: small layers, weights of one digit as bytes and of several as i16,
/// codes decided early, sums that come near the ends of their ranges.
#[test]
fn dot_products_of_avx_vnni() {
    if !machine::native_with("avxvnni").iter().any(|level| level.has_x86(x86::AVXVNNI)) {
        eprintln!("SKIPPED: this machine has no AVX2, which the kernel has besides AVX-VNNI");
        return;
    }
    let cases = [
        (5, 6, "quantize_weights(@w: f32[16, 5, 3, 3], bits=1)", "pads=[1, 1, 1, 1]", 16, 2),
        (6, 7, "quantize_weights(@w: f32[20, 3, 3, 2], bits=4)", "groups=2, strides=[1, 2]", 20, 4),
        (8, 5, "quantize_weights(@w: f32[32, 8, 3, 3], bits=7)", "pads=[1, 1, 1, 1], dilations=[1, 2]", 32, 8),
        (16, 6, "quantize_weights(@w: f32[16, 16, 3, 3], bits=8)", "", 16, 8),
        (3, 12, "@w: f32[16, 3, 5, 5]", "pads=[2, 2, 2, 2]", 16, 8),
        (4, 10, "@w: f32[33, 4, 4, 3]", "strides=[2, 1]", 33, 8),
    ];
    for (channels, size, weights, attributes, outputs, bits) in cases {
        let attributes = if attributes.is_empty() { String::new() } else { format!(", {attributes}") };
        let layer = format!("c = conv(a, {weights}{attributes})");
        let fills = [Fill::Greatest, Fill::Rough];
        with_tails(Kernel::SplitAvxVnni, [channels, size, outputs, bits], &layer, &[CODES, MANY], &fills);
    }
    // Transformed rows too, of a stride as well.
    for conv in ["@w: f32[16, 3, 5, 5], pads=[2, 2, 2, 2]", "@w: f32[16, 3, 3, 3], strides=[2, 1], pads=[1, 1, 1, 1]"] {
        let layer = format!("c = conv(a, {conv}); q = {}", CODES.replace('O', "16"));
        let graph = network(3, 8, "quantize_activation(x, bits=8)", &layer, Fill::Rough);
        assert!(forced(Kernel::SplitWinogradAvx2, &machine::native_with("avxvnni"), &graph, 3, 8), "{conv}");
    }
}

/// Fixed-point weights by transformed rows: every number of rows of results that a filter makes, rows that no number divides, strides,
/// kernels with rows that fill no phase, paddings, appended channels, windows; weights that leave hardly any code open, and weights
/// of which one is far greater than the rest, so that the transformed ones leave most.
#[test]
fn transformed_rows_of_fixed_point() {
    let kernels = [&TRANSFORMED[..], &[Kernel::SplitVnni, Kernel::SplitAvx2]].concat();
    let pool =
        |window: &str| format!("p = max_pool(c, kernel={window}, strides={window}); m = mul(p, @g: f32[O, 1, 1])");
    let plain = "m = mul(c, @g: f32[O, 1, 1])".to_owned();
    for (channels, size, outputs, conv, behind) in [
        // As in alexnet, resnet18 and svhn.
        (3, 44, 32, "[32, 3, 12, 12], strides=[4, 4]", plain.clone()),
        (3, 37, 48, "[48, 3, 7, 7], strides=[2, 2], pads=[3, 3, 3, 3]", plain.clone()),
        (3, 24, 48, "[48, 3, 5, 5], pads=[2, 2, 2, 2]", pool("[2, 2]")),
        (1, 16, 16, "[16, 1, 5, 5], pads=[2, 2, 2, 2]", plain.clone()),
        (4, 17, 16, "[16, 4, 4, 2], pads=[2, 0, 1, 1]", plain.clone()),
        (5, 19, 32, "[32, 5, 3, 3], pads=[0, 2, 3, 1]", plain.clone()),
        (2, 18, 16, "[16, 2, 2, 3], pads=[1, 1, 0, 1]", plain.clone()),
        (5, 20, 16, "[16, 5, 3, 1], strides=[2, 1], pads=[1, 0, 1, 0]", plain.clone()),
        (3, 28, 64, "[64, 3, 3, 3], pads=[1, 1, 1, 1]", pool("[4, 2]")),
        (2, 30, 16, "[16, 2, 4, 3], pads=[1, 1, 2, 1]", pool("[3, 1]")),
    ] {
        for (bits, weights) in [(2, Fill::Rough), (1, Fill::Outlier), (2, Fill::Outlier)] {
            let layer = format!("c = conv(a, @w: f32{conv}); {behind}; q = quantize_activation(m, bits={bits})");
            let layer = format!("{layer}; y = conv(q, quantize_weights(@v: f32[16, O, 1, 1], bits=1))");
            let layer = layer.replace('O', &outputs.to_string());
            let graph = network(channels, size, "quantize_activation(x, bits=8)", &layer, weights);
            assert_eq!(force(&kernels, &graph, channels, size), here(&kernels), "{layer}");
        }
    }
}

#[test]
fn what_cannot_be_had_is_one_line_with_what_can() {
    let layer = "c = conv(a, quantize_weights(@w: f32[64, 64, 3, 3], bits=1)); y = relu(c)";
    let graph = network(64, 7, "quantize_activation(x, bits=2)", layer, Fill::Mixed);
    let triple = "x86_64-unknown-linux-gnu".parse().expect("a triple");
    let level = |text: &str| Level::parse(text, &triple).expect("levels");
    let refused = |levels: &[Level], layer: &str, kernel: &str| match compile(&graph, levels, &options(layer, kernel)) {
        Err(CompileError::Kernels(lines)) if lines.len() == 1 => lines[0].clone(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("compiled"),
    };
    let v3 = level("x86-64-v3");
    let text = refused(&v3, "c", "look-up-64-avx-512");
    assert!(text.contains("VBMI (x86-64-v3)") && text.contains("possible are look-up-16-avx2, look-up-16, "), "{text}");
    let text = refused(&v3, "c", "look-up-63");
    assert!(text.contains("there is no kernel look-up-63; there are amx, look-up-64-avx-512, "), "{text}");
    let text = refused(&v3, "d", "split-integer");
    assert!(text.contains("there is no layer d with weights; there are c"), "{text}");
    let text = refused(&v3, "c", "float-chain");
    assert!(text.contains("it computes floats, the layer codes"), "{text}");
    let text = refused(&level("x86-64-v3,x86-64-v4+vbmi"), "c", "look-up 64, AVX-512");
    assert!(text.contains("(x86-64-v3)"), "{text}");
    let text = refused(&v3, "*", "split-integer-vnni");
    assert!(text.contains("no layer can be computed"), "{text}");
    // For all layers that can; and a layer by name says more than all.
    let compiled = compile(&graph, &v3, &options("*", "bit-serial-popcount")).expect("compiles");
    assert!(compiled.kernels.contains(&"bit-serial popcount"), "{:?}", compiled.kernels);
    let mut both = options("c", "Split Integer");
    both.kernels.extend(options("*", "look-up-16").kernels);
    let compiled = compile(&graph, &v3, &both).expect("compiles");
    assert!(compiled.kernels.contains(&"split integer"), "{:?}", compiled.kernels);
}
