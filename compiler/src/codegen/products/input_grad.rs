//! Gradient of a convolution's input: rows are input positions, columns input channels. A stride divides the positions into
//! phases, which differ in the taps that reach them; a phase is a convolution of the gradient with stride 1.
//!
//! Floats are summed in (co, ky, kx) order over the taps of the phase; those outside the gradient multiply +0. In an axis
//! where the output has one position, each input position is a phase of its own, so that only the tap inside remains. Sums
//! of levels do not mind what is left out: rows of the input that few of the taps reach are phases of their own.

use super::pack::Packing;
use super::rows::{self, Grid};
use super::tile::{COLUMNS, Finish, Loop, Tile};
use super::{FULL_ROWS, InputLayout, Operands, Samples, group_sizes, separable, unit_parts};
use crate::codegen::CodegenError;
use crate::codegen::emitter::Emitter;
use crate::graph::ops::Geometry;
use crate::lower::train::layouts::Maps;
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// What reaches the input positions `first + stride·q`, q < count, of one axis.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Phase {
    first: usize,
    stride: usize,
    count: usize,
    /// Taps in the order of the reduction.
    taps: Vec<usize>,
    /// The output position of the first tap at q = 0, and from one tap to the next; at q it is q further.
    output: i64,
    step: i64,
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

    /// Rows times taps.
    fn work(&self) -> usize {
        self.count * self.taps.len()
    }

    /// First and last output position that it reads.
    fn reach(&self) -> [i64; 2] {
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
    g: Geometry,
    operands: Operands,
    phases: [Vec<Phase>; 2],
    sequences: Vec<Vec<usize>>,
    /// Input positions of a phase of the stride, and of the least that is a phase of its own.
    positions: [usize; 2],
}

/// Rows of a task's least phase after which its idle rows do not matter.
const SOME_ROWS: usize = 36;

/// A phase, divided by which taps reach its rows if that saves a tenth of the work.
fn divided(phase: &Phase, outputs: usize) -> Vec<Phase> {
    let parts = phase.by_reach(outputs);
    let work: usize = parts.iter().map(Phase::work).sum();
    if 10 * work <= 9 * phase.work() { parts } else { vec![phase.clone()] }
}

/// Phases with tiles of one shape: all that they differ in.
struct Alike {
    tile: Tile,
    grid: Grid,
    /// Bytes into A, B and C.
    offsets: Vec<[i64; 3]>,
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
        operands.check(sequences.iter().map(Vec::len).max().unwrap_or(0) * (g.outputs / g.groups))?;
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
        Ok(InputGrad { gradient, input, g: g.clone(), operands, phases, sequences, positions })
    }

    fn packing(&self) -> Packing<'_> {
        Packing { g: &self.g, operands: self.operands, transposed: true, sequences: &self.sequences, bias: false }
    }

    /// Bytes of the packed weights.
    pub fn packed_bytes(&self) -> usize {
        self.packing().bytes()
    }

    /// Packs `part` of `parts` of the dense weights (O, C/groups, KH, KW), i16 levels or f32, at `src`.
    pub fn emit_pack(&self, e: &mut Emitter<'_, '_>, part: Value, parts: usize, src: Value, dst: Value) {
        self.packing().emit(e, part, parts, src, None, dst);
    }

    /// Blocks of 16 input channels, over all groups.
    pub fn units(&self) -> usize {
        self.g.groups * self.packing().blocks()
    }

    /// Whether tasks may take some of the units each; else all of them.
    pub fn splits_units(&self) -> bool {
        separable(self.g.groups, self.g.channels / self.g.groups)
    }

    /// Whether tasks should take all samples and some of the units, because a sample has few rows.
    pub fn over_batch(&self) -> bool {
        self.positions[0] <= 8
    }

    /// Samples that a task should take so that few rows of its last tile are idle.
    pub fn samples_per_task(&self) -> usize {
        let [whole, least] = self.positions;
        FULL_ROWS.div_ceil(whole).max(SOME_ROWS.div_ceil(least))
    }

    /// The product of the samples [first, end) for the units [first, end).
    ///
    /// # Errors
    /// When the code generator fails.
    pub fn emit(
        &self,
        e: &mut Emitter<'_, '_>,
        samples: [Value; 2],
        units: [Value; 2],
        gradient: Samples,
        packed: Value,
        input: Samples,
    ) -> Result<(), CodegenError> {
        let (g, packing) = (&self.g, self.packing());
        let [inner, outputs] = group_sizes(g);
        let mut work = Vec::new();
        for alike in self.alike(e) {
            let bytes = alike.offsets.iter().flatten().flat_map(|o| o.to_le_bytes()).collect();
            work.push((alike.tile.function(e)?, alike.grid, alike.offsets.len(), e.data("phases", bytes)));
        }
        e.range(units[0], units[1], 1, |e, unit| {
            let [group, block] = unit_parts(e, unit, packing.blocks());
            let b = e.at(packed, unit, packing.unit_bytes());
            let from = e.mul(group, self.gradient.group(outputs));
            let to = e.mul(group, inner * 4);
            let to = e.at(to, block, COLUMNS * 4);
            for (tile, grid, phases, offsets) in &work {
                e.times(*phases, |e, phase| {
                    let offsets = e.at(*offsets, phase, 24);
                    let [from, b, to] = [(from, 0), (b, 8), (to, 16)].map(|(base, i)| {
                        let offset = e.read(types::I64, offsets, i);
                        e.b.ins().iadd(base, offset)
                    });
                    rows::positions(e, *tile, grid, samples, [(gradient, from), (input, to)], b);
                });
            }
        });
        Ok(())
    }

    /// The phases by the shape of their tiles.
    fn alike(&self, e: &Emitter<'_, '_>) -> Vec<Alike> {
        let (g, packing) = (&self.g, self.packing());
        let ([row, column], origin) = self.gradient.steps();
        let pixel = self.input.pixel();
        let mut all: Vec<Alike> = Vec::new();
        let mut packed = 0;
        for (y, x) in pairs(&self.phases) {
            let taps = [(y, row), (x, column)]
                .map(|(phase, step)| Loop { count: phase.taps.len(), stride: phase.step * step as i64 });
            let reached = !y.taps.is_empty() && !x.taps.is_empty();
            let loops = self.gradient.loops(g.outputs / g.groups, taps);
            let loops = if reached { &loops[..] } else { &[] };
            let tile = Tile::new(e.level, self.operands.arithmetic(e), loops, COLUMNS * 4, Finish::Store);
            let tile = tile.starting(reached && self.operands.biased());
            let grid = Grid {
                extent: [y.count, x.count],
                a: [row, column],
                c: [y.stride * g.input[1] * pixel, x.stride * pixel],
            };
            let from = origin as i64 + y.output * row as i64 + x.output * column as i64;
            let offsets = [if reached { from } else { 0 }, packed, ((y.first * g.input[1] + x.first) * pixel) as i64];
            packed += packing.sequence_bytes(y.taps.len() * x.taps.len()) as i64;
            match all.iter_mut().find(|a| a.tile == tile && a.grid == grid) {
                Some(alike) => alike.offsets.push(offsets),
                None => all.push(Alike { tile, grid, offsets: vec![offsets] }),
            }
        }
        all
    }
}

fn pairs(phases: &[Vec<Phase>; 2]) -> impl Iterator<Item = (&Phase, &Phase)> {
    phases[0].iter().flat_map(|y| phases[1].iter().map(move |x| (y, x)))
}
