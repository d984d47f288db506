//! Training steps: the compiled step gives the bits of the interpreter's, in the state, the loss and the count, at one and at
//! two threads.

use dorefa_runtime::train::{AdamForm, Decay, Optimizer, StepOptions};
use dorefac::{grad, text};
use dorefac_tests::training::{ADAM, HYPER, batch, check, from_c, model};
use dorefac_tests::{machine, native, repository};

#[test]
fn svhn_d_at_1_2_6() {
    for cpu in machine::natives() {
        check(&model("svhn-d", [1, 2, 6]), &ADAM, 3, cpu);
    }
}

#[test]
fn svhn_d_at_other_bits() {
    let momentum = StepOptions { optimizer: Optimizer::Sgd, decay: Decay::L2 };
    check(&model("svhn-d", [2, 2, 4]), &momentum, 2, "native");
    let torch = StepOptions { optimizer: Optimizer::Adam { form: AdamForm::PyTorch }, decay: Decay::Decoupled };
    check(&model("svhn-d", [8, 8, 8]), &torch, 2, "x86-64-v2");
}

#[test]
fn svhn_d_in_float() {
    check(&model("svhn-d", [32, 32, 32]), &ADAM, 2, "native");
    check(&model("svhn-d", [1, 2, 32]), &ADAM, 2, "x86-64-v3");
}

/// `compile --train` for an architecture, two steps from C, against the interpreter.
fn ahead_of_time(arch: dorefac::codegen::target::Arch) {
    let Some(machine) = native::Machine::new(arch) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let so = folder.path().join("step.so");
    let source = repository().join("models/svhn-d.dorefa");
    native::compile(&source, &so, arch, &["--train", "--decay", "l2"]);
    let graph = text::load(&source).expect("loads");
    let options = StepOptions { decay: Decay::L2, ..ADAM };
    let train = grad::build(&graph, &options).unwrap_or_else(|e| panic!("{e:?}")).train;
    let program = machine.program("train", folder.path(), &[]);
    from_c::check(&machine, &program, &so, &graph, train, 10);
}

#[test]
fn shared_object_from_c() {
    if let Some(arch) = dorefac::codegen::target::Arch::host() {
        ahead_of_time(arch);
    }
}

#[test]
fn aarch64_under_an_emulator() {
    ahead_of_time(dorefac::codegen::target::Arch::Aarch64);
}

/// Operators that move elements stand between the products: two branches joined, bordered, turned and cut again.
#[test]
fn moves_of_images() {
    let text = "dorefa 1
graph net(x: f32[N, 3, 8, 6]) -> (logits) {
  a = quantize_activation(conv(x, @w0: f32[6, 3, 3, 3], pads=[1, 1, 1, 1]), bits=2)
  left = conv(a, quantize_weights(@w1: f32[5, 6, 1, 1], bits=1))
  right = conv(x, @w2: f32[7, 3, 3, 3], pads=[1, 1, 1, 1])
  both = concat(quantize_gradient(left, bits=6), right, axis=1)
  tall = concat(both, both, axis=2)
  border = pad(tall, pads=[1, 0, 2, 1], value=0.5)
  turned = transpose(border, perm=[0, 2, 3, 1])
  b = quantize_activation(max_pool(turned, kernel=[2, 3], strides=[2, 3]), bits=2)
  c = conv(b, quantize_weights(@w3: f32[8, 19, 1, 1], bits=1))
  logits = matmul(reshape(quantize_gradient(c, bits=6), shape=[96]), @w4: f32[4, 96])
}
";
    for cpu in ["native", "x86-64-v2"] {
        check(&dorefac_tests::training::parsed(text), &ADAM, 3, cpu);
    }
}

/// Convolutions that want the same activations otherwise: with groups, with other borders, by minimal filtering and not.
#[test]
fn activations_that_are_shared() {
    let text = "dorefa 1
graph net(x: f32[N, 3, 9, 11]) -> (logits) {
  a = quantize_activation(conv(x, @w0: f32[16, 3, 3, 3], pads=[1, 1, 1, 1]), bits=2)
  all = conv(a, quantize_weights(@w1: f32[18, 16, 3, 3], bits=1), pads=[1, 1, 1, 1])
  halves = conv(a, quantize_weights(@w2: f32[8, 8, 3, 3], bits=1), groups=2, pads=[1, 1, 1, 1])
  row = conv(a, quantize_weights(@w3: f32[5, 16, 1, 3], bits=1), pads=[0, 1, 0, 1])
  inner = conv(a, quantize_weights(@w4: f32[4, 16, 3, 3], bits=1))
  left = concat(reshape(quantize_gradient(all, bits=6), shape=[1782]), reshape(quantize_gradient(row, bits=6), shape=[495]), axis=1)
  right = concat(reshape(quantize_gradient(halves, bits=6), shape=[792]), reshape(quantize_gradient(inner, bits=6), shape=[252]), axis=1)
  logits = matmul(concat(left, right, axis=1), @w5: f32[4, 3321])
}
";
    for cpu in ["native", "x86-64-v2"] {
        check(&dorefac_tests::training::parsed(text), &ADAM, 3, cpu);
    }
}

/// Images side by side whose channels begin anywhere, one joint within another.
#[test]
fn concatenated_images() {
    for (a, b, d) in [(16, 8, 4), (18, 8, 5), (5, 7, 18)] {
        let text = format!(
            "dorefa 1
graph net(x: f32[N, 3, 9, 11]) -> (logits) {{
  a = conv(x, @w0: f32[{a}, 3, 3, 3], pads=[1, 1, 1, 1])
  b = conv(x, @w1: f32[{b}, 3, 3, 3], pads=[1, 1, 1, 1])
  d = conv(x, @w2: f32[{d}, 3, 3, 3], pads=[1, 1, 1, 1])
  p = global_average_pool(concat(concat(a, b, axis=1), d, axis=1))
  logits = matmul(reshape(p, shape=[{all}]), @w3: f32[4, {all}])
}}
",
            all = a + b + d
        );
        check(&dorefac_tests::training::parsed(&text), &ADAM, 2, "native");
    }
}

/// A step compiled for this machine.
fn image(step: &grad::Step) -> dorefa_runtime::Model {
    let levels = dorefac::codegen::target::Level::parse("native", &target_lexicon::Triple::host()).expect("a level");
    let compiled = dorefac::compile::compile_training(&step.train, &step.evaluate, &levels, &Default::default());
    let compiled = compiled.unwrap_or_else(|e| panic!("{e}"));
    machine::model(&compiled.image).expect("loads")
}

/// A step whose gradients overflow is refused with the state and the layer named, and leaves the state as it was.
#[test]
fn divergence_names_tensor_and_layer() {
    use dorefa_runtime::Stepper;
    use dorefa_runtime::train::Step;
    let step = grad::build(&model("svhn-d", [1, 2, 6]), &ADAM).unwrap_or_else(|e| panic!("{e:?}"));
    let image = image(&step);
    let mut stepper = Stepper::new(&image, 1).expect("a stepper");
    let (x, labels) = batch(&step.train, 3, 10, 5);
    let last = step.train.updates().iter().position(|u| step.train.node(u.node).is_some_and(|n| n.name == "fc1.w"));
    let last = last.expect("the last layer's weights");
    let huge = vec![f32::MAX; stepper.state(last).len()];
    stepper.set_state(last, &huge).expect("fits");
    let error = stepper.step(&x, &labels, &HYPER).expect_err("diverges").to_string();
    assert!(error.starts_with("layer `") && error.ends_with("is not finite"), "{error}");
    // The layer is the step that made the tensor's gradient.
    let quoted: Vec<&str> = error.split('`').collect();
    let (&[_, layer, _, tensor, _], updates) = (&*quoted, step.train.updates()) else { panic!("{error}") };
    let named = |id| step.train.node(id).map_or("", |n| n.name.as_str());
    let update = updates.iter().find(|u| named(u.node) == tensor).unwrap_or_else(|| panic!("{error}"));
    let mut left = vec![update.value.node];
    let mut read = Vec::new();
    while let Some(id) = left.pop() {
        if !read.contains(&id) {
            read.push(id);
            left.extend(step.train.operands(id).iter().map(|v| v.node));
        }
    }
    assert!(read.iter().any(|&id| named(id) == layer), "{error}: the update does not read that");
    assert!(layer.starts_with('d'), "{error}: no gradient");
    assert!(stepper.state(last) == huge, "the state changed");
}

/// The state of an image: the file's values without a seed, those that the command line draws with one.
#[test]
fn a_state_comes_from_the_file_or_from_a_seed() {
    use dorefa_runtime::train::Step;
    let graph = model("svhn-d", [1, 2, 6]);
    let levels = dorefac::codegen::target::Level::parse("x86-64-v2", &target_lexicon::Triple::host()).expect("a level");
    for first in [text::First::He, text::First::Pytorch] {
        let step = grad::build(&graph, &ADAM).unwrap_or_else(|e| panic!("{e:?}"));
        let options = dorefac::compile::Options { draws: text::training_draws(&graph, first), ..Default::default() };
        let compiled = dorefac::compile::compile_training(&step.train, &step.evaluate, &levels, &options);
        let compiled = compiled.unwrap_or_else(|e| panic!("{e}"));
        let image = machine::model(&compiled.image).expect("loads");
        let mut stepper = dorefa_runtime::Stepper::new(&image, 1).expect("a stepper");
        for seed in [None, Some(7), Some(u64::MAX - 3)] {
            if let Some(seed) = seed {
                stepper.init([seed, 1]).expect("draws");
            }
            let drawn = text::training_parameters(&graph, seed.unwrap_or_default(), first);
            for (i, update) in step.train.updates().iter().enumerate() {
                let node = step.train.node(update.node).expect("a constant");
                let file = node.tensor.as_ref().expect("data");
                let want = seed.and_then(|_| drawn.get(&node.name)).unwrap_or(file).as_f32().expect("floats");
                let same = want.iter().zip(stepper.state(i)).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{first:?}, {seed:?}: {} differs", node.name);
            }
        }
    }
}

/// The one gradient that overflows is the last of a tensor that several tasks look through.
#[test]
fn divergence_of_the_last_element_is_found() {
    use dorefa_runtime::train::Step;
    use dorefa_runtime::{Stepper, Tensor};
    let text = "dorefa 1
graph net(x: f32[N, 400]) -> (logits) {
  h = matmul(x, @w0: f32[800, 400])
  logits = matmul(h, @w1: f32[4, 800])
}
";
    let step = grad::build(&dorefac_tests::training::parsed(text), &ADAM).unwrap_or_else(|e| panic!("{e:?}"));
    let image = image(&step);
    let mut stepper = Stepper::new(&image, 2).expect("a stepper");
    let number = |name: &str| {
        let of = |u: &dorefac::graph::Update| step.train.node(u.node).is_some_and(|n| n.name == name);
        step.train.updates().iter().position(of).expect("a state")
    };
    // What is great is multiplied by zeros on the way forward, by each other on the way back.
    let (first, second) = (number("w0"), number("w1"));
    let small = |i: usize| if i % 400 == 399 || i / 400 == 799 { 0.0 } else { (i % 7) as f32 * 1e-4 };
    let signs = |great: f32| (0..4 * 800).map(move |i| if i % 800 == 799 { great } else { (i % 5) as f32 * 1e-3 });
    let pixels = |great: f32| (0..3 * 400).map(|i| if i % 400 == 399 { great } else { 0.5 }).collect();
    for (great, found) in [(1.0, false), (1e20, true)] {
        let weights = signs(great).enumerate().map(|(i, v)| if i / 800 == 0 { v } else { -v }).collect::<Vec<_>>();
        stepper.set_state(first, &(0..800 * 400).map(small).collect::<Vec<_>>()).expect("fits");
        stepper.set_state(second, &weights).expect("fits");
        let x = Tensor::f32([3, 400], pixels(great)).expect("fits");
        let outcome = stepper.step(&x, &[1, 1, 1], &HYPER);
        assert_eq!(outcome.is_err(), found, "{:?}", outcome.err().map(|e| e.to_string()));
    }
}
