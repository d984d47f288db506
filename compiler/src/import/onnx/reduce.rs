//! Reductions over axes, and the place of a maximum.

use super::arguments::int;
use super::axes::BATCH;
use super::context::{Fail, Importer, Known};
use super::proto::OnnxNode;
use crate::graph::Value;
use crate::graph::attrs::{Attr, Attrs};

/// Imports the node if it is one of this family.
pub(super) fn handle(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Option<Known>, Fail> {
    // (operator before, reduction, operator behind)
    let steps = match node.op_type.as_str() {
        "ReduceMean" => ("", "reduce_mean", ""),
        "ReduceMax" => ("", "reduce_max", ""),
        "ReduceSum" => ("", "reduce_sum", ""),
        "ReduceMin" => ("neg", "reduce_max", "neg"),
        "ReduceL1" => ("abs", "reduce_sum", ""),
        "ReduceL2" => ("square", "reduce_sum", "sqrt"),
        "ReduceSumSquare" => ("square", "reduce_sum", ""),
        "ReduceLogSum" => ("", "reduce_sum", "log"),
        "ReduceLogSumExp" => ("exp", "reduce_sum", "log"),
        "ArgMax" | "ArgMin" => return arg_max(im, node).map(|v| Some(Known::Value(v))),
        _ => return Ok(None),
    };
    reduce(im, node, steps).map(|v| Some(Known::Value(v)))
}

/// One reduction over a graph's axis, which stays with extent 1.
pub(super) fn over(im: &mut Importer<'_>, node: &OnnxNode, op: &str, x: Value, at: usize) -> Result<Value, Fail> {
    im.add_with(op, node, &[x], Attrs::new().with("axes", Attr::Ints(vec![at as i64])))
}

fn step(im: &mut Importer<'_>, node: &OnnxNode, op: &str, x: Value) -> Result<Value, Fail> {
    match op {
        "" => Ok(x),
        "square" => im.add("mul", node, &[x, x]),
        op => im.add(op, node, &[x]),
    }
}

fn reduce(im: &mut Importer<'_>, node: &OnnxNode, (before, op, behind): (&str, &str, &str)) -> Result<Value, Fail> {
    let mut x = im.input(node, 0)?;
    let axes = im.ints_of(node, "axes", 1)?.unwrap_or_default();
    let nothing = axes.is_empty() && int(node, "noop_with_empty_axes", 0)? != 0;
    let rank = im.dims(x)?.len() as i64;
    let all = if axes.is_empty() { (0..rank).collect() } else { axes };
    x = step(im, node, before, x)?;
    if !nothing && rank > 0 {
        let axes = all.iter().map(|&a| im.axis(x, a).map(|a| a as i64)).collect::<Result<Vec<_>, _>>()?;
        let keep = Attr::Bool(int(node, "keepdims", 1)? != 0);
        x = im.add_with(op, node, &[x], Attrs::new().with("axes", Attr::Ints(axes)).with("keepdims", keep))?;
    }
    step(im, node, behind, x)
}

fn arg_max(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let mut x = im.input(node, 0)?;
    if !im.shape(x)?.has_batch() {
        return Err(format!("reads a constant: {BATCH}").into());
    }
    let at = im.axis(x, int(node, "axis", 0)?)? as i64;
    if node.op_type == "ArgMin" {
        x = im.add("neg", node, &[x])?;
    }
    let attrs = Attrs::new()
        .with("axes", Attr::Ints(vec![at]))
        .with("keepdims", Attr::Bool(int(node, "keepdims", 1)? != 0))
        .with("last", Attr::Bool(int(node, "select_last_index", 0)? != 0));
    im.add_with("arg_max", node, &[x], attrs)
}
