//! The lowest digit of an open position, AVX-512 VNNI, output by output: mostly one of sixteen is open, and a run of the window
//! takes one product of 64 bytes for each, where a step of all sixteen outputs takes one for four bytes. The weights lie as
//! `lower::split` turns them by output. Reference: the other form, in `split_early_vnni`.
//!
//! Cost: a product a run and 25 instructions for each open output. The other outputs' codes are sure whatever the digit's sum,
//! so theirs is 0, which no level at all would give.

use super::split::{SplitShape, WEIGHTS};
use super::split_early::{OPEN, lanes_at};
use crate::lower::split::{TILE, VECTOR};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Bytes of a product.
const PRODUCT: usize = 64;
/// Products at most, which are written out.
const MOST: usize = 24;
/// Instructions of an output beside its products.
const OUTPUT: usize = 25;
/// Sums in flight.
const SUMS: [AsmRegisterZmm; 4] = [zmm0, zmm1, zmm2, zmm3];
const LEVELS: AsmRegisterZmm = zmm4;
/// Open outputs that are left, and the one at hand.
const LANES: AsmRegister32 = r8d;
const LANE: AsmRegister32 = r9d;
/// The bytes of a run's last product, and the lane at hand.
const REST: AsmRegisterK = k6;

/// Bytes of a run of the window.
fn run_bytes(s: SplitShape) -> usize {
    4 * s.loops[2]
}

/// Products of an output.
fn products(s: SplitShape) -> usize {
    s.loops[0] * s.loops[1] * run_bytes(s).div_ceil(PRODUCT)
}

/// Whether this costs clearly less than a step for four bytes of all outputs.
pub(super) fn pays(s: SplitShape) -> bool {
    products(s) <= MOST && 5 * (products(s) + OUTPUT) <= 4 * s.all_steps()
}

/// Leaves the lowest digit's sums of the open outputs of [`OPEN`]'s position in `lo`, 0 of the others. The position's levels lie
/// at rdi, the block's lowest digits at [`WEIGHTS`]; rax, r8 and r9 are overwritten.
pub(super) fn sums(s: SplitShape, a: &mut CodeAssembler, lo: AsmRegisterZmm) -> Result<(), IcedError> {
    let rest = run_bytes(s) % PRODUCT;
    if rest > 0 {
        a.mov(rax, (1u64 << rest) - 1)?;
        a.kmovq(REST, rax)?;
    }
    a.mov(LANES, dword_ptr(OPEN + lanes_at(s)))?;
    a.vpxord(lo, lo, lo)?;
    let mut again = a.create_label();
    a.set_label(&mut again)?;
    a.tzcnt(LANE, LANES)?;
    a.blsr(LANES, LANES)?;
    a.imul_3(eax, LANE, (s.all_steps() * VECTOR / TILE) as i32)?;
    a.add(rax, WEIGHTS)?;
    output(s, a)?;
    a.mov(eax, 1)?;
    a.shlx(eax, eax, LANE)?;
    a.kmovw(k5, eax)?;
    a.vpbroadcastd(lo.k5(), xmm0)?;
    a.test(LANES, LANES)?;
    a.jnz(again)
}

/// The sum of the output whose weights lie at rax, in the first lane of xmm0.
fn output(s: SplitShape, a: &mut CodeAssembler) -> Result<(), IcedError> {
    let [rows, runs, _] = s.loops;
    SUMS.into_iter().try_for_each(|sum| a.vpxord(sum, sum, sum))?;
    let all = (0..rows).flat_map(|row| (0..runs).map(move |run| (row, run))).enumerate();
    let parts = all.flat_map(|(i, at)| (0..run_bytes(s)).step_by(PRODUCT).map(move |first| (i, at, first)));
    for (sum, (i, (row, run), first)) in SUMS.into_iter().cycle().zip(parts) {
        let levels = zmmword_ptr(rdi + (row * s.steps[0] + run * s.steps[1] + first) as i32);
        // Behind a run's levels there need not be any memory.
        if run_bytes(s) - first >= PRODUCT {
            a.vmovdqu8(LEVELS, levels)?;
        } else {
            a.vmovdqu8(LEVELS.k6().z(), levels)?;
        }
        a.vpdpbusd(sum, LEVELS, zmmword_ptr(rax + (i * run_bytes(s) + first) as i32))?;
    }
    a.vpaddd(zmm0, zmm0, zmm1)?;
    a.vpaddd(zmm2, zmm2, zmm3)?;
    a.vpaddd(zmm0, zmm0, zmm2)?;
    a.vextracti64x4(ymm1, zmm0, 1)?;
    a.vpaddd(ymm0, ymm0, ymm1)?;
    a.vextracti128(xmm1, ymm0, 1)?;
    a.vpaddd(xmm0, xmm0, xmm1)?;
    for order in [0x4E, 0xB1] {
        a.vpshufd(xmm1, xmm0, order)?;
        a.vpaddd(xmm0, xmm0, xmm1)?;
    }
    Ok(())
}
