//! Runs a compiled training step: checks, the arena and the state that the step updates in place.
#![allow(unsafe_code)]

use super::call::Call;
use super::profile::{Hook, LayerEvent, LayerTime, Profile, zero_times};
use super::session::{allocate, best_level, check_inputs, sample_ptr, sample_ptr_mut};
use super::{AlignedBuffer, Model, Port, RunError};
use crate::abi;
use crate::pool::Pool;
use crate::tensor::{Data, Tensor};
use crate::train::step::{Hyper, Role, StateTensor, Step, StepError, StepResult, check_labels};
use std::ffi::c_void;
use std::ops::Range;
use std::ptr::null_mut;
use std::sync::Arc;

/// `flags`: loss and hits only, with the running statistics.
const EVALUATE: u32 = 2;
/// The output that holds the scores (N, classes).
const SCORES: &str = "scores";
/// The input that holds the labels, where the image takes them as one, too.
const LABELS: &str = "labels";

/// A training step with its state, arena and threads.
pub struct Stepper {
    model: Model,
    pool: Arc<Pool>,
    arena: AlignedBuffer,
    prepared: AlignedBuffer,
    state: AlignedBuffer,
    tensors: Vec<StateTensor>,
    /// Of each state tensor, its floats in `state`.
    ranges: Vec<Range<usize>>,
    classes: usize,
}

impl Stepper {
    /// A stepper with its own pool of `threads` threads (0: as many as the machine offers). The state is drawn from seed
    /// 0; see [`Stepper::init`].
    ///
    /// # Errors
    /// When the image is no training step, no level fits the CPU, or memory or threads are not to be had.
    pub fn new(model: &Model, threads: u32) -> Result<Self, StepError> {
        Self::with_pool(model, Arc::new(Pool::new(threads).map_err(RunError::from)?))
    }

    /// A stepper over a shared pool.
    ///
    /// # Errors
    /// As [`Stepper::new`].
    pub fn with_pool(model: &Model, pool: Arc<Pool>) -> Result<Self, StepError> {
        if !model.is_train_step() {
            return Err(StepError::NotTraining);
        }
        let level = best_level(model)?;
        let (tensors, ranges) = tensors(model)?;
        let scores = model.outputs().iter().find(|p| p.name == SCORES);
        let classes = scores.filter(|p| p.batched() && p.dims.len() == 2).map(Port::sample_len);
        let classes = classes
            .ok_or_else(|| StepError::Inconsistent { what: format!("output `{SCORES}` (N, classes) is missing") })?;
        let first = model.inputs().first().is_some_and(|p| p.batched());
        if !first || !model.inputs().iter().skip(1).all(|p| p.name == LABELS) {
            let what = format!("inputs are not one batch of samples, with `{LABELS}` or without");
            return Err(StepError::Inconsistent { what });
        }
        Ok(Stepper {
            prepared: model.prepare(level)?,
            state: model.init_state([0, 0])?,
            arena: AlignedBuffer::default(),
            model: model.clone(),
            pool,
            tensors,
            ranges,
            classes,
        })
    }

    /// Draws the state anew.
    ///
    /// # Errors
    /// When the image refuses.
    pub fn init(&mut self, seed: [u64; 2]) -> Result<(), StepError> {
        self.state = self.model.init_state(seed)?;
        Ok(())
    }

    /// The image.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Threads in use.
    pub fn threads(&self) -> u32 {
        self.pool.threads()
    }

    /// As [`Step::step`], with `callback` after each layer; also the layers' times.
    ///
    /// # Errors
    /// As [`Step::step`].
    pub fn step_profiled(
        &mut self,
        x: &Tensor,
        labels: &[i32],
        hyper: &Hyper,
        callback: &mut dyn FnMut(LayerEvent<'_>),
    ) -> Result<(StepResult, Vec<LayerTime>), StepError> {
        let mut times = zero_times(self.model.layers().len());
        let result = self.call(x, labels, hyper, 0, Some((callback, &mut times)))?;
        Ok((result, times))
    }

    /// Checks the batch; its number of samples, and the labels as a tensor where the image takes them as an input.
    fn check(&self, x: &Tensor, labels: &[i32]) -> Result<(usize, Option<Tensor>), StepError> {
        let ports = self.model.inputs();
        let samples = check_inputs(ports.get(..1).unwrap_or_default(), std::slice::from_ref(x))?;
        let greatest = self.model.descriptor().max_batch;
        if samples == 0 || samples as u64 > greatest {
            return Err(StepError::Batch { given: samples, greatest });
        }
        check_labels(labels, samples, self.classes)?;
        let Some(port) = ports.get(1) else { return Ok((samples, None)) };
        let tensor = Tensor::new([samples], Data::I32(labels.to_vec()));
        let tensor = tensor.map_err(|_| StepError::LabelCount { labels: labels.len(), samples })?;
        check_inputs(std::slice::from_ref(port), std::slice::from_ref(&tensor))?;
        Ok((samples, Some(tensor)))
    }

    fn call(
        &mut self,
        x: &Tensor,
        labels: &[i32],
        hyper: &Hyper,
        flags: u32,
        mut profile: Option<Profile<'_, '_>>,
    ) -> Result<StepResult, StepError> {
        let (samples, label_tensor) = self.check(x, labels)?;
        let workers = self.pool.threads();
        let bytes = self.model.arena_bytes(samples as u64, workers);
        self.arena.grow_scratch(bytes).map_err(|_| RunError::Memory { bytes, what: "the arena" })?;
        let ports = self.model.outputs();
        let mut outputs = ports.iter().map(|p| allocate(p, samples)).collect::<Result<Vec<_>, _>>()?;
        let out_ptrs: Vec<*mut c_void> = ports.iter().zip(&mut outputs).map(|(p, d)| sample_ptr_mut(p, d, 0)).collect();
        let tensors = std::iter::once(x).chain(&label_tensor);
        let in_ptrs: Vec<*const c_void> =
            self.model.inputs().iter().zip(tensors).map(|(p, t)| sample_ptr(p, t.data(), 0)).collect();
        let hook = profile.as_mut().map(|(callback, times)| Hook::new(&mut **callback, times, &self.arena, 0, samples));
        let mut train = train_of(hyper, flags, self.state.as_mut_ptr().cast(), labels);
        let call = Call {
            model: &self.model,
            features: self.model.features(),
            prepared: &self.prepared,
            arena: &mut self.arena,
            pool: &self.pool,
            samples,
            inputs: &in_ptrs,
            outputs: &out_ptrs,
        };
        // SAFETY: inputs, labels and outputs were checked or allocated for `samples` samples; arena, state and prepared
        // weights have the sizes that the descriptor asks for; the train structure outlives the call.
        let code = unsafe { call.run(hook, &raw mut train) };
        match code {
            abi::OK => Ok(StepResult { loss: train.loss, correct: train.correct }),
            abi::E_NONFINITE => Err(self.not_finite(&train)),
            code => Err(RunError::Code { function: "run", code }.into()),
        }
    }

    fn not_finite(&self, train: &abi::Train) -> StepError {
        let at = |index: i32| usize::try_from(index).ok();
        StepError::NonFinite {
            tensor: at(train.bad_state).and_then(|i| self.tensors.get(i)).map(|t| t.name.clone()),
            layer: at(train.bad_layer).and_then(|i| self.model.layers().get(i)).map(|l| l.name.clone()),
        }
    }
}

fn train_of(hyper: &Hyper, flags: u32, state: *mut c_void, labels: &[i32]) -> abi::Train {
    abi::Train {
        size: size_of::<abi::Train>() as u32,
        flags,
        step: hyper.step,
        seed: hyper.seed,
        sample0: hyper.sample0,
        state,
        grads: null_mut(),
        labels: labels.as_ptr(),
        lr: hyper.lr,
        beta1: hyper.beta1,
        beta2: hyper.beta2,
        epsilon: hyper.epsilon,
        weight_decay: hyper.weight_decay,
        bn_momentum: hyper.bn_momentum,
        loss_scale: hyper.loss_scale,
        loss: 0.0,
        correct: 0,
        bad_state: -1,
        bad_layer: -1,
    }
}

/// The state's tensors and where their floats lie, every range inside the state.
fn tensors(model: &Model) -> Result<(Vec<StateTensor>, Vec<Range<usize>>), StepError> {
    let floats = model.descriptor().state_bytes / 4;
    let mut found = (Vec::new(), Vec::new());
    for state in model.states() {
        let bad = |what: &str| StepError::Inconsistent { what: format!("state tensor `{}` {what}", state.name) };
        let role = Role::from_code(state.role).ok_or_else(|| bad("has an unknown role"))?;
        let tensor = StateTensor { name: state.name.clone(), dims: state.dims.clone(), role };
        if tensor.len().map(|n| n as u64) != Some(state.count) {
            return Err(bad("has a shape of another size"));
        }
        let first = state.offset / 4;
        let end = first.checked_add(state.count).filter(|&end| state.offset % 4 == 0 && end <= floats);
        let range = usize::try_from(first).ok().zip(end.and_then(|end| usize::try_from(end).ok()));
        let (first, end) = range.ok_or_else(|| bad("lies outside the state"))?;
        found.0.push(tensor);
        found.1.push(first..end);
    }
    Ok(found)
}

impl Step for Stepper {
    fn states(&self) -> &[StateTensor] {
        &self.tensors
    }

    fn state(&self, index: usize) -> &[f32] {
        self.ranges.get(index).and_then(|r| self.state.as_f32().get(r.clone())).unwrap_or_default()
    }

    fn set_state(&mut self, index: usize, values: &[f32]) -> Result<(), StepError> {
        let fail = |name: String, problem: String| StepError::State { name, problem };
        let (Some(range), Some(tensor)) = (self.ranges.get(index), self.tensors.get(index)) else {
            return Err(fail(index.to_string(), "there is no such tensor".to_owned()));
        };
        match self.state.as_f32_mut().get_mut(range.clone()) {
            Some(to) if to.len() == values.len() => {
                to.copy_from_slice(values);
                Ok(())
            }
            _ => Err(fail(tensor.name.clone(), format!("holds {} elements, {} given", range.len(), values.len()))),
        }
    }

    fn sample_shape(&self) -> Vec<usize> {
        self.model.inputs().first().map(|p| p.dims.iter().flatten().copied().collect()).unwrap_or_default()
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn step(&mut self, x: &Tensor, labels: &[i32], hyper: &Hyper) -> Result<StepResult, StepError> {
        self.call(x, labels, hyper, 0, None)
    }

    fn evaluate(&mut self, x: &Tensor, labels: &[i32]) -> Result<StepResult, StepError> {
        self.call(x, labels, &Hyper::default(), EVALUATE, None)
    }
}
