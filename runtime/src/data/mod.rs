//! Data sets of labelled pictures behind one trait, the specifications `FORMAT:PATH` that name them, and the way from
//! their pictures to batches: [`Transform`] makes a model's input of a picture, [`Loader`] makes the batches of an epoch on
//! background threads.
//!
//! The module knows files, pictures and labels. It must never know models beyond the shape of an input.

mod archive;
pub mod augment;
pub mod check;
pub mod cifar10;
pub mod digits;
pub mod idx;
pub mod images;
pub mod loader;
mod mat;
pub mod memory;
pub mod normalise;
pub mod npz;
pub mod random;
pub mod resize;
pub mod spec;
pub mod subset;
pub mod svhn;
pub mod transform;

pub use augment::Augment;
pub use check::check;
pub use loader::{Batch, Epoch, Loader, LoaderOptions};
pub use memory::MemorySet;
pub use normalise::Normalise;
pub use spec::{DataSpec, FORMATS, Format};
pub use subset::{Subset, split_validation};
pub use transform::Transform;

use crate::io::IoError;
use std::borrow::Cow;
use std::str::FromStr;

/// A data set that cannot be opened or does not fit.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The specification is malformed.
    #[error("data `{spec}`: {problem}; write digits, or FORMAT:PATH with FORMAT one of {}", FORMATS.join(", "))]
    Spec {
        /// As given.
        spec: String,
        /// What is wrong.
        problem: String,
    },
    /// A file of it cannot be used.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A picture of it cannot be used.
    #[error("{picture}: {problem}")]
    Picture {
        /// The picture's name, see [`DataSet::name`].
        picture: String,
        /// The problem and the remedy.
        problem: String,
    },
    /// The set as a whole does not fit what is asked of it: the problem and the remedy.
    #[error("{0}")]
    Unfit(String),
    /// A thread of the loader could not start or ended before its work: the machine's trouble or a defect.
    #[error("a thread that loads pictures {0}; use fewer threads, or report the defect")]
    Thread(String),
}

impl DataError {
    /// Picture `i` of `set` cannot be used.
    pub(crate) fn picture(set: &dyn DataSet, i: usize, problem: impl Into<String>) -> Self {
        DataError::Picture { picture: set.name(i), problem: problem.into() }
    }

    /// The label of picture `i` is none of a model's `classes`.
    pub(crate) fn label(set: &dyn DataSet, i: usize, classes: usize) -> Self {
        let label = set.label(i).unwrap_or_default();
        let name = set.class_names().get(label as usize).map(|n| format!(" ({n})")).unwrap_or_default();
        let problem = format!(
            "its label is {label}{name}, but the model has {classes} classes, 0 to {}; choose a model with at least {} outputs, or correct the labels",
            classes.saturating_sub(1),
            set.classes()
        );
        Self::picture(set, i, problem)
    }

    /// There is no picture `i`.
    pub(crate) fn absent(set: &dyn DataSet, i: usize) -> Self {
        Self::picture(set, i, format!("there is no such picture; the set has {}", set.len()))
    }
}

/// The pixels of one picture, in C×H×W order.
#[derive(Clone, Debug, PartialEq)]
pub enum Pixels<'a> {
    /// 8-bit pixels.
    U8(Cow<'a, [u8]>),
    /// Floats, already scaled.
    F32(Cow<'a, [f32]>),
}

/// One picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture<'a> {
    /// Channels, height and width.
    pub shape: [usize; 3],
    /// As many as the shape says.
    pub pixels: Pixels<'a>,
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

/// Labelled pictures, read by any number of threads.
pub trait DataSet: Send + Sync {
    /// Number of pictures.
    fn len(&self) -> usize;
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Channels, height and width of the first picture, and in most formats of all.
    fn shape(&self) -> [usize; 3];
    /// Picture `i`, from memory, from its file, or drawn.
    ///
    /// # Errors
    /// When there is no such picture, or it cannot be read.
    fn image(&self, i: usize) -> Result<Picture<'_>, DataError>;
    /// The label of picture `i`; `None` if there is no such picture.
    fn label(&self, i: usize) -> Option<u32>;
    /// Number of classes.
    fn classes(&self) -> usize;
    /// The classes' names where known.
    fn class_names(&self) -> &[String] {
        &[]
    }
    /// What messages call picture `i`: its file, or its place.
    fn name(&self, i: usize) -> String;
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
