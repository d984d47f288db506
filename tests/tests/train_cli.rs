//! Training from the command line: it learns, resumes in the same bits, and refuses what does not fit.

use dorefa_runtime::{Data, Tensor, io};
use dorefac_tests::{dorefac, repository};
use std::path::{Path, PathBuf};

/// A network small enough to be trained, and interpreted, in no time.
const NET: &str = "dorefa 1
meta input.scale = \"1/255\"
graph small(x: f32[N, 1, 10, 10]) -> (logits) {
  c0 = conv(x, @conv0.w: f32[4, 1, 3, 3], @conv0.b: f32[4])
  a0 = quantize_activation(max_pool(c0, kernel=[2, 2], strides=[2, 2]), bits=2)
  c1 = conv(a0, quantize_weights(@conv1.w: f32[8, 4, 3, 3], bits=1))
  b1 = batch_norm(quantize_gradient(c1, bits=6), @bn1.gamma: f32[8], @bn1.beta: f32[8], @bn1.mean: f32[8], @bn1.var: f32[8], epsilon=1e-4)
  a1 = clip(b1, lo=0.0, hi=1.0)
  logits = matmul(reshape(a1, shape=[32]), @fc.w: f32[4, 32], @fc.b: f32[4])
}
";

/// Pictures of 4 classes: a bright square in one of the corners, on noise.
fn write_pictures(file: &Path, images: usize, seed: u64) {
    let noise = dorefac_tests::noise(images * 100, seed);
    let label = |i: usize| (i * 7 + i / 5) % 4;
    let pixel = |at: usize| {
        let (i, y, x) = (at / 100, at / 10 % 10, at % 10);
        let bright =
            (y / 5, x / 5) == (label(i) / 2, label(i) % 2) && (1..4).contains(&(y % 5)) && (1..4).contains(&(x % 5));
        ((noise[at].abs() * 0.5 + if bright { 0.5 } else { 0.0 }) * 255.0) as u8
    };
    let x = Tensor::new([images, 1, 10, 10], Data::U8((0..images * 100).map(pixel).collect())).expect("shape");
    let y = Tensor::new([images], Data::I64((0..images).map(|i| label(i) as i64).collect())).expect("shape");
    io::npz::write(file, &[("x".to_owned(), x), ("y".to_owned(), y)]).expect("writes");
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().expect("folder"));
        std::fs::write(place.path("net.dorefa"), NET).expect("writes");
        std::fs::create_dir(place.path("data")).expect("folder");
        write_pictures(&place.path("data/train.npz"), 400, 1);
        write_pictures(&place.path("data/test.npz"), 80, 2);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    /// The specification of the pictures.
    fn data(&self) -> String {
        format!("npz:{}", self.text("data"))
    }

    /// Runs `dorefac train`; exit code, standard output, standard error.
    fn train(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let ran = dorefac(&[&["train"], arguments].concat());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (ran.status.code(), text(&ran.stdout), text(&ran.stderr))
    }
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Options of a training of two steps an epoch.
const QUICK: [&str; 6] = ["--limit", "64", "--batch", "32", "--test", "none"];

#[test]
fn a_small_network_learns_and_its_checkpoint_is_a_model() {
    let place = Place::new();
    let (net, out) = (place.text("net.dorefa"), place.text("out.safetensors"));
    let data = place.data();
    let arguments = [&net, "--data", &data, "--batch", "20", "--epochs", "4", "--lr", "1e-2", "--out", &out, "--json"];
    let (code, stdout, stderr) = place.train(&arguments);
    assert_eq!(code, Some(0), "{stderr}");
    let document: serde_json::Value = serde_json::from_str(&stdout).expect("one JSON document");
    let loss = document["train_loss"].as_f64().expect("a loss");
    assert!(loss < 0.7 && document["steps"] == 80, "{document}");
    assert!(document["accuracy"].as_f64().is_some_and(|a| a > 0.8), "{document}");
    let table = std::fs::read_to_string(place.path("out.csv")).expect("table");
    assert_eq!(table.lines().count(), 5, "{table}");
    assert!(bytes(&place.path("out.svg")).starts_with(b"<svg"));
    assert!(stderr.lines().any(|l| l.starts_with("epoch 4/4  loss ")), "{stderr}");
    let inspected = dorefac(&["inspect", &out]);
    assert!(inspected.status.success(), "{}", String::from_utf8_lossy(&inspected.stderr));
}

#[test]
fn a_resumed_training_gives_the_same_file() {
    let place = Place::new();
    let (net, whole, half) =
        (place.text("net.dorefa"), place.text("whole.safetensors"), place.text("half.safetensors"));
    let data = place.data();
    let more = [
        "--threads",
        "2",
        "--data",
        &data,
        "--augment",
        "pad=2",
        "--bits",
        "2,3,4",
        "--weight-decay",
        "1e-4",
        "--seed",
        "7",
    ];
    let (code, _, stderr) = place.train(&[&[&net, "--epochs", "2", "--out", &whole], &QUICK[..], &more].concat());
    assert_eq!(code, Some(0), "{stderr}");
    // The interpreter computes the same training, on any number of threads.
    let (code, _, stderr) =
        place.train(&[&[&net, "--epochs", "2", "--out", &half, "--engine", "interp"], &QUICK[..], &more].concat());
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(bytes(&place.path("whole.safetensors")), bytes(&place.path("half.safetensors")));
    let (code, _, stderr) = place.train(&[&[&net, "--epochs", "1", "--out", &half], &QUICK[..], &more].concat());
    assert_eq!(code, Some(0), "{stderr}");
    assert_ne!(bytes(&place.path("whole.safetensors")), bytes(&place.path("half.safetensors")));
    let (code, _, stderr) = place.train(&["--resume", &half, "--epochs", "2", "--out", &half]);
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(bytes(&place.path("whole.safetensors")), bytes(&place.path("half.safetensors")));
    // Another option, another network, or a damaged file: one message, and the checkpoint stays.
    let before = bytes(&place.path("half.safetensors"));
    std::fs::write(place.path("cut.safetensors"), &before[..before.len() / 2]).expect("writes");
    let cut = place.text("cut.safetensors");
    for (arguments, word) in [
        (&["--resume", &half, "--batch", "16", "--epochs", "3"][..], "batch = 32, now it is 16"),
        (&[&net, "--resume", &half, "--epochs", "3"], "another graph"),
        (&["--resume", &cut], "truncated"),
        (&[&net, "--init", &cut, "--data", &data], "truncated"),
        (&["--resume", &net], "safetensors"),
    ] {
        let (code, _, stderr) = place.train(&[arguments, &["--out", &half]].concat());
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains(word) && !stderr.contains("panicked"), "{stderr}");
    }
    assert_eq!(bytes(&place.path("half.safetensors")), before);
    // Weights alone start a new training.
    let (code, _, stderr) =
        place.train(&[&[&net, "--init", &half, "--epochs", "1", "--data", &data, "--out", &cut], &QUICK[..]].concat());
    assert_eq!(code, Some(0), "{stderr}");
}

/// `--best` is kept over a resume that does not repeat it, and its checkpoint is a model.
#[test]
fn the_best_checkpoint_is_kept_over_a_resume() {
    let place = Place::new();
    let (net, out, best) = (place.text("net.dorefa"), place.text("out.safetensors"), place.text("best.safetensors"));
    let data = place.data();
    // A learning rate at which the accuracy goes up and down.
    let start = [&net, "--data", &data, "--batch", "20", "--lr", "3e-2", "--epochs", "2", "--out", &out];
    let (code, _, stderr) = place.train(&[&start[..], &["--best", &best]].concat());
    assert_eq!(code, Some(0), "{stderr}");
    let (code, stdout, stderr) = place.train(&["--resume", &out, "--epochs", "7", "--out", &out, "--json"]);
    assert_eq!(code, Some(0), "{stderr}");
    let document: serde_json::Value = serde_json::from_str(&stdout).expect("one JSON document");
    assert_eq!(document["best_checkpoint"], best, "{document}");
    let epoch = document["best_epoch"].as_u64().expect("an epoch") as usize;
    let table = std::fs::read_to_string(place.path("out.csv")).expect("table");
    let accuracies: Vec<f64> = table.lines().skip(1).filter_map(|l| l.split(',').nth(6)?.parse().ok()).collect();
    let greatest = accuracies.iter().copied().fold(0.0, f64::max);
    assert_eq!(accuracies.iter().position(|a| *a == greatest), Some(epoch - 1), "{table}");
    assert_eq!(document["best_accuracy"].as_f64(), Some(greatest), "{document}");
    assert!(table.lines().nth(epoch).is_some_and(|l| l.ends_with(",1")), "{table}");
    let scored = dorefac(&["eval", &best, "--data", &data, "--json"]);
    let scored: serde_json::Value = serde_json::from_slice(&scored.stdout).expect("one JSON document");
    assert_eq!(scored["accuracy"].as_f64(), Some(greatest), "{scored}");
    // What cannot be kept is one message; `none` keeps it no longer.
    let files = || std::fs::read_dir(place.0.path()).expect("folder").count();
    let before = files();
    for (arguments, word) in [
        (&["--best", &out][..], "also the place"),
        (&["--best", "best.bin"], ".safetensors"),
        (&["--test", "none"], "no images"),
        (&["--best", "none/best.safetensors"], "no folder"),
    ] {
        let (code, _, stderr) = place.train(&[&["--resume", &out, "--epochs", "8", "--out", &out], arguments].concat());
        assert_eq!((code, stderr.matches("error: ").count()), (Some(2), 1), "{stderr}");
        assert!(stderr.contains(word), "{stderr}");
    }
    let more = ["--resume", &out, "--epochs", "8", "--out", &out, "--best", "none", "--test", "none", "--json"];
    let (code, stdout, stderr) = place.train(&more);
    assert!(code == Some(0) && stdout.contains("\"best_checkpoint\":null"), "{stderr}");
    assert_eq!(files(), before);
}

#[test]
fn what_does_not_fit_is_one_message_and_leaves_no_file() {
    let place = Place::new();
    let (net, out) = (place.text("net.dorefa"), place.text("out.safetensors"));
    let data = place.data();
    let other = repository().join("models/mnist.dorefa");
    for (arguments, word) in [
        (vec![net.as_str()], "--data"),
        (vec![&net, "--data", "nonsense"], "nonsense"),
        (vec![&net, "--data", &data, "--batch", "0"], "--batch"),
        (vec![&net, "--data", &data, "--resume", &out, "--init", &out], "--init"),
        (vec![&net, "--data", &data, "--schedule", "linear"], "schedule"),
        (vec![&net, "--data", &data, "--bits", "1,2"], "W,A,G"),
        (vec![&net, "--data", &data, "--augment", "spin"], "augment"),
        (vec![other.to_str().expect("UTF-8"), "--data", &data], "10"),
    ] {
        let (code, _, stderr) = place.train(&[&arguments[..], &["--out", &out]].concat());
        assert_eq!(code, Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(word) && !stderr.contains("panicked"), "{arguments:?}: {stderr}");
    }
    let (code, _, stderr) = place.train(&[&net, "--data", &data, "--out", &place.text("out.bin")]);
    assert!(code == Some(2) && stderr.contains(".safetensors"), "{stderr}");
    assert_eq!(std::fs::read_dir(place.0.path()).expect("folder").count(), 2);
}

/// The shell's limits stand in for a full disk and a user at the keyboard.
#[cfg(target_os = "linux")]
mod shell {
    use super::*;
    use std::process::Command;

    fn sh(script: &str, arguments: &[&str]) -> (Option<i32>, String) {
        let ran = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(dorefac_tests::binary().expect("built"))
            .args(arguments)
            .output();
        let ran = ran.expect("a shell");
        (ran.status.code(), String::from_utf8_lossy(&ran.stderr).into_owned())
    }

    #[test]
    fn a_full_disk_is_a_failure_of_the_run_and_keeps_the_checkpoint() {
        let place = Place::new();
        let (net, out) = (place.text("net.dorefa"), place.text("out.safetensors"));
        let (code, _, stderr) =
            place.train(&[&[&net, "--data", &place.data(), "--epochs", "1", "--out", &out], &QUICK[..]].concat());
        assert_eq!(code, Some(0), "{stderr}");
        let before = bytes(&place.path("out.safetensors"));
        let arguments = ["train", "--resume", &out, "--epochs", "2", "--out", &out];
        let (code, stderr) = sh("trap '' XFSZ; ulimit -f 2; exec \"$@\"", &arguments);
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains("out.safetensors") && !stderr.contains("panicked"), "{stderr}");
        assert_eq!(bytes(&place.path("out.safetensors")), before);
        assert!(
            std::fs::read_dir(place.0.path()).expect("folder").all(|f| f
                .expect("file")
                .path()
                .extension()
                .is_none_or(|e| e != "tmp"))
        );
    }

    #[test]
    fn an_interrupt_saves_and_the_rest_gives_the_same_file() {
        let place = Place::new();
        let (net, whole, part) =
            (place.text("net.dorefa"), place.text("whole.safetensors"), place.text("part.safetensors"));
        let data = place.data();
        let long = ["--data", &data, "--batch", "4", "--epochs", "2", "--test", "none"];
        let (code, _, stderr) = place.train(&[&[net.as_str(), "--out", &whole], &long[..]].concat());
        assert_eq!(code, Some(0), "{stderr}");
        // Interrupted as soon as a first checkpoint is there.
        let script = "\"$@\" & p=$!; while [ ! -e \"$OUT\" ]; do sleep 0.01; done; kill -INT $p; wait $p";
        let script = format!("OUT='{part}'; {script}");
        let start = [&["train", "--engine", "interp", &net, "--out", &part, "--save-every", "5"], &long[..]].concat();
        let (code, stderr) = sh(&script, &start);
        assert_eq!(code, Some(130), "{stderr}");
        assert!(stderr.contains("interrupted after step"), "{stderr}");
        let (code, _, stderr) = place.train(&["--resume", &part, "--out", &part]);
        assert_eq!(code, Some(0), "{stderr}");
        assert_eq!(bytes(&place.path("whole.safetensors")), bytes(&place.path("part.safetensors")));
    }
}

/// An exported network trains on as what it was: its quantisers, folded weights among them, are found again.
#[test]
fn a_network_from_an_onnx_file_trains() {
    let place = Place::new();
    let (net, first, onnx) = (place.text("net.dorefa"), place.text("first.safetensors"), place.text("net.onnx"));
    let data = place.data();
    let start = [&net, "--data", &data, "--batch", "20", "--epochs", "4", "--lr", "1e-2", "--out", &first];
    let (code, _, stderr) = place.train(&start);
    assert_eq!(code, Some(0), "{stderr}");
    let exported = dorefac(&["export", &first, "-o", &onnx]);
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    let on = place.text("on.safetensors");
    let more = ["--data", &data, "--batch", "20", "--epochs", "1", "--bits", "1,2,6", "--out", &on, "--json"];
    let (code, stdout, stderr) = place.train(&[&[&onnx, "--init", &onnx], &more[..]].concat());
    assert_eq!(code, Some(0), "{stderr}");
    let document: serde_json::Value = serde_json::from_str(&stdout).expect("one JSON document");
    assert!(document["accuracy"].as_f64().is_some_and(|a| a > 0.8), "{document}");
    let text = String::from_utf8_lossy(&bytes(&place.path("on.safetensors"))).into_owned();
    for quantiser in ["quantize_weights", "quantize_activation", "quantize_gradient"] {
        assert!(text.contains(quantiser), "no {quantiser} in the checkpoint");
    }
}

/// Networks of other quantisers say which node cannot train and what to do.
#[test]
fn other_quantisers_are_refused_by_name() {
    let place = Place::new();
    for (file, node) in [
        ("models/exporters/brevitas_w2a2_qonnx_dynamo.onnx", "node__symbolic_1 (quant)"),
        ("models/exporters/zzz_bn_w2a2_dynamo.onnx", "node_Conv_53 (conv)"),
        ("models/exporters/zzz_w1a1_ts_nofold.onnx", "/aq_2/Sign (sign)"),
        ("models/third-party/QVGG_MultiThreshold.onnx", "MatMul_35 (matmul)"),
    ] {
        let Some(model) = dorefac_tests::shared(file) else { return };
        let (data, out) = (place.data(), place.text("out.safetensors"));
        let (code, _, stderr) = place.train(&[model.to_str().expect("UTF-8"), "--data", &data, "--out", &out]);
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains(node) && stderr.contains("quantize_"), "{file}: {stderr}");
        assert!(!place.path("out.safetensors").exists());
    }
}
