//! `dorefac train`: trains a network from its native graph.

mod bits;
mod data;
mod interp;
mod options;
mod show;

use super::engine::Kind;
use super::model::{self, Source};
use super::{Failure, Outcome, files, print};
use crate::graph::Graph;
use crate::text::{self, First};
use bits::Bits;
use dorefa_runtime::train::{Checkpoint, Control, Event, Step, Summary, TrainError, TrainOptions, Trainer};
use dorefa_runtime::{Stepper, Tensor};
use options::{Options, Settings};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Arguments of `dorefac train`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  dorefac train models/mnist.dorefa --data digits --out digits.safetensors --epochs 5\n  dorefac train net.dorefa --data cifar10:cifar --out net.safetensors --augment pad=4,flip --schedule cosine --bits 1,2,6\n  dorefac train --resume net.safetensors --out net.safetensors\nA table OUT.csv and a plot OUT.svg stand beside the checkpoint. Ctrl-C finishes the step, saves and exits with 130."
)]
pub struct Args {
    /// The network: .dorefa, .onnx, or a checkpoint, without its weights (see --init); with --resume it may be left out
    graph: Option<PathBuf>,
    /// Where the checkpoint goes: .safetensors
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Continue the training of this checkpoint with its options
    #[arg(long, value_name = "CHECKPOINT", conflicts_with = "init")]
    resume: Option<PathBuf>,
    /// Start from these weights: .safetensors, or a model that has some
    #[arg(long, value_name = "WEIGHTS")]
    init: Option<PathBuf>,
    /// Draw the first weights and biases as he (normal·√(2/inputs), biases 0) or as pytorch (uniform within 1/√inputs)
    #[arg(long, value_name = "WEIGHTS", default_value = "he", conflicts_with_all = ["init", "resume"])]
    first_weights: First,
    /// Other bits for all weights, activations and gradients: W,A,G, each 1 … 16, or 32 for floats
    #[arg(long, value_name = "W,A,G")]
    bits: Option<Bits>,
    #[command(flatten)]
    options: Options,
    /// Threads; 0 takes as many as the machine offers
    #[arg(long, default_value_t = 0)]
    threads: u32,
    /// Save also whenever so many steps are done
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    save_every: Option<u64>,
    /// What computes a step
    #[arg(long, value_enum, default_value_t = Kind::Jit)]
    engine: Kind,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Outcome {
    let stop = stop_on_signal()?;
    check_file(&args.out)?;
    let resume = args.resume.as_deref().map(Checkpoint::read).transpose().map_err(failure)?;
    let progress = resume.as_ref().map(Checkpoint::progress).transpose().map_err(failure)?;
    let settings = args.options.resolve(progress)?;
    settings.best.as_deref().map(check_file).transpose()?;
    let (file, graph) = graph(args, &settings)?;
    let mut step = engine(args, file, &graph, &settings)?;
    start(&mut *step, &graph, args, settings.seed)?;
    let threads = usize::from(args.threads != 1) + 1;
    let images = data::open(&settings, &*step, &graph.metadata, threads)?;
    let options = train_options(args, &settings, &graph, &*step, images.train.images());
    let mut trainer = Trainer::new(&mut *step, options);
    if let Some(checkpoint) = &resume {
        trainer.resume(checkpoint).map_err(failure)?;
        if let (Some(best), Ok(before)) = (&settings.best, checkpoint.progress())
            && trainer.progress().best != before.best
        {
            eprintln!("note: {}: is not the best checkpoint so far; the best is sought from here on", best.display());
        }
    }
    let mut show = show::Show::new(settings.epochs);
    let (train, validation) = (images.train.images(), images.validation.as_ref().map(|v| v.images()));
    show.line(&format!("{train} images to train on, {} to evaluate on", validation.unwrap_or(0)));
    let mut observer = |event: &Event<'_>| {
        show.event(event);
        if stop.load(Ordering::Relaxed) { Control::Stop } else { Control::Continue }
    };
    let validation = images.validation.as_ref().map(|v| v as &dyn dorefa_runtime::train::Source);
    let summary = trainer.fit(&images.train, validation, &mut observer);
    show.finish();
    report(args, settings.best.as_deref(), &summary.map_err(failure)?)
}

/// Checks the place of a checkpoint.
fn check_file(file: &Path) -> Outcome {
    if file.extension().is_none_or(|e| e != "safetensors") {
        return Err(Failure::input(format!("{}: name the checkpoint FILE.safetensors", file.display())));
    }
    files::check(&[file])
}

/// The flag that the first Ctrl-C sets; the second one ends the process at once.
fn stop_on_signal() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: a signal that finds the flag set already ends the process.
        flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop)).map_err(Failure::run)?;
        flag::register(signal, Arc::clone(&stop)).map_err(Failure::run)?;
    }
    Ok(stop)
}

/// The network as it is trained, and the file it comes from.
fn graph<'a>(args: &'a Args, settings: &Settings) -> Result<(&'a Path, Graph), Failure> {
    let file = args.graph.as_deref().or(args.resume.as_deref());
    let file = file.ok_or_else(|| Failure::input("name the network, or --resume a checkpoint"))?;
    let mut graph = match model::load_to_train(file)? {
        Source::Graph(graph) => *graph,
        Source::Compiled(_) => return Err(model::problem(file, &"is compiled; pass its .dorefa or .onnx")),
    };
    if let Some(bits) = args.bits {
        bits.apply(&mut graph)?;
    }
    if settings.resize {
        graph.metadata.insert("input.resize".to_owned(), "bilinear".to_owned());
    }
    Ok((file, graph))
}

/// What computes the steps.
fn engine(args: &Args, file: &Path, graph: &Graph, settings: &Settings) -> Result<Box<dyn Step>, Failure> {
    match args.engine {
        Kind::Interp => Ok(Box::new(interp::InterpStep::new(file, graph, &settings.step)?)),
        Kind::Jit => {
            let model = model::training_step(file, graph, &settings.step)?;
            Ok(Box::new(Stepper::new(&model, args.threads).map_err(Failure::input)?))
        }
    }
}

/// Sets the state from which the training starts: drawn from the seed, or the weights of `init`.
fn start(step: &mut dyn Step, graph: &Graph, args: &Args, seed: u64) -> Outcome {
    let init = args.init.as_deref();
    let mut tensors = text::training_parameters(graph, seed, args.first_weights);
    if let Some(file) = init {
        tensors = match file.extension().is_some_and(|e| e == "safetensors") {
            true => Checkpoint::read(file).map_err(failure)?.tensors,
            false => match model::load_to_train(file)? {
                Source::Graph(graph) => constants(&graph).collect(),
                Source::Compiled(_) => return Err(model::problem(file, &"is compiled; pass its .dorefa or .onnx")),
            },
        };
    }
    let file = init.map_or_else(|| graph.name.clone(), |f| f.display().to_string());
    Checkpoint::weights(tensors, file).restore(step, false).map_err(failure)
}

/// The constants of a graph with their names.
fn constants(graph: &Graph) -> impl Iterator<Item = (String, Tensor)> + '_ {
    let nodes = graph.order().into_iter().filter_map(|id| graph.node(id));
    nodes.filter_map(|n| n.tensor.as_ref().map(|t| (n.name.clone(), (**t).clone())))
}

fn train_options(args: &Args, settings: &Settings, graph: &Graph, step: &dyn Step, images: usize) -> TrainOptions {
    let is_state = |name: &String| step.states().iter().any(|s| s.name == *name);
    let mut about = settings.about();
    about.insert("images".to_owned(), images.to_string());
    TrainOptions {
        epochs: settings.epochs,
        seed: settings.seed,
        schedule: settings.schedule.clone(),
        hyper: settings.hyper,
        output: Some(args.out.clone()),
        best: settings.best.clone(),
        save_every: args.save_every,
        graph: Some(text::print(graph)),
        constants: constants(graph).filter(|(name, _)| !is_state(name)).collect(),
        about,
        notes: settings.notes(),
    }
}

fn failure(error: TrainError) -> Failure {
    if error.is_input() { Failure::input(error) } else { Failure::run(error) }
}

/// Tells the result.
fn report(args: &Args, kept: Option<&Path>, summary: &Summary) -> Outcome {
    let out = args.out.display();
    let last = summary.history.last();
    let measured = |r: &dorefa_runtime::train::Record| r.validation.map(|v| v.1);
    let best = summary.best.as_ref().and_then(|r| Some((r.epoch, measured(r)?)));
    let kept = kept.filter(|_| best.is_some()).map(|k| k.display().to_string());
    if args.json {
        let document = serde_json::json!({
            "checkpoint": out.to_string(), "epochs": summary.history.len(), "steps": summary.step,
            "train_loss": last.map(|r| r.loss), "train_accuracy": last.map(|r| r.accuracy),
            "loss": last.and_then(|r| r.validation).map(|v| v.0), "accuracy": last.and_then(measured),
            "best_accuracy": best.map(|b| b.1), "best_epoch": best.map(|b| b.0), "best_checkpoint": kept,
            "interrupted": summary.interrupted,
        });
        print(&document.to_string())?;
    } else if let Some(record) = last {
        let trained = format!("{} epochs, {} steps, loss {:.4}", summary.history.len(), summary.step, record.loss);
        let tested = measured(record).zip(best).map_or_else(String::new, |(now, (epoch, best))| {
            let file = kept.map_or_else(String::new, |k| format!(": {k}"));
            format!(", {:.2} % right (best {:.2} % after epoch {epoch}{file})", now * 100.0, best * 100.0)
        });
        print(&format!("{trained}{tested}: {out}"))?;
    }
    if summary.interrupted {
        let text = format!("interrupted after step {}; saved; continue with --resume {out} --out {out}", summary.step);
        return Err(Failure::Interrupted(text));
    }
    Ok(())
}
