//! `--engine interp`: the training step as the reference interpreter computes it. Slow; the definition of the results.

use crate::cli::{Failure, model};
use crate::grad;
use crate::graph::{Context, Graph, NodeId, Value};
use crate::interp;
use dorefa_runtime::train::step::check_labels;
use dorefa_runtime::train::{Hyper, Role, StateTensor, Step, StepError, StepOptions, StepResult};
use dorefa_runtime::{Data, Tensor};
use std::path::Path;
use std::sync::Arc;

/// A training step on the interpreter.
pub struct InterpStep {
    train: Graph,
    evaluate: Graph,
    fma: bool,
    states: Vec<StateTensor>,
    /// Of each state tensor its constant in the training graph, and in the evaluation's where that reads it.
    nodes: Vec<(NodeId, Option<NodeId>)>,
    sample: Vec<usize>,
    classes: usize,
}

impl InterpStep {
    /// Builds the step of `source`; problems name `file`.
    ///
    /// # Errors
    /// When the network cannot be trained.
    pub fn new(file: &Path, source: &Graph, options: &StepOptions) -> Result<InterpStep, Failure> {
        let built = grad::build(source, options).map_err(|problems| {
            let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
            model::problem(file, &lines.join("\n"))
        })?;
        Ok(Self::of(built.train, built.evaluate))
    }

    /// The step of a training graph and its evaluation, which share constants by name.
    fn of(train: Graph, evaluate: Graph) -> InterpStep {
        let twin = |name: &str| {
            evaluate
                .order()
                .into_iter()
                .find(|&id| evaluate.node(id).is_some_and(|n| n.name == name && n.tensor.is_some()))
        };
        let (mut states, mut nodes) = (Vec::new(), Vec::new());
        for update in train.updates() {
            let Some((node, tensor)) = train.node(update.node).and_then(|n| Some((n, n.tensor.as_ref()?))) else {
                continue;
            };
            let role = Role::from_code(update.role as u32).unwrap_or(Role::Parameter);
            states.push(StateTensor { name: node.name.clone(), dims: tensor.shape().to_vec(), role });
            nodes.push((update.node, twin(&node.name)));
        }
        let input = train.inputs().first().and_then(|&id| train.value_type(Value { node: id, port: 0 }));
        let sample = input.map(|t| t.shape.per_sample()).unwrap_or_default();
        let scores = output(&train, "scores").and_then(|i| train.value_type(train.outputs().get(i)?.1));
        let classes = scores.and_then(|t| t.shape.sample_len()).unwrap_or(0);
        InterpStep { train, evaluate, fma: model::native_fma(), states, nodes, sample, classes }
    }

    fn inputs(&self, x: &Tensor, labels: &[i32]) -> Result<[Tensor; 2], StepError> {
        let samples = x.shape().first().copied().unwrap_or(0);
        check_labels(labels, samples, self.classes)?;
        let labels =
            Tensor::new([samples], Data::I32(labels.to_vec())).map_err(|e| StepError::Engine(e.to_string()))?;
        Ok([x.clone(), labels])
    }

    /// What of a step is not finite: the first value in the order of the graph.
    fn not_finite(&self, inputs: &[Tensor], context: &Context, tensor: Option<usize>) -> StepError {
        let values = interp::run_step(&self.train, inputs, self.fma, context, |_| true).unwrap_or_default();
        let layer = self.train.order().into_iter().find(|&node| {
            let value = values.get(&Value { node, port: 0 });
            value.and_then(|t| t.as_f32()).is_some_and(|v| v.iter().any(|v| !v.is_finite()))
        });
        StepError::NonFinite {
            tensor: tensor.and_then(|i| self.states.get(i)).map(|s| s.name.clone()),
            layer: layer.and_then(|id| self.train.node(id)).map(|n| n.name.clone()),
        }
    }

    /// Puts a state tensor into both graphs.
    fn put(&mut self, index: usize, tensor: Arc<Tensor>) -> Result<(), StepError> {
        let Some(&(node, twin)) = self.nodes.get(index) else {
            return Err(StepError::State { name: index.to_string(), problem: "there is no such tensor".to_owned() });
        };
        let fail = |e: crate::graph::GraphError| StepError::Engine(e.to_string());
        if let Some(twin) = twin {
            self.evaluate.set_constant(twin, tensor.clone()).map_err(fail)?;
        }
        self.train.set_constant(node, tensor).map_err(fail)
    }
}

/// The place of an output among the graph's.
fn output(graph: &Graph, name: &str) -> Option<usize> {
    graph.outputs().iter().position(|(n, _)| n == name)
}

/// Loss and hits among the outputs.
fn result(graph: &Graph, outputs: &[Tensor]) -> StepResult {
    let scalar = |name: &str| {
        let tensor = output(graph, name).and_then(|i| outputs.get(i));
        tensor.and_then(|t| t.as_f32()?.first().copied()).unwrap_or(f32::NAN)
    };
    StepResult { loss: scalar("loss").into(), correct: scalar("correct") as u64 }
}

fn context(hyper: &Hyper) -> Context {
    Context {
        seed: hyper.seed,
        step: hyper.step,
        sample0: hyper.sample0,
        lr: hyper.lr,
        beta1: hyper.beta1,
        beta2: hyper.beta2,
        epsilon: hyper.epsilon,
        weight_decay: hyper.weight_decay,
        bn_momentum: hyper.bn_momentum,
        loss_scale: hyper.loss_scale,
    }
}

impl Step for InterpStep {
    fn states(&self) -> &[StateTensor] {
        &self.states
    }

    fn state(&self, index: usize) -> &[f32] {
        let node = self.nodes.get(index).and_then(|n| self.train.node(n.0));
        node.and_then(|n| n.tensor.as_ref()?.as_f32()).unwrap_or_default()
    }

    fn set_state(&mut self, index: usize, values: &[f32]) -> Result<(), StepError> {
        let (name, dims) = self.states.get(index).map(|s| (s.name.clone(), s.dims.clone())).unwrap_or_default();
        let tensor = Tensor::f32(dims, values.to_vec());
        let tensor = tensor.map_err(|e| StepError::State { name, problem: e.to_string() })?;
        self.put(index, Arc::new(tensor))
    }

    fn sample_shape(&self) -> Vec<usize> {
        self.sample.clone()
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn step(&mut self, x: &Tensor, labels: &[i32], hyper: &Hyper) -> Result<StepResult, StepError> {
        let (inputs, context) = (self.inputs(x, labels)?, context(hyper));
        let (outputs, updated) =
            interp::step(&self.train, &inputs, self.fma, &context).map_err(|e| StepError::Engine(e.to_string()))?;
        let finite = |t: &Arc<Tensor>| t.as_f32().is_some_and(|v| v.iter().all(|v| v.is_finite()));
        let result = result(&self.train, &outputs);
        let wrong = updated.iter().position(|t| !finite(t));
        if wrong.is_some() || !result.loss.is_finite() {
            return Err(self.not_finite(&inputs, &context, wrong));
        }
        for (i, tensor) in updated.into_iter().enumerate() {
            self.put(i, tensor)?;
        }
        Ok(result)
    }

    fn evaluate(&mut self, x: &Tensor, labels: &[i32]) -> Result<StepResult, StepError> {
        let inputs = self.inputs(x, labels)?;
        let outputs = interp::run(&self.evaluate, &inputs, self.fma).map_err(|e| StepError::Engine(e.to_string()))?;
        Ok(result(&self.evaluate, &outputs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text;

    /// Softmax regression on two features.
    const EVALUATE: &str = "dorefa 1
graph t(x: f32[N, 2], labels: u1<0..1, scale 1>[N]) -> (loss, correct, scores) {
  scores = matmul(x, @w: f32[2, 2])
  loss = sample_mean(softmax_cross_entropy(scores, labels))
  correct = sample_sum(correct(scores, labels))
";
    const UPDATE: &str = "  d = conv_weight_grad(x, softmax_cross_entropy_grad(scores, labels), kernel=[1, 1])
  w1 = descend(@w, d, hyper(name=lr))
  update parameter @w = w1
";

    fn step() -> InterpStep {
        let data = |_: &str| Tensor::f32([2, 2], vec![0.0; 4]).ok();
        let parse = |text: String| text::parse(&text, "t", &data).unwrap_or_else(|e| panic!("{e:?}"));
        InterpStep::of(parse(format!("{EVALUATE}{UPDATE}}}\n")), parse(format!("{EVALUATE}}}\n")))
    }

    #[test]
    fn steps_update_the_state_of_both_graphs() {
        let mut step = step();
        assert_eq!((step.classes(), step.sample_shape(), step.states()[0].name.as_str()), (2, vec![2], "w"));
        let x = Tensor::f32([2, 2], vec![1.0, 0.0, 0.0, 1.0]).unwrap();
        let hyper = Hyper { lr: 1.0, ..Hyper::default() };
        let first = step.step(&x, &[0, 1], &hyper).unwrap();
        assert!((first.loss - 2f64.ln()).abs() < 1e-6 && first.correct == 1, "{first:?}");
        // Each gradient is (½ − 1)/2 or ½/2, of the one feature that is there.
        assert_eq!(step.state(0), [0.25, -0.25, -0.25, 0.25]);
        let second = step.evaluate(&x, &[0, 1]).unwrap();
        assert!(second.loss < first.loss && second.correct == 2, "{second:?}");
        step.set_state(0, &[0.0; 4]).unwrap();
        assert_eq!(step.evaluate(&x, &[0, 1]).unwrap(), first);
        assert!(step.set_state(0, &[0.0]).is_err() && step.set_state(1, &[]).is_err());
        assert!(step.step(&x, &[0, 2], &hyper).is_err() && step.step(&x, &[0], &hyper).is_err());
    }

    #[test]
    fn what_is_not_finite_is_named_and_nothing_changes() {
        let mut step = step();
        let x = Tensor::f32([1, 2], vec![f32::MAX, 0.0]).unwrap();
        let error = step.step(&x, &[0], &Hyper { lr: 1e9, ..Hyper::default() }).unwrap_err();
        assert_eq!(error.to_string(), "layer `w1`: the gradient of `w` is not finite");
        assert_eq!(step.state(0), [0.0; 4]);
    }
}
