//! Where the trainer's batches come from.

use crate::data::{DataError, Loader};
use crate::tensor::Tensor;

/// A batch (N, …) and its N labels.
pub type Labelled = (Tensor, Vec<i32>);

/// Batches of labelled samples, the same for the same epoch whenever they are asked for.
pub trait Source {
    /// Samples of an epoch.
    fn images(&self) -> usize;

    /// Batches of an epoch.
    fn batches(&self) -> usize;

    /// The batches of `epoch` (from 0) in its order, those before `first` left out. It ends after an error.
    fn epoch(&self, epoch: u64, first: usize) -> Box<dyn Iterator<Item = Result<Labelled, DataError>> + '_>;
}

impl Source for Loader {
    fn images(&self) -> usize {
        Loader::images(self)
    }

    fn batches(&self) -> usize {
        Loader::batches(self)
    }

    fn epoch(&self, epoch: u64, first: usize) -> Box<dyn Iterator<Item = Result<Labelled, DataError>> + '_> {
        Box::new(Loader::epoch(self, epoch, first).map(|batch| batch.map(|b| (b.x, b.labels))))
    }
}
