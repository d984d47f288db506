//! The gradient of a convolution's input by Winograd's minimal filtering along x: a task transforms a sample's gradient once, into
//! its stack, for all blocks of columns; packing transforms the filters. `lower::train::requirements::winograd` has the formulas
//! and says when. Taken where AVX-512 adds products of bytes by fours and there is no AMX, which does not mind their number.
//! Reference: the plain product.

use super::tile::{COLUMNS, Finish, Loop, Tile, TileFunction, Winograd};
use super::{InputGrad, Samples, each_unit, group_sizes, unit_parts};
use crate::codegen::CodegenError;
use crate::codegen::emitter::Emitter;
use crate::codegen::image::FunctionId;
use crate::codegen::target::{Level, x86};
use crate::codegen::tiles::winograd_transforms::{DataTransform, FilterTransform};
use crate::codegen::tiles::{product, winograd as tiles};
use crate::lower::train::requirements::Packing;
use crate::lower::train::requirements::winograd::{TAPS, Transformed};
use crate::lower::train::requirements::winograd_squares::Squares;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use std::ops::Range;

/// Whether `level` multiplies transformed tiles.
pub(super) fn multiplies(level: &Level) -> bool {
    product::multiplies_quads(level) && !level.has_x86(x86::AMX)
}

/// Transformed tiles: where each one's values lie, and its results.
pub(super) struct Tiles {
    /// What multiplies them.
    pub(super) tile: TileFunction,
    /// Pairs of offsets, filled up to whole tiles.
    list: Value,
    entries: usize,
}

/// The rows of a phase.
struct Phase {
    tiles: Tiles,
    /// The tile of several units, if there is one.
    wide: Option<TileFunction>,
    /// Bytes of a unit's filters before this phase's.
    filters: usize,
}

/// Bytes of an entry of a phase's list: two offsets of 32 bits.
const ENTRY: usize = 8;

impl InputGrad {
    /// As [`InputGrad::emit`], of transformed tiles: of squares where there are some, of others for the rest.
    pub(super) fn emit_filtered_parts(
        &self,
        e: &mut Emitter<'_, '_>,
        (squares, along_x): &(Option<Squares>, Option<Transformed>),
        ranges: [[Value; 2]; 2],
        values: [Samples; 2],
        packed: Value,
    ) -> Result<(), CodegenError> {
        if let Some(squares) = squares {
            self.emit_squares(e, squares, ranges, values, packed)?;
        }
        let covered = squares.as_ref().map_or(0..0, Squares::rows);
        along_x.as_ref().map_or(Ok(()), |data| self.emit_filtered(e, data, &covered, ranges, values, packed))
    }

    /// The rows of results outside `covered`.
    fn emit_filtered(
        &self,
        e: &mut Emitter<'_, '_>,
        data: &Transformed,
        covered: &Range<usize>,
        [samples, units]: [[Value; 2]; 2],
        [gradient, input]: [Samples; 2],
        packed: Value,
    ) -> Result<(), CodegenError> {
        let (g, packing) = (&self.g, self.packing());
        let [inner, outputs] = group_sizes(g);
        let transform = self.transform(e, data)?;
        let several = Some(tiles::together(packing.blocks())[0]).filter(|&several| several > 1);
        let phases = self.filtered_phases(e, data, covered)?;
        let rows = self.rows_read(data, covered);
        let scratch = e.stack(data.bytes(), 64);
        let table = super::rows::table(e, tiles::rows(1));
        let filters = e.add(packed, packing.filters_at());
        let ([row, column], origin) = self.gradient.steps();
        let corner = origin as i64 + data.first[0] * row as i64 + data.first[1] * column as i64;
        e.range(samples[0], samples[1], 1, |e, n| {
            let (corner, zero) = (e.b.ins().iconst(types::I64, corner), e.int(0));
            let (from, to) = (gradient.at(e, n, corner), input.at(e, n, zero));
            for rows in &rows {
                let [start, end] = [rows.start, rows.end].map(|y| e.int(y));
                e.range(start, end, 1, |e, y| {
                    let (from, to) = (e.at(from, y, row), e.at(scratch, y, data.row()));
                    e.call(transform, &[from, to]);
                });
            }
            each_unit(e, units, several, |e, unit, several| {
                let [group, block] = unit_parts(e, unit, packing.blocks());
                let b = e.at(filters, unit, packing.filter_bytes());
                let from = e.at(scratch, group, self.gradient.group(outputs));
                let to = e.at(to, group, inner * 4);
                let to = e.at(to, block, COLUMNS * 4);
                for phase in &phases {
                    let (b, one) = (e.add(b, phase.filters), phase.tiles.tile);
                    let tile = phase.wide.filter(|_| several).unwrap_or(one);
                    phase.tiles.emit(e, tile, table, [from, to], b);
                }
            });
        });
        Ok(())
    }

    /// The rows of data that the results outside `covered` read.
    fn rows_read(&self, data: &Transformed, covered: &Range<usize>) -> Vec<Range<usize>> {
        let mut read = vec![false; data.rows];
        for phase in self.pairs().flat_map(|(y, _)| y.outside(covered)) {
            let [first, last] = phase.reach().map(|row| (row - data.first[0]) as usize);
            read[first..=last].fill(true);
        }
        let mut runs: Vec<Range<usize>> = Vec::new();
        for row in (0..data.rows).filter(|&row| read[row]) {
            match runs.last_mut() {
                Some(run) if run.end == row => run.end += 1,
                _ => runs.push(row..row + 1),
            }
        }
        runs
    }

    /// What makes a row of transformed data.
    fn transform(&self, e: &mut Emitter<'_, '_>, data: &Transformed) -> Result<FunctionId, CodegenError> {
        let (pixel, bias) = (data.value, self.operands.storage().bias());
        DataTransform { tiles: data.columns / 2, odd: !data.columns.is_multiple_of(2), pixel, bias }.function(e.image)
    }

    fn filtered_phases(
        &self,
        e: &mut Emitter<'_, '_>,
        data: &Transformed,
        covered: &Range<usize>,
    ) -> Result<Vec<Phase>, CodegenError> {
        let (g, packing, pixel) = (&self.g, self.packing(), self.input.pixel());
        let steps = (g.outputs / g.groups).div_ceil(self.operands.together());
        let (mut filters, mut phases) = (0, Vec::new());
        for (y, x) in self.pairs() {
            let rows = Loop { count: y.taps.len(), stride: data.row() as i64 };
            let distances = Winograd { a: data.value, c: pixel };
            let shape = Tile::filtering(&[rows, Loop { count: steps, stride: 4 }], distances, Finish::Store);
            for y in y.outside(covered) {
                let wide = shape.beside(e.level, packing.blocks(), [packing.filter_bytes(), COLUMNS * 4]);
                let wide = wide.map(|wide| wide.function(e)).transpose()?;
                let places = (0..y.count).flat_map(|q| (0..data.tiles()).map(move |t| (q, t)));
                let list = places.map(|(q, t)| {
                    let row = (y.output - data.first[0]) as usize + q;
                    let result = (y.first + q) * g.input[1] + x.first + data.column(t);
                    [row * data.row() + t * data.tile(), result * pixel].map(|at| at as u32)
                });
                let tile = shape.function(e)?;
                phases.push(Phase { tiles: Tiles::new(e, tile, list.collect()), wide, filters });
            }
            filters += packing.filter_sequence(y.taps.len() * TAPS);
        }
        Ok(phases)
    }
}

impl Tiles {
    /// At the offsets of values and results given, for `tile` or for one of fewer rows that divide its own.
    pub(super) fn new(e: &mut Emitter<'_, '_>, tile: TileFunction, mut list: Vec<[u32; 2]>) -> Tiles {
        let entries = list.len();
        // Rows beyond the last repeat it.
        list.resize(entries.next_multiple_of(tile.rows), list.last().copied().unwrap_or_default());
        let bytes = list.iter().flatten().flat_map(|at| at.to_le_bytes()).collect();
        Tiles { tile, list: e.data("tiles", bytes), entries }
    }

    /// Calls `tile` for all of them.
    pub(super) fn emit(&self, e: &mut Emitter<'_, '_>, tile: TileFunction, table: Value, bases: [Value; 2], b: Value) {
        let rows = tile.rows;
        e.times(self.entries.div_ceil(rows), |e, i| {
            let list = e.at(self.list, i, rows * ENTRY);
            for row in 0..rows {
                for (side, &base) in bases.iter().enumerate() {
                    let offset = e.read(types::I32, list, (row * ENTRY + 4 * side) as i32);
                    let offset = e.b.ins().uextend(types::I64, offset);
                    let at = e.b.ins().iadd(base, offset);
                    e.store(at, table, (8 * (side * rows + row)) as i32);
                }
            }
            e.call(tile.function, &[table, b]);
        });
    }
}

impl Packing<'_> {
    /// Transforms the packed filters of the units [first, end).
    pub(super) fn filters(
        &self,
        e: &mut Emitter<'_, '_>,
        [first, end]: [Value; 2],
        packed: Value,
    ) -> Result<(), CodegenError> {
        let steps = self.sizes()[0].div_ceil(self.operands.together());
        let sequences = self.sequences.iter().map(|taps| taps.len());
        let transforms: Vec<FunctionId> = sequences
            .clone()
            .map(|taps| FilterTransform { rows: taps / TAPS, steps }.function(e.image))
            .collect::<Result<_, _>>()?;
        e.range(first, end, 1, |e, unit| {
            let from = e.at(packed, unit, self.unit_bytes());
            let to = e.add(packed, self.filters_at());
            let to = e.at(to, unit, self.filter_bytes());
            let start = if self.operands.biased() { COLUMNS * 4 } else { 0 };
            let (mut read, mut written) = (start, 0);
            for (taps, &transform) in sequences.clone().zip(&transforms) {
                let (from, to) = (e.add(from, read), e.add(to, written));
                e.call(transform, &[from, to]);
                read += self.sequence_bytes(taps);
                written += self.filter_sequence(taps);
            }
        });
        Ok(())
    }
}
