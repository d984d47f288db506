//! `--tune`, and the comparison of kernels of `dorefac bench --kernels`: what measures on this machine.

use super::engine::{self, Engine};
use super::model;
use super::{Failure, print};
use crate::codegen::target::{Arch, Level, host_features};
use crate::compile::{Compiled, Options, Wish};
use crate::emit::jit::JitImage;
use crate::graph::Graph;
use crate::report::columns;
use crate::tune::{self, Bench, Cache, Run, Trial, TuneError};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Arguments of commands that tune.
#[derive(clap::Args, Debug, Default)]
pub struct TuneArgs {
    /// Measure the kernels that can compute each layer on this machine and take the fastest; what was measured is kept
    #[arg(long, conflicts_with = "train")]
    tune: bool,
    /// Where what was measured is kept [default: dorefac/kernels.json in the user's cache folder]
    #[arg(long, value_name = "FILE", requires = "tune")]
    tune_cache: Option<PathBuf>,
}

impl TuneArgs {
    /// Whether to tune.
    pub fn wanted(&self) -> bool {
        self.tune
    }

    /// The fastest kernels for `graph` after its passes, besides those of `options`; none without `--tune`. `cpu` is how the
    /// user named the levels.
    ///
    /// # Errors
    /// When the levels are not one that this machine has, or the model cannot be compiled or run.
    pub fn wishes(
        &self,
        file: &Path,
        graph: &Graph,
        (levels, cpu): (&[Level], &str),
        options: &Options,
        batch: usize,
    ) -> Result<Vec<Wish>, Failure> {
        if !self.tune {
            return Ok(Vec::new());
        }
        let level = host_level(levels, cpu)?;
        let path = self.tune_cache.clone().or_else(tune::default_path);
        let path = path.ok_or_else(|| {
            Failure::input("--tune: neither XDG_CACHE_HOME nor HOME names a folder; give --tune-cache FILE")
        })?;
        let (mut cache, problem) = Cache::read(&path);
        problem.iter().for_each(|p| eprintln!("warning: {p}"));
        let host = Host { batch, rounds: 15 };
        let wishes = tune::tune(graph, level, options, batch, &host, &mut cache).map_err(|e| failure(file, &e))?;
        if let Err(problem) = cache.write(&path) {
            eprintln!("warning: what was measured is not kept: {problem}");
        }
        Ok(wishes)
    }
}

fn failure(file: &Path, error: &TuneError) -> Failure {
    match error {
        TuneError::Compile(e) => model::problem(file, e),
        TuneError::Run(e) => Failure::run(format!("{}: {e}", file.display())),
    }
}

/// The one level to measure.
fn host_level<'l>(levels: &'l [Level], cpu: &str) -> Result<&'l Level, Failure> {
    let [level] = levels else {
        return Err(Failure::Input(format!("--cpu {cpu}: --tune measures one level; name one, for example native")));
    };
    if Arch::host() != Some(level.arch) || level.features & !host_features() != 0 {
        let text = "--tune measures on this machine, which cannot run that level; use --cpu native";
        return Err(Failure::Input(format!("--cpu {cpu}: {text}")));
    }
    Ok(level)
}

/// This machine: one thread, random pixels.
struct Host {
    batch: usize,
    rounds: usize,
}

impl Bench for Host {
    fn ready(&self, compiled: Compiled) -> Result<Run<'_>, String> {
        let text = |f: Failure| match f {
            Failure::Input(t) | Failure::Run(t) | Failure::Interrupted(t) => t,
        };
        let image = JitImage::new(&compiled.image).map_err(|e| e.to_string())?;
        drop(compiled);
        let model = image.into_model().map_err(|e| e.to_string())?;
        let inputs = engine::samples(&engine::ports(&model), self.batch.max(1), 1).map_err(text)?;
        let Engine::Compiled(mut session) = Engine::session(&model, 1).map_err(text)? else {
            return Err("the model is not compiled".to_owned());
        };
        session.run(&inputs).map_err(|e| e.to_string())?;
        Ok(Box::new(move || {
            let (_, times) = session.run_profiled(&inputs, &mut |_| {}).map_err(|e| e.to_string())?;
            Ok(times.iter().map(|t| t.elapsed.as_secs_f64()).collect())
        }))
    }

    fn rounds(&self) -> usize {
        self.rounds
    }
}

/// Measures every layer of a model under every kernel that can compute it, in `rounds` runs each, and prints times beside
/// predictions.
///
/// # Errors
/// When the model cannot be compiled or run.
pub fn compare(file: &Path, graph: &Graph, batch: usize, rounds: usize, as_json: bool) -> Result<(), Failure> {
    let levels = model::levels("native", &target_lexicon::Triple::host())?;
    let level = host_level(&levels, "native")?;
    let host = Host { batch, rounds };
    let trials = tune::measure(graph, level, &Options::default(), &host, &|_, _| true);
    let trials = trials.map_err(|e| failure(file, &e))?;
    let layers = by_layer(&trials);
    let correlations: Vec<f64> = layers.iter().filter_map(|l| tune::rank_correlation(l)).collect();
    let mean = correlations.iter().sum::<f64>() / correlations.len().max(1) as f64;
    let chosen = |l: &Vec<&Trial>| l.first().map_or(0.0, |t| t.seconds);
    let fastest = |l: &Vec<&Trial>| l.iter().map(|t| t.seconds).fold(f64::INFINITY, f64::min);
    let right = layers.iter().filter(|l| chosen(l) <= fastest(l)).count();
    let [predicted, best]: [f64; 2] = [layers.iter().map(chosen).sum(), layers.iter().map(fastest).sum()];
    if as_json {
        let trial = |t: &Trial| {
            json!({"layer": t.layer, "kernel": t.kernel.word(), "estimated_cycles": t.cycles.ceil(),
                   "ms": t.seconds * 1e3})
        };
        let document = json!({
            "kernels": trials.iter().map(trial).collect::<Vec<_>>(), "rank_correlation": mean,
            "layers": layers.len(), "layers_right": right, "ms": predicted * 1e3, "best_ms": best * 1e3,
        });
        return print(&document.to_string());
    }
    let head = ["layer", "kernel", "est. cycles", "µs", "cycles/ns", "rank"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for layer in &layers {
        let rank = tune::rank_correlation(layer).map_or(String::new(), |r| format!("{r:.2}"));
        rows.extend(layer.iter().enumerate().map(|(i, t)| {
            let mark = if t.seconds <= fastest(layer) { " *" } else { "" };
            let ratio = t.cycles * batch.max(1) as f64 / (t.seconds * 1e9);
            let rank = if i == 0 { rank.clone() } else { String::new() };
            let (name, cycles) = (format!("{}{mark}", t.kernel.name()), format!("{:.0}", t.cycles));
            vec![t.layer.clone(), name, cycles, format!("{:.1}", t.seconds * 1e6), format!("{ratio:.2}"), rank]
        }));
    }
    print(&columns(&rows, 2).join("\n"))?;
    print(&format!(
        "{} layers with several kernels (* the fastest, the first is predicted to be): mean rank correlation {mean:.2}, \
         {right} chosen right; chosen {:.1} µs, fastest {:.1} µs",
        layers.len(),
        predicted * 1e6,
        best * 1e6
    ))
}

/// The trials of each layer, as they were predicted: the cheapest first.
fn by_layer(trials: &[Trial]) -> Vec<Vec<&Trial>> {
    let mut layers: Vec<Vec<&Trial>> = Vec::new();
    for trial in trials {
        match layers.last_mut().filter(|l| l.first().is_some_and(|t| t.step == trial.step)) {
            Some(layer) => layer.push(trial),
            None => layers.push(vec![trial]),
        }
    }
    layers
}
