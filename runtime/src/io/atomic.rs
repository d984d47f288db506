//! Files that are replaced as a whole or not at all.

use super::IoError;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Fills a file beside `path`, brings it to the disk and renames it into place. Whatever fails, `path` keeps its old
/// content and nothing is left beside it. An existing device or pipe is written to as it is.
///
/// # Errors
/// When the system refuses, or `fill` does.
pub fn replace(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), IoError> {
    let Some(name) = path.file_name() else {
        return Err(IoError::malformed(path, "is no file name; name the output file"));
    };
    if path.exists() && !path.is_file() {
        let open = OpenOptions::new().write(true).open(path);
        return open.and_then(|mut file| fill(&mut file)).map_err(IoError::system(path));
    }
    let mut beside = name.to_owned();
    beside.push(format!(".{}.tmp", std::process::id()));
    let beside = path.with_file_name(beside);
    let done = write_through(&beside, fill).and_then(|()| fs::rename(&beside, path));
    done.map_err(|source| {
        let _ = fs::remove_file(&beside); // nothing better to do: the failure is told already
        IoError::system(path)(source)
    })?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The rename itself must survive a power cut, too; some file systems cannot sync a folder, which is no failure.
    let _ = File::open(folder).and_then(|f| f.sync_all());
    Ok(())
}

fn write_through(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    fill(&mut file)?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_writer_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        replace(&path, |w| w.write_all(b"old")).unwrap();
        let failed = replace(&path, |w| {
            w.write_all(&[7; 1 << 16])?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        assert!(matches!(failed, Err(IoError::System { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        replace(&path, |w| w.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(replace(&folder.path().join("none/a"), |_| Ok(())).is_err());
        assert!(replace(Path::new("/"), |_| Ok(())).is_err());
    }
}
