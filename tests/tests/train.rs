//! Training steps: the compiled step gives the bits of the interpreter's, in the state, the loss and the count, at one and at
//! two threads.

use dorefa_runtime::tensor::{Data, Tensor};
use dorefa_runtime::train::{AdamForm, Decay, Hyper, Optimizer, Step, StepOptions};
use dorefa_runtime::{Model, Stepper};
use dorefac::codegen::target::Level;
use dorefac::compile::{Options, compile_training};
use dorefac::emit::jit::JitImage;
use dorefac::graph::{Context, Graph};
use dorefac::{grad, interp, text};

const HYPER: Hyper = Hyper {
    step: 1,
    seed: [7, 8],
    sample0: 0,
    lr: 1e-3,
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-5,
    weight_decay: 1e-4,
    bn_momentum: 0.9,
    loss_scale: 1.0,
};

fn context(h: &Hyper) -> Context {
    Context {
        seed: h.seed,
        step: h.step,
        sample0: h.sample0,
        lr: h.lr,
        beta1: h.beta1,
        beta2: h.beta2,
        epsilon: h.epsilon,
        weight_decay: h.weight_decay,
        bn_momentum: h.bn_momentum,
        loss_scale: h.loss_scale,
    }
}

/// Random pixels in 0 … 1 and labels.
fn batch(graph: &Graph, samples: usize, classes: usize, seed: u64) -> (Tensor, Vec<i32>) {
    let shape = graph.node(graph.inputs()[0]).expect("an input").types[0].shape.concrete(samples);
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as u32
    };
    let data = (0..shape.iter().product()).map(|_| (next() & 255) as f32 / 256.0).collect();
    let labels = (0..samples).map(|_| (next() as usize % classes) as i32).collect();
    (Tensor::f32(shape, data).expect("fits"), labels)
}

/// Trains three steps with both engines; every state must have equal bits.
fn check(graph: &Graph, options: &StepOptions, samples: usize, cpu: &str) {
    let step = grad::build(graph, options).unwrap_or_else(|e| panic!("{e:?}"));
    let levels = Level::parse(cpu, &target_lexicon::Triple::host()).expect("a level");
    let compiled = compile_training(&step.train, &step.evaluate, &levels, &Options::default());
    let compiled = compiled.unwrap_or_else(|e| panic!("{e}"));
    let model = JitImage::new(&compiled.image).expect("links").into_model().expect("loads");
    for threads in [1, 2] {
        compare(step.train.clone(), &step.evaluate, &model, compiled.fma, threads, samples);
    }
}

fn compare(mut train: Graph, evaluate: &Graph, model: &Model, fma: bool, threads: u32, samples: usize) {
    let mut stepper = Stepper::new(model, threads).expect("a stepper");
    let classes = stepper.classes();
    for number in 1..=3u64 {
        let (x, labels) = batch(&train, samples, classes, number);
        let hyper = Hyper { step: number, ..HYPER };
        let codes = Tensor::new([samples], Data::I32(labels.clone())).expect("fits");
        let (outputs, updated) =
            interp::step(&train, &[x.clone(), codes.clone()], fma, &context(&hyper)).expect("interprets");
        let result = stepper.step(&x, &labels, &hyper).expect("steps");
        let mut wrong = Vec::new();
        for (i, (update, tensor)) in train.updates().iter().zip(&updated).enumerate() {
            let (want, got) = (tensor.as_f32().expect("floats"), stepper.state(i));
            let name = &train.node(update.node).expect("a constant").name;
            let differ = want.iter().zip(got).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
            if differ > 0 || want.len() != got.len() {
                let first = want.iter().zip(got).position(|(a, b)| a.to_bits() != b.to_bits()).unwrap_or(0);
                wrong.push(format!(
                    "{name}: {differ} of {} differ, [{first}] {} {}",
                    want.len(),
                    want[first],
                    got[first]
                ));
            }
        }
        assert!(wrong.is_empty(), "step {number}, {threads} threads:\n{}", wrong.join("\n"));
        let loss = outputs[0].as_f32().expect("a loss")[0];
        assert_eq!((f64::from(loss), result.correct), (result.loss, outputs[1].as_f32().expect("a count")[0] as u64));
        interp::apply(&mut train, updated).expect("applies");
    }
    // The evaluation reads the same state.
    let (x, labels) = batch(&train, samples, classes, 99);
    let mut evaluate = evaluate.clone();
    for update in train.updates() {
        let node = train.node(update.node).expect("a constant");
        let same = evaluate.order().into_iter().find(|&id| evaluate.node(id).is_some_and(|n| n.name == node.name));
        if let (Some(id), Some(tensor)) = (same, node.tensor.clone()) {
            evaluate.set_constant(id, tensor).expect("a constant");
        }
    }
    let codes = Tensor::new([samples], Data::I32(labels.clone())).expect("fits");
    let (want, _) = interp::step(&evaluate, &[x.clone(), codes], fma, &context(&HYPER)).expect("interprets");
    let got = stepper.evaluate(&x, &labels).expect("evaluates");
    let loss = want[0].as_f32().expect("a loss")[0];
    assert_eq!((f64::from(loss), got.correct), (got.loss, want[1].as_f32().expect("a count")[0] as u64));
}

/// A model of the repository with other bits.
fn model(name: &str, bits: [i64; 3]) -> Graph {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/");
    let text = std::fs::read_to_string(format!("{path}{name}.dorefa")).expect("reads");
    let mut out = String::new();
    for line in text.lines() {
        let mut line = line.to_owned();
        for (op, b) in ["quantize_weights", "quantize_activation", "quantize_gradient"].iter().zip(bits) {
            if let Some(at) = line.find(op)
                && let Some(from) = line[at..].find("bits=").map(|i| at + i + 5)
            {
                let to = from + line[from..].find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
                line.replace_range(from..to, &b.to_string());
            }
        }
        out.push_str(&line);
        out.push('\n');
    }
    text::parse(&out, name, &|_| None).unwrap_or_else(|e| panic!("{e:?}"))
}

const ADAM: StepOptions = StepOptions { optimizer: Optimizer::Adam { form: AdamForm::TensorFlow }, decay: Decay::None };

#[test]
fn svhn_d_at_1_2_6() {
    check(&model("svhn-d", [1, 2, 6]), &ADAM, 3, "native");
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
    check(&model("svhn-d", [1, 2, 32]), &ADAM, 2, "native");
}

/// `compile --train` for an architecture, two steps from C, against the interpreter.
fn ahead_of_time(arch: dorefac::codegen::target::Arch) {
    use dorefac_tests::{native, repository, succeed};
    let Some(machine) = native::Machine::new(arch) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let source = repository().join("models/svhn-d.dorefa");
    native::compile(&source, &at("step.so"), arch, &["--train", "--decay", "l2"]);
    let program = machine.program("train", folder.path(), &[]);
    let graph = text::load(&source).expect("loads");
    let options = StepOptions { decay: Decay::L2, ..ADAM };
    let mut train = grad::build(&graph, &options).unwrap_or_else(|e| panic!("{e:?}")).train;
    let (x, labels) = batch(&train, 3, 10, 5);
    let bytes = |v: &[f32]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    std::fs::write(at("x"), bytes(x.as_f32().expect("floats"))).expect("writes");
    std::fs::write(at("labels"), labels.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).expect("writes");
    let mut command = machine.command(&program);
    command.args([at("step.so"), at("x"), at("labels"), at("state")]).args(["3", "2"]);
    succeed(&mut command);
    let codes = Tensor::new([3], Data::I32(labels)).expect("fits");
    let mut want = Vec::new();
    for step in 1..=2 {
        let context = context(&Hyper { step, ..HYPER });
        let (outputs, updated) = interp::step(&train, &[x.clone(), codes.clone()], true, &context).expect("interprets");
        want = updated.iter().flat_map(|t| bytes(t.as_f32().expect("floats"))).collect();
        want.extend(f64::from(outputs[0].as_f32().expect("a loss")[0]).to_le_bytes());
        want.extend((outputs[1].as_f32().expect("a count")[0] as u64).to_le_bytes());
        interp::apply(&mut train, updated).expect("applies");
    }
    assert!(std::fs::read(at("state")).expect("reads") == want, "{arch:?}: the state after two steps differs");
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
