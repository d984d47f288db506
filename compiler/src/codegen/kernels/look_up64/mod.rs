//! Convolution by 64-entry tables made of the activations (layouts in [`crate::lower::strips`]): a byte permutation serves 64
//! outputs × 6 channels. The image is computed in vertical strips of up to 8 columns; the tables of an input row are made
//! once a strip and lie in a ring (`ring`). Reference: the sums of the bit-serial kernel.
//!
//! Where nothing but thresholds follow, the tile stores codes; else it leaves accumulators for the chain.
//!
//! Codes of 3 or 4 bits, which lie in bit planes, have two rings of 2 bits each.
//!
//! Cost: see [`cycles`]. Limits: code 0 is level 0, codes of at most 2 bits, or of 4 where weights have one, the greatest sum of
//! products of codes 65 535, 32 outputs a group. Needs AVX-512 with VBMI.

mod ring;

use super::int_conv::IntLayer;
use super::layer::{Layer, codes_behind, demand, whole_words};
use super::spread::Source;
use super::{KernelError, Task};
use crate::codegen::emitter::{Emitter, I32X4};
use crate::codegen::target::{Level, x86};
use crate::codegen::tiles::TablesShape;
use crate::codegen::tiles::look_up_avx512::{self, ADDENDS, Finish, ROW_ENTRY, Residual, Store};
use crate::codegen::window_sums::{OfRow, Windows};
use crate::codegen::{CodegenError, FunctionId};
use crate::graph::types::Layout;
use crate::lower::strips::{self, BLOCK, Strips, TABLE, WIDEST};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// The kernel on one layer.
pub(super) struct LookUp64<'a, 'l> {
    layer: &'a IntLayer<'l>,
    strips: Strips,
    source: Source,
    finish: Finish,
    weights: Vec<u8>,
    /// Look-ups that a byte can sum.
    limit: usize,
}

/// A strip's shape and its functions.
struct Strip {
    positions: usize,
    columns: usize,
    /// What makes the tables, of each two bits of the codes.
    build: Vec<FunctionId>,
    tile: FunctionId,
}

/// Addresses that every part of the kernel needs.
struct Memory {
    ring: Value,
    sums: Value,
    lanes: Value,
    tables: Value,
    weights: Value,
    thresholds: Option<Value>,
    /// A row's codes from bit planes, of each half.
    codes: Value,
    /// On the stack: the list of valid rows, the positions' addends, the sums of columns.
    rows: Value,
    addends: Value,
    column_sums: Value,
}

/// Whether level and layer allow the kernel.
pub(super) fn fits(layer: &Layer<'_>, level: &Level) -> Result<(), String> {
    demand(level.has_x86(x86::V4 | x86::VBMI), "the level lacks AVX-512 with VBMI")?;
    layer.in_lanes()?;
    let (Some(c), g) = (layer.codes, &layer.g) else { return Ok(()) };
    let outputs = g.outputs / g.groups;
    demand(c.a.offset == 0, "its activation code 0 is not level 0")?;
    demand(g.kernel[1] <= WIDEST, "its window is wider than 7")?;
    demand(g.output != [1, 1], "it has one position")?;
    let halves = strips::halves(layer.input);
    demand(
        halves.is_some_and(|n| n == 1 || c.w.bits() == 1),
        "its codes have more than 2 bits, its weights more than 1",
    )?;
    demand((g.channels / g.groups).is_multiple_of(4), "the channels of a group are no multiple of 4")?;
    demand(outputs >= 32 && outputs.is_multiple_of(16), "the outputs of a group are no 32 or more by 16")?;
    // All weight planes are summed in 16 bits; accumulators that fit signed ones may wrap on the way.
    let greatest = (g.taps() as u64).saturating_mul(u64::from(c.a.top)).saturating_mul(c.w.top.into());
    let exact = matches!(finish(layer), Finish::Codes { .. }) || greatest <= u16::MAX.into();
    demand(exact, "its sums could pass 65535 before the chain reads them")
}

/// Channels by six and outputs by 64 are looked up for each two bits of the codes, 310 MAC a cycle and weight bit; a table costs
/// 2.5 cycles, and is made again for the columns that neighbouring strips share. Codes are stored by the tile, sums go through the
/// chain in wide lanes.
pub(super) fn cycles(layer: &Layer<'_>) -> f64 {
    let halves = strips::halves(layer.input).unwrap_or(1);
    let (g, s) = (&layer.g, Strips::of(&layer.g, halves));
    let columns: usize = s.parts().map(|[_, count, positions]| count * s.columns(positions)).sum();
    let tables = (columns * g.input[0] * g.groups * s.sixes) as f64;
    let stored = match finish(layer) {
        Finish::Codes { .. } => 0.0,
        Finish::Sums { .. } | Finish::Words { .. } => layer.chain() / 3.0,
    };
    halves as f64 * (layer.macs(strips::SIX, BLOCK) * layer.bits()[0] / 310.0 + tables * 2.5) + stored
}

impl<'a, 'l> LookUp64<'a, 'l> {
    /// The kernel on a layer.
    ///
    /// # Errors
    /// When it does not fit the layer.
    pub(super) fn new(layer: &'a IntLayer<'l>, about: &Layer<'_>) -> Result<Self, KernelError> {
        let (g, b) = (&layer.g, &layer.input.buffer);
        let source =
            Source::of(g, b).ok_or((about.node, "its codes do not lie as tables are made of them".to_owned()))?;
        let weights = strips::weights(g, layer.codes, layer.w.bits() as usize);
        let limit = strips::proved_limit(g, &weights, b.planes.min(2));
        let strips = Strips::of(g, source.halves);
        Ok(LookUp64 { layer, strips, source, finish: finish(about), weights, limit })
    }

    fn blocks(&self) -> usize {
        (self.layer.g.outputs / self.layer.g.groups).div_ceil(BLOCK)
    }

    /// Whether the codes lie in bit planes.
    fn planes(&self) -> bool {
        self.layer.input.buffer.layout == Layout::Bits
    }

    fn box_sums(&self) -> bool {
        self.layer.w.offset != 0
    }

    /// Emits the kernel.
    pub(super) fn emit(&self, e: &mut Emitter<'_, '_>, task: &Task<'_>) -> Result<(), KernelError> {
        let m = self.memory(e, task);
        let s = &self.strips;
        let mut result = Ok(());
        for [first, count, positions] in s.parts() {
            let failed = |m: CodegenError| (task.step.result.node, m.to_string());
            let strip = self.strip(e, positions).map_err(failed)?;
            e.times(count, |e, i| {
                let x = e.mul(i, positions);
                let x = e.add(x, first);
                let done = self.run(e, task, &m, &strip, x);
                result = std::mem::replace(&mut result, Ok(())).and(done);
            });
        }
        result
    }

    fn memory(&self, e: &mut Emitter<'_, '_>, task: &Task<'_>) -> Memory {
        let (g, s) = (&self.layer.g, &self.strips);
        let scratch = task.scratch(e);
        let (rows, addends) = (e.stack(g.kernel[0] * ROW_ENTRY, 16), e.stack(ADDENDS + 8, 16));
        let column_sums = e.stack(s.sums_pitch() * 2, 16);
        let thresholds = match self.finish {
            Finish::Codes { top, residual, .. } => {
                let t = codes_behind(task.graph, task.step).map_or(&[][..], |c| c.rows);
                let shape = [residual.map_or(1, |r| r.codes), top];
                Some(e.data("thresholds", strips::thresholds(t, shape, [g.groups, g.outputs / g.groups])))
            }
            Finish::Sums { .. } | Finish::Words { .. } => None,
        };
        Memory {
            ring: scratch,
            sums: e.add(scratch, s.sums_at()),
            lanes: e.add(scratch, s.lanes_at()),
            codes: e.add(scratch, s.codes_at()),
            tables: e.data("quad_tables", strips::quad_tables()),
            weights: e.data("weights", self.weights.clone()),
            thresholds,
            rows,
            addends,
            column_sums,
        }
    }

    fn strip(&self, e: &mut Emitter<'_, '_>, positions: usize) -> Result<Strip, CodegenError> {
        let (g, s) = (&self.layer.g, &self.strips);
        let columns = s.columns(positions);
        let (source, planes) = (self.source, self.layer.input.buffer.planes);
        let next = (!self.planes()).then_some(g.input[1] * source.pixel);
        let table = |half: usize| TablesShape {
            channels: g.channels / g.groups,
            planes: (planes - 2 * half).min(2),
            row: source.pixel,
            pitch: columns * TABLE,
            next,
        };
        let build = (0..source.halves).map(|half| table(half).function(e.image)).collect::<Result<_, _>>()?;
        let tile = look_up_avx512::LookUp64 {
            positions,
            kernel: g.kernel[1],
            stride: g.strides[1],
            dilation: g.dilations[1],
            columns,
            sixes: s.sixes,
            limit: self.limit,
            planes: self.layer.w.bits() as usize,
            half: (source.halves > 1).then_some(s.ring()),
            rows: g.kernel[0],
            factor: self.layer.a.step.wrapping_mul(self.layer.w.step),
            finish: self.finish,
        };
        Ok(Strip { positions, columns, build, tile: tile.function(e.image)? })
    }

    /// One strip from column `x` of the result on.
    fn run(
        &self,
        e: &mut Emitter<'_, '_>,
        task: &Task<'_>,
        m: &Memory,
        strip: &Strip,
        x: Value,
    ) -> Result<(), KernelError> {
        let g = &self.layer.g;
        let left = e.mul(x, g.strides[1]);
        let left = e.b.ins().iadd_imm_s(left, -(g.pads[1] as i64));
        self.clear_padding(e, m, strip, left);
        let (start, end) = task.row_range(e);
        let first = self.top(e, start);
        let next = e.var(first);
        let mut result = Ok(());
        e.range(start, end, 1, |e, y| {
            let top = self.top(e, y);
            let from = e.b.use_var(next);
            let (from, to) = (e.b.ins().smax(from, top), e.add(top, self.strips.slots));
            self.build(e, m, strip, left, [from, to]);
            e.b.def_var(next, to);
            let at = task.position(e, y, x);
            e.times(g.groups, |e, group| {
                let count = self.valid_rows(e, m, strip, top, group);
                if self.box_sums() {
                    self.add_columns(e, m, strip, count);
                }
                e.times(self.blocks(), |e, block| self.product(e, task, m, strip, [at.flat, count, group, block]));
            });
            if let Finish::Sums { pitch } = self.finish {
                let first = task.position(e, y, x);
                result = task.finish_row(e, first, strip.positions, (m.lanes, pitch), I32X4, None);
            }
        });
        result
    }

    /// The first input row under row `y` of the result.
    fn top(&self, e: &mut Emitter<'_, '_>, y: Value) -> Value {
        let top = e.mul(y, self.layer.g.strides[0]);
        e.b.ins().iadd_imm_s(top, -(self.layer.g.pads[0] as i64))
    }

    /// Lists the input rows under the row of the result whose window begins at `top`; gives their number.
    fn valid_rows(&self, e: &mut Emitter<'_, '_>, m: &Memory, strip: &Strip, top: Value, group: Value) -> Value {
        let (g, s) = (&self.layer.g, &self.strips);
        let zero = e.int(0);
        let count = e.var(zero);
        e.times(g.kernel[0], |e, ky| {
            let y = e.at(top, ky, g.dilations[0]);
            let valid = e.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, y, g.input[0] as i64);
            e.when(valid, |e| {
                let slot = self.slot(e, y);
                let row = e.at(group, slot, g.groups);
                let tables = e.at(m.ring, row, self.row_bytes(strip));
                let sums = e.at(m.sums, row, s.sums_pitch() * 2);
                let weights = e.mul(ky, s.sixes * g.kernel[1] * BLOCK);
                let n = e.b.use_var(count);
                let entry = e.at(m.rows, n, ROW_ENTRY);
                for (i, v) in [tables, weights, sums].into_iter().enumerate() {
                    e.store(v, entry, 8 * i as i32);
                }
                let n = e.add(n, 1);
                e.b.def_var(count, n);
            });
        });
        e.b.use_var(count)
    }

    /// Each position's addend: activation step · weight offset · Σ of the codes under its window.
    fn add_columns(&self, e: &mut Emitter<'_, '_>, m: &Memory, strip: &Strip, count: Value) {
        let g = &self.layer.g;
        let scale = i64::from(self.layer.a.step) * i64::from(self.layer.w.offset);
        let windows = Windows { g, positions: strip.positions, scale };
        windows.store_addends(e, [m.column_sums, m.addends], |e, vectors, of_row| {
            self.sum_rows(e, m, count, vectors, of_row)
        });
    }

    /// Sums over `count` listed rows of so many vectors of each, from the columns' sums of both halves of the codes.
    fn sum_rows(
        &self,
        e: &mut Emitter<'_, '_>,
        m: &Memory,
        count: Value,
        vectors: usize,
        of_row: &OfRow<'_>,
    ) -> Vec<Value> {
        let (zero, none) = (e.int(0), e.zeros(types::I16X8));
        let vectors: Vec<_> = (0..vectors).map(|_| e.var(none)).collect();
        e.range(zero, count, 1, |e, i| {
            let entry = e.at(m.rows, i, ROW_ENTRY);
            let sums = e.load(types::I64, entry, 16);
            for half in 0..self.strips.halves {
                let row = e.add(sums, half * self.strips.sums());
                for (v, &vector) in vectors.iter().enumerate() {
                    let sum = of_row(e, row, v);
                    let sum = if half > 0 { e.b.ins().ishl_imm_u(sum, 2 * half as i64) } else { sum };
                    e.accumulate(vector, sum);
                }
            }
        });
        vectors.into_iter().map(|vector| e.b.use_var(vector)).collect()
    }

    /// One block of outputs of a strip's row.
    fn product(
        &self,
        e: &mut Emitter<'_, '_>,
        task: &Task<'_>,
        m: &Memory,
        strip: &Strip,
        [flat, count, group, block]: [Value; 4],
    ) {
        let (g, s) = (&self.layer.g, &self.strips);
        let row = e.at(block, group, self.blocks());
        let bytes = self.layer.w.bits() as usize * g.kernel[0] * g.kernel[1] * s.sixes * BLOCK;
        let weights = e.at(m.weights, row, bytes);
        let channel = e.mul(block, BLOCK);
        let channel = e.at(channel, group, g.outputs / g.groups);
        let (thresholds, out) = match (self.finish, m.thresholds) {
            (Finish::Codes { top, store, pitch, residual, .. }, Some(thresholds)) => {
                let position = e.at(task.result.base, flat, pitch);
                let eighth = e.b.ins().ushr_imm_u(channel, if matches!(store, Store::Bits(_)) { 3 } else { 2 });
                let mut count = top;
                if let Some((residual, codes)) = residual.zip(task.residual()) {
                    count *= residual.codes;
                    let codes = e.at(codes.base, flat, residual.pitch);
                    let quarter = e.b.ins().ushr_imm_u(channel, 2);
                    let codes = e.b.ins().iadd(codes, quarter);
                    e.store(codes, m.addends, ADDENDS as i32);
                }
                (e.at(thresholds, row, strips::thresholds_pitch(count)), e.b.ins().iadd(position, eighth))
            }
            _ => (m.lanes, e.at(m.lanes, channel, 4)),
        };
        e.call(strip.tile, &[m.rows, count, weights, thresholds, m.addends, out]);
    }
}

/// Codes where only thresholds follow that 16 bits can compare, and the stored codes lie by whole blocks.
fn finish(layer: &Layer<'_>) -> Finish {
    let sums = Finish::Sums { pitch: Strips::of(&layer.g, 1).lanes_pitch() * 4 };
    let Some(t) = codes_behind(layer.graph, layer.step) else { return sums };
    let Some(acc) = layer.codes.map(|c| c.acc) else { return sums };
    let (b, g, top) = (layer.result, &layer.g, t.top);
    let outputs = g.outputs / g.groups;
    let narrow = acc.lo >= -32_766 && acc.hi <= 32_766;
    let residual = match (t.residual, layer.residual) {
        (None, _) => None,
        (Some((_, codes @ 2..=4)), Some(b)) if b.layout == Layout::Nibbles => {
            Some(Residual { codes, channels: outputs.min(BLOCK), pitch: b.pixel() })
        }
        _ => return sums,
    };
    let width = residual.map_or(1, |r| r.codes) * top + 1;
    if !narrow || !(1..=3).contains(&top) || t.rows.len() != g.outputs * width {
        return sums;
    }
    let falling = t.rows.iter().skip(width - 1).step_by(width).any(|&d| d < 0);
    match b.layout {
        Layout::Nibbles if outputs.is_multiple_of(BLOCK) || outputs < BLOCK => {
            let store = Store::Nibbles(outputs.min(BLOCK));
            Finish::Codes { top, falling, store, pitch: b.pixel(), residual }
        }
        Layout::Bits if (g.groups == 1 || outputs.is_multiple_of(BLOCK)) && whole_words(b) => {
            // Behind whole blocks there may be a smaller one, whose residual codes end sooner.
            if residual.is_some() && !outputs.is_multiple_of(BLOCK) && outputs > BLOCK {
                return sums;
            }
            Finish::Codes { top, falling, store: Store::Bits(b.words() * 8), pitch: b.pixel(), residual }
        }
        _ => sums,
    }
}
