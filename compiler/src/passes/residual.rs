//! A residual add of two small codes becomes one table look-up.
//!
//! ```text
//! before   s = add(decode(a), decode(b))   c = clip(s)   d = round(c)   u = encode(d)
//! after    u = table_add(a, b, table)
//! ```

use super::chain;
use super::{PassError, Report, name_of, op_of};
use crate::graph::types::{AccType, Elem, Shape, ValueType};
use crate::graph::{Graph, NodeId, Value, ops};
use dorefa_runtime::tensor::{Data, Tensor};

/// Makes tables of residual adds.
///
/// # Errors
/// When the new operator does not fit, which is a bug.
pub fn run(graph: &mut Graph, report: &mut Report) -> Result<(), PassError> {
    for id in graph.order() {
        if op_of(graph, Value { node: id, port: 0 }) != "encode" {
            continue;
        }
        let Some((a, b, sum, table)) = table(graph, id) else { continue };
        let Some(node) = graph.node(id) else { continue };
        let (name, attrs) = (node.name.clone(), node.attrs.clone());
        let acc = AccType { lo: 0, hi: 65535, scale: vec![crate::graph::scale::Scale::ONE].into() };
        let t = graph.add_typed_constant(&format!("{name}_table"), table, Elem::Acc(acc));
        let new = graph.add(ops::known("table_add"), &format!("{name}_add"), &[a, b, t], attrs)?;
        graph.replace(Value { node: id, port: 0 }, new);
        report.note(&name_of(graph, sum), "residual add by a table of both codes");
    }
    super::dead::run(graph)
}

/// Both codes, the sum and the table of an `encode` that follows an add of two small codes.
fn table(graph: &Graph, encode: NodeId) -> Option<(Value, Value, Value, Tensor)> {
    let steps = chain::before(graph, *graph.operands(encode).first()?, encode);
    let sum = steps.source;
    let first = steps.nodes.first().copied().unwrap_or(encode);
    if op_of(graph, sum) != "add" || graph.sole_user(sum) != Some(first) || chain::per_channel(graph, &steps) {
        return None;
    }
    let [left, right] = *graph.operands(sum.node) else { return None };
    let code = |v: Value| {
        let u = (op_of(graph, v) == "decode").then(|| graph.operands(v.node).first().copied())??;
        Some((u, graph.value_type(u)?.codes()?.clone()))
    };
    let ((a, ta), (b, tb)) = (code(left)?, code(right)?);
    if graph.value_type(a)?.shape != graph.value_type(b)?.shape
        || !ops::residual_table(&ta, &tb)
        || ta.scale.len() != 1
        || tb.scale.len() != 1
    {
        return None;
    }
    // One pair of codes a sample; every axis behind the batch has extent 1.
    let (wa, wb) = (ta.top as usize + 1, tb.top as usize + 1);
    let rest = vec![1usize; graph.value_type(sum)?.shape.rank() - 1];
    let shape = |n: usize| std::iter::once(n).chain(rest.iter().copied()).collect::<Vec<usize>>();
    let pairs = |f: &dyn Fn(usize) -> usize| {
        let data = (0..wa * wb).map(|i| f(i) as i32).collect();
        Tensor::new(shape(wa * wb), Data::I32(data)).ok()
    };
    let ty = |c| ValueType { elem: Elem::Codes(c), ..ValueType::f32(Shape::batched(&rest)) };
    let (x, f32_type) = chain::apply(graph.node(left.node)?, &pairs(&|i| i / wb)?, &ty(ta))?;
    let (y, _) = chain::apply(graph.node(right.node)?, &pairs(&|i| i % wb)?, &ty(tb))?;
    let sums = x.as_f32()?.iter().zip(y.as_f32()?).map(|(a, b)| a + b).collect();
    let sums = Tensor::f32(shape(wa * wb), sums).ok()?;
    let all = chain::evaluate(graph, &steps, &sums, &f32_type)?;
    let (last, last_type) = all.last().map_or((&sums, &f32_type), |(t, ty)| (t, ty));
    let (codes, _) = chain::apply(graph.node(encode)?, last, last_type)?;
    let table = codes.as_i32()?.iter().map(|&u| i64::from(u)).collect();
    Some((a, b, sum, Tensor::new(vec![wa, wb], Data::I64(table)).ok()?))
}
