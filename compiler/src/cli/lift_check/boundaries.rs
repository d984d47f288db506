//! The proof that codes which `lift` moved lie at boundaries of their quantiser (numerics contract, rule 2).
//!
//! ```text
//! before    y = conv(q_given, w)   b = batch_norm(y, …)         p = max_pool(b)         c = round(p)
//! proof     y_given                b = batch_norm(y_given, …)   p = max_pool(b)         c = round(p)
//! ```
//!
//! All layers before a value are cut too, and the float steps that the file has behind them are evaluated on sums that each
//! lie within K·2⁻²²·Σ|w||x| of the float layer's own: at the lifted layer's sums, moved back to the end of that
//! interval where they lie outside. If that gives the lifted code and the float layer's sums another, a boundary lies between
//! sums that close, whatever the steps are: falling or rising ones, pools, averages, adds of any number of layers. So nothing
//! need be assumed about the steps, as a comparison of the two ends of the interval would, and it is stricter: steps
//! that `lift` changed by mistake give themselves away even where the ends of the interval have the moved code between them.
//!
//! Float layers that stay float between those sums and the value are evaluated again.

use super::cut::Cut;
use super::sums::{self, Layer, Sums};
use super::{Failure, LiftedValue, Pair, Results, bug, codes, floats};
use crate::graph::Value;
use dorefa_runtime::Tensor;
use std::collections::{BTreeMap, BTreeSet};

/// A code that differs and lies at no boundary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unexplained {
    /// How many codes of the value are so.
    pub count: usize,
    /// Sample of the first.
    pub sample: usize,
    /// Its channel, row and column.
    pub place: [usize; 3],
    /// Its code before `lift`.
    pub before: i64,
    /// Its code after it.
    pub after: i64,
    /// The file's code for the lifted layers' sums, as far as they are allowed.
    pub reached: i64,
    /// The file's codes where all sums are moved down, and up, as far as is allowed.
    pub ends: [i64; 2],
}

/// Completes values of which codes differ with the proof, or with the first code for which there is none. `cut` is the graph
/// whose values that became codes are given; `before` are its results, `after` those of the graph after `lift`; the graph has
/// the magnitudes `known` of some layers already.
///
/// # Errors
/// When a graph cannot be run.
pub fn prove(
    cut: &Cut,
    layers: &[Layer],
    known: BTreeMap<usize, Value>,
    (mut before, after): (Results, &Results),
    moved: Vec<(&mut LiftedValue, &Pair)>,
) -> Result<(), Failure> {
    if moved.is_empty() {
        return Ok(());
    }
    let feeding: Vec<BTreeSet<usize>> = moved.iter().map(|(_, pair)| cut.feeding(pair.value, layers)).collect();
    let needed = feeding.iter().flatten().copied().collect();
    let magnitudes = magnitudes(cut, layers, known, needed, &mut before)?;
    let mut sums = BTreeMap::new();
    for (i, at) in magnitudes {
        let layer = layers.get(i).ok_or_else(|| bug("a layer is gone"))?;
        sums.insert(i, Sums::new(layer, &before, after, floats(&before, at)?)?);
    }
    let wanted = moved.iter().map(|(_, pair)| pair.value).collect();
    let mut proof = Proof { cut, before: &before, sums, wanted, ends: None };
    let reached = proof.evaluated(Sums::towards_lifted)?;
    for ((value, pair), feeding) in moved.into_iter().zip(feeding) {
        let shares = feeding.iter().filter_map(|i| proof.sums.get(i)).map(|s| s.measured().share);
        value.share = shares.fold(0.0, f64::max);
        value.unexplained = proof.unexplained(pair, after, &reached)?;
    }
    Ok(())
}

/// Where the magnitudes of the layers `needed` are, all in `results`: those that are not known are computed there.
fn magnitudes(
    cut: &Cut,
    layers: &[Layer],
    mut known: BTreeMap<usize, Value>,
    needed: BTreeSet<usize>,
    results: &mut Results,
) -> Result<BTreeMap<usize, Value>, Failure> {
    known.retain(|i, _| needed.contains(i));
    let mut cut = cut.clone();
    let mut added = Vec::new();
    for i in needed {
        if known.contains_key(&i) {
            continue;
        }
        let layer = layers.get(i).ok_or_else(|| bug("a layer is gone"))?;
        let at = sums::magnitudes(&mut cut.graph, layer)?;
        known.insert(i, at);
        added.push(at);
    }
    if !added.is_empty() {
        results.extend(cut.only(&added).run(|v| added.contains(&v))?);
    }
    Ok(known)
}

/// What the proof of all values has in common.
struct Proof<'a> {
    cut: &'a Cut,
    /// Results of the cut graph.
    before: &'a Results,
    /// The sums of the layers before the values, by their place.
    sums: BTreeMap<usize, Sums<'a>>,
    /// The values.
    wanted: Vec<Value>,
    /// The values at both ends of what is allowed, once they were asked for.
    ends: Option<[Results; 2]>,
}

impl<'a> Proof<'a> {
    /// The values that the file's own steps make of the sums that `choose` takes.
    fn evaluated(&self, choose: impl Fn(&Sums<'a>) -> Vec<f32>) -> Result<Results, Failure> {
        let mut cut = self.cut.clone();
        for sums in self.sums.values() {
            let shape = self.before.get(&sums.layer.before).map(|t| t.shape()).unwrap_or_default();
            cut.give(sums.layer.before, Tensor::f32(shape, choose(sums)).map_err(Failure::run)?)?;
        }
        cut.only(&self.wanted).run(|v| self.wanted.contains(&v))
    }

    /// The first code of a value that differs and that `reached`, the values at allowed sums, do not have.
    fn unexplained(&mut self, pair: &Pair, after: &Results, reached: &Results) -> Result<Option<Unexplained>, Failure> {
        let (own, reached) = (pair.own(self.before, pair.value)?, pair.own(reached, pair.value)?);
        let lifted: Vec<i64> = codes(after, pair.codes)?.iter().map(|&u| u.into()).collect();
        let each = own.into_iter().zip(reached).zip(lifted).enumerate();
        let mut wrong = each.filter(|(_, ((own, reached), lifted))| own != lifted && reached != lifted);
        let Some((element, ((own, reached), lifted))) = wrong.next() else { return Ok(None) };
        let count = 1 + wrong.count();
        let ends = match self.ends.take() {
            Some(ends) => ends,
            None => [self.evaluated(|s| s.to_the_end(false))?, self.evaluated(|s| s.to_the_end(true))?],
        };
        let end = |results: &Results| Ok(pair.own(results, pair.value)?.get(element).copied().unwrap_or(own));
        let [down, up] = &ends;
        let codes_at_ends = [end(down)?, end(up)?];
        self.ends = Some(ends);
        let (sample, place) = pair.place(element);
        Ok(Some(Unexplained { count, sample, place, before: own, after: lifted, reached, ends: codes_at_ends }))
    }
}
