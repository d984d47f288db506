//! Parameters of a graph that has no weights file yet, drawn from its seed (`meta seed`, 1 where absent).
//!
//! `graph::draw` says how numbers come from a seed. What is drawn follows from the parameter's first use, or from the end of its name where it is declared alone:
//!
//! | parameter | value |
//! |---|---|
//! | weights (`.w`) | normal / √(inputs of one output) |
//! | bias (`.b`) | 0.1·normal |
//! | γ (`.gamma`), β (`.beta`) | uniform(0.35, 0.65), uniform(0.3, 0.6) |
//! | mean, variance behind a convolution with quantised weights q | ½·Σq, 0.15·Σq² + 10⁻³ of each output |
//! | mean (`.mean`), variance (`.var`) elsewhere | 0.3, 0.6 |
//! | moments of the optimiser | 0 |
//! | codes, accumulators | uniform over their range |
//! | others | 0.1·normal |
//!
//! A training starts from other values ([`training`]), which [`First`] chooses: γ 1, β 0, mean 0, variance 1, and weights and
//! biases of a well-known distribution.
//!
//! With activations in 0 … 1 these statistics spread the next layer's activations over all codes.

use super::build::Use;
use crate::graph::draw::{Draw, hashes, normal, uniform};
use crate::graph::types::{Elem, ValueType};
use crate::graph::{Graph, Value};
use dorefa_runtime::tensor::{Data, Tensor};
use std::collections::BTreeMap;
use std::str::FromStr;

/// Most elements that are drawn for one graph: 512 MiB of floats.
const MOST: usize = 1 << 27;

/// Draws the parameters of one graph.
pub(super) struct Seed {
    seed: u64,
    drawn: usize,
    statistics: BTreeMap<Value, Vec<(f32, f32)>>,
}

impl Default for Seed {
    fn default() -> Seed {
        Seed::new(1)
    }
}

/// The inputs of one output of weights of a shape.
fn fan_in(shape: &[usize]) -> f64 {
    shape.iter().skip(1).product::<usize>().max(1) as f64
}

/// The distribution of the weights and biases with which a training starts; n: the inputs of one output.
///
/// It matters more than for float networks: a 1-bit weight turns when the optimiser has carried it through 0, which takes
/// longer the larger the weights are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum First {
    /// He's: weights normal·√(2/n), biases 0 (He et al. 2015, section 2.2).
    #[default]
    He,
    /// The default of PyTorch's layers: weights and biases uniform(−1/√n, 1/√n).
    Pytorch,
}

impl FromStr for First {
    type Err = String;
    fn from_str(text: &str) -> Result<First, String> {
        match text {
            "he" => Ok(First::He),
            "pytorch" => Ok(First::Pytorch),
            _ => Err(format!("first weights `{text}` are unknown; use one of he, pytorch")),
        }
    }
}

/// How the parameters are drawn with which a training of `graph` starts, by name; constants whose part is unknown keep
/// their value.
pub fn draws(graph: &Graph, first: First) -> BTreeMap<String, Draw> {
    let draw = |node: &crate::graph::Node| {
        let tensor = node.tensor.as_ref().filter(|t| t.as_f32().is_some())?;
        let user = graph.users(Value { node: node.id, port: 0 }).first().copied();
        let usage = user.and_then(|(id, port)| Some((graph.node(id)?.op, usize::from(port), None)));
        Some(match (role(&node.name, usage), first) {
            (Role::Weight, First::He) => Draw::Normal((2.0 / fan_in(tensor.shape())).sqrt()),
            (Role::Weight, First::Pytorch) => Draw::Uniform(1.0 / fan_in(tensor.shape()).sqrt()),
            (Role::Bias, First::Pytorch) => {
                let weights = user.and_then(|(id, _)| graph.operands(id).get(1).copied());
                let shape = weights.and_then(|w| graph.value_type(w)).map(|t| t.shape.per_sample());
                Draw::Uniform(1.0 / fan_in(&shape.unwrap_or_default()).sqrt())
            }
            (Role::Gamma | Role::Variance, _) => Draw::Value(1.0),
            (Role::Other, _) => return None,
            _ => Draw::Value(0.0),
        })
    };
    let constants = graph.order().into_iter().filter_map(|id| graph.node(id));
    constants.filter_map(|node| Some((node.name.clone(), draw(node)?))).collect()
}

/// The parameters from which a training of `graph` starts, by name.
pub fn training(graph: &Graph, seed: u64, first: First) -> BTreeMap<String, Tensor> {
    let draws = draws(graph, first);
    let one = |node: &crate::graph::Node| {
        let tensor = node.tensor.as_ref().filter(|t| t.as_f32().is_some())?;
        match draws.get(&node.name) {
            None => Some((**tensor).clone()),
            Some(draw) => Tensor::f32(tensor.shape(), draw.values(seed, &node.name, tensor.len())).ok(),
        }
    };
    let constants = graph.order().into_iter().filter_map(|id| graph.node(id));
    constants.filter_map(|node| Some((node.name.clone(), one(node)?))).collect()
}

#[derive(Clone, Copy)]
enum Role {
    Weight,
    Bias,
    Gamma,
    Beta,
    Mean,
    Variance,
    Zero,
    Other,
}

fn role(name: &str, usage: Option<Use>) -> Role {
    match usage.map(|(op, i, _)| (op.name, i)) {
        Some(("conv" | "matmul", 1) | ("quantize_weights", 0)) => Role::Weight,
        Some(("conv" | "matmul", 2)) => Role::Bias,
        Some(("batch_norm", 1)) => Role::Gamma,
        Some(("batch_norm", 2)) => Role::Beta,
        Some(("batch_norm", 3)) => Role::Mean,
        Some(("batch_norm", 4)) => Role::Variance,
        Some(("moment" | "moment_squared" | "momentum", 0)) => match name.rsplit('.').next() {
            Some("mean") => Role::Mean,
            Some("var") => Role::Variance,
            _ => Role::Zero,
        },
        _ => match name.rsplit('.').next() {
            Some("w") => Role::Weight,
            Some("b") => Role::Bias,
            Some("gamma") => Role::Gamma,
            Some("beta") => Role::Beta,
            Some("mean") => Role::Mean,
            Some("var") => Role::Variance,
            _ => Role::Other,
        },
    }
}

impl Seed {
    /// From the number of `meta seed`.
    pub fn new(seed: u64) -> Seed {
        Seed { seed, drawn: 0, statistics: BTreeMap::new() }
    }

    /// Draws the data of a constant.
    pub fn tensor(&mut self, graph: &Graph, name: &str, ty: &ValueType, usage: Option<Use>) -> Result<Tensor, String> {
        let shape = ty.shape.per_sample();
        let len = ty.shape.sample_len().filter(|&n| n <= MOST - self.drawn);
        let len = len.ok_or("the parameters are too many to draw them from a seed")?;
        self.drawn += len;
        let hashes = hashes(self.seed, name, len);
        let data = match &ty.elem {
            Elem::F32 => {
                let fan = fan_in(&shape);
                let statistics = |seed: &mut Seed| usage.and_then(|u| seed.behind_convolution(graph, u.2?, len));
                Data::F32(match role(name, usage) {
                    Role::Weight => hashes.map(|h| (normal(h) / fan.sqrt()) as f32).collect(),
                    Role::Bias | Role::Other => hashes.map(|h| (0.1 * normal(h)) as f32).collect(),
                    Role::Zero => vec![0.0; len],
                    Role::Gamma => hashes.map(|h| uniform(h, 0.35, 0.65)).collect(),
                    Role::Beta => hashes.map(|h| uniform(h, 0.3, 0.6)).collect(),
                    Role::Mean => match statistics(self) {
                        Some(s) => s.iter().map(|s| s.0).collect(),
                        None => vec![0.3; len],
                    },
                    Role::Variance => match statistics(self) {
                        Some(s) => s.iter().map(|s| s.1).collect(),
                        None => vec![0.6; len],
                    },
                })
            }
            Elem::Codes(c) => Data::I32(hashes.map(|h| (h % (u64::from(c.top) + 1)) as i32).collect()),
            Elem::Acc(a) => {
                let span = (i128::from(a.hi) - i128::from(a.lo) + 1).max(1);
                Data::I64(hashes.map(|h| (i128::from(a.lo) + i128::from(h) % span) as i64).collect())
            }
        };
        Tensor::new(shape, data).map_err(|e| e.to_string())
    }

    /// Mean and variance to expect of each output of the convolution that `value` comes from.
    fn behind_convolution(&mut self, graph: &Graph, mut value: Value, outputs: usize) -> Option<Vec<(f32, f32)>> {
        while graph.node(value.node)?.op.name == "quantize_gradient" {
            value = *graph.operands(value.node).first()?;
        }
        if !matches!(graph.node(value.node)?.op.name, "conv" | "matmul") {
            return None;
        }
        let weights = *graph.operands(value.node).get(1)?;
        if let Some(known) = self.statistics.get(&weights) {
            return Some(known.clone());
        }
        let folded;
        let tensor = match graph.constant(weights) {
            Some(tensor) => &**tensor,
            None => {
                folded = crate::interp::fold(graph, weights.node, true)?.ok()?;
                &folded
            }
        };
        let data = tensor.as_f32()?;
        let row = data.len().checked_div(outputs).filter(|&r| r > 0 && r * outputs == data.len())?;
        let statistic = |row: &[f32]| {
            let (sum, squares) = row.iter().fold((0f64, 0f64), |(s, q), &w| {
                let w = f64::from(w);
                (s + w, q + w * w)
            });
            ((0.5 * sum) as f32, (0.15 * squares + 1e-3) as f32)
        };
        let statistics: Vec<_> = data.chunks(row).map(statistic).collect();
        self.statistics.insert(weights, statistics.clone());
        Some(statistics)
    }
}
