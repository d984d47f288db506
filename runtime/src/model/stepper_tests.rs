//! A training step written by hand: w ← w − lr·Σx on one state tensor of 2 floats behind a gap, loss = Σx, hits = labels 1.

use super::tests::{Image, image};
use super::*;
use crate::tensor::Tensor;
use crate::train::{Hyper, Step, StepError, StepResult};
use std::mem::offset_of;

/// Floats before the state tensor.
const GAP: usize = 4;

unsafe extern "C" fn run(call: *mut abi::Call) -> i32 {
    // SAFETY: the call is the stepper's.
    unsafe {
        let call = &*call;
        let train = &mut *call.train;
        let n = call.batch as usize;
        let x = std::slice::from_raw_parts((*call.inputs).cast::<f32>(), 3 * n);
        let labels = std::slice::from_raw_parts(train.labels, n);
        let sum: f32 = x.iter().sum();
        for phase in 0..2 {
            if let Some(profile) = call.profile {
                profile(call.profile_ctx, 0, phase);
            }
        }
        if !sum.is_finite() {
            (train.bad_state, train.bad_layer) = (0, 0);
            return abi::E_NONFINITE;
        }
        train.loss = f64::from(sum);
        train.correct = labels.iter().filter(|l| **l == 1).count() as u64;
        if train.flags & 2 == 0 {
            for w in std::slice::from_raw_parts_mut(train.state.cast::<f32>().add(GAP), 2) {
                *w -= train.lr as f32 * sum;
            }
        }
    }
    abi::OK
}

unsafe extern "C" fn init(state: *mut c_void, seed: *const u64) -> i32 {
    // SAFETY: the state has 24 bytes, the seed two words.
    unsafe {
        for i in 0..2 {
            *state.cast::<f32>().add(GAP + i) = *seed.add(i) as f32;
        }
    }
    abi::OK
}

fn training(change: impl Fn(&mut Image)) -> Model {
    let made = image(|i| {
        let base = &raw const *i as i64;
        let x = offset_of!(Image, text) as i64;
        i.text[40..47].copy_from_slice(b"scores\0");
        i.ports[1].name = x + 40;
        i.states =
            [abi::StateDesc { name: x, offset: 4 * GAP as u64, count: 2, role: 0, rank: 1, dims: [2, 0, 0, 0, 0, 0] }];
        (i.desc.kind, i.desc.n_states, i.desc.state_bytes) = (abi::TRAIN_STEP, 1, 4 * (GAP as u64 + 2));
        i.desc.states = offset_of!(Image, states) as i64;
        i.desc.run = run as *const () as i64 - base;
        i.desc.init_state = init as *const () as i64 - base;
        change(i);
    });
    made.expect("a model")
}

fn batch(values: &[f32]) -> Tensor {
    Tensor::f32([values.len() / 3, 3], values.to_vec()).expect("shape")
}

#[test]
fn a_step_updates_the_state_and_an_evaluation_does_not() {
    let mut stepper = Stepper::new(&training(|_| ()), 2).expect("a stepper");
    assert_eq!((stepper.classes(), stepper.sample_shape()), (3, vec![3]));
    assert_eq!(stepper.states()[0].dims, [2]);
    stepper.init([5, 7]).expect("drawn");
    assert_eq!(stepper.state(0), [5.0, 7.0]);
    let (x, hyper) = (batch(&[1.0, 2.0, 3.0, 0.0, 0.0, 2.0]), Hyper { lr: 0.5, ..Hyper::default() });
    let result = StepResult { loss: 8.0, correct: 1 };
    assert_eq!(stepper.evaluate(&x, &[1, 0]).expect("runs"), result);
    assert_eq!(stepper.state(0), [5.0, 7.0]);
    assert_eq!(stepper.step(&x, &[1, 0], &hyper).expect("runs"), result);
    assert_eq!(stepper.state(0), [1.0, 3.0]);
    stepper.set_state(0, &[2.0, 2.0]).expect("fits");
    let mut layers = 0;
    let (_, times) = stepper.step_profiled(&x, &[1, 0], &hyper, &mut |e| layers += e.batch).expect("runs");
    assert_eq!((stepper.state(0), layers, times.len()), (&[-2.0, -2.0][..], 2, 1));
}

#[test]
fn what_does_not_fit_is_an_error_before_the_call() {
    let mut stepper = Stepper::new(&training(|_| ()), 1).expect("a stepper");
    let hyper = Hyper::default();
    let x = batch(&[0.0; 6]);
    assert!(matches!(stepper.step(&x, &[0], &hyper), Err(StepError::LabelCount { .. })));
    assert!(matches!(stepper.step(&x, &[0, 3], &hyper), Err(StepError::Label { sample: 1, label: 3, classes: 3 })));
    assert!(matches!(stepper.step(&x, &[-1, 0], &hyper), Err(StepError::Label { .. })));
    assert!(matches!(stepper.step(&batch(&[0.0; 18]), &[0; 6], &hyper), Err(StepError::Batch { given: 6, .. })));
    assert!(matches!(stepper.step(&batch(&[]), &[], &hyper), Err(StepError::Batch { given: 0, .. })));
    let flat = Tensor::f32([6], vec![0.0; 6]).expect("shape");
    assert!(matches!(stepper.step(&flat, &[0; 6], &hyper), Err(StepError::Run(RunError::InputShape { .. }))));
    assert!(stepper.set_state(0, &[1.0]).is_err() && stepper.set_state(1, &[]).is_err());
    assert!(stepper.state(1).is_empty());
}

#[test]
fn a_number_that_is_not_finite_is_named_and_changes_nothing() {
    let mut stepper = Stepper::new(&training(|_| ()), 1).expect("a stepper");
    let error = stepper.step(&batch(&[f32::NAN, 0.0, 0.0]), &[0], &Hyper::default()).expect_err("not finite");
    assert_eq!(error.to_string(), "layer `layer`: the gradient of `x` is not finite");
    assert_eq!(stepper.state(0), [0.0, 0.0]);
}

#[test]
fn inconsistent_images_are_refused() {
    let refused = |change: fn(&mut Image)| Stepper::new(&training(change), 1).err().expect("refused").to_string();
    assert!(refused(|i| i.desc.kind = abi::INFERENCE).contains("--train"));
    assert!(refused(|i| i.states[0].role = 9).contains("unknown role"));
    assert!(refused(|i| i.states[0].count = 3).contains("another size"));
    assert!(refused(|i| i.states[0].offset = 20).contains("outside"));
    assert!(refused(|i| i.states[0].offset = u64::MAX - 3).contains("outside"));
    assert!(refused(|i| i.states[0].offset = 2).contains("outside"));
    assert!(refused(|i| i.text[40] = b'S').contains("`scores`"));
    assert!(refused(|i| i.desc.init_state = 0).contains("init_state"));
}
