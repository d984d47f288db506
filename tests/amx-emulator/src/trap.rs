//! The signal handler: finds the instruction, gives it its operands, goes on behind it.
#![allow(unsafe_code)]

use crate::tiles::{Signs, Tiles};
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Register};
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

/// What the kernel calls: carries an AMX instruction out, or lets the process die of any other.
extern "C" fn on_illegal_instruction(signal: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel's third argument is the context of the interrupted thread, which nothing else refers to.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    // SAFETY: generated code is interrupted by this signal, never this handler, so nobody else refers to the thread's tiles.
    let done = TILES.with(|tiles| carry_out(registers, unsafe { &mut *tiles.get() }));
    if done.is_none() {
        // SAFETY: gives the signal its usual effect, which comes as soon as the instruction is run again.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

type Registers = [libc::greg_t; 23];

/// Runs the instruction at the instruction pointer and moves that behind it; `None` where it is no AMX instruction or the CPU
/// would refuse it.
fn carry_out(registers: &mut Registers, tiles: &mut Tiles) -> Option<()> {
    let ip = registers[libc::REG_RIP as usize] as u64;
    let instruction = decode(ip)?;
    let tile = |operand: u32| (instruction.op_register(operand) as usize).checked_sub(Register::TMM0 as usize);
    let row = |row: usize| address(&instruction, registers, row);
    match instruction.code() {
        Code::VEX_Ldtilecfg_m512 => {
            // SAFETY: the program loads these 64 bytes.
            let bytes = unsafe { row(0)?.cast::<[u8; 64]>().read_unaligned() };
            tiles.configure(&bytes)?;
        }
        Code::VEX_Tilerelease => tiles.configure(&[0; 64])?,
        Code::VEX_Tilezero_tmm => tiles.zero(tile(0)?)?,
        Code::VEX_Tileloadd_tmm_sibmem | Code::VEX_Tileloaddt1_tmm_sibmem => {
            row(0)?;
            tiles.load(tile(0)?, |i, bytes| {
                let Some(from) = row(i) else { return };
                // SAFETY: the program loads this row; the tile is no memory that it can name.
                unsafe { bytes.as_mut_ptr().copy_from_nonoverlapping(from, bytes.len()) };
            })?;
        }
        Code::VEX_Tilestored_sibmem_tmm => {
            row(0)?;
            tiles.store(tile(1)?, |i, bytes| {
                let Some(to) = row(i) else { return };
                // SAFETY: the program stores this row; the tile is no memory that it can name.
                unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
            })?;
        }
        code => tiles.product(tile(0)?, tile(1)?, tile(2)?, signs(code)?)?,
    }
    registers[libc::REG_RIP as usize] = (ip + instruction.len() as u64) as libc::greg_t;
    Some(())
}

/// The operands' signs of a product of bytes.
fn signs(code: Code) -> Option<Signs> {
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

/// Where a row of a memory operand is: the index register is the distance of rows.
fn address(instruction: &Instruction, registers: &Registers, row: usize) -> Option<*mut u8> {
    let value = |r: Register| match r {
        Register::None => Some(0),
        r => general(r).map(|i| registers[i as usize] as u64),
    };
    let step = value(instruction.memory_index())?.wrapping_mul(instruction.memory_index_scale().into());
    let base = value(instruction.memory_base())?.wrapping_add(instruction.memory_displacement64());
    Some(base.wrapping_add(step.wrapping_mul(row as u64)) as *mut u8)
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

#[cfg(test)]
mod tests {
    use std::arch::asm;

    /// Code of a program's own on several threads, whose tiles must not meet: rows apart, displacements, every operand form.
    #[test]
    fn instructions_of_a_program() {
        assert!(crate::install());
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
}
