//! The split-integer tile, AVX2, of one digit that is a byte: u8 levels by i8 weights, 6 positions × 16 outputs. Sums of two products
//! stay 16 bits wide as long as they are sure to fit, and are then widened and added to 32-bit ones on the stack; AVX-VNNI adds four
//! products to 32-bit sums in one instruction. Bound: 64 MAC a cycle, twice what i16 levels give.

use super::product_avx2::{ones, widen};
use super::split::{INPUT, SplitShape, WEIGHTS};
use super::split_avx2::{self, SUMS};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Positions of a tile at most: two sums each.
pub(super) const POSITIONS: usize = SUMS.len() / 2;
/// Steps between two additions to the 32-bit sums at least.
pub const SHORTEST: usize = 8;
const WEIGHT: [AsmRegisterYmm; 2] = [ymm12, ymm13];
const LEVELS: AsmRegisterYmm = ymm14;
const PRODUCT: AsmRegisterYmm = ymm15;
/// All 16-bit lanes one, where no weights are wanted.
const ONES: AsmRegisterYmm = ymm12;
/// The 32-bit sums.
const TOTALS: AsmRegister64 = r10;

type Done = Result<(), IcedError>;

/// The tile whose 16-bit sums hold `limit` steps; without a limit sums are of 32 bits.
pub(super) fn assemble(s: SplitShape, limit: Option<usize>, a: &mut CodeAssembler) -> Done {
    let sums = || SUMS.into_iter().take(2 * s.positions);
    match limit {
        Some(limit) => in_words(s, limit, a)?,
        None => {
            sums().try_for_each(|sum| a.vpxor(sum, sum, sum))?;
            s.nest(a, |a, input, weights| {
                step(s, a, [input, weights], |a, sum, weight| a.vpdpbusd(sum, LEVELS, weight))
            })?;
        }
    }
    split_avx2::constants(s, a)?;
    for (i, sum) in sums().enumerate() {
        let (position, half) = (i / 2, 32 * (i % 2) as i32);
        let at = (position * s.pitch) as i32 + half / split_avx2::narrow(s);
        split_avx2::finish(s, a, &[sum], half, at)?;
    }
    a.vzeroupper()?;
    a.ret()
}

/// A step at so many bytes of levels and weights from the registers; `add` adds the products of the levels and a weight.
fn step(
    s: SplitShape,
    a: &mut CodeAssembler,
    [input, weights]: [i32; 2],
    add: impl Fn(&mut CodeAssembler, AsmRegisterYmm, AsmRegisterYmm) -> Done,
) -> Done {
    for (half, weight) in WEIGHT.into_iter().enumerate() {
        a.vmovdqa(weight, ymmword_ptr(WEIGHTS + (weights + 32 * half as i32)))?;
    }
    for (p, sums) in SUMS.chunks(2).take(s.positions).enumerate() {
        a.vpbroadcastd(LEVELS, dword_ptr(INPUT + (input + (p * s.position) as i32)))?;
        sums.iter().zip(WEIGHT).try_for_each(|(&sum, weight)| add(a, sum, weight))?;
    }
    Ok(())
}

/// 32-bit sums of 16-bit ones that hold `limit` steps.
fn in_words(s: SplitShape, limit: usize, a: &mut CodeAssembler) -> Done {
    let sums = || SUMS.into_iter().take(2 * s.positions);
    let at_once = s.all_steps() <= limit;
    let bytes = (sums().count() * 32) as i32;
    a.sub(rsp, bytes)?;
    a.mov(TOTALS, rsp)?;
    sums().try_for_each(|sum| a.vpxor(sum, sum, sum))?;
    if !at_once {
        sums().enumerate().try_for_each(|(i, sum)| a.vmovdqu(ymmword_ptr(total(i)), sum))?;
    }
    // As many parts of a run as hold, of about one length.
    let steps = s.loops[2];
    let chunk = if at_once { steps } else { steps.div_ceil(steps.div_ceil(limit.max(1))) };
    let words = |a: &mut CodeAssembler, sum, weight| {
        a.vpmaddubsw(PRODUCT, LEVELS, weight)?;
        a.vpaddw(sum, sum, PRODUCT)
    };
    s.nest_in_parts(
        a,
        chunk,
        |a, input, weights| step(s, a, [input, weights], words),
        |a| {
            if at_once {
                return Ok(());
            }
            ones(a, ONES)?;
            sums().enumerate().try_for_each(|(i, sum)| widen(a, sum, total(i), [ONES, PRODUCT]))
        },
    )?;
    if at_once {
        ones(a, ONES)?;
        sums().try_for_each(|sum| a.vpmaddwd(sum, sum, ONES))?;
    } else {
        sums().enumerate().try_for_each(|(i, sum)| a.vmovdqu(sum, ymmword_ptr(total(i))))?;
    }
    a.add(rsp, bytes)
}

/// Where a sum lies on the stack.
fn total(i: usize) -> AsmMemoryOperand {
    TOTALS + (32 * i) as i32
}
