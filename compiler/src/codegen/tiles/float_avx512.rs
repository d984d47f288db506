//! The float tile with AVX-512: up to 9 positions × 48 outputs or 13 × 32, 27 chains in flight. Reference:
//! `kernels::float_conv`. Bound: 16 MAC a cycle on one 512-bit port, 32 on two.

use super::FloatShape;
use super::float_avx2::AHEAD;
use super::vectors::ZMM;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Chains in flight: the first so many registers.
const SUMS: usize = 27;
const WEIGHTS: [AsmRegisterZmm; 3] = [zmm27, zmm28, zmm29];
const INPUT: AsmRegisterZmm = zmm31;

/// Positions of a tile: as many as there are registers, or fewer where that leaves fewer columns over.
pub(super) fn positions(vectors: usize, columns: usize) -> usize {
    let most = (SUMS / vectors).min(16);
    (most.div_ceil(2)..=most).rev().min_by_key(|p| columns % p).unwrap_or(most)
}

pub(super) fn assemble(s: FloatShape, a: &mut CodeAssembler) -> Result<(), IcedError> {
    let used = s.positions * s.vectors;
    for sum in ZMM.iter().take(used) {
        a.vpxord(*sum, *sum, *sum)?;
    }
    s.nest(a, |a| {
        for x in 0..s.extents[2] {
            for (i, w) in WEIGHTS.iter().take(s.vectors).enumerate() {
                let at = (x * s.row + i * 64) as i32;
                if s.positions == 1 {
                    a.prefetcht0(byte_ptr(rsi + (at + AHEAD)))?;
                }
                a.vmovups(*w, zmmword_ptr(rsi + at))?;
            }
            for (p, sums) in ZMM.chunks(s.vectors).take(s.positions).enumerate() {
                a.vbroadcastss(INPUT, dword_ptr(rax + (x * s.steps[2] + p * s.position) as i32))?;
                for (sum, w) in sums.iter().zip(WEIGHTS) {
                    a.vfmadd231ps(*sum, INPUT, w)?;
                }
            }
        }
        a.add(rsi, (s.extents[2] * s.row) as i32)
    })?;
    for (i, sum) in ZMM.iter().take(used).enumerate() {
        let at = i / s.vectors * s.pitch + i % s.vectors * 64;
        a.vmovups(zmmword_ptr(rdx + at as i32), *sum)?;
    }
    a.vzeroupper()?;
    a.ret()
}
