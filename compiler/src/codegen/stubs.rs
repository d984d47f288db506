//! Functions that Cranelift cannot express, as bytes: floating-point mode, `cpuid`, `xgetbv`, the AMX permission.
//!
//! Each has a frame pointer chain, so that debuggers see through it. Must never know: which functions it wraps.

use super::CodegenError;
use super::image::{FunctionId, Image, RelocKind, Relocation, Symbol};
use super::target::Arch;

/// push rbp; mov rbp,rsp; sub rsp,16; stmxcsr [rsp]; mov dword [rsp+4],0x1f80; ldmxcsr [rsp+4]; call 0; ldmxcsr [rsp];
/// leave; ret
const X86_MODE: [u8; 36] = [
    0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x10, 0x0f, 0xae, 0x1c, 0x24, 0xc7, 0x44, 0x24, 0x04, 0x80, 0x1f, 0x00,
    0x00, 0x0f, 0xae, 0x54, 0x24, 0x04, 0xe8, 0x00, 0x00, 0x00, 0x00, 0x0f, 0xae, 0x14, 0x24, 0xc9, 0xc3,
];
/// stp x29,x30,[sp,#-32]!; mov x29,sp; mrs x9,fpcr; str x9,[sp,#16]; msr fpcr,xzr; bl 0; ldr x9,[sp,#16]; msr fpcr,x9;
/// ldp x29,x30,[sp],#32; ret
const A64_MODE: [u32; 10] = [
    0xa9be_7bfd,
    0x9100_03fd,
    0xd53b_4409,
    0xf900_0be9,
    0xd51b_441f,
    0x9400_0000,
    0xf940_0be9,
    0xd51b_4409,
    0xa8c2_7bfd,
    0xd65f_03c0,
];
/// cpuid(leaf: edi, subleaf: esi, out: rdx → [eax, ebx, ecx, edx]), saving rbx.
const X86_CPUID: [u8; 32] = [
    0x55, 0x48, 0x89, 0xe5, 0x53, 0x49, 0x89, 0xd0, 0x89, 0xf8, 0x89, 0xf1, 0x0f, 0xa2, 0x41, 0x89, 0x00, 0x41, 0x89,
    0x58, 0x04, 0x41, 0x89, 0x48, 0x08, 0x41, 0x89, 0x50, 0x0c, 0x5b, 0x5d, 0xc3,
];
/// xgetbv(0) → rax.
const X86_XGETBV: [u8; 18] =
    [0x55, 0x48, 0x89, 0xe5, 0x31, 0xc9, 0x0f, 0x01, 0xd0, 0x48, 0xc1, 0xe2, 0x20, 0x48, 0x09, 0xd0, 0x5d, 0xc3];
/// arch_prctl(ARCH_REQ_XCOMP_PERM, 18), the raw system call.
const X86_AMX: [u8; 18] =
    [0xb8, 0x9e, 0x00, 0x00, 0x00, 0xbf, 0x23, 0x10, 0x00, 0x00, 0xbe, 0x12, 0x00, 0x00, 0x00, 0x0f, 0x05, 0xc3];
/// mov x0,#-38 (ENOSYS); ret
const A64_AMX: [u32; 2] = [0x9280_04a0, 0xd65f_03c0];

fn words(code: &[u32]) -> Vec<u8> {
    code.iter().flat_map(|w| w.to_le_bytes()).collect()
}

/// A function that passes its register arguments to `inner` under the default floating-point mode and restores the
/// caller's.
pub(super) fn wrap_mode(image: &mut Image, name: String, inner: FunctionId) -> Result<FunctionId, CodegenError> {
    let id = image.declare_function(name);
    let target = Symbol::Function(inner);
    let (bytes, reloc) = match image.arch {
        Arch::X86_64 => (X86_MODE.to_vec(), Relocation { offset: 26, kind: RelocKind::X86Rel32, target, addend: -4 }),
        Arch::Aarch64 => (words(&A64_MODE), Relocation { offset: 20, kind: RelocKind::A64Call26, target, addend: 0 }),
    };
    image.define_bytes(id, bytes, vec![reloc], 16)?;
    Ok(id)
}

/// The functions `cpuid` and `xgetbv`; x86-64 only.
pub(super) fn cpuid(image: &mut Image) -> Result<(FunctionId, FunctionId), CodegenError> {
    let cpuid = image.declare_function("dorefac_cpuid");
    image.define_bytes(cpuid, X86_CPUID.to_vec(), Vec::new(), 16)?;
    let xgetbv = image.declare_function("dorefac_xgetbv");
    image.define_bytes(xgetbv, X86_XGETBV.to_vec(), Vec::new(), 16)?;
    Ok((cpuid, xgetbv))
}

/// The exported `enable_amx`; −ENOSYS on aarch64.
pub(super) fn enable_amx(image: &mut Image) -> Result<FunctionId, CodegenError> {
    let id = image.declare_function("dorefac_enable_amx");
    let bytes = match image.arch {
        Arch::X86_64 => X86_AMX.to_vec(),
        Arch::Aarch64 => words(&A64_AMX),
    };
    image.define_bytes(id, bytes, Vec::new(), 16)?;
    Ok(id)
}
