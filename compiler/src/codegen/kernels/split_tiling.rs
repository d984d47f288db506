//! How a layer is cut for the split-integer kernel: its weights into digits, its positions into tiles, its rows into strips.

use super::box_sums::halves;
use super::choice::Kernel;
use super::layer::{Layer, thresholds};
use crate::codegen::tiles::SplitShape;
use crate::codegen::tiles::split::Instructions;
use crate::graph::Value;
use crate::graph::ops::Geometry;
use crate::graph::types::Layout;
use crate::lower::pools;
use crate::lower::split::{self, Products, TILE};

/// Bytes of a strip that leave room for weights in the first-level cache.
const STRIP: usize = 24 << 10;
/// The longest strip that is put on a stack.
const LONGEST: usize = 256 << 10;
/// Bytes of a window's row up to which windows are gathered.
pub(super) const PATCH: usize = 64;

/// The weights as digits of what the kernel multiplies: AVX-VNNI's as bytes where they are one digit of these.
fn split_for(layer: &Layer<'_>, kernel: Kernel) -> Option<split::Split> {
    let quads = || all_digits(layer, Products::Quads);
    let pairs = || all_digits(layer, Products::Pairs);
    match kernel {
        Kernel::SplitVnni | Kernel::SplitBytesAvx2 | Kernel::SplitDot => quads(),
        Kernel::SplitAvxVnni => quads().filter(|split| split.planes == 1).or_else(pairs),
        _ => pairs(),
    }
}

/// Steps whose sums of two products of bytes fit 16 bits.
pub(super) fn narrow(layer: &Layer<'_>) -> Option<usize> {
    let codes = layer.codes?;
    let greatest = |(lo, hi): (i64, i64)| lo.abs().max(hi.abs());
    let pair = greatest(codes.a.levels()).checked_mul(greatest(codes.w.levels()))?.checked_mul(2)?;
    usize::try_from(i64::from(i16::MAX) / pair.max(1)).ok()
}

/// The digits that the kernel multiplies, if all sums are sure to be exact.
pub(super) fn digits(layer: &Layer<'_>, kernel: Kernel) -> Option<split::Split> {
    cut(layer, kernel).map(|(split, _)| split)
}

/// The digits, and the halves of the weights if these are what is multiplied: where accumulators are stored as they are and that
/// saves a digit.
pub(super) fn cut(layer: &Layer<'_>, kernel: Kernel) -> Option<(split::Split, Option<Vec<i64>>)> {
    let split = split_for(layer, kernel)?;
    let raw = layer.step.source == (Value { node: layer.node, port: 0 });
    if raw
        && kernel == Kernel::SplitVnni
        && let Some((halves, one)) = halves(layer, &split)
    {
        return Some((one, Some(halves)));
    }
    let early = || {
        let behind = thresholds(layer.graph, layer.step.source.node)?;
        split.early(&layer.g, &levels(layer), layer.codes?.a.levels(), behind)
    };
    let whole = |s: &split::Split| {
        let width = layer.g.output[1];
        tile_of(layer, s, kernel, width).is_some_and(|tile| width.is_multiple_of(tile.positions))
    };
    let early = match kernel {
        Kernel::SplitVnni | Kernel::SplitAvxVnni | Kernel::SplitAvx2 if split.planes > 1 && early_codes(layer) => {
            early().filter(whole)
        }
        Kernel::SplitDot | Kernel::SplitNeon if split.planes > 1 && few_codes(layer) => early(),
        _ => None,
    };
    Some((early.unwrap_or(split), None))
}

/// The split whose tile reads whole windows side by side, where that saves more than gathering them costs.
pub(super) fn patched(layer: &Layer<'_>, split: &split::Split) -> Option<split::Split> {
    let patched = split.patched().filter(|_| split.length <= PATCH)?;
    let saved = split.runs[0] * split.steps() - patched.steps();
    let cost = 3 * split.runs[0];
    (saved * split.always() * split.blocks(&layer.g) > cost).then_some(patched)
}

/// Thresholds that the CLIF decides early at most: the more there are, the more codes are open.
const EARLY: usize = 7;

/// Whether few thresholds enter the chain.
fn few_codes(layer: &Layer<'_>) -> bool {
    thresholds(layer.graph, layer.step.source.node).is_some_and(|(_, top)| (1..=EARLY).contains(&top))
}

/// Whether the result are codes as the early tile stores them.
pub(super) fn early_codes(layer: &Layer<'_>) -> bool {
    let Some((_, top @ (1 | 3))) = thresholds(layer.graph, layer.step.source.node) else { return false };
    let (b, g) = (layer.result, &layer.g);
    let nibbles = b.layout == Layout::Nibbles && b.planes == if top > 1 { 2 } else { 1 };
    let whole = (g.outputs / g.groups).is_multiple_of(TILE) && layer.step.chain.is_empty();
    nibbles && whole && (b.image.1 > 1 || layer.step.tasks == 1)
}

/// The levels of the weights; those of falling channels, whose thresholds hold for the negated accumulator, negated.
pub(super) fn levels(layer: &Layer<'_>) -> Vec<i64> {
    layer.levels(thresholds(layer.graph, layer.step.source.node))
}

/// The weights as digits, if all sums are sure to be exact.
pub(super) fn all_digits(layer: &Layer<'_>, products: Products) -> Option<split::Split> {
    layer.split(products, thresholds(layer.graph, layer.step.source.node), |_| true)
}

/// Whether the kernel pools what it makes; else its codes are pooled afterwards.
pub(super) fn pools(layer: &Layer<'_>, kernel: Kernel) -> bool {
    let tile = || strip(layer, &digits(layer, kernel)?, kernel)?.0;
    tile().is_some_and(|tile| tile.window() != [1, 1])
}

/// The windows of the step's pool, where it is one of greatest codes that lie as a tile of whole windows stores them.
pub(super) fn whole_windows(layer: &Layer<'_>) -> Option<[usize; 2]> {
    let pool = layer.step.pool.filter(|&id| layer.graph.operands(id).len() == 1)?;
    let alike = layer.stored.layout == Layout::Nibbles && layer.stored.planes == layer.result.planes;
    Some(pools::window(layer.graph, pool)?.kernel).filter(|_| alike)
}

/// The tile whose codes are those of the step's pool.
fn pooled(layer: &Layer<'_>, split: &split::Split, kernel: Kernel) -> Option<SplitShape> {
    let split = Some(split).filter(|_| kernel == Kernel::SplitVnni)?;
    SplitShape::pooled(split, whole_windows(layer)?, layer.g.output[1])
}

/// The kernel's tile for rows of `width` positions.
fn tile_of(layer: &Layer<'_>, split: &split::Split, kernel: Kernel, width: usize) -> Option<SplitShape> {
    let instructions = match (kernel, split.products) {
        (Kernel::SplitVnni, _) => Instructions::Vnni,
        (Kernel::SplitAvxVnni, Products::Quads) => Instructions::Bytes(None),
        (Kernel::SplitAvxVnni, Products::Pairs) => Instructions::Avx2 { dot: true },
        (Kernel::SplitBytesAvx2, _) => Instructions::Bytes(Some(narrow(layer)?)),
        (Kernel::SplitAvx2, _) => Instructions::Avx2 { dot: false },
        _ => return None,
    };
    Some(SplitShape::of(split, width, instructions))
}

/// The tile and the strip: of the tile of whole windows, else of the widest that has room, at least the window of one position.
pub(super) fn strip(layer: &Layer<'_>, split: &split::Split, kernel: Kernel) -> Option<(Option<SplitShape>, Strip)> {
    if let Some(tile) = pooled(layer, split, kernel) {
        let strip = extents(&layer.g, split, [tile.columns(), tile.window()[0]]);
        if strip.size <= LONGEST {
            return Some((Some(tile), strip));
        }
    }
    let tiles = [layer.g.output[1], 1].map(|width| match tile_of(layer, split, kernel, width) {
        Some(tile) => (Some(tile), tile.positions),
        None => (None, in_lanes(split, kernel, width)),
    });
    let strips = tiles.map(|(t, positions)| (t, extents(&layer.g, split, [positions, 1])));
    strips.into_iter().find(|(_, s)| s.size <= LONGEST)
}

/// Positions whose sums the CLIF of a kernel holds at once in rows of `width`: NEON has registers for 24 sums, the levels and a
/// vector of weights. What a row's tiles take is counted in instructions of a step, those beyond the row too.
fn in_lanes(split: &split::Split, kernel: Kernel, width: usize) -> usize {
    let product = match kernel {
        Kernel::SplitDot => 1,
        Kernel::SplitNeon => 4,
        _ => return 1,
    };
    let vectors = split.always() * TILE / 4;
    let row = |positions: &usize| width.div_ceil(*positions) * (6 + vectors + positions * (2 + product * vectors));
    (1..=24 / vectors).min_by_key(row).unwrap_or(1)
}

/// The extents of a strip.
pub(super) struct Strip {
    /// Positions of a tile side by side.
    pub positions: usize,
    /// Output rows and columns.
    pub extents: [usize; 2],
    /// Input rows.
    pub tall: usize,
    /// Bytes of a row, a multiple of 16.
    pub row: usize,
    /// Bytes of all.
    pub size: usize,
}

/// The largest strip of whole tiles that fits, first in width, then in height; a tile is of so many positions side by side and rows.
fn extents(g: &Geometry, split: &split::Split, [positions, window]: [usize; 2]) -> Strip {
    let span = |i: usize, n: usize| (n - 1) * g.strides[i] + (g.kernel[i] - 1) * g.dilations[i] + 1;
    let row = |columns: usize| (span(1, columns) * g.channels * split.products.element() + 16).next_multiple_of(16);
    let (tiles, windows) = (g.output[1].div_ceil(positions), g.output[0].div_ceil(window));
    let fits = |rows: usize, columns: usize| span(0, rows) * row(columns) <= STRIP;
    let columns = (1..=tiles).rev().map(|t| t * positions).find(|&c| fits(1, c)).unwrap_or(positions);
    let rows = (1..=windows).rev().map(|r| r * window).find(|&r| fits(r, columns)).unwrap_or(window);
    let (tall, row) = (span(0, rows), row(columns));
    Strip { positions, extents: [rows, columns], tall, row, size: tall * row + 64 }
}
