//! Every operator of inference, compiled for aarch64 and run under an emulator, gives the bits of the interpreter: as the file
//! says, where code can be made of that, and as the passes leave it.

use dorefa_runtime::Tensor;
use dorefac::codegen::target::{Arch, Level};
use dorefac::compile::{Options, compile};
use dorefac::emit::elf;
use dorefac::graph::{Graph, ops};
use dorefac::{interp, passes, text};
use dorefac_tests::bits;
use dorefac_tests::native::Machine;
use std::collections::BTreeSet;
use std::path::Path;

/// The extents of the input x, the statements; each value whose name begins with y is an output. At most eight.
const GRAPHS: &[(&[usize], &str)] = &[
    (
        &[5, 6, 7],
        "a = relu(x); ya = add(x, @f: f32[5, 6, 7]); yb = sub(x, @c: f32[5, 1, 1]); yc = mul(x, a); yd = div(x, @d: f32[]); \
         ye = min(x, @e: f32[5, 1, 1]); yf = max(a, @g: f32[6, 1]); yg = prelu(x, @s: f32[5, 1, 1]); b = abs(x); \
         yh = pow(b, @p: f32[5, 1, 1])",
    ),
    (
        &[5, 6, 7],
        "a = relu(x); ya = equal(x, a); yb = greater(x, @s: f32[5, 1, 1]); yc = greater_equal(x, @s); n = neg(x); \
         yd = select(yb, x, n); b = abs(x); ye = sqrt(b); yf = sign(x); yg = step(x); yh = leaky_relu(x, alpha=0.1)",
    ),
    (
        &[6, 7],
        "s = mul(x, @k: f32[]); ya = round(s); yb = round(s, mode=floor); yc = round(s, mode=ceil); yd = round(s, mode=up); \
         ye = round(s, mode=down); yf = round(s, mode=half_up); yg = round(s, mode=half_down); yh = clip(x, lo=-0.5, hi=0.25)",
    ),
    (
        &[6, 7],
        "ya = exp(x); a = abs(x); yb = log(a); yc = tanh(x); yd = sigmoid(x); ye = softmax(x); yf = reduce_mean(x, axes=[1]); \
         yg = reduce_max(x, axes=[2], keepdims=false); yh = reduce_sum(x, axes=[2])",
    ),
    (&[6, 7], "ya = erf(x); yb = tanh(sqrt(x)); yc = erf(sqrt(x))"),
    (
        &[4, 6, 7],
        "ya = conv(x, @w: f32[6, 4, 3, 3], @b: f32[6], pads=[1, 1, 1, 1]); yb = conv(x, @v: f32[4, 1, 2, 3], groups=4, strides=[2, 1]); \
         f = reshape(x, shape=[168]); yc = matmul(f, @m: f32[9, 168], @n: f32[9]); r = reshape(x, shape=[4, 42]); \
         t = transpose(r, perm=[0, 2, 1]); yd = product(r, t); \
         ye = batch_norm(x, @g: f32[4], @h: f32[4], @i: f32[4], @j: f32[4]); yf = conv(x, @u: f32[3, 4, 2, 2], dilations=[2, 3])",
    ),
    (
        &[4, 9, 8],
        "ya = max_pool(x, kernel=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1]); yb = average_pool(x, kernel=[3, 3], pads=[1, 1, 1, 1]); \
         yc = max_pool(x, kernel=[2, 3], dilations=[3, 2]); yd = global_average_pool(x); ye = arg_max(x, axes=[1]); \
         yf = arg_max(x, axes=[3], keepdims=false, last=true); yg = average_pool(x, kernel=[2, 2], strides=[2, 2], count_padding=true)",
    ),
    (
        &[6, 5, 3],
        "a = relu(x); ya = transpose(x, perm=[0, 3, 1, 2]); yb = concat(a, x, axis=2); yc = pad(x, pads=[1, 2, 0, 3], value=0.5); \
         yd = slice(x, axis=1, start=1, length=4); ye = take(x, axis=2, indices=[-1, 4, -1, 0], value=0.5); \
         r = repeat(@c: f32[6, 5, 2], x); yf = concat(a, r, axis=3); yh = reshape(a, shape=[9, 10])",
    ),
    (
        &[6, 7],
        "ya = quant(x, @s: f32[], @z: f32[], bits=4, signed=true, narrow=false); \
         yb = quant(x, @r: f32[6, 1], @z, bits=3, signed=true, narrow=true, mode=floor); yc = bipolar_quant(x, @s); \
         yd = quantize_activation(x, bits=2); ye = quantize_activation(x, bits=3, bound=abs); \
         yf = quantize_activation(x, bits=4, bound=tanh); g = quantize_gradient(x, bits=4); yg = dropout(g, rate=0.5); yh = quantize_activation(x, bits=32)",
    ),
    (&[6, 7, 3], "ya = multi_threshold(x, @t: f32[1, 3]); yb = multi_threshold(x, @u: f32[6, 2])"),
    // Codes by hand.
    (
        &[4, 6, 7],
        "s = mul(x, @k: f32[]); r = round(s); e = encode(r, top=3, scale=1/3); ya = decode(e); \
         i = int_conv(e, @w: u1<0..1, step 2, offset -1, scale 1>[8, 4, 3, 3], pads=[1, 1, 1, 1]); yb = decode(i); \
         p = code_pool(e, kernel=[2, 2], strides=[2, 2]); yc = decode(p); m = sum_pool(e, kernel=[2, 2], strides=[2, 2]); yd = decode(m)",
    ),
    // Codes by the passes: thresholds, a pool of minima, a sum of codes, a residual addition by a table.
    (
        &[8, 9, 8],
        "q = quantize_activation(x, bits=2); a = conv(q, quantize_weights(@w: f32[16, 8, 3, 3], bits=1), pads=[1, 1, 1, 1]); \
         b = batch_norm(a, @n: f32[16], @h: f32[16], @i: f32[16], @j: f32[16]); m = max_pool(b, kernel=[2, 2], strides=[2, 2]); \
         c = quantize_activation(m, bits=2); d = conv(c, quantize_weights(@v: f32[16, 16, 3, 3], bits=2), pads=[1, 1, 1, 1]); \
         e = quantize_activation(d, bits=2); f = add(c, e); g = quantize_activation(f, bits=2); \
         p = average_pool(g, kernel=[2, 2]); ya = conv(g, quantize_weights(@u: f32[5, 16, 1, 1], bits=3)); yb = relu(p); \
         yc = conv(g, quantize_weights(@s: f32[16, 1, 3, 3], bits=4), groups=16)",
    ),
    // A residual addition in the thresholds of a layer.
    (
        &[8, 5, 6],
        "q = quantize_activation(x, bits=2); c = conv(q, quantize_weights(@w: f32[8, 8, 3, 3], bits=1), pads=[1, 1, 1, 1]); \
         n = mul(c, @g: f32[8, 1, 1]); s = add(n, q); t = quantize_activation(s, bits=2); \
         ya = conv(t, quantize_weights(@v: f32[4, 8, 1, 1], bits=1))",
    ),
    // A float layer that reads codes: fixed point.
    (
        &[4, 9, 8],
        "q = quantize_activation(x, bits=3); c = conv(q, @w: f32[8, 4, 3, 3], @b: f32[8], strides=[2, 2], pads=[1, 1, 1, 1]); \
         ya = quantize_activation(c, bits=2); f = reshape(ya, shape=[160]); yb = matmul(f, @m: f32[7, 160])",
    ),
];

/// Operators that only the compiler's own inputs have: pixels, which the test of pixels covers.
const ELSEWHERE: &[&str] = &["append_top", "lookup"];

fn parsed((extents, body): (&[usize], &str)) -> Graph {
    let dims = extents.iter().map(|d| format!(", {d}")).collect::<String>();
    let statements: Vec<&str> = body.split("; ").map(str::trim).collect();
    let names = statements.iter().filter_map(|s| s.split(" = ").next()).filter(|n| n.starts_with('y'));
    let outputs = names.collect::<Vec<_>>().join(", ");
    let source = format!("dorefa 1\ngraph g(x: f32[N{dims}]) -> ({outputs}) {{\n  {}\n}}\n", statements.join("\n  "));
    text::parse(&source, "operators.dorefa", &|_| None)
        .unwrap_or_else(|p| panic!("{}\n{source}", p.iter().map(ToString::to_string).collect::<String>()))
}

/// Compiles a graph for aarch64 and runs it on `x`, three samples; the interpreter's bits are expected.
fn check(graph: &Graph, x: &Tensor, machine: &Machine, driver: &Path, folder: &Path, stage: &str) {
    let triple = "aarch64-unknown-linux-gnu".parse().expect("a triple");
    let levels = Level::parse("generic", &triple).expect("levels");
    let compiled = compile(graph, &levels, &Options::default());
    let compiled = compiled.unwrap_or_else(|e| panic!("{stage}: {e}\n{}", text::print(graph)));
    let so = folder.join("net.so");
    std::fs::write(&so, elf::shared_object(&compiled.image, "net.so").expect("links")).expect("writes");
    let got = machine.run(driver, Some(&so), x.as_f32().unwrap_or_default(), 3, 2);
    let got: Vec<u32> = got.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let mut at = 0;
    let want = interp::run(graph, std::slice::from_ref(x), true).expect("runs");
    for ((name, _), want) in graph.outputs().iter().zip(&want) {
        let want = bits(want);
        let part = got.get(at..at + want.len()).unwrap_or_default();
        let same = |(a, b): (&u32, &u32)| a == b || (f32::from_bits(*a).is_nan() && f32::from_bits(*b).is_nan());
        let equal = want.len() == part.len() && want.iter().zip(part).all(same);
        assert!(equal, "{stage}: {name} differs from the interpreter on aarch64\n{}", text::print(graph));
        at += want.len();
    }
}

#[test]
fn every_operator() {
    let Some(machine) = Machine::new(Arch::Aarch64) else { return };
    let folder = tempfile::tempdir().expect("folder");
    let driver = machine.driver(folder.path(), &[]);
    let mut seen = BTreeSet::new();
    for &(extents, body) in GRAPHS {
        let graph = parsed((extents, body));
        let shape: Vec<usize> = std::iter::once(3).chain(extents.iter().copied()).collect();
        // Neither sorted nor symmetric, with ties and exact halves.
        let data = (0..shape.iter().product()).map(|i: usize| ((i * 7919 + 13) % 97) as f32 / 32.0 - 1.25).collect();
        let x = Tensor::f32(shape, data).expect("fits");
        let mut lowered = graph.clone();
        passes::run(&mut lowered, true, &mut |_, _| {}).expect("passes");
        // Code is made of what the passes leave; they fold quantisers of weights and remove what is the identity.
        if !body.contains("quantize_") && !body.contains("dropout") {
            check(&graph, &x, &machine, &driver, folder.path(), "as read");
        }
        check(&lowered, &x, &machine, &driver, folder.path(), "lowered");
        let nodes =
            |g: &Graph| g.order().into_iter().filter_map(|id| g.node(id).map(|n| n.op.name)).collect::<Vec<_>>();
        seen.extend(nodes(&graph).into_iter().chain(nodes(&lowered)));
    }
    let all = ops::TABLE.iter().map(|op| op.name).take_while(|&name| name != "dropout_mask");
    let missing: Vec<_> = all.filter(|name| !seen.contains(name) && !ELSEWHERE.contains(name)).collect();
    assert!(missing.is_empty(), "no graph of this test has {missing:?}");
}
