//! The split-integer tile of codes decided early (`lower::early`): a row of positions, the upper digits' sums of a tile of them in
//! flight. Positions whose codes these leave open go into a list, each without a branch of its own; the lowest digit is multiplied for those of the
//! list when the row ends or the list is full. Reference: `kernels::split_lanes`.
//!
//! This file holds what the instruction sets share: the walk along the row, and the list.

use super::leaf;
use super::split::{OUT, SplitShape, WEIGHTS};
use crate::lower::split::VECTOR;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// What one instruction set does of it.
pub(super) trait Early {
    /// Prepares constants that the row keeps.
    fn constants(&self, a: &mut CodeAssembler) -> Result<(), IcedError>;
    /// Stores the codes of the tile at [`FIRST`], from the weights at [`WEIGHTS`] on, and enters positions into the list; may
    /// overwrite [`SPARE`].
    fn upper(&self, a: &mut CodeAssembler) -> Result<(), IcedError>;
    /// Stores the codes of [`OPEN`]'s position from all digits; overwrites [`OUT`].
    fn lowest(&self, a: &mut CodeAssembler) -> Result<(), IcedError>;
}

/// Positions of a tile at most.
pub(super) const MOST: usize = 28;
/// Bytes of the list of open positions, aligned to 64: 64 of single positions, and those of another tile.
pub(super) const LIST: usize = (64 + MOST) * (VECTOR + 64);

/// Where the addresses of the levels and of the result lie in an entry: behind the upper digits' sums of all positions of a window.
fn addresses(s: SplitShape) -> [usize; 2] {
    let [rows, columns] = s.window();
    [0, 8].map(|at| rows * columns * VECTOR + at)
}

/// Where the outputs of a single position lie in an entry that its upper digits leave open, a bit each.
pub(super) fn lanes_at(s: SplitShape) -> usize {
    addresses(s)[1] + 8
}

/// Bytes of an entry.
fn entry(s: SplitShape) -> usize {
    (addresses(s)[0] + 64).next_power_of_two()
}

/// The lanes of the first and of the second of a pair of results that are decided together.
pub(super) const LANES: [u32; 2] = [0x0F0F_0F0F, 0xF0F0_F0F0];

/// The tile's first position's levels.
pub(super) const FIRST: AsmRegister64 = rbp;
/// The block's weights.
pub(super) const BLOCK: AsmRegister64 = r12;
/// Tiles to go.
const TILES: AsmRegister64 = r15;
/// Where the next open position is entered.
pub(super) const NEXT: AsmRegister64 = rbx;
/// Free while a tile is computed.
pub(super) const SPARE: [AsmRegister64; 2] = [r13, r14];
/// The entry whose codes are made.
pub(super) const OPEN: AsmRegister64 = r13;
/// What [`OUT`] is meanwhile.
const KEPT: AsmRegister64 = r14;
const SAVED: [AsmRegister64; 6] = [NEXT, FIRST, BLOCK, SPARE[0], SPARE[1], TILES];

/// Where the function's seventh argument lies behind rsp while a tile is computed, where there is one: behind the list's address,
/// [`SAVED`] and where to return.
pub(super) fn seventh() -> i32 {
    8 * (SAVED.len() as i32 + 2)
}

/// The function `(input, weights, out, table, tiles, list)`.
pub(super) fn assemble(s: SplitShape, early: &impl Early, a: &mut CodeAssembler) -> Result<(), IcedError> {
    leaf(a, &SAVED, |a| {
        a.mov(FIRST, rdi)?;
        a.mov(BLOCK, WEIGHTS)?;
        a.mov(TILES, r8)?;
        a.mov(NEXT, r9)?;
        a.push(r9)?;
        early.constants(a)?;
        let (mut next, mut drain) = (a.create_label(), a.create_label());
        a.set_label(&mut next)?;
        a.mov(rdi, FIRST)?;
        a.mov(WEIGHTS, BLOCK)?;
        early.upper(a)?;
        a.add(FIRST, (s.columns() * s.position) as i32)?;
        a.add(OUT, (s.across() * s.pitch) as i32)?;
        a.dec(TILES)?;
        a.jz(drain)?;
        a.mov(rax, qword_ptr(rsp))?;
        // Full is a list that has no room for another tile's.
        a.add(rax, ((LIST / entry(s) - s.results()) * entry(s)) as i32)?;
        a.cmp(NEXT, rax)?;
        a.jbe(next)?;
        a.set_label(&mut drain)?;
        a.mov(KEPT, OUT)?;
        a.mov(OPEN, qword_ptr(rsp))?;
        let (mut open, mut done) = (a.create_label(), a.create_label());
        a.set_label(&mut open)?;
        a.cmp(OPEN, NEXT)?;
        a.jae(done)?;
        a.mov(rdi, qword_ptr(OPEN + addresses(s)[0]))?;
        a.mov(OUT, qword_ptr(OPEN + addresses(s)[1]))?;
        a.lea(WEIGHTS, qword_ptr(BLOCK + (s.all_steps() * (s.planes - 1) * VECTOR) as i32))?;
        early.lowest(a)?;
        a.add(OPEN, entry(s) as i32)?;
        a.jmp(open)?;
        a.set_label(&mut done)?;
        a.mov(OUT, KEPT)?;
        a.mov(NEXT, qword_ptr(rsp))?;
        a.test(TILES, TILES)?;
        a.jnz(next)?;
        a.pop(rax)
    })
}

/// Enters the tile's result `i`, whose sums lie at [`NEXT`] already, if eax has any of `lanes`; r8 and r9 are overwritten.
pub(super) fn enter(s: SplitShape, a: &mut CodeAssembler, i: usize, lanes: u32) -> Result<(), IcedError> {
    note(s, a, i)?;
    a.mov(r8d, lanes)?;
    a.pext(r8d, eax, r8d)?;
    a.mov(dword_ptr(NEXT + lanes_at(s)), r8d)?;
    a.xor(r8d, r8d)?;
    a.test(eax, lanes)?;
    a.setne(r8b)?;
    a.shl(r8d, entry(s).trailing_zeros())?;
    a.add(NEXT, r8)
}

/// Writes the addresses of the tile's result `i` to the list's next entry; r8 and r9 are overwritten.
fn note(s: SplitShape, a: &mut CodeAssembler, i: usize) -> Result<(), IcedError> {
    a.lea(r8, qword_ptr(FIRST + s.levels(s.first(i))))?;
    a.lea(r9, qword_ptr(OUT + s.result(i)))?;
    for (at, address) in addresses(s).into_iter().zip([r8, r9]) {
        a.mov(qword_ptr(NEXT + at), address)?;
    }
    Ok(())
}

/// Enters the tile's window `i`, the upper digits' sums of whose positions are given, into the list.
pub(super) fn enter_window(
    s: SplitShape,
    a: &mut CodeAssembler,
    i: usize,
    sums: &[AsmRegisterZmm],
) -> Result<(), IcedError> {
    for (p, &sum) in sums.iter().enumerate() {
        a.vmovdqa32(zmmword_ptr(NEXT + (p * VECTOR) as i32), sum)?;
    }
    note(s, a, i)?;
    a.add(NEXT, entry(s) as i32)
}
