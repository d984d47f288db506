//! The instructions of row by row look-ups under one name each: by AVX2, where a register holds both blocks of a pair, and by SSE
//! (SSSE3), where it holds one. SSE overwrites its first operand, so a copy comes before where that is still wanted. Must never know
//! what a tile computes.

use super::vectors::{XMM, YMM};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Registers by number, of one width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lanes {
    /// SSE: a block of 16 outputs.
    Xmm,
    /// AVX2: two of them.
    Ymm,
}

type Done = Result<(), IcedError>;

impl Lanes {
    /// Bytes of a register.
    pub(super) fn bytes(self) -> usize {
        if self == Lanes::Xmm { 16 } else { 32 }
    }

    /// A 32-bit general register in all lanes.
    pub(super) fn splat(self, a: &mut CodeAssembler, to: usize, from: AsmRegister32) -> Done {
        match self {
            Lanes::Xmm => {
                a.movd(XMM[to], from)?;
                a.pshufd(XMM[to], XMM[to], 0)
            }
            Lanes::Ymm => {
                a.vmovd(XMM[to], from)?;
                a.vpbroadcastd(YMM[to], XMM[to])
            }
        }
    }

    /// All bits zero.
    pub(super) fn zero(self, a: &mut CodeAssembler, to: usize) -> Done {
        match self {
            Lanes::Xmm => a.pxor(XMM[to], XMM[to]),
            Lanes::Ymm => a.vpxor(YMM[to], YMM[to], YMM[to]),
        }
    }

    /// Loads a register.
    pub(super) fn load(self, a: &mut CodeAssembler, to: usize, from: AsmMemoryOperand) -> Done {
        match self {
            Lanes::Xmm => a.movdqu(XMM[to], xmmword_ptr(from)),
            Lanes::Ymm => a.vmovdqu(YMM[to], ymmword_ptr(from)),
        }
    }

    /// Stores a register.
    pub(super) fn store(self, a: &mut CodeAssembler, to: AsmMemoryOperand, from: usize) -> Done {
        match self {
            Lanes::Xmm => a.movdqu(xmmword_ptr(to), XMM[from]),
            Lanes::Ymm => a.vmovdqu(ymmword_ptr(to), YMM[from]),
        }
    }

    /// The 16 bytes at the address of each block.
    pub(super) fn blocks(self, a: &mut CodeAssembler, to: usize, from: [AsmMemoryOperand; 2]) -> Done {
        let [first, second] = from.map(xmmword_ptr);
        match self {
            Lanes::Xmm => a.movdqu(XMM[to], first),
            Lanes::Ymm => {
                a.vmovdqu(XMM[to], first)?;
                a.vinserti128(YMM[to], YMM[to], second, 1)
            }
        }
    }

    /// Stores the 16 bytes of each block.
    pub(super) fn store_blocks(self, a: &mut CodeAssembler, to: [AsmMemoryOperand; 2], from: usize) -> Done {
        let [first, second] = to.map(xmmword_ptr);
        match self {
            Lanes::Xmm => a.movdqu(first, XMM[from]),
            Lanes::Ymm => {
                a.vmovdqu(first, XMM[from])?;
                a.vextracti128(second, YMM[from], 1)
            }
        }
    }

    /// 16 bytes for every block.
    pub(super) fn table(self, a: &mut CodeAssembler, to: usize, from: AsmMemoryOperand) -> Done {
        match self {
            Lanes::Xmm => a.movdqu(XMM[to], xmmword_ptr(from)),
            Lanes::Ymm => a.vbroadcasti128(YMM[to], xmmword_ptr(from)),
        }
    }

    /// to = x and y; `to` is not y.
    pub(super) fn and(self, a: &mut CodeAssembler, to: usize, [x, y]: [usize; 2]) -> Done {
        match self {
            Lanes::Xmm => {
                copy(a, to, x)?;
                a.pand(XMM[to], XMM[y])
            }
            Lanes::Ymm => a.vpand(YMM[to], YMM[x], YMM[y]),
        }
    }

    /// to ^= x.
    pub(super) fn xor(self, a: &mut CodeAssembler, to: usize, x: usize) -> Done {
        match self {
            Lanes::Xmm => a.pxor(XMM[to], XMM[x]),
            Lanes::Ymm => a.vpxor(YMM[to], YMM[to], YMM[x]),
        }
    }

    /// 16-bit lanes of `to`: all ones where they equal those of x.
    pub(super) fn equal(self, a: &mut CodeAssembler, to: usize, x: usize) -> Done {
        match self {
            Lanes::Xmm => a.pcmpeqw(XMM[to], XMM[x]),
            Lanes::Ymm => a.vpcmpeqw(YMM[to], YMM[to], YMM[x]),
        }
    }

    /// to = the bytes of x that `index` selects, by blocks.
    pub(super) fn shuffle(self, a: &mut CodeAssembler, to: usize, [x, index]: [usize; 2]) -> Done {
        match self {
            Lanes::Xmm => {
                copy(a, to, x)?;
                a.pshufb(XMM[to], XMM[index])
            }
            Lanes::Ymm => a.vpshufb(YMM[to], YMM[x], YMM[index]),
        }
    }

    /// Copies a register.
    pub(super) fn copy(self, a: &mut CodeAssembler, to: usize, from: usize) -> Done {
        match self {
            Lanes::Xmm => copy(a, to, from),
            Lanes::Ymm => a.vmovdqa(YMM[to], YMM[from]),
        }
    }

    /// The four bytes at the address of each block, and zeros; `spare` is overwritten.
    pub(super) fn dwords(self, a: &mut CodeAssembler, to: usize, from: [AsmMemoryOperand; 2], spare: usize) -> Done {
        let [first, second] = from.map(dword_ptr);
        match self {
            Lanes::Xmm => a.movd(XMM[to], first),
            Lanes::Ymm => {
                a.vmovd(XMM[to], first)?;
                a.vmovd(XMM[spare], second)?;
                a.vinserti128(YMM[to], YMM[to], XMM[spare], 1)
            }
        }
    }

    /// Moves 32-bit lanes left.
    pub(super) fn shift_left_dwords(self, a: &mut CodeAssembler, register: usize, by: i32) -> Done {
        match self {
            Lanes::Xmm => a.pslld(XMM[register], by),
            Lanes::Ymm => a.vpslld(YMM[register], YMM[register], by),
        }
    }

    /// Moves 32-bit lanes right.
    pub(super) fn shift_right_dwords(self, a: &mut CodeAssembler, register: usize, by: i32) -> Done {
        match self {
            Lanes::Xmm => a.psrld(XMM[register], by),
            Lanes::Ymm => a.vpsrld(YMM[register], YMM[register], by),
        }
    }

    /// Moves 16-bit lanes right.
    pub(super) fn shift_right(self, a: &mut CodeAssembler, register: usize, by: i32) -> Done {
        match self {
            Lanes::Xmm => a.psrlw(XMM[register], by),
            Lanes::Ymm => a.vpsrlw(YMM[register], YMM[register], by),
        }
    }

    /// Moves 16-bit lanes left.
    pub(super) fn shift_left(self, a: &mut CodeAssembler, register: usize, by: i32) -> Done {
        match self {
            Lanes::Xmm => a.psllw(XMM[register], by),
            Lanes::Ymm => a.vpsllw(YMM[register], YMM[register], by),
        }
    }

    /// to −= x by 16-bit lanes.
    pub(super) fn subtract(self, a: &mut CodeAssembler, to: usize, x: usize) -> Done {
        match self {
            Lanes::Xmm => a.psubw(XMM[to], XMM[x]),
            Lanes::Ymm => a.vpsubw(YMM[to], YMM[to], YMM[x]),
        }
    }

    /// The 16-bit lanes of x as 32-bit ones in two registers, each as long as that of one block: its first half and its second
    /// with SSE, those of either block with AVX2. `zero` is zero.
    pub(super) fn widen(self, a: &mut CodeAssembler, [low, high]: [usize; 2], [x, zero]: [usize; 2]) -> Done {
        match self {
            Lanes::Xmm => {
                copy(a, low, x)?;
                copy(a, high, x)?;
                a.punpcklwd(XMM[low], XMM[zero])?;
                a.punpckhwd(XMM[high], XMM[zero])
            }
            Lanes::Ymm => {
                a.vextracti128(XMM[high], YMM[x], 1)?;
                a.vpmovzxwd(YMM[low], XMM[x])?;
                a.vpmovzxwd(YMM[high], XMM[high])
            }
        }
    }

    /// to *= x by 32-bit lanes (SSE4.1).
    pub(super) fn multiply(self, a: &mut CodeAssembler, to: usize, x: usize) -> Done {
        match self {
            Lanes::Xmm => a.pmulld(XMM[to], XMM[x]),
            Lanes::Ymm => a.vpmulld(YMM[to], YMM[to], YMM[x]),
        }
    }

    /// to *= x by 16-bit lanes.
    pub(super) fn multiply_words(self, a: &mut CodeAssembler, to: usize, x: usize) -> Done {
        match self {
            Lanes::Xmm => a.pmullw(XMM[to], XMM[x]),
            Lanes::Ymm => a.vpmullw(YMM[to], YMM[to], YMM[x]),
        }
    }

    /// to += x by 16-bit lanes.
    pub(super) fn add_words(self, a: &mut CodeAssembler, to: usize, x: usize) -> Done {
        match self {
            Lanes::Xmm => a.paddw(XMM[to], XMM[x]),
            Lanes::Ymm => a.vpaddw(YMM[to], YMM[to], YMM[x]),
        }
    }

    /// to += x by bytes.
    pub(super) fn add_bytes(self, a: &mut CodeAssembler, to: usize, x: usize) -> Done {
        match self {
            Lanes::Xmm => a.paddb(XMM[to], XMM[x]),
            Lanes::Ymm => a.vpaddb(YMM[to], YMM[to], YMM[x]),
        }
    }

    /// to += x by 32-bit lanes.
    pub(super) fn add_dwords(self, a: &mut CodeAssembler, to: usize, x: usize) -> Done {
        match self {
            Lanes::Xmm => a.paddd(XMM[to], XMM[x]),
            Lanes::Ymm => a.vpaddd(YMM[to], YMM[to], YMM[x]),
        }
    }

    /// sum += the bytes of `table` that `index` selects, by bytes. `table` is overwritten where `last`, `spare` where not.
    pub(super) fn look_up(
        self,
        a: &mut CodeAssembler,
        sum: usize,
        [table, index, spare]: [usize; 3],
        last: bool,
    ) -> Done {
        let part = if last { table } else { spare };
        match self {
            Lanes::Xmm => {
                copy(a, part, table)?;
                a.pshufb(XMM[part], XMM[index])?;
                a.paddb(XMM[sum], XMM[part])
            }
            Lanes::Ymm => {
                a.vpshufb(YMM[part], YMM[table], YMM[index])?;
                a.vpaddb(YMM[sum], YMM[sum], YMM[part])
            }
        }
    }

    /// Adds a register to memory by 16-bit lanes; `spare` is overwritten.
    pub(super) fn accumulate(self, a: &mut CodeAssembler, to: AsmMemoryOperand, from: usize, spare: usize) -> Done {
        match self {
            Lanes::Xmm => {
                a.movdqu(XMM[spare], xmmword_ptr(to))?;
                a.paddw(XMM[spare], XMM[from])?;
            }
            Lanes::Ymm => a.vpaddw(YMM[spare], YMM[from], ymmword_ptr(to))?,
        }
        self.store(a, to, spare)
    }
}

/// Copies a register where it is another.
fn copy(a: &mut CodeAssembler, to: usize, from: usize) -> Done {
    if to == from { Ok(()) } else { a.movdqa(XMM[to], XMM[from]) }
}
