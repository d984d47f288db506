//! From the two graphs of a training step to an image: both are lowered over one state and share the arena.

use super::{CompileError, Options, hash, profile, step_errors, tensor_spec};
use crate::codegen::CodegenError;
use crate::codegen::entry::{self, LevelSpec, ModelSpec, Order, Program, StateSpec, StepSpec, TaskCount, TrainSpec};
use crate::codegen::image::Image;
use crate::codegen::steps::{self, compile_train_steps};
use crate::codegen::target::Level;
use crate::graph::draw::Draw;
use crate::graph::{Graph, Role, Value};
use crate::lower::train::{self, Form, Kind, Place, Plan, ProductPlan, Slot, State, Tasks, Work};
use std::collections::BTreeMap;

/// A compiled training step before it is emitted.
pub struct CompiledStep {
    /// Code and data.
    pub image: Image,
    /// The training step and evaluation as they were lowered.
    pub graphs: [Graph; 2],
    /// What was made of them.
    pub plans: [Plan; 2],
    /// The numeric profile.
    pub fma: bool,
}

/// Compiles a training step and its evaluation, whose constants are the same.
///
/// # Errors
/// Operators without a kernel, all at once; or a failure of code generation.
pub fn compile_training(
    training: &Graph,
    evaluation: &Graph,
    levels: &[Level],
    options: &Options,
) -> Result<CompiledStep, CompileError> {
    let Some(first) = levels.first() else { return Err(CodegenError::Spec("no CPU level".to_owned()).into()) };
    let fma = options.fma.unwrap_or_else(|| profile(levels)) && profile(levels);
    let spread = |graph| train::spread(graph).map_err(|e| CodegenError::Spec(e.to_string()));
    let graphs = [spread(training)?, spread(evaluation)?];
    let [training, evaluation] = &graphs;
    let (states, state_bytes) = train::states(training);
    let given = states_of(training, evaluation, &states);
    let plans = [
        train::lower(training, &states).map_err(CompileError::Unsupported)?,
        train::lower(evaluation, &given).map_err(CompileError::Unsupported)?,
    ];
    let mut image = Image::new(first.arch);
    image.keep_text = options.keep_text;
    let mut specs = Vec::new();
    for level in levels {
        let mut programs = Vec::new();
        for (graph, plan) in graphs.iter().zip(&plans) {
            let compiled =
                compile_train_steps(&mut image, graph, plan, level, fma).map_err(|e| step_errors(graph, e))?;
            programs.push(program(graph, plan, &compiled)?);
        }
        let [train, evaluate] = <[Program; 2]>::try_from(programs)
            .map_err(|_| CodegenError::Spec("a training image has two programs".to_owned()))?;
        let steps = train.steps.iter().chain(&evaluate.steps).cloned().collect();
        specs.push(LevelSpec { level: level.clone(), steps, programs: Some([train, evaluate]) });
    }
    let vectors = plans.iter().map(|p| p.vectors).max().unwrap_or(0);
    let spec = ModelSpec {
        inputs: inputs(training),
        outputs: training
            .outputs()
            .iter()
            .filter(|(name, _)| name == "scores")
            .map(|(name, v)| tensor_spec(training, name, *v))
            .collect(),
        levels: specs,
        // A cache line more, as the workers' parts begin at one, from the end of an arena of any size.
        arena_fixed: plans.iter().map(|p| p.fixed).max().unwrap_or(0) + 64 * vectors + 128,
        arena_per_sample: plans.iter().map(|p| p.per_sample + p.local).max().unwrap_or(0) + 4 * vectors,
        arena_per_worker: plans.iter().map(|p| p.local).max().unwrap_or(0),
        metadata_json: serde_json::json!({ "name": training.name, "metadata": training.metadata }).to_string(),
        graph_hash: hash(&image),
        fma,
        train: Some(TrainSpec { states: state_specs(training, &states, &options.draws), state_bytes }),
    };
    entry::finish(&mut image, &spec)?;
    Ok(CompiledStep { image, graphs, plans, fma })
}

/// The inputs but the labels, which stand in the call's training structure.
fn inputs(graph: &Graph) -> Vec<entry::TensorSpec> {
    let of = |&id: &crate::graph::NodeId| {
        let value = Value { node: id, port: 0 };
        let labels = graph.value_type(value).is_some_and(|t| t.shape.rank() == 1);
        let name = graph.node(id).filter(|_| !labels).map(|n| &n.name)?;
        Some(tensor_spec(graph, name, value))
    };
    graph.inputs().iter().filter_map(of).collect()
}

/// The state as the evaluation names it: by the names of its constants.
fn states_of(training: &Graph, evaluation: &Graph, states: &[State]) -> Vec<State> {
    let mut named = BTreeMap::new();
    for id in evaluation.order() {
        if let Some(node) = evaluation.node(id).filter(|n| n.tensor.is_some()) {
            named.insert(node.name.as_str(), id);
        }
    }
    let of = |s: &State| Some(State { node: *named.get(training.node(s.node)?.name.as_str())?, ..s.clone() });
    states.iter().filter_map(of).collect()
}

fn state_specs(graph: &Graph, states: &[State], draws: &BTreeMap<String, Draw>) -> Vec<StateSpec> {
    let role = |r: Role| match r {
        Role::Parameter => 0,
        Role::Momentum => 1,
        Role::Variance => 2,
        Role::Statistic => 3,
    };
    let of = |s: &State| {
        let node = graph.node(s.node)?;
        let tensor = node.tensor.as_ref()?;
        Some(StateSpec {
            name: node.name.clone(),
            offset: s.offset,
            role: role(s.role),
            dims: tensor.shape().iter().map(|&d| d as i64).collect(),
            initial: tensor.as_f32()?.to_vec(),
            draw: draws.get(&node.name).copied(),
        })
    };
    states.iter().filter_map(of).collect()
}

fn program(graph: &Graph, plan: &Plan, compiled: &[steps::CompiledStep]) -> Result<Program, CompileError> {
    let offset = |name: &str| {
        let value = graph.outputs().iter().find(|(n, _)| n == name).map(|(_, v)| *v);
        match value.and_then(|v| plan.buffers.get(&Slot::own(v))).map(|b| b.place) {
            Some(Place::Fixed(offset)) => Ok(offset),
            _ => Err(CodegenError::Spec(format!("a training graph has an output `{name}` of shape [1]"))),
        }
    };
    let flags = plan.buffers.iter().find(|(s, _)| s.kind == Kind::Flags).map(|(_, b)| b.place);
    let flags = if let Some(Place::Fixed(offset)) = flags { offset } else { 0 };
    Ok(Program {
        steps: plan.steps.iter().enumerate().zip(compiled).map(|(s, c)| step_spec(graph, plan, s, c)).collect(),
        updates: plan.updates,
        gradients: plan.gradients,
        loss: offset("loss")?,
        correct: offset("correct")?,
        flags: (flags, plan.flags()),
    })
}

/// Step `i`, which is `step`.
fn step_spec(graph: &Graph, plan: &Plan, (i, step): (usize, &train::Step), compiled: &steps::CompiledStep) -> StepSpec {
    let form = |s: &Slot| plan.buffers.get(s);
    let moved = |slots: &[Slot]| slots.iter().filter_map(form).map(|b| b.form.bytes() as u64).sum::<u64>();
    let written = step.writes.first().and_then(form);
    StepSpec {
        name: graph.node(step.node).map_or(String::new(), |n| n.name.clone()),
        kernel: compiled.kernel.to_owned(),
        task: compiled.task,
        tasks: match step.tasks {
            Tasks::Samples => TaskCount::PerSample(1),
            Tasks::Fixed(n) => TaskCount::Fixed(n as u64),
        },
        order: match () {
            () if train::apart(graph, step) => Order::Apart,
            () if train::beside(plan, i) => Order::Beside,
            () => Order::Alone,
        },
        macs: macs(graph, step),
        bytes: moved(&step.reads) + moved(&step.writes),
        arena_offset: written.map_or(u64::MAX, |b| if let Place::Sample(o) = b.place { o } else { u64::MAX }),
        dtype: 1,
        layout: written.map_or(0, |b| if let Form::Maps(_) = b.form { 1 } else { 0 }),
    }
}

/// Multiplications of a step on one sample.
fn macs(graph: &Graph, step: &train::Step) -> u64 {
    let Work::Product(product) = &step.work else { return 0 };
    if product.part != train::Part::Run {
        return 0;
    }
    let plan = graph.node(product.node).and_then(|n| train::plan(graph, n).ok());
    plan.map_or(0, |p| match p {
        ProductPlan::Forward(_, g)
        | ProductPlan::InputGrad(_, g)
        | ProductPlan::WeightGrad(_, g)
        | ProductPlan::PatchGrad(_, g) => g.macs(),
    })
}
