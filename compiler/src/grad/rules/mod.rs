//! The rules of differentiation, one file a family: what a node of the source sends to its operands, given what it is sent.
//!
//! A rule writes operators of the graph and nothing else; it does not know who reads them, nor how gradients are added up.

mod batch_norm;
mod elementwise;
mod product;
mod quantizers;
mod shapes;

use super::builder::{Builder, Gradient};
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::types::Shape;
use crate::graph::{GraphError, Node, Value};

/// Gradients of a node's operands, by port.
pub(super) type Parts = Vec<(usize, Gradient)>;

/// What `node` sends to its operands. One arm an operator.
pub(super) fn gradients(b: &mut Builder<'_>, node: &Node, dy: Gradient) -> Result<Parts, GraphError> {
    let operands = b.source.operands(node.id);
    let one = |v: Value| vec![(0, plain(v))];
    match node.op.name {
        "conv" | "matmul" => product::gradients(b, node, &operands, dy),
        "batch_norm" => batch_norm::gradients(b, node, &operands, dy.float),
        "quantize_weights" => quantizers::weights(b, node, dy.float),
        "quantize_activation" => quantizers::activation(b, node, dy.float),
        "quantize_gradient" => quantizers::gradient(b, node, dy.float),
        "dropout" => quantizers::dropout(b, node, dy.float).map(one),
        "max_pool" => shapes::pooled(b, node, &operands, dy.float).map(one),
        "average_pool" | "global_average_pool" => shapes::average(b, node, &operands, dy.float).map(one),
        "reshape" => shapes::reshape(b, node, &operands, dy.float).map(one),
        "transpose" => shapes::transpose(b, node, dy.float).map(one),
        "pad" => shapes::pad(b, node, &operands, dy.float).map(one),
        "concat" => shapes::concat(b, node, &operands, dy.float),
        "slice" => shapes::slice_grad(b, node, &operands, dy.float).map(one),
        "take" => shapes::take(b, node, &operands, dy.float).map(one),
        "repeat" => {
            let own = shape(b, node, &operands, 0)?;
            elementwise::gathered(b, node, dy.float, &own).map(one)
        }
        "product" => product::computed(b, node, &operands, dy.float),
        "reduce_max" => shapes::greatest(b, node, &operands, dy.float).map(one),
        "reduce_mean" | "reduce_sum" => shapes::reduce(b, node, &operands, dy.float).map(one),
        "relu" | "leaky_relu" | "clip" => own_operator(b, node, &operands, dy.float).map(one),
        "neg" => b.add("neg", &format!("d{}", node.name), &[dy.float], Attrs::new()).map(one),
        "abs" | "exp" | "log" | "sqrt" | "tanh" | "sigmoid" | "erf" | "softmax" => {
            elementwise::unary(b, node, &operands, dy.float).map(one)
        }
        "add" | "sub" | "mul" | "div" | "min" | "max" | "prelu" | "pow" => {
            elementwise::binary(b, node, &operands, dy.float)
        }
        "select" => elementwise::select(b, node, &operands, dy.float),
        // Steps: what follows decides by them, but learns nothing through them.
        "equal" | "greater" | "greater_equal" | "arg_max" => Ok(Vec::new()),
        "sign" | "step" | "round" => Err(problem(
            node,
            "has the derivative 0, so that nothing before it would learn; quantise with quantize_activation or \
             quantize_weights, which pass the gradient through",
        )),
        _ => Err(problem(node, "has no gradient; rewrite it with operators that have one (compiler/OPERATORS.md)")),
    }
}

fn problem(node: &Node, message: &str) -> GraphError {
    GraphError { name: node.name.clone(), op: node.op.name.to_owned(), message: message.to_owned() }
}

fn missing(node: &Node) -> GraphError {
    problem(node, "lacks an operand")
}

/// A gradient that is no codes.
fn plain(float: Value) -> Gradient {
    Gradient { float, codes: None }
}

/// The shape of an operand in the source.
fn shape(b: &Builder<'_>, node: &Node, operands: &[Value], i: usize) -> Result<Shape, GraphError> {
    let ty = operands.get(i).and_then(|&v| b.source.value_type(v));
    ty.map(|t| t.shape.clone()).ok_or_else(|| missing(node))
}

/// Operators whose derivative is one operator, `OP_grad(dy, x)` with the attributes of OP.
fn own_operator(b: &mut Builder<'_>, node: &Node, operands: &[Value], dy: Value) -> Result<Value, GraphError> {
    let x = b.float(*operands.first().ok_or_else(|| missing(node))?)?;
    b.add(&format!("{}_grad", node.op.name), &format!("d{}", node.name), &[dy, x], node.attrs.clone())
}

/// The same elements in another shape.
fn reshaped(b: &mut Builder<'_>, v: Value, shape: &Shape) -> Result<Value, GraphError> {
    if b.graph.value_type(v).is_some_and(|t| t.shape == *shape) {
        return Ok(v);
    }
    let dims = shape.per_sample().iter().map(|&d| d as i64).collect();
    b.add("reshape", "as_read", &[v], Attrs::new().with("shape", Attr::Ints(dims)))
}
