//! `dorefac run`: a model on a file of inputs.

use super::engine::{Engine, Input, Kind};
use super::{Failure, Outcome};
use dorefa_runtime::{Tensor, io};
use std::path::PathBuf;

/// Arguments of `dorefac run`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  dorefac run net.onnx --input x.npy --output y.npy\n  dorefac run net.so --input x.npz --output y.npz --threads 4"
)]
pub struct Args {
    /// The model: .so, .onnx or .dorefa
    model: PathBuf,
    /// Inputs: .npy, .npz (array x, or one array an input by name), .png or .jpg; axis 0 is the batch
    #[arg(long)]
    input: PathBuf,
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
    let mut engine = Engine::open(&args.model, args.engine, args.threads)?;
    let inputs = read_inputs(&args.input, &engine.inputs())?;
    let outputs = engine.run(&inputs)?;
    let named: Vec<_> = engine.outputs().into_iter().zip(outputs).collect();
    io::write_tensors(&args.output, &named).map_err(|e| match e {
        io::IoError::System { .. } => Failure::run(e),
        io::IoError::Malformed { .. } => Failure::input(e),
    })
}

/// Reads the tensors of the model's inputs in their order.
pub fn read_inputs(file: &std::path::Path, ports: &[Input]) -> Result<Vec<Tensor>, Failure> {
    let channels = ports.first().and_then(|p| p.dims.get(1).copied().flatten()).unwrap_or(3);
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
        inputs.push(tensors.swap_remove(at).1);
    }
    Ok(inputs)
}
