//! Pools that are part of the step of the layer before them: what the layer's kernel makes is pooled by the same task, so the
//! codes in between stay with the worker that made them, and threads meet once less.
//!
//! Tasks are rows of the pooled result. Windows side by side divide the layer's rows among them without a rest, so no row is
//! computed twice; windows that overlap would have that, and stay steps of their own.

use crate::graph::ops::Window;
use crate::graph::{Graph, NodeId, Value};

/// The pool of codes that takes the codes of layer `main` alone, if its windows lie side by side and fill the image.
pub fn behind(graph: &Graph, main: NodeId, codes: Value) -> Option<NodeId> {
    graph.node(main).filter(|n| n.op.name == "int_conv")?;
    graph.value_type(codes)?.codes()?;
    let pool = graph.sole_user(codes)?;
    let window = window(graph, pool)?;
    let whole = |i: usize| {
        let (k, d) = (window.kernel[i], window.dilations[i]);
        k == window.strides[i] && (d == 1 || k == 1) && window.input[i] == window.output[i] * k
    };
    (window.pads == [0; 4] && window.kernel != [1, 1] && (0..2).all(whole)).then_some(pool)
}

/// The windows of a pool of codes.
pub fn window(graph: &Graph, pool: NodeId) -> Option<Window> {
    let node = graph.node(pool).filter(|n| n.op.name == "code_pool")?;
    let &codes = graph.operands(pool).first()?;
    Window::new(&node.attrs, &graph.value_type(codes)?.shape).ok()
}

/// Rows of what a layer makes for one row of its step's result.
pub fn rows(graph: &Graph, pool: Option<NodeId>) -> usize {
    pool.and_then(|id| window(graph, id)).map_or(1, |w| w.kernel[0])
}
