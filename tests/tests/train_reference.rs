//! The interpreter's training step against an independent one: `tests/python/train_reference.py` derives every gradient of
//! svhn-d again, in float64 and by hand from the network's definition, with dorefac's codes and masks; of each tensor it
//! stores samples and the norm in `tests/vectors`.
//!
//! To make the vectors anew: `DOREFAC_DUMP=FOLDER cargo test -p dorefac-tests --test train_reference -- --ignored`, then
//! `python3 tests/python/train_reference.py FOLDER`, which also checks every element.

use dorefa_runtime::io::npz;
use dorefa_runtime::tensor::{Data, Tensor};
use dorefa_runtime::train::{Decay, Optimizer, StepOptions};
use dorefac::{grad, interp};
use dorefac_tests::repository;
use dorefac_tests::training::{HYPER, batch, context, model};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bits of weights, activations and gradients.
const CASES: [[i64; 3]; 4] = [[1, 2, 6], [2, 2, 4], [8, 8, 8], [32, 32, 32]];
/// The greatest error of a tensor in its norm.
const TOLERANCE: f64 = 1e-5;
/// A code may differ where the value lies so close to a rounding boundary, and so seldom.
const BOUNDARY: f64 = 1e-3;
const SHARE: f64 = 1e-3;
/// Batch normalisation of one pixel wants more than two samples: of two, nothing is left but ±1.
const SAMPLES: usize = 4;

fn file([w, a, g]: [i64; 3]) -> String {
    format!("svhn-d-w{w}a{a}g{g}.npz")
}

/// Every value of the first step by name, the inputs included.
fn values(bits: [i64; 3]) -> BTreeMap<String, Arc<Tensor>> {
    let options = StepOptions { optimizer: Optimizer::Sgd, decay: Decay::None };
    let train = grad::build(&model("svhn-d", bits), &options).unwrap_or_else(|e| panic!("{e:?}")).train;
    let (x, labels) = batch(&train, SAMPLES, 10, 1);
    let labels = Tensor::new([SAMPLES], Data::I32(labels)).expect("fits");
    let values = interp::run_step(&train, &[x, labels], true, &context(&HYPER), |_| true).expect("interprets");
    values.into_iter().filter_map(|(v, t)| Some((train.node(v.node)?.name.clone(), t))).collect()
}

fn floats(tensor: &Tensor) -> Vec<f64> {
    match tensor.data() {
        Data::F32(v) => v.iter().map(|&v| f64::from(v)).collect(),
        Data::I32(v) => v.iter().map(|&v| f64::from(v)).collect(),
        other => panic!("{}", other.type_name()),
    }
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).sum::<f64>().sqrt()
}

/// The elements that the script stores of a tensor: every `step`-th, where `step` has no divisor in common with the length.
fn sampled(values: &[f64], stored: usize) -> Vec<f64> {
    let gcd = |mut a: usize, mut b: usize| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let step = (1..).find(|&s| values.len().div_ceil(s) <= stored && (s == 1 || gcd(s, values.len()) == 1));
    values.iter().step_by(step.expect("some step")).copied().collect()
}

/// What is wrong with a tensor of which `want` is stored: samples, then the norm of the whole.
fn tensor_problem(got: &[f64], want: &[f64]) -> Option<String> {
    let (&whole, want) = want.split_last().expect("a norm");
    let (size, got) = (norm(got.iter().copied()), sampled(got, want.len()));
    if got.len() != want.len() {
        return Some(format!("{} samples, {} stored", got.len(), want.len()));
    }
    let error = norm(got.iter().zip(want).map(|(a, b)| a - b)) / norm(want.iter().copied());
    let scale = (size / whole - 1.0).abs();
    (!(error <= TOLERANCE && scale <= TOLERANCE)).then(|| format!("error {error:.2e}, its norm is {scale:.2e} off"))
}

/// What is wrong with codes; `want` holds samples of the values before rounding, in units of a code.
fn code_problem(got: &[f64], want: &[f64]) -> Option<String> {
    let got = sampled(got, want.len());
    let differ = got.iter().zip(want).filter(|(u, v)| v.round_ties_even() != **u);
    let (close, far): (Vec<_>, Vec<_>) = differ.partition(|(u, v)| (*v - *u).abs() <= 0.5 + BOUNDARY);
    let fits = got.len() == want.len() && far.is_empty() && close.len() as f64 <= (SHARE * got.len() as f64).ceil();
    (!fits).then(|| {
        format!("{} of {} codes differ, {} far from a boundary", close.len() + far.len(), got.len(), far.len())
    })
}

#[test]
fn every_gradient_agrees_with_the_reference() {
    for bits in CASES {
        let stored = npz::read(&repository().join("tests/vectors").join(file(bits))).unwrap_or_else(|e| panic!("{e}"));
        let values = values(bits);
        let (mut wrong, mut codes) = (Vec::new(), 0);
        for (name, want) in &stored {
            let got = floats(values.get(name).unwrap_or_else(|| panic!("{bits:?}: the step has no {name}")));
            let problem = if name.ends_with("_codes") {
                codes += 1;
                code_problem(&got, &floats(want))
            } else {
                tensor_problem(&got, &floats(want))
            };
            wrong.extend(problem.map(|p| format!("{name}: {p}")));
        }
        assert!(wrong.is_empty(), "{bits:?}:\n{}", wrong.join("\n"));
        // Six layers with a gradient, activations and weights each; weights of one bit are signs.
        let expected = match bits {
            [32, ..] => 0,
            [1, ..] => 12,
            _ => 18,
        };
        assert!(stored.len() >= 40 + codes && codes == expected, "{bits:?}: {} tensors, {codes} codes", stored.len());
    }
}

#[test]
#[ignore = "writes what the script of the reference reads"]
fn dump() {
    let folder = std::env::var_os("DOREFAC_DUMP").expect("DOREFAC_DUMP names a folder");
    for bits in CASES {
        let values = values(bits);
        let tensors: Vec<(String, Tensor)> = values
            .into_iter()
            .filter(|(_, t)| !matches!(t.data(), Data::I64(_)))
            .map(|(name, t)| (name, (*t).clone()))
            .collect();
        npz::write(&std::path::Path::new(&folder).join(file(bits)), &tensors).unwrap_or_else(|e| panic!("{e}"));
    }
}
