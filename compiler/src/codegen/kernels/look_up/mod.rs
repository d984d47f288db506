//! Convolution by 16-entry table look-ups for activations of at most 2 bits, row by row of at most 4: the byte of four channels (layout
//! [`crate::graph::types::Layout::Nibbles`]) selects one of 256 constant tables, four weight bits an entry; one byte shuffle
//! serves 16 outputs × 4 channels. The sums are those of the bit-serial kernel (see `int_conv`), which is its reference.
//!
//! Mostly tiles go row by row (`rows`), of SSE as well; else a tile is up to 4 neighbouring positions (`tile`). Where
//! nothing but thresholds follow, tiles store codes (`frame`); else they leave accumulators for the chain.
//!
//! Cost: see [`cycles`]. Limits: an entry is at most 3·4 = 12 (2 bits) or 4 (1 bit), so a u8 lane
//! holds 20 or 60 look-ups; u16 sums hold K·top ≤ 65 535. Needs SSSE3 on x86-64 (`tbl` on aarch64).

mod codes_clif;
pub(super) mod flat;
mod flat_clif;
mod frame;
mod rows;
mod rows_clif;
mod tile;
mod tile_clif;

use super::int_conv::IntLayer;
use super::layer::{Codes, Layer, demand};
use super::spread::Source;
use super::{KernelError, Task};
use crate::codegen::emitter::Emitter;
use crate::codegen::target::{Level, x86};
use crate::codegen::tiles::Lanes;
use crate::graph::ops::Geometry;
use crate::graph::types::Layout;
use crate::lower::Buffer;
use crate::lower::pack::{self, LOOK_UP_TILE};
use frame::{codes, stored, stores_codes};

/// Whether level and layer allow the kernel, `wide` with the AVX2 tile.
pub(super) fn fits(layer: &Layer<'_>, level: &Level, wide: bool) -> Result<(), String> {
    demand(!wide || level.has_x86(x86::AVX2), "the level lacks AVX2")?;
    layer.in_lanes()?;
    let (Some(c), g) = (layer.codes, &layer.g) else { return Ok(()) };
    let outputs = g.outputs / g.groups;
    demand(g.output != [1, 1], "it has one position")?;
    demand(outputs.is_multiple_of(LOOK_UP_TILE), "the outputs of a group are no multiple of 16")?;
    demand(!wide || outputs >= 2 * LOOK_UP_TILE, "a group has fewer than 32 outputs")?;
    demand(g.taps() * c.a.top as usize <= u16::MAX.into(), "its sums could pass 65535")?;
    let rows = layer.input.layout != Layout::Bits || by_rows(c.a.offset, (g, layer.input), level, wide);
    demand(rows, "its codes lie in bit planes, and not so that tiles go row by row")
}

/// 45 MAC a cycle and weight bit with 128-bit shuffles, 78 with AVX2; row by row 85 and 150. Then the chain, where there is AVX2
/// in wide lanes and where a tile stores codes next to nothing.
pub(super) fn cycles(layer: &Layer<'_>, level: &Level, wide: bool) -> f64 {
    let (g, offset) = (&layer.g, layer.codes.map_or(0, |c| c.a.offset));
    let buffers = [Some(layer.input), Some(layer.result), layer.residual];
    let stored_as = |c: Codes<'_>| codes(layer.graph, layer.step, buffers, g, [c.a, c.w]);
    let rows = by_rows(offset, (g, layer.input), level, wide);
    let stored = layer.codes.and_then(stored_as).is_some_and(|_| stores_codes((g, layer.input), level, wide));
    let rate = match (wide, rows) {
        (false, false) => 45.0,
        (false, true) => 85.0,
        (true, false) => 78.0,
        (true, true) => 150.0,
    };
    let chain = match (stored, wide) {
        (true, _) => layer.positions() * g.outputs as f64 / 2.0,
        (false, true) => layer.chain() / 3.0,
        (false, false) => layer.chain(),
    };
    let halves = Source::of(g, layer.input).map_or(1, |s| s.halves);
    layer.macs(4, LOOK_UP_TILE) * layer.bits()[0] * halves as f64 / rate + chain
}

/// Whether tiles go row by row; `offset` is that of the activations' levels, which only the other kernel adds.
fn by_rows(offset: i32, (g, input): (&Geometry, &Buffer), level: &Level, wide: bool) -> bool {
    let has = level.has_x86(if wide { x86::AVX2 } else { x86::V2 }) || !wide && level.has_a64(0);
    offset == 0 && rows::fits(g, input) && has
}

/// Emits the kernel, `wide` with the AVX2 tile.
pub(super) fn emit(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    layer: &IntLayer<'_>,
    wide: bool,
) -> Result<(), KernelError> {
    let tables = e.data("look_up_tables", pack::look_up_tables());
    let weights = e.data("weights", pack::look_up_weights(&layer.g, layer.codes, layer.w.bits() as usize));
    let stored = stored(e, task, layer, wide);
    if by_rows(layer.a.offset, (&layer.g, &layer.input.buffer), e.level, wide) {
        let lanes = if wide { Lanes::Ymm } else { Lanes::Xmm };
        return rows::emit(e, task, layer, lanes, stored, [tables, weights]);
    }
    tile::emit(e, task, layer, wide, stored, [tables, weights])
}
