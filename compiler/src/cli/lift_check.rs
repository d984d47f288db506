//! What `lift` changed: the graph before it and the graph after it, layer by layer on equal inputs.
//!
//! `lift` is the only pass that may change a value, so equality is not the test. In the graph before it, every value that
//! became codes is cut: its readers get the values of the lifted codes instead. Each layer then starts from equal inputs,
//! and what it computes is turned into codes and counted against the lifted ones.

use super::Failure;
use crate::graph::types::CodeType;
use crate::graph::{Graph, Value};
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

    /// Every value that became codes, in the order of the layers that read them.
    ///
    /// # Errors
    /// When a graph cannot be run on these inputs.
    pub fn compare(&self, inputs: &[Tensor], fma: bool) -> Result<Vec<LiftedValue>, Failure> {
        let pairs = self.pairs();
        let keep = |v: Value| pairs.iter().any(|p| p.codes == v);
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
        let known = self.before.outputs().len();
        let results = interp::run(&cut, &given, fma).map_err(Failure::input)?;
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
        Ok(compared.collect())
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
            let known = pairs.iter().any(|p| p.value == value) || self.before.inputs().contains(&value.node);
            if !known {
                pairs.push(Pair { value, codes, ty, name, reader: node.name.clone() });
            }
        }
        pairs
    }
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
