//! The sum of the codes of a whole image, channel by channel: what a global average of codes adds up. Sixteen channels at a time,
//! as bytes, in 16-bit lanes as long as these are sure to hold them. Reference: the windows of `pool`.
//!
//! Cost: about 7 instructions for each plane of sixteen codes.

use super::wide_chain::{packs_sixteen, sixteen_codes};
use super::{KernelError, Operand, Task};
use crate::codegen::emitter::{Emitter, I32X4};
use crate::graph::ops::Window;
use crate::graph::types::CodeType;
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// Channels that are added together.
const TOGETHER: usize = 16;

/// Whether the window is the whole image, each of whose positions holds whole vectors of channels.
pub(super) fn fits(window: &Window, input: &Operand) -> bool {
    let whole = window.output == [1, 1] && window.kernel == window.input && window.pads == [0; 4];
    whole && window.dilations == [1, 1] && packs_sixteen(&input.buffer) && input.buffer.image.0.is_multiple_of(TOGETHER)
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
    e.times(c / TOGETHER, |e, i| {
        let channel = e.mul(i, TOGETHER);
        let totals = channels(e, input, channel, [h * w, code.top as usize]);
        let to = e.at(sums, channel, 4);
        for (i, total) in totals.into_iter().enumerate() {
            e.store(total, to, 16 * i as i32);
        }
    });
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

/// The sums of sixteen channels' codes up to `top` over so many positions.
fn channels(e: &mut Emitter<'_, '_>, input: &Operand, channel: Value, [area, top]: [usize; 2]) -> [Value; 4] {
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
            let codes = sixteen_codes(e, input, flat, channel);
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
