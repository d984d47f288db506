//! The training step of a network as one graph: forward, loss, backward, optimiser.
//!
//! ```text
//! graph net(x) -> (y) {                         graph net(x, labels) -> (loss, correct, scores) {
//!   c = conv(a, quantize_weights(@w, bits=1))     e = mean_abs(@w)
//!   y = quantize_gradient(c, bits=6)              wq = encode_weights(@w, bits=1)
//! }                                               c = decode(int_conv(a, wq), e)
//!                                                 …
//!                                                 m = sample_max_abs(dc)
//!                                                 g = encode_gradient(dc, m, bits=6, place=0)
//!                                                 da = decode(int_conv_input_grad(g, wq), m, e)
//!                                                 dw = int_conv_weight_grad(a, g, m)
//!                                                 update parameter @w = …
//! ```
//!
//! `recognise` finds the quantisers of an imported network; `forward` copies the network with its quantisers turned into codes, and
//! keeps what the backward pass wants to know of each node; `backward` walks it in reverse by the `rules`; `optimizer` turns
//! gradients into updates. The module knows operators by what they compute; it must never know a layout, a kernel or a machine.

mod backward;
mod builder;
mod forward;
mod optimizer;
mod recognise;
mod rules;
#[cfg(test)]
mod tests;

use crate::graph::ops::known;
use crate::graph::types::{CodeType, Elem, Shape, ValueType};
use crate::graph::{Graph, GraphError, NodeId, Value, attrs::Attrs, scale::Scale};
use builder::Builder;
pub use dorefa_runtime::train::{AdamForm, Decay, Optimizer, StepOptions};
pub use recognise::recognise;

/// The two graphs of a training step.
pub struct Step {
    /// Inputs x and labels, outputs loss, correct and scores, and updates of the state.
    pub train: Graph,
    /// The same forward with running statistics, without noise, dropout and updates.
    pub evaluate: Graph,
}

/// Whether batch statistics, noise and dropout are at work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Train,
    Evaluate,
}

/// Builds the training step of `source`, whose only output is a matrix of scores; where it is their softmax, the loss and the
/// output `scores` take what stands before it.
///
/// # Errors
/// One problem for every node that cannot be trained.
pub fn build(source: &Graph, options: &StepOptions) -> Result<Step, Vec<GraphError>> {
    let train = one(source, Mode::Train, Some(options))?;
    let evaluate = one(source, Mode::Evaluate, None)?;
    Ok(Step { train, evaluate })
}

fn one(source: &Graph, mode: Mode, options: Option<&StepOptions>) -> Result<Graph, Vec<GraphError>> {
    let mut b = Builder::new(source, mode);
    forward::copy(&mut b);
    if !b.problems.is_empty() {
        return Err(b.problems);
    }
    let ends = loss(&mut b).map_err(|e| vec![e])?;
    if let Some(options) = options {
        let gradients = backward::gradients(&mut b, &ends);
        if b.problems.is_empty() {
            optimizer::updates(&mut b, gradients, options);
        }
    }
    if b.problems.is_empty() { Ok(b.graph) } else { Err(b.problems) }
}

/// The softmax that ends a network, if there is one: the loss takes it itself, of the scores before it.
fn closing_softmax(source: &Graph) -> Option<NodeId> {
    let [(_, output)] = source.outputs() else { return None };
    let node = source.node(output.node).filter(|n| n.op.name == "softmax")?;
    source.users(*output).is_empty().then_some(node.id)
}

/// The end of the forward pass.
struct Ends {
    /// The value of the source that `scores` stands for.
    source: Value,
    scores: Value,
    labels: Value,
}

/// Adds labels, loss and count.
fn loss(b: &mut Builder<'_>) -> Result<Ends, GraphError> {
    let fail = |name: &str, message: &str| GraphError {
        name: name.to_owned(),
        op: "output".to_owned(),
        message: message.to_owned(),
    };
    let [(name, output)] = b.source.outputs() else {
        return Err(fail("graph", "a network to be trained has one output, the scores of the classes"));
    };
    let classes = match b.source.value_type(*output).map(|t| &t.shape) {
        Some(shape) if shape.rank() == 2 => shape.sample_len().unwrap_or(0),
        _ => return Err(fail(name, "must be scores of shape (N, classes): reshape it")),
    };
    let top = u32::try_from(classes).ok().and_then(|c| c.checked_sub(1)).filter(|t| (1..=65535).contains(t));
    let top = top.ok_or_else(|| fail(name, "must be the scores of 2 … 65536 classes"))?;
    let codes = CodeType { top, step: 1, offset: 0, scale: [Scale::ONE].into() };
    let ty = ValueType { elem: Elem::Codes(codes), ..ValueType::f32(Shape::batched(&[])) };
    let labels = b.graph.add_input("labels", ty);
    let closing = closing_softmax(b.source).and_then(|id| b.source.operands(id).first().copied());
    let source = closing.unwrap_or(*output);
    let scores = b.float(source)?;
    let each = b.add("softmax_cross_entropy", "loss_each", &[scores, labels], Attrs::new())?;
    let mean = b.add("sample_mean", "loss", &[each], Attrs::new())?;
    let hits = b.add("correct", "correct_each", &[scores, labels], Attrs::new())?;
    let count = b.add("sample_sum", "correct", &[hits], Attrs::new())?;
    for (name, value) in [("loss", mean), ("correct", count), ("scores", scores)] {
        b.graph.add_output(name, value);
    }
    Ok(Ends { source, scores, labels })
}

/// The operator of a name that this module writes.
fn op(name: &str) -> &'static crate::graph::ops::OpDef {
    known(name)
}
