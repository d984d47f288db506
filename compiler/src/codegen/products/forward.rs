//! Convolution forward: rows are output positions, columns output channels. Levels are summed in (ky, kx, ci) order,
//! floats in the chain's order (ci, ky, kx), padding taps as +0.

use super::amx::Walk;
use super::look_up::LookUp;
use super::look_up_rows::LookUpRows;
use super::looked::Looked;
use super::rows::Grid;
use super::tile::{COLUMNS, Finish, Loop, Tile};
use super::{Forward, Samples, each_unit, group_sizes, unit_parts, within_tiles};
use crate::codegen::CodegenError;
use crate::codegen::emitter::Emitter;
use crate::codegen::target::Level;
use cranelift_codegen::ir::{InstBuilder, Value};

impl Forward {
    /// Packs `part` of `parts` of the dense weights at `src` as the product at this level reads them, see `Packing::emit`.
    ///
    /// # Errors
    /// When the code generator fails.
    pub fn pack(
        &self,
        e: &mut Emitter<'_, '_>,
        part: Value,
        parts: usize,
        [src, dst]: [Value; 2],
        bias: Option<Value>,
    ) -> Result<(), CodegenError> {
        match self.looked(e.level) {
            Some(product) => {
                product.pack(e, part, parts, [src, dst]);
                Ok(())
            }
            None => self.packing().emit(e, part, parts, src, bias, dst),
        }
    }

    /// The product by look-ups, where it has that form at a level.
    fn looked<'a>(&'a self, level: &Level) -> Option<Box<dyn Looked + 'a>> {
        if let Some(product) = LookUp::of(self, level) {
            return Some(Box::new(product));
        }
        LookUpRows::of(self, level).map(|product| Box::new(product) as _)
    }

    /// What becomes of a tile's sums.
    fn finish(&self) -> Finish {
        if self.output.element == 2 { Finish::Words } else { Finish::Store }
    }

    /// What the product is called at a level.
    pub fn name(&self, level: &Level) -> &'static str {
        match (self.looked(level), self.operands.integer()) {
            (Some(product), _) => product.name(),
            (None, true) => "levels forward",
            (None, false) => "float forward",
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
        a: Samples,
        packed: Value,
        c: Samples,
    ) -> Result<(), CodegenError> {
        if let Some(product) = self.looked(e.level) {
            return product.emit(e, samples, [a, c], packed);
        }
        let (g, packing) = (&self.g, self.packing());
        let [inner, outputs] = group_sizes(g);
        let ([row, column], origin) = self.input.steps();
        let taps = [(row, 0), (column, 1)]
            .map(|(step, i)| Loop { count: g.kernel[i], stride: (g.dilations[i] * step) as i64 });
        let loops = self.input.loops(inner, taps);
        let tile = Tile::new(e.level, self.operands.arithmetic(e), &loops, COLUMNS * 4, self.finish());
        let tile =
            tile.starting(self.operands.biased()).ending(self.bias).narrow(e.level, self.operands.narrow_steps());
        let grid = Grid {
            extent: g.output,
            a: [g.strides[0] * row, g.strides[1] * column],
            c: [g.output[1] * self.output.pixel(), self.output.pixel()],
        };
        let corner = origin as i64 - (g.pads[0] * row + g.pads[1] * column) as i64;
        let (blocks, bytes) = (packing.blocks(), packing.unit_bytes());
        let walk = Walk::new(e, &tile, grid, &self.input, self.over_batch())?;
        let one = walk.tiled() || self.over_batch();
        let wide = if one { None } else { tile.beside(e.level, blocks, [bytes, COLUMNS * self.output.element]) };
        let wide = match wide {
            Some(tile) => Some((tile.units.count, Walk::new(e, &tile, grid, &self.input, false)?)),
            None => None,
        };
        within_tiles(e, walk.tiled(), |e| {
            each_unit(e, units, wide.as_ref().map(|(n, _)| *n), |e, unit, several| {
                let walk = wide.as_ref().filter(|_| several).map_or(&walk, |(_, wide)| wide);
                let [group, block] = unit_parts(e, unit, blocks);
                let b = e.at(packed, unit, bytes);
                let from = e.mul(group, self.input.group(inner));
                let from = e.b.ins().iadd_imm_s(from, corner);
                let to = e.mul(group, outputs * self.output.element);
                let to = e.at(to, block, COLUMNS * self.output.element);
                walk.positions(e, samples, [(a, from), (c, to)], b);
            });
        })
    }
}
