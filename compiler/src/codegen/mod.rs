//! Machine code of a model. `steps` compiles a lowered graph step by step: those of inference are `kernels` with the `chain` behind
//! each, those of training `train` with `products`; both use `lanes` for element-wise code and `tiles` for what is assembled. `target`
//! names the instruction-set levels, `entry` is what a caller calls, `image` what the emitters write.
//!
//! Must never know: passes, file formats (`emit`).

mod call;
mod chain;
mod check;
mod dot;
mod emitter;
pub mod entry;
mod functions;
pub mod image;
pub mod kernels;
mod lanes;
mod leaf;
pub mod products;
mod shares;
pub mod steps;
mod stubs;
mod taps;
pub mod target;
mod tiles;
pub mod train;
mod window_sums;

use cranelift_codegen::isa::OwnedTargetIsa;
use target::TargetError;

pub use image::{DataId, FunctionId, Image, import_data, import_function};

/// Why code could not be generated. Except for [`CodegenError::Target`] and [`CodegenError::TooLarge`] these are bugs of
/// dorefac, not of its input.
#[derive(Debug, thiserror::Error)]
pub enum CodegenError {
    /// Cranelift refused the function; the text holds the verifier's message and the CLIF.
    #[error("bug: cannot compile `{name}`: {detail}")]
    Compile {
        /// The function.
        name: String,
        /// Cranelift's report.
        detail: String,
    },
    /// The code refers to something that an image cannot hold.
    #[error("bug: `{name}` has a reference that an image cannot hold: {detail}")]
    Reference {
        /// The function or data object.
        name: String,
        /// The kind and target.
        detail: String,
    },
    /// Declared, used, and not defined; or defined twice.
    #[error("bug: function `{name}` is {what}")]
    Definition {
        /// The function.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A quantity does not fit the descriptor or a relocation.
    #[error("the model is too large: {0}")]
    TooLarge(String),
    /// The specification of the model's entry is inconsistent.
    #[error("bug: {0}")]
    Spec(String),
    /// The instruction-set level.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The object writer refused.
    #[error("bug: cannot write the object: {0}")]
    Object(String),
    /// No memory for machine code from the operating system.
    #[error("no memory for machine code: {0}")]
    Memory(String),
    /// The image is for another architecture than this machine's.
    #[error("code for {0} cannot run on this machine")]
    Foreign(&'static str),
}

/// The instruction set for code that every level shares: the base of `arch`.
pub fn base_isa(arch: target::Arch) -> Result<OwnedTargetIsa, TargetError> {
    target::isa(&target::Level::generic(arch))
}
