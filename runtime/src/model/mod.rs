//! A compiled model: a shared object, or an image in memory, behind the same descriptor.
//!
//! A loaded shared object is code and is trusted as such. Everything else in it is checked before the dynamic linker sees
//! the file: `elf` walks over the tables that the linker will walk over, `view` over the descriptor.
#![allow(unsafe_code)]

pub mod buffer;
mod call;
mod elf;
mod error;
mod info;
mod profile;
pub mod session;
pub mod stepper;
#[cfg(test)]
mod stepper_tests;
#[cfg(test)]
mod tests;
mod view;

pub use buffer::AlignedBuffer;
pub use error::{ModelError, RunError};
pub use info::{DType, Layer, Level, Port, State};
pub use profile::{LayerEvent, LayerTime};
pub use session::Session;
pub use stepper::Stepper;

use crate::abi;
use std::any::Any;
use std::ffi::c_void;
use std::path::Path;
use std::sync::Arc;
use view::{Described, View};

struct Inner {
    base: *const u8,
    desc: abi::ModelDesc,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    levels: Vec<Level>,
    layers: Vec<Layer>,
    states: Vec<State>,
    metadata: serde_json::Value,
    _keep: Box<dyn Any + Send + Sync>,
}

// SAFETY: the image behind `base` is read-only and its functions may be called from any thread (dorefac.h).
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

/// Checks the bytes of a shared object made by `dorefac compile` without loading it: headers, tables, descriptor.
///
/// # Errors
/// What is wrong, and what to do.
pub fn check_file(bytes: &[u8]) -> Result<(), String> {
    described(bytes).map(|_| ())
}

fn described(bytes: &[u8]) -> Result<Described, String> {
    View::of_file(bytes, &elf::check(bytes)?)?.describe()
}

/// A loaded model. Cheap to clone; the image is freed with the last clone.
#[derive(Clone)]
pub struct Model {
    image: Arc<Inner>,
    features: u64,
}

impl Model {
    /// Loads a shared object made by `dorefac compile`.
    ///
    /// # Errors
    /// When the file is missing, truncated, for another architecture or interface version, or no model.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        let file = path.as_ref().display().to_string();
        let read = |source| ModelError::Read { file: file.clone(), source };
        let path = path.as_ref().canonicalize().map_err(read)?; // absolute: never searched in library paths
        let malformed = |problem: String| ModelError::Malformed { file: file.clone(), problem };
        let described = described(&std::fs::read(&path).map_err(read)?).map_err(malformed)?;
        let link = |source| ModelError::Link { file: file.clone(), source };
        // SAFETY: the file has no initialisers, as was just checked; that its code is trusted is the caller's decision.
        let library = unsafe { libloading::Library::new(&path) }.map_err(link)?;
        // SAFETY: the symbol is a static object; only its address is taken.
        let base = unsafe { library.get::<*const u8>(abi::SYMBOL).map_err(link)?.try_as_raw_ptr() };
        let Some(base) = base.filter(|p| !p.is_null()) else {
            return Err(malformed("symbol `dorefac_model` is null; compile it again".into()));
        };
        // SAFETY: the symbol of a shared object that stays loaded as long as `library`; the description is of its file.
        Ok(unsafe { Self::open(base.cast(), described, Box::new(library)) })
    }

    /// A model over an image in memory, made by the JIT compiler.
    ///
    /// # Safety
    /// `ptr` is the descriptor of an image as dorefac.h describes it, at least 192 bytes readable, valid and executable
    /// until `keep` is dropped.
    ///
    /// # Errors
    /// When the descriptor is for another architecture or version.
    pub unsafe fn from_descriptor(ptr: *const u8, keep: Box<dyn Any + Send + Sync>) -> Result<Self, ModelError> {
        let bad = |problem: String| ModelError::Malformed { file: "image in memory".to_owned(), problem };
        if ptr.is_null() || ptr.align_offset(8) != 0 {
            return Err(bad("the descriptor is null or not aligned; compile it again".into()));
        }
        // SAFETY: the caller's contract.
        let described = unsafe { View::trusted(ptr) }.describe().map_err(bad)?;
        // SAFETY: the caller's contract.
        Ok(unsafe { Self::open(ptr, described, keep) })
    }

    /// Asks the image for the CPU's features.
    ///
    /// # Safety
    /// `base` is the descriptor of a mapped image and `described` what it says; `keep` keeps it mapped.
    unsafe fn open(base: *const u8, described: Described, keep: Box<dyn Any + Send + Sync>) -> Self {
        let Described { desc, inputs, outputs, levels, layers, states, metadata } = described;
        let (hwcap, hwcap2) = abi::hwcaps();
        // SAFETY: `cpu` is the offset of a function of this type; it has no preconditions.
        let mut features = unsafe {
            let cpu = std::mem::transmute::<*const u8, abi::CpuFn>(base.wrapping_offset(desc.cpu as isize));
            cpu(hwcap, hwcap2)
        } | abi::FEATURES_VALID;
        let wants_amx = levels.iter().any(|l: &Level| l.required & abi::X86_AMX_PERMITTED != 0);
        if abi::ARCH_HOST == abi::ARCH_X86_64 && wants_amx && features & abi::X86_AMX_INT8 != 0 && desc.enable_amx != 0
        {
            // SAFETY: as for `cpu`; it only asks the kernel for a permission.
            let answer = unsafe {
                let enable =
                    std::mem::transmute::<*const u8, abi::EnableAmxFn>(base.wrapping_offset(desc.enable_amx as isize));
                enable()
            };
            if answer == 0 {
                features |= abi::X86_AMX_PERMITTED;
            }
        }
        let image = Inner { base, desc, inputs, outputs, levels, layers, states, metadata, _keep: keep };
        Model { image: Arc::new(image), features }
    }

    /// The inputs.
    pub fn inputs(&self) -> &[Port] {
        &self.image.inputs
    }

    /// The outputs.
    pub fn outputs(&self) -> &[Port] {
        &self.image.outputs
    }

    /// The CPU levels, ascending.
    pub fn levels(&self) -> &[Level] {
        &self.image.levels
    }

    /// The layers in the order they run.
    pub fn layers(&self) -> &[Layer] {
        &self.image.layers
    }

    /// The training state's tensors.
    pub fn states(&self) -> &[State] {
        &self.image.states
    }

    /// Names, labels, preprocessing, layouts; `Null` if absent.
    pub fn metadata(&self) -> &serde_json::Value {
        &self.image.metadata
    }

    /// The raw descriptor.
    pub fn descriptor(&self) -> &abi::ModelDesc {
        &self.image.desc
    }

    /// Whether it is a training step.
    pub fn is_train_step(&self) -> bool {
        self.image.desc.kind == abi::TRAIN_STEP
    }

    /// The CPU's feature mask, obtained once at load.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// The same model on a CPU that has these features besides those that it tells of, as under an emulator of them.
    ///
    /// # Safety
    /// Instructions of these features run in this process.
    #[must_use]
    pub unsafe fn assume(mut self, features: u64) -> Model {
        self.features |= features;
        self
    }

    /// The best level that this CPU runs.
    pub fn best_level(&self) -> Option<usize> {
        self.image.levels.iter().rposition(|l| l.required & !self.features & !abi::FEATURES_VALID == 0)
    }

    /// Bytes of arena for a batch.
    pub fn arena_bytes(&self, batch: u64, workers: u32) -> u64 {
        let d = &self.image.desc;
        let samples = batch.saturating_mul(d.arena_per_sample);
        let threads = u64::from(workers).saturating_mul(d.arena_per_worker);
        d.arena_fixed.saturating_add(samples).saturating_add(threads)
    }

    fn function(&self, offset: i64) -> *const c_void {
        self.image.base.wrapping_offset(offset as isize).cast()
    }

    /// Calls the image's `run`.
    ///
    /// # Safety
    /// `call` is as dorefac.h demands: every pointer valid for its length and none overlapping.
    pub unsafe fn invoke(&self, call: &mut abi::Call) -> i32 {
        // SAFETY: `run` is present (checked at load) and of this type; the rest is the caller's contract.
        unsafe { std::mem::transmute::<*const c_void, abi::RunFn>(self.function(self.image.desc.run))(call) }
    }

    /// The prepared weights of a level, empty where it needs none.
    ///
    /// # Errors
    /// When there is no such level, too little memory, or the image refuses.
    pub fn prepare(&self, level: usize) -> Result<AlignedBuffer, RunError> {
        let mut buffer = AlignedBuffer::default();
        let found =
            self.image.levels.get(level).ok_or(RunError::NoLevel { index: level, levels: self.image.levels.len() })?;
        let bytes = found.prepared_bytes;
        if bytes != 0 {
            buffer.grow(bytes).map_err(|_| RunError::Memory { bytes, what: "the prepared weights" })?;
            if self.image.desc.prepare == 0 {
                return Err(RunError::Code { function: "prepare", code: abi::E_NULL });
            }
            // SAFETY: present, of this type; the buffer is aligned and long enough.
            let code = unsafe {
                let prepare =
                    std::mem::transmute::<*const c_void, abi::PrepareFn>(self.function(self.image.desc.prepare));
                prepare(u32::try_from(level).unwrap_or(u32::MAX), buffer.as_mut_ptr().cast())
            };
            if code != abi::OK {
                return Err(RunError::Code { function: "prepare", code });
            }
        }
        Ok(buffer)
    }

    /// A fresh training state.
    ///
    /// # Errors
    /// When there is too little memory, the image is no training step or refuses.
    pub fn init_state(&self, seed: [u64; 2]) -> Result<AlignedBuffer, RunError> {
        let bytes = self.image.desc.state_bytes;
        let mut buffer = AlignedBuffer::default();
        buffer.grow(bytes).map_err(|_| RunError::Memory { bytes, what: "the training state" })?;
        if self.image.desc.init_state == 0 {
            return Err(RunError::Code { function: "init_state", code: abi::E_KIND });
        }
        // SAFETY: present, of this type; the buffer is aligned and long enough, the seed has two words.
        let code = unsafe {
            let init =
                std::mem::transmute::<*const c_void, abi::InitStateFn>(self.function(self.image.desc.init_state));
            init(buffer.as_mut_ptr().cast(), seed.as_ptr())
        };
        if code == abi::OK { Ok(buffer) } else { Err(RunError::Code { function: "init_state", code }) }
    }
}
