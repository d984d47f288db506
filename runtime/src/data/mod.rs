//! Data sets of labelled pictures behind one trait, and the specifications `FORMAT:PATH` that name them.

pub mod batches;
pub mod idx;
pub mod images;
pub mod npz;

pub use batches::{Batch, Batches, Normalise, batches};

use crate::io::IoError;
use crate::tensor::Tensor;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A data set that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The specification is malformed.
    #[error("data `{spec}`: {problem}; write FORMAT:PATH with FORMAT one of {}", FORMATS.join(", "))]
    Spec {
        /// As given.
        spec: String,
        /// What is wrong.
        problem: String,
    },
    /// A file of it cannot be used.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// The pixels of one picture, in C×H×W order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pixels<'a> {
    /// 8-bit pixels.
    U8(&'a [u8]),
    /// Floats, already scaled.
    F32(&'a [f32]),
}

/// Which part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Split {
    /// For training.
    Train,
    /// For testing.
    #[default]
    Test,
}

impl Split {
    /// `train` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Test => "test",
        }
    }
}

impl FromStr for Split {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "train" => Ok(Split::Train),
            "test" => Ok(Split::Test),
            _ => Err(format!("split `{s}` is unknown; use train or test")),
        }
    }
}

/// Labelled pictures of one shape.
pub trait DataSet: Send + Sync {
    /// Number of pictures.
    fn len(&self) -> usize;
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Channels, height and width of every picture.
    fn shape(&self) -> [usize; 3];
    /// The pixels of picture `i`; `None` if there is no such picture.
    fn image(&self, i: usize) -> Option<Pixels<'_>>;
    /// The label of picture `i`; `None` if there is no such picture.
    fn label(&self, i: usize) -> Option<u32>;
    /// Number of classes.
    fn classes(&self) -> usize;
    /// The classes' names where known.
    fn class_names(&self) -> &[String] {
        &[]
    }
}

/// The formats' names.
pub const FORMATS: [&str; 3] = ["idx", "npz", "images"];

/// A format of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A folder of MNIST's idx files, gzipped or not.
    Idx,
    /// An `.npz` with x (N, C, H, W) and y.
    Npz,
    /// Class folders of pictures, or a `.tar` or `.tar.gz` of such.
    Images,
}

/// A specification `FORMAT:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataSpec {
    /// The format.
    pub format: Format,
    /// Folder or archive.
    pub path: PathBuf,
}

impl DataSpec {
    /// Parses `FORMAT:PATH`.
    ///
    /// # Errors
    /// When there is no colon, the format is unknown or the path empty.
    pub fn parse(spec: &str) -> Result<Self, DataError> {
        let bad = |problem: String| DataError::Spec { spec: spec.to_owned(), problem };
        let (format, path) = spec.split_once(':').ok_or_else(|| bad("there is no colon".into()))?;
        let format = match format {
            "idx" => Format::Idx,
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
    pub fn open(&self, split: Split) -> Result<Box<dyn DataSet>, DataError> {
        let set = match self.format {
            Format::Idx => idx::open(&self.path, split)?,
            Format::Npz => npz::open(&self.path, split)?,
            Format::Images => images::open(&self.path, split)?,
        };
        Ok(Box::new(set))
    }
}

/// A data set held in memory.
#[derive(Clone, Debug)]
pub struct MemorySet {
    shape: [usize; 3],
    pixels: Tensor,
    labels: Vec<u32>,
    classes: usize,
    names: Vec<String>,
}

impl MemorySet {
    /// A set over pixels (N, C, H, W), u8 or f32, and one label each; `names` may be empty. `file` is for messages.
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
            return Err(bad(format!("label {greatest} is above the {} classes", names.len())));
        }
        let classes = names.len().max(greatest + 1);
        Ok(MemorySet { shape: [c, h, w], pixels, labels, classes, names })
    }
}

impl DataSet for MemorySet {
    fn len(&self) -> usize {
        self.labels.len()
    }
    fn shape(&self) -> [usize; 3] {
        self.shape
    }
    fn image(&self, i: usize) -> Option<Pixels<'_>> {
        let size: usize = self.shape.iter().product();
        let range = i.checked_mul(size).and_then(|a| Some(a..a.checked_add(size)?))?;
        match (self.pixels.as_u8(), self.pixels.as_f32()) {
            (Some(v), _) => v.get(range).map(Pixels::U8),
            (_, Some(v)) => v.get(range).map(Pixels::F32),
            _ => None,
        }
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
}

/// Whether bytes start like gzip; unpacks them if so.
pub(crate) fn unzip(bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut out = Vec::new();
    let source = std::io::Read::take(flate2::read::MultiGzDecoder::new(bytes.as_slice()), 8 << 30);
    std::io::copy(&mut { source }, &mut out).map_err(|e| format!("the gzip data is damaged ({e}); copy it again"))?;
    Ok(out)
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
        assert!(DataSpec::parse("idx:/nonexistent").unwrap().open(Split::Test).is_err());
    }
}
