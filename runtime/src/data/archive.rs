//! The files of a folder, or of a `.tar` or `.tar.gz`, under one face: what is inside is the same either way.

use super::unzip;
use crate::io::{self, IoError};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// Depth to which folders are searched.
const DEPTH: usize = 8;

/// Where a file's content is.
#[derive(Clone, Debug)]
pub enum Content {
    /// On the disk.
    File(PathBuf),
    /// In memory, from an archive.
    Bytes(Vec<u8>),
}

impl Content {
    /// The bytes.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(&self) -> Result<std::borrow::Cow<'_, [u8]>, IoError> {
        match self {
            Content::File(file) => Ok(io::read(file)?.into()),
            Content::Bytes(bytes) => Ok(bytes.as_slice().into()),
        }
    }
}

/// The files whose path components `keep` accepts, by these components, in sorted order. Paths that leave the folder,
/// that are not Unicode, and the hidden files `._…` of macOS are left out.
///
/// # Errors
/// When the folder or the archive cannot be read.
pub fn files(path: &Path, mut keep: impl FnMut(&[String]) -> bool) -> Result<BTreeMap<Vec<String>, Content>, IoError> {
    let mut out = BTreeMap::new();
    if path.is_dir() {
        walk(path, &mut Vec::new(), &mut |key, file| {
            if keep(key) {
                out.insert(key.to_vec(), Content::File(file));
            }
        })?;
        return Ok(out);
    }
    let damaged = |e: &dyn std::fmt::Display| {
        IoError::malformed(path, format!("not a readable tar archive ({e}); pass a folder, .tar or .tar.gz"))
    };
    let bytes = unzip(io::read(path)?).map_err(|e| IoError::malformed(path, e))?;
    for entry in tar::Archive::new(bytes.as_slice()).entries().map_err(|e| damaged(&e))? {
        let mut entry = entry.map_err(|e| damaged(&e))?;
        let key = entry.path().ok().and_then(|name| components(&name));
        let Some(key) = key.filter(|key| entry.header().entry_type().is_file() && keep(key)) else { continue };
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(|e| damaged(&e))?;
        if (content.len() as u64) < entry.size() {
            return Err(damaged(&"it is truncated"));
        }
        out.insert(key, Content::Bytes(content));
    }
    Ok(out)
}

/// The components of a relative path; `None` where it leaves the folder or is hidden.
fn components(path: &Path) -> Option<Vec<String>> {
    let mut out = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(p) => out.push(p.to_str()?.to_owned()),
            Component::CurDir => {}
            _ => return None,
        }
    }
    (!out.last()?.starts_with("._")).then_some(out)
}

/// Calls `found` with the components and the path of every file.
fn walk(folder: &Path, key: &mut Vec<String>, found: &mut dyn FnMut(&[String], PathBuf)) -> Result<(), IoError> {
    for entry in std::fs::read_dir(folder).map_err(IoError::system(folder))? {
        let entry = entry.map_err(IoError::system(folder))?;
        let Some(name) = entry.file_name().to_str().filter(|n| !n.starts_with("._")).map(str::to_owned) else {
            continue;
        };
        let file = entry.path();
        key.push(name);
        if file.is_dir() && key.len() <= DEPTH {
            walk(&file, key, found)?;
        } else if file.is_file() {
            found(key, file);
        }
        key.pop();
    }
    Ok(())
}
