//! Gives every output of the graph a node of its own: one that is an input, or that another output has too, is copied.
//!
//! ```text
//! before   graph g(x: f32[N, 3]) -> (x)
//! after    graph g(x: f32[N, 3]) -> (y)      y = reshape(x, shape=[3])
//! ```

use super::{PassError, add, op_of};
use crate::graph::Graph;
use crate::graph::attrs::{Attr, Attrs};
use std::collections::BTreeSet;

/// Copies such outputs.
///
/// # Errors
/// When a copy does not fit, which is a bug.
pub fn run(graph: &mut Graph) -> Result<(), PassError> {
    let mut seen = BTreeSet::new();
    for i in 0..graph.outputs().len() {
        let Some((name, value)) = graph.outputs().get(i).cloned() else { continue };
        if seen.insert(value) && op_of(graph, value) != "input" {
            continue;
        }
        let Some(ty) = graph.value_type(value) else { continue };
        let dims = ty.shape.per_sample().iter().map(|&d| d as i64).collect();
        let copy = add(graph, "reshape", &name, &[value], Attrs::new().with("shape", Attr::Ints(dims)))?;
        graph.set_output(i, copy);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::graph::Graph;
    use crate::graph::types::{Shape, ValueType};

    #[test]
    fn an_input_and_a_repeated_output_are_copied() {
        let mut g = Graph::new("t");
        let x = g.add_input("x", ValueType::f32(Shape::batched(&[3])));
        g.add_output("a", x);
        g.add_output("b", x);
        super::run(&mut g).expect("copies");
        let outputs: Vec<_> = g.outputs().iter().map(|(_, v)| *v).collect();
        assert!(outputs[0] != outputs[1] && !outputs.contains(&x), "{outputs:?}");
    }
}
