//! Winograd's minimal filtering along y for fixed-point weights: F(m, r) makes m rows of results from m + r − 1 products a column
//! of the kernel instead of m·r. Pure functions; what a machine multiplies with is the kernel's matter.
//!
//! With a stride S the rows of a kernel are S phases of r = ⌈KH/S⌉ taps, each a filter of stride 1 over every S-th input row. With the
//! points 0, 1, −1, 2, −2 (as many as wanted) and ∞, the Toom-Cook matrices are (Lavin and Gray 2016, section 4; Winograd 1980)
//!
//! ```text
//! y = A·[(G·w) ⊙ (B·x)]      A (m × n): A_ij = p_j^i,  ∞: i = m − 1          n = m + r − 1
//!                            G (n × r): G_ij = p_i^j / Π_{k≠i}(p_i − p_k),   ∞: j = r − 1
//!                            B (n × n): row i has the coefficients of Π_{k≠i}(z − p_k), ∞: of all factors
//! ```
//!
//! A and B are integers, so transformed levels and results are exact; G·w is not, and is rounded to 16 bits. So y is no accumulator,
//! but an approximation of it as `lower::early` wants one: y = Σ E·x with integers E = A·[U ⊙ B] for the rounded weights
//! U ≈ f/2^b·G·w, and 2^b·y = f·acc + Σ (2^b·E − f·w)·x. Sums in between may leave 32 bits, as they are added modulo 2³²; y does not.

use super::early::{self, Approximation, range};
use super::split::{Split, TILE, VECTOR};
use crate::graph::ops::Geometry;

/// The points that are no ∞, in the order in which they are taken.
const POINTS: [i64; 5] = [0, 1, -1, 2, -2];
/// Rows of results at most.
pub const ROWS: usize = 4;
/// b: bits of the factor below the point.
const BITS: u32 = 30;
/// The greatest transformed weight.
const GREATEST: f64 = i16::MAX as f64;

/// F(results, taps) of every phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// m: rows of results.
    pub results: usize,
    /// r: rows of the kernel a phase.
    pub taps: usize,
    /// S: phases.
    pub phases: usize,
    /// Phases, the last ones, with a tap less.
    pub short: usize,
}

impl Filter {
    /// For `results` rows of results a time of this geometry; `None` where it takes more points than there are, or saves nothing.
    pub fn of(g: &Geometry, results: usize) -> Option<Filter> {
        let phases = g.strides[0];
        let taps = g.kernel[0].div_ceil(phases.max(1));
        let filter = Filter { results, taps, phases, short: taps * phases - g.kernel[0] };
        let fits =
            (2..=ROWS).contains(&results) && taps > 1 && filter.values() <= POINTS.len() + 1 && g.dilations[0] == 1;
        (fits && filter.short < phases).then_some(filter)
    }

    /// n: transformed rows of a phase.
    pub fn values(self) -> usize {
        self.results + self.taps - 1
    }

    /// Those of phase `phase` that are multiplied: ∞'s weights are the last tap's.
    pub fn multiplied(self, phase: usize) -> usize {
        self.values() - usize::from(phase + self.short >= self.phases)
    }

    /// Products of all phases a column of the kernel.
    pub fn products(self) -> usize {
        self.phases * self.values() - self.short
    }

    fn points(self) -> &'static [i64] {
        POINTS.get(..self.values() - 1).unwrap_or(&POINTS)
    }

    /// A: for each row of results the factors of the products.
    pub fn output(self) -> Vec<Vec<i64>> {
        let row = |i: usize| {
            let finite = self.points().iter().map(|p| p.pow(i as u32));
            finite.chain([i64::from(i + 1 == self.results)]).collect()
        };
        (0..self.results).map(row).collect()
    }

    /// B: for each transformed row the factors of the input's.
    pub fn input(self) -> Vec<Vec<i64>> {
        let product = |but: Option<usize>| {
            let factors = self.points().iter().enumerate().filter(|&(i, _)| Some(i) != but);
            let mut row = factors.fold(vec![1i64], |row, (_, p)| {
                let moved = [0].into_iter().chain(row.iter().copied());
                moved.zip(row.iter().copied().chain([0])).map(|(up, same)| up - p * same).collect()
            });
            row.resize(self.values(), 0);
            row
        };
        (0..self.values() - 1).map(|i| product(Some(i))).chain([product(None)]).collect()
    }

    /// G·w for the taps of one phase, as a fraction each.
    fn weights(self, taps: &[i64]) -> Vec<(i64, i64)> {
        let points = self.points();
        let finite = points.iter().enumerate().map(|(i, p)| {
            let sum = taps.iter().rev().fold(0, |sum, w| sum * p + w);
            (sum, points.iter().enumerate().filter(|&(k, _)| k != i).map(|(_, q)| p - q).product())
        });
        finite.chain([(taps.get(self.taps - 1).copied().unwrap_or(0), 1)]).collect()
    }
}

/// Elements of E of a column at most: rows of results by rows of levels.
const EFFECTS: usize = ROWS * (POINTS.len() + 1);

/// What a value's weight adds to each.
type Effect = [f64; EFFECTS];

/// Times at most that all values of a column are tried.
const SWEEPS: usize = 3;

/// The weights of a column's values as integers: rounded, then one more or less where the errors of E become smaller in all. Those of
/// neighbouring points cancel in part, so the bounds of the error are less than two thirds of what rounding alone gives. What is
/// exactly 0 stays so.
fn round(exact: &[f64], effects: &[Effect]) -> Vec<i16> {
    let mut u: Vec<f64> = exact.iter().map(|v| v.round()).collect();
    let mut errors: Effect = [0.0; EFFECTS];
    for ((u, exact), effect) in u.iter().zip(exact).zip(effects) {
        errors.iter_mut().zip(effect).for_each(|(error, effect)| *error += (u - exact) * effect);
    }
    let size = |errors: &Effect| errors.iter().map(|e| e.abs()).sum::<f64>();
    let mut least = size(&errors);
    for _ in 0..SWEEPS {
        let before = least;
        for ((u, _), effect) in u.iter_mut().zip(exact).zip(effects).filter(|((_, exact), _)| **exact != 0.0) {
            for by in [1.0, -1.0] {
                let mut moved = errors;
                moved.iter_mut().zip(effect).for_each(|(error, effect)| *error += by * effect);
                if size(&moved) < least && (*u + by).abs() <= GREATEST {
                    (least, errors) = (size(&moved), moved);
                    *u += by;
                }
            }
        }
        if least == before {
            break;
        }
    }
    u.into_iter().map(|v| v as i16).collect()
}

/// A layer's transformed weights.
#[derive(Clone, Debug)]
pub struct SplitWinograd {
    /// The filter.
    pub filter: Filter,
    /// Steps of two elements of a row of the kernel.
    pub steps: usize,
    /// As of [`early::shift`].
    pub shift: u32,
    /// What the sums say of each output's accumulators, in any row of results.
    known: Vec<Approximation>,
    /// The standard deviation of the sums of each output, for levels of any value alike.
    spread: Vec<f64>,
    /// U of each output: [phase][element of a row][value].
    weights: Vec<i16>,
}

impl SplitWinograd {
    /// Of weight levels (O, C, KH, KW), input levels and thresholds (O, top + 1), direction last; `None` where transformed levels
    /// could leave 16 bits or sums 32, and for groups.
    pub fn new(
        g: &Geometry,
        filter: Filter,
        weights: &[i64],
        levels: (i64, i64),
        (rows, top): (&[i64], usize),
    ) -> Option<SplitWinograd> {
        let row = g.kernel[1] * g.channels;
        let narrow = |v: i64| i16::try_from(v).is_ok();
        let input = filter.input().into_iter().map(|b| range(b, levels)).collect::<Option<Vec<_>>>()?;
        if g.groups != 1 || g.dilations != [1, 1] || input.iter().any(|&(lo, hi)| !narrow(lo) || !narrow(hi)) {
            return None;
        }
        let (steps, known, spread, u) = (row.div_ceil(2), Vec::new(), Vec::new(), Vec::new());
        let mut all = SplitWinograd { filter, steps, shift: 0, known, spread, weights: u };
        let deviation = (levels.1 - levels.0) as f64 / 12f64.sqrt();
        for output in weights.chunks(g.taps().max(1)) {
            let (u, known) = all.output(g, output, levels)?;
            let squares: f64 = output.iter().map(|&w| (w as f64).powi(2)).sum();
            all.spread.push(squares.sqrt() * deviation * known.factor as f64 / 2f64.powi(BITS as i32));
            all.known.push(known);
            all.weights.extend(u);
        }
        all.shift = early::shift(&all.known, rows, top)?;
        Some(all)
    }

    /// U of an output, and what its sums say.
    fn output(&self, g: &Geometry, weights: &[i64], levels: (i64, i64)) -> Option<(Vec<i16>, Approximation)> {
        let filter = self.filter;
        let row = g.kernel[1] * g.channels;
        let tap = |phase: usize, k: usize, j: usize| {
            let (c, kx, ky) = (k % g.channels, k / g.channels, j * filter.phases + phase);
            let at = (c * g.kernel[0] + ky) * g.kernel[1] + kx;
            if ky < g.kernel[0] { weights.get(at).copied().unwrap_or(0) } else { 0 }
        };
        let columns: Vec<Vec<i64>> = (0..filter.phases)
            .flat_map(|phase| (0..row).map(move |k| (phase, k)))
            .map(|(phase, k)| (0..filter.taps).map(|j| tap(phase, k, j)).collect())
            .collect();
        let transformed: Vec<Vec<(i64, i64)>> = columns.iter().map(|taps| filter.weights(taps)).collect();
        let greatest = transformed.iter().flatten().fold(1f64, |most, &(n, d)| most.max((n as f64 / d as f64).abs()));
        let factor = (GREATEST / greatest * 2f64.powi(BITS as i32)).floor().max(1.0) as i64;
        // Half as precise where sums could leave their bits.
        let factors = (0..8).map(|halvings| (factor >> halvings).max(1));
        let effects = self.effects();
        factors.into_iter().find_map(|factor| {
            let scale = factor as f64 / 2f64.powi(BITS as i32);
            let round = |values: &Vec<(i64, i64)>| {
                let exact: Vec<f64> = values.iter().map(|&(n, d)| n as f64 / d as f64 * scale).collect();
                round(&exact, &effects)
            };
            let u: Vec<i16> = transformed.iter().flat_map(round).collect();
            let known = self.approximation(&columns, &u, factor, levels)?;
            let reach = i64::from(i16::MAX) << 16;
            (known.reach.0 >= -reach && known.reach.1 <= reach).then_some((u, known))
        })
    }

    /// For each value what one more of its weight adds to E: A's factors times B's, every row of results and of levels.
    fn effects(&self) -> Vec<Effect> {
        let (output, input) = (self.filter.output(), self.filter.input());
        let of = |(v, b): (usize, &Vec<i64>)| {
            let factors = output.iter().map(|a| a.get(v).copied().unwrap_or(0));
            let all = factors.flat_map(|a| b.iter().map(move |b| (a * b) as f64));
            let mut effect = [0.0; EFFECTS];
            effect.iter_mut().zip(all).for_each(|(slot, e)| *slot = e);
            effect
        };
        input.iter().enumerate().map(of).collect()
    }

    /// What the sums with these transformed weights say of the accumulators of these columns of taps.
    fn approximation(&self, columns: &[Vec<i64>], u: &[i16], factor: i64, levels: (i64, i64)) -> Option<Approximation> {
        let (filter, input) = (self.filter, self.filter.input());
        let mut known: Option<Approximation> = None;
        for (i, a) in filter.output().iter().enumerate() {
            let (mut effective, mut errors) = (Vec::new(), Vec::new());
            for (taps, u) in columns.iter().zip(u.chunks(filter.values())) {
                for x in 0..filter.values() {
                    let products = a.iter().zip(u).zip(&input);
                    let e: i64 = products.map(|((a, &u), b)| a * i64::from(u) * b.get(x).copied().unwrap_or(0)).sum();
                    let w = x.checked_sub(i).and_then(|j| taps.get(j)).copied().unwrap_or(0);
                    effective.push(e);
                    errors.push((e << BITS).checked_sub(factor.checked_mul(w)?)?);
                }
            }
            let (reach, error) = (range(effective, levels)?, range(errors, levels)?);
            let union = |a: (i64, i64), b: (i64, i64)| (a.0.min(b.0), a.1.max(b.1));
            known = Some(match known {
                None => Approximation { factor, bits: BITS, error, reach },
                Some(k) => Approximation { error: union(k.error, error), reach: union(k.reach, reach), ..k },
            });
        }
        known
    }

    /// Steps of a block: a vector of weights each.
    pub fn block_steps(&self) -> usize {
        self.steps * self.filter.products()
    }

    /// Bytes of the weights of one block of [`TILE`] outputs, all digits of `split` behind the transformed ones.
    pub fn block_bytes(&self, split: &Split) -> usize {
        self.block_steps() * VECTOR + split.bytes_by_output()
    }

    /// The weights of each block: for each phase, step and value that is multiplied a vector of two i16 an output, then the digits of
    /// the weight levels as [`Split::digits_by_output`] lays them out; behind all there is room to read a vector.
    pub fn pack(&self, g: &Geometry, split: &Split, weights: &[i64]) -> Vec<u8> {
        let digits = split.digits_by_output(g, weights);
        let blocks = digits.chunks(split.bytes_by_output().max(1)).enumerate();
        let mut packed: Vec<u8> = blocks.flat_map(|(block, digits)| [&self.block(block, g), digits].concat()).collect();
        packed.resize(packed.len() + VECTOR, 0);
        packed
    }

    fn block(&self, block: usize, g: &Geometry) -> Vec<u8> {
        let (filter, row) = (self.filter, g.kernel[1] * g.channels);
        let values = filter.values();
        let element = |o: usize, phase: usize, k: usize, v: usize| {
            let at = ((o * filter.phases + phase) * row + k) * values + v;
            let there = o < g.outputs && k < row;
            self.weights.get(at).copied().filter(|_| there).unwrap_or(0)
        };
        let mut bytes = Vec::with_capacity(self.block_steps() * VECTOR);
        for phase in 0..filter.phases {
            for step in 0..self.steps {
                for v in 0..filter.multiplied(phase) {
                    for o in block * TILE..(block + 1) * TILE {
                        let pair = [2 * step, 2 * step + 1].map(|k| element(o, phase, k, v));
                        bytes.extend(pair.into_iter().flat_map(i16::to_le_bytes));
                    }
                }
            }
        }
        bytes
    }

    /// [`early::thresholds`] for the sums.
    pub fn thresholds(&self, g: &Geometry, split: &Split, thresholds: (&[i64], usize)) -> Option<Vec<u8>> {
        early::thresholds(split, g, thresholds, &self.known, self.shift)
    }

    /// The share of outputs that the sums leave open, about: for levels of any value alike, and thresholds where sums are not rare.
    pub fn open(&self, (rows, top): (&[i64], usize)) -> f64 {
        const DENSITY: f64 = 0.3;
        let outputs = self.known.iter().zip(&self.spread).zip(rows.chunks(top + 1));
        let open = outputs.map(|((known, spread), row)| {
            let values = known.open(row.get(..top).unwrap_or(row), self.shift) * 2f64.powi(self.shift as i32);
            (DENSITY * values / spread.max(1.0)).min(1.0)
        });
        open.sum::<f64>() / self.known.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::attrs::{Attr, Attrs};
    use crate::graph::types::Shape;
    use crate::lower::split::Products;
    use crate::passes::fixed;

    const LEVELS: (i64, i64) = (0, 255);

    fn geometry(channels: usize, kernel: [usize; 2], stride: i64) -> Geometry {
        let attrs = Attrs::new().with("strides", Attr::Ints(vec![stride, 1]));
        let weights = Shape::fixed(&[20, channels, kernel[0], kernel[1]]);
        Geometry::new(&attrs, &Shape::batched(&[channels, 40, 40]), &weights).expect("fits")
    }

    /// Weights as alike as `kind` 0 wants, one a channel far greater than the rest for 1, all as great
    /// as they may be for 2.
    fn weights(g: &Geometry, kind: usize) -> Vec<i64> {
        let most = fixed::GREATEST;
        let weight = |i: usize| match kind {
            0 => (i as i64 * 7_919_333 + 11) % (2 * most) - most,
            1 if i % g.taps() != 7 => (i as i64 * 31) % 900 - 450,
            2 if i % 2 == 1 => -most,
            _ => most,
        };
        (0..g.outputs * g.taps()).map(weight).collect()
    }

    fn filters() -> impl Iterator<Item = (Geometry, Filter)> {
        let shapes = [(3, [12, 12], 4), (3, [7, 7], 2), (3, [5, 5], 1), (4, [3, 2], 1), (1, [4, 3], 2), (2, [5, 1], 2)];
        shapes.into_iter().flat_map(|(channels, kernel, stride)| {
            let g = geometry(channels, kernel, stride);
            (2..=5).filter_map(move |m| Some((g.clone(), Filter::of(&g, m)?)))
        })
    }

    #[test]
    fn filters_are_convolutions() {
        for (g, filter) in filters() {
            let x: Vec<i64> = (0..filter.values() as i64).map(|i| (i * 37 + 5) % 256).collect();
            let w: Vec<i64> = (0..filter.taps as i64).map(|i| (i * 91 + 3) % 101 - 50).collect();
            let b = filter.input();
            for (i, a) in filter.output().iter().enumerate() {
                let products = filter.weights(&w).into_iter().zip(a).zip(&b).map(|(((n, d), a), b)| {
                    (a * n) as f64 / d as f64 * b.iter().zip(&x).map(|(b, x)| b * x).sum::<i64>() as f64
                });
                let want: i64 = w.iter().zip(x.iter().skip(i)).map(|(w, x)| w * x).sum();
                assert!((products.sum::<f64>() - want as f64).abs() < 1e-6, "{filter:?} of {g:?}");
            }
        }
        assert!(filters().count() > 12);
    }

    /// The sums of the packed weights, and what is known of them, for levels at the ends of their range and between: in every row of
    /// results.
    #[test]
    fn sums_are_what_is_known_of_them() {
        for (g, filter) in filters() {
            for kind in 0..3 {
                let weights = weights(&g, kind);
                let rows = vec![0; 2 * g.outputs];
                let w = SplitWinograd::new(&g, filter, &weights, LEVELS, (&rows, 1)).expect("fits");
                let split = Split::new(&g, &weights, LEVELS, Products::Quads).expect("fits");
                let packed = w.pack(&g, &split, &weights);
                for seed in 0..12i64 {
                    let level = |y: usize, k: usize| {
                        let i = (y * g.kernel[1] * g.channels + k) as i64;
                        [0, 255, i * seed % 256, (i + seed) % 2 * 255][seed as usize % 4]
                    };
                    for o in [0, 7, g.outputs - 1] {
                        for (m, y) in sums(&w, &g, &split, &packed, o, level).into_iter().enumerate() {
                            let acc: i64 = (0..g.taps())
                                .map(|i| {
                                    let (c, ky, kx) = (
                                        i / (g.kernel[0] * g.kernel[1]),
                                        i / g.kernel[1] % g.kernel[0],
                                        i % g.kernel[1],
                                    );
                                    let x = level(m * filter.phases + ky, kx * g.channels + c);
                                    weights[o * g.taps() + i] * x
                                })
                                .sum();
                            let known = w.known[o];
                            let error = (i128::from(y) << BITS) - i128::from(known.factor) * i128::from(acc);
                            assert!(
                                error >= known.error.0.into() && error <= known.error.1.into(),
                                "{filter:?} {kind}"
                            );
                            assert!((known.reach.0..=known.reach.1).contains(&y), "{filter:?} {kind}");
                        }
                    }
                }
            }
        }
    }

    /// The rows of results of output `o` from packed weights, modulo 2^32, as a tile makes them.
    fn sums(
        w: &SplitWinograd,
        g: &Geometry,
        split: &Split,
        packed: &[u8],
        o: usize,
        level: impl Fn(usize, usize) -> i64,
    ) -> Vec<i64> {
        let (filter, row) = (w.filter, g.kernel[1] * g.channels);
        let mut products = vec![0i32; filter.values()];
        let mut vectors = packed[o / TILE * w.block_bytes(split)..].chunks(VECTOR);
        for phase in 0..filter.phases {
            for step in 0..w.steps {
                for (v, product) in products.iter_mut().enumerate().take(filter.multiplied(phase)) {
                    let vector = vectors.next().expect("a vector");
                    for (i, k) in [2 * step, 2 * step + 1].into_iter().enumerate().filter(|&(_, k)| k < row) {
                        let at = o % TILE * 4 + 2 * i;
                        let u = i16::from_le_bytes([vector[at], vector[at + 1]]);
                        let rows = filter.input()[v].clone().into_iter().enumerate();
                        let x: i64 =
                            rows.map(|(i, b)| if b == 0 { 0 } else { b * level(i * filter.phases + phase, k) }).sum();
                        assert!(i16::try_from(x).is_ok());
                        *product = product.wrapping_add(i32::from(u).wrapping_mul(x as i32));
                    }
                }
            }
        }
        let row = |a: &Vec<i64>| {
            a.iter().zip(&products).fold(0i32, |sum, (&a, &p)| sum.wrapping_add((a as i32).wrapping_mul(p))).into()
        };
        filter.output().iter().map(row).collect()
    }

    #[test]
    fn digits_lie_by_output_behind_transformed_weights() {
        let g = geometry(3, [7, 7], 2);
        let (filter, weights) = (Filter::of(&g, 3).expect("fits"), weights(&g, 0));
        let w = SplitWinograd::new(&g, filter, &weights, LEVELS, (&[0; 40], 1)).expect("fits");
        assert_eq!(w.block_steps(), 11 * (6 + 5));
        // Runs of 21 levels: of bytes in whole steps of four, of pairs in whole vectors.
        for (products, run_bytes) in [(Products::Quads, 24), (Products::Pairs, 64)] {
            let split = Split::new(&g, &weights, LEVELS, products).expect("fits");
            let packed = w.pack(&g, &split, &weights);
            assert_eq!(packed.len(), 2 * w.block_bytes(&split) + VECTOR);
            for (i, &weight) in weights.iter().enumerate() {
                let (o, c, ky, kx) = (i / g.taps(), i / 49 % 3, i / 7 % 7, i % 7);
                for plane in 0..split.planes {
                    let element = (kx * 3 + c) * products.element();
                    let output = ((plane * TILE + o % TILE) * 7 + ky) * run_bytes + element;
                    let at = o / TILE * w.block_bytes(&split) + w.block_steps() * VECTOR + output;
                    let digit = (split.digit(weight, plane) as i16).to_le_bytes();
                    assert_eq!(packed[at..at + products.element()], digit[..products.element()]);
                }
            }
        }
    }
}
