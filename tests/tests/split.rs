//! Layers with float weights whose input is codes: fixed point, exact, the same bits from the interpreter and every level.

use dorefa_runtime::{Data, Session, Tensor};
use dorefac::codegen::target::Level;
use dorefac::compile::{Options, Wish, compile, profile};
use dorefac::graph::Graph;
use dorefac::{interp, passes, text};

/// Weights by name; random where there are none.
type Weights<'a> = &'a dyn Fn(&str) -> Option<Tensor>;

fn random(_: &str) -> Option<Tensor> {
    None
}

/// A graph of pixels of the extents, 0 … 255 of 1/255 each.
fn pixels(extents: &[usize], body: &str, weights: Weights<'_>) -> Graph {
    let dims = extents.iter().map(|d| format!(", {d}")).collect::<String>();
    let body = body.replace("; ", "\n  ");
    let source = format!(
        "dorefa 1\ngraph g(pixels: u8<0..255, scale 1/255>[N{dims}]) -> (y) {{\n  x = decode(pixels)\n  {body}\n}}\n"
    );
    text::parse(&source, "split.dorefa", weights)
        .unwrap_or_else(|p| panic!("{}", p.iter().map(ToString::to_string).collect::<String>()))
}

/// Three samples: all at their greatest, noise, and half of each row at its greatest.
fn batch(extents: &[usize]) -> Tensor {
    let len: usize = extents.iter().product();
    let noise = |i: usize| ((i * 7919 + 13) % 256) as u8;
    let data =
        (0..len).map(|_| 255).chain((0..len).map(noise)).chain((0..len).map(|i| if i & 4 == 0 { 255 } else { 0 }));
    let shape: Vec<usize> = std::iter::once(3).chain(extents.iter().copied()).collect();
    Tensor::new(shape, Data::U8(data.collect())).expect("fits")
}

fn bits(tensors: &[Tensor]) -> Vec<u32> {
    tensors.iter().flat_map(dorefac_tests::bits).collect()
}

/// Compares every level of this machine with the interpreter; gives the kernels of the last, `native`.
fn check(extents: &[usize], body: &str, weights: Weights<'_>) -> Vec<&'static str> {
    check_on(batch(extents), body, weights)
}

/// Layers that can have it multiply digits by these instructions.
fn by_digits(instructions: &str) -> Options {
    let wish = Wish { layer: "*".to_owned(), kernel: format!("split integer, {instructions}"), measured: false };
    Options { kernels: vec![wish], ..Options::default() }
}

/// The same on a batch of one's own.
fn check_on(x: Tensor, body: &str, weights: Weights<'_>) -> Vec<&'static str> {
    let graph = pixels(&x.shape()[1..], body, weights);
    let mut kernels = Vec::new();
    for (cpu, level) in dorefac_tests::machine::levels() {
        let fma = profile(&level);
        let mut lowered = graph.clone();
        passes::run(&mut lowered, fma, &mut |_, _| {}).expect("passes");
        let want = interp::run(&lowered, std::slice::from_ref(&x), fma).expect("runs");
        let run = |options: &Options| {
            let compiled = compile(&lowered, &level, options).unwrap_or_else(|e| panic!("{cpu}: {e}\n{body}"));
            let jit = dorefac_tests::machine::model(&compiled.image).expect("loads");
            for threads in [1, 3] {
                let got = Session::new(&jit, threads).expect("session").run(std::slice::from_ref(&x)).expect("runs");
                assert!(
                    bits(&want) == bits(&got),
                    "{cpu}, {threads} threads: not the interpreter's bits\n{body}\n{:?}",
                    compiled.kernels
                );
            }
            compiled.kernels
        };
        kernels = run(&Options::default());
        // Where both can have a layer, transformed weights are mostly chosen.
        if let Some(instructions) = kernels.iter().find_map(|k| k.strip_prefix("split integer Winograd, ")) {
            run(&by_digits(instructions));
        }
    }
    // AMX's other kernel takes weights of one digit.
    let digits = |k: &&str| k.starts_with("split integer") || *k == "AMX";
    assert!(kernels.iter().any(digits), "{body}: {kernels:?}");
    kernels
}

#[test]
fn geometries() {
    for (extents, conv) in [
        ([3, 11, 23], "@w: f32[20, 3, 5, 5], @b: f32[20]"),
        ([3, 12, 14], "@w: f32[24, 3, 7, 7], strides=[2, 2], pads=[3, 3, 3, 3]"),
        ([3, 20, 31], "@w: f32[33, 3, 12, 12], strides=[4, 4], pads=[1, 0, 2, 3]"),
        ([1, 9, 9], "@w: f32[5, 1, 3, 3], pads=[1, 1, 1, 1]"),
        ([4, 9, 8], "@w: f32[16, 4, 3, 2], dilations=[2, 3], pads=[2, 3, 2, 0]"),
        ([6, 7, 9], "@w: f32[12, 2, 3, 3], groups=3, pads=[1, 1, 1, 1]"),
        ([5, 4, 6], "@w: f32[7, 5, 4, 6]"),
        ([2, 3, 300], "@w: f32[4, 2, 3, 3], pads=[1, 9, 1, 9]"),
        ([40, 3, 260], "@w: f32[4, 40, 3, 3], pads=[1, 1, 1, 1]"),
        // Several strips below one another, the last one shorter.
        ([24, 23, 90], "@w: f32[4, 24, 3, 3], strides=[2, 1], pads=[1, 1, 1, 1]"),
    ] {
        check(&extents, &format!("y = conv(x, {conv})"), &random);
    }
    check(&[37], "y = matmul(x, @w: f32[70, 37], @b: f32[70])", &random);
    check(&[3, 5, 4], "f = reshape(x, shape=[60]); y = matmul(f, @w: f32[19, 60])", &random);
    // So many outputs that tasks share them.
    check(&[1200], "y = matmul(x, @w: f32[400, 1200])", &random);
}

#[test]
fn what_follows_the_sums() {
    let conv = "c = conv(x, @w: f32[24, 3, 3, 3], @b: f32[24], pads=[1, 1, 1, 1])";
    let norm = "n = batch_norm(c, @g: f32[24], @o: f32[24], @m: f32[24], @v: f32[24], epsilon=1e-4)";
    let next = "y = conv(a, quantize_weights(@k: f32[8, 24, 3, 3], bits=1))";
    // Falling channels too.
    let signs = |name: &str| {
        let of = |f: &dyn Fn(usize) -> f32| Tensor::f32([24], (0..24).map(f).collect()).ok();
        match name {
            "g" => of(&|i| [0.7, -1.3, 0.0, 2.0][i % 4]),
            "o" => of(&|i| i as f32 / 12.0 - 1.0),
            "m" => of(&|i| (i as f32 - 12.0) / 40.0),
            "v" => of(&|i| 0.2 + i as f32 / 50.0),
            _ => None,
        }
    };
    for bits in [1, 2, 3, 4, 8] {
        check(&[3, 10, 21], &format!("{conv}; a = quantize_activation(c, bits={bits}); {next}"), &random);
        check(&[3, 10, 21], &format!("{conv}; {norm}; a = quantize_activation(n, bits={bits}); {next}"), &signs);
        let pooled = "p = max_pool(n, kernel=[2, 2], strides=[2, 2]); a = quantize_activation(p, bits={bits})";
        check(
            &[3, 10, 21],
            &format!("{conv}; {norm}; {}; {next}", pooled.replace("{bits}", &bits.to_string())),
            &signs,
        );
    }
    check(&[3, 10, 21], &format!("{conv}; y = relu(c)"), &random);
    check(&[3, 10, 21], &format!("{conv}; a = neg(c); r = relu(c); y = sub(a, r)"), &random);
}

#[test]
fn codes_that_whole_tiles_make() {
    let next = "y = conv(a, quantize_weights(@k: f32[16, 32, 3, 3], bits=1))";
    for bits in [1, 2] {
        let act = format!("a = quantize_activation(c, bits={bits}); {next}");
        for width in [8, 9, 18, 24] {
            let conv = "c = conv(x, @w: f32[32, 3, 3, 3], @b: f32[32], pads=[1, 1, 1, 1])";
            check(&[3, 7, width], &format!("{conv}; {act}"), &random);
        }
        let grouped = "c = conv(x, @w: f32[32, 2, 3, 3], groups=2)";
        check(&[4, 7, 14], &format!("{grouped}; {act}"), &random);
        let many = format!("c = conv(x, quantize_weights(@w: f32[32, 3, 3, 3], bits={bits})); {act}");
        check(&[3, 7, 14], &many, &random);
    }
}

/// Dark pixels: with biases at the boundaries of codes, sums lie so close to thresholds that the lowest digit decides.
fn dark(extents: [usize; 3]) -> Tensor {
    let len: usize = extents.iter().product();
    let sample = |top: usize| (0..len).map(move |i| (i * 7919 / 13 % (top + 1)) as u8);
    let data = sample(0).chain(sample(1)).chain(sample(5)).chain(sample(255)).collect();
    Tensor::new([&[4][..], &extents].concat(), Data::U8(data)).expect("fits")
}

#[test]
fn codes_that_the_upper_digits_leave_open() {
    let next = "y = conv(a, quantize_weights(@k: f32[16, 48, 3, 3], bits=1))";
    for bits in [1, 2] {
        let boundaries: &[f32] = if bits == 1 { &[0.5] } else { &[1.0 / 6.0, 0.5, 5.0 / 6.0] };
        let bias = |name: &str| {
            let values = boundaries.iter().cycle().take(48).copied().collect();
            (name == "b").then(|| Tensor::f32([48], values).expect("fits"))
        };
        for (extents, conv) in [
            ([3, 5, 28], "@w: f32[48, 3, 5, 5], @b: f32[48], pads=[2, 2, 2, 2]"),
            ([3, 12, 18], "@w: f32[48, 3, 7, 7], @b: f32[48], strides=[2, 2], pads=[3, 3, 3, 3]"),
            ([4, 6, 13], "@w: f32[48, 2, 3, 3], @b: f32[48], groups=2, pads=[1, 1, 1, 1]"),
            ([2, 4, 9], "@w: f32[48, 2, 2, 3], @b: f32[48], dilations=[1, 2]"),
            // A product a row of the window for each open output, of 36 bytes.
            ([3, 24, 52], "@w: f32[48, 3, 12, 12], @b: f32[48], strides=[4, 4]"),
            // More open positions a row than a tile's list holds.
            ([3, 4, 196], "@w: f32[48, 3, 3, 3], @b: f32[48], pads=[1, 1, 1, 1]"),
        ] {
            let act = format!("c = conv(x, {conv}); a = quantize_activation(c, bits={bits}); {next}");
            check_on(dark(extents), &act, &bias);
        }
    }
}

#[test]
fn codes_of_windows_side_by_side() {
    let norm = "n = batch_norm(c, @g: f32[32], @o: f32[32], @m: f32[32], @v: f32[32])";
    for bits in [1, 2] {
        let boundaries: &[f32] = if bits == 1 { &[0.5, -0.5] } else { &[1.0 / 6.0, -0.5, 0.5, -5.0 / 6.0] };
        let weights = |name: &str| {
            let of = |f: &dyn Fn(usize) -> f32| Tensor::f32([32], (0..32).map(f).collect()).ok();
            match name {
                "b" => of(&|i| boundaries[i % boundaries.len()]),
                // A falling channel wherever the bias is negative, else what the bias leaves where it is.
                "g" => of(&|i| boundaries[i % boundaries.len()].signum()),
                "o" | "m" => of(&|_| 0.0),
                "v" => of(&|_| 1.0 - 1e-5),
                _ => None,
            }
        };
        for (extents, conv, window, wide) in [
            // Tiles of 14, 12 and 10 columns, and none: 22 positions are no whole tiles.
            ([3, 6, 28], "@w: f32[32, 3, 5, 5], @b: f32[32], pads=[2, 2, 2, 2]", [2, 2], true),
            ([3, 8, 40], "@w: f32[32, 3, 5, 5], @b: f32[32]", [2, 2], true),
            ([3, 4, 10], "@w: f32[32, 3, 3, 3], @b: f32[32], pads=[1, 1, 1, 1]", [2, 2], true),
            ([3, 4, 22], "@w: f32[32, 3, 3, 3], @b: f32[32], pads=[1, 1, 1, 1]", [2, 2], false),
            // Windows of other forms; an odd number of them in a tile.
            ([3, 6, 27], "@w: f32[32, 3, 3, 3], @b: f32[32], pads=[1, 1, 1, 1]", [3, 3], true),
            ([3, 4, 21], "@w: f32[32, 3, 3, 3], @b: f32[32], pads=[1, 1, 1, 1]", [1, 3], true),
            ([3, 4, 7], "@w: f32[32, 3, 3, 3], @b: f32[32], pads=[1, 1, 1, 1]", [4, 1], true),
            // Strides, groups, dilation, windows that are gathered.
            ([3, 16, 56], "@w: f32[32, 3, 7, 7], @b: f32[32], strides=[2, 2], pads=[3, 3, 3, 3]", [2, 2], true),
            ([4, 6, 12], "@w: f32[32, 2, 3, 3], @b: f32[32], groups=2, pads=[1, 1, 1, 1]", [2, 2], true),
            ([2, 6, 16], "@w: f32[32, 2, 2, 3], @b: f32[32], dilations=[2, 2]", [2, 2], true),
            ([1, 12, 16], "@w: f32[32, 1, 5, 5], @b: f32[32], pads=[2, 2, 2, 2]", [2, 2], true),
            // Several strips below one another, the last one shorter.
            ([96, 10, 40], "@w: f32[32, 96, 1, 1], @b: f32[32]", [2, 2], true),
            // More open windows a row than a tile's list holds.
            ([3, 2, 196], "@w: f32[32, 3, 3, 3], @b: f32[32], pads=[1, 1, 1, 1]", [2, 2], true),
        ] {
            let pool = |of: &str| format!("p = max_pool({of}, kernel={window:?}, strides={window:?})");
            let act = |of: &str| format!("a = quantize_activation({of}, bits={bits})");
            let next = "y = conv(a, quantize_weights(@k: f32[16, 32, 1, 1], bits=1))";
            for (steps, wide) in [
                (format!("{norm}; {}; {}", pool("n"), act("p")), wide),
                // Falling channels take the least code of a window, which tiles leave to the pool.
                (format!("{}; {}; {}", pool("c"), norm.replace("(c", "(p"), act("n")), false),
            ] {
                let body = format!("c = conv(x, {conv}); {steps}; {next}");
                let kernels = check_on(dark(extents), &body, &weights);
                assert!(!kernels.iter().any(|k| k.starts_with("code pool")), "{body}: {kernels:?}");
                assert_eq!(pools_in_tiles(&extents, &body, &weights), wide, "{body}");
            }
        }
    }
}

/// Whether the widest level's digits of bytes are pooled in a tile.
fn pools_in_tiles(extents: &[usize], body: &str, weights: Weights<'_>) -> bool {
    let mut graph = pixels(extents, body, weights);
    passes::run(&mut graph, true, &mut |_, _| {}).expect("passes");
    let level = Level::parse("x86-64-v4+vnni", &"x86_64-unknown-linux-gnu".parse().expect("a triple")).expect("levels");
    let compiled = compile(&graph, &level, &by_digits("VNNI")).expect("compiles");
    compiled.image.functions.iter().any(|f| f.name.contains("Pooled"))
}

#[test]
fn greatest_weights_and_pixels() {
    // alexnet's first layer: 432 products. With equal signs the exponent gives way; with half of each it need not.
    let greatest = 8_355_711.0 / (1 << 23) as f32;
    let conv = "c = conv(x, @w: f32[18, 3, 12, 12], strides=[4, 4])";
    let signs: [&dyn Fn(usize) -> f32; 4] =
        [&|_| greatest, &|_| -greatest, &|i| if i % 2 == 0 { greatest } else { -greatest }, &|i| {
            if i / 432 % 2 == 0 { greatest } else { -greatest * (i % 3) as f32 / 2.0 }
        }];
    for sign in signs {
        let weights = |_: &str| Tensor::f32([18, 3, 12, 12], (0..18 * 432).map(sign).collect()).ok();
        let kernels = check(&[3, 20, 29], &format!("{conv}; y = neg(c)"), &weights);
        assert_eq!(kernels.len(), 1, "{kernels:?}");
        let thresholds = "a = quantize_activation(c, bits=2); y = global_average_pool(a)";
        check(&[3, 20, 29], &format!("{conv}; {thresholds}"), &weights);
    }
}

#[test]
fn activation_codes() {
    let act = |bits: i64| format!("q = quantize_activation(x, bits={bits})");
    for bits in [1, 2, 3, 8] {
        let act = act(bits);
        check(&[8, 6, 7], &format!("{act}; y = conv(q, @w: f32[12, 8, 3, 3], pads=[1, 1, 1, 1])"), &random);
        check(&[70], &format!("{act}; y = matmul(q, @w: f32[10, 70], @b: f32[10])"), &random);
        // The same codes read by a layer of one bit too, which chooses their layout.
        let both = "a = conv(q, quantize_weights(@v: f32[16, 8, 3, 3], bits=1)); b = conv(q, @w: f32[16, 8, 3, 3])";
        check(&[8, 6, 7], &format!("{act}; {both}; y = add(a, b)"), &random);
    }
    // ±1, which padding is not.
    check(
        &[5, 6, 7],
        "s = sub(x, @h: f32[]); q = step(s); y = conv(q, @w: f32[9, 5, 3, 3], pads=[1, 1, 1, 1])",
        &|n| (n == "h").then(|| Tensor::scalar(0.5)),
    );
    // Whole pools and averages of pixels stay codes.
    check(&[4, 8, 8], "p = max_pool(x, kernel=[2, 2], strides=[2, 2]); y = conv(p, @w: f32[6, 4, 3, 3])", &random);
}

#[test]
fn quantised_weights_on_pixels() {
    for bits in [1, 2, 4, 8] {
        let conv = format!("c = conv(x, quantize_weights(@w: f32[20, 3, 5, 5], bits={bits}), pads=[2, 2, 2, 2])");
        check(&[3, 9, 13], &format!("{conv}; y = relu(c)"), &random);
        check(&[3, 9, 13], &format!("{conv}; a = quantize_activation(c, bits=2); y = global_average_pool(a)"), &random);
    }
}

#[test]
fn weights_of_eight_bits_and_a_box_sum() {
    // Levels −255 … 255, odd: halved where channels allow, all at their limits too.
    let greatest =
        |sign: fn(usize) -> f32| move |_: &str| Tensor::f32([20, 32, 3, 3], (0..20 * 288).map(sign).collect()).ok();
    let (same, half) = (greatest(|_| 1.0), greatest(|i| if i % 2 == 0 { 1.0 } else { -1.0 }));
    let weights: [Weights<'_>; 3] = [&random, &same, &half];
    for weights in weights {
        for more in ["pads=[1, 1, 1, 1]", "strides=[2, 1], pads=[2, 0, 1, 1]", "dilations=[1, 2], strides=[1, 2]"] {
            let conv = format!("c = conv(x, quantize_weights(@w: f32[20, 32, 3, 3], bits=8), {more})");
            check(&[32, 8, 14], &format!("{conv}; y = relu(c)"), weights);
            check(
                &[32, 8, 14],
                &format!("{conv}; a = quantize_activation(c, bits=4); y = global_average_pool(a)"),
                weights,
            );
        }
    }
    // Channels that fill no vector, and groups, are not.
    check(&[20, 7, 9], "c = conv(x, quantize_weights(@w: f32[20, 20, 3, 3], bits=8)); y = relu(c)", &random);
    check(&[32, 7, 9], "c = conv(x, quantize_weights(@w: f32[20, 16, 3, 3], bits=8), groups=2); y = relu(c)", &random);
}

#[test]
fn means_and_deviations() {
    let table = |name: &str| match name {
        "t" => {
            let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
            let value = |i: usize| (((i % 256) as f64 / 255.0 - mean[i / 256]) / std[i / 256]) as f32;
            Tensor::f32([3, 256], (0..768).map(value).collect()).ok()
        }
        "u" => Tensor::f32([1, 256], (0..256).map(|i| i as f32 / 128.0).collect()).ok(),
        _ => None,
    };
    for conv in ["@w: f32[20, 3, 3, 3], pads=[1, 1, 1, 1]", "@w: f32[32, 3, 7, 7], strides=[2, 2], pads=[3, 3, 3, 3]"] {
        for values in ["lookup(pixels, @t: f32[3, 256])", "lookup(pixels, @u: f32[1, 256])"] {
            let conv = format!("v = {values}; c = conv(v, {conv})");
            check(&[3, 9, 16], &format!("{conv}; y = relu(c)"), &table);
            check(
                &[3, 9, 16],
                &format!("{conv}; a = quantize_activation(c, bits=2); y = global_average_pool(a)"),
                &table,
            );
        }
    }
}
