//! The gradient of a convolution's input by Winograd's minimal filtering along both axes: a task transforms a sample's gradient once,
//! into its stack, for all blocks of columns; packing transforms the filters. For a band of rows of tiles, sums along x are those of
//! [`super::winograd`], one value along y after another, so that each value's filters stay near; then they are added up along y.
//! `lower::train::requirements::winograd_squares` has the formulas and says when. Reference: the plain product.

use super::tile::{COLUMNS, Finish, Loop, Tile, Units, Winograd};
use super::winograd::Tiles;
use super::{InputGrad, Samples, each_unit, group_sizes, unit_parts};
use crate::codegen::CodegenError;
use crate::codegen::emitter::Emitter;
use crate::codegen::image::FunctionId;
use crate::codegen::tiles::winograd as tiles;
use crate::codegen::tiles::winograd_squares::{SquareFilters, SquareRows, SquareSums};
use crate::codegen::tiles::winograd_transforms::DataTransform;
use crate::lower::LINE;
use crate::lower::train::requirements::Packing;
use crate::lower::train::requirements::winograd::{TAPS, VALUES};
use crate::lower::train::requirements::winograd_squares::Squares;
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// Bytes of sums along x that stay in the first-level cache until they are added up.
const NEAR: usize = 28 << 10;
/// Bytes of an entry of the rows of results: where they begin, and both rows' addends.
const ENTRY: usize = 12;

/// What is called for some units at once.
struct Columns {
    units: usize,
    /// Rows of tiles of a band.
    rows: usize,
    /// Sums along x of a whole band, and of the rows that are left, if there are.
    bands: [Option<Tiles>; 2],
    sums: FunctionId,
}

/// Where a task's transformed gradient, sums along x and table lie, and the list of the rows of results.
struct Memory {
    data: Value,
    sums: Value,
    table: Value,
    results: Value,
}

impl InputGrad {
    /// As [`InputGrad::emit`], of tiles transformed along both axes.
    pub(super) fn emit_squares(
        &self,
        e: &mut Emitter<'_, '_>,
        data: &Squares,
        [samples, units]: [[Value; 2]; 2],
        [gradient, input]: [Samples; 2],
        packed: Value,
    ) -> Result<(), CodegenError> {
        let (packing, [inner, outputs]) = (self.packing(), group_sizes(&self.g));
        let [together, _] = tiles::together(packing.blocks());
        let one = self.columns(e, data, 1)?;
        let wide = if together > 1 { Some(self.columns(e, data, together)?) } else { None };
        let band = |c: &Columns| VALUES * c.rows * sums_row(data, c.units);
        let sums = wide.iter().map(band).fold(band(&one), usize::max);
        let memory = Memory {
            data: e.stack(data.bytes(), LINE),
            sums: e.stack(sums, LINE),
            table: super::rows::table(e, tiles::rows(1)),
            results: self.results(e, data),
        };
        let rows = self.rows(e, data)?;
        let filters = e.add(packed, packing.squares_at());
        e.range(samples[0], samples[1], 1, |e, n| {
            let zero = e.int(0);
            let (from, to) = (gradient.at(e, n, zero), input.at(e, n, zero));
            rows(e, from, memory.data);
            each_unit(e, units, wide.as_ref().map(|wide| wide.units), |e, unit, several| {
                let [group, block] = unit_parts(e, unit, packing.blocks());
                let b = e.at(filters, unit, packing.square_bytes(data));
                let from = e.mul(group, self.gradient.group(outputs));
                let to = e.at(to, group, inner * 4);
                let to = e.at(to, block, COLUMNS * 4);
                let columns = wide.as_ref().filter(|_| several).unwrap_or(&one);
                self.bands(e, data, columns, &memory, [from, b, to]);
            });
        });
        Ok(())
    }

    /// What transforms a sample's gradient.
    fn rows(
        &self,
        e: &mut Emitter<'_, '_>,
        data: &Squares,
    ) -> Result<impl Fn(&mut Emitter<'_, '_>, Value, Value) + use<>, CodegenError> {
        let ([row, column], origin) = self.gradient.steps();
        let (vectors, bias) = (data.vectors(), self.operands.storage().bias());
        let along_y = SquareRows { vectors, row, bias }.function(e.image)?;
        let odd = !data.results[1].is_multiple_of(2);
        let along_x = DataTransform { tiles: data.results[1] / 2, odd, pixel: data.value, bias: 0 };
        let along_x = along_x.function(e.image)?;
        let stage = e.stack(VALUES * vectors * LINE + LINE, LINE);
        let corner = origin as i64 + data.first[0] * row as i64 + data.first[1] * column as i64;
        let (data, last) = (data.clone(), data.place(0, data.tiles()[0] - 1));
        Ok(move |e: &mut Emitter<'_, '_>, from: Value, to: Value| {
            let from = e.b.ins().iadd_imm_s(from, corner);
            e.times(data.tiles()[0], |e, tile| {
                let (place, last) = (e.mul(tile, 2), e.int(last));
                let place = e.min(place, last);
                let (from, to) = (e.at(from, place, row), e.at(to, tile, data.row()));
                e.call(along_y, &[from, stage]);
                e.times(VALUES, |e, value| {
                    let (from, to) = (e.at(stage, value, vectors * LINE), e.at(to, value, data.plane()));
                    e.call(along_x, &[from, to]);
                });
            });
        })
    }

    /// The rows of results: of each row of tiles the first's bytes, and those of both rows' addends.
    fn results(&self, e: &mut Emitter<'_, '_>, data: &Squares) -> Value {
        let row = self.g.input[1] * self.input.pixel();
        let runs = data.reached(0).into_iter().enumerate();
        let of_row: Vec<usize> = runs.flat_map(|(i, (count, _))| std::iter::repeat_n(i, count)).collect();
        let addends = data.reached(1).len() * COLUMNS * 4;
        let entry = |tile: usize| {
            let place = data.place(0, tile);
            [(data.top + place) * row, of_row[place] * addends, of_row[place + 1] * addends].map(|at| at as u32)
        };
        let bytes = (0..data.tiles()[0]).flat_map(entry).flat_map(u32::to_le_bytes).collect();
        e.data("results", bytes)
    }

    /// What computes so many units at once.
    fn columns(&self, e: &mut Emitter<'_, '_>, data: &Squares, units: usize) -> Result<Columns, CodegenError> {
        let (packing, [rows, _]) = (self.packing(), data.tiles());
        let steps = (self.g.outputs / self.g.groups).div_ceil(self.operands.together());
        let next = packing.square_bytes(data);
        let distances = Winograd { a: data.value, c: units * COLUMNS * 4 };
        let tile = Tile::filtering(&[Loop { count: steps, stride: 4 }], distances, Finish::Store);
        let tile = Tile { rows: tiles::rows(units), units: Units { count: units, b: next, c: COLUMNS * 4 }, ..tile };
        let tile = tile.function(e)?;
        let band = (NEAR / (VALUES * sums_row(data, units))).clamp(1, rows);
        let mut list = |count: usize| {
            let places = (0..count).flat_map(|y| (0..data.tiles()[1]).map(move |x| (y, x)));
            let entry = |(y, x)| {
                let sum = y * sums_row(data, units) + data.place(1, x) * units * COLUMNS * 4;
                [y * data.row() + x * data.tile(), sum].map(|at| at as u32)
            };
            (count > 0).then(|| Tiles::new(e, tile, places.map(entry).collect()))
        };
        let bands = [list(band), list(rows % band)];
        let sums = SquareSums {
            runs: data.reached(1).into_iter().map(|(count, _)| count).collect(),
            units,
            value: band * sums_row(data, units),
            to: [self.input.pixel(), self.g.input[1] * self.input.pixel()],
            addends: next,
        };
        Ok(Columns { units, rows: band, bands, sums: sums.function(e.image)? })
    }

    /// All results of some units: of the group's gradient, which lies `from` bytes into the transformed one.
    fn bands(&self, e: &mut Emitter<'_, '_>, data: &Squares, columns: &Columns, m: &Memory, [from, b, to]: [Value; 3]) {
        let (packing, rows) = (self.packing(), columns.rows);
        let addends = e.add(b, packing.addends_at());
        let (row, sequence) = (sums_row(data, columns.units), packing.filter_sequence(TAPS));
        let from = e.b.ins().iadd(m.data, from);
        let band = |e: &mut Emitter<'_, '_>, band: Value, tiles: &Tiles, count: usize| {
            let from = e.at(from, band, rows * data.row());
            e.times(VALUES, |e, value| {
                let (from, b) = (e.at(from, value, data.plane()), e.at(b, value, sequence));
                let to = e.at(m.sums, value, rows * row);
                tiles.emit(e, tiles.tile, m.table, [from, to], b);
            });
            let results = e.at(m.results, band, rows * ENTRY);
            e.times(count, |e, y| {
                let (entry, sums) = (e.at(results, y, ENTRY), e.at(m.sums, y, row));
                let at = [(to, 0), (addends, 4), (addends, 8)].map(|(base, i)| {
                    let offset = e.read(types::I32, entry, i);
                    let offset = e.b.ins().uextend(types::I64, offset);
                    e.b.ins().iadd(base, offset)
                });
                e.call(columns.sums, &[sums, at[0], at[1], at[2]]);
            });
        };
        let whole = data.tiles()[0] / rows;
        if let Some(tiles) = &columns.bands[0] {
            e.times(whole, |e, i| band(e, i, tiles, rows));
        }
        if let Some(tiles) = &columns.bands[1] {
            let last = e.int(whole);
            band(e, last, tiles, data.tiles()[0] % rows);
        }
    }
}

/// Bytes of the sums along x of a row of tiles, of so many units.
fn sums_row(data: &Squares, units: usize) -> usize {
    data.results[1] * units * COLUMNS * 4
}

impl Packing<'_> {
    /// Transforms the packed filters of the units [first, end) along both axes.
    pub(super) fn square_filters(
        &self,
        e: &mut Emitter<'_, '_>,
        [first, end]: [Value; 2],
        packed: Value,
        (squares, sequence): &(Squares, usize),
    ) -> Result<(), CodegenError> {
        let steps = self.sizes()[0].div_ceil(self.operands.together());
        let reached = [0, 1].map(|axis| squares.reached(axis).into_iter().map(|(_, taps)| taps).collect());
        let transform = SquareFilters { steps, reached }.function(e.image)?;
        let before: usize = self.sequences.iter().take(*sequence).map(|taps| self.sequence_bytes(taps.len())).sum();
        e.range(first, end, 1, |e, unit| {
            let from = e.at(packed, unit, self.unit_bytes());
            let from = e.add(from, before + COLUMNS * 4);
            let to = e.add(packed, self.squares_at());
            let to = e.at(to, unit, self.square_bytes(squares));
            e.call(transform, &[from, to]);
        });
        Ok(())
    }
}
