//! The backward pass: the source's nodes in reverse; gradients of a value with several readers add in the readers' order.

use super::builder::{Builder, Gradient};
use super::{Ends, rules};
use crate::graph::attrs::Attrs;
use crate::graph::{GraphError, NodeId, Value};
use std::collections::BTreeMap;

/// Gradients of source values: the reader's place in the graph's order and its port, and what it sends.
type Contributions = BTreeMap<Value, Vec<((usize, usize), Gradient)>>;

/// The gradient of every trained constant of the source.
pub(super) fn gradients(b: &mut Builder<'_>, ends: &Ends) -> Vec<(NodeId, Value)> {
    let mut contributions = Contributions::new();
    let order = b.source.order();
    match b.add("softmax_cross_entropy_grad", "dscores", &[ends.scores, ends.labels], Attrs::new()) {
        Ok(float) => {
            contributions.entry(ends.source).or_default().push(((usize::MAX, 0), Gradient { float, codes: None }));
        }
        Err(problem) => b.problems.push(problem),
    }
    let mut found = Vec::new();
    for (place, &id) in order.iter().enumerate().rev() {
        let Some(node) = b.source.node(id) else { continue };
        let own = Value { node: id, port: 0 };
        let Some(parts) = contributions.remove(&own) else { continue };
        let result = sum(b, &node.name, parts).and_then(|dy| {
            if b.trained.contains(&id) {
                found.push((id, dy.float));
                return Ok(Vec::new());
            }
            rules::gradients(b, node, dy)
        });
        match result {
            Err(problem) => b.problems.push(problem),
            Ok(parts) => {
                for (port, gradient) in parts {
                    let operand = b.source.operands(id).get(port).copied();
                    if let Some(value) = operand.filter(|v| b.wanted.contains(v)) {
                        contributions.entry(value).or_default().push(((place, port), gradient));
                    }
                }
            }
        }
    }
    found.reverse();
    found
}

fn sum(b: &mut Builder<'_>, name: &str, mut parts: Vec<((usize, usize), Gradient)>) -> Result<Gradient, GraphError> {
    parts.sort_by_key(|p| p.0);
    let mut parts = parts.into_iter().map(|p| p.1);
    let Some(mut total) = parts.next() else {
        return Err(GraphError { name: name.to_owned(), op: "gradient".to_owned(), message: "is empty".to_owned() });
    };
    for part in parts {
        let float = b.add("add", &format!("d{name}"), &[total.float, part.float], Attrs::new())?;
        total = Gradient { float, codes: None };
    }
    Ok(total)
}
