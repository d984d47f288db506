//! Convolution by 64-entry tables: how an image is cut into strips, what lies in a worker's scratch memory, and the packed
//! constants. A table holds, for six channels of one input position, the sum Σ code·bit for each of the 64 ways of setting
//! six weight bits; the tables of a strip's rows lie in a ring. It must never know an instruction set.

use super::pack::comparisons;
use crate::graph::ops::Geometry;

/// Channels of a table.
pub const SIX: usize = 6;
/// Outputs that are looked up together.
pub const BLOCK: usize = 64;
/// Bytes of a table.
pub const TABLE: usize = 64;

/// Look-ups in tables of codes of 1 or 2 planes that a byte can sum.
pub fn limit(planes: usize) -> usize {
    255 / (SIX * if planes > 1 { 3 } else { 1 })
}

/// Vertical strips of the output, each computed from top to bottom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strips {
    /// Output columns of the first `wide` strips.
    pub positions: usize,
    /// Strips of that width.
    pub wide: usize,
    /// Further strips, one column narrower.
    pub narrow: usize,
    /// Input rows in the ring.
    pub slots: usize,
    /// Tables of a position and group.
    pub sixes: usize,
    groups: usize,
    outputs: usize,
    stride: usize,
    span: usize,
}

impl Strips {
    /// As even as possible, and as wide as the sums of a strip's row fit 32 vector registers.
    pub fn of(g: &Geometry) -> Strips {
        let most = (30usize.saturating_sub(g.kernel[1]) / 3).clamp(1, 9);
        let width = g.output[1].max(1);
        let count = width.div_ceil(most);
        let (base, wider) = (width / count, width % count);
        let (positions, wide) = if wider == 0 { (base, count) } else { (base + 1, wider) };
        Strips {
            positions,
            wide,
            narrow: count - wide,
            slots: (g.kernel[0] - 1) * g.dilations[0] + 1,
            sixes: (g.channels / g.groups).div_ceil(SIX),
            groups: g.groups,
            outputs: g.outputs,
            stride: g.strides[1],
            span: (g.kernel[1] - 1) * g.dilations[1] + 1,
        }
    }

    /// Strips of equal width: the first one's first output column, how many there are, and the columns of each.
    pub fn parts(&self) -> impl Iterator<Item = [usize; 3]> + use<> {
        let narrow = [self.wide * self.positions, self.narrow, self.positions - 1];
        [[0, self.wide, self.positions], narrow].into_iter().filter(|[_, count, _]| *count > 0)
    }

    /// Input columns under a strip of so many output columns.
    pub fn columns(&self, positions: usize) -> usize {
        (positions.max(1) - 1) * self.stride + self.span
    }

    /// Elements of a row of sums of codes, with room for vectors of eight.
    pub fn sums_pitch(&self) -> usize {
        self.columns(self.positions).next_multiple_of(8)
    }

    /// Channels of a position's accumulators, with room for whole blocks.
    pub fn lanes_pitch(&self) -> usize {
        self.outputs.next_multiple_of(16) + BLOCK
    }

    /// Bytes of the ring of tables, `[slot][group][six][column][64]`.
    fn ring(&self) -> usize {
        self.slots * self.groups * self.sixes * self.columns(self.positions) * TABLE
    }

    /// Where the sums of codes lie in the scratch memory: u16 `[slot][group][sums_pitch]`.
    pub fn sums_at(&self) -> usize {
        self.ring()
    }

    /// Where the accumulators of a strip's row lie: i32 `[position][lanes_pitch]`.
    pub fn lanes_at(&self) -> usize {
        self.sums_at() + (self.slots * self.groups * self.sums_pitch() * 2).next_multiple_of(64)
    }

    /// Bytes of scratch memory that a worker needs.
    pub fn scratch(&self) -> usize {
        self.lanes_at() + self.positions * self.lanes_pitch() * 4
    }
}

/// Byte `v·64 + i` = popcount(v & i) for the low plane, then the same doubled for the high plane.
pub fn tables() -> Vec<u8> {
    let counts = (0u32..64 * 64).map(|n| ((n >> 6) & n & 63).count_ones() as u8);
    counts.clone().chain(counts.map(|n| 2 * n)).collect()
}

/// Weight codes (O, C/groups, KH, KW) as table indices, high planes first: byte
/// `(((((group·blocks + ob)·planes + planes−1−q)·KH + ky)·sixes + six)·KW + kx)·64 + j`, bit i = plane q of channel
/// 6·six + i. Lane j is output j/2 + 32·(j % 2) of the block, so that even and odd lanes are neighbours each.
pub fn weights(g: &Geometry, codes: &[i32], planes: usize) -> Vec<u8> {
    let (inner, outputs, [rows, columns]) = (g.channels / g.groups, g.outputs / g.groups, g.kernel);
    let (taps, sixes, blocks) = (rows * columns, inner.div_ceil(SIX), outputs.div_ceil(BLOCK));
    let mut packed = vec![0u8; g.groups * blocks * planes * taps * sixes * BLOCK];
    for (i, &code) in codes.iter().enumerate() {
        let (o, c, tap) = (i / (inner * taps), i / taps % inner, i % taps);
        let (group, o) = (o / outputs, o % outputs);
        let lane = o % 32 * 2 + o % BLOCK / 32;
        for q in (0..planes).filter(|q| code >> q & 1 == 1) {
            let plane = (group * blocks + o / BLOCK) * planes + planes - 1 - q;
            let row = ((plane * rows + tap / columns) * sixes + c / SIX) * columns + tap % columns;
            if let Some(byte) = packed.get_mut(row * BLOCK + lane) {
                *byte |= 1 << (c % SIX);
            }
        }
    }
    packed
}

/// Bytes of a block's thresholds, so many an output.
pub fn thresholds_pitch(count: usize) -> usize {
    count * BLOCK * 2 + 64
}

/// Thresholds (O, codes·top + 1) of accumulators within ±32 766 for blocks of 64 outputs of each group: for each code of a
/// residual, or the one that stands for none, `top` rows of 64 i16, ascending for each output, then a mask of 64 bits with the
/// outputs whose comparisons are to be negated. Absent outputs have code 0.
pub fn thresholds(rows: &[i64], [codes, top]: [usize; 2], [groups, outputs]: [usize; 2]) -> Vec<u8> {
    let mut packed = Vec::new();
    let count = codes * top;
    for group in 0..groups {
        for block in 0..outputs.div_ceil(BLOCK) {
            let mut falling = 0u64;
            let mut columns = vec![[i16::MAX; BLOCK]; count];
            for lane in 0..BLOCK.min(outputs - block * BLOCK) {
                let o = group * outputs + block * BLOCK + lane;
                let row = rows.get(o * (count + 1)..).and_then(|r| r.get(..=count)).unwrap_or(&[]);
                let Some((row, falls)) = comparisons(row, top) else { continue };
                falling |= u64::from(falls) << lane;
                for (column, t) in columns.iter_mut().zip(row) {
                    if let Some(slot) = column.get_mut(lane) {
                        *slot = t as i16;
                    }
                }
            }
            packed.extend(columns.iter().flatten().flat_map(|t| t.to_le_bytes()));
            packed.extend(falling.to_le_bytes());
            packed.resize(packed.len() + 56, 0);
        }
    }
    packed
}
