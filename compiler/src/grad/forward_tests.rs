//! The forward pass of a step: what is refused, and what the losses of equal networks are.

use crate::grad::{Optimizer, Step, StepOptions, build};
use crate::graph::{Context, Graph};
use crate::{interp, text};
use dorefa_runtime::tensor::{Data, Tensor};

fn step(body: &str) -> Result<Step, Vec<String>> {
    let source = format!("dorefa 1\ngraph g(x: f32[N, 2, 4, 4]) -> (y) {{\n{body}\n}}\n");
    let source = text::parse(&source, "t", &|_| None).unwrap_or_else(|e| panic!("{e:?}"));
    let options = StepOptions { optimizer: Optimizer::Sgd, ..StepOptions::default() };
    build(&source, &options).map_err(|e| e.iter().map(ToString::to_string).collect())
}

/// Loss of a graph on two samples; kept small enough that no clip is reached.
fn loss(graph: &Graph) -> f32 {
    let x = Tensor::f32([2, 2, 4, 4], (0..64).map(|i| (i * 7 % 13) as f32 / 13.0).collect()).expect("fits");
    let labels = Tensor::new([2], Data::I32(vec![0, 2])).expect("fits");
    let context = Context { step: 1, loss_scale: 1.0, ..Context::default() };
    let (outputs, _) = interp::step(graph, &[x, labels], true, &context).expect("runs");
    outputs[0].as_f32().expect("floats")[0]
}

#[test]
fn every_problem_is_told_once() {
    let quant = "@s: f32[1], @z: f32[1], bits=2, signed=true";
    let body = format!(
        "a = quant(x, {quant})\nb = relu(a)\nc = conv(b, @w: f32[3, 2, 4, 4])\nd = quant(neg(x), {quant})\n\
         e = conv(d, @v: f32[3, 2, 4, 4])\ny = reshape(add(c, e), shape=[3])"
    );
    let problems = step(&body).err().expect("refused");
    let named: Vec<_> = problems.iter().filter_map(|p| p.split(' ').next()).collect();
    assert_eq!(named, ["a", "d"], "{problems:?}");
}

/// A network that ends in a softmax trains as the one without: the loss has its own.
#[test]
fn a_closing_softmax_is_the_loss_s() {
    let body = |y: &str| format!("c = reshape(conv(x, @w: f32[3, 2, 4, 4]), shape=[3])\ny = {y}");
    let [plain, closed] = ["neg(c)", "softmax(neg(c))"].map(|y| step(&body(y)).unwrap_or_else(|e| panic!("{e:?}")));
    assert_eq!(loss(&plain.train), loss(&closed.train));
    assert_eq!(plain.train.order().len(), closed.train.order().len());
}

#[test]
fn weights_behind_a_reshape_are_trained() {
    let body = "c = conv(x, reshape(quantize_weights(@w: f32[3, 32], bits=2), shape=[3, 2, 4, 4]))\n\
                y = reshape(c, shape=[3])";
    let step = step(body).unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!(step.train.updates().len(), 2, "weights and momentum");
}

#[test]
fn dropped_codes_keep_their_value_in_a_pool() {
    let with = |a: &str| {
        format!("a = {a}\nc = conv(a, quantize_weights(@w: f32[3, 2, 2, 2], bits=1))\ny = reshape(c, shape=[3])")
    };
    let codes = "max_pool(dropout(quantize_activation(x, bits=2), rate=0.5), kernel=[2, 2], strides=[2, 2])";
    let floats = "max_pool(dropout(relu(quantize_activation(x, bits=2)), rate=0.5), kernel=[2, 2], strides=[2, 2])";
    let (codes, floats) = (step(&with(codes)), step(&with(floats)));
    let both = [codes, floats].map(|s| loss(&s.unwrap_or_else(|e| panic!("{e:?}")).train));
    assert!((both[0] - both[1]).abs() < 1e-5, "{both:?}");
}

#[test]
fn what_has_no_slope_is_refused_where_something_would_learn_through_it() {
    let body = |y: &str| format!("c = reshape(conv({y}, @w: f32[3, 2, 4, 4]), shape=[3])\ny = neg(c)");
    assert!(step(&body("round(x)")).is_ok(), "nothing before it is trained");
    let problems = step(&body("round(conv(x, @v: f32[2, 2, 1, 1]))")).err().expect("refused");
    assert!(problems.len() == 1 && problems[0].contains("quantize_activation"), "{problems:?}");
}

/// What moves codes gives codes: the product behind it is one of integers.
#[test]
fn codes_stay_codes_where_elements_only_move() {
    for moved in [
        "reshape(a, shape=[32])",
        "reshape(transpose(a, perm=[0, 2, 3, 1]), shape=[32])",
        "reshape(slice(max_pool(a, kernel=[1, 1]), axis=1, start=0, length=2), shape=[32])",
    ] {
        let body = format!(
            "a = quantize_activation(x, bits=2)\ny = matmul({moved}, quantize_weights(@w: f32[3, 32], bits=1))"
        );
        let step = step(&body).unwrap_or_else(|e| panic!("{e:?}"));
        let ops: Vec<_> =
            step.train.order().into_iter().filter_map(|id| step.train.node(id)).map(|n| n.op.name).collect();
        assert!(ops.contains(&"int_conv") && !ops.contains(&"matmul"), "{moved}: {ops:?}");
    }
}
