//! What becomes of an AMX tile's sums of digits: each position's go through memory to the registers of the split-integer tile
//! of AVX-512, which combines them. Reference: `kernels::split_lanes`.

use super::amx::{REGISTERS, ROW};
use super::amx_conv::{AmxConv, LIMIT, SPILL, Store};
use super::split::{OUT, SplitFinish, SplitShape, TABLE};
use super::split_vnni;
use super::vectors::ZMM;
use crate::lower::amx::TILE;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// The sums of a position.
const SUMS: AsmRegister64 = r12;
/// Where the table of positions says its codes go.
const PLACE: AsmRegister64 = r14;
/// Positions that are left.
const LEFT: AsmRegister32 = r13d;
/// What the split-integer tile overwrites or takes arguments in, kept on the stack in this order.
const KEPT: [AsmRegister64; 5] = [r8, r10, r11, rcx, rdx];
/// Of those, the table and the result.
const KEPT_TABLE: i32 = 8;
const KEPT_RESULT: i32 = 0;

/// Stores a tile's results and moves on to those of the next.
pub(super) fn store(conv: &AmxConv, a: &mut CodeAssembler) -> Result<(), IcedError> {
    let Store::Digits { planes, bits, finish, pitch } = conv.store else { return Ok(()) };
    let nibbles = matches!(finish, SplitFinish::Nibbles { .. });
    let tiles = conv.blocks * planes;
    a.mov(SUMS, (tiles * ROW) as u64)?;
    for (i, &sum) in REGISTERS.iter().enumerate().take(tiles) {
        a.tilestored(SPILL + SUMS * 1 + (i * ROW) as i32, sum)?;
    }
    a.mov(SUMS, SPILL)?;
    a.lea(PLACE, ptr(r8 + 8))?;
    for register in KEPT {
        a.push(register)?;
    }
    let split = SplitShape::finishing(planes, bits, finish);
    split_vnni::constants(split, a)?;
    let (mut again, mut between) = (a.create_label(), a.create_label());
    a.mov(LEFT, TILE as u32)?;
    a.set_label(&mut again)?;
    a.mov(OUT, qword_ptr(rsp + KEPT_RESULT))?;
    if nibbles {
        a.movsxd(rbx, dword_ptr(PLACE))?;
        a.cmp(rbx, LIMIT)?;
        a.jae(between)?;
        a.add(OUT, rbx)?;
    }
    let outputs = if nibbles { TILE / 4 } else { 4 * TILE };
    a.mov(TABLE, qword_ptr(rsp + KEPT_TABLE))?;
    for block in 0..conv.blocks {
        for (plane, &sum) in ZMM.iter().enumerate().take(planes) {
            a.vmovdqa64(sum, zmmword_ptr(SUMS + ((block * planes + plane) * ROW) as i32))?;
        }
        split_vnni::finish(split, a, &ZMM[..planes], (block * outputs) as i32)?;
        a.add(TABLE, finish.table_bytes() as i32)?;
    }
    if nibbles {
        a.set_label(&mut between)?;
        a.add(PLACE, 4)?;
    } else {
        a.add(qword_ptr(rsp + KEPT_RESULT), pitch as i32)?;
    }
    a.add(SUMS, (tiles * ROW) as i32)?;
    a.dec(LEFT)?;
    a.jnz(again)?;
    KEPT.iter().rev().try_for_each(|&register| a.pop(register))?;
    Ok(())
}
