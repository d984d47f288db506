//! `dorefa-runtime`: loads a model compiled by dorefac and runs it.
//!
//! The crate knows the binary interface (`dorefac.h`), tensors, threads and data sets. It must never know the compiler:
//! a deployment links this crate alone.
#![deny(unsafe_code)]

pub mod abi;
pub mod data;
pub mod eval;
pub mod io;
pub mod model;
pub mod pool;
pub mod tensor;
pub mod train;

pub use data::{Batch, DataSet, DataSpec, Loader, LoaderOptions, Normalise, Split, Transform};
pub use model::{Model, ModelError, RunError, Session, Stepper};
pub use pool::Pool;
pub use tensor::{Data, Tensor};
