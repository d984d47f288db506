//! AMX in software: where the CPU has none, its instructions raise an illegal-instruction signal; the handler computes what
//! they would have and goes on behind them. So tests run the code that is generated for AMX, everything but the tile
//! instructions on the CPU itself, on any x86-64 Linux.
//!
//! What the instructions do is taken from the Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2 and
//! volume 1 chapter 18, refusals included: a tile that is not configured, reserved bytes of a configuration, operands that do
//! not fit each other end the process as they would there.
//!
//! Must never know what the code computes. It tells nothing of speed.

mod tiles;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod trap;

use dorefa_runtime::{Model, abi};

pub use tiles::{Signs, Tiles};

/// Makes AMX instructions run in this process, on the CPU where it has them and else in software, from now on; whether they
/// do, which they always do on x86-64 Linux. Later calls cost nothing.
pub fn install() -> bool {
    static RUNS: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *RUNS.get_or_init(|| {
        let own = abi::permit_amx();
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        let own = own || {
            eprintln!("note: this CPU lacks AMX; its instructions run in software");
            trap::install()
        };
        own
    })
}

/// The same model on a CPU that has AMX, where [`install`] can make it so.
#[allow(unsafe_code)]
pub fn with_amx(model: Model) -> Model {
    if !install() {
        return model;
    }
    // SAFETY: AMX instructions run in this process, as was just seen to.
    unsafe { model.assume(abi::X86_AMX_INT8 | abi::X86_AMX_PERMITTED) }
}
