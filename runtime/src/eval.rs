//! Accuracy of a classifier on a data set.

use crate::data::{DataError, DataSet, Loader, LoaderOptions, Transform};
use crate::tensor::{Data, Tensor};
use std::sync::Arc;

/// What an evaluation found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accuracy {
    /// Pictures labelled right.
    pub correct: usize,
    /// Pictures.
    pub images: usize,
}

impl Accuracy {
    /// The fraction labelled right.
    pub fn fraction(&self) -> f64 {
        if self.images == 0 { 0.0 } else { self.correct as f64 / self.images as f64 }
    }
}

/// An evaluation that failed.
#[derive(Debug, thiserror::Error)]
pub enum EvalError<E: std::error::Error + 'static> {
    /// The model failed.
    #[error(transparent)]
    Run(E),
    /// A picture cannot be read, or does not fit the others.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The scores are no scores.
    #[error(
        "the model's first output has shape {shape:?} for {batch} pictures; it must give one row of scores a picture"
    )]
    Scores {
        /// Of the output.
        shape: Vec<usize>,
        /// Pictures.
        batch: usize,
    },
}

/// The label of a row of scores: the greatest, of equal ones the lowest; NaN never wins.
pub fn argmax<T: PartialOrd + Copy>(row: &[T]) -> u32 {
    let mut best: Option<(u32, T)> = None;
    for (label, &score) in (0u32..).zip(row) {
        let better = best.is_none_or(|(_, b)| score > b);
        if better && score.partial_cmp(&score).is_some() {
            best = Some((label, score));
        }
    }
    best.map_or(0, |(label, _)| label)
}

/// The labels of scores (N, …); `None` if the tensor does not hold `batch` rows. One integer a row is a label itself.
pub fn labels(scores: &Tensor, batch: usize) -> Option<Vec<u32>> {
    let width = scores.len().checked_div(batch)?;
    if width == 0 || scores.shape().first() != Some(&batch) {
        return None;
    }
    fn each<T: PartialOrd + Copy>(v: &[T], width: usize) -> Vec<u32> {
        v.chunks(width).map(argmax).collect()
    }
    Some(match scores.data() {
        Data::I64(v) if width == 1 => v.iter().map(|&l| u32::try_from(l).unwrap_or(u32::MAX)).collect(),
        Data::I32(v) if width == 1 => v.iter().map(|&l| u32::try_from(l).unwrap_or(u32::MAX)).collect(),
        Data::F32(v) => each(v, width),
        Data::U8(v) => each(v, width),
        Data::I32(v) => each(v, width),
        Data::I64(v) => each(v, width),
    })
}

/// Runs `model` (pictures (N, C, H, W) to scores (N, classes)) over the set in batches and counts the labels that agree. The
/// pictures are read in the background.
///
/// # Errors
/// When a picture cannot be read, its label is none of the model's, or the model fails or gives no scores.
pub fn accuracy<E: std::error::Error + 'static>(
    set: &Arc<dyn DataSet>,
    batch: usize,
    transform: Transform,
    mut model: impl FnMut(Tensor) -> Result<Tensor, E>,
) -> Result<Accuracy, EvalError<E>> {
    let mut found = Accuracy { correct: 0, images: 0 };
    let loader = Loader::new(set.clone(), LoaderOptions { batch, transform, ..LoaderOptions::default() });
    for part in loader.epoch(0, 0) {
        let part = part?;
        let n = part.labels.len();
        let scores = model(part.x).map_err(EvalError::Run)?;
        let given = labels(&scores, n).ok_or_else(|| EvalError::Scores { shape: scores.shape().to_vec(), batch: n })?;
        let classes = scores.len() / n.max(1);
        if let Some(at) = part.labels.iter().position(|&l| classes > 1 && l as usize >= classes) {
            return Err(DataError::label(&**set, found.images + at, classes).into());
        }
        found.correct += given.iter().zip(&part.labels).filter(|&(&a, &b)| i64::from(a) == i64::from(b)).count();
        found.images += n;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::MemorySet;

    #[test]
    fn equal_scores_give_the_lowest_label() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), 1);
        assert_eq!(argmax(&[f32::NAN, -1.0]), 1);
        assert_eq!(argmax(&[f32::NAN]), 0);
    }

    #[test]
    fn counts() {
        let set_x = || Tensor::f32([3, 2, 1, 1], vec![1.0, 0.0, 0.0, 1.0, 0.5, 0.5]).unwrap();
        let set: Arc<dyn DataSet> = Arc::new(MemorySet::new(set_x(), vec![0, 1, 1], vec![], "t".as_ref()).unwrap());
        let same = |x: Tensor| {
            let n = x.shape()[0];
            x.reshape([n, 2])
        };
        let found = accuracy(&set, 2, Transform::default(), same).unwrap();
        assert_eq!((found.correct, found.images), (2, 3));
        let high = MemorySet::new(set_x(), vec![0, 1, 2], vec![], "t".as_ref()).unwrap();
        let wrong = accuracy(&(Arc::new(high) as Arc<dyn DataSet>), 2, Transform::default(), same).unwrap_err();
        assert!(wrong.to_string().contains("t, picture 2: its label is 2"), "{wrong}");
        let wrong =
            accuracy(&set, 2, Transform::default(), |_| Ok::<_, crate::tensor::ShapeError>(Tensor::scalar(1.0)));
        assert!(matches!(wrong, Err(EvalError::Scores { .. })));
    }
}
