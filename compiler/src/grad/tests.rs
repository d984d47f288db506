//! Finite differences: every rule of the backward pass against the loss itself, with the quantisers off.
//!
//! The pixels of a sample lie on a grid of [`GRID`] in random order, half a cell away from 0, and the first convolution is
//! nearly the identity. So no two elements that an operator compares, and no element and a bound, come within [`GRID`]/2 of
//! each other, a step of [`STEP`] crosses no kink, and the loss is smooth where it is probed. The loss is taken in f64 from
//! the scores, by central differences of two step lengths, extrapolated: the error is their rounding, about 1e-7/`STEP`.
//! SGD without momentum keeps the gradient as its velocity.

use super::{Decay, Optimizer, StepOptions, build};
use crate::graph::{Context, Graph, NodeId, Role, Value};
use crate::{interp, text};
use dorefa_runtime::tensor::{Data, Tensor};
use std::sync::Arc;

/// Distance of neighbouring pixels.
const GRID: f32 = 0.08;
/// The greater of the two steps.
const STEP: f32 = 0.008;
/// Greatest error, as a share of the tensor's greatest derivative; and what rounding adds.
const TOLERANCE: (f64, f64) = (1e-3, 3e-5);
/// Most elements of a tensor that are probed.
const PROBES: usize = 30;
const SAMPLES: usize = 2;
const CLASSES: usize = 4;

struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// In −1 … 1.
    fn float(&mut self) -> f32 {
        self.bits() as f32 / (1u64 << 30) as f32 - 1.0
    }
}

/// Pixels on the grid, a permutation for each sample.
fn pixels(sample: usize, random: &mut Random) -> Vec<f32> {
    let mut out = Vec::new();
    for _ in 0..SAMPLES {
        let mut order: Vec<usize> = (0..sample).collect();
        (1..sample).rev().for_each(|i| order.swap(i, random.bits() as usize % (i + 1)));
        out.extend(order.iter().map(|&i| (i as f32 + 0.5 - sample as f32 / 2.0) * GRID));
    }
    out
}

fn set(graph: &mut Graph, node: NodeId, f: impl FnOnce(&mut [f32])) {
    let tensor = graph.node(node).and_then(|n| n.tensor.clone()).expect("a constant");
    let mut data = tensor.as_f32().expect("floats").to_vec();
    f(&mut data);
    let tensor = Tensor::f32(tensor.shape().to_vec(), data).expect("fits");
    graph.set_constant(node, Arc::new(tensor)).expect("a constant");
}

/// The mean cross entropy in f64.
fn loss(scores: &[f32], labels: &[i32]) -> f64 {
    let one = |(row, &label): (&[f32], &i32)| {
        let row: Vec<f64> = row.iter().map(|&v| f64::from(v)).collect();
        row.iter().map(|z| (z - row[label as usize]).exp()).sum::<f64>().ln()
    };
    scores.chunks(CLASSES).zip(labels).map(one).sum::<f64>() / labels.len() as f64
}

struct Probe {
    train: Graph,
    inputs: [Tensor; 2],
    labels: Vec<i32>,
}

impl Probe {
    /// `body` makes `y`, of `features` elements, of `a` and `c`: two nearly identical copies of x [3,H,H], c's channels rolled.
    fn new(extent: usize, features: usize, body: &str) -> Probe {
        let source = format!(
            "dorefa 1\ngraph probe(x: f32[N, 3, {extent}, {extent}]) -> (scores) {{\n\
             a = conv(x, @a.w: f32[3, 3, 3, 3], @a.b: f32[3], pads=[1, 1, 1, 1])\n\
             c = conv(x, @c.w: f32[3, 3, 3, 3], @c.b: f32[3], pads=[1, 1, 1, 1])\n{body}\n\
             f = reshape(y, shape=[{features}])\n\
             scores = matmul(f, @fc.w: f32[{CLASSES}, {features}], @fc.b: f32[{CLASSES}])\n}}\n"
        );
        let source = text::parse(&source, "probe", &|_| None).unwrap_or_else(|e| panic!("{body}: {e:?}"));
        let options = StepOptions { optimizer: Optimizer::Sgd, decay: Decay::None };
        let mut train = build(&source, &options).unwrap_or_else(|e| panic!("{body}: {e:?}")).train;
        let mut random = Random(7);
        for (name, roll) in [("a.w", 0), ("c.w", 1)] {
            // What nothing reads is no part of the step.
            let Some(node) = train.named(name) else { continue };
            set(&mut train, node, |w| {
                for (i, w) in w.iter_mut().enumerate() {
                    let (o, c, tap) = (i / 27, i / 9 % 3, i % 9);
                    *w = 3e-4 * random.float() + if tap == 4 && c == (o + roll) % 3 { 1.0 } else { 0.0 };
                }
            });
            let bias = train.named(&name.replace('w', "b")).expect("a bias");
            set(&mut train, bias, |b| b.fill(0.0));
        }
        let x = pixels(3 * extent * extent, &mut random);
        let x = Tensor::f32([SAMPLES, 3, extent, extent], x).expect("fits");
        let labels: Vec<i32> = (0..SAMPLES as i32).map(|i| (i + 1) % CLASSES as i32).collect();
        let codes = Tensor::new([SAMPLES], Data::I32(labels.clone())).expect("fits");
        Probe { train, inputs: [x, codes], labels }
    }

    fn run(&self, graph: &Graph, keep: impl Fn(Value) -> bool) -> std::collections::BTreeMap<Value, Arc<Tensor>> {
        let context = Context { step: 1, lr: 0.1, loss_scale: 1.0, bn_momentum: 0.9, ..Context::default() };
        interp::run_step(graph, &self.inputs, true, &context, keep).expect("interprets")
    }

    fn loss(&self, graph: &Graph) -> f64 {
        let scores = graph.outputs()[2].1;
        loss(self.run(graph, |v| v == scores)[&scores].as_f32().expect("floats"), &self.labels)
    }

    /// The loss's derivative by one element: (4·D(h/2) − D(h))/3, whose error is of order h⁴.
    fn derivative(&self, node: NodeId, element: usize) -> f64 {
        let mut graph = self.train.clone();
        let mut at = |h: f32| {
            let mut moved = 0.0;
            set(&mut graph, node, |w| {
                moved = f64::from(w[element] + h) - f64::from(w[element]);
                w[element] += h;
            });
            let loss = self.loss(&graph);
            let original = self.train.node(node).and_then(|n| n.tensor.clone()).expect("a constant");
            graph.set_constant(node, original).expect("a constant");
            (loss, moved)
        };
        let mut central = |h: f32| {
            let (up, down) = (at(h), at(-h));
            (up.0 - down.0) / (up.1 - down.1)
        };
        (4.0 * central(STEP / 2.0) - central(STEP)) / 3.0
    }

    /// Compares every trained tensor's gradient; gives their names.
    fn check(&self, what: &str) -> Vec<String> {
        let mut names = Vec::new();
        let values = self.run(&self.train, |v| self.train.is_update(v) || self.train.is_output(v));
        let printed = f64::from(values[&self.train.outputs()[0].1].as_f32().expect("a loss")[0]);
        let loss = self.loss(&self.train);
        assert!((printed - loss).abs() < 1e-6 * (1.0 + loss), "{what}: the loss is {printed}, not {loss}");
        for update in self.train.updates().iter().filter(|u| u.role == Role::Momentum) {
            let name = &self.train.node(update.node).expect("a constant").name;
            let name = name.strip_suffix(".m").expect("a velocity");
            let node = self.train.named(name).expect("a parameter");
            let gradient = values[&update.value].as_f32().expect("floats");
            let largest = gradient.iter().fold(0f64, |m, &g| m.max(f64::from(g.abs())));
            assert!(largest > 1e-3, "{what}, {name}: the gradient vanishes and shows nothing");
            let probed = (0..gradient.len()).step_by(gradient.len().div_ceil(PROBES));
            for (i, got) in probed.map(|i| (i, f64::from(gradient[i]))) {
                let want = self.derivative(node, i);
                let allowed = TOLERANCE.0 * largest + TOLERANCE.1;
                assert!((want - got).abs() <= allowed, "{what}, {name}[{i}]: {got} is not {want} (±{allowed})");
            }
            names.push(name.to_owned());
        }
        names
    }
}

/// Checks `body`; all of `trained` must have a gradient.
fn check(extent: usize, features: usize, body: &str, trained: &[&str]) {
    let names = Probe::new(extent, features, body).check(body);
    for name in trained.iter().chain(&["fc.w", "fc.b"]) {
        assert!(names.iter().any(|n| n == name), "{body}: {name} has no gradient, only {names:?}");
    }
}

const A: &[&str] = &["a.w", "a.b"];
const BOTH: &[&str] = &["a.w", "a.b", "c.w", "c.b"];

#[test]
fn convolutions() {
    let conv = |extent, features, weights: &str, attrs: &str| {
        let body = format!("y = conv(a, @w: f32[{weights}], @b: f32[6]{attrs})");
        check(extent, features, &body, &["a.w", "a.b", "w", "b"]);
    };
    conv(4, 24, "6, 3, 3, 3", "");
    conv(5, 54, "6, 3, 3, 3", ", strides=[2, 2], pads=[1, 1, 1, 1]");
    conv(5, 48, "6, 3, 2, 3", ", strides=[1, 3], pads=[0, 1, 1, 0], dilations=[2, 1]");
    conv(4, 96, "6, 1, 3, 3", ", groups=3, pads=[1, 1, 1, 1]");
    // The last row and column of the image are read by no window.
    conv(5, 24, "6, 3, 2, 2", ", strides=[2, 2]");
}

#[test]
fn matrices() {
    let body = "r = reshape(a, shape=[12])\ny = matmul(r, @w: f32[5, 12], @b: f32[5])";
    check(2, 5, body, &["a.w", "a.b", "w", "b"]);
    check(2, 5, "r = reshape(a, shape=[12])\ny = matmul(r, @w: f32[5, 12])", &["a.w", "w"]);
}

#[test]
fn batch_norm() {
    let norm = "@gamma: f32[3], @beta: f32[3], @mean: f32[3], @var: f32[3], epsilon=1e-2";
    // Behind a function that is not linear: a constant added to what is normalised changes nothing.
    check(4, 48, &format!("y = batch_norm(tanh(a), {norm})"), &["a.w", "a.b", "gamma", "beta"]);
    let matrix = format!("r = matmul(reshape(tanh(a), shape=[12]), @w: f32[3, 12])\ny = batch_norm(r, {norm})");
    check(2, 3, &matrix, &["a.w", "w", "gamma", "beta"]);
}

#[test]
fn pools() {
    check(4, 12, "y = max_pool(a, kernel=[2, 2], strides=[2, 2])", A);
    check(5, 27, "y = max_pool(a, kernel=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])", A);
    check(4, 27, "y = max_pool(a, kernel=[2, 2])", A);
    check(4, 12, "y = average_pool(a, kernel=[2, 2], strides=[2, 2])", A);
    check(5, 27, "y = average_pool(a, kernel=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])", A);
    check(5, 27, "y = average_pool(a, kernel=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_padding=true)", A);
    check(5, 27, "y = average_pool(a, kernel=[2, 2], strides=[2, 2], ceil=true)", A);
    check(5, 27, "y = max_pool(a, kernel=[2, 2], dilations=[2, 2])", A);
    check(5, 27, "y = average_pool(a, kernel=[2, 2], dilations=[2, 2])", A);
    check(4, 3, "y = global_average_pool(a)", A);
}

#[test]
fn functions_of_one_value() {
    for op in [
        "relu(a)",
        "leaky_relu(a, alpha=0.3)",
        "clip(a, lo=-0.4, hi=0.72)",
        "tanh(a)",
        "sigmoid(a)",
        "exp(a)",
        "erf(a)",
    ] {
        check(4, 48, &format!("y = {op}"), A);
    }
    for op in [
        "sqrt(exp(a))",
        "log(exp(a))",
        "log(add(abs(a), @one: f32[1]))",
        "abs(a)",
        "neg(a)",
        "clip(a, lo=0.0)",
        "clip(a, hi=0.4)",
    ] {
        check(4, 48, &format!("y = {op}"), A);
    }
    check(4, 24, "t = reshape(tanh(a), shape=[6, 2, 4])\ny = max_pool(t, kernel=[2, 1])", A);
}

#[test]
fn quantisers_that_are_off() {
    let conv = "q = conv(a, quantize_weights(@w: f32[3, 3, 3, 3], bits=32), pads=[1, 1, 1, 1])";
    let rest = "g = quantize_gradient(q, bits=32)\ny = add(mul(g, @s: f32[1]), quantize_activation(a, bits=32))";
    check(4, 48, &format!("{conv}\n{rest}"), &["a.w", "w"]);
}

#[test]
fn functions_of_two_values() {
    for op in ["add(a, c)", "sub(a, c)", "mul(a, c)", "div(a, exp(c))", "min(a, c)", "max(a, c)"] {
        check(4, 48, &format!("y = {op}"), BOTH);
    }
    // One operand that is not trained: a number, one a channel, one an element.
    for shape in ["1", "3, 1, 1", "3, 4, 4"] {
        for op in ["add", "sub", "mul"] {
            check(4, 48, &format!("y = {op}(a, @s: f32[{shape}])"), A);
        }
    }
    check(4, 48, "y = div(@s: f32[3, 1, 1], exp(a))", A);
    for shape in ["1", "3, 1, 1", "1, 4, 1", "3, 4, 4"] {
        check(4, 48, &format!("y = prelu(a, @s: f32[{shape}])"), &["a.w", "a.b", "s"]);
    }
    check(2, 12, "y = prelu(reshape(a, shape=[12]), @s: f32[12])", &["a.w", "s"]);
    check(4, 48, "y = pow(exp(a), @s: f32[3, 1, 1])", A);
    check(4, 48, "y = select(greater(a, c), exp(c), mul(a, global_average_pool(c)))", BOTH);
    let product = "p = product(reshape(a, shape=[4, 12]), reshape(c, shape=[12, 4]))\ny = tanh(p)";
    check(4, 16, product, BOTH);
    check(4, 48, "y = tanh(product(product(a, c), a))", BOTH);
}

#[test]
fn values_that_are_spread() {
    // Squeeze and excite; rows over an image; a divisor.
    check(4, 48, "y = mul(c, sigmoid(global_average_pool(a)))", BOTH);
    check(4, 48, "y = sub(max_pool(a, kernel=[1, 4]), c)", BOTH);
    check(4, 48, "y = div(tanh(c), exp(global_average_pool(a)))", BOTH);
    check(2, 12, "y = add(global_average_pool(a), @o: f32[3, 2, 2])", A);
    // Constants that are trained elsewhere too.
    check(4, 48, "y = add(a, repeat(@s: f32[3, 4, 4], x))", A);
    let shared = "y = add(prelu(a, @s: f32[1, 4, 1]), repeat(reshape(@s, shape=[1, 4, 1]), x))";
    check(4, 48, shared, &["a.w", "s"]);
}

#[test]
fn elements_that_move() {
    check(4, 96, "y = concat(a, c, axis=1)", BOTH);
    check(4, 144, "y = concat(a, tanh(c), a, axis=3)", BOTH);
    check(4, 6, "y = concat(global_average_pool(a), global_average_pool(exp(c)), axis=1)", BOTH);
    check(4, 126, "y = pad(a, pads=[1, 0, 2, 2])", A);
    check(4, 126, "y = tanh(pad(a, pads=[1, 0, 2, 2], value=0.3))", A);
    check(4, 48, "y = transpose(a, perm=[0, 3, 1, 2])", A);
    check(4, 24, "y = slice(a, axis=2, start=1, length=2)", A);
    check(4, 60, "y = take(a, axis=3, indices=[1, 1, 3, -1, 0])", A);
    check(4, 96, "y = take(exp(a), axis=2, indices=[0, 0, 1, 1, 2, 2, 3, 3])", A);
    check(4, 48, "y = transpose(reshape(a, shape=[2, 3, 2, 4]), perm=[0, 4, 2, 1, 3])", A);
}

#[test]
fn sums_means_and_softmax() {
    for op in ["reduce_mean", "reduce_sum"] {
        check(4, 3, &format!("y = {op}(a, axes=[2, 3])"), A);
        check(4, 12, &format!("y = {op}(exp(a), axes=[-1], keepdims=false)"), A);
        check(4, 16, &format!("y = {op}(tanh(a), axes=[1])"), A);
        check(4, 1, &format!("y = {op}(sigmoid(a), axes=[1, 2, 3])"), A);
    }
    check(4, 3, "y = reduce_max(a, axes=[2, 3])", A);
    check(4, 16, "y = reduce_max(a, axes=[1], keepdims=false)", A);
    check(4, 16, "y = reduce_max(reshape(a, shape=[2, 3, 8]), axes=[2])", A);
    // Not of `a` itself: a constant added to a whole row changes nothing.
    check(4, 48, "y = softmax(tanh(a))", A);
    check(2, 12, "y = softmax(reshape(tanh(a), shape=[12]))", A);
}

#[test]
fn several_readers() {
    check(4, 48, "y = add(a, mul(a, relu(a)))", A);
    check(4, 48, "y = mul(a, a)", A);
    let residual = "p = conv(tanh(a), @p.w: f32[3, 3, 3, 3], pads=[1, 1, 1, 1])\n\
                    q = conv(tanh(p), @q.w: f32[3, 3, 3, 3], pads=[1, 1, 1, 1])\ny = add(q, sub(a, p))";
    check(4, 48, residual, &["a.w", "p.w", "q.w"]);
}
