//! What can go wrong in a training.

use super::step::StepError;
use crate::data::DataError;
use crate::io::IoError;

/// A training that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A number is not finite: the training diverged. The state is that before the step.
    #[error("step {step} (epoch {epoch}): {source}; the training diverged: lower the learning rate or add a warm-up{}", saved(.checkpoint))]
    Diverged {
        /// The step, from 1.
        step: u64,
        /// The epoch, from 1.
        epoch: u64,
        /// What is not finite.
        source: StepError,
        /// The last checkpoint that was written.
        checkpoint: Option<String>,
    },
    /// A step refused.
    #[error("step {step} (epoch {epoch}): {source}")]
    Step {
        /// The step, from 1.
        step: u64,
        /// The epoch, from 1.
        epoch: u64,
        /// Why.
        source: StepError,
    },
    /// The data set gave no batch.
    #[error("the {what} images make no batch ({images} images); use more images or a smaller batch")]
    Empty {
        /// `training` or `validation`.
        what: &'static str,
        /// Images of the set.
        images: usize,
    },
    /// The best checkpoint cannot be kept.
    #[error("{file}: {problem}")]
    Best {
        /// Where it should be kept.
        file: String,
        /// Why not, and what to do.
        problem: &'static str,
    },
    /// The data set failed.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A checkpoint, table or plot could not be written; an older file of that name is as it was.
    #[error(transparent)]
    Write(IoError),
    /// A checkpoint does not fit; one line a problem.
    #[error("{}", .problems.iter().map(|p| format!("{file}: {p}")).collect::<Vec<_>>().join("\n"))]
    Checkpoint {
        /// The file.
        file: String,
        /// The problems, each with its remedy.
        problems: Vec<String>,
    },
}

fn saved(checkpoint: &Option<String>) -> String {
    checkpoint.as_ref().map_or_else(String::new, |c| format!("; the last checkpoint is {c}"))
}

impl TrainError {
    /// Whether the caller's input is wrong, rather than the run having failed.
    pub fn is_input(&self) -> bool {
        !matches!(
            self,
            TrainError::Diverged { .. }
                | TrainError::Write(IoError::System { .. })
                | TrainError::Step { source: StepError::Run(_), .. }
        )
    }
}
