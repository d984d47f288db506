//! Every operator of training, compiled for aarch64 and run under an emulator, gives the bits of the interpreter.

use dorefa_runtime::train::{AdamForm, Decay, Optimizer, StepOptions};
use dorefac::codegen::target::{Arch, Level};
use dorefac::compile::{Options, compile_training};
use dorefac::emit::elf;
use dorefac::graph::ops;
use dorefac::{grad, text};
use dorefac_tests::native::Machine;
use dorefac_tests::training::{ADAM, from_c, parsed};
use std::collections::BTreeSet;

const SGD: StepOptions = StepOptions { optimizer: Optimizer::Sgd, decay: Decay::L2 };
const TORCH: StepOptions =
    StepOptions { optimizer: Optimizer::Adam { form: AdamForm::PyTorch }, decay: Decay::Decoupled };

/// Statements that make `y`, of so many elements, of x (N,3,6,5); and how they are trained. Four classes.
const NETWORKS: &[(&str, usize, &StepOptions)] = &[
    // Codes: weights of one bit and of several, gradients of six, normalisation of accumulators, dropout of codes.
    (
        "a = quantize_activation(conv(x, @w0: f32[8, 3, 3, 3], @b0: f32[8], pads=[1, 1, 1, 1]), bits=2)\n\
         d = dropout(a, rate=0.25)\n\
         b = quantize_gradient(conv(d, quantize_weights(@w1: f32[8, 8, 3, 3], bits=1), pads=[1, 1, 1, 1]), bits=6)\n\
         n = batch_norm(b, @g: f32[8], @h: f32[8], @i: f32[8], @j: f32[8])\n\
         c = quantize_activation(max_pool(n, kernel=[2, 2], strides=[2, 2]), bits=3, bound=abs)\n\
         e = quantize_gradient(conv(c, quantize_weights(@w2: f32[6, 8, 1, 1], bits=3)), bits=4)\n\
         y = quantize_activation(e, bits=2, bound=tanh)",
        36,
        &ADAM,
    ),
    // Floats: normalisation, pools, functions whose gradients are operators of their own.
    (
        "a = conv(x, @w0: f32[6, 3, 3, 3], pads=[1, 1, 1, 1])\n\
         n = batch_norm(a, @g: f32[6], @h: f32[6], @i: f32[6], @j: f32[6])\n\
         r = add(leaky_relu(n, alpha=0.1), clip(a, lo=-0.5, hi=0.5))\n\
         p = average_pool(r, kernel=[2, 2], strides=[2, 2])\n\
         s = mul(p, sigmoid(global_average_pool(p)))\n\
         t = softmax(conv(s, @w1: f32[4, 3, 2, 2], groups=2))\n\
         y = dropout(relu(add(t, erf(t))), rate=0.5)",
        8,
        &SGD,
    ),
    (
        "a = conv(x, @w0: f32[5, 3, 3, 3], strides=[2, 2])\n\
         b = batch_norm(a, @g: f32[5], @h: f32[5], @i: f32[5], @j: f32[5])\n\
         c = concat(tanh(b), slice(exp(b), axis=1, start=1, length=2), axis=1)\n\
         y = take(product(transpose(reshape(c, shape=[7, 4]), perm=[0, 2, 1]), reshape(c, shape=[7, 4])), axis=1, indices=[3, -1, 0, 0])",
        16,
        &TORCH,
    ),
];

#[test]
fn every_operator() {
    let Some(machine) = Machine::new(Arch::Aarch64) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let program = machine.program("train", folder.path(), &[]);
    let levels = Level::parse("generic", &"aarch64-unknown-linux-gnu".parse().expect("a triple")).expect("levels");
    let mut seen = BTreeSet::new();
    for (body, features, options) in NETWORKS {
        let graph = parsed(&format!(
            "dorefa 1\ngraph g(x: f32[N, 3, 6, 5]) -> (scores) {{\n{body}\n  f = reshape(y, shape=[{features}])\n\
             \x20 scores = matmul(f, @fc.w: f32[4, {features}], @fc.b: f32[4])\n}}\n"
        ));
        let step = grad::build(&graph, options).unwrap_or_else(|e| panic!("{e:?}"));
        let draws = Options { draws: text::training_draws(&graph, text::First::He), ..Options::default() };
        let compiled = compile_training(&step.train, &step.evaluate, &levels, &draws);
        let compiled = compiled.unwrap_or_else(|e| panic!("{e}\n{body}"));
        let so = folder.path().join("step.so");
        std::fs::write(&so, elf::shared_object(&compiled.image, "step.so").expect("links")).expect("writes");
        eprintln!("{body}");
        let names = step.train.order().into_iter().filter_map(|id| step.train.node(id).map(|n| n.op.name));
        seen.extend(names);
        from_c::check(&machine, &program, &so, &graph, step.train, 4);
    }
    let training = ops::TABLE.iter().map(|op| op.name).skip_while(|&name| name != "dropout_mask");
    let missing: Vec<_> = training.filter(|name| !seen.contains(name)).collect();
    assert!(missing.is_empty(), "no network of this test has {missing:?}");
}
