//! The specifications that name data sets: `FORMAT:PATH`, or `digits`.

use super::{DataError, DataSet, Split, cifar10, digits, idx, images, npz, svhn};
use std::path::PathBuf;
use std::sync::Arc;

/// The names of the formats that want a path.
pub const FORMATS: [&str; 5] = ["idx", "cifar10", "svhn", "images", "npz"];

/// A format of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A folder of MNIST's idx files, gzipped or not.
    Idx,
    /// CIFAR-10's binary files in a folder, or `cifar-10-binary.tar.gz`.
    Cifar10,
    /// A folder of SVHN's cropped digits, `train_32x32.mat` and `test_32x32.mat`.
    Svhn,
    /// The built-in set, generated; it has no path.
    Digits,
    /// An `.npz` with x (N, C, H, W) and y.
    Npz,
    /// Class folders of pictures, or a `.tar` or `.tar.gz` of such.
    Images,
}

/// A specification `FORMAT:PATH`, or `digits`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataSpec {
    /// The format.
    pub format: Format,
    /// Folder or archive; empty for digits.
    pub path: PathBuf,
}

impl DataSpec {
    /// Parses `FORMAT:PATH` or `digits`.
    ///
    /// # Errors
    /// When there is no colon, the format is unknown or the path empty.
    pub fn parse(spec: &str) -> Result<Self, DataError> {
        let bad = |problem: String| DataError::Spec { spec: spec.to_owned(), problem };
        if spec == "digits" {
            return Ok(DataSpec { format: Format::Digits, path: PathBuf::new() });
        }
        let (format, path) = spec.split_once(':').ok_or_else(|| bad("there is no colon".into()))?;
        let format = match format {
            "idx" => Format::Idx,
            "cifar10" => Format::Cifar10,
            "svhn" => Format::Svhn,
            "digits" => return Err(bad("digits is built in and has no path".into())),
            "npz" => Format::Npz,
            "images" => Format::Images,
            _ => return Err(bad(format!("format `{format}` is unknown"))),
        };
        if path.is_empty() {
            return Err(bad("the path is empty".into()));
        }
        Ok(DataSpec { format, path: path.into() })
    }

    /// Opens the data set.
    ///
    /// # Errors
    /// When a file is missing or malformed, or the set is empty.
    pub fn open(&self, split: Split) -> Result<Arc<dyn DataSet>, DataError> {
        Ok(match self.format {
            Format::Idx => Arc::new(idx::open(&self.path, split)?),
            Format::Cifar10 => Arc::new(cifar10::open(&self.path, split)?),
            Format::Svhn => Arc::new(svhn::open(&self.path, split)?),
            Format::Digits => Arc::new(digits::Digits::new(split)),
            Format::Npz => Arc::new(npz::open(&self.path, split)?),
            Format::Images => Arc::new(images::open(&self.path, split)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications() {
        let spec = DataSpec::parse("npz:a:b.npz").unwrap();
        assert_eq!((spec.format, spec.path), (Format::Npz, "a:b.npz".into()));
        for bad in ["", "npz", "npz:", "zip:a"] {
            assert!(DataSpec::parse(bad).unwrap_err().to_string().contains("FORMAT:PATH"));
        }
        assert!(DataSpec::parse("digits:x").unwrap_err().to_string().contains("has no path"));
        let digits = DataSpec::parse("digits").unwrap().open(Split::Train).unwrap();
        assert_eq!((digits.shape(), digits.classes()), ([1, 28, 28], 10));
        assert!(DataSpec::parse("idx:/nonexistent").unwrap().open(Split::Test).is_err());
    }
}
