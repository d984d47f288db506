//! Pictures in class folders, `[…/][train|test/]CLASS/PICTURE`, in a folder or a `.tar`/`.tar.gz`. Classes are numbered in
//! sorted order, pictures stand in sorted order of class and name.
//!
//! Pictures are decoded when they are asked for, so that a large set need not fit in memory; opening reads their headers.
//! They may differ in size, where whoever reads them resizes, not in being grey or coloured: the first decides.

use super::archive::{self, Content};
use super::{DataError, DataSet, Picture, Pixels, Split};
use crate::io::{IoError, picture};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A set of pictures in class folders.
#[derive(Debug)]
pub struct ImageSet {
    root: PathBuf,
    shape: [usize; 3],
    pictures: Vec<(u32, Vec<String>, Content)>,
    classes: Vec<String>,
}

/// Opens a folder or archive. Where folders called `train` and `test` occur, only the split's pictures count.
///
/// # Errors
/// When it cannot be read, holds no pictures, a class folder is empty, or a picture's header is malformed.
pub fn open(path: &Path, split: Split) -> Result<ImageSet, IoError> {
    let mut files = archive::files(path, is_picture)?;
    // A split folder stands above the class folder; the class itself may have any name.
    let has = |k: &[String], name: &str| k.iter().rev().skip(2).any(|p| p == name);
    let divided = files.keys().any(|k| has(k, "train") || has(k, "test"));
    files.retain(|k, _| !divided || has(k, split.name()));
    if files.is_empty() {
        let problem = "there is no PNG or JPEG picture in a class folder; images:PATH holds [train|test/]CLASS/PICTURE, check it and --split";
        return Err(IoError::malformed(path, problem));
    }
    refuse_empty(path, &files)?;
    let class = |key: &[String]| key.iter().rev().nth(1).cloned().unwrap_or_default();
    let classes: BTreeSet<String> = files.keys().map(|k| class(k)).collect();
    let numbers: BTreeMap<&String, u32> = classes.iter().zip(0..).collect();
    let number = |key: &[String]| numbers.get(&class(key)).copied().unwrap_or_default();
    let mut pictures: Vec<_> = files.into_iter().map(|(key, content)| (number(&key), key, content)).collect();
    pictures.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    let mut shape = None;
    for (_, key, content) in &pictures {
        let found = picture::header(&content.read()?).map_err(|e| IoError::malformed(&path.join(key.join("/")), e))?;
        shape.get_or_insert(found);
    }
    Ok(ImageSet {
        root: path.to_owned(),
        shape: shape.unwrap_or_default(),
        pictures,
        classes: classes.into_iter().collect(),
    })
}

/// Whether a file is a picture in a class folder.
fn is_picture(key: &[String]) -> bool {
    let suffix = key.last().and_then(|name| name.rsplit_once('.')).map(|(_, s)| s.to_ascii_lowercase());
    key.len() >= 2 && suffix.is_some_and(|s| matches!(s.as_str(), "png" | "jpg" | "jpeg"))
}

/// Refuses an empty folder beside the class folders: it would silently shift the labels of the classes behind it.
fn refuse_empty(path: &Path, files: &BTreeMap<Vec<String>, Content>) -> Result<(), IoError> {
    if !path.is_dir() {
        return Ok(());
    }
    let parents: BTreeSet<&[String]> = files.keys().filter_map(|k| k.get(..k.len().checked_sub(2)?)).collect();
    for parent in parents {
        let folder = parent.iter().fold(path.to_owned(), |p, part| p.join(part));
        for entry in std::fs::read_dir(&folder).map_err(IoError::system(&folder))? {
            let class = entry.map_err(IoError::system(&folder))?.path();
            let mut inside =
                if class.is_dir() { std::fs::read_dir(&class).map_err(IoError::system(&class))? } else { continue };
            if inside.next().is_none() {
                return Err(IoError::malformed(&class, "the class folder is empty; fill it or remove it"));
            }
        }
    }
    Ok(())
}

impl DataSet for ImageSet {
    fn len(&self) -> usize {
        self.pictures.len()
    }
    fn shape(&self) -> [usize; 3] {
        self.shape
    }
    fn image(&self, i: usize) -> Result<Picture<'_>, DataError> {
        let (_, _, content) = self.pictures.get(i).ok_or_else(|| DataError::absent(self, i))?;
        let [channels, ..] = self.shape;
        let (planes, h, w) =
            picture::decode(&content.read()?, channels, None, false).map_err(|e| DataError::picture(self, i, e))?;
        Ok(Picture { shape: [channels, h, w], pixels: Pixels::U8(planes.into()) })
    }
    fn label(&self, i: usize) -> Option<u32> {
        self.pictures.get(i).map(|(label, ..)| *label)
    }
    fn classes(&self) -> usize {
        self.classes.len()
    }
    fn class_names(&self) -> &[String] {
        &self.classes
    }
    fn name(&self, i: usize) -> String {
        let file = self.pictures.get(i).map(|(_, key, _)| self.root.join(key.join("/")));
        file.map_or_else(|| format!("{}, picture {i}", self.root.display()), |f| f.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert!(set.image(3).is_err());
        }
        for n in (0..bytes.len()).step_by(97) {
            std::fs::write(archive.path(), &bytes[..n]).unwrap();
            let _ = open(archive.path(), Split::Test); // an error or fewer pictures, no panic
        }
    }

    #[test]
    fn sizes_may_differ_and_faults_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| {
            let file = dir.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, bytes).unwrap();
        };
        assert!(open(dir.path(), Split::Test).unwrap_err().to_string().contains("CLASS/PICTURE"));
        put("a/1.png", &png(1, 2));
        put("b/1.png", &png(1, 5));
        let set = open(dir.path(), Split::Test).unwrap();
        assert_eq!((set.shape(), set.image(1).unwrap().shape), ([3, 1, 2], [3, 1, 5]));
        std::fs::create_dir(dir.path().join("c")).unwrap();
        let message = |what: &str| {
            let text = open(dir.path(), Split::Test).unwrap_err().to_string();
            assert!(text.contains(what), "{text}");
        };
        message("c: the class folder is empty");
        put("c/2.png", b"hello");
        message("2.png: not a readable picture");
        let mut cut = png(1, 2);
        cut.truncate(cut.len() - 20);
        put("c/2.png", &cut);
        let set = open(dir.path(), Split::Test).unwrap();
        assert!(set.image(2).unwrap_err().to_string().contains("2.png: not a readable picture"));
    }
}
