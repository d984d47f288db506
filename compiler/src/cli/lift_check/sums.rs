//! How far a layer's sums may be from those of the float layer: K·2⁻²²·Σ|w||x| for K products (numerics contract, rule 2),
//! and one rounding more where a bias is added.

use super::{Failure, Results, bug, floats};
use crate::graph::attrs::Attrs;
use crate::graph::{Graph, Value, ops};
use dorefa_runtime::Tensor;

/// A layer whose sums became integers: a convolution, a matrix product or an average pool.
pub struct Layer {
    /// Its name.
    pub name: String,
    /// Its float result.
    pub before: Value,
    /// What took that result's place.
    pub after: Value,
    /// Products of a sum.
    pub taps: usize,
    /// Whether its weights became fixed point.
    pub fixed: bool,
    /// Whether a bias is added.
    pub bias: bool,
}

/// A layer whose float weights became fixed point, on the same input before and after.
#[derive(Clone, Debug, PartialEq)]
pub struct FixedLayer {
    /// The layer.
    pub name: String,
    /// Greatest difference of an output.
    pub off: f64,
    /// Greatest difference in units of what is allowed.
    pub share: f64,
}

/// A layer's results on equal inputs before and after `lift`.
pub struct Sums<'a> {
    /// The layer.
    pub layer: &'a Layer,
    before: &'a [f32],
    after: &'a [f32],
    magnitudes: &'a [f32],
}

impl<'a> Sums<'a> {
    /// The results of `layer`; `magnitudes` are its Σ|w||x|.
    ///
    /// # Errors
    /// When they were not computed or differ in number, which is a bug.
    pub fn new(
        layer: &'a Layer,
        before: &'a Results,
        after: &'a Results,
        magnitudes: &'a [f32],
    ) -> Result<Sums<'a>, Failure> {
        let (before, after) = (floats(before, layer.before)?, floats(after, layer.after)?);
        if before.len() != after.len() || before.len() != magnitudes.len() {
            return Err(bug(&format!("the results of {} differ in number", layer.name)));
        }
        Ok(Sums { layer, before, after, magnitudes })
    }

    /// Each result before and after `lift`, and how far they may be apart.
    fn all(&self) -> impl Iterator<Item = (f32, f32, f64)> {
        self.before.iter().zip(self.after).zip(self.magnitudes).map(|((&before, &after), &magnitude)| {
            let rounded = if self.layer.bias { f64::from(before).abs() } else { 0.0 };
            (before, after, (self.layer.taps as f64 * f64::from(magnitude) + rounded) * 2f64.powi(-22))
        })
    }

    /// How far the results are apart at most.
    pub fn measured(&self) -> FixedLayer {
        let (mut off, mut share) = (0f64, 0f64);
        for (before, after, allowed) in self.all() {
            let difference = (f64::from(before) - f64::from(after)).abs();
            off = off.max(difference);
            if difference > 0.0 {
                share = share.max(difference / allowed);
            }
        }
        FixedLayer { name: self.layer.name.clone(), off, share }
    }

    /// The results before `lift`, each moved to the one after it, or as far towards it as is allowed.
    pub fn towards_lifted(&self) -> Vec<f32> {
        self.all().map(|(before, after, allowed)| towards(before, after, allowed)).collect()
    }

    /// The results before `lift`, each moved up as far as is allowed, or down.
    pub fn to_the_end(&self, up: bool) -> Vec<f32> {
        let end = if up { f32::INFINITY } else { f32::NEG_INFINITY };
        self.all().map(|(before, _, allowed)| towards(before, end, allowed)).collect()
    }
}

/// `from`, moved to `to` but by no more than `most`.
pub fn towards(from: f32, to: f32, most: f64) -> f32 {
    let distance = f64::from(to) - f64::from(from);
    if from == to || distance.abs() <= most {
        return to;
    }
    if distance.is_nan() || !most.is_finite() {
        return from;
    }
    let end = (f64::from(from) + most.copysign(distance)) as f32;
    // Rounding must not lead beyond.
    match (f64::from(end) - f64::from(from)).abs() <= most {
        true => end,
        false if end > from => end.next_down(),
        false => end.next_up(),
    }
}

/// Adds Σ|w||x| of a layer. An average pool's weights are those that its own average has.
///
/// # Errors
/// When an operator does not fit, which is a bug.
pub fn magnitudes(graph: &mut Graph, layer: &Layer) -> Result<Value, Failure> {
    let none = || bug(&format!("{} has no operands", layer.name));
    let operands = graph.operands(layer.before.node);
    let &x = operands.first().ok_or_else(none)?;
    let node = graph.node(layer.before.node).ok_or_else(none)?;
    let (op, attrs) = (node.op, node.attrs.clone());
    let table = graph.node(x.node).filter(|n| n.op.name == "lookup").and_then(|n| graph.operands(n.id).get(1).copied());
    let table = table.and_then(|t| graph.constant(t)).and_then(|t| t.as_f32());
    let greatest = table.map(|t| t.iter().fold(0f32, |a, v| a.max(v.abs())));
    let input = graph.add(ops::known("abs"), &format!("{}_input", layer.name), &[x], Attrs::new());
    let mut inputs = vec![input.map_err(Failure::run)?];
    // Pixels with a mean: their terms may cancel, so each counts as the greatest.
    if let Some(greatest) = greatest {
        let greatest = graph.add_constant("greatest", Tensor::scalar(greatest)).map_err(Failure::run)?;
        inputs.push(greatest);
        let input = graph.add(ops::known("max"), "greatest_input", &inputs, Attrs::new()).map_err(Failure::run)?;
        inputs = vec![input];
    }
    if let Some(&w) = operands.get(1) {
        let weights = graph.constant(w).and_then(|t| Some((t.shape().to_vec(), t.as_f32()?))).ok_or_else(none)?;
        let weights = Tensor::f32(weights.0, weights.1.iter().map(|v| v.abs()).collect()).map_err(Failure::run)?;
        inputs.push(graph.add_constant(&format!("{}_magnitude", layer.name), weights).map_err(Failure::run)?);
    }
    graph.add(op, &format!("{}_magnitudes", layer.name), &inputs, attrs).map_err(Failure::run)
}
