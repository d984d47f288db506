//! Thresholds of monotone float steps between an integer layer and a quantiser, found by evaluation of the steps themselves,
//! never by algebra (numerics contract, rule 4). All channels are searched at once.

use super::PassError;
use super::chain::{self, Chain};
use crate::graph::scale::Scale;
use crate::graph::types::{AccType, Elem, Shape, ValueType};
use crate::graph::{Graph, NodeId, Value};
use dorefa_runtime::tensor::{Data, Tensor};

/// Why steps have no thresholds.
const NOT_FINITE: &str = "they are not finite over the accumulator's range";

/// The steps as a function from accumulators to codes.
pub struct Probe<'a> {
    graph: &'a Graph,
    /// From the decoded accumulator on.
    steps: &'a Chain,
    /// What is added behind them, one a channel, and the steps behind that.
    sum: Option<(Vec<f32>, &'a Chain)>,
    encode: NodeId,
    ty: ValueType,
    lo: i64,
    hi: i64,
    channels: usize,
    top: usize,
    rest: Vec<usize>,
}

impl<'a> Probe<'a> {
    /// The steps from the decode of an accumulator of type `ty` to `encode`, with codes up to `top`; `None` where the type is
    /// no accumulator's.
    pub fn new(graph: &'a Graph, steps: &'a Chain, encode: NodeId, ty: &ValueType, top: u32) -> Option<Probe<'a>> {
        let acc = ty.acc()?;
        let channels = ty.shape.image()?.0;
        let rest = if ty.shape.rank() == 4 { vec![channels, 1, 1] } else { vec![channels] };
        let (lo, hi) = (acc.lo, acc.hi);
        let ty = ValueType { shape: Shape::batched(&rest), ..ty.clone() };
        Some(Probe { graph, steps, sum: None, encode, ty, lo, hi, channels, top: top as usize, rest })
    }

    /// The same with a value a channel added behind the steps, and more steps behind that.
    pub fn with_sum(self, added: Vec<f32>, tail: &'a Chain) -> Probe<'a> {
        Probe { sum: Some((added, tail)), ..self }
    }

    /// Extents of a sample that has one element a channel.
    pub fn sample(&self) -> &[usize] {
        &self.rest
    }

    fn tensor(&self, data: Data, len: usize) -> Option<Tensor> {
        let mut shape = vec![len / self.channels];
        shape.extend(&self.rest);
        Tensor::new(shape, data).ok()
    }

    /// Codes of accumulators, some rows of one a channel; with `finite`, `None` where a step is not finite.
    fn codes(&self, acc: Vec<i64>, finite: bool) -> Option<Vec<i32>> {
        let rows = acc.len();
        let x = self.tensor(Data::I64(acc), rows)?;
        let decoded = chain::apply(self.graph.node(self.steps.source.node)?, &x, &self.ty)?;
        let mut all = chain::evaluate(self.graph, self.steps, &decoded.0, &decoded.1)?;
        all.insert(0, decoded);
        if let Some((added, tail)) = &self.sum {
            let (x, ty) = all.last()?;
            let sums = x.as_f32()?.iter().zip(added.iter().cycle()).map(|(a, b)| a + b).collect();
            let sums = (self.tensor(Data::F32(sums), rows)?, ty.clone());
            let behind = chain::evaluate(self.graph, tail, &sums.0, &sums.1)?;
            all.push(sums);
            all.extend(behind);
        }
        if finite && all.iter().any(|(t, _)| t.as_f32().is_none_or(|v| v.iter().any(|v| !v.is_finite()))) {
            return None;
        }
        let (last, ty) = all.last()?;
        let (codes, _) = chain::apply(self.graph.node(self.encode)?, last, ty)?;
        codes.as_i32().map(<[i32]>::to_vec)
    }

    /// The codes at both ends of the accumulator's range, least first, a channel.
    ///
    /// # Errors
    /// When a step is not finite there or around 0.
    fn ends(&self) -> Result<[Vec<i32>; 2], &'static str> {
        let probes = [self.lo, self.hi, 0, 1, -1].map(|a| a.clamp(self.lo, self.hi));
        let all = probes.iter().flat_map(|&a| std::iter::repeat_n(a, self.channels)).collect();
        let codes = self.codes(all, true).ok_or(NOT_FINITE)?;
        let mut rows = codes.chunks(self.channels.max(1)).map(<[i32]>::to_vec);
        Ok([rows.next().unwrap_or_default(), rows.next().unwrap_or_default()])
    }

    /// For each of `top` thresholds and each channel of a direction (1, or −1 where codes fall), the least b = ±acc that
    /// reaches it: b·top thresholds of all channels, then the next; beyond the range where all or none reach it.
    ///
    /// # Errors
    /// When a step does not evaluate.
    fn reached(&self, [at_lo, at_hi]: &[Vec<i32>; 2], direction: &[i64]) -> Result<Vec<i64>, &'static str> {
        let n = self.channels;
        let end = |row: &[i32], c: usize| row.get(c).copied().unwrap_or(0);
        // The greatest b known below the threshold and the least known to reach it.
        let mut below = Vec::new();
        let mut reached = Vec::new();
        for j in 1..=self.top as i32 {
            for (c, &d) in direction.iter().enumerate() {
                let (first, last) = if d > 0 { (self.lo, self.hi) } else { (-self.hi, -self.lo) };
                let (at_first, at_last) =
                    if d > 0 { (end(at_lo, c), end(at_hi, c)) } else { (end(at_hi, c), end(at_lo, c)) };
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
            let codes = self.codes(acc, false).ok_or(NOT_FINITE)?;
            for (i, ((b, r), (&m, &u))) in below.iter_mut().zip(&mut reached).zip(middle.iter().zip(&codes)).enumerate()
            {
                if *r - *b > 1 {
                    if u > (i / n) as i32 { *r = m } else { *b = m }
                }
            }
        }
        Ok(reached)
    }
}

/// The thresholds of probes that differ in what is added: for each channel those of each probe in turn, then the direction, which
/// is −1 where the codes of any probe fall.
///
/// # Errors
/// When a step is not finite or does not evaluate.
pub fn table(probes: &[Probe<'_>]) -> Result<Tensor, &'static str> {
    let ends = probes.iter().map(Probe::ends).collect::<Result<Vec<_>, _>>()?;
    let channels = probes.first().map_or(0, |p| p.channels);
    let falls = |c: usize| ends.iter().any(|[lo, hi]| hi.get(c) < lo.get(c));
    let direction: Vec<i64> = (0..channels).map(|c| if falls(c) { -1 } else { 1 }).collect();
    let reached = probes.iter().zip(&ends).map(|(p, ends)| p.reached(ends, &direction));
    let reached = reached.collect::<Result<Vec<_>, _>>()?.concat();
    let row = |(c, &d): (usize, &i64)| reached.iter().skip(c).step_by(channels).copied().chain([d]).collect::<Vec<_>>();
    let rows: Vec<i64> = direction.iter().enumerate().flat_map(row).collect();
    let width = rows.len() / channels.max(1);
    Tensor::new(vec![channels, width], Data::I64(rows)).map_err(|_| "their thresholds make no table")
}

/// Puts `op` of `operands` and a table of thresholds in the place of `encode`; `layer` names the table.
///
/// # Errors
/// When the operator does not fit, which is a bug.
pub fn replace(
    graph: &mut Graph,
    encode: NodeId,
    (op, operands): (&str, &[Value]),
    table: Tensor,
    layer: &str,
) -> Result<(), PassError> {
    let (lo, hi) = table.as_i64().unwrap_or_default().iter().fold((-1, 1), |(a, b), &v| (v.min(a), v.max(b)));
    let acc = AccType { lo, hi, scale: vec![Scale::ONE].into() };
    let t = graph.add_typed_constant(&format!("{layer}_thresholds"), table, Elem::Acc(acc));
    let Some(node) = graph.node(encode) else { return Ok(()) };
    let (name, attrs) = (format!("{}_threshold", node.name), node.attrs.clone());
    let new = super::add(graph, op, &name, &[operands, &[t]].concat(), attrs)?;
    graph.replace(Value { node: encode, port: 0 }, new);
    Ok(())
}
