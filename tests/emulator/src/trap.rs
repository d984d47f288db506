//! The signal handler: finds the instruction, gives it its operands, goes on behind it.
#![allow(unsafe_code)]

use crate::dot::Dot;
use crate::frame::{self, Frame};
use crate::tiles::{Signs, Tiles};
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, OpKind, Register};
use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};

/// The longest instruction.
const LONGEST: usize = 15;

thread_local! {
    // Without a destructor and made by a constant, so that the handler only computes an address.
    static TILES: UnsafeCell<Tiles> = const { UnsafeCell::new(Tiles::new()) };
}

/// Handles illegal instructions from now on; whether the system allows that.
pub fn install() -> bool {
    frame::prepare();
    // The decoder makes its tables when it is first used, which a signal handler must not.
    let _ = Decoder::with_ip(64, &[0xc4, 0xe2, 0x78, 0x49, 0xc0], 0, DecoderOptions::NONE).decode();
    // SAFETY: all fields of the structure may be zero; the handler has the signature that SA_SIGINFO asks for and is there
    // as long as the process. It runs on the thread's own stack: generated code leaves room for a frame as any code does.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_illegal_instruction as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGILL, &action, std::ptr::null_mut()) == 0
    }
}

/// What the kernel calls: carries an instruction out, or lets the process die of one that is none of ours.
extern "C" fn on_illegal_instruction(signal: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel's third argument, which belongs to the interrupted thread, and this is its handler.
    let mut frame = unsafe { Frame::new(context) };
    // SAFETY: this signal interrupts generated code, never this handler, so nobody else refers to the thread's tiles.
    let done = TILES.with(|tiles| carry_out(&mut frame, unsafe { &mut *tiles.get() }));
    if done.is_none() {
        // SAFETY: gives the signal its usual effect, which comes as soon as the instruction is run again.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Runs the instruction at the instruction pointer and moves that behind it; `None` where it is none of those that are
/// emulated, or the CPU would refuse it.
fn carry_out(frame: &mut Frame<'_>, tiles: &mut Tiles) -> Option<()> {
    let instruction = decode(frame.ip())?;
    let code = instruction.code();
    match (dot(code), product(code)) {
        (Some(dot), _) => add_products(frame, &instruction, dot)?,
        (_, Some(signs)) => {
            let [c, a, b] = [0, 1, 2].map(|operand| tile(&instruction, operand));
            tiles.product(c?, a?, b?, signs)?;
        }
        _ => move_tiles(frame, tiles, &instruction)?,
    }
    frame.go_on(instruction.next_ip());
    Some(())
}

/// A dot product of vectors, the second factor in a register or in memory; 128 bits clear the rest.
fn add_products(frame: &mut Frame<'_>, instruction: &Instruction, dot: Dot) -> Option<()> {
    let [wide, narrow] = [Register::YMM0, Register::XMM0].map(|r| r as usize);
    let length = if instruction.op_register(0).is_ymm() { 32 } else { 16 };
    let number = |operand: u32| {
        (instruction.op_register(operand) as usize).checked_sub(if length == 32 { wide } else { narrow })
    };
    let vector = |operand: u32| {
        if operand == 2 && instruction.op_kind(2) == OpKind::Memory {
            let mut bytes = [0; 32];
            // SAFETY: the program loads so many bytes.
            unsafe { bytes.as_mut_ptr().copy_from_nonoverlapping(address(instruction, frame, 1)?, length) };
            return Some(bytes);
        }
        frame.vector(number(operand)?)
    };
    let (mut sums, a, b) = (vector(0)?, vector(1)?, vector(2)?);
    dot.add(&mut sums, &a, &b);
    sums[length..].fill(0);
    frame.set_vector(number(0)?, &sums)
}

/// Everything about tiles but products.
fn move_tiles(frame: &Frame<'_>, tiles: &mut Tiles, instruction: &Instruction) -> Option<()> {
    let row = |row: usize| address(instruction, frame, row);
    match instruction.code() {
        Code::VEX_Ldtilecfg_m512 => {
            // SAFETY: the program loads these 64 bytes.
            let bytes = unsafe { row(1)?.cast::<[u8; 64]>().read_unaligned() };
            tiles.configure(&bytes)
        }
        Code::VEX_Tilerelease => tiles.configure(&[0; 64]),
        Code::VEX_Tilezero_tmm => tiles.zero(tile(instruction, 0)?),
        Code::VEX_Tileloadd_tmm_sibmem | Code::VEX_Tileloaddt1_tmm_sibmem => {
            row(0)?;
            tiles.load(tile(instruction, 0)?, |i, bytes| {
                let Some(from) = row(i) else { return };
                // SAFETY: the program loads this row; the tile is no memory that it can name.
                unsafe { bytes.as_mut_ptr().copy_from_nonoverlapping(from, bytes.len()) };
            })
        }
        Code::VEX_Tilestored_sibmem_tmm => {
            row(0)?;
            tiles.store(tile(instruction, 1)?, |i, bytes| {
                let Some(to) = row(i) else { return };
                // SAFETY: the program stores this row; the tile is no memory that it can name.
                unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
            })
        }
        _ => None,
    }
}

/// The number of a tile register.
fn tile(instruction: &Instruction, operand: u32) -> Option<usize> {
    (instruction.op_register(operand) as usize).checked_sub(Register::TMM0 as usize)
}

/// A dot product of vectors.
fn dot(code: Code) -> Option<Dot> {
    let [bytes, saturates] = match code {
        Code::VEX_Vpdpbusd_ymm_ymm_ymmm256 | Code::VEX_Vpdpbusd_xmm_xmm_xmmm128 => [true, false],
        Code::VEX_Vpdpbusds_ymm_ymm_ymmm256 | Code::VEX_Vpdpbusds_xmm_xmm_xmmm128 => [true, true],
        Code::VEX_Vpdpwssd_ymm_ymm_ymmm256 | Code::VEX_Vpdpwssd_xmm_xmm_xmmm128 => [false, false],
        Code::VEX_Vpdpwssds_ymm_ymm_ymmm256 | Code::VEX_Vpdpwssds_xmm_xmm_xmmm128 => [false, true],
        _ => return None,
    };
    Some(Dot { bytes, saturates })
}

/// A product of tiles: the operands' signs.
fn product(code: Code) -> Option<Signs> {
    match code {
        Code::VEX_Tdpbssd_tmm_tmm_tmm => Some(Signs(true, true)),
        Code::VEX_Tdpbsud_tmm_tmm_tmm => Some(Signs(true, false)),
        Code::VEX_Tdpbusd_tmm_tmm_tmm => Some(Signs(false, true)),
        Code::VEX_Tdpbuud_tmm_tmm_tmm => Some(Signs(false, false)),
        _ => None,
    }
}

/// The instruction at an address; reads the next page only where it goes on there.
fn decode(ip: u64) -> Option<Instruction> {
    const PAGE: u64 = 4096;
    let here = (PAGE - ip % PAGE).min(LONGEST as u64) as usize;
    [here, LONGEST].into_iter().find_map(|len| {
        // SAFETY: the CPU fetched an instruction from here; its bytes, and those up to the page's end, can be read, and the
        // next page's where the instruction did not end.
        let bytes = unsafe { std::slice::from_raw_parts(ip as *const u8, len) };
        let instruction = Decoder::with_ip(64, bytes, ip, DecoderOptions::NONE).decode();
        (!instruction.is_invalid()).then_some(instruction)
    })
}

/// Where a memory operand is, its index counted so many times: once, or for rows of a tile, whose distance it is, as often as
/// the row says.
fn address(instruction: &Instruction, frame: &Frame<'_>, times: usize) -> Option<*mut u8> {
    let index = frame.general(instruction.memory_index())?.wrapping_mul(instruction.memory_index_scale().into());
    let base = frame.general(instruction.memory_base())?.wrapping_add(instruction.memory_displacement64());
    Some(base.wrapping_add(index.wrapping_mul(times as u64)) as *mut u8)
}

#[cfg(test)]
mod tests {
    use std::arch::asm;

    /// Code of a program's own on several threads, whose tiles must not meet: rows apart, displacements, every operand form.
    #[test]
    fn instructions_of_a_program() {
        assert_ne!(crate::install() & dorefa_runtime::abi::X86_AMX_INT8, 0);
        let threads: Vec<_> = (1..4).map(|seed| std::thread::spawn(move || products(seed))).collect();
        threads.into_iter().for_each(|t| t.join().expect("no test failed"));
    }

    fn products(seed: usize) {
        let mut configuration = [0u8; 64];
        configuration[0] = 1;
        for i in 0..8 {
            configuration[16 + 2 * i] = 64;
            configuration[48 + i] = 16;
        }
        // Rows of A lie 100 bytes apart behind 32 others, those of B 64 and those of the sums 128.
        let a: Vec<u8> = (0..32 + 16 * 100).map(|i| (i * 37 + seed) as u8).collect();
        let b: Vec<i8> = (0..16 * 64).map(|i| (i * 91 + seed) as u8 as i8).collect();
        let mut sums = vec![7i32; 16 * 32];
        // SAFETY: tile instructions run in this process; each operand lies in the memory of its vector.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) configuration.as_ptr(), options(nostack));
            asm!(
                "tilezero tmm3",
                "tileloadd tmm4, [{a} + {step} * 4 + 32]",
                "tileloaddt1 tmm7, [{b} + {row}]",
                "tdpbusd tmm3, tmm4, tmm7",
                "tilestored [{to} + {row} * 2], tmm3",
                "tilerelease",
                a = in(reg) a.as_ptr(), b = in(reg) b.as_ptr(), to = in(reg) sums.as_mut_ptr(),
                step = in(reg) 25u64, row = in(reg) 64u64, options(nostack),
            );
        }
        for (row, sums) in sums.chunks(32).enumerate() {
            for (column, &sum) in sums.iter().enumerate().take(16) {
                let product =
                    |k: usize| i32::from(a[32 + 100 * row + k]) * i32::from(b[64 * (k / 4) + 4 * column + k % 4]);
                assert_eq!(sum, (0..64).map(product).sum::<i32>(), "{row} {column}");
            }
            assert!(sums[16..].iter().all(|&v| v == 7));
        }
    }

    /// Both widths, the second factor in a register and in memory, and what becomes of the rest of the register.
    #[test]
    fn dot_products_of_a_program() {
        if crate::install() & dorefa_runtime::abi::X86_AVXVNNI == 0 {
            eprintln!("SKIPPED: this machine has no AVX2");
            return;
        }
        let a: Vec<u8> = (0..32).map(|i| 200 + i as u8).collect();
        let b: Vec<i8> = (0..64).map(|i| (i * 37 % 251 - 125) as i8).collect();
        let mut sums = [[1i32; 8]; 4];
        // SAFETY: these instructions run in this process; each operand lies in the memory of its vector.
        unsafe {
            asm!(
                "vmovdqu ymm1, [{a}]",
                "vmovdqu ymm12, [{b} + 4]",
                "vmovdqu ymm3, [{to}]",
                "vmovdqa ymm4, ymm3",
                "vmovdqa ymm5, ymm3",
                "vmovdqa ymm6, ymm3",
                "{{vex}} vpdpbusd ymm3, ymm1, ymm12",
                "{{vex}} vpdpbusd ymm4, ymm1, [{b} + {at} * 4]",
                "{{vex}} vpdpwssd ymm5, ymm1, ymm12",
                "{{vex}} vpdpbusd xmm6, xmm1, [{b} + 4]",
                "vmovdqu [{to}], ymm3",
                "vmovdqu [{to} + 32], ymm4",
                "vmovdqu [{to} + 64], ymm5",
                "vmovdqu [{to} + 96], ymm6",
                a = in(reg) a.as_ptr(), b = in(reg) b.as_ptr(), to = in(reg) sums.as_mut_ptr(), at = in(reg) 1u64,
                out("ymm1") _, out("ymm3") _, out("ymm4") _, out("ymm5") _, out("ymm6") _, out("ymm12") _,
                options(nostack),
            );
        }
        let bytes =
            |lane: usize| (0..4).map(|i| i32::from(a[4 * lane + i]) * i32::from(b[4 + 4 * lane + i])).sum::<i32>();
        let word = |low: u8, high: u8| i32::from(i16::from_le_bytes([low, high]));
        let words = |lane: usize| {
            let of = |i: usize| word(a[i], a[i + 1]) * word(b[i + 4] as u8, b[i + 5] as u8);
            of(4 * lane) + of(4 * lane + 2)
        };
        for lane in 0..8 {
            let narrow = if lane < 4 { 1 + bytes(lane) } else { 0 };
            let want = [1 + bytes(lane), 1 + bytes(lane), 1 + words(lane), narrow];
            assert_eq!(sums.map(|s| s[lane]), want, "lane {lane}");
        }
    }
}
