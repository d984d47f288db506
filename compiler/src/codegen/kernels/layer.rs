//! A layer with weights as its kernels are asked about it, before any code is emitted: what it computes, where its operands
//! lie, what follows.

use super::KernelError;
use crate::graph::ops::Geometry;
use crate::graph::types::{AccType, CodeType};
use crate::graph::{Graph, Node, NodeId, Value};
use crate::lower::split::{Products, Split, fixed_point, stored};
use crate::lower::{Buffer, Plan, Step};

/// Bytes of weights that stay in the near caches from one pass to the next.
const NEAR: f64 = 1e6;

/// The operators of layers with weights.
pub const OPERATORS: [&str; 3] = ["conv", "matmul", "int_conv"];

/// A layer with weights.
pub struct Layer<'g> {
    pub(super) graph: &'g Graph,
    pub(super) step: &'g Step,
    pub(super) node: NodeId,
    pub(super) g: Geometry,
    /// The numeric profile.
    pub(super) fma: bool,
    /// `None` of a float layer.
    pub(super) codes: Option<Codes<'g>>,
    pub(super) input: &'g Buffer,
    /// Where what it makes lies, before a pool.
    pub(super) result: &'g Buffer,
    /// Where the step's result lies.
    pub(super) stored: &'g Buffer,
    /// Where the codes lie that choose among the thresholds behind it.
    pub(super) residual: Option<&'g Buffer>,
}

/// The operands of an integer layer.
#[derive(Clone, Copy)]
pub(super) struct Codes<'g> {
    pub a: &'g CodeType,
    pub w: &'g CodeType,
    pub acc: &'g AccType,
    /// The weights' codes.
    pub values: &'g [i32],
}

impl<'g> Layer<'g> {
    /// The layer of a step; `None` where its kernel has no weights.
    ///
    /// # Errors
    /// The node that no kernel can run, and why.
    pub fn of(graph: &'g Graph, plan: &'g Plan, step: &'g Step, fma: bool) -> Result<Option<Layer<'g>>, KernelError> {
        let layer = |n: &&Node| OPERATORS.contains(&n.op.name);
        let Some(node) = step.main.and_then(|id| graph.node(id)).filter(layer) else { return Ok(None) };
        let fail = |m: &str| (node.id, m.to_owned());
        let operands = graph.operands(node.id);
        let operand = |i: usize| operands.get(i).copied().ok_or(fail("no operand"));
        let ty = |i: usize| graph.value_type(operand(i)?).ok_or(fail("no operand"));
        let g = Geometry::new(&node.attrs, &ty(0)?.shape, &ty(1)?.shape).map_err(|m| (node.id, m))?;
        let codes = if node.op.name == "int_conv" {
            let code = |i: usize| ty(i)?.codes().ok_or(fail("an operand holds no codes"));
            let values = graph.constant(operand(1)?).and_then(|t| t.as_i32());
            let values = values.ok_or(fail("the weight codes must be constant"))?;
            let acc = node.types.first().and_then(|t| t.acc()).ok_or(fail("the result is no accumulator"))?;
            Some(Codes { a: code(0)?, w: code(1)?, acc, values })
        } else {
            None
        };
        let buffer = |v: Value, m: &str| plan.buffers.get(&v).ok_or(fail(m));
        let input = buffer(stored(graph, operand(0)?), "operand 0 is not in memory")?;
        let result = buffer(step.made, "the result has no place")?;
        let stored_at = buffer(step.result, "the result has no place")?;
        let residual = codes_behind(graph, step).and_then(|c| plan.buffers.get(&c.residual?.0));
        Ok(Some(Layer { graph, step, node: node.id, g, fma, codes, input, result, stored: stored_at, residual }))
    }

    /// Whether the kernel leaves 32-bit accumulators to the chain, and finds all its channels in memory.
    pub(super) fn in_lanes(&self) -> Result<(), String> {
        let own = self.step.source == Value { node: self.node, port: 0 };
        if self.input.image.0 != self.g.channels {
            return Err("it appends a channel to its input".to_owned());
        }
        match self.codes {
            Some(c) if !c.acc.fits_i32() || !own => Err("its accumulators need more than lanes of 32 bits".to_owned()),
            _ => Ok(()),
        }
    }

    /// The levels of the weights; those of channels that `thresholds` say fall, negated.
    pub(super) fn levels(&self, thresholds: Option<(&[i64], usize)>) -> Vec<i64> {
        let Some(codes) = self.codes else { return Vec::new() };
        let mut weights: Vec<i64> = codes.values.iter().map(|&u| codes.w.level(u.into())).collect();
        if let Some((rows, top)) = thresholds {
            for (weights, row) in weights.chunks_mut(self.g.taps().max(1)).zip(rows.chunks(top + 1)) {
                if row.last().is_some_and(|&d| d < 0) {
                    weights.iter_mut().for_each(|w| *w = -*w);
                }
            }
        }
        weights
    }

    /// The weights as digits, negated as `thresholds` say, if all sums are sure to be exact. What bounds alone prove is taken
    /// without a look at the weights where it is `enough`.
    pub(super) fn split(
        &self,
        products: Products,
        thresholds: Option<(&[i64], usize)>,
        enough: impl FnOnce(&Split) -> bool,
    ) -> Option<Split> {
        let codes = self.codes?;
        let greatest = codes.w.levels().0.abs().max(codes.w.levels().1.abs());
        let small = !fixed_point(self.graph, self.node);
        let bounded = small.then(|| Split::bounded(&self.g, greatest, codes.a.levels(), products)).flatten();
        let exact = || Split::new(&self.g, &self.levels(thresholds), codes.a.levels(), products);
        bounded.filter(enough).or_else(exact)
    }

    /// Bits of weights and of activations; 32 of floats.
    pub(super) fn bits(&self) -> [f64; 2] {
        self.codes.map_or([32.0; 2], |c| [c.w.bits().into(), c.a.bits().into()])
    }

    /// Multiply-accumulates of a sample where the channels of a group come by `inner` and its outputs by `outputs`.
    pub(super) fn macs(&self, inner: usize, outputs: usize) -> f64 {
        let g = &self.g;
        let per_group =
            (g.channels / g.groups).next_multiple_of(inner) * (g.outputs / g.groups).next_multiple_of(outputs);
        (g.output[0] * g.output[1] * g.kernel[0] * g.kernel[1] * g.groups * per_group) as f64
    }

    /// Positions of the result.
    pub(super) fn positions(&self) -> f64 {
        (self.g.output[0] * self.g.output[1]) as f64
    }

    /// Cycles of the chain in lanes of four: two for a load, a store and each node.
    pub(super) fn chain(&self) -> f64 {
        self.positions() * self.g.outputs as f64 * (2 + self.step.chain.len()) as f64 / 2.0
    }

    /// Cycles of reading packed weights of so many bits each, `passes` times: 5 bytes a cycle the first time, which only a single
    /// position feels, 16 from a distant cache where the near one does not hold them.
    pub(super) fn reading(&self, bits: f64, passes: f64) -> f64 {
        let bytes = (self.g.taps() * self.g.outputs) as f64 * bits / 8.0;
        match () {
            () if self.positions() <= 1.0 => bytes / 5.0,
            () if bytes > NEAR => bytes * passes / 16.0,
            () => 0.0,
        }
    }
}

/// The rows and the greatest code of a node, if it is a threshold.
pub(super) fn thresholds(graph: &Graph, node: NodeId) -> Option<(&[i64], usize)> {
    let threshold = graph.node(node).filter(|n| n.op.name == "threshold")?;
    let rows = graph.operands(node).get(1).and_then(|&v| graph.constant(v))?.as_i64()?;
    Some((rows, usize::try_from(threshold.attrs.int("top", 1)).ok()?))
}

/// The thresholds that follow, if nothing else does.
pub(super) fn only_thresholds<'g>(graph: &'g Graph, step: &Step) -> Option<(&'g [i64], usize)> {
    let [only] = *step.chain else { return None };
    thresholds(graph, only)
}

/// Codes that a layer's accumulators become by thresholds, if nothing else follows.
pub(super) struct CodesBehind<'g> {
    /// For each output the thresholds, those of each code of the residual in turn, then the direction.
    pub rows: &'g [i64],
    /// The greatest code.
    pub top: usize,
    /// The value that chooses among the thresholds, and how many codes it has.
    pub residual: Option<(Value, usize)>,
}

/// What becomes of a step's accumulators, if it is codes by thresholds.
pub(super) fn codes_behind<'g>(graph: &'g Graph, step: &Step) -> Option<CodesBehind<'g>> {
    if let Some((rows, top)) = only_thresholds(graph, step) {
        return Some(CodesBehind { rows, top, residual: None });
    }
    let [only] = *step.chain else { return None };
    let node = graph.node(only).filter(|n| n.op.name == "residual_threshold")?;
    let [_, residual, table] = *graph.operands(only) else { return None };
    let rows = graph.constant(table)?.as_i64()?;
    let codes = graph.value_type(residual)?.codes()?.top as usize + 1;
    let top = usize::try_from(node.attrs.int("top", 1)).ok()?;
    Some(CodesBehind { rows, top, residual: Some((residual, codes)) })
}

/// Whether a buffer's words hold 64 channels each, all but the last.
pub(super) fn whole_words(b: &Buffer) -> bool {
    b.group == b.image.0 || b.group.is_multiple_of(64)
}

/// The reason `why` where `fits` is not so.
pub(super) fn demand(fits: bool, why: &str) -> Result<(), String> {
    if fits { Ok(()) } else { Err(why.to_owned()) }
}
