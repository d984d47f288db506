//! The best checkpoint: that of the epoch after which most validation images were labelled right.

use super::checkpoint::Checkpoint;
use super::error::TrainError;
use super::progress::Progress;
use std::path::{Path, PathBuf};

/// Checks that a best checkpoint can be kept at `best`.
///
/// # Errors
/// When it is the place of the last checkpoint, or no images are evaluated.
pub fn check(best: &Path, output: Option<&Path>, evaluated: bool) -> Result<(), TrainError> {
    let fail = |problem| Err(TrainError::Best { file: best.display().to_string(), problem });
    if output.is_some_and(|o| real(o) == real(best)) {
        return fail("is also the place of the last checkpoint; name another file for the best one");
    }
    if !evaluated {
        return fail(
            "there are no images by which to tell the best checkpoint; give a test set or a validation fraction",
        );
    }
    Ok(())
}

/// A file's path without links and detours, as far as the system knows it.
fn real(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = || Some(parent.canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(beside).unwrap_or_else(|| path.to_owned())
}

/// The best epoch that a resumed training starts with: the stored one, if `best` still holds its checkpoint. Else the
/// figure has no file, and the next epoch is the best so far.
pub fn resumed(best: &Path, stored: &Progress) -> Option<u64> {
    let record = stored.best_record()?;
    let held = Checkpoint::read(best).ok()?.progress?;
    (held.batch == 0 && held.history.last() == Some(record)).then_some(record.epoch)
}
