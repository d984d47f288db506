//! Measuring the kernels that can compute each layer of a model, on the machine it runs on: for `--tune`, which takes the
//! fastest, and for `bench --kernels`, which compares them with the predictions. Whichever is taken, the bits are the same.

mod cache;

pub use cache::{Cache, default_path};

use crate::codegen::kernels::choice::Kernel;
use crate::codegen::target::Level;
use crate::compile::{Choice, CompileError, Compiled, Options, Wish, compile};
use crate::graph::Graph;
use crate::lower::Step;
use crate::report;
use std::collections::BTreeMap;

/// A layer under one of the kernels that can compute it.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// The step's index in the plan.
    pub step: usize,
    /// The node of the layer.
    pub layer: String,
    /// The kernel.
    pub kernel: Kernel,
    /// Predicted cycles a sample.
    pub cycles: f64,
    /// The least time of a run, in seconds.
    pub seconds: f64,
}

/// Runs a compiled model once and gives the seconds of each step.
pub type Run<'a> = Box<dyn FnMut() -> Result<Vec<f64>, String> + 'a>;

/// Makes a compiled model ready to be run on the machine that measures.
pub trait Bench {
    /// A run of `compiled`.
    ///
    /// # Errors
    /// When the machine cannot run it.
    fn ready(&self, compiled: Compiled) -> Result<Run<'_>, String>;

    /// How often each model is run: all in turn, so that a disturbance meets every one.
    fn rounds(&self) -> usize;
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum TuneError {
    /// The model cannot be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The machine cannot run it.
    #[error("{0}")]
    Run(String),
}

/// Measures the layers that `wanted` names by their step under each of their candidates, or all layers that have several.
///
/// # Errors
/// When the model cannot be compiled or run.
pub fn measure(
    graph: &Graph,
    level: &Level,
    options: &Options,
    bench: &dyn Bench,
    wanted: &dyn Fn(usize, &Choice) -> bool,
) -> Result<Vec<Trial>, TuneError> {
    let levels = std::slice::from_ref(level);
    let plain = compile(graph, levels, options)?;
    let mut trials: Vec<Trial> = Vec::new();
    for (step, choice) in plain.choices.iter().enumerate() {
        let Some(choice) = choice.as_ref().filter(|c| c.candidates.len() > 1 && wanted(step, c)) else { continue };
        let layer = layer_name(graph, plain.plan.steps.get(step));
        trials.extend(choice.candidates.iter().map(|c| Trial {
            step,
            layer: layer.clone(),
            kernel: c.kernel,
            cycles: c.cycles,
            seconds: f64::INFINITY,
        }));
    }
    drop(plain);
    let mut runs: Vec<(Kernel, Run<'_>)> = Vec::new();
    for kernel in Kernel::ALL {
        let of_kernel = trials.iter().filter(|t| t.kernel == kernel);
        let wishes: Vec<Wish> = of_kernel.map(|t| wish(&t.layer, kernel)).collect();
        if wishes.is_empty() {
            continue;
        }
        let options = Options { kernels: [&options.kernels[..], &wishes].concat(), ..options.clone() };
        let compiled = compile(graph, levels, &options)?;
        runs.push((kernel, bench.ready(compiled).map_err(TuneError::Run)?));
    }
    for _ in 0..bench.rounds().max(1) {
        for (kernel, run) in &mut runs {
            let seconds = run().map_err(TuneError::Run)?;
            for trial in trials.iter_mut().filter(|t| t.kernel == *kernel) {
                trial.seconds = seconds.get(trial.step).map_or(trial.seconds, |s| s.min(trial.seconds));
            }
        }
    }
    Ok(trials)
}

/// The fastest kernels of a model's layers as wishes: those that `cache` knows, the others measured and put into it.
///
/// # Errors
/// As [`measure`].
pub fn tune(
    graph: &Graph,
    level: &Level,
    options: &Options,
    batch: usize,
    bench: &dyn Bench,
    cache: &mut Cache,
) -> Result<Vec<Wish>, TuneError> {
    let plain = compile(graph, std::slice::from_ref(level), options)?;
    let key = |step: usize| plain.plan.steps.get(step).map_or(String::new(), |s| key(graph, &plain, s, level, batch));
    let known = |step: usize, choice: &Choice| {
        let kernel = cache.get(&key(step))?;
        choice.candidates.iter().any(|c| c.kernel == kernel).then_some(kernel)
    };
    let mut fastest: BTreeMap<usize, Kernel> = BTreeMap::new();
    for (step, choice) in plain.choices.iter().enumerate() {
        fastest.extend(choice.as_ref().and_then(|c| known(step, c)).map(|k| (step, k)));
    }
    let several = |c: &&Choice| c.candidates.len() > 1;
    let missing = plain
        .choices
        .iter()
        .enumerate()
        .any(|(i, c)| c.as_ref().filter(several).is_some() && !fastest.contains_key(&i));
    if missing {
        let trials = measure(graph, level, options, bench, &|step, _| !fastest.contains_key(&step))?;
        for best in best(&trials) {
            cache.put(key(best.step), best.kernel, best.seconds);
            fastest.insert(best.step, best.kernel);
        }
    }
    let name = |step: usize| layer_name(graph, plain.plan.steps.get(step));
    Ok(fastest.into_iter().map(|(step, kernel)| wish(&name(step), kernel)).collect())
}

/// The fastest trial of each layer; of equals the one predicted to be cheaper.
pub fn best(trials: &[Trial]) -> Vec<&Trial> {
    let mut best: BTreeMap<usize, &Trial> = BTreeMap::new();
    for trial in trials {
        let known = best.entry(trial.step).or_insert(trial);
        if (trial.seconds, trial.cycles) < (known.seconds, known.cycles) {
            *known = trial;
        }
    }
    best.into_values().collect()
}

/// Spearman's rank correlation of predictions and times over the trials of one layer: 1 where the order is the same; `None`
/// for fewer than two.
pub fn rank_correlation(trials: &[&Trial]) -> Option<f64> {
    let rank = |value: &dyn Fn(&Trial) -> f64, of: &Trial| {
        let below = trials.iter().filter(|t| value(t) < value(of)).count() as f64;
        let equal = trials.iter().filter(|t| value(t) == value(of)).count() as f64;
        below + (equal - 1.0) / 2.0
    };
    let n = trials.len() as f64;
    let square = |t: &&Trial| (rank(&|t| t.cycles, t) - rank(&|t| t.seconds, t)).powi(2);
    (trials.len() > 1).then(|| 1.0 - 6.0 * trials.iter().map(square).sum::<f64>() / (n * (n * n - 1.0)))
}

fn wish(layer: &str, kernel: Kernel) -> Wish {
    Wish { layer: layer.to_owned(), kernel: kernel.word(), measured: true }
}

fn layer_name(graph: &Graph, step: Option<&Step>) -> String {
    let node = step.and_then(|s| graph.node(s.main?));
    node.map_or(String::new(), |n| n.name.clone())
}

/// What the fastest kernel of a layer depends on: CPU, compiler, layer with its chain and layouts, batch.
fn key(graph: &Graph, compiled: &Compiled, step: &Step, level: &Level, batch: usize) -> String {
    let value = |v: &crate::graph::Value| {
        graph.value_type(*v).map_or(String::new(), |t| format!("{} {}", report::kind(t), t.shape))
    };
    let nodes = step.nodes().filter_map(|id| graph.node(id));
    let nodes = nodes.map(|n| {
        let operands: Vec<String> = graph.operands(n.id).iter().map(value).collect();
        format!("{}({}){:?}", n.op.name, operands.join(","), n.attrs)
    });
    let nodes: Vec<String> = nodes.collect();
    let layout = |v| compiled.plan.buffers.get(&v).map_or("", report::layout_name);
    let input = step.main.and_then(|id| graph.operands(id).first().copied()).map_or("", layout);
    let fma = if compiled.fma { "fma" } else { "nofma" };
    format!(
        "{}; {}; {fma}; dorefac {}; {}; {input}>{}; tasks {}; batch {batch}",
        cache::cpu(),
        level.name,
        env!("CARGO_PKG_VERSION"),
        nodes.join(" "),
        layout(step.result),
        step.tasks
    )
}

#[cfg(test)]
mod tests;
