//! Chains of f32 steps as exporters write them become the operators of training, which compute the same.

use super::recognise;
use crate::graph::Graph;
use crate::{interp, text};
use dorefa_runtime::tensor::Tensor;
use std::sync::Arc;

fn graph(body: &str, numbers: &[(&str, &[f32])]) -> Graph {
    let source = format!("dorefa 1\ngraph g(x: f32[N, 2, 4, 4]) -> (y) {{\n{body}\n}}\n");
    let mut graph = text::parse(&source, "t", &|_| None).unwrap_or_else(|e| panic!("{body}: {e:?}"));
    for (name, values) in numbers {
        let id = graph.named(name).expect("a constant");
        let shape = graph.node(id).and_then(|n| n.tensor.clone()).expect("data").shape().to_vec();
        let tensor = Tensor::f32(shape, values.to_vec()).expect("fits");
        graph.set_constant(id, Arc::new(tensor)).expect("a constant");
    }
    graph
}

fn run(graph: &Graph) -> Vec<f32> {
    let x = Tensor::f32([2, 2, 4, 4], (0..64).map(|i| (i * 7 % 23) as f32 / 10.0 - 0.7).collect()).expect("fits");
    interp::run(graph, &[x], true).expect("runs")[0].as_f32().expect("floats").to_vec()
}

/// Recognises; the result holds each of `found`, and computes the same.
fn becomes(body: &str, numbers: &[(&str, &[f32])], found: &[&str]) -> Graph {
    let before = graph(body, numbers);
    let mut after = before.clone();
    recognise(&mut after).unwrap_or_else(|e| panic!("{body}: {e}"));
    let printed = text::print(&after);
    for what in found {
        assert!(printed.contains(what), "{body}: no {what} in\n{printed}");
    }
    for op in ["round", "sign", "add("] {
        assert!(!printed.contains(op), "{body}: {op} is left in\n{printed}");
    }
    let close = run(&before).iter().zip(run(&after)).all(|(a, b)| (a - b).abs() <= 2e-4 * (1.0 + a.abs()));
    assert!(close, "{body}: computes something else:\n{printed}");
    after
}

#[test]
fn activations() {
    let numbers: &[(&str, &[f32])] = &[("n", &[3.0]), ("one", &[1.0]), ("zero", &[0.0]), ("part", &[1.0 / 3.0])];
    let rest = "b = mul(a, @n: f32[])\nc = round(b)\n";
    let used =
        |text: &str| numbers.iter().copied().filter(|(n, _)| text.contains(&format!("@{n}"))).collect::<Vec<_>>();
    for (bound, way) in [
        ("a = clip(x, lo=0.0, hi=1.0)", "bound=clip"),
        ("a = clip(relu(x), lo=0.0, hi=1.0)", "bound=clip"),
        ("a = max(min(x, @one: f32[1, 1, 1, 1]), @zero: f32[1])", "bound=clip"),
        ("a = min(@one: f32[1], abs(x))", "bound=abs"),
    ] {
        for last in ["y = div(c, @n)", "y = mul(c, @part: f32[1])"] {
            let body = format!("{bound}\n{rest}{last}");
            becomes(&body, &used(&body), &["quantize_activation", "bits=2", way]);
        }
    }
    // Between transposes, as TensorFlow's networks have it.
    let body = "a = clip(x, lo=0.0, hi=1.0)\nb = mul(a, @n: f32[])\nt = transpose(b, perm=[0, 2, 3, 1])\nc = round(t)\n\
                d = mul(c, @part: f32[])\ny = transpose(d, perm=[0, 3, 1, 2])";
    becomes(body, &used(body), &["quantize_activation"]);
}

#[test]
fn weights_of_live_chains() {
    let one = "m = reduce_mean(abs(@w: f32[3, 2, 2, 2]), axes=[0, 1, 2, 3], keepdims=false)\n\
               q = mul(sign(div(@w, m)), m)\ny = relu(conv(x, q))";
    becomes(one, &[], &["quantize_weights", "bits=1", "quantize_gradient"]);
    let two = "t = tanh(@w: f32[3, 2, 2, 2])\nm = reduce_max(abs(t), axes=[0, 1, 2, 3], keepdims=false)\n\
               u = add(div(div(t, @two: f32[]), m), @half: f32[])\nr = div(round(mul(u, @n: f32[])), @n)\n\
               q = sub(mul(r, @two), @one: f32[])\ny = conv(x, q)";
    for (n, bits) in [(3.0, "bits=2"), (15.0, "bits=4"), (255.0, "bits=8")] {
        becomes(two, &[("two", &[2.0]), ("half", &[0.5]), ("one", &[1.0]), ("n", &[n])], &["quantize_weights", bits]);
    }
}

#[test]
fn folded_weights() {
    let signs: Vec<f32> = (0..24).map(|i| if i * 5 % 7 < 3 { 0.3 } else { -0.3 }).collect();
    becomes("y = conv(x, @w: f32[3, 2, 2, 2])", &[("w", &signs)], &["quantize_weights", "bits=1"]);
    let levels: Vec<f32> = (0..24).map(|i| (2 * (i * 5 % 4) - 3) as f32 / 3.0).collect();
    let after = becomes("y = conv(x, @w: f32[3, 2, 2, 2])", &[("w", &levels)], &["quantize_weights", "bits=2"]);
    let w = after.node(after.named("w").expect("weights")).and_then(|n| n.tensor.clone()).expect("data");
    assert!(w.as_f32().expect("floats").iter().all(|v| v.abs() <= 1.0), "{w:?}");
    let floats = becomes("y = conv(x, @w: f32[3, 2, 2, 2])", &[], &["conv"]);
    assert!(!text::print(&floats).contains("quantize"));
}

#[test]
fn weights_that_only_their_quantiser_would_train() {
    let scaled: Vec<f32> = (0..24).map(|i| [0.1, 0.3, 0.7][i / 8] * if i * 5 % 7 < 3 { 1.0 } else { -1.0 }).collect();
    let mut folded = graph("y = conv(x, @w: f32[3, 2, 2, 2])", &[("w", &scaled)]);
    let error = recognise(&mut folded).expect_err("refused").to_string();
    assert!(
        error.contains("y (conv)") && error.contains("1-bit codes") && error.contains("constant folding"),
        "{error}"
    );
    let body = "q = mul(round(@w: f32[3, 2, 2, 2]), @s: f32[])\ny = conv(x, q)";
    let error = recognise(&mut graph(body, &[("s", &[0.1])])).expect_err("refused").to_string();
    assert!(error.contains("y (conv)") && error.contains("quantize_weights"), "{error}");
}

#[test]
fn biases_behind_their_layer() {
    let after = becomes("c = conv(x, @w: f32[3, 2, 2, 2])\ny = add(c, @b: f32[1, 3, 1, 1])", &[], &["conv(x, @w"]);
    assert_eq!(after.operands(after.outputs()[0].1.node).len(), 3);
    let matrix = "f = reshape(x, shape=[32])\nc = matmul(f, @w: f32[5, 32])\ny = add(@b: f32[5], c)";
    let after = becomes(matrix, &[], &["matmul(f, @w"]);
    assert_eq!(after.operands(after.outputs()[0].1.node).len(), 3);
}
