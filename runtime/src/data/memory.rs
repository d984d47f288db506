//! A data set held in memory: what the formats of whole files are read into.

use super::{DataError, DataSet, Picture, Pixels};
use crate::io::IoError;
use crate::tensor::Tensor;
use std::path::Path;

/// A data set held in memory.
#[derive(Clone, Debug)]
pub struct MemorySet {
    shape: [usize; 3],
    pixels: Tensor,
    labels: Vec<u32>,
    classes: usize,
    names: Vec<String>,
    file: String,
}

impl MemorySet {
    /// A set over pixels (N, C, H, W), u8 or f32, and one label each; `names`, the classes', may be empty. `file` is for
    /// messages.
    ///
    /// # Errors
    /// When the shape, the element type or the number of labels does not fit, a label is out of range, or it is empty.
    pub fn new(pixels: Tensor, labels: Vec<u32>, names: Vec<String>, file: &Path) -> Result<Self, IoError> {
        let bad = |problem: String| IoError::malformed(file, problem);
        let &[n, c, h, w] = pixels.shape() else {
            return Err(bad(format!("the pictures have shape {:?}; it must be (N, C, H, W)", pixels.shape())));
        };
        if pixels.as_u8().is_none() && pixels.as_f32().is_none() {
            return Err(bad(format!(
                "the pictures are {}; convert them to uint8 or float32",
                pixels.data().type_name()
            )));
        }
        if n != labels.len() {
            return Err(bad(format!("there are {n} pictures and {} labels; they must be as many", labels.len())));
        }
        if n == 0 || c == 0 || h == 0 || w == 0 {
            return Err(bad("there is no picture in it; check the path and --split".into()));
        }
        let greatest = labels.iter().max().map_or(0, |&l| l as usize);
        if !names.is_empty() && greatest >= names.len() {
            let at = labels.iter().position(|&l| l as usize == greatest).unwrap_or_default();
            return Err(bad(format!(
                "picture {at} has the label {greatest}, above the {} classes; correct the labels",
                names.len()
            )));
        }
        let classes = names.len().max(greatest + 1);
        Ok(MemorySet { shape: [c, h, w], pixels, labels, classes, names, file: file.display().to_string() })
    }
}

impl DataSet for MemorySet {
    fn len(&self) -> usize {
        self.labels.len()
    }
    fn shape(&self) -> [usize; 3] {
        self.shape
    }
    fn image(&self, i: usize) -> Result<Picture<'_>, DataError> {
        let size: usize = self.shape.iter().product();
        let range = i.checked_mul(size).and_then(|a| Some(a..a.checked_add(size)?));
        let pixels = range.and_then(|range| match (self.pixels.as_u8(), self.pixels.as_f32()) {
            (Some(v), _) => v.get(range).map(|v| Pixels::U8(v.into())),
            (_, Some(v)) => v.get(range).map(|v| Pixels::F32(v.into())),
            _ => None,
        });
        let pixels = pixels.ok_or_else(|| DataError::absent(self, i))?;
        Ok(Picture { shape: self.shape, pixels })
    }
    fn label(&self, i: usize) -> Option<u32> {
        self.labels.get(i).copied()
    }
    fn classes(&self) -> usize {
        self.classes
    }
    fn class_names(&self) -> &[String] {
        &self.names
    }
    fn name(&self, i: usize) -> String {
        format!("{}, picture {i}", self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Data;

    #[test]
    fn refuses_what_does_not_fit() {
        let x = || Tensor::new([2, 1, 1, 2], Data::U8(vec![1, 2, 3, 4])).unwrap();
        let set = MemorySet::new(x(), vec![0, 4], vec![], "f".as_ref()).unwrap();
        assert_eq!((set.len(), set.classes(), set.label(1), set.label(2)), (2, 5, Some(4), None));
        assert_eq!(set.image(1).unwrap().pixels, Pixels::U8((&[3, 4]).into()));
        assert!(set.image(2).unwrap_err().to_string().contains("f, picture 2"));
        let names = vec!["a".to_owned(), "b".to_owned()];
        let wrong = |x, labels, names| MemorySet::new(x, labels, names, "f".as_ref()).unwrap_err().to_string();
        assert!(wrong(x(), vec![0, 2], names).contains("picture 1 has the label 2"));
        assert!(wrong(x(), vec![0], vec![]).contains("2 pictures and 1 labels"));
        assert!(wrong(x().reshape([2, 2]).unwrap(), vec![0, 1], vec![]).contains("(N, C, H, W)"));
        assert!(wrong(Tensor::new([0, 1, 1, 1], Data::U8(vec![])).unwrap(), vec![], vec![]).contains("no picture"));
    }
}
