//! One step of training behind a trait, so that the trainer runs compiled steps, the interpreter and tests alike.
//!
//! Must never know how a step is computed, nor where the data come from.

use crate::model::RunError;
use crate::tensor::Tensor;

/// What a step needs besides the batch. All numbers are f64; a step rounds them to f32 where its formulas do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hyper {
    /// Number of the step, from 1: Adam's t and the noise's counter.
    pub step: u64,
    /// Seed of the noise and of dropout.
    pub seed: [u64; 2],
    /// Number of the batch's first sample in the noise's counter; 0 unless a batch is computed in parts.
    pub sample0: u64,
    /// Learning rate.
    pub lr: f64,
    /// Adam's β₁, or the momentum of SGD.
    pub beta1: f64,
    /// Adam's β₂.
    pub beta2: f64,
    /// Adam's ε.
    pub epsilon: f64,
    /// Factor of the weight decay; 0 is none.
    pub weight_decay: f64,
    /// Running statistics = momentum · old + (1 − momentum) · the batch's.
    pub bn_momentum: f64,
    /// Factor of the loss's gradient.
    pub loss_scale: f64,
}

impl Default for Hyper {
    /// The reference networks': Adam with lr 1e-3, β 0.9 and 0.999, ε 1e-5; batch norm momentum 0.9.
    fn default() -> Self {
        Hyper {
            step: 1,
            seed: [0, 0],
            sample0: 0,
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-5,
            weight_decay: 0.0,
            bn_momentum: 0.9,
            loss_scale: 1.0,
        }
    }
}

/// What a step found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepResult {
    /// Mean loss of the batch.
    pub loss: f64,
    /// Samples labelled right.
    pub correct: u64,
}

/// What a state tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A trained parameter.
    Parameter,
    /// The first moment of an optimiser, or SGD's momentum.
    Momentum,
    /// The second moment of an optimiser.
    Variance,
    /// A running statistic of batch normalisation.
    Statistic,
}

impl Role {
    /// The role of a number of the binary interface.
    pub fn from_code(code: u32) -> Option<Self> {
        [Role::Parameter, Role::Momentum, Role::Variance, Role::Statistic].get(code as usize).copied()
    }

    /// Whether inference needs it: parameters and statistics, not the optimiser's moments.
    pub fn is_model(self) -> bool {
        matches!(self, Role::Parameter | Role::Statistic)
    }
}

/// A tensor of the training state: 32-bit floats, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateTensor {
    /// Its name, the constant's of the graph.
    pub name: String,
    /// Its extents.
    pub dims: Vec<usize>,
    /// What it is.
    pub role: Role,
}

impl StateTensor {
    /// Number of elements; `None` where it overflows.
    pub fn len(&self) -> Option<usize> {
        self.dims.iter().try_fold(1usize, |a, &d| a.checked_mul(d))
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }
}

/// A step that cannot be done; the state is as it was.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The image is a network.
    #[error("the image is a network, not a training step; compile it with --train")]
    NotTraining,
    /// The image's description contradicts itself.
    #[error("the training step's {what}; compile it again")]
    Inconsistent {
        /// What is wrong.
        what: String,
    },
    /// The batch is larger than the image takes, or empty.
    #[error("a batch of {given} samples; the training step takes 1 to {greatest}")]
    Batch {
        /// Samples given.
        given: usize,
        /// Samples at most.
        greatest: u64,
    },
    /// Another number of labels than samples.
    #[error("{labels} labels for {samples} samples; give one a sample")]
    LabelCount {
        /// Labels given.
        labels: usize,
        /// Samples given.
        samples: usize,
    },
    /// A label that is no class.
    #[error("sample {sample} of the batch has label {label}; the model has {classes} classes, 0 … {}", classes.saturating_sub(1))]
    Label {
        /// Position in the batch.
        sample: usize,
        /// Its label.
        label: i32,
        /// Classes of the model.
        classes: usize,
    },
    /// A gradient or a result is infinite or NaN.
    #[error("{} not finite", place(.tensor, .layer))]
    NonFinite {
        /// The state tensor whose gradient it is, where known.
        tensor: Option<String>,
        /// The layer whose result it is, where known.
        layer: Option<String>,
    },
    /// A state tensor that is given does not fit.
    #[error("state tensor `{name}`: {problem}")]
    State {
        /// Its name.
        name: String,
        /// The problem and the remedy.
        problem: String,
    },
    /// The inputs do not fit, or the image refuses.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A failure of another engine than a compiled image.
    #[error("{0}")]
    Engine(String),
}

fn place(tensor: &Option<String>, layer: &Option<String>) -> String {
    match (tensor, layer) {
        (Some(t), Some(l)) => format!("layer `{l}`: the gradient of `{t}` is"),
        (Some(t), None) => format!("the gradient of `{t}` is"),
        (None, Some(l)) => format!("layer `{l}`: a result is"),
        (None, None) => "a gradient or a result is".to_owned(),
    }
}

/// A training step with its state.
pub trait Step {
    /// The state's tensors.
    fn states(&self) -> &[StateTensor];

    /// The values of state tensor `index`; empty where there is none.
    fn state(&self, index: usize) -> &[f32];

    /// Overwrites state tensor `index`.
    ///
    /// # Errors
    /// When there is no such tensor or `values` has another length.
    fn set_state(&mut self, index: usize, values: &[f32]) -> Result<(), StepError>;

    /// Extents of one sample of the input.
    fn sample_shape(&self) -> Vec<usize>;

    /// Number of classes.
    fn classes(&self) -> usize;

    /// Forward, loss, backward, update on a batch `x` (N, …) with N labels.
    ///
    /// # Errors
    /// When the batch does not fit or a number is not finite; nothing is updated then.
    fn step(&mut self, x: &Tensor, labels: &[i32], hyper: &Hyper) -> Result<StepResult, StepError>;

    /// Loss and hits of a batch with the running statistics, without noise, dropout or update.
    ///
    /// # Errors
    /// When the batch does not fit.
    fn evaluate(&mut self, x: &Tensor, labels: &[i32]) -> Result<StepResult, StepError>;
}

/// Checks the labels of a batch of `samples`.
///
/// # Errors
/// When their number differs, or one is no class.
pub fn check_labels(labels: &[i32], samples: usize, classes: usize) -> Result<(), StepError> {
    if labels.len() != samples {
        return Err(StepError::LabelCount { labels: labels.len(), samples });
    }
    let wrong = labels.iter().enumerate().find(|(_, l)| usize::try_from(**l).map_or(true, |l| l >= classes));
    wrong.map_or(Ok(()), |(sample, &label)| Err(StepError::Label { sample, label, classes }))
}
