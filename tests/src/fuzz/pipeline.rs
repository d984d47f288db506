//! What must hold of every graph: it prints as it reads, and the passes keep its bits.

use crate::noise;
use dorefa_runtime::Tensor;
use dorefac::graph::{Graph, Value, ops};
use dorefac::passes::{self, PassError};
use dorefac::{interp, lower, text};
use std::collections::BTreeMap;

/// Most operations that a graph may need for an execution by the interpreter: larger ones are only printed and read.
const OPERATIONS: u64 = 1 << 20;

/// The graph's text, read with its constants, prints the same.
pub fn round_trip(graph: &Graph) {
    let printed = text::print(graph);
    let nodes = graph.order().into_iter().filter_map(|id| graph.node(id));
    let constants: BTreeMap<&str, &Tensor> =
        nodes.filter_map(|n| Some((n.name.as_str(), &**n.tensor.as_ref()?))).collect();
    // Infinite weights are refused when they are read from a file.
    if constants.values().any(|t| t.as_f32().is_some_and(|v| v.iter().any(|x| !x.is_finite()))) {
        return;
    }
    let look = |name: &str| constants.get(name).map(|t| (*t).clone());
    match text::parse(&printed, "printed", &look) {
        Ok(again) => assert_eq!(text::print(&again), printed, "prints otherwise"),
        Err(problems) => {
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            panic!("what was printed is not read:\n{}\n{printed}", problems.join("\n"));
        }
    }
}

/// The interpreter gives the same bits before and after each pass but `lift`, which may change values, not shapes.
pub fn differential(graph: &Graph) {
    if cost(graph) > OPERATIONS || !graph.updates().is_empty() {
        return;
    }
    let inputs: Option<Vec<Tensor>> = graph.inputs().iter().enumerate().map(|(i, &id)| input(graph, id, i)).collect();
    let Some(inputs) = inputs else { return };
    let Ok(mut before) = interp::run(graph, &inputs, true) else { return };
    let mut lowered = graph.clone();
    let mut observe = |name: &'static str, stage: &Graph| {
        if cost(stage) > 4 * OPERATIONS {
            return;
        }
        let after = interp::run(stage, &inputs, true).unwrap_or_else(|e| panic!("after {name}: {e}"));
        let shapes = |t: &[Tensor]| t.iter().map(|t| t.shape().to_vec()).collect::<Vec<_>>();
        assert_eq!(shapes(&before), shapes(&after), "{name} changed a shape");
        if name != "lift" {
            for (a, b) in before.iter().zip(&after) {
                assert!(same(a, b), "{name} changed {a:?} to {b:?} of\n{}", text::print(graph));
            }
        }
        before = after;
    };
    match passes::run(&mut lowered, true, &mut observe) {
        Ok(_) => {
            round_trip(&lowered);
            let _ = lower::lower(&lowered);
        }
        Err(PassError::Input(_)) => {}
        Err(bug) => panic!("{bug} of\n{}", text::print(graph)),
    }
}

/// Equal bits, or both not a number.
fn same(a: &Tensor, b: &Tensor) -> bool {
    let (Some(a), Some(b)) = (a.as_f32(), b.as_f32()) else { return a == b };
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan()))
}

/// Two samples for an input.
fn input(graph: &Graph, id: dorefac::graph::NodeId, seed: usize) -> Option<Tensor> {
    let ty = graph.value_type(Value { node: id, port: 0 })?;
    let shape = ty.shape.concrete(2);
    let values = noise(shape.iter().product(), seed as u64);
    match ty.codes() {
        Some(codes) => {
            let codes = values.iter().map(|v| (v.abs() * 1e4) as i32 % (codes.top as i32 + 1)).collect();
            Tensor::new(shape, dorefa_runtime::Data::I32(codes)).ok()
        }
        None => Tensor::f32(shape, values).ok(),
    }
}

/// About the operations of one execution; more than any limit where they overflow.
fn cost(graph: &Graph) -> u64 {
    let node = |id| {
        let node = graph.node(id)?;
        let elements = |v: &Value| graph.value_type(*v)?.shape.sample_len().map(|n| n as u64);
        let own = elements(&Value { node: id, port: 0 })?;
        let operands = graph.operands(id);
        let read = operands.iter().try_fold(own, |a, v| a.checked_add(elements(v)?))?;
        let windowed = ["kernel"].iter().find_map(|k| Some(node.attrs.ints(k)).filter(|v| !v.is_empty()));
        let window = windowed.map_or(1, |v| v.iter().fold(1u64, |a, &k| a.saturating_mul(k.unsigned_abs())));
        let types: Vec<_> = operands.iter().filter_map(|&v| graph.value_type(v)).collect();
        let taps = match (node.op.name, &*types) {
            ("conv" | "matmul" | "int_conv", [x, w, ..]) => {
                ops::Geometry::new(&node.attrs, &x.shape, &w.shape).map_or(1, |g| g.taps() as u64)
            }
            // Every threshold is compared.
            ("multi_threshold" | "threshold", [_, t, ..]) | ("residual_threshold", [_, _, t]) => {
                t.shape.per_sample().last().map_or(1, |&n| n as u64)
            }
            _ => window,
        };
        own.checked_mul(taps)?.checked_add(read)
    };
    graph.order().into_iter().try_fold(0u64, |a, id| a.checked_add(node(id)?)).unwrap_or(u64::MAX)
}
