//! An `.npz` with `x` (N, C, H, W; uint8 are pixels, float32 is taken as it is) and `y` (N). A folder holds `train.npz` and
//! `test.npz`.

use super::{MemorySet, Split};
use crate::io::{self, IoError};
use crate::tensor::Data;
use std::path::Path;

/// Opens a file, or the split's file of a folder.
///
/// # Errors
/// When it is missing or malformed.
pub fn open(path: &Path, split: Split) -> Result<MemorySet, IoError> {
    let inside = path.join(format!("{}.npz", split.name()));
    let file = if path.is_dir() { inside.as_path() } else { path };
    let (mut x, mut y) = (None, None);
    for (name, tensor) in io::npz::read(file)? {
        match name.as_str() {
            "x" => x = Some(tensor),
            "y" => y = Some(tensor),
            _ => {}
        }
    }
    let missing = |n: &str| {
        IoError::malformed(file, format!("there is no array `{n}`; save it with numpy.savez(file, x=…, y=…)"))
    };
    let (x, y) = (x.ok_or_else(|| missing("x"))?, y.ok_or_else(|| missing("y"))?);
    let labels: Option<Vec<u32>> = match y.data() {
        Data::U8(v) => Some(v.iter().map(|&l| u32::from(l)).collect()),
        Data::I32(v) => v.iter().map(|&l| u32::try_from(l).ok()).collect(),
        Data::I64(v) => v.iter().map(|&l| u32::try_from(l).ok()).collect(),
        Data::F32(_) => None,
    };
    let labels =
        labels.ok_or_else(|| IoError::malformed(file, "the labels `y` must be integers ≥ 0; save them as int64"))?;
    MemorySet::new(x, labels, Vec::new(), file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DataSet;
    use crate::tensor::Tensor;

    #[test]
    fn reads_and_refuses() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("test.npz");
        let x = Tensor::new([2, 1, 1, 2], Data::U8(vec![1, 2, 3, 4])).unwrap();
        let y = |v: Vec<i64>| Tensor::new([v.len()], Data::I64(v)).unwrap();
        let put = |arrays: &[(&str, Tensor)]| {
            let named: Vec<_> = arrays.iter().map(|(n, t)| ((*n).to_owned(), t.clone())).collect();
            io::npz::write(&file, &named).unwrap();
        };
        put(&[("x", x.clone()), ("y", y(vec![3, 0]))]);
        let set = open(dir.path(), Split::Test).unwrap();
        assert_eq!((set.len(), set.classes(), set.label(1)), (2, 4, Some(0)));
        for bad in [y(vec![1]), y(vec![-1, 0]), Tensor::f32([2], vec![0.0; 2]).unwrap()] {
            put(&[("x", x.clone()), ("y", bad)]);
            assert!(open(&file, Split::Test).is_err());
        }
        put(&[("x", x)]);
        assert!(open(&file, Split::Test).unwrap_err().to_string().contains("`y`"));
    }
}
