//! Makes transposes meet and vanish: networks exported from a channels-last framework keep all layers channels-first.
//!
//! ```text
//! before   t = transpose(x, [0, 2, 3, 1])   r = round(t)   s = mul(r, 2)   y = conv(transpose(s, [0, 3, 1, 2]), w)
//! after    r = round(x)   s = mul(r, 2)   y = conv(s, w)
//!
//! before   t = transpose(u, [0, 2, 3, 1])   a = int_conv(t, w codes)      with a kernel as large as the image
//! after    a = int_conv(u, w codes transposed)
//! ```
//!
//! Transposes sink through element-wise steps until they meet their inverse; what is left over behind the graph's input
//! rises to it. One that only moves extents of 1 is a reshape. Weights of float layers stay: their order is the order of
//! summation.

use super::{PassError, op_of};
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::types::{Dim, Elem};
use crate::graph::{Graph, NodeId, Value, ops};
use dorefa_runtime::tensor::{Data, Tensor};

/// Cancels, sinks and folds transposes.
///
/// # Errors
/// When a moved operator does not fit, which is a bug.
pub fn run(graph: &mut Graph) -> Result<(), PassError> {
    // A transpose sinks past each node at most once; the bound only guards against a mistake here.
    for _ in 0..=graph.len() {
        let mut changed = false;
        for id in graph.order() {
            changed |= merge(graph, id)? || sink(graph, id)? || fold_kernel(graph, id)?;
        }
        super::dead::run(graph)?;
        if !changed {
            break;
        }
    }
    for id in graph.order() {
        rise(graph, id)?;
    }
    super::dead::run(graph)
}

fn perm(graph: &Graph, value: Value) -> Option<Vec<usize>> {
    let node = graph.node(value.node).filter(|n| n.op.name == "transpose")?;
    Some(node.attrs.ints("perm").iter().map(|&p| p as usize).collect())
}

fn perm_attrs(perm: &[usize]) -> Attrs {
    Attrs::new().with("perm", Attr::Ints(perm.iter().map(|&p| p as i64).collect()))
}

fn inverse(perm: &[usize]) -> Vec<usize> {
    (0..perm.len()).filter_map(|i| perm.iter().position(|&p| p == i)).collect()
}

fn operand(graph: &Graph, id: NodeId) -> Option<Value> {
    graph.operands(id).first().copied()
}

fn swap(graph: &mut Graph, id: NodeId, new: Value) {
    graph.replace(Value { node: id, port: 0 }, new);
    if graph.users(Value { node: id, port: 0 }).is_empty() {
        graph.remove(id);
    }
}

/// Joins a transpose or a reshape with the one before it, and makes a reshape of a transpose that only moves extents of 1.
fn merge(graph: &mut Graph, id: NodeId) -> Result<bool, PassError> {
    let value = Value { node: id, port: 0 };
    if op_of(graph, value) == "reshape"
        && let Some(x) = operand(graph, id).filter(|&x| op_of(graph, x) == "reshape")
        && let Some(source) = operand(graph, x.node)
    {
        graph.set_operand(id, 0, source);
        return Ok(true);
    }
    let (Some(outer), Some(x)) = (perm(graph, value), operand(graph, id)) else { return Ok(false) };
    let name = super::name_of(graph, value);
    if let (Some(inner), Some(source)) = (perm(graph, x), operand(graph, x.node)) {
        let both: Vec<usize> = outer.iter().filter_map(|&p| inner.get(p).copied()).collect();
        let new = if both.is_sorted() {
            source
        } else {
            graph.add(ops::known("transpose"), &format!("{name}_joined"), &[source], perm_attrs(&both))?
        };
        swap(graph, id, new);
        return Ok(true);
    }
    let Some(ty) = graph.value_type(x) else { return Ok(false) };
    let moved: Vec<usize> = outer.iter().copied().filter(|&p| ty.shape.0.get(p) != Some(&Dim::Fixed(1))).collect();
    if moved.is_sorted() {
        let Some(shape) = graph.value_type(value).map(|t| t.shape.per_sample()) else { return Ok(false) };
        let attrs = Attrs::new().with("shape", Attr::Ints(shape.iter().map(|&d| d as i64).collect()));
        let new = graph.add(ops::known("reshape"), &format!("{name}_shape"), &[x], attrs)?;
        swap(graph, id, new);
        return Ok(true);
    }
    Ok(false)
}

/// Whether an operator treats every axis alike.
fn axis_free(graph: &Graph, id: NodeId) -> bool {
    graph.node(id).is_some_and(|n| {
        n.op.elementwise
            && n.types.first().is_some_and(|t| t.elem == Elem::F32)
            && !matches!(n.op.name, "batch_norm" | "multi_threshold" | "decode")
    })
}

/// A constant that broadcasts over a value of `rank` axes, made to broadcast over the value before a transpose.
fn permuted(graph: &mut Graph, constant: Value, perm: &[usize]) -> Result<Option<Value>, PassError> {
    let Some(tensor) = graph.constant(constant).cloned() else { return Ok(None) };
    let Some(data) = tensor.as_f32().filter(|_| tensor.shape().len() <= perm.len()) else { return Ok(None) };
    if data.len() == 1 {
        return Ok(Some(constant));
    }
    let mut shape = vec![1; perm.len() - tensor.shape().len()];
    shape.extend(tensor.shape());
    let data = Data::F32(data.to_vec());
    let tensor = Tensor::new(shape, data).ok().and_then(|t| transposed(&t, &inverse(perm)));
    let Some(tensor) = tensor else { return Ok(None) };
    Ok(Some(graph.add_constant(&format!("{}_moved", super::name_of(graph, constant)), tensor)?))
}

fn transposed(tensor: &Tensor, perm: &[usize]) -> Option<Tensor> {
    let from = tensor.shape();
    let shape: Vec<usize> = perm.iter().map(|&p| from.get(p).copied()).collect::<Option<_>>()?;
    let stride = |axis: usize| from.iter().skip(axis + 1).product::<usize>();
    let steps: Vec<usize> = perm.iter().map(|&p| stride(p)).collect();
    let index = |mut i: usize| {
        let mut at = 0;
        for (&d, s) in shape.iter().zip(&steps).rev() {
            at += i % d * s;
            i /= d;
        }
        at
    };
    let all = 0..tensor.len();
    let data = match tensor.data() {
        Data::F32(v) => Data::F32(all.map(|i| v.get(index(i)).copied()).collect::<Option<_>>()?),
        Data::I32(v) => Data::I32(all.map(|i| v.get(index(i)).copied()).collect::<Option<_>>()?),
        _ => return None,
    };
    Tensor::new(shape, data).ok()
}

/// Moves the transposes in front of an element-wise node behind it.
fn sink(graph: &mut Graph, id: NodeId) -> Result<bool, PassError> {
    if !axis_free(graph, id) {
        return Ok(false);
    }
    let operands = graph.operands(id);
    let moving: Vec<Value> = operands.iter().copied().filter(|&v| graph.constant(v).is_none()).collect();
    let Some(perm) = moving.first().and_then(|&v| perm(graph, v)) else { return Ok(false) };
    // A transpose with other readers would have to stay for them.
    let alike = |&v: &Value| {
        self::perm(graph, v).as_ref() == Some(&perm) && !graph.is_output(v) && graph.users(v).iter().all(|u| u.0 == id)
    };
    if !moving.iter().all(alike) {
        return Ok(false);
    }
    let mut inputs = Vec::new();
    for v in operands {
        let new = if graph.constant(v).is_some() { permuted(graph, v, &perm)? } else { operand(graph, v.node) };
        let Some(new) = new else { return Ok(false) };
        inputs.push(new);
    }
    let Some((op, name, attrs)) = graph.node(id).map(|n| (n.op, n.name.clone(), n.attrs.clone())) else {
        return Ok(false);
    };
    let moved = graph.add(op, &format!("{name}_first"), &inputs, attrs)?;
    let back = graph.add(ops::known("transpose"), &format!("{name}_order"), &[moved], perm_attrs(&perm))?;
    swap(graph, id, back);
    Ok(true)
}

/// Moves a transpose in front of the element-wise chain that starts at an input of the graph.
fn rise(graph: &mut Graph, id: NodeId) -> Result<(), PassError> {
    let value = Value { node: id, port: 0 };
    let (Some(perm), Some(end)) = (perm(graph, value), operand(graph, id)) else { return Ok(()) };
    let (mut chain, mut source) = (Vec::new(), end);
    while axis_free(graph, source.node) && graph.users(source).len() == 1 && !graph.is_output(source) {
        let operands = graph.operands(source.node);
        let data: Vec<Value> = operands.iter().copied().filter(|&v| graph.constant(v).is_none()).collect();
        let [next] = *data else { break };
        if graph.value_type(next).map(|t| &t.shape) != graph.value_type(source).map(|t| &t.shape) {
            break;
        }
        chain.push(source.node);
        source = next;
    }
    if chain.is_empty() || op_of(graph, source) != "input" {
        return Ok(());
    }
    let name = super::name_of(graph, value);
    let mut x = graph.add(ops::known("transpose"), &format!("{name}_early"), &[source], perm_attrs(&perm))?;
    for node in chain.into_iter().rev() {
        let mut inputs = Vec::new();
        for v in graph.operands(node) {
            let new = if graph.constant(v).is_some() { permuted(graph, v, &inverse(&perm))? } else { Some(x) };
            let Some(new) = new else { return Ok(()) };
            inputs.push(new);
        }
        let Some((op, name, attrs)) = graph.node(node).map(|n| (n.op, n.name.clone(), n.attrs.clone())) else {
            return Ok(());
        };
        x = graph.add(op, &format!("{name}_late"), &inputs, attrs)?;
    }
    swap(graph, id, x);
    Ok(())
}

/// Folds a transpose into the weights of an exact layer whose kernel is as large as the image.
fn fold_kernel(graph: &mut Graph, id: NodeId) -> Result<bool, PassError> {
    let [x, w] = *graph.operands(id) else { return Ok(false) };
    let Some(node) = graph.node(id).filter(|n| n.op.name == "int_conv") else { return Ok(false) };
    let (name, attrs) = (node.name.clone(), node.attrs.clone());
    let (Some(perm), Some(source)) = (perm(graph, x), operand(graph, x.node)) else { return Ok(false) };
    let (Some(tx), Some(tw)) = (graph.value_type(x), graph.value_type(w).cloned()) else { return Ok(false) };
    let whole = tx.shape.per_sample() == tw.shape.per_sample().get(1..).unwrap_or_default();
    let plain = attrs.int("groups", 1) == 1 && attrs.ints("pads").iter().all(|&p| p == 0);
    let Some(tensor) = graph.constant(w).filter(|_| whole && plain && perm.len() == 4) else { return Ok(false) };
    let Some(tensor) = transposed(tensor, &inverse(&perm)) else { return Ok(false) };
    let w = graph.add_typed_constant(&format!("{}_order", super::name_of(graph, w)), tensor, tw.elem);
    let new = graph.add(ops::known("int_conv"), &format!("{name}_order"), &[source, w], attrs)?;
    swap(graph, id, new);
    Ok(true)
}
