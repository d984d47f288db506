//! What the gradient of a convolution's input requires. A stride divides the input positions into phases, which differ in
//! the taps that reach them; `codegen::products` says how they are summed.

use super::{FULL_ROWS, InputLayout, Operands, Packing};
use crate::graph::ops::Geometry;
use crate::lower::train::layouts::Maps;
use std::ops::Range;

/// What reaches the input positions `first + stride·q`, q < count, of one axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Phase {
    pub(crate) first: usize,
    pub(crate) stride: usize,
    pub(crate) count: usize,
    /// Taps in the order of the reduction.
    pub(crate) taps: Vec<usize>,
    /// The output position of the first tap at q = 0, and from one tap to the next; at q it is q further.
    pub(crate) output: i64,
    pub(crate) step: i64,
}

impl Phase {
    /// All phases of axis `i`; `ascending` orders the taps by output position instead of by tap.
    fn all(g: &Geometry, i: usize, ascending: bool) -> Vec<Phase> {
        let (extent, pad) = (g.input[i], g.pads[i]);
        // With one output position any greater stride is the same convolution.
        let apart = extent + pad + g.kernel[i] * g.dilations[i];
        let stride = if g.output[i] == 1 { apart } else { g.strides[i] };
        (0..stride.min(extent))
            .map(|first| {
                let at = |tap: usize| (first + pad) as i64 - (tap * g.dilations[i]) as i64;
                let mut taps: Vec<usize> = (0..g.kernel[i]).filter(|&k| at(k) % stride as i64 == 0).collect();
                if ascending {
                    taps.reverse();
                }
                let output = |n: usize| taps.get(n).map_or(0, |&k| at(k) / stride as i64);
                let step = if taps.len() > 1 { output(1) - output(0) } else { 0 };
                let count = (extent - first).div_ceil(stride);
                Phase { first, stride, count, output: output(0), step, taps }
            })
            .collect()
    }

    /// Divided by which of the taps lie within `outputs` positions, which ascend from tap to tap.
    fn by_reach(&self, outputs: usize) -> Vec<Phase> {
        let inside = |q: usize| {
            let at = |n: &usize| self.output + self.step * *n as i64 + q as i64;
            let within: Vec<usize> = (0..self.taps.len()).filter(|n| (0..outputs as i64).contains(&at(n))).collect();
            within.first().map_or(0..0, |&first| first..first + within.len())
        };
        let mut parts: Vec<Phase> = Vec::new();
        for q in 0..self.count {
            let taps = &self.taps[inside(q)];
            match parts.last_mut() {
                Some(part) if part.taps == taps => part.count += 1,
                _ => parts.push(Phase {
                    first: self.first + self.stride * q,
                    count: 1,
                    taps: taps.to_vec(),
                    output: self.output + self.step * inside(q).start as i64 + q as i64,
                    step: if taps.len() > 1 { self.step } else { 0 },
                    ..self.clone()
                }),
            }
        }
        parts
    }

    /// Its rows outside `covered`; only of stride 1.
    pub(crate) fn outside(&self, covered: &Range<usize>) -> impl Iterator<Item = Phase> {
        let end = self.first + self.count;
        let parts = [self.first..end.min(covered.start), self.first.max(covered.end)..end];
        parts.into_iter().filter(|rows| !rows.is_empty()).map(|rows| Phase {
            first: rows.start,
            count: rows.len(),
            output: self.output + (rows.start - self.first) as i64,
            ..self.clone()
        })
    }

    /// Rows times taps.
    fn work(&self) -> usize {
        self.count * self.taps.len()
    }

    /// First and last output position that it reads.
    pub(crate) fn reach(&self) -> [i64; 2] {
        let far = self.output + self.step * (self.taps.len() as i64 - 1).max(0);
        [self.output.min(far), self.output.max(far) + self.count as i64 - 1]
    }
}

/// A product for the gradient of the input.
pub struct InputGrad {
    /// What it reads. The border may be enlarged.
    pub gradient: InputLayout,
    /// What it writes, i32 or f32. The pitch may be enlarged.
    pub input: Maps,
    pub(crate) g: Geometry,
    pub(crate) operands: Operands,
    phases: [Vec<Phase>; 2],
    sequences: Vec<Vec<usize>>,
    /// Input positions of a phase of the stride, and of the least that is a phase of its own.
    positions: [usize; 2],
    /// The most products of a sum.
    terms: usize,
    /// No level of the gradient is even.
    pub(super) odd: bool,
}

/// Rows of a task's least phase after which its idle rows do not matter.
const SOME_ROWS: usize = 36;

/// A phase, divided by which taps reach its rows if that saves a tenth of the work.
fn divided(phase: &Phase, outputs: usize) -> Vec<Phase> {
    let parts = phase.by_reach(outputs);
    let work: usize = parts.iter().map(Phase::work).sum();
    if 10 * work <= 9 * phase.work() { parts } else { vec![phase.clone()] }
}

impl InputGrad {
    /// The product of the convolution `g`; the rows read the gradient.
    ///
    /// # Errors
    /// When the sums may not fit i32 or an operand 31 bits of address.
    pub fn new(g: &Geometry, operands: Operands) -> Result<InputGrad, String> {
        let mut phases = [0, 1].map(|i| Phase::all(g, i, operands.integer()));
        let columns = phases[1].iter().map(|p| p.count).min().unwrap_or(1);
        let whole = phases[0][0].count * phases[1][0].count;
        if operands.integer() {
            phases[0] = phases[0].iter().flat_map(|phase| divided(phase, g.output[0])).collect();
        }
        let rows = phases[0].iter().map(|p| p.count).min().unwrap_or(1);
        let sequences: Vec<Vec<usize>> = pairs(&phases)
            .map(|(y, x)| y.taps.iter().flat_map(|ky| x.taps.iter().map(move |kx| ky * g.kernel[1] + kx)).collect())
            .collect();
        let terms = sequences.iter().map(Vec::len).max().unwrap_or(0) * (g.outputs / g.groups);
        operands.check(terms)?;
        let mut border = [0; 4];
        for i in 0..2 {
            for reach in phases[i].iter().filter(|p| !p.taps.is_empty()).map(Phase::reach) {
                border[i] = border[i].max((-reach[0]).max(0) as usize);
                border[i + 2] = border[i + 2].max((reach[1] - g.output[i] as i64 + 1).max(0) as usize);
            }
        }
        let gradient = InputLayout::new(operands, g.outputs, g.groups, g.output, border)?;
        let input = Maps::new(g.channels, g.groups, g.input)?;
        let positions = [whole, rows * columns];
        Ok(InputGrad { gradient, input, g: g.clone(), operands, phases, sequences, positions, terms, odd: false })
    }

    /// The phases of rows and of columns.
    pub(super) fn phases(&self) -> &[Vec<Phase>; 2] {
        &self.phases
    }

    /// The taps of each phase, in the order of the reduction.
    pub(super) fn sequences(&self) -> &[Vec<usize>] {
        &self.sequences
    }

    /// The most products of a sum.
    pub(super) fn terms(&self) -> usize {
        self.terms
    }

    /// Phases of rows with those of columns, in the order in which their weights are packed.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&Phase, &Phase)> {
        pairs(&self.phases)
    }

    /// Its packed weights, whose units tasks may share.
    pub fn packing(&self) -> Packing<'_> {
        let squares = self.squares().zip(self.whole_sequence());
        let all = squares.as_ref().is_some_and(|(squares, _)| squares.rows() == (0..self.g.input[0]));
        let filtered = !all && self.filtered();
        Packing {
            g: &self.g,
            operands: self.operands,
            transposed: true,
            sequences: &self.sequences,
            bias: false,
            filtered,
            squares,
        }
    }

    /// Whether tasks should take all samples and some of the units, because a sample has few rows.
    pub fn over_batch(&self) -> bool {
        self.positions[0] <= 8
    }

    /// Samples that a task should take so that few rows of its last tile are idle; one where a sample is transformed by itself.
    pub fn samples_per_task(&self) -> usize {
        if self.filtered() || self.squares().is_some() {
            return 1;
        }
        let [whole, least] = self.positions;
        FULL_ROWS.div_ceil(whole).max(SOME_ROWS.div_ceil(least))
    }
}

fn pairs(phases: &[Vec<Phase>; 2]) -> impl Iterator<Item = (&Phase, &Phase)> {
    phases[0].iter().flat_map(|y| phases[1].iter().map(move |x| (y, x)))
}
