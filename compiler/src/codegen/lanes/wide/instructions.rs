//! The instructions of wide lane programs at 256 and at 512 bits, under one name each. Registers are numbers; a result may
//! be written over any operand unless a function says otherwise. Must never know where values live.

use crate::codegen::lanes::program::{Binary, Compare, Element};
use crate::codegen::tiles::{Width, either, vectors};
use iced_x86::IcedError;
use iced_x86::code_asm::*;
use vectors::{XMM, YMM, ZMM};

type Done = Result<(), IcedError>;

/// Mask registers by number.
const MASKS: [AsmRegisterK; 8] = [k0, k1, k2, k3, k4, k5, k6, k7];

/// Lanes of `register` where mask `k` is set.
fn masked(register: AsmRegisterZmm, k: usize) -> AsmRegisterZmm {
    match k {
        1 => register.k1(),
        2 => register.k2(),
        3 => register.k3(),
        4 => register.k4(),
        5 => register.k5(),
        6 => register.k6(),
        _ => register.k7(),
    }
}

impl Width {
    /// One binary operator.
    pub(super) fn binary(self, a: &mut CodeAssembler, op: Binary, to: usize, [x, y]: [usize; 2]) -> Done {
        match op {
            Binary::Add => either!(self, a.vaddps([to], [x], [y])),
            Binary::Sub => either!(self, a.vsubps([to], [x], [y])),
            Binary::Mul => either!(self, a.vmulps([to], [x], [y])),
            Binary::Div => either!(self, a.vdivps([to], [x], [y])),
            // Where neither is less (NaN, zeros) the instructions give their second operand, as the operators do.
            Binary::Less => either!(self, a.vminps([to], [x], [y])),
            Binary::Greater => either!(self, a.vmaxps([to], [x], [y])),
            Binary::IAdd => either!(self, a.vpaddd([to], [x], [y])),
            Binary::ISub => either!(self, a.vpsubd([to], [x], [y])),
            Binary::IMul => either!(self, a.vpmulld([to], [x], [y])),
            Binary::And => either!(self, a.vandps([to], [x], [y])),
            Binary::Or => either!(self, a.vorps([to], [x], [y])),
            Binary::Xor => either!(self, a.vxorps([to], [x], [y])),
        }
    }

    /// Rounds floats: 0 to the nearest, ties to even; 1 downwards; 2 upwards; 3 towards zero.
    pub(super) fn round(self, a: &mut CodeAssembler, mode: i32, to: usize, x: usize) -> Done {
        const NO_EXCEPTION: i32 = 8;
        match self {
            Width::Ymm => a.vroundps(YMM[to], YMM[x], mode | NO_EXCEPTION),
            Width::Zmm => a.vrndscaleps(ZMM[to], ZMM[x], mode | NO_EXCEPTION),
        }
    }

    /// √x.
    pub(super) fn square_root(self, a: &mut CodeAssembler, to: usize, x: usize) -> Done {
        either!(self, a.vsqrtps([to], [x]))
    }

    /// Integers to floats.
    pub(super) fn to_float(self, a: &mut CodeAssembler, to: usize, x: usize) -> Done {
        either!(self, a.vcvtdq2ps([to], [x]))
    }

    /// Floats that 32 bits hold to integers, towards zero.
    pub(super) fn truncate(self, a: &mut CodeAssembler, to: usize, x: usize) -> Done {
        either!(self, a.vcvttps2dq([to], [x]))
    }

    /// Floats to integers towards zero, saturating, NaN to 0. `limit` holds 2³¹; the spares are overwritten, and may
    /// hold neither `x` nor `limit`.
    pub(super) fn to_integer(
        self,
        a: &mut CodeAssembler,
        to: usize,
        [x, limit]: [usize; 2],
        [spare, other]: [usize; 2],
    ) -> Done {
        // The conversion gives −2³¹ for what does not fit: its complement where x is too great, 0 where it is NaN.
        either!(self, a.vcvttps2dq([spare], [x]))?;
        match self {
            Width::Ymm => {
                a.vcmpps(YMM[other], YMM[x], YMM[limit], AT_LEAST)?;
                a.vpxor(YMM[spare], YMM[spare], YMM[other])?;
                a.vcmpps(YMM[other], YMM[x], YMM[x], ORDERED)?;
                a.vpand(YMM[to], YMM[spare], YMM[other])
            }
            Width::Zmm => {
                a.vcmpps(k0, ZMM[x], ZMM[limit], AT_LEAST)?;
                a.vpmovm2d(ZMM[other], k0)?;
                a.vpxord(ZMM[spare], ZMM[spare], ZMM[other])?;
                a.vcmpps(k0, ZMM[x], ZMM[x], ORDERED)?;
                a.vpmovm2d(ZMM[other], k0)?;
                a.vpandd(ZMM[to], ZMM[spare], ZMM[other])
            }
        }
    }

    /// x >> by, zeros coming in.
    pub(super) fn shift_right(self, a: &mut CodeAssembler, by: u8, to: usize, x: usize) -> Done {
        match self {
            Width::Ymm => a.vpsrld(YMM[to], YMM[x], i32::from(by)),
            Width::Zmm => a.vpsrld(ZMM[to], ZMM[x], i32::from(by)),
        }
    }

    /// A mask: a vector at 256 bits, a mask register at 512. The spare is overwritten.
    pub(super) fn compare(
        self,
        a: &mut CodeAssembler,
        (op, floats): (Compare, bool),
        to: usize,
        [x, y]: [usize; 2],
        spare: usize,
    ) -> Done {
        let predicate = match op {
            Compare::Equal => 0,
            Compare::Above if floats => 30,
            Compare::AtLeast if floats => AT_LEAST,
            Compare::Above => 6,
            Compare::AtLeast => 5,
        };
        match (self, floats, op) {
            (Width::Zmm, true, _) => a.vcmpps(MASKS[to], ZMM[x], ZMM[y], predicate),
            (Width::Zmm, false, _) => a.vpcmpd(MASKS[to], ZMM[x], ZMM[y], predicate),
            (Width::Ymm, true, _) => a.vcmpps(YMM[to], YMM[x], YMM[y], predicate),
            (Width::Ymm, false, Compare::Equal) => a.vpcmpeqd(YMM[to], YMM[x], YMM[y]),
            (Width::Ymm, false, Compare::Above) => a.vpcmpgtd(YMM[to], YMM[x], YMM[y]),
            (Width::Ymm, false, Compare::AtLeast) => {
                a.vpcmpgtd(YMM[to], YMM[y], YMM[x])?;
                a.vpcmpeqd(YMM[spare], YMM[spare], YMM[spare])?;
                a.vpxor(YMM[to], YMM[to], YMM[spare])
            }
        }
    }

    /// Both masks.
    pub(super) fn both(self, a: &mut CodeAssembler, to: usize, [x, y]: [usize; 2]) -> Done {
        match self {
            Width::Ymm => a.vpand(YMM[to], YMM[x], YMM[y]),
            Width::Zmm => a.kandw(MASKS[to], MASKS[x], MASKS[y]),
        }
    }

    /// mask ? x : y.
    pub(super) fn select(self, a: &mut CodeAssembler, to: usize, mask: usize, [x, y]: [usize; 2]) -> Done {
        match self {
            Width::Ymm => a.vblendvps(YMM[to], YMM[y], YMM[x], YMM[mask]),
            Width::Zmm => a.vblendmps(masked(ZMM[to], mask), ZMM[y], ZMM[x]),
        }
    }

    /// f32(f64(x)·scale), the scale in memory. All spares are overwritten; x may be the first.
    pub(super) fn decode(
        self,
        a: &mut CodeAssembler,
        to: usize,
        x: usize,
        scale: AsmMemoryOperand,
        [factor, low, high]: [usize; 3],
    ) -> Done {
        match self {
            Width::Ymm => {
                a.vextracti128(XMM[high], YMM[x], 1)?;
                a.vcvtdq2pd(YMM[low], XMM[x])?;
                a.vcvtdq2pd(YMM[high], XMM[high])?;
                a.vbroadcastsd(YMM[factor], qword_ptr(scale))?;
                a.vmulpd(YMM[low], YMM[low], YMM[factor])?;
                a.vmulpd(YMM[high], YMM[high], YMM[factor])?;
                a.vcvtpd2ps(XMM[low], YMM[low])?;
                a.vcvtpd2ps(XMM[high], YMM[high])?;
                a.vinsertf128(YMM[to], YMM[low], XMM[high], 1)
            }
            Width::Zmm => {
                a.vextracti64x4(HALF[high], ZMM[x], 1)?;
                a.vcvtdq2pd(ZMM[low], HALF[x])?;
                a.vcvtdq2pd(ZMM[high], HALF[high])?;
                a.vbroadcastsd(ZMM[factor], qword_ptr(scale))?;
                a.vmulpd(ZMM[low], ZMM[low], ZMM[factor])?;
                a.vmulpd(ZMM[high], ZMM[high], ZMM[factor])?;
                a.vcvtpd2ps(HALF[low], ZMM[low])?;
                a.vcvtpd2ps(HALF[high], ZMM[high])?;
                a.vinsertf64x4(ZMM[to], ZMM[low], HALF[high], 1)
            }
        }
    }

    /// Loads one element a lane.
    pub(super) fn load_element(self, a: &mut CodeAssembler, element: Element, to: usize, at: AsmMemoryOperand) -> Done {
        match (element, self) {
            (Element::F32 | Element::I32, _) => self.load(a, to, at),
            (Element::I16, Width::Ymm) => a.vpmovsxwd(YMM[to], xmmword_ptr(at)),
            (Element::I16, Width::Zmm) => a.vpmovsxwd(ZMM[to], ymmword_ptr(at)),
            (Element::U8, Width::Ymm) => a.vpmovzxbd(YMM[to], qword_ptr(at)),
            (Element::U8, Width::Zmm) => a.vpmovzxbd(ZMM[to], xmmword_ptr(at)),
        }
    }

    /// Stores one element a lane, saturated. The spare is overwritten and may not hold `x`.
    pub(super) fn store_element(
        self,
        a: &mut CodeAssembler,
        element: Element,
        at: AsmMemoryOperand,
        x: usize,
        spare: usize,
    ) -> Done {
        match (element, self) {
            (Element::F32 | Element::I32, _) => self.store(a, at, x),
            (Element::I16, Width::Zmm) => a.vpmovsdw(ymmword_ptr(at), ZMM[x]),
            (Element::U8, Width::Zmm) => {
                a.vpxord(ZMM[spare], ZMM[spare], ZMM[spare])?;
                a.vpmaxsd(ZMM[spare], ZMM[spare], ZMM[x])?;
                a.vpmovusdb(xmmword_ptr(at), ZMM[spare])
            }
            (_, Width::Ymm) => {
                a.vextracti128(XMM[spare], YMM[x], 1)?;
                a.vpackssdw(XMM[spare], XMM[x], XMM[spare])?;
                if element == Element::I16 {
                    return a.vmovdqu(xmmword_ptr(at), XMM[spare]);
                }
                a.vpackuswb(XMM[spare], XMM[spare], XMM[spare])?;
                a.vmovq(qword_ptr(at), XMM[spare])
            }
        }
    }

    /// sum += x·y in the numeric profile. `product` is overwritten where two instructions are wanted.
    pub(super) fn add_product(
        self,
        a: &mut CodeAssembler,
        fma: bool,
        sum: usize,
        [x, y]: [usize; 2],
        product: usize,
    ) -> Done {
        if fma {
            return either!(self, a.vfmadd231ps([sum], [x], [y]));
        }
        either!(self, a.vmulps([product], [x], [y]))?;
        either!(self, a.vaddps([sum], [sum], [product]))
    }

    /// The integers of `x` in 64 bits: the lower half of the lanes, the upper half. Neither may be `x`.
    pub(super) fn widen(self, a: &mut CodeAssembler, [low, high]: [usize; 2], x: usize) -> Done {
        match self {
            Width::Ymm => {
                a.vextracti128(XMM[high], YMM[x], 1)?;
                a.vpmovsxdq(YMM[low], XMM[x])?;
                a.vpmovsxdq(YMM[high], XMM[high])
            }
            Width::Zmm => {
                a.vextracti64x4(HALF[high], ZMM[x], 1)?;
                a.vpmovsxdq(ZMM[low], HALF[x])?;
                a.vpmovsxdq(ZMM[high], HALF[high])
            }
        }
    }

    /// Squares 64-bit lanes that hold 32-bit integers.
    pub(super) fn square(self, a: &mut CodeAssembler, x: usize) -> Done {
        either!(self, a.vpmuldq([x], [x], [x]))
    }

    /// Adds 64-bit integers.
    pub(super) fn add_longs(self, a: &mut CodeAssembler, to: usize, x: usize) -> Done {
        either!(self, a.vpaddq([to], [to], [x]))
    }
}

/// The lower halves of the registers of 512 bits; those from 16 on in EVEX forms only.
const HALF: [AsmRegisterYmm; 32] = [
    ymm0, ymm1, ymm2, ymm3, ymm4, ymm5, ymm6, ymm7, ymm8, ymm9, ymm10, ymm11, ymm12, ymm13, ymm14, ymm15, ymm16, ymm17,
    ymm18, ymm19, ymm20, ymm21, ymm22, ymm23, ymm24, ymm25, ymm26, ymm27, ymm28, ymm29, ymm30, ymm31,
];

/// x ≥ y, false for NaN.
const AT_LEAST: i32 = 29;
/// Neither is NaN.
const ORDERED: i32 = 7;
