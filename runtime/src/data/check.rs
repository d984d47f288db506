//! Whether a data set fits a model, found out before a long run.

use super::{DataError, DataSet, Transform};

/// Checks that the pictures of `set` become a model's `input` (channels, height, width) under `transform`, and that every
/// label is one of its `classes`.
///
/// # Errors
/// Names the first picture that does not fit, and the remedy.
pub fn check(set: &dyn DataSet, transform: &Transform, input: [usize; 3], classes: usize) -> Result<(), DataError> {
    if set.is_empty() {
        return Err(DataError::Unfit("the data set has no picture; check its path and split".into()));
    }
    let shape = transform.output(set.shape()).map_err(|problem| DataError::picture(set, 0, problem))?;
    if shape != input {
        let times = |[c, h, w]: [usize; 3]| format!("{c}×{h}×{w}");
        let problem = format!(
            "pictures of {} (channels × height × width) do not fit: {} arrives and the model takes {}; ask for resizing (--resize), or choose another data set or model",
            times(set.shape()),
            times(shape),
            times(input)
        );
        return Err(DataError::picture(set, 0, problem));
    }
    let wrong = (0..set.len()).find(|&i| set.label(i).is_some_and(|l| l as usize >= classes));
    wrong.map_or(Ok(()), |i| Err(DataError::label(set, i, classes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{MemorySet, Normalise};
    use crate::tensor::{Data, Tensor};

    #[test]
    fn says_which_picture_does_not_fit() {
        let x = Tensor::new([3, 1, 1, 2], Data::U8(vec![0; 6])).unwrap();
        let set = MemorySet::new(x, vec![0, 1, 3], vec![], "f".as_ref()).unwrap();
        let fit = Transform::fit([3, 4, 4], true, Normalise::default());
        check(&set, &fit, [3, 4, 4], 4).unwrap();
        let text = check(&set, &fit, [3, 4, 4], 3).unwrap_err().to_string();
        assert!(text.contains("f, picture 2: its label is 3") && text.contains("0 to 2"), "{text}");
        let text = check(&set, &Transform::default(), [1, 28, 28], 4).unwrap_err().to_string();
        assert!(text.contains("1×1×2") && text.contains("1×28×28"), "{text}");
    }
}
