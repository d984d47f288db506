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
