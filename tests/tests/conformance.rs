//! The ONNX project's own node tests, interpreted and compiled. `tests/conformance/cases.py` writes them where Python has the
//! package `onnx`; a folder that already holds them is named by `DOREFAC_CONFORMANCE`. Where neither is there the test says
//! SKIPPED. `DOREFAC_CONFORMANCE_FILTER` limits it to cases whose name contains that text.
//!
//! Every case that imports must pass. The others are counted by the importer's own reason; the table goes to
//! `report.txt` in the folder.

use dorefa_runtime::{Session, Tensor, io};
use dorefac::codegen::target::Level;
use dorefac::compile::{Options, compile, profile};
use dorefac::emit::jit::JitImage;
use dorefac::graph::Graph;
use dorefac::{import, interp, passes};
use dorefac_tests::repository;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the cases lie, written if need be; the folder lives as long as the second value.
fn cases() -> Option<(PathBuf, Option<tempfile::TempDir>)> {
    if let Some(folder) = std::env::var_os("DOREFAC_CONFORMANCE") {
        return Some((folder.into(), None));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let python = std::env::var_os("DOREFAC_PYTHON").unwrap_or_else(|| "python3".into());
    let script = repository().join("tests/conformance/cases.py");
    let written = Command::new(python).arg(script).arg(folder.path()).output();
    if written.is_ok_and(|o| o.status.success()) {
        return Some((folder.path().to_owned(), Some(folder)));
    }
    eprintln!("SKIPPED: Python with the package onnx is absent; name it by DOREFAC_PYTHON");
    None
}

/// What became of a case.
enum Outcome {
    Passed,
    /// The importer or the lowering refused it: the operator, and why.
    Refused(String),
    Failed(String),
}

/// `x` in the shape of the graph's input: files whose axis 0 is no batch run as one sample.
fn fitted(graph: &Graph, i: usize, x: Tensor) -> Tensor {
    let shape = graph.inputs().get(i).and_then(|&n| graph.node(n)).map(|n| n.types[0].shape.clone());
    let whole = shape.is_some_and(|s| s.rank() == x.shape().len() + 1);
    let own = if whole { std::iter::once(1).chain(x.shape().iter().copied()).collect() } else { x.shape().to_vec() };
    x.reshape(own).expect("as many elements")
}

fn close(want: &Tensor, got: &Tensor, [relative, absolute]: [f32; 2]) -> bool {
    let (a, b) = (want.as_f32().expect("floats"), got.as_f32().expect("floats"));
    let same = |(&a, &b): (&f32, &f32)| {
        a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= absolute.max(1e-6) + relative * a.abs()
    };
    a.len() == b.len() && a.iter().zip(b).all(same)
}

fn bits(t: &Tensor) -> Vec<u32> {
    t.as_f32().expect("floats").iter().map(|v| if v.is_nan() { f32::NAN.to_bits() } else { v.to_bits() }).collect()
}

fn run(model: &Path) -> Outcome {
    let imported = match import::onnx::load(model) {
        Ok(graph) => graph,
        Err(e) => return Outcome::Refused(format!("{}: {}", e.problems[0].operator, e.problems[0].message)),
    };
    let data: BTreeMap<String, Tensor> =
        io::npz::read(&model.with_extension("npz")).expect("data").into_iter().collect();
    let tolerance = data["tolerance"].as_f32().map(|t| [t[0], t[1]]).expect("two numbers");
    let count = |c: char| (0..).take_while(|i| data.contains_key(&format!("{c}{i}"))).count();
    let x: Vec<Tensor> = (0..count('x')).map(|i| fitted(&imported, i, data[&format!("x{i}")].clone())).collect();
    let levels = Level::parse("native", &target_lexicon::Triple::host()).expect("levels");
    let fma = profile(&levels);
    let check = |stage: &str, got: &[Tensor]| {
        let wrong = (0..got.len()).find(|i| !close(&data[&format!("y{i}")], &got[*i], tolerance));
        wrong.map(|i| format!("{stage}: output {i} is\n{:?}, not\n{:?}", got[i], data[&format!("y{i}")]))
    };
    let interpreted = match interp::run(&imported, &x, fma) {
        Ok(y) => y,
        Err(e) => return Outcome::Failed(format!("interpreter: {e}")),
    };
    if let Some(wrong) = check("as imported", &interpreted) {
        return Outcome::Failed(wrong);
    }
    let mut lowered = imported.clone();
    if let Err(e) = passes::run(&mut lowered, fma, &mut |_, _| {}) {
        return Outcome::Failed(format!("passes: {e}"));
    }
    let want = interp::run(&lowered, &x, fma).expect("runs");
    if let Some(wrong) = check("after the passes", &want) {
        return Outcome::Failed(wrong);
    }
    let compiled = match compile(&lowered, &levels, &Options::default()) {
        Ok(compiled) => compiled,
        Err(e) => return Outcome::Failed(format!("compile: {e}")),
    };
    let jit = JitImage::new(&compiled.image).expect("links").into_model().expect("loads");
    let got = Session::new(&jit, 1).expect("session").run(&x).expect("runs");
    let differs = want.iter().zip(&got).any(|(a, b)| bits(a) != bits(b));
    if differs { Outcome::Failed("compiled code differs from the interpreter".to_owned()) } else { Outcome::Passed }
}

#[test]
fn node_tests() {
    let Some((folder, _keep)) = cases() else { return };
    let filter = std::env::var("DOREFAC_CONFORMANCE_FILTER").unwrap_or_default();
    let mut models: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the folder of cases")
        .map(|entry| entry.expect("an entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "onnx") && p.to_string_lossy().contains(&filter))
        .collect();
    models.sort();
    let half = models.len().div_ceil(2).max(1);
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let parts: Vec<_> =
            models.chunks(half).map(|part| scope.spawn(|| part.iter().map(|m| run(m)).collect::<Vec<_>>())).collect();
        parts.into_iter().flat_map(|p| p.join().expect("no panic")).collect()
    });
    let (mut passed, mut failed, mut refused) = (0usize, Vec::new(), BTreeMap::<String, usize>::new());
    for (model, outcome) in models.iter().zip(outcomes) {
        match outcome {
            Outcome::Passed => passed += 1,
            Outcome::Refused(why) => *refused.entry(why).or_default() += 1,
            Outcome::Failed(why) => failed.push(format!("{}: {why}", model.display())),
        }
    }
    let mut report = format!("{passed} passed, {} failed, {} skipped\n", failed.len(), refused.values().sum::<usize>());
    for (why, n) in &refused {
        report.push_str(&format!("{n:5}  {why}\n"));
    }
    for failure in &failed {
        report.push_str(&format!("FAILED {failure}\n"));
    }
    std::fs::write(folder.join("report.txt"), &report).expect("the report");
    println!("{}", report.lines().next().unwrap_or_default());
    assert!(failed.is_empty(), "{report}");
    assert!(passed > 0, "{report}");
}
