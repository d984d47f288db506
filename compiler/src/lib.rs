//! dorefac: a compiler for DoReFa-Net models, convolutional networks with 1 to 8-bit weights, activations and gradients.
//!
//! Data flow one way: `import` → `graph` (verified) → `passes` → `lower` → `codegen` → `emit`; `interp` is the definition.
#![deny(unsafe_code)]

pub mod cli;
pub mod codegen;
pub mod compile;
pub mod emit;
pub mod export;
pub mod grad;
pub mod graph;
pub mod import;
pub mod interp;
pub mod jit;
pub mod lower;
pub mod passes;
pub mod report;
pub mod text;
pub mod tune;
