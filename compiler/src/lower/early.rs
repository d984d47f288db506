//! Codes decided early: of a sum of digits (`lower::split`), what the upper digits give is mostly enough to know which thresholds
//! are reached, since the lowest digit's sum is small. Only where it is not, that sum is computed too. The codes are exact either
//! way; how often the lowest digit is wanted depends on the data (about one output in a thousand for 24-bit weights and 2-bit
//! codes), and in the worst case it is always.
//!
//! With acc = 2^b·U + P_0 and least ≤ P_0 ≤ greatest for any levels: U ≥ ⌈(t − least)/2^b⌉ is sure to reach t, and
//! U < ⌈(t − greatest)/2^b⌉ is sure not to. What is compared is ⌊U/2^s⌋, which fits 16 bits, against bounds rounded to the safe
//! side; that leaves a few more codes open. The values between the two bounds are about as many for all thresholds of an output:
//! a code is open if the distance from the lower bound of any of them is less than that number, without sign and modulo 2^16,
//! which is one comparison for all thresholds, and leaves more open only where the distance is too great for 16 bits.
//!
//! All of it holds as well for the greatest accumulator of several positions with the greatest of their U: as least and greatest
//! are those of every position, the position of the greatest U is sure to reach t, or every one is sure not to.

use super::split::{Products, Split, TILE, VECTOR};
use crate::graph::ops::Geometry;
use crate::passes::fixed::reach;

/// Elements of a vector of bounds: [`TILE`] outputs, twice.
const PASSED: usize = 2 * TILE;

/// Bits of the lower of two digits at least.
const FINEST: u32 = 8;

impl Split {
    /// The split whose lowest digit is multiplied on demand, for weight levels (O, C/groups, KH, KW) and input levels; `None`
    /// where there is but one digit or U could leave 32 bits. Of two i16 digits the upper one is as precise as its sums allow:
    /// the fewer bits are left to the lower one, the fewer codes are open.
    pub fn early(self, g: &Geometry, weights: &[i64], levels: (i64, i64)) -> Option<Split> {
        let rows = || weights.chunks(g.taps().max(1));
        let split = match (self.products, self.planes) {
            (Products::Quads, 2..) => Some(self),
            (Products::Pairs, 2) => {
                let finer = (FINEST..=self.bits).map(|bits| Split { bits, ..self });
                finer.into_iter().find(|s| rows().all(|row| s.exact(row, levels)))
            }
            _ => None,
        }?;
        let upper = |row: &[i64]| {
            let upper: Vec<i64> = row.iter().map(|&w| (w - split.digit(w, 0)) >> split.bits).collect();
            reach(&upper, levels)
        };
        let most = rows().map(upper).collect::<Option<Vec<i64>>>()?.into_iter().max()?;
        let shift = (0..=16).find(|s| most <= i64::from(i16::MAX) << s)?;
        Some(Split { early: Some(shift), ..split })
    }

    /// What the lowest digit's sum of an output can be: least and greatest.
    fn lowest(&self, row: &[i64], (lo, hi): (i64, i64)) -> (i64, i64) {
        let digits = row.iter().map(|&w| self.digit(w, 0));
        digits.fold((0, 0), |(least, greatest), d| (least + (d * lo).min(d * hi), greatest + (d * lo).max(d * hi)))
    }

    /// [`Split::thresholds`] of each block, and behind them i16 vectors of 16 outputs, each four of them twice in a row: for each
    /// threshold what ⌊U/2^s⌋ passes where it is sure to be reached, and the least with which that is open; then how many leave
    /// it open, for the threshold with the most.
    pub fn early_thresholds(
        &self,
        g: &Geometry,
        rows: &[i64],
        top: usize,
        weights: &[i64],
        levels: (i64, i64),
    ) -> Vec<u8> {
        let (outputs, blocks) = (g.outputs / g.groups, self.blocks(g));
        // An output that there is not reaches nothing and is never open.
        let mut bounds = vec![i16::MAX; g.groups * blocks * (2 * top + 1) * PASSED];
        let width = |block: usize| (block * (2 * top + 1) + 2 * top) * PASSED;
        (0..g.groups * blocks).for_each(|b| bounds.iter_mut().skip(width(b)).take(PASSED).for_each(|w| *w = 0));
        let sums = weights.chunks(g.taps().max(1)).map(|row| self.lowest(row, levels));
        for (o, (row, lowest)) in rows.chunks(top + 1).zip(sums).enumerate().take(g.outputs) {
            let (group, o) = (o / outputs, o % outputs);
            let block = group * blocks + o / TILE;
            let passed: Vec<[i16; 2]> = row.iter().take(top).map(|&t| self.passed(t, lowest)).collect();
            let open = passed.iter().map(|[sure, may]| sure.abs_diff(*may)).max().unwrap_or(0);
            let mut set = |vector: usize, value: i16| {
                let at = (block * (2 * top + 1) + vector) * PASSED + o % TILE / 4 * 8 + o % 4;
                for at in [at, at + 4] {
                    if let Some(bound) = bounds.get_mut(at) {
                        *bound = value;
                    }
                }
            };
            for (j, [sure, _]) in passed.into_iter().enumerate() {
                set(2 * j, sure);
                set(2 * j + 1, sure.wrapping_sub_unsigned(open).wrapping_add(1));
            }
            set(2 * top, open.cast_signed());
        }
        let exact = self.thresholds(g, rows, top);
        let bounds: Vec<u8> = bounds.iter().flat_map(|v| v.to_le_bytes()).collect();
        let blocks = exact.chunks((top * 2 * VECTOR).max(1)).zip(bounds.chunks((2 * top + 1) * VECTOR));
        blocks.flat_map(|(exact, bounds)| [exact, bounds].concat()).collect()
    }

    /// The greatest ⌊U/2^s⌋ with which an accumulator may stay below `t`, and the greatest with which it is sure to, for what
    /// the lowest digit's sum can be.
    fn passed(&self, t: i64, (least, greatest): (i64, i64)) -> [i16; 2] {
        // The greatest U that does not reach t: ⌈(t − lowest)/2^b⌉ − 1.
        let below = |lowest: i64| t.saturating_sub(lowest).saturating_sub(1) >> self.bits >> self.early.unwrap_or(0);
        // ⌊U/2^s⌋ is within ±32767, so what lies beyond is passed by all or by none.
        [below(least), below(greatest).saturating_sub(1)].map(|v| v.clamp(i16::MIN.into(), i16::MAX.into()) as i16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::attrs::Attrs;
    use crate::graph::types::Shape;
    use crate::passes::fixed::GREATEST;

    #[test]
    fn what_upper_digits_say_holds_for_every_sum_and_threshold() {
        let weights: Vec<i64> = (0..12).map(|i| (i * 7_919_333 + 11) % (2 * GREATEST) - GREATEST).collect();
        let g =
            Geometry::new(&Attrs::new(), &Shape::batched(&[12, 1, 1]), &Shape::fixed(&[1, 12, 1, 1])).expect("fits");
        for (products, planes) in [(Products::Quads, 3), (Products::Pairs, 2)] {
            let split = Split::new(&g, &weights, LEVELS, products).and_then(|s| s.early(&g, &weights, LEVELS));
            let split = split.expect("several digits");
            assert_eq!((split.bits, split.planes, split.always()), (8, planes, planes - 1));
            what_upper_digits_say(&split, &g, &weights);
        }
    }

    const LEVELS: (i64, i64) = (0, 255);

    fn what_upper_digits_say(split: &Split, g: &Geometry, weights: &[i64]) {
        let shift = split.early.expect("early");
        const FAR: i64 = 80_000_000;
        assert!(FAR > 800_000 + (2 << (split.bits + shift)));
        let mut open = 0;
        let input = |seed: i64| {
            (0..12).map(move |i| [0, 255, seed * 37 % 256, (seed + i) * 101 % 256][(seed + i) as usize % 4])
        };
        for seed in 0..200 {
            let acc: i64 = input(seed).zip(weights).map(|(x, w)| x * w).sum();
            let lowest: i64 = input(seed).zip(weights).map(|(x, &w)| x * split.digit(w, 0)).sum();
            let upper = (acc - lowest) >> split.bits;
            for d in [-FAR, -30_000, -300, -1, 0, 1, 300, 30_000, FAR] {
                let t = acc + d;
                let table = split.early_thresholds(g, &[t, 1], 1, weights, LEVELS);
                let word =
                    |vector: usize| i64::from(i16::from_le_bytes(*table[64 * vector..].first_chunk().expect("2")));
                let (sure, distance) = (upper >> shift > word(2), (upper >> shift) - word(3));
                let undecided = i64::from(distance as u16) < i64::from(word(4) as u16);
                assert!(!sure || acc >= t, "{seed} {t}");
                assert!(undecided || sure || acc < t, "{seed} {t}");
                assert!(!(undecided && sure && distance.abs() < 1 << 16), "{seed} {t}");
                // Twelve digits of at most 128 for levels of at most 255 sum to less than 400 000; U/2^s moves by 1 at 2^(b+s).
                assert!(!undecided || d.abs() < FAR, "{d} {upper} {shift} {} {}", word(2), word(3));
                open += usize::from(undecided);
            }
        }
        assert!(open > 200, "{open} of 1400 open");
    }

    #[test]
    fn one_digit_is_no_split() {
        let g = Geometry::new(&Attrs::new(), &Shape::batched(&[2, 1, 1]), &Shape::fixed(&[1, 2, 1, 1])).expect("fits");
        let split = Split::new(&g, &[3, -4], (0, 255), Products::Quads).expect("fits");
        assert_eq!(split.early(&g, &[3, -4], (0, 255)), None);
    }
}
