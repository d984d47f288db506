//! Convolution by 64-entry tables: how an image is cut into strips, what lies in a worker's scratch memory, and the packed
//! constants. A table holds, for six channels of one input position, the sum Σ code·bit for each of the 64 ways of setting
//! six weight bits; the tables of a strip's rows lie in a ring. It must never know an instruction set.

use super::Buffer;
use super::pack::{comparisons, look_up_tables};
use crate::graph::ops::Geometry;
use crate::graph::types::Layout;

/// Channels of a table.
pub const SIX: usize = 6;
/// Outputs that are looked up together.
pub const BLOCK: usize = 64;
/// Greatest number of horizontal taps.
pub const WIDEST: usize = 7;
/// Bytes of a table.
pub const TABLE: usize = 64;

/// Look-ups in tables of codes of 1 or 2 planes that a byte can sum, whatever the weights.
pub fn limit(planes: usize) -> usize {
    255 / (SIX * top(planes))
}

/// The greatest code of 1 or 2 planes.
fn top(planes: usize) -> usize {
    if planes > 1 { 3 } else { 1 }
}

/// How the tables of a row are divided into chunks of at most `most` that bytes sum: as even as possible, so that none is short.
/// Numbers of chunks and of their tables, in order.
pub fn chunks(tables: usize, most: usize) -> [[usize; 2]; 2] {
    let count = tables.div_ceil(most.max(1)).max(1);
    let (least, more) = (tables / count, tables % count);
    [[more, least + 1], [count - more, least]]
}

/// Look-ups in tables of codes of so many planes that a byte can sum, given the weights as [`weights`] packs them: those of a
/// chunk wherever they are more than what [`limit`] allows any weights. An output adds its greatest code once for
/// each bit that is set, which is half of them where weights are signs.
pub fn proved_limit(g: &Geometry, packed: &[u8], planes: usize) -> usize {
    let (any, width) = (limit(planes), g.kernel[1].max(1));
    let sixes = (g.channels / g.groups).div_ceil(SIX);
    let fits = |chunk: &[u8]| {
        let mut sums = [0usize; BLOCK];
        for indices in chunk.chunks(BLOCK) {
            for (sum, index) in sums.iter_mut().zip(indices) {
                *sum += index.count_ones() as usize * top(planes);
            }
        }
        sums.iter().all(|&sum| sum <= 255)
    };
    let table = width * BLOCK;
    let proves = |n: &usize| {
        packed.chunks((sixes * table).max(1)).all(|mut row| {
            let sizes = chunks(sixes, *n).into_iter().flat_map(|[count, size]| std::iter::repeat_n(size, count));
            { sizes }.all(|size| row.split_off(..size * table).is_none_or(fits))
        })
    };
    let proved = (any / width + 1..=sixes).rev().find(proves);
    proved.map_or(any, |n| any.max(sixes.div_ceil(sixes.div_ceil(n)) * width))
}

/// Pairs of bits of codes that lie so, for tables; `None` where they are neither nibbles nor planes of up to 4 bits.
pub fn halves(b: &Buffer) -> Option<usize> {
    match b.layout {
        Layout::Nibbles => Some(1),
        Layout::Bits if b.planes <= 4 => Some(b.planes.div_ceil(2)),
        _ => None,
    }
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
    /// Rings: two bits of the codes each.
    pub halves: usize,
    groups: usize,
    /// Of 64 channels, of a position and group.
    words: usize,
    outputs: usize,
    stride: usize,
    span: usize,
}

impl Strips {
    /// As even as possible, and as wide as the sums of a strip's row fit 32 vector registers; tables of so many pairs of bits of
    /// the codes.
    pub fn of(g: &Geometry, halves: usize) -> Strips {
        let most = (27usize.saturating_sub(g.kernel[1]) / 3).clamp(1, 8);
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
            halves,
            groups: g.groups,
            words: (g.channels / g.groups).div_ceil(64),
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

    /// Bytes of a ring of tables, `[slot][group][six][column][64]`.
    pub fn ring(&self) -> usize {
        self.slots * self.groups * self.sixes * self.columns(self.positions) * TABLE
    }

    /// Where the sums of codes lie in the scratch memory: u16 `[half][slot][group][sums_pitch]`.
    pub fn sums_at(&self) -> usize {
        self.halves * self.ring()
    }

    /// Bytes of the sums of a half.
    pub fn sums(&self) -> usize {
        self.slots * self.groups * self.sums_pitch() * 2
    }

    /// Where the accumulators of a strip's row lie: i32 `[position][lanes_pitch]`.
    pub fn lanes_at(&self) -> usize {
        self.sums_at() + (self.halves * self.sums()).next_multiple_of(64)
    }

    /// Where a row's codes lie that were spread from bit planes, of each half.
    pub fn codes_at(&self) -> usize {
        (self.lanes_at() + self.positions * self.lanes_pitch() * 4).next_multiple_of(64)
    }

    /// Bytes of a row's codes of one half: four channels a byte, words of 64 channels of each group.
    pub fn codes(&self) -> usize {
        self.columns(self.positions) * self.groups * self.words * 16
    }

    /// Bytes of scratch memory that a worker needs.
    pub fn scratch(&self) -> usize {
        self.codes_at() + self.halves * self.codes()
    }
}

/// Byte `v·64 + i` = popcount(v & i) for the low plane, then the same doubled for the high plane.
#[cfg(test)]
pub fn tables() -> Vec<u8> {
    let counts = (0u32..64 * 64).map(|n| ((n >> 6) & n & 63).count_ones() as u8);
    counts.clone().chain(counts.map(|n| 2 * n)).collect()
}

/// Where the parts of [`quad_tables`] lie.
pub struct QuadTables {
    /// The sums of the channels 0 and 1 of a quad, 4 bytes for each byte of codes.
    pub low_pairs: usize,
    /// Those of the channels 2 and 3.
    pub high_pairs: usize,
    /// For each of 64 ways of setting six bits, the two upper ones.
    pub spread_pair: usize,
    /// The four upper ones.
    pub spread_quad: usize,
}

/// Where the parts of [`quad_tables`] lie, behind the sums of a quad's channels, 16 bytes for each byte of codes.
pub const QUAD_TABLES: QuadTables =
    QuadTables { low_pairs: 4096, high_pairs: 4096 + 1024, spread_pair: 4096 + 2048, spread_quad: 4096 + 2048 + 64 };

/// What builds a table from bytes of four channels, as the nibble layout has them; see [`QUAD_TABLES`].
pub fn quad_tables() -> Vec<u8> {
    let quads = look_up_tables();
    let pairs = |step: usize| quads.chunks(16).flat_map(move |q| q.iter().step_by(step).take(4).copied());
    let mut tables = quads.clone();
    tables.extend(pairs(1).chain(pairs(4)));
    tables.extend((0..64).map(|i| i >> 4).chain((0..64).map(|i| i >> 2)));
    tables
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
/// residual, or the one that stands for none, `top` rows of 64 i16, ascending for each output (two descend on a falling
/// channel), then a mask of 64 bits with the outputs whose comparisons are to be negated. Absent outputs have code 0.
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
                let Some((mut row, falls)) = comparisons(row, top) else { continue };
                falling |= u64::from(falls) << lane;
                // Three ascend whatever the direction: the middle one says which of the others is in question.
                if falls && top == 3 {
                    row.chunks_mut(top).for_each(<[i64]>::reverse);
                }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::attrs::Attrs;
    use crate::graph::types::Shape;

    /// A layer of 64 channels and 3×3 windows whose weights are what `code` says.
    fn layer(code: impl Fn(usize) -> i32) -> (Geometry, Vec<u8>) {
        let g =
            Geometry::new(&Attrs::new(), &Shape::batched(&[64, 8, 8]), &Shape::fixed(&[64, 64, 3, 3])).expect("fits");
        let packed = weights(&g, &(0..64 * 64 * 9).map(code).collect::<Vec<_>>(), 1);
        (g, packed)
    }

    #[test]
    fn proved_limits_depend_on_the_weights() {
        // All bits set is what any weights may be: chunks of 4 of the 11 tables of a row. None set adds nothing.
        let (g, all) = layer(|_| 1);
        assert_eq!((limit(2), proved_limit(&g, &all, 2)), (14, 14));
        assert_eq!(chunks(11, 14 / 3), [[2, 4], [1, 3]]);
        let (g, none) = layer(|_| 0);
        assert_eq!(proved_limit(&g, &none, 2), 33);
        // Half of them, 9 a look-up: chunks of 6 tables and 5.
        let (g, half) = layer(|i| (i / 9 % 2) as i32);
        assert_eq!(proved_limit(&g, &half, 2), 18);
        assert_eq!((limit(1), proved_limit(&g, &half, 1)), (42, 42));
    }

    #[test]
    fn limits_are_proved_for_the_chunks_that_bytes_sum() {
        // The last 32 of 68 channels, in 12 tables: bytes hold what 8 and 4 of these sum, but not 6 and 6.
        let g =
            Geometry::new(&Attrs::new(), &Shape::batched(&[68, 8, 8]), &Shape::fixed(&[64, 68, 3, 3])).expect("fits");
        let codes: Vec<i32> = (0..64 * 68 * 9).map(|i| i32::from(i / 9 % 68 >= 36)).collect();
        assert_eq!(proved_limit(&g, &weights(&g, &codes, 1), 2), 14);
        assert_eq!(chunks(12, 8), [[0, 7], [2, 6]]);
        assert_eq!(chunks(22, 7), [[2, 6], [2, 5]]);
    }

    #[test]
    fn quads_make_the_tables_of_six_channels() {
        let (constants, by_planes) = (quad_tables(), tables());
        let QuadTables { low_pairs, high_pairs, spread_pair, spread_quad } = QUAD_TABLES;
        let at = |i: usize| constants.get(i).copied().unwrap_or(u8::MAX);
        for (first, second) in [(0x00, 0xFF), (0x1B, 0x72), (0xFF, 0xFF), (0x84, 0x39)] {
            for i in 0..TABLE {
                let (pair, quad) = (at(spread_pair + i) as usize, at(spread_quad + i) as usize);
                let planes = |low: usize, high: usize| by_planes[low * 64 + i] + by_planes[4096 + high * 64 + i];
                let even = at(first * 16 + i % 16) + at(low_pairs + second * 4 + pair);
                assert_eq!(even, planes(first & 15 | (second & 3) << 4, first >> 4 | (second >> 4 & 3) << 4));
                let odd = at(high_pairs + first * 4 + i % 4) + at(second * 16 + quad);
                assert_eq!(odd, planes(first >> 2 & 3 | (second & 15) << 2, first >> 6 | (second >> 4) << 2));
            }
        }
    }
}
