//! `dorefac bench`: how long a model takes.

mod train;

use super::engine::{self, Engine, Kind};
use super::model::{self, Source};
use super::pixels::Pixels;
use super::tune::{self, TuneArgs};
use super::{Failure, Outcome, print};
use crate::compile::{Options, Wish};
use crate::graph::Graph;
use crate::report::columns;
use dorefa_runtime::Model;
use dorefa_runtime::model::{Layer, LayerTime};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Arguments of `dorefac bench`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  dorefac bench net.onnx --batch 16 --threads 2\n  dorefac bench net.so --layers --json\n  dorefac bench net.onnx --kernels\n  dorefac bench net.onnx --tune --layers"
)]
pub struct Args {
    /// The model: .so, .onnx or .dorefa
    model: PathBuf,
    /// Threads; 0 takes as many as the machine offers
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// Time a step of training instead
    #[arg(long)]
    train: bool,
    /// Images a run
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Seconds to measure
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// The model takes 8-bit pixels: [NAME=]u8,scale=S[,mean=A:B:C][,std=A:B:C]
    #[arg(long, value_name = "SPEC")]
    input: Vec<String>,
    /// Compute a layer by this kernel: LAYER=NAME, or *=NAME for every layer that can; an unknown name lists all
    #[arg(long, value_name = "LAYER=NAME", conflicts_with = "train")]
    kernel: Vec<String>,
    #[command(flatten)]
    tune: TuneArgs,
    /// Instead each layer under every kernel that can compute it, measured and predicted: least times of one thread
    #[arg(long, conflicts_with_all = ["train", "kernel", "tune"])]
    kernels: bool,
    /// Also each layer's time
    #[arg(long)]
    layers: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Times in milliseconds, ascending, and what each layer took.
struct Measured {
    times: Vec<f64>,
    layers: Vec<serde_json::Value>,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Outcome {
    if args.kernels {
        return kernels(args);
    }
    let measured = if args.train { train::measure(args)? } else { inference(args)? };
    let times = &measured.times;
    let (Some(median), Some(min)) = (times.get(times.len() / 2), times.first()) else { return Ok(()) };
    let rate = args.batch.max(1) as f64 / median * 1e3;
    if args.json {
        let document = json!({"median_ms": median, "min_ms": min, "images_per_s": rate, "layers": measured.layers});
        return print(&document.to_string());
    }
    print(&format!("median {median:.4} ms, least {min:.4} ms, {rate:.1} images/s"))?;
    if measured.layers.is_empty() { Ok(()) } else { print(&table(&measured.layers).join("\n")) }
}

/// Runs of each model for a comparison of kernels, for each second.
const ROUNDS: f64 = 30.0;

fn kernels(args: &Args) -> Outcome {
    let graph = graph(args, "--kernels")?;
    let (lowered, _) = model::lowered(&args.model, &graph, model::native_fma())?;
    let rounds = (args.seconds * ROUNDS).clamp(1.0, 10_000.0) as usize;
    tune::compare(&args.model, &lowered, args.batch.max(1), rounds, args.json)
}

/// The graph of the model, for `option`, which asks for one.
fn graph(args: &Args, option: &str) -> Result<Box<Graph>, Failure> {
    let pixels = args.input.iter().map(|a| Pixels::parse(a)).collect::<Result<Vec<_>, _>>()?;
    match model::load_with(&args.model, &pixels)? {
        Source::Graph(graph) => Ok(graph),
        Source::Compiled(_) => {
            let text = format!("is compiled, so its kernels are chosen; {option} takes the .onnx or .dorefa");
            Err(model::problem(&args.model, &text))
        }
    }
}

/// The kernels that the arguments ask for.
fn wishes(args: &Args) -> Result<Vec<Wish>, Failure> {
    let forced = model::wishes(&args.kernel)?;
    if !args.tune.wanted() {
        return Ok(forced);
    }
    let (lowered, _) = model::lowered(&args.model, &*graph(args, "--tune")?, model::native_fma())?;
    let levels = model::levels("native", &target_lexicon::Triple::host())?;
    let levels = (levels.as_slice(), "native");
    let tuned = args.tune.wishes(&args.model, &lowered, levels, &Options::default(), args.batch.max(1))?;
    Ok([tuned, forced].concat())
}

fn inference(args: &Args) -> Result<Measured, Failure> {
    let pixels = args.input.iter().map(|a| Pixels::parse(a)).collect::<Result<Vec<_>, _>>()?;
    let mut engine = Engine::open_with(&args.model, Kind::Jit, args.threads, &pixels, &wishes(args)?)?;
    let inputs = engine::samples(&engine.inputs(), args.batch.max(1), 1)?;
    engine.run(&inputs)?;
    let times = times(args, || engine.run(&inputs).map(|_| ()))?;
    let mut layers = Vec::new();
    if let (true, Engine::Compiled(session)) = (args.layers, &mut engine) {
        let model = session.model().clone();
        layers = profile(&model, args, || Ok(session.run_profiled(&inputs, &mut |_| {}).map_err(Failure::run)?.1))?;
    }
    Ok(Measured { times, layers })
}

/// Most profiled runs.
const PROFILES: usize = 100;

/// What each layer takes: medians of profiled runs for half of the time to measure. `share` is of the sum of all layers,
/// `bytes` those of the result a sample (for a training step, as the image says), `gmac_s` of the whole batch.
fn profile(
    model: &Model,
    args: &Args,
    mut run: impl FnMut() -> Result<Vec<LayerTime>, Failure>,
) -> Result<Vec<serde_json::Value>, Failure> {
    let (start, mut taken) = (Instant::now(), vec![Vec::new(); model.layers().len()]);
    for done in 0..PROFILES {
        if done >= 3 && start.elapsed().as_secs_f64() > args.seconds / 2.0 {
            break;
        }
        for time in run()? {
            taken.get_mut(time.layer).into_iter().for_each(|t| t.push(time.elapsed.as_secs_f64() * 1e3));
        }
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or(0.0)
    };
    let times: Vec<f64> = taken.iter_mut().map(median).collect();
    let sum = times.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let row = |(l, &ms): (&Layer, &f64)| {
        let rate = l.macs as f64 * args.batch.max(1) as f64 / (ms * 1e6).max(f64::MIN_POSITIVE);
        json!({"name": l.name, "kernel": l.kernel, "ms": ms, "share": ms / sum, "macs": l.macs, "gmac_s": rate,
               "bytes": l.bytes})
    };
    Ok(model.layers().iter().zip(&times).filter(|(_, ms)| **ms > 0.0).map(row).collect())
}

/// The layers as lines of a table.
fn table(layers: &[serde_json::Value]) -> Vec<String> {
    let head = ["layer", "kernel", "ms", "share", "GMAC/s", "result B"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(layers.iter().map(|l| {
        let number = |key: &str| l[key].as_f64().unwrap_or(0.0);
        let text = |key: &str| l[key].as_str().unwrap_or_default().to_owned();
        let percent = format!("{:.1} %", number("share") * 100.0);
        let rate = if number("macs") > 0.0 { format!("{:.1}", number("gmac_s")) } else { String::new() };
        vec![text("name"), text("kernel"), format!("{:.4}", number("ms")), percent, rate, l["bytes"].to_string()]
    }));
    columns(&rows, 2)
}

/// Milliseconds of runs until the budget is used up, at least five; ascending.
fn times(args: &Args, mut run: impl FnMut() -> Outcome) -> Result<Vec<f64>, Failure> {
    let budget = Duration::try_from_secs_f64(args.seconds).map_err(|e| Failure::Input(format!("--seconds: {e}")))?;
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < 5 || start.elapsed() < budget {
        let one = Instant::now();
        run()?;
        times.push(one.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}
