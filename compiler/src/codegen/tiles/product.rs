//! The product tile: the frame, the rows and the loops that both widths share. What one step does is said by `product_avx2`
//! and `product_avx512`. Reference: `products::tile_clif`; each sum has the same order, so the bits are the same.

use super::{leaf, product_avx2, product_avx512, tile, winograd};
use crate::codegen::CodegenError;
use crate::codegen::image::{FunctionId, Image};
use crate::codegen::products::{Arithmetic, Finish, Tile};
use crate::codegen::target::{Level, x86};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

pub(super) type Done = Result<(), IcedError>;

/// Addresses of the rows of A; the table's own register last.
const ROWS: [AsmRegister64; 12] = [rax, r10, r11, rbx, rbp, r12, r15, rcx, rdx, r8, r9, rdi];
/// Where the reduction stands, relative to every row of A.
const OFFSET: AsmRegister64 = r13;
/// Iterations that are left of the innermost loop.
const INNERMOST: AsmRegister64 = r14;
const SAVED: [AsmRegister64; 6] = [rbx, rbp, r12, r13, r14, r15];
/// Steps of the innermost loop's body.
const UNROLL: usize = 4;

/// Bytes of the frame: counters of the outer loops first; behind it, where 16-bit sums are widened more than once, what they
/// have added up to.
const FRAME: i32 = 64;
const TABLE: i32 = 24;
const COUNT: i32 = 32;
const A_STRIDE: i32 = 40;
const B_STRIDE: i32 = 48;
const SCALES: i32 = 56;
/// Loops of a reduction at most: the innermost counts in a register, the others in the frame.
pub const LOOPS: usize = 4;

/// How four bytes are multiplied and added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dot {
    /// vpmaddubsw, vpmaddwd with ones, vpaddd.
    Multiply,
    /// vpdpbusd as AVX-VNNI has it.
    Vex,
    /// vpdpbusd as AVX-512 VNNI has it.
    Evex,
}

impl Dot {
    fn of(level: &Level, width: usize) -> Dot {
        match () {
            () if width == 256 && level.has(x86::AVXVNNI) => Dot::Vex,
            () if level.has(x86::VNNI | x86::AVX512) => Dot::Evex,
            () => Dot::Multiply,
        }
    }
}

/// The registers of a tile of one width. What a tile need not have, as its sums are of 32 bits or no floats, it is never asked for.
pub(super) trait Registers {
    /// Prepares constants.
    fn prepare(&self, _: &mut CodeAssembler) -> Done {
        Ok(())
    }
    /// Zeroes the sums of a row, or loads them from `from`.
    fn start(&self, a: &mut CodeAssembler, row: usize, from: Option<AsmMemoryOperand>) -> Done;
    /// Loads a step's vectors of B.
    fn load(&self, _: &mut CodeAssembler, _: AsmMemoryOperand) -> Done {
        never()
    }
    /// Combines a step of a row of A, four bytes at `from`, with B, which lies at `b` too.
    fn combine(&self, _: &mut CodeAssembler, _: usize, _: AsmMemoryOperand, _: AsmMemoryOperand) -> Done {
        never()
    }
    /// A step of all rows of A, which lie at `rows`.
    fn step(&self, a: &mut CodeAssembler, rows: &[AsmMemoryOperand], b: AsmMemoryOperand) -> Done {
        self.load(a, b)?;
        rows.iter().enumerate().try_for_each(|(i, &row)| self.combine(a, i, row, b))
    }
    /// Loads the factor of a reduction's integer sums.
    fn scale(&self, a: &mut CodeAssembler, from: AsmMemoryOperand) -> Done;
    /// Stores the sums of a row, as `finish` says.
    fn finish(&self, a: &mut CodeAssembler, row: usize, finish: Finish, to: AsmMemoryOperand) -> Done;
    /// Adds floats in memory to the sums of a row.
    fn add(&self, _: &mut CodeAssembler, _: usize, _: AsmMemoryOperand) -> Done {
        never()
    }
    /// Adds the 16-bit sums of a row, widened, to 32-bit ones in memory, and begins again at zero.
    fn widen(&self, _: &mut CodeAssembler, _: usize, _: AsmMemoryOperand) -> Done {
        never()
    }
    /// Makes 32-bit sums of a row's 16-bit ones.
    fn widened(&self, _: &mut CodeAssembler, _: usize) -> Done {
        never()
    }
    /// Adds a vector of B to the 32-bit sums of a row.
    fn add_start(&self, _: &mut CodeAssembler, _: usize, _: AsmMemoryOperand) -> Done {
        never()
    }
    /// Writes the sums of a row to memory.
    fn spill(&self, _: &mut CodeAssembler, _: usize, _: AsmMemoryOperand) -> Done {
        never()
    }
    /// sum += scale · f32(two products of a step), the operands of A and B in memory; the sums are floats.
    fn single(&self, _: &mut CodeAssembler, _: usize, _: bool, _: [AsmMemoryOperand; 2]) -> Done {
        never()
    }
}

/// A tile was asked for what it does not have, which is our bug: shapes decide it, so that the tests of each shape's bytes see it.
fn never() -> Done {
    debug_assert!(false, "a product tile was asked for sums that it does not have");
    Ok(())
}

/// Bits of a vector at `level`.
fn width(level: &Level) -> usize {
    if level.has(x86::AVX512) { 512 } else { 256 }
}

/// Whether the tile of `level` adds products of bytes by twos.
pub fn multiplies_pairs(level: &Level) -> bool {
    level.has_x86(x86::AVX2) && Dot::of(level, width(level)) == Dot::Multiply
}

/// Whether `level` adds products of bytes by fours in vectors of 512 bits.
pub fn multiplies_quads(level: &Level) -> bool {
    level.has_x86(x86::AVX512) && Dot::of(level, 512) == Dot::Evex
}

/// Rows of a tile of one unit at `level`.
pub fn rows(level: &Level) -> usize {
    if level.has(x86::AVX512) { product_avx512::ROWS } else { product_avx2::ROWS }
}

/// How many of `units` units a tile of `arithmetic` should take at once at `level`, and the rows that it then has.
pub fn together(level: &Level, arithmetic: Arithmetic, units: usize) -> [usize; 2] {
    let dot = arithmetic == Arithmetic::Quads && Dot::of(level, 512) == Dot::Evex;
    let wide = level.has_x86(x86::AVX512 | x86::AVX2 | x86::FMA) && (!arithmetic.integer() || dot);
    let together = [3, 2].into_iter().find(|n| wide && units.is_multiple_of(*n)).unwrap_or(1);
    [together, if together > 1 { product_avx512::rows(together) } else { rows(level) }]
}

/// The tile's function for `level`.
pub fn function(t: &Tile, level: &Level, image: &mut Image) -> Result<FunctionId, CodegenError> {
    let width = width(level);
    let dot = Dot::of(level, width);
    let vnni = match (t.arithmetic, dot) {
        (Arithmetic::Quads, Dot::Vex) => ".avxvnni",
        (Arithmetic::Quads, Dot::Evex) => ".vnni",
        (Arithmetic::Pairs, Dot::Evex) if width == 512 => ".vnni",
        _ => "",
    };
    tile(image, &t.name(&format!("{width}{vnni}")), |a| assemble(t, width, dot, a))
}

pub(super) fn assemble(t: &Tile, width: usize, dot: Dot, a: &mut CodeAssembler) -> Done {
    if let Some(distances) = t.winograd {
        return leaf(a, &SAVED, |a| all(t, &winograd::Zmm { distances, units: t.units }, a));
    }
    if width == 512 {
        let Tile { arithmetic, units, .. } = *t;
        let (vnni, narrow) = (dot == Dot::Evex, t.narrow.is_some());
        let registers = product_avx512::Zmm { arithmetic, units, vnni, narrow };
        return leaf(a, &SAVED, |a| all(t, &registers, a));
    }
    let registers = product_avx2::Ymm { arithmetic: t.arithmetic, dot, narrow: t.narrow.is_some() };
    leaf(a, &SAVED, |a| all(t, &registers, a))
}

/// All reductions.
fn all(t: &Tile, r: &impl Registers, a: &mut CodeAssembler) -> Done {
    let frame = FRAME + if t.narrow.is_some_and(|depth| depth > 0) { t.rows as i32 * SUMS } else { 0 };
    a.sub(rsp, frame)?;
    a.mov(qword_ptr(rsp + TABLE), rdi)?;
    r.prepare(a)?;
    if t.finish.adds() {
        for (at, register) in [(COUNT, rdx), (A_STRIDE, rcx), (B_STRIDE, r8), (SCALES, r9)] {
            a.mov(qword_ptr(rsp + at), register)?;
        }
    }
    for (i, row) in ROWS.into_iter().enumerate().take(t.rows) {
        a.mov(row, qword_ptr(rdi + (8 * i) as i32))?;
    }
    winograd::look_ahead(t, a, [ROWS[0], ROWS[3]])?;
    match (t.finish, t.arithmetic, t.steps()) {
        (finish, ..) if !finish.adds() => reduction(t, r, a)?,
        (Finish::AddScaled { fma }, Arithmetic::Pairs, 1) => single_steps(t, r, a, fma)?,
        _ => {
            // B has moved on by its steps when the next reduction begins.
            a.sub(qword_ptr(rsp + B_STRIDE), (t.start_bytes() + t.steps() * t.b_step) as i32)?;
            reductions(
                a,
                |a| reduction(t, r, a),
                |a| {
                    let mut rows = ROWS.into_iter().take(t.rows).chain(winograd::ahead(t));
                    rows.try_for_each(|row| a.add(row, qword_ptr(rsp + A_STRIDE)))
                },
            )?;
        }
    }
    a.add(rsp, frame)
}

/// Bytes of a row's sums.
const SUMS: i32 = 64;

/// Where the sums of a row lie that have been widened before the end.
fn kept(row: usize) -> AsmMemoryOperand {
    rsp + (FRAME + row as i32 * SUMS)
}

/// `one` for each reduction; `next` moves A on.
fn reductions(
    a: &mut CodeAssembler,
    one: impl FnOnce(&mut CodeAssembler) -> Done,
    next: impl FnOnce(&mut CodeAssembler) -> Done,
) -> Done {
    let mut again = a.create_label();
    a.set_label(&mut again)?;
    one(a)?;
    next(a)?;
    a.add(rsi, qword_ptr(rsp + B_STRIDE))?;
    a.add(qword_ptr(rsp + SCALES), 4)?;
    a.dec(qword_ptr(rsp + COUNT))?;
    a.jnz(again)
}

/// Reductions of one step each: C stays in registers from the first to the last.
fn single_steps(t: &Tile, r: &impl Registers, a: &mut CodeAssembler, fma: bool) -> Done {
    rows_of_c(t, a, |a, row, c| r.start(a, row, Some(c)))?;
    a.xor(r13d, r13d)?;
    let one = |a: &mut CodeAssembler| {
        a.mov(INNERMOST, qword_ptr(rsp + SCALES))?;
        r.scale(a, INNERMOST + 0)?;
        let rows = ROWS.into_iter().enumerate().take(t.rows);
        rows.into_iter().try_for_each(|(i, row)| r.single(a, i, fma, [row + OFFSET, rsi + 0]))
    };
    reductions(a, one, |a| a.add(OFFSET, qword_ptr(rsp + A_STRIDE)))?;
    rows_of_c(t, a, |a, row, c| r.finish(a, row, Finish::Store, c))
}

/// `each` with the address of each row of C. The offset's register and the innermost counter's are overwritten.
fn rows_of_c(
    t: &Tile,
    a: &mut CodeAssembler,
    mut each: impl FnMut(&mut CodeAssembler, usize, AsmMemoryOperand) -> Done,
) -> Done {
    a.mov(INNERMOST, qword_ptr(rsp + TABLE))?;
    for row in 0..t.rows {
        a.mov(OFFSET, qword_ptr(INNERMOST + (8 * (t.rows + row)) as i32))?;
        each(a, row, OFFSET + 0)?;
    }
    Ok(())
}

fn reduction(t: &Tile, r: &impl Registers, a: &mut CodeAssembler) -> Done {
    for row in 0..t.rows {
        let from = t.start.then_some(rsi + 0);
        match t.narrow {
            None => r.start(a, row, from)?,
            Some(0) => r.start(a, row, None)?,
            Some(_) => {
                r.start(a, row, from)?;
                r.spill(a, row, kept(row))?;
                r.start(a, row, None)?;
            }
        }
    }
    if t.start {
        a.add(rsi, t.start_bytes() as i32)?;
    }
    if !t.loops.is_empty() {
        a.xor(r13d, r13d)?;
        nest(t, r, a, 0)?;
    }
    match t.narrow {
        None => {}
        Some(0) => {
            let first = rsi - (64 + t.steps() * t.b_step) as i32;
            for row in 0..t.rows {
                r.widened(a, row)?;
                if t.start {
                    r.add_start(a, row, first)?;
                }
            }
        }
        Some(_) => (0..t.rows).try_for_each(|row| r.start(a, row, Some(kept(row))))?,
    }
    if t.end {
        (0..t.rows).try_for_each(|row| r.add(a, row, rsi + 0))?;
    }
    if matches!(t.finish, Finish::AddScaled { .. }) {
        a.mov(INNERMOST, qword_ptr(rsp + SCALES))?;
        r.scale(a, INNERMOST + 0)?;
    }
    rows_of_c(t, a, |a, row, c| r.finish(a, row, t.finish, c))
}

/// The loops from `depth` inwards; moves the offset on by the extent of the outermost of them.
fn nest(t: &Tile, r: &impl Registers, a: &mut CodeAssembler, depth: usize) -> Done {
    let l = t.loops[depth];
    let Some(inner) = t.loops.get(depth + 1) else { return innermost(t, r, a, depth) };
    let (mut again, counter) = (a.create_label(), (8 * depth) as i32);
    a.mov(qword_ptr(rsp + counter), l.count as i32)?;
    a.set_label(&mut again)?;
    nest(t, r, a, depth + 1)?;
    if t.narrow == Some(depth + 1) {
        (0..t.rows).try_for_each(|row| r.widen(a, row, kept(row)))?;
    }
    a.add(OFFSET, (l.stride - inner.stride * inner.count as i64) as i32)?;
    a.dec(qword_ptr(rsp + counter))?;
    a.jnz(again)
}

fn innermost(t: &Tile, r: &impl Registers, a: &mut CodeAssembler, depth: usize) -> Done {
    let l = t.loops[depth];
    // A short loop is written out.
    let (rounds, rest) = if l.count < 2 * UNROLL { (0, l.count) } else { (l.count / UNROLL, l.count % UNROLL) };
    if rounds > 0 {
        let mut again = a.create_label();
        a.mov(INNERMOST, rounds as u64)?;
        a.set_label(&mut again)?;
        steps(t, r, a, l.stride, UNROLL)?;
        a.dec(INNERMOST)?;
        a.jnz(again)?;
    }
    steps(t, r, a, l.stride, rest)
}

fn steps(t: &Tile, r: &impl Registers, a: &mut CodeAssembler, stride: i64, count: usize) -> Done {
    for step in 0..count {
        let b = rsi + (step * t.b_step) as i32;
        let rows = ROWS.into_iter().take(t.rows).map(|row| row + OFFSET + (stride * step as i64) as i32);
        r.step(a, &rows.collect::<Vec<_>>(), b)?;
        winograd::prefetch(t, a, (OFFSET, (stride * step as i64) as i32), step)?;
    }
    if count > 0 {
        a.add(OFFSET, (stride * count as i64) as i32)?;
        a.add(rsi, (count * t.b_step) as i32)?;
    }
    Ok(())
}
