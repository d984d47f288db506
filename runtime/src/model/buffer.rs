//! Memory aligned to 64 bytes: arenas, prepared weights, training state.
#![allow(unsafe_code)]

/// 64 bytes at a 64-byte boundary.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; 64]);

/// A zeroed block of memory aligned to 64 bytes that only grows.
#[derive(Default)]
pub struct AlignedBuffer {
    lines: Vec<Line>,
}

impl AlignedBuffer {
    /// Makes it at least `bytes` long; new bytes are 0.
    ///
    /// # Errors
    /// When the memory is not to be had.
    pub fn grow(&mut self, bytes: u64) -> Result<(), std::collections::TryReserveError> {
        let lines = usize::try_from(bytes.div_ceil(64)).unwrap_or(usize::MAX);
        if lines > self.lines.len() {
            self.lines.try_reserve_exact(lines - self.lines.len())?;
            self.lines.resize(lines, Line([0; 64]));
        }
        Ok(())
    }

    /// Bytes, a multiple of 64.
    pub fn len(&self) -> usize {
        self.lines.len() * 64
    }

    /// Whether it holds nothing yet.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The first byte's address.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.lines.as_mut_ptr().cast()
    }

    /// The first byte's address, for reading.
    pub fn as_ptr(&self) -> *const u8 {
        self.lines.as_ptr().cast()
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: the lines are contiguous, initialised and without padding.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len()) }
    }

    /// The bytes as 32-bit floats, for reading.
    pub fn as_f32(&self) -> &[f32] {
        // SAFETY: as above; every bit pattern is a float, and the alignment suffices.
        unsafe { std::slice::from_raw_parts(self.as_ptr().cast(), self.len() / 4) }
    }

    /// The bytes as 32-bit floats.
    pub fn as_f32_mut(&mut self) -> &mut [f32] {
        let n = self.len() / 4;
        // SAFETY: as above; every bit pattern is a float, and the alignment suffices.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr().cast(), n) }
    }
}
