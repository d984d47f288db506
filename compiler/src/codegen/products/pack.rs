//! Packs dense weights (O, C/groups, KH, KW), floats or i16 levels, into the vectors of 16 columns that tiles read: one
//! vector a step of the reduction, units (group, block of columns) one after another. Where the other operand's levels are
//! biased, a vector of what the sums start at comes before each sequence; where outputs have a bias, it is a unit's last vector.

use super::relayout::interleave;
use super::tile::COLUMNS;
use super::{group_sizes, share, unit_parts, winograd};
use crate::codegen::CodegenError;
use crate::codegen::emitter::Emitter;
use crate::codegen::target::x86;
use crate::codegen::tiles::pack_rows_avx512::{PackRows, ROWS};
use crate::codegen::tiles::transpose_avx512::{Apart, SIDE};
use crate::lower::train::requirements::Packing;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::Variable;

/// Columns written together.
const UNROLL: usize = 4;
/// Taps of levels that are read together.
const TAPS: usize = 8;
/// Bytes of packed weights from which on they are written past the caches.
const FAR: usize = 8 << 20;
/// Vectors of a unit's step, over all sequences, that are written by one loop at most.
const MOST_PLACES: usize = 256;

/// Where a column and a reduction channel of a unit lie in the dense weights; elements.
struct Source {
    /// Of the unit's first column.
    start: Value,
    /// Columns from the unit's first one on that there are.
    columns: Value,
    column: usize,
    channel: usize,
}

impl Packing<'_> {
    /// Packs the units of `part` of `parts` of the dense weights (O, C/groups, KH, KW), i16 levels or f32, at `src`, and of the
    /// bias, if it has one.
    ///
    /// # Errors
    /// When the code generator fails.
    pub fn emit(
        &self,
        e: &mut Emitter<'_, '_>,
        part: Value,
        parts: usize,
        src: Value,
        bias: Option<Value>,
        dst: Value,
    ) -> Result<(), CodegenError> {
        let blocks = self.blocks();
        let [first, end] = share(e, part, parts, self.g.groups * blocks);
        if self.side_by_side() {
            if self.operands.integer() && self.packs_rows(e) {
                return self.rows_at_once(e, [first, end], [src, dst]);
            } else if self.operands.integer() {
                self.rows(e, [first, end], src, dst);
            } else {
                self.float_rows(e, [first, end], src, dst);
            }
            return Ok(());
        }
        let transpose = self.transposes(e).map(|apart| apart.function(e.image)).transpose()?;
        e.range(first, end, 1, |e, unit| {
            let [group, block] = unit_parts(e, unit, blocks);
            let source = self.source(e, group, block);
            let to = e.at(dst, unit, self.unit_bytes());
            let rest = |e: &mut Emitter<'_, '_>| match self.operands.integer() {
                true => self.levels(e, src, &source, to),
                false => self.floats(e, src, &source, to),
            };
            if let Some(tile) = transpose {
                let all = e.b.ins().icmp_imm_s(IntCC::SignedGreaterThanOrEqual, source.columns, COLUMNS as i64);
                let element = if self.operands.integer() { 2 } else { 4 };
                let whole = |e: &mut Emitter<'_, '_>| {
                    let (from, apart) = (e.at(src, source.start, element), e.int(source.column * element));
                    let blocks = e.int(self.sizes()[0] / self.operands.together() / SIDE);
                    e.call(tile, &[from, to, apart, blocks]);
                };
                e.branch(all, whole, rest);
            } else {
                rest(e);
            }
            if let Some(bias) = bias.filter(|_| self.bias) {
                let first = e.mul(block, COLUMNS);
                let first = e.at(first, group, self.sizes()[1]);
                let from = e.at(bias, first, 4);
                let last = e.add(to, self.unit_bytes() - COLUMNS * 4);
                let last = e.var(last);
                self.vector(e, &Source { column: 1, ..source }, from, last, 1);
            }
        });
        if !winograd::multiplies(e.level) {
            return Ok(());
        }
        if self.filtered {
            self.filters(e, [first, end], dst)?;
        }
        self.squares.as_ref().map_or(Ok(()), |squares| self.square_filters(e, [first, end], dst, squares))
    }

    /// Whether each of the dense weights is read once, as by the only tap of a layer without groups.
    fn once(&self) -> bool {
        let one = self.sequences.iter().filter(|taps| !taps.is_empty()).count() == 1;
        one && self.g.groups == 1 && self.g.kernel == [1, 1]
    }

    /// Whether the columns of all units are neighbours in the dense weights, and each row of them is read once.
    fn side_by_side(&self) -> bool {
        self.once() && self.transposed && self.sizes()[1].is_multiple_of(COLUMNS)
    }

    /// The tile for a unit with all its columns that is whole blocks of rows that are far apart, where the level has one: of floats,
    /// or of bytes.
    fn transposes(&self, e: &Emitter<'_, '_>) -> Option<Apart> {
        let whole = self.sizes()[0].is_multiple_of(SIDE * self.operands.together());
        let bytes = self.operands.storage().size() == 1 && !self.operands.biased();
        let tile = match self.operands.integer() {
            true => Some(Apart::FromLevels { past: self.bytes() >= FAR }).filter(|_| bytes),
            false => Some(Apart::From),
        };
        tile.filter(|_| self.once() && !self.transposed && whole && e.level.has_x86(x86::AVX512))
    }

    /// Whether the level has a tile for rows of levels that lie side by side.
    fn packs_rows(&self, e: &Emitter<'_, '_>) -> bool {
        let whole = self.sizes()[0].is_multiple_of(ROWS) && self.operands.together() == ROWS;
        self.operands.storage().size() == 1 && whole && e.level.has_x86(x86::AVX512)
    }

    /// As [`Packing::rows`], all columns of four rows at once.
    fn rows_at_once(
        &self,
        e: &mut Emitter<'_, '_>,
        [first, end]: [Value; 2],
        [src, dst]: [Value; 2],
    ) -> Result<(), CodegenError> {
        let ([channels, columns], biased) = (self.sizes(), self.operands.biased());
        let bias = if biased { self.operands.storage().bias() } else { 0 };
        let tile = PackRows { bias }.function(e.image)?;
        if biased {
            let zero = e.splat_i32(0);
            e.range(first, end, 1, |e, unit| {
                let at = e.at(dst, unit, self.unit_bytes());
                (0..COLUMNS * 4).step_by(16).for_each(|i| e.store(zero, at, i as i32));
            });
        }
        let start = if biased { COLUMNS * 4 } else { 0 };
        let (from, starts) = (e.at(src, first, COLUMNS * 2), e.at(dst, first, self.unit_bytes()));
        let to = e.add(starts, start);
        let (apart, next, count) = (e.int(columns * 2), e.int(self.unit_bytes()), e.b.ins().isub(end, first));
        let some = e.b.ins().icmp_imm_s(IntCC::SignedGreaterThan, count, 0);
        e.when(some, |e| {
            e.times(channels / ROWS, |e, step| {
                let (from, to) = (e.at(from, step, ROWS * columns * 2), e.at(to, step, COLUMNS * 4));
                e.call(tile, &[from, to, starts, apart, next, count]);
            });
        });
        Ok(())
    }

    /// Units of floats whose columns lie side by side: row by row through all of them.
    fn float_rows(&self, e: &mut Emitter<'_, '_>, [first, end]: [Value; 2], src: Value, dst: Value) {
        let [channels, columns] = self.sizes();
        e.times(channels, |e, channel| {
            let (from, to) = (e.at(src, channel, columns * 4), e.at(dst, channel, COLUMNS * 4));
            e.range(first, end, 1, |e, unit| {
                let (from, to) = (e.at(from, unit, COLUMNS * 4), e.at(to, unit, self.unit_bytes()));
                for i in (0..COLUMNS * 4).step_by(16) {
                    let four = e.read(types::I32X4, from, i as i32);
                    e.store(four, to, i as i32);
                }
            });
        });
    }

    /// Units whose columns lie side by side: row by row through all of them, as each row is on a page of its own.
    fn rows(&self, e: &mut Emitter<'_, '_>, [first, end]: [Value; 2], src: Value, dst: Value) {
        let ([channels, columns], together) = (self.sizes(), self.operands.together());
        let steps = channels.div_ceil(together);
        let start = if self.operands.biased() { COLUMNS * 4 } else { 0 };
        let step = |e: &mut Emitter<'_, '_>, step: Value, rows: usize| {
            let (from, to) = (e.at(src, step, together * columns * 2), e.at(dst, step, COLUMNS * 4));
            e.range(first, end, 1, |e, unit| {
                let (from, to) = (e.at(from, unit, COLUMNS * 2), e.at(to, unit, self.unit_bytes()));
                for half in 0..2 {
                    let words = self.words(e, from, columns, half * COLUMNS / 2, rows);
                    for (i, four) in words.into_iter().enumerate() {
                        e.store(four, to, (start + half * COLUMNS * 2 + 16 * i) as i32);
                    }
                }
            });
        };
        e.times(channels / together, |e, i| step(e, i, together));
        if !channels.is_multiple_of(together) {
            let last = e.int(channels / together);
            step(e, last, channels % together);
        }
        if self.operands.biased() {
            e.range(first, end, 1, |e, unit| {
                let at = e.at(dst, unit, self.unit_bytes());
                starts(e, at, steps, self.operands.storage().bias());
            });
        }
    }

    fn source(&self, e: &mut Emitter<'_, '_>, group: Value, block: Value) -> Source {
        let (g, columns) = (self.g, self.sizes()[1]);
        let [inner, outputs] = group_sizes(g);
        let taps = g.kernel[0] * g.kernel[1];
        let (column, channel) = if self.transposed { (taps, inner * taps) } else { (inner * taps, taps) };
        let first = e.mul(block, COLUMNS);
        let start = e.mul(group, outputs * inner * taps);
        let start = e.at(start, first, column);
        let all = e.int(columns);
        let columns = e.b.ins().isub(all, first);
        Source { start, columns, column, channel }
    }

    fn taps(&self, e: &mut Emitter<'_, '_>, taps: &[usize], mut body: impl FnMut(&mut Emitter<'_, '_>, Value)) {
        let bytes = taps.iter().flat_map(|&t| (t as u32).to_le_bytes()).collect();
        let list = e.data("taps", bytes);
        e.times(taps.len(), |e, i| {
            let at = e.at(list, i, 4);
            let tap = e.read(types::I32, at, 0);
            let tap = e.b.ins().uextend(types::I64, tap);
            body(e, tap);
        });
    }

    /// Sequence by sequence, tap by tap, two or four channels a step.
    fn levels(&self, e: &mut Emitter<'_, '_>, src: Value, source: &Source, to: Value) {
        let (channels, together) = (self.sizes()[0], self.operands.together());
        let bias = self.operands.storage().bias();
        let places = self.places();
        if places.len() >= TAPS && places.iter().map(Vec::len).sum::<usize>() <= MOST_PLACES {
            self.by_taps(e, src, source, to, &places);
            let mut at = 0;
            for taps in self.sequences.iter().filter(|taps| self.operands.biased() && !taps.is_empty()) {
                let start = e.add(to, at);
                starts(e, start, channels.div_ceil(together) * taps.len(), bias);
                at += self.sequence_bytes(taps.len());
            }
            return;
        }
        let to = e.var(to);
        for taps in self.sequences.iter().filter(|taps| !taps.is_empty()) {
            let start = e.b.use_var(to);
            if self.operands.biased() {
                let first = e.add(start, COLUMNS * 4);
                e.b.def_var(to, first);
            }
            self.taps(e, taps, |e, tap| {
                let start = e.b.ins().iadd(source.start, tap);
                let from = e.at(src, start, 2);
                e.times(channels / together, |e, step| {
                    let from = e.at(from, step, source.channel * 2 * together);
                    self.vector(e, source, from, to, together);
                });
                let rest = channels % together;
                if rest > 0 {
                    let from = e.add(from, (channels - rest) * source.channel * 2);
                    self.vector(e, source, from, to, rest);
                }
            });
            if self.operands.biased() {
                starts(e, start, channels.div_ceil(together) * taps.len(), bias);
            }
        }
    }

    /// For each tap the bytes of a unit at which its first vectors lie.
    fn places(&self) -> Vec<Vec<usize>> {
        let mut places = vec![Vec::new(); self.g.kernel[0] * self.g.kernel[1]];
        let steps = self.sizes()[0].div_ceil(self.operands.together());
        let mut at = 0;
        for taps in self.sequences {
            let mut first = at + if self.operands.biased() { COLUMNS * 4 } else { 0 };
            for &tap in taps {
                if let Some(places) = places.get_mut(tap) {
                    places.push(first);
                }
                first += steps * COLUMNS * 4;
            }
            at += self.sequence_bytes(taps.len());
        }
        places
    }

    /// All sequences at once, some taps of a step, then column by column: neighbouring taps are neighbours in the dense weights.
    fn by_taps(&self, e: &mut Emitter<'_, '_>, src: Value, source: &Source, to: Value, places: &[Vec<usize>]) {
        let (channels, together) = (self.sizes()[0], self.operands.together());
        let whole = self.sizes()[1].is_multiple_of(COLUMNS);
        let step = |e: &mut Emitter<'_, '_>, step: Value, channels: usize| {
            let first = e.at(source.start, step, source.channel * together);
            let from = e.at(src, first, 2);
            let to = e.at(to, step, COLUMNS * 4);
            let mut done = 0;
            while done < places.len() {
                // The last ones, some of them again. A few taps at a time: their places lie a power of two apart.
                let first = done.min(places.len() - TAPS);
                e.times(COLUMNS, |e, column| {
                    let there = e.b.ins().icmp(IntCC::SignedLessThan, column, source.columns);
                    let zero = e.int(0);
                    let index = if whole { column } else { e.b.ins().select(there, column, zero) };
                    let (from, to) = (e.at(from, index, source.column * 2), e.at(to, column, 4));
                    let mut words = self.words(e, from, source.channel, first, channels);
                    if !whole {
                        let none = e.splat_i32(0);
                        words = words.map(|w| e.b.ins().select(there, w, none));
                    }
                    for (lane, places) in places.iter().skip(first).take(TAPS).enumerate().skip(done - first) {
                        let Some(&four) = words.get(lane / 4) else { continue };
                        let word = e.b.ins().extractlane(four, (lane % 4) as u8);
                        places.iter().for_each(|&place| e.store(word, to, place as i32));
                    }
                });
                done = first + TAPS;
            }
        };
        e.times(channels / together, |e, i| step(e, i, together));
        if !channels.is_multiple_of(together) {
            let last = e.int(channels / together);
            step(e, last, channels % together);
        }
    }

    /// The 32 bits of each of [`TAPS`] neighbours from number `first` on; `channels` of the step's exist, so many elements apart.
    fn words(&self, e: &mut Emitter<'_, '_>, from: Value, apart: usize, first: usize, channels: usize) -> [Value; 2] {
        let none = e.splat_i32(0);
        let none = e.cast(types::I16X8, none);
        let mut v = [none; 4];
        for (i, v) in v.iter_mut().enumerate().take(channels) {
            *v = e.read(types::I16X8, from, (2 * (i * apart + first)) as i32);
        }
        if self.operands.storage().size() == 1 {
            let low = e.splat_i32(0x00ff_00ff);
            let low = e.cast(types::I16X8, low);
            let pair = |e: &mut Emitter<'_, '_>, [a, b]: [Value; 2]| {
                let (a, b) = (e.b.ins().band(a, low), e.b.ins().ishl_imm_u(b, 8));
                e.b.ins().bor(a, b)
            };
            v = [pair(e, [v[0], v[1]]), pair(e, [v[2], v[3]]), none, none];
        }
        [0, 4].map(|half| {
            let words = interleave(e, v[0], v[1], 2, half);
            e.cast(types::I32X4, words)
        })
    }

    /// Sequence by sequence, channel by channel.
    fn floats(&self, e: &mut Emitter<'_, '_>, src: Value, source: &Source, to: Value) {
        let (channels, to) = (self.sizes()[0], e.var(to));
        for taps in self.sequences.iter().filter(|taps| !taps.is_empty()) {
            e.times(channels, |e, channel| {
                let start = e.at(source.start, channel, source.channel);
                self.taps(e, taps, |e, tap| {
                    let start = e.b.ins().iadd(start, tap);
                    let from = e.at(src, start, 4);
                    self.vector(e, source, from, to, 1);
                });
            });
        }
    }

    /// Writes one vector, zero beyond the last column, and moves on; `channels` of the step's exist.
    fn vector(&self, e: &mut Emitter<'_, '_>, source: &Source, from: Value, to: Variable, channels: usize) {
        let at = e.b.use_var(to);
        let whole = self.sizes()[1].is_multiple_of(COLUMNS);
        let element = if self.operands.integer() { 2 } else { 4 };
        e.times(COLUMNS / UNROLL, |e, quarter| {
            let to = e.at(at, quarter, UNROLL * 4);
            for i in 0..UNROLL {
                let column = e.mul(quarter, UNROLL);
                let column = e.add(column, i);
                let there = e.b.ins().icmp(IntCC::SignedLessThan, column, source.columns);
                let zero = e.int(0);
                let index = if whole { column } else { e.b.ins().select(there, column, zero) };
                let from = e.at(from, index, source.column * element);
                let value = self.element(e, source, from, channels);
                let none = e.b.ins().iconst(types::I32, 0);
                let value = if whole { value } else { e.b.ins().select(there, value, none) };
                e.store(value, to, 4 * i as i32);
            }
        });
        let next = e.add(at, COLUMNS * 4);
        e.b.def_var(to, next);
    }

    /// The 32 bits of one column.
    fn element(&self, e: &mut Emitter<'_, '_>, source: &Source, from: Value, channels: usize) -> Value {
        if !self.operands.integer() {
            return e.read(types::I32, from, 0);
        }
        let size = self.operands.storage().size();
        let mut all = None;
        for i in 0..channels {
            let from = e.add(from, i * source.channel * 2);
            let level = e.read(if size == 1 { types::I8 } else { types::I16 }, from, 0);
            let level = e.b.ins().uextend(types::I32, level);
            let level = if i == 0 { level } else { e.b.ins().ishl_imm_u(level, (8 * size * i) as i64) };
            all = Some(all.map_or(level, |all| e.b.ins().bor(all, level)));
        }
        all.unwrap_or_else(|| e.b.ins().iconst(types::I32, 0))
    }
}

/// Writes what the sums start at, −bias · the sum of each column's bytes, before the `steps` vectors behind `at`.
fn starts(e: &mut Emitter<'_, '_>, at: Value, steps: usize, bias: u8) {
    let zero = e.splat_i32(0);
    let sums = [0; COLUMNS / 4].map(|_| e.var(zero));
    e.times(steps, |e, step| {
        let from = e.at(at, step, COLUMNS * 4);
        for (i, sum) in sums.iter().enumerate() {
            let v = e.read(types::I8X16, from, (COLUMNS * 4 + 16 * i) as i32);
            let (low, high) = (e.b.ins().swiden_low(v), e.b.ins().swiden_high(v));
            let pairs = e.b.ins().iadd_pairwise(low, high);
            let (low, high) = (e.b.ins().swiden_low(pairs), e.b.ins().swiden_high(pairs));
            let columns = e.b.ins().iadd_pairwise(low, high);
            e.accumulate(*sum, columns);
        }
    });
    let factor = e.splat_i32(-i32::from(bias));
    for (i, sum) in sums.iter().enumerate() {
        let sum = e.b.use_var(*sum);
        let start = e.b.ins().imul(sum, factor);
        e.store(start, at, 16 * i as i32);
    }
}
