//! Lowering of the training step.

pub mod layouts;
