//! Computes what depends on constants only, by the interpreter's own definitions.
//!
//! ```text
//! before   w = constant   t = tanh(w)   y = conv(x, t)
//! after    t = constant   y = conv(x, t)
//! ```

use super::PassError;
use crate::graph::types::Elem;
use crate::graph::{Graph, NodeId, Value};
use crate::interp;

/// Elements by which all folded constants together may outgrow what they are made of: 256 MiB of floats. Broadcasting makes
/// a table of two rows, which no file pays for.
const GROWTH: usize = 1 << 26;

/// Folds constants.
///
/// # Errors
/// When an operator refuses its constants: the model is wrong.
pub fn run(graph: &mut Graph, fma: bool) -> Result<(), PassError> {
    let mut growth = 0usize;
    for id in graph.order() {
        let Some(node) = graph.node(id) else { continue };
        let (name, op) = (node.name.clone(), node.op.name);
        if op == "constant" || op == "input" {
            continue;
        }
        growth = growth.saturating_add(outgrown(graph, id).unwrap_or(0));
        if growth > GROWTH {
            let message = "constants that are broadcast take more than 256 MiB; store the result in the file instead";
            return Err(PassError::Input(format!("{name} ({op}): {message}")));
        }
        let Some(result) = interp::fold(graph, id, fma) else { continue };
        let tensor = result.map_err(|e| PassError::Input(format!("{name} ({op}): {e}")))?;
        let elem = graph.node(id).and_then(|n| n.types.first()).map_or(Elem::F32, |t| t.elem.clone());
        let new = graph.add_typed_constant(&format!("{name}_folded"), tensor, elem);
        let operands = graph.operands(id);
        graph.replace(Value { node: id, port: 0 }, new);
        graph.remove(id);
        // What nothing reads any more goes at once: a chain on large weights would otherwise hold each of its steps.
        for v in operands {
            let unread = graph.users(v).is_empty() && !graph.is_output(v);
            if unread && graph.constant(v).is_some() && !graph.is_state(v.node) && !graph.is_update(v) {
                graph.remove(v.node);
            }
        }
    }
    super::dead::run(graph)
}

/// Elements by which a value of constants is larger than its largest operand.
fn outgrown(graph: &Graph, id: NodeId) -> Option<usize> {
    let len = |v: &Value| graph.constant(*v).map(|t| t.len());
    let operands = graph.operands(id).iter().map(len).collect::<Option<Vec<usize>>>()?;
    let own = graph.node(id)?.types.first()?.shape.sample_len()?;
    own.checked_sub(*operands.iter().max()?)
}
