//! The C interface: programs in C and Python run compiled models and get the bytes of the interpreter. What is compiled
//! needs no library, and compiling it needs no tool (`dorefac` of the test support runs with an empty search path).

use dorefa_runtime::{Tensor, io};
use dorefac::codegen::target::Arch;
use dorefac_tests::native::{Case, Machine, compile, tool};
use dorefac_tests::{bits, done, dorefac, repository, succeed};
use std::path::{Path, PathBuf};
use std::process::Command;

const BOTH: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];

fn model() -> PathBuf {
    repository().join("models/mnist.dorefa")
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn a_c_program_opens_the_shared_object() {
    let Some(machine) = Arch::host().and_then(Machine::new) else { return };
    let folder = tempfile::tempdir().expect("folder");
    let so = folder.path().join("net.so");
    compile(&model(), &so, machine.arch, &[]);
    let driver = machine.driver(folder.path(), &[]);
    for batch in [1, 5] {
        let case = Case::new(&model(), batch);
        let want = case.interpreted();
        for workers in [1, 2, 7] {
            let got = machine.run(&driver, Some(&so), case.input(), batch, workers);
            assert!(want == got, "batch {batch}, {workers} workers: differs from the interpreter");
        }
    }
}

#[test]
fn c_programs_are_linked_with_object_and_archive() {
    let case = Case::new(&model(), 2);
    let want = case.interpreted();
    for machine in BOTH.into_iter().filter_map(Machine::new) {
        for suffix in ["o", "a"] {
            let folder = tempfile::tempdir().expect("folder");
            let object = folder.path().join(format!("net.{suffix}"));
            let header = folder.path().join("net.h");
            compile(&model(), &object, machine.arch, &["--prefix", "my_net", "--header", &text(&header)]);
            let (object, header) = (text(&object), text(&header));
            let driver = machine.driver(folder.path(), &["-DMODEL=my_net_model", "-include", &header, &object]);
            let got = machine.run(&driver, None, case.input(), 2, 2);
            assert!(want == got, "{:?} .{suffix}: differs from the interpreter", machine.arch);
        }
    }
}

#[test]
fn python_and_the_command_line_agree() {
    let Some(python) = tool("python3") else { return };
    let folder = tempfile::tempdir().expect("folder");
    let path = |name: &str| folder.path().join(name);
    let case = Case::new(&model(), 3);
    let host = Arch::host().expect("a host that dorefac knows");
    compile(&model(), &path("net.so"), host, &[]);
    std::fs::write(path("x.raw"), bits(&case.x).iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
        .expect("writes");
    let mut script = Command::new(python);
    script.arg(repository().join("tests/python/run.py")).args([path("net.so"), path("x.raw"), path("y.raw")]).arg("3");
    succeed(&mut script);
    let raw = std::fs::read(path("y.raw")).expect("output");
    assert!(raw == case.interpreted(), "Python: differs from the interpreter");

    io::npy::write(&path("x.npy"), &case.x).expect("writes");
    for source in [path("net.so"), model()] {
        let (x, y) = (text(&path("x.npy")), text(&path("y.npy")));
        done("run", dorefac(&["run", &text(&source), "--input", &x, "--output", &y, "--threads", "2"]));
        let y: Tensor = io::npy::read(&path("y.npy")).expect("output");
        assert_eq!(y.shape(), [3, 10]);
        let bytes: Vec<u8> = bits(&y).iter().flat_map(|v| v.to_le_bytes()).collect();
        assert!(raw == bytes, "{}: `dorefac run` differs", source.display());
    }
}

#[test]
fn shared_objects_need_nothing() {
    let (Some(readelf), Some(nm)) = (tool("readelf"), tool("nm")) else { return };
    let folder = tempfile::tempdir().expect("folder");
    for arch in BOTH {
        let so = folder.path().join(format!("net-{}.so", arch.name()));
        compile(&model(), &so, arch, &[]);
        let print = |tool: &Path, args: &[&str]| {
            let output = succeed(Command::new(tool).args(args).arg(&so));
            assert!(output.stderr.is_empty(), "{arch:?} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let dynamic = print(&readelf, &["-dW"]);
        assert!(dynamic.contains("SONAME") && !dynamic.contains("NEEDED"), "{arch:?}: {dynamic}");
        assert!(!dynamic.contains("TEXTREL"), "{arch:?}: {dynamic}");
        assert_eq!(print(&nm, &["-D", "--undefined-only"]).trim(), "", "{arch:?}: undefined symbols");
        assert_eq!(print(&nm, &["-D", "--defined-only"]).lines().count(), 1, "{arch:?}: exports one symbol");
        let segments = print(&readelf, &["-lW"]);
        // What the dynamic linker may write (its own table) it protects before anything runs.
        let column = |line: &str, i: usize| line.split_whitespace().nth(i).unwrap_or_default().to_owned();
        let find = |kind: &str| segments.lines().filter(|l| column(l, 0) == kind).collect::<Vec<_>>();
        let relro: Vec<_> = find("GNU_RELRO").into_iter().map(|l| (column(l, 2), column(l, 5))).collect();
        for line in find("LOAD") {
            assert!(!line.contains("RWE"), "{arch:?}: W^X: {line}");
            let covered = relro.contains(&(column(line, 2), column(line, 5)));
            assert!(!line.contains(" RW ") || covered, "{arch:?}: writable memory: {line}");
        }
        assert!(segments.contains("GNU_STACK"), "{arch:?}: {segments}");
    }
}
