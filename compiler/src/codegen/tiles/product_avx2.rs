//! The product tile, AVX2: 6 rows × 16 columns, 12 sums in flight, each vector of B shared by the rows. Reference:
//! `products::tile_clif`; each sum has the same order, so the bits are the same. Bound: 32 MAC a cycle for levels, 64 for
//! bytes where one instruction adds four products, 16 for floats.

use super::{leaf, tile};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use crate::codegen::products::{Arithmetic, Finish, Tile};
use crate::codegen::target::{Level, x86};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

const SUMS: [[AsmRegisterYmm; 2]; 6] =
    [[ymm0, ymm1], [ymm2, ymm3], [ymm4, ymm5], [ymm6, ymm7], [ymm8, ymm9], [ymm10, ymm11]];
const B: [AsmRegisterYmm; 2] = [ymm12, ymm13];
const A: AsmRegisterYmm = ymm14;
const TEMPORARY: AsmRegisterYmm = ymm15;
const ROWS: [AsmRegister64; 6] = [rax, r10, r11, rbx, rbp, r12];
/// Where the reduction stands, relative to every row of A.
const OFFSET: AsmRegister64 = r13;
/// The third only where the tile stores: else it counts reductions.
const COUNTERS: [AsmRegister64; 3] = [r14, r15, rdx];
const SAVED: [AsmRegister64; 6] = [rbx, rbp, r12, r13, r14, r15];
/// Steps of the innermost loop's body.
const UNROLL: usize = 4;

/// Ones, where bytes are multiplied without VNNI: the second vector of B is then read from memory by each row.
const ONES: AsmRegisterYmm = B[1];

/// How four bytes are multiplied and added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dot {
    /// vpmaddubsw, vpmaddwd with ones, vpaddd.
    Avx2,
    /// vpdpbusd as AVX-VNNI has it.
    Vex,
    /// vpdpbusd as AVX-512 VNNI has it.
    Evex,
}

impl Dot {
    fn of(level: &Level) -> Dot {
        match () {
            () if level.has(x86::AVXVNNI) => Dot::Vex,
            () if level.has(x86::VNNI | x86::AVX512) => Dot::Evex,
            () => Dot::Avx2,
        }
    }
}

/// The tile's function for `level`.
pub fn function(t: &Tile, level: &Level, image: &mut Image) -> Result<FunctionId, CodegenError> {
    let dot = Dot::of(level);
    let kind = match (t.arithmetic, dot) {
        (Arithmetic::Quads, Dot::Vex) => "avxvnni",
        (Arithmetic::Quads, Dot::Evex) => "vnni",
        _ => "avx2",
    };
    tile(image, &t.name(kind), |a| assemble(t, dot, a))
}

pub(super) fn assemble(t: &Tile, dot: Dot, a: &mut CodeAssembler) -> Result<(), IcedError> {
    if with_ones(t, dot) {
        a.vpcmpeqw(ONES, ONES, ONES)?;
        a.vpabsw(ONES, ONES)?;
    }
    leaf(a, &SAVED, |a| all(t, dot, a))
}

/// All reductions.
fn all(t: &Tile, dot: Dot, a: &mut CodeAssembler) -> Result<(), IcedError> {
    for (i, row) in ROWS.into_iter().enumerate().take(t.rows) {
        a.mov(row, qword_ptr(rdi + (8 * i) as i32))?;
    }
    if t.finish == Finish::Store {
        return reduction(t, dot, a);
    }
    if let (Finish::AddScaled { fma }, Arithmetic::Pairs, 1) = (t.finish, t.arithmetic, t.steps()) {
        return single_steps(t, a, fma);
    }
    let mut next = a.create_label();
    // B has moved on by its steps when the next reduction begins.
    a.sub(r8, (t.steps() * t.b_step) as i32)?;
    a.set_label(&mut next)?;
    reduction(t, dot, a)?;
    for row in ROWS.into_iter().take(t.rows) {
        a.add(row, rcx)?;
    }
    a.add(rsi, r8)?;
    a.add(r9, 4)?;
    a.dec(rdx)?;
    a.jnz(next)
}

fn with_ones(t: &Tile, dot: Dot) -> bool {
    (t.arithmetic, dot) == (Arithmetic::Quads, Dot::Avx2)
}

/// Reductions of one step each: C stays in registers from the first to the last.
fn single_steps(t: &Tile, a: &mut CodeAssembler, fma: bool) -> Result<(), IcedError> {
    let (scale, c) = (B[0], COUNTERS[0]);
    for (i, sums) in SUMS.into_iter().enumerate().take(t.rows) {
        a.mov(c, qword_ptr(rdi + (8 * (t.rows + i)) as i32))?;
        a.vmovups(sums[0], ymmword_ptr(c))?;
        a.vmovups(sums[1], ymmword_ptr(c + 32))?;
    }
    let mut next = a.create_label();
    a.xor(r13d, r13d)?;
    a.set_label(&mut next)?;
    a.vbroadcastss(scale, dword_ptr(r9))?;
    for (row, sums) in ROWS.into_iter().zip(SUMS).take(t.rows) {
        a.vpbroadcastd(A, dword_ptr(row + OFFSET))?;
        for (half, sum) in sums.into_iter().enumerate() {
            a.vpmaddwd(TEMPORARY, A, ymmword_ptr(rsi + (32 * half) as i32))?;
            a.vcvtdq2ps(TEMPORARY, TEMPORARY)?;
            if fma {
                a.vfmadd231ps(sum, TEMPORARY, scale)?;
            } else {
                a.vmulps(TEMPORARY, TEMPORARY, scale)?;
                a.vaddps(sum, sum, TEMPORARY)?;
            }
        }
    }
    a.add(OFFSET, rcx)?;
    a.add(rsi, r8)?;
    a.add(r9, 4)?;
    a.dec(rdx)?;
    a.jnz(next)?;
    for (i, sums) in SUMS.into_iter().enumerate().take(t.rows) {
        a.mov(c, qword_ptr(rdi + (8 * (t.rows + i)) as i32))?;
        a.vmovups(ymmword_ptr(c), sums[0])?;
        a.vmovups(ymmword_ptr(c + 32), sums[1])?;
    }
    Ok(())
}

fn reduction(t: &Tile, dot: Dot, a: &mut CodeAssembler) -> Result<(), IcedError> {
    for sums in SUMS.iter().take(t.rows) {
        for (half, sum) in sums.iter().enumerate() {
            if t.start {
                a.vmovups(*sum, ymmword_ptr(rsi + (32 * half) as i32))?;
            } else {
                a.vpxor(*sum, *sum, *sum)?;
            }
        }
    }
    if t.start {
        a.add(rsi, 64)?;
    }
    if !t.loops.is_empty() {
        a.xor(r13d, r13d)?;
        nest(t, dot, a, 0)?;
    }
    finish(t, a)
}

/// The loops from `depth` inwards; moves the offset on by the extent of the outermost of them.
fn nest(t: &Tile, dot: Dot, a: &mut CodeAssembler, depth: usize) -> Result<(), IcedError> {
    let (l, counter) = (t.loops[depth], COUNTERS[depth]);
    let Some(inner) = t.loops.get(depth + 1) else { return innermost(t, dot, a, depth) };
    let mut again = a.create_label();
    a.mov(counter, l.count as u64)?;
    a.set_label(&mut again)?;
    nest(t, dot, a, depth + 1)?;
    a.add(OFFSET, (l.stride - inner.stride * inner.count as i64) as i32)?;
    a.dec(counter)?;
    a.jnz(again)
}

fn innermost(t: &Tile, dot: Dot, a: &mut CodeAssembler, depth: usize) -> Result<(), IcedError> {
    let (l, counter) = (t.loops[depth], COUNTERS[depth]);
    // A short loop is written out.
    let (rounds, rest) = if l.count < 2 * UNROLL { (0, l.count) } else { (l.count / UNROLL, l.count % UNROLL) };
    if rounds > 0 {
        let mut again = a.create_label();
        a.mov(counter, rounds as u64)?;
        a.set_label(&mut again)?;
        steps(t, dot, a, l.stride, UNROLL)?;
        a.dec(counter)?;
        a.jnz(again)?;
    }
    steps(t, dot, a, l.stride, rest)
}

fn steps(t: &Tile, dot: Dot, a: &mut CodeAssembler, stride: i64, count: usize) -> Result<(), IcedError> {
    for step in 0..count {
        let at = (step * t.b_step) as i32;
        a.vmovups(B[0], ymmword_ptr(rsi + at))?;
        let second = ymmword_ptr(rsi + at + 32);
        if !with_ones(t, dot) {
            a.vmovups(B[1], second)?;
        }
        for (row, sums) in ROWS.into_iter().zip(SUMS).take(t.rows) {
            let from = dword_ptr(row + OFFSET + (stride * step as i64) as i32);
            match t.arithmetic {
                Arithmetic::Quads => combine_bytes(dot, a, from, second, sums)?,
                arithmetic => combine(arithmetic, a, from, sums)?,
            }
        }
    }
    if count > 0 {
        a.add(OFFSET, (stride * count as i64) as i32)?;
        a.add(rsi, (count * t.b_step) as i32)?;
    }
    Ok(())
}

fn combine(
    arithmetic: Arithmetic,
    a: &mut CodeAssembler,
    from: AsmMemoryOperand,
    sums: [AsmRegisterYmm; 2],
) -> Result<(), IcedError> {
    match arithmetic {
        Arithmetic::Fma => {
            a.vbroadcastss(A, from)?;
            a.vfmadd231ps(sums[0], A, B[0])?;
            a.vfmadd231ps(sums[1], A, B[1])
        }
        Arithmetic::MulAdd => {
            a.vbroadcastss(A, from)?;
            a.vmulps(TEMPORARY, A, B[0])?;
            a.vmulps(A, A, B[1])?;
            a.vaddps(sums[0], sums[0], TEMPORARY)?;
            a.vaddps(sums[1], sums[1], A)
        }
        Arithmetic::Pairs => {
            a.vpbroadcastd(A, from)?;
            a.vpmaddwd(TEMPORARY, A, B[0])?;
            a.vpmaddwd(A, A, B[1])?;
            a.vpaddd(sums[0], sums[0], TEMPORARY)?;
            a.vpaddd(sums[1], sums[1], A)
        }
        Arithmetic::Quads => Ok(()),
    }
}

fn combine_bytes(
    dot: Dot,
    a: &mut CodeAssembler,
    from: AsmMemoryOperand,
    second: AsmMemoryOperand,
    sums: [AsmRegisterYmm; 2],
) -> Result<(), IcedError> {
    a.vpbroadcastd(A, from)?;
    match dot {
        Dot::Vex => {
            a.vpdpbusd(sums[0], A, B[0])?;
            a.vpdpbusd(sums[1], A, B[1])
        }
        Dot::Evex => {
            a.evex().vpdpbusd(sums[0], A, B[0])?;
            a.evex().vpdpbusd(sums[1], A, B[1])
        }
        Dot::Avx2 => {
            a.vpmaddubsw(TEMPORARY, A, B[0])?;
            a.vpmaddubsw(A, A, second)?;
            a.vpmaddwd(TEMPORARY, TEMPORARY, ONES)?;
            a.vpmaddwd(A, A, ONES)?;
            a.vpaddd(sums[0], sums[0], TEMPORARY)?;
            a.vpaddd(sums[1], sums[1], A)
        }
    }
}

fn finish(t: &Tile, a: &mut CodeAssembler) -> Result<(), IcedError> {
    if t.end {
        for sums in SUMS.iter().take(t.rows) {
            for (half, sum) in sums.iter().enumerate() {
                a.vaddps(*sum, *sum, ymmword_ptr(rsi + (32 * half) as i32))?;
            }
        }
    }
    // The offset's register is free until the next reduction.
    let c = OFFSET;
    if matches!(t.finish, Finish::AddScaled { .. }) {
        a.vbroadcastss(A, dword_ptr(r9))?;
    }
    for (i, sums) in SUMS.into_iter().enumerate().take(t.rows) {
        a.mov(c, qword_ptr(rdi + (8 * (t.rows + i)) as i32))?;
        for (half, sum) in sums.into_iter().enumerate() {
            let at = ymmword_ptr(c + (32 * half) as i32);
            match t.finish {
                Finish::Store => a.vmovups(at, sum)?,
                Finish::Add => {
                    a.vaddps(sum, sum, at)?;
                    a.vmovups(at, sum)?;
                }
                Finish::AddScaled { fma } => {
                    a.vcvtdq2ps(sum, sum)?;
                    if fma {
                        a.vfmadd213ps(sum, A, at)?;
                    } else {
                        a.vmulps(sum, sum, A)?;
                        a.vaddps(sum, sum, at)?;
                    }
                    a.vmovups(at, sum)?;
                }
            }
        }
    }
    Ok(())
}
