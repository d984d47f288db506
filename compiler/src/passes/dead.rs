//! Removes what inference does not need.
//!
//! ```text
//! before   a = conv(x, w)      b = quantize_gradient(a, bits=6)      c = relu(b)      unused = neg(a)
//! after    a = conv(x, w)      c = relu(a)
//! ```

use super::PassError;
use crate::graph::{Graph, NodeId, Value};
use std::collections::BTreeSet;

/// Bypasses identities and removes nodes that no output and no update depends on.
///
/// # Errors
/// None so far.
pub fn run(graph: &mut Graph) -> Result<(), PassError> {
    for id in graph.order() {
        let Some(node) = graph.node(id) else { continue };
        let identity = match node.op.name {
            "quantize_gradient" | "dropout" => true,
            "quantize_weights" => node.attrs.int("bits", 32) == 32,
            "reshape" | "transpose" => {
                let same_type = graph.operands(id).first().and_then(|&v| graph.value_type(v)) == node.types.first();
                let perm = node.attrs.ints("perm");
                same_type && perm.iter().enumerate().all(|(i, &p)| i as i64 == p)
            }
            _ => false,
        };
        if identity && let Some(&x) = graph.operands(id).first() {
            graph.replace(Value { node: id, port: 0 }, x);
        }
    }
    sweep(graph);
    Ok(())
}

/// Removes nodes that no output and no update depends on.
pub fn sweep(graph: &mut Graph) {
    let mut live: BTreeSet<NodeId> = graph.outputs().iter().map(|(_, v)| v.node).collect();
    live.extend(graph.updates().iter().flat_map(|u| [u.node, u.value.node]));
    let order = graph.order();
    for &id in order.iter().rev() {
        if live.contains(&id) {
            live.extend(graph.operands(id).iter().map(|v| v.node));
        }
    }
    for id in order.iter().rev().filter(|id| !live.contains(id)) {
        graph.remove(*id);
    }
}
