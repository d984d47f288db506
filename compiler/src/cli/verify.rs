//! `dorefac verify`: compiled code against the reference interpreter, bit by bit; and what `lift` changed.

use super::engine::{self, Engine};
use super::model::{self, Source};
use super::{Failure, Outcome, print, run};
use crate::graph::{Graph, Value, ops};
use crate::interp;
use dorefa_runtime::Tensor;
use std::path::{Path, PathBuf};

/// Arguments of `dorefac verify`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  dorefac verify net.onnx\n  dorefac verify net.onnx --input x.npz --samples 100")]
pub struct Args {
    /// The model: .onnx or .dorefa
    model: PathBuf,
    /// Inputs to compare on besides random and extreme ones
    #[arg(long)]
    input: Option<PathBuf>,
    /// Random samples
    #[arg(long, default_value_t = 8)]
    samples: usize,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Outcome {
    let Source::Graph(imported) = model::load(&args.model)? else {
        return Err(model::problem(&args.model, &"is compiled; pass the .onnx or .dorefa"));
    };
    let fma = model::native_fma();
    let (lowered, _) = model::lowered(&args.model, &imported, fma)?;
    let mut engine = Engine::session(&model::jit(&args.model, &lowered)?, 2)?;
    let ports = engine.inputs();
    let mut sets = vec![("random inputs", engine::samples(&ports, args.samples.max(1), 1)?)];
    sets.push(("extreme inputs", engine::samples(&ports, 6, 0)?));
    if let Some(file) = &args.input {
        sets.push(("given inputs", run::read_inputs(file, &ports)?));
    }
    for (what, inputs) in &sets {
        let want = interp::run(&lowered, inputs, fma).map_err(Failure::input)?;
        let got = engine.run(inputs)?;
        if !same(&want, &got) {
            let layer = first_difference(&args.model, &lowered, inputs, fma)?;
            return Err(Failure::Run(format!(
                "{}: {what}: compiled code differs from the interpreter, first at {layer}",
                args.model.display()
            )));
        }
        let before = interp::run(&imported, inputs, fma).map_err(Failure::input)?;
        let worst = before.iter().zip(&want).map(|(a, b)| distance(a, b)).fold(0f32, f32::max);
        print(&format!("{what}: equal bits; lift moved the outputs by at most {worst:e}"))?;
    }
    Ok(())
}

fn same(a: &[Tensor], b: &[Tensor]) -> bool {
    let equal = |(a, b): (&Tensor, &Tensor)| match (a.as_f32(), b.as_f32()) {
        (Some(x), Some(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan())
        }
        _ => a == b,
    };
    a.len() == b.len() && a.iter().zip(b).all(equal)
}

fn distance(a: &Tensor, b: &Tensor) -> f32 {
    let pairs = a.as_f32().unwrap_or(&[]).iter().zip(b.as_f32().unwrap_or(&[]));
    pairs.map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

/// The first node whose value the compiled code gets wrong: each is made an output in turn, decoded where it is codes.
fn first_difference(file: &Path, graph: &Graph, inputs: &[Tensor], fma: bool) -> Result<String, Failure> {
    for id in graph.order() {
        let Some(node) = graph.node(id).filter(|n| n.tensor.is_none() && !graph.inputs().contains(&n.id)) else {
            continue;
        };
        let mut value = Value { node: id, port: 0 };
        let mut probe = graph.clone();
        if probe.value_type(value).is_some_and(|t| t.elem != crate::graph::types::Elem::F32) {
            value = probe.add(ops::known("decode"), "probe", &[value], Default::default()).map_err(Failure::run)?;
        }
        probe.add_output("probe", value);
        let Ok(model) = model::jit(file, &probe) else { continue };
        let want = interp::run(&probe, inputs, fma).map_err(Failure::input)?;
        let got = Engine::session(&model, 1)?.run(inputs)?;
        if !same(want.last().map_or(&[], std::slice::from_ref), got.last().map_or(&[], std::slice::from_ref)) {
            return Ok(format!("{} ({})", node.name, node.op.name));
        }
    }
    Ok("no single layer: the layers agree when observed one by one".to_owned())
}
