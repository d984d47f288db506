//! Split integers: fixed-point weights as balanced digits, so that a product of many bits is a few products of few bits,
//! each summed in 32 bits. Pure functions; what a machine multiplies with is the kernel's matter.
//!
//! With W = Σ_p d_p·2^(b·p) and P_p = Σ d_p·level, the accumulator is Σ_p P_p·2^(b·p). It is held as
//! hi = (P_0 >> b) + P_1 + 2^b·P_2 and lo = P_0 mod 2^b, so that acc = hi·2^b + lo; hi fits 32 bits wherever acc is below
//! 2^(31+b) in magnitude, whatever its terms do, as they are added modulo 2³².

use crate::graph::ops::Geometry;
use crate::graph::{Graph, NodeId, Value};
use crate::passes::fixed::reach;

/// Outputs whose weights lie together.
pub const TILE: usize = 16;

/// Bytes of a step's weights of one plane: [`TILE`] outputs, four bytes each.
pub const VECTOR: usize = 4 * TILE;

/// Bytes of pairs of one output that are multiplied at once.
pub const PAIRS: usize = 32;

/// Bytes of a run of so many steps of a digit's pairs of one output by itself, filled up to what is multiplied at once.
pub fn pairs_by_output(steps: usize) -> usize {
    (4 * steps).next_multiple_of(PAIRS)
}

/// Whether a node is an integer convolution whose weights have more levels than codes: fixed point.
pub fn fixed_point(graph: &Graph, id: NodeId) -> bool {
    let weights = graph.operands(id).get(1).and_then(|&w| graph.value_type(w)).and_then(|t| t.codes());
    graph.node(id).is_some_and(|n| n.op.name == "int_conv") && weights.is_some_and(|c| c.bits() > 9)
}

/// The value that lies in memory for `value`: what `append_top` appends to is there already, in the caller's input, and the
/// reader appends.
pub fn stored(graph: &Graph, value: Value) -> Value {
    match graph.node(value.node) {
        Some(node) if node.op.name == "append_top" => graph.operands(node.id).first().copied().unwrap_or(value),
        _ => value,
    }
}

/// Whether a node is an `append_top` that every reader does by itself: fixed-point layers that read the caller's input.
pub fn appended_by_readers(graph: &Graph, id: NodeId) -> bool {
    let value = Value { node: id, port: 0 };
    let users = graph.users(value);
    stored(graph, value) != value
        && graph.inputs().contains(&stored(graph, value).node)
        && users.iter().all(|&(user, port)| port == 0 && fixed_point(graph, user))
}

/// What a step multiplies and adds to a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Products {
    /// Two of i16 by i16.
    Pairs,
    /// Four of u8 by i8.
    Quads,
}

impl Products {
    /// Elements of the reduction a step.
    pub fn together(self) -> usize {
        if self == Products::Pairs { 2 } else { 4 }
    }

    /// Bytes of an input level.
    pub fn element(self) -> usize {
        4 / self.together()
    }
}

/// How a layer's weights are split and its reduction is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// What is multiplied.
    pub products: Products,
    /// Bits of a digit but the last, and of lo.
    pub bits: u32,
    /// Digits.
    pub planes: usize,
    /// Rows, and runs a row, of the reduction; the elements of a run lie side by side in the input (y, x, c).
    pub runs: [usize; 2],
    /// Elements of a run.
    pub length: usize,
    /// Set where the lowest digit is multiplied only where the others leave a code open (`lower::early`); its weights then lie
    /// behind those of the others. So many low bits of the others' sum are ignored.
    pub early: Option<u32>,
}

/// Where a weight is.
struct Place {
    /// Block of outputs, of all groups.
    block: usize,
    /// Output within it.
    output: usize,
    /// Run of the reduction.
    run: usize,
    /// Element of the run.
    k: usize,
}

impl Split {
    /// The split of a layer with these weight levels (O, C/groups, KH, KW) for input levels `lo` … `hi`; `None` where no sum
    /// of such products is sure to be exact.
    pub fn new(g: &Geometry, weights: &[i64], levels: (i64, i64), products: Products) -> Option<Split> {
        Split::first(g, levels, products, |s| weights.chunks(g.taps().max(1)).all(|row| s.exact(row, levels)))
    }

    /// As [`Split::new`], knowing of the weights only that none is beyond ±`greatest`.
    pub fn bounded(g: &Geometry, greatest: i64, levels: (i64, i64), products: Products) -> Option<Split> {
        Split::first(g, levels, products, |s| s.bounds(g.taps(), greatest, levels))
    }

    /// The first way of splitting that `exact` proves.
    fn first(g: &Geometry, (lo, hi): (i64, i64), products: Products, exact: impl Fn(&Split) -> bool) -> Option<Split> {
        let inner = g.channels / g.groups;
        let joined = g.groups == 1 && g.dilations[1] == 1;
        let (runs, length) =
            if joined { ([g.kernel[0], 1], g.kernel[1] * inner) } else { ([g.kernel[0], g.kernel[1]], inner) };
        let (forms, most): (&[_], _) = match products {
            Products::Pairs => (&[(16, 1), (12, 2), (8, 3)], (i16::MIN.into(), i16::MAX.into())),
            Products::Quads => (&[(8, 1), (8, 2), (8, 3)], (0, 255)),
        };
        if lo < most.0 || hi > most.1 {
            return None;
        }
        forms.iter().map(|&(bits, planes)| Split { products, bits, planes, runs, length, early: None }).find(exact)
    }

    /// Whether no sum of `taps` products of weights up to ±`greatest` can leave its 32 bits.
    fn bounds(&self, taps: usize, greatest: i64, (lo, hi): (i64, i64)) -> bool {
        let last = self.bits as usize * (self.planes - 1);
        // Every digit but the last is balanced; the last is what is left, rounded.
        let rest = if self.planes == 1 { greatest } else { (greatest >> last) + 1 };
        let digit = if self.planes == 1 { rest } else { rest.max(1 << (self.bits - 1)) };
        let sum = |w: i64| (taps as i64).checked_mul(w)?.checked_mul(lo.abs().max(hi.abs()));
        rest <= self.top() && sum(digit).is_some_and(|r| r < 1 << 31) && sum(greatest).is_some_and(|r| r < self.most())
    }

    /// The greatest digit that is multiplied.
    fn top(&self) -> i64 {
        if self.products == Products::Pairs { i16::MAX.into() } else { i8::MAX.into() }
    }

    /// Whether no sum of an output's products can leave its 32 bits.
    pub(super) fn exact(&self, row: &[i64], levels: (i64, i64)) -> bool {
        let top = self.top();
        let sums = (0..self.planes).map(|p| row.iter().map(|&w| self.digit(w, p)).collect::<Vec<_>>());
        let fits = |digits: Vec<i64>| {
            digits.iter().all(|d| (-top - 1..=top).contains(d)) && reach(&digits, levels).is_some_and(|r| r < 1 << 31)
        };
        sums.into_iter().all(fits) && reach(row, levels).is_some_and(|r| r < self.most())
    }

    /// What no accumulator reaches in magnitude: hi + 1 too fits 32 bits, which comparing with thresholds takes.
    fn most(&self) -> i64 {
        (1 << (31 + self.bits)) - (1 << self.bits)
    }

    /// Digit `plane` of a weight; the last is what is left.
    pub fn digit(&self, weight: i64, plane: usize) -> i64 {
        let (half, base) = (1 << (self.bits - 1), 1 << self.bits);
        let mut rest = weight;
        for _ in 0..plane {
            rest = (rest + half) >> self.bits;
        }
        if plane + 1 == self.planes { rest } else { (rest + half).rem_euclid(base) - half }
    }

    /// Steps of a run.
    pub fn steps(&self) -> usize {
        self.length.div_ceil(self.products.together())
    }

    /// Steps of the whole reduction.
    fn all_steps(&self) -> usize {
        self.runs[0] * self.runs[1] * self.steps()
    }

    /// Bytes of the weights of one block of [`TILE`] outputs.
    pub fn block_bytes(&self) -> usize {
        self.all_steps() * self.planes * VECTOR
    }

    /// The same with all rows of a window side by side, as a patch of its bytes: rows are not filled up one by one. `None`
    /// where a row of a window is no single run, or there is but one.
    pub fn patched(self) -> Option<Split> {
        let [rows, runs] = self.runs;
        (rows > 1 && runs == 1).then_some(Split { runs: [1, 1], length: rows * self.length, ..self })
    }

    /// Digits that every product takes.
    pub fn always(&self) -> usize {
        self.planes - usize::from(self.early.is_some())
    }

    /// Bytes of a block's weights before those of the lowest digit, where these lie behind the others.
    pub fn always_bytes(&self) -> usize {
        self.all_steps() * self.always() * VECTOR
    }

    /// The vector of a step's digits within its block.
    fn vector(&self, step: usize, plane: usize) -> usize {
        match (self.early.is_some(), plane) {
            (false, _) => step * self.planes + plane,
            (true, 0) => self.all_steps() * self.always() + step,
            (true, _) => step * self.always() + plane - 1,
        }
    }

    /// Blocks of a group.
    pub fn blocks(&self, g: &Geometry) -> usize {
        (g.outputs / g.groups).div_ceil(TILE)
    }

    /// Weight levels (O, C/groups, KH, KW) as digits: byte
    /// `((((group·blocks + o/16)·runs + run)·steps + step)·planes + plane)·64 + o%16·4 + …`, the digits of a step in order;
    /// where codes come early, the lowest digits of a block behind all others.
    pub fn weights(&self, g: &Geometry, weights: &[i64]) -> Vec<u8> {
        let (together, element) = (self.products.together(), self.products.element());
        let mut packed = vec![0u8; g.groups * self.blocks(g) * self.block_bytes()];
        for (w, Place { block, output, run, k }) in self.places(g, weights) {
            let step = run * self.steps() + k / together;
            for plane in 0..self.planes {
                let at = block * self.block_bytes()
                    + self.vector(step, plane) * VECTOR
                    + output * 4
                    + k % together * element;
                let digit = (self.digit(w, plane) as i16).to_le_bytes();
                for (slot, byte) in packed.iter_mut().skip(at).zip(digit).take(element) {
                    *slot = byte;
                }
            }
        }
        packed
    }

    /// Each of weight levels (O, C/groups, KH, KW), and where it is.
    fn places(&self, g: &Geometry, weights: &[i64]) -> impl Iterator<Item = (i64, Place)> {
        let (inner, outputs, blocks) = (g.channels / g.groups, g.outputs / g.groups, self.blocks(g));
        let ([rows, columns], runs, taps) = (g.kernel, self.runs, g.taps());
        weights.iter().enumerate().map(move |(i, &w)| {
            let (o, c, ky, kx) = (i / taps, i / (columns * rows) % inner, i / columns % rows, i % columns);
            let (group, o) = (o / outputs, o % outputs);
            let (run, k) = match runs {
                [1, 1] => (0, (ky * columns + kx) * inner + c),
                [_, 1] => (ky, kx * inner + c),
                [_, runs] => (ky * runs + kx, c),
            };
            (w, Place { block: group * blocks + o / TILE, output: o % TILE, run, k })
        })
    }

    /// Bytes of a run of a digit of one output by itself.
    fn run_by_output(&self) -> usize {
        match self.products {
            Products::Pairs => pairs_by_output(self.steps()),
            Products::Quads => 4 * self.steps(),
        }
    }

    /// Bytes of a block of [`Split::digits_by_output`].
    pub fn bytes_by_output(&self) -> usize {
        self.planes * TILE * self.runs[0] * self.runs[1] * self.run_by_output()
    }

    /// Weight levels (O, C/groups, KH, KW) as digits for each output by itself: element k of a run of
    /// `(((group·blocks + o/16)·planes + plane)·16 + o%16)·runs + run`, each of which has as many bytes.
    pub fn digits_by_output(&self, g: &Geometry, weights: &[i64]) -> Vec<u8> {
        let mut packed = vec![0u8; g.groups * self.blocks(g) * self.bytes_by_output()];
        let (element, runs) = (self.products.element(), self.runs[0] * self.runs[1]);
        for (w, Place { block, output, run, k }) in self.places(g, weights) {
            for plane in 0..self.planes {
                let run = ((block * self.planes + plane) * TILE + output) * runs + run;
                let digit = (self.digit(w, plane) as i16).to_le_bytes();
                let slots = packed.iter_mut().skip(run * self.run_by_output() + k * element);
                slots.zip(digit).take(element).for_each(|(slot, byte)| *slot = byte);
            }
        }
        packed
    }

    /// [`Split::weights`] of bytes whose lowest digits, behind those of the other planes of a block, are turned: byte
    /// `(o%16·runs + run)·4·steps + k` instead; behind all there is room to read a vector.
    pub fn by_output(&self, mut weights: Vec<u8>) -> Vec<u8> {
        for mut block in weights.chunks_mut(self.block_bytes().max(1)) {
            let lowest = block.split_off_mut(self.always_bytes()..).unwrap_or_default();
            let steps = lowest.to_vec();
            let quads = (0..TILE).flat_map(|o| steps.chunks(4).skip(o).step_by(TILE));
            for (to, quad) in lowest.chunks_mut(4).zip(quads) {
                to.copy_from_slice(quad);
            }
        }
        weights.resize(weights.len() + VECTOR, 0);
        weights
    }

    /// For each block, digit and output, in this order, `times` the sum of the digits of its weight levels (O, C/groups, KH, KW), as i32.
    pub fn sums_of_digits(&self, g: &Geometry, weights: &[i64], times: i64) -> Vec<u8> {
        let (outputs, blocks) = (g.outputs / g.groups, self.blocks(g));
        let mut sums = vec![0i32; g.groups * blocks * self.planes * TILE];
        for (o, row) in weights.chunks(g.taps().max(1)).enumerate() {
            let (group, o) = (o / outputs, o % outputs);
            for plane in 0..self.planes {
                let at = ((group * blocks + o / TILE) * self.planes + plane) * TILE + o % TILE;
                if let Some(slot) = sums.get_mut(at) {
                    *slot = (times * row.iter().map(|&w| self.digit(w, plane)).sum::<i64>()) as i32;
                }
            }
        }
        sums.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    /// Thresholds (O, top + 1), direction last, of accumulators whose falling channels are negated, as i32 vectors of 16
    /// outputs: for each block and threshold t the upper part t >> b, then the lower part minus 1; so acc ≥ t where
    /// hi > upper, or hi = upper and lo > lower. Absent outputs are never reached.
    pub fn thresholds(&self, g: &Geometry, rows: &[i64], top: usize) -> Vec<u8> {
        let (outputs, blocks) = (g.outputs / g.groups, self.blocks(g));
        let most = (1i64 << (31 + self.bits)) - 1;
        let mut packed = vec![i32::MAX; g.groups * blocks * top * 2 * TILE];
        for (o, row) in rows.chunks(top + 1).enumerate().take(g.outputs) {
            let (group, o) = (o / outputs, o % outputs);
            for (j, &t) in row.iter().take(top).enumerate() {
                let t = t.clamp(-most, most);
                let at = (((group * blocks + o / TILE) * top + j) * 2) * TILE + o % TILE;
                let parts = [t >> self.bits, (t & ((1 << self.bits) - 1)) - 1];
                for (part, value) in parts.into_iter().enumerate() {
                    if let Some(slot) = packed.get_mut(at + part * TILE) {
                        *slot = value as i32;
                    }
                }
            }
        }
        packed.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    /// What decoding reads: the scales of each block's 16 outputs as f64.
    pub fn scales(&self, g: &Geometry, scale: impl Fn(usize) -> f64) -> Vec<u8> {
        let (outputs, blocks) = (g.outputs / g.groups, self.blocks(g));
        let scales = (0..g.groups * blocks * TILE).map(|i| {
            let (group, o) = (i / (blocks * TILE), i % (blocks * TILE));
            if o < outputs { scale(group * outputs + o) } else { 0.0 }
        });
        scales.flat_map(f64::to_le_bytes).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::attrs::{Attr, Attrs};
    use crate::graph::types::Shape;
    use crate::passes::fixed::GREATEST;

    fn geometry(channels: usize, kernel: [usize; 2], groups: usize) -> Geometry {
        let input = Shape::batched(&[channels, 20, 20]);
        let attrs = Attrs::new().with("groups", Attr::Int(groups as i64));
        Geometry::new(&attrs, &input, &Shape::fixed(&[2 * groups, channels / groups, kernel[0], kernel[1]]))
            .expect("fits")
    }

    fn split(products: Products, bits: u32, planes: usize) -> Split {
        Split { products, bits, planes, runs: [1, 1], length: 1, early: None }
    }

    #[test]
    fn digits_are_balanced_and_sum_to_the_weight() {
        for (split, most) in [(split(Products::Quads, 8, 3), 128), (split(Products::Pairs, 12, 2), 2048)] {
            for w in (-GREATEST..=GREATEST).step_by(997).chain([GREATEST, 0, -1, 127, 128, -128, -129, 32639, 32640]) {
                let digits: Vec<i64> = (0..split.planes).map(|p| split.digit(w, p)).collect();
                assert!(digits.iter().all(|d| (-most..most).contains(d)), "{w}: {digits:?}");
                let sum: i64 = digits.iter().enumerate().map(|(p, d)| d << (split.bits as usize * p)).sum();
                assert_eq!(sum, w);
            }
        }
    }

    #[test]
    fn sums_that_could_overflow_are_refused() {
        // alexnet's first layer in the worst case: half the weights of the greatest magnitude may be positive.
        let g = geometry(3, [12, 12], 1);
        let rows = |w: &dyn Fn(usize) -> i64| (0..2 * 432).map(w).collect::<Vec<i64>>();
        let pixels = (0, 255);
        let worst = rows(&|_| GREATEST);
        assert_eq!(Split::new(&g, &worst, pixels, Products::Quads), None);
        // 12-bit digits have room: their upper part is smaller.
        assert_eq!(Split::new(&g, &worst, pixels, Products::Pairs).map(|s| s.bits), Some(12));
        let half = rows(&|i| if i % 2 == 0 { GREATEST } else { -GREATEST });
        assert!(Split::new(&g, &half, pixels, Products::Quads).is_some());
        // Small weights are one digit.
        let few = rows(&|i| (i as i64 % 256) - 128);
        assert_eq!(Split::new(&g, &few, pixels, Products::Quads).map(|s| s.planes), Some(1));
        assert_eq!(Split::new(&g, &few, pixels, Products::Pairs).map(|s| s.planes), Some(1));
        // Too many products for 12-bit digits, not for 8-bit ones.
        let g = geometry(9216, [1, 1], 1);
        let many = vec![2047; 2 * 9216];
        assert_eq!(Split::new(&g, &many, pixels, Products::Pairs).map(|s| (s.bits, s.planes)), Some((8, 3)));
        // Signed levels are no bytes without a sign.
        assert_eq!(Split::new(&g, &many, (-1, 1), Products::Quads), None);
    }

    #[test]
    fn what_bounds_prove_holds_for_the_worst_weights() {
        for products in [Products::Pairs, Products::Quads] {
            for greatest in [1, 3, 127, 128, 255, 2047, 32_640] {
                for channels in [1, 16, 300, 9216] {
                    let g = geometry(channels, [1, 1], 1);
                    let Some(bounded) = Split::bounded(&g, greatest, (0, 255), products) else { continue };
                    for w in [greatest, -greatest, (greatest / 2).max(1)] {
                        let row = vec![w; g.taps()];
                        assert!(bounded.exact(&row, (0, 255)), "{products:?} {greatest} {channels} {w}");
                    }
                }
            }
        }
        let one = geometry(128, [3, 3], 1);
        assert_eq!(Split::bounded(&one, 1, (0, 3), Products::Quads).map(|s| s.planes), Some(1));
        assert_eq!(Split::bounded(&one, 255, (0, 255), Products::Quads).map(|s| s.planes), Some(2));
        assert_eq!(Split::bounded(&one, 1, (-1, 1), Products::Quads), None);
    }

    #[test]
    fn packed_weights_give_the_accumulator_back() {
        for (channels, kernel, groups) in [(3, [5, 4], 1), (8, [3, 3], 2), (6, [1, 1], 1), (5, [2, 1], 1)] {
            let g = geometry(channels, kernel, groups);
            let weights: Vec<i64> =
                (0..g.outputs * g.taps()).map(|i| (i as i64 * 7_919_333 + 11) % (2 * GREATEST) - GREATEST).collect();
            for products in [Products::Pairs, Products::Quads] {
                let rows = Split::new(&g, &weights, (0, 3), products).expect("fits");
                let zero = vec![0; 2 * g.outputs];
                for s in
                    [Some(rows), rows.patched(), rows.early(&g, &weights, (0, 3), (&zero, 1))].into_iter().flatten()
                {
                    let packed = s.weights(&g, &weights);
                    assert_eq!(packed.len(), groups * s.blocks(&g) * s.block_bytes());
                    // Σ digits·2^(b·plane) of each output over everything is the sum of its weights.
                    let mut sums = vec![0i64; g.outputs];
                    for (i, bytes) in packed.chunks(products.element()).enumerate() {
                        let at = i * products.element();
                        let (block, vector) = (at / s.block_bytes(), at % s.block_bytes() / VECTOR);
                        let plane = match (s.early, vector * VECTOR < s.always_bytes()) {
                            (None, _) => vector % s.planes,
                            (_, true) => 1 + vector % s.always(),
                            _ => 0,
                        };
                        let o = at % VECTOR / 4;
                        let digit = match *bytes {
                            [b] => i64::from(b as i8),
                            [a, b] => i64::from(i16::from_le_bytes([a, b])),
                            _ => unreachable!(),
                        };
                        if digit != 0 {
                            sums[block * (g.outputs / groups) + o] += digit << (s.bits as usize * plane);
                        }
                    }
                    let want: Vec<i64> = weights.chunks(g.taps()).map(|row| row.iter().sum()).collect();
                    assert_eq!(sums, want);
                }
            }
        }
    }

    #[test]
    fn lowest_digits_by_output() {
        let g = geometry(3, [5, 4], 1);
        let weights: Vec<i64> = (0..g.outputs * g.taps()).map(|i| (i as i64 * 7_919_333) % GREATEST).collect();
        let rows = Split::new(&g, &weights, (0, 255), Products::Quads).expect("fits");
        let s = rows.early(&g, &weights, (0, 255), (&vec![0; 2 * g.outputs], 1)).expect("fits");
        let (by_step, by_output) = (s.weights(&g, &weights), s.by_output(s.weights(&g, &weights)));
        assert_eq!(by_output.len(), by_step.len() + VECTOR);
        let digit = |packed: &[u8], block: usize, at: usize| packed.get(block * s.block_bytes() + at).copied();
        for (i, &w) in weights.iter().enumerate() {
            let (o, c, ky, kx) = (i / g.taps(), i / 20 % 3, i / 4 % 5, i % 4);
            let (run, k) = (ky, kx * 3 + c);
            let step = s.always_bytes() + (run * s.steps() + k / 4) * VECTOR + o % TILE * 4 + k % 4;
            let output = s.always_bytes() + (o % TILE * s.runs[0] + run) * 4 * s.steps() + k;
            let want = Some(s.digit(w, 0) as u8);
            assert_eq!([digit(&by_step, o / TILE, step), digit(&by_output, o / TILE, output)], [want; 2]);
        }
    }
}
