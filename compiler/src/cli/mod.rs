//! The command line: one file a subcommand. It may use every other module; nothing else may use it.
//!
//! Exit codes: 0 done, 1 the comparison or the run failed, 2 the input or the arguments are wrong, 130 interrupted after
//! saving. Results go to standard output, everything else to standard error.

mod bench;
mod compare;
mod compile;
mod emit;
mod engine;
mod eval;
mod export;
mod files;
mod inspect;
mod lift_check;
mod model;
mod pixels;
mod run;
mod train;
mod tune;
mod verify;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Why a command did not succeed; the text has one line a problem.
#[derive(Debug)]
pub enum Failure {
    /// The input or the arguments are wrong: exit code 2.
    Input(String),
    /// The comparison or the run failed: exit code 1.
    Run(String),
    /// The user stopped the run, its state is saved: exit code 130.
    Interrupted(String),
}

impl Failure {
    /// An error of the user's input.
    fn input(problem: impl std::fmt::Display) -> Failure {
        Failure::Input(problem.to_string())
    }

    /// An error of the run.
    fn run(problem: impl std::fmt::Display) -> Failure {
        Failure::Run(problem.to_string())
    }
}

/// What a subcommand returns.
pub type Outcome = Result<(), Failure>;

/// Compiler for DoReFa-Net models: low-bit convolutional networks as integer code.
#[derive(Parser)]
#[command(name = "dorefac", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compile a model to a shared object, object file or archive
    Compile(Box<compile::Args>),
    /// Run a model on a file of inputs
    Run(run::Args),
    /// Show a model's layers, bit widths, shapes and sizes
    Inspect(inspect::Args),
    /// Compare compiled code with the reference interpreter
    ///
    /// Compiled code must have the interpreter's bits, step by step, and every pass but `lift` must keep the model's. Codes that
    /// `lift` moved must each lie at a rounding boundary: the model's own float arithmetic gives them for sums that are off by
    /// no more than K·2⁻²²·Σ|w||x| of K products. Exit code 1 where one does not.
    Verify(verify::Args),
    /// Measure a model's speed
    Bench(bench::Args),
    /// Measure a classifier's accuracy on a data set
    Eval(eval::Args),
    /// Write a model as ONNX, in standard operators or in the QONNX dialect
    Export(export::Args),
    /// Train a network
    Train(Box<train::Args>),
}

/// Parses the arguments, runs the subcommand and gives the exit code.
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Compile(args) => compile::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Train(args) => train::run(&args),
    };
    let (code, text) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Run(text)) => (1, text),
        Err(Failure::Input(text)) => (2, text),
        Err(Failure::Interrupted(text)) => {
            eprintln!("{text}");
            return ExitCode::from(130);
        }
    };
    for line in text.lines().filter(|l| !l.trim().is_empty()) {
        eprintln!("error: {line}");
    }
    ExitCode::from(code)
}

/// Writes a line of results to standard output; a closed pipe ends the command without a word.
fn print(text: &str) -> Outcome {
    use std::io::{ErrorKind, Write};
    writeln!(std::io::stdout().lock(), "{text}").map_err(|e| match e.kind() {
        ErrorKind::BrokenPipe => Failure::Run(String::new()),
        _ => Failure::run(format!("standard output: {e}")),
    })
}
