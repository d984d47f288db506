//! Makes integers of quantised arithmetic: the only pass that may change values (numerics contract, rule 2).
//!
//! ```text
//! before   c = round(b)   q = div(c, 3)                 y = conv(q, w, bias)          w = ±E, folded
//! after    c = round(b)   u = encode(c, top=3, 1/3)     a = int_conv(u, w codes)      d = decode(a)   y = add(d, bias)
//! ```
//!
//! Whole bounded f32 values are levels, and codes that the caller passes, such as pixels, are taken as they are. Multiplying, dividing, adding or subtracting one positive constant is absorbed into
//! their scale and offset as exact rationals; pools and reshapes are applied to the codes instead. Every other reader of
//! such a value gets `decode`. A fully connected layer over a flattened image becomes a convolution with a full kernel.

use super::average;
use super::ranges::{Range, ranges};
use super::recover::{self, Hint};
use super::{PassError, Report, add, fixed, flatten, name_of, op_of, uniform};
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::scale::Scale;
use crate::graph::types::{CodeType, Elem};
use crate::graph::{Graph, NodeId, Value, ops};
use dorefa_runtime::tensor::Tensor;
use std::collections::BTreeMap;

/// Greatest code that is lifted: 8 bits.
const TOP: i64 = 255;

/// A value that is scale·(mul·level + add) for the levels `lo`, `lo + step`, … (`top` steps) of `base`.
#[derive(Clone, Debug, PartialEq)]
struct Affine {
    base: Value,
    /// Whether the base holds codes already, rather than levels as floats.
    given: bool,
    lo: i64,
    step: i64,
    top: i64,
    /// Pools, reshapes and transposes between the base and the value.
    moves: Vec<NodeId>,
    mul: i64,
    add: i64,
    scale: Scale,
}

/// Lifts; `hints` are what the quantisers recorded about weights.
///
/// # Errors
/// When a rewritten operator does not fit, which is a bug.
pub fn run(graph: &mut Graph, hints: &BTreeMap<NodeId, Hint>, report: &mut Report) -> Result<(), PassError> {
    let affine = analyse(graph);
    // What this pass adds must keep reading the values themselves: an encoder's operand is never decoded again.
    let original = graph.order().into_iter().max();
    let mut lifter = Lifter { graph, hints, report, encoded: Vec::new() };
    for (&value, a) in affine.iter().filter(|(_, a)| a.top <= TOP) {
        let readers: Vec<(NodeId, u16)> = lifter
            .graph
            .users(value)
            .into_iter()
            .filter(|(user, _)| Some(*user) <= original && !affine.contains_key(&Value { node: *user, port: 0 }))
            .collect();
        if readers.is_empty() {
            continue;
        }
        let codes = lifter.materialise(a, &name_of(lifter.graph, value))?;
        // What reads given codes in float goes on doing so.
        let mut decoded = (a.given && a.moves.is_empty()).then_some(value);
        for (user, port) in readers {
            let op = op_of(lifter.graph, Value { node: user, port: 0 });
            if port == 0 && matches!(op, "conv" | "matmul") && lifter.layer(user, codes)? {
                continue;
            }
            if average::lift(lifter.graph, user, codes)? {
                continue;
            }
            let d = match decoded {
                Some(d) => d,
                None => add(
                    lifter.graph,
                    "decode",
                    &format!("{}_value", name_of(lifter.graph, value)),
                    &[codes],
                    Attrs::new(),
                )?,
            };
            decoded = Some(d);
            lifter.graph.set_operand(user, port, d);
        }
    }
    for id in lifter.graph.order() {
        lifter.table_layer(id)?;
    }
    let Lifter { graph, report, .. } = lifter;
    for id in graph.order() {
        flatten::run(graph, id)?;
    }
    for id in graph.order() {
        if let Some(node) = graph.node(id).filter(|n| matches!(n.op.name, "conv" | "matmul")) {
            let coded = graph.operands(id).first().is_some_and(|&v| op_of(graph, v) == "decode");
            let why = if coded {
                "neither its weights nor their fixed point fit its codes"
            } else {
                "its input is no code of at most 8 bits"
            };
            let name = node.name.clone();
            report.note(&name, format!("stays float because {why}"));
        }
    }
    super::dead::run(graph)
}

fn analyse(graph: &Graph) -> BTreeMap<Value, Affine> {
    let known = ranges(graph);
    let mut found: BTreeMap<Value, Affine> = BTreeMap::new();
    for id in graph.order() {
        let value = Value { node: id, port: 0 };
        let op = op_of(graph, value);
        if matches!(op, "constant" | "input") || graph.value_type(value).is_none_or(|t| t.elem != Elem::F32) {
            continue;
        }
        if let Some(a) = given(graph, id) {
            found.insert(value, a);
            continue;
        }
        let range = known.get(&value).copied().unwrap_or(Range::ALL);
        if let Some(a) = absorbed(graph, id, &found, &known).or_else(|| source(op, value, range)) {
            found.insert(value, a);
        }
    }
    found
}

/// The value of codes that the graph has already, which `decode` makes: pixels that the caller passes.
fn given(graph: &Graph, id: NodeId) -> Option<Affine> {
    let node = graph.node(id)?;
    let [base] = *graph.operands(id) else { return None };
    let codes = graph.value_type(base).and_then(|t| t.codes()).filter(|_| node.op.name == "decode")?;
    let [scale] = *codes.scale else { return None };
    let (lo, step, top) = (codes.offset.into(), codes.step.into(), codes.top.into());
    Some(Affine { base, given: true, lo, step, top, moves: Vec::new(), mul: 1, add: 0, scale })
}

/// A value whose whole numbers become levels.
fn source(op: &str, base: Value, range: Range) -> Option<Affine> {
    if !(range.whole && range.bounded() && range.lo.abs() < 65536.0 && range.hi - range.lo <= 65535.0) {
        return None;
    }
    let step = if op == "step" { 2 } else { 1 };
    let (lo, hi) = (range.lo as i64, range.hi as i64);
    let top = (hi - lo) / step;
    let scale = Scale::ONE;
    (top >= 1).then_some(Affine { base, given: false, lo, step, top, moves: Vec::new(), mul: 1, add: 0, scale })
}

/// What an operator makes of an affine operand, where it stays affine.
fn absorbed(
    graph: &Graph,
    id: NodeId,
    found: &BTreeMap<Value, Affine>,
    known: &BTreeMap<Value, Range>,
) -> Option<Affine> {
    let node = graph.node(id)?;
    let operands = graph.operands(id);
    let &first = operands.first()?;
    let (x, constant) = match operands.get(1) {
        None => (first, None),
        Some(&second) => match (uniform(graph, first), uniform(graph, second)) {
            (None, Some(c)) => (first, Some(c)),
            (Some(c), None) if matches!(node.op.name, "mul" | "add") => (second, Some(c)),
            _ => return None,
        },
    };
    let mut a = found.get(&x)?.clone();
    let range = known.get(&x).copied()?;
    // A constant of more axes or extents would broadcast the value.
    let same_shape = graph.value_type(x)?.shape == node.types.first()?.shape;
    match (node.op.name, constant) {
        ("max_pool" | "reshape" | "transpose" | "slice", _) => {
            a.moves.push(id);
            return Some(a);
        }
        ("take", _) if !node.attrs.ints("indices").contains(&-1) => {
            a.moves.push(id);
            return Some(a);
        }
        ("relu", _) => return (range.lo >= 0.0).then_some(a),
        ("clip", _) => {
            let inside = range.lo >= node.attrs.float("lo", f32::NEG_INFINITY)
                && range.hi <= node.attrs.float("hi", f32::INFINITY);
            return inside.then_some(a);
        }
        // Given codes keep their scale.
        _ if !same_shape || a.given => return None,
        ("mul", Some(c)) => a.scale = a.scale.times(Scale::from_f32(c)?)?,
        ("div", Some(c)) => a.scale = a.scale.times(Scale::from_f32(c)?.inverse())?,
        ("max", Some(c)) => return (range.lo >= c).then_some(a),
        ("min", Some(c)) => return (range.hi <= c).then_some(a),
        ("add", Some(c)) => shift(&mut a, c)?,
        ("sub", Some(c)) => shift(&mut a, -c)?,
        _ => return None,
    }
    let whole = known.get(&Value { node: id, port: 0 }).is_some_and(|r| r.whole && r.bounded());
    if whole && a.moves.is_empty() {
        // The file's own value is the level: start afresh from it. Its scale is a whole number here.
        let unit = a.scale.integer_ratio(Scale::ONE).map(i64::from)?;
        let (lo, step) = (unit.checked_mul(a.mul * a.lo + a.add)?, unit.checked_mul(a.mul * a.step)?);
        if lo.abs() < 65536 && step < 65536 {
            let base = Value { node: id, port: 0 };
            return Some(Affine { base, given: false, lo, step, mul: 1, add: 0, scale: Scale::ONE, ..a });
        }
    }
    Some(a)
}

/// Adds the constant `c` to an affine value.
fn shift(a: &mut Affine, c: f32) -> Option<()> {
    if c == 0.0 {
        return Some(());
    }
    let exact = Scale::from_f32(c.abs())?;
    let (q, p) = (1..=64u64).find_map(|q| {
        let ratio = exact.times(Scale::ratio(q, 1)?)?.integer_ratio(a.scale)?;
        Some((q as i64, i64::from(ratio)))
    })?;
    a.scale = a.scale.times(Scale::ratio(1, q as u64)?)?;
    a.mul = a.mul.checked_mul(q)?;
    a.add = a.add.checked_mul(q)?.checked_add(if c > 0.0 { p } else { -p })?;
    (a.mul < 1 << 12 && a.add.abs() < 1 << 20).then_some(())
}

struct Lifter<'a> {
    graph: &'a mut Graph,
    hints: &'a BTreeMap<NodeId, Hint>,
    report: &'a mut Report,
    encoded: Vec<(Affine, Value)>,
}

impl Lifter<'_> {
    /// The codes of an affine value.
    fn materialise(&mut self, a: &Affine, name: &str) -> Result<Value, PassError> {
        if let Some((_, codes)) = self.encoded.iter().find(|(known, _)| known == a) {
            return Ok(*codes);
        }
        let codes = match a.moves.split_last() {
            None => self.encode(a, name)?,
            Some((&id, before)) => {
                let inner = self.materialise(&Affine { moves: before.to_vec(), ..a.clone() }, name)?;
                let (op, attrs) = self.graph.node(id).map(|n| (n.op.name, n.attrs.clone())).unwrap_or_default();
                let op = if op == "max_pool" { "code_pool" } else { op };
                add(self.graph, op, &format!("{name}_{op}"), &[inner], attrs)?
            }
        };
        self.encoded.push((a.clone(), codes));
        Ok(codes)
    }

    fn encode(&mut self, a: &Affine, name: &str) -> Result<Value, PassError> {
        if a.given {
            return Ok(a.base);
        }
        let mut level = a.base;
        if a.mul != 1 {
            let c = self.graph.add_constant(&format!("{name}_times"), Tensor::scalar(a.mul as f32))?;
            level = add(self.graph, "mul", &format!("{name}_multiple"), &[level, c], Attrs::new())?;
        }
        if a.add != 0 {
            let c = self.graph.add_constant(&format!("{name}_offset"), Tensor::scalar(a.add as f32))?;
            level = add(self.graph, "add", &format!("{name}_level"), &[level, c], Attrs::new())?;
        }
        let ty = CodeType {
            top: a.top as u32,
            step: (a.mul * a.step) as i32,
            offset: (a.mul * a.lo + a.add) as i32,
            scale: vec![a.scale].into(),
        };
        add(self.graph, "encode", &format!("{name}_codes"), &[level], ops::code_attrs(&ty))
    }

    /// Turns a float layer that reads `codes` into an integer one, in fixed point where its weights are no codes; false
    /// where it must stay float.
    fn layer(&mut self, id: NodeId, codes: Value) -> Result<bool, PassError> {
        let weights = self.graph.operands(id).get(1).and_then(|&w| self.graph.constant(w)).cloned();
        match weights.and_then(|w| self.weight_codes(id, codes, &w)) {
            Some(weights) => self.replace(id, codes, weights),
            None => Ok(false),
        }
    }

    /// Turns a convolution of pixels whose values come by a table into fixed point, if the values are affine in the pixel.
    fn table_layer(&mut self, id: NodeId) -> Result<(), PassError> {
        let operands = self.graph.operands(id);
        let Some((&x, &w)) = operands.first().zip(operands.get(1)) else { return Ok(()) };
        let (pixels, table) = match *self.graph.operands(x.node) {
            [p, t] if op_of(self.graph, x) == "lookup" && self.graph.inputs().contains(&p.node) => (p, t),
            _ => return Ok(()),
        };
        let plain = self.graph.node(id).is_some_and(|n| n.op.name == "conv" && n.attrs.int("groups", 1) == 1);
        let Some(fixed) = self.window(id).filter(|_| plain).and_then(|()| {
            let (weights, table) = (self.graph.constant(w)?, self.graph.constant(table)?);
            fixed::weights_of_values(weights, self.graph.value_type(pixels)?.codes()?, table)
        }) else {
            return Ok(());
        };
        let channels = |v: &[usize]| v.get(1).copied();
        let more = channels(fixed.codes.shape()) != self.graph.constant(w).and_then(|t| channels(t.shape()));
        let codes = match more {
            true => {
                add(self.graph, "append_top", &format!("{}_top", name_of(self.graph, pixels)), &[pixels], Attrs::new())?
            }
            false => pixels,
        };
        self.replace(id, codes, fixed_text(fixed)).map(|_| ())
    }

    /// Puts an integer layer in a float layer's place; false where its operands do not fit.
    fn replace(&mut self, id: NodeId, codes: Value, weights: (Tensor, CodeType, String)) -> Result<bool, PassError> {
        let (data, ty, text) = weights;
        let operands = self.graph.operands(id);
        let Some((node, &weights)) = self.graph.node(id).zip(operands.get(1)) else { return Ok(false) };
        let (name, attrs) = (node.name.clone(), node.attrs.clone());
        let w =
            self.graph.add_typed_constant(&format!("{}_codes", name_of(self.graph, weights)), data, Elem::Codes(ty));
        let acc = match self.graph.add(ops::known("int_conv"), &format!("{name}_int"), &[codes, w], attrs) {
            Ok(acc) => acc,
            Err(e) => {
                self.report.note(&name, format!("stays float because {}", e.message));
                return Ok(false);
            }
        };
        let mut y = add(self.graph, "decode", &format!("{name}_value"), &[acc], Attrs::new())?;
        if let Some(&bias) = operands.get(2) {
            let rank = self.graph.value_type(y).map_or(2, |t| t.shape.rank());
            let bias = broadcast_bias(self.graph, bias, rank)?;
            y = add(self.graph, "add", &format!("{name}_bias"), &[y, bias], Attrs::new())?;
        }
        self.graph.replace(Value { node: id, port: 0 }, y);
        self.graph.remove(id);
        self.report.note(&name, text);
        Ok(true)
    }
}

impl Lifter<'_> {
    /// Codes of a layer's weights, their type, and what to tell about them.
    fn weight_codes(&self, id: NodeId, codes: Value, tensor: &Tensor) -> Option<(Tensor, CodeType, String)> {
        if let Some((data, ty)) = recover::codes(tensor, self.hints.get(&id)) {
            let kind = if ty.step == 2 { "odd" } else { "plain" };
            let how = if self.hints.contains_key(&id) { "exact" } else { "lifted" };
            return Some((data, ty, format!("weights {kind} levels, {how}")));
        }
        self.window(id)?;
        fixed::weights(tensor, self.graph.value_type(codes)?.codes()?).map(fixed_text)
    }

    /// Whether a layer's window is small enough for fixed point.
    fn window(&self, id: NodeId) -> Option<()> {
        let operands = self.graph.operands(id);
        let shape = |i: usize| Some(&self.graph.value_type(*operands.get(i)?)?.shape);
        let g = ops::Geometry::new(&self.graph.node(id)?.attrs, shape(0)?, shape(1)?).ok()?;
        let span = |i: usize| (g.kernel[i] - 1) * g.dilations[i] + 1;
        let window = span(0).checked_mul(span(1))?.checked_mul(g.channels + 1)?;
        (window <= fixed::WINDOW).then_some(())
    }
}

/// Fixed-point weights with what to tell about them.
fn fixed_text(fixed: fixed::Fixed) -> (Tensor, CodeType, String) {
    let text = format!("float weights in fixed point, sums exact; a sum is off by at most {:.1e}", fixed.bound);
    (fixed.codes, fixed.ty, text)
}

/// A bias (O) that broadcasts over a result of `rank` axes.
fn broadcast_bias(graph: &mut Graph, bias: Value, rank: usize) -> Result<Value, PassError> {
    let mut shape: Vec<usize> = graph.value_type(bias).map(|t| t.shape.per_sample()).unwrap_or_default();
    shape.resize(rank - 1, 1);
    match graph.constant(bias).map(|t| (**t).clone()) {
        Some(t) => {
            let t = t.reshape(shape).map_err(|e| e.to_string())?;
            Ok(graph.add_constant(&format!("{}_wide", name_of(graph, bias)), t)?)
        }
        None => {
            let dims = shape.iter().map(|&d| d as i64).collect();
            add(graph, "reshape", "bias_wide", &[bias], Attrs::new().with("shape", Attr::Ints(dims)))
        }
    }
}
