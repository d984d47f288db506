//! Repeats operands that broadcast in a way that no image does: element-wise steps read values of other ranks as one row.
//!
//! ```text
//! before   y = div(x, s)                                     x (N, 3, 5), s (N, 3, 1)
//! after    t = take(s, axis=2, indices=[0, 0, 0, 0, 0])   y = div(x, t)
//! ```

use super::{PassError, add};
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::types::Dim;
use crate::graph::{Graph, NodeId};

/// Repeats the operands of all element-wise nodes where need be.
///
/// # Errors
/// When a repetition does not fit, which is a bug.
pub fn run(graph: &mut Graph) -> Result<(), PassError> {
    for id in graph.order() {
        if graph.node(id).is_some_and(|n| n.op.elementwise) {
            operands(graph, id)?;
        }
    }
    Ok(())
}

fn operands(graph: &mut Graph, id: NodeId) -> Result<(), PassError> {
    let Some(shape) = graph.node(id).and_then(|n| n.types.first()).map(|t| t.shape.clone()) else { return Ok(()) };
    for (port, mut v) in graph.operands(id).into_iter().enumerate() {
        let Some(own) = graph.value_type(v).map(|t| t.shape.clone()) else { continue };
        if graph.constant(v).is_some() || !own.has_batch() || own.spreads_over(&shape) || own.rank() != shape.rank() {
            continue;
        }
        let name = format!("{}_spread", super::name_of(graph, v));
        for (axis, extents) in own.0.iter().zip(&shape.0).enumerate() {
            if let (Dim::Fixed(1), &Dim::Fixed(n)) = extents
                && n > 1
            {
                let attrs = Attrs::new().with("axis", Attr::Int(axis as i64)).with("indices", Attr::Ints(vec![0; n]));
                v = add(graph, "take", &name, &[v], attrs)?;
            }
        }
        graph.set_operand(id, port as u16, v);
    }
    Ok(())
}
