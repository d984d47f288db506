//! `dorefac export`: a model to ONNX.

use super::files::{self, Outputs};
use super::model::{self, Source};
use super::{Failure, Outcome};
use crate::export::{self, Dialect};
use std::path::PathBuf;

/// Arguments of `dorefac export`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  dorefac export net.safetensors -o net.onnx\n  dorefac export net.dorefa -o net.onnx --dialect qonnx"
)]
pub struct Args {
    /// The model: .safetensors that carries its graph, .dorefa or .onnx
    model: PathBuf,
    /// The output: .onnx
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
    if args.output.extension().is_none_or(|s| s != "onnx") {
        return Err(Failure::Input(format!("-o {}: the name must end in .onnx", args.output.display())));
    }
    files::check(&[&args.output])?;
    let Source::Graph(graph) = model::load(&args.model)? else {
        return Err(model::problem(&args.model, &"is compiled already; pass the .safetensors, .dorefa or .onnx"));
    };
    let bytes = export::onnx(&graph, dialect).map_err(|e| model::problem(&args.model, &e))?;
    let mut outputs = Outputs::default();
    outputs.add(&args.output, bytes);
    outputs.commit()
}
