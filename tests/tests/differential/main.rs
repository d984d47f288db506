//! Random small networks: the interpreter gives the same bits after every pass but `lift`, and compiled code gives the
//! interpreter's, at each CPU level, with one thread and with several, one sample and more.
//!
//! `PROPTEST_CASES` sets how many networks (default 250), `PROPTEST_RNG_SEED` which ones.

mod every;
mod net;

use dorefa_runtime::{Session, Tensor};
use dorefac::codegen::target::{Arch, Level};
use dorefac::compile::{Options, compile, profile};
use dorefac::emit::elf;
use dorefac::graph::{Graph, Value};
use dorefac::{interp, passes, text};
use dorefac_tests::machine;
use dorefac_tests::native::Machine;
use net::Net;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

fn same(a: &Tensor, b: &Tensor) -> bool {
    let (Some(x), Some(y)) = (a.as_f32(), b.as_f32()) else { return false };
    x.len() == y.len() && x.iter().zip(y).all(|(x, y)| x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan())
}

/// The first place where two tensors differ, for the report.
fn first(a: &Tensor, b: &Tensor) -> String {
    let (x, y) = (a.as_f32().unwrap_or_default(), b.as_f32().unwrap_or_default());
    let wrong = x.iter().zip(y).filter(|(x, y)| x.to_bits() != y.to_bits()).count();
    let at = x.iter().zip(y).position(|(x, y)| x.to_bits() != y.to_bits() && !(x.is_nan() && y.is_nan()));
    let pair = at.and_then(|i| Some((i, x.get(i)?, y.get(i)?)));
    format!("{wrong} of {} elements differ, the first (index, want, got) is {pair:?}", x.len())
}

fn fail(what: &str, graph: &Graph) -> TestCaseError {
    TestCaseError::fail(format!("{what}\n{}", text::print(graph)))
}

fn interpret(graph: &Graph, x: &Tensor, fma: bool) -> Result<Tensor, TestCaseError> {
    let y = interp::run(graph, std::slice::from_ref(x), fma).map_err(|e| fail(&e.to_string(), graph))?;
    y.into_iter().next().ok_or_else(|| fail("no output", graph))
}

/// Runs the passes; with `watch`, the interpreter's bits after each.
fn lower(imported: &Graph, inputs: &[Tensor], fma: bool, watch: bool) -> Result<Graph, TestCaseError> {
    let mut stages: Vec<(&'static str, Graph)> = vec![("import", imported.clone())];
    let mut graph = imported.clone();
    passes::run(&mut graph, fma, &mut |name, g| stages.push((name, g.clone())))
        .map_err(|e| fail(&e.to_string(), imported))?;
    if !watch {
        return Ok(graph);
    }
    for x in inputs {
        let mut before: Option<Tensor> = None;
        let mut printed = String::new();
        for (name, stage) in &stages {
            let text = text::print(stage);
            if text == printed {
                continue;
            }
            printed = text;
            let now = interpret(stage, x, fma)?;
            if let Some(before) = before.filter(|_| *name != "lift")
                && !same(&before, &now)
            {
                return Err(fail(&format!("pass {name} changed the bits: {}", first(&before, &now)), stage));
            }
            before = Some(now);
        }
    }
    Ok(graph)
}

/// The levels that run here, one image each.
fn levels() -> Vec<Vec<Level>> {
    machine::levels().into_iter().map(|(_, level)| level).collect()
}

/// Checks one network; counts operators and kernels.
fn check(net: &Net, seen: &mut BTreeMap<&'static str, usize>) -> Result<(), TestCaseError> {
    let imported = net.build();
    let inputs = [net.input(false), net.input(true)];
    for fma in [true, false] {
        let lowered = lower(&imported, &inputs, fma, fma)?;
        let want: Vec<Tensor> = inputs.iter().map(|x| interpret(&lowered, x, fma)).collect::<Result<_, _>>()?;
        for levels in levels().into_iter().filter(|l| profile(l) == fma) {
            let name = levels.first().map_or("", |l| &l.name);
            let image =
                compile(&lowered, &levels, &Options::default()).map_err(|e| fail(&format!("{name}: {e}"), &lowered))?;
            image.kernels.iter().for_each(|kernel| *seen.entry(kernel).or_default() += 1);
            let model = machine::model(&image.image).map_err(|e| fail(&e, &lowered))?;
            for threads in [1, 3] {
                let mut session = Session::new(&model, threads).map_err(|e| fail(&e.to_string(), &lowered))?;
                for (x, want) in inputs.iter().zip(&want) {
                    let got = session.run(std::slice::from_ref(x)).map_err(|e| fail(&e.to_string(), &lowered))?;
                    let equal = got.first().is_some_and(|got| same(want, got));
                    if !equal {
                        let how = got.first().map(|got| first(want, got));
                        let batch = x.shape().first().copied().unwrap_or(0);
                        let what = format!("{name}, {threads} threads, batch {batch}: {how:?}");
                        return Err(fail(&what, &lowered));
                    }
                }
            }
        }
        for node in lowered.order().into_iter().filter_map(|id| lowered.node(id)) {
            let minimum = node.op.name == "code_pool" && lowered.operands(node.id).len() > 1;
            *seen.entry(if minimum { "code_pool of minima" } else { node.op.name }).or_default() += 1;
        }
    }
    Ok(())
}

/// A runner over `cases` networks, or `PROPTEST_CASES`.
fn runner(cases: u32) -> TestRunner {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    TestRunner::new(Config {
        cases: number("PROPTEST_CASES").map_or(cases, |n| n as u32),
        rng_seed: RngSeed::Fixed(number("PROPTEST_RNG_SEED").unwrap_or(1)),
        failure_persistence: None,
        max_shrink_time: 60_000,
        ..Config::default()
    })
}

#[test]
fn random_networks() {
    let seen = RefCell::new(BTreeMap::new());
    let result = runner(250).run(&net::net(), |net| check(&net, &mut seen.borrow_mut()));
    if let Err(e) = result {
        panic!("{e}");
    }
    let seen = seen.into_inner();
    println!("operators and kernels: {seen:?}");
    let operators = [
        "int_conv",
        "threshold",
        "code_pool",
        "code_pool of minima",
        "table_add",
        "residual_threshold",
        "decode",
        "average_pool",
    ];
    let kernels = ["look-up 16", "bit-serial popcount", "direct integer"];
    // The tests of a CPU level that the machine lacks do not run.
    let wide = std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma");
    let tiles = ["look-up 16, AVX2", "float chain, AVX2"].into_iter().filter(|_| wide);
    let widest = Level::parse("x86-64-v4+vbmi+vpopcntdq", &target_lexicon::Triple::host());
    let widest = widest.is_ok_and(|l| l.iter().all(machine::runs));
    let tiles = tiles.chain(["look-up 64, AVX-512", "bit-serial popcount, AVX-512"].into_iter().filter(|_| widest));
    for op in operators.into_iter().chain(kernels).chain(tiles) {
        assert!(seen.get(op).is_some_and(|&n| n >= 5), "the networks hardly exercise {op}: {seen:?}");
    }
}

/// What `lift` may change: one layer of codes, on equal inputs, by no more than the roundings of its float sum.
#[test]
fn lift_moves_a_layer_by_its_roundings_only() {
    let (lifted, all) = (Cell::new(0u32), Cell::new(0u32));
    let result = runner(150).run(&net::layer_of_codes(), |net| {
        let imported = net.build();
        for x in [net.input(false), net.input(true)] {
            let lowered = lower(&imported, std::slice::from_ref(&x), true, false)?;
            let values = interp::run_all(&imported, std::slice::from_ref(&x), true, |_| true)
                .map_err(|e| fail(&e.to_string(), &imported))?;
            let layer = imported.outputs().first().map(|(_, v)| v.node).ok_or_else(|| fail("no output", &imported))?;
            let greatest = |v: Value| {
                let tensor =
                    values.get(&v).map(|t| (**t).clone()).or_else(|| imported.constant(v).map(|t| (**t).clone()));
                let tensor = tensor.unwrap_or_else(|| Tensor::scalar(0.0));
                let most = tensor.as_f32().unwrap_or_default().iter().fold(0f32, |a, v| a.max(v.abs()));
                (most, tensor.len() / tensor.shape().first().copied().unwrap_or(1))
            };
            let operands: Vec<_> = imported.operands(layer).into_iter().map(greatest).collect();
            let [(a, _), (w, taps), rest @ ..] = &*operands else { return Err(fail("no layer", &imported)) };
            let bias = rest.first().map_or(0.0, |(b, _)| *b);
            let taps = *taps as f32;
            let bound = (a * w * taps + bias) * taps.max(4.0) / (1 << 22) as f32;
            let (want, got) = (interpret(&imported, &x, true)?, interpret(&lowered, &x, true)?);
            let pairs = want.as_f32().unwrap_or_default().iter().zip(got.as_f32().unwrap_or_default());
            let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            if worst.is_nan() || worst > bound {
                return Err(fail(&format!("lift moved a layer by {worst}, its roundings allow {bound}"), &lowered));
            }
            let coded = lowered.order().iter().any(|&id| lowered.node(id).is_some_and(|n| n.op.name == "int_conv"));
            lifted.set(lifted.get() + u32::from(coded));
            all.set(all.get() + 1);
        }
        Ok(())
    });
    if let Err(e) = result {
        panic!("{e}");
    }
    // Not all are: a bias that is no multiple of the scale, for one, leaves codes.
    let (lifted, all) = (lifted.get(), all.get());
    println!("{lifted} of {all} layers are integer");
    assert!(lifted * 5 >= all * 3, "only {lifted} of {all} layers became integer");
}

/// The same networks as aarch64 code, under an emulator.
#[test]
fn random_networks_on_aarch64() {
    let Some(machine) = Machine::new(Arch::Aarch64) else { return };
    let folder = tempfile::tempdir().expect("folder");
    let driver = machine.driver(folder.path(), &[]);
    let triple = "aarch64-unknown-linux-gnu".parse().expect("triple");
    let every = ["generic", "generic,generic+dotprod+i8mm"].map(|l| Level::parse(l, &triple).expect("levels"));
    let so = folder.path().join("net.so");
    let turn = Cell::new(0);
    let result = runner(40).run(&net::net(), |net| {
        turn.set(turn.get() + 1);
        let lowered = lower(&net.build(), &[], true, false)?;
        let levels = &every[turn.get() % every.len()];
        let compiled = compile(&lowered, levels, &Options::default()).map_err(|e| fail(&e.to_string(), &lowered))?;
        let bytes = elf::shared_object(&compiled.image, "net.so").map_err(|e| fail(&e.to_string(), &lowered))?;
        std::fs::write(&so, bytes)?;
        let x = net.input(true);
        let want = interpret(&lowered, &x, true)?;
        let raw = machine.run(&driver, Some(&so), x.as_f32().unwrap_or_default(), 3, 1 + turn.get() as u32 % 3);
        let floats = raw.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let got = Tensor::f32(want.shape().to_vec(), floats).map_err(|e| fail(&e.to_string(), &lowered))?;
        if same(&want, &got) { Ok(()) } else { Err(fail(&format!("aarch64: {}", first(&want, &got)), &lowered)) }
    });
    if let Err(e) = result {
        panic!("{e}");
    }
}
