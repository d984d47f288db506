//! Chains of monotone f32 steps that work on each element by itself, with constants for all elements or one a channel:
//! finding them, their direction, and evaluating them by the operators' own definitions.

use super::op_of;
use crate::graph::ops::Eval;
use crate::graph::types::ValueType;
use crate::graph::{Graph, NodeId, Value};
use dorefa_runtime::tensor::Tensor;

/// Steps in forward order, each the only reader of the one before; the first reads `source`.
#[derive(Clone, Debug)]
pub struct Chain {
    /// What the first step reads.
    pub source: Value,
    /// The steps.
    pub nodes: Vec<NodeId>,
}

/// The operand of a step that is not constant, with its port; `None` where the node is no monotone step.
fn data_operand(graph: &Graph, id: NodeId) -> Option<(Value, u16)> {
    let node = graph.node(id)?;
    let operands = graph.operands(id);
    let finite =
        |v: &Value| graph.constant(*v).and_then(|t| t.as_f32()).is_some_and(|d| d.iter().all(|v| v.is_finite()));
    let &first = operands.first()?;
    match node.op.name {
        "relu" | "clip" | "round" | "step" | "sign" | "neg" => Some((first, 0)),
        "leaky_relu" => (node.attrs.float("alpha", 0.01) >= 0.0).then_some((first, 0)),
        "batch_norm" => operands.iter().skip(1).all(finite).then_some((first, 0)),
        "multi_threshold" => {
            let sound = graph.constant(*operands.get(1)?)?.as_f32()?.iter().all(|v| !v.is_nan());
            sound.then_some((first, 0))
        }
        "add" | "sub" | "mul" | "div" | "min" | "max" => {
            let second = *operands.get(1)?;
            let (data, port, constant) = match (finite(&first), finite(&second)) {
                (false, true) if graph.constant(first).is_none() => (first, 0, second),
                (true, false) if graph.constant(second).is_none() && node.op.name != "div" => (second, 1, first),
                _ => return None,
            };
            let divisor = graph.constant(constant)?.as_f32()?;
            if node.op.name == "div" && divisor.contains(&0.0) {
                return None;
            }
            let (out, own) = (node.types.first()?.shape.rank(), graph.value_type(constant)?.shape.per_sample());
            let per_channel = own.iter().enumerate().all(|(i, &d)| d == 1 || i + out == own.len() + 1);
            per_channel.then_some((data, port))
        }
        _ => None,
    }
    .filter(|(v, _)| graph.value_type(*v).map(|t| &t.shape) == node.types.first().map(|t| &t.shape))
}

/// The longest chain that ends in `end`, whose only reader is `reader`.
pub fn before(graph: &Graph, end: Value, reader: NodeId) -> Chain {
    let (mut source, mut reader) = (end, reader);
    let mut nodes = Vec::new();
    while graph.sole_user(source) == Some(reader)
        && let Some((data, _)) = data_operand(graph, source.node)
    {
        nodes.push(source.node);
        reader = source.node;
        source = data;
    }
    nodes.reverse();
    Chain { source, nodes }
}

/// Whether any step has constants that differ between channels.
pub fn per_channel(graph: &Graph, chain: &Chain) -> bool {
    chain.nodes.iter().any(|&id| {
        let own = graph.operands(id).into_iter().filter_map(|v| graph.constant(v).map(|t| (v, t)));
        own.into_iter().any(|(_, t)| {
            if op_of(graph, Value { node: id, port: 0 }) == "multi_threshold" {
                t.shape().first() != Some(&1)
            } else {
                t.len() > 1
            }
        })
    })
}

/// For each channel, whether the chain falls.
pub fn falling(graph: &Graph, chain: &Chain, channels: usize) -> Option<Vec<bool>> {
    let mut falls = vec![false; channels];
    for &id in &chain.nodes {
        let node = graph.node(id)?;
        let (_, port) = data_operand(graph, id)?;
        let operands = graph.operands(id);
        let mut flip = |negative: &dyn Fn(usize) -> bool| {
            for (i, f) in falls.iter_mut().enumerate() {
                *f ^= negative(i);
            }
        };
        match node.op.name {
            "neg" => flip(&|_| true),
            "sub" if port == 1 => flip(&|_| true),
            "mul" | "div" => {
                let c = graph.constant(*operands.get(usize::from(1 - port))?)?.as_f32()?;
                flip(&|i| c.get(if c.len() == 1 { 0 } else { i }).is_some_and(|&v| v < 0.0));
            }
            "batch_norm" => {
                let gamma = graph.constant(*operands.get(1)?)?.as_f32()?;
                flip(&|i| gamma.get(i).is_some_and(|&v| v < 0.0));
            }
            _ => {}
        }
    }
    Some(falls)
}

/// Adds the steps of a chain once more, on `input`. Names carry `suffix`.
pub fn rebuild(graph: &mut Graph, chain: &Chain, input: Value, suffix: &str) -> Result<Value, super::PassError> {
    let mut x = input;
    for &id in &chain.nodes {
        let Some((node, (_, port))) = graph.node(id).zip(data_operand(graph, id)) else { continue };
        let (op, name, attrs) = (node.op, format!("{}{suffix}", node.name), node.attrs.clone());
        let mut operands = graph.operands(id);
        if let Some(slot) = operands.get_mut(usize::from(port)) {
            *slot = x;
        }
        x = graph.add(op, &name, &operands, attrs)?;
    }
    Ok(x)
}

/// Evaluates one node on `x` in place of its data operand.
pub fn step(graph: &Graph, id: NodeId, x: &Tensor, ty: &ValueType) -> Option<(Tensor, ValueType)> {
    let node = graph.node(id)?;
    let port = data_operand(graph, id).map_or(0, |(_, p)| usize::from(p));
    let operands = graph.operands(id);
    let mut inputs: Vec<&Tensor> = Vec::new();
    let mut types: Vec<&ValueType> = Vec::new();
    for (i, &v) in operands.iter().enumerate() {
        inputs.push(if i == port { x } else { graph.constant(v)? });
        types.push(if i == port { ty } else { graph.value_type(v)? });
    }
    let output = (node.op.infer)(&node.attrs, &types).ok()?.into_iter().next()?;
    let batch = x.shape().first().copied()?;
    let eval = Eval {
        attrs: &node.attrs,
        inputs: &inputs,
        types: &types,
        output: &output,
        batch,
        fma: false,
        context: Default::default(),
    };
    Some(((node.op.eval)(&eval).ok()?, output.clone()))
}

/// Evaluates the chain; the results of all steps in order.
pub fn evaluate(graph: &Graph, chain: &Chain, x: &Tensor, ty: &ValueType) -> Option<Vec<(Tensor, ValueType)>> {
    let mut all: Vec<(Tensor, ValueType)> = Vec::new();
    for &id in &chain.nodes {
        let (t, ty) = all.last().map_or((x, ty), |(t, ty)| (t, ty));
        let next = step(graph, id, t, ty)?;
        all.push(next);
    }
    Some(all)
}

/// Evaluates an operator of one input, such as `decode`.
pub fn apply(node: &crate::graph::Node, x: &Tensor, ty: &ValueType) -> Option<(Tensor, ValueType)> {
    let types = [ty];
    let output = (node.op.infer)(&node.attrs, &types).ok()?.into_iter().next()?;
    let batch = x.shape().first().copied()?;
    let inputs = [x];
    let eval = Eval {
        attrs: &node.attrs,
        inputs: &inputs,
        types: &types,
        output: &output,
        batch,
        fma: false,
        context: Default::default(),
    };
    let t = (node.op.eval)(&eval).ok()?;
    Some((t, output))
}
