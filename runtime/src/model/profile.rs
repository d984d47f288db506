//! The profile hook: what a session or a stepper tells its caller after each layer of an image.
#![allow(unsafe_code)]

use super::AlignedBuffer;
use std::any::Any;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// What the callback of [`crate::Session::run_profiled`] and [`super::Stepper::step_profiled`] sees after each layer.
pub struct LayerEvent<'a> {
    /// Index into [`crate::Model::layers`].
    pub layer: usize,
    /// The first sample of the chunk.
    pub first_sample: usize,
    /// Samples of the chunk.
    pub batch: usize,
    /// The whole arena; the layer's result starts at its `offset`.
    pub arena: &'a [u8],
    /// How long the layer took.
    pub elapsed: Duration,
}

/// The time a layer took in one profiled run, all chunks together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerTime {
    /// Index into [`crate::Model::layers`].
    pub layer: usize,
    /// Sum over the chunks.
    pub elapsed: Duration,
}

/// A profiled run's callback and times.
pub(super) type Profile<'a, 'b> = (&'a mut dyn FnMut(LayerEvent<'_>), &'b mut Vec<LayerTime>);

/// One time of zero for each of `layers` layers.
pub(super) fn zero_times(layers: usize) -> Vec<LayerTime> {
    (0..layers).map(|layer| LayerTime { layer, elapsed: Duration::ZERO }).collect()
}

/// The profile hook's context.
pub(super) struct Hook<'a> {
    callback: &'a mut dyn FnMut(LayerEvent<'_>),
    arena: *const u8,
    arena_len: usize,
    first_sample: usize,
    batch: usize,
    start: Instant,
    times: &'a mut Vec<LayerTime>,
    pub(super) panic: Option<Box<dyn Any + Send>>,
}

/// The image's profile callback; `ctx` is a [`Hook`].
pub(super) unsafe extern "C" fn hook(ctx: *mut c_void, layer: u32, phase: u32) {
    // SAFETY: `ctx` is the hook of the running call; the image calls it on the calling thread only, one at a time.
    let hook = unsafe { &mut *ctx.cast::<Hook<'_>>() };
    if phase == 0 {
        hook.start = Instant::now();
        return;
    }
    let elapsed = hook.start.elapsed();
    let layer = layer as usize;
    if let Some(time) = hook.times.get_mut(layer) {
        time.elapsed += elapsed;
    }
    // SAFETY: the arena is live and initialised, and no task runs while the hook does.
    let arena = unsafe { std::slice::from_raw_parts(hook.arena, hook.arena_len) };
    let event = LayerEvent { layer, first_sample: hook.first_sample, batch: hook.batch, arena, elapsed };
    if hook.panic.is_none() {
        hook.panic = catch_unwind(AssertUnwindSafe(|| (hook.callback)(event))).err();
    }
}

impl<'a> Hook<'a> {
    /// The context of a call on samples `first_sample` and following in `arena`, which must not grow during the call.
    pub(super) fn new(
        callback: &'a mut dyn FnMut(LayerEvent<'_>),
        times: &'a mut Vec<LayerTime>,
        arena: &AlignedBuffer,
        first_sample: usize,
        batch: usize,
    ) -> Self {
        let (arena, arena_len) = (arena.as_ptr(), arena.len());
        Hook { callback, arena, arena_len, first_sample, batch, start: Instant::now(), times, panic: None }
    }
}
