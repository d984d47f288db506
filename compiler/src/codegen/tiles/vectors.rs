//! The vector instructions of tiles that exist at 256 and at 512 bits, under one name each. Must never know what a tile
//! computes.

use crate::codegen::target::{Level, x86};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Registers by number, of one width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// AVX2 and FMA: 16 registers of 8 lanes.
    Ymm,
    /// AVX-512: 32 registers of 16 lanes.
    Zmm,
}

/// All registers of 256 bits that AVX2 has.
pub(in crate::codegen) const YMM: [AsmRegisterYmm; 16] =
    [ymm0, ymm1, ymm2, ymm3, ymm4, ymm5, ymm6, ymm7, ymm8, ymm9, ymm10, ymm11, ymm12, ymm13, ymm14, ymm15];
/// Their lower halves.
pub(in crate::codegen) const XMM: [AsmRegisterXmm; 16] =
    [xmm0, xmm1, xmm2, xmm3, xmm4, xmm5, xmm6, xmm7, xmm8, xmm9, xmm10, xmm11, xmm12, xmm13, xmm14, xmm15];
/// All registers of 512 bits.
pub(in crate::codegen) const ZMM: [AsmRegisterZmm; 32] = [
    zmm0, zmm1, zmm2, zmm3, zmm4, zmm5, zmm6, zmm7, zmm8, zmm9, zmm10, zmm11, zmm12, zmm13, zmm14, zmm15, zmm16, zmm17,
    zmm18, zmm19, zmm20, zmm21, zmm22, zmm23, zmm24, zmm25, zmm26, zmm27, zmm28, zmm29, zmm30, zmm31,
];

/// Emits the same call for either width; registers and memory in brackets.
macro_rules! either {
    ($self:ident, $a:ident . $name:ident ( $([$r:expr]),* ; $m:expr )) => {
        match $self {
            Width::Ymm => $a.$name($(YMM[$r]),*, ymmword_ptr($m)),
            Width::Zmm => $a.$name($(ZMM[$r]),*, zmmword_ptr($m)),
        }
    };
    ($self:ident, $a:ident . $name:ident ( $([$r:expr]),* )) => {
        match $self {
            Width::Ymm => $a.$name($(YMM[$r]),*),
            Width::Zmm => $a.$name($(ZMM[$r]),*),
        }
    };
}

pub(in crate::codegen) use either;

type Done = Result<(), IcedError>;

impl Width {
    /// The widest that `level` has.
    pub fn of(level: &Level) -> Option<Width> {
        match () {
            () if !level.has_x86(x86::AVX2 | x86::FMA | x86::BMI1) => None,
            () if level.has(x86::AVX512) => Some(Width::Zmm),
            () => Some(Width::Ymm),
        }
    }

    /// 32-bit lanes of a register.
    pub(in crate::codegen) fn lanes(self) -> usize {
        if self == Width::Ymm { 8 } else { 16 }
    }

    /// Registers.
    pub(in crate::codegen) fn registers(self) -> usize {
        if self == Width::Ymm { YMM.len() } else { ZMM.len() }
    }

    /// Loads a register.
    pub(in crate::codegen) fn load(self, a: &mut CodeAssembler, to: usize, from: AsmMemoryOperand) -> Done {
        either!(self, a.vmovups([to]; from))
    }

    /// Stores a register.
    pub(in crate::codegen) fn store(self, a: &mut CodeAssembler, to: AsmMemoryOperand, from: usize) -> Done {
        match self {
            Width::Ymm => a.vmovups(ymmword_ptr(to), YMM[from]),
            Width::Zmm => a.vmovups(zmmword_ptr(to), ZMM[from]),
        }
    }

    /// A float in all lanes.
    pub(in crate::codegen) fn broadcast(self, a: &mut CodeAssembler, to: usize, from: AsmMemoryOperand) -> Done {
        match self {
            Width::Ymm => a.vbroadcastss(YMM[to], dword_ptr(from)),
            Width::Zmm => a.vbroadcastss(ZMM[to], dword_ptr(from)),
        }
    }

    /// sum += factor · memory in the numeric profile; `spare` is overwritten where two instructions are wanted.
    pub(in crate::codegen) fn mul_add(
        self,
        a: &mut CodeAssembler,
        fma: bool,
        [sum, factor, spare]: [usize; 3],
        from: AsmMemoryOperand,
    ) -> Done {
        if fma {
            return either!(self, a.vfmadd231ps([sum], [factor]; from));
        }
        either!(self, a.vmulps([spare], [factor]; from))?;
        either!(self, a.vaddps([sum], [sum], [spare]))
    }

    /// All bits zero.
    pub(in crate::codegen) fn zero(self, a: &mut CodeAssembler, to: usize) -> Done {
        match self {
            Width::Ymm => a.vpxor(YMM[to], YMM[to], YMM[to]),
            Width::Zmm => a.vpxord(ZMM[to], ZMM[to], ZMM[to]),
        }
    }

    /// Adds 32-bit integers.
    pub(in crate::codegen) fn add_i32(self, a: &mut CodeAssembler, to: usize, [x, y]: [usize; 2]) -> Done {
        either!(self, a.vpaddd([to], [x], [y]))
    }

    /// Subtracts 32-bit integers.
    pub(in crate::codegen) fn sub_i32(self, a: &mut CodeAssembler, to: usize, [x, y]: [usize; 2]) -> Done {
        either!(self, a.vpsubd([to], [x], [y]))
    }

    /// Moves 32-bit integers up by so many bits.
    pub(in crate::codegen) fn shift_up_i32(self, a: &mut CodeAssembler, to: usize, x: usize, bits: u32) -> Done {
        match self {
            Width::Ymm => a.vpslld(YMM[to], YMM[x], bits),
            Width::Zmm => a.vpslld(ZMM[to], ZMM[x], bits),
        }
    }

    /// Copies a register of integers.
    pub(in crate::codegen) fn copy_i32(self, a: &mut CodeAssembler, to: usize, from: usize) -> Done {
        match self {
            Width::Ymm => a.vmovdqa(YMM[to], YMM[from]),
            Width::Zmm => a.vmovdqa32(ZMM[to], ZMM[from]),
        }
    }

    /// A 32-bit general register in all lanes.
    pub(in crate::codegen) fn splat(self, a: &mut CodeAssembler, to: usize, from: AsmRegister32) -> Done {
        match self {
            Width::Ymm => {
                a.vmovd(XMM[to], from)?;
                a.vpbroadcastd(YMM[to], XMM[to])
            }
            Width::Zmm => a.vpbroadcastd(ZMM[to], from),
        }
    }

    /// `bits` in those lanes whose float in memory is not `zero`, else none. k1 (512 bits) is overwritten.
    pub(in crate::codegen) fn where_not(
        self,
        a: &mut CodeAssembler,
        [to, bits, zero]: [usize; 3],
        from: AsmMemoryOperand,
    ) -> Done {
        // Not equal or unordered.
        const NEQ_UQ: i32 = 4;
        match self {
            Width::Ymm => {
                a.vcmpps(YMM[to], YMM[zero], ymmword_ptr(from), NEQ_UQ)?;
                a.vpand(YMM[to], YMM[to], YMM[bits])
            }
            Width::Zmm => {
                a.vcmpps(k1, ZMM[zero], zmmword_ptr(from), NEQ_UQ)?;
                a.vmovdqa32(ZMM[to].k1().z(), ZMM[bits])
            }
        }
    }

    /// Sets `bits` in all lanes of `to`.
    pub(in crate::codegen) fn or(self, a: &mut CodeAssembler, to: usize, bits: usize) -> Done {
        match self {
            Width::Ymm => a.vpor(YMM[to], YMM[to], YMM[bits]),
            Width::Zmm => a.vpord(ZMM[to], ZMM[to], ZMM[bits]),
        }
    }

    /// Sets `bits` in those lanes of `to` where `x` is `zero`, integers. `spare` (256 bits) and k1 (512) are overwritten.
    pub(in crate::codegen) fn or_where_none(
        self,
        a: &mut CodeAssembler,
        [to, bits, x, zero, spare]: [usize; 5],
    ) -> Done {
        match self {
            Width::Ymm => {
                a.vpcmpeqd(YMM[spare], YMM[x], YMM[zero])?;
                a.vpand(YMM[spare], YMM[spare], YMM[bits])?;
                a.vpor(YMM[to], YMM[to], YMM[spare])
            }
            Width::Zmm => {
                a.vptestnmd(k1, ZMM[x], ZMM[x])?;
                a.vpord(ZMM[to].k1(), ZMM[to], ZMM[bits])
            }
        }
    }

    /// A byte of memory a lane, zero-extended.
    pub(in crate::codegen) fn load_bytes(self, a: &mut CodeAssembler, to: usize, from: AsmMemoryOperand) -> Done {
        match self {
            Width::Ymm => a.vpmovzxbd(YMM[to], qword_ptr(from)),
            Width::Zmm => a.vpmovzxbd(ZMM[to], xmmword_ptr(from)),
        }
    }
}
