//! `dorefac compile --train`: the training step of a network instead of the network.

use super::{Args, Target, written};
use crate::cli::emit::Emit;
use crate::cli::{Failure, Outcome, model};
use crate::compile::{CompiledTraining, Options, compile_training};
use crate::grad;
use crate::graph::Graph;
use crate::lower::train::{Place, Plan};
use crate::text;
use dorefa_runtime::train::{Decay, Optimizer, StepOptions};
use std::fmt::Write;

/// Builds, compiles and writes the training step of `graph`.
pub fn run(args: &Args, graph: &Graph, target: &Target, mut emit: Emit) -> Outcome {
    let optimizer: Optimizer = args.optimizer.parse().map_err(|e| Failure::Input(format!("--optimizer: {e}")))?;
    let decay: Decay = args.decay.parse().map_err(|e| Failure::Input(format!("--decay: {e}")))?;
    let step = grad::build(graph, &StepOptions { optimizer, decay }).map_err(|problems| {
        let lines = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        model::problem(&args.model, &lines)
    })?;
    emit.graph("graph", &step.train);
    let draws = text::training_draws(graph, text::First::default());
    let options = Options { fma: Some(target.fma), keep_text: emit.wants_code(), draws, ..Options::default() };
    let compiled = compile_training(&step.train, &step.evaluate, &target.levels, &options)
        .map_err(|e| model::problem(&args.model, &e))?;
    let ([graph, _], [plan, _]) = (&compiled.graphs, &compiled.plans);
    emit.graph("final", graph);
    emit.image(&compiled.image, || steps(graph, plan));
    written(args, target, &compiled.image, &emit, None, &summary(graph, &compiled))
}

/// What the step holds.
fn summary(graph: &Graph, compiled: &CompiledTraining) -> String {
    let [train, evaluate] = &compiled.plans;
    let sample = |plan: &Plan| plan.per_sample + plan.local;
    let bytes = sample(train).max(sample(evaluate)) + 4 * train.vectors.max(evaluate.vectors);
    format!(
        "training step: {} steps, {} states; evaluation: {} steps; arena {:.2} MiB + {:.1} KiB a sample",
        train.steps.len(),
        graph.updates().len(),
        evaluate.steps.len(),
        train.fixed.max(evaluate.fixed) as f64 / f64::from(1 << 20),
        bytes as f64 / 1024.0
    )
}

/// The plan as text: one step a line, with what it reads and writes.
fn steps(graph: &Graph, plan: &Plan) -> String {
    let mut text = String::new();
    let name = |id| graph.node(id).map_or("", |n| n.name.as_str());
    for (i, step) in plan.steps.iter().enumerate() {
        let slots = |list: &[crate::lower::train::Slot]| {
            let one = |s: &crate::lower::train::Slot| {
                let place = match plan.buffers.get(s).map(|b| b.place) {
                    Some(Place::Sample(o)) => format!("sample+{o}"),
                    Some(Place::Local(o)) => format!("local+{o}"),
                    Some(Place::Fixed(o)) => format!("fixed+{o}"),
                    Some(Place::Vector(k)) => format!("vector {k}"),
                    Some(Place::State(o)) => format!("state+{o}"),
                    Some(Place::Input(k)) => format!("input {k}"),
                    Some(Place::Gradient(o)) => format!("gradients+{o}"),
                    Some(Place::Labels) => "labels".to_owned(),
                    None => "nowhere".to_owned(),
                };
                format!("{}.{:?}@{place}", name(s.value.node), s.kind)
            };
            list.iter().map(one).collect::<Vec<_>>().join(" ")
        };
        let mark = match i.checked_sub(plan.updates) {
            Some(0) if plan.gradients > 0 => "; for callers that ask for gradients\n",
            Some(n) if n == plan.gradients => "; updates of the state\n",
            _ => "",
        };
        let kind = format!("{:?}", step.work);
        let kind = kind.split([' ', '(', '{']).next().unwrap_or_default().to_lowercase();
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{mark}{i} {} {kind} {:?}: {} -> {}",
            name(step.node),
            step.tasks,
            slots(&step.reads),
            slots(&step.writes)
        );
    }
    text
}
