//! From a graph after its passes to an image: lowering, the choice of kernels (`choose`), code generation for each level, and the
//! entry with its descriptor; `train` the same for a training step. It must never know a file format.

mod choose;
mod train;

pub use choose::{Choice, Choices, Reason, Wish};
pub use train::{CompiledStep as CompiledTraining, compile_training};

use crate::codegen::CodegenError;
use crate::codegen::entry::{self, LevelSpec, ModelSpec, Order, StepSpec, TaskCount, TensorSpec};
use crate::codegen::image::Image;
use crate::codegen::kernels::choice::Kernel;
use crate::codegen::kernels::{one_position, shares};
use crate::codegen::steps::{CompiledStep, StepError, compile_steps};
use crate::codegen::target::Level;
use crate::graph::draw::Draw;
use crate::graph::ops::Geometry;
use crate::graph::types::{Dim, Layout};
use crate::graph::{Graph, Node, Value};
use crate::lower::{self, LowerError, Place, Plan};
use dorefa_runtime::abi::{F32, U8};
use std::collections::BTreeMap;

/// Why a graph could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The input: operators without a kernel, one each.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Unsupported(Vec<LowerError>),
    /// Kernels that were asked for and cannot be had; one line each.
    #[error("{}", .0.join("\n"))]
    Kernels(Vec<String>),
    /// Our bug, or the machine's refusal.
    #[error(transparent)]
    Codegen(#[from] CodegenError),
}

/// A compiled model before it is emitted.
pub struct Compiled {
    /// Code and data.
    pub image: Image,
    /// What was lowered: steps and buffers, for reports and `verify`.
    pub plan: Plan,
    /// The kernel of each step, of the first level.
    pub kernels: Vec<&'static str>,
    /// The choice of each step, of the first level; `None` where it has no weights.
    pub choices: Choices,
    /// The numeric profile.
    pub fma: bool,
}

/// The numeric profile of an image: fused where every level can.
pub fn profile(levels: &[Level]) -> bool {
    levels.iter().all(Level::has_fma)
}

/// Options of a compilation.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Keep CLIF and listings for `--emit clif` and `asm`.
    pub keep_text: bool,
    /// Forces the numeric profile.
    pub fma: Option<bool>,
    /// Kernels that are asked for.
    pub kernels: Vec<Wish>,
    /// How `init_state` of a training step draws the parameters, by name, where its seed is not zero.
    pub draws: BTreeMap<String, Draw>,
}

/// Compiles `graph` for `levels`, which are of one architecture and ascend.
///
/// # Errors
/// Operators without a kernel, all at once; kernels that cannot be had; or a failure of code generation.
pub fn compile(graph: &Graph, levels: &[Level], options: &Options) -> Result<Compiled, CompileError> {
    let Some(first) = levels.first() else { return Err(CodegenError::Spec("no CPU level".to_owned()).into()) };
    let fma = options.fma.unwrap_or_else(|| profile(levels)) && profile(levels);
    let (plan, mut choices) = choose::choose(graph, levels, fma, &options.kernels)?;
    check_ports(graph)?;
    let mut image = Image::new(first.arch);
    image.keep_text = options.keep_text;
    let (mut specs, mut kernels) = (Vec::new(), Vec::new());
    for (level, choices) in levels.iter().zip(&choices) {
        let chosen: Vec<_> = choices.iter().map(|c| c.as_ref().map(|c| c.kernel)).collect();
        let steps = compile_steps(&mut image, graph, &plan, level, fma, &chosen).map_err(|e| step_errors(graph, e))?;
        specs.push(LevelSpec {
            level: level.clone(),
            steps: step_specs(graph, &plan, &steps, &chosen),
            programs: None,
        });
        if kernels.is_empty() {
            kernels = steps.iter().map(|s| s.kernel).collect();
        }
    }
    let tensor = |name: &str, value: Value| tensor_spec(graph, name, value);
    let spec = ModelSpec {
        inputs: graph
            .inputs()
            .iter()
            .filter_map(|&id| Some(tensor(&graph.node(id)?.name, Value { node: id, port: 0 })))
            .collect(),
        outputs: graph.outputs().iter().map(|(name, v)| tensor(name, *v)).collect(),
        levels: specs,
        arena_fixed: 64,
        arena_per_sample: plan.arena.max(64),
        arena_per_worker: plan.scratch,
        metadata_json: serde_json::json!({ "name": graph.name, "metadata": graph.metadata }).to_string(),
        graph_hash: hash(&image),
        fma,
        train: None,
    };
    entry::finish(&mut image, &spec)?;
    Ok(Compiled { image, plan, kernels, choices: choices.swap_remove(0), fma })
}

/// Most axes of an input or output: those of the binary interface.
const AXES: usize = 6;

/// Checks that the binary interface expresses the inputs and outputs.
fn check_ports(graph: &Graph) -> Result<(), CompileError> {
    let inputs = graph.inputs().iter().map(|&node| Value { node, port: 0 });
    let problem = |v: Value| {
        let (node, rank) = (graph.node(v.node)?, graph.value_type(v)?.shape.rank());
        let message = format!("has {rank} axes where a caller sees it: reshape it to at most {AXES}");
        (rank > AXES).then(|| LowerError { node: node.name.clone(), op: node.op.name.to_owned(), message })
    };
    let problems: Vec<_> = inputs.chain(graph.outputs().iter().map(|o| o.1)).filter_map(problem).collect();
    if problems.is_empty() { Ok(()) } else { Err(CompileError::Unsupported(problems)) }
}

/// An input or output as the descriptor shows it.
fn tensor_spec(graph: &Graph, name: &str, value: Value) -> TensorSpec {
    let ty = graph.value_type(value);
    let dim = |d: &Dim| if let Dim::Fixed(n) = d { *n as i64 } else { -1 };
    TensorSpec {
        name: name.to_owned(),
        dtype: if ty.is_some_and(|t| t.codes().is_some()) { U8 } else { F32 },
        dims: ty.map_or(Vec::new(), |t| t.shape.0.iter().map(dim).collect()),
    }
}

fn step_errors(graph: &Graph, errors: Vec<StepError>) -> CompileError {
    let mut problems = Vec::new();
    for error in errors {
        match error {
            StepError::Codegen(e) => return e.into(),
            StepError::Node(id, message) => {
                let node = graph.node(id);
                problems.push(LowerError {
                    node: node.map_or(String::new(), |n| n.name.clone()),
                    op: node.map_or(String::new(), |n| n.op.name.to_owned()),
                    message,
                });
            }
        }
    }
    CompileError::Unsupported(problems)
}

/// The geometry of a step's layer, if it has weights.
fn geometry(graph: &Graph, step: &lower::Step) -> Option<Geometry> {
    let layer = |n: &Node| ["conv", "matmul", "int_conv"].contains(&n.op.name);
    let id = step.main.filter(|&id| graph.node(id).is_some_and(layer))?;
    lower::geometry(graph, id)
}

/// Multiplications of a step on one sample.
pub fn macs(graph: &Graph, step: &lower::Step) -> u64 {
    geometry(graph, step).map_or(0, |g| g.macs())
}

/// Whether a step's kernels may read weights once for several samples: those of layers of one position.
fn shares_weights(graph: &Graph, step: &lower::Step) -> bool {
    geometry(graph, step).is_some_and(|g| one_position(&g))
}

fn step_specs(graph: &Graph, plan: &Plan, steps: &[CompiledStep], kernels: &[Option<Kernel>]) -> Vec<StepSpec> {
    let spec = |((step, compiled), &kernel): ((&lower::Step, &CompiledStep), &Option<Kernel>)| {
        let buffer = plan.buffers.get(&step.result);
        StepSpec {
            name: graph.node(step.result.node).map_or(String::new(), |n| n.name.clone()),
            kernel: compiled.kernel.to_owned(),
            task: compiled.task,
            tasks: shares(plan, step, kernel).map_or(TaskCount::PerSample(step.tasks as u64), TaskCount::Shared),
            order: if shares_weights(graph, step) { Order::Alone } else { Order::Apart },
            macs: macs(graph, step),
            bytes: buffer.map_or(0, |b| b.bytes() as u64),
            arena_offset: buffer.map_or(0, |b| if let Place::Arena(o) = b.place { o } else { u64::MAX }),
            dtype: buffer.map_or(1, |b| if b.integer { 4 } else { 1 }),
            layout: buffer.map_or(0, |b| layout_code(b.layout)),
        }
    };
    plan.steps.iter().zip(steps).zip(kernels).map(spec).collect()
}

/// The number that stands for a layout in the descriptor.
pub fn layout_code(layout: Layout) -> u32 {
    match layout {
        Layout::Dense => 0,
        Layout::Nhwc => 1,
        Layout::Bits => 2,
        Layout::Nibbles => 3,
    }
}

/// FNV-1a over the image's code and data.
fn hash(image: &Image) -> u64 {
    let code = image.functions.iter().filter_map(|f| f.code.as_ref()).map(|c| &c.bytes);
    let bytes = code.chain(image.data.iter().map(|d| &d.bytes)).flatten();
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
}
