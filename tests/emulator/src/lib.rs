//! AMX and AVX-VNNI in software: where the CPU has not got them, their instructions raise an illegal-instruction signal; the
//! handler computes what they would have and goes on behind them. So tests run the code that is generated for such CPUs, all
//! other instructions on the CPU itself.
//!
//! What the instructions do is taken from the Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2 and
//! volume 1 chapters 13 and 18, refusals included: a tile that is not configured, reserved bytes of a configuration, operands
//! that do not fit each other end the process as they would there.
//!
//! Must never know what the code computes. It tells nothing of speed.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod dot;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod frame;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod tiles;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod trap;

use dorefa_runtime::{Model, abi};
use std::sync::OnceLock;

/// Makes the instructions run in this process, on the CPU where it has them and else in software, from now on; gives the feature
/// bits of [`abi`] of those that do. Later calls cost nothing.
pub fn install() -> u64 {
    static FEATURES: OnceLock<u64> = OnceLock::new();
    *FEATURES.get_or_init(handled)
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn handled() -> u64 {
    let (tiles, dot) = (abi::permit_amx(), std::arch::is_x86_feature_detected!("avxvnni"));
    let trapped = (tiles && dot) || trap::install();
    let avx = std::arch::is_x86_feature_detected!("avx2");
    let amx = if tiles || trapped { abi::X86_AMX_INT8 | abi::X86_AMX_PERMITTED } else { 0 };
    amx | if dot || avx && trapped { abi::X86_AVXVNNI } else { 0 }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn handled() -> u64 {
    0
}

/// The same model on a CPU that also has what [`install`] gives.
#[allow(unsafe_code)]
pub fn with_features(model: Model) -> Model {
    // SAFETY: these instructions run in this process.
    unsafe { model.assume(install()) }
}
