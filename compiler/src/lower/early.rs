//! Codes decided early: of a sum of digits (`lower::split`), what the upper digits give is mostly enough to know which thresholds
//! are reached, since the lowest digit's sum is small. Only where it is not, that sum is computed too. The codes are exact either
//! way; how often the lowest digit is wanted depends on the data (about one output in a thousand for 24-bit weights and 2-bit
//! codes), and in the worst case it is always.
//!
//! What is known of acc is an integer U of 32 bits with 2^b·U = f·acc + error ([`Approximation`]): f is 1 and the error −P_0 where
//! U is the sum of the upper digits. Then U > ⌊(f·(t − 1) + greatest error)/2^b⌋ is sure to reach t, and
//! U ≤ ⌊(f·t + least error − 1)/2^b⌋ is sure not to. What is compared is ⌊U/2^s⌋, packed to 16 bits with saturation, against bounds
//! rounded to the safe side; s is as small as the thresholds allow ([`shift`]), as it leaves a few more codes open. The values
//! between the two bounds are about as many for all thresholds of an output: a code is open if the distance from the lower bound of
//! any of them is less than that number, without sign and modulo 2^16, which is one comparison for all thresholds, and leaves more
//! open only where the distance is too great for 16 bits.
//!
//! All of it holds as well for the greatest accumulator of several positions with the greatest of their U: as least and greatest
//! are those of every position, the position of the greatest U is sure to reach t, or every one is sure not to.

use super::split::{Products, Split, TILE, VECTOR};
use crate::graph::ops::Geometry;

/// Elements of a vector of bounds: [`TILE`] outputs, twice.
const PASSED: usize = 2 * TILE;

/// Bits of the lower of two digits at least.
const FINEST: u32 = 8;

/// Low bits of U at most that 16 bits leave off.
const WIDEST: u32 = 16;

/// What is known of an output's accumulators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Approximation {
    /// f, positive.
    pub factor: i64,
    /// b.
    pub bits: u32,
    /// The least and the greatest error for any levels.
    pub error: (i64, i64),
    /// The least and the greatest U for any levels.
    pub reach: (i64, i64),
}

/// What the sum of some weights times levels of lo … hi, some of which may be absent, can be: least and greatest; `None` beyond 64
/// bits.
pub fn range(weights: impl IntoIterator<Item = i64>, (lo, hi): (i64, i64)) -> Option<(i64, i64)> {
    // Padding has level 0, whether or not a code has.
    let (lo, hi) = (lo.min(0), hi.max(0));
    weights.into_iter().try_fold((0i64, 0i64), |(least, greatest), w| {
        let (a, b) = (w.checked_mul(lo)?, w.checked_mul(hi)?);
        Some((least.checked_add(a.min(b))?, greatest.checked_add(a.max(b))?))
    })
}

/// Where a threshold lies for U.
enum Threshold {
    /// No U reaches it.
    Never,
    /// Every U does.
    Always,
    /// The greatest U with which an accumulator may stay below, and the greatest with which it is sure to.
    Between(i64, i64),
}

impl Approximation {
    fn threshold(&self, t: i64) -> Threshold {
        let scaled = |t: i64, error: i64| {
            let at = i128::from(self.factor) * i128::from(t) + i128::from(error);
            at.div_euclid(1 << self.bits).clamp(i64::MIN.into(), i64::MAX.into()) as i64
        };
        let (least, greatest) = self.error;
        let (sure, below) = (scaled(t.saturating_sub(1), greatest), scaled(t, least.saturating_sub(1)));
        match (sure, below) {
            _ if below >= self.reach.1 => Threshold::Never,
            _ if sure < self.reach.0 => Threshold::Always,
            _ => Threshold::Between(sure, below.min(sure)),
        }
    }

    /// Whether thresholds can be told with ⌊U/2^s⌋ and none has all values beyond 16 bits open.
    fn tells(&self, row: &[i64], s: u32) -> bool {
        let (lowest, highest) = (i64::from(i16::MIN), i64::from(i16::MAX));
        row.iter().all(|&t| match self.threshold(t) {
            Threshold::Never => true,
            Threshold::Always => self.reach.0 >> s > lowest,
            Threshold::Between(sure, below) => sure >> s < highest && below >> s > lowest,
        })
    }

    /// How many of ⌊U/2^s⌋'s values leave one of the thresholds open, for all of them.
    pub(super) fn open(&self, row: &[i64], s: u32) -> f64 {
        let between = row.iter().filter(|&&t| matches!(self.threshold(t), Threshold::Between(..))).count();
        between as f64 * self.bounds(row, s).map_or(f64::INFINITY, |(_, open)| open.into())
    }

    /// For each threshold what ⌊U/2^s⌋ passes where it is sure to be reached, and the least with which it is open; and how many
    /// leave one of them open. `None` where all of 16 bits would.
    fn bounds(&self, row: &[i64], s: u32) -> Option<(Vec<[i16; 2]>, u16)> {
        let (lowest, highest) = (i64::from(i16::MIN), i64::from(i16::MAX));
        let clamp = |v: i64, from: i64| (v >> s).clamp(from, from + highest - lowest);
        let between: Vec<Option<[i64; 2]>> = row
            .iter()
            .map(|&t| match self.threshold(t) {
                // One value at least is open: what saturates is not told from it.
                Threshold::Between(sure, below) => {
                    Some([clamp(sure, lowest), clamp(below.saturating_sub(1 << s), lowest - 1)])
                }
                Threshold::Never | Threshold::Always => None,
            })
            .collect();
        let open = between.iter().flatten().map(|[sure, below]| sure - below).max().unwrap_or(0);
        let first = |sure: i64| (sure - open + 1) as i16;
        // What is known of the others leaves nothing open beside the rest.
        let other = between.iter().flatten().next().map_or(0, |&[sure, _]| first(sure));
        let known = |t: i64| if matches!(self.threshold(t), Threshold::Never) { highest } else { lowest };
        let each = row.iter().zip(&between).map(|(&t, between)| match *between {
            Some([sure, _]) => [sure as i16, first(sure)],
            None => [known(t) as i16, other],
        });
        Some((each.collect(), u16::try_from(open).ok()?))
    }
}

/// The fewest low bits of U that 16 bits leave off, for thresholds (O, top + 1), direction last; `None` where U could leave 32 bits, or
/// tells nothing of a threshold.
pub fn shift(outputs: &[Approximation], rows: &[i64], top: usize) -> Option<u32> {
    let most = i64::from(i16::MAX) << WIDEST;
    if outputs.iter().any(|o| o.reach.0 < -most || o.reach.1 > most) {
        return None;
    }
    let all = |known: &dyn Fn(&Approximation, &[i64]) -> bool| {
        outputs.iter().zip(rows.chunks(top + 1)).all(|(o, row)| known(o, row.get(..top).unwrap_or(row)))
    };
    let s = (0..WIDEST).find(|&s| all(&|o, row| o.tells(row, s))).unwrap_or(WIDEST);
    all(&|o, row| o.bounds(row, s).is_some()).then_some(s)
}

/// [`Split::thresholds`] of each block, and behind them i16 vectors of 16 outputs, each four of them twice in a row: for each
/// threshold what ⌊U/2^s⌋ passes where it is sure to be reached, and the least with which that is open; then how many leave
/// it open, for the threshold with the most.
pub fn thresholds(
    split: &Split,
    g: &Geometry,
    (rows, top): (&[i64], usize),
    known: &[Approximation],
    shift: u32,
) -> Option<Vec<u8>> {
    let (outputs, blocks) = (g.outputs / g.groups, split.blocks(g));
    // An output that there is not reaches nothing and is never open.
    let mut bounds = vec![i16::MAX; g.groups * blocks * (2 * top + 1) * PASSED];
    let width = |block: usize| (block * (2 * top + 1) + 2 * top) * PASSED;
    (0..g.groups * blocks).for_each(|b| bounds.iter_mut().skip(width(b)).take(PASSED).for_each(|w| *w = 0));
    for (o, (row, known)) in rows.chunks(top + 1).zip(known).enumerate().take(g.outputs) {
        let (group, o) = (o / outputs, o % outputs);
        let block = group * blocks + o / TILE;
        let (passed, open) = known.bounds(row.get(..top).unwrap_or(row), shift)?;
        let mut set = |vector: usize, value: i16| {
            let at = (block * (2 * top + 1) + vector) * PASSED + o % TILE / 4 * 8 + o % 4;
            for at in [at, at + 4] {
                if let Some(bound) = bounds.get_mut(at) {
                    *bound = value;
                }
            }
        };
        for (j, [sure, first]) in passed.into_iter().enumerate() {
            set(2 * j, sure);
            set(2 * j + 1, first);
        }
        set(2 * top, open.cast_signed());
    }
    let exact = split.thresholds(g, rows, top);
    let bounds: Vec<u8> = bounds.iter().flat_map(|v| v.to_le_bytes()).collect();
    let blocks = exact.chunks((top * 2 * VECTOR).max(1)).zip(bounds.chunks((2 * top + 1) * VECTOR));
    Some(blocks.flat_map(|(exact, bounds)| [exact, bounds].concat()).collect())
}

impl Split {
    /// The split whose lowest digit is multiplied on demand, for weight levels (O, C/groups, KH, KW), input levels and thresholds
    /// (O, top + 1), direction last; `None` where there is but one digit or U could leave 32 bits. Of two i16 digits the upper one is
    /// as precise as its sums allow: the fewer bits are left to the lower one, the fewer codes are open.
    pub fn early(
        self,
        g: &Geometry,
        weights: &[i64],
        levels: (i64, i64),
        (rows, top): (&[i64], usize),
    ) -> Option<Split> {
        let weights_of = || weights.chunks(g.taps().max(1));
        let split = match (self.products, self.planes) {
            (Products::Quads, 2..) => Some(self),
            (Products::Pairs, 2) => {
                let finer = (FINEST..=self.bits).map(|bits| Split { bits, ..self });
                finer.into_iter().find(|s| weights_of().all(|row| s.exact(row, levels)))
            }
            _ => None,
        }?;
        Some(Split { early: Some(shift(&split.upper(g, weights, levels)?, rows, top)?), ..split })
    }

    /// What the upper digits' sums say of each output's accumulators.
    fn upper(&self, g: &Geometry, weights: &[i64], levels: (i64, i64)) -> Option<Vec<Approximation>> {
        let each = weights.chunks(g.taps().max(1)).map(|row| {
            let digit = |&w: &i64| self.digit(w, 0);
            let (least, greatest) = range(row.iter().map(digit), levels)?;
            let reach = range(row.iter().map(|w| (w - digit(w)) >> self.bits), levels)?;
            Some(Approximation { factor: 1, bits: self.bits, error: (-greatest, -least), reach })
        });
        each.collect()
    }

    /// [`thresholds`] for the sums of the upper digits; `None` as of [`Split::early`].
    pub fn early_thresholds(
        &self,
        g: &Geometry,
        (rows, top): (&[i64], usize),
        weights: &[i64],
        levels: (i64, i64),
    ) -> Option<Vec<u8>> {
        thresholds(self, g, (rows, top), &self.upper(g, weights, levels)?, self.early?)
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
            let whole = Split::new(&g, &weights, LEVELS, products).expect("several digits");
            assert_eq!(whole.planes, planes);
            what_upper_digits_say(whole, &g, &weights);
        }
    }

    const LEVELS: (i64, i64) = (0, 255);

    fn what_upper_digits_say(whole: Split, g: &Geometry, weights: &[i64]) {
        let (mut open, mut finest) = (0, WIDEST);
        let input = |seed: i64| {
            (0..12).map(move |i| [0, 255, seed * 37 % 256, (seed + i) * 101 % 256][(seed + i) as usize % 4])
        };
        for seed in 0..200 {
            let acc: i64 = input(seed).zip(weights).map(|(x, w)| x * w).sum();
            for d in [-FAR, -30_000, -300, -1, 0, 1, 300, 30_000, FAR, i64::MAX / 2 - acc, i64::MIN / 2 - acc] {
                for t in [acc + d, d, d / 64] {
                    let rows = ([t, 1], 1);
                    let split = whole.early(g, weights, LEVELS, (&rows.0, rows.1)).expect("fits");
                    let (shift, near) = (split.early.expect("early"), (t - acc).abs() < FAR);
                    assert_eq!((split.bits, split.always()), (8, split.planes - 1));
                    let lowest: i64 = input(seed).zip(weights).map(|(x, &w)| x * split.digit(w, 0)).sum();
                    let upper = ((acc - lowest) >> split.bits >> shift).clamp(i16::MIN.into(), i16::MAX.into());
                    let table = split.early_thresholds(g, (&rows.0, rows.1), weights, LEVELS).expect("fits");
                    let word =
                        |vector: usize| i64::from(i16::from_le_bytes(*table[64 * vector..].first_chunk().expect("2")));
                    let (sure, distance) = (upper > word(2), upper - word(3));
                    let undecided = i64::from(distance as u16) < i64::from(word(4) as u16);
                    assert!(undecided || sure == (acc >= t), "{seed} {t}");
                    // Twelve digits of at most 128 for levels of at most 255 sum to less than 400 000; U/2^s moves by 1 at
                    // 2^(b+s).
                    assert!(FAR > 800_000 + (2 << (split.bits + shift)));
                    assert!(!undecided || near, "{t} {upper} {shift} {} {}", word(2), word(3));
                    open += usize::from(undecided);
                    finest = finest.min(shift);
                }
            }
        }
        assert!(open > 200, "{open} open");
        assert!(finest < 4, "{finest}");
    }

    const FAR: i64 = 80_000_000;

    /// Errors of every size, and thresholds anywhere: what is said of U at the ends of its range and around every bound is so.
    #[test]
    fn what_is_known_holds_for_every_error() {
        let reach = (-(i64::from(i16::MAX) << WIDEST), i64::from(i16::MAX) << WIDEST);
        let (mut told, mut refused) = (0, 0);
        for (factor, bits) in [(1, 8), (5_000_000, 30), (1 << 30, 30)] {
            for error in [0i64, 1, 1 << bits, 1 << (bits + 14), 1 << (bits + 30), 1 << (bits + 31)] {
                let known = Approximation { factor, bits, error: (-error, error), reach };
                let scale = (1i64 << bits) as f64 / factor as f64;
                for at in [-2f64.powi(33), -2f64.powi(30), -70_000.0, 0.0, 9.0, 1e6, 2f64.powi(30), 2f64.powi(32)] {
                    let rows = [(at * scale) as i64, (at * scale / 2.0) as i64 + 7, (at * scale) as i64 + 40_000, 1];
                    let Some(s) = shift(&[known], &rows, 3) else {
                        refused += 1;
                        continue;
                    };
                    told += 1;
                    for (i, &t) in rows.iter().enumerate().take(3) {
                        let (near, off) = ((i128::from(factor) * i128::from(t)) >> bits, i128::from(error >> bits));
                        let around = [near, near - off, near + off].into_iter();
                        let steps = around.flat_map(|u| (-2..3).map(move |d| u + (d << s)));
                        let ends = [i128::MIN, i128::MAX];
                        for u in steps.chain(ends).map(|u| u.clamp(reach.0.into(), reach.1.into()) as i64) {
                            assert!(holds(&known, (&rows[..3], i), s, u), "{known:?} {t} {u}");
                        }
                    }
                }
            }
        }
        assert!(told > 50 && refused > 5, "{told} {refused}");
    }

    /// Whether what is said of threshold `i` for this U is so of every accumulator that may have it, if any has.
    fn holds(known: &Approximation, (row, i): (&[i64], usize), s: u32, u: i64) -> bool {
        let (bounds, open) = known.bounds(row, s).expect("told");
        let ([sure, first], t) = (bounds[i], i128::from(row[i]));
        let packed = (u >> s).clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        let (u, f) = (i128::from(u) << known.bits, i128::from(known.factor));
        let (least, greatest) =
            (-(i128::from(known.error.1) - u).div_euclid(f), (u - i128::from(known.error.0)).div_euclid(f));
        let undecided = (packed.wrapping_sub(first) as u16) < open;
        undecided || least > greatest || if packed > sure { least >= t } else { greatest < t }
    }

    #[test]
    fn absent_levels_are_zero() {
        assert_eq!(range([2, -3], (1, 3)), Some((-9, 6)));
        assert_eq!(range([2, -3], (-4, -1)), Some((-8, 12)));
        assert_eq!(range([i64::MAX, 1], (0, 1)), None);
    }

    #[test]
    fn one_digit_is_no_split() {
        let g = Geometry::new(&Attrs::new(), &Shape::batched(&[2, 1, 1]), &Shape::fixed(&[1, 2, 1, 1])).expect("fits");
        let split = Split::new(&g, &[3, -4], (0, 255), Products::Quads).expect("fits");
        assert_eq!(split.early(&g, &[3, -4], (0, 255), (&[1, 1, 1, 1], 1)), None);
    }
}
