//! Every operator's kernel against the reference interpreter, bit by bit, on small graphs in the native text format.

use dorefa_runtime::{Session, Tensor};
use dorefac::codegen::target::Level;
use dorefac::compile::{Options, Wish, compile, profile};
use dorefac::{interp, passes, text};

/// Runs a graph with the input `x` of `extents`, interpreted and compiled, before and after the passes.
fn check(extents: &[usize], body: &str) {
    // Neither sorted nor symmetric, with ties and exact halves.
    let pixel = |i: usize| ((i * 7919 + 13) % 97) as f32 / 32.0 - 1.25;
    let kernels = check_on(extents, body, &|_| None, pixel);
    assert!(!kernels.is_empty());
}

/// [`check`] with weights and pixels of one's own; gives the lowered graph's kernels.
fn check_on(
    extents: &[usize],
    body: &str,
    weights: &dyn Fn(&str) -> Option<Tensor>,
    pixel: impl Fn(usize) -> f32,
) -> Vec<&'static str> {
    check_with(extents, body, weights, pixel, &Options::default())
}

/// [`check_on`] with options of the compiler.
fn check_with(
    extents: &[usize],
    body: &str,
    weights: &dyn Fn(&str) -> Option<Tensor>,
    pixel: impl Fn(usize) -> f32,
    options: &Options,
) -> Vec<&'static str> {
    let dims = extents.iter().map(|d| format!(", {d}")).collect::<String>();
    let source = format!("dorefa 1\ngraph g(x: f32[N{dims}]) -> (y) {{\n  {}\n}}\n", body.replace("; ", "\n  "));
    let graph = text::parse(&source, "kernels.dorefa", weights)
        .unwrap_or_else(|p| panic!("{}", p.iter().map(ToString::to_string).collect::<String>()));
    let levels = Level::parse("native", &target_lexicon::Triple::host()).expect("levels");
    let fma = profile(&levels);
    let mut lowered = graph.clone();
    passes::run(&mut lowered, fma, &mut |_, _| {}).expect("passes");
    let len = 3 * extents.iter().product::<usize>();
    let data = (0..len).map(pixel).collect();
    let mut kernels = Vec::new();
    let shape: Vec<usize> = std::iter::once(3).chain(extents.iter().copied()).collect();
    let x = Tensor::f32(shape, data).expect("fits");
    for (stage, graph) in [("imported", &graph), ("lowered", &lowered)] {
        // Quantisers of weights are expanded and folded by the passes, operands of other ranks repeated.
        if stage == "imported" && (body.contains("quantize_") || body.contains("spread")) {
            continue;
        }
        let compiled = compile(graph, &levels, options);
        let compiled = compiled.unwrap_or_else(|e| panic!("{stage}: {e}\n{source}"));
        kernels.clone_from(&compiled.kernels);
        let jit = dorefac_tests::machine::model(&compiled.image).expect("loads");
        let got = Session::new(&jit, 2).expect("session").run(std::slice::from_ref(&x)).expect("runs");
        let want = interp::run(graph, std::slice::from_ref(&x), fma).expect("runs");
        let bits = |t: &Tensor| t.as_f32().map(|v| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
        assert_eq!(want[0].shape(), got[0].shape(), "{stage}\n{source}");
        assert!(bits(&want[0]) == bits(&got[0]), "{stage}: compiled code differs from the interpreter\n{source}");
    }
    kernels
}

#[test]
fn moves() {
    check(&[6, 5, 3], "y = transpose(x, perm=[0, 3, 1, 2])");
    check(&[3, 6, 5], "a = relu(x); b = transpose(a, perm=[0, 2, 3, 1]); y = neg(b)");
    check(&[3, 6, 5], "a = relu(x); b = transpose(a, perm=[0, 3, 2, 1]); y = global_average_pool(b)");
    check(&[4, 6], "y = transpose(x, perm=[0, 2, 1])");
    check(&[2, 3, 4, 5], "a = transpose(x, perm=[0, 3, 1, 4, 2]); y = relu(a)");
    check(&[3, 6, 5], "a = relu(x); b = reshape(a, shape=[5, 18]); y = reshape(b, shape=[9, 2, 5])");
    check(&[6, 5], "a = reshape(x, shape=[5, 3, 2]); y = max_pool(a, kernel=[2, 2])");
}

#[test]
fn joins_and_pads() {
    check(&[3, 6, 5], "a = relu(x); b = neg(x); y = concat(a, b, x, axis=1)");
    check(&[3, 6, 5], "a = relu(x); b = neg(x); c = concat(a, b, axis=3); y = abs(c)");
    check(&[6, 5], "a = relu(x); y = concat(a, x, axis=1)");
    check(&[7], "a = relu(x); b = neg(x); y = concat(b, a, axis=1)");
    check(&[3, 6, 5], "a = pad(x, pads=[1, 2, 0, 3], value=0.5); y = max_pool(a, kernel=[3, 2])");
}

#[test]
fn selections() {
    check(&[6, 5, 3], "a = relu(x); b = slice(a, axis=1, start=1, length=4); y = neg(b)");
    check(&[6, 5, 3], "a = slice(x, axis=2, start=2, length=3); y = slice(a, axis=3, start=1, length=1)");
    check(&[6, 5, 3], "y = take(x, axis=1, indices=[5, 0, 0, 3, 2])");
    check(&[6, 5, 3], "a = take(x, axis=2, indices=[-1, 4, -1, 0], value=0.5); y = take(a, axis=3, indices=[2, 1])");
    check(&[6, 5], "a = relu(x); b = take(a, axis=1, indices=[5, 2, -1]); y = slice(b, axis=2, start=1, length=3)");
    check(&[2, 3, 4, 2], "a = slice(x, axis=3, start=1, length=2); b = take(a, axis=4, indices=[1, 0, 1]); y = abs(b)");
    check(&[6, 5], "a = relu(x); r = repeat(@c: f32[2, 5], x); b = concat(a, r, axis=1); y = neg(b)");
    let q = "q = quantize_activation(x, bits=2); w = quantize_weights(@w: f32[8, 4, 3, 3], bits=2)";
    for part in ["slice(q, axis=1, start=2, length=4)", "take(q, axis=1, indices=[5, 0, 0, 3])"] {
        check(&[6, 5, 3], &format!("{q}; r = {part}; y = conv(r, w, pads=[1, 1, 1, 1])"));
    }
    check(&[4, 5, 3], &format!("{q}; r = take(q, axis=3, indices=[0, 0, 1, 1, 2, 2]); y = conv(r, w)"));
}

#[test]
fn codes_are_joined() {
    let parts = |bits: u32| {
        format!(
            "q = quantize_activation(x, bits=2); a = conv(q, quantize_weights(@v: f32[4, 3, 1, 1], bits=1)); \
             b = quantize_activation(a, bits={bits}); c = concat(q, b, axis=1); \
             y = conv(c, quantize_weights(@w: f32[8, 7, 3, 3], bits=2), pads=[1, 1, 1, 1])"
        )
    };
    let joined = check_on(&[3, 6, 5], &parts(2), &|_| None, |i| (i % 7) as f32 / 5.0);
    assert!(joined.iter().all(|k| !k.starts_with("float")), "{joined:?}");
    check(&[3, 6, 5], &parts(3));
}

#[test]
fn comparisons_and_choice() {
    for op in ["equal", "greater", "greater_equal", "prelu"] {
        check(&[5, 6, 7], &format!("a = relu(x); y = {op}(x, a)"));
        check(&[5, 6, 7], &format!("y = {op}(x, @s: f32[5, 1, 1])"));
    }
    check(&[5, 6], "y = prelu(x, @s: f32[6])");
    check(&[5, 6, 7], "a = greater(x, @s: f32[5, 1, 1]); b = neg(x); y = select(a, x, b)");
    check(&[5, 6, 7], "a = greater(x, @s: f32[]); y = select(a, @t: f32[5, 1, 1], @u: f32[5, 6, 7])");
    check(&[5, 6, 7], "a = abs(x); y = pow(a, @s: f32[5, 1, 1])");
    check(&[5, 6, 7], "a = abs(x); y = pow(@s: f32[], a)");
    check(&[5, 6, 7], "a = exp(x); b = log(a); y = log(a)");
}

#[test]
fn products_of_computed_values() {
    check(&[3, 5], "a = relu(x); b = transpose(a, perm=[0, 2, 1]); y = product(x, b)");
    check(&[2, 3, 5], "a = neg(x); b = transpose(a, perm=[0, 1, 3, 2]); c = product(b, x); y = relu(c)");
    check(&[2, 3, 4, 5], "b = transpose(x, perm=[0, 1, 2, 4, 3]); y = product(b, x)");
}

#[test]
fn dilated_pools() {
    check(&[5, 9, 8], "y = max_pool(x, kernel=[2, 3], dilations=[3, 2], pads=[1, 2, 0, 1])");
    check(
        &[8, 9, 8],
        "q = quantize_activation(x, bits=2); a = max_pool(q, kernel=[2, 2], dilations=[2, 3]); \
        y = conv(a, quantize_weights(@w: f32[16, 8, 1, 1], bits=1))",
    );
}

#[test]
fn operands_of_other_ranks_broadcast() {
    check(&[4, 6], "spread = reduce_sum(x, axes=[2]); a = sub(x, spread); y = softmax(a)");
    check(&[2, 4, 3, 5], "spread = reduce_max(x, axes=[1, 3]); y = mul(spread, x)");
}

#[test]
fn outputs_that_are_inputs() {
    check(&[4, 6], "y = reshape(x, shape=[4, 6])");
}

#[test]
fn reductions() {
    for op in ["reduce_mean", "reduce_max", "reduce_sum"] {
        check(&[5, 6, 7], &format!("a = relu(x); y = {op}(a, axes=[2, 3])"));
        check(&[5, 6, 7], &format!("a = relu(x); b = {op}(a, axes=[-1], keepdims=false); y = neg(b)"));
        check(&[5, 6, 7], &format!("y = {op}(x, axes=[1], keepdims=false)"));
        check(&[5, 6, 7], &format!("y = {op}(x, axes=[3, 1], keepdims=true)"));
        check(&[19], &format!("y = {op}(x, axes=[1], keepdims=false)"));
    }
    for last in ["false", "true"] {
        check(&[5, 6, 7], &format!("a = relu(x); y = arg_max(a, axes=[1], last={last})"));
        check(&[5, 6, 7], &format!("a = arg_max(x, axes=[3], keepdims=false, last={last}); y = neg(a)"));
    }
    check(&[3, 4], "y = softmax(x)");
    check(&[2, 3, 4], "a = neg(x); b = softmax(a); y = neg(b)");
}

#[test]
fn broadcasting() {
    check(&[5, 6, 7], "a = global_average_pool(x); b = sigmoid(a); y = mul(x, b)");
    check(&[5, 6, 7], "a = global_average_pool(x); b = mul(a, x); y = max_pool(b, kernel=[2, 2])");
    check(&[5, 6, 7], "a = reduce_max(x, axes=[1]); y = sub(a, x)");
    check(&[5, 6, 7], "a = reduce_sum(x, axes=[2]); y = sub(x, a)");
    check(&[5, 6, 7], "a = add(x, @f: f32[5, 6, 7]); y = mul(a, @g: f32[1, 6, 1])");
    check(&[7, 6, 7], "a = add(x, @f: f32[7]); y = mul(a, @g: f32[7, 1, 1])");
    check(&[5, 6], "a = add(x, @f: f32[6]); y = mul(a, @g: f32[5, 1])");
    check(&[6], "a = add(x, @f: f32[6]); y = mul(a, @g: f32[1, 6])");
}

#[test]
fn codes_move() {
    let q = "q = quantize_activation(x, bits=2)";
    let conv = "conv(r, quantize_weights(@w: f32[8, 6, 3, 3], bits=2), pads=[1, 1, 1, 1])";
    check(&[5, 4, 6], &format!("{q}; r = transpose(q, perm=[0, 3, 1, 2]); y = {conv}"));
    check(&[5, 24], &format!("{q}; r = reshape(q, shape=[6, 4, 5]); y = {conv}"));
    check(
        &[3, 4, 6],
        &format!("{q}; r = reshape(q, shape=[72]); y = matmul(r, quantize_weights(@w: f32[9, 72], bits=1))"),
    );
    let grouped = "conv(r, quantize_weights(@w: f32[12, 1, 3, 3], bits=2), groups=6, pads=[1, 1, 1, 1])";
    check(&[5, 4, 6], &format!("{q}; r = transpose(q, perm=[0, 3, 1, 2]); y = {grouped}"));
    let both = "a = conv(q, quantize_weights(@w: f32[12, 4, 3, 3], bits=2), groups=3, pads=[1, 1, 1, 1])";
    check(
        &[12, 4, 6],
        &format!("{q}; {both}; b = conv(q, quantize_weights(@v: f32[12, 12, 1, 1], bits=1)); y = add(a, b)"),
    );
}

#[test]
fn codes_whose_readers_group_them_differently() {
    // 192 channels are whole words in three groups and half words in two; 12 are whole quads in three, not in two.
    for (channels, bits) in [(192, 3), (192, 2), (12, 3), (12, 2)] {
        let conv = |name: &str, groups: usize| {
            let weights = format!("@{name}: f32[48, {}, 1, 1]", channels / groups);
            format!("{name}c = conv(q, quantize_weights({weights}, bits=1), groups={groups})")
        };
        let body = format!("{}; {}; y = add(vc, wc)", conv("v", 2), conv("w", 3));
        check(&[channels, 2, 5], &format!("q = quantize_activation(x, bits={bits}); {body}"));
    }
}

#[test]
fn levels_and_accumulators_beyond_32_bits() {
    let read = |body: &str| {
        let source = format!("dorefa 1\ngraph g(x: f32[N, 4]) -> (y) {{\n  {body}\n}}\n");
        text::parse(&source, "wide.dorefa", &|_| None).map(drop)
    };
    assert!(read("y = decode(encode(x, top=65535, step=65536, scale=1))").is_err());
    let wide = "u16<0..65535, step 65536, offset 0, scale 1>";
    assert!(read(&format!("y = decode(int_conv(encode(x, top=3, scale=1), @w: {wide}[2, 4]))")).is_err());
    // 255·255·34 000 exceeds 2³¹, and really does with the greatest codes everywhere.
    let quantised = "q = quantize_activation(x, bits=8); y = matmul(q, quantize_weights(@w: f32[2, 34000], bits=8))";
    check(&[34000], quantised);
    let ones = |_: &str| Tensor::f32([2, 34000], vec![1.0; 68000]).ok();
    check_on(&[34000], quantised, &ones, |_| 1.0);
    // With outputs enough that digits pay.
    let block = quantised.replace("f32[2, 34000]", "f32[16, 34000]");
    let ones_of_block = |_: &str| Tensor::f32([16, 34000], vec![1.0; 16 * 34000]).ok();
    let kernels = check_on(&[34000], &block, &ones_of_block, |_| 1.0);
    assert!(kernels.iter().any(|k| k.starts_with("split integer")), "{kernels:?}");
    // More inputs than a strip holds.
    let longer = quantised.replace("34000", "300000");
    let ones_of = |_: &str| Tensor::f32([2, 300_000], vec![1.0; 600_000]).ok();
    let kernels = check_on(&[300_000], &longer, &ones_of, |_| 1.0);
    assert!(kernels.contains(&"direct integer, 64 bits"), "{kernels:?}");
    let codes = longer.replace("y = matmul", "a = matmul");
    check_on(&[300_000], &format!("{codes}; y = quantize_activation(a, bits=2)"), &ones_of, |i| (i % 3) as f32 / 2.0);
    // Enough outputs for several tasks, each with its own share of them.
    check(&[34000], &quantised.replace("f32[2, 34000]", "f32[70, 34000]"));
    // The layer's result, thresholded: the float steps stay.
    let next = quantised.replace("y = matmul", "a = matmul");
    check_on(&[34000], &format!("{next}; y = quantize_activation(a, bits=2)"), &ones, |i| (i % 3) as f32 / 2.0);
}

#[test]
fn packed_pools_of_codes() {
    // Looked-up layers read nibbles, fully connected ones bits; a falling channel wants the least code.
    let pixel = |i: usize| ((i * 7919 + 13) % 97) as f32 / 32.0 - 1.25;
    let signs = |name: &str| {
        let of = |c: usize| Tensor::f32([c, 1, 1], (0..c).map(|i| [0.5, -0.7, 0.3][i % 3]).collect()).ok();
        if name == "g" { of(128) } else { None }
    };
    let first = "q = quantize_activation(x, bits=2); c = conv(q, quantize_weights(@w: f32[128, 64, 1, 1], bits=1))";
    let mut seen = Vec::new();
    for bits in [1, 2] {
        for (window, flat) in
            [("kernel=[3, 3], strides=[2, 2]", 512), ("kernel=[2, 2], strides=[2, 2], pads=[1, 0, 1, 0]", 768)]
        {
            for step in ["m = relu(c)", "m = mul(c, @g: f32[128, 1, 1])"] {
                let pool =
                    format!("{first}; {step}; p = max_pool(m, {window}); a = quantize_activation(p, bits={bits})");
                let full = format!(
                    "f = reshape(a, shape=[{flat}]); y = matmul(f, quantize_weights(@v: f32[9, {flat}], bits=1))"
                );
                let conv = "y = conv(a, quantize_weights(@v: f32[32, 128, 1, 1], bits=1))".to_owned();
                for next in [full, conv] {
                    seen.push(check_on(&[64, 5, 5], &format!("{pool}; {next}"), &signs, pixel));
                }
            }
        }
    }
    let packed = seen.iter().filter(|k| k.contains(&"code pool, packed")).count();
    assert!(packed > 0, "{seen:?}");
}

#[test]
fn average_pools_of_codes() {
    let kernels = |extents: &[usize], body: &str| {
        check(extents, body);
        check_on(extents, body, &|_| None, |i| (i % 5) as f32 / 4.0)
    };
    let q = "q = quantize_activation(x, bits=3)";
    let window = "kernel=[3, 2], strides=[2, 1], pads=[1, 1, 1, 0]";
    for pool in [
        format!("y = average_pool(q, {window})"),
        format!("y = average_pool(q, {window}, count_padding=true)"),
        "y = global_average_pool(q)".to_owned(),
        format!("a = average_pool(q, {window}); y = quantize_activation(a, bits=2)"),
        "a = average_pool(q, kernel=[2, 2]); b = conv(a, quantize_weights(@w: f32[4, 6, 1, 1], bits=1)); y = relu(b)"
            .to_owned(),
    ] {
        let kernels = kernels(&[6, 5, 7], &format!("{q}; {pool}"));
        assert!(kernels.contains(&"code sum"), "{kernels:?}");
    }
    // Whole images of whole vectors: bit planes, nibbles, and more codes of 8 bits than 16 bits hold.
    for (bits, extents) in [(1, [16, 5, 7]), (2, [48, 6, 9]), (3, [32, 4, 5]), (8, [16, 17, 19])] {
        let body = format!("q = quantize_activation(x, bits={bits}); y = global_average_pool(q)");
        let kernels = kernels(&extents, &body);
        assert!(kernels.contains(&"code sum, whole images"), "{kernels:?}");
        check_on(&extents, &body, &|_| None, |_| 1.0);
    }
    // Signed codes: level 0 is no code of bipolar values, so padding must not count.
    check(&[4, 5, 5], &format!("q = step(x); y = average_pool(q, {window})"));
}

/// Whether this machine runs the kernels of AVX-512 with VBMI.
fn has_vbmi() -> bool {
    let has = std::arch::is_x86_feature_detected!("avx512vbmi") && std::arch::is_x86_feature_detected!("avx512bw");
    if !has {
        eprintln!("SKIPPED: this CPU lacks AVX-512 VBMI");
    }
    has
}

/// A layer of `w`-bit weights on `a`-bit codes, on noise and on the greatest codes everywhere: its accumulators, and its
/// codes by thresholds with rising and falling channels. The greatest weights lie in half of the outputs.
fn layer_by_look_up([c, h, width]: [usize; 3], o: usize, kernel: [usize; 2], [w, a]: [usize; 2], attrs: &str) {
    let groups = attrs.split("groups=").nth(1).map_or(1, |s| s[..1].parse().expect("one digit"));
    let [kh, kw] = kernel;
    let inner = c / groups;
    let conv = format!(
        "q = quantize_activation(x, bits={a}); c = conv(q, quantize_weights(@w: f32[{o}, {inner}, {kh}, {kw}], bits={w}){attrs})"
    );
    let tail = |bits: usize| {
        let norm = format!("b = batch_norm(c, @g: f32[{o}], @b: f32[{o}], @m: f32[{o}], @v: f32[{o}])");
        format!(
            "{conv}; {norm}; r = quantize_activation(b, bits={bits}); y = conv(r, quantize_weights(@u: f32[32, {o}, 1, 1], bits=1))"
        )
    };
    let taps = inner * kh * kw;
    let most = |name: &str| {
        let weights = (0..o * taps).map(|i| if (i / taps).is_multiple_of(2) { 1.0 } else { -1.0 }).collect();
        (name == "w").then(|| Tensor::f32([o, inner, kh, kw], weights).expect("fits"))
    };
    // Others may be predicted to be cheaper for these shapes.
    let wish = Wish { layer: "c".to_owned(), kernel: "look-up-64-avx-512".to_owned(), measured: false };
    let options = Options { kernels: has_vbmi().then_some(wish).into_iter().collect(), ..Options::default() };
    for body in [format!("{conv}; y = relu(c)"), tail(1), tail(2)] {
        let noise = |i: usize| (i * 7919 % 97) as f32 / 90.0;
        let noise = check_with(&[c, h, width], &body, &|_| None, noise, &options);
        let greatest = check_with(&[c, h, width], &body, &most, |_| 1.0, &options);
        for kernels in [noise, greatest] {
            assert!(!has_vbmi() || kernels.contains(&"look-up 64, AVX-512"), "{kernels:?}\n{body}");
        }
    }
}

#[test]
fn tables_of_six_channels() {
    let same = ", pads=[1, 1, 1, 1]";
    layer_by_look_up([64, 9, 15], 64, [3, 3], [1, 2], same);
    layer_by_look_up([28, 5, 6], 128, [3, 3], [2, 2], same);
    layer_by_look_up([48, 7, 7], 48, [3, 3], [1, 1], ", pads=[1, 0, 0, 2]");
    layer_by_look_up([20, 8, 19], 32, [5, 5], [1, 2], ", pads=[2, 2, 2, 2], strides=[2, 2]");
    layer_by_look_up([104, 6, 9], 96, [1, 1], [3, 2], ", strides=[2, 2]");
    layer_by_look_up([16, 9, 9], 64, [2, 3], [1, 2], ", pads=[2, 4, 4, 3], dilations=[3, 2], strides=[3, 2]");
    layer_by_look_up([64, 6, 10], 128, [5, 5], [1, 2], ", pads=[2, 2, 2, 2], groups=2");
    layer_by_look_up([24, 6, 10], 96, [3, 3], [4, 1], ", pads=[1, 1, 1, 1], groups=3");
}

#[test]
fn sums_of_look_ups_at_their_limits() {
    // Accumulators beyond ±32 766, and sums just below 65 536.
    layer_by_look_up([1216, 3, 3], 64, [3, 3], [1, 2], ", pads=[1, 1, 1, 1]");
    layer_by_look_up([2424, 3, 4], 32, [3, 3], [1, 2], "");
    // Weights of 8 bits: sums that 16 bits do not hold go to another kernel.
    let wide = "q = quantize_activation(x, bits=2); y = conv(q, quantize_weights(@w: f32[32, 64, 3, 3], bits=8))";
    let kernels = check_on(&[64, 5, 5], wide, &|_| None, |_| 1.0);
    assert!(!kernels.contains(&"look-up 64, AVX-512"), "{kernels:?}");
}

#[test]
fn popcounts_of_eight_words() {
    let wide = std::arch::is_x86_feature_detected!("avx512vpopcntdq");
    if !wide {
        eprintln!("SKIPPED: this CPU lacks AVX-512 VPOPCNTDQ");
    }
    let ones = |extents: [usize; 2]| {
        move |name: &str| (name == "w").then(|| Tensor::f32(extents, vec![1.0; extents[0] * extents[1]]).expect("fits"))
    };
    for ([k, o], [w, a]) in [([1100, 130], [1, 2]), ([4096, 300], [1, 2]), ([70, 9], [2, 3]), ([500, 64], [2, 8])] {
        let body = format!(
            "q = quantize_activation(x, bits={a}); y = matmul(q, quantize_weights(@w: f32[{o}, {k}], bits={w}))"
        );
        let noise = check_on(&[k], &body, &|_| None, |i| (i * 7919 % 97) as f32 / 90.0);
        let greatest = check_on(&[k], &body, &ones([o, k]), |_| 1.0);
        assert!(!wide || [noise, greatest].iter().all(|k| k.contains(&"bit-serial popcount, AVX-512")), "{body}");
    }
    // Bipolar codes, whose code 0 is level −1; groups; padding.
    let conv = "conv(q, quantize_weights(@w: f32[36, 36, 3, 3], bits=1), pads=[1, 1, 1, 1], groups=2)";
    for quantiser in ["step(x)", "quantize_activation(x, bits=4)"] {
        let body = format!("q = {quantiser}; y = {conv}");
        let kernels = check_on(&[72, 4, 5], &body, &|_| None, |i| (i * 7919 % 97) as f32 / 64.0 - 0.5);
        assert!(!wide || kernels.contains(&"bit-serial popcount, AVX-512"), "{kernels:?} {body}");
    }
}

#[test]
fn layers_of_other_ranks() {
    check(
        &[4, 3, 5],
        "r = reshape(x, shape=[4, 15]); c = batch_norm(r, @g: f32[4], @b: f32[4], @m: f32[4], @v: f32[4]); y = relu(c)",
    );
}
