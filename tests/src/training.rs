//! Training steps for tests: models with other bits, batches, and the comparison of the compiled step with the interpreter's.

pub mod from_c;

use dorefa_runtime::tensor::{Data, Tensor};
use dorefa_runtime::train::{AdamForm, Decay, Hyper, Optimizer, Step, StepOptions};
use dorefa_runtime::{Model, Stepper};
use dorefac::codegen::target::Level;
use dorefac::compile::{Options, compile_training};
use dorefac::graph::{Context, Graph};
use dorefac::{grad, interp, text};

/// TensorFlow's Adam.
pub const ADAM: StepOptions =
    StepOptions { optimizer: Optimizer::Adam { form: AdamForm::TensorFlow }, decay: Decay::None };

/// The numbers of a step.
pub const HYPER: Hyper = Hyper {
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

/// The interpreter's form of a step's numbers.
pub fn context(h: &Hyper) -> Context {
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
///
/// # Panics
/// When something does not fit.
pub fn batch(graph: &Graph, samples: usize, classes: usize, seed: u64) -> (Tensor, Vec<i32>) {
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
///
/// # Panics
/// When something does not fit.
pub fn check(graph: &Graph, options: &StepOptions, samples: usize, cpu: &str) {
    let step = grad::build(graph, options).unwrap_or_else(|e| panic!("{e:?}"));
    let levels = Level::parse(cpu, &target_lexicon::Triple::host()).expect("a level");
    let compiled = compile_training(&step.train, &step.evaluate, &levels, &Options::default());
    let compiled = compiled.unwrap_or_else(|e| panic!("{e}"));
    let model = crate::machine::model(&compiled.image).expect("loads");
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
        let same = evaluate.named(&node.name);
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

/// The text of a model of the repository.
///
/// # Panics
/// When there is no such model.
pub fn source(name: &str) -> String {
    let path = crate::repository().join("models").join(format!("{name}.dorefa"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A text with other bits of weights, activations and gradients.
pub fn with_bits(text: &str, bits: [i64; 3]) -> String {
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
    out
}

/// The graph of a text, its parameters drawn from the seed.
///
/// # Panics
/// When the text is wrong.
pub fn parsed(text: &str) -> Graph {
    text::parse(text, "model", &|_| None).unwrap_or_else(|e| panic!("{e:?}"))
}

/// A model of the repository with other bits.
///
/// # Panics
/// When there is no such model.
pub fn model(name: &str, bits: [i64; 3]) -> Graph {
    parsed(&with_bits(&source(name), bits))
}
