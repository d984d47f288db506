//! Compiles the steps of a lowered graph: one task function a step and level, defined into one image.

use super::CodegenError;
use super::emitter::Emitter;
use super::image::{FunctionId, Image};
use super::kernels::choice::Kernel;
use super::kernels::emit_step;
use super::target::{self, Level};
use crate::graph::{Graph, NodeId};
use crate::lower::{Plan, train};
use cranelift_codegen::Context;
use cranelift_codegen::ir::{AbiParam, Signature, UserFuncName, types};
use cranelift_codegen::isa::{CallConv, TargetIsa};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

/// A compiled step.
#[derive(Clone, Debug)]
pub struct CompiledStep {
    /// Its task function.
    pub task: FunctionId,
    /// The kernel that was chosen.
    pub kernel: &'static str,
}

/// Why a step could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A node that no kernel can run.
    #[error("{1}")]
    Node(NodeId, String),
    /// Code generation failed.
    #[error(transparent)]
    Codegen(#[from] CodegenError),
}

/// The signature of a task: (call, i, worker).
fn signature(convention: CallConv) -> Signature {
    let mut s = Signature::new(convention);
    s.params = [types::I64, types::I64, types::I32].map(AbiParam::new).to_vec();
    s
}

/// Compiles every step of `plan` for `level`, layers with weights by `kernels`, one a step.
///
/// # Errors
/// Every node that the kernels cannot run, or the first failure of code generation.
pub fn compile_steps(
    image: &mut Image,
    graph: &Graph,
    plan: &Plan,
    level: &Level,
    fma: bool,
    kernels: &[Option<Kernel>],
) -> Result<Vec<CompiledStep>, Vec<StepError>> {
    let isa = target::isa(level).map_err(|e| vec![StepError::Codegen(e.into())])?;
    let (mut steps, mut problems) = (Vec::new(), Vec::new());
    for (i, step) in plan.steps.iter().enumerate() {
        let kernel = kernels.get(i).copied().flatten();
        let name = graph.node(step.result.node).map_or("step", |n| &n.name);
        match define(image, name, level, fma, &*isa, |e| emit_step(e, graph, plan, step, kernel)) {
            Ok(step) => steps.push(step),
            Err(error) => problems.push(error),
        }
    }
    if problems.is_empty() { Ok(steps) } else { Err(problems) }
}

/// Compiles every step of a training plan for `level`.
///
/// # Errors
/// Every node that the kernels cannot run, or the first failure of code generation.
pub fn compile_train_steps(
    image: &mut Image,
    graph: &Graph,
    plan: &train::Plan,
    level: &Level,
    fma: bool,
) -> Result<Vec<CompiledStep>, Vec<StepError>> {
    let isa = target::isa(level).map_err(|e| vec![StepError::Codegen(e.into())])?;
    let (mut steps, mut problems) = (Vec::new(), Vec::new());
    for step in &plan.steps {
        // A node may have several steps, in both programs.
        let name = format!("{}.{}", graph.node(step.node).map_or("step", |n| &n.name), image.functions.len());
        match define(image, &name, level, fma, &*isa, |e| super::train::emit_step(e, graph, plan, step)) {
            Ok(step) => steps.push(step),
            Err(error) => problems.push(error),
        }
    }
    if problems.is_empty() { Ok(steps) } else { Err(problems) }
}

/// Defines one task function, whose body `emit` writes.
fn define(
    image: &mut Image,
    name: &str,
    level: &Level,
    fma: bool,
    isa: &dyn TargetIsa,
    emit: impl FnOnce(&mut Emitter<'_, '_>) -> Result<&'static str, (NodeId, String)>,
) -> Result<CompiledStep, StepError> {
    let task = image.declare_function(format!("{name}.{}", level.name));
    let mut context = Context::new();
    context.func.signature = signature(isa.default_call_conv());
    context.func.name = UserFuncName::user(0, task.0);
    let mut builders = FunctionBuilderContext::new();
    let b = FunctionBuilder::new(&mut context.func, &mut builders);
    let mut e = Emitter { b, image, level, fma };
    let kernel = emit(&mut e).map_err(|(id, m)| StepError::Node(id, m))?;
    e.b.seal_all_blocks();
    e.b.finalize(isa.frontend_config());
    image.define(task, context, isa)?;
    Ok(CompiledStep { task, kernel })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::attrs::{Attr, Attrs};
    use crate::graph::ops::known;
    use crate::graph::types::{Shape, ValueType};
    use crate::lower;
    use dorefa_runtime::tensor::Tensor;

    /// A graph with every float operator that has lanes.
    fn sample() -> Graph {
        let mut g = Graph::new("t");
        let x = g.add_input("x", ValueType::f32(Shape::batched(&[3, 6, 5])));
        let w = Tensor::f32([10, 3, 3, 3], vec![0.5; 270]).expect("fits");
        let w = g.add_constant("w", w).expect("f32");
        let pads = Attrs::new().with("pads", Attr::Ints(vec![1, 1, 1, 1]));
        let mut v = g.add(known("conv"), "c", &[x, w], pads).expect("conv");
        for name in [
            "relu",
            "abs",
            "neg",
            "sqrt",
            "sign",
            "step",
            "round",
            "leaky_relu",
            "exp",
            "log",
            "tanh",
            "sigmoid",
            "erf",
        ] {
            v = g.add(known(name), name, &[v], Attrs::new()).expect(name);
        }
        let kernel = Attrs::new().with("kernel", Attr::Ints(vec![2, 2])).with("strides", Attr::Ints(vec![2, 2]));
        v = g.add(known("max_pool"), "p", &[v], kernel).expect("pool");
        v = g.add(known("global_average_pool"), "gap", &[v], Attrs::new()).expect("gap");
        v = g.add(known("reshape"), "flat", &[v], Attrs::new().with("shape", Attr::Ints(vec![10]))).expect("reshape");
        v = g.add(known("softmax"), "s", &[v], Attrs::new()).expect("softmax");
        g.add_output("y", v);
        g
    }

    #[test]
    fn every_level_compiles_self_contained() {
        let graph = sample();
        let plan = lower::lower(&graph).expect("lowers");
        for (cpu, triple) in
            [("x86-64-v2,x86-64-v3,x86-64-v4", "x86_64-unknown-linux-gnu"), ("generic", "aarch64-unknown-linux-gnu")]
        {
            let triple = triple.parse().expect("a triple");
            for level in Level::parse(cpu, &triple).expect("levels") {
                let mut image = Image::new(level.arch);
                let kernels: Vec<_> = plan.steps.iter().map(|s| s.main.map(|_| Kernel::Float)).collect();
                let steps = compile_steps(&mut image, &graph, &plan, &level, level.has_fma(), &kernels);
                let steps = steps.unwrap_or_else(|e| panic!("{}: {}", level.name, e[0]));
                assert_eq!(steps.len(), plan.steps.len());
            }
        }
    }
}
