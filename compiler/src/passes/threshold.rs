//! Fuses everything between an integer convolution and the next quantiser into integer thresholds, by evaluation of the
//! file's own f32 steps, never by algebra (numerics contract, rule 4).
//!
//! ```text
//! before   a = int_conv(u, w)   d = decode(a)   b = batch_norm(d, …)   c = clip(b)   e = round(c)   v = encode(e)
//! after    a = int_conv(u, w)   v = threshold(a, T)        T of shape (O, top + 1)
//! ```

use super::chain::{self, Chain};
use super::{PassError, Report, name_of, op_of};
use crate::graph::types::{AccType, Elem, Shape, ValueType};
use crate::graph::{Graph, NodeId, Value, ops};
use dorefa_runtime::tensor::{Data, Tensor};

/// Greatest code that is fused: 4 bits. Above, running the steps themselves is cheaper.
const TOP: u32 = 15;

/// Fuses thresholds.
///
/// # Errors
/// When the new operator does not fit, which is a bug.
pub fn run(graph: &mut Graph, report: &mut Report) -> Result<(), PassError> {
    for id in graph.order() {
        if op_of(graph, Value { node: id, port: 0 }) == "encode" {
            fuse(graph, id, report)?;
        }
    }
    super::dead::run(graph)
}

fn fuse(graph: &mut Graph, encode: NodeId, report: &mut Report) -> Result<(), PassError> {
    let out = Value { node: encode, port: 0 };
    let Some(top) = graph.value_type(out).and_then(|t| t.codes()).map(|c| c.top) else { return Ok(()) };
    let Some(&level) = graph.operands(encode).first() else { return Ok(()) };
    let steps = chain::before(graph, level, encode);
    let first = steps.nodes.first().copied().unwrap_or(encode);
    if op_of(graph, steps.source) != "decode" || graph.sole_user(steps.source) != Some(first) {
        return Ok(());
    }
    let Some(&source) = graph.operands(steps.source.node).first() else { return Ok(()) };
    let Some(ty) = graph.value_type(source).filter(|t| t.acc().is_some()).cloned() else { return Ok(()) };
    let layer = name_of(graph, source);
    if top > TOP {
        report.note(&layer, format!("keeps its f32 steps because {top} thresholds cost more"));
        return Ok(());
    }
    let table = Probe::new(graph, &steps, encode, &ty, top).ok_or("the steps do not evaluate").and_then(|p| p.table());
    let (channels, rows) = match table {
        Ok(table) => table,
        Err(why) => {
            report.note(&layer, format!("keeps its f32 steps because {why}"));
            return Ok(());
        }
    };
    let (lo, hi) = rows.iter().fold((-1, 1), |(a, b), &v| (v.min(a), v.max(b)));
    let acc = AccType { lo, hi, scale: vec![crate::graph::scale::Scale::ONE].into() };
    let tensor = Tensor::new(vec![channels, top as usize + 1], Data::I64(rows)).map_err(|e| e.to_string())?;
    let t = graph.add_typed_constant(&format!("{layer}_thresholds"), tensor, Elem::Acc(acc));
    let Some(node) = graph.node(encode) else { return Ok(()) };
    let (name, attrs) = (node.name.clone(), node.attrs.clone());
    let new = graph.add(ops::known("threshold"), &format!("{name}_threshold"), &[source, t], attrs)?;
    graph.replace(out, new);
    Ok(())
}

/// The steps as a function from accumulators to codes, all channels at once.
struct Probe<'a> {
    graph: &'a Graph,
    steps: &'a Chain,
    encode: NodeId,
    ty: ValueType,
    lo: i64,
    hi: i64,
    channels: usize,
    top: usize,
    rest: Vec<usize>,
}

impl<'a> Probe<'a> {
    fn new(graph: &'a Graph, steps: &'a Chain, encode: NodeId, ty: &ValueType, top: u32) -> Option<Probe<'a>> {
        let acc = ty.acc()?;
        let channels = ty.shape.image()?.0;
        let rest = if ty.shape.rank() == 4 { vec![channels, 1, 1] } else { vec![channels] };
        let (lo, hi) = (acc.lo, acc.hi);
        let ty = ValueType { shape: Shape::batched(&rest), ..ty.clone() };
        Some(Probe { graph, steps, encode, ty, lo, hi, channels, top: top as usize, rest })
    }

    fn tensor(&self, acc: Vec<i64>) -> Option<Tensor> {
        let mut shape = vec![acc.len() / self.channels];
        shape.extend(&self.rest);
        Tensor::new(shape, Data::I64(acc)).ok()
    }

    /// Codes of accumulators, some rows of one a channel; with `finite`, `None` where a step is not finite.
    fn codes(&self, acc: Vec<i64>, finite: bool) -> Option<Vec<i32>> {
        let x = self.tensor(acc)?;
        let decoded = chain::apply(self.graph.node(self.steps.source.node)?, &x, &self.ty)?;
        let mut all = chain::evaluate(self.graph, self.steps, &decoded.0, &decoded.1)?;
        all.insert(0, decoded);
        if finite && all.iter().any(|(t, _)| t.as_f32().is_none_or(|v| v.iter().any(|v| !v.is_finite()))) {
            return None;
        }
        let (last, ty) = all.last()?;
        let (codes, _) = chain::apply(self.graph.node(self.encode)?, last, ty)?;
        codes.as_i32().map(<[i32]>::to_vec)
    }

    /// Channels and the rows (top thresholds, direction) of the table.
    fn table(&self) -> Result<(usize, Vec<i64>), &'static str> {
        const FAIL: &str = "they are not finite over the accumulator's range";
        let n = self.channels;
        let ends: Vec<i64> = [self.lo, self.hi, 0, 1, -1]
            .iter()
            .flat_map(|&a| std::iter::repeat_n(a.clamp(self.lo, self.hi), n))
            .collect();
        let at_ends = self.codes(ends, true).ok_or(FAIL)?;
        let end = |row: usize, c: usize| at_ends.get(row * n + c).copied().unwrap_or(0);
        let direction: Vec<i64> = (0..n).map(|c| if end(1, c) < end(0, c) { -1 } else { 1 }).collect();
        // For each threshold j and channel: the greatest b known below it and the least known to reach it, b = ±acc.
        let mut below = Vec::new();
        let mut reached = Vec::new();
        for j in 1..=self.top as i32 {
            for (c, &d) in direction.iter().enumerate() {
                let (first, last) = if d > 0 { (self.lo, self.hi) } else { (-self.hi, -self.lo) };
                let (at_first, at_last) = if d > 0 { (end(0, c), end(1, c)) } else { (end(1, c), end(0, c)) };
                let (b, r) = if at_first >= j {
                    (first - 2, first - 1)
                } else if at_last < j {
                    (last, last + 1)
                } else {
                    (first, last)
                };
                below.push(b);
                reached.push(r);
            }
        }
        while below.iter().zip(&reached).any(|(b, r)| r - b > 1) {
            let middle: Vec<i64> = below.iter().zip(&reached).map(|(b, r)| b + (r - b) / 2).collect();
            let acc = middle.iter().enumerate().map(|(i, &m)| m * direction.get(i % n).copied().unwrap_or(1)).collect();
            let codes = self.codes(acc, false).ok_or(FAIL)?;
            for (i, ((b, r), (&m, &u))) in below.iter_mut().zip(&mut reached).zip(middle.iter().zip(&codes)).enumerate()
            {
                if *r - *b > 1 {
                    if u > (i / n) as i32 { *r = m } else { *b = m }
                }
            }
        }
        let rows = direction.iter().enumerate().flat_map(|(c, &d)| {
            let row: Vec<i64> = (0..self.top).filter_map(|j| reached.get(j * n + c).copied()).chain([d]).collect();
            row
        });
        Ok((n, rows.collect()))
    }
}
