//! Training by just-in-time compilation: the compiler behind the runtime's trait [`Compile`].

use crate::codegen::target::Level;
use crate::compile::{CompiledTraining, Options, compile_training};
use crate::emit::jit::JitImage;
use crate::graph::Graph;
use crate::{grad, text};
use dorefa_runtime::Model;
use dorefa_runtime::train::{Compile, StepOptions};
use std::sync::Arc;

/// Compiles training steps for this machine, or for a CPU level of it.
#[derive(Clone, Debug)]
pub struct Jit {
    cpu: String,
}

impl Default for Jit {
    fn default() -> Jit {
        Jit { cpu: "native".to_owned() }
    }
}

impl Jit {
    /// A compiler for a CPU level as `--cpu` names it.
    pub fn new(cpu: &str) -> Jit {
        Jit { cpu: cpu.to_owned() }
    }

    /// The training step of `graph`, in memory.
    ///
    /// # Errors
    /// When the network cannot be trained: one line a problem, each naming node, operator and what to do.
    pub fn step(&self, graph: &Graph, options: &StepOptions) -> Result<Model, String> {
        let levels = Level::parse(&self.cpu, &target_lexicon::Triple::host()).map_err(|e| e.to_string())?;
        let compiled = training(graph, options, &levels, &Options::default())?;
        let image = JitImage::new(&compiled.image).map_err(|e| e.to_string())?;
        image.into_model().map_err(|e| e.to_string())
    }
}

impl Compile for Jit {
    fn compile(&self, graph: &str, options: &StepOptions) -> Result<Model, String> {
        let lines =
            |problems: Vec<text::Diagnostic>| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        let mut graph = text::parse(graph, "graph", &|_| None).map_err(lines)?;
        let seed = graph.metadata.get("seed").and_then(|s| s.parse().ok()).unwrap_or(1);
        let mut drawn = text::training_parameters(&graph, seed, text::First::default());
        for id in graph.order() {
            let tensor = graph.node(id).filter(|n| n.tensor.is_some()).and_then(|n| drawn.remove(&n.name));
            if let Some(tensor) = tensor {
                graph.set_constant(id, Arc::new(tensor)).map_err(|e| e.to_string())?;
            }
        }
        self.step(&graph, options)
    }
}

/// Builds and compiles the training step of `graph` for `levels`.
///
/// # Errors
/// As [`Jit::step`].
pub fn training(
    graph: &Graph,
    options: &StepOptions,
    levels: &[Level],
    settings: &Options,
) -> Result<CompiledTraining, String> {
    let step = grad::build(graph, options)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    let settings = Options { draws: text::training_draws(graph, text::First::default()), ..settings.clone() };
    compile_training(&step.train, &step.evaluate, levels, &settings).map_err(|e| e.to_string())
}
