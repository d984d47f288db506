//! Forward range analysis of f32 values. f32 arithmetic is monotone, so evaluating the operator itself on the ends of its
//! operands' ranges gives true bounds.
//!
//! ```text
//! a = clip(x, lo=0, hi=1)   0 … 1       b = mul(a, 3)   0 … 3       c = round(b)   0 … 3, whole
//! ```

use crate::graph::{Graph, Node, Value, ops};
use std::collections::BTreeMap;

/// What is known of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// Least value, −∞ where unknown.
    pub lo: f32,
    /// Greatest value, +∞ where unknown.
    pub hi: f32,
    /// Whether every finite value is a whole number.
    pub whole: bool,
}

impl Range {
    /// Nothing known.
    pub const ALL: Range = Range { lo: f32::NEG_INFINITY, hi: f32::INFINITY, whole: false };

    /// Whether both ends are finite.
    pub fn bounded(self) -> bool {
        self.lo.is_finite() && self.hi.is_finite()
    }

    /// What holds of both.
    fn join(self, other: Range) -> Range {
        Range { lo: self.lo.min(other.lo), hi: self.hi.max(other.hi), whole: self.whole && other.whole }
    }

    fn map(self, whole: bool, f: impl Fn(f32) -> f32) -> Range {
        let (a, b) = (f(self.lo), f(self.hi));
        if a.is_nan() || b.is_nan() {
            Range { whole, ..Range::ALL }
        } else {
            Range { lo: a.min(b), hi: a.max(b), whole }
        }
    }
}

/// Ranges of all f32 values.
pub fn ranges(graph: &Graph) -> BTreeMap<Value, Range> {
    let mut known: BTreeMap<Value, Range> = BTreeMap::new();
    for id in graph.order() {
        let Some(node) = graph.node(id) else { continue };
        let value = Value { node: id, port: 0 };
        let range = match graph.constant(value).map(|t| t.as_f32()) {
            Some(data) => data.map_or(Range::ALL, of_constant),
            None => {
                let operands: Vec<Range> =
                    graph.operands(id).iter().map(|v| known.get(v).copied().unwrap_or(Range::ALL)).collect();
                let thresholds =
                    graph.operands(id).get(1).and_then(|&v| graph.value_type(v)).map(|t| t.shape.per_sample());
                of_node(node, &operands, thresholds.and_then(|s| s.last().copied()).unwrap_or(0))
            }
        };
        known.insert(value, range);
    }
    known
}

fn of_constant(data: &[f32]) -> Range {
    if data.iter().any(|v| v.is_nan()) {
        return Range::ALL;
    }
    let whole = data.iter().all(|v| v.fract() == 0.0 && v.abs() < 8_388_608.0);
    let lo = data.iter().fold(f32::INFINITY, |a, &b| a.min(b));
    Range { lo, hi: data.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b)), whole }
}

fn corners(a: Range, b: Range, whole: bool, f: impl Fn(f32, f32) -> f32) -> Range {
    let all = [f(a.lo, b.lo), f(a.lo, b.hi), f(a.hi, b.lo), f(a.hi, b.hi)];
    if all.iter().any(|v| v.is_nan()) {
        return Range { whole, ..Range::ALL };
    }
    Range {
        lo: all.iter().fold(f32::INFINITY, |a, &b| a.min(b)),
        hi: all.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b)),
        whole,
    }
}

fn of_node(node: &Node, operands: &[Range], thresholds: usize) -> Range {
    let a = operands.first().copied().unwrap_or(Range::ALL);
    let b = operands.get(1).copied().unwrap_or(Range::ALL);
    let whole = a.whole && b.whole;
    match node.op.name {
        "add" => corners(a, b, whole, |x, y| x + y),
        "sub" => corners(a, b, whole, |x, y| x - y),
        "mul" => corners(a, b, whole, |x, y| x * y),
        "div" if b.lo > 0.0 || b.hi < 0.0 => corners(a, b, whole && b.lo == 1.0 && b.hi == 1.0, |x, y| x / y),
        "min" => Range { lo: a.lo.min(b.lo), hi: a.hi.min(b.hi), whole },
        "max" => Range { lo: a.lo.max(b.lo), hi: a.hi.max(b.hi), whole },
        "neg" => a.map(a.whole, |v| -v),
        "relu" => a.map(a.whole, |v| v.max(0.0)),
        "leaky_relu" if node.attrs.float("alpha", 0.01) >= 0.0 => {
            let alpha = node.attrs.float("alpha", 0.01);
            a.map(false, |v| if v > 0.0 { v } else { alpha * v })
        }
        "abs" => {
            let hi = a.lo.abs().max(a.hi.abs());
            Range { lo: if a.lo <= 0.0 && a.hi >= 0.0 { 0.0 } else { a.lo.abs().min(a.hi.abs()) }, hi, whole: a.whole }
        }
        "clip" => {
            let (lo, hi) = (node.attrs.float("lo", f32::NEG_INFINITY), node.attrs.float("hi", f32::INFINITY));
            let ends = |v: f32| v.is_infinite() || v.fract() == 0.0;
            a.map(a.whole && ends(lo) && ends(hi), |v| (if v > lo { v } else { lo }).min(hi))
        }
        "round" => {
            let mode = node.attrs.word("mode", "half_even");
            a.map(true, |v| ops::round(mode, v))
        }
        "sign" => a.map(true, ops::sign),
        "step" => a.map(true, |v| if v >= 0.0 { 1.0 } else { -1.0 }),
        "multi_threshold" => Range { lo: 0.0, hi: thresholds as f32, whole: true },
        "tanh" | "erf" => Range { lo: -1.0, hi: 1.0, whole: false },
        "sigmoid" | "softmax" => Range { lo: 0.0, hi: 1.0, whole: false },
        "max_pool" | "reshape" | "transpose" | "slice" => a,
        "take" | "pad" => a.join(of_constant(&[node.attrs.float("value", 0.0)])),
        "concat" => operands.iter().skip(1).fold(a, |all, r| all.join(*r)),
        "select" => b.join(operands.get(2).copied().unwrap_or(Range::ALL)),
        "equal" | "greater" | "greater_equal" => Range { lo: 0.0, hi: 1.0, whole: true },
        _ => Range::ALL,
    }
}
