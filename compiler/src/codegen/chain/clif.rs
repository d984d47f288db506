//! The chain on four lanes: four neighbouring channels of one position. It is the reference of [`super::program`].

use super::{Chain, Constant, Link};
use crate::codegen::emitter::{Emitter, F32X4, I32X4};
use crate::codegen::lanes;
use crate::graph::types::CodeType;
use crate::graph::{NodeId, Value as GraphValue};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// Reads the lanes of another value at the same position; the argument is the value.
pub type LoadOther<'f> = dyn FnMut(&mut Emitter<'_, '_>, GraphValue) -> Value + 'f;

impl Chain<'_> {
    /// Runs the chain on `lanes`, which stand for `entry` at channels `channel` … `channel` + 3.
    ///
    /// # Errors
    /// Names the operator that has no lanes form.
    pub fn emit(
        &self,
        e: &mut Emitter<'_, '_>,
        entry: GraphValue,
        lanes: Value,
        channel: Value,
        load: &mut LoadOther<'_>,
    ) -> Result<Value, (NodeId, String)> {
        let (mut value, mut current) = (lanes, entry);
        for link in &self.links {
            let operands = self.graph.operands(link.id);
            let mut inputs = Vec::new();
            for (i, &v) in operands.iter().enumerate() {
                inputs.push(if v == current {
                    Some(value)
                } else if let Some(Some(c)) = link.constants.get(i) {
                    Some(match c {
                        Constant::Memory => load(e, v),
                        Constant::Uniform(v) => e.splat_f32(*v),
                        Constant::Channel(base) => {
                            let at = e.at(*base, channel, 4);
                            e.load(F32X4, at, 0)
                        }
                    })
                } else if self.graph.constant(v).is_some() {
                    None
                } else {
                    Some(load(e, v))
                });
            }
            value = self.operator(e, link, &inputs, channel).map_err(|m| (link.id, m))?;
            current = GraphValue { node: link.id, port: 0 };
        }
        Ok(value)
    }

    fn operator(
        &self,
        e: &mut Emitter<'_, '_>,
        link: &Link<'_>,
        inputs: &[Option<Value>],
        channel: Value,
    ) -> Result<Value, String> {
        let node = self.graph.node(link.id).ok_or("the node does not exist")?;
        let input = |i: usize| inputs.get(i).copied().flatten().ok_or_else(|| format!("operand {i} is not in lanes"));
        let x = input(0)?;
        let attrs = &node.attrs;
        let given: Vec<Value> = inputs.iter().map_while(|v| *v).collect();
        if let Some(v) = lanes::apply(e, link.op, attrs, &given) {
            return Ok(v);
        }
        let table = |i: usize| link.tables.get(i).copied().ok_or("a table is missing");
        Ok(match link.op {
            "batch_norm" => {
                let (s, o) = (e.at(table(0)?, channel, 4), e.at(table(1)?, channel, 4));
                let (s, o) = (e.load(F32X4, s, 0), e.load(F32X4, o, 0));
                let p = e.b.ins().fmul(x, s);
                e.b.ins().fadd(p, o)
            }
            "threshold" if link.line => along(e, [table(0)?, table(1)?], x, channel, attrs.int("top", 1)),
            "threshold" => threshold(e, link, table(0)?, [x, x], channel, [1, attrs.int("top", 1) as usize]),
            "residual_threshold" => {
                let codes = link.residual_codes(self.graph).ok_or("its residual holds no codes")?;
                threshold(e, link, table(0)?, [x, input(1)?], channel, [codes, attrs.int("top", 1) as usize])
            }
            "multi_threshold" => {
                let count = self
                    .graph
                    .operands(link.id)
                    .get(1)
                    .and_then(|&v| self.graph.value_type(v))
                    .map(|t| t.shape.per_sample());
                let count = count.and_then(|s| s.get(1).copied()).ok_or("thresholds have two axes")?;
                multi_threshold(e, table(0)?, x, channel, [count, link.channels.next_multiple_of(4)])
            }
            "decode" => {
                let ty =
                    self.graph.operands(link.id).first().and_then(|&v| self.graph.value_type(v)).ok_or("no operand")?;
                let levels = if let Some(c) = ty.codes() { levels(e, c, x) } else { x };
                decode(e, levels, table(0)?, channel)
            }
            "encode" => {
                let c = node.types.first().and_then(|t| t.codes()).ok_or("encodes to codes")?;
                encode(e, c, x)
            }
            "lookup" => {
                let shape = self.graph.operands(link.id).get(1).and_then(|&v| self.graph.value_type(v));
                let [rows, width] = *shape.ok_or("no table")?.shape.per_sample() else {
                    return Err("no table".to_owned());
                };
                lookup(e, table(0)?, x, channel, [rows, width])
            }
            "table_add" => {
                let ty =
                    self.graph.operands(link.id).get(1).and_then(|&v| self.graph.value_type(v)).and_then(|t| t.codes());
                let width = ty.ok_or("adds codes")?.top as i32 + 1;
                table_add(e, table(0)?, x, input(1)?, width)
            }
            other => return Err(format!("{other} has no lanes form")),
        })
    }
}

/// table[channel][code]; lanes beyond the last channel read its row.
fn lookup(e: &mut Emitter<'_, '_>, table: Value, codes: Value, channel: Value, [rows, width]: [usize; 2]) -> Value {
    let mut out = e.zeros(F32X4);
    let last = e.int(rows - 1);
    for lane in 0..4u8 {
        let c = e.add(channel, lane.into());
        let c = e.min(c, last);
        let row = e.at(table, c, width * 4);
        let code = e.b.ins().extractlane(codes, lane);
        let code = e.b.ins().uextend(types::I64, code);
        let at = e.at(row, code, 4);
        let v = e.load(types::F32, at, 0);
        out = e.b.ins().insertlane(out, v, lane);
    }
    out
}

/// The code of an accumulator along its channel's line.
fn along(e: &mut Emitter<'_, '_>, tables: [Value; 2], acc: Value, channel: Value, top: i64) -> Value {
    let [slope, offset] = tables.map(|table| {
        let at = e.at(table, channel, 4);
        e.load(F32X4, at, 0)
    });
    let acc = e.b.ins().fcvt_from_sint(F32X4, acc);
    let scaled = e.b.ins().fmul(acc, slope);
    let shifted = e.b.ins().fadd(scaled, offset);
    // Towards zero is downwards, but for what is limited to zero.
    let code = e.b.ins().fcvt_to_sint_sat(I32X4, shifted);
    let (zero, top) = (e.splat_i32(0), e.splat_i32(top as i32));
    let code = e.b.ins().smax(code, zero);
    e.b.ins().smin(code, top)
}

/// How many thresholds the accumulator reaches: of `top` thresholds for each of so many codes those of code `r`.
fn threshold(
    e: &mut Emitter<'_, '_>,
    link: &Link<'_>,
    table: Value,
    [acc, r]: [Value; 2],
    channel: Value,
    [codes, top]: [usize; 2],
) -> Value {
    let row = link.channels.next_multiple_of(4) * 4;
    let base = e.at(table, channel, 4);
    let load = |e: &mut Emitter<'_, '_>, index: usize| {
        let at = e.add(base, index * row);
        e.load(I32X4, at, 0)
    };
    let acc = if link.constants.is_empty() {
        let direction = load(e, codes * top);
        e.b.ins().imul(acc, direction)
    } else {
        acc
    };
    let which: Vec<Value> = (1..codes)
        .map(|k| {
            let k = e.splat_i32(k as i32);
            e.b.ins().icmp(IntCC::Equal, r, k)
        })
        .collect();
    let mut code = e.splat_i32(0);
    for t in 0..top {
        let mut least = load(e, t);
        for (k, &mask) in which.iter().enumerate() {
            let other = load(e, (k + 1) * top + t);
            least = e.select(mask, other, least);
        }
        let mask = e.b.ins().icmp(IntCC::SignedGreaterThanOrEqual, acc, least);
        code = e.b.ins().isub(code, mask);
    }
    code
}

fn multi_threshold(
    e: &mut Emitter<'_, '_>,
    table: Value,
    x: Value,
    channel: Value,
    [count, pitch]: [usize; 2],
) -> Value {
    let zero = e.splat_i32(0);
    let sum = e.var(zero);
    let base = e.at(table, channel, 4);
    e.times(count, |e, t| {
        let at = e.at(base, t, pitch * 4);
        let t = e.load(F32X4, at, 0);
        let mask = e.b.ins().fcmp(FloatCC::GreaterThanOrEqual, x, t);
        let old = e.b.use_var(sum);
        let new = e.b.ins().isub(old, mask);
        e.b.def_var(sum, new);
    });
    let sum = e.b.use_var(sum);
    e.b.ins().fcvt_from_sint(F32X4, sum)
}

/// The levels of four codes.
pub(in crate::codegen) fn levels(e: &mut Emitter<'_, '_>, c: &CodeType, codes: Value) -> Value {
    let (step, offset) = (e.splat_i32(c.step), e.splat_i32(c.offset));
    let scaled = if c.step == 1 { codes } else { e.b.ins().imul(codes, step) };
    e.b.ins().iadd(scaled, offset)
}

/// f32(f64(level)·scale), two lanes at a time.
fn decode(e: &mut Emitter<'_, '_>, levels: Value, table: Value, channel: Value) -> Value {
    let at = e.at(table, channel, 8);
    let mut offset = 0;
    let scaled = e.doubles(levels).map(|half| {
        let scale = e.load(types::F64X2, at, offset);
        offset += 16;
        e.b.ins().fmul(half, scale)
    });
    e.singles(scaled)
}

fn encode(e: &mut Emitter<'_, '_>, c: &CodeType, x: Value) -> Value {
    let (offset, step) = (e.splat_f32(c.offset as f32), e.splat_f32(c.step as f32));
    let shifted = e.b.ins().fsub(x, offset);
    let u = if c.step == 1 { shifted } else { e.b.ins().fdiv(shifted, step) };
    let u = e.b.ins().fcvt_to_sint_sat(I32X4, u);
    let (zero, top) = (e.splat_i32(0), e.splat_i32(c.top as i32));
    let u = e.b.ins().smax(u, zero);
    e.b.ins().smin(u, top)
}

fn table_add(e: &mut Emitter<'_, '_>, table: Value, a: Value, b: Value, width: i32) -> Value {
    let width = e.splat_i32(width);
    let index = e.b.ins().imul(a, width);
    let index = e.b.ins().iadd(index, b);
    let mut out = index;
    for lane in 0..4u8 {
        let i = e.b.ins().extractlane(index, lane);
        let i = e.b.ins().uextend(types::I64, i);
        let at = e.at(table, i, 4);
        let v = e.load(types::I32, at, 0);
        out = e.b.ins().insertlane(out, v, lane);
    }
    out
}
