//! Decodes the tensors of an ONNX file: every element type from INT2 to DOUBLE, raw or typed, inside the file or beside it.
//!
//! Floats become `F32`, integers and truth values `I64`. What is decoded is bounded by the bytes that are really there.

use dorefa_runtime::tensor::{Data, Tensor};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};

/// A tensor as the file stores it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawTensor {
    /// Name.
    pub name: String,
    /// Extents.
    pub dims: Vec<i64>,
    /// Element type code.
    pub data_type: i32,
    /// Little-endian bytes; empty where a typed field holds the elements.
    pub raw: Vec<u8>,
    /// `float_data`.
    pub floats: Vec<f32>,
    /// `int32_data`: also the narrower integers, FP16 and BF16 as bits.
    pub ints: Vec<i32>,
    /// `int64_data`.
    pub longs: Vec<i64>,
    /// `double_data`.
    pub doubles: Vec<f64>,
    /// `uint64_data`.
    pub unsigned: Vec<u64>,
    /// Where the bytes stand, if in another file.
    pub external: Option<BTreeMap<String, String>>,
    /// Whether it is a piece of a larger tensor.
    pub segmented: bool,
}

/// An element type that can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Float32,
    Float64,
    Float16,
    BFloat16,
    /// Bits, signed.
    Int(u32, bool),
    Bool,
}

/// The name of an element type code, for messages.
pub fn type_name(code: i32) -> String {
    let names = [
        "UNDEFINED",
        "FLOAT",
        "UINT8",
        "INT8",
        "UINT16",
        "INT16",
        "INT32",
        "INT64",
        "STRING",
        "BOOL",
        "FLOAT16",
        "DOUBLE",
        "UINT32",
        "UINT64",
        "COMPLEX64",
        "COMPLEX128",
        "BFLOAT16",
        "FLOAT8E4M3FN",
        "FLOAT8E4M3FNUZ",
        "FLOAT8E5M2",
        "FLOAT8E5M2FNUZ",
        "UINT4",
        "INT4",
        "FLOAT4E2M1",
        "FLOAT8E8M0",
        "UINT2",
        "INT2",
    ];
    usize::try_from(code).ok().and_then(|i| names.get(i)).map_or_else(|| format!("type {code}"), |s| (*s).to_owned())
}

/// Whether an element type code means a float that decodes to `F32`.
pub fn is_float(code: i32) -> bool {
    matches!(Type::of(code), Some(Type::Float32 | Type::Float64 | Type::Float16 | Type::BFloat16))
}

/// Least and greatest value and whether signed, of an integer type code.
pub fn int_range(code: i32) -> Option<(i64, i64)> {
    match Type::of(code)? {
        Type::Int(bits @ 1..=32, true) => Some((-(1i64 << (bits - 1)), (1i64 << (bits - 1)) - 1)),
        Type::Int(bits @ 1..=32, false) => Some((0, (1i64 << bits) - 1)),
        _ => None,
    }
}

impl Type {
    fn of(code: i32) -> Option<Type> {
        Some(match code {
            1 => Type::Float32,
            2 => Type::Int(8, false),
            3 => Type::Int(8, true),
            4 => Type::Int(16, false),
            5 => Type::Int(16, true),
            6 => Type::Int(32, true),
            7 => Type::Int(64, true),
            9 => Type::Bool,
            10 => Type::Float16,
            11 => Type::Float64,
            12 => Type::Int(32, false),
            13 => Type::Int(64, false),
            16 => Type::BFloat16,
            21 => Type::Int(4, false),
            22 => Type::Int(4, true),
            25 => Type::Int(2, false),
            26 => Type::Int(2, true),
            _ => return None,
        })
    }

    fn bits(self) -> usize {
        match self {
            Type::Float32 => 32,
            Type::Float64 => 64,
            Type::Float16 | Type::BFloat16 => 16,
            Type::Int(bits, _) => bits as usize,
            Type::Bool => 8,
        }
    }
}

/// Decodes a tensor; `dir` is the folder of the model, for external data.
///
/// # Errors
/// What is wrong with the tensor, and what to do.
pub fn decode(t: &RawTensor, dir: Option<&Path>) -> Result<Tensor, String> {
    let ty = Type::of(t.data_type).ok_or_else(|| {
        format!(
            "tensor `{}` has elements of type {}: store it as FLOAT or an integer type",
            t.name,
            type_name(t.data_type)
        )
    })?;
    let bad = |what: &str| format!("tensor `{}`: {what}", t.name);
    if t.segmented {
        return Err(bad("is stored in segments, which ONNX no longer has: save the model again"));
    }
    let dims: Option<Vec<usize>> = t.dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    let dims = dims.ok_or_else(|| bad(&format!("negative extent in {:?}", t.dims)))?;
    let count = dims.iter().try_fold(1usize, |a, &d| a.checked_mul(d));
    let count = count.ok_or_else(|| bad(&format!("shape {dims:?} overflows")))?;
    let bytes = count.checked_mul(ty.bits()).map(|b| b.div_ceil(8)).ok_or_else(|| bad("size overflows"))?;
    let data = if let Some(external) = &t.external {
        from_raw(ty, count, &read_external(external, dir, bytes).map_err(|e| bad(&e))?)
    } else if !t.raw.is_empty() {
        if t.raw.len() != bytes {
            return Err(bad(&format!(
                "shape {dims:?} of {} needs {bytes} bytes, has {}",
                type_name(t.data_type),
                t.raw.len()
            )));
        }
        from_raw(ty, count, &t.raw)
    } else {
        from_typed(ty, count, t)
    };
    let data = data.ok_or_else(|| bad(&format!("shape {dims:?} needs {count} elements, fewer or more are stored")))?;
    if data.len() != count {
        return Err(bad(&format!("shape {dims:?} needs {count} elements, {} are stored", data.len())));
    }
    Tensor::new(dims, data).map_err(|e| bad(&e.to_string()))
}

/// Decodes little-endian bytes, whose number has been checked.
fn from_raw(ty: Type, count: usize, raw: &[u8]) -> Option<Data> {
    fn words<const N: usize>(raw: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
        raw.chunks_exact(N).filter_map(|c| c.try_into().ok())
    }
    Some(match ty {
        Type::Float32 => Data::F32(words(raw).map(f32::from_le_bytes).collect()),
        Type::Float64 => Data::F32(words(raw).map(|b| f64::from_le_bytes(b) as f32).collect()),
        Type::Float16 => Data::F32(words(raw).map(|b| half(u16::from_le_bytes(b))).collect()),
        Type::BFloat16 => Data::F32(words(raw).map(|b| bfloat(u16::from_le_bytes(b))).collect()),
        Type::Bool => Data::I64(raw.iter().map(|&b| i64::from(b != 0)).collect()),
        Type::Int(64, false) => {
            let values: Result<Vec<i64>, _> = words(raw).map(|b| i64::try_from(u64::from_le_bytes(b))).collect();
            Data::I64(values.ok()?)
        }
        Type::Int(64, true) => Data::I64(words(raw).map(i64::from_le_bytes).collect()),
        Type::Int(32, signed) => {
            Data::I64(words(raw).map(|b| extend(u32::from_le_bytes(b).into(), 32, signed)).collect())
        }
        Type::Int(16, signed) => {
            Data::I64(words(raw).map(|b| extend(u16::from_le_bytes(b).into(), 16, signed)).collect())
        }
        Type::Int(8, signed) => Data::I64(raw.iter().map(|&b| extend(b.into(), 8, signed)).collect()),
        Type::Int(bits, signed) => Data::I64(unpack(raw.iter().map(|&b| b.into()), 8, bits, signed, count)),
    })
}

/// Decodes the typed field that belongs to the element type.
fn from_typed(ty: Type, count: usize, t: &RawTensor) -> Option<Data> {
    let ints = || t.ints.iter().map(|&v| v as u32);
    Some(match ty {
        Type::Float32 => Data::F32(t.floats.clone()),
        Type::Float64 => Data::F32(t.doubles.iter().map(|&v| v as f32).collect()),
        Type::Float16 => Data::F32(ints().map(|v| half(v as u16)).collect()),
        Type::BFloat16 => Data::F32(ints().map(|v| bfloat(v as u16)).collect()),
        Type::Bool => Data::I64(ints().map(|v| i64::from(v != 0)).collect()),
        Type::Int(64, true) => Data::I64(t.longs.clone()),
        Type::Int(64, false) | Type::Int(32, false) => {
            Data::I64(t.unsigned.iter().map(|&v| i64::try_from(v).ok()).collect::<Option<_>>()?)
        }
        Type::Int(32, true) => Data::I64(t.ints.iter().map(|&v| v.into()).collect()),
        Type::Int(bits @ (8 | 16), signed) => Data::I64(ints().map(|v| extend(v.into(), bits, signed)).collect()),
        // Sub-byte elements are packed into bytes, one byte an entry.
        Type::Int(bits, signed) => {
            let stored = t.ints.len().checked_mul(8 / bits as usize)?;
            if stored < count || stored - count >= 8 / bits as usize {
                return None;
            }
            Data::I64(unpack(ints(), 8, bits, signed, count))
        }
    })
}

/// Unpacks sub-byte elements, low bits first.
fn unpack(words: impl Iterator<Item = u32>, width: u32, bits: u32, signed: bool, count: usize) -> Vec<i64> {
    let per_word = width / bits;
    let mask = (1u32 << bits) - 1;
    words
        .flat_map(|w| (0..per_word).map(move |i| (w >> (i * bits)) & mask))
        .take(count)
        .map(|v| extend(v.into(), bits, signed))
        .collect()
}

/// The low `bits` of `v`, sign-extended where `signed`.
fn extend(v: u64, bits: u32, signed: bool) -> i64 {
    let shift = 64 - bits;
    if signed { ((v << shift) as i64) >> shift } else { ((v << shift) >> shift) as i64 }
}

/// IEEE half precision by its bits.
fn half(h: u16) -> f32 {
    let sign = u32::from(h >> 15) << 31;
    let (exponent, mantissa) = (u32::from(h >> 10) & 31, u32::from(h) & 0x3ff);
    match exponent {
        0 => {
            let value = mantissa as f32 / (1 << 24) as f32;
            f32::from_bits(value.to_bits() | sign)
        }
        31 => f32::from_bits(sign | 0x7f80_0000 | (mantissa << 13)),
        _ => f32::from_bits(sign | ((exponent + 112) << 23) | (mantissa << 13)),
    }
}

/// bfloat16 by its bits.
fn bfloat(b: u16) -> f32 {
    f32::from_bits(u32::from(b) << 16)
}

/// Reads the bytes of external data: a plain relative path below the model's folder, exactly `bytes` of them.
fn read_external(at: &BTreeMap<String, String>, dir: Option<&Path>, bytes: usize) -> Result<Vec<u8>, String> {
    let location = at.get("location").ok_or("external data without a location")?;
    let dir = dir.ok_or("external data, but the model is not a file")?;
    let path = Path::new(location);
    let plain = path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if !plain || location.is_empty() || location.contains(['\\', '\0']) {
        return Err(format!("external data at `{location}`, outside of the model's folder: refused"));
    }
    let number = |key: &str| match at.get(key) {
        None => Ok(None),
        Some(s) => s.trim().parse::<u64>().map(Some).map_err(|_| format!("external data with {key} `{s}`")),
    };
    let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
    if length.is_some_and(|l| l != bytes as u64) {
        return Err(format!("external data of {} bytes where the shape needs {bytes}", length.unwrap_or(0)));
    }
    let full = dir.join(path);
    let missing = |e: std::io::Error| format!("external data `{location}`: {e}; it must lie beside the model");
    // A symbolic link must not lead out of the folder either.
    let (root, real) = (dir.canonicalize().map_err(missing)?, full.canonicalize().map_err(missing)?);
    if !real.starts_with(&root) {
        return Err(format!("external data at `{location}` links out of the model's folder: refused"));
    }
    let mut file = File::open(&real).map_err(missing)?;
    let meta = file.metadata().map_err(missing)?;
    let end = offset.checked_add(bytes as u64).ok_or("external data at an offset that overflows")?;
    if !meta.is_file() || end > meta.len() {
        return Err(format!("external data `{location}` has {} bytes, needs {end}: the file is truncated", meta.len()));
    }
    file.seek(SeekFrom::Start(offset)).map_err(missing)?;
    let mut buffer = vec![0; bytes];
    file.read_exact(&mut buffer).map_err(missing)?;
    Ok(buffer)
}

#[cfg(test)]
#[path = "tensor_tests.rs"]
mod tests;
