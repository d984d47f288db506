//! What `lift` changed: the graph before it and the graph after it, layer by layer on equal inputs.
//!
//! `lift` is the only pass that may change a value, so equality is not the test (numerics contract, rule 2). In the graph
//! before it, every value that became codes is cut: its readers get the values of the lifted codes instead. Each layer then
//! starts from equal inputs, and what it computes is turned into codes and compared with the lifted ones. Where a code
//! differs, [`boundaries`] proves that it lies at a boundary of the quantiser, or says which does not.
//!
//! A value in front of which no layer was lifted, such as one that quantises an input of the graph, is made by the same float
//! steps on both sides of `lift`. Nothing may move there, and the proof then demands equal codes.

mod boundaries;
mod cut;
mod sums;
#[cfg(test)]
mod tests;

use super::Failure;
use crate::graph::types::{CodeType, Shape};
use crate::graph::{Graph, Value};
use crate::{interp, passes};
use cut::Cut;
use dorefa_runtime::Tensor;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use boundaries::Unexplained;
pub use sums::FixedLayer;

/// One quantised value.
#[derive(Clone, Debug, PartialEq)]
pub struct LiftedValue {
    /// The value before `lift`.
    pub name: String,
    /// A layer that reads it.
    pub reader: String,
    /// Codes compared.
    pub codes: usize,
    /// Of these, how many differ.
    pub differ: usize,
    /// Greatest difference in codes.
    pub greatest: i64,
    /// How far the sums of the layers before it are off at most, in units of what is allowed, where codes differ.
    pub share: f64,
    /// The first code that differs and lies at no boundary.
    pub unexplained: Option<Unexplained>,
}

/// Every value that became codes, in the order of the layers that read them, and every layer in fixed point.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// The values.
    pub values: Vec<LiftedValue>,
    /// The layers.
    pub fixed: Vec<FixedLayer>,
    /// Integer layers after `lift` whose input was compared with nothing, as no layer before it has their name.
    pub unpaired: Vec<String>,
}

/// What an execution of a graph kept.
type Results = BTreeMap<Value, Arc<Tensor>>;

/// The graphs around `lift`. What both have is the same node by its id.
pub struct Stages {
    /// Before it.
    before: Graph,
    /// After it.
    after: Graph,
}

impl Stages {
    /// Runs the passes on a copy of `graph` and keeps both sides of `lift`.
    ///
    /// # Errors
    /// When the passes fail.
    pub fn new(graph: &Graph, fma: bool) -> Result<Stages, passes::PassError> {
        let (mut work, mut last) = (graph.clone(), graph.clone());
        let mut stages = None;
        passes::run(&mut work, fma, &mut |name, g| {
            if name == "lift" {
                stages = Some(Stages { before: last.clone(), after: g.clone() });
            }
            last = g.clone();
        })?;
        Ok(stages.unwrap_or(Stages { before: graph.clone(), after: graph.clone() }))
    }

    /// The passes other than `lift` that changed a bit of the outputs; there must be none.
    ///
    /// # Errors
    /// When a graph cannot be run on these inputs.
    pub fn unfaithful(
        &self,
        imported: &Graph,
        last: &Graph,
        inputs: &[Tensor],
        fma: bool,
    ) -> Result<Option<&'static str>, Failure> {
        let run = |g: &Graph| interp::run(g, inputs, fma).map_err(Failure::input);
        if !super::verify::same(&run(imported)?, &run(&self.before)?) {
            return Ok(Some("a pass before lift"));
        }
        Ok((!super::verify::same(&run(&self.after)?, &run(last)?)).then_some("a pass after lift"))
    }

    /// What `lift` changed on these inputs, and the proof that it was allowed to.
    ///
    /// # Errors
    /// When a graph cannot be run on these inputs.
    pub fn compare(&self, inputs: &[Tensor], fma: bool) -> Result<Changes, Failure> {
        let (layers, pairs) = (self.layers(), self.pairs());
        let keep = |v: Value| pairs.iter().any(|p| p.codes == v) || layers.iter().any(|l| l.after == v);
        let after = interp::run_all(&self.after, inputs, fma, keep).map_err(Failure::input)?;
        let mut cut = Cut::new(&self.before, inputs, fma);
        for pair in &pairs {
            cut.give(pair.value, pair.decoded(&after)?)?;
        }
        // Fixed-point layers are measured always: a float output may follow them, of which no code tells.
        let mut sums = BTreeMap::new();
        for (i, layer) in layers.iter().enumerate().filter(|(_, l)| l.fixed) {
            sums.insert(i, sums::magnitudes(&mut cut.graph, layer)?);
        }
        let keep = |v: Value| {
            pairs.iter().any(|p| p.value == v) || layers.iter().any(|l| l.before == v) || sums.values().any(|&s| s == v)
        };
        let before = cut.run(keep)?;
        let fixed = sums.iter().filter_map(|(&i, &s)| Some((layers.get(i)?, s)));
        let fixed = fixed.map(|(layer, s)| sums::Sums::new(layer, &before, &after, floats(&before, s)?));
        let fixed = fixed.map(|sums| Ok(sums?.measured())).collect::<Result<_, Failure>>()?;
        let values = pairs.iter().map(|pair| pair.compared(&before, &after)).collect::<Result<Vec<_>, _>>()?;
        let mut changes = Changes { values, fixed, unpaired: self.unpaired(&pairs) };
        let moved = changes.values.iter_mut().zip(&pairs).filter(|(v, _)| v.differ > 0).collect();
        boundaries::prove(&cut, &layers, sums, (before, &after), moved)?;
        Ok(changes)
    }
}

/// A float value and the codes that it became.
struct Pair {
    /// The value before `lift`.
    value: Value,
    /// The codes after it.
    codes: Value,
    ty: CodeType,
    name: String,
    reader: String,
    /// The value's shape.
    shape: Shape,
}

impl Pair {
    /// The values of the codes, in the shape of the value, which may have been flattened.
    fn decoded(&self, after: &Results) -> Result<Tensor, Failure> {
        let scale = scale(&self.ty);
        let codes = codes(after, self.codes)?;
        let values: Vec<f32> = codes.iter().map(|&u| (self.ty.level(u.into()) as f64 * scale) as f32).collect();
        let batch = values.len() / self.sample();
        Tensor::f32(self.shape.concrete(batch), values).map_err(Failure::run)
    }

    /// Elements of a sample.
    fn sample(&self) -> usize {
        self.shape.sample_len().unwrap_or(1).max(1)
    }

    /// The codes before `lift`, nearest to the values that were computed, against those after it.
    fn compared(&self, before: &Results, after: &Results) -> Result<LiftedValue, Failure> {
        let (own, lifted) = (self.own(before, self.value)?, codes(after, self.codes)?);
        if own.len() != lifted.len() {
            return Err(bug(&format!("{} has other codes than before lift in number", self.name)));
        }
        let off = own.iter().zip(lifted).map(|(&own, &u)| (own - i64::from(u)).abs());
        let (differ, greatest) = off.fold((0, 0), |(n, top), d| (n + usize::from(d > 0), top.max(d)));
        Ok(LiftedValue {
            name: self.name.clone(),
            reader: self.reader.clone(),
            codes: lifted.len(),
            differ,
            greatest,
            share: 0.0,
            unexplained: None,
        })
    }

    /// The sample of an element, and its channel, row and column.
    fn place(&self, element: usize) -> (usize, [usize; 3]) {
        let (h, w) = match *self.shape.per_sample() {
            [.., _, h, w] => (h.max(1), w.max(1)),
            _ => (1, 1),
        };
        let within = element % self.sample();
        (element / self.sample(), [within / (h * w), within / w % h, within % w])
    }

    /// The codes whose values are nearest to those of `value`.
    fn own(&self, results: &Results, value: Value) -> Result<Vec<i64>, Failure> {
        let code = |&v: &f32| {
            let u = (f64::from(v) / scale(&self.ty) - f64::from(self.ty.offset)) / f64::from(self.ty.step);
            (u.round_ties_even() as i64).clamp(0, self.ty.top.into())
        };
        Ok(floats(results, value)?.iter().map(code).collect())
    }
}

fn scale(ty: &CodeType) -> f64 {
    ty.scale.first().map_or(1.0, |s| s.to_f64())
}

fn floats(results: &Results, value: Value) -> Result<&[f32], Failure> {
    results.get(&value).and_then(|t| t.as_f32()).ok_or_else(|| bug("a value before lift was not computed"))
}

fn codes(results: &Results, value: Value) -> Result<&[i32], Failure> {
    results.get(&value).and_then(|t| t.as_i32()).ok_or_else(|| bug("codes after lift were not computed"))
}

/// What must not happen, whatever the model.
fn bug(what: &str) -> Failure {
    Failure::run(format!("internal error: {what}; please report this"))
}
