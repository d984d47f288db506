//! `dorefac bench`: how long a model takes.

mod train;

use super::engine::{self, Engine, Kind};
use super::pixels::Pixels;
use super::{Failure, Outcome, print};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Arguments of `dorefac bench`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  dorefac bench net.onnx --batch 16 --threads 2\n  dorefac bench net.so --layers --json"
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
    let measured = if args.train { train::measure(args)? } else { inference(args)? };
    let times = &measured.times;
    let (Some(median), Some(min)) = (times.get(times.len() / 2), times.first()) else { return Ok(()) };
    let rate = args.batch.max(1) as f64 / median * 1e3;
    if args.json {
        let document = json!({"median_ms": median, "min_ms": min, "images_per_s": rate, "layers": measured.layers});
        return print(&document.to_string());
    }
    print(&format!("median {median:.4} ms, least {min:.4} ms, {rate:.1} images/s"))?;
    for l in measured.layers {
        print(&format!("{:>10.4} ms  {} ({})", l["ms"].as_f64().unwrap_or(0.0), l["name"], l["kernel"]))?;
    }
    Ok(())
}

fn inference(args: &Args) -> Result<Measured, Failure> {
    let pixels = args.input.iter().map(|a| Pixels::parse(a)).collect::<Result<Vec<_>, _>>()?;
    let mut engine = Engine::open(&args.model, Kind::Jit, args.threads, &pixels)?;
    let inputs = engine::samples(&engine.inputs(), args.batch.max(1), 1)?;
    engine.run(&inputs)?;
    let times = times(args, || engine.run(&inputs).map(|_| ()))?;
    let mut layers = Vec::new();
    if let (true, Engine::Compiled(session)) = (args.layers, &mut engine) {
        let (_, times) = session.run_profiled(&inputs, &mut |_| {}).map_err(Failure::run)?;
        for time in times {
            if let Some(l) = session.model().layers().get(time.layer) {
                let ms = time.elapsed.as_secs_f64() * 1e3;
                layers.push(json!({"name": l.name, "kernel": l.kernel, "ms": ms, "macs": l.macs}));
            }
        }
    }
    Ok(Measured { times, layers })
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
