//! The float dialect: quantisers become standard operators and constants.
//!
//! ```text
//! before   c = conv(x, quantize_weights(w, bits=1))       q = quantize_activation(c, bits=2)
//! after    c = conv(x, w_folded)   a = clip(c, lo=0, hi=1)   b = mul(a, 3)   d = round(b)   q = div(d, 3)
//!
//! before   y = step(x)
//! after    a = sign(x)   b = add(a, 0.5)   y = sign(b)
//! ```

use crate::graph::attrs::Attrs;
use crate::graph::{Graph, Value, ops};
use crate::passes::{PassError, dead, fold, recognize};
use dorefa_runtime::tensor::Tensor;

/// The numeric profile of what is computed here: that of the default level.
pub(super) const FMA: bool = true;

/// Rewrites the graph by passes that keep every bit.
///
/// # Errors
/// When an operator refuses its constants.
pub(super) fn rewrite(graph: &mut Graph) -> Result<(), PassError> {
    dead::run(graph)?;
    recognize::run(graph)?;
    fold::run(graph, FMA)?;
    for id in graph.order() {
        let Some(node) = graph.node(id).filter(|n| n.op.name == "step") else { continue };
        let (name, operands) = (node.name.clone(), graph.operands(id));
        // ONNX's Sign is 0 at 0: half a step up makes that 1, and leaves −1 negative.
        let sign = graph.add(ops::known("sign"), &format!("{name}_sign"), &operands, Attrs::new())?;
        let half = graph.add_constant(&format!("{name}_half"), Tensor::scalar(0.5))?;
        let up = graph.add(ops::known("add"), &format!("{name}_up"), &[sign, half], Attrs::new())?;
        let step = graph.add(ops::known("sign"), &format!("{name}_step"), &[up], Attrs::new())?;
        graph.replace(Value { node: id, port: 0 }, step);
        graph.remove(id);
    }
    Ok(())
}
