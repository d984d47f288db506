//! Models compiled for aarch64 and run under an emulator give the bytes of the interpreter, which x86-64 code gives too.

use dorefa_runtime::{Data, Tensor};
use dorefac::codegen::target::Arch;
use dorefac::{interp, passes, text};
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

/// Fixed-point layers: thresholds, values, activation codes; pixels at their greatest, then noise.
const PIXELS: &str = r#"dorefa 1
meta seed = "1"
graph pixels(x: u8<0..255, scale 1/255>[N, 3, 13, 17]) -> (y) {
  c = conv(decode(x), @w: f32[20, 3, 5, 5], @b: f32[20], strides=[2, 2], pads=[2, 1, 2, 3])
  a = quantize_activation(c, bits=2)
  d = conv(a, @v: f32[9, 20, 3, 3], pads=[1, 1, 1, 1])
  f = reshape(relu(d), shape=[567])
  y = matmul(f, @u: f32[6, 567])
}
"#;

#[test]
fn pixels() {
    let Some(machine) = Machine::new(Arch::Aarch64) else { return };
    let folder = tempfile::tempdir().expect("folder");
    let (file, so) = (folder.path().join("pixels.dorefa"), folder.path().join("pixels.so"));
    std::fs::write(&file, PIXELS).expect("writes");
    compile(&file, &so, Arch::Aarch64, &[]);
    let mut graph = text::load(&file).expect("a graph");
    passes::run(&mut graph, true, &mut |_, _| {}).expect("passes");
    let len = 3 * 13 * 17;
    let data: Vec<u8> = (0..len).map(|_| 255).chain((0..len).map(|i| (i * 7919 % 256) as u8)).collect();
    let x = Tensor::new([2, 3, 13, 17], Data::U8(data.clone())).expect("fits");
    let want = interp::run(&graph, &[x], true).expect("runs");
    let want: Vec<u8> = want.iter().flat_map(dorefac_tests::bits).flat_map(u32::to_le_bytes).collect();
    let got = machine.run_raw(&machine.driver(folder.path(), &[]), Some(&so), &data, 2, 3);
    assert!(want == got, "aarch64 code differs from the interpreter");
}
