//! Dense row-major tensors, the common currency of the command line, the data sets, the interpreter and compiled models.

/// The elements of a [`Tensor`].
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// Unsigned bytes: pixels.
    U8(Vec<u8>),
    /// Unsigned codes of a quantised tensor (see the compiler's `CodeType`), one a 32-bit integer.
    I32(Vec<i32>),
    /// Exact accumulators, and ONNX's shape arithmetic.
    I64(Vec<i64>),
}

impl Data {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Data::F32(v) => v.len(),
            Data::U8(v) => v.len(),
            Data::I32(v) => v.len(),
            Data::I64(v) => v.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element type's name: `f32`, `u8`, `i32` or `i64`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Data::F32(_) => "f32",
            Data::U8(_) => "u8",
            Data::I32(_) => "i32",
            Data::I64(_) => "i64",
        }
    }
}

/// A dense row-major tensor. Invariant: the product of `shape` is the number of elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Data,
}

/// A shape whose product is not the number of elements, or overflows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("shape {shape:?} does not hold {elements} elements")]
pub struct ShapeError {
    shape: Vec<usize>,
    elements: usize,
}

impl Tensor {
    /// A tensor of `shape` over `data` in row-major order.
    ///
    /// # Errors
    /// When the product of `shape` overflows or differs from the number of elements.
    pub fn new(shape: impl Into<Vec<usize>>, data: Data) -> Result<Self, ShapeError> {
        let shape = shape.into();
        let product = shape.iter().try_fold(1usize, |a, &d| a.checked_mul(d));
        if product == Some(data.len()) {
            Ok(Tensor { shape, data })
        } else {
            Err(ShapeError { elements: data.len(), shape })
        }
    }

    /// A tensor of floats.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn f32(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Result<Self, ShapeError> {
        Self::new(shape, Data::F32(data))
    }

    /// The scalar `value`, of rank 0.
    pub fn scalar(value: f32) -> Self {
        Tensor { shape: Vec::new(), data: Data::F32(vec![value]) }
    }

    /// The extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements in row-major order.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Takes the tensor apart.
    pub fn into_parts(self) -> (Vec<usize>, Data) {
        (self.shape, self.data)
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The floats, if it holds floats.
    pub fn as_f32(&self) -> Option<&[f32]> {
        if let Data::F32(v) = &self.data { Some(v) } else { None }
    }

    /// The codes, if it holds codes.
    pub fn as_i32(&self) -> Option<&[i32]> {
        if let Data::I32(v) = &self.data { Some(v) } else { None }
    }

    /// The 64-bit integers, if it holds such.
    pub fn as_i64(&self) -> Option<&[i64]> {
        if let Data::I64(v) = &self.data { Some(v) } else { None }
    }

    /// The bytes, if it holds pixels.
    pub fn as_u8(&self) -> Option<&[u8]> {
        if let Data::U8(v) = &self.data { Some(v) } else { None }
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn reshape(self, shape: impl Into<Vec<usize>>) -> Result<Self, ShapeError> {
        Self::new(shape, self.data)
    }
}
