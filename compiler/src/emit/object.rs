//! A relocatable object file, for static linking into a program.
//!
//! All symbols but `<prefix>_model` are local, so several models fit one program.

use crate::codegen::CodegenError;
use crate::codegen::entry::DESCRIPTOR;
use crate::codegen::image::{Image, RelocKind, Symbol as Target};
use crate::codegen::target::Arch;
use object::write::{Object, Relocation, StandardSection, Symbol, SymbolSection};
use object::{Architecture, BinaryFormat, Endianness, RelocationFlags, SymbolFlags, SymbolKind, SymbolScope, elf};

/// An ELF object that defines `<prefix>_model` and needs nothing.
pub fn relocatable(image: &Image, prefix: &str) -> Result<Vec<u8>, CodegenError> {
    image.check()?;
    let architecture = match image.arch {
        Arch::X86_64 => Architecture::X86_64,
        Arch::Aarch64 => Architecture::Aarch64,
    };
    let mut object = Object::new(BinaryFormat::Elf, architecture, Endianness::Little);
    let (text, data) = (object.section_id(StandardSection::Text), object.section_id(StandardSection::ReadOnlyData));
    // Without it the linker makes the program's stack executable.
    object.add_section(Vec::new(), b".note.GNU-stack".to_vec(), object::SectionKind::Other);
    let symbol = |name: String, kind, section, value, size, scope| Symbol {
        name: name.into_bytes(),
        value,
        size,
        kind,
        scope,
        weak: false,
        section: SymbolSection::Section(section),
        flags: SymbolFlags::None,
    };
    let (mut functions, mut objects) = (Vec::new(), Vec::new());
    for f in &image.functions {
        let Some(code) = &f.code else { continue };
        let at = object.append_section_data(text, &code.bytes, code.align.max(16));
        let s = symbol(
            format!("{prefix}.{}", f.name),
            SymbolKind::Text,
            text,
            at,
            code.bytes.len() as u64,
            SymbolScope::Compilation,
        );
        functions.push((object.add_symbol(s), at));
    }
    for d in &image.data {
        let at = object.append_section_data(data, &d.bytes, d.align);
        let (name, scope) = if d.name == DESCRIPTOR {
            (format!("{prefix}_model"), SymbolScope::Dynamic)
        } else {
            (format!("{prefix}.{}", d.name), SymbolScope::Compilation)
        };
        objects.push((object.add_symbol(symbol(name, SymbolKind::Data, data, at, d.bytes.len() as u64, scope)), at));
    }
    let find = |target: Target| match target {
        Target::Function(id) => functions[id.0 as usize].0,
        Target::Data(id) => objects[id.0 as usize].0,
    };
    let mut add = |section, offset, target, addend, r_type| {
        let relocation = Relocation { offset, symbol: find(target), addend, flags: RelocationFlags::Elf { r_type } };
        object.add_relocation(section, relocation).map_err(|e| CodegenError::Object(e.to_string()))
    };
    for (f, &(_, at)) in image.functions.iter().zip(&functions) {
        for r in f.code.iter().flat_map(|c| &c.relocs) {
            let r_type = match r.kind {
                RelocKind::X86Rel32 => elf::R_X86_64_PC32,
                RelocKind::A64Call26 => elf::R_AARCH64_CALL26,
                RelocKind::A64Page21 => elf::R_AARCH64_ADR_PREL_PG_HI21,
                RelocKind::A64Low12 => elf::R_AARCH64_ADD_ABS_LO12_NC,
            };
            add(text, at + u64::from(r.offset), r.target, r.addend, r_type)?;
        }
    }
    let relative = match image.arch {
        Arch::X86_64 => elf::R_X86_64_PC64,
        Arch::Aarch64 => elf::R_AARCH64_PREL64,
    };
    for (d, &(_, at)) in image.data.iter().zip(&objects) {
        for f in &d.fixups {
            // Relative to the field, but wanted relative to the object's start.
            add(data, at + f.at, f.target, f.addend + f.at as i64, relative)?;
        }
    }
    object.write().map_err(|e| CodegenError::Object(e.to_string()))
}
