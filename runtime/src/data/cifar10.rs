//! CIFAR-10's binary version: `data_batch_1.bin` … `data_batch_5.bin` and `test_batch.bin` in a folder (or one below), or
//! the downloaded `cifar-10-binary.tar.gz` itself. A record is the label and 3×32×32 bytes: red, green and blue planes.

use super::{MemorySet, Split, archive};
use crate::io::IoError;
use crate::tensor::{Data, Tensor};
use std::path::Path;

/// Bytes of a picture.
const PIXELS: usize = 3 * 32 * 32;
/// The classes, where no `batches.meta.txt` names them.
const CLASSES: [&str; 10] = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
/// The file of the classes' names.
const META: &str = "batches.meta.txt";

/// Opens a folder or archive.
///
/// # Errors
/// When the split's files are missing or malformed, or a label is out of range.
pub fn open(path: &Path, split: Split) -> Result<MemorySet, IoError> {
    let wanted = |name: &str| match split {
        Split::Train => name.starts_with("data_batch_") && name.ends_with(".bin"),
        Split::Test => name == "test_batch.bin",
    };
    let mut python = false;
    let files = archive::files(path, |key| {
        let name = key.last().map_or("", String::as_str);
        python |= name == "batches.meta" || name == "test_batch";
        wanted(name) || name == META
    })?;
    let (mut pixels, mut labels, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for (key, content) in &files {
        let file = path.join(key.join("/"));
        let bytes = content.read()?;
        if key.last().is_some_and(|n| n == META) {
            names = String::from_utf8_lossy(&bytes).split_whitespace().map(str::to_owned).collect();
            continue;
        }
        let (records, rest) = bytes.as_chunks::<{ 1 + PIXELS }>();
        if !rest.is_empty() || records.is_empty() {
            let problem = format!(
                "{} bytes are no whole records of {} bytes (label, 3×32×32 pixels); the file is truncated or another, download cifar-10-binary.tar.gz again",
                bytes.len(),
                1 + PIXELS
            );
            return Err(IoError::malformed(&file, problem));
        }
        for (i, [label, picture @ ..]) in records.iter().enumerate() {
            if usize::from(*label) >= CLASSES.len() {
                let problem =
                    format!("picture {i} has the label {label}, above the 10 classes; download the file again");
                return Err(IoError::malformed(&file, problem));
            }
            labels.push(u32::from(*label));
            pixels.extend_from_slice(picture);
        }
    }
    if labels.is_empty() {
        let file = if split == Split::Train { "data_batch_1.bin" } else { "test_batch.bin" };
        let hint = if python { "this is the version for Python; use" } else { "cifar10:PATH is a folder with it or" };
        return Err(IoError::malformed(path, format!("there is no {file}; {hint} cifar-10-binary.tar.gz")));
    }
    if names.len() != CLASSES.len() {
        names = CLASSES.map(str::to_owned).to_vec();
    }
    let pixels = Tensor::new([labels.len(), 3, 32, 32], Data::U8(pixels)).map_err(|e| IoError::malformed(path, e))?;
    MemorySet::new(pixels, labels, names, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{DataSet, Pixels};

    fn records(labels: &[u8]) -> Vec<u8> {
        let record = |&l: &u8| [vec![l], (0..PIXELS).map(|i| (i / 1024) as u8 * 50 + l).collect()].concat();
        labels.iter().flat_map(record).collect()
    }

    #[test]
    fn folder_and_archive_agree_and_damage_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("cifar-10-batches-bin");
        std::fs::create_dir(&sub).unwrap();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut tar = tar::Builder::new(&mut gz);
        for (name, bytes) in [
            ("data_batch_2.bin", records(&[3])),
            ("data_batch_1.bin", records(&[9, 2])),
            ("test_batch.bin", records(&[7])),
            (META, b"a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n".to_vec()),
        ] {
            std::fs::write(sub.join(name), &bytes).unwrap();
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, format!("cifar-10-batches-bin/{name}"), bytes.as_slice()).unwrap();
        }
        tar.finish().unwrap();
        drop(tar);
        let archive = dir.path().join("cifar-10-binary.tar.gz");
        std::fs::write(&archive, gz.finish().unwrap()).unwrap();
        for path in [&sub, &archive, &dir.path().to_owned()] {
            let set = open(path, Split::Train).unwrap();
            assert_eq!(
                (set.len(), set.shape(), set.classes(), set.class_names()[9].as_str()),
                (3, [3, 32, 32], 10, "j")
            );
            assert_eq!((0..3).map(|i| set.label(i).unwrap()).collect::<Vec<_>>(), [9, 2, 3]);
            let Pixels::U8(pixels) = set.image(1).unwrap().pixels else { panic!("bytes") };
            assert_eq!([pixels[0], pixels[1024], pixels[3071]], [2, 52, 102]);
            assert_eq!(open(path, Split::Test).unwrap().label(0), Some(7));
        }
        let test = sub.join("test_batch.bin");
        for (bytes, text) in
            [(records(&[7])[..99].to_vec(), "truncated"), (records(&[1, 10]), "picture 1"), (vec![], "truncated")]
        {
            std::fs::write(&test, bytes).unwrap();
            let message = open(&sub, Split::Test).unwrap_err().to_string();
            assert!(message.contains(text) && message.contains("test_batch.bin"), "{message}");
        }
        std::fs::rename(&test, sub.join("test_batch")).unwrap();
        assert!(open(&sub, Split::Test).unwrap_err().to_string().contains("Python"));
        assert!(open(&dir.path().join("none"), Split::Test).is_err());
    }
}
