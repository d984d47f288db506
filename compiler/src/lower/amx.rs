//! Convolution on tiles of 16 × 16 sums: the order of the reduction, the strip of input that tiles read, how positions are
//! gathered into tiles, and the packed constants. It must never know an instruction set.
//!
//! A strip holds the input rows under some rows of the output, padding as zeros, as bytes `[group][y][x][pixel]`. Where codes
//! are unpacked into it, the channels of a group fill whole chunks of 64 bytes, so that no row of a tile crosses a cache line;
//! where levels are copied, the channels of all groups lie side by side. A tile's rows are neighbouring positions. With
//! stride 1 they run on from one row of the output to the next over the columns between, whose sums nobody stores; patches
//! leave no columns between.

use super::split::{Products, Split};
use crate::graph::ops::Geometry;

/// Positions and outputs of a tile.
pub const TILE: usize = 16;
/// Bytes of the reduction that a tile takes.
pub const CHUNK: usize = 64;
/// Bytes of a packed tile of weights: [`CHUNK`] elements of [`TILE`] outputs.
pub const WEIGHTS: usize = CHUNK * TILE;
/// Bytes of a tile's entry in the table of positions: where it reads, then for each row where its position's codes go.
pub const ENTRY: usize = 8 + 4 * TILE;
/// Bytes of a strip that leave room in the near caches.
const STRIP: usize = 96 << 10;
/// Bytes of the sums of a strip that leave room there too.
const SUMS: usize = 256 << 10;

/// Bytes of tiles on their way to codes, at the beginning of the scratch memory.
pub const SPILL: usize = 8 << 10;

/// How tiles find the levels that they read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Codes are unpacked into the strip, the channels of a group into whole chunks.
    Unpacked,
    /// Levels are copied into the strip, the channels of all groups side by side.
    Copied,
    /// Levels are copied, then each position's window is gathered into whole chunks (im2col): for few channels, whose runs
    /// would leave most of a chunk empty.
    Patches,
}

/// How a layer is computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiles {
    /// How weights are split into digits.
    pub split: Split,
    /// How the strip is filled.
    pub fill: Fill,
    /// Bytes of a position in the strip.
    pub pixel: usize,
    /// Rows of the reduction, runs a row, chunks a run.
    pub loops: [usize; 3],
    /// Columns of the strip.
    pub columns: usize,
    /// Positions from one row of the output to the next.
    pub row_positions: usize,
    /// Bytes from one position of a row of the output to the next, where tiles read.
    pub position: usize,
    /// Bytes of a run.
    pub run: usize,
    inner: usize,
    outputs: usize,
    groups: usize,
}

impl Tiles {
    /// The tiles of a layer, whose codes can be unpacked or not.
    pub fn new(g: &Geometry, split: Split, unpacked: bool) -> Tiles {
        let inner = g.channels / g.groups;
        let pixel = if unpacked { inner.next_multiple_of(CHUNK) } else { g.channels };
        let joined = (unpacked || g.groups == 1) && g.dilations[1] == 1;
        let (runs, run) = match joined {
            true => (1, (g.kernel[1] - 1) * pixel + inner),
            false => (g.kernel[1], inner),
        };
        let span = (g.kernel[1] - 1) * g.dilations[1] + 1;
        let columns = (g.output[1] - 1) * g.strides[1] + span;
        let runs_on = g.strides[1] == 1 && (g.strides[0] == 1 || g.output[0] == 1);
        let chunks = run.div_ceil(CHUNK);
        let window = (g.kernel[0] * run).div_ceil(CHUNK);
        let patches = !unpacked && joined && run <= CHUNK && window < g.kernel[0] * chunks;
        let (fill, loops) = match (unpacked, patches) {
            (true, _) => (Fill::Unpacked, [g.kernel[0], runs, chunks]),
            (_, false) => (Fill::Copied, [g.kernel[0], runs, chunks]),
            (_, true) => (Fill::Patches, [1, 1, window]),
        };
        let (row_positions, position) = match fill {
            Fill::Patches => (g.output[1], window * CHUNK),
            _ if runs_on => (columns, pixel),
            _ => (g.output[1].next_multiple_of(TILE), g.strides[1] * pixel),
        };
        let outputs = g.outputs / g.groups;
        Tiles { split, fill, pixel, loops, columns, row_positions, position, run, inner, outputs, groups: g.groups }
    }

    /// Bytes of a row of the strip.
    pub fn row(&self) -> usize {
        self.columns * self.pixel
    }

    /// Input rows under so many rows of the output.
    pub fn tall(&self, g: &Geometry, rows: usize) -> usize {
        (rows.max(1) - 1) * g.strides[0] + (g.kernel[0] - 1) * g.dilations[0] + 1
    }

    /// Bytes from one group's part of the strip to the next.
    pub fn group(&self, tall: usize) -> usize {
        if self.fill == Fill::Unpacked { tall * self.row() } else { self.inner }
    }

    /// Bytes of a strip of levels with the room that the last tiles, or patches, read beyond it.
    pub fn levels(&self, g: &Geometry, rows: usize) -> usize {
        let tall = self.tall(g, rows);
        let groups = if self.fill == Fill::Unpacked { self.groups } else { 1 };
        let beyond = 2 * TILE * g.strides[1] * self.pixel + self.loops[2] * CHUNK;
        (groups * tall * self.row() + beyond).next_multiple_of(64)
    }

    /// Bytes of a strip, patches included.
    pub fn strip(&self, g: &Geometry, rows: usize) -> usize {
        let patches = if self.fill == Fill::Patches { (self.count(g, rows) * TILE + 1) * self.position } else { 0 };
        self.levels(g, rows) + patches
    }

    /// Elements from one position's sums to the next, with room for what a group's last block writes too far; no power of two,
    /// whose lines would share the ways of a cache.
    pub fn pitch(&self) -> usize {
        (self.groups * self.outputs).next_multiple_of(TILE) + TILE
    }

    /// Tiles of positions that are computed together: more than one plane of digits leaves no registers for two.
    pub fn together(&self) -> usize {
        if self.split.planes == 1 { 2 } else { 1 }
    }

    /// Positions, those between rows included, of so many rows of the output.
    pub fn positions(&self, g: &Geometry, rows: usize) -> usize {
        (rows.max(1) - 1) * self.row_positions + g.output[1]
    }

    /// Tiles of so many rows, whole groups of [`Tiles::together`].
    pub fn count(&self, g: &Geometry, rows: usize) -> usize {
        self.positions(g, rows).div_ceil(TILE).next_multiple_of(self.together())
    }

    /// Bytes of the sums of so many rows.
    pub fn sums(&self, g: &Geometry, rows: usize) -> usize {
        self.count(g, rows) * TILE * self.pitch() * 4
    }

    /// The greatest number of rows up to `share` whose strip and sums have room; at least 1.
    fn most_rows(&self, g: &Geometry, share: usize) -> usize {
        let fits = |rows: &usize| self.strip(g, *rows) <= STRIP && self.sums(g, *rows) <= SUMS;
        (1..=share).take_while(fits).last().unwrap_or(1)
    }

    /// Rows of the output a strip, of `share` that one task computes: as even as possible.
    pub fn rows(&self, g: &Geometry, share: usize) -> usize {
        let most = self.most_rows(g, share);
        share.max(1).div_ceil(share.max(1).div_ceil(most))
    }

    /// Bytes of a strip and its sums.
    fn memory(&self, g: &Geometry, rows: usize) -> usize {
        self.strip(g, rows) + self.sums(g, rows)
    }

    /// Blocks of 16 outputs of a group.
    pub fn blocks(&self) -> usize {
        self.outputs.div_ceil(TILE)
    }

    /// Bytes of the weights of a block.
    pub fn block_bytes(&self) -> usize {
        self.loops.iter().product::<usize>() * self.split.planes * WEIGHTS
    }

    /// The table of positions of `rows` rows of the output, [`ENTRY`] bytes a tile; `pitch` are the bytes from one position of
    /// the result to the next. A row of a tile that is no position has −1.
    pub fn table(&self, g: &Geometry, rows: usize, pitch: usize) -> Vec<u8> {
        let mut table = Vec::new();
        for tile in 0..self.count(g, rows) {
            let first = tile * TILE;
            let (y, x) = (first / self.row_positions, first % self.row_positions);
            let from = match self.fill {
                Fill::Patches => first * self.position,
                _ => y * g.strides[0] * self.row() + x * self.position,
            };
            table.extend((from as i64).to_le_bytes());
            for position in first..first + TILE {
                let (y, x) = (position / self.row_positions, position % self.row_positions);
                let there = x < g.output[1] && y < rows;
                let to = if there { ((y * g.output[1] + x) * pitch) as i32 } else { -1 };
                table.extend(to.to_le_bytes());
            }
        }
        table
    }

    /// Weight levels (O, C/groups, KH, KW) as digits: the tile of block b of a group, chunk k and plane p lies, of two blocks
    /// that are computed together, at `((k·2 + b % 2)·planes + p)`; a last odd block by itself. In a tile byte
    /// `e/4·64 + o%16·4 + e%4` is element e of the chunk.
    pub fn weights(&self, g: &Geometry, levels: &[i64]) -> Vec<u8> {
        let [_, runs, chunks] = self.loops;
        let (columns, planes, blocks) = (g.kernel[1], self.split.planes, self.blocks());
        let mut packed = vec![0u8; self.groups * blocks * self.block_bytes()];
        for (i, &level) in levels.iter().enumerate() {
            let (o, c) = (i / g.taps(), i / (columns * g.kernel[0]) % self.inner);
            let (ky, kx) = (i / columns % g.kernel[0], i % columns);
            let (group, o) = (o / self.outputs, o % self.outputs);
            let (run, element) = match self.fill {
                Fill::Patches => (0, ky * self.run + kx * self.pixel + c),
                _ if runs == 1 => (ky, kx * self.pixel + c),
                _ => (ky * runs + kx, c),
            };
            let (block, k) = (o / TILE, run * chunks + element / CHUNK);
            let pair = (blocks - block / 2 * 2).min(2);
            let first = (group * blocks + block / 2 * 2) * self.block_bytes();
            let tile = (k * pair + block % 2) * planes;
            let inside = element % CHUNK / 4 * CHUNK + o % TILE * 4 + element % 4;
            for plane in 0..planes {
                if let Some(byte) = packed.get_mut(first + (tile + plane) * WEIGHTS + inside) {
                    *byte = self.split.digit(level, plane) as i8 as u8;
                }
            }
        }
        packed
    }
}

/// Bytes of scratch memory that any layer of this geometry needs, however it is computed.
pub fn scratch(g: &Geometry) -> usize {
    let ways = [(true, 1), (true, 3), (false, 1), (false, 3)].map(|(unpacked, planes)| {
        let split = Split { products: Products::Quads, bits: 8, planes, runs: [1, 1], length: 1, early: None };
        let tiles = Tiles::new(g, split, unpacked);
        SPILL + tiles.memory(g, tiles.most_rows(g, g.output[0]))
    });
    ways.into_iter().max().unwrap_or(0)
}

/// Outputs whose codes are stored together.
pub const PAIR: usize = 2 * TILE;

/// Bytes of the constants of [`thresholds`] for a pair of blocks.
pub fn thresholds_pitch(top: usize) -> usize {
    (top + 2) * 64
}

/// Thresholds (O, top + 1), direction last, of accumulators within ±32 766 whose falling channels are negated; for each pair
/// of blocks of a group: `top` rows of 32 i16, each threshold minus 1, so that acc ≥ t where acc is greater; the order of
/// quadwords that undoes packing 2 × 16 lanes of 32 bits; masks of the low and high nibbles. Absent outputs have code 0.
pub fn thresholds(rows: &[i64], top: usize, [groups, outputs]: [usize; 2]) -> Vec<u8> {
    let mut packed = Vec::new();
    for group in 0..groups {
        for first in (0..outputs).step_by(PAIR) {
            for t in 0..top {
                for o in first..first + PAIR {
                    let row = rows.get((group * outputs + o) * (top + 1)..).and_then(|r| r.get(..top));
                    let mut row = row.filter(|_| o < outputs).unwrap_or(&[]).to_vec();
                    row.sort_unstable();
                    let below = row.get(t).map_or(i16::MAX, |t| (t.clamp(&-32_766, &32_767) - 1) as i16);
                    packed.extend(below.to_le_bytes());
                }
            }
            packed.extend([0u64, 2, 4, 6, 1, 3, 5, 7].iter().flat_map(|q| q.to_le_bytes()));
            packed.extend([0x0F; 8]);
            packed.extend([0xF0; 8]);
            packed.resize(packed.len() + 48, 0);
        }
    }
    packed
}
