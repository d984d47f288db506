//! Test support shared by the files in `tests/tests`.

use dorefa_runtime::Tensor;
use std::path::{Path, PathBuf};

/// The repository's top folder.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

/// A file of the folder `shared` beside the repository. Where there is none, says so, and gives `None`: the test is skipped.
pub fn shared(path: &str) -> Option<PathBuf> {
    let base = std::env::var_os("DOREFAC_SHARED").map_or_else(|| repository().join("../shared"), PathBuf::from);
    let file = base.join(path);
    if file.exists() {
        return Some(file);
    }
    eprintln!("SKIPPED: {} is absent; set DOREFAC_SHARED to the folder of test models", file.display());
    None
}

/// Greatest absolute difference of two float tensors, in units of the range of `want`.
pub fn difference(want: &Tensor, got: &Tensor) -> f64 {
    let (Some(a), Some(b)) = (want.as_f32(), got.as_f32()) else { return f64::INFINITY };
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    let (lo, hi) = a.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
    let worst = a.iter().zip(b).map(|(&x, &y)| f64::from(x - y).abs()).fold(0.0, f64::max);
    worst / f64::from(hi - lo).max(f64::MIN_POSITIVE)
}

/// The binary `dorefac` of this profile, built if need be. Cargo gives its path to tests of its own package only.
///
/// # Errors
/// When it cannot be built.
pub fn binary() -> std::io::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let profile = test.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = std::process::Command::new(cargo);
    build.args(["build", "--quiet", "-p", "dorefac", "--bin", "dorefac", "--manifest-path"]);
    build.arg(repository().join("Cargo.toml")).arg("--target-dir").arg(profile.parent().unwrap_or(profile));
    if profile.ends_with("release") {
        build.arg("--release");
    }
    if !build.status()?.success() {
        return Err(std::io::Error::other("cargo build -p dorefac failed"));
    }
    Ok(profile.join("dorefac"))
}
