//! The split-integer kernel in CLIF, 128 bits wide, and what becomes of its sums. It defines what every tile computes.

use super::split::SplitLayer;
use crate::codegen::emitter::{Emitter, I32X4};
use crate::codegen::tiles::SplitFinish;
use crate::lower::split::{TILE, VECTOR};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::Variable;

/// What a kernel stores of an accumulator, with the address of its table.
#[derive(Clone, Copy)]
pub(super) enum Finish {
    /// Its low 32 bits, which are all of it.
    Raw,
    /// f32(f64(acc)·scale).
    Decode {
        /// `Split::scales`.
        table: Value,
    },
    /// The number of thresholds that it reaches.
    Threshold {
        /// `Split::thresholds`, or `Split::early_thresholds`.
        table: Value,
        /// How many.
        top: usize,
        /// Where the upper digits may decide, the bits of their sum that are ignored; only tiles do that.
        early: Option<u32>,
    },
}

impl Finish {
    /// Without the table.
    pub(super) fn kind(self) -> SplitFinish {
        match self {
            Finish::Raw => SplitFinish::Raw,
            Finish::Decode { .. } => SplitFinish::Decode,
            Finish::Threshold { top, early: Some(shift), .. } => SplitFinish::Early { top, shift },
            Finish::Threshold { top, .. } => SplitFinish::Threshold(top),
        }
    }

    /// The table of block `index`.
    pub(super) fn table(self, e: &mut Emitter<'_, '_>, index: Value) -> Value {
        match self {
            Finish::Raw => index,
            Finish::Decode { table } | Finish::Threshold { table, .. } => e.at(table, index, self.kind().table_bytes()),
        }
    }
}

/// One position × [`TILE`] outputs.
pub(super) fn block(e: &mut Emitter<'_, '_>, layer: &SplitLayer<'_>, [input, weights, out, table]: [Value; 4]) {
    let (split, g) = (&layer.split, &layer.layer.g);
    let pixel = g.channels * split.products.element();
    let zero = e.splat_i32(0);
    let sums: Vec<Variable> = (0..split.planes * TILE / 4).map(|_| e.var(zero)).collect();
    let cursor = e.var(weights);
    e.times(split.runs[0], |e, ky| {
        let row = e.at(input, ky, g.dilations[0] * layer.row);
        e.times(split.runs[1], |e, kx| {
            let run = e.at(row, kx, g.dilations[1] * pixel);
            e.times(split.steps(), |e, step| {
                let at = e.at(run, step, 4);
                let levels = e.load(types::I32, at, 0);
                let levels = e.b.ins().splat(I32X4, levels);
                let from = e.b.use_var(cursor);
                for (i, &sum) in sums.iter().enumerate() {
                    let w = e.load(types::I16X8, from, (i * 16) as i32);
                    let product = pairs(e, levels, w);
                    e.accumulate(sum, product);
                }
                let next = e.add(from, split.planes * VECTOR);
                e.b.def_var(cursor, next);
            });
        });
    });
    for v in 0..TILE / 4 {
        let planes: Vec<Value> = sums.iter().skip(v).step_by(TILE / 4).map(|s| e.b.use_var(*s)).collect();
        let value = finish(e, layer, &planes, table, v);
        e.store(value, out, (v * 16) as i32);
    }
}

/// Sums of two products of i16; this form becomes pmaddwd, or smull, smull2 and addp.
fn pairs(e: &mut Emitter<'_, '_>, a: Value, b: Value) -> Value {
    let a = e.cast(types::I16X8, a);
    let (al, bl) = (e.b.ins().swiden_low(a), e.b.ins().swiden_low(b));
    let (ah, bh) = (e.b.ins().swiden_high(a), e.b.ins().swiden_high(b));
    let (l, h) = (e.b.ins().imul(al, bl), e.b.ins().imul(ah, bh));
    e.b.ins().iadd_pairwise(l, h)
}

fn finish(e: &mut Emitter<'_, '_>, layer: &SplitLayer<'_>, planes: &[Value], table: Value, vector: usize) -> Value {
    let bits = i64::from(layer.split.bits);
    let zero = e.splat_i32(0);
    let (first, second) = (planes.first().copied().unwrap_or(zero), planes.get(1).copied().unwrap_or(zero));
    let upper = match planes.get(2) {
        None => second,
        Some(&third) => {
            let third = e.b.ins().ishl_imm_u(third, bits);
            e.b.ins().iadd(second, third)
        }
    };
    if matches!(layer.finish, Finish::Raw) {
        let upper = e.b.ins().ishl_imm_u(upper, bits);
        return e.b.ins().iadd(upper, first);
    }
    let carry = e.b.ins().sshr_imm_u(first, bits);
    let (hi, mask) = (e.b.ins().iadd(upper, carry), e.splat_i32((1 << bits) - 1));
    let lo = e.b.ins().band(first, mask);
    match layer.finish {
        Finish::Threshold { top, .. } => threshold(e, [hi, lo], table, vector, top),
        _ => decode(e, [hi, lo], table, vector, bits),
    }
}

fn threshold(e: &mut Emitter<'_, '_>, [hi, lo]: [Value; 2], table: Value, vector: usize, top: usize) -> Value {
    let mut code = e.splat_i32(0);
    for t in 0..top {
        let at = |part: usize| ((2 * t + part) * VECTOR + vector * 16) as i32;
        let (upper, lower) = (e.load(I32X4, table, at(0)), e.load(I32X4, table, at(1)));
        let above = e.b.ins().icmp(IntCC::SignedGreaterThan, hi, upper);
        let level = e.b.ins().icmp(IntCC::Equal, hi, upper);
        let beyond = e.b.ins().icmp(IntCC::SignedGreaterThan, lo, lower);
        let both = e.b.ins().band(level, beyond);
        let reached = e.b.ins().bor(above, both);
        code = e.b.ins().isub(code, reached);
    }
    code
}

/// f32(f64(hi·2^bits + lo)·scale): the sum is exact in f64.
fn decode(e: &mut Emitter<'_, '_>, [hi, lo]: [Value; 2], table: Value, vector: usize, bits: i64) -> Value {
    let base = e.b.ins().f64const(2f64.powi(bits as i32));
    let base = e.b.ins().splat(types::F64X2, base);
    let (hi, lo) = (e.doubles(hi), e.doubles(lo));
    let scaled = [0, 1].map(|half| {
        let hi = e.b.ins().fmul(hi[half], base);
        let sum = e.b.ins().fadd(hi, lo[half]);
        let scale = e.load(types::F64X2, table, ((vector * 4 + 2 * half) * 8) as i32);
        e.b.ins().fmul(sum, scale)
    });
    e.singles(scaled)
}
