//! Training: the step behind a trait, schedules, checkpoints and the loop around them.
//!
//! `step`, `source` and `compile` are the interfaces to the outside: who computes a step, where batches come from, and who
//! compiles a step. Nothing here may know a graph, a kernel or a compiler.

pub mod checkpoint;
pub mod compile;
mod error;
pub mod history;
pub mod plot;
mod progress;
pub mod schedule;
mod source;
pub mod step;
#[cfg(test)]
mod tests;
mod trainer;

pub use checkpoint::Checkpoint;
pub use compile::{AdamForm, Compile, Decay, Optimizer, StepOptions};
pub use error::TrainError;
pub use history::Record;
pub use progress::Progress;
pub use schedule::Schedule;
pub use source::{Labelled, Source};
pub use step::{Hyper, Role, StateTensor, Step, StepError, StepResult};
pub use trainer::{Control, Event, StepEvent, Summary, TrainOptions, Trainer};
