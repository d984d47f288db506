//! Files of tensors: `.npy`, `.npz`, `.png`, `.jpg`.
//!
//! Every reader is bounded by the size of its file: a header that promises more than the file holds is an error, never an
//! allocation. Writers write beside the target and rename, so that a failure leaves no partial file.

pub mod atomic;
pub mod npy;
pub mod npz;
pub mod picture;

pub use atomic::replace;

use crate::tensor::Tensor;
use std::path::Path;

/// A file that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IoError {
    /// The system refused.
    #[error("{file}: {source}; check the path, its permissions and the disk")]
    System {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The content is not what it should be.
    #[error("{file}: {problem}")]
    Malformed {
        /// The file.
        file: String,
        /// The problem and the remedy.
        problem: String,
    },
}

impl IoError {
    /// A problem with the content of `file`.
    pub(crate) fn malformed(file: &Path, problem: impl std::fmt::Display) -> Self {
        IoError::Malformed { file: file.display().to_string(), problem: problem.to_string() }
    }

    /// A problem with the system.
    pub(crate) fn system(file: &Path) -> impl Fn(std::io::Error) -> IoError + '_ {
        |source| IoError::System { file: file.display().to_string(), source }
    }
}

/// The whole file.
pub(crate) fn read(file: &Path) -> Result<Vec<u8>, IoError> {
    std::fs::read(file).map_err(IoError::system(file))
}

/// Writes the whole file, all or nothing.
pub(crate) fn write(file: &Path, bytes: &[u8]) -> Result<(), IoError> {
    replace(file, |to| to.write_all(bytes))
}

/// Reads tensors by the file's suffix: one without a name from `.npy` and pictures, the named arrays of an `.npz`.
/// `channels` is how many a picture shall have (1 or 3).
///
/// # Errors
/// When the file cannot be read, is malformed or of an unknown kind.
pub fn read_tensors(file: &Path, channels: usize) -> Result<Vec<(String, Tensor)>, IoError> {
    let suffix = file.extension().map(|s| s.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    match suffix.as_str() {
        "npy" => Ok(vec![(String::new(), npy::read(file)?)]),
        "npz" => npz::read(file),
        "png" | "jpg" | "jpeg" => Ok(vec![(String::new(), picture::read(file, channels, None, false)?)]),
        _ => Err(IoError::malformed(file, "unknown kind of input; pass .npy, .npz, .png or .jpg")),
    }
}

/// Writes named tensors: `.npy` takes exactly one, `.npz` any number.
///
/// # Errors
/// When the suffix is another, the number does not fit or the system refuses.
pub fn write_tensors(file: &Path, tensors: &[(String, Tensor)]) -> Result<(), IoError> {
    let suffix = file.extension().map(|s| s.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    match (suffix.as_str(), tensors) {
        ("npy", [(_, tensor)]) => npy::write(file, tensor),
        ("npy", _) => {
            Err(IoError::malformed(file, format!("{} outputs do not fit in an .npy; name an .npz", tensors.len())))
        }
        ("npz", _) => npz::write(file, tensors),
        _ => Err(IoError::malformed(file, "unknown kind of output; name an .npy or .npz")),
    }
}
