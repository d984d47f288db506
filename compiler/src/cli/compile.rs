//! `dorefac compile`: a model to a shared object, object file or archive.

mod train;

use super::emit::Emit;
use super::files::{self, Outputs};
use super::model::{self, Source};
use super::pixels::Pixels;
use super::tune::TuneArgs;
use super::{Failure, Outcome, print};
use crate::codegen::image::Image;
use crate::codegen::target::{Arch, Level};
use crate::compile::{self, Options};
use crate::emit::{archive, elf, header, object};
use crate::passes;
use crate::report::ModelReport;
use std::path::PathBuf;
use target_lexicon::Triple;

/// Arguments of `dorefac compile`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  dorefac compile net.onnx -o net.so\n  dorefac compile net.onnx -o net.so --cpu x86-64-v2,x86-64-v4\n  dorefac compile net.onnx -o net.so --target aarch64-unknown-linux-gnu\n  dorefac compile net.onnx -o net.a --header net.h --prefix net\n  dorefac compile net.onnx -o net.so --input u8,scale=1/255\n  dorefac compile net.onnx -o net.so --report net.json --emit lowered --emit asm=net.s\n  dorefac compile --train net.dorefa -o step.so --optimizer sgd"
)]
pub struct Args {
    /// The model: .onnx or .dorefa
    model: PathBuf,
    /// The output: .so, .o or .a
    #[arg(short, long)]
    output: PathBuf,
    /// Target: x86_64-unknown-linux-gnu or aarch64-unknown-linux-gnu; this machine where absent
    #[arg(long)]
    target: Option<String>,
    /// CPU levels LEVEL(+FEATURE)*[,…]: x86-64-v2, x86-64-v3, x86-64-v4; generic (aarch64); native
    #[arg(long)]
    cpu: Option<String>,
    /// Numeric profile of float layers: fma or nofma
    #[arg(long, value_parser = ["fma", "nofma"])]
    numerics: Option<String>,
    /// Compile the training step instead: forward, loss, backward, optimiser
    #[arg(long, conflicts_with_all = ["input", "report"])]
    train: bool,
    /// The optimiser of a training step: sgd, adam or adam-pytorch
    #[arg(long, default_value = "adam")]
    optimizer: String,
    /// The weight decay of a training step: none, l2 or decoupled
    #[arg(long, default_value = "none")]
    decay: String,
    /// The caller passes 8-bit pixels: [NAME=]u8,scale=S[,mean=A:B:C][,std=A:B:C]; the value is (S·pixel − mean)/std
    #[arg(long, value_name = "SPEC")]
    input: Vec<String>,
    /// Compute a layer by this kernel: LAYER=NAME, or *=NAME for every layer that can; an unknown name lists all
    #[arg(long, value_name = "LAYER=NAME", conflicts_with = "train")]
    kernel: Vec<String>,
    #[command(flatten)]
    tune: TuneArgs,
    /// Write a C header for the model
    #[arg(long)]
    header: Option<PathBuf>,
    /// Prefix of the symbols in .o and .a
    #[arg(long, default_value = "dorefac")]
    prefix: String,
    /// Write what the compiler holds at a stage, STAGE[=PATH]: graph, lifted, fused (graphs), a pass's name, lowered (the
    /// plan), clif, asm, dot; standard output where there is no PATH
    #[arg(long, value_name = "STAGE[=PATH]")]
    emit: Vec<String>,
    /// Write a report as JSON: kernels and why, bits, MACs, bytes, layouts, fallbacks, estimated cycles
    #[arg(long, value_name = "PATH")]
    report: Option<PathBuf>,
}

/// What the code is for.
struct Target {
    levels: Vec<Level>,
    fma: bool,
    suffix: String,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Outcome {
    let mut emit = Emit::parse(&args.emit)?;
    let pixels = args.input.iter().map(|a| Pixels::parse(a)).collect::<Result<Vec<_>, _>>()?;
    let kernels = model::wishes(&args.kernel)?;
    let suffix = args.output.extension().and_then(|s| s.to_str()).unwrap_or_default();
    check_names(args, suffix)?;
    let others = args.header.iter().chain(&args.report).chain(emit.paths());
    files::check(&others.chain([&args.output]).map(PathBuf::as_path).collect::<Vec<_>>())?;
    let target = target(args, suffix)?;
    let Source::Graph(mut graph) = model::load_with(&args.model, &pixels)? else {
        return Err(model::problem(&args.model, &"is compiled already; pass the .onnx or .dorefa"));
    };
    if args.train {
        model::to_train(&args.model, &mut graph)?;
        return train::run(args, &graph, &target, emit);
    }
    emit.graph("graph", &graph);
    let notes = passes::run(&mut graph, target.fma, &mut |name, g| emit.graph(name, g))
        .map_err(|e| model::problem(&args.model, &e))?;
    let mut options = Options { fma: Some(target.fma), ..Options::default() };
    let levels = (target.levels.as_slice(), args.cpu.as_deref().unwrap_or("x86-64-v3"));
    let tuned = args.tune.wishes(&args.model, &graph, levels, &options, 1)?;
    options.kernels = [tuned, kernels].concat();
    options.keep_text = emit.wants_code();
    let compiled = model::compiled(&args.model, &graph, &target.levels, &options)?;
    emit.compiled(&graph, &compiled);
    let names: Vec<String> = target.levels.iter().map(|l| l.name.clone()).collect();
    let report = ModelReport::new(&graph, &compiled, &names, &notes);
    drop(graph); // its weights are in the image, and will be in the file besides
    written(args, &target, &compiled.image, &emit, Some(&report), &report.table())
}

fn target(args: &Args, suffix: &str) -> Result<Target, Failure> {
    let triple = match &args.target {
        Some(text) => text.parse::<Triple>().map_err(|e| Failure::Input(format!("--target {text}: {e}")))?,
        None => Triple::host(),
    };
    let arch = Arch::of(&triple).map_err(|e| Failure::Input(format!("--target {triple}: {e}")))?;
    let default = if arch == Arch::X86_64 { "x86-64-v3" } else { "generic" };
    let levels = model::levels(args.cpu.as_deref().unwrap_or(default), &triple)?;
    let fma = match args.numerics.as_deref() {
        Some("fma") if !compile::profile(&levels) => {
            return Err(Failure::Input("--numerics fma: a level of --cpu has no fused multiply-add".to_owned()));
        }
        Some(word) => word == "fma",
        None => compile::profile(&levels),
    };
    Ok(Target { levels, fma, suffix: suffix.to_owned() })
}

/// Writes the image and what was asked for besides; shows `table` where no stage is shown.
fn written(
    args: &Args,
    target: &Target,
    image: &Image,
    emit: &Emit,
    report: Option<&ModelReport>,
    table: &str,
) -> Outcome {
    let name = args.output.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let bytes = match target.suffix.as_str() {
        "so" => elf::shared_object(image, &name),
        "o" => object::relocatable(image, &args.prefix),
        _ => archive::archive(image, &args.prefix),
    };
    let bytes = bytes.map_err(|e| model::problem(&args.model, &e))?;
    let mut outputs = Outputs::default();
    let mut shown = false;
    for (path, text) in emit.finished() {
        match path {
            Some(path) => outputs.add(path, text),
            None => {
                print(text.trim_end())?;
                shown = true;
            }
        }
    }
    if let Some(path) = &args.header {
        outputs.add(path, header::header(&args.prefix));
    }
    if let (Some(path), Some(report)) = (&args.report, report) {
        let text = serde_json::to_string_pretty(&report.json()).map_err(Failure::run)?;
        outputs.add(path, format!("{text}\n"));
    }
    outputs.add(&args.output, bytes);
    outputs.commit()?;
    if shown { Ok(()) } else { print(table) }
}

/// Checks what the arguments name, before any work.
fn check_names(args: &Args, suffix: &str) -> Outcome {
    let mut problems = Vec::new();
    if !matches!(suffix, "so" | "o" | "a") {
        problems.push(format!("-o {}: the name must end in .so, .o or .a", args.output.display()));
    }
    let identifier = args.prefix.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && args.prefix.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !identifier {
        problems.push(format!("--prefix {}: must be a C identifier", args.prefix));
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::Input(problems.join("\n"))) }
}
