//! What can go wrong when a model is loaded or run.

use crate::abi::code_text;
use crate::pool::PoolError;

/// A model that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file cannot be read.
    #[error("{file}: cannot read the model: {source}; check the path and its permissions")]
    Read {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no model for this computer.
    #[error("{file}: {problem}")]
    Malformed {
        /// The file.
        file: String,
        /// The problem and the remedy.
        problem: String,
    },
    /// The dynamic linker refused it.
    #[error("{file}: cannot load the shared object: {source}; it must be made by `dorefac compile -o OUT.so`")]
    Link {
        /// The file.
        file: String,
        /// Why.
        source: libloading::Error,
    },
}

/// A run that cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Another number of inputs.
    #[error("the model has {expected} input(s) ({names}), {given} given")]
    InputCount {
        /// Of the model.
        expected: usize,
        /// Given.
        given: usize,
        /// The inputs' names.
        names: String,
    },
    /// Another element type.
    #[error("input `{name}` takes {expected}, the tensor holds {given}; {remedy}")]
    InputType {
        /// The input.
        name: String,
        /// Of the model.
        expected: &'static str,
        /// Given.
        given: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// Another shape.
    #[error("input `{name}` takes shape {expected}, the tensor has {given:?}; reshape the data (axis 0 is the batch)")]
    InputShape {
        /// The input.
        name: String,
        /// Of the model.
        expected: String,
        /// Given.
        given: Vec<usize>,
    },
    /// Inputs with different batches.
    #[error("input `{name}` has a batch of {given}, the inputs before it {expected}; all must agree")]
    BatchMismatch {
        /// The input.
        name: String,
        /// Of the inputs before.
        expected: usize,
        /// Of this one.
        given: usize,
    },
    /// An output without a batch axis when the batch must be split.
    #[error(
        "output `{name}` has no batch axis, so a batch of {batch} cannot be split in parts of {chunk}; pass fewer samples"
    )]
    Unsplittable {
        /// The output.
        name: String,
        /// Samples given.
        batch: usize,
        /// Samples at once.
        chunk: usize,
    },
    /// No level fits.
    #[error(
        "this CPU runs no level of the model ({needs}); compile with a lower --cpu, for example x86-64-v2 or generic"
    )]
    Cpu {
        /// Levels and what each lacks.
        needs: String,
    },
    /// A training step cannot be run as a network.
    #[error("the image is a training step, not a network; compile it without --train")]
    NotInference,
    /// No such level.
    #[error("the image has no level {index} (it has {levels})")]
    NoLevel {
        /// Asked for.
        index: usize,
        /// There are.
        levels: usize,
    },
    /// Too large.
    #[error("cannot get {bytes} bytes for {what}; pass a smaller batch")]
    Memory {
        /// Bytes asked for.
        bytes: u64,
        /// What for.
        what: &'static str,
    },
    /// No threads.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The image answered an error.
    #[error("{function} of the model failed with {code}: {}", code_text(*.code))]
    Code {
        /// `run` or `prepare`.
        function: &'static str,
        /// Its answer.
        code: i32,
    },
}
