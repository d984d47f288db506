//! What `lift` changed: the graph before it and the graph after it, layer by layer on equal inputs.
//!
//! `lift` is the only pass that may change a value, so equality is not the test. In the graph before it, every value that
//! became codes is cut: its readers get the values of the lifted codes instead. Each layer then starts from equal inputs,
//! and what it computes is turned into codes and counted against the lifted ones.

use super::Failure;
use crate::graph::attrs::Attrs;
use crate::graph::types::CodeType;
use crate::graph::{Graph, Value, ops};
use crate::lower::split;
use crate::{interp, passes};
use dorefa_runtime::Tensor;

/// One quantised value.
#[derive(Clone, Debug, PartialEq, Eq)]
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
}

/// A layer whose float weights became fixed point, on the same input before and after.
#[derive(Clone, Debug, PartialEq)]
pub struct FixedLayer {
    /// The layer.
    pub name: String,
    /// Greatest difference of an output.
    pub off: f64,
    /// Greatest difference in units of what is allowed: K·2⁻²²·Σ|w||x|, and the rounding of a bias.
    pub share: f64,
}

/// The graphs around `lift`.
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

    /// Every value that became codes, in the order of the layers that read them, and every layer in fixed point.
    ///
    /// # Errors
    /// When a graph cannot be run on these inputs.
    pub fn compare(&self, inputs: &[Tensor], fma: bool) -> Result<(Vec<LiftedValue>, Vec<FixedLayer>), Failure> {
        let (pairs, fixed) = (self.pairs(), self.fixed());
        let keep = |v: Value| pairs.iter().any(|p| p.codes == v) || fixed.iter().any(|f| f.after == v);
        let lifted = interp::run_all(&self.after, inputs, fma, keep).map_err(Failure::input)?;
        let mut cut = self.before.clone();
        let mut given = inputs.to_vec();
        for pair in &pairs {
            let (Some(ty), Some(tensor)) = (cut.value_type(pair.value).cloned(), lifted.get(&pair.codes)) else {
                continue;
            };
            let Some(values) = decoded(tensor, &pair.ty, &ty.shape.concrete(batch(inputs))) else { continue };
            let users = cut.users(pair.value);
            let input = cut.add_input(&format!("{}_given", pair.name), ty);
            given.push(values);
            for (user, port) in users {
                cut.set_operand(user, port, input);
            }
            cut.add_output(&pair.name, pair.value);
        }
        for layer in &fixed {
            cut.add_output(&layer.name, layer.before);
            let sums = magnitudes(&mut cut, layer)?;
            cut.add_output(&format!("{}_magnitudes", layer.name), sums);
        }
        let known = self.before.outputs().len();
        let results = interp::run(&cut, &given, fma).map_err(Failure::input)?;
        let result = |name: &str| {
            let found = cut.outputs().iter().zip(&results).skip(known).rev().find(|((n, _), _)| n == name);
            found.and_then(|(_, t)| t.as_f32())
        };
        let measured = fixed.iter().filter_map(|layer| {
            let sums = result(&format!("{}_magnitudes", layer.name))?;
            layer.measure(result(&layer.name)?, lifted.get(&layer.after)?.as_f32()?, sums)
        });
        let measured: Vec<FixedLayer> = measured.collect();
        let compared = cut.outputs().iter().zip(&results).skip(known).filter_map(|((name, _), computed)| {
            let pair = pairs.iter().find(|p| p.name == *name)?;
            let lifted = lifted.get(&pair.codes)?.as_i32()?;
            let own = computed.as_f32()?;
            let off = |(&v, &u): (&f32, &i32)| (nearest(&pair.ty, v) - i64::from(u)).abs();
            let (differ, greatest) =
                own.iter().zip(lifted).map(off).fold((0, 0), |(n, top), d| (n + usize::from(d > 0), top.max(d)));
            let (name, reader) = (pair.name.clone(), pair.reader.clone());
            Some(LiftedValue { name, reader, codes: lifted.len(), differ, greatest })
        });
        Ok((compared.collect(), measured))
    }

    /// Layers that became fixed point.
    fn fixed(&self) -> Vec<Fixed> {
        let named = |name: String| self.after.named(&name).map(|node| Value { node, port: 0 });
        let layers = self.before.order().into_iter().filter_map(|id| {
            let node = self.before.node(id).filter(|n| matches!(n.op.name, "conv" | "matmul"))?;
            let name = &node.name;
            let int = named(format!("{name}_int")).or_else(|| named(format!("{name}_int_full")))?;
            let after = named(format!("{name}_bias")).or_else(|| named(format!("{name}_value")))?;
            let taps = self.after.operands(int.node).get(1).and_then(|&w| self.after.value_type(w))?.shape.per_sample();
            let taps = taps.iter().skip(1).product();
            let before = Value { node: id, port: 0 };
            split::fixed_point(&self.after, int.node).then(|| Fixed { name: name.clone(), before, after, taps })
        });
        layers.collect()
    }

    /// Float values and the codes that they became, found by the layers that read them: `lift` names the integer layer
    /// after the float one.
    fn pairs(&self) -> Vec<Pair> {
        let mut pairs: Vec<Pair> = Vec::new();
        for id in self.before.order() {
            let Some(node) = self.before.node(id).filter(|n| matches!(n.op.name, "conv" | "matmul")) else { continue };
            let names = [format!("{}_int", node.name), format!("{}_int_full", node.name)];
            let lifted = self.after.order().into_iter().filter_map(|id| self.after.node(id));
            let Some(lifted) = lifted.into_iter().find(|n| n.op.name == "int_conv" && names.contains(&n.name)) else {
                continue;
            };
            let (Some(&value), Some(&codes)) =
                (self.before.operands(id).first(), self.after.operands(lifted.id).first())
            else {
                continue;
            };
            let Some(ty) = self.after.value_type(codes).and_then(|t| t.codes()).cloned() else { continue };
            let name = self.before.node(value.node).map_or(String::new(), |n| n.name.clone());
            let given = self.before.inputs().contains(&value.node) || self.after.inputs().contains(&codes.node);
            let known = given || pairs.iter().any(|p| p.value == value);
            if !known {
                pairs.push(Pair { value, codes, ty, name, reader: node.name.clone() });
            }
        }
        pairs
    }
}

struct Fixed {
    name: String,
    before: Value,
    after: Value,
    taps: usize,
}

impl Fixed {
    /// How far the outputs `after` are from those `before`; `sums` are Σ|w||x|.
    fn measure(&self, before: &[f32], after: &[f32], sums: &[f32]) -> Option<FixedLayer> {
        if before.len() != after.len() || before.len() != sums.len() {
            return None;
        }
        let (mut off, mut share) = (0f64, 0f64);
        for ((&b, &a), &sum) in before.iter().zip(after).zip(sums) {
            let difference = (f64::from(b) - f64::from(a)).abs();
            let allowed = (self.taps as f64 * f64::from(sum) + f64::from(b).abs()) * 2f64.powi(-22);
            off = off.max(difference);
            if difference > 0.0 {
                share = share.max(difference / allowed);
            }
        }
        Some(FixedLayer { name: self.name.clone(), off, share })
    }
}

/// Adds Σ|w||x| of a layer.
fn magnitudes(graph: &mut Graph, layer: &Fixed) -> Result<Value, Failure> {
    let bug = || Failure::run(format!("bug: {} has no operands", layer.name));
    let operands = graph.operands(layer.before.node);
    let (&x, &w) = operands.first().zip(operands.get(1)).ok_or_else(bug)?;
    let node = graph.node(layer.before.node).ok_or_else(bug)?;
    let (op, attrs) = (node.op, node.attrs.clone());
    let weights = graph.constant(w).and_then(|t| Some((t.shape().to_vec(), t.as_f32()?))).ok_or_else(bug)?;
    let weights = Tensor::f32(weights.0, weights.1.iter().map(|v| v.abs()).collect()).map_err(Failure::run)?;
    let weights = graph.add_constant(&format!("{}_magnitude", layer.name), weights).map_err(Failure::run)?;
    let table = graph.node(x.node).filter(|n| n.op.name == "lookup").and_then(|n| graph.operands(n.id).get(1).copied());
    let table = table.and_then(|t| graph.constant(t)).and_then(|t| t.as_f32());
    let greatest = table.map(|t| t.iter().fold(0f32, |a, v| a.max(v.abs())));
    let x = graph.add(ops::known("abs"), &format!("{}_input", layer.name), &[x], Attrs::new()).map_err(Failure::run)?;
    // Pixels with a mean: their terms may cancel, so each counts as the greatest.
    let x = match greatest {
        Some(greatest) => {
            let greatest = graph.add_constant("greatest", Tensor::scalar(greatest)).map_err(Failure::run)?;
            graph.add(ops::known("max"), "greatest_input", &[x, greatest], Attrs::new()).map_err(Failure::run)?
        }
        None => x,
    };
    graph.add(op, &format!("{}_magnitudes", layer.name), &[x, weights], attrs).map_err(Failure::run)
}

struct Pair {
    value: Value,
    codes: Value,
    ty: CodeType,
    name: String,
    reader: String,
}

fn batch(inputs: &[Tensor]) -> usize {
    inputs.first().and_then(|t| t.shape().first().copied()).unwrap_or(1)
}

fn scale(ty: &CodeType) -> f64 {
    ty.scale.first().map_or(1.0, |s| s.to_f64())
}

/// The values of codes, in another shape of as many elements.
fn decoded(codes: &Tensor, ty: &CodeType, shape: &[usize]) -> Option<Tensor> {
    let scale = scale(ty);
    let values = codes.as_i32()?.iter().map(|&u| (ty.level(u.into()) as f64 * scale) as f32).collect();
    Tensor::f32(shape, values).ok()
}

/// The code whose value is nearest.
fn nearest(ty: &CodeType, value: f32) -> i64 {
    let u = (f64::from(value) / scale(ty) - f64::from(ty.offset)) / f64::from(ty.step);
    (u.round_ties_even() as i64).clamp(0, ty.top.into())
}
