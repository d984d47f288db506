//! `dorefac verify`: compiled code against the reference interpreter, bit by bit and step by step; and what `lift` changed.

use super::compare::{Difference, Subject};
use super::engine::{self, Input};
use super::lift_check::{FixedLayer, Stages};
use super::model::{self, Source};
use super::pixels::{self, Pixels};
use super::{Failure, Outcome, print, run};
use crate::graph::Graph;
use crate::lower::{self, Place, Plan};
use dorefa_runtime::{Model, Session, Tensor, abi};
use std::path::{Path, PathBuf};

/// Arguments of `dorefac verify`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  dorefac verify net.onnx\n  dorefac verify net.onnx --input x.npz --samples 100\n  dorefac verify net.so --against net.onnx"
)]
pub struct Args {
    /// The model: .onnx or .dorefa, compiled on the spot; or a .so with --against
    model: PathBuf,
    /// The graph that the .so was compiled from
    #[arg(long, value_name = "MODEL")]
    against: Option<PathBuf>,
    /// Inputs to compare on besides random and extreme ones: .npy, .npz, .png or .jpg. Besides, where the model shall take
    /// 8-bit pixels: [NAME=]u8,scale=S[,mean=A:B:C][,std=A:B:C]
    #[arg(long, value_name = "FILE|SPEC")]
    input: Vec<String>,
    /// Compute a layer by this kernel: LAYER=NAME, or *=NAME for every layer that can; an unknown name lists all
    #[arg(long, value_name = "LAYER=NAME")]
    kernel: Vec<String>,
    /// Random samples
    #[arg(long, default_value_t = 8)]
    samples: usize,
    /// Threads of the compiled code
    #[arg(long, default_value_t = 2)]
    threads: u32,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Outcome {
    let (source, given) = match (model::load(&args.model)?, &args.against) {
        (Source::Compiled(model), Some(path)) => (path, Some(model)),
        (Source::Graph(_), None) => (&args.model, None),
        (Source::Compiled(_), None) => {
            return Err(model::problem(
                &args.model,
                &"is compiled; name the graph it was made from by --against MODEL",
            ));
        }
        (Source::Graph(_), Some(_)) => {
            return Err(model::problem(&args.model, &"is a graph; --against is for a .so, leave it out"));
        }
    };
    let kernels = model::wishes(&args.kernel)?;
    if given.is_some() && !kernels.is_empty() {
        return Err(model::problem(&args.model, &"is compiled, so its kernels are chosen; leave --kernel out"));
    }
    let (mut pixels, files) = pixels::split(&args.input)?;
    if let Some(model) = &given {
        pixels.extend(Pixels::of_metadata(&engine::metadata(model))?);
    }
    let Source::Graph(imported) = model::load_with(source, &pixels)? else {
        return Err(model::problem(source, &"is compiled; --against takes the .onnx or .dorefa"));
    };
    let fma = given.as_ref().map_or_else(model::native_fma, |m| m.descriptor().profile == abi::FMA);
    let (lowered, _) = model::lowered(source, &imported, fma)?;
    let (model, plan) = match given {
        Some(model) => {
            let plan = lower::lower(&lowered).map_err(|e| {
                let lines: Vec<_> = e.iter().map(ToString::to_string).collect();
                model::problem(source, &lines.join("\n"))
            })?;
            (model, plan)
        }
        None => model::jit(source, &lowered, &kernels)?,
    };
    let steps = same_steps(&lowered, &plan, &model);
    if !steps {
        eprintln!(
            "note: the steps of {} are not those of {}; only outputs are compared",
            args.model.display(),
            source.display()
        );
    }
    let mut session = Session::new(&model, args.threads).map_err(engine::run_failure)?;
    let ports = engine::ports(&model);
    let subject = Subject { graph: &lowered, plan: &plan, steps, fma };
    let stages = Stages::new(&imported, fma).map_err(|e| model::problem(source, &e))?;
    for (round, (what, inputs)) in inputs(args, &ports, &files, &imported)?.into_iter().enumerate() {
        if let Some(d) = subject.compare(&mut session, &inputs)? {
            return Err(Failure::Run(format!("{}: {what}: {}", args.model.display(), sentence(&d, &lowered, &model))));
        }
        let compared = if steps { plan.steps.len() } else { lowered.outputs().len() };
        let noun = if steps { "steps" } else { "outputs" };
        let samples = inputs.first().and_then(|t| t.shape().first().copied()).unwrap_or(1);
        print(&format!("{what}: {samples} samples, {compared} {noun}: equal bits"))?;
        // The passes' own promise is checked once: it takes four runs of the interpreter.
        let who = if round == 0 { stages.unfaithful(&imported, &lowered, &inputs, fma)? } else { None };
        if let Some(who) = who {
            let file = source.display();
            return Err(Failure::Run(format!("{file}: {what}: {who} changed the outputs; please report this bug")));
        }
        let (lifted, fixed) = stages.compare(&inputs, fma)?;
        for layer in fixed {
            let FixedLayer { name, off, share } = layer;
            let line = format!("{name} in fixed point: off by at most {off:.1e}, {share:.1e} of what is allowed");
            if share > 1.0 {
                let file = source.display();
                return Err(Failure::Run(format!("{file}: {what}: lift: {line}; please report this bug")));
            }
            print(&format!("  lift: {line}"))?;
        }
        for v in lifted {
            let by = if v.greatest > 0 { format!(" by at most {}", v.greatest) } else { String::new() };
            print(&format!("  lift: {} (read by {}): {} of {} codes differ{by}", v.name, v.reader, v.differ, v.codes))?;
        }
    }
    Ok(())
}

/// Whether the layers of a compiled model are the steps of a plan, result by result.
fn same_steps(graph: &Graph, plan: &Plan, model: &Model) -> bool {
    let layers = model.layers();
    let count = plan.steps.len();
    let same = |(i, layer): (usize, &dorefa_runtime::model::Layer)| {
        let Some(step) = plan.steps.get(i % count.max(1)) else { return false };
        let Some(buffer) = plan.buffers.get(&step.result) else { return false };
        let offset = if let Place::Arena(o) = buffer.place { o } else { u64::MAX };
        graph.node(step.result.node).is_some_and(|n| n.name == layer.name)
            && (layer.offset, layer.bytes, layer.layout)
                == (offset, buffer.bytes() as u64, crate::compile::layout_code(buffer.layout))
    };
    count > 0 && !layers.is_empty() && layers.len().is_multiple_of(count) && layers.iter().enumerate().all(same)
}

/// Everything that is compared on: a name and the tensors.
fn inputs(
    args: &Args,
    ports: &[Input],
    files: &[&String],
    graph: &Graph,
) -> Result<Vec<(&'static str, Vec<Tensor>)>, Failure> {
    let mut sets = vec![
        ("random pixels", engine::samples(ports, args.samples.max(1), 1)?),
        ("worst cases", engine::samples(ports, 6, 0)?),
    ];
    let normalise = pixels::default_normalise(&graph.metadata);
    for file in files {
        sets.push(("given inputs", run::read_inputs(Path::new(file), ports, &normalise)?));
    }
    Ok(sets)
}

/// A difference in words.
fn sentence(d: &Difference, graph: &Graph, model: &Model) -> String {
    let kernel = model.layers().get(d.step).map_or("", |l| l.kernel.as_str());
    let node = graph.named(&d.node).and_then(|id| graph.node(id));
    let image = node.and_then(|n| n.types.first()).and_then(|t| t.shape.image());
    let (_, h, w) = image.unwrap_or((1, 1, 1));
    let (channel, y, x) = (d.element / (h * w).max(1), d.element / w.max(1) % h.max(1), d.element % w.max(1));
    format!(
        "compiled code differs from the interpreter; the first layer is {} ({}, kernel {kernel}): sample {}, channel \
         {channel}, row {y}, column {x}: {} instead of {}; {} elements of that sample differ",
        d.node, d.op, d.sample, d.got, d.want, d.count
    )
}

/// Whether tensors have equal bits; NaNs are equal.
pub fn same(a: &[Tensor], b: &[Tensor]) -> bool {
    let equal = |(a, b): (&Tensor, &Tensor)| match (a.as_f32(), b.as_f32()) {
        (Some(x), Some(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan())
        }
        _ => a == b,
    };
    a.len() == b.len() && a.iter().zip(b).all(equal)
}
