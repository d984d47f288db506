//! What this machine runs: what its CPU has, and AMX and AVX-VNNI, whose instructions run in software where it has not.

use dorefa_runtime::Model;
use dorefac::codegen::image::Image;
use dorefac::codegen::target::{Arch, Level, host_features, x86};
use dorefac::emit::jit::JitImage;

/// The features whose instructions run in this process.
pub fn features() -> u64 {
    host_features() | dorefac_emulator::install()
}

/// Whether code of this level runs here.
pub fn runs(level: &Level) -> bool {
    Arch::host() == Some(level.arch) && level.features & !features() == 0
}

/// `native` and, where the CPU has no AMX but its instructions run, that with AMX.
pub fn natives() -> &'static [&'static str] {
    // Code for AMX has AVX-512 in it too.
    let amx = Arch::host() == Some(Arch::X86_64) && host_features() & (x86::AVX512 | x86::AMX) == x86::AVX512;
    if amx && features() & x86::AMX != 0 { &["native", "native+amx"] } else { &["native"] }
}

/// The level `native`, with a feature of the command line's where that is one whose instructions run.
///
/// # Panics
/// Never: the name is a level.
pub fn native_with(feature: &str) -> Vec<Level> {
    let parse = |cpu: &str| Level::parse(cpu, &target_lexicon::Triple::host());
    let with = parse(&format!("native+{feature}")).ok().filter(|levels| levels.iter().all(runs));
    with.unwrap_or_else(|| parse("native").expect("a level"))
}

/// The levels that run here, by the names of the command line, [`natives`] last; says which do not.
///
/// # Panics
/// Never: the names are levels.
pub fn levels() -> Vec<(&'static str, Vec<Level>)> {
    let fixed: &[&str] = match Arch::host() {
        Some(Arch::X86_64) => &["x86-64-v2", "x86-64-v3", "x86-64-v4"],
        _ => &[],
    };
    let mut levels = Vec::new();
    for &cpu in fixed.iter().chain(natives()) {
        let level = Level::parse(cpu, &target_lexicon::Triple::host()).expect("a level");
        if level.iter().all(runs) {
            levels.push((cpu, level));
        } else {
            eprintln!("SKIPPED: this CPU lacks {cpu}");
        }
    }
    levels
}

/// The model of an image in memory, on a CPU with [`features`].
///
/// # Errors
/// When the image cannot be linked or its descriptor is for another machine.
pub fn model(image: &Image) -> Result<Model, String> {
    let model = JitImage::new(image).map_err(|e| e.to_string())?.into_model().map_err(|e| e.to_string())?;
    Ok(dorefac_emulator::with_features(model))
}
