//! Pictures in class folders, `[…/][train|test/]CLASS/PICTURE`, in a folder or a `.tar`/`.tar.gz`. Classes are numbered in
//! sorted order, pictures stand in sorted order of class and name. All must have one size.

use super::{MemorySet, Split, unzip};
use crate::io::{self, IoError, picture};
use crate::tensor::{Data, Tensor};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Depth to which folders are searched.
const DEPTH: usize = 8;

/// Opens a folder or archive. Where folders called `train` and `test` occur, only the split's pictures count.
///
/// # Errors
/// When it cannot be read, holds no pictures, or a picture is malformed or of another size than the first.
pub fn open(path: &Path, split: Split) -> Result<MemorySet, IoError> {
    let mut files = BTreeMap::new();
    if path.is_dir() {
        let mut found = Vec::new();
        walk(path, 0, &mut found)?;
        let keep = select(found.iter().filter_map(|f| parts(f.strip_prefix(path).ok()?)).collect(), split);
        for key in keep {
            let file = key.iter().fold(path.to_owned(), |p, part| p.join(part));
            files.insert(key, io::read(&file)?);
        }
    } else {
        let damaged = |e: &dyn std::fmt::Display| {
            IoError::malformed(path, format!("not a readable tar archive ({e}); pass a folder, .tar or .tar.gz"))
        };
        let bytes = unzip(io::read(path)?).map_err(|e| IoError::malformed(path, e))?;
        let mut members = BTreeMap::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().map_err(|e| damaged(&e))? {
            let mut entry = entry.map_err(|e| damaged(&e))?;
            let name = entry.path().map_err(|e| damaged(&e))?.into_owned();
            if let (true, Some(key)) = (entry.header().entry_type().is_file(), parts(&name)) {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).map_err(|e| damaged(&e))?;
                if (content.len() as u64) < entry.size() {
                    return Err(damaged(&"it is truncated"));
                }
                members.insert(key, content);
            }
        }
        for key in select(members.keys().cloned().collect(), split) {
            files.extend(members.remove_entry(&key));
        }
    }
    decode_all(path, &files)
}

/// The components of a picture's path; `None` for other files and paths that leave the folder.
fn parts(path: &Path) -> Option<Vec<String>> {
    let suffix = path.extension()?.to_str()?.to_ascii_lowercase();
    if !matches!(suffix.as_str(), "png" | "jpg" | "jpeg") {
        return None;
    }
    let mut out = Vec::new();
    for part in path.components() {
        match part {
            std::path::Component::Normal(p) => out.push(p.to_str()?.to_owned()),
            std::path::Component::CurDir => {}
            _ => return None,
        }
    }
    let hidden = out.last()?.starts_with("._");
    (out.len() >= 2 && !hidden).then_some(out)
}

/// Those of the split, if there are split folders.
fn select(keys: Vec<Vec<String>>, split: Split) -> Vec<Vec<String>> {
    // A split folder stands above the class folder; the class itself may have any name.
    let has = |k: &Vec<String>, name: &str| k.iter().rev().skip(2).any(|p| p == name);
    let divided = keys.iter().any(|k| has(k, "train") || has(k, "test"));
    keys.into_iter().filter(|k| !divided || has(k, split.name())).collect()
}

fn walk(folder: &Path, depth: usize, out: &mut Vec<PathBuf>) -> Result<(), IoError> {
    for entry in std::fs::read_dir(folder).map_err(IoError::system(folder))? {
        let file = entry.map_err(IoError::system(folder))?.path();
        if file.is_dir() && depth < DEPTH {
            walk(&file, depth + 1, out)?;
        } else if file.is_file() {
            out.push(file);
        }
    }
    Ok(())
}

fn decode_all(path: &Path, files: &BTreeMap<Vec<String>, Vec<u8>>) -> Result<MemorySet, IoError> {
    let class = |key: &Vec<String>| key.iter().rev().nth(1).cloned().unwrap_or_default();
    let mut classes: BTreeMap<String, u32> = files.keys().map(|k| (class(k), 0)).collect();
    (0..).zip(classes.values_mut()).for_each(|(i, label)| *label = i);
    let (mut pixels, mut labels, mut size, mut channels) = (Vec::new(), Vec::new(), None, 3);
    let mut ordered: Vec<_> = files.iter().map(|(k, v)| (class(k), k, v)).collect();
    ordered.sort();
    for (class, key, bytes) in ordered {
        let name = || path.join(key.join("/"));
        if size.is_none() {
            channels = if is_gray(bytes) { 1 } else { 3 };
        }
        let (planes, h, w) =
            picture::decode(bytes, channels, size, false).map_err(|e| IoError::malformed(&name(), e))?;
        size = Some((h, w));
        pixels.extend(planes);
        labels.push(classes.get(&class).copied().unwrap_or_default());
    }
    let (h, w) = size.unwrap_or_default();
    let pixels =
        Tensor::new([labels.len(), channels, h, w], Data::U8(pixels)).map_err(|e| IoError::malformed(path, e))?;
    MemorySet::new(pixels, labels, classes.into_keys().collect(), path)
}

/// Whether the first picture, and so the set, is gray.
fn is_gray(bytes: &[u8]) -> bool {
    use image::ImageDecoder;
    let reader = image::ImageReader::new(std::io::Cursor::new(bytes)).with_guessed_format();
    reader.ok().and_then(|r| r.into_decoder().ok()).is_some_and(|d| !d.color_type().has_color())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{DataSet, Pixels};

    fn png(value: u8, width: u32) -> Vec<u8> {
        let mut out = std::io::Cursor::new(Vec::new());
        image::RgbImage::from_pixel(width, 1, image::Rgb([value, 0, 1]))
            .write_to(&mut out, image::ImageFormat::Png)
            .unwrap();
        out.into_inner()
    }

    #[test]
    fn folders_and_archives_agree() {
        let dir = tempfile::tempdir().unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        for (name, value) in [("test/b/1.png", 1), ("test/a/2.png", 2), ("test/a/10.png", 3), ("train/c/1.png", 4)] {
            let (file, bytes) = (dir.path().join(name), png(value, 2));
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, &bytes).unwrap();
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, format!("cifar/{name}"), bytes.as_slice()).unwrap();
        }
        let bytes = tar.into_inner().unwrap();
        let archive = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(archive.path(), &bytes).unwrap();
        for path in [dir.path(), archive.path()] {
            let set = open(path, Split::Test).unwrap();
            assert_eq!(
                (set.len(), set.shape(), set.class_names()),
                (3, [3, 1, 2], &["a".to_owned(), "b".to_owned()][..])
            );
            let firsts: Vec<_> = (0..3).map(|i| (set.image(i).unwrap().pixels, set.label(i).unwrap())).collect();
            assert_eq!(firsts[0], (Pixels::U8((&[3, 3, 0, 0, 1, 1]).into()), 0));
            assert_eq!(firsts[2], (Pixels::U8((&[1, 1, 0, 0, 1, 1]).into()), 1));
            assert_eq!(open(path, Split::Train).unwrap().len(), 1);
        }
        for n in (0..bytes.len()).step_by(97) {
            std::fs::write(archive.path(), &bytes[..n]).unwrap();
            let _ = open(archive.path(), Split::Test); // an error or fewer pictures, no panic
        }
        std::fs::write(dir.path().join("test/b/3.png"), png(1, 5)).unwrap();
        assert!(open(dir.path(), Split::Test).unwrap_err().to_string().contains("3.png"));
        std::fs::write(dir.path().join("test/b/3.png"), b"hello").unwrap();
        assert!(open(dir.path(), Split::Test).is_err());
    }
}
