//! The registers of an interrupted thread, as the kernel keeps them in a signal's frame.
#![allow(unsafe_code)]

use iced_x86::Register;
use std::ffi::c_int;
use std::sync::OnceLock;

/// Bytes of the part that `fxsave` lays out; the header of the rest follows.
const LEGACY: usize = 512;
/// Where vector registers begin there, 16 bytes each.
const XMM: usize = 160;
/// Where the kernel says whether more follows, and the word that says so (`arch/x86/include/uapi/asm/sigcontext.h`).
const MAGIC: (usize, u32) = (464, 0x4650_5853);
/// State components (volume 1, 13.1): the upper halves of ymm0 … ymm15, and the upper halves of zmm0 … zmm15.
const YMM: u32 = 2;
/// The upper halves of zmm0 … zmm15.
const ZMM: u32 = 6;

/// Where the components lie in a frame, as `cpuid` tells: it is asked once, as a virtual machine's host answers it slowly.
static PLACES: OnceLock<[(u32, Option<usize>); 2]> = OnceLock::new();

/// Asks the CPU what [`Frame`] needs to know; before the first.
pub fn prepare() {
    PLACES.get_or_init(|| {
        [YMM, ZMM].map(|component| {
            let leaf = std::arch::x86_64::__cpuid_count(0xd, component);
            (component, (leaf.eax != 0).then_some(leaf.ebx as usize))
        })
    });
}

/// A signal's frame.
pub struct Frame<'a>(&'a mut libc::mcontext_t);

impl<'a> Frame<'a> {
    /// The frame behind a handler's third argument.
    ///
    /// # Safety
    /// `context` is that argument, and nothing else refers to what it points to while the frame lives.
    pub unsafe fn new(context: *mut std::ffi::c_void) -> Frame<'a> {
        // SAFETY: the caller's contract; with SA_SIGINFO it points to a `ucontext_t`.
        Frame(unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext })
    }

    /// The instruction pointer.
    pub fn ip(&self) -> u64 {
        self.0.gregs[libc::REG_RIP as usize] as u64
    }

    /// Goes on there.
    pub fn go_on(&mut self, ip: u64) {
        self.0.gregs[libc::REG_RIP as usize] = ip as libc::greg_t;
    }

    /// A general register; `Register::None` is 0.
    pub fn general(&self, register: Register) -> Option<u64> {
        if register == Register::None {
            return Some(0);
        }
        general(register).map(|i| self.0.gregs[i as usize] as u64)
    }

    /// The first 256 bits of vector register `number`.
    pub fn vector(&self, number: usize) -> Option<[u8; 32]> {
        if number >= 16 || !self.extended() {
            return None;
        }
        let upper = self.component(YMM).filter(|_| self.in_use(YMM));
        let mut bytes = [0; 32];
        let (low, high) = bytes.split_at_mut(16);
        // SAFETY: the frame holds the legacy part, and the component where it is in use; registers are below 16.
        unsafe {
            low.as_mut_ptr().copy_from_nonoverlapping(self.area().add(XMM + 16 * number), 16);
            if let Some(upper) = upper {
                high.as_mut_ptr().copy_from_nonoverlapping(self.area().add(upper + 16 * number), 16);
            }
        }
        Some(bytes)
    }

    /// Sets the first 256 bits of vector register `number`, and clears the others, as an instruction in VEX form does.
    pub fn set_vector(&mut self, number: usize, bytes: &[u8; 32]) -> Option<()> {
        let upper = self.component(YMM).filter(|_| number < 16)?;
        let (low, high) = bytes.split_at(16);
        let fresh = !self.in_use(YMM);
        // SAFETY: as in `vector`; a component that was not in use has room, is cleared first and is then marked.
        unsafe {
            let area = self.area().cast_mut();
            area.add(XMM + 16 * number).copy_from_nonoverlapping(low.as_ptr(), 16);
            if fresh {
                area.add(upper).write_bytes(0, 256);
            }
            area.add(upper + 16 * number).copy_from_nonoverlapping(high.as_ptr(), 16);
            let bits = area.add(LEGACY).cast::<u64>();
            bits.write_unaligned(bits.read_unaligned() | 1 << YMM | 2);
            if let Some(wide) = self.component(ZMM).filter(|_| self.in_use(ZMM)) {
                area.add(wide + 32 * number).write_bytes(0, 32);
            }
        }
        Some(())
    }

    fn area(&self) -> *const u8 {
        self.0.fpregs.cast::<u8>().cast_const()
    }

    /// Whether the frame has more than the legacy part.
    fn extended(&self) -> bool {
        // SAFETY: the kernel writes the legacy part into every frame of a 64-bit program.
        !self.area().is_null() && unsafe { self.area().add(MAGIC.0).cast::<u32>().read_unaligned() } == MAGIC.1
    }

    /// Whether a component is not in its first state, all zeros.
    fn in_use(&self, component: u32) -> bool {
        // SAFETY: the header follows the legacy part where the frame is extended.
        self.extended() && unsafe { self.area().add(LEGACY).cast::<u64>().read_unaligned() } >> component & 1 == 1
    }

    /// Where a component lies; `None` where this CPU has not got it or the frame is not extended.
    fn component(&self, component: u32) -> Option<usize> {
        let (_, place) = PLACES.get()?.iter().find(|(c, _)| *c == component)?;
        place.filter(|_| self.extended())
    }
}

/// Where the kernel keeps a general register.
fn general(register: Register) -> Option<c_int> {
    Some(match register {
        Register::RAX => libc::REG_RAX,
        Register::RBX => libc::REG_RBX,
        Register::RCX => libc::REG_RCX,
        Register::RDX => libc::REG_RDX,
        Register::RSI => libc::REG_RSI,
        Register::RDI => libc::REG_RDI,
        Register::RBP => libc::REG_RBP,
        Register::RSP => libc::REG_RSP,
        Register::R8 => libc::REG_R8,
        Register::R9 => libc::REG_R9,
        Register::R10 => libc::REG_R10,
        Register::R11 => libc::REG_R11,
        Register::R12 => libc::REG_R12,
        Register::R13 => libc::REG_R13,
        Register::R14 => libc::REG_R14,
        Register::R15 => libc::REG_R15,
        _ => return None,
    })
}
