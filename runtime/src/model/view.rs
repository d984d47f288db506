//! Reading a descriptor: strings and arrays at self-relative offsets.
#![allow(unsafe_code)]

use super::{DType, Layer, Level, Port, State};
use crate::abi;
use std::ffi::{CStr, c_char};

/// Reads the arrays and strings of a descriptor.
pub(super) struct View {
    base: *const u8,
}

impl View {
    /// # Safety
    /// `base` is a checked descriptor whose offsets and counts are the compiler's; the view does not outlive it.
    pub(super) unsafe fn new(base: *const u8, _: &abi::ModelDesc) -> Self {
        View { base }
    }

    pub(super) fn text(&self, offset: i64) -> String {
        if offset == 0 {
            return String::new();
        }
        // SAFETY: by the contract of `new` the offset is that of a NUL-terminated string of the image.
        let text = unsafe { CStr::from_ptr(self.base.wrapping_offset(offset as isize).cast::<c_char>()) };
        text.to_string_lossy().into_owned()
    }

    fn array<T: Copy>(&self, offset: i64, count: u32) -> Vec<T> {
        let first = self.base.wrapping_offset(offset as isize).cast::<T>();
        let count = if offset == 0 { 0 } else { count as usize };
        // SAFETY: by the contract of `new` that many `T` lie there; no alignment is assumed.
        (0..count).map(|i| unsafe { first.wrapping_add(i).read_unaligned() }).collect()
    }

    pub(super) fn ports(&self, offset: i64, count: u32) -> Result<Vec<Port>, String> {
        let port = |t: abi::TensorDesc| {
            let name = self.text(t.name);
            let dtype = DType::from_code(t.dtype).filter(|d| !matches!(d, DType::I8 | DType::F64));
            let Some(dtype) = dtype else {
                return Err(format!("tensor `{name}` has element type {}, which this runtime does not pass", t.dtype));
            };
            let dims: Option<Vec<_>> = t.dims.get(..t.rank as usize).and_then(|dims| {
                let one = |(axis, &d): (usize, &i64)| match d {
                    -1 if axis == 0 => Some(None),
                    d => usize::try_from(d).ok().map(Some),
                };
                dims.iter().enumerate().map(one).collect()
            });
            let size = |dims: &Vec<Option<usize>>| {
                dims.iter()
                    .flatten()
                    .try_fold(dtype.size(), |a, &d| a.checked_mul(d))
                    .filter(|&n| n <= isize::MAX as usize)
            };
            match dims.filter(|d| size(d).is_some()) {
                Some(dims) => Ok(Port { name, dtype, dims }),
                None => Err(format!(
                    "tensor `{name}` has an impossible shape {:?} of rank {}; compile it again",
                    t.dims, t.rank
                )),
            }
        };
        self.array::<abi::TensorDesc>(offset, count).into_iter().map(port).collect()
    }

    pub(super) fn levels(&self, d: &abi::ModelDesc) -> Vec<Level> {
        let one = |l: abi::LevelDesc| Level {
            name: self.text(l.name),
            required: l.required,
            prepared_bytes: l.prepared_bytes,
        };
        self.array(d.levels, d.n_levels).into_iter().map(one).collect()
    }

    pub(super) fn layers(&self, d: &abi::ModelDesc) -> Vec<Layer> {
        let one = |l: abi::LayerDesc| Layer {
            name: self.text(l.name),
            kernel: self.text(l.kernel),
            macs: l.macs,
            bytes: l.bytes,
            offset: l.offset,
            dtype: DType::from_code(l.dtype),
            layout: l.layout,
        };
        self.array(d.layers, d.n_layers).into_iter().map(one).collect()
    }

    pub(super) fn states(&self, d: &abi::ModelDesc) -> Vec<State> {
        let one = |s: abi::StateDesc| State {
            name: self.text(s.name),
            offset: s.offset,
            count: s.count,
            role: s.role,
            dims: s.dims.iter().take(s.rank as usize).map(|&d| usize::try_from(d).unwrap_or(0)).collect(),
        };
        self.array(d.states, d.n_states).into_iter().map(one).collect()
    }
}
