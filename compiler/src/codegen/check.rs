//! The check of compiled code that is always on: it may refer to nothing outside its own image.
//!
//! Must never know: how the image is laid out or written.

use super::CodegenError;
use super::image::{DATA, DataId, FUNCTIONS, FunctionId, RelocKind, Relocation, Symbol};
use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::ir::{ExternalName, Function};
use cranelift_codegen::{FinalizedMachReloc, FinalizedRelocTarget};

/// Turns Cranelift's relocations into the image's, refusing every kind and target that an image cannot hold: library
/// calls, absolute addresses, thread-local storage, indirect tables.
pub(super) fn relocations(
    name: &str,
    func: &Function,
    relocs: &[FinalizedMachReloc],
) -> Result<Vec<Relocation>, CodegenError> {
    let refuse = |detail: String| CodegenError::Reference { name: name.to_owned(), detail };
    let mut out = Vec::with_capacity(relocs.len());
    for reloc in relocs {
        let kind = match reloc.kind {
            Reloc::X86PCRel4 | Reloc::X86CallPCRel4 => RelocKind::X86Rel32,
            Reloc::Arm64Call => RelocKind::A64Call26,
            Reloc::Aarch64AdrPrelPgHi21 => RelocKind::A64Page21,
            Reloc::Aarch64AddAbsLo12Nc => RelocKind::A64Low12,
            other => return Err(refuse(format!("kind {other:?}"))),
        };
        let target = match &reloc.target {
            FinalizedRelocTarget::ExternalName(ExternalName::User(id)) => {
                let user = &func.params.user_named_funcs()[*id];
                match user.namespace {
                    FUNCTIONS => Symbol::Function(FunctionId(user.index)),
                    DATA => Symbol::Data(DataId(user.index)),
                    other => return Err(refuse(format!("namespace {other}"))),
                }
            }
            other => return Err(refuse(format!("target {}", other.display(Some(&func.params))))),
        };
        out.push(Relocation { offset: reloc.offset, kind, target, addend: reloc.addend });
    }
    Ok(out)
}
