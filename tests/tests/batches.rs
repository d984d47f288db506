//! Layers that do several samples at once: batches that fill such groups and batches that do not give the interpreter's bits.

use dorefa_runtime::{Session, Tensor};
use dorefac::codegen::target::{Arch, host_features, x86};
use dorefac::compile::{Options, compile, profile};
use dorefac::{interp, passes, text};

/// Compares every level of this machine with the interpreter on batches of many sizes; gives the kernels of the last, `native`.
fn check(extents: &[usize], body: &str) -> Vec<&'static str> {
    let dims = extents.iter().map(|d| format!(", {d}")).collect::<String>();
    let source = format!("dorefa 1\ngraph g(x: f32[N{dims}]) -> (y) {{\n  {}\n}}\n", body.replace("; ", "\n  "));
    let graph = text::parse(&source, "batches.dorefa", &|_| None)
        .unwrap_or_else(|p| panic!("{}", p.iter().map(ToString::to_string).collect::<String>()));
    let mut kernels = Vec::new();
    for (cpu, level) in dorefac_tests::machine::levels() {
        let fma = profile(&level);
        let mut lowered = graph.clone();
        passes::run(&mut lowered, fma, &mut |_, _| {}).expect("passes");
        let compiled = compile(&lowered, &level, &Options::default()).unwrap_or_else(|e| panic!("{cpu}: {e}\n{body}"));
        kernels.clone_from(&compiled.kernels);
        let jit = dorefac_tests::machine::model(&compiled.image).expect("loads");
        for batch in [1, 4, 7, 8, 15, 19] {
            let len = batch * extents.iter().product::<usize>();
            let data = (0..len).map(|i| ((i * 7919 + 13) % 97) as f32 / 32.0 - 1.25).collect();
            let x = Tensor::f32([&[batch][..], extents].concat(), data).expect("fits");
            let want = interp::run(&lowered, std::slice::from_ref(&x), fma).expect("runs");
            for threads in [1, 2, 5] {
                let got = Session::new(&jit, threads).expect("session").run(std::slice::from_ref(&x)).expect("runs");
                let bits = |t: &[Tensor]| t.iter().flat_map(dorefac_tests::bits).collect::<Vec<u32>>();
                assert!(bits(&want) == bits(&got), "{cpu}, batch {batch}, {threads} threads\n{body}\n{kernels:?}");
            }
        }
    }
    kernels
}

#[test]
fn float_layers_of_one_position() {
    for (extents, layer) in [
        (&[37][..], "c = matmul(a, @w: f32[10, 37], @b: f32[10])"),
        (&[130], "c = matmul(a, @w: f32[64, 130])"),
        (&[1100], "c = matmul(a, @w: f32[331, 1100], @b: f32[331])"),
        (&[5, 3, 4], "c = conv(a, @w: f32[70, 5, 3, 4], @b: f32[70])"),
        (&[9, 1, 1], "c = conv(a, @w: f32[33, 9, 1, 1])"),
    ] {
        let kernels = check(extents, &format!("a = abs(x); {layer}; r = relu(c); y = add(r, c)"));
        let wide = host_features() & x86::AVX512 != 0 && Arch::host() == Some(Arch::X86_64);
        assert!(!wide || kernels.contains(&"float chain, AVX-512"), "{kernels:?}");
        check(extents, &layer.replace("c = ", "y = ").replace("(a,", "(x,"));
    }
    // Groups and padding keep to one sample at a time.
    check(&[6, 2, 2], "y = conv(x, @w: f32[4, 3, 2, 2], groups=2)");
    check(&[6, 1, 1], "y = conv(x, @w: f32[4, 6, 3, 3], pads=[1, 1, 1, 1])");
}

#[test]
fn bit_planes_of_one_position() {
    for bits in [1, 2, 4] {
        for (extents, layer) in [
            (&[130][..], "matmul(a, quantize_weights(@w: f32[64, 130], bits=1), @b: f32[64])"),
            (&[700], "matmul(a, quantize_weights(@w: f32[331, 700], bits=2))"),
            (&[64, 3, 2], "conv(a, quantize_weights(@w: f32[70, 64, 3, 2], bits=1))"),
            // Padding and groups keep to one sample at a time.
            (&[64, 1, 1], "conv(a, quantize_weights(@w: f32[16, 64, 3, 3], bits=1), pads=[1, 1, 1, 1])"),
            (&[128, 2, 2], "conv(a, quantize_weights(@w: f32[64, 64, 2, 2], bits=1), groups=2)"),
        ] {
            let body = format!("a = quantize_activation(x, bits={bits}); c = {layer}");
            let codes = format!("{body}; q = quantize_activation(c, bits=2); y = neg(q)");
            for body in [format!("{body}; r = relu(c); y = add(r, c)"), codes] {
                let kernels = check(extents, &body);
                assert!(
                    kernels.iter().any(|k| k.contains("popcount") || k.starts_with("look-up") || *k == "AMX"),
                    "{kernels:?}"
                );
            }
        }
    }
}

/// Rows that are shared out among the threads in small batches are one task's in large ones, or where every thread has as many samples.
#[test]
fn layers_of_many_rows() {
    let codes = "a = quantize_activation(x, bits=2); c = conv(a, quantize_weights(@w: f32[32, 16, 3, 3], bits=1), pads=[1, 1, 1, 1])";
    let pooled =
        "q = quantize_activation(c, bits=2); p = max_pool(q, kernel=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])";
    let after = "y = conv(p, quantize_weights(@v: f32[16, 32, 3, 3], bits=2))";
    check(&[16, 21, 20], &format!("{codes}; {pooled}; {after}"));
    // Pools that are part of the layer's step, of whole rows of windows.
    let side = "q = quantize_activation(c, bits=2); p = max_pool(q, kernel=[2, 2], strides=[2, 2])";
    check(&[16, 12, 10], &format!("{codes}; {side}; {after}"));
    let fixed = codes.replace("quantize_weights(@w: f32[32, 16, 3, 3], bits=1)", "@w: f32[32, 16, 3, 3]");
    check(&[16, 12, 10], &format!("{fixed}; {side}; {after}"));
    let floats = "c = conv(x, @w: f32[20, 16, 3, 3]); p = average_pool(relu(c), kernel=[2, 2])";
    check(&[16, 21, 20], &format!("{floats}; y = conv(p, @v: f32[12, 20, 3, 3], pads=[1, 1, 1, 1])"));
}
