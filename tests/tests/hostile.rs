//! Files that are no models, or are damaged: exit code 2 with a report and no output file, or exit code 0 and code that
//! agrees with the interpreter. Never a signal, a panic, more than 60 s or more than 2 GiB.
//!
//! `HOSTILE_FLIPS` sets how many single bytes are changed in each model (default 60).

use dorefac::codegen::target::Arch;
use dorefac_tests::native::compile;
use dorefac_tests::onnx::{self, field, number};
use dorefac_tests::{limited, noise, repository, shared};
use std::path::{Path, PathBuf};

/// Compiles a file: it is refused without an output, or compiled and right. Gives whether it was refused.
fn refused_or_right(model: &Path, what: &str) -> bool {
    let output = model.with_extension("so");
    let (file, out) = (model.display().to_string(), output.display().to_string());
    let (code, message) = limited(&["compile", &file, "-o", &out]);
    match code {
        0 => {
            std::fs::remove_file(&output).expect("an output");
            let (code, message) = limited(&["verify", &file, "--samples", "2"]);
            assert_eq!(code, 0, "{what}: compiled, but verify says {message}");
        }
        2 => {
            assert!(message.starts_with("error: ") && message.contains(&file), "{what}: unclear report: {message}");
            let left: Vec<_> = std::fs::read_dir(model.parent().expect("folder")).expect("folder").collect();
            let names = left.into_iter().filter_map(|e| Some(e.ok()?.file_name())).collect::<Vec<_>>();
            assert!(!output.exists() && names.len() <= 2, "{what}: left files: {names:?}");
        }
        other => panic!("{what}: exit code {other}: {message}"),
    }
    code == 2
}

/// A folder with a file of these bytes, named as the model is.
fn damaged(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join(name);
    std::fs::write(&file, bytes).expect("writes");
    (folder, file)
}

fn truncated(model: &Path, name: &str) {
    let bytes = std::fs::read(model).expect("model");
    let refused = (0..50).filter(|k| {
        let (_folder, file) = damaged(name, &bytes[..bytes.len() * k / 50]);
        refused_or_right(&file, &format!("{name} cut at {k}/50"))
    });
    assert!(refused.count() >= 45, "{name}: parts are taken for the whole");
}

fn flipped(model: &Path, name: &str) {
    let bytes = std::fs::read(model).expect("model");
    let count = std::env::var("HOSTILE_FLIPS").ok().and_then(|v| v.parse().ok()).unwrap_or(60);
    // Every other byte is one near text: names, operators, attributes rather than weights.
    let texts: Vec<usize> = (8..bytes.len().saturating_sub(8))
        .filter(|&i| bytes[i - 8..i + 8].iter().filter(|b| b.is_ascii_alphabetic()).count() >= 8)
        .collect();
    let draw = noise(3 * count, 5);
    let unit = |i: usize| f64::from(draw[i].abs().fract());
    for i in 0..count {
        let anywhere = (unit(3 * i) * bytes.len() as f64) as usize;
        let near = texts.get((unit(3 * i) * texts.len() as f64) as usize).copied();
        let at = if i % 2 == 0 { anywhere } else { near.unwrap_or(anywhere) };
        let mut wrong = bytes.clone();
        wrong[at] ^= if unit(3 * i + 1) < 0.5 {
            1 << (unit(3 * i + 2) * 8.0) as u32
        } else {
            1 + (unit(3 * i + 2) * 254.0) as u8
        };
        let (_folder, file) = damaged(name, &wrong);
        refused_or_right(&file, &format!("{name}, byte {at} is {:#x} instead of {:#x}", wrong[at], bytes[at]));
    }
}

#[test]
fn no_models_at_all() {
    let wrong: [(&str, &[u8]); 7] = [
        ("empty.onnx", b""),
        ("empty.dorefa", b""),
        ("text.onnx", b"this is not a model, it is text\n"),
        ("zeros.onnx", &[0; 4096]),
        ("ones.onnx", &[0xff; 4096]),
        ("deep.onnx", &[0x3b; 100_000]),
        ("nested.dorefa", b"dorefa 1\ngraph g(x: f32[N, 1]) -> (y) { y = ((((((((((((((((((((((((((((((((((((((((((("),
    ];
    for (name, bytes) in wrong {
        let (_folder, file) = damaged(name, bytes);
        assert!(refused_or_right(&file, name), "{name} is taken for a model");
    }
    for name in ["folder.onnx", "folder.dorefa"] {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join(name);
        std::fs::create_dir(&file).expect("folder");
        assert!(refused_or_right(&file, name));
        assert!(refused_or_right(&folder.path().join(format!("missing-{name}")), name));
    }
}

/// y = Gemm(x, w) in ONNX, x (1, 4) and w (4, 3) in the file `location`.
fn external(location: &str) -> Vec<u8> {
    let entry = [field(1, b"location"), field(2, location.as_bytes())].concat();
    let data = [number(1, 4), number(1, 3), number(2, onnx::FLOAT), field(8, b"w")].concat();
    let w = field(5, &[data, field(13, &entry), number(14, 1)].concat());
    let gemm = onnx::node("Gemm", &["x", "w"], &["y"], &[]);
    onnx::model(&[onnx::input("x", &[1, 4]), onnx::output("y"), w, gemm])
}

#[test]
fn external_data() {
    let (folder, file) = damaged("net.onnx", &external("net.data"));
    assert!(refused_or_right(&file, "missing external data"));
    let (_, message) = limited(&["inspect", &file.display().to_string()]);
    assert!(message.contains("net.data"), "does not name the file: {message}");
    std::fs::write(folder.path().join("net.data"), [0; 44]).expect("writes");
    assert!(refused_or_right(&file, "short external data"));
    std::fs::write(folder.path().join("net.data"), [0; 48]).expect("writes");
    assert!(!refused_or_right(&file, "whole external data"));
    for location in ["../net.data", "/etc/hostname", "", ".", "a/../../net.data"] {
        let (_folder, file) = damaged("net.onnx", &external(location));
        assert!(refused_or_right(&file, location), "external data may lie at `{location}`");
    }
    // A symbolic link does not lead out of the folder, and what it leads to inside is fine.
    let (folder, file) = damaged("net.onnx", &external("net.data"));
    let outside = tempfile::tempdir().expect("folder");
    std::fs::write(outside.path().join("secret"), [0; 48]).expect("writes");
    std::os::unix::fs::symlink(outside.path().join("secret"), folder.path().join("net.data")).expect("links");
    let (code, message) = limited(&["inspect", &file.display().to_string()]);
    assert!(code == 2 && message.contains("links out"), "{message}");
    std::fs::remove_file(folder.path().join("net.data")).expect("removes");
    std::fs::create_dir(folder.path().join("net.data")).expect("folder");
    let (code, message) = limited(&["inspect", &file.display().to_string()]);
    assert!(code == 2 && message.contains("net.data"), "{message}");
}

#[test]
fn truncated_native_graph() {
    truncated(&repository().join("models/mnist.dorefa"), "net.dorefa");
}

#[test]
fn flipped_native_graph() {
    flipped(&repository().join("models/mnist.dorefa"), "net.dorefa");
}

#[test]
fn truncated_onnx() {
    let Some(model) = shared("models/third-party/TFC_1W2A.onnx") else { return };
    truncated(&model, "net.onnx");
}

#[test]
fn flipped_onnx() {
    for model in ["third-party/TFC_1W2A", "exporters/zzz_bn_w1a2_ts"] {
        let Some(model) = shared(&format!("models/{model}.onnx")) else { return };
        flipped(&model, "net.onnx");
    }
}

#[test]
fn truncated_shared_object() {
    let Some(host) = Arch::host() else { return };
    let folder = tempfile::tempdir().expect("folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    compile(&repository().join("models/mnist.dorefa"), Path::new(&path("net.so")), host, &[]);
    let x = dorefa_runtime::Tensor::f32([1, 1, 28, 28], noise(784, 1)).expect("shape");
    dorefa_runtime::io::npy::write(Path::new(&path("x.npy")), &x).expect("writes");
    let bytes = std::fs::read(path("net.so")).expect("compiled");
    for k in 0..50 {
        std::fs::write(path("cut.so"), &bytes[..bytes.len() * k / 50]).expect("writes");
        let (code, message) = limited(&["run", &path("cut.so"), "--input", &path("x.npy"), "--output", &path("y.npy")]);
        // The end of the file holds sections, which nothing needs to run it.
        let whole = k >= 48 && code == 0;
        assert!(whole || code == 2 && message.starts_with("error: "), "cut at {k}/50: exit code {code}: {message}");
        assert!(whole || !Path::new(&path("y.npy")).exists(), "cut at {k}/50: left an output");
    }
}
