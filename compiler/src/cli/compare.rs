//! Comparing compiled code with the interpreter, step by step: every result that a step stores is decoded from its memory
//! layout and compared with the interpreter's value of the same node.

use super::Failure;
use crate::graph::types::Layout;
use crate::graph::{Graph, Value};
use crate::interp;
use crate::lower::{Buffer, Place, Plan};
use dorefa_runtime::model::LayerEvent;
use dorefa_runtime::{Data, Session, Tensor};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Samples compared at once: the interpreter keeps every step's result of them.
const CHUNK: usize = 16;

/// The first step whose stored result differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Index of the step; that of an output's step where only the output differs.
    pub step: usize,
    /// The node whose value it stores.
    pub node: String,
    /// That node's operator.
    pub op: &'static str,
    /// Sample of the batch.
    pub sample: usize,
    /// Flat index inside the sample, in N,C,H,W order.
    pub element: usize,
    /// Differing elements of the sample.
    pub count: usize,
    /// The interpreter's value there.
    pub want: f64,
    /// The compiled code's.
    pub got: f64,
}

/// What compiled code and interpreter are compared on.
pub struct Subject<'a> {
    /// The lowered graph.
    pub graph: &'a Graph,
    /// Its plan; layer `i` of the session is its step `i`.
    pub plan: &'a Plan,
    /// Whether the session's layers are the plan's steps; else only outputs are compared.
    pub steps: bool,
    /// The numeric profile.
    pub fma: bool,
}

/// Elements as the comparison sees them: f32 by its bits, integers by their value.
#[derive(Clone, Debug, PartialEq)]
pub enum Elements {
    /// Floats.
    F32(Vec<f32>),
    /// Codes or accumulators.
    Int(Vec<i64>),
}

impl Elements {
    fn first_difference(&self, want: &Elements) -> Option<(usize, usize, f64, f64)> {
        match (self, want) {
            (Elements::F32(a), Elements::F32(b)) if a.len() == b.len() => {
                let differ = |a: f32, b: f32| a.to_bits() != b.to_bits() && !(a.is_nan() && b.is_nan());
                let mut all = a.iter().zip(b).enumerate().filter(|(_, (a, b))| differ(**a, **b));
                let (i, (&got, &want)) = all.next()?;
                Some((i, 1 + all.count(), want.into(), got.into()))
            }
            (Elements::Int(a), Elements::Int(b)) if a.len() == b.len() => {
                let mut all = a.iter().zip(b).enumerate().filter(|(_, (a, b))| a != b);
                let (i, (&got, &want)) = all.next()?;
                Some((i, 1 + all.count(), want as f64, got as f64))
            }
            _ => Some((0, 0, f64::NAN, f64::NAN)),
        }
    }
}

/// Sample `i` of a tensor of `batch` samples.
fn sample(tensor: &Tensor, i: usize, batch: usize) -> Option<Elements> {
    let width = tensor.len().checked_div(batch)?;
    let range = i * width..(i + 1) * width;
    Some(match tensor.data() {
        Data::F32(v) => Elements::F32(v.get(range)?.to_vec()),
        Data::I32(v) => Elements::Int(v.get(range)?.iter().map(|&v| v.into()).collect()),
        Data::I64(v) => Elements::Int(v.get(range)?.to_vec()),
        Data::U8(v) => Elements::Int(v.get(range)?.iter().map(|&v| v.into()).collect()),
    })
}

/// Decodes one sample's value from memory to C,H,W order; `None` where the memory is too short.
pub fn decode(buffer: &Buffer, bytes: &[u8]) -> Option<Elements> {
    let (c, h, w) = buffer.image;
    let positions = (0..c).flat_map(|channel| (0..h * w).map(move |p| (channel, p)));
    let word = |at: usize| bytes.get(at * 4..at * 4 + 4)?.try_into().ok().map(u32::from_le_bytes);
    let (group, words) = (buffer.group.max(1), buffer.words());
    let element = |(channel, p): (usize, usize)| match buffer.layout {
        Layout::Dense => word(channel * h * w + p),
        Layout::Nhwc => word(p * buffer.pitch() + channel),
        Layout::Nibbles => {
            let byte = u32::from(*bytes.get(p * (c / 4) + channel / 4)?) >> (channel % 4);
            Some(byte & 1 | (byte >> 4 & 1) << 1)
        }
        Layout::Bits => {
            let at = channel / group * group.div_ceil(64) + channel % group / 64;
            (0..buffer.planes).try_fold(0u32, |code, q| {
                let at = ((p * buffer.planes + q) * words + at) * 8;
                let word = u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?);
                Some(code | ((word >> (channel % group % 64) & 1) as u32) << q)
            })
        }
    };
    let raw: Vec<u32> = positions.map(element).collect::<Option<_>>()?;
    Some(if buffer.integer {
        Elements::Int(raw.into_iter().map(|v| i64::from(v as i32)).collect())
    } else {
        Elements::F32(raw.into_iter().map(f32::from_bits).collect())
    })
}

impl Subject<'_> {
    /// Runs both on `inputs` and gives the first difference in the order of the steps.
    ///
    /// # Errors
    /// When either cannot run.
    pub fn compare(&self, session: &mut Session, inputs: &[Tensor]) -> Result<Option<Difference>, Failure> {
        let batch = inputs.first().and_then(|t| t.shape().first().copied()).unwrap_or(1);
        let mut found: Option<Difference> = None;
        for first in (0..batch).step_by(CHUNK) {
            let end = batch.min(first + CHUNK);
            let part: Option<Vec<_>> = inputs.iter().map(|t| super::engine::rows(t, first, end)).collect();
            let part = part.ok_or_else(|| Failure::input("the inputs' shapes do not fit"))?;
            if let Some(mut d) = self.compare_part(session, &part, end - first)? {
                d.sample += first;
                if found.as_ref().is_none_or(|f| d.step < f.step) {
                    found = Some(d);
                }
            }
        }
        Ok(found)
    }

    fn compare_part(
        &self,
        session: &mut Session,
        inputs: &[Tensor],
        batch: usize,
    ) -> Result<Option<Difference>, Failure> {
        let stored: BTreeMap<Value, usize> = self.plan.steps.iter().enumerate().map(|(i, s)| (s.result, i)).collect();
        let keep = |v: Value| self.graph.is_output(v) || self.steps && stored.contains_key(&v);
        let want = interp::run_all(self.graph, inputs, self.fma, keep).map_err(Failure::input)?;
        let stride = usize::try_from(session.model().descriptor().arena_per_sample).unwrap_or(usize::MAX);
        let offsets: Vec<u64> = session.model().layers().iter().map(|l| l.offset).collect();
        let mut found: Option<Difference> = None;
        let mut look = |event: LayerEvent<'_>| {
            let step = event.layer % self.plan.steps.len().max(1);
            let Some(result) = self.plan.steps.get(step).map(|s| s.result).filter(|_| self.steps) else { return };
            let (Some(buffer), Some(want)) = (self.plan.buffers.get(&result), want.get(&result)) else { return };
            let offset = offsets.get(event.layer).copied().and_then(|o| usize::try_from(o).ok());
            let (Place::Arena(_), Some(offset)) = (buffer.place, offset) else { return };
            for i in 0..event.batch {
                let got = i.checked_mul(stride).and_then(|s| event.arena.get(s.checked_add(offset)?..));
                let got = got.and_then(|bytes| decode(buffer, bytes));
                self.note(&mut found, step, event.first_sample + i, got, sample(want, event.first_sample + i, batch));
            }
        };
        let outputs = session.run_profiled(inputs, &mut look).map_err(super::engine::run_failure)?.0;
        for ((_, value), got) in self.graph.outputs().iter().zip(&outputs) {
            let step = stored.get(value).copied().unwrap_or(self.plan.steps.len());
            let want: Option<&Arc<Tensor>> = want.get(value);
            for i in 0..batch {
                self.note(&mut found, step, i, sample(got, i, batch), want.and_then(|w| sample(w, i, batch)));
            }
        }
        Ok(found)
    }

    /// Keeps the difference if it is the first in order of steps, then samples.
    fn note(
        &self,
        found: &mut Option<Difference>,
        step: usize,
        sample: usize,
        got: Option<Elements>,
        want: Option<Elements>,
    ) {
        if found.as_ref().is_some_and(|f| (f.step, f.sample) <= (step, sample)) {
            return;
        }
        let difference = match (got, want) {
            (Some(got), Some(want)) => got.first_difference(&want),
            _ => Some((0, 0, f64::NAN, f64::NAN)),
        };
        let Some((element, count, want, got)) = difference else { return };
        let node = self.plan.steps.get(step).and_then(|s| self.graph.node(s.result.node));
        *found = Some(Difference {
            step,
            node: node.map_or("an output".to_owned(), |n| n.name.clone()),
            op: node.map_or("", |n| n.op.name),
            sample,
            element,
            count,
            want,
            got,
        });
    }
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
