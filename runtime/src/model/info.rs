//! What a model tells about itself: inputs, outputs, levels, layers, training state.

use crate::abi;

/// The element type of an input, output or layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    /// 32-bit floats.
    F32,
    /// Unsigned bytes.
    U8,
    /// Signed bytes; only inside a model.
    I8,
    /// 32-bit integers.
    I32,
    /// 64-bit integers.
    I64,
    /// 64-bit floats; only inside a model.
    F64,
}

impl DType {
    pub(super) fn from_code(code: u32) -> Option<Self> {
        Some(match code {
            abi::F32 => DType::F32,
            abi::U8 => DType::U8,
            abi::I8 => DType::I8,
            abi::I32 => DType::I32,
            abi::I64 => DType::I64,
            abi::F64 => DType::F64,
            _ => return None,
        })
    }

    /// The type's name, as [`crate::tensor::Data::type_name`] has it.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::U8 => "u8",
            DType::I8 => "i8",
            DType::I32 => "i32",
            DType::I64 => "i64",
            DType::F64 => "f64",
        }
    }

    /// Bytes of an element.
    pub fn size(self) -> usize {
        match self {
            DType::U8 | DType::I8 => 1,
            DType::F32 | DType::I32 => 4,
            DType::I64 | DType::F64 => 8,
        }
    }
}

/// An input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its extents; `None` is the batch, possible first only.
    pub dims: Vec<Option<usize>>,
}

impl Port {
    /// Elements of one sample (of the whole tensor if it has no batch axis). Checked at load not to overflow.
    pub fn sample_len(&self) -> usize {
        self.dims.iter().flatten().product()
    }

    /// Whether axis 0 is the batch.
    pub fn batched(&self) -> bool {
        self.dims.first() == Some(&None)
    }

    /// The shape for a batch.
    pub fn shape(&self, batch: usize) -> Vec<usize> {
        self.dims.iter().map(|d| d.unwrap_or(batch)).collect()
    }
}

/// A CPU level of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// Its name.
    pub name: String,
    /// The feature bits it needs.
    pub required: u64,
    /// Bytes of its prepared weights.
    pub prepared_bytes: u64,
}

/// A layer of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// The kernel that was chosen.
    pub kernel: String,
    /// Multiply-accumulates a sample.
    pub macs: u64,
    /// Bytes, as the compiler reports them.
    pub bytes: u64,
    /// Where its result lies in the arena.
    pub offset: u64,
    /// Element type of the result; `None` if it is none of the interface's.
    pub dtype: Option<DType>,
    /// Layout number of the result; the metadata says what it means.
    pub layout: u32,
}

/// A tensor of the training state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Its name.
    pub name: String,
    /// Byte offset inside the state.
    pub offset: u64,
    /// Number of f32 elements.
    pub count: u64,
    /// 0 parameter, 1 Adam m, 2 Adam v, 3 running statistic.
    pub role: u32,
    /// The extents.
    pub dims: Vec<usize>,
}
