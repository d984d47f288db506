//! Files of single operators and of whole networks, interpreted and compiled, against what others make of them:
//!
//! * the ONNX project's own node tests (`tests/conformance/cases.py`, the package `onnx`);
//! * every version of every operator from operator set 7 on, by ONNX Runtime (`versions.py`, the package `onnxruntime` too);
//! * the quantisers of QONNX and FINN in every rounding mode, by their definitions (`quantisers.py`);
//! * quantised networks, each in several dialects that compute the same floats (`dialects.py`), which agree bit for bit.
//!
//! Python is `python3` or what `DOREFAC_PYTHON` names; without the packages the tests are skipped. Node tests that lie in a
//! folder already are named by `DOREFAC_CONFORMANCE`. `DOREFAC_CONFORMANCE_FILTER` limits all to cases whose name contains
//! that text.
//!
//! Every node test that imports must pass. The others are counted by the importer's own reason; the table goes to
//! `report.txt` in the folder. All other files must import.

use dorefa_runtime::{Session, Tensor, io};
use dorefac::codegen::target::Level;
use dorefac::compile::{Options, compile, profile};
use dorefac::graph::Graph;
use dorefac::{import, interp, passes};
use dorefac_tests::{repository, skip};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a script of `tests/conformance` writes; `None` where Python or a package is absent.
fn written(script: &str) -> Option<tempfile::TempDir> {
    let folder = tempfile::tempdir().expect("a folder");
    let python = std::env::var_os("DOREFAC_PYTHON").unwrap_or_else(|| "python3".into());
    let script = repository().join("tests/conformance").join(script);
    let output = Command::new(python).arg(&script).arg(folder.path()).output();
    if output.as_ref().is_ok_and(|o| o.status.success()) {
        return Some(folder);
    }
    let errors = output.map_or_else(|e| e.to_string(), |o| String::from_utf8_lossy(&o.stderr).into_owned());
    let absent = errors.contains("ModuleNotFoundError") || errors.contains("No such file");
    assert!(absent, "{}: {errors}", script.display());
    skip("Python with the packages onnx and onnxruntime is absent; name it by DOREFAC_PYTHON");
    None
}

/// What became of a case.
enum Outcome {
    /// The bits of its outputs as imported, and compiled.
    Passed([Vec<Vec<u32>>; 2]),
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
    let jit = dorefac_tests::machine::model(&compiled.image).expect("loads");
    let got = Session::new(&jit, 1).expect("session").run(&x).expect("runs");
    let all = |outputs: &[Tensor]| outputs.iter().map(bits).collect::<Vec<_>>();
    let other = Level::parse("generic", &"aarch64-unknown-linux-gnu".parse().expect("a triple")).expect("levels");
    if all(&want) != all(&got) {
        return Outcome::Failed("compiled code differs from the interpreter".to_owned());
    }
    match compile(&lowered, &other, &Options::default()) {
        Ok(_) => Outcome::Passed([all(&interpreted), all(&got)]),
        Err(e) => Outcome::Failed(format!("compile for aarch64: {e}")),
    }
}

/// What became of every case of a folder, in order of their names.
fn outcomes(folder: &Path) -> Vec<(String, Outcome)> {
    let filter = std::env::var("DOREFAC_CONFORMANCE_FILTER").unwrap_or_default();
    let name = |p: &PathBuf| p.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mut models: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder of cases")
        .map(|entry| entry.expect("an entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "onnx") && name(p).contains(&filter))
        .collect();
    models.sort();
    let half = models.len().div_ceil(2).max(1);
    let all = |part: &[PathBuf]| part.iter().map(|m| (name(m), run(m))).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        let parts: Vec<_> = models.chunks(half).map(|part| scope.spawn(move || all(part))).collect();
        parts.into_iter().flat_map(|p| p.join().expect("no panic")).collect()
    })
}

/// The cases that failed, one a line, those that were refused among them.
fn failures(outcomes: &[(String, Outcome)]) -> Vec<String> {
    let failure = |(name, outcome): &(String, Outcome)| match outcome {
        Outcome::Passed(_) => None,
        Outcome::Refused(why) | Outcome::Failed(why) => Some(format!("{name}: {why}")),
    };
    outcomes.iter().filter_map(failure).collect()
}

#[test]
fn node_tests() {
    let (folder, _keep) = match std::env::var_os("DOREFAC_CONFORMANCE") {
        Some(folder) => (PathBuf::from(folder), None),
        None => {
            let Some(folder) = written("cases.py") else { return };
            (folder.path().to_owned(), Some(folder))
        }
    };
    let (mut passed, mut failed, mut refused) = (0usize, Vec::new(), BTreeMap::<String, usize>::new());
    for (name, outcome) in outcomes(&folder) {
        match outcome {
            Outcome::Passed(_) => passed += 1,
            Outcome::Refused(why) => *refused.entry(why).or_default() += 1,
            Outcome::Failed(why) => failed.push(format!("{name}: {why}")),
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

#[test]
fn every_version_of_every_operator() {
    all_pass("versions.py");
}

#[test]
fn quantisers_in_every_mode() {
    all_pass("quantisers.py");
}

/// Every file that a script writes imports and gives what stands beside it.
fn all_pass(script: &str) {
    let Some(folder) = written(script) else { return };
    let outcomes = outcomes(folder.path());
    let failed = failures(&outcomes);
    println!("{} files, {} failed", outcomes.len(), failed.len());
    assert!(failed.is_empty() && !outcomes.is_empty(), "{}", failed.join("\n"));
}

/// A name is NETWORK.DIALECT.
#[test]
fn dialects_agree() {
    let Some(folder) = written("dialects.py") else { return };
    let outcomes = outcomes(folder.path());
    let mut failed = failures(&outcomes);
    let mut first = BTreeMap::new();
    for (name, outcome) in &outcomes {
        let (network, Outcome::Passed(bits)) = (name.split('.').next(), outcome) else { continue };
        let (other, want) = *first.entry(network).or_insert((name, bits));
        if want != bits {
            let stage = if want[0] != bits[0] { "as imported" } else { "compiled" };
            failed.push(format!("{name} differs from {other} {stage}"));
        }
    }
    println!("{} files of {} networks, {} failed", outcomes.len(), first.len(), failed.len());
    assert!(failed.is_empty() && !outcomes.is_empty(), "{}", failed.join("\n"));
}
