//! Models of other people and exporters against outputs of independent executors: as imported, after the passes, and
//! compiled, which must give the bits of the interpreter.

use dorefa_runtime::eval::labels;
use dorefa_runtime::{Session, Tensor, io};
use dorefac::codegen::target::Level;
use dorefac::compile::{Options, compile, profile};
use dorefac::{import, interp, passes};
use dorefac_tests::{difference, shared};

/// The named array of a golden file.
fn array(golden: &[(String, Tensor)], name: &str) -> Tensor {
    golden.iter().find(|(n, _)| n == name).map(|(_, t)| t.clone()).unwrap_or_else(|| panic!("no array {name}"))
}

fn check(model: &str) {
    let (Some(file), Some(golden)) =
        (shared(&format!("models/{model}.onnx")), shared(&format!("models/{model}.golden.npz")))
    else {
        return;
    };
    let golden = io::npz::read(&golden).expect("golden file");
    let (x, y) = (array(&golden, "x"), array(&golden, "y"));
    let imported = import::onnx::load(&file).expect("imports");
    let mut lowered = imported.clone();
    let levels = Level::parse("native", &target_lexicon::Triple::host()).expect("levels");
    let fma = profile(&levels);
    passes::run(&mut lowered, fma, &mut |_, _| {}).expect("passes");
    for (stage, graph) in [("imported", &imported), ("lowered", &lowered)] {
        let got = interp::run(graph, std::slice::from_ref(&x), fma).expect("runs");
        let worst = difference(&y, &got[0]);
        assert!(worst <= 1e-5, "{model}, {stage}: differs by {worst:e} of the range");
        let n = x.shape()[0];
        assert_eq!(labels(&y, n), labels(&got[0], n), "{model}, {stage}: labels");
    }
    let image = compile(&lowered, &levels, &Options::default()).expect("compiles").image;
    let jit = dorefac_tests::machine::model(&image).expect("loads");
    let got = Session::new(&jit, 2).expect("session").run(std::slice::from_ref(&x)).expect("runs");
    let want = interp::run(&lowered, &[x], fma).expect("runs");
    let bits = |t: &Tensor| t.as_f32().map(|v| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
    assert_eq!(bits(&want[0]), bits(&got[0]), "{model}: compiled code differs from the interpreter");
}

macro_rules! models {
    ($($name:ident: $path:literal),* $(,)?) => { $(#[test] fn $name() { check($path); })* };
}

models! {
    tfc_1w1a: "third-party/TFC_1W1A",
    tfc_1w2a: "third-party/TFC_1W2A",
    tfc_2w2a: "third-party/TFC_2W2A",
    cnv_light: "third-party/CNV_light_CIFAR10_W2A2",
    qvgg: "third-party/QVGG_MultiThreshold",
    brevitas_w1a2: "exporters/brevitas_w1a2_qonnx_ts",
    brevitas_w2a2: "exporters/brevitas_w2a2_qonnx_dynamo",
    brevitas_w4a4: "exporters/brevitas_w4a4_qcdq_ts",
    qdq_int4: "exporters/qdq_int4_opset21",
    qkeras_w2a2: "exporters/qkeras_w2a2",
    tf2onnx_w1a2: "exporters/tf2onnx_tensorpack_w1a2_op13",
    zzz_w1a2: "exporters/zzz_bn_w1a2_ts",
    zzz_w2a2: "exporters/zzz_bn_w2a2_dynamo",
    zzz_w1a1: "exporters/zzz_w1a1_ts_nofold",
}

/// Every shared model imports and passes the passes.
#[test]
fn every_model_imports() {
    let mut failed = Vec::new();
    for folder in ["models/third-party", "models/exporters"] {
        let Some(folder) = dorefac_tests::shared(folder) else { return };
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_none_or(|e| e != "onnx") {
                continue;
            }
            match dorefac::import::onnx::load(&path) {
                Ok(mut graph) => {
                    passes::run(&mut graph, true, &mut |_, _| {}).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                }
                Err(e) => failed.push(e.to_string()),
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
