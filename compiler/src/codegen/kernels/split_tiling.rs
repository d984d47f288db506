//! How a layer is cut for the split-integer kernel: its weights into digits, its positions into tiles, its rows into strips.

use super::box_sums::halves;
use super::choice::Kernel;
use super::layer::{Layer, thresholds};
use crate::codegen::tiles::SplitShape;
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

/// What the kernel multiplies.
fn products(kernel: Kernel) -> Products {
    if matches!(kernel, Kernel::SplitVnni | Kernel::SplitBytesAvx2) { Products::Quads } else { Products::Pairs }
}

/// Steps whose sums of two products of bytes fit 16 bits, where the kernel makes use of that.
pub(super) fn narrow(layer: &Layer<'_>, kernel: Kernel) -> Option<usize> {
    let codes = layer.codes.filter(|_| kernel == Kernel::SplitBytesAvx2)?;
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
    let split = layer.split(products(kernel), thresholds(layer.graph, layer.step.source.node), |_| true)?;
    let raw = layer.step.source == (Value { node: layer.node, port: 0 });
    if raw
        && kernel == Kernel::SplitVnni
        && let Some((halves, one)) = halves(layer, &split)
    {
        return Some((one, Some(halves)));
    }
    let early = (matches!(kernel, Kernel::SplitVnni | Kernel::SplitAvx2) && split.planes > 1 && early_codes(layer))
        .then(|| split.early(&layer.g, &levels(layer), layer.codes?.a.levels()))
        .flatten()
        .filter(|s| layer.g.output[1].is_multiple_of(SplitShape::of(s, layer.g.output[1], None).positions));
    Some((early.unwrap_or(split), None))
}

/// The split whose tile reads whole windows side by side, where that saves more than gathering them costs.
pub(super) fn patched(layer: &Layer<'_>, split: &split::Split) -> Option<split::Split> {
    let patched = split.patched().filter(|_| split.length <= PATCH)?;
    let saved = split.runs[0] * split.steps() - patched.steps();
    let cost = 3 * split.runs[0];
    (saved * split.always() * split.blocks(&layer.g) > cost).then_some(patched)
}

/// Whether the result are codes as the early tile stores them.
fn early_codes(layer: &Layer<'_>) -> bool {
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

/// Whether the kernel pools what it makes; else its codes are pooled afterwards.
pub(super) fn pools(layer: &Layer<'_>, kernel: Kernel) -> bool {
    let strip = (kernel == Kernel::SplitVnni).then(|| strip(layer, &digits(layer, kernel)?, kernel)).flatten();
    strip.and_then(|(tile, _)| tile).is_some_and(|tile| tile.window() != [1, 1])
}

/// The tile whose codes are those of the step's pool: of greatest codes that lie as such a tile stores them.
fn pooled(layer: &Layer<'_>, split: &split::Split) -> Option<SplitShape> {
    let pool = layer.step.pool.filter(|&id| layer.graph.operands(id).len() == 1)?;
    let window = pools::window(layer.graph, pool)?.kernel;
    let alike = layer.stored.layout == Layout::Nibbles && layer.stored.planes == layer.result.planes;
    SplitShape::pooled(split, window, layer.g.output[1]).filter(|_| alike)
}

/// The tile and the strip: of the tile of whole windows, else of the widest that has room, at least the window of one position.
pub(super) fn strip(layer: &Layer<'_>, split: &split::Split, kernel: Kernel) -> Option<(Option<SplitShape>, Strip)> {
    if let Some(tile) = pooled(layer, split) {
        let strip = extents(&layer.g, split, Some(tile));
        if strip.size <= LONGEST {
            return Some((Some(tile), strip));
        }
    }
    let tile = |width: usize| match kernel {
        Kernel::SplitVnni | Kernel::SplitAvx2 | Kernel::SplitBytesAvx2 => {
            Some(SplitShape::of(split, width, narrow(layer, kernel)))
        }
        _ => None,
    };
    let tiles = [layer.g.output[1], 1].map(tile);
    let strips = tiles.map(|t| extents(&layer.g, split, t));
    tiles.into_iter().zip(strips).find(|(_, s)| s.size <= LONGEST)
}

/// The extents of a strip.
pub(super) struct Strip {
    /// Output rows and columns.
    pub extents: [usize; 2],
    /// Input rows.
    pub tall: usize,
    /// Bytes of a row, a multiple of 16.
    pub row: usize,
    /// Bytes of all.
    pub size: usize,
}

/// The largest strip of whole tiles that fits, first in width, then in height, of whole windows where the tile has them.
fn extents(g: &Geometry, split: &split::Split, tile: Option<SplitShape>) -> Strip {
    let (positions, window) = tile.map_or((1, 1), |t| (t.columns(), t.window()[0]));
    let span = |i: usize, n: usize| (n - 1) * g.strides[i] + (g.kernel[i] - 1) * g.dilations[i] + 1;
    let row = |columns: usize| (span(1, columns) * g.channels * split.products.element() + 16).next_multiple_of(16);
    let (tiles, windows) = (g.output[1].div_ceil(positions), g.output[0].div_ceil(window));
    let fits = |rows: usize, columns: usize| span(0, rows) * row(columns) <= STRIP;
    let columns = (1..=tiles).rev().map(|t| t * positions).find(|&c| fits(1, c)).unwrap_or(positions);
    let rows = (1..=windows).rev().map(|r| r * window).find(|&r| fits(r, columns)).unwrap_or(window);
    let (tall, row) = (span(0, rows), row(columns));
    Strip { extents: [rows, columns], tall, row, size: tall * row + 64 }
}
