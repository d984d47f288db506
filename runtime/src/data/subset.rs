//! Part of a data set, without a copy of its pictures; and the split of a set for training and validation.

use super::{DataError, DataSet, Picture, random};
use std::sync::Arc;

/// Tells the hash of the validation split from the loader's.
const SPLIT: u64 = 0x5b11_7000;

/// The pictures of another set at some indices.
#[derive(Clone)]
pub struct Subset {
    set: Arc<dyn DataSet>,
    indices: Vec<usize>,
}

impl Subset {
    /// The pictures of `set` at `indices`, in that order.
    ///
    /// # Errors
    /// When an index does not exist.
    pub fn new(set: Arc<dyn DataSet>, indices: Vec<usize>) -> Result<Self, DataError> {
        match indices.iter().find(|&&i| i >= set.len()) {
            Some(&i) => Err(DataError::absent(&*set, i)),
            None => Ok(Subset { set, indices }),
        }
    }

    /// The first `n` pictures of a random order given by `seed`, or all if there are fewer: a spread also of a set that
    /// stands class by class.
    pub fn sample(set: Arc<dyn DataSet>, n: usize, seed: u64) -> Self {
        let mut indices = random::permutation(set.len(), random::key(&[SPLIT, seed]));
        indices.truncate(n);
        indices.sort_unstable();
        Subset { set, indices }
    }

    fn at(&self, i: usize) -> usize {
        self.indices.get(i).copied().unwrap_or(usize::MAX)
    }
}

impl DataSet for Subset {
    fn len(&self) -> usize {
        self.indices.len()
    }
    fn shape(&self) -> [usize; 3] {
        self.set.shape()
    }
    fn image(&self, i: usize) -> Result<Picture<'_>, DataError> {
        self.set.image(self.at(i))
    }
    fn label(&self, i: usize) -> Option<u32> {
        self.set.label(self.at(i))
    }
    fn classes(&self) -> usize {
        self.set.classes()
    }
    fn class_names(&self) -> &[String] {
        self.set.class_names()
    }
    fn name(&self, i: usize) -> String {
        self.set.name(self.at(i))
    }
}

/// Divides `set` at random, but always alike for a `seed`: (for training, for validation). The second part has
/// round(len·fraction) pictures, both stand in the set's order.
///
/// # Errors
/// When a part would be empty.
pub fn split_validation(set: &Arc<dyn DataSet>, fraction: f64, seed: u64) -> Result<(Subset, Subset), DataError> {
    let n = set.len();
    let held = (n as f64 * fraction).round();
    if !(held >= 1.0 && held < n as f64) {
        return Err(DataError::Unfit(format!(
            "a validation fraction of {fraction} leaves a part of the {n} pictures empty; choose one in between, such as 0.1"
        )));
    }
    let mut order = random::permutation(n, random::key(&[SPLIT, seed]));
    let mut train = order.split_off(held as usize);
    train.sort_unstable();
    order.sort_unstable();
    Ok((Subset { set: set.clone(), indices: train }, Subset { set: set.clone(), indices: order }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::MemorySet;
    use crate::tensor::{Data, Tensor};

    #[test]
    fn the_parts_are_disjoint_and_complete() {
        let x = Tensor::new([50, 1, 1, 1], Data::U8((0..50).collect())).unwrap();
        let set: Arc<dyn DataSet> = Arc::new(MemorySet::new(x, (0..50).collect(), vec![], "f".as_ref()).unwrap());
        let (train, held) = split_validation(&set, 0.2, 3).unwrap();
        assert_eq!((train.len(), held.len(), held.classes()), (40, 10, 50));
        let labels = |s: &Subset| (0..s.len()).map(|i| s.label(i).unwrap()).collect::<Vec<_>>();
        let mut all = [labels(&train), labels(&held)].concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..50));
        assert_eq!(labels(&held), labels(&split_validation(&set, 0.2, 3).unwrap().1));
        assert_ne!(labels(&held), labels(&split_validation(&set, 0.2, 4).unwrap().1));
        for bad in [0.0, 1.0, -1.0, f64::NAN, 0.001] {
            assert!(split_validation(&set, bad, 3).is_err());
        }
        assert!(Subset::new(set.clone(), vec![1, 50]).is_err());
        assert!(held.image(10).is_err());
        assert_eq!((Subset::sample(set.clone(), 7, 1).len(), Subset::sample(set, 70, 1).len()), (7, 50));
    }
}
