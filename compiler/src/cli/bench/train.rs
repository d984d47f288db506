//! `dorefac bench --train`: how long a step of training takes.

use super::{Args, Measured};
use crate::cli::model::{self, Source};
use crate::cli::{Failure, engine};
use crate::jit::Jit;
use dorefa_runtime::train::{Hyper, Step, StepOptions};
use dorefa_runtime::{Stepper, Tensor};

/// Times training steps on random pixels and labels.
pub fn measure(args: &Args) -> Result<Measured, Failure> {
    let model = match model::load_to_train(&args.model)? {
        Source::Compiled(model) => model,
        Source::Graph(graph) => {
            Jit::default().step(&graph, &StepOptions::default()).map_err(|e| model::problem(&args.model, &e))?
        }
    };
    let mut stepper = Stepper::new(&model, args.threads).map_err(Failure::input)?;
    stepper.init([1, 2]).map_err(Failure::run)?;
    let inputs = engine::samples(&engine::ports(&model), args.batch.max(1), 1)?;
    let x = inputs.into_iter().next().ok_or_else(|| Failure::Input("the model has no input".to_owned()))?;
    let classes = stepper.classes();
    let labels: Vec<i32> = (0..args.batch.max(1)).map(|i| (i % classes.max(1)) as i32).collect();
    let mut number = 0;
    let mut step = |stepper: &mut Stepper, x: &Tensor| {
        number += 1;
        stepper.step(x, &labels, &hyper(number)).map_err(Failure::run)
    };
    step(&mut stepper, &x)?;
    let times = super::times(args, || step(&mut stepper, &x).map(|_| ()))?;
    let mut layers = Vec::new();
    if args.layers {
        let mut number = 1000;
        layers = super::profile(&model, args, || {
            number += 1;
            Ok(stepper.step_profiled(&x, &labels, &hyper(number), &mut |_| {}).map_err(Failure::run)?.1)
        })?;
    }
    Ok(Measured { times, layers })
}

fn hyper(step: u64) -> Hyper {
    Hyper { step, seed: [1, 2], ..Hyper::default() }
}
