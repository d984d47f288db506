//! Convolution forward: rows are output positions, columns output channels. Levels are summed in (ky, kx, ci) order,
//! floats in the chain's order (ci, ky, kx), padding taps as +0.

use super::pack::Packing;
use super::rows::{self, Grid};
use super::tile::{COLUMNS, Finish, Loop, Tile};
use super::{FULL_ROWS, InputLayout, Operands, Samples, group_sizes, separable, unit_parts};
use crate::codegen::CodegenError;
use crate::codegen::emitter::Emitter;
use crate::graph::ops::Geometry;
use crate::lower::train::layouts::Maps;
use cranelift_codegen::ir::{InstBuilder, Value};

/// A forward product.
pub struct Forward {
    /// What it reads. The border may be enlarged.
    pub input: InputLayout,
    /// What it writes, i32 or f32. The pitch may be enlarged.
    pub output: Maps,
    g: Geometry,
    operands: Operands,
    bias: bool,
    taps: [Vec<usize>; 1],
}

impl Forward {
    /// The product of the convolution `g`.
    ///
    /// # Errors
    /// When the sums may not fit i32 or an operand 31 bits of address.
    pub fn new(g: &Geometry, operands: Operands) -> Result<Forward, String> {
        operands.check(g.taps())?;
        let behind = |i: usize| {
            let reach = (g.output[i] - 1) * g.strides[i] + (g.kernel[i] - 1) * g.dilations[i] + 1;
            reach.saturating_sub(g.pads[i] + g.input[i])
        };
        let border = [g.pads[0], g.pads[1], behind(0), behind(1)];
        let input = InputLayout::new(operands, g.channels, g.groups, g.input, border)?;
        let output = Maps::new(g.outputs, g.groups, g.output)?;
        Ok(Forward {
            input,
            output,
            g: g.clone(),
            operands,
            bias: false,
            taps: [(0..g.kernel[0] * g.kernel[1]).collect()],
        })
    }

    /// The same that adds a bias, one an output, last; only of floats.
    ///
    /// # Errors
    /// When the operands are levels.
    pub fn biased(self, bias: bool) -> Result<Forward, String> {
        if bias && self.operands.integer() {
            return Err("a product of levels has no bias".to_owned());
        }
        Ok(Forward { bias, ..self })
    }

    fn packing(&self) -> Packing<'_> {
        Packing { g: &self.g, operands: self.operands, transposed: false, sequences: &self.taps, bias: self.bias }
    }

    /// Bytes of the packed weights.
    pub fn packed_bytes(&self) -> usize {
        self.packing().bytes()
    }

    /// Packs `part` of `parts` of the dense weights (O, C/groups, KH, KW), i16 levels or f32, at `src`, and of the bias.
    pub fn emit_pack(
        &self,
        e: &mut Emitter<'_, '_>,
        part: Value,
        parts: usize,
        src: Value,
        bias: Option<Value>,
        dst: Value,
    ) {
        self.packing().emit(e, part, parts, src, bias, dst);
    }

    /// Blocks of 16 output channels, over all groups.
    pub fn units(&self) -> usize {
        self.g.groups * self.packing().blocks()
    }

    /// Whether tasks may take some of the units each; else all of them.
    pub fn splits_units(&self) -> bool {
        separable(self.g.groups, self.g.outputs / self.g.groups)
    }

    /// Whether tasks should take all samples and some of the units, because a sample has few rows.
    pub fn over_batch(&self) -> bool {
        self.g.output[0] * self.g.output[1] <= 8
    }

    /// Samples that a task should take so that few rows of its last tile are idle.
    pub fn samples_per_task(&self) -> usize {
        FULL_ROWS.div_ceil(self.g.output[0] * self.g.output[1])
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
        let (g, packing) = (&self.g, self.packing());
        let [inner, outputs] = group_sizes(g);
        let ([row, column], origin) = self.input.steps();
        let taps = [(row, 0), (column, 1)]
            .map(|(step, i)| Loop { count: g.kernel[i], stride: (g.dilations[i] * step) as i64 });
        let loops = self.input.loops(inner, taps);
        let tile = Tile::new(e.level, self.operands.arithmetic(e), &loops, COLUMNS * 4, Finish::Store);
        let tile = tile.starting(self.operands.biased()).ending(self.bias).function(e)?;
        let grid = Grid {
            extent: g.output,
            a: [g.strides[0] * row, g.strides[1] * column],
            c: [g.output[1] * self.output.pixel(), self.output.pixel()],
        };
        let corner = origin as i64 - (g.pads[0] * row + g.pads[1] * column) as i64;
        e.range(units[0], units[1], 1, |e, unit| {
            let [group, block] = unit_parts(e, unit, packing.blocks());
            let b = e.at(packed, unit, packing.unit_bytes());
            let from = e.mul(group, self.input.group(inner));
            let from = e.b.ins().iadd_imm_s(from, corner);
            let to = e.mul(group, outputs * 4);
            let to = e.at(to, block, COLUMNS * 4);
            rows::positions(e, tile, &grid, samples, [(a, from), (c, to)], b);
        });
        Ok(())
    }
}
