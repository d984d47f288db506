//! MATLAB's level 5 MAT-files, as far as numeric arrays go: the tagged elements, zlib-compressed ones, little-endian.
//!
//! Sizes come from the file, so each is checked against what is there; a compressed element is inflated to the size that its
//! own tag states and no further. The module must never know what the arrays mean.

use std::io::Read;

/// Bytes ahead of the first element.
const HEADER: usize = 128;
/// Types of elements (the format's names: miINT8 …).
const INT8: u32 = 1;
const UINT8: u32 = 2;
const INT32: u32 = 5;
const UINT32: u32 = 6;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;
/// Greatest array in bytes; SVHN's largest file has 1.6 GB.
const LIMIT: u64 = 3 << 30;

/// A numeric array.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Its variable.
    pub name: String,
    /// Extents; the first varies fastest.
    pub dims: Vec<usize>,
    /// The element type in the file, which may be narrower than the array's class.
    kind: u32,
    /// The elements as the file has them.
    bytes: Vec<u8>,
}

impl Array {
    /// The elements, if they are unsigned bytes.
    pub fn as_u8(&self) -> Option<&[u8]> {
        (self.kind == UINT8).then_some(self.bytes.as_slice())
    }

    /// The elements as numbers, whatever their type; `None` for a type that is no number.
    pub fn numbers(&self) -> Option<Vec<f64>> {
        fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
            bytes.as_chunks::<N>().0.iter().map(|&b| number(b)).collect()
        }
        let bytes = &self.bytes;
        Some(match self.kind {
            INT8 => each(bytes, |b| f64::from(i8::from_le_bytes(b))),
            UINT8 => each(bytes, |b| f64::from(u8::from_le_bytes(b))),
            3 => each(bytes, |b| f64::from(i16::from_le_bytes(b))),
            4 => each(bytes, |b| f64::from(u16::from_le_bytes(b))),
            INT32 => each(bytes, |b| f64::from(i32::from_le_bytes(b))),
            UINT32 => each(bytes, |b| f64::from(u32::from_le_bytes(b))),
            7 => each(bytes, |b| f64::from(f32::from_le_bytes(b))),
            9 => each(bytes, f64::from_le_bytes),
            _ => return None,
        })
    }
}

/// The numeric arrays of a file that are called one of `names`.
///
/// # Errors
/// When it is no such file, truncated or damaged.
pub fn parse(file: &[u8], names: &[&str]) -> Result<Vec<Array>, String> {
    let (header, mut rest) = file.split_at_checked(HEADER).ok_or("the MAT-file is truncated; download it again")?;
    if header.get(124..) != Some(&[0, 1, b'I', b'M']) {
        return Err(
            "not a MAT-file of level 5, little-endian (version 7.3 is HDF5); save it with -v7 or download it again"
                .into(),
        );
    }
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (kind, body, after) = element(rest)?;
        // At this level a compressed element may go without padding.
        rest = if kind == COMPRESSED { rest.get(8 + body.len()..).unwrap_or_default() } else { after };
        let array = match kind {
            COMPRESSED => {
                let inflated = inflate(body)?;
                let (kind, body, _) = element(&inflated)?;
                if kind == MATRIX { matrix(body, names)? } else { None }
            }
            MATRIX => matrix(body, names)?,
            _ => None,
        };
        found.extend(array);
    }
    Ok(found)
}

fn truncated() -> String {
    "the MAT-file is truncated or damaged; download it again".to_owned()
}

fn word(bytes: &[u8]) -> Option<(u32, &[u8])> {
    bytes.split_first_chunk::<4>().map(|(w, rest)| (u32::from_le_bytes(*w), rest))
}

/// An element's type and content, and what follows it, padding left out.
fn element(bytes: &[u8]) -> Result<(u32, &[u8], &[u8]), String> {
    let (tag, rest) = word(bytes).ok_or_else(truncated)?;
    if tag >> 16 != 0 {
        // The small form: size and type share a word, the content is in the next.
        let (body, rest) = rest.split_at_checked(4).ok_or_else(truncated)?;
        let body = body.get(..(tag >> 16) as usize).ok_or_else(truncated)?;
        return Ok((tag & 0xffff, body, rest));
    }
    let (size, rest) = word(rest).ok_or_else(truncated)?;
    let (body, rest) = rest.split_at_checked(size as usize).ok_or_else(truncated)?;
    let padding = body.len().wrapping_neg() % 8;
    Ok((tag, body, rest.get(padding..).unwrap_or_default()))
}

/// Inflates one element: its tag, then as much as the tag says.
fn inflate(body: &[u8]) -> Result<Vec<u8>, String> {
    let mut decoder = flate2::read::ZlibDecoder::new(body);
    let mut out = Vec::new();
    let mut take = |n: u64, out: &mut Vec<u8>| {
        let read = (&mut decoder).take(n).read_to_end(out);
        read.map_err(|e| format!("the compressed data is damaged ({e}); download the MAT-file again"))
    };
    take(8, &mut out)?;
    let (tag, rest) = word(&out).ok_or_else(truncated)?;
    let (size, _) = word(rest).ok_or_else(truncated)?;
    if tag >> 16 == 0 {
        if u64::from(size) > LIMIT {
            return Err(format!("an array of {size} bytes is larger than this reader takes; split the file"));
        }
        take(u64::from(size), &mut out)?;
    }
    Ok(out)
}

/// A matrix element's array; `None` if it has another name or is not numeric.
fn matrix(body: &[u8], names: &[&str]) -> Result<Option<Array>, String> {
    let (_, flags, rest) = element(body)?;
    let (flags, _) = word(flags).ok_or_else(truncated)?;
    let (_, dims, rest) = element(rest)?;
    let (_, name, rest) = element(rest)?;
    let name = String::from_utf8_lossy(name).into_owned();
    // Classes 6 to 15 are double, single and the integers; bit 11 says complex.
    if !names.contains(&name.as_str()) || !(6..=15).contains(&(flags & 0xff)) || flags & 0x800 != 0 {
        return Ok(None);
    }
    let (kind, bytes, _) = element(rest)?;
    let dims = dims.as_chunks::<4>().0.iter().map(|&d| usize::try_from(i32::from_le_bytes(d)).ok());
    let dims: Vec<usize> = dims.collect::<Option<_>>().ok_or_else(truncated)?;
    let width = match kind {
        INT8 | UINT8 => 1,
        3 | 4 => 2,
        INT32 | UINT32 | 7 => 4,
        9 => 8,
        _ => return Err(format!("array `{name}` has elements of the unknown type {kind}; save it as uint8 or double")),
    };
    let size = dims.iter().try_fold(width, |a: usize, &d| a.checked_mul(d));
    if size != Some(bytes.len()) {
        return Err(format!(
            "array `{name}` of {dims:?} has {} bytes; the file is damaged, download it again",
            bytes.len()
        ));
    }
    Ok(Some(Array { name, dims, kind, bytes: bytes.to_vec() }))
}

/// Writers of small files for tests.
#[cfg(test)]
pub(crate) mod write {
    use std::io::Write;

    /// An element with its padding.
    pub fn element(kind: u32, body: &[u8]) -> Vec<u8> {
        let mut out = [kind.to_le_bytes(), (body.len() as u32).to_le_bytes()].concat();
        out.extend(body);
        out.resize(out.len().next_multiple_of(8), 0);
        out
    }

    /// A matrix of `class` whose elements are stored as `kind`.
    pub fn matrix(name: &str, class: u32, dims: &[i32], kind: u32, bytes: &[u8]) -> Vec<u8> {
        let flags = [class.to_le_bytes(), [0; 4]].concat();
        let dims: Vec<u8> = dims.iter().flat_map(|d| d.to_le_bytes()).collect();
        let mut small = ((name.len() as u32) << 16 | 1).to_le_bytes().to_vec();
        small.extend(name.bytes());
        small.resize(8, 0);
        element(14, &[element(6, &flags), element(5, &dims), small, element(kind, bytes)].concat())
    }

    /// A file of elements, each compressed if so wished.
    pub fn file(elements: &[Vec<u8>], compressed: bool) -> Vec<u8> {
        let mut out = vec![b' '; 124];
        out.extend([0, 1, b'I', b'M']);
        for element in elements {
            if compressed {
                let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                zlib.write_all(element).unwrap();
                let body = zlib.finish().unwrap();
                out.extend([15u32.to_le_bytes(), (body.len() as u32).to_le_bytes()].concat());
                out.extend(body);
            } else {
                out.extend(element);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms_and_refuses_damage() {
        let x = write::matrix("X", 9, &[2, 3], UINT8, &[1, 2, 3, 4, 5, 6]);
        let y = write::matrix("y", 6, &[2, 1], 9, &[1.0f64.to_le_bytes(), 10.0f64.to_le_bytes()].concat());
        for compressed in [false, true] {
            let file = write::file(&[x.clone(), y.clone()], compressed);
            let arrays = parse(&file, &["X", "y"]).unwrap();
            assert_eq!((arrays[0].dims.as_slice(), arrays[0].as_u8()), (&[2, 3][..], Some(&[1, 2, 3, 4, 5, 6][..])));
            assert_eq!((arrays[1].numbers(), arrays[1].as_u8()), (Some(vec![1.0, 10.0]), None));
            assert_eq!(parse(&file, &["y"]).unwrap().len(), 1);
            for n in 0..file.len() {
                // Cut between two elements it is a shorter file, which only its reader can tell.
                assert!(parse(&file[..n], &["X", "y"]).map_or(true, |a| a.len() < 2 || n + 8 > file.len()), "{n}");
            }
            for i in 0..file.len() {
                for bit in [1, 0x80] {
                    let mut bad = file.clone();
                    bad[i] ^= bit;
                    let _ = parse(&bad, &["X", "y"]); // anything but a panic or an endless allocation
                }
            }
        }
        let wrong = write::matrix("X", 9, &[i32::MAX, i32::MAX, i32::MAX], UINT8, &[1]);
        assert!(parse(&write::file(&[wrong], true), &["X"]).unwrap_err().contains("damaged"));
        assert!(parse(&[0; 200], &["X"]).unwrap_err().contains("level 5"));
    }
}
