//! Recovers weight codes: exactly where the graph still records the quantiser (`hints`, before folding), else from the
//! values (`codes`).
//!
//! ```text
//! values   0.3 −0.1 0.1 | 0.6 0.2 −0.6
//! codes    3 −1 1 | 3 1 −3       step 2, offset −3, scales 0.1, 0.2
//! ```

use super::{PassError, name_of, op_of, uniform};
use crate::graph::scale::Scale;
use crate::graph::types::CodeType;
use crate::graph::{Graph, NodeId, Value, ops};
use dorefa_runtime::tensor::{Data, Tensor};
use std::collections::BTreeMap;

/// Greatest level of recovered weights: that of 8-bit DoReFa weights.
const GREATEST: i64 = 255;

/// What a recorded quantiser says about the weights of a layer.
#[derive(Clone, Debug, PartialEq)]
pub enum Hint {
    /// DoReFa's with this many bits, at least 2: odd levels over n.
    Dorefa(i64),
    /// Levels times these f32 scales, one or one an output channel.
    Scales(Vec<f32>),
}

/// Hints by layer, read from the graph before constants are folded.
pub fn hints(graph: &Graph) -> BTreeMap<NodeId, Hint> {
    let mut hints = BTreeMap::new();
    for id in graph.order() {
        if graph.node(id).is_some_and(|n| matches!(n.op.name, "conv" | "matmul"))
            && let Some(&weights) = graph.operands(id).get(1)
            && let Some(hint) = hint(graph, weights)
        {
            hints.insert(id, hint);
        }
    }
    hints
}

fn hint(graph: &Graph, mut value: Value) -> Option<Hint> {
    loop {
        let operands = graph.operands(value.node);
        match op_of(graph, value) {
            "transpose" | "reshape" => value = *operands.first()?,
            "quantize_weights" => {
                let bits = graph.node(value.node)?.attrs.int("bits", 32);
                return (2..=8).contains(&bits).then_some(Hint::Dorefa(bits));
            }
            "quant" | "bipolar_quant" => {
                if let Some(bits) = dorefa_bits(graph, value, &operands) {
                    return Some(Hint::Dorefa(bits));
                }
                let scales = graph.constant(*operands.get(1)?)?.as_f32()?.to_vec();
                return Some(Hint::Scales(scales));
            }
            _ => return None,
        }
    }
}

/// Bits of DoReFa's weights that QONNX's Quant expresses: codes 0 … n about the zero point n/2, at a distance of 2/n.
fn dorefa_bits(graph: &Graph, quant: Value, operands: &[Value]) -> Option<i64> {
    let attrs = &graph.node(quant.node).filter(|n| n.op.name == "quant")?.attrs;
    let (&scale, &zero) = operands.get(1).zip(operands.get(2))?;
    let (bits, n) = (attrs.int("bits", 8), ops::steps(attrs.int("bits", 8)));
    let dorefa = uniform(graph, scale)? == 2.0 / n && uniform(graph, zero)? == n / 2.0;
    let plain = !attrs.bool("signed", true) && !attrs.bool("narrow", false);
    (plain && dorefa && (2..=8).contains(&bits)).then_some(bits)
}

/// Refuses weights that are not finite.
///
/// # Errors
/// Names each layer that has such weights.
pub fn check(graph: &Graph) -> Result<(), PassError> {
    let bad = |id: &NodeId| {
        let weights = graph.operands(*id).get(1).and_then(|&w| graph.constant(w)).and_then(|t| t.as_f32());
        graph.node(*id).is_some_and(|n| matches!(n.op.name, "conv" | "matmul"))
            && weights.is_some_and(|w| w.iter().any(|v| !v.is_finite()))
    };
    let names: Vec<String> = graph
        .order()
        .into_iter()
        .filter(bad)
        .map(|id| format!("{}: its weights are not finite", name_of(graph, Value { node: id, port: 0 })))
        .collect();
    if names.is_empty() { Ok(()) } else { Err(PassError::Input(names.join("\n"))) }
}

/// Codes and code type of a weight tensor whose axis 0 is the output channel; `None` where the values fit no codes.
pub fn codes(weights: &Tensor, hint: Option<&Hint>) -> Option<(Tensor, CodeType)> {
    let w = weights.as_f32()?;
    let outputs = *weights.shape().first()?;
    let row = w.len() / outputs.max(1);
    if row == 0 {
        return None;
    }
    let rows: Vec<&[f32]> = w.chunks(row).collect();
    let found = match hint {
        Some(Hint::Dorefa(bits)) => {
            let n = (1i64 << bits) - 1;
            let levels = exact_levels(&rows, &[1.0 / n as f64], (2.0 * EPSILON) * max_abs(w))?;
            Some((levels, vec![Scale::ratio(1, n as u64)?], Some(n)))
        }
        Some(Hint::Scales(scales)) if scales.len() == 1 || scales.len() == outputs => {
            let s: Option<Vec<Scale>> = scales.iter().map(|&s| Scale::from_f32(s)).collect();
            let f: Vec<f64> = scales.iter().map(|&s| f64::from(s)).collect();
            s.zip(exact_levels(&rows, &f, EPSILON * max_abs(w))).map(|(s, levels)| (levels, s, None))
        }
        _ => None,
    };
    let (levels, scale, n) = match found {
        Some(found) => found,
        None => search(&rows)?,
    };
    build(weights.shape(), levels, scale, n)
}

/// The tolerance of a fit, relative to the greatest magnitude.
const EPSILON: f64 = 4.0 / (1 << 24) as f64;

/// Levels, their scales, and n where they are odd over n. The levels are turned into codes in place: they may be many.
type Fit = (Vec<i32>, Vec<Scale>, Option<i64>);

fn max_abs(w: &[f32]) -> f64 {
    w.iter().fold(0f64, |a, v| a.max(f64::from(v.abs())))
}

fn level(v: f32, scale: f64, tolerance: f64, odd: bool) -> Option<i64> {
    let q = f64::from(v) / scale;
    let c = if odd { 2.0 * ((q - 1.0) / 2.0).round() + 1.0 } else { q.round() };
    (c.abs() <= GREATEST as f64 && (f64::from(v) - scale * c).abs() <= tolerance).then_some(c as i64)
}

fn exact_levels(rows: &[&[f32]], scales: &[f64], tolerance: f64) -> Option<Vec<i32>> {
    let mut out = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let scale = *if scales.len() == 1 { scales.first() } else { scales.get(i) }?;
        for &v in *row {
            out.push(level(v, scale, tolerance, false)? as i32);
        }
    }
    Some(out)
}

/// Most magnitudes of a row: the levels 0 … [`GREATEST`], each rounded in a few ways.
const FEW: usize = 4 * GREATEST as usize;

/// The magnitudes of a row without duplicates, greatest first; `None` where they are too many for codes. Weights are large and
/// their magnitudes few, so none is stored twice. Floats give themselves away within a few hundred values.
fn magnitudes(row: &[f32]) -> Option<Vec<f32>> {
    // Bits of positive floats are ordered as the floats are.
    let mut seen: Vec<u32> = Vec::new();
    for v in row {
        let bits = v.abs().to_bits();
        if let Err(at) = seen.binary_search(&bits) {
            if seen.len() == FEW {
                return None;
            }
            seen.insert(at, bits);
        }
    }
    Some(seen.into_iter().rev().map(f32::from_bits).collect())
}

/// The exact scale under which `magnitudes` are levels up to `n`, odd or plain.
fn fit(magnitudes: &[f32], n: i64, odd: bool) -> Option<Scale> {
    let &top = magnitudes.first()?;
    if top == 0.0 {
        return (!odd).then_some(Scale::ONE);
    }
    let tolerance = EPSILON * f64::from(top);
    let fits = |scale: f64| magnitudes.iter().all(|&v| level(v, scale, tolerance, odd).is_some_and(|c| c.abs() <= n));
    let nth = Scale::ratio(1, n as u64)?;
    if fits(nth.to_f64()) {
        return Some(nth);
    }
    (1..=n).filter(|c| !odd || c % 2 == 1).find_map(|c| {
        let exact = Scale::from_f32(top)?.times(Scale::ratio(1, c as u64)?)?;
        fits(exact.to_f64()).then_some(exact)
    })
}

fn search(rows: &[&[f32]]) -> Option<Fit> {
    let each: Vec<Vec<f32>> = rows.iter().map(|row| magnitudes(row)).collect::<Option<_>>()?;
    let mut all: Vec<f32> = each.iter().flatten().copied().collect();
    all.sort_unstable_by(|a, b| b.total_cmp(a));
    all.dedup();
    if all.iter().all(|v| v.fract() == 0.0 && f64::from(*v) <= GREATEST as f64) && all.iter().any(|&v| v != 1.0) {
        let levels = rows.iter().flat_map(|r| r.iter()).map(|&v| v as i32).collect();
        return Some((levels, vec![Scale::ONE], None));
    }
    for bits in 1..=8 {
        let n = (1i64 << bits) - 1;
        for (odd, n) in [(true, n), (false, if bits == 1 { 1 } else { (1 << (bits - 1)).max(1) })] {
            let scales = match fit(&all, n, odd) {
                Some(one) => vec![one],
                None => match each.iter().map(|m| fit(m, n, odd)).collect::<Option<Vec<_>>>() {
                    Some(many) => many,
                    None => continue,
                },
            };
            let floats: Vec<f64> = scales.iter().map(|s| s.to_f64()).collect();
            let mut levels = Vec::new();
            for (i, row) in rows.iter().enumerate() {
                let scale = *if floats.len() == 1 { floats.first() } else { floats.get(i) }?;
                for &v in *row {
                    levels.push(level(v, scale, f64::INFINITY, odd)? as i32);
                }
            }
            let n = odd
                .then(|| levels.iter().fold(1, |a, c| a.max(c.unsigned_abs())))
                .map(|m| i64::from(m + 1).unsigned_abs().next_power_of_two() as i64 - 1);
            return Some((levels, scales, n));
        }
    }
    None
}

fn build(shape: &[usize], levels: Vec<i32>, scale: Vec<Scale>, odd: Option<i64>) -> Option<(Tensor, CodeType)> {
    let (lo, hi) = (*levels.iter().min()?, *levels.iter().max()?);
    let odd = odd.map(|n| n as i32);
    let all_odd = levels.iter().all(|c| c % 2 != 0);
    let (top, step, offset) = match odd {
        Some(n) => (n, 2, -n),
        None if all_odd && lo >= -1 && hi <= 1 => (1, 2, -1),
        None => ((hi - lo).max(1), 1, lo),
    };
    let codes = levels.into_iter().map(|c| (c - offset) / step).collect();
    let ty = CodeType { top: u32::try_from(top).ok()?, step, offset, scale: scale.into() };
    Some((Tensor::new(shape, Data::I32(codes)).ok()?, ty))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_odd_codes_a_channel() {
        let w = Tensor::f32(vec![2, 3], vec![0.3, -0.1, 0.1, 0.6, 0.2, -0.6]).expect("shape");
        let (codes, ty) = codes(&w, None).expect("codes");
        let levels: Vec<i64> = codes.as_i32().expect("codes").iter().map(|&u| ty.level(u.into())).collect();
        assert_eq!((ty.top, ty.step, ty.offset, ty.scale.len()), (3, 2, -3, 2));
        assert_eq!(levels, [3, -1, 1, 3, 1, -3]);
    }

    #[test]
    fn leaves_floats() {
        let w = Tensor::f32(vec![2, 50], crate::passes::testing::noise(100, 5)).expect("shape");
        assert!(codes(&w, None).is_none());
    }
}
