//! `--kernel`, `--tune` and `bench --kernels` from the command line: what they do, and one line where they cannot.

use dorefac_tests::{dorefac, repository};
use std::path::Path;

/// Exit code, standard output and standard error of `dorefac SUBCOMMAND models/digits.safetensors …`.
fn run(subcommand: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let model = repository().join("models/digits.safetensors");
    let model = model.to_str().expect("UTF-8");
    let ran = dorefac(&[&[subcommand, model], arguments].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (ran.status.code(), text(&ran.stdout), text(&ran.stderr))
}

/// The one error that a command gives.
fn refused(subcommand: &str, arguments: &[&str]) -> String {
    let (code, _, stderr) = run(subcommand, arguments);
    assert_eq!((code, stderr.matches("error: ").count()), (Some(2), 1), "{arguments:?}: {stderr}");
    stderr
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).expect("written")).expect("JSON")
}

#[test]
fn a_forced_kernel_is_in_the_report_beside_the_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let (so, report) = (folder.path().join("net.so"), folder.path().join("net.json"));
    let (so, report) = (so.to_str().expect("UTF-8"), report.to_str().expect("UTF-8"));
    let arguments = ["-o", so, "--report", report, "--cpu", "x86-64-v3", "--target", "x86_64-unknown-linux-gnu"];
    let layer = |kernels: &[&str]| {
        let (code, stdout, stderr) = run("compile", &[&arguments[..], kernels].concat());
        assert_eq!(code, Some(0), "{stderr}");
        let report = json(Path::new(report));
        let layers = report["layers"].as_array().expect("layers").clone();
        let layer = layers.into_iter().find(|l| l["node"] == "c1_int").expect("the layer c1");
        assert!(stdout.lines().any(|l| l.starts_with("kernel of c1_int: ") && l.contains("; others: ")), "{stdout}");
        layer
    };
    let plain = layer(&[]);
    let candidates = plain["candidates"].as_array().expect("candidates");
    assert!(candidates.len() >= 3, "{plain}");
    assert_eq!(
        (&candidates[0]["kernel"], &candidates[0]["estimated_cycles"]),
        (&plain["kernel"], &plain["estimated_cycles"])
    );
    let forced = layer(&["--kernel", "c1=split-integer"]);
    assert_eq!((forced["kernel"].as_str(), forced["why"].as_str()), (Some("split integer"), Some("forced")));
    // One that reads another layout.
    let forced = layer(&["--kernel", "*=bit-serial-popcount"]);
    assert_eq!((forced["kernel"].as_str(), &forced["reads"][0]), (Some("bit-serial popcount"), &"bits".into()));
    let (code, stdout, stderr) = run("verify", &["--samples", "2", "--kernel", "*=split-integer"]);
    assert!(code == Some(0) && stdout.contains("equal bits"), "{stderr}");
    for (arguments, word) in [
        (["--kernel", "c1"], "LAYER=NAME"),
        (["--kernel", "c1=fast"], "there is no kernel fast; there are amx, look-up-64-avx-512, "),
        (["--kernel", "c99=split-integer"], "there is no layer c99 with weights; there are "),
        (["--kernel", "c1=direct-integer-64-bits"], "; possible are "),
    ] {
        for subcommand in ["verify", "inspect", "bench"] {
            let text = refused(subcommand, &arguments);
            assert!(text.contains(word), "{subcommand} {arguments:?}: {text}");
        }
    }
}

#[test]
fn tuning_is_kept_in_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (so, cache) = (folder.path().join("net.so"), folder.path().join("kernels.json"));
    let (so, cache) = (so.to_str().expect("UTF-8"), cache.to_str().expect("UTF-8"));
    let tuned = ["-o", so, "--cpu", "native", "--tune", "--tune-cache", cache];
    std::fs::write(cache, "damaged").expect("writes");
    let (code, first, stderr) = run("compile", &tuned);
    assert!(code == Some(0) && stderr.contains("warning: ") && stderr.contains("kernels.json"), "{stderr}");
    let kept = json(Path::new(cache));
    assert!(kept["kernels"].as_object().is_some_and(|k| !k.is_empty()), "{kept}");
    // Known now: no warning, the same kernels, the file as it was.
    let (code, again, stderr) = run("compile", &tuned);
    assert_eq!((code, &again, &*stderr), (Some(0), &first, ""));
    assert_eq!(json(Path::new(cache)), kept);
    let model = repository().join("models/digits.safetensors");
    let verified = dorefac(&["verify", so, "--against", model.to_str().expect("UTF-8"), "--samples", "2"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    for (arguments, word) in [
        (&["--cpu", "x86-64-v2,x86-64-v3", "--target", "x86_64-unknown-linux-gnu"][..], "one level"),
        (&["--target", "aarch64-unknown-linux-gnu", "--cpu", "generic+i8mm"], "cannot run that level"),
    ] {
        let text = refused("compile", &[&["-o", so, "--tune", "--tune-cache", cache], arguments].concat());
        assert!(text.contains(word) && text.contains("--cpu"), "{text}");
    }
}

#[test]
fn kernels_are_compared() {
    let (code, stdout, stderr) = run("bench", &["--kernels", "--seconds", "0.1", "--json"]);
    assert_eq!(code, Some(0), "{stderr}");
    let document: serde_json::Value = serde_json::from_str(&stdout).expect("one JSON document");
    let kernels = document["kernels"].as_array().expect("kernels");
    let of_layer = kernels.iter().filter(|k| k["layer"] == "c1_int").count();
    assert!(of_layer >= 3 && kernels.iter().all(|k| k["ms"].as_f64().is_some_and(|ms| ms > 0.0)), "{document}");
    assert!(document["rank_correlation"].as_f64().is_some_and(|r| (-1.0..=1.0).contains(&r)), "{document}");
    let (code, stdout, stderr) = run("bench", &["--kernels", "--seconds", "0.1"]);
    assert!(code == Some(0) && stdout.contains("mean rank correlation"), "{stderr}");
}
