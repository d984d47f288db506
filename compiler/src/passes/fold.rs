//! Computes what depends on constants only, by the interpreter's own definitions.
//!
//! ```text
//! before   w = constant   t = tanh(w)   y = conv(x, t)
//! after    t = constant   y = conv(x, t)
//! ```

use super::PassError;
use crate::graph::types::Elem;
use crate::graph::{Graph, Value};
use crate::interp;

/// Folds constants.
///
/// # Errors
/// When an operator refuses its constants: the model is wrong.
pub fn run(graph: &mut Graph, fma: bool) -> Result<(), PassError> {
    for id in graph.order() {
        let Some(node) = graph.node(id) else { continue };
        let (name, op) = (node.name.clone(), node.op.name);
        if op == "constant" || op == "input" {
            continue;
        }
        let Some(result) = interp::fold(graph, id, fma) else { continue };
        let tensor = result.map_err(|e| PassError::Input(format!("{name} ({op}): {e}")))?;
        let elem = graph.node(id).and_then(|n| n.types.first()).map_or(Elem::F32, |t| t.elem.clone());
        let new = graph.add_typed_constant(&format!("{name}_folded"), tensor, elem);
        graph.replace(Value { node: id, port: 0 }, new);
        graph.remove(id);
    }
    super::dead::run(graph)
}
