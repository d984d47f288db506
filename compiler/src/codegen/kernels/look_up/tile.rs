//! 16-entry look-ups tile by tile: up to 4 neighbouring positions × 16 outputs, or two such blocks by the AVX2 tile where there is
//! one. Each tap of a position has a pointer of its own; padding taps read a row of zero bytes, whose table is all zero. Must never
//! know what comes after the sums, but that it is a chain or thresholds.

use super::frame::{Frame, Stored, plane_bytes};
use super::tile_clif::plane_sums;
use crate::codegen::CodegenError;
use crate::codegen::emitter::{Emitter, I32X4};
use crate::codegen::image::FunctionId;
use crate::codegen::kernels::int_conv::IntLayer;
use crate::codegen::kernels::{KernelError, Task};
use crate::codegen::taps::Taps;
use crate::codegen::tiles::{CODES_ADDENDS, CODES_FRAME, LookUpShape};
use crate::lower::pack::{self, LOOK_UP_TILE};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// A wide tile and the memory for its sums.
type WideTile = Option<(FunctionId, Value)>;

/// A layer, and where its tiles lie in memory.
pub(super) struct LookUp<'a, 'l> {
    pub layer: &'a IntLayer<'l>,
    /// Positions of a tile.
    pub positions: usize,
    pub tables: Value,
    weights: Value,
    /// What the offset of the activations adds for each tap, where they have one.
    offsets: Option<Value>,
    /// What padding taps read.
    zeros: Value,
    /// Addresses of the taps, positions × taps, on the stack.
    pointers: Value,
    /// Accumulators of the positions, and bytes from one to the next.
    buffer: Value,
    pitch: usize,
    /// The AVX2 tile, if any.
    tile: WideTile,
    /// Where it stores codes.
    frame: Option<Frame>,
}

/// Emits the kernel, `wide` with the AVX2 tile, which may store codes.
pub(super) fn emit(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    layer: &IntLayer<'_>,
    wide: bool,
    stored: Option<Stored>,
    [tables, weights]: [Value; 2],
) -> Result<(), KernelError> {
    let failed = |m: CodegenError| (task.step.result.node, m.to_string());
    let k = LookUp::new(e, task, layer, wide, stored, [tables, weights]).map_err(failed)?;
    let (width, positions) = (layer.g.output[1], k.positions);
    task.each_row(e, |task, e, y| {
        let mut result = Ok(());
        e.times(width.div_ceil(positions), |e, column| {
            // The last tile overlaps its neighbour rather than being narrower.
            let (x, last) = (e.mul(column, positions), e.int(width - positions));
            let x = e.min(x, last);
            point(e, &k, y, x);
            e.times(layer.g.groups, |e, group| emit_group(e, task, &k, group, [y, x]));
            if k.frame.is_some() {
                return;
            }
            let first = task.position(e, y, x);
            result = task.finish_row(e, first, positions, (k.buffer, k.pitch * 4), I32X4, None);
        });
        result
    })
}

/// A tile's positions from (y, x) on of one group: codes, or accumulators into the buffer.
fn emit_group(e: &mut Emitter<'_, '_>, task: &Task<'_>, k: &LookUp<'_, '_>, group: Value, [y, x]: [Value; 2]) {
    let sums = box_sums(e, k, group);
    let blocks = k.layer.g.outputs / k.layer.g.groups / LOOK_UP_TILE;
    if let (Some(frame), Some((function, _))) = (&k.frame, k.tile) {
        let first = task.position(e, y, x);
        let at = e.at(task.result.base, first.flat, task.result.buffer.pixel());
        return store_codes(e, k, frame, &sums, function, [group, at]);
    }
    let pairs = if k.tile.is_some() { blocks / 2 } else { 0 };
    e.times(pairs, |e, pair| {
        let block = e.mul(pair, 2);
        let row = e.at(block, group, blocks);
        products(e, k, [group, row], &sums, k.tile);
    });
    e.times(blocks - 2 * pairs, |e, block| {
        let block = e.add(block, 2 * pairs);
        let row = e.at(block, group, blocks);
        products(e, k, [group, row], &sums, None);
    });
}

impl<'a, 'l> LookUp<'a, 'l> {
    fn new(
        e: &mut Emitter<'_, '_>,
        task: &Task<'_>,
        layer: &'a IntLayer<'l>,
        wide: bool,
        stored: Option<Stored>,
        [tables, weights]: [Value; 2],
    ) -> Result<LookUp<'a, 'l>, CodegenError> {
        let g = &layer.g;
        let (positions, taps) = (g.output[1].min(4), g.kernel[0] * g.kernel[1]);
        let offsets = (layer.a.offset != 0)
            .then(|| e.data("tap_offsets", pack::tap_offsets(g, layer.codes, &layer.w, layer.a.offset)));
        let zeros = e.data("zeros", vec![0; g.channels / 4 + 16]);
        let pointers = e.stack(positions * taps * 8, 8);
        let pitch = g.outputs.next_multiple_of(4);
        let buffer = task.lane_buffer(e, pitch * positions);
        let mut k = LookUp {
            layer,
            positions,
            tables,
            weights,
            offsets,
            zeros,
            pointers,
            buffer,
            pitch,
            tile: None,
            frame: None,
        };
        if wide {
            let codes = stored.map(|(codes, _)| codes);
            let shape = LookUpShape { positions, taps, quads: k.quads(), limit: k.limit(), codes };
            k.tile = Some((shape.function(e.image)?, task.lane_buffer(e, positions * LOOK_UP_TILE)));
        }
        k.frame = stored.map(|_| Frame { stored, planes: 1, at: e.stack(CODES_FRAME, 8), weights });
        Ok(k)
    }

    pub fn taps(&self) -> usize {
        self.layer.g.kernel[0] * self.layer.g.kernel[1]
    }

    /// Look-ups that a byte can sum.
    pub fn limit(&self) -> usize {
        pack::look_up_limit(self.layer.input.buffer.planes)
    }

    pub fn quads(&self) -> usize {
        self.layer.g.channels / self.layer.g.groups / 4
    }
}

/// The codes of a tile's positions of one group, `to` those of the first position.
fn store_codes(
    e: &mut Emitter<'_, '_>,
    k: &LookUp<'_, '_>,
    frame: &Frame,
    box_sums: &[Value],
    function: FunctionId,
    [group, to]: [Value; 2],
) {
    let (g, a, w) = (&k.layer.g, &k.layer.a, &k.layer.w);
    let zero = e.int(0);
    for i in 0..k.positions {
        let sum = box_sums.get(i).copied().unwrap_or(zero);
        let addend = e.b.ins().imul_imm_s(sum, i64::from(a.step) * i64::from(w.offset));
        let addend = e.b.ins().ireduce(types::I32, addend);
        e.store(addend, frame.at, CODES_ADDENDS + 4 * i as i32);
    }
    let shift = e.mul(group, k.quads());
    frame.each_pair(e, g, [group, to], None, |e, [weights, stride]| {
        e.call(function, &[k.pointers, shift, weights, stride, k.tables, frame.at]);
    });
}

/// Fills in the taps' pointers: `pointers[position·taps + tap]`.
fn point(e: &mut Emitter<'_, '_>, k: &LookUp<'_, '_>, y: Value, x: Value) {
    let g = &k.layer.g;
    for i in 0..k.positions {
        let x = e.add(x, i);
        Taps::of_convolution(g).each(e, y, x, |e, tap| {
            let address = e.at(k.layer.input.base, tap.flat, g.channels / 4);
            let address = e.b.ins().select(tap.valid, address, k.zeros);
            let at = e.at(k.pointers, tap.index, 8);
            e.store(address, at, (i * k.taps() * 8) as i32);
        });
    }
}

/// The address of a position's tap.
pub(super) fn pointer(e: &mut Emitter<'_, '_>, k: &LookUp<'_, '_>, tap: Value, position: usize) -> Value {
    let at = e.at(k.pointers, tap, 8);
    e.load(types::I64, at, (position * k.taps() * 8) as i32)
}

/// Σ of the activation codes under each position's taps, of one group; empty where the weights' offset is 0.
fn box_sums(e: &mut Emitter<'_, '_>, k: &LookUp<'_, '_>, group: Value) -> Vec<Value> {
    if k.layer.w.offset == 0 {
        return Vec::new();
    }
    let two = k.layer.input.buffer.planes > 1;
    let sum_of = |e: &mut Emitter<'_, '_>, v: Value| {
        let n = e.b.ins().popcnt(v);
        if !two {
            return n;
        }
        let high = e.b.ins().iconst(types::I64, 0xF0F0_F0F0_F0F0_F0F0_u64 as i64);
        let high = e.b.ins().band(v, high);
        let high = e.b.ins().popcnt(high);
        e.b.ins().iadd(n, high)
    };
    let quads = k.quads();
    let shift = e.mul(group, quads);
    (0..k.positions)
        .map(|i| {
            let zero = e.int(0);
            let sum = e.var(zero);
            e.times(k.taps(), |e, tap| {
                let base = pointer(e, k, tap, i);
                let base = e.b.ins().iadd(base, shift);
                if quads >= 8 {
                    e.times(quads / 8, |e, word| {
                        let at = e.at(base, word, 8);
                        let v = e.read(types::I64, at, 0);
                        let n = sum_of(e, v);
                        e.accumulate(sum, n);
                    });
                }
                let mut rest = quads / 8 * 8;
                for (ty, size) in [(types::I32, 4), (types::I16, 2), (types::I8, 1)] {
                    if quads & size != 0 {
                        let v = e.read(ty, base, rest as i32);
                        let v = e.b.ins().uextend(types::I64, v);
                        let n = sum_of(e, v);
                        e.accumulate(sum, n);
                        rest += size;
                    }
                }
            });
            e.b.use_var(sum)
        })
        .collect()
}

/// The accumulators of a tile's positions into the buffer: one block of 16 outputs, or two by a wide tile.
fn products(e: &mut Emitter<'_, '_>, k: &LookUp<'_, '_>, [group, row]: [Value; 2], box_sums: &[Value], tile: WideTile) {
    let planes = k.layer.w.bits() as usize;
    let base = e.at(k.weights, row, planes * plane_bytes(&k.layer.g));
    let first = e.mul(row, LOOK_UP_TILE);
    // For each position the outputs by four.
    let mut totals: Vec<Vec<Value>> = vec![Vec::new(); k.positions];
    for q in 0..planes {
        let weights = e.add(base, q * plane_bytes(&k.layer.g));
        let sums = match tile {
            None => plane_sums(e, k, group, weights),
            Some((function, scratch)) => wide_sums(e, k, group, weights, function, scratch),
        };
        for (total, sums) in totals.iter_mut().zip(sums) {
            let parts = sums.into_iter().flat_map(|s| [e.b.ins().uwiden_low(s), e.b.ins().uwiden_high(s)]);
            let parts: Vec<Value> = parts.collect();
            if q == 0 {
                *total = parts;
                continue;
            }
            for (t, part) in total.iter_mut().zip(parts) {
                let part = e.b.ins().ishl_imm_u(part, q as i64);
                *t = e.b.ins().iadd(*t, part);
            }
        }
    }
    let out = e.at(k.buffer, first, 4);
    let (a, w) = (&k.layer.a, &k.layer.w);
    for (i, total) in totals.into_iter().enumerate() {
        let box_sum = box_sums.get(i).map(|&s| {
            let s = e.b.ins().imul_imm_s(s, i64::from(a.step) * i64::from(w.offset));
            let s = e.b.ins().ireduce(types::I32, s);
            e.b.ins().splat(I32X4, s)
        });
        for (lane, t) in total.into_iter().enumerate() {
            let factor = a.step.wrapping_mul(w.step);
            let mut v = match factor {
                1 => t,
                2 => e.b.ins().iadd(t, t),
                other => {
                    let f = e.splat_i32(other);
                    e.b.ins().imul(t, f)
                }
            };
            if let Some(s) = box_sum {
                v = e.b.ins().iadd(v, s);
            }
            if let Some(table) = k.offsets {
                v = add_offsets(e, k, v, table, first, [i, lane]);
            }
            e.store(v, out, ((i * k.pitch + lane * 4) * 4) as i32);
        }
    }
}

/// Adds the activation offset's part for every valid tap.
fn add_offsets(
    e: &mut Emitter<'_, '_>,
    k: &LookUp<'_, '_>,
    v: Value,
    table: Value,
    first: Value,
    [position, lane]: [usize; 2],
) -> Value {
    let sum = e.var(v);
    e.times(k.taps(), |e, tap| {
        let p = pointer(e, k, tap, position);
        let valid = e.b.ins().icmp(IntCC::NotEqual, p, k.zeros);
        e.when(valid, |e| {
            let row = e.at(table, tap, k.pitch * 4);
            let at = e.at(row, first, 4);
            let part = e.load(I32X4, at, (lane * 16) as i32);
            e.accumulate(sum, part);
        });
    });
    e.b.use_var(sum)
}

/// Sums of one weight plane by a wide tile: for each position four vectors of 8 outputs as u16.
fn wide_sums(
    e: &mut Emitter<'_, '_>,
    k: &LookUp<'_, '_>,
    group: Value,
    weights: Value,
    function: FunctionId,
    scratch: Value,
) -> Vec<Vec<Value>> {
    let shift = e.mul(group, k.quads());
    let stride = e.int(k.layer.w.bits() as usize * plane_bytes(&k.layer.g));
    e.call(function, &[k.pointers, shift, weights, stride, k.tables, scratch]);
    let bytes = 4 * LOOK_UP_TILE;
    (0..k.positions)
        .map(|i| (0..4).map(|v| e.load(types::I16X8, scratch, (i * bytes + v * 16) as i32)).collect())
        .collect()
}
