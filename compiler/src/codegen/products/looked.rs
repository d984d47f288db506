//! What forward products by look-ups share, whatever their tables: which operands they take, the walk over samples and groups, and how a
//! vector of indices is packed.

use super::{Forward, InputLayout, Operands, Samples};
use crate::codegen::CodegenError;
use crate::codegen::emitter::Emitter;
use crate::lower::train::layouts::{Levels, Storage};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};

/// Greatest code.
const TOP: i32 = 3;
/// Taps that are packed together.
pub(super) const TAPS: usize = 8;

/// A forward product by look-ups.
pub(super) trait Looked {
    /// What it is called.
    fn name(&self) -> &'static str;

    /// Packs `part` of `parts` of the dense weights (O, C/groups, KH, KW), i16 levels.
    fn pack(&self, e: &mut Emitter<'_, '_>, part: Value, parts: usize, src_dst: [Value; 2]);

    /// The product of the samples [first, end), from the codes into the sums.
    ///
    /// # Errors
    /// When the code generator fails.
    fn emit(
        &self,
        e: &mut Emitter<'_, '_>,
        samples: [Value; 2],
        operands: [Samples; 2],
        packed: Value,
    ) -> Result<(), CodegenError>;
}

/// The codes' layout and bit planes, where the weights are −1 and 1, the codes 0 … 3 as bytes, and no sum of them leaves 16 bits.
pub(super) fn codes(forward: &Forward) -> Option<(&Levels, usize)> {
    let InputLayout::Levels(levels) = &forward.input else { return None };
    let Operands::Levels { a, .. } = forward.operands else { return None };
    let bytes = levels.storage == Storage::Bytes { bias: 0 } && (0..=TOP).contains(&a.greatest) && a.least >= 0;
    let narrow = forward.g.taps() * a.greatest.max(1) as usize <= u16::MAX.into();
    let planes = if a.greatest > 1 { 2 } else { 1 };
    (forward.signs && bytes && narrow && !forward.over_batch()).then_some((levels, planes))
}

/// Calls `body` for every group of the samples [first, end) with the addresses of its first window's codes, which may lie in the
/// border, of its packed weights, `block_bytes` for each `block` outputs, and of its sums.
pub(super) fn each_group(
    e: &mut Emitter<'_, '_>,
    (forward, levels): (&Forward, &Levels),
    [first, end]: [Value; 2],
    [a, c]: [Samples; 2],
    (packed, block, block_bytes): (Value, usize, usize),
    body: impl Fn(&mut Emitter<'_, '_>, [Value; 3]),
) {
    let g = &forward.g;
    let corner = levels.origin() as i64 - (g.pads[0] * levels.row() + g.pads[1] * levels.pixel()) as i64;
    e.range(first, end, 1, |e, n| {
        let (corner, zero) = (e.b.ins().iconst(types::I64, corner), e.int(0));
        let (from, to) = (a.at(e, n, corner), c.at(e, n, zero));
        e.times(g.groups, |e, group| {
            let outputs = g.outputs / g.groups;
            let from = e.at(from, group, levels.group());
            let packed = e.at(packed, group, outputs / block * block_bytes);
            let to = e.at(to, group, outputs * forward.output.element);
            body(e, [from, packed, to]);
        });
    });
}

/// Writes a byte for each of `outputs` outputs, a power of two, from `output` on: the even ones are the first half of them.
pub(super) fn pack_vector(
    e: &mut Emitter<'_, '_>,
    [to, output]: [Value; 2],
    outputs: usize,
    byte: impl Fn(&mut Emitter<'_, '_>, Value) -> Value,
) {
    e.times(outputs, |e, o| {
        let output = e.b.ins().iadd(output, o);
        let byte = byte(e, output);
        let lane = lane(e, o, outputs);
        let to = e.b.ins().iadd(to, lane);
        e.b.ins().istore8(MemFlagsData::new().with_notrap(), byte, to, 0);
    });
}

/// The byte of output `o` of so many: the even ones are the first half of them.
pub(super) fn lane(e: &mut Emitter<'_, '_>, o: Value, outputs: usize) -> Value {
    let half = e.b.ins().ushr_imm_u(o, i64::from(outputs.ilog2()) - 1);
    let lane = e.b.ins().band_imm_s(o, outputs as i64 / 2 - 1);
    e.at(half, lane, 2)
}

/// Writes an output's bytes of a few channels, whose weights' taps lie one after another at `from`, i16 levels: bit i of a byte is
/// 1 where the weight of channel i is 1. `places` are those of each tap's byte, [`TAPS`] or more, behind `to`.
pub(super) fn pack_taps(e: &mut Emitter<'_, '_>, [from, to]: [Value; 2], channels: usize, places: &[usize]) {
    let zero = e.splat_i32(0);
    let zero = e.cast(types::I16X8, zero);
    let mut done = 0;
    while done < places.len() {
        // The last ones, some of them again.
        let first = done.min(places.len().saturating_sub(TAPS));
        let mut bytes = zero;
        for i in 0..channels {
            let levels = e.read(types::I16X8, from, (2 * (i * places.len() + first)) as i32);
            let ones = e.b.ins().icmp(IntCC::SignedGreaterThan, levels, zero);
            let bit = e.splat_i32(0x0001_0001 << i);
            let bit = e.cast(types::I16X8, bit);
            let bits = e.b.ins().band(ones, bit);
            bytes = e.b.ins().bor(bytes, bits);
        }
        let bytes = e.cast(types::I8X16, bytes);
        for (tap, &place) in places.iter().skip(first).take(TAPS).enumerate().skip(done - first) {
            let byte = e.b.ins().extractlane(bytes, 2 * tap as u8);
            e.store(byte, to, place as i32);
        }
        done = first + TAPS;
    }
}
