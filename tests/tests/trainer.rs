//! The runtime's trainer with the compiler behind its trait: the program of the runtime's documentation, on pictures of its own.

use dorefa_runtime::train::{Checkpoint, Compile, Control, Event, Hyper, StepOptions, Summary, TrainOptions, Trainer};
use dorefa_runtime::{Data, Loader, LoaderOptions, Stepper, Tensor};
use dorefac::jit::Jit;
use std::path::Path;
use std::sync::Arc;

const NET: &str = "dorefa 1
graph corners(x: f32[N, 1, 6, 6]) -> (logits) {
  c0 = conv(x, @conv0.w: f32[4, 1, 3, 3], @conv0.b: f32[4])
  a0 = quantize_activation(c0, bits=2)
  c1 = conv(a0, quantize_weights(@conv1.w: f32[8, 4, 3, 3], bits=1))
  b1 = batch_norm(quantize_gradient(c1, bits=6), @bn1.gamma: f32[8], @bn1.beta: f32[8], @bn1.mean: f32[8], @bn1.var: f32[8], epsilon=1e-4)
  logits = matmul(reshape(clip(b1, lo=0.0, hi=1.0), shape=[32]), @fc.w: f32[2, 32], @fc.b: f32[2])
}
";

/// Pictures whose upper or lower half is bright, in batches of 16.
fn pictures() -> Loader {
    let label = |i: usize| (i * 5 + i / 7) % 2;
    let pixel = |at: usize| if at % 36 / 18 == label(at / 36) { 200 } else { (at * 37 % 90) as u8 };
    let x = Tensor::new([200, 1, 6, 6], Data::U8((0..200 * 36).map(pixel).collect())).expect("shape");
    let labels = (0..200).map(|i| label(i) as u32).collect();
    let set = dorefa_runtime::data::MemorySet::new(x, labels, Vec::new(), Path::new("made up")).expect("a set");
    Loader::new(Arc::new(set), LoaderOptions { batch: 16, train: true, seed: 3, ..LoaderOptions::default() })
}

/// Trains 3 epochs, or goes on with those of `file`; stops after `stop` steps.
fn train(threads: u32, file: &Path, resume: bool, stop: u64) -> Summary {
    let model = Jit::default().compile(NET, &StepOptions::default()).expect("compiles");
    let mut step = Stepper::new(&model, threads).expect("a stepper");
    step.init([1, 0]).expect("drawn");
    let hyper = Hyper { lr: 1e-2, ..Hyper::default() };
    let output = Some(file.to_owned());
    let graph = Some(NET.to_owned());
    let options = TrainOptions { epochs: 3, seed: 1, hyper, output, graph, ..TrainOptions::default() };
    let mut trainer = Trainer::new(&mut step, options);
    if resume {
        trainer.resume(&Checkpoint::read(file).expect("a checkpoint")).expect("fits");
    }
    let mut observer = |event: &Event<'_>| match event {
        Event::Step(e) if e.step == stop => Control::Stop,
        _ => Control::Continue,
    };
    trainer.fit(&pictures(), Some(&pictures()), &mut observer).expect("trains")
}

#[test]
fn a_training_learns_and_ends_in_the_same_bits_however_it_is_run() {
    let folder = tempfile::tempdir().expect("folder");
    let (whole, parts) = (folder.path().join("whole.safetensors"), folder.path().join("parts.safetensors"));
    let summary = train(1, &whole, false, 0);
    let last = summary.history.last().and_then(|r| r.validation).expect("validated");
    assert!(summary.step == 39 && last.1 > 0.95, "{summary:?}");
    assert!(train(2, &parts, false, 20).interrupted);
    assert!(!train(2, &parts, true, 0).interrupted);
    assert_eq!(std::fs::read(&whole).expect("written"), std::fs::read(&parts).expect("written"));
}
