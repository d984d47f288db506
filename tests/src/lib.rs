//! Test support shared by the files in `tests/tests`.

pub mod fuzz;
pub mod layers;
pub mod machine;
pub mod native;
pub mod onnx;
pub mod training;

use dorefa_runtime::Tensor;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The repository's top folder.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

/// Says that a test is skipped because something is absent. Under `CI=true` nothing may be skipped: the test fails.
///
/// # Panics
/// Under `CI=true`.
pub fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
    assert!(std::env::var_os("CI").is_none_or(|v| v != "true"), "{why}; under CI=true no test may be skipped");
}

/// A file of the folder `shared` beside the repository; `None` where there is none: the test is skipped.
pub fn shared(path: &str) -> Option<PathBuf> {
    let base = std::env::var_os("DOREFAC_SHARED").map_or_else(|| repository().join("../shared"), PathBuf::from);
    let file = base.join(path);
    if file.exists() {
        return Some(file);
    }
    skip(&format!("{} is absent; set DOREFAC_SHARED to the folder of test models", file.display()));
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

/// The bits of a float tensor.
pub fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.as_f32().unwrap_or_default().iter().map(|v| v.to_bits()).collect()
}

/// The numbers that the tests use as inputs: 0 ≤ x < 1, and a few just outside.
pub fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..len).map(|i| next() * if i % 17 == 16 { 2.5 } else { 1.0 } - if i % 13 == 12 { 1.0 } else { 0.0 }).collect()
}

/// The binary `dorefac` of this profile, built if need be. Cargo gives its path to tests of its own package only.
///
/// # Errors
/// When it cannot be built.
pub fn binary() -> std::io::Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT.get_or_init(|| build().map_err(|e| e.to_string())).clone().map_err(std::io::Error::other)
}

fn build() -> std::io::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let profile = test.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
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

/// Runs `dorefac`, with nothing on the search path: it needs no tool of the machine.
///
/// # Panics
/// When it cannot be built or started.
pub fn dorefac<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Output {
    let binary = binary().unwrap_or_else(|e| panic!("{e}"));
    Command::new(binary).args(args).env("PATH", "").output().unwrap_or_else(|e| panic!("dorefac does not start: {e}"))
}

/// Runs a command that must succeed.
///
/// # Panics
/// When it fails, with what it printed.
pub fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?} does not start: {e}"));
    done(&format!("{command:?}"), output)
}

/// Checks that a command succeeded.
///
/// # Panics
/// When it failed, with what it printed.
pub fn done(what: &str, output: Output) -> Output {
    let printed = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
    assert!(output.status.success(), "{what}: {}\n{printed}", output.status);
    output
}

/// Runs `dorefac` in at most 2 GiB and 60 s; gives its exit code and what it printed as errors.
///
/// # Panics
/// When it is ended by a signal, panics or takes longer.
pub fn limited(args: &[&str]) -> (i32, String) {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -c 0; ulimit -v 2097152; exec \"$0\" \"$@\""]).arg(binary().expect("builds"));
    let errors = tempfile::NamedTempFile::new().expect("file");
    command.args(args).stdout(std::process::Stdio::null()).stderr(errors.reopen().expect("file"));
    let mut child = command.spawn().expect("starts");
    let start = std::time::Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("waits") {
            break status;
        }
        if start.elapsed() > std::time::Duration::from_secs(60) {
            child.kill().expect("is ended");
            panic!("{args:?}: not done after 60 s");
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    let message = String::from_utf8_lossy(&std::fs::read(errors.path()).expect("errors")).into_owned();
    let code = status.code().unwrap_or_else(|| panic!("{args:?}: {status}\n{message}"));
    assert!(!message.contains("panicked") && !message.contains("internal error"), "{args:?}: {message}");
    (code, message)
}
