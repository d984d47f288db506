//! The innermost part of row by row look-ups ([`LookUpRows`]): taking packed indices apart, and a tile's look-ups of two quads of
//! channels. Cost: 21 shuffles and additions a quad for 7 positions and 3 taps, which keep three vector units busy.

use super::look_up_rows::{LookUpRows, POSITIONS, ROOM, TAPS, WEIGHTS};
use super::repeat;
use iced_x86::IcedError;
use iced_x86::code_asm::*;
use std::ops::Range;

/// Registers by number: byte sums of the positions, indices of the taps, a column's table, what is looked up there; packed indices of
/// two quads, which become those of the second.
pub(super) const SUMS: [usize; POSITIONS] = [0, 1, 2, 3, 4, 5, 6];
const INDICES: [usize; TAPS] = [7, 8, 9, 13, 14];
pub(super) const TABLE: usize = 10;
const PART: usize = 11;
pub(super) const NIBBLES: usize = 12;
const PACKED: [usize; INLINE_TAPS] = [13, 14, 15];
/// Taps for which there are registers for packed indices beside those of the taps.
pub(super) const INLINE_TAPS: usize = 3;
/// The next column's codes, and indices on the stack.
pub(super) const CODES: AsmRegister64 = r10;
const INDEX: AsmRegister64 = r13;
const QUADS: AsmRegister32 = r14d;

type Done = Result<(), IcedError>;

impl LookUpRows {
    /// `quads` look-ups a tap, by pairs; leaves the codes at the first column's next quads.
    pub(super) fn all_look_ups(self, a: &mut CodeAssembler, quads: usize) -> Done {
        self.index(a)?;
        // All pairs between two additions to the 16-bit sums where there are 3 taps and 2-bit codes.
        const UNROLL: usize = 3;
        repeat(a, QUADS, quads / 2 / UNROLL, |a| (0..UNROLL).try_for_each(|_| self.look_ups(a, 2)))?;
        (0..quads / 2 % UNROLL).try_for_each(|_| self.look_ups(a, 2))?;
        if quads.is_multiple_of(2) { Ok(()) } else { self.look_ups(a, 1) }
    }

    /// The address of the first quad's indices.
    fn index(self, a: &mut CodeAssembler) -> Done {
        a.lea(INDEX, ptr(rsp + ROOM as i32))
    }

    /// Where the indices of a tap lie, of the quad that is the `quad`th from [`INDEX`] on.
    fn index_at(self, quad: usize, kx: usize) -> AsmMemoryOperand {
        INDEX + ((quad * self.kernel + kx) * self.lanes.bytes()) as i32
    }

    /// Puts the indices of `quads` on the stack; moves the weights on.
    pub(super) fn take_apart(self, a: &mut CodeAssembler, quads: usize) -> Done {
        self.index(a)?;
        let pair = |a: &mut CodeAssembler, quads: usize| {
            for first in (0..self.kernel).step_by(INLINE_TAPS) {
                let taps = first..self.kernel.min(first + INLINE_TAPS);
                self.packed(a, taps.clone())?;
                for (quad, indices) in [INDICES.as_slice(), &PACKED].into_iter().enumerate().take(quads) {
                    self.unpack(a, taps.len(), quad)?;
                    for (kx, &index) in taps.clone().zip(indices) {
                        self.lanes.store(a, self.index_at(quad, kx), index)?;
                    }
                }
            }
            self.weights().try_for_each(|weights| a.add(weights, 16))?;
            a.add(INDEX, (quads * self.kernel * self.lanes.bytes()) as i32)
        };
        repeat(a, QUADS, quads / 2, |a| pair(a, 2))?;
        if quads.is_multiple_of(2) { Ok(()) } else { pair(a, 1) }
    }

    /// Loads the indices of two quads of some taps.
    fn packed(self, a: &mut CodeAssembler, taps: Range<usize>) -> Done {
        for (kx, packed) in taps.zip(PACKED) {
            self.lanes.blocks(a, packed, WEIGHTS.map(|w| w + (kx * self.tap()) as i32))?;
        }
        Ok(())
    }

    /// Makes the indices of the first of two quads of so many taps, or those of the second in place.
    fn unpack(self, a: &mut CodeAssembler, taps: usize, quad: usize) -> Done {
        for (index, packed) in INDICES.into_iter().zip(PACKED).take(taps) {
            if quad == 0 {
                self.lanes.and(a, index, [packed, NIBBLES])?;
            } else {
                self.lanes.shift_right(a, packed, 4)?;
                self.lanes.and(a, packed, [packed, NIBBLES])?;
            }
        }
        Ok(())
    }

    /// The look-ups of one or two quads of a tile's positions; moves the pointers on.
    fn look_ups(self, a: &mut CodeAssembler, quads: usize) -> Done {
        // Indices that only one tile reads would be stored to be loaded again at once.
        let (lanes, apart) = (self.lanes, self.apart());
        if !apart {
            self.packed(a, 0..self.kernel)?;
            self.weights().try_for_each(|weights| a.add(weights, 16))?;
        }
        for quad in 0..quads {
            let indices: &[usize] = if apart || quad == 0 { &INDICES } else { &PACKED };
            if apart {
                for (kx, &index) in indices.iter().enumerate().take(self.kernel) {
                    lanes.load(a, index, self.index_at(quad, kx))?;
                }
            } else {
                self.unpack(a, self.kernel, quad)?;
            }
            for column in 0..(self.positions() - 1) * self.stride + self.kernel {
                let sum = |kx: usize| {
                    let distance = column.checked_sub(kx).filter(|d| d.is_multiple_of(self.stride))?;
                    SUMS.get(..self.positions())?.get(distance / self.stride).copied()
                };
                let taps = indices.iter().enumerate().take(self.kernel);
                let mut readers = taps.filter_map(|(kx, &index)| Some((index, sum(kx)?))).peekable();
                if readers.peek().is_none() {
                    continue;
                }
                a.movzx(eax, byte_ptr(CODES + (column * self.pixel + quad) as i32))?;
                a.shl(eax, 4)?;
                lanes.table(a, TABLE, r8 + rax)?;
                while let Some((index, sum)) = readers.next() {
                    lanes.look_up(a, sum, [TABLE, index, PART], readers.peek().is_none())?;
                }
            }
        }
        a.add(CODES, quads as i32)?;
        if apart { a.add(INDEX, (quads * self.kernel * lanes.bytes()) as i32) } else { Ok(()) }
    }
}
