//! `cpu`: the features that the processor and the operating system both allow, as bits of `dorefac.h`.

use super::super::target::{Arch, FEATURES_VALID, a64, x86};
use super::super::{CodegenError, FunctionId, Image, import_function, stubs};
use super::{build, signature};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, StackSlotData, StackSlotKind, Value, types};
use cranelift_frontend::FunctionBuilder;

/// Registers of `cpuid` as indices of what the stub stores; XCR0 is read apart.
const EAX: usize = 0;
const EBX: usize = 1;
const ECX: usize = 2;
const EDX: usize = 3;

/// Feature bit; leaf (1, 7, 7 subleaf 1, 0x8000_0001) by its place in the list below; register; bits needed; XCR0 needed.
const X86: [(u64, usize, usize, u64, u64); 16] = [
    (x86::SSE41, 0, ECX, 1 | 1 << 19 | 1 << 20, 0),
    (x86::POPCNT, 0, ECX, 1 << 23, 0),
    (x86::SSSE3, 0, ECX, 1 << 9, 0),
    (x86::AVX2, 1, EBX, 1 << 5, 6),
    (x86::FMA, 0, ECX, 1 << 12 | 1 << 28, 6),
    (x86::BMI1, 1, EBX, 1 << 3, 0),
    (x86::BMI2, 1, EBX, 1 << 8, 0),
    (x86::LZCNT, 3, ECX, 1 << 5, 0),
    (x86::AVX512, 1, EBX, 1 << 16 | 1 << 17 | 1 << 28 | 1 << 30 | 1 << 31, 0xe6),
    (x86::VNNI, 1, ECX, 1 << 11, 0xe6),
    (x86::VPOPCNTDQ, 1, ECX, 1 << 14, 0xe6),
    (x86::BITALG, 1, ECX, 1 << 12, 0xe6),
    (x86::VBMI, 1, ECX, 1 << 1, 0xe6),
    (x86::GFNI, 1, ECX, 1 << 8, 6),
    (x86::AVXVNNI, 2, EAX, 1 << 4, 6),
    (x86::AMX_INT8, 1, EDX, 1 << 24 | 1 << 25, 0x60000),
];
/// Leaf and subleaf.
const LEAVES: [(i64, i64); 4] = [(1, 0), (7, 0), (7, 1), (0x8000_0001, 0)];

/// Defines `dorefac_cpu(hwcap, hwcap2) -> mask`.
pub(super) fn define(image: &mut Image) -> Result<FunctionId, CodegenError> {
    let id = match image.arch {
        Arch::X86_64 => return define_x86(image),
        Arch::Aarch64 => image.declare_function("dorefac_cpu"),
    };
    build(image, id, signature(&[types::I64; 2], Some(types::I64)), |b, params| {
        let found = [(0, 20, a64::DOTPROD), (1, 13, a64::I8MM), (0, 10, a64::FP16), (0, 22, a64::SVE)];
        let mut mask = b.ins().iconst(types::I64, FEATURES_VALID as i64);
        for (word, bit, feature) in found {
            mask = add_if_all(b, mask, params[word], 1 << bit, feature);
        }
        b.ins().return_(&[mask]);
    })?;
    Ok(id)
}

fn add_if_all(b: &mut FunctionBuilder<'_>, mask: Value, word: Value, bits: u64, feature: u64) -> Value {
    let bits = b.ins().iconst(types::I64, bits as i64);
    let have = b.ins().band(word, bits);
    let yes = b.ins().icmp(IntCC::Equal, have, bits);
    let feature = b.ins().iconst(types::I64, feature as i64);
    let with = b.ins().bor(mask, feature);
    b.ins().select(yes, with, mask)
}

fn define_x86(image: &mut Image) -> Result<FunctionId, CodegenError> {
    let (cpuid, xgetbv) = stubs::cpuid(image)?;
    let id = image.declare_function("dorefac_cpu");
    build(image, id, signature(&[types::I64; 2], Some(types::I64)), |b, _| {
        let flags = MemFlagsData::trusted();
        let cpuid = import_function(b.func, cpuid, signature(&[types::I32, types::I32, types::I64], None));
        let xgetbv = import_function(b.func, xgetbv, signature(&[], Some(types::I64)));
        let slot = b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, 16, 4));
        let leaf = |b: &mut FunctionBuilder<'_>, leaf: i64, sub: i64| -> [Value; 4] {
            let address = b.ins().stack_addr(types::I64, slot, 0);
            let leaf = b.ins().iconst(types::I32, i64::from(leaf as u32 as i32));
            let sub = b.ins().iconst(types::I32, sub);
            b.ins().call(cpuid, &[leaf, sub, address]);
            [0, 4, 8, 12].map(|at| b.ins().uload32(flags, address, at))
        };
        // A leaf above the highest returns another's data, so it counts as zero.
        let (highest, extended) = (leaf(b, 0, 0)[EAX], leaf(b, 0x8000_0000, 0)[EAX]);
        let seven = leaf(b, 7, 0)[EAX];
        let words = LEAVES.map(|(number, sub)| {
            let words = leaf(b, number, sub);
            let limit = if number == 0x8000_0001 { extended } else { highest };
            let mut there = b.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, limit, number);
            if sub != 0 {
                let deep = b.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, seven, sub);
                there = b.ins().band(there, deep);
            }
            let zero = b.ins().iconst(types::I64, 0);
            words.map(|word| b.ins().select(there, word, zero))
        });
        let (read, go) = (b.create_block(), b.create_block());
        let xcr0 = b.append_block_param(go, types::I64);
        let osxsave = b.ins().band_imm_u(words[0][ECX], 1 << 27);
        let zero = b.ins().iconst(types::I64, 0);
        b.ins().brif(osxsave, read, &[], go, &[zero.into()]);
        b.switch_to_block(read);
        let value = b.ins().call(xgetbv, &[]);
        let value = b.inst_results(value)[0];
        b.ins().jump(go, &[value.into()]);
        b.switch_to_block(go);
        let mut mask = b.ins().iconst(types::I64, FEATURES_VALID as i64);
        for (feature, leaf, register, bits, state) in X86 {
            let with = add_if_all(b, mask, words[leaf][register], bits, feature);
            let state_bits = b.ins().iconst(types::I64, state as i64);
            let have = b.ins().band(xcr0, state_bits);
            let yes = b.ins().icmp(IntCC::Equal, have, state_bits);
            mask = b.ins().select(yes, with, mask);
        }
        b.ins().return_(&[mask]);
    })?;
    Ok(id)
}
