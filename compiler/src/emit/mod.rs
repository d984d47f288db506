//! Emitters: an image of code and data as JIT memory, shared object, object file, archive; the C header.
//!
//! Must never know: graphs or kernels; they only lay out and write what an image holds.

pub mod archive;
pub mod elf;
pub mod header;
pub mod jit;
mod layout;
pub mod object;
