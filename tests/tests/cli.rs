//! The command line end to end, on the reference model that is in the repository and on files that are wrong.

use dorefa_runtime::{Tensor, io};
use dorefac_tests::{dorefac, repository};
use std::path::Path;

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn runs_and_inspects_the_mnist_net() {
    let folder = tempfile::tempdir().expect("folder");
    let (input, output) = (folder.path().join("x.npy"), folder.path().join("y.npy"));
    let pixels = (0..2 * 28 * 28).map(|i| (i * 37 % 256) as f32 / 255.0).collect();
    io::npy::write(&input, &Tensor::f32([2, 1, 28, 28], pixels).expect("shape")).expect("writes");
    let model = repository().join("models/mnist.dorefa");
    let ran = dorefac(&["run", text(&model), "--input", text(&input), "--output", text(&output)]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let y = io::npy::read(&output).expect("output");
    assert_eq!(y.shape(), [2, 10]);
    assert!(y.as_f32().is_some_and(|v| v.iter().all(|x| x.is_finite())));

    let seen = dorefac(&["inspect", text(&model), "--json"]);
    let document: String = String::from_utf8_lossy(&seen.stdout).into_owned();
    assert!(seen.status.success() && document.contains("\"macs\""), "{document}");

    let seen = dorefac(&["inspect", text(&model)]);
    let shown = String::from_utf8_lossy(&seen.stdout).into_owned();
    for line in [
        "layer c1: ",
        "weights: 1 bit, levels -1…1 step 2, scale",
        "(DoReFa quantiser",
        "input: 2 bits, levels 0…3, scale 1/3",
        "stays float because its input is no code of at most 8 bits; it reads the network's input",
    ] {
        assert!(shown.contains(line), "`{line}` is not in {shown}");
    }
}

#[test]
fn wrong_inputs_give_one_report_exit_code_2_and_no_output() {
    let folder = tempfile::tempdir().expect("folder");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("writes");
        path
    };
    let input = folder.path().join("x.npy");
    io::npy::write(&input, &Tensor::f32([1, 1, 28, 28], vec![0.0; 784]).expect("shape")).expect("writes");
    let graph = std::fs::read(repository().join("models/mnist.dorefa")).expect("model");
    let wrong = [
        file("empty.onnx", b""),
        file("text.onnx", b"this is not a model\n"),
        file("half.dorefa", &graph[..graph.len() / 2]),
        file("empty.dorefa", b""),
        file("empty.so", b""),
        file("text.so", b"not an ELF file"),
        file("kind.xyz", b""),
        folder.path().join("missing.onnx"),
        folder.path().to_owned(),
    ];
    let output = folder.path().join("y.npy");
    for model in &wrong {
        let ran = dorefac(&["run", text(model), "--input", text(&input), "--output", text(&output)]);
        let message = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(2), "{}: {message}", model.display());
        assert!(message.starts_with("error: ") && !message.contains("panicked"), "{message}");
        assert!(!output.exists(), "{}: left an output", model.display());
    }
}

#[test]
fn wrong_shapes_and_arguments_give_exit_code_2() {
    let folder = tempfile::tempdir().expect("folder");
    let (input, output) = (folder.path().join("x.npy"), folder.path().join("y.npy"));
    io::npy::write(&input, &Tensor::f32([1, 3], vec![0.0; 3]).expect("shape")).expect("writes");
    let model = repository().join("models/mnist.dorefa");
    let ran = dorefac(&["run", text(&model), "--input", text(&input), "--output", text(&output)]);
    assert_eq!(ran.status.code(), Some(2));
    assert!(!output.exists());
    assert_eq!(dorefac(&["run"]).status.code(), Some(2));
    assert_eq!(dorefac(&["eval", text(&model), "--data", "nonsense"]).status.code(), Some(2));
    assert_eq!(dorefac(&["--help"]).status.code(), Some(0));
}

#[test]
fn compile_emits_every_stage_and_a_report() {
    let folder = tempfile::tempdir().expect("folder");
    let file = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let model = repository().join("models/mnist.dorefa");
    let stages = ["graph", "lifted", "fused", "threshold", "lowered", "clif", "asm", "dot"];
    let emits: Vec<String> = stages.iter().map(|s| format!("{s}={}", file(s))).collect();
    let (so, report, header) = (file("m.so"), file("r.json"), file("m.h"));
    let mut args = vec!["compile", text(&model), "-o", &so, "--report", &report, "--header", &header];
    emits.iter().for_each(|e| args.extend(["--emit", e]));
    let ran = dorefac(&args);
    let table = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(table.contains("c1_int") && table.contains("1×2") && table.contains("stays float"), "{table}");
    let read = |name: &str| std::fs::read_to_string(file(name)).expect(name);
    assert!(read("graph").starts_with("dorefa 1") && read("fused").contains("threshold("));
    assert!(read("lowered").contains("arena+") && read("lowered").contains("kernel c1_int = int_conv("));
    assert!(read("clif").contains("function u0:") && read("dot").contains("cluster_0") && read("asm").len() > 1000);
    for key in
        ["kernel", "why", "fallback", "weight_bits", "macs", "bytes", "layout", "estimated_cycles", "arena_bytes"]
    {
        assert!(read("r.json").contains(&format!("\"{key}\"")), "{key}");
    }
    let files = std::fs::read_dir(folder.path()).expect("folder").count();
    assert_eq!(files, stages.len() + 3, "temporary files are left");
}

#[test]
fn compile_leaves_nothing_behind_where_it_fails() {
    let folder = tempfile::tempdir().expect("folder");
    let file = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let model = repository().join("models/mnist.dorefa");
    let (so, report, emit) = (file("m.so"), file("none/r.json"), format!("graph={}", file("g")));
    let cases: [&[&str]; 6] = [
        &["--emit", "nonsense"],
        &["--report", &report],
        &["--report", &so],
        &["--cpu", "x86-64-v9"],
        &["--target", "riscv64gc-unknown-linux-gnu"],
        &["--prefix", "9"],
    ];
    for case in cases {
        let ran = dorefac(&[&["compile", text(&model), "-o", &so, "--emit", &emit], case].concat());
        let message = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(2), "{case:?}: {message}");
        assert!(message.starts_with("error: "), "{case:?}: {message}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 0, "{case:?}");
    }
    if Path::new("/dev/full").exists() {
        let ran = dorefac(&["compile", text(&model), "-o", &so, "--report", "/dev/full", "--emit", &emit]);
        assert_eq!(ran.status.code(), Some(1), "{}", String::from_utf8_lossy(&ran.stderr));
        assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 0);
    }
}

#[test]
fn pixels_give_the_bits_of_the_floats_that_they_stand_for() {
    let folder = tempfile::tempdir().expect("folder");
    let file = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let model = repository().join("models/mnist.dorefa");
    let pixels: Vec<u8> = (0..3 * 784).map(|i| (i * 37 % 256) as u8).collect();
    let floats = |mean: f64, std: f64| {
        let v = pixels.iter().map(|&p| ((1.0 / 255.0 * f64::from(p) - mean) / std) as f32).collect();
        Tensor::f32([3, 1, 28, 28], v).expect("shape")
    };
    let bytes = Tensor::new([3, 1, 28, 28], dorefa_runtime::Data::U8(pixels.clone())).expect("shape");
    io::npy::write(Path::new(&file("u8.npy")), &bytes).expect("writes");
    let done = |args: &[&str]| {
        let ran = dorefac(args);
        assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
    };
    for (spec, mean, std) in [("u8,scale=1/255", 0.0, 1.0), ("x=u8,scale=1/255,mean=0.1307,std=0.3081", 0.1307, 0.3081)]
    {
        io::npy::write(Path::new(&file("f32.npy")), &floats(mean, std)).expect("writes");
        done(&["run", text(&model), "--input", &file("f32.npy"), "--output", &file("want.npy")]);
        done(&["compile", text(&model), "-o", &file("m.so"), "--input", spec]);
        done(&["run", &file("m.so"), "--input", &file("u8.npy"), "--output", &file("so.npy")]);
        done(&["run", text(&model), "--input", spec, "--input", &file("u8.npy"), "--output", &file("jit.npy")]);
        done(&["verify", &file("m.so"), "--against", text(&model), "--input", &file("u8.npy"), "--samples", "2"]);
        done(&["bench", text(&model), "--input", spec, "--seconds", "0"]);
        let read = |name: &str| std::fs::read(file(name)).expect("output");
        assert!(read("want.npy") == read("so.npy") && read("want.npy") == read("jit.npy"), "{spec}");
        let refused = dorefac(&["run", &file("m.so"), "--input", &file("f32.npy"), "--output", &file("no.npy")]);
        assert_eq!(refused.status.code(), Some(2));
    }
    let refused = dorefac(&["run", text(&model), "--input", &file("u8.npy"), "--output", &file("no.npy")]);
    assert_eq!(refused.status.code(), Some(2), "u8 into a float input");
    assert!(!Path::new(&file("no.npy")).exists());
}

#[test]
fn verify_names_steps_and_codes() {
    let folder = tempfile::tempdir().expect("folder");
    let so = folder.path().join("m.so");
    let model = repository().join("models/mnist.dorefa");
    assert!(dorefac(&["compile", text(&model), "-o", text(&so)]).status.success());
    for args in [&["verify", text(&model), "--samples", "3"][..], &["verify", text(&so), "--against", text(&model)]] {
        let ran = dorefac(args);
        let lines = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
        assert!(lines.contains("steps: equal bits") && lines.contains("codes differ"), "{lines}");
    }
    assert_eq!(dorefac(&["verify", text(&so)]).status.code(), Some(2));
    assert_eq!(dorefac(&["verify", text(&model), "--against", text(&model)]).status.code(), Some(2));
    let other = repository().join("models/svhn-d.dorefa");
    assert_ne!(dorefac(&["verify", text(&so), "--against", text(&other)]).status.code(), Some(0));
}
