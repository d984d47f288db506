//! `dorefa-runtime`: loads a model compiled by dorefac and runs it.
//!
//! The crate knows the binary interface (`dorefac.h`), tensors, threads and data sets. It must never know the compiler:
//! a deployment links this crate alone.
#![deny(unsafe_code)]

pub mod tensor;
