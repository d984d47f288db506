//! `dorefac eval` on the data sets: each format found, and each fault told in one line with exit code 2.

use dorefa_runtime::{Data, Tensor, io};
use dorefac_tests::{dorefac, repository};
use std::path::Path;

/// Runs eval on the untrained MNIST net: the exit code, standard output, standard error.
fn eval(data: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let model = repository().join("models/mnist.dorefa");
    let ran = dorefac(&[&["eval", model.to_str().expect("UTF-8"), "--data", data], more].concat());
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    (ran.status.code(), text(&ran.stdout), text(&ran.stderr))
}

/// The number of images that eval --json says it saw.
fn images(data: &str, more: &[&str]) -> u64 {
    let (code, out, message) = eval(data, &[&["--json"], more].concat());
    assert_eq!(code, Some(0), "{message}");
    let document: serde_json::Value = serde_json::from_str(&out).expect("one JSON document");
    document["images"].as_u64().expect("a number")
}

/// Refused in one line that says all of `what`.
fn refused(data: &str, more: &[&str], what: &[&str]) {
    let (code, out, message) = eval(data, more);
    assert_eq!(code, Some(2), "{out}{message}");
    assert!(message.starts_with("error: ") && message.lines().count() == 1 && out.is_empty(), "{out}{message}");
    what.iter().for_each(|w| assert!(message.contains(w), "{w}: {message}"));
}

fn spec(format: &str, path: &Path) -> String {
    format!("{format}:{}", path.display())
}

/// An uncompressed MAT-file of SVHN's form: one picture of 32×32 for each label.
fn mat(labels: &[u8]) -> Vec<u8> {
    let element = |kind: u32, body: &[u8]| {
        let mut out = [&kind.to_le_bytes()[..], &(body.len() as u32).to_le_bytes(), body].concat();
        out.resize(out.len().next_multiple_of(8), 0);
        out
    };
    let matrix = |name: &str, dims: &[u32], bytes: &[u8]| {
        let dims: Vec<u8> = dims.iter().flat_map(|d| d.to_le_bytes()).collect();
        let parts =
            [element(6, &[9, 0, 0, 0, 0, 0, 0, 0]), element(5, &dims), element(1, name.as_bytes()), element(2, bytes)];
        element(14, &parts.concat())
    };
    let n = labels.len();
    let pixels: Vec<u8> = (0..n * 3072).map(|i| (i * 7) as u8).collect();
    let head = [&[b' '; 124][..], &[0, 1, b'I', b'M']].concat();
    [head, matrix("X", &[32, 32, 3, n as u32], &pixels), matrix("y", &[n as u32, 1], labels)].concat()
}

#[test]
fn digits_cifar10_and_svhn_are_read() {
    let folder = tempfile::tempdir().expect("folder");
    let put = |name: &str, bytes: Vec<u8>| std::fs::write(folder.path().join(name), bytes).expect("writes");
    assert_eq!(images("digits", &[]), 4000);
    put("test_batch.bin", [vec![9; 3073], vec![3; 3073]].concat());
    let cifar = spec("cifar10", folder.path());
    assert_eq!(images(&cifar, &["--resize"]), 2);
    refused(&cifar, &[], &["3×32×32", "1×28×28", "--resize"]);
    refused(&cifar, &["--split", "train"], &["data_batch_1.bin"]);
    put("test_batch.bin", vec![9; 3072]);
    refused(&cifar, &["--resize"], &["test_batch.bin", "truncated"]);
    put("test_32x32.mat", mat(&[10, 1, 2]));
    let svhn = spec("svhn", folder.path());
    assert_eq!(images(&svhn, &["--resize"]), 3);
    put("test_32x32.mat", mat(&[10, 12]));
    refused(&svhn, &["--resize"], &["test_32x32.mat", "picture 1 has the label 12"]);
}

#[test]
fn faults_of_a_set_are_told_in_one_line() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("test.npz");
    let arrays = |shape: [usize; 4], labels: Vec<i64>| {
        let x = Tensor::new(shape, Data::U8(vec![0; shape.iter().product()])).expect("shape");
        let y = Tensor::new([labels.len()], Data::I64(labels)).expect("shape");
        io::npz::write(&file, &[("x".to_owned(), x), ("y".to_owned(), y)]).expect("writes");
    };
    let npz = spec("npz", &file);
    arrays([2, 1, 28, 28], vec![3, 10]);
    refused(&npz, &[], &["picture 1: its label is 10", "10 classes"]);
    arrays([2, 2, 28, 28], vec![3, 4]);
    refused(&npz, &["--resize"], &["2 channels"]);
    arrays([2, 1, 28, 28], vec![3]);
    refused(&npz, &[], &["2 pictures and 1 labels"]);
    for class in ["a", "b"] {
        std::fs::create_dir_all(folder.path().join("set").join(class)).expect("folder");
    }
    let set = spec("images", &folder.path().join("set"));
    refused(&set, &[], &["CLASS/PICTURE"]);
    std::fs::write(folder.path().join("set/a/1.png"), b"no picture").expect("writes");
    refused(&set, &[], &["b: the class folder is empty"]);
    std::fs::remove_dir(folder.path().join("set/b")).expect("removes");
    refused(&set, &[], &["1.png", "not a readable picture"]);
    refused("digits:x", &[], &["has no path"]);
    refused("mnist:x", &[], &["FORMAT:PATH"]);
}
