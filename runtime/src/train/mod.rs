//! Training: the step behind a trait, schedules, checkpoints and the loop around them.
//!
//! `step` and `compile` are the two interfaces to the outside: who computes a step, and who compiles one. Nothing here
//! may know a graph, a kernel or a compiler.

pub mod compile;
pub mod step;

pub use compile::{AdamForm, Compile, Decay, Optimizer, StepOptions};
pub use step::{Hyper, Role, StateTensor, Step, StepError, StepResult};
