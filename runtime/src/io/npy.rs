//! NumPy's `.npy`: f32, u8, i32, i64, and f64 rounded to f32; bool and i8 are widened; C and Fortran order.

use super::IoError;
use crate::tensor::{Data, Tensor};
use std::path::Path;

/// Reads a file.
///
/// # Errors
/// When it cannot be read or is malformed.
pub fn read(file: &Path) -> Result<Tensor, IoError> {
    parse(&super::read(file)?).map_err(|e| IoError::malformed(file, e))
}

/// Writes a file.
///
/// # Errors
/// When the system refuses.
pub fn write(file: &Path, tensor: &Tensor) -> Result<(), IoError> {
    super::write(file, &format(tensor))
}

/// The value of `key` in the header's dictionary, up to the end of the text.
fn value<'a>(header: &'a str, key: &str) -> Result<&'a str, String> {
    let quoted = [format!("'{key}'"), format!("\"{key}\"")];
    let found = quoted.iter().find_map(|q| header.find(q).map(|at| at + q.len()));
    let rest = found.and_then(|at| header.get(at..)).and_then(|r| r.trim_start().strip_prefix(':'));
    rest.map(str::trim_start).ok_or_else(|| format!("the npy header has no `{key}`; save it again with numpy.save"))
}

/// Parses the bytes of a file; what is wrong if it cannot.
pub fn parse(bytes: &[u8]) -> Result<Tensor, String> {
    let truncated = || "the npy file is truncated; save or copy it again".to_owned();
    let Some(rest) = bytes.strip_prefix(b"\x93NUMPY") else {
        return Err("it is no npy file; save it with numpy.save".into());
    };
    let (length, at) = match rest {
        [1, _, a, b, ..] => (usize::from(u16::from_le_bytes([*a, *b])), 4),
        [2 | 3, _, a, b, c, d, ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, 6),
        [] | [1..=3, ..] => return Err(truncated()),
        [v, ..] => return Err(format!("npy version {v} is unknown; save it with numpy.save")),
    };
    let header = rest.get(at..).and_then(|r| r.get(..length)).ok_or_else(truncated)?;
    let body = rest.get(at + length..).ok_or_else(truncated)?;
    let header = std::str::from_utf8(header).map_err(|_| "the npy header is no text; save it again".to_owned())?;

    let descr = value(header, "descr")?;
    let descr = descr.strip_prefix(['\'', '"']).and_then(|d| d.split(['\'', '"']).next());
    let descr = descr.ok_or("structured npy arrays are not supported; save one plain array")?;
    let fortran = match value(header, "fortran_order")? {
        v if v.starts_with("True") => true,
        v if v.starts_with("False") => false,
        _ => return Err("the npy header's fortran_order is neither True nor False; save it again".into()),
    };
    let shape = value(header, "shape")?.strip_prefix('(').and_then(|s| s.split_once(')')).map(|(s, _)| s);
    let shape = shape.ok_or("the npy header's shape is malformed; save it again")?;
    let extents =
        shape.split(',').map(str::trim).filter(|d| !d.is_empty()).map(|d| d.trim_end_matches('L').parse::<usize>());
    let shape: Vec<usize> =
        extents.collect::<Result<_, _>>().map_err(|e| format!("the npy header's shape ({shape}) is malformed: {e}"))?;

    let (swap, kind) = match descr.split_at_checked(1) {
        Some((">", kind)) => (true, kind),
        Some(("<" | "|" | "=", kind)) => (false, kind),
        _ => (false, descr),
    };
    let width = match kind {
        "u1" | "b1" | "i1" => 1,
        "f4" | "i4" => 4,
        "f8" | "i8" => 8,
        _ => {
            return Err(format!(
                "npy element type {descr} is not supported; convert with .astype('float32'), 'uint8' or 'int64'"
            ));
        }
    };
    let count = shape.iter().try_fold(1usize, |a, &d| a.checked_mul(d));
    if count.and_then(|n| n.checked_mul(width)) != Some(body.len()) {
        return Err(format!(
            "the npy header promises shape {shape:?} of {descr}, the file holds {} bytes of data; save or copy it again",
            body.len()
        ));
    }
    let data = match kind {
        "u1" => Data::U8(body.to_vec()),
        "b1" => Data::U8(body.iter().map(|&b| u8::from(b != 0)).collect()),
        "i1" => Data::I32(body.iter().map(|&b| i32::from(b.cast_signed())).collect()),
        "f4" => Data::F32(numbers(body, swap, f32::from_le_bytes)),
        "i4" => Data::I32(numbers(body, swap, i32::from_le_bytes)),
        "i8" => Data::I64(numbers(body, swap, i64::from_le_bytes)),
        _ => Data::F32(numbers(body, swap, |b| f64::from_le_bytes(b) as f32)),
    };
    let data = if fortran && shape.len() > 1 {
        match data {
            Data::F32(v) => Data::F32(row_major(&shape, &v)),
            Data::U8(v) => Data::U8(row_major(&shape, &v)),
            Data::I32(v) => Data::I32(row_major(&shape, &v)),
            Data::I64(v) => Data::I64(row_major(&shape, &v)),
        }
    } else {
        data
    };
    Tensor::new(shape, data).map_err(|e| e.to_string())
}

fn numbers<const N: usize, T>(body: &[u8], swap: bool, make: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (chunks, _) = body.as_chunks::<N>();
    let one = |c: &[u8; N]| {
        let mut c = *c;
        if swap {
            c.reverse();
        }
        make(c)
    };
    chunks.iter().map(one).collect()
}

/// Reorders elements whose first axis runs fastest.
fn row_major<T: Copy>(shape: &[usize], v: &[T]) -> Vec<T> {
    let mut index = vec![0usize; shape.len()];
    let mut out = Vec::with_capacity(v.len());
    for _ in 0..v.len() {
        let at = index.iter().zip(shape).rev().fold(0, |a, (&i, &d)| a * d + i);
        out.extend(v.get(at));
        for (i, &d) in index.iter_mut().zip(shape).rev() {
            *i += 1;
            if *i < d {
                break;
            }
            *i = 0;
        }
    }
    out
}

/// The bytes of a file that holds `tensor`.
pub fn format(tensor: &Tensor) -> Vec<u8> {
    let descr = match tensor.data() {
        Data::F32(_) => "<f4",
        Data::U8(_) => "|u1",
        Data::I32(_) => "<i4",
        Data::I64(_) => "<i8",
    };
    let shape: String = tensor.shape().iter().map(|d| format!("{d}, ")).collect();
    let shape = if tensor.shape().len() == 1 { shape.trim_end() } else { shape.trim_end_matches(", ") };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend(u16::try_from(header.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend(header.as_bytes());
    match tensor.data() {
        Data::F32(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Data::U8(v) => out.extend(v),
        Data::I32(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Data::I64(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(header: &str, body: &[u8]) -> Vec<u8> {
        let mut b = b"\x93NUMPY\x01\x00".to_vec();
        b.extend((header.len() as u16).to_le_bytes());
        b.extend(header.as_bytes());
        b.extend(body);
        b
    }

    #[test]
    fn round_trips() {
        for shape in [vec![], vec![6], vec![2, 3], vec![0, 3]] {
            let n: usize = shape.iter().product();
            let v: Vec<i64> = (0..n as i64).collect();
            for data in [
                Data::F32(v.iter().map(|&x| x as f32 / 3.0).collect()),
                Data::U8(v.iter().map(|&x| x as u8).collect()),
                Data::I32(v.iter().map(|&x| -x as i32).collect()),
                Data::I64(v.clone()),
            ] {
                let t = Tensor::new(shape.clone(), data).unwrap();
                assert_eq!(parse(&format(&t)).unwrap(), t);
            }
        }
    }

    #[test]
    fn doubles_big_endian_and_fortran_order() {
        let b = raw("{'descr': '>f8', 'fortran_order': False, 'shape': (1,), }", &1.5f64.to_be_bytes());
        assert_eq!(parse(&b).unwrap(), Tensor::f32([1], vec![1.5]).unwrap());
        let b = raw("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }", &[0, 1, 2, 3, 4, 5]);
        assert_eq!(parse(&b).unwrap(), Tensor::new([2, 3], Data::U8(vec![0, 2, 4, 1, 3, 5])).unwrap());
    }

    #[test]
    fn malformed_files_are_errors() {
        let good = format(&Tensor::f32([2, 2], vec![1.0; 4]).unwrap());
        for n in 0..good.len() {
            assert!(parse(&good[..n]).is_err());
        }
        for header in [
            "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4611686018427387904), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
            "{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }",
            "{'descr': '<f4', 'fortran_order': 7, 'shape': (1,), }",
            "'descr'",
            "",
            "((((((",
        ] {
            assert!(parse(&raw(header, &[0; 4])).is_err(), "{header}");
        }
    }
}
