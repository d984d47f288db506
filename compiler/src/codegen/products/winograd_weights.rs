//! The operands of a weight gradient by Winograd's minimal filtering, F(3,2), of a sample's levels: each is transformed, channels
//! last, into the task's stack, then brought into its order. Formulas and layouts: `lower::train::requirements::winograd_weights`.
//! The product itself is the walk of the plain one over other rows.

use super::weight_grad::clear;
use super::{WeightGrad, winograd};
use crate::codegen::CodegenError;
use crate::codegen::emitter::Emitter;
use crate::codegen::target::Level;
use crate::codegen::tiles::winograd_transforms::{DataTransform, GradientSums};
use crate::codegen::tiles::winograd_weights::{DataPlanes, GradientSteps, GradientTransform};
use crate::lower::LINE;
use crate::lower::train::layouts::Levels;
use crate::lower::train::requirements::COLUMNS;
use crate::lower::train::requirements::winograd::VALUES;
use crate::lower::train::requirements::winograd_weights::{Pairs, STEP};
use cranelift_codegen::ir::Value;

impl WeightGrad {
    /// The transformed operands, if `level` multiplies such.
    pub(super) fn filtered(&self, level: &Level) -> Option<&Pairs> {
        self.pairs.as_ref().filter(|_| winograd::multiplies(level))
    }
}

impl Pairs {
    /// The bytes of the planes at which each row of taps starts.
    pub(super) fn offsets(&self) -> Vec<usize> {
        (0..=self.rows[1] - self.rows[0]).map(|ky| ky * self.columns).collect()
    }

    /// Transforms the input, whose border holds what windows read beyond it: `border`, or more.
    pub(super) fn emit_input(
        &self,
        e: &mut Emitter<'_, '_>,
        border: [usize; 4],
        from: &Levels,
        [src, dst]: [Value; 2],
    ) -> Result<(), CodegenError> {
        let (pixel, channels) = (from.pixel(), self.channels / from.groups);
        let there = border.into_iter().zip(from.border).all(|(wanted, have)| wanted <= have);
        if !there || from.storage.size() != 1 {
            return Err(CodegenError::Spec("levels lie otherwise than their transform reads".to_owned()));
        }
        let transform = DataTransform { tiles: self.columns, odd: false, pixel, bias: from.storage.bias() };
        let planes = DataPlanes { pixel, channels, plane: self.plane(), value: self.value() };
        let (transform, planes) = (transform.function(e.image)?, planes.function(e.image)?);
        let stage = e.stack(self.stage(pixel), LINE);
        let corner = e.add(src, from.origin() - border[0] * from.row() - border[1] * pixel);
        e.times(self.rows[1], |e, y| {
            let (from, to) = (e.at(corner, y, from.row()), e.at(stage, y, self.columns * VALUES * pixel));
            e.call(transform, &[from, to]);
        });
        e.times(from.groups, |e, group| {
            let (from, to) = (e.at(stage, group, from.group()), e.at(dst, group, channels * self.plane()));
            e.call(planes, &[from, to]);
        });
        Ok(())
    }

    /// Transforms the gradient. The outputs beyond the last are whatever stands there: their sums are not read.
    pub(super) fn emit_gradient(
        &self,
        e: &mut Emitter<'_, '_>,
        from: &Levels,
        [src, dst]: [Value; 2],
    ) -> Result<(), CodegenError> {
        if from.storage.size() != 1 {
            return Err(CodegenError::Spec("levels lie otherwise than their transform reads".to_owned()));
        }
        let (width, steps, bias) = (from.image[1], self.steps(), from.storage.bias());
        let (vectors, blocks) = (self.vectors(), self.blocks);
        let (pairs, odd) = (width / 2, !width.is_multiple_of(2));
        let transform = GradientTransform { pairs, odd, pixel: from.pixel(), vectors, bias }.function(e.image)?;
        let order = GradientSteps { steps, vectors, blocks, block: self.block() }.function(e.image)?;
        let sums = GradientSums { steps }.function(e.image)?;
        let (all, pair) = (self.rows[0] * self.columns, self.pair());
        let stage = e.stack(steps * STEP * pair, LINE);
        let src = e.add(src, from.origin());
        e.times(self.rows[0], |e, y| {
            let (from, to) = (e.at(src, y, from.row()), e.at(stage, y, self.columns * pair));
            e.call(transform, &[from, to]);
        });
        let behind = e.add(stage, all * pair);
        clear(e, behind, (steps * STEP - all) * pair);
        let first = e.add(dst, VALUES * COLUMNS * 4);
        e.call(order, &[stage, first]);
        e.times(blocks, |e, block| {
            let at = e.at(dst, block, self.block());
            e.call(sums, &[at]);
        });
        Ok(())
    }
}
