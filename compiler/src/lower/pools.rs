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

#[cfg(test)]
mod tests {
    use crate::lower::lower;
    use crate::{passes, text};

    /// What each step stores, and what stays between a layer and its pool, of a layer with 8 outputs on 8 × 8 codes.
    fn stored(layer: &str, pool: &str, rest: &str) -> Vec<String> {
        let source = format!(
            "dorefa 1\ngraph g(x: f32[N, 8, 8, 8]) -> (y) {{\n  q = quantize_activation(x, bits=2)\n  c = {layer}\n  \
             p = max_pool(c, {pool})\n  r = quantize_activation(p, bits=2)\n  {rest}\n}}\n"
        );
        let mut graph = text::parse(&source, "pools.dorefa", &|_| None).expect("parses");
        passes::run(&mut graph, true, &mut |_, _| {}).expect("passes");
        let plan = lower(&graph).expect("lowers");
        let name = |v: crate::graph::Value| graph.node(v.node).map_or("", |n| n.op.name).to_owned();
        let of = |s: &crate::lower::Step| match s.pool {
            Some(_) => format!("{} of {}", name(s.result), name(s.made)),
            None => name(s.result),
        };
        plan.steps.iter().map(of).collect()
    }

    #[test]
    fn windows_side_by_side_are_part_of_the_layer() {
        let (conv, next) = ("conv(q, @w: f32[8, 8, 3, 3], pads=[1, 1, 1, 1])", "y = conv(r, @v: f32[4, 8, 1, 1])");
        let joined = ["encode", "code_pool of threshold", "decode"];
        for pool in ["kernel=[2, 2], strides=[2, 2]", "kernel=[1, 4], strides=[1, 4]", "kernel=[8, 8], strides=[8, 8]"]
        {
            assert_eq!(stored(conv, pool, next), joined, "{pool}");
        }
        let few = "conv(q, quantize_weights(@w: f32[8, 8, 3, 3], bits=1), pads=[1, 1, 1, 1])";
        assert_eq!(stored(few, "kernel=[2, 2], strides=[2, 2]", next), joined);
    }

    #[test]
    fn other_windows_are_steps_of_their_own() {
        let (conv, next) = ("conv(q, @w: f32[8, 8, 3, 3], pads=[1, 1, 1, 1])", "y = conv(r, @v: f32[4, 8, 1, 1])");
        let apart = ["encode", "threshold", "code_pool", "decode"];
        for pool in [
            "kernel=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]",
            "kernel=[3, 3], strides=[3, 3]",
            "kernel=[2, 2], strides=[2, 2], dilations=[2, 2]",
            "kernel=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1]",
        ] {
            assert_eq!(stored(conv, pool, next), apart, "{pool}");
        }
        // Codes of no layer.
        assert_eq!(stored("abs(x)", "kernel=[2, 2], strides=[2, 2]", next), ["encode", "code_pool", "decode"]);
    }
}
