//! Models compiled for aarch64 and run under an emulator give the bytes of the interpreter, which x86-64 code gives too.

use dorefac::codegen::target::Arch;
use dorefac_tests::native::{Case, Machine, compile};
use dorefac_tests::{repository, shared};
use std::path::Path;

fn check(model: &Path) {
    let Some(machine) = Machine::new(Arch::Aarch64) else { return };
    let folder = tempfile::tempdir().expect("folder");
    let so = folder.path().join("model.so");
    compile(model, &so, Arch::Aarch64, &[]);
    let driver = machine.driver(folder.path(), &[]);
    let case = Case::new(model, 2);
    let want = case.interpreted();
    for workers in [1, 3] {
        let got = machine.run(&driver, Some(&so), case.input(), 2, workers);
        assert!(want == got, "{}, {workers} workers: aarch64 code differs from the interpreter", model.display());
    }
}

#[test]
fn reference_models() {
    check(&repository().join("models/mnist.dorefa"));
    check(&repository().join("models/svhn-a.dorefa"));
}

#[test]
fn third_party_models() {
    for model in ["TFC_1W2A", "CNV_light_CIFAR10_W2A2"] {
        let Some(file) = shared(&format!("models/third-party/{model}.onnx")) else { return };
        check(&file);
    }
}
