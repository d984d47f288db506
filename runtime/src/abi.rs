//! The binary interface of a compiled model: a mirror of `dorefac.h` (ABI 1), field by field.
//!
//! Plain data and function types only. All offsets are bytes from the descriptor's own address; 0 means absent.
#![allow(unsafe_code)]

use std::ffi::c_void;

/// The version of the interface.
pub const ABI: u32 = 1;
/// The first eight bytes of a descriptor.
pub const MAGIC: [u8; 8] = *b"DOREFAC\0";
/// The symbol under which a shared object exports its descriptor.
pub const SYMBOL: &[u8] = b"dorefac_model\0";

/// `run` succeeded.
pub const OK: i32 = 0;
/// Another ABI version, or a structure too small.
pub const E_ABI: i32 = -1;
/// No level of the image fits the CPU.
pub const E_CPU: i32 = -2;
/// The batch is 0 or above `max_batch`.
pub const E_BATCH: i32 = -3;
/// The arena is too small.
pub const E_ARENA: i32 = -4;
/// A pointer is not aligned.
pub const E_ALIGN: i32 = -5;
/// A required pointer is null.
pub const E_NULL: i32 = -6;
/// The call does not fit the kind of image.
pub const E_KIND: i32 = -7;
/// A gradient or a result of a training step is not finite.
pub const E_NONFINITE: i32 = -8;

/// 32-bit floats.
pub const F32: u32 = 1;
/// Unsigned bytes.
pub const U8: u32 = 2;
/// Signed bytes.
pub const I8: u32 = 3;
/// 32-bit integers.
pub const I32: u32 = 4;
/// 64-bit integers.
pub const I64: u32 = 5;
/// 64-bit floats.
pub const F64: u32 = 6;

/// The image computes a network's outputs.
pub const INFERENCE: u32 = 1;
/// The image does one step of training.
pub const TRAIN_STEP: u32 = 2;
/// Numeric profile: multiply, then add.
pub const NOFMA: u32 = 1;
/// Numeric profile: fused multiply-add.
pub const FMA: u32 = 2;
/// `arch` of an x86-64 image.
pub const ARCH_X86_64: u32 = 1;
/// `arch` of an aarch64 image.
pub const ARCH_AARCH64: u32 = 2;
/// The architecture of this process, 0 if there is no image for it.
pub const ARCH_HOST: u32 = if cfg!(target_arch = "x86_64") {
    ARCH_X86_64
} else if cfg!(target_arch = "aarch64") {
    ARCH_AARCH64
} else {
    0
};

/// Set in every valid feature mask.
pub const FEATURES_VALID: u64 = 1 << 63;
/// Bit positions of x86-64 features, in order, with the names used in messages.
pub const X86_FEATURES: [&str; 17] = [
    "sse4.1",
    "popcnt",
    "ssse3",
    "avx2",
    "fma",
    "bmi1",
    "bmi2",
    "lzcnt",
    "avx512",
    "vnni",
    "vpopcntdq",
    "bitalg",
    "vbmi",
    "avxvnni",
    "gfni",
    "amx-int8",
    "amx permitted",
];
/// Bit positions of aarch64 features, in order.
pub const A64_FEATURES: [&str; 4] = ["dotprod", "i8mm", "fp16", "sve"];
/// AVX-VNNI: dot products in VEX form.
pub const X86_AVXVNNI: u64 = 1 << 13;
/// AMX is there.
pub const X86_AMX_INT8: u64 = 1 << 15;
/// AMX may be used by this process: set by the caller after `enable_amx() == 0`.
pub const X86_AMX_PERMITTED: u64 = 1 << 16;

/// `dorefac_tensor`: an input or output.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TensorDesc {
    /// Offset of the name.
    pub name: i64,
    /// One of [`F32`] … [`F64`].
    pub dtype: u32,
    /// Number of extents in use.
    pub rank: u32,
    /// The extents; -1 first: the batch.
    pub dims: [i64; 6],
}

/// `dorefac_level`: a set of kernels for one CPU level.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LevelDesc {
    /// Offset of the name.
    pub name: i64,
    /// The feature bits it needs.
    pub required: u64,
    /// Bytes `prepare` fills; 0: no call needed.
    pub prepared_bytes: u64,
}

/// `dorefac_layer`: one step of the program.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LayerDesc {
    /// Offset of the name.
    pub name: i64,
    /// Offset of the kernel's name.
    pub kernel: i64,
    /// Multiply-accumulates a sample.
    pub macs: u64,
    /// Bytes of the layer.
    pub bytes: u64,
    /// Where its result lies in the arena, live when the profile hook is called after it.
    pub offset: u64,
    /// Element type of the result.
    pub dtype: u32,
    /// Layout of the result; see the metadata.
    pub layout: u32,
}

/// `dorefac_state`: a tensor of the training state.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct StateDesc {
    /// Offset of the name.
    pub name: i64,
    /// Byte offset inside the state.
    pub offset: u64,
    /// Number of f32 elements.
    pub count: u64,
    /// 0 parameter, 1 Adam m, 2 Adam v, 3 running statistic.
    pub role: u32,
    /// Number of extents in use.
    pub rank: u32,
    /// The extents.
    pub dims: [i64; 6],
}

/// `dorefac_model`: the descriptor.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // one to one with the header, which documents them
pub struct ModelDesc {
    pub magic: [u8; 8],
    pub abi: u32,
    pub size: u32,
    pub graph_hash: u64,
    pub arch: u32,
    pub kind: u32,
    pub profile: u32,
    pub reserved: u32,
    pub n_inputs: u32,
    pub n_outputs: u32,
    pub n_levels: u32,
    pub n_layers: u32,
    pub n_states: u32,
    pub arena_align: u32,
    pub inputs: i64,
    pub outputs: i64,
    pub levels: i64,
    pub layers: i64,
    pub states: i64,
    pub arena_fixed: u64,
    pub arena_per_sample: u64,
    pub arena_per_worker: u64,
    pub state_bytes: u64,
    pub max_batch: u64,
    pub metadata: i64,
    pub run: i64,
    pub cpu: i64,
    pub enable_amx: i64,
    pub init_state: i64,
    pub prepare: i64,
}

/// `dorefac_task`.
pub type Task = unsafe extern "C" fn(data: *mut c_void, i: u64, worker: u32);
/// `dorefac_parallel_for`.
pub type ParallelFor = unsafe extern "C" fn(pool: *mut c_void, task: Task, data: *mut c_void, n: u64);
/// `dorefac_profile`.
pub type Profile = unsafe extern "C" fn(ctx: *mut c_void, layer: u32, phase: u32);

/// `dorefac_train`: what a training step needs besides the batch.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // one to one with the header, which documents them
pub struct Train {
    pub size: u32,
    pub flags: u32,
    pub step: u64,
    pub seed: [u64; 2],
    pub sample0: u64,
    pub state: *mut c_void,
    pub grads: *mut c_void,
    pub labels: *const i32,
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    pub weight_decay: f64,
    pub bn_momentum: f64,
    pub loss_scale: f64,
    pub loss: f64,
    pub correct: u64,
    pub bad_state: i32,
    pub bad_layer: i32,
}

/// `dorefac_call`: one call of `run`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // one to one with the header, which documents them
pub struct Call {
    pub abi: u32,
    pub size: u32,
    pub features: u64,
    pub batch: u64,
    pub prepared: *const c_void,
    pub inputs: *const *const c_void,
    pub outputs: *const *mut c_void,
    pub arena: *mut c_void,
    pub arena_size: u64,
    pub parallel_for: Option<ParallelFor>,
    pub pool: *mut c_void,
    pub workers: u32,
    pub level: u32,
    pub profile: Option<Profile>,
    pub profile_ctx: *mut c_void,
    pub train: *mut Train,
}

/// `dorefac_run_fn`.
pub type RunFn = unsafe extern "C" fn(*mut Call) -> i32;
/// `dorefac_cpu_fn`.
pub type CpuFn = unsafe extern "C" fn(u64, u64) -> u64;
/// `dorefac_enable_amx_fn`.
pub type EnableAmxFn = unsafe extern "C" fn() -> i64;
/// `dorefac_prepare_fn`.
pub type PrepareFn = unsafe extern "C" fn(u32, *mut c_void) -> i32;
/// `dorefac_init_state_fn`.
pub type InitStateFn = unsafe extern "C" fn(*mut c_void, *const u64) -> i32;

/// What an error code of `run` says.
pub fn code_text(code: i32) -> &'static str {
    match code {
        OK => "success",
        E_ABI => "the image and this runtime disagree about the interface",
        E_CPU => "no level of the image fits this CPU",
        E_BATCH => "the batch is 0 or above the image's greatest",
        E_ARENA => "the arena is too small",
        E_ALIGN => "a buffer is not aligned",
        E_NULL => "a required pointer is null",
        E_KIND => "the call does not fit the kind of image",
        E_NONFINITE => "a result is not finite",
        _ => "an unknown error code",
    }
}

/// The kernel's HWCAP words for `cpu`: zeros where it ignores them.
pub fn hwcaps() -> (u64, u64) {
    #[cfg(all(target_arch = "aarch64", target_os = "linux"))]
    {
        unsafe extern "C" {
            fn getauxval(kind: std::ffi::c_ulong) -> std::ffi::c_ulong;
        }
        // SAFETY: getauxval only reads the auxiliary vector; unknown kinds give 0.
        unsafe { (getauxval(16), getauxval(26)) }
    }
    #[cfg(not(all(target_arch = "aarch64", target_os = "linux")))]
    (0, 0)
}

/// Whether the CPU has AMX tiles with 8-bit products and the operating system lets this process use them, which is asked for:
/// the first time that makes every later signal stack of the process larger.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub fn permit_amx() -> bool {
    let [leaf, bits] = [7, 1 << 24 | 1 << 25];
    if std::arch::x86_64::__cpuid(0).eax < leaf || std::arch::x86_64::__cpuid_count(leaf, 0).edx & bits != bits {
        return false;
    }
    let answer: i64;
    // SAFETY: the system call arch_prctl(ARCH_REQ_XCOMP_PERM, 18) reads and writes no memory of the process; it overwrites
    // rcx and r11.
    unsafe {
        std::arch::asm!("syscall", inlateout("rax") 158i64 => answer, in("rdi") 0x1023, in("rsi") 18,
            out("rcx") _, out("r11") _, options(nostack));
    }
    answer == 0
}

/// Whether AMX may be used: not here.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub fn permit_amx() -> bool {
    false
}

/// The names of the features in `mask`, for messages.
pub fn feature_names(mask: u64) -> String {
    let table: &[&str] = if ARCH_HOST == ARCH_AARCH64 { &A64_FEATURES } else { &X86_FEATURES };
    let mut names = Vec::new();
    for bit in 0..63 {
        if mask >> bit & 1 == 1 {
            names.push(table.get(bit).map_or_else(|| format!("bit {bit}"), |n| (*n).to_owned()));
        }
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::{offset_of, size_of};

    #[test]
    fn sizes_are_those_of_the_header() {
        assert_eq!(size_of::<TensorDesc>(), 64);
        assert_eq!(size_of::<LevelDesc>(), 24);
        assert_eq!(size_of::<LayerDesc>(), 48);
        assert_eq!(size_of::<StateDesc>(), 80);
        assert_eq!(size_of::<ModelDesc>(), 192);
        assert_eq!(size_of::<Train>(), 144);
        assert_eq!(size_of::<Call>(), 112);
        assert_eq!(offset_of!(ModelDesc, inputs), 64);
        assert_eq!(offset_of!(ModelDesc, run), 152);
        assert_eq!(offset_of!(Call, parallel_for), 64);
        assert_eq!(offset_of!(Train, lr), 64);
        assert_eq!(offset_of!(Train, bad_state), 136);
    }

    #[test]
    fn features_have_names() {
        assert!(feature_names(FEATURES_VALID).is_empty());
        assert!(feature_names(1 << 40).contains("bit 40"));
    }
}
