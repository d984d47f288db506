//! `dorefac verify`: compiled code against the reference interpreter, bit by bit and step by step; and what `lift` changed.

use super::compare::{Difference, Subject};
use super::engine::{self, Input};
use super::lift_check::{Changes, FixedLayer, Stages, Unexplained};
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
        let changes = stages.compare(&inputs, fma)?;
        lift_lines(&changes, &|problem| {
            format!("{}: {what}: lift: {problem}; please report this bug", source.display())
        })?;
    }
    Ok(())
}

/// Prints what `lift` changed; `bug` makes the message where it was not allowed to.
fn lift_lines(changes: &Changes, bug: &dyn Fn(&str) -> String) -> Outcome {
    for FixedLayer { name, off, share } in &changes.fixed {
        let line = format!("{name} in fixed point: off by at most {off:.1e}, {share:.1e} of what is allowed");
        if *share > 1.0 {
            return Err(Failure::Run(bug(&line)));
        }
        print(&format!("  lift: {line}"))?;
    }
    for name in &changes.unpaired {
        print(&format!("  lift: {name}: what it reads was compared with nothing; it is not proved"))?;
    }
    for v in &changes.values {
        let value = format!("{} (read by {})", v.name, v.reader);
        if let Some(code) = &v.unexplained {
            return Err(Failure::Run(bug(&unexplained(&value, code))));
        }
        let proof = match v.differ {
            0 => String::new(),
            1 => format!(" by {}, at a rounding boundary", v.greatest),
            _ => format!(" by at most {}, each at a rounding boundary", v.greatest),
        };
        let share = if v.differ > 0 {
            format!("; sums are off by at most {:.1e} of what is allowed", v.share)
        } else {
            String::new()
        };
        print(&format!("  lift: {value}: {} of {} codes differ{proof}{share}", v.differ, v.codes))?;
    }
    Ok(())
}

/// A code that `lift` must not have changed, in words.
fn unexplained(value: &str, code: &Unexplained) -> String {
    let Unexplained { count, sample, place: [channel, row, column], before, after, reached, ends: [down, up] } = code;
    format!(
        "{value}: sample {sample}, channel {channel}, row {row}, column {column}: code {after} instead of {before} is at no \
         rounding boundary: the sums of the lifted layers give {reached}, and all sums moved down or up by what is allowed \
         give {down} and {up}; {count} codes are so"
    )
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

#[cfg(test)]
mod tests {
    use super::super::lift_check::LiftedValue;
    use super::*;

    #[test]
    fn a_code_at_no_boundary_fails_in_one_sentence() {
        let code = Unexplained { count: 2, sample: 3, place: [4, 5, 6], before: 1, after: 2, reached: 1, ends: [1, 1] };
        let value = |unexplained| LiftedValue {
            name: "q1".to_owned(),
            reader: "conv2".to_owned(),
            codes: 100,
            differ: 2,
            greatest: 1,
            share: 0.5,
            unexplained,
        };
        let lines = |unexplained| {
            let changes = Changes { values: vec![value(unexplained)], ..Changes::default() };
            lift_lines(&changes, &|problem| format!("net.onnx: {problem}; please report this bug"))
        };
        assert!(lines(None).is_ok());
        let Err(Failure::Run(text)) = lines(Some(code)) else { panic!("no failure of the run") };
        assert_eq!(
            text,
            "net.onnx: q1 (read by conv2): sample 3, channel 4, row 5, column 6: code 2 instead of 1 is at no rounding \
             boundary: the sums of the lifted layers give 1, and all sums moved down or up by what is allowed give 1 and 1; \
             2 codes are so; please report this bug"
        );
    }
}
