//! One call of an image's `run`: the structure of `dorefac.h`, filled in for inference and training alike.
#![allow(unsafe_code)]

use super::profile::{Hook, hook};
use super::{AlignedBuffer, Model};
use crate::abi;
use crate::pool::{Pool, parallel_for};
use std::ffi::c_void;
use std::panic::resume_unwind;
use std::ptr::{null, null_mut};

/// What a call works on.
pub(super) struct Call<'a> {
    pub model: &'a Model,
    /// Features of the CPU that may be used.
    pub features: u64,
    pub prepared: &'a AlignedBuffer,
    pub arena: &'a mut AlignedBuffer,
    pub pool: &'a Pool,
    pub samples: usize,
    /// The first sample of each input and output.
    pub inputs: &'a [*const c_void],
    pub outputs: &'a [*mut c_void],
}

impl Call<'_> {
    /// Calls the image; its code. A panic of the profile's callback goes on here.
    ///
    /// # Safety
    /// Inputs and outputs hold `samples` samples of each port; arena and prepared weights have the sizes that the
    /// descriptor asks for; `train` is null, or as `dorefac.h` demands for the call.
    pub(super) unsafe fn run(self, mut context: Option<Hook<'_>>, train: *mut abi::Train) -> i32 {
        let workers = self.pool.threads();
        let mut call = abi::Call {
            abi: abi::ABI,
            size: size_of::<abi::Call>() as u32,
            features: self.features,
            batch: self.samples as u64,
            prepared: if self.prepared.is_empty() { null() } else { self.prepared.as_ptr().cast() },
            inputs: self.inputs.as_ptr(),
            outputs: self.outputs.as_ptr(),
            arena: self.arena.as_mut_ptr().cast(),
            arena_size: self.arena.len() as u64,
            parallel_for: (workers > 1).then_some(parallel_for),
            pool: self.pool.as_context(),
            workers,
            level: 0,
            profile: context.is_some().then_some(hook),
            profile_ctx: context.as_mut().map_or(null_mut(), |c| (&raw mut *c).cast()),
            train,
        };
        // SAFETY: the caller's contract; pool and hook outlive the call.
        let code = unsafe { self.model.invoke(&mut call) };
        if let Some(panic) = context.and_then(|c| c.panic) {
            resume_unwind(panic);
        }
        code
    }
}
