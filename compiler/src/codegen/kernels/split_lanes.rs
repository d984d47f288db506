//! The split-integer kernel in CLIF, 128 bits wide, and what becomes of its sums. It defines what every tile computes.

use super::choice::Kernel;
use super::int_conv::IntLayer;
use super::split::SplitLayer;
use super::split_lanes_early;
use crate::codegen::dot;
use crate::codegen::emitter::{Emitter, I32X4};
use crate::codegen::target::a64;
use crate::codegen::tiles::SplitFinish;
use crate::lower::split::{Split, TILE, VECTOR};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::Variable;
use std::ops::Range;

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
        /// Where the upper digits may decide, the bits of their sum that are ignored.
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

/// How the CLIF multiplies levels and digits and adds the products.
#[derive(Clone, Copy)]
pub(super) enum Multiply {
    /// Two i16 by i16.
    Pairs,
    /// Four bytes of levels up to 127 by i8: sdot.
    Signed,
    /// Four u8 by i8: usdot.
    Unsigned,
    /// Four u8 less 128 by i8: sdot. Sums start from 128 times those of the digits, which the table has.
    Shifted(Value),
}

impl Multiply {
    /// For the digits of these weights, of which it makes data.
    pub(super) fn new(
        e: &mut Emitter<'_, '_>,
        layer: &IntLayer<'_>,
        (split, weights): (&Split, &[i64]),
        kernel: Kernel,
    ) -> Multiply {
        match kernel {
            Kernel::SplitDot if e.level.has_a64(a64::I8MM) => Multiply::Unsigned,
            Kernel::SplitDot if layer.a.levels().1 <= i8::MAX.into() => Multiply::Signed,
            Kernel::SplitDot => Multiply::Shifted(e.data("starts", split.sums_of_digits(&layer.g, weights, 128))),
            _ => Multiply::Pairs,
        }
    }

    /// The sum before any product, of 4 outputs of a digit of block `index`.
    fn start(self, e: &mut Emitter<'_, '_>, index: Value, [sums, vector]: [usize; 2]) -> Value {
        let Multiply::Shifted(table) = self else { return e.splat_i32(0) };
        let at = e.at(table, index, sums * 16);
        e.read(I32X4, at, (vector * 16) as i32)
    }

    /// A step's levels at an address, in all lanes.
    fn levels(self, e: &mut Emitter<'_, '_>, at: Value) -> Value {
        let levels = e.load(types::I32, at, 0);
        let levels = e.b.ins().splat(I32X4, levels);
        let Multiply::Shifted(_) = self else { return levels };
        let shift = e.splat_i32(i32::from_le_bytes([0x80; 4]));
        e.b.ins().bxor(levels, shift)
    }

    /// sum + products.
    fn add(self, e: &mut Emitter<'_, '_>, sum: Value, levels: Value, weights: Value) -> Value {
        let products = match self {
            Multiply::Pairs => dot::pairs(e, levels, weights),
            Multiply::Unsigned => dot::quads(e, levels, weights, false),
            Multiply::Signed | Multiply::Shifted(_) => dot::quads(e, levels, weights, true),
        };
        // In this order sdot and usdot add too.
        e.b.ins().iadd(products, sum)
    }
}

/// The layer's positions side by side × [`TILE`] outputs, block `index` of all.
pub(super) fn block(
    e: &mut Emitter<'_, '_>,
    layer: &SplitLayer<'_>,
    index: Value,
    addresses @ [input, weights, out, table]: [Value; 4],
) {
    let planes = layer.split.planes;
    let sums = reduction(e, layer, index, [input, weights], planes - layer.split.always()..planes);
    if let Finish::Threshold { top, early: Some(shift), .. } = layer.finish {
        return split_lanes_early::codes(e, layer, index, addresses, (&sums, [top, shift as usize]));
    }
    for (p, sums) in sums.chunks(planes * TILE / 4).enumerate() {
        for v in 0..TILE / 4 {
            let planes: Vec<Value> = sums.iter().skip(v).step_by(TILE / 4).copied().collect();
            let value = finish(e, layer, &planes, table, v);
            e.store(value, out, ((p * layer.pitch + v * 4) * 4) as i32);
        }
    }
}

/// The sums of some digits of all positions of a tile: of each position those of each digit, four outputs each.
pub(super) fn reduction(
    e: &mut Emitter<'_, '_>,
    layer: &SplitLayer<'_>,
    index: Value,
    [input, weights]: [Value; 2],
    digits: Range<usize>,
) -> Vec<Value> {
    let (split, g) = (&layer.split, &layer.layer.g);
    let pixel = g.channels * split.products.element();
    let (all, first) = (split.planes * TILE / 4, digits.start * TILE / 4);
    let starts = (first..digits.end * TILE / 4).map(|v| layer.multiply.start(e, index, [all, v]));
    let starts: Vec<Value> = starts.collect();
    let sums: Vec<Variable> = (0..layer.positions).flat_map(|_| &starts).map(|&v| e.var(v)).collect();
    // All addresses move in variables: Cranelift would compute them anew from the loops' counters.
    let (cursor, row) = (e.var(weights), e.var(input));
    e.repeat(split.runs[0], |e| {
        let first = e.b.use_var(row);
        let run = e.var(first);
        e.repeat(split.runs[1], |e| {
            let first = e.b.use_var(run);
            let at = e.var(first);
            e.repeat(split.steps(), |e| {
                step(e, layer, [cursor, at], &sums);
                e.advance(at, 4);
            });
            e.advance(run, g.dilations[1] * pixel);
        });
        e.advance(row, g.dilations[0] * layer.row);
    });
    sums.into_iter().map(|sum| e.b.use_var(sum)).collect()
}

/// Adds the products of a step, whose weights and levels lie at these addresses; goes on to the next weights.
fn step(e: &mut Emitter<'_, '_>, layer: &SplitLayer<'_>, [weights, at]: [Variable; 2], sums: &[Variable]) {
    let (split, g) = (&layer.split, &layer.layer.g);
    let (pixel, vectors) = (g.channels * split.products.element(), sums.len() / layer.positions);
    let (from, at) = (e.b.use_var(weights), e.b.use_var(at));
    let levels = (0..layer.positions).map(|p| {
        let at = e.add(at, p * g.strides[1] * pixel);
        layer.multiply.levels(e, at)
    });
    let levels: Vec<Value> = levels.collect();
    let weights_at: Vec<Value> = (0..vectors).map(|i| e.read(I32X4, from, (i * 16) as i32)).collect();
    // In the order in which fewer registers are held from one product to the next.
    let inner = vectors.min(layer.positions);
    for i in 0..vectors * layer.positions {
        let [p, v] = if inner == vectors { [i / inner, i % inner] } else { [i % inner, i / inner] };
        let (Some(&levels), Some(&w), Some(&sum)) = (levels.get(p), weights_at.get(v), sums.get(p * vectors + v))
        else {
            continue;
        };
        let old = e.b.use_var(sum);
        let new = layer.multiply.add(e, old, levels, w);
        e.b.def_var(sum, new);
    }
    e.advance(weights, 16 * vectors);
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
    exact(e, layer, [first, upper], table, vector)
}

/// What becomes of four outputs whose lowest digit's sums and those of the others are these.
pub(super) fn exact(
    e: &mut Emitter<'_, '_>,
    layer: &SplitLayer<'_>,
    [first, upper]: [Value; 2],
    table: Value,
    vector: usize,
) -> Value {
    let bits = i64::from(layer.split.bits);
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
        let (upper, lower) = (e.read(I32X4, table, at(0)), e.read(I32X4, table, at(1)));
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
