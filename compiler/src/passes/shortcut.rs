//! Fuses a residual add of codes to a layer's sums, and the quantiser behind it, into thresholds for each of the codes.
//!
//! ```text
//! before   a = int_conv(u, w)   d = batch_norm(decode(a), …)   s = add(d, decode(r))   v = encode(round(clip(s)))
//! after    a = int_conv(u, w)   v = residual_threshold(a, r, T)        T of shape (O, R·top + 1), R codes of r
//! ```

use super::chain::{self, Chain};
use super::probe::{self, Probe};
use super::{PassError, Report, name_of, op_of};
use crate::graph::types::{CodeType, Elem, Shape, ValueType};
use crate::graph::{Graph, NodeId, Value, ops};
use dorefa_runtime::tensor::{Data, Tensor};

/// Thresholds an output, over all codes, up to which comparing is cheaper than the steps.
const MOST: usize = 16;

/// Fuses residual adds.
///
/// # Errors
/// When the new operator does not fit, which is a bug.
pub fn run(graph: &mut Graph, report: &mut Report) -> Result<(), PassError> {
    for id in graph.order() {
        if op_of(graph, Value { node: id, port: 0 }) == "encode"
            && let Some(sum) = Sum::before(graph, id)
        {
            fuse(graph, id, &sum, report)?;
        }
    }
    super::dead::run(graph)
}

/// An add of a layer's sums and codes in front of a quantiser.
struct Sum {
    /// The layer's accumulators, and the steps from their decode to the add.
    source: Value,
    steps: Chain,
    /// The codes, and the steps from their decode to the add.
    residual: Value,
    code: CodeType,
    shortcut: Chain,
    /// From the sum to the quantiser.
    tail: Chain,
    top: u32,
}

impl Sum {
    fn before(graph: &Graph, encode: NodeId) -> Option<Sum> {
        let top = graph.value_type(Value { node: encode, port: 0 })?.codes()?.top;
        let tail = chain::before(graph, *graph.operands(encode).first()?, encode);
        let (add, first) = (tail.source, tail.nodes.first().copied().unwrap_or(encode));
        if op_of(graph, add) != "add" || graph.sole_user(add) != Some(first) {
            return None;
        }
        let [a, b] = *graph.operands(add.node) else { return None };
        // What each side decodes, through steps that only this add reads.
        let side = |v: Value| {
            let steps = chain::before(graph, v, add.node);
            let decoded = (op_of(graph, steps.source) == "decode").then(|| graph.operands(steps.source.node))?;
            let [source] = *decoded else { return None };
            Some((source, graph.value_type(source)?.clone(), steps))
        };
        let (a, b) = (side(a)?, side(b)?);
        let ((source, acc, steps), (residual, codes, shortcut)) = if a.1.acc().is_some() { (a, b) } else { (b, a) };
        let code = codes.codes()?.clone();
        let alone = steps.nodes.first().copied().unwrap_or(add.node);
        let fits = acc.acc()?.fits_i32()
            && acc.shape == codes.shape
            && graph.sole_user(steps.source) == Some(alone)
            && ops::residual_thresholds(&code, top) <= MOST;
        fits.then_some(Sum { source, steps, residual, code, shortcut, tail, top })
    }

    /// What code `r` adds, one a channel of a layer whose samples of one element a channel have the extents `sample`.
    fn added(&self, graph: &Graph, r: u32, sample: &[usize]) -> Option<Vec<f32>> {
        let channels = sample.first().copied()?;
        let shape = [&[1], sample].concat();
        let codes = Tensor::new(shape, Data::I32(vec![r as i32; channels])).ok()?;
        let ty = ValueType { elem: Elem::Codes(self.code.clone()), ..ValueType::f32(Shape::batched(sample)) };
        let decoded = chain::apply(graph.node(self.shortcut.source.node)?, &codes, &ty)?;
        let all = chain::evaluate(graph, &self.shortcut, &decoded.0, &decoded.1)?;
        all.last().unwrap_or(&decoded).0.as_f32().map(<[f32]>::to_vec)
    }

    /// The thresholds: for each channel those of each code of the residual, then the direction.
    fn table(&self, graph: &Graph, encode: NodeId) -> Result<Tensor, &'static str> {
        const FAIL: &str = "the steps do not evaluate";
        let ty = graph.value_type(self.source).ok_or(FAIL)?;
        let of_code = |r: u32| {
            let probe = Probe::new(graph, &self.steps, encode, ty, self.top)?;
            let added = self.added(graph, r, probe.sample())?;
            Some(probe.with_sum(added, &self.tail))
        };
        let probes = (0..=self.code.top).map(of_code).collect::<Option<Vec<_>>>().ok_or(FAIL)?;
        probe::table(&probes)
    }
}

fn fuse(graph: &mut Graph, encode: NodeId, sum: &Sum, report: &mut Report) -> Result<(), PassError> {
    let layer = name_of(graph, sum.source);
    match sum.table(graph, encode) {
        Ok(table) => {
            let operator = ("residual_threshold", &[sum.source, sum.residual][..]);
            probe::replace(graph, encode, operator, table, &layer)?;
            report.note(&layer, "residual add in its thresholds");
        }
        Err(why) => report.note(&layer, format!("keeps the f32 steps of its residual add because {why}")),
    }
    Ok(())
}
