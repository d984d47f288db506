//! Gradients to updates: weight decay, then the optimiser, each an element-wise operator of the graph.

use super::builder::Builder;
use super::{AdamForm, Decay, Optimizer, StepOptions};
use crate::graph::attrs::Attrs;
use crate::graph::{GraphError, NodeId, Role, Value};
use dorefa_runtime::tensor::Tensor;

/// Adds the updates of every trained constant and of the running statistics.
pub(super) fn updates(b: &mut Builder<'_>, gradients: Vec<(NodeId, Value)>, options: &StepOptions) {
    for (source, gradient) in gradients {
        if let Err(problem) = update(b, source, gradient, options) {
            b.problems.push(problem);
        }
    }
    for (node, value) in std::mem::take(&mut b.statistics) {
        if let Err(problem) = b.graph.add_update(Role::Statistic, node, value) {
            b.problems.push(problem);
        }
    }
}

fn update(b: &mut Builder<'_>, source: NodeId, mut g: Value, options: &StepOptions) -> Result<(), GraphError> {
    let w = b.float(Value { node: source, port: 0 })?;
    let name = b.source.node(source).map_or(String::new(), |n| n.name.clone());
    let shape = b.graph.value_type(w).map(|t| t.shape.per_sample()).unwrap_or_default();
    let decayed = shape.len() >= 2;
    let part = |part: &str| format!("{name}_{part}");
    // The loss may be scaled, its gradients are not; dividing by 1 changes no bit.
    let scale = b.hyper("loss_scale")?;
    g = b.add("div", &part("unscaled"), &[g, scale], Attrs::new())?;
    if decayed && options.decay == Decay::L2 {
        let rate = b.hyper("weight_decay")?;
        let pull = b.add("mul", &part("pull"), &[w, rate], Attrs::new())?;
        g = b.add("add", &part("gradient"), &[g, pull], Attrs::new())?;
    }
    let len = shape.iter().product();
    let zeros = |b: &mut Builder<'_>, suffix: &str| {
        let zeros = Tensor::f32(shape.clone(), vec![0.0; len]).map_err(|e| GraphError {
            name: name.clone(),
            op: "constant".to_owned(),
            message: e.to_string(),
        })?;
        b.graph.add_constant(&format!("{name}.{suffix}"), zeros)
    };
    let momentum = zeros(b, "m")?;
    let beta1 = b.hyper("beta1")?;
    let mut next = match options.optimizer {
        Optimizer::Sgd => {
            let rate = b.hyper("lr")?;
            let m = b.add("momentum", &part("m_next"), &[momentum, g, beta1], Attrs::new())?;
            b.graph.add_update(Role::Momentum, momentum.node, m)?;
            b.add("descend", &part("next"), &[w, m, rate], Attrs::new())?
        }
        Optimizer::Adam { form } => {
            let (variance, beta2, rate) = (zeros(b, "v")?, b.hyper("beta2")?, b.hyper("adam_rate")?);
            let epsilon = b.hyper(if form == AdamForm::PyTorch { "adam_epsilon" } else { "epsilon" })?;
            let m = b.add("moment", &part("m_next"), &[momentum, g, beta1], Attrs::new())?;
            let v = b.add("moment_squared", &part("v_next"), &[variance, g, beta2], Attrs::new())?;
            b.graph.add_update(Role::Momentum, momentum.node, m)?;
            b.graph.add_update(Role::Variance, variance.node, v)?;
            b.add("adam_step", &part("next"), &[w, m, v, rate, epsilon], Attrs::new())?
        }
    };
    if decayed && options.decay == Decay::Decoupled {
        let (lr, decay) = (b.hyper("lr")?, b.hyper("weight_decay")?);
        let rate = b.add("mul", &part("shrink"), &[lr, decay], Attrs::new())?;
        next = b.add("descend", &part("decayed"), &[next, w, rate], Attrs::new())?;
    }
    b.graph.add_update(Role::Parameter, w.node, next)
}
