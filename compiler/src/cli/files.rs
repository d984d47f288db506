//! Output files: all of a command's are written beside their places first and renamed together, so that a failure leaves
//! no partial file and no half of a set.

use super::{Failure, Outcome};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Files to write.
#[derive(Default)]
pub struct Outputs(Vec<(PathBuf, Vec<u8>)>);

impl Outputs {
    /// Adds a file.
    pub fn add(&mut self, path: &Path, bytes: impl Into<Vec<u8>>) {
        self.0.push((path.to_owned(), bytes.into()));
    }

    /// Writes all files, or none.
    ///
    /// # Errors
    /// Names the file; a full disk is a failure of the run, a path that cannot be written a wrong argument.
    pub fn commit(self) -> Outcome {
        let mut written: Vec<(PathBuf, &Path)> = Vec::new();
        let mut outcome = Ok(());
        for (path, bytes) in &self.0 {
            let done = beside(path, bytes).map(|temporary| written.extend(temporary.map(|t| (t, path.as_path()))));
            outcome = done.map_err(|e| failure(path, &e));
            if outcome.is_err() {
                break;
            }
        }
        for (temporary, path) in written {
            if outcome.is_ok() {
                outcome = fs::rename(&temporary, path).map_err(|e| failure(path, &e));
            }
            if outcome.is_err() {
                let _ = fs::remove_file(&temporary); // nothing better to do: the failure is told already
            }
        }
        outcome
    }
}

/// Checks, before any work is done, that files can be written there and that no two are the same.
///
/// # Errors
/// One line a path.
pub fn check(paths: &[&Path]) -> Outcome {
    let mut problems = Vec::new();
    for (i, path) in paths.iter().enumerate() {
        let shown = path.display();
        if path.is_dir() || path.file_name().is_none() {
            problems.push(format!("{shown}: is a folder; name a file"));
        } else if !folder(path).is_dir() {
            problems.push(format!("{shown}: there is no folder {}; make it or name another", folder(path).display()));
        } else if paths.get(..i).is_some_and(|before| before.contains(path)) {
            problems.push(format!("{shown}: is named for two outputs; name two files"));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::Input(problems.join("\n"))) }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a file beside `path` and gives its name; a device or pipe is written to as it is.
fn beside(path: &Path, bytes: &[u8]) -> io::Result<Option<PathBuf>> {
    if path.exists() && !path.is_file() {
        return OpenOptions::new().write(true).open(path)?.write_all(bytes).map(|()| None);
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    match File::create(&temporary).and_then(|mut f| f.write_all(bytes)) {
        Ok(()) => Ok(Some(temporary)),
        Err(error) => {
            let _ = fs::remove_file(&temporary); // as above
            Err(error)
        }
    }
}

fn failure(path: &Path, error: &io::Error) -> Failure {
    let text = format!("{}: cannot write: {error}; check the path, its permissions and the disk", path.display());
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::IsADirectory | ErrorKind::NotADirectory => {
            Failure::Input(text)
        }
        _ => Failure::Run(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_or_none() {
        let folder = tempfile::tempdir().expect("folder");
        let (a, b) = (folder.path().join("a"), folder.path().join("none/b"));
        let mut outputs = Outputs::default();
        outputs.add(&a, *b"a");
        outputs.add(&b, *b"b");
        assert!(matches!(outputs.commit(), Err(Failure::Input(_))));
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 0);
        assert!(check(&[&a, &b]).is_err() && check(&[&a, &a]).is_err() && check(&[folder.path()]).is_err());
        let mut outputs = Outputs::default();
        outputs.add(&a, *b"a");
        assert!(check(&[&a]).is_ok() && outputs.commit().is_ok());
        assert_eq!(fs::read(&a).expect("written"), b"a");
    }

    #[test]
    fn a_full_disk_is_a_failure_of_the_run() {
        let full = Path::new("/dev/full");
        if full.exists() {
            let mut outputs = Outputs::default();
            outputs.add(full, *b"a");
            assert!(matches!(outputs.commit(), Err(Failure::Run(_))));
        }
    }
}
