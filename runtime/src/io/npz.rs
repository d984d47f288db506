//! NumPy's `.npz`: a zip archive of `.npy` members, stored or deflated.

use super::{IoError, npy};
use crate::tensor::Tensor;
use std::io::{Cursor, Read, Write};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// Greatest unpacked member that is read: 8 GiB.
const LIMIT: u64 = 8 << 30;

/// Reads all arrays in the archive's order.
///
/// # Errors
/// When the file cannot be read or is malformed.
pub fn read(file: &Path) -> Result<Vec<(String, Tensor)>, IoError> {
    let source = std::fs::File::open(file).map_err(IoError::system(file))?;
    let bad = |e: &dyn std::fmt::Display| {
        IoError::malformed(file, format!("not a readable npz archive ({e}); save it with numpy.savez"))
    };
    let mut archive = ZipArchive::new(std::io::BufReader::new(source)).map_err(|e| bad(&e))?;
    let mut out = Vec::new();
    for index in 0..archive.len() {
        let member = archive.by_index(index).map_err(|e| bad(&e))?;
        let name = member.name().to_owned();
        let Some(short) = name.strip_suffix(".npy") else { continue };
        let mut bytes = Vec::new();
        member.take(LIMIT).read_to_end(&mut bytes).map_err(|e| bad(&e))?;
        let tensor = npy::parse(&bytes).map_err(|e| IoError::malformed(file, format!("array `{short}`: {e}")))?;
        out.push((short.to_owned(), tensor));
    }
    Ok(out)
}

/// Writes the arrays, uncompressed.
///
/// # Errors
/// When a name occurs twice or the system refuses.
pub fn write(file: &Path, tensors: &[(String, Tensor)]) -> Result<(), IoError> {
    let bad = |e: zip::result::ZipError| IoError::malformed(file, format!("cannot make the npz archive: {e}"));
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, tensor) in tensors {
        let bytes = npy::format(tensor);
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(bytes.len() >= u32::MAX as usize);
        archive.start_file(format!("{name}.npy"), options).map_err(bad)?;
        archive.write_all(&bytes).map_err(IoError::system(file))?;
    }
    super::write(file, archive.finish().map_err(bad)?.get_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_damage_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npz");
        let arrays =
            vec![("x".to_owned(), Tensor::f32([2], vec![1.0, 2.0]).unwrap()), ("y".to_owned(), Tensor::scalar(3.0))];
        write(&path, &arrays).unwrap();
        assert_eq!(read(&path).unwrap(), arrays);
        let bytes = std::fs::read(&path).unwrap();
        for n in (0..bytes.len()).step_by(7) {
            std::fs::write(&path, &bytes[..n]).unwrap();
            assert!(read(&path).is_err());
        }
        for n in 0..bytes.len() {
            let mut b = bytes.clone();
            b[n] ^= 0x55;
            std::fs::write(&path, &b).unwrap();
            let _ = read(&path); // any answer, no panic
        }
    }
}
