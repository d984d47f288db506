//! MNIST's idx files: a folder with `t10k-`/`train-` `images-idx3-ubyte` and `labels-idx1-ubyte`, `.gz` or not.

use super::{MemorySet, Split, unzip};
use crate::io::{self, IoError};
use crate::tensor::{Data, Tensor};
use std::path::{Path, PathBuf};

/// Opens a folder.
///
/// # Errors
/// When a file is missing or malformed.
pub fn open(folder: &Path, split: Split) -> Result<MemorySet, IoError> {
    let (images, pixels) = load(folder, split, "images", 3)?;
    let (_, labels) = load(folder, split, "labels", 1)?;
    let pixels = match *pixels.shape() {
        [n, h, w] => pixels.reshape([n, 1, h, w]).map_err(|e| IoError::malformed(&images, e))?,
        _ => pixels,
    };
    let labels = labels.as_u8().unwrap_or_default().iter().map(|&l| u32::from(l)).collect();
    MemorySet::new(pixels, labels, Vec::new(), &images)
}

fn load(folder: &Path, split: Split, what: &str, rank: u8) -> Result<(PathBuf, Tensor), IoError> {
    let prefix = if split == Split::Train { "train" } else { "t10k" };
    for dash in ['-', '.'] {
        for end in ["", ".gz"] {
            let file = folder.join(format!("{prefix}-{what}{dash}idx{rank}-ubyte{end}"));
            if file.is_file() {
                let tensor =
                    unzip(io::read(&file)?).and_then(|b| parse(&b, rank)).map_err(|e| IoError::malformed(&file, e))?;
                return Ok((file, tensor));
            }
        }
    }
    Err(IoError::malformed(
        folder,
        format!("there is no {prefix}-{what}-idx{rank}-ubyte[.gz]; idx:PATH names the folder that holds it"),
    ))
}

/// Parses an idx file of unsigned bytes with `rank` axes.
fn parse(bytes: &[u8], rank: u8) -> Result<Tensor, String> {
    let truncated = || "the idx file is truncated; copy it again".to_owned();
    let (head, rest) = bytes.split_at_checked(4).ok_or_else(truncated)?;
    if head != [0, 0, 8, rank] {
        return Err(format!(
            "the idx header is {head:?}, not [0, 0, 8, {rank}] (bytes, {rank} axes); it is another file"
        ));
    }
    let (extents, body) = rest.split_at_checked(4 * usize::from(rank)).ok_or_else(truncated)?;
    let (extents, _) = extents.as_chunks::<4>();
    let shape: Vec<usize> = extents.iter().map(|&e| u32::from_be_bytes(e) as usize).collect();
    Tensor::new(shape, Data::U8(body.to_vec())).map_err(|e| format!("{e}: the idx file is damaged; copy it again"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{DataSet, Pixels};
    use std::io::Write;

    #[test]
    fn reads_gzip_and_plain_and_refuses_damage() {
        let dir = tempfile::tempdir().unwrap();
        let mut images = vec![0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
        images.extend([1, 2, 3, 4]);
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&images).unwrap();
        let gz = gz.finish().unwrap();
        let file = dir.path().join("t10k-images-idx3-ubyte.gz");
        std::fs::write(&file, &gz).unwrap();
        std::fs::write(dir.path().join("t10k-labels-idx1-ubyte"), [0, 0, 8, 1, 0, 0, 0, 2, 7, 1]).unwrap();
        let set = open(dir.path(), Split::Test).unwrap();
        assert_eq!((set.len(), set.shape(), set.classes(), set.label(0)), (2, [1, 1, 2], 8, Some(7)));
        assert_eq!(set.image(1).unwrap().pixels, Pixels::U8((&[3, 4]).into()));
        assert!(open(dir.path(), Split::Train).unwrap_err().to_string().contains("train-images"));
        for n in 0..gz.len() - 1 {
            std::fs::write(&file, &gz[..n]).unwrap();
            assert!(open(dir.path(), Split::Test).is_err());
        }
        for n in 0..images.len() {
            assert!(parse(&images[..n], 3).is_err());
        }
    }
}
