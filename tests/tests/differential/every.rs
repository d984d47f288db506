//! Random networks of every operator that a file may hold: what the fuzz target `passes` makes of any bytes. Compiled code gives
//! the interpreter's bits on x86-64 and, under an emulator, on aarch64. `FUZZ_NETWORKS` sets how many networks (default 400).

use super::{fail, first, levels, same};
use dorefa_runtime::{Session, Tensor};
use dorefac::codegen::target::{Arch, Level};
use dorefac::compile::{Options, compile};
use dorefac::emit::elf;
use dorefac::graph::{Graph, Value};
use dorefac::{interp, passes};
use dorefac_tests::fuzz::{network, operators};
use dorefac_tests::machine;
use dorefac_tests::native::Machine;
use dorefac_tests::noise;
use proptest::test_runner::TestCaseError;
use std::collections::BTreeMap;
use std::path::Path;

/// Samples of a batch.
const BATCH: usize = 2;

/// Operators whose first operand is a constant, which no bytes give them: the tests of single operators have them.
const ELSEWHERE: &[&str] = &["repeat"];

/// Bytes that describe network number `i`.
fn bytes(i: usize) -> Vec<u8> {
    noise(24 + i % 97, i as u64 ^ 0x51ed).into_iter().map(|v| (v * 256.0) as i64 as u8).collect()
}

/// A network as the passes leave it, in both profiles, with inputs and the interpreter's outputs; `None` where the bytes make none
/// or the passes refuse it.
fn case(i: usize, fma: bool) -> Option<(Graph, Graph, Vec<Tensor>, Vec<Tensor>)> {
    let graph = network(&bytes(i))?;
    let mut lowered = graph.clone();
    passes::run(&mut lowered, fma, &mut |_, _| {}).ok()?;
    // What quantises computed values as weights depends on the whole batch; the compiler says that it has no kernel for it.
    if lowered.order().into_iter().any(|id| lowered.node(id).is_some_and(|n| n.op.name == "quantize_weights")) {
        return None;
    }
    let shape = |id| graph.value_type(Value { node: id, port: 0 }).map(|t| t.shape.concrete(BATCH));
    let input = |(k, &id)| {
        let shape = shape(id)?;
        let values = noise(shape.iter().product(), (i + k) as u64).into_iter().map(|v| v * 3.0 - 1.2).collect();
        Tensor::f32(shape, values).ok()
    };
    let inputs = graph.inputs().iter().enumerate().map(input).collect::<Option<Vec<_>>>()?;
    let want = interp::run(&lowered, &inputs, fma).ok()?;
    Some((graph, lowered, inputs, want))
}

fn compared(what: &str, graph: &Graph, want: &[Tensor], got: &[Tensor]) -> Result<(), TestCaseError> {
    match want.iter().zip(got).find(|(want, got)| !same(want, got)) {
        None if want.len() == got.len() => Ok(()),
        None => Err(fail(&format!("{what}: another number of outputs"), graph)),
        Some((want, got)) => Err(fail(&format!("{what}: {}", first(want, got)), graph)),
    }
}

fn here(i: usize, fma: bool, level: &[Level]) -> Result<Option<Graph>, TestCaseError> {
    let Some((graph, lowered, inputs, want)) = case(i, fma) else { return Ok(None) };
    let name = level.first().map_or("", |l| &l.name);
    let report = |e: String| fail(&format!("network {i}, {name}: {e}"), &lowered);
    let compiled = compile(&lowered, level, &Options::default()).map_err(|e| report(e.to_string()))?;
    let model = machine::model(&compiled.image).map_err(report)?;
    let mut session = Session::new(&model, 1 + i as u32 % 3).map_err(|e| report(e.to_string()))?;
    let got = session.run(&inputs).map_err(|e| report(e.to_string()))?;
    compared(&format!("network {i}, {name}"), &lowered, &want, &got).map(|()| Some(graph))
}

/// Networks with one input, as the C driver takes.
fn emulated(i: usize, level: &[Level], machine: &Machine, driver: &Path, so: &Path) -> Result<bool, TestCaseError> {
    let Some((_, lowered, inputs, want)) = case(i, true) else { return Ok(false) };
    let compiled = compile(&lowered, level, &Options::default()).map_err(|e| fail(&e.to_string(), &lowered))?;
    let bytes = elf::shared_object(&compiled.image, "net.so").map_err(|e| fail(&e.to_string(), &lowered))?;
    std::fs::write(so, bytes)?;
    let x = inputs.first().and_then(|x| x.as_f32()).unwrap_or_default();
    let raw = machine.run(driver, Some(so), x, BATCH, 1 + i as u32 % 3);
    let mut floats = raw.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let mut got = Vec::new();
    for t in &want {
        let data = floats.by_ref().take(t.len()).collect();
        got.push(Tensor::f32(t.shape().to_vec(), data).map_err(|e| fail(&e.to_string(), &lowered))?);
    }
    compared(&format!("network {i}, aarch64"), &lowered, &want, &got).map(|()| true)
}

fn count() -> usize {
    std::env::var("FUZZ_NETWORKS").ok().and_then(|v| v.parse().ok()).unwrap_or(400)
}

#[test]
fn every_operator() {
    let levels = levels();
    let mut seen = BTreeMap::<&str, usize>::new();
    for i in 0..count() {
        let level = &levels[i % levels.len()];
        match here(i, dorefac::compile::profile(level), level) {
            Err(e) => panic!("{e}"),
            Ok(None) => {}
            Ok(Some(graph)) => graph
                .order()
                .into_iter()
                .filter_map(|id| graph.node(id))
                .for_each(|n| *seen.entry(n.op.name).or_default() += 1),
        }
    }
    println!("operators: {seen:?}");
    let all = operators();
    let missing = all.iter().map(|op| op.name).filter(|name| !seen.contains_key(name));
    let missing: Vec<_> = missing.filter(|name| !ELSEWHERE.contains(name)).collect();
    assert!(missing.is_empty(), "no network has {missing:?}");
}

#[test]
fn every_operator_on_aarch64() {
    let Some(machine) = Machine::new(Arch::Aarch64) else { return };
    let folder = tempfile::tempdir().expect("folder");
    let driver = machine.driver(folder.path(), &[]);
    let level = Level::parse("generic", &"aarch64-unknown-linux-gnu".parse().expect("a triple")).expect("levels");
    let so = folder.path().join("net.so");
    let mut ran = 0;
    for i in 0..count() / 4 {
        match emulated(i, &level, &machine, &driver, &so) {
            Err(e) => panic!("{e}"),
            Ok(one) => ran += usize::from(one),
        }
    }
    assert!(ran * 2 > count() / 4, "only {ran} networks ran");
}
