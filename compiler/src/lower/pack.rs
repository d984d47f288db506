//! Packing of constants into the layouts that kernels read. Pure functions from tensors to bytes.

use crate::graph::ops::Geometry;
use crate::graph::types::CodeType;

/// Outputs that the bit-serial kernel computes together.
pub const OUTPUT_TILE: usize = 4;

/// Weight codes (O, C/groups, KH, KW) as bit planes: u64 word
/// `((((group·blocks + ob)·planes + q)·taps + tap)·words + word)·4 + o % 4`, bit = channel % 64; absent outputs are 0.
pub fn bit_weights(g: &Geometry, codes: &[i32], planes: usize) -> Vec<u8> {
    let (inner, outputs) = (g.channels / g.groups, g.outputs / g.groups);
    let (taps, words, blocks) = (g.kernel[0] * g.kernel[1], inner.div_ceil(64), outputs.div_ceil(OUTPUT_TILE));
    let mut packed = vec![0u64; g.groups * blocks * planes * taps * words * OUTPUT_TILE];
    each_word(g, codes, planes, |[group, o, tap, word, q], bits| {
        let row = ((group * blocks + o / OUTPUT_TILE) * planes + q) * taps + tap;
        if let Some(slot) = packed.get_mut((row * words + word) * OUTPUT_TILE + o % OUTPUT_TILE) {
            *slot = bits;
        }
    });
    packed.iter().flat_map(|w| w.to_le_bytes()).collect()
}

/// Calls `put` with every word of 64 channels of one bit plane of weight codes (O, C/groups, KH, KW): its group, output of the
/// group, tap, number and plane.
fn each_word(g: &Geometry, codes: &[i32], planes: usize, mut put: impl FnMut([usize; 5], u64)) {
    let (inner, outputs) = (g.channels / g.groups, (g.outputs / g.groups).max(1));
    let taps = g.kernel[0] * g.kernel[1];
    for (o, row) in codes.chunks((inner * taps).max(1)).enumerate() {
        for (word, channels) in row.chunks(64 * taps.max(1)).enumerate() {
            for tap in 0..taps {
                for q in 0..planes {
                    let ones = channels.iter().skip(tap).step_by(taps).map(|code| (code >> q & 1) as u64);
                    let bits = ones.enumerate().fold(0, |bits, (c, one)| bits | one << c);
                    put([o / outputs, o % outputs, tap, word, q], bits);
                }
            }
        }
    }
}

/// Weight codes (O, C/groups, KH, KW) as bit planes for blocks of `tile` outputs: u64 word
/// `((((group·blocks + ob)·taps + tap)·words + word)·planes + q)·tile + o % tile`, bit = channel % 64; absent outputs are 0.
pub fn popcount_weights(g: &Geometry, codes: &[i32], planes: usize, tile: usize) -> Vec<u8> {
    let (inner, outputs) = (g.channels / g.groups, g.outputs / g.groups);
    let (taps, words, blocks) = (g.kernel[0] * g.kernel[1], inner.div_ceil(64), outputs.div_ceil(tile));
    let mut packed = vec![0u64; g.groups * blocks * planes * taps * words * tile];
    each_word(g, codes, planes, |[group, o, tap, word, q], bits| {
        let row = (((group * blocks + o / tile) * taps + tap) * words + word) * planes + q;
        if let Some(slot) = packed.get_mut(row * tile + o % tile) {
            *slot = bits;
        }
    });
    packed.iter().flat_map(|w| w.to_le_bytes()).collect()
}

/// Outputs that the look-up kernel computes together.
pub const LOOK_UP_TILE: usize = 16;

/// Weight codes (O, C/groups, KH, KW) as table indices of four bits, two quads of channels a byte: byte
/// `((((group·blocks + ob)·planes + q)·taps + tap)·pairs + c/8)·16 + j`, bit c % 8 = plane q of output
/// 16·ob + j/2 + 8·(j % 2): the even bytes hold the outputs 0 … 7, the odd ones 8 … 15. pairs = ⌈C/8⌉.
pub fn look_up_weights(g: &Geometry, codes: &[i32], planes: usize) -> Vec<u8> {
    let (inner, outputs) = (g.channels / g.groups, g.outputs / g.groups);
    let (taps, blocks, pairs) = (g.kernel[0] * g.kernel[1], outputs.div_ceil(LOOK_UP_TILE), inner.div_ceil(8));
    let mut packed = vec![0u8; g.groups * blocks * planes * taps * pairs * LOOK_UP_TILE];
    for (i, &code) in codes.iter().enumerate() {
        let (o, c, tap) = (i / (inner * taps), i / taps % inner, i % taps);
        let (group, o) = (o / outputs, o % outputs);
        let lane = o % 8 * 2 + o % 16 / 8;
        for q in (0..planes).filter(|q| code >> q & 1 == 1) {
            let row = ((group * blocks + o / LOOK_UP_TILE) * planes + q) * taps + tap;
            if let Some(byte) = packed.get_mut((row * pairs + c / 8) * LOOK_UP_TILE + lane) {
                *byte |= 1 << (c % 8);
            }
        }
    }
    packed
}

/// Outputs that the look-up kernel of one position computes together.
pub const FLAT_TILE: usize = 64;

/// Weight codes (O, C, KH, KW) of one group as table indices, two quads of channels a byte, each tap's channels filled up to words of
/// 64: byte `((ob·planes + q)·pairs + k/8)·64 + j`, k = tap·64·⌈C/64⌉ + c, bit k % 8 = plane q of output
/// 64·ob + 32·(j / 32) + 16·(j % 2) + j % 32 / 2: of 32 bytes the even ones hold the outputs 0 … 15. Absent outputs are 0.
pub fn flat_weights(g: &Geometry, codes: &[i32], planes: usize) -> Vec<u8> {
    let (taps, words) = (g.kernel[0] * g.kernel[1], g.channels.div_ceil(64));
    let pairs = taps * words * 8;
    let mut packed = vec![0u8; g.outputs.div_ceil(FLAT_TILE) * planes * pairs * FLAT_TILE];
    for (o, row) in codes.chunks((g.channels * taps).max(1)).enumerate() {
        let lane = o % 64 / 32 * 32 + o % 16 * 2 + o % 32 / 16;
        for (c, column) in row.chunks(taps.max(1)).enumerate() {
            for (tap, &code) in column.iter().enumerate() {
                for q in (0..planes).filter(|q| code >> q & 1 == 1) {
                    let pair = (o / FLAT_TILE * planes + q) * pairs + tap * words * 8 + c / 8;
                    if let Some(byte) = packed.get_mut(pair * FLAT_TILE + lane) {
                        *byte |= 1 << (c % 8);
                    }
                }
            }
        }
    }
    packed
}

/// The constant tables of the look-up kernel: byte `v·16 + i` = popcount(v & 15 & i) + 2·popcount(v >> 4 & i).
pub fn look_up_tables() -> Vec<u8> {
    let entry = |v: u32, i: u32| (v & 15 & i).count_ones() + 2 * (v >> 4 & i).count_ones();
    (0..256 * 16).map(|n| entry(n >> 4, n & 15) as u8).collect()
}

/// The same for codes whose two bits lie side by side: byte `v·16 + i` = Σ over the channels c in i of the code v >> 2c & 3.
pub fn paired_tables() -> Vec<u8> {
    let entry = |v: u32, i: u32| (0..4).map(|c| (v >> (2 * c) & 3) * (i >> c & 1)).sum::<u32>();
    (0..256 * 16).map(|n| entry(n >> 4, n & 15) as u8).collect()
}

/// Look-ups in tables of codes of so many bit planes, 1 or 2, that a byte sums: an entry is at most 4 or 12; an even number.
pub fn look_up_limit(planes: usize) -> usize {
    if planes > 1 { 20 } else { 60 }
}

/// For each tap and output, activation offset · Σ weight levels: i32 `tap·pitch + o`. What a valid tap adds to the
/// accumulator because activation code 0 is not level 0.
pub fn tap_offsets(g: &Geometry, codes: &[i32], weights: &CodeType, activation_offset: i32) -> Vec<u8> {
    let (inner, taps, pitch) = (g.channels / g.groups, g.kernel[0] * g.kernel[1], g.outputs.next_multiple_of(4));
    let mut sums = vec![0i32; taps * pitch];
    for (i, &code) in codes.iter().enumerate() {
        let (o, tap) = (i / (inner * taps), i % taps);
        if let Some(s) = sums.get_mut(tap * pitch + o) {
            *s = s.wrapping_add(activation_offset.wrapping_mul(weights.level(code.into()) as i32));
        }
    }
    i32_bytes(&sums)
}

/// Float weights (O, C/groups, KH, KW) as f32 `((group·blocks + ob)·K + tap)·32 + o % 32`, K = C/groups·KH·KW; absent
/// outputs are 0.
pub fn float_weights(g: &Geometry, weights: &[f32], tile: usize) -> Vec<u8> {
    let (k, outputs) = (g.taps(), g.outputs / g.groups);
    let blocks = outputs.div_ceil(tile);
    let mut packed = vec![0f32; g.groups * blocks * k * tile];
    for (i, &w) in weights.iter().enumerate() {
        let (o, tap) = (i / k, i % k);
        let (group, o) = (o / outputs, o % outputs);
        if let Some(slot) = packed.get_mut(((group * blocks + o / tile) * k + tap) * tile + o % tile) {
            *slot = w;
        }
    }
    f32_bytes(&packed)
}

/// One value a channel, padded with 0 to a multiple of 4; a single value is repeated.
pub fn per_channel(values: &[f32], channels: usize) -> Vec<u8> {
    let at = |c: usize| if values.len() == 1 { values.first() } else { values.get(c) };
    f32_bytes(&(0..channels.next_multiple_of(4)).map(|c| at(c).copied().unwrap_or(0.0)).collect::<Vec<_>>())
}

/// Rows (C, T) of per-channel values as `t·pitch + c`, padded with `fill`; a single row is repeated.
pub fn transposed<T: Copy>(rows: &[T], channels: usize, count: usize, fill: T) -> Vec<T> {
    let single = rows.len() == count;
    let pitch = channels.next_multiple_of(4);
    let at = |t: usize, c: usize| {
        if c >= channels { None } else { rows.get(if single { t } else { c * count + t }).copied() }
    };
    (0..count).flat_map(|t| (0..pitch).map(move |c| (t, c))).map(|(t, c)| at(t, c).unwrap_or(fill)).collect()
}

/// What an output's accumulators within ±32 766 are compared with, ascending by `top`, and whether the comparisons are to be
/// negated: on a falling channel −acc ≥ t is not (acc ≥ 1 − t). `row` are thresholds and, last, the direction.
pub fn comparisons(row: &[i64], top: usize) -> Option<(Vec<i64>, bool)> {
    let (&direction, row) = row.split_last()?;
    let mut row: Vec<i64> = row.iter().map(|&t| t.clamp(-32_766, 32_767)).collect();
    row.chunks_mut(top.max(1)).for_each(<[i64]>::sort_unstable);
    if direction < 0 {
        row.iter_mut().for_each(|t| *t = 1 - *t);
    }
    Some((row, direction < 0))
}

/// Bytes of the thresholds of 32 outputs, so many an output.
pub fn pair_thresholds_pitch(count: usize) -> usize {
    count * 64 + 64
}

/// Behind the thresholds of 32 outputs: where a byte pattern of 16-bit lanes lies, the first and the second byte four times each.
pub const PAIR_PATTERN: usize = 16;
/// Where the bits of a nibble lie there, one a 16-bit lane.
pub const PAIR_BITS: usize = 32;

/// Thresholds (O, codes·top + 1), direction last, of accumulators within ±32 766, for each 32 outputs of a group: `codes` times for
/// each of `top` thresholds what an accumulator passes that reaches it, i16 of the outputs 0 … 7, 16 … 23, 8 … 15 and 24 … 31,
/// ascending for each output; then a mask of 32 bits with the outputs whose comparisons are to be negated, and two constants
/// ([`PAIR_PATTERN`], [`PAIR_BITS`]). Behind the thresholds of code 0 come, instead of those of the other codes of a residual, the
/// terms of the exclusive-or polynomial in the code's bits whose values they are.
pub fn pair_thresholds(rows: &[i64], [codes, top]: [usize; 2]) -> Vec<u8> {
    let mut packed = Vec::new();
    let count = codes * top;
    for pair in rows.chunks(32 * (count + 1)) {
        let mut columns = vec![[i16::MAX; 32]; count];
        let mut falling = 0u32;
        for (o, row) in pair.chunks(count + 1).enumerate() {
            let Some((row, falls)) = comparisons(row, top) else { continue };
            falling |= u32::from(falls) << o;
            // Bits 3 and 4 of the output change places.
            let lane = o % 8 + o / 16 * 8 + o / 8 % 2 * 16;
            for (column, t) in columns.iter_mut().zip(row) {
                if let Some(slot) = column.get_mut(lane) {
                    *slot = (t - 1) as i16;
                }
            }
        }
        let at = |code: usize, t: usize, lane: usize| columns.get(code * top + t).and_then(|c| c.get(lane)).copied();
        for (code, t) in (0..codes).flat_map(|code| (0..top).map(move |t| (code, t))) {
            let parts = (0..=code).filter(|part| part & code == *part);
            let term = |lane: usize| parts.clone().fold(0, |term, part| term ^ at(part, t, lane).unwrap_or(0));
            packed.extend((0..32).flat_map(|lane| term(lane).to_le_bytes()));
        }
        packed.extend(falling.to_le_bytes());
        packed.resize(packed.len() + PAIR_PATTERN - 4, 0);
        packed.extend((0..8).flat_map(|lane| [lane / 4, 0x80]));
        packed.extend((0..8).flat_map(|lane| (1u16 << (lane % 4)).to_le_bytes()));
        packed.resize(packed.len() + 16, 0);
    }
    packed
}

/// Little-endian bytes.
pub fn f32_bytes(v: &[f32]) -> Vec<u8> {
    v.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Little-endian bytes.
pub fn i32_bytes(v: &[i32]) -> Vec<u8> {
    v.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Little-endian bytes.
pub fn f64_bytes(v: &[f64]) -> Vec<u8> {
    v.iter().flat_map(|x| x.to_le_bytes()).collect()
}
