//! Average pools of codes, a part of `lift`: the levels are summed as integers, the division by the number of taps stays a
//! float step (numerics contract, rule 4).
//!
//! ```text
//! before   d = decode(u)      y = average_pool(d, kernel=[2, 2])
//! after    s = sum_pool(u, kernel=[2, 2])      d = decode(s)      y = div(d, 4)
//! ```
//!
//! Where windows hang over the border their numbers of taps differ; the divisor is then an image (1, H, W).

use super::{PassError, add};
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::ops::{self, Window};
use crate::graph::{Graph, NodeId, Value};
use dorefa_runtime::tensor::Tensor;

/// Lifts the pool `id`, which reads the value of `codes`; false where it is no average pool or its sums need over 32 bits.
///
/// # Errors
/// When a new operator does not fit, which is a bug.
pub fn lift(graph: &mut Graph, id: NodeId, codes: Value) -> Result<bool, PassError> {
    let Some((node, ty)) = graph.node(id).zip(graph.value_type(codes)) else { return Ok(false) };
    let (name, whole) = (node.name.clone(), node.attrs.bool("count_padding", false));
    let attrs = match (node.op.name, ty.shape.image()) {
        ("average_pool", Some(_)) => node.attrs.clone(),
        ("global_average_pool", Some((_, h, w))) => Attrs::new().with("kernel", Attr::Ints(vec![h as i64, w as i64])),
        _ => return Ok(false),
    };
    let Ok(window) = Window::new(&attrs, &ty.shape) else { return Ok(false) };
    let Ok(sum) = graph.add(ops::known("sum_pool"), &format!("{name}_sum"), &[codes], attrs) else {
        return Ok(false);
    };
    if graph.value_type(sum).and_then(|t| t.acc()).is_none_or(|a| !a.fits_i32()) {
        graph.remove(sum.node);
        return Ok(false);
    }
    let value = add(graph, "decode", &format!("{name}_total"), &[sum], Attrs::new())?;
    let divisor = divisor(&window, whole).map_err(|e| e.to_string())?;
    let divisor = graph.add_constant(&format!("{name}_taps"), divisor)?;
    let y = add(graph, "div", &format!("{name}_mean"), &[value, divisor], Attrs::new())?;
    graph.replace(Value { node: id, port: 0 }, y);
    graph.remove(id);
    Ok(true)
}

/// The number of taps of each window: a scalar where all have the same.
fn divisor(window: &Window, whole: bool) -> Result<Tensor, dorefa_runtime::tensor::ShapeError> {
    let all = window.kernel[0] * window.kernel[1];
    let mut counts = Vec::new();
    let one = Window { channels: 1, ..window.clone() };
    one.for_each_output(1, |_, taps| counts.push(if whole { all } else { taps.len() } as f32));
    match counts.first() {
        Some(&first) if counts.iter().all(|&c| c == first) => Ok(Tensor::scalar(first)),
        _ => Tensor::f32([1, window.output[0], window.output[1]], counts),
    }
}
