//! Training: the step behind a trait, schedules, checkpoints and the loop around them.
//!
//! `step`, `source` and `compile` are the interfaces to the outside: who computes a step, where batches come from, and who
//! compiles a step. Nothing here may know a graph, a kernel or a compiler.
//!
//! A whole training, with whatever implements [`Compile`]:
//!
//! ```no_run
//! use dorefa_runtime::train::{Compile, Control, Event, StepOptions, TrainOptions, Trainer};
//! use dorefa_runtime::{DataSpec, Loader, LoaderOptions, Split, Stepper};
//!
//! fn train(compiler: &dyn Compile) -> Result<(), Box<dyn std::error::Error>> {
//!     let graph = std::fs::read_to_string("models/mnist.dorefa")?;
//!     let model = compiler.compile(&graph, &StepOptions::default())?; // Adam; or Model::load a step compiled ahead of time
//!     let mut step = Stepper::new(&model, 0)?;
//!     step.init([1, 0])?;
//!
//!     let data = DataSpec::parse("idx:mnist")?;
//!     let seed = 1;
//!     let train = LoaderOptions { train: true, seed, threads: 2, ..LoaderOptions::default() };
//!     let train = Loader::new(data.open(Split::Train)?, train);
//!     let test = Loader::new(data.open(Split::Test)?, LoaderOptions::default());
//!
//!     let output = Some("mnist.safetensors".into());
//!     let best = Some("mnist-best.safetensors".into());
//!     let options = TrainOptions { epochs: 5, seed, output, best, graph: Some(graph), ..TrainOptions::default() };
//!     let mut trainer = Trainer::new(&mut step, options);
//!     let summary = trainer.fit(&train, Some(&test), &mut |event| {
//!         if let Event::Epoch(record) = event {
//!             println!("epoch {}: loss {:.4}, {:?}", record.epoch, record.loss, record.validation);
//!         }
//!         Control::Continue // or Stop: saves and returns; `Trainer::resume` goes on in the same bits
//!     })?;
//!     println!("{} steps", summary.step);
//!     Ok(())
//! }
//! ```

mod best;
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
