//! The operands of a weight gradient by Winograd's minimal filtering, F(3,2), of a sample's levels. Formulas and layouts:
//! `lower::train::requirements::winograd_weights`. The product itself is the walk of the plain one over other rows.

use super::relayout::{columns_side_by_side, interleave, read_levels};
use super::tile::COLUMNS;
use super::{LINE, WeightGrad, winograd};
use crate::codegen::CodegenError;
use crate::codegen::emitter::Emitter;
use crate::codegen::target::Level;
use crate::codegen::tiles::winograd_transforms::{DataTransform, GradientSums};
use crate::lower::train::layouts::Levels;
use crate::lower::train::requirements::winograd::VALUES;
use crate::lower::train::requirements::winograd_weights::{LANES, Pairs, STEP};
use cranelift_codegen::ir::{InstBuilder, Value, types};

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
        let pixel = from.pixel();
        let there = border.into_iter().zip(from.border).all(|(wanted, have)| wanted <= have);
        if !there || from.storage.size() != 1 {
            return Err(CodegenError::Spec("levels lie otherwise than their transform reads".to_owned()));
        }
        let shape = DataTransform { tiles: self.columns, odd: false, pixel, bias: from.storage.bias() };
        let transform = shape.function(e.image)?;
        let stage = e.stack(self.stage(pixel), LINE);
        let corner = e.add(src, from.origin() - border[0] * from.row() - border[1] * pixel);
        e.times(self.rows[1], |e, y| {
            let (from, to) = (e.at(corner, y, from.row()), e.at(stage, y, self.columns * VALUES * pixel));
            e.call(transform, &[from, to]);
        });
        let group = self.channels / from.groups;
        e.times(VALUES, |e, value| {
            let (stage, dst) = (e.at(stage, value, pixel), e.at(dst, value, self.value()));
            e.times(from.groups, |e, g| {
                let (stage, dst) = (e.at(stage, g, from.group()), e.at(dst, g, group * self.plane()));
                e.times(group / LANES, |e, block| {
                    let (from, to) = (e.at(stage, block, LANES), e.at(dst, block, LANES * self.plane()));
                    self.channels_of(e, [from, to], VALUES * pixel, LANES);
                });
                let (rest, whole) = (group % LANES, group / LANES * LANES);
                if rest > 0 {
                    let (from, to) = (e.add(stage, whole), e.add(dst, whole * self.plane()));
                    self.channels_of(e, [from, to], VALUES * pixel, rest);
                }
            });
        });
        Ok(())
    }

    /// The planes of up to 16 channels of one value, pairs `apart` bytes from each other.
    fn channels_of(&self, e: &mut Emitter<'_, '_>, [from, to]: [Value; 2], apart: usize, channels: usize) {
        e.times(self.plane() / LANES, |e, i| {
            let (from, to) = (e.at(from, i, LANES * apart), e.at(to, i, LANES));
            let mut v: [Value; LANES] = std::array::from_fn(|pair| e.read(types::I8X16, from, (pair * apart) as i32));
            // Each round turns the bits of a byte's row and place by one.
            for _ in 0..LANES.ilog2() {
                v = std::array::from_fn(|i| interleave(e, v[i / 2], v[i / 2 + LANES / 2], 1, i % 2 * LANES / 2));
            }
            v.into_iter()
                .enumerate()
                .take(channels)
                .for_each(|(channel, v)| e.store(v, to, (channel * self.plane()) as i32));
        });
    }

    /// Transforms the gradient.
    pub(super) fn emit_gradient(
        &self,
        e: &mut Emitter<'_, '_>,
        from: &Levels,
        [src, dst]: [Value; 2],
    ) -> Result<(), CodegenError> {
        let sums = GradientSums { steps: self.steps() }.function(e.image)?;
        let value = self.steps() * STEP * LANES;
        let stage = e.stack(VALUES * value, LINE);
        let zero = e.splat_i32(0);
        for pair in self.rows[0] * self.columns..self.steps() * STEP {
            (0..VALUES).for_each(|i| e.store(zero, stage, (i * value + pair * LANES) as i32));
        }
        let (src, width) = (e.add(src, from.origin()), from.image[1]);
        e.times(self.blocks, |e, block| {
            let (src, dst) = (e.at(src, block, COLUMNS), e.at(dst, block, self.block()));
            e.times(self.rows[0], |e, y| {
                let (row, to) = (e.at(src, y, from.row()), e.at(stage, y, self.columns * LANES));
                e.times(width / 2, |e, pair| {
                    let (at, to) = (e.at(row, pair, 2 * from.pixel()), e.at(to, pair, LANES));
                    let g = [0, from.pixel()].map(|offset| read_levels(e, from.storage, 1, at, offset));
                    transformed(e, g, to, value);
                });
                if !width.is_multiple_of(2) {
                    let (at, to) = (e.add(row, (width - 1) * from.pixel()), e.add(to, width / 2 * LANES));
                    let zero = e.cast(types::I8X16, zero);
                    let g = [read_levels(e, from.storage, 1, at, 0), zero];
                    transformed(e, g, to, value);
                }
            });
            let first = e.add(dst, VALUES * COLUMNS * 4);
            e.times(self.steps(), |e, step| {
                let (from, to) = (e.at(stage, step, STEP * LANES), e.at(first, step, VALUES * COLUMNS * 4));
                for i in 0..VALUES {
                    let at = |pair: usize| (i * value + pair * LANES) as i32;
                    let v = [0, 1, 2, 3].map(|pair| e.read(types::I8X16, from, at(pair)));
                    let strip = columns_side_by_side(e, v);
                    strip.into_iter().enumerate().for_each(|(j, v)| e.store(v, to, (i * COLUMNS * 4 + 16 * j) as i32));
                }
            });
            e.call(sums, &[dst]);
        });
        Ok(())
    }
}

/// Writes u of two neighbouring gradients of 16 outputs, values `apart` bytes from each other.
fn transformed(e: &mut Emitter<'_, '_>, [g0, g1]: [Value; 2], to: Value, apart: usize) {
    let ins = |e: &mut Emitter<'_, '_>, a: Value, b: Value| e.b.ins().iadd(a, b);
    let (u0, u1) = (ins(e, g0, g0), ins(e, g0, g1));
    let (u2, twice) = (e.b.ins().isub(g0, g1), ins(e, g1, g1));
    let u3 = e.b.ins().ineg(twice);
    [u0, u1, u2, u3].into_iter().enumerate().for_each(|(i, u)| e.store(u, to, (i * apart) as i32));
}
