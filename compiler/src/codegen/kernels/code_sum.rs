//! The sum of the codes of a whole image, channel by channel: what a global average of codes adds up. Sixteen channels at a time,
//! as bytes, in 16-bit lanes as long as these are sure to hold them. Reference: the windows of `pool`.
//!
//! Cost: about 7 instructions for each plane of sixteen codes, or 5 for all where the level unpacks rows of them.

use super::wide_chain::{ROW, SIXTEEN, packs_sixteen, sixteen_codes};
use super::{KernelError, Operand, Task, split_input};
use crate::codegen::emitter::{Emitter, I32X4};
use crate::graph::ops::Window;
use crate::graph::types::CodeType;
use crate::lower::LINE;
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// Whether the window is the whole image, each of whose positions holds whole vectors of channels.
pub(super) fn fits(window: &Window, input: &Operand) -> bool {
    let whole = window.output == [1, 1] && window.kernel == window.input && window.pads == [0; 4];
    whole && window.dilations == [1, 1] && packs_sixteen(&input.buffer) && input.buffer.image.0.is_multiple_of(SIXTEEN)
}

/// Emits it.
///
/// # Errors
/// The node that could not be emitted, and why.
pub(super) fn emit(
    e: &mut Emitter<'_, '_>,
    task: &Task<'_>,
    input: &Operand,
    code: &CodeType,
) -> Result<(), KernelError> {
    let (c, h, w) = input.buffer.image;
    let sums = e.stack(c * 4, 16);
    let top = code.top as usize;
    match split_input::unpacking(e, &input.buffer).filter(|_| w * top <= u16::MAX.into() && w * c <= ROW) {
        None => each_channel(e, c, |e, channel| {
            let totals = channels(e, h * w, top, |e, flat| sixteen_codes(e, input, flat, channel));
            add(e, sums, channel, totals, false);
        }),
        Some(unpack) => {
            let row = e.stack(w * c, LINE);
            let zero = e.splat_i32(0);
            e.times(c / 4, |e, i| {
                let at = e.at(sums, i, 16);
                e.store(zero, at, 0);
            });
            e.times(h, |e, y| {
                let (from, count) = (e.at(input.base, y, w * input.buffer.pixel()), e.int(w));
                e.call(unpack, &[from, row, count]);
                each_channel(e, c, |e, channel| {
                    let totals = channels(e, w, top, |e, x| {
                        let at = e.at(channel, x, c);
                        let at = e.b.ins().iadd(row, at);
                        e.load(types::I8X16, at, 0)
                    });
                    add(e, sums, channel, totals, true);
                });
            });
        }
    }
    let (step, offset) = (i64::from(code.step), i64::from(code.offset) * (h * w) as i64);
    task.each_position(e, |task, e, p| {
        task.finish(e, p, None, &mut |e, channel| {
            let at = e.at(sums, channel, 4);
            let sum = e.load(I32X4, at, 0);
            let (step, offset) = (e.splat_i32(step as i32), e.splat_i32(offset as i32));
            let scaled = e.b.ins().imul(sum, step);
            Ok(e.b.ins().iadd(scaled, offset))
        })
    })
}

/// Every sixteenth channel.
fn each_channel(e: &mut Emitter<'_, '_>, c: usize, mut body: impl FnMut(&mut Emitter<'_, '_>, Value)) {
    e.times(c / SIXTEEN, |e, i| {
        let channel = e.mul(i, SIXTEEN);
        body(e, channel);
    });
}

/// Stores the sums of sixteen channels, or adds them to what is there.
fn add(e: &mut Emitter<'_, '_>, sums: Value, channel: Value, totals: [Value; 4], more: bool) {
    let to = e.at(sums, channel, 4);
    for (i, total) in totals.into_iter().enumerate() {
        let at = 16 * i as i32;
        let total = if more {
            let old = e.load(I32X4, to, at);
            e.b.ins().iadd(old, total)
        } else {
            total
        };
        e.store(total, to, at);
    }
}

/// The sums of sixteen channels' codes up to `top` over so many positions.
fn channels(
    e: &mut Emitter<'_, '_>,
    area: usize,
    top: usize,
    mut codes: impl FnMut(&mut Emitter<'_, '_>, Value) -> Value,
) -> [Value; 4] {
    let zero = e.splat_i32(0);
    let none = e.cast(types::I16X8, zero);
    let totals = [0; 4].map(|_| e.var(zero));
    let most = usize::from(u16::MAX) / top.max(1);
    let (start, end) = (e.int(0), e.int(area));
    e.range(start, end, most, |e, first| {
        let sums = [0; 2].map(|_| e.var(none));
        let last = e.add(first, most);
        let last = e.min(last, end);
        e.range(first, last, 1, |e, flat| {
            let codes = codes(e, flat);
            let halves = [e.b.ins().uwiden_low(codes), e.b.ins().uwiden_high(codes)];
            for (sum, half) in sums.iter().zip(halves) {
                e.accumulate(*sum, half);
            }
        });
        for (sum, totals) in sums.iter().zip(totals.chunks(2)) {
            let sum = e.b.use_var(*sum);
            let halves = [e.b.ins().uwiden_low(sum), e.b.ins().uwiden_high(sum)];
            for (total, half) in totals.iter().zip(halves) {
                e.accumulate(*total, half);
            }
        }
    });
    totals.map(|total| e.b.use_var(total))
}
