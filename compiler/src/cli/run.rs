//! `dorefac run`: a model on a file of inputs.

use super::engine::{Engine, Input, Kind};
use super::{Failure, Outcome, files, pixels};
use dorefa_runtime::{Normalise, Tensor, io};
use std::path::{Path, PathBuf};

/// Arguments of `dorefac run`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  dorefac run net.onnx --input x.npy --output y.npy\n  dorefac run net.so --input x.npz --output y.npz --threads 4\n  dorefac run net.onnx --input photo.png --output y.npy\n  dorefac run net.onnx --input u8,scale=1/255 --input pixels.npy --output y.npy"
)]
pub struct Args {
    /// The model: .so, .onnx or .dorefa
    model: PathBuf,
    /// Inputs: .npy, .npz (array x, or one array an input by name), .png or .jpg; axis 0 is the batch. Besides, where the
    /// model shall take 8-bit pixels: [NAME=]u8,scale=S[,mean=A:B:C][,std=A:B:C]
    #[arg(long, value_name = "FILE|SPEC", required = true)]
    input: Vec<String>,
    /// Where the outputs go: .npy for one output, .npz for any number
    #[arg(long)]
    output: PathBuf,
    /// Threads of a compiled model; 0 takes as many as the machine offers
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// What runs the model
    #[arg(long, value_enum, default_value_t = Kind::Jit)]
    engine: Kind,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Outcome {
    let (pixels, files) = pixels::split(&args.input)?;
    let [file] = *files else {
        return Err(Failure::input("--input: name exactly one file of inputs (.npy, .npz, .png or .jpg)"));
    };
    files::check(&[&args.output])?;
    let mut engine = Engine::open(&args.model, args.engine, args.threads, &pixels)?;
    let inputs = read_inputs(Path::new(file), &engine.inputs(), &pixels::default_normalise(&engine.metadata()))?;
    let outputs = engine.run(&inputs)?;
    let named: Vec<_> = engine.outputs().into_iter().zip(outputs).collect();
    io::write_tensors(&args.output, &named).map_err(|e| match e {
        io::IoError::System { .. } => Failure::run(e),
        io::IoError::Malformed { .. } => Failure::input(e),
    })
}

/// Reads the tensors of the model's inputs in their order.
pub fn read_inputs(file: &Path, ports: &[Input], normalise: &Normalise) -> Result<Vec<Tensor>, Failure> {
    let channels = ports.first().and_then(|p| p.dims.get(1).copied().flatten()).unwrap_or(3);
    let suffix = file.extension().map(|s| s.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let picture = matches!(suffix.as_str(), "png" | "jpg" | "jpeg");
    let mut tensors = io::read_tensors(file, channels).map_err(Failure::input)?;
    let mut inputs = Vec::new();
    for port in ports {
        let at = tensors.iter().position(|(n, _)| *n == port.name);
        let at = at.or_else(|| tensors.iter().position(|(n, _)| ports.len() == 1 && n == "x"));
        let at = at.or((ports.len() == 1 && tensors.len() == 1).then_some(0)).ok_or_else(|| {
            let given: Vec<_> = tensors.iter().map(|(n, _)| n.as_str()).collect();
            Failure::Input(format!(
                "{}: has no array `{}` for that input (it has {}); name the arrays as the inputs, or x for a single one",
                file.display(),
                port.name,
                given.join(", ")
            ))
        })?;
        let tensor = tensors.swap_remove(at).1;
        inputs.push(if picture { pixels::to_floats(tensor, port, normalise) } else { tensor });
    }
    Ok(inputs)
}
