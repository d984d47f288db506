//! Compiled models run by programs that know nothing of Rust, here or under an emulator.

use crate::{done, dorefac, repository, skip, succeed};
use dorefac::codegen::target::Arch;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A tool on the search path; `None` where there is none: the test is skipped.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    if found.is_none() {
        skip(&format!("there is no `{name}` on this machine"));
    }
    found
}

/// The C compiler for an architecture and the emulator that runs what it makes.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The architecture.
    pub arch: Arch,
    cc: PathBuf,
    emulator: Vec<String>,
}

impl Machine {
    /// This machine, or an emulated one; `None` where a tool is missing.
    pub fn new(arch: Arch) -> Option<Machine> {
        if Arch::host() == Some(arch) {
            return Some(Machine { arch, cc: tool("cc")?, emulator: Vec::new() });
        }
        let name = arch.name();
        let (cc, emulator) = (tool(&format!("{name}-linux-gnu-gcc"))?, tool(&format!("qemu-{name}"))?);
        let root = format!("/usr/{name}-linux-gnu");
        Some(Machine { arch, cc, emulator: vec![emulator.display().to_string(), "-L".to_owned(), root] })
    }

    /// Compiles `tests/c/run.c`, with `more` arguments.
    ///
    /// # Panics
    /// When it does not compile without a warning.
    pub fn driver(&self, folder: &Path, more: &[&str]) -> PathBuf {
        self.program("run", folder, more)
    }

    /// Compiles `tests/c/NAME.c`, with `more` arguments.
    ///
    /// # Panics
    /// When it does not compile without a warning.
    pub fn program(&self, name: &str, folder: &Path, more: &[&str]) -> PathBuf {
        let driver = folder.join(format!("{name}-{}{}", self.arch.name(), more.len()));
        let mut cc = Command::new(&self.cc);
        cc.args(["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror"])
            .arg("-I")
            .arg(repository().join("compiler/src/emit"));
        cc.arg(repository().join(format!("tests/c/{name}.c"))).args(more).args(["-ldl", "-pthread", "-o"]).arg(&driver);
        succeed(&mut cc);
        driver
    }

    /// Runs a driver on raw floats; `model` is the `.so` where it is not linked with one. Gives the raw output.
    ///
    /// # Panics
    /// When it fails.
    pub fn run(&self, driver: &Path, model: Option<&Path>, input: &[f32], batch: usize, workers: u32) -> Vec<u8> {
        let bytes: Vec<u8> = input.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.run_raw(driver, model, &bytes, batch, workers)
    }

    /// [`Machine::run`] on raw bytes: pixels.
    ///
    /// # Panics
    /// When it fails.
    pub fn run_raw(&self, driver: &Path, model: Option<&Path>, bytes: &[u8], batch: usize, workers: u32) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
        let (x, y) = (folder.path().join("x"), folder.path().join("y"));
        std::fs::write(&x, bytes).unwrap_or_else(|e| panic!("{e}"));
        let mut command = self.command(driver);
        command.args(model).args([&x, &y]).args([batch.to_string(), workers.to_string()]);
        succeed(&mut command);
        std::fs::read(&y).unwrap_or_else(|e| panic!("{e}"))
    }

    /// A program, under the emulator where there is one.
    pub fn command(&self, program: &Path) -> Command {
        let mut words = self.emulator.iter().map(Into::into).chain([program.as_os_str().to_owned()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        command
    }
}

/// Compiles a model with the command line for an architecture's usual level; what is made is told by the suffix.
///
/// # Panics
/// When it fails.
pub fn compile(model: &Path, output: &Path, arch: Arch, more: &[&str]) {
    let target = format!("{}-unknown-linux-gnu", arch.name());
    let text = |p: &Path| p.display().to_string();
    let mut args =
        vec!["compile".to_owned(), text(model), "-o".to_owned(), text(output), "--target".to_owned(), target];
    args.extend(more.iter().map(|s| (*s).to_owned()));
    done(&args.join(" "), dorefac(&args));
}

/// A model's graph as lowered, the shape of its only input for a batch, and that many made-up inputs.
pub struct Case {
    /// The graph after its passes, in the profile `fma`.
    pub graph: dorefac::graph::Graph,
    /// The input.
    pub x: dorefa_runtime::Tensor,
}

impl Case {
    /// Loads a model.
    ///
    /// # Panics
    /// When it cannot be loaded or lowered.
    pub fn new(model: &Path, batch: usize) -> Case {
        use dorefac::{graph::Value, import, passes, text};
        let onnx = model.extension().is_some_and(|s| s == "onnx");
        let graph = if onnx {
            import::onnx::load(model).map_err(|e| e.to_string())
        } else {
            text::load(model).map_err(|e| e.to_string())
        };
        let mut graph = graph.unwrap_or_else(|e| panic!("{e}"));
        passes::run(&mut graph, true, &mut |_, _| {}).unwrap_or_else(|e| panic!("{e}"));
        let shape = graph.inputs().first().and_then(|&node| graph.value_type(Value { node, port: 0 }));
        let shape = shape.map(|t| t.shape.concrete(batch)).unwrap_or_default();
        let data = crate::noise(shape.iter().product(), 1);
        let x = dorefa_runtime::Tensor::f32(shape, data).unwrap_or_else(|e| panic!("{e}"));
        Case { graph, x }
    }

    /// The first output of the interpreter, as raw bytes.
    ///
    /// # Panics
    /// When it fails.
    pub fn interpreted(&self) -> Vec<u8> {
        let y =
            dorefac::interp::run(&self.graph, std::slice::from_ref(&self.x), true).unwrap_or_else(|e| panic!("{e}"));
        y.iter().flat_map(crate::bits).flat_map(u32::to_le_bytes).collect()
    }

    /// The input's floats.
    pub fn input(&self) -> &[f32] {
        self.x.as_f32().unwrap_or_default()
    }
}
