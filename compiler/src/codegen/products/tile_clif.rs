//! The product tile in CLIF, 128 bits wide, for levels without AVX2 and for aarch64. It defines what every other form of
//! the tile computes. Cost on x86-64-v2: about 10 MAC a cycle for levels, 4 to 5 for floats.

use super::tile::{Arithmetic, COLUMNS, Finish, Tile};
use crate::codegen::CodegenError;
use crate::codegen::dot;
use crate::codegen::emitter::{Emitter, F32X4};
use crate::codegen::image::FunctionId;
use crate::codegen::leaf::leaf;
use crate::codegen::target::Arch;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::Variable;

/// Vectors of a row.
const VECTORS: usize = COLUMNS / 4;

/// The tile's function for `e`'s level.
pub(super) fn function(tile: &Tile, e: &mut Emitter<'_, '_>) -> Result<FunctionId, CodegenError> {
    let parameters = if tile.finish.adds() { 6 } else { 2 };
    leaf(e, &tile.name(&e.level.name), parameters, |e, p| body(tile, e, p))
}

fn body(tile: &Tile, e: &mut Emitter<'_, '_>, p: &[Value]) {
    let rows: Vec<Variable> = (0..tile.rows)
        .map(|i| {
            let row = e.load(types::I64, p[0], 8 * i as i32);
            e.var(row)
        })
        .collect();
    if !tile.finish.adds() {
        let sums = reduction(tile, e, &rows, p[1]);
        return finish(tile, e, p[0], &sums, None);
    }
    let zero = e.int(0);
    e.range(zero, p[2], 1, |e, i| {
        let offset = e.b.ins().imul(i, p[4]);
        let b = e.b.ins().iadd(p[1], offset);
        let sums = reduction(tile, e, &rows, b);
        finish(tile, e, p[0], &sums, Some((p[5], i)));
        for &row in &rows {
            let at = e.b.use_var(row);
            let at = e.b.ins().iadd(at, p[3]);
            e.b.def_var(row, at);
        }
    });
}

/// The sums of one reduction, [`VECTORS`] a row.
fn reduction(tile: &Tile, e: &mut Emitter<'_, '_>, rows: &[Variable], b: Value) -> Vec<Value> {
    let zero = if tile.arithmetic.integer() { e.splat_i32(0) } else { e.splat_f32(0.0) };
    let mut start = [zero; VECTORS];
    let mut b = b;
    if tile.start {
        start = [0, 1, 2, 3].map(|v| e.read(types::I32X4, b, 16 * v));
        b = e.add(b, COLUMNS * 4);
    }
    let sums: Vec<Variable> = (0..tile.rows).flat_map(|_| start).map(|v| e.var(v)).collect();
    let rows: Vec<Value> = rows.iter().map(|r| e.b.use_var(*r)).collect();
    let b = e.var(b);
    if !tile.loops.is_empty() {
        let offset = e.int(0);
        nest(tile, e, 0, &rows, offset, b, &sums);
    }
    let sums = sums.iter().map(|s| e.b.use_var(*s));
    if !tile.end {
        return sums.collect();
    }
    let sums: Vec<Value> = sums.collect();
    let last = e.b.use_var(b);
    let last = [0, 1, 2, 3].map(|v| e.read(F32X4, last, 16 * v));
    sums.iter().enumerate().map(|(i, &sum)| e.b.ins().fadd(sum, last[i % VECTORS])).collect()
}

fn nest(
    tile: &Tile,
    e: &mut Emitter<'_, '_>,
    depth: usize,
    rows: &[Value],
    offset: Value,
    b: Variable,
    sums: &[Variable],
) {
    let Some(l) = tile.loops.get(depth) else { return step(tile, e, rows, offset, b, sums) };
    let offset = e.var(offset);
    e.times(l.count, |e, _| {
        let at = e.b.use_var(offset);
        nest(tile, e, depth + 1, rows, at, b, sums);
        let next = e.b.ins().iadd_imm_s(at, l.stride);
        e.b.def_var(offset, next);
    });
}

fn step(tile: &Tile, e: &mut Emitter<'_, '_>, rows: &[Value], offset: Value, b: Variable, sums: &[Variable]) {
    let from = e.b.use_var(b);
    let a: Vec<Value> = rows
        .iter()
        .map(|&row| {
            let at = e.b.ins().iadd(row, offset);
            let v = e.load(types::F32, at, 0);
            e.b.ins().splat(F32X4, v)
        })
        .collect();
    for v in 0..VECTORS {
        let w = e.read(F32X4, from, 16 * v as i32);
        for (row, &a) in a.iter().enumerate() {
            let sum = sums[row * VECTORS + v];
            let old = e.b.use_var(sum);
            let new = combine(e, tile.arithmetic, a, w, old);
            e.b.def_var(sum, new);
        }
    }
    let next = e.add(from, tile.b_step);
    e.b.def_var(b, next);
}

fn combine(e: &mut Emitter<'_, '_>, arithmetic: Arithmetic, a: Value, b: Value, sum: Value) -> Value {
    match arithmetic {
        Arithmetic::Fma => e.b.ins().fma(a, b, sum),
        Arithmetic::MulAdd => {
            let p = e.b.ins().fmul(a, b);
            e.b.ins().fadd(sum, p)
        }
        Arithmetic::Pairs => {
            let p = dot::pairs(e, a, b);
            e.b.ins().iadd(sum, p)
        }
        Arithmetic::Quads => {
            let p = if e.level.arch == Arch::X86_64 { two_products(e, a, b) } else { dot::quads(e, a, b, false) };
            // In this order usdot adds too.
            e.b.ins().iadd(p, sum)
        }
    }
}

/// Sums of four products by pmaddubsw and pmaddwd.
fn two_products(e: &mut Emitter<'_, '_>, unsigned: Value, signed: Value) -> Value {
    let (unsigned, signed) = (e.cast(types::I8X16, unsigned), e.cast(types::I8X16, signed));
    let p = e.b.ins().x86_pmaddubsw(signed, unsigned);
    let (low, high) = (e.b.ins().swiden_low(p), e.b.ins().swiden_high(p));
    e.b.ins().iadd_pairwise(low, high)
}

fn finish(tile: &Tile, e: &mut Emitter<'_, '_>, table: Value, sums: &[Value], scale: Option<(Value, Value)>) {
    let fused = matches!(tile.finish, Finish::AddScaled { fma: true });
    let scale = match (tile.finish, scale) {
        (Finish::AddScaled { .. }, Some((base, index))) => {
            let at = e.at(base, index, 4);
            let c = e.load(types::F32, at, 0);
            Some(e.b.ins().splat(F32X4, c))
        }
        _ => None,
    };
    for (row, sums) in sums.chunks(VECTORS).enumerate() {
        let c = e.load(types::I64, table, (8 * (tile.rows + row)) as i32);
        if tile.finish == Finish::Words {
            words(e, sums, c);
            continue;
        }
        for (v, &sum) in sums.iter().enumerate() {
            let at = 16 * v as i32;
            let value = match tile.finish {
                Finish::Store | Finish::Words => sum,
                Finish::Add => {
                    let old = e.load(F32X4, c, at);
                    e.b.ins().fadd(old, sum)
                }
                Finish::AddScaled { .. } => {
                    let (old, sum) = (e.load(F32X4, c, at), e.b.ins().fcvt_from_sint(F32X4, sum));
                    scaled(e, fused, scale.unwrap_or(old), sum, old)
                }
            };
            e.store(value, c, at);
        }
    }
}

/// Stores the sums of a row as i16.
fn words(e: &mut Emitter<'_, '_>, sums: &[Value], c: Value) {
    for (i, pair) in sums.chunks(2).enumerate() {
        let &[low, high] = pair else { continue };
        let both = e.b.ins().snarrow(low, high);
        e.store(both, c, 16 * i as i32);
    }
}

fn scaled(e: &mut Emitter<'_, '_>, fused: bool, scale: Value, sum: Value, old: Value) -> Value {
    if fused {
        return e.b.ins().fma(scale, sum, old);
    }
    let p = e.b.ins().fmul(scale, sum);
    e.b.ins().fadd(old, p)
}
