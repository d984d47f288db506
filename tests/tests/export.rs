//! `dorefac export` on the reference models: both dialects, imported again, give the original's bits, in the interpreter
//! as after the passes and compiled.

use dorefa_runtime::{Session, Tensor, eval::labels, io};
use dorefac::codegen::target::Level;
use dorefac::compile::{Options, compile, profile};
use dorefac::export::{Dialect, onnx};
use dorefac::graph::{Graph, Value};
use dorefac::{import, interp, passes, text};
use dorefac_tests::{bits, dorefac, noise, repository, shared};
use std::path::Path;

fn again(graph: &Graph, dialect: Dialect) -> Graph {
    let bytes = onnx(graph, dialect).unwrap_or_else(|e| panic!("{dialect:?}: {e}"));
    import::onnx::from_bytes("again.onnx", &bytes, None).unwrap_or_else(|e| panic!("{dialect:?}: {e}"))
}

fn input(graph: &Graph, batch: usize) -> Tensor {
    let id = *graph.inputs().first().expect("an input");
    let shape = graph.value_type(Value { node: id, port: 0 }).expect("a type").shape.concrete(batch);
    let data = noise(shape.iter().product(), 3);
    Tensor::f32(shape, data).expect("shape")
}

/// The compiled graph's first output.
fn compiled(mut graph: Graph, x: &Tensor) -> Tensor {
    let levels = Level::parse("native", &target_lexicon::Triple::host()).expect("levels");
    passes::run(&mut graph, profile(&levels), &mut |_, _| {}).expect("passes");
    let image = compile(&graph, &levels, &Options::default()).expect("compiles").image;
    let jit = dorefac_tests::machine::model(&image).expect("loads");
    let outputs = Session::new(&jit, 2).expect("session").run(std::slice::from_ref(x)).expect("runs");
    outputs.into_iter().next().expect("an output")
}

/// The same bits in both dialects; `slow` leaves the interpreter out.
fn check(model: &Path, batch: usize, slow: bool) {
    let graph = text::load(model).unwrap_or_else(|e| panic!("{e}"));
    let x = input(&graph, batch);
    let want = compiled(graph.clone(), &x);
    for dialect in [Dialect::Float, Dialect::Qonnx] {
        let got = again(&graph, dialect);
        assert_eq!((&got.name, &got.metadata), (&graph.name, &graph.metadata));
        if !slow {
            let run = |g: &Graph| interp::run(g, std::slice::from_ref(&x), true).expect("runs");
            assert_eq!(bits(&run(&got)[0]), bits(&run(&graph)[0]), "{}, {dialect:?}", model.display());
        }
        let y = compiled(got, &x);
        assert_eq!(labels(&y, batch), labels(&want, batch), "{}, {dialect:?}: labels", model.display());
        assert_eq!(bits(&y), bits(&want), "{}, {dialect:?}: compiled", model.display());
    }
}

#[test]
fn mnist_and_svhn_keep_their_bits() {
    for (name, batch) in [("mnist", 8), ("svhn-d", 4), ("svhn-c", 2)] {
        check(&repository().join(format!("models/{name}.dorefa")), batch, false);
    }
}

#[test]
fn residual_additions_keep_their_bits() {
    check(&repository().join("models/resnet18.dorefa"), 1, true);
}

/// Other people's files survive the way through the graph and back.
#[test]
fn imported_models_keep_their_bits() {
    let models = [
        ("third-party/TFC_1W1A", &[Dialect::Float, Dialect::Qonnx][..]),
        ("third-party/TFC_2W2A", &[Dialect::Float, Dialect::Qonnx]),
        ("third-party/QVGG_MultiThreshold", &[Dialect::Qonnx]),
        ("exporters/qkeras_w2a2", &[Dialect::Float, Dialect::Qonnx]),
        ("exporters/tf2onnx_tensorpack_w1a2_op13", &[Dialect::Float, Dialect::Qonnx]),
        ("exporters/zzz_w1a1_ts_nofold", &[Dialect::Float, Dialect::Qonnx]),
    ];
    for (name, dialects) in models {
        let Some(file) = shared(&format!("models/{name}.onnx")) else { return };
        let graph = import::onnx::load(&file).expect("imports");
        let x = input(&graph, 1);
        let run = |g: &Graph| interp::run(g, std::slice::from_ref(&x), true).expect("runs");
        let want = run(&graph);
        for &dialect in dialects {
            let got = run(&again(&graph, dialect));
            assert_eq!(bits(&got[0]), bits(&want[0]), "{name}, {dialect:?}");
        }
    }
}

#[test]
fn the_command_writes_a_model_or_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let model = repository().join("models/mnist.dorefa").display().to_string();
    let x = Tensor::f32([2, 1, 28, 28], noise(2 * 784, 5)).expect("shape");
    io::npy::write(Path::new(&file("x.npy")), &x).expect("writes");
    let run = |model: &str, output: &str| {
        let ran = dorefac(&["run", model, "--input", &file("x.npy"), "--output", output]);
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        std::fs::read(output).expect("output")
    };
    let want = run(&model, &file("want.npy"));
    for more in [&[][..], &["--dialect", "float"], &["--dialect", "qonnx"]] {
        let ran = dorefac(&[&["export", &model, "-o", &file("net.onnx")][..], more].concat());
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        assert!(run(&file("net.onnx"), &file("got.npy")) == want, "{more:?}");
    }
    let before = std::fs::read_dir(folder.path()).expect("folder").count();
    let (none, other) = (file("none/net.onnx"), file("net.txt"));
    let wrong: [&[&str]; 4] = [
        &["export", &model, "-o", &none],
        &["export", &model, "-o", &other],
        &["export", &model, "-o", &file("a.onnx"), "--dialect", "keras"],
        &["export", &file("missing.dorefa"), "-o", &file("a.onnx")],
    ];
    for args in wrong {
        let ran = dorefac(args);
        let message = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(2), "{args:?}: {message}");
        assert!(message.starts_with("error: ") && !message.contains("panicked"), "{args:?}: {message}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), before, "{args:?}");
    }
}
