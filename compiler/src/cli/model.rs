//! Loading a MODEL argument, whatever kind of file it is.

use super::Failure;
use super::pixels::{self, Pixels};
use crate::codegen::target::Level;
use crate::compile::{self, Compiled, Options, Wish};
use crate::emit::jit::JitImage;
use crate::graph::Graph;
use crate::jit::Jit;
use crate::lower::Plan;
use crate::{import, passes, text};
use dorefa_runtime::Model;
use std::path::Path;

/// A file given as MODEL.
pub enum Source {
    /// A shared object that `dorefac compile` made.
    Compiled(Model),
    /// A graph, as imported.
    Graph(Box<Graph>),
}

/// Loads a `.so`, `.onnx`, `.dorefa` or `.safetensors` that carries its graph.
///
/// # Errors
/// When the file cannot be read, is malformed or of an unknown kind.
pub fn load(path: &Path) -> Result<Source, Failure> {
    if !path.is_file() {
        let problem = if path.exists() { "is not a file" } else { "no such file" };
        return Err(Failure::Input(format!("{}: {problem}; pass a .so, .onnx or .dorefa", path.display())));
    }
    let suffix = path.extension().map(|s| s.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    match suffix.as_str() {
        "so" => Model::load(path).map(Source::Compiled).map_err(Failure::input),
        "onnx" => import::onnx::load(path).map(|g| Source::Graph(Box::new(g))).map_err(Failure::input),
        "dorefa" | "safetensors" => text::load(path).map(|g| Source::Graph(Box::new(g))).map_err(Failure::input),
        _ => Err(Failure::Input(format!(
            "{}: unknown kind of model; pass a .so, .onnx, .dorefa or .safetensors",
            path.display()
        ))),
    }
}

/// As [`load`], the inputs that `pixels` name taking 8-bit pixels.
///
/// # Errors
/// As [`load`]; when an argument does not fit the model, or it is compiled already.
pub fn load_with(path: &Path, pixels: &[Pixels]) -> Result<Source, Failure> {
    let mut source = load(path)?;
    match &mut source {
        Source::Compiled(_) if !pixels.is_empty() => {
            return Err(problem(
                path,
                &"is compiled, so its inputs are fixed; leave --input u8 out, or compile with it",
            ));
        }
        Source::Compiled(_) => {}
        Source::Graph(graph) => pixels::apply(graph, pixels)?,
    }
    Ok(source)
}

/// As [`load`], a network from another framework with the operators that training knows.
///
/// # Errors
/// As [`load`]; when its weights are of no use to a training.
pub fn load_to_train(path: &Path) -> Result<Source, Failure> {
    let mut source = load(path)?;
    if let Source::Graph(graph) = &mut source {
        to_train(path, graph)?;
    }
    Ok(source)
}

/// Puts the operators that training knows into an imported network.
///
/// # Errors
/// When its weights are of no use to a training.
pub fn to_train(path: &Path, graph: &mut Graph) -> Result<(), Failure> {
    let imported = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx"));
    if imported { crate::grad::recognise(graph).map_err(|e| problem(path, &e)) } else { Ok(()) }
}

/// Runs all passes on a copy of `graph`; problems name `file`.
///
/// # Errors
/// When the model cannot be compiled.
pub fn lowered(file: &Path, graph: &Graph, fma: bool) -> Result<(Graph, passes::Report), Failure> {
    let mut graph = graph.clone();
    let report = passes::run(&mut graph, fma, &mut |_, _| {}).map_err(|e| problem(file, &e))?;
    Ok((graph, report))
}

/// A problem with a file's content, each line naming the file.
pub fn problem(file: &Path, error: &dyn std::fmt::Display) -> Failure {
    let lines: Vec<_> = error.to_string().lines().map(|l| format!("{}: {l}", file.display())).collect();
    Failure::Input(lines.join("\n"))
}

/// Compiles a lowered graph for `levels`; problems name `file`.
///
/// # Errors
/// When an operator has no kernel, all at once.
pub fn compiled(file: &Path, graph: &Graph, levels: &[Level], options: &Options) -> Result<Compiled, Failure> {
    compile::compile(graph, levels, options).map_err(|e| problem(file, &e))
}

/// The levels that `text` names for `target`.
///
/// # Errors
/// When there is no such level.
pub fn levels(text: &str, target: &target_lexicon::Triple) -> Result<Vec<Level>, Failure> {
    Level::parse(text, target).map_err(|e| Failure::Input(format!("--cpu {text}: {e}")))
}

/// The kernels that `--kernel LAYER=NAME` asks for.
///
/// # Errors
/// When an argument has another form.
pub fn wishes(arguments: &[String]) -> Result<Vec<Wish>, Failure> {
    let wish = |text: &String| {
        let (layer, kernel) = text.rsplit_once('=').filter(|(l, k)| !l.is_empty() && !k.is_empty())?;
        Some(Wish { layer: layer.to_owned(), kernel: kernel.to_owned(), measured: false })
    };
    let bad = |text: &String| Failure::Input(format!("--kernel {text}: write LAYER=NAME, or *=NAME for every layer"));
    arguments.iter().map(|text| wish(text).ok_or_else(|| bad(text))).collect()
}

/// Compiles a lowered graph for this machine, in memory; gives the plan besides.
///
/// # Errors
/// When the model cannot be compiled, or a kernel that is asked for cannot be had.
pub fn jit(file: &Path, graph: &Graph, kernels: &[Wish]) -> Result<(Model, Plan), Failure> {
    let levels = levels("native", &target_lexicon::Triple::host())?;
    let options = Options { kernels: kernels.to_vec(), ..Options::default() };
    let compiled = compiled(file, graph, &levels, &options)?;
    let image = JitImage::new(&compiled.image).map_err(|e| problem(file, &e))?;
    Ok((image.into_model().map_err(Failure::run)?, compiled.plan))
}

/// Compiles the training step of a network for this machine, in memory.
///
/// # Errors
/// When the network cannot be trained.
pub fn training_step(
    file: &Path,
    graph: &Graph,
    options: &dorefa_runtime::train::StepOptions,
) -> Result<Model, Failure> {
    Jit::default().step(graph, options).map_err(|e| problem(file, &e))
}

/// The numeric profile of code for this machine.
pub fn native_fma() -> bool {
    levels("native", &target_lexicon::Triple::host()).is_ok_and(|l| compile::profile(&l))
}
