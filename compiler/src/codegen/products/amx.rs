//! How a product's rows and reduction become those of AMX tiles: which rows lie evenly apart, where each begins, and which
//! runs of the reduction are whole rows of a tile. Must never know convolutions or instructions.

use super::rows::{self, Grid};
use super::tile::{Arithmetic, Finish, Loop, Tile, TileFunction};
use super::{InputLayout, Samples};
use crate::codegen::CodegenError;
use crate::codegen::emitter::Emitter;
use crate::codegen::image::FunctionId;
use crate::codegen::target::x86;
use crate::codegen::tiles::amx::{ROW, ROWS};
use crate::codegen::tiles::product_amx::{ProductShape, Rows, TILE, TILES};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value};

/// Tiles of a sample for whose rows a list is kept.
const MOST_TILES: usize = 512;

/// One kind of product tile over the positions of samples, by whichever tiles the level has.
pub struct Walk {
    grid: Grid,
    tile: TileFunction,
    amx: Option<Amx>,
}

/// A product on AMX.
struct Amx {
    /// The steps of the reduction, as the tiles read them.
    steps: Value,
    rows: Cover,
}

/// What the rows of a tile are.
enum Cover {
    /// Positions of one sample: lists one after another, whole ones and perhaps one more of fewer tiles.
    Positions { lists: Value, whole: usize, functions: Vec<FunctionId>, bytes: usize },
    /// Samples: functions of [`TILES`] tiles and of one.
    Samples([FunctionId; 2]),
}

impl Walk {
    /// Where tiles of `tile` are to run over `grid`: over all samples of a batch, whose rows may be samples, or over few.
    /// `a` is the layout of A.
    ///
    /// # Errors
    /// When the code generator fails.
    pub fn new(
        e: &mut Emitter<'_, '_>,
        tile: &Tile,
        grid: Grid,
        a: &InputLayout,
        over_batch: bool,
    ) -> Result<Walk, CodegenError> {
        let function = tile.function(e)?;
        let amx = if e.level.has_x86(x86::AMX) { Amx::new(e, tile, &grid, a, over_batch)? } else { None };
        Ok(Walk { grid, tile: function, amx })
    }

    /// Whether it needs the tile registers.
    pub fn tiled(&self) -> bool {
        self.amx.is_some()
    }

    /// The tile over all positions of the samples [first, end), with `b` as the other operand. The offsets are added to all
    /// addresses.
    pub fn positions(&self, e: &mut Emitter<'_, '_>, samples: [Value; 2], ac: [(Samples, Value); 2], b: Value) {
        let plain = |e: &mut Emitter<'_, '_>| rows::positions(e, self.tile, &self.grid, samples, ac, b);
        let Some(amx) = &self.amx else { return plain(e) };
        match &amx.rows {
            Cover::Positions { lists, whole, functions, bytes } => {
                e.range(samples[0], samples[1], 1, |e, n| {
                    let [from, to] = ac.map(|(s, offset)| s.at(e, n, offset));
                    let part = |e: &mut Emitter<'_, '_>, function: FunctionId, list: Value| {
                        e.call(function, &[from, b, to, list, amx.steps]);
                    };
                    let mut functions = functions.iter();
                    if *whole > 0
                        && let Some(&function) = functions.next()
                    {
                        e.times(*whole, |e, i| {
                            let list = e.at(*lists, i, *bytes);
                            part(e, function, list);
                        });
                    }
                    if let Some(&function) = functions.next() {
                        let list = e.add(*lists, whole * bytes);
                        part(e, function, list);
                    }
                });
            }
            Cover::Samples(functions) => {
                let count = e.b.ins().isub(samples[1], samples[0]);
                let few = e.b.ins().icmp_imm_s(IntCC::SignedLessThan, count, ROWS as i64);
                e.branch(few, plain, |e| self.over_samples(e, amx.steps, *functions, [samples[0], count], ac, b));
            }
        }
    }

    /// Tiles whose rows are samples, of which there are at least as many as a tile has rows. The last tile takes some again.
    fn over_samples(
        &self,
        e: &mut Emitter<'_, '_>,
        steps: Value,
        functions: [FunctionId; 2],
        [first, count]: [Value; 2],
        [(a, a_offset), (c, c_offset)]: [(Samples, Value); 2],
        b: Value,
    ) {
        let Grid { extent: [h, w], a: a_steps, c: c_steps } = self.grid;
        let last = e.b.ins().iadd_imm_s(count, -(ROWS as i64));
        let together = (TILES * ROWS) as i64;
        let whole = e.b.ins().band_imm_s(count, -together);
        let zero = e.int(0);
        for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
            let call = |e: &mut Emitter<'_, '_>, function: FunctionId, sample: Value| {
                let sample = e.b.ins().iadd(first, sample);
                let [from, to] = [(a, a_offset, a_steps), (c, c_offset, c_steps)].map(|(s, offset, steps)| {
                    let at = s.at(e, sample, offset);
                    e.add(at, y * steps[0] + x * steps[1])
                });
                e.call(function, &[from, b, to, a.stride, c.stride, steps]);
            };
            e.range(zero, whole, TILES * ROWS, |e, sample| call(e, functions[0], sample));
            e.range(whole, count, ROWS, |e, sample| {
                let sample = e.min(sample, last);
                call(e, functions[1], sample);
            });
        }
    }
}

impl Amx {
    fn new(
        e: &mut Emitter<'_, '_>,
        tile: &Tile,
        grid: &Grid,
        a: &InputLayout,
        over_batch: bool,
    ) -> Result<Option<Amx>, CodegenError> {
        let Some(steps) = steps(tile, a.zeros()) else { return Ok(None) };
        let words = tile.finish == Finish::Words;
        let shape = |tiles: usize, rows: Rows| ProductShape { tiles, rows, start: tile.start, words };
        let rows = if over_batch {
            if words {
                return Ok(None);
            }
            let functions = [TILES, 1].map(|tiles| shape(tiles, Rows::Even).function(e.image));
            let [several, one] = functions;
            Cover::Samples([several?, one?])
        } else {
            let Some(tiles) = tiles(grid, a.behind()) else { return Ok(None) };
            let (whole, rest) = (tiles.len() / TILES, tiles.len() % TILES);
            let counts = [(whole > 0).then_some(TILES), (rest > 0).then_some(rest)];
            let functions = counts.into_iter().flatten().map(|n| shape(n, Rows::Listed(grid.a[1])).function(e.image));
            let functions = functions.collect::<Result<Vec<_>, _>>()?;
            let lists: Vec<Vec<u8>> = tiles.chunks(TILES).map(list).collect();
            let bytes = lists.iter().map(Vec::len).max().unwrap_or(0);
            let all = lists.into_iter().flat_map(|mut list| {
                list.resize(bytes, 0);
                list
            });
            let all = all.collect();
            Cover::Positions { lists: e.data("rows", all), whole, functions, bytes }
        };
        let count = [steps.len() as u32].into_iter();
        let bytes = count.chain(steps.into_iter().flatten()).flat_map(u32::to_le_bytes).collect();
        Ok(Some(Amx { steps: e.data("steps", bytes), rows }))
    }
}

/// The steps of 64 bytes of A, with the bytes of B where each begins; `None` where runs of A end within a step.
fn steps(tile: &Tile, zeros: usize) -> Option<Vec<[u32; 2]>> {
    if tile.arithmetic != Arithmetic::Quads || tile.finish.adds() || tile.end {
        return None;
    }
    let (run, outer) = tile.loops.split_last().filter(|(run, _)| run.stride == 4)?;
    let bytes = 4 * run.count;
    if bytes.next_multiple_of(ROW) > bytes + zeros {
        return None;
    }
    let mut starts = vec![0i64];
    for Loop { count, stride } in outer {
        starts = starts.iter().flat_map(|at| (0..*count as i64).map(move |i| at + i * stride)).collect();
    }
    let mut steps = Vec::new();
    for (i, start) in starts.into_iter().enumerate() {
        for at in (0..bytes).step_by(ROW) {
            // A vector of B is four bytes of A.
            let b = (i * bytes + at) * (TILE / ROW);
            steps.push([u32::try_from(start + at as i64).ok()?, u32::try_from(b).ok()?]);
        }
    }
    Some(steps)
}

/// A tile of positions: the byte of A at which it begins, and the rows that count with the bytes of C where they lie.
type Positions = (usize, Vec<(usize, usize)>);

/// Tiles that cover the positions of a sample without reading further beyond the last of them than `behind` bytes: across the
/// ends of rows, whose positions beyond the end are left out, or within each row, whichever are fewer.
fn tiles(grid: &Grid, behind: usize) -> Option<Vec<Positions>> {
    let [h, w] = grid.extent;
    let [row, column] = grid.a;
    let starts = |n: usize| {
        let fits = ROWS.saturating_sub(n) * column <= behind;
        fits.then(|| (0..n).step_by(ROWS).map(move |at| at.min(n.saturating_sub(ROWS))))
    };
    let pitch = (row % column == 0 && row >= w * column).then(|| row / column);
    let across = pitch.and_then(|pitch| Some((pitch, starts((h - 1) * pitch + w)?.collect::<Vec<_>>())));
    let within = starts(w).map(|starts| starts.collect::<Vec<_>>());
    let place = |y: usize, x: usize| (y < h && x < w).then_some(y * grid.c[0] + x * grid.c[1]);
    let tiles: Vec<Positions> = match (across, within) {
        (Some((pitch, starts)), within) if within.as_ref().is_none_or(|w| w.len() * h >= starts.len()) => {
            let one = |at: usize| {
                let rows = (0..ROWS).filter_map(|r| Some((r, place((at + r) / pitch, (at + r) % pitch)?)));
                (at * column, rows.collect())
            };
            starts.into_iter().map(one).collect()
        }
        (_, Some(starts)) => {
            let one = |y: usize, at: usize| {
                let rows = (0..ROWS).filter_map(|r| Some((r, place(y, at + r)?)));
                (y * row + at * column, rows.collect())
            };
            (0..h).flat_map(|y| starts.iter().map(move |&at| one(y, at))).collect()
        }
        _ => return None,
    };
    let there = |tile: &Positions| tile.0 < 1 << 31 && tile.1.iter().all(|r| r.1 < 1 << 31);
    (tiles.len() <= MOST_TILES && tiles.iter().all(there)).then_some(tiles)
}

/// What the function of listed rows reads for some tiles.
fn list(tiles: &[Positions]) -> Vec<u8> {
    let rows = || tiles.iter().enumerate().flat_map(|(i, t)| t.1.iter().map(move |&(r, c)| [i * TILE + r * ROW, c]));
    let begins = tiles.iter().map(|t| t.0).chain([rows().count()]);
    let all = begins.chain(rows().flatten());
    all.flat_map(|v| (v as u32).to_le_bytes()).collect()
}
