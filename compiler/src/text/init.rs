//! Parameters of a graph that has no weights file yet, drawn from its seed (`meta seed`, 1 where absent).
//!
//! Element i of the parameter `name` comes from the hash h = mix(mix(seed + FNV-1a(name)) + i·0x9e3779b97f4a7c15), where
//! mix is the finaliser of SplitMix64: it depends on nothing else, so that every machine draws the same numbers.
//! uniform(lo, hi) = lo + (hi − lo)·(h >> 11)·2⁻⁵³; normal = √3·(sum of the four 16-bit fields of h / 2¹⁶ − 2): mean 0 and
//! variance 1. What is drawn follows from the parameter's first use, or from the end of its name where it is declared alone:
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

fn mix(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d049bb133111eb);
    z ^ z >> 31
}

/// The hashes of the elements of a parameter.
fn hashes(seed: u64, name: &str, len: usize) -> impl Iterator<Item = u64> {
    let fnv = name.bytes().fold(0xcbf29ce484222325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100000001b3));
    let key = mix(seed.wrapping_add(fnv));
    (0..len as u64).map(move |i| mix(key.wrapping_add(i.wrapping_mul(0x9e3779b97f4a7c15))))
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

/// The parameters from which a training of `graph` starts, by name; constants whose part is unknown keep their value.
pub fn training(graph: &Graph, seed: u64, first: First) -> BTreeMap<String, Tensor> {
    let draw = |node: &crate::graph::Node| {
        let tensor = node.tensor.as_ref()?;
        let (shape, len) = (tensor.shape(), tensor.as_f32()?.len());
        let user = graph.users(Value { node: node.id, port: 0 }).first().copied();
        let usage = user.and_then(|(id, port)| Some((graph.node(id)?.op, usize::from(port), None)));
        let within = |inputs: f64| {
            let bound = 1.0 / inputs.sqrt();
            hashes(seed, &node.name, len).map(|h| uniform(h, -bound, bound)).collect()
        };
        let values = match (role(&node.name, usage), first) {
            (Role::Weight, First::He) => {
                let spread = (2.0 / fan_in(shape)).sqrt();
                hashes(seed, &node.name, len).map(|h| (normal(h) * spread) as f32).collect()
            }
            (Role::Weight, First::Pytorch) => within(fan_in(shape)),
            (Role::Bias, First::Pytorch) => {
                let weights = user.and_then(|(id, _)| graph.operands(id).get(1).copied());
                let shape = weights.and_then(|w| graph.value_type(w)).map(|t| t.shape.per_sample());
                within(fan_in(&shape.unwrap_or_default()))
            }
            (Role::Gamma | Role::Variance, _) => vec![1.0; len],
            (Role::Other, _) => return Some((**tensor).clone()),
            _ => vec![0.0; len],
        };
        Tensor::f32(shape, values).ok()
    };
    let constants = graph.order().into_iter().filter_map(|id| graph.node(id));
    constants.filter_map(|node| Some((node.name.clone(), draw(node)?))).collect()
}

fn uniform(h: u64, lo: f64, hi: f64) -> f32 {
    (lo + (hi - lo) * ((h >> 11) as f64 / (1u64 << 53) as f64)) as f32
}

fn normal(h: u64) -> f64 {
    let sum = (h & 0xffff) + (h >> 16 & 0xffff) + (h >> 32 & 0xffff) + (h >> 48);
    3f64.sqrt() * (sum as f64 / 65536.0 - 2.0)
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
