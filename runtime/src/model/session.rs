//! Running a model: input checks, the split into chunks, the arena, profiles.
//!
//! NaN policy: NaN inputs are accepted; a clip maps NaN to its lower bound, elsewhere it propagates as IEEE 754 has it.
//! Unsigned bytes are never converted to floats here: whether a pixel means x or x/255 only the caller knows.
#![allow(unsafe_code)]

use super::call::Call;
use super::profile::{Hook, LayerEvent, LayerTime, Profile, zero_times};
use super::{AlignedBuffer, DType, Model, Port, RunError};
use crate::abi;
use crate::pool::Pool;
use crate::tensor::{Data, Tensor};
use std::ffi::c_void;
use std::sync::Arc;

/// Arena bytes above which a batch is split.
const ARENA_BUDGET: u64 = 128 << 20;
/// Samples above which a batch is split.
const CHUNK: usize = 256;

/// Runs a model, keeping arena, prepared weights and threads between runs.
pub struct Session {
    model: Model,
    pool: Arc<Pool>,
    arena: AlignedBuffer,
    prepared: AlignedBuffer,
    level: usize,
    features: u64,
    budget: u64,
    chunk: usize,
}

impl Session {
    /// A session with its own pool of `threads` threads; 0 takes as many as the machine offers.
    ///
    /// # Errors
    /// When no level fits the CPU, the image is a training step, or memory or threads are not to be had.
    pub fn new(model: &Model, threads: u32) -> Result<Self, RunError> {
        Self::with_pool(model, Arc::new(Pool::new(threads)?))
    }

    /// A session over a shared pool.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn with_pool(model: &Model, pool: Arc<Pool>) -> Result<Self, RunError> {
        if model.is_train_step() {
            return Err(RunError::NotInference);
        }
        let level = best_level(model)?;
        let prepared = model.prepare(level)?;
        let arena = AlignedBuffer::default();
        let model = model.clone();
        let features = model.features();
        Ok(Session { model, pool, arena, prepared, level, features, budget: ARENA_BUDGET, chunk: CHUNK })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Threads in use.
    pub fn threads(&self) -> u32 {
        self.pool.threads()
    }

    /// The level that runs.
    pub fn level(&self) -> usize {
        self.level
    }

    /// Runs a given level, for tests and measurements.
    ///
    /// # Errors
    /// When there is no such level, or the CPU does not run it.
    pub fn use_level(&mut self, index: usize) -> Result<(), RunError> {
        let levels = self.model.levels();
        let level = levels.get(index).ok_or(RunError::NoLevel { index, levels: levels.len() })?;
        let lacks = level.required & !self.model.features() & !abi::FEATURES_VALID;
        if lacks != 0 {
            return Err(RunError::Cpu { needs: format!("{} lacks {}", level.name, abi::feature_names(lacks)) });
        }
        self.features = level.required | abi::FEATURES_VALID;
        self.prepared = self.model.prepare(index)?;
        self.level = index;
        Ok(())
    }

    /// Sets how many samples at most run at once (256 unless told; the arena's bound may make it fewer).
    pub fn set_chunk(&mut self, samples: usize) {
        self.chunk = samples.max(1);
    }

    /// Samples that run at once.
    pub fn chunk(&self) -> usize {
        let d = self.model.descriptor();
        let rest = self.budget.saturating_sub(self.model.arena_bytes(0, self.threads()));
        let fit = rest.checked_div(d.arena_per_sample).unwrap_or(u64::MAX).min(d.max_batch).max(1);
        self.chunk.min(usize::try_from(fit).unwrap_or(usize::MAX))
    }

    /// Runs the model on a batch of any size. Axis 0 of the inputs is the batch.
    ///
    /// # Errors
    /// When the inputs do not fit the model, memory is short or the image refuses.
    pub fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        self.run_hooked(inputs, None)
    }

    /// As [`Session::run`], with `callback` after each layer of each chunk. The times leave the callback's own out.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_profiled(
        &mut self,
        inputs: &[Tensor],
        callback: &mut dyn FnMut(LayerEvent<'_>),
    ) -> Result<(Vec<Tensor>, Vec<LayerTime>), RunError> {
        let mut times = zero_times(self.model.layers().len());
        let outputs = self.run_hooked(inputs, Some((callback, &mut times)))?;
        Ok((outputs, times))
    }

    fn run_hooked(&mut self, inputs: &[Tensor], mut profile: Option<Profile<'_, '_>>) -> Result<Vec<Tensor>, RunError> {
        let batch = check_inputs(self.model.inputs(), inputs)?;
        let chunk = self.chunk();
        let ports = self.model.outputs();
        if let Some(port) = ports.iter().find(|p| batch > chunk && !p.batched()) {
            return Err(RunError::Unsplittable { name: port.name.clone(), batch, chunk });
        }
        let mut outputs = ports.iter().map(|p| allocate(p, batch)).collect::<Result<Vec<_>, _>>()?;
        let workers = self.pool.threads();
        let bytes = self.model.arena_bytes(batch.min(chunk) as u64, workers);
        self.arena.grow_scratch(bytes).map_err(|_| RunError::Memory { bytes, what: "the arena" })?;
        let mut first = 0;
        while first < batch {
            let samples = chunk.min(batch - first);
            let in_ptrs: Vec<*const c_void> =
                self.model.inputs().iter().zip(inputs).map(|(p, t)| sample_ptr(p, t.data(), first)).collect();
            let out_ptrs: Vec<*mut c_void> =
                self.model.outputs().iter().zip(&mut outputs).map(|(p, d)| sample_ptr_mut(p, d, first)).collect();
            let hook = profile
                .as_mut()
                .map(|(callback, times)| Hook::new(&mut **callback, times, &self.arena, first, samples));
            let call = Call {
                model: &self.model,
                features: self.features,
                prepared: &self.prepared,
                arena: &mut self.arena,
                pool: &self.pool,
                samples,
                inputs: &in_ptrs,
                outputs: &out_ptrs,
            };
            // SAFETY: inputs and outputs were checked or allocated for `first + samples ≤ batch` samples of each port;
            // arena and prepared weights have the sizes the descriptor asks for.
            let code = unsafe { call.run(hook, std::ptr::null_mut()) };
            if code != abi::OK {
                return Err(RunError::Code { function: "run", code });
            }
            first += samples;
        }
        let wrap = |(p, d): (&Port, Data)| {
            Tensor::new(p.shape(batch), d).map_err(|_| RunError::Memory { bytes: u64::MAX, what: "an output" })
        };
        self.model.outputs().iter().zip(outputs).map(wrap).collect()
    }
}

/// The best level that the CPU runs.
pub(super) fn best_level(model: &Model) -> Result<usize, RunError> {
    let features = model.features();
    let lacks = |l: &super::Level| format!("{} lacks {}", l.name, abi::feature_names(l.required & !features));
    let needs = || model.levels().iter().map(lacks).collect::<Vec<_>>().join("; ");
    model.best_level().ok_or_else(|| RunError::Cpu { needs: needs() })
}

/// Checks types and shapes; the batch (1 if no input has a batch axis).
pub(super) fn check_inputs(ports: &[Port], inputs: &[Tensor]) -> Result<usize, RunError> {
    if ports.len() != inputs.len() {
        let names = ports.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(RunError::InputCount { expected: ports.len(), given: inputs.len(), names });
    }
    let mut batch = None;
    for (port, tensor) in ports.iter().zip(inputs) {
        let (expected, given) = (port.dtype.name(), tensor.data().type_name());
        if expected != given {
            let remedy = match (expected, given) {
                ("f32", "u8") => "scale the pixels to floats, or compile with --input u8,scale=1/255",
                ("u8", "f32") => "pass the 8-bit pixels themselves, or compile without --input u8",
                _ => "convert the data",
            };
            return Err(RunError::InputType { name: port.name.clone(), expected, given, remedy });
        }
        let fits = |(d, &n): (&Option<usize>, &usize)| d.is_none_or(|d| d == n);
        if port.dims.len() != tensor.shape().len() || !port.dims.iter().zip(tensor.shape()).all(fits) {
            let dims: Vec<_> = port.dims.iter().map(|d| d.map_or_else(|| "N".to_owned(), |d| d.to_string())).collect();
            let expected = format!("[{}]", dims.join(", "));
            return Err(RunError::InputShape { name: port.name.clone(), expected, given: tensor.shape().to_vec() });
        }
        if let (true, Some(&given)) = (port.batched(), tensor.shape().first()) {
            match batch {
                Some(expected) if expected != given => {
                    return Err(RunError::BatchMismatch { name: port.name.clone(), expected, given });
                }
                _ => batch = Some(given),
            }
        }
    }
    Ok(batch.unwrap_or(1))
}

/// A zeroed output for `batch` samples.
pub(super) fn allocate(port: &Port, batch: usize) -> Result<Data, RunError> {
    let len = if port.batched() { port.sample_len().checked_mul(batch) } else { Some(port.sample_len()) };
    let bytes = len.map_or(u64::MAX, |n| (n as u64).saturating_mul(port.dtype.size() as u64));
    let full = |_| RunError::Memory { bytes, what: "an output" };
    fn zeros<T: Clone + Default>(n: usize) -> Result<Vec<T>, std::collections::TryReserveError> {
        let mut v = Vec::new();
        v.try_reserve_exact(n)?;
        v.resize(n, T::default());
        Ok(v)
    }
    let n = len.unwrap_or(usize::MAX);
    match port.dtype {
        DType::F32 => zeros(n).map(Data::F32),
        DType::U8 => zeros(n).map(Data::U8),
        DType::I32 => zeros(n).map(Data::I32),
        DType::I64 => zeros(n).map(Data::I64),
        DType::I8 | DType::F64 => return Err(RunError::Code { function: "run", code: abi::E_KIND }), // refused at load
    }
    .map_err(full)
}

/// Elements before sample `first`.
fn start(port: &Port, first: usize) -> usize {
    if port.batched() { port.sample_len() * first } else { 0 }
}

pub(super) fn sample_ptr(port: &Port, data: &Data, first: usize) -> *const c_void {
    let at = start(port, first);
    match data {
        Data::F32(v) => v.as_ptr().wrapping_add(at).cast(),
        Data::U8(v) => v.as_ptr().wrapping_add(at).cast(),
        Data::I32(v) => v.as_ptr().wrapping_add(at).cast(),
        Data::I64(v) => v.as_ptr().wrapping_add(at).cast(),
    }
}

pub(super) fn sample_ptr_mut(port: &Port, data: &mut Data, first: usize) -> *mut c_void {
    let at = start(port, first);
    match data {
        Data::F32(v) => v.as_mut_ptr().wrapping_add(at).cast(),
        Data::U8(v) => v.as_mut_ptr().wrapping_add(at).cast(),
        Data::I32(v) => v.as_mut_ptr().wrapping_add(at).cast(),
        Data::I64(v) => v.as_mut_ptr().wrapping_add(at).cast(),
    }
}
