//! An image in this process's memory.
//!
//! Data stand before the code in one reservation, because references are 32 bits wide. Must never know: how to call it
//! (the runtime does).
#![allow(unsafe_code)]

use super::layout;
use crate::codegen::entry::DESCRIPTOR;
use crate::codegen::target::Arch;
use crate::codegen::{CodegenError, Image};
use cranelift_jit::{ArenaMemoryProvider, BranchProtection, JITMemoryKind, JITMemoryProvider};

/// Executable memory that holds one model; freed when dropped, so nothing of it may be in use then.
pub struct JitImage {
    memory: ArenaMemoryProvider,
    descriptor: *const u8,
}

// SAFETY: the memory is never written after `new`, and the pointer leads into it.
unsafe impl Send for JitImage {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for JitImage {}

impl JitImage {
    /// Links `image` (finished by [`crate::codegen::entry::finish`]) into fresh memory.
    pub fn new(image: &Image) -> Result<JitImage, CodegenError> {
        image.check()?;
        if Arch::host() != Some(image.arch) {
            return Err(CodegenError::Foreign(image.arch.name()));
        }
        let id = image.find_data(DESCRIPTOR).ok_or_else(|| CodegenError::Spec("no descriptor".to_owned()))?;
        let failed = |e: &dyn std::fmt::Display| CodegenError::Memory(e.to_string());
        let l = layout::place(image);
        let (text_size, data_size) = (l.text_size as usize, l.data_size as usize);
        let mut memory =
            ArenaMemoryProvider::new_with_size(text_size + data_size + (256 << 10)).map_err(|e| failed(&e))?;
        let data = memory.allocate(data_size, 4096, JITMemoryKind::ReadOnly).map_err(|e| failed(&e))?;
        let text = memory.allocate(text_size, 4096, JITMemoryKind::Executable).map_err(|e| failed(&e))?;
        let (text_bytes, data_bytes) = layout::link(image, &l, text as u64, data as u64)?;
        // SAFETY: both regions were just allocated with these sizes, are writable until `finalize`, and do not overlap
        // the vectors.
        unsafe {
            std::ptr::copy_nonoverlapping(text_bytes.as_ptr(), text, text_size);
            std::ptr::copy_nonoverlapping(data_bytes.as_ptr(), data, data_size);
        }
        memory.finalize(BranchProtection::None).map_err(|e| failed(&e))?;
        let descriptor = data.wrapping_add(l.data[id.0 as usize] as usize).cast_const();
        Ok(JitImage { memory, descriptor })
    }

    /// The `dorefac_model`; valid as long as `self`.
    pub fn descriptor(&self) -> *const u8 {
        self.descriptor
    }

    /// The image as a model of the runtime, which keeps it alive.
    ///
    /// # Errors
    /// When the runtime refuses the descriptor: a bug.
    pub fn into_model(self) -> Result<dorefa_runtime::Model, dorefa_runtime::ModelError> {
        let descriptor = self.descriptor;
        // SAFETY: the descriptor leads into `self`, which the model keeps.
        unsafe { dorefa_runtime::Model::from_descriptor(descriptor, Box::new(self)) }
    }
}

impl Drop for JitImage {
    fn drop(&mut self) {
        // SAFETY: whoever holds pointers into the image must keep the `JitImage` alive; see its documentation.
        unsafe { self.memory.free_memory() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::entry::tests::{check_calls, tiny};
    use crate::emit::elf::shared_object;

    #[test]
    fn runs_from_memory() {
        let image = tiny(Arch::X86_64);
        let jit = JitImage::new(&image).unwrap();
        // SAFETY: the descriptor is of a finished image that lives on.
        unsafe { check_calls(jit.descriptor()) };
    }

    #[test]
    fn runs_from_a_shared_object() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tiny.so");
        std::fs::write(&path, shared_object(&tiny(Arch::X86_64), "tiny.so").unwrap()).unwrap();
        // SAFETY: the object has no initialisers; the descriptor is used while it is loaded.
        unsafe {
            let lib = libloading::Library::new(&path).unwrap();
            let descriptor: libloading::Symbol<*const u8> = lib.get(b"dorefac_model\0").unwrap();
            check_calls(*descriptor);
        }
    }
}
