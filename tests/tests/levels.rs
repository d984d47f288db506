//! One shared object for several CPU levels: the best that fits runs by itself, each gives the interpreter's bits when
//! forced, a level beyond the CPU is refused, and the levels share their weights.

use dorefa_runtime::{Data, Model, Session, Tensor};
use dorefac::codegen::target::{Arch, Level, host_features};
use dorefac::compile::{Compiled, Options, compile, profile};
use dorefac::emit::elf;
use dorefac::{interp, passes, text};
use dorefac_tests::machine;

fn lowered(name: &str, fma: bool) -> dorefac::graph::Graph {
    let mut graph = text::load(dorefac_tests::repository().join("models").join(name)).expect("a model");
    passes::run(&mut graph, fma, &mut |_, _| {}).expect("passes");
    graph
}

fn pixels(shape: &[usize]) -> Tensor {
    let data = (0..shape.iter().product()).map(|i: usize| (i * 7919 % 256) as f32 / 255.0).collect();
    Tensor::f32(shape.to_vec(), data).expect("fits")
}

fn constants(compiled: &Compiled) -> usize {
    compiled.image.data.iter().map(|d| d.bytes.len()).sum()
}

/// The model of a shared object that is written and loaded, on a CPU with AMX where that can be.
fn loaded(compiled: &Compiled) -> (tempfile::TempDir, Model) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("net.so");
    std::fs::write(&file, elf::shared_object(&compiled.image, "net.so").expect("links")).expect("writes");
    let model = Model::load(&file).expect("loads");
    (folder, dorefac_emulator::with_features(model))
}

#[test]
fn several_levels_in_one_object() {
    let triple = "x86_64-unknown-linux-gnu".parse().expect("a triple");
    let levels = Level::parse("x86-64-v2,x86-64-v3,x86-64-v4", &triple).expect("levels");
    let fma = profile(&levels);
    assert!(!fma, "level v2 has no fused multiply-add, so the whole image has none");
    let graph = lowered("mnist.dorefa", fma);
    let compiled = compile(&graph, &levels, &Options::default()).expect("compiles");
    let alone = compile(&graph, &levels[..1], &Options::default()).expect("compiles");
    // The descriptor grows by a table of layers a level; the weights do not.
    assert!(constants(&compiled) < constants(&alone) + 16_384, "{} {}", constants(&compiled), constants(&alone));
    if !cfg!(target_arch = "x86_64") {
        eprintln!("SKIPPED: this machine runs no x86-64 code");
        return;
    }
    let (_folder, model) = loaded(&compiled);
    let x = pixels(&[3, 1, 28, 28]);
    let want = interp::run(&graph, std::slice::from_ref(&x), fma).expect("runs");
    let mut session = Session::new(&model, 2).expect("a session");
    assert_eq!(Some(session.level()), model.best_level());
    assert_eq!(session.run(std::slice::from_ref(&x)).expect("runs"), want);
    for (i, level) in levels.iter().enumerate() {
        if machine::runs(level) {
            session.use_level(i).expect("the CPU has it");
            assert_eq!(session.run(std::slice::from_ref(&x)).expect("runs"), want, "{}", level.name);
        } else {
            eprintln!("SKIPPED: this CPU lacks {}", level.name);
            assert!(session.use_level(i).is_err(), "{}", level.name);
        }
    }
}

/// A level with AMX beside one without: the runtime asks for the permission and takes the best that is granted, and both give
/// the interpreter's bits. Where this machine has no AMX, the object is also loaded as it is there: that level is refused.
#[test]
fn amx_beside_a_level_without() {
    let triple = "x86_64-unknown-linux-gnu".parse().expect("a triple");
    let levels = Level::parse("x86-64-v3,x86-64-v4+vnni+vbmi+amx", &triple).expect("levels");
    let graph = lowered("svhn-d.dorefa", profile(&levels));
    let compiled = compile(&graph, &levels, &Options::default()).expect("compiles");
    assert!(compiled.kernels.iter().all(|k| !k.contains("AMX")), "the report tells the first level's kernels");
    let amx = compile(&graph, &levels[1..], &Options::default()).expect("compiles");
    assert!(amx.kernels.contains(&"AMX"), "{:?}", amx.kernels);
    if !cfg!(target_arch = "x86_64") {
        eprintln!("SKIPPED: this machine runs no x86-64 code");
        return;
    }
    let (folder, model) = loaded(&compiled);
    let x = pixels(&[3, 3, 40, 40]);
    let want = interp::run(&graph, std::slice::from_ref(&x), profile(&levels)).expect("runs");
    let mut session = Session::new(&model, 2).expect("a session");
    assert_eq!(session.run(std::slice::from_ref(&x)).expect("runs"), want);
    if !machine::runs(&levels[1]) {
        eprintln!("SKIPPED: this CPU lacks AVX-512 VBMI, which the level has besides AMX");
        return assert!(session.use_level(1).is_err() && session.use_level(0).is_ok());
    }
    assert_eq!(model.best_level(), Some(1));
    session.use_level(0).expect("the CPU has it");
    assert_eq!(session.run(std::slice::from_ref(&x)).expect("runs"), want);
    if levels[1].features & !host_features() != 0 {
        let mut session =
            Session::new(&Model::load(folder.path().join("net.so")).expect("loads"), 2).expect("a session");
        assert!(session.use_level(1).is_err() && session.use_level(0).is_ok());
        assert_eq!(session.run(std::slice::from_ref(&x)).expect("runs"), want);
    }
}

/// A residual network on pixels: most of its layers are AMX's, and both levels of one object give the same.
#[test]
fn a_whole_network_with_amx() {
    let arch = Arch::X86_64;
    let amx = Level::parse("x86-64-v4+vnni+vbmi+amx", &"x86_64-unknown-linux-gnu".parse().expect("a triple"));
    if !amx.expect("a level").iter().all(machine::runs) {
        eprintln!("SKIPPED: this CPU lacks AVX-512 VBMI, which the level has besides AMX");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (source, file) = (dorefac_tests::repository().join("models/resnet18.dorefa"), folder.path().join("net.so"));
    let levels = ["--cpu", "x86-64-v3,x86-64-v4+vnni+vbmi+amx", "--input", "u8,scale=1/256"];
    dorefac_tests::native::compile(&source, &file, arch, &levels);
    let model = dorefac_emulator::with_features(Model::load(&file).expect("loads"));
    let shape = [1, 3, 224, 224];
    let data = (0..shape.iter().product()).map(|i: usize| (i * 7919 + i / 977 * 31) as u8).collect();
    let x = [Tensor::new(shape, Data::U8(data)).expect("fits")];
    let mut session = Session::new(&model, 2).expect("a session");
    assert_eq!(session.level(), 1);
    let with = session.run(&x).expect("runs");
    session.use_level(0).expect("the CPU has it");
    assert_eq!(session.run(&x).expect("runs"), with);
}
