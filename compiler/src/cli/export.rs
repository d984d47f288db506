//! `dorefac export`: a model to ONNX, or to the weights alone.

use super::files::{self, Outputs};
use super::model::{self, Source};
use super::{Failure, Outcome};
use crate::export::{self, Dialect};
use crate::text;
use std::path::PathBuf;

/// Arguments of `dorefac export`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  dorefac export net.safetensors -o net.onnx\n  dorefac export net.dorefa -o net.onnx --dialect qonnx\n  dorefac export checkpoint.safetensors -o net.safetensors    (the network alone, without the optimiser's state)"
)]
pub struct Args {
    /// The model: .safetensors that carries its graph, .dorefa or .onnx
    model: PathBuf,
    /// The output: .onnx; or .safetensors, the graph with its weights
    #[arg(short, long)]
    output: PathBuf,
    /// float: standard operators, quantised weights as constants; qonnx: Quant and BipolarQuant nodes
    #[arg(long, default_value = "float", value_parser = ["float", "qonnx"])]
    dialect: String,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Outcome {
    let dialect = Dialect::parse(&args.dialect)
        .ok_or_else(|| Failure::Input(format!("--dialect {}: pass float or qonnx", args.dialect)))?;
    let suffix = args.output.extension().and_then(|s| s.to_str()).unwrap_or_default();
    if !matches!(suffix, "onnx" | "safetensors") {
        let message = format!("-o {}: the name must end in .onnx or .safetensors", args.output.display());
        return Err(Failure::Input(message));
    }
    files::check(&[&args.output])?;
    let Source::Graph(graph) = model::load(&args.model)? else {
        return Err(model::problem(&args.model, &"is compiled already; pass the .safetensors, .dorefa or .onnx"));
    };
    if suffix == "safetensors" {
        return text::save(&graph, &args.output).map_err(Failure::run);
    }
    let bytes = export::onnx(&graph, dialect).map_err(|e| model::problem(&args.model, &e))?;
    let mut outputs = Outputs::default();
    outputs.add(&args.output, bytes);
    outputs.commit()
}
