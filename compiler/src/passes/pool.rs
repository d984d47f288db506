//! Moves max pools behind the quantiser: a pool of codes instead of floats. Where the steps between fall, a min pool.
//!
//! ```text
//! before   p = max_pool(x)    a = batch_norm(p, …)   c = round(a)    u = encode(c)
//! after    a = batch_norm(x, …)   c = round(a)   v = encode(c)   u = code_pool(v, minimum=[0, 1, …])
//! ```

use super::chain;
use super::{PassError, op_of};
use crate::graph::ops::Window;
use crate::graph::scale::Scale;
use crate::graph::types::{AccType, Elem};
use crate::graph::{Graph, NodeId, Value, ops};
use dorefa_runtime::tensor::{Data, Tensor};
use std::collections::BTreeSet;

/// Moves the pools.
///
/// # Errors
/// When a rebuilt step does not fit, which is a bug.
pub fn run(graph: &mut Graph) -> Result<(), PassError> {
    let mut pending: Vec<NodeId> = graph.order().into_iter().filter(|&id| is_encode(graph, id)).collect();
    while let Some(id) = pending.pop() {
        if let Some(new) = move_one(graph, id)? {
            pending.push(new);
        }
    }
    super::dead::run(graph)
}

fn is_encode(graph: &Graph, id: NodeId) -> bool {
    op_of(graph, Value { node: id, port: 0 }) == "encode"
}

/// Moves the pool in front of one `encode`; the new one, before which another pool may stand.
fn move_one(graph: &mut Graph, id: NodeId) -> Result<Option<NodeId>, PassError> {
    let Some(&level) = graph.operands(id).first() else { return Ok(None) };
    let steps = chain::before(graph, level, id);
    let pool = steps.source;
    let reader = steps.nodes.first().copied().unwrap_or(id);
    if op_of(graph, pool) != "max_pool" || graph.sole_user(pool) != Some(reader) {
        return Ok(None);
    }
    let Some((x, channels)) =
        graph.operands(pool.node).first().and_then(|&x| Some((x, graph.value_type(x)?.shape.image()?.0)))
    else {
        return Ok(None);
    };
    let Some(falls) = chain::falling(graph, &steps, channels) else { return Ok(None) };
    // A float pool passes over what is not a number, and gives −∞ where nothing else is there; codes know neither.
    let window = graph.node(pool.node).zip(graph.value_type(x)).and_then(|(n, t)| Window::new(&n.attrs, &t.shape).ok());
    if !numbers(graph, x) || !window.is_some_and(|w| w.reaches()) {
        return Ok(None);
    }
    let Some((node, attrs)) = graph.node(id).zip(graph.node(pool.node).map(|n| n.attrs.clone())) else {
        return Ok(None);
    };
    let (name, code_attrs) = (node.name.clone(), node.attrs.clone());
    let pool_name = super::name_of(graph, pool);
    let end = chain::rebuild(graph, &steps, x, "_early")?;
    let codes = graph.add(ops::known("encode"), &format!("{name}_early"), &[end], code_attrs)?;
    let mut inputs = vec![codes];
    if falls.contains(&true) {
        let minimum = Tensor::new(vec![channels], Data::I64(falls.iter().map(|&f| f.into()).collect()));
        let elem = Elem::Acc(AccType { lo: 0, hi: 1, scale: vec![Scale::ONE].into() });
        inputs.push(graph.add_typed_constant(
            &format!("{pool_name}_minimum"),
            minimum.map_err(|e| e.to_string())?,
            elem,
        ));
    }
    let pooled = graph.add(ops::known("code_pool"), &format!("{pool_name}_codes"), &inputs, attrs)?;
    graph.replace(Value { node: id, port: 0 }, pooled);
    graph.remove(id);
    for id in steps.nodes.iter().rev().chain([&pool.node]) {
        graph.remove(*id);
    }
    Ok(Some(codes.node))
}

/// Nodes that are looked at for one pool.
const FARTHEST: usize = 1000;

/// Operators whose results are numbers wherever their operands are finite and no sum overflows.
const NUMBERS: &[&str] = &[
    "abs",
    "add",
    "average_pool",
    "batch_norm",
    "bipolar_quant",
    "clip",
    "concat",
    "conv",
    "div",
    "erf",
    "global_average_pool",
    "input",
    "leaky_relu",
    "matmul",
    "max",
    "max_pool",
    "min",
    "mul",
    "multi_threshold",
    "neg",
    "pad",
    "prelu",
    "quant",
    "quantize_activation",
    "quantize_weights",
    "reduce_max",
    "reduce_mean",
    "reduce_sum",
    "relu",
    "repeat",
    "reshape",
    "round",
    "sigmoid",
    "sign",
    "slice",
    "step",
    "sub",
    "take",
    "tanh",
    "transpose",
];

/// Whether a value is a number for finite inputs, unless a sum overflows: what it is computed from leads through such operators
/// only, to inputs, finite constants and codes.
fn numbers(graph: &Graph, value: Value) -> bool {
    let (mut seen, mut pending) = (BTreeSet::new(), vec![value]);
    while let Some(v) = pending.pop() {
        if !seen.insert(v.node) {
            continue;
        }
        if seen.len() > FARTHEST {
            return false;
        }
        let op = op_of(graph, v);
        if op == "decode" && graph.operands(v.node).len() == 1 {
            continue;
        }
        if let Some(constant) = graph.constant(v) {
            if constant.as_f32().is_some_and(|d| d.iter().any(|x| !x.is_finite())) {
                return false;
            }
        } else if NUMBERS.contains(&op) && !divides_by_zero(graph, v) {
            pending.extend(graph.operands(v.node));
        } else {
            return false;
        }
    }
    true
}

/// Whether a division is not by constants other than zero, or a batch norm's scale or offset is no finite number, as with a
/// variance of zero.
fn divides_by_zero(graph: &Graph, value: Value) -> bool {
    if op_of(graph, value) == "div" {
        let divisor = graph.operands(value.node).get(1).and_then(|&v| graph.constant(v)?.as_f32());
        return divisor.is_none_or(|d| d.contains(&0.0));
    }
    let Some(node) = graph.node(value.node).filter(|n| n.op.name == "batch_norm") else { return false };
    let parameters = graph.operands(value.node).into_iter().skip(1);
    let parameters: Vec<&[f32]> = parameters.filter_map(|v| graph.constant(v)?.as_f32()).collect();
    let [g, b, m, v] = *parameters else { return true };
    let epsilon = node.attrs.float("epsilon", 1e-5);
    let mut channels = g.iter().zip(b).zip(m.iter().zip(v));
    channels.any(|((&g, &b), (&m, &v))| {
        let (scale, offset) = ops::scale_offset(g, b, m, v, epsilon);
        !scale.is_finite() || !offset.is_finite()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text;

    #[test]
    fn only_numbers_are_pooled_by_their_least_codes() {
        let pooled_by = |steps: &str, window: &str| {
            let source = format!(
                "dorefa 1\ngraph g(x: f32[N, 2, 4, 4]) -> (y) {{\n  {steps}\n  p = max_pool(z, {window})\n  \
                 y = decode(encode(round(clip(neg(p), lo=0, hi=3)), top=3, scale=1/3))\n}}\n"
            );
            let mut graph = text::parse(&source, "pool.dorefa", &|_| None).expect("parses");
            run(&mut graph).expect("runs");
            graph.order().iter().any(|&id| op_of(&graph, Value { node: id, port: 0 }) == "code_pool")
        };
        let pooled = |steps: &str| pooled_by(steps, "kernel=[2, 2]");
        assert!(pooled("z = conv(x, @w: f32[2, 2, 1, 1])"));
        // A window may lie in the padding altogether, around a single element.
        let single = "z = max_pool(x, kernel=[4, 4])";
        assert!(pooled_by(single, "kernel=[3, 3], pads=[1, 1, 1, 1]"));
        assert!(!pooled_by(single, "kernel=[2, 2], dilations=[2, 2], pads=[1, 1, 1, 1]"));
        assert!(pooled("u = encode(round(exp(x)), top=3, scale=1/3)\n  z = add(decode(u), @k: f32[])"));
        let norm = |epsilon: &str| {
            let zeros = "@a: f32[2], @b: f32[2], @m: f32[2], @v: f32[2]";
            format!("z = batch_norm(x, {zeros}, epsilon={epsilon})")
        };
        assert!(pooled(&norm("1e-3")));
        assert!(!pooled(&norm("-10.0")));
        assert!(!pooled("z = log(x)"));
        assert!(pooled("z = div(x, @k: f32[])"));
        assert!(!pooled("z = div(x, x)"));
    }
}
