//! The chain on whole rows in eight or sixteen lanes: what [`Task::finish`] does a position and four lanes at a time. Codes go
//! through a row of bytes, which is packed at last.

use super::layer::whole_words;
use super::walk::WORD;
use super::{KernelError, Operand, Position, Task, Words};
use crate::codegen::emitter::{Emitter, F32X4, I32X4};
use crate::codegen::image::FunctionId;
use crate::codegen::lanes::clif::Played;
use crate::codegen::lanes::nest::{Nest, Sink};
use crate::codegen::lanes::program::{Access, Element, Level, Program, Type};
use crate::codegen::lanes::wide::{self, Leaf};
use crate::codegen::products::relayout::{interleave, transpose_four};
use crate::codegen::target::x86;
use crate::codegen::tiles::pack_avx512::Pack;
use crate::graph::types::Layout;
use crate::lower::{Buffer, LINE};
use cranelift_codegen::ir::{self, InstBuilder, MemFlagsData, Value, types};

/// Bytes of a row of codes that may lie on the stack.
pub(super) const ROW: usize = 1 << 15;
/// Bytes of a row of floats that may lie there beside it.
const TRANSPOSED: usize = 1 << 16;
/// Channels that are packed together where their number allows.
pub(super) const SIXTEEN: usize = 16;

impl Task<'_> {
    /// Runs the chain on lanes of type `ty` that lie in memory, four bytes a channel, at `positions` neighbours from `first`
    /// on, `pitch` bytes apart; `words` limits it to these words of 64 channels.
    pub(super) fn finish_row(
        &self,
        e: &mut Emitter<'_, '_>,
        first: Position,
        positions: usize,
        (lanes, pitch): (Value, usize),
        ty: ir::Type,
        words: Words,
    ) -> Result<(), KernelError> {
        let element = if ty == F32X4 { Element::F32 } else { Element::I32 };
        let source = Access { base: lanes, element, origin: 0, row: 0, column: pitch };
        if self.in_wide_lanes(e, first, positions, source, words)? {
            return Ok(());
        }
        let mut result = Ok(());
        e.times(positions, |e, i| {
            let (p, lanes) = (first.moved(e, i), e.at(lanes, i, pitch));
            result = self.finish_from(e, p, words, lanes, ty);
        });
        result
    }

    /// Runs the chain on a row of another value. Gives whether it did.
    pub(super) fn row_of(
        &self,
        e: &mut Emitter<'_, '_>,
        source: &Operand,
        first: Position,
    ) -> Result<bool, KernelError> {
        let ((c, _, w), b) = (source.buffer.image, &source.buffer);
        if b.image != self.result.buffer.image || wide::widths(e).is_empty() || c * w > ROW {
            return Ok(false);
        }
        let access = row_at(e, source, first, w).or_else(|| transposed(e, source, first));
        access.map_or(Ok(false), |access| self.in_wide_lanes(e, first, w, access, None))
    }

    /// The chain as a leaf function of `positions` positions; gives whether it has that form.
    fn in_wide_lanes(
        &self,
        e: &mut Emitter<'_, '_>,
        first: Position,
        positions: usize,
        source: Access,
        words: Words,
    ) -> Result<bool, KernelError> {
        let (b, c) = (&self.result.buffer, self.result.buffer.image.0);
        let whole = if words.is_some() { WORD } else { 1 };
        let fits = |width: &crate::codegen::tiles::Width| c.is_multiple_of(width.lanes().max(whole));
        let Some(width) = wide::widths(e).into_iter().find(fits) else { return Ok(false) };
        let mut program = Program::default();
        let entry = program.load(source, Level::Point);
        let mut other = |e: &mut Emitter<'_, '_>, p: &mut Program, v| {
            let operand = self.operands.get(&v).filter(|o| o.buffer.image == b.image)?;
            Some(p.load(row_at(e, operand, first, positions)?, Level::Point))
        };
        let Some(result) = self.chain.record(e, &mut program, self.step.source, entry, &mut other) else {
            return Ok(false);
        };
        let packed = packs_sixteen(b) && c * positions <= ROW;
        let to = match at_position(e, &self.result, first) {
            Some(to) => to,
            None if !packed => return Ok(false),
            None => Access { base: e.stack(c * positions, LINE), element: Element::U8, origin: 0, row: 0, column: c },
        };
        let to = with_type(to, program.ty(result));
        let nest = Nest { program, sinks: vec![Sink::Store(to, result)], image: [1, positions] };
        let Some(leaf) = Leaf::of(&nest, width, e.fma) else { return Ok(false) };
        let range = match words {
            None => [e.int(0), e.int(c)],
            Some((start, end)) => [e.mul(start, WORD), e.mul(end, WORD)],
        };
        let node = self.step.result.node;
        leaf.call(e, &Played::of_width(positions), range).map_err(|what| (node, what))?;
        if to.element == Element::U8 {
            if words.is_none()
                && let Some(pack) = packing(e, b)
            {
                let (planes, count) = (e.at(self.result.base, first.flat, b.pixel()), e.int(positions));
                e.call(pack, &[to.base, planes, count]);
                return Ok(true);
            }
            e.times(positions, |e, i| {
                let (p, codes) = (first.moved(e, i), e.at(to.base, i, c));
                self.store_packed(e, p, words, codes);
            });
        }
        Ok(true)
    }
}

impl Position {
    /// So many columns on.
    pub(super) fn moved(self, e: &mut Emitter<'_, '_>, columns: Value) -> Position {
        Position { y: self.y, x: e.b.ins().iadd(self.x, columns), flat: e.b.ins().iadd(self.flat, columns) }
    }
}

/// Whether codes are packed, and sixteen channels of them lie together.
pub(super) fn packs_sixteen(b: &Buffer) -> bool {
    match b.layout {
        Layout::Bits => b.group.is_multiple_of(SIXTEEN) && b.planes <= 8,
        Layout::Nibbles => b.image.0.is_multiple_of(SIXTEEN),
        _ => false,
    }
}

/// What packs whole words of codes into bit planes, where the level has it.
fn packing(e: &mut Emitter<'_, '_>, b: &Buffer) -> Option<FunctionId> {
    let whole = b.layout == Layout::Bits && whole_words(b) && b.image.0.is_multiple_of(WORD);
    if !whole || !e.level.has_x86(x86::V4) {
        return None;
    }
    // A distance that fits no instruction leaves it to the loop.
    let to = [b.words() * 8, b.pixel()];
    Pack { words: b.image.0 / WORD, planes: b.planes, to }.function(e.image).ok()
}

/// Where the elements of a value lie, channels innermost, at so many positions from one on; few packed codes are put on the
/// stack, a byte each.
fn row_at(e: &mut Emitter<'_, '_>, o: &Operand, first: Position, positions: usize) -> Option<Access> {
    let (b, c) = (&o.buffer, o.buffer.image.0);
    if let Some(access) = at_position(e, o, first) {
        return Some(access);
    }
    if !packs_sixteen(b) || b.planes > 2 || c * positions > ROW {
        return None;
    }
    let bytes = e.stack(c * positions, LINE);
    e.times(positions, |e, i| {
        let (p, to) = (first.moved(e, i), e.at(bytes, i, c));
        unpack(e, o, p, to);
    });
    Some(Access { base: bytes, element: Element::U8, origin: 0, row: 0, column: c })
}

/// A row of floats or pixels that lie a plane a channel, on the stack with channels innermost, if whole vectors make it.
fn transposed(e: &mut Emitter<'_, '_>, o: &Operand, first: Position) -> Option<Access> {
    let (b, (c, h, w)) = (&o.buffer, o.buffer.image);
    let element = b.element();
    let (plane, row, vector) = (h * w * element, c * w * element, 16 / element);
    let bytes = match (b.integer, element) {
        (false, _) => Element::F32,
        (true, 1) => Element::U8,
        _ => return None,
    };
    if b.layout != Layout::Dense || !c.is_multiple_of(4) || w < vector || row > TRANSPOSED || plane >= 1 << 28 {
        return None;
    }
    let to = e.stack(row, LINE);
    let from = e.at(o.base, first.flat, element);
    e.times(c / 4, |e, i| {
        let (from, to) = (e.at(from, i, 4 * plane), e.at(to, i, 4 * element));
        e.times(w.div_ceil(vector), |e, j| {
            // The last vector's, some of them again.
            let last = e.int(w - vector);
            let x = e.mul(j, vector);
            let x = e.min(x, last);
            let (from, to) = (e.at(from, x, element), e.at(to, x, c * element));
            let rows = [0, 1, 2, 3].map(|k| e.load(F32X4, from, (k * plane) as i32));
            if element == 4 {
                for (k, four) in transpose_four(e, rows).into_iter().enumerate() {
                    let four = e.cast(F32X4, four);
                    e.store(four, to, (k * 4 * c) as i32);
                }
                return;
            }
            for (k, four) in bytes_of_four(e, rows).into_iter().enumerate() {
                let four = e.cast(I32X4, four);
                for lane in 0..4 {
                    let one = e.b.ins().extractlane(four, lane as u8);
                    e.store(one, to, ((4 * k + lane) * c) as i32);
                }
            }
        });
    });
    Some(Access { base: to, element: bytes, origin: 0, row: 0, column: c * element })
}

/// Sixteen bytes of each of four channels as four bytes of each of sixteen positions.
fn bytes_of_four(e: &mut Emitter<'_, '_>, [a, b, c, d]: [Value; 4]) -> [Value; 4] {
    let pairs = [(a, b, 0), (c, d, 0), (a, b, 8), (c, d, 8)].map(|(a, b, first)| interleave(e, a, b, 1, first));
    [(0, 0), (0, 4), (2, 0), (2, 4)].map(|(i, first)| interleave(e, pairs[i], pairs[i + 1], 2, first))
}

/// Where the elements of a value lie, channels innermost, from a position on.
fn at_position(e: &mut Emitter<'_, '_>, o: &Operand, first: Position) -> Option<Access> {
    if o.buffer.layout != Layout::Nhwc {
        return None;
    }
    let column = o.buffer.pitch() * 4;
    let element = if o.buffer.integer { Element::I32 } else { Element::F32 };
    Some(Access { base: e.at(o.base, first.flat, column), element, origin: 0, row: 0, column })
}

/// Four bytes hold a float or an integer.
fn with_type(to: Access, ty: Type) -> Access {
    let element = match (to.element, ty) {
        (Element::F32 | Element::I32, Type::F32) => Element::F32,
        (Element::F32 | Element::I32, _) => Element::I32,
        (other, _) => other,
    };
    Access { element, ..to }
}

/// The codes of a position as bytes, sixteen channels at a time.
fn unpack(e: &mut Emitter<'_, '_>, o: &Operand, p: Position, to: Value) {
    e.times(o.buffer.image.0 / SIXTEEN, |e, i| {
        let channel = e.mul(i, SIXTEEN);
        let codes = sixteen_codes(e, o, p.flat, channel);
        let to = e.b.ins().iadd(to, channel);
        e.store(codes, to, 0);
    });
}

/// The codes of sixteen channels from `channel` on at a position, as bytes: each byte of a plane is spread to those that take a bit
/// of it.
pub(super) fn sixteen_codes(e: &mut Emitter<'_, '_>, o: &Operand, flat: Value, channel: Value) -> Value {
    let per_byte = if o.buffer.layout == Layout::Nibbles { 4 } else { 8 };
    let spread = constant(e, "spread", (0..SIXTEEN).map(|i| (i / per_byte) as u8).collect());
    let mut codes = e.splat_i32(0);
    for q in 0..o.buffer.planes {
        let (word, shift) = plane(e, o, flat, channel, q);
        let bits: Vec<u8> = (0..SIXTEEN).map(|i| 1 << (i % per_byte + shift)).collect();
        let (bits, word) = (constant(e, "bits", bits), e.b.ins().splat(I32X4, word));
        let word = e.cast(types::I8X16, word);
        let word = e.shuffle_bytes(word, spread);
        let word = e.b.ins().band(word, bits);
        let set = e.b.ins().icmp(ir::condcodes::IntCC::Equal, word, bits);
        let set = e.cast(I32X4, set);
        let one = e.splat_i32(i32::from_ne_bytes([1 << q; 4]));
        let set = e.b.ins().band(set, one);
        codes = e.b.ins().bor(codes, set);
    }
    e.cast(types::I8X16, codes)
}

/// The bits of sixteen channels of a plane, and how far up in each byte they lie.
fn plane(e: &mut Emitter<'_, '_>, o: &Operand, flat: Value, channel: Value, q: usize) -> (Value, usize) {
    let b = &o.buffer;
    if b.layout == Layout::Nibbles {
        let row = e.at(o.base, flat, b.pixel());
        let byte = e.b.ins().ushr_imm_u(channel, 2);
        let at = e.b.ins().iadd(row, byte);
        return (e.load(types::I32, at, 0), 4 * q);
    }
    let (word, bit) = super::word_of(e, b, channel);
    let row = e.at(o.base, flat, b.pixel());
    let (at, byte) = (e.at(row, word, 8), e.b.ins().ushr_imm_u(bit, 3));
    let at = e.b.ins().iadd(at, byte);
    let at = e.add(at, q * b.words() * 8);
    (e.b.ins().uload16(types::I32, MemFlagsData::new().with_notrap(), at, 0), 0)
}

fn constant(e: &mut Emitter<'_, '_>, name: &str, bytes: Vec<u8>) -> Value {
    let at = e.data(name, bytes);
    e.read(types::I8X16, at, 0)
}
