//! `dorefac compile`: a model to a shared object, object file or archive.

use super::model::{self, Source};
use super::{Failure, Outcome, print};
use crate::codegen::target::Arch;
use crate::compile::{self, Options};
use crate::emit::{archive, elf, header, object};
use crate::{passes, text};
use std::io::Write;
use std::path::{Path, PathBuf};
use target_lexicon::Triple;

/// Arguments of `dorefac compile`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  dorefac compile net.onnx -o net.so\n  dorefac compile net.onnx -o net.so --cpu x86-64-v2,x86-64-v4\n  dorefac compile net.onnx -o net.so --target aarch64-unknown-linux-gnu\n  dorefac compile net.onnx -o net.a --header net.h --prefix net"
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
    /// Write a C header for the model
    #[arg(long)]
    header: Option<PathBuf>,
    /// Prefix of the symbols in .o and .a
    #[arg(long, default_value = "dorefac")]
    prefix: String,
    /// Write the graph at a stage, STAGE[=PATH]: graph (as imported), or a pass's name; `final` is the last
    #[arg(long)]
    emit: Vec<String>,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Outcome {
    let Source::Graph(mut graph) = model::load(&args.model)? else {
        return Err(model::problem(&args.model, &"is compiled already; pass the .onnx or .dorefa"));
    };
    let target = match &args.target {
        Some(text) => text.parse::<Triple>().map_err(|e| Failure::Input(format!("--target {text}: {e}")))?,
        None => Triple::host(),
    };
    let arch = Arch::of(&target).map_err(Failure::input)?;
    let default = if arch == Arch::X86_64 { "x86-64-v3" } else { "generic" };
    let levels = model::levels(args.cpu.as_deref().unwrap_or(default), &target)?;
    let fma = match args.numerics.as_deref() {
        Some("fma") if !compile::profile(&levels) => {
            return Err(Failure::Input("--numerics fma: a level of --cpu has no fused multiply-add".to_owned()));
        }
        Some(word) => word == "fma",
        None => compile::profile(&levels),
    };
    let suffix = args.output.extension().and_then(|s| s.to_str()).unwrap_or_default();
    let prefix_ok = args.prefix.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && args.prefix.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !prefix_ok || !matches!(suffix, "so" | "o" | "a") {
        return Err(Failure::Input("-o takes a name ending in .so, .o or .a, --prefix a C identifier".to_owned()));
    }

    let mut stages = vec![("graph", text::print(&graph))];
    let keep = !args.emit.is_empty();
    passes::run(&mut graph, fma, &mut |name, g| {
        if keep {
            stages.push((name, text::print(g)));
        }
    })
    .map_err(|e| model::problem(&args.model, &e))?;
    let options = Options { fma: Some(fma), ..Options::default() };
    let compiled = model::compiled(&args.model, &graph, &levels, &options)?;
    let name = args.output.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let bytes = match suffix {
        "so" => elf::shared_object(&compiled.image, &name),
        "o" => object::relocatable(&compiled.image, &args.prefix),
        _ => archive::archive(&compiled.image, &args.prefix),
    };
    let bytes = bytes.map_err(|e| model::problem(&args.model, &e))?;
    for request in &args.emit {
        let (stage, path) = request.split_once('=').map_or((request.as_str(), None), |(s, p)| (s, Some(p)));
        let found = stages.iter().rfind(|(name, _)| *name == stage).ok_or_else(|| {
            let names: Vec<_> = stages.iter().map(|(n, _)| *n).collect();
            Failure::Input(format!("--emit {stage}: no such stage; there are {}", names.join(", ")))
        })?;
        match path {
            Some(path) => write(Path::new(path), found.1.as_bytes())?,
            None => print(&found.1)?,
        }
    }
    if let Some(path) = &args.header {
        write(path, header::header(&args.prefix).as_bytes())?;
    }
    write(&args.output, &bytes)
}

/// Writes a file beside its place, then renames it.
fn write(path: &Path, bytes: &[u8]) -> Outcome {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.persist(path).map_err(|e| e.error).map(drop)
    };
    write().map_err(|e| Failure::Run(format!("{}: {e}; check the path and the disk", path.display())))
}
