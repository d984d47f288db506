//! A compiled model: a shared object, or an image in memory, behind the same descriptor.
//!
//! A loaded shared object is code and is trusted as such; the checks here find files that are truncated, of another
//! architecture or version, or no models at all.
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
use view::View;

struct Inner {
    base: *const u8,
    desc: abi::ModelDesc,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    levels: Vec<Level>,
    layers: Vec<Layer>,
    states: Vec<State>,
    metadata: serde_json::Value,
    features: u64,
    _keep: Box<dyn Any + Send + Sync>,
}

// SAFETY: the image behind `base` is read-only and its functions may be called from any thread (dorefac.h).
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

/// A loaded model. Cheap to clone; the image is freed with the last clone.
#[derive(Clone)]
pub struct Model(Arc<Inner>);

impl Model {
    /// Loads a shared object made by `dorefac compile`.
    ///
    /// # Errors
    /// When the file is missing, truncated, for another architecture or interface version, or no model.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        let file = path.as_ref().display().to_string();
        let read = |source| ModelError::Read { file: file.clone(), source };
        let path = path.as_ref().canonicalize().map_err(read)?; // absolute: never searched in library paths
        elf::check(&std::fs::read(&path).map_err(read)?)
            .map_err(|problem| ModelError::Malformed { file: file.clone(), problem })?;
        let link = |source| ModelError::Link { file: file.clone(), source };
        // SAFETY: compiled models have no initialisers; that the file is trusted code is the caller's decision.
        let library = unsafe { libloading::Library::new(&path) }.map_err(link)?;
        // SAFETY: the symbol is a static object; only its address is taken.
        let base = unsafe { library.get::<*const u8>(abi::SYMBOL).map_err(link)?.try_as_raw_ptr() };
        let Some(base) = base.filter(|p| !p.is_null()) else {
            return Err(ModelError::Malformed {
                file,
                problem: "symbol `dorefac_model` is null; compile it again".into(),
            });
        };
        // SAFETY: the symbol of a shared object that stays loaded as long as `library`.
        unsafe { Self::open(base.cast(), Box::new(library), &file) }
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
        // SAFETY: the caller's contract.
        unsafe { Self::open(ptr, keep, "image in memory") }
    }

    /// Checks and copies the descriptor.
    unsafe fn open(base: *const u8, keep: Box<dyn Any + Send + Sync>, file: &str) -> Result<Self, ModelError> {
        let bad = |problem: String| ModelError::Malformed { file: file.to_owned(), problem };
        if base.is_null() || base.align_offset(8) != 0 {
            return Err(bad("the descriptor is null or not aligned; compile it again".into()));
        }
        // SAFETY: aligned, and readable by the contract of the callers.
        let desc = unsafe { *base.cast::<abi::ModelDesc>() };
        if desc.magic != abi::MAGIC {
            return Err(bad("it has no dorefac descriptor; pass a file made by `dorefac compile`".into()));
        }
        if desc.abi != abi::ABI {
            return Err(bad(format!(
                "its interface version is {}, this runtime knows {}; compile it again",
                desc.abi,
                abi::ABI
            )));
        }
        if (desc.size as usize) < size_of::<abi::ModelDesc>() {
            return Err(bad(format!("its descriptor has {} bytes, too few; compile it again", desc.size)));
        }
        if desc.arch != abi::ARCH_HOST {
            return Err(bad(format!(
                "it is for architecture {}, this is {}; compile with another --target",
                desc.arch,
                abi::ARCH_HOST
            )));
        }
        if !matches!(desc.kind, abi::INFERENCE | abi::TRAIN_STEP) {
            return Err(bad(format!("its kind {} is unknown; use a newer runtime", desc.kind)));
        }
        if desc.arena_align > 64 || desc.run == 0 || desc.cpu == 0 || desc.max_batch == 0 {
            return Err(bad(
                "its descriptor is inconsistent (arena alignment, run, cpu or max_batch); compile it again".into(),
            ));
        }
        // SAFETY: the descriptor passed the checks, so its offsets are the compiler's.
        let view = unsafe { View::new(base, &desc) };
        let (inputs, outputs) = (view.ports(desc.inputs, desc.n_inputs), view.ports(desc.outputs, desc.n_outputs));
        let inputs = inputs.map_err(&bad)?;
        let outputs = outputs.map_err(&bad)?;
        let text = view.text(desc.metadata);
        let metadata = if text.is_empty() {
            serde_json::Value::Null
        } else {
            serde_json::from_str(&text).map_err(|e| bad(format!("its metadata is not JSON ({e}); compile it again")))?
        };
        let (levels, layers, states) = (view.levels(&desc), view.layers(&desc), view.states(&desc));
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
        Ok(Model(Arc::new(Inner {
            base,
            desc,
            inputs,
            outputs,
            levels,
            layers,
            states,
            metadata,
            features,
            _keep: keep,
        })))
    }

    /// The inputs.
    pub fn inputs(&self) -> &[Port] {
        &self.0.inputs
    }

    /// The outputs.
    pub fn outputs(&self) -> &[Port] {
        &self.0.outputs
    }

    /// The CPU levels, ascending.
    pub fn levels(&self) -> &[Level] {
        &self.0.levels
    }

    /// The layers in the order they run.
    pub fn layers(&self) -> &[Layer] {
        &self.0.layers
    }

    /// The training state's tensors.
    pub fn states(&self) -> &[State] {
        &self.0.states
    }

    /// Names, labels, preprocessing, layouts; `Null` if absent.
    pub fn metadata(&self) -> &serde_json::Value {
        &self.0.metadata
    }

    /// The raw descriptor.
    pub fn descriptor(&self) -> &abi::ModelDesc {
        &self.0.desc
    }

    /// Whether it is a training step.
    pub fn is_train_step(&self) -> bool {
        self.0.desc.kind == abi::TRAIN_STEP
    }

    /// The CPU's feature mask, obtained once at load.
    pub fn features(&self) -> u64 {
        self.0.features
    }

    /// The best level that this CPU runs.
    pub fn best_level(&self) -> Option<usize> {
        self.0.levels.iter().rposition(|l| l.required & !self.0.features & !abi::FEATURES_VALID == 0)
    }

    /// Bytes of arena for a batch.
    pub fn arena_bytes(&self, batch: u64, workers: u32) -> u64 {
        let d = &self.0.desc;
        let samples = batch.saturating_mul(d.arena_per_sample);
        let threads = u64::from(workers).saturating_mul(d.arena_per_worker);
        d.arena_fixed.saturating_add(samples).saturating_add(threads)
    }

    fn function(&self, offset: i64) -> *const c_void {
        self.0.base.wrapping_offset(offset as isize).cast()
    }

    /// Calls the image's `run`.
    ///
    /// # Safety
    /// `call` is as dorefac.h demands: every pointer valid for its length and none overlapping.
    pub unsafe fn invoke(&self, call: &mut abi::Call) -> i32 {
        // SAFETY: `run` is present (checked at load) and of this type; the rest is the caller's contract.
        unsafe { std::mem::transmute::<*const c_void, abi::RunFn>(self.function(self.0.desc.run))(call) }
    }

    /// The prepared weights of a level, empty where it needs none.
    ///
    /// # Errors
    /// When there is no such level, too little memory, or the image refuses.
    pub fn prepare(&self, level: usize) -> Result<AlignedBuffer, RunError> {
        let mut buffer = AlignedBuffer::default();
        let found = self.0.levels.get(level).ok_or(RunError::NoLevel { index: level, levels: self.0.levels.len() })?;
        let bytes = found.prepared_bytes;
        if bytes != 0 {
            buffer.grow(bytes).map_err(|_| RunError::Memory { bytes, what: "the prepared weights" })?;
            if self.0.desc.prepare == 0 {
                return Err(RunError::Code { function: "prepare", code: abi::E_NULL });
            }
            // SAFETY: present, of this type; the buffer is aligned and long enough.
            let code = unsafe {
                let prepare = std::mem::transmute::<*const c_void, abi::PrepareFn>(self.function(self.0.desc.prepare));
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
        let bytes = self.0.desc.state_bytes;
        let mut buffer = AlignedBuffer::default();
        buffer.grow(bytes).map_err(|_| RunError::Memory { bytes, what: "the training state" })?;
        if self.0.desc.init_state == 0 {
            return Err(RunError::Code { function: "init_state", code: abi::E_KIND });
        }
        // SAFETY: present, of this type; the buffer is aligned and long enough, the seed has two words.
        let code = unsafe {
            let init = std::mem::transmute::<*const c_void, abi::InitStateFn>(self.function(self.0.desc.init_state));
            init(buffer.as_mut_ptr().cast(), seed.as_ptr())
        };
        if code == abi::OK { Ok(buffer) } else { Err(RunError::Code { function: "init_state", code }) }
    }
}
