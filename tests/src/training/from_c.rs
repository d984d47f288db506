//! Training steps that are files, taken by a C program here or under an emulator, against the interpreter. It must never know
//! how a file was compiled.

use super::{HYPER, batch, context};
use crate::native::Machine;
use crate::succeed;
use dorefa_runtime::tensor::{Data, Tensor};
use dorefa_runtime::train::Hyper;
use dorefac::graph::{Graph, Role};
use dorefac::{interp, text};
use std::collections::BTreeMap;
use std::path::Path;

/// Samples of a batch, and steps taken.
const SAMPLES: usize = 3;
const STEPS: u64 = 2;

fn bytes(v: &[f32]) -> Vec<u8> {
    v.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Takes two steps of `so` by `program` (`tests/c/train.c`) from the state that it draws itself. State, loss, count and the
/// next gradients must have the bits of the interpreter's `train`, the step's graph, which was built from `graph`.
///
/// # Panics
/// When something differs or does not fit.
pub fn check(machine: &Machine, program: &Path, so: &Path, graph: &Graph, mut train: Graph, classes: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let (x, labels) = batch(&train, SAMPLES, classes, 5);
    std::fs::write(at("x"), bytes(x.as_f32().expect("floats"))).expect("writes");
    std::fs::write(at("labels"), labels.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).expect("writes");
    let mut command = machine.command(program);
    command.arg(so).args([at("x"), at("labels"), at("state")]).args([SAMPLES.to_string(), STEPS.to_string()]);
    succeed(&mut command);
    let codes = Tensor::new([SAMPLES], Data::I32(labels)).expect("fits");
    // The program draws the state from this seed.
    for (name, tensor) in text::training_parameters(graph, HYPER.seed[0], text::First::He) {
        if let Some(id) = train.named(&name) {
            train.set_constant(id, tensor.into()).expect("a constant");
        }
    }
    let inputs = [x, codes];
    let mut want = Vec::new();
    for step in 1..=STEPS {
        let context = context(&Hyper { step, ..HYPER });
        let (outputs, updated) = interp::step(&train, &inputs, true, &context).expect("interprets");
        want = updated.iter().flat_map(|t| bytes(t.as_f32().expect("floats"))).collect();
        want.extend(f64::from(outputs[0].as_f32().expect("a loss")[0]).to_le_bytes());
        want.extend((outputs[1].as_f32().expect("a count")[0] as u64).to_le_bytes());
        interp::apply(&mut train, updated).expect("applies");
    }
    // What the optimiser would take next.
    let gradients: BTreeMap<_, _> = dorefac::lower::train::gradients(&train).into_iter().collect();
    let context = context(&Hyper { step: STEPS + 1, ..HYPER });
    let values = interp::run_step(&train, &inputs, true, &context, |v| gradients.values().any(|&g| g == v));
    let values = values.expect("interprets");
    for update in train.updates().iter().filter(|u| u.role == Role::Parameter) {
        want.extend(bytes(values[&gradients[&update.node]].as_f32().expect("floats")));
    }
    let got = std::fs::read(at("state")).expect("reads");
    assert!(got == want, "{:?}: state after two steps, or the next gradients, differ", machine.arch);
}
