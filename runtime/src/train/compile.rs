//! What a compiler of training steps offers. The runtime knows the trait alone; the compiler implements it.

use crate::model::Model;
use std::fmt;
use std::str::FromStr;

/// The form of Adam's update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdamForm {
    /// lr·√(1−β₂ᵗ)/(1−β₁ᵗ) · m/(√v + ε).
    #[default]
    TensorFlow,
    /// lr/(1−β₁ᵗ) · m/(√v/√(1−β₂ᵗ) + ε).
    PyTorch,
}

/// The optimiser that a step applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optimizer {
    /// m ← β₁·m + g, w ← w − lr·m; β₁ = 0 is plain gradient descent.
    Sgd,
    /// Adam (Kingma and Ba 2014).
    Adam {
        /// Where ε stands.
        form: AdamForm,
    },
}

impl Default for Optimizer {
    fn default() -> Self {
        Optimizer::Adam { form: AdamForm::TensorFlow }
    }
}

/// How weight decay enters. It acts on parameters of rank 2 and above: weights, neither biases nor batch norm's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decay {
    /// Not at all.
    #[default]
    None,
    /// g ← g + decay·w, before the optimiser.
    L2,
    /// w ← w − lr·decay·w, beside the optimiser.
    Decoupled,
}

/// What a training step is compiled for; the numbers (rates, momenta) are given at each step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepOptions {
    /// The optimiser.
    pub optimizer: Optimizer,
    /// The weight decay.
    pub decay: Decay,
}

/// Names and values of an option.
type Table<T> = [(&'static str, T)];

const OPTIMIZERS: [(&str, Optimizer); 3] = [
    ("sgd", Optimizer::Sgd),
    ("adam", Optimizer::Adam { form: AdamForm::TensorFlow }),
    ("adam-pytorch", Optimizer::Adam { form: AdamForm::PyTorch }),
];
const DECAYS: [(&str, Decay); 3] = [("none", Decay::None), ("l2", Decay::L2), ("decoupled", Decay::Decoupled)];

fn find<T: Copy>(what: &str, table: &Table<T>, text: &str) -> Result<T, String> {
    let names: Vec<_> = table.iter().map(|(n, _)| *n).collect();
    let found = table.iter().find(|(n, _)| *n == text).map(|(_, v)| *v);
    found.ok_or_else(|| format!("{what} `{text}` is unknown; use one of {}", names.join(", ")))
}

fn name<T: PartialEq>(table: &Table<T>, value: &T) -> &'static str {
    table.iter().find(|(_, v)| v == value).map_or("", |(n, _)| n)
}

impl FromStr for Optimizer {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        find("optimizer", &OPTIMIZERS, text)
    }
}

impl fmt::Display for Optimizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name(&OPTIMIZERS, self))
    }
}

impl FromStr for Decay {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        find("decay", &DECAYS, text)
    }
}

impl fmt::Display for Decay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name(&DECAYS, self))
    }
}

/// A compiler of training steps.
pub trait Compile {
    /// Compiles the training step of a network given in the native text form. Parameters start as the state's
    /// initialiser draws them.
    ///
    /// # Errors
    /// When the network cannot be trained: one line a problem, each naming node, operator and what to do.
    fn compile(&self, graph: &str, options: &StepOptions) -> Result<Model, String>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_names_that_parse() {
        for (name, value) in OPTIMIZERS {
            assert_eq!((name.parse(), value.to_string().as_str()), (Ok(value), name));
        }
        for (name, value) in DECAYS {
            assert_eq!((name.parse(), value.to_string().as_str()), (Ok(value), name));
        }
        assert!("adamw".parse::<Optimizer>().is_err_and(|e| e.contains("sgd, adam, adam-pytorch")));
    }
}
