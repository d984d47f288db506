//! The chain as a lane program: what [`Chain::emit`] does on four lanes, for as many as `lanes::wide` has. What has no form here
//! (tables, scales that differ by channel) stays in four lanes.

use super::{Chain, Constant, Link};
use crate::codegen::emitter::Emitter;
use crate::codegen::lanes::operators;
use crate::codegen::lanes::program::{Access, Compare, Element, Lane, Level, Program, Unary};
use crate::graph::Value as GraphValue;
use crate::graph::types::CodeType;
use cranelift_codegen::ir::{InstBuilder, Value};

/// Records the lanes of another value at the same position, if they have a place in memory that a program can read.
pub type RecordOther<'f> = dyn FnMut(&mut Emitter<'_, '_>, &mut Program, GraphValue) -> Option<Lane> + 'f;

impl Chain<'_> {
    /// Records the chain on `lanes`, which stand for `entry`; `None` where an operator has no form.
    pub fn record(
        &self,
        e: &mut Emitter<'_, '_>,
        p: &mut Program,
        entry: GraphValue,
        lanes: Lane,
        other: &mut RecordOther<'_>,
    ) -> Option<Lane> {
        let (mut value, mut current) = (lanes, entry);
        for link in &self.links {
            let mut inputs = Vec::new();
            for (i, &v) in self.graph.operands(link.id).iter().enumerate() {
                inputs.push(match link.constants.get(i) {
                    _ if v == current => Some(value),
                    Some(Some(Constant::Uniform(v))) => Some(p.float(*v)),
                    Some(Some(Constant::Channel(base))) => Some(by_channel(p, *base, Element::F32, 0)),
                    Some(Some(Constant::Memory)) => Some(other(e, p, v)?),
                    _ if self.graph.constant(v).is_some() => None,
                    _ => Some(other(e, p, v)?),
                });
            }
            value = self.operation(e, p, link, &inputs)?;
            current = GraphValue { node: link.id, port: 0 };
        }
        Some(value)
    }

    fn operation(
        &self,
        e: &mut Emitter<'_, '_>,
        p: &mut Program,
        link: &Link<'_>,
        inputs: &[Option<Lane>],
    ) -> Option<Lane> {
        let node = self.graph.node(link.id)?;
        let x = inputs.first().copied().flatten()?;
        let given: Vec<Lane> = inputs.iter().map_while(|v| *v).collect();
        if let Some(v) = operators::apply(p, link.op, &node.attrs, &given) {
            return Some(v);
        }
        match link.op {
            "batch_norm" => {
                let [scale, offset] = [0, 1].map(|i| link.tables.get(i).map(|&t| by_channel(p, t, Element::F32, 0)));
                let scaled = p.fmul(x, scale?);
                Some(p.fadd(scaled, offset?))
            }
            "threshold" if link.line => {
                let [slope, offset] = [0, 1].map(|i| link.tables.get(i).map(|&t| by_channel(p, t, Element::F32, 0)));
                let acc = p.unary(Unary::ToFloat, x);
                let scaled = p.fmul(acc, slope?);
                let shifted = p.fadd(scaled, offset?);
                let limited = operators::clip(p, shifted, 0.0, node.attrs.int("top", 1) as f32);
                Some(p.unary(Unary::ToInteger, limited))
            }
            "threshold" => threshold(p, link, [x, x], [1, node.attrs.int("top", 1) as usize]),
            "residual_threshold" => {
                let r = inputs.get(1).copied().flatten()?;
                threshold(p, link, [x, r], [link.residual_codes(self.graph)?, node.attrs.int("top", 1) as usize])
            }
            "decode" => {
                let scale = link.scale?;
                let source = self.graph.operands(link.id).first().and_then(|&v| self.graph.value_type(v))?;
                let levels = source.codes().map_or(x, |c| levels(p, c, x));
                if power_of_two(scale) {
                    // Exact but for the rounding to f32, which is the same before and behind it.
                    let (levels, scale) = (p.unary(Unary::ToFloat, levels), p.float(scale as f32));
                    return Some(p.fmul(levels, scale));
                }
                let scale = e.b.ins().f64const(scale);
                Some(p.decode(levels, scale))
            }
            "encode" => Some(encode(p, node.types.first().and_then(|t| t.codes())?, x)),
            _ => None,
        }
    }
}

/// Whether a scale is a power of two by which no level becomes subnormal.
fn power_of_two(scale: f64) -> bool {
    let fraction = scale.to_bits() & ((1 << 52) - 1);
    fraction == 0 && (f64::from(f32::MIN_POSITIVE)..1.0).contains(&scale)
}

/// One element a channel, `origin` bytes behind an address.
fn by_channel(p: &mut Program, base: Value, element: Element, origin: usize) -> Lane {
    p.load(Access { origin, ..Access::channels(base, element) }, Level::Channel)
}

/// How many thresholds the accumulator reaches, times −1 first where the channel falls: of `top` thresholds for each of so
/// many codes those of code `r`.
fn threshold(p: &mut Program, link: &Link<'_>, [mut acc, r]: [Lane; 2], [codes, top]: [usize; 2]) -> Option<Lane> {
    let (table, row) = (*link.tables.first()?, link.channels.next_multiple_of(4) * 4);
    if link.constants.is_empty() {
        let direction = by_channel(p, table, Element::I32, codes * top * row);
        acc = p.imul(acc, direction);
    }
    let (zero, one) = (p.integer(0), p.integer(1));
    let which: Vec<Lane> = (1..codes)
        .map(|k| {
            let k = p.integer(k as i32);
            p.compare(Compare::Equal, r, k)
        })
        .collect();
    let mut code = zero;
    for t in 0..top {
        let mut least = by_channel(p, table, Element::I32, t * row);
        for (k, &mask) in which.iter().enumerate() {
            let other = by_channel(p, table, Element::I32, ((k + 1) * top + t) * row);
            least = p.select(mask, other, least);
        }
        let reached = p.compare(Compare::AtLeast, acc, least);
        let one = p.select(reached, one, zero);
        code = p.iadd(code, one);
    }
    Some(code)
}

/// The levels of codes.
fn levels(p: &mut Program, c: &CodeType, codes: Lane) -> Lane {
    let (step, offset) = (p.integer(c.step), p.integer(c.offset));
    let scaled = if c.step == 1 { codes } else { p.imul(codes, step) };
    p.iadd(scaled, offset)
}

/// Codes of levels that are whole floats. Clipped before they become integers, which gives the same: all bounds are whole.
fn encode(p: &mut Program, c: &CodeType, x: Lane) -> Lane {
    let (offset, step) = (p.float(c.offset as f32), p.float(c.step as f32));
    let shifted = p.fsub(x, offset);
    let u = if c.step == 1 { shifted } else { p.fdiv(shifted, step) };
    let u = operators::clip(p, u, 0.0, c.top as f32);
    p.unary(Unary::ToInteger, u)
}
