//! SVHN's cropped digits: a folder with `train_32x32.mat` and `test_32x32.mat`, or one such file (`extra_32x32.mat`, say).
//! `X` is uint8 in H×W×C×N, the first fastest; `y` has 1 to 9, and 10 for the digit 0.

use super::{MemorySet, Split, mat};
use crate::io::{self, IoError};
use crate::tensor::{Data, Tensor};
use std::path::Path;

/// Opens the split's file of a folder, or a file.
///
/// # Errors
/// When the file is missing or malformed, or a label is out of range.
pub fn open(path: &Path, split: Split) -> Result<MemorySet, IoError> {
    let inside = path.join(format!("{}_32x32.mat", split.name()));
    let file = if path.is_dir() { inside.as_path() } else { path };
    if !file.is_file() {
        return Err(IoError::malformed(
            file,
            "there is no such file; svhn:PATH is the folder of train_32x32.mat and test_32x32.mat, or one of them",
        ));
    }
    let bad = |problem: String| IoError::malformed(file, problem);
    let arrays = mat::parse(&io::read(file)?, &["X", "y"]).map_err(bad)?;
    let array = |name: &str| {
        let found = arrays.iter().find(|a| a.name == name);
        found.ok_or_else(|| bad(format!("there is no numeric array `{name}`; download the cropped digits (format 2)")))
    };
    let (x, y) = (array("X")?, array("y")?);
    let labels: Result<Vec<u32>, String> =
        y.numbers().unwrap_or_default().into_iter().enumerate().map(|(i, label)| digit(i, label)).collect();
    let labels = labels.map_err(bad)?;
    let (Some(pixels), &[h, w, c, n]) = (x.as_u8(), x.dims.as_slice()) else {
        return Err(bad(format!("X has shape {:?}; it must be uint8 of (32, 32, 3, N)", x.dims)));
    };
    let mut planes = Vec::with_capacity(pixels.len());
    for plane in pixels.chunks((h * w).max(1)) {
        // A plane's columns lie one after another.
        planes.extend((0..h).flat_map(|y| plane.iter().skip(y).step_by(h.max(1)).copied()));
    }
    let pixels = Tensor::new([n, c, h, w], Data::U8(planes)).map_err(|e| bad(e.to_string()))?;
    MemorySet::new(pixels, labels, (0..10).map(|d| d.to_string()).collect(), file)
}

/// The digit of label `label` of picture `i`.
fn digit(i: usize, label: f64) -> Result<u32, String> {
    match label {
        10.0 => Ok(0),
        _ if label.fract() == 0.0 && (0.0..10.0).contains(&label) => Ok(label as u32),
        _ => Err(format!("picture {i} has the label {label}; labels are 1 to 10 (10 for the digit 0), correct them")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::mat::write;
    use super::*;
    use crate::data::{DataSet, Pixels};

    fn put(path: &Path, x: (&[i32], &[u8]), labels: &[u8]) {
        let x = write::matrix("X", 9, x.0, 2, x.1);
        // MATLAB stores whole doubles as bytes.
        let y = write::matrix("y", 6, &[labels.len() as i32, 1], 2, labels);
        std::fs::write(path, write::file(&[x, y], true)).unwrap();
    }

    #[test]
    fn pictures_stand_upright_and_ten_is_zero() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("train_32x32.mat");
        let pixels: Vec<u8> = (0..36).collect();
        put(&file, (&[2, 3, 3, 2], &pixels), &[10, 9]);
        for path in [dir.path(), &file] {
            let set = open(path, Split::Train).unwrap();
            assert_eq!((set.len(), set.shape(), set.classes()), (2, [3, 2, 3], 10));
            assert_eq!((set.label(0), set.label(1)), (Some(0), Some(9)));
            let Pixels::U8(pixels) = set.image(1).unwrap().pixels else { panic!("bytes") };
            assert_eq!(pixels[..7], [18, 20, 22, 19, 21, 23, 24]);
        }
        let message = |path: &Path| open(path, Split::Train).unwrap_err().to_string();
        put(&file, (&[2, 3, 3, 2], &pixels), &[10, 11]);
        assert!(message(&file).contains("picture 1 has the label 11"));
        put(&file, (&[2, 3, 3, 2], &pixels), &[1]);
        assert!(message(&file).contains("2 pictures and 1 labels"));
        put(&file, (&[6, 6], &pixels), &[1]);
        assert!(message(&file).contains("[6, 6]"));
        std::fs::write(&file, write::file(&[], true)).unwrap();
        assert!(message(&file).contains("`X`"));
        assert!(open(dir.path(), Split::Test).unwrap_err().to_string().contains("test_32x32.mat"));
    }
}
