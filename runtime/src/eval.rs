//! Accuracy of a classifier on a data set.

use crate::data::{DataSet, Normalise, batches};
use crate::tensor::{Data, Tensor};

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

/// Runs `model` (pictures (N, C, H, W) to scores (N, classes)) over the set in batches and counts the labels that agree.
///
/// # Errors
/// When the model fails or gives no scores.
pub fn accuracy<E: std::error::Error + 'static>(
    set: &dyn DataSet,
    batch: usize,
    normalise: Normalise,
    mut model: impl FnMut(Tensor) -> Result<Tensor, E>,
) -> Result<Accuracy, EvalError<E>> {
    let mut found = Accuracy { correct: 0, images: 0 };
    for part in batches(set, batch, normalise) {
        let n = part.labels.len();
        let scores = model(part.x).map_err(EvalError::Run)?;
        let given = labels(&scores, n).ok_or_else(|| EvalError::Scores { shape: scores.shape().to_vec(), batch: n })?;
        found.correct += given.iter().zip(&part.labels).filter(|(a, b)| a == b).count();
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
        let x = Tensor::f32([3, 2, 1, 1], vec![1.0, 0.0, 0.0, 1.0, 0.5, 0.5]).unwrap();
        let set = MemorySet::new(x, vec![0, 1, 1], vec![], "t".as_ref()).unwrap();
        let same = |x: Tensor| {
            let n = x.shape()[0];
            x.reshape([n, 2])
        };
        let found = accuracy(&set, 2, Normalise::default(), same).unwrap();
        assert_eq!((found.correct, found.images), (2, 3));
        let wrong =
            accuracy(&set, 2, Normalise::default(), |_| Ok::<_, crate::tensor::ShapeError>(Tensor::scalar(1.0)));
        assert!(matches!(wrong, Err(EvalError::Scores { .. })));
    }
}
