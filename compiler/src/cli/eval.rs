//! `dorefac eval`: a classifier's accuracy on a data set.

use super::engine::{Engine, Kind};
use super::pixels::{self, Pixels};
use super::{Failure, Outcome, print};
use dorefa_runtime::Tensor;
use dorefa_runtime::data::{DataSpec, Normalise, Split, check};
use dorefa_runtime::eval::{EvalError, accuracy};
use std::path::PathBuf;

/// Arguments of `dorefac eval`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  dorefac eval net.onnx --data idx:mnist --json\n  dorefac eval net.so --data npz:cifar10-test.npz --threads 0"
)]
pub struct Args {
    /// The model: .so, .onnx or .dorefa
    model: PathBuf,
    /// The data set: FORMAT:PATH, FORMAT one of idx, cifar10, svhn, images, npz (PATH a folder or archive); or digits, built in
    #[arg(long)]
    data: String,
    /// Which part of it: train or test
    #[arg(long, default_value = "test")]
    split: String,
    /// The model takes 8-bit pixels: [NAME=]u8,scale=S[,mean=A:B:C][,std=A:B:C]
    #[arg(long, value_name = "SPEC")]
    input: Vec<String>,
    /// Pixels as (scale·pixel − mean)/std: scale=S,mean=A:B:C,std=A:B:C; where absent as the model says, else pixel/255
    #[arg(long)]
    normalize: Option<String>,
    /// Scale pictures of another size to the model's, as models do whose metadata has input.resize = "bilinear"
    #[arg(long)]
    resize: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Threads of a compiled model; 0 takes as many as the machine offers
    #[arg(long, default_value_t = 0)]
    threads: u32,
    /// What runs the model
    #[arg(long, value_enum, default_value_t = Kind::Jit)]
    engine: Kind,
    /// Images at once
    #[arg(long, default_value_t = 128)]
    batch: usize,
}

/// The model's failure inside the evaluation.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failed(String);

/// Runs the subcommand.
pub fn run(args: &Args) -> Outcome {
    let split: Split = args.split.parse().map_err(Failure::Input)?;
    let normalise = args.normalize.as_deref().map(parse).transpose()?;
    let pixels = args.input.iter().map(|a| Pixels::parse(a)).collect::<Result<Vec<_>, _>>()?;
    let spec = DataSpec::parse(&args.data).map_err(Failure::input)?;
    let mut engine = Engine::open(&args.model, args.engine, args.threads, &pixels)?;
    let (inputs, metadata) = (engine.inputs(), engine.metadata());
    let mut normalise = normalise.unwrap_or_else(|| pixels::default_normalise(&metadata));
    normalise.raw = inputs.first().is_some_and(|p| p.bytes);
    let set = spec.open(split).map_err(Failure::input)?;
    let transform = pixels::transform(&inputs, &metadata, args.resize, normalise);
    if let Some(shape) = inputs.first().and_then(pixels::picture_shape) {
        // `accuracy` checks the labels: it sees the scores.
        check(&*set, &transform, shape, usize::MAX).map_err(Failure::input)?;
    }
    let score = |x: Tensor| -> Result<Tensor, Failed> {
        let outputs = engine.run(&[x]).map_err(|e| match e {
            Failure::Input(t) | Failure::Run(t) | Failure::Interrupted(t) => Failed(t),
        })?;
        outputs.into_iter().next().ok_or_else(|| Failed("the model has no output".to_owned()))
    };
    let found = accuracy(&set, args.batch, transform, score).map_err(|e: EvalError<Failed>| Failure::input(e))?;
    if args.json {
        let line = serde_json::json!({
            "accuracy": found.fraction(), "correct": found.correct, "images": found.images,
        });
        return print(&line.to_string());
    }
    print(&format!("{:.2} % right: {} of {} images", found.fraction() * 100.0, found.correct, found.images))
}

/// Parses `scale=S,mean=A:B:C,std=A:B:C`; a number may be a quotient such as 1/256.
pub(super) fn parse(text: &str) -> Result<Normalise, Failure> {
    let bad = |what: &str| Failure::Input(format!("--normalize: {what}; write scale=S,mean=A:B:C,std=A:B:C"));
    let number = |t: &str| -> Result<f32, Failure> {
        let value = match t.split_once('/') {
            Some((a, b)) => a.parse::<f64>().ok().zip(b.parse::<f64>().ok()).map(|(a, b)| a / b),
            None => t.parse::<f64>().ok(),
        };
        value.filter(|v| v.is_finite()).map(|v| v as f32).ok_or_else(|| bad(&format!("`{t}` is no number")))
    };
    let mut normalise = Normalise::default();
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or_else(|| bad(&format!("`{part}` has no =")))?;
        let values = value.split(':').map(number).collect::<Result<Vec<_>, _>>()?;
        match key {
            "scale" => normalise.scale = values.first().copied(),
            "mean" => normalise.mean = values,
            "std" if values.iter().all(|v| *v != 0.0) => normalise.std = values,
            _ => return Err(bad(&format!("`{part}` is not understood"))),
        }
    }
    Ok(normalise)
}
