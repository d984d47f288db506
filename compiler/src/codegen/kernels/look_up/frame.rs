//! What a look-up tile of 16 entries leaves: codes where only thresholds follow that 16 bits compare, else accumulators; and the
//! frame on the stack by which it learns where. Shared by `look_up` and `rows`. Must never know how sums are made.

use super::rows;
use crate::codegen::emitter::Emitter;
use crate::codegen::kernels::Task;
use crate::codegen::kernels::int_conv::IntLayer;
use crate::codegen::kernels::layer::codes_behind;
use crate::codegen::kernels::spread::Source;
use crate::codegen::target::{Level, x86};
use crate::codegen::tiles::look_up_avx512::{Residual, Store};
use crate::codegen::tiles::{CODES_RESIDUAL, LookUpCodes, PAIR};
use crate::graph::Graph;
use crate::graph::ops::Geometry;
use crate::graph::types::{CodeType, Layout};
use crate::lower::pack::{self, LOOK_UP_TILE};
use crate::lower::{Buffer, Step};
use cranelift_codegen::ir::Value;

/// Whether there is a tile that can store codes: the AVX2 tiles spread bits with BMI2, the SSE tile goes by rows only.
pub(super) fn stores_codes((g, input): (&Geometry, &Buffer), level: &Level, wide: bool) -> bool {
    let narrow = level.has_x86(x86::V2) || level.has_a64(0);
    if wide { level.has_x86(x86::BMI2) } else { narrow && rows::fits(g, input) }
}

/// What a tile stores: codes where only thresholds follow that 16 bits can compare, of 1-bit weights and codes of at most 2 bits, and
/// the stored codes lie by whole pairs of blocks; codes of a residual choose among the thresholds where tiles go row by row.
pub(super) fn codes(
    graph: &Graph,
    step: &Step,
    [input, b, residual]: [Option<&Buffer>; 3],
    g: &Geometry,
    [a, w]: [&CodeType; 2],
) -> Option<LookUpCodes> {
    let (t, b, input) = (codes_behind(graph, step).filter(|t| (1..=3).contains(&t.top))?, b?, input?);
    Source::of(g, input).filter(|s| s.halves == 1)?;
    let level = |c: &CodeType| c.levels().0.abs().max(c.levels().1.abs());
    let greatest = (g.taps() as i64).checked_mul(level(a))?.checked_mul(level(w))?;
    let outputs = g.outputs / g.groups;
    let form = w.bits() == 1 && a.offset == 0 && outputs.is_multiple_of(PAIR) && greatest <= 32_766;
    let store = match b.layout {
        Layout::Nibbles => Store::Nibbles(PAIR),
        // A word's bits beyond the last channel must be zero, which a tile of fewer than 64 outputs does not store.
        Layout::Bits if b.group.is_multiple_of(64) => Store::Bits(b.words() * 8),
        _ => return None,
    };
    let residual = match (t.residual, residual) {
        (None, _) => None,
        (Some((_, codes @ 2..=4)), Some(b)) if b.layout == Layout::Nibbles && rows::fits(g, input) => {
            Some(Residual { codes, channels: PAIR, pitch: b.pixel() })
        }
        _ => return None,
    };
    let width = residual.map_or(1, |r| r.codes) * t.top + 1;
    let falling = t.rows.iter().skip(width - 1).step_by(width).any(|&d| d < 0);
    let (factor, pitch) = (a.step.wrapping_mul(w.step), b.pixel());
    let codes = LookUpCodes { top: t.top, falling, store, pitch, factor, residual };
    (form && t.rows.len() == g.outputs * width).then_some(codes)
}

/// How a tile stores codes, and the address of their thresholds.
pub(super) type Stored = (LookUpCodes, Value);

/// What a layer's tile stores, where there is one that stores codes.
pub(super) fn stored(e: &mut Emitter<'_, '_>, task: &Task<'_>, layer: &IntLayer<'_>, wide: bool) -> Option<Stored> {
    let g = &layer.g;
    let buffers = [Some(&layer.input), Some(&task.result), task.residual()].map(|o| o.map(|o| &o.buffer));
    let codes = codes(task.graph, task.step, buffers, g, [&layer.a, &layer.w])?;
    if !stores_codes((g, &layer.input.buffer), e.level, wide) {
        return None;
    }
    let rows = codes_behind(task.graph, task.step).map_or(&[][..], |c| c.rows);
    let shape = [codes.residual.map_or(1, |r| r.codes), codes.top];
    Some((codes, e.data("thresholds", pack::pair_thresholds(rows, shape))))
}

/// What a tile reads that stores codes or goes row by row: its frame on the stack, and weights of so many planes; of codes how they
/// are stored, and their thresholds.
pub(super) struct Frame {
    pub stored: Option<Stored>,
    pub planes: usize,
    pub at: Value,
    pub weights: Value,
}

impl Frame {
    /// Calls `tile` for each pair of blocks of a group, with the frame pointing to its thresholds, its results and the codes of the
    /// residual, if any; `to` and `residual` are those of the first position. It gets the pair's weights and the bytes of a block's.
    pub(super) fn each_pair(
        &self,
        e: &mut Emitter<'_, '_>,
        g: &Geometry,
        [group, to]: [Value; 2],
        residual: Option<Value>,
        mut tile: impl FnMut(&mut Emitter<'_, '_>, [Value; 2]),
    ) {
        let (pairs, block) = (g.outputs / g.groups / PAIR, self.planes * plane_bytes(g));
        let stride = e.int(block);
        let result = match self.stored {
            Some((codes, _)) if matches!(codes.store, Store::Bits(_)) => PAIR / 8,
            Some(_) => PAIR / 4,
            None => PAIR * 4,
        };
        e.times(pairs, |e, pair| {
            let pair = e.at(pair, group, pairs);
            let to = e.at(to, pair, result);
            if let Some((codes, table)) = self.stored {
                let table = e.at(table, pair, pack::pair_thresholds_pitch(codes.threshold_rows()));
                e.store(table, self.at, 8);
            }
            if let Some(residual) = residual {
                let codes = e.at(residual, pair, PAIR / 4);
                e.store(codes, self.at, CODES_RESIDUAL);
            }
            e.store(to, self.at, 0);
            let weights = e.at(self.weights, pair, 2 * block);
            tile(e, [weights, stride]);
        });
    }
}

/// Bytes of one plane of one block's weights.
pub(super) fn plane_bytes(g: &Geometry) -> usize {
    g.kernel[0] * g.kernel[1] * (g.channels / g.groups).div_ceil(8) * LOOK_UP_TILE
}
