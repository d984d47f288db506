//! Fuses everything between an integer convolution and the next quantiser into integer thresholds, by evaluation of the
//! file's own f32 steps, never by algebra (numerics contract, rule 4).
//!
//! ```text
//! before   a = int_conv(u, w)   d = decode(a)   b = batch_norm(d, …)   c = clip(b)   e = round(c)   v = encode(e)
//! after    a = int_conv(u, w)   v = threshold(a, T)        T of shape (O, top + 1)
//! ```

use super::chain;
use super::probe::{self, Probe};
use super::{PassError, Report, name_of, op_of};
use crate::graph::{Graph, NodeId, Value};

/// Greatest code that is fused: 4 bits. Above, running the steps themselves is cheaper.
const TOP: u32 = 15;

/// Fuses thresholds.
///
/// # Errors
/// When the new operator does not fit, which is a bug.
pub fn run(graph: &mut Graph, report: &mut Report) -> Result<(), PassError> {
    for id in graph.order() {
        if op_of(graph, Value { node: id, port: 0 }) == "encode" {
            fuse(graph, id, report)?;
        }
    }
    super::dead::run(graph)
}

fn fuse(graph: &mut Graph, encode: NodeId, report: &mut Report) -> Result<(), PassError> {
    let out = Value { node: encode, port: 0 };
    let Some(top) = graph.value_type(out).and_then(|t| t.codes()).map(|c| c.top) else { return Ok(()) };
    let Some(&level) = graph.operands(encode).first() else { return Ok(()) };
    let steps = chain::before(graph, level, encode);
    let first = steps.nodes.first().copied().unwrap_or(encode);
    if op_of(graph, steps.source) != "decode" || graph.sole_user(steps.source) != Some(first) {
        return Ok(());
    }
    let Some(&source) = graph.operands(steps.source.node).first() else { return Ok(()) };
    let Some(ty) = graph.value_type(source).filter(|t| t.acc().is_some()).cloned() else { return Ok(()) };
    let layer = name_of(graph, source);
    if top > TOP {
        report.note(&layer, format!("keeps its f32 steps because {top} thresholds cost more"));
        return Ok(());
    }
    let probe = Probe::new(graph, &steps, encode, &ty, top);
    match probe.ok_or("the steps do not evaluate").and_then(|p| probe::table(&[p])) {
        Ok(table) => probe::replace(graph, encode, ("threshold", &[source]), table, &layer),
        Err(why) => {
            report.note(&layer, format!("keeps its f32 steps because {why}"));
            Ok(())
        }
    }
}
