//! Gradient of a convolution's input: rows are input positions, columns input channels. A stride divides the positions into
//! phases, which differ in the taps that reach them; a phase is a convolution of the gradient with stride 1.
//!
//! Floats are summed in (co, ky, kx) order over the taps of the phase; those outside the gradient multiply +0. In an axis
//! where the output has one position, each input position is a phase of its own, so that only the tap inside remains. Sums
//! of levels do not mind what is left out: rows of the input that few of the taps reach are phases of their own.

use super::amx::Walk;
use super::rows::Grid;
use super::tile::{COLUMNS, Finish, Loop, Tile};
use super::{InputGrad, Samples, each_unit, group_sizes, unit_parts, winograd, within_tiles};
use crate::codegen::CodegenError;
use crate::codegen::emitter::Emitter;
use crate::codegen::target::Level;
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// Phases with tiles of one shape: all that they differ in.
struct Alike {
    tile: Tile,
    grid: Grid,
    /// Bytes into A, B and C.
    offsets: Vec<[i64; 3]>,
}

impl InputGrad {
    /// What it is called at `level`.
    pub fn name(&self, level: &Level) -> &'static str {
        match (self.operands.integer(), winograd::multiplies(level) && (self.filtered() || self.squares().is_some())) {
            (true, true) if self.squares().is_some() => "levels input gradient, Winograd's squares",
            (true, true) => "levels input gradient, Winograd",
            (true, false) => "levels input gradient",
            (false, _) => "float input gradient",
        }
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
        if winograd::multiplies(e.level)
            && let Some(parts) = self.filtered_parts()
        {
            return self.emit_filtered_parts(e, &parts, [samples, units], [gradient, input], packed);
        }
        let (g, packing) = (&self.g, self.packing());
        let [inner, outputs] = group_sizes(g);
        let (blocks, bytes) = (packing.blocks(), packing.unit_bytes());
        let alike = self.alike(e);
        let mut work = Vec::new();
        for a in &alike {
            let offsets = a.offsets.iter().flatten().flat_map(|o| o.to_le_bytes()).collect();
            let walk = Walk::new(e, &a.tile, a.grid, &self.gradient, self.over_batch())?;
            work.push((walk, a.offsets.len(), e.data("phases", offsets)));
        }
        let tiled = work.iter().any(|(walk, ..)| walk.tiled());
        let one = tiled || self.over_batch();
        let mut wide = Vec::new();
        for tile in alike
            .iter()
            .filter(|_| !one)
            .filter_map(|a| Some((a.tile.beside(e.level, blocks, [bytes, COLUMNS * 4])?, a.grid)))
        {
            wide.push((tile.0.units.count, Walk::new(e, &tile.0, tile.1, &self.gradient, false)?));
        }
        // Several units at once: by tiles for as many in all phases.
        let several = wide.first().map(|w| w.0).filter(|n| wide.len() == work.len() && wide.iter().all(|w| w.0 == *n));
        within_tiles(e, tiled, |e| {
            each_unit(e, units, several, |e, unit, several| {
                let [group, block] = unit_parts(e, unit, blocks);
                let b = e.at(packed, unit, bytes);
                let from = e.mul(group, self.gradient.group(outputs));
                let to = e.mul(group, inner * 4);
                let to = e.at(to, block, COLUMNS * 4);
                for (i, (walk, phases, offsets)) in work.iter().enumerate() {
                    let walk = wide.get(i).filter(|_| several).map_or(walk, |(_, wide)| wide);
                    e.times(*phases, |e, phase| {
                        let offsets = e.at(*offsets, phase, 24);
                        let [from, b, to] = [(from, 0), (b, 8), (to, 16)].map(|(base, i)| {
                            let offset = e.read(types::I64, offsets, i);
                            e.b.ins().iadd(base, offset)
                        });
                        walk.positions(e, samples, [(gradient, from), (input, to)], b);
                    });
                }
            })
        })
    }

    /// The phases by the shape of their tiles.
    fn alike(&self, e: &Emitter<'_, '_>) -> Vec<Alike> {
        let (g, packing) = (&self.g, self.packing());
        let ([row, column], origin) = self.gradient.steps();
        let pixel = self.input.pixel();
        let mut all: Vec<Alike> = Vec::new();
        let mut packed = 0;
        for (y, x) in self.pairs() {
            let taps = [(y, row), (x, column)]
                .map(|(phase, step)| Loop { count: phase.taps.len(), stride: phase.step * step as i64 });
            let reached = !y.taps.is_empty() && !x.taps.is_empty();
            let loops = self.gradient.loops(g.outputs / g.groups, taps);
            let loops = if reached { &loops[..] } else { &[] };
            let tile = Tile::new(e.level, self.operands.arithmetic(e), loops, COLUMNS * 4, Finish::Store);
            let tile = tile.starting(reached && self.operands.biased()).narrow(e.level, self.operands.narrow_steps());
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
