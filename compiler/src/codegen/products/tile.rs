//! The micro-kernel of all products: up to [`Tile::rows`] rows × 16 columns of C in registers, summed over a reduction of
//! up to three nested loops. A step of it broadcasts four bytes of each row of A (a float, or two or four neighbouring
//! levels) and combines them with a vector of B. Must never know convolutions.
//!
//! A tile is a leaf function `(table, b)`, or `(table, b, count, a_stride, b_stride, scales)` where it adds to C. `table`
//! holds the addresses of the rows of A, then those of the rows of C. One that adds does so `count` times, for reductions
//! whose operands lie the strides apart, in order; `scales` holds a float each.

use super::tile_clif;
use crate::codegen::CodegenError;
use crate::codegen::emitter::Emitter;
use crate::codegen::image::FunctionId;
use crate::codegen::target::{Arch, Level, x86};
use crate::codegen::tiles::{product, winograd};
pub use crate::lower::train::requirements::COLUMNS;
use crate::lower::train::requirements::winograd::VALUES;

/// Steps after which widening sums costs little.
const SHORTEST: usize = 8;

/// How a step of the reduction combines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// Floats, fused.
    Fma,
    /// Floats, multiply, then add.
    MulAdd,
    /// Two neighbouring i16 of A with two of B, exact in i32.
    Pairs,
    /// Four neighbouring unsigned bytes of A with four signed ones of B, exact in i32. The sum of two products fits i16.
    Quads,
}

impl Arithmetic {
    /// Whether sums are i32.
    pub fn integer(self) -> bool {
        matches!(self, Arithmetic::Pairs | Arithmetic::Quads)
    }
}

/// What becomes of the sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// C = S.
    Store,
    /// C = S as i16, which integers fit.
    Words,
    /// C = C + S, floats.
    Add,
    /// C = C + c·f32(S), S integers; fused or not.
    AddScaled {
        /// One rounding.
        fma: bool,
    },
}

impl Finish {
    /// Whether sums are added to C instead of stored.
    pub fn adds(self) -> bool {
        matches!(self, Finish::Add | Finish::AddScaled { .. })
    }
}

/// One loop of the reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loop {
    /// Iterations, at least 1.
    pub count: usize,
    /// Bytes by which the rows of A move on; B always moves on by a step.
    pub stride: i64,
}

/// What a tile is specialised to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// How a step combines.
    pub arithmetic: Arithmetic,
    /// Rows of C.
    pub rows: usize,
    /// Outermost first. None: the sums are zero.
    pub loops: Vec<Loop>,
    /// Bytes of B from one step to the next.
    pub b_step: usize,
    /// What becomes of the sums.
    pub finish: Finish,
    /// The sums start at the first vector of B, which no step reads, instead of at zero. Only where they are stored, or where
    /// rows are Winograd's tiles.
    pub start: bool,
    /// The vector of B behind the last step is added to the sums last. Only to floats that are stored.
    pub end: bool,
    /// Units that are taken at once; see [`Tile::beside`].
    pub units: Units,
    /// The first of the loops whose sums of two products of bytes add up to an i16 each, where the tile makes use of that; see
    /// [`Tile::narrow`].
    pub narrow: Option<usize>,
    /// Set where a row is a tile of Winograd's minimal filtering; only of bytes that vpdpbusd multiplies.
    pub winograd: Option<Winograd>,
}

/// The distances of a row of transformed values, each of which has a vector of B in every step and one at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Winograd {
    /// Bytes of A from one value to the next.
    pub a: usize,
    /// Bytes of C from one result to the next.
    pub c: usize,
}

/// Units side by side: blocks of 16 columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Units {
    /// How many.
    pub count: usize,
    /// Bytes of B from one to the next.
    pub b: usize,
    /// Bytes of C from one to the next.
    pub c: usize,
}

impl Units {
    /// One by itself.
    pub const ONE: Units = Units { count: 1, b: 0, c: 0 };
}

/// A tile's code.
#[derive(Clone, Copy)]
pub struct TileFunction {
    /// To be called.
    pub function: FunctionId,
    /// Rows of C.
    pub rows: usize,
}

impl Tile {
    /// With as many rows as `level` has registers for; loops that are one loop are joined.
    pub fn new(level: &Level, arithmetic: Arithmetic, loops: &[Loop], b_step: usize, finish: Finish) -> Tile {
        let rows = match level.arch {
            Arch::X86_64 if wide(level, arithmetic) => product::rows(level),
            Arch::X86_64 => 2,
            Arch::Aarch64 => 4,
        };
        Tile {
            arithmetic,
            rows,
            loops: joined(loops),
            b_step,
            finish,
            start: false,
            end: false,
            units: Units::ONE,
            narrow: None,
            winograd: None,
        }
    }

    /// Of Winograd's minimal filtering, where the level has the instructions (`product::multiplies_quads`); the sums start at vectors of B.
    pub fn filtering(loops: &[Loop], distances: Winograd, finish: Finish) -> Tile {
        Tile {
            arithmetic: Arithmetic::Quads,
            rows: winograd::rows(1),
            loops: joined(loops),
            b_step: VALUES * COLUMNS * 4,
            finish,
            start: true,
            end: false,
            units: Units::ONE,
            narrow: None,
            winograd: Some(distances),
        }
    }

    /// The same where sums of two products of bytes, as one instruction makes them, add up to an i16 for `steps` steps: they are
    /// widened where a loop of no more steps ends instead of in each step, if `level` has no instruction that adds four products.
    pub fn narrow(self, level: &Level, steps: usize) -> Tile {
        if self.arithmetic != Arithmetic::Quads || !product::multiplies_pairs(level) {
            return self;
        }
        let inner = |depth: usize| self.loops.iter().skip(depth).map(|l| l.count).product::<usize>();
        let Some(depth) = (0..=self.loops.len()).find(|&depth| inner(depth) <= steps) else { return self };
        let mut loops = self.loops.clone();
        let mut part = 1;
        // Of the loop that is too long as many iterations as there may be, if its count has such a divisor.
        if let Some(outer) = depth.checked_sub(1).and_then(|outer| loops.get_mut(outer)) {
            let Loop { count, stride } = *outer;
            part = (1..=steps / inner(depth)).rev().find(|n| count.is_multiple_of(*n)).unwrap_or(1);
            *outer = Loop { count: count / part, stride: stride * part as i64 };
            if part > 1 {
                loops.insert(depth, Loop { count: part, stride });
            }
        }
        let enough = depth == 0 || part * inner(depth) >= SHORTEST;
        let fits = enough && depth < loops.len() && loops.len() <= product::LOOPS;
        if fits { Tile { narrow: Some(depth), loops, ..self } } else { self }
    }

    /// The same whose sums start at the first vector of B, if `start`.
    pub fn starting(self, start: bool) -> Tile {
        Tile { start, ..self }
    }

    /// The same that adds the vector of B behind the last step, if `end`.
    pub fn ending(self, end: bool) -> Tile {
        Tile { end, ..self }
    }

    /// The same of as many of `blocks` units at once as gains, which lie so many bytes of B and of C apart, if that is more than
    /// one.
    pub fn beside(&self, level: &Level, blocks: usize, [b, c]: [usize; 2]) -> Option<Tile> {
        let [count, rows] = match self.winograd {
            Some(_) => winograd::together(blocks),
            None => product::together(level, self.arithmetic, blocks),
        };
        let fits = count > 1 && count.checked_mul(b.max(c)).is_some_and(|d| d < 1 << 30);
        fits.then(|| Tile { rows, units: Units { count, b, c }, ..self.clone() })
    }

    /// The tile's function, made on first use.
    ///
    /// # Errors
    /// When a distance does not fit an instruction, or the code generator fails.
    pub fn function(&self, e: &mut Emitter<'_, '_>) -> Result<TileFunction, CodegenError> {
        let extent = |l: &Loop| l.stride.checked_mul(l.count as i64).filter(|d| d.abs() < 1 << 30);
        if self.loops.iter().any(|l| extent(l).is_none()) || self.steps() * self.b_step >= 1 << 31 {
            return Err(CodegenError::TooLarge(format!("a product over {:?}", self.loops)));
        }
        let function = if wide(e.level, self.arithmetic) {
            product::function(self, e.level, e.image)?
        } else {
            tile_clif::function(self, e)?
        };
        Ok(TileFunction { function, rows: self.rows })
    }

    /// Steps of the reduction; 0 without loops.
    pub fn steps(&self) -> usize {
        if self.loops.is_empty() { 0 } else { self.loops.iter().map(|l| l.count).product() }
    }

    /// Bytes of B that the sums start at.
    pub fn start_bytes(&self) -> usize {
        match self.winograd {
            _ if !self.start => 0,
            Some(_) => self.b_step,
            None => COLUMNS * 4,
        }
    }

    /// A name that equal tiles share.
    pub fn name(&self, kind: &str) -> String {
        let Tile { arithmetic, rows, loops, b_step, finish, start, end, units, narrow, winograd } = self;
        let loops: Vec<_> = loops.iter().map(|l| format!("{}x{}", l.count, l.stride)).collect();
        let start = if *start { ".start" } else { "" };
        let end = if *end { ".end" } else { "" };
        let Units { count, b, c } = units;
        let beside = if *count > 1 { format!(".{count}x{b}x{c}") } else { String::new() };
        let loops = loops.join(".");
        let narrow = narrow.map_or(String::new(), |depth| format!(".narrow{depth}"));
        let kind = winograd.map_or(kind.to_owned(), |w| format!("{kind}.winograd{}x{}", w.a, w.c));
        format!("tile.product.{kind}.{arithmetic:?}.{finish:?}.{rows}.{loops}.{b_step}{start}{end}{beside}{narrow}")
    }
}

fn wide(level: &Level, arithmetic: Arithmetic) -> bool {
    let needs = if arithmetic.integer() { x86::AVX2 } else { x86::AVX2 | x86::FMA };
    level.has_x86(needs)
}

/// Without loops of one iteration, and with loops that continue one another made one.
fn joined(loops: &[Loop]) -> Vec<Loop> {
    let mut out: Vec<Loop> = Vec::new();
    for &inner in loops {
        match out.last_mut() {
            _ if inner.count == 1 => {}
            Some(outer) if outer.stride == inner.stride * inner.count as i64 => {
                *outer = Loop { count: outer.count * inner.count, stride: inner.stride };
            }
            _ => out.push(inner),
        }
    }
    if out.is_empty() && !loops.is_empty() {
        out.push(Loop { count: 1, stride: 4 });
    }
    out
}
