//! The image of a model: functions and read-only data with references between them, before any layout.
//!
//! It needs nothing from outside itself and has no writable data. The emitters (JIT, shared object, object file) lay it
//! out. Must never know: files, addresses, what a function computes.

use super::target::Arch;
use super::{CodegenError, check};
use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{
    ExtFuncData, ExternalName, FuncRef, Function, GlobalValue, GlobalValueData, Signature, UserExternalName,
};
use cranelift_codegen::isa::TargetIsa;
use std::collections::HashSet;

/// The namespace of functions in CLIF's user names.
pub const FUNCTIONS: u32 = 0;
/// The namespace of data in CLIF's user names.
pub const DATA: u32 = 1;

/// A function of an [`Image`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionId(pub u32);

/// A data object of an [`Image`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DataId(pub u32);

/// What a reference points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symbol {
    /// A function.
    Function(FunctionId),
    /// A data object.
    Data(DataId),
}

/// How a reference in code is written (S: symbol plus addend, P: the place).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelocKind {
    /// 32 bits, S − P.
    X86Rel32,
    /// `bl`: 26 bits of (S − P) / 4.
    A64Call26,
    /// `adrp`: 21 bits of the distance in pages.
    A64Page21,
    /// `add`: the low 12 bits of S.
    A64Low12,
}

/// A reference in code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// From the start of the function.
    pub offset: u32,
    /// How it is written.
    pub kind: RelocKind,
    /// What it refers to.
    pub target: Symbol,
    /// Added to the target's address.
    pub addend: i64,
}

/// A 64-bit field at `at` of a data object that holds the address of `target` plus `addend`, minus the address of the
/// data object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixup {
    /// Byte offset of the field.
    pub at: u64,
    /// What it refers to.
    pub target: Symbol,
    /// Added to the distance.
    pub addend: i64,
}

/// Machine code of one function.
#[derive(Clone, Debug)]
pub struct Code {
    /// The code, with constants behind it.
    pub bytes: Vec<u8>,
    /// Its references.
    pub relocs: Vec<Relocation>,
    /// Of the first byte; a power of two.
    pub align: u64,
    /// CLIF before optimisation, if kept.
    pub clif: Option<String>,
    /// Cranelift's listing, if kept.
    pub asm: Option<String>,
}

/// A declared function.
#[derive(Clone, Debug)]
pub struct ImageFunction {
    /// Unique in the image.
    pub name: String,
    /// Until [`Image::define`] there is none.
    pub code: Option<Code>,
}

/// A read-only data object.
#[derive(Clone, Debug)]
pub struct ImageData {
    /// Unique in the image.
    pub name: String,
    /// The contents.
    pub bytes: Vec<u8>,
    /// Of the first byte; a power of two, at most 4096.
    pub align: u64,
    /// Fields that the layout fills.
    pub fixups: Vec<Fixup>,
}

/// Functions and data of one model.
#[derive(Clone, Debug)]
pub struct Image {
    /// Of all code.
    pub arch: Arch,
    /// By [`FunctionId`].
    pub functions: Vec<ImageFunction>,
    /// By [`DataId`].
    pub data: Vec<ImageData>,
    /// Keep CLIF and listings of functions defined from now on.
    pub keep_text: bool,
}

impl Image {
    /// An empty image.
    pub fn new(arch: Arch) -> Image {
        Image { arch, functions: Vec::new(), data: Vec::new(), keep_text: false }
    }

    /// Declares a function, to be defined later.
    pub fn declare_function(&mut self, name: impl Into<String>) -> FunctionId {
        self.functions.push(ImageFunction { name: name.into(), code: None });
        FunctionId((self.functions.len() - 1) as u32)
    }

    /// The function of that name, which `define` defines where there is none yet.
    pub fn function_once(
        &mut self,
        name: &str,
        define: impl FnOnce(&mut Image, FunctionId) -> Result<(), CodegenError>,
    ) -> Result<FunctionId, CodegenError> {
        if let Some(known) = self.functions.iter().position(|f| f.name == name) {
            return Ok(FunctionId(known as u32));
        }
        let id = self.declare_function(name);
        define(self, id)?;
        Ok(id)
    }

    /// Adds read-only data.
    pub fn add_data(&mut self, name: impl Into<String>, bytes: Vec<u8>, align: u64) -> DataId {
        self.data.push(ImageData { name: name.into(), bytes, align, fixups: Vec::new() });
        DataId((self.data.len() - 1) as u32)
    }

    /// Adds a fixup to a data object.
    pub fn add_fixup(&mut self, data: DataId, fixup: Fixup) {
        self.data[data.0 as usize].fixups.push(fixup);
    }

    /// The data object of that name.
    pub fn find_data(&self, name: &str) -> Option<DataId> {
        self.data.iter().position(|d| d.name == name).map(|i| DataId(i as u32))
    }

    /// Compiles `ctx` for `isa` (of this image's architecture) and defines `id` by it.
    pub fn define(&mut self, id: FunctionId, ctx: Context, isa: &dyn TargetIsa) -> Result<(), CodegenError> {
        let code = compile(&self.functions[id.0 as usize].name, ctx, isa, self.keep_text)?;
        self.define_code(id, code)
    }

    /// Defines `id` by machine code made elsewhere.
    pub fn define_bytes(
        &mut self,
        id: FunctionId,
        bytes: Vec<u8>,
        relocs: Vec<Relocation>,
        align: u64,
    ) -> Result<(), CodegenError> {
        self.define_code(id, Code { bytes, relocs, align, clif: None, asm: None })
    }

    /// Defines `id` by code from [`compile`], which may have run on another thread.
    pub fn define_code(&mut self, id: FunctionId, code: Code) -> Result<(), CodegenError> {
        let function = &mut self.functions[id.0 as usize];
        if function.code.is_some() {
            return Err(CodegenError::Definition { name: function.name.clone(), what: "defined twice" });
        }
        function.code = Some(code);
        Ok(())
    }

    /// Refuses an image that is not closed: undefined functions, references out of it, doubled names.
    pub fn check(&self) -> Result<(), CodegenError> {
        let mut names = HashSet::new();
        for name in self.functions.iter().map(|f| &f.name).chain(self.data.iter().map(|d| &d.name)) {
            if !names.insert(name.as_str()) {
                return Err(CodegenError::Spec(format!("two symbols of the image are named `{name}`")));
            }
        }
        let bad = |name: &str, detail: String| CodegenError::Reference { name: name.to_owned(), detail };
        for function in &self.functions {
            let Some(code) = &function.code else {
                return Err(CodegenError::Definition { name: function.name.clone(), what: "not defined" });
            };
            for r in &code.relocs {
                if !self.holds(r.target) || r.offset as usize + 4 > code.bytes.len() {
                    return Err(bad(&function.name, format!("{r:?}")));
                }
            }
        }
        for data in &self.data {
            for f in &data.fixups {
                if !self.holds(f.target) || f.at.checked_add(8).is_none_or(|end| end > data.bytes.len() as u64) {
                    return Err(bad(&data.name, format!("{f:?}")));
                }
            }
            if !data.align.is_power_of_two() || data.align > 4096 {
                return Err(bad(&data.name, format!("alignment {}", data.align)));
            }
        }
        Ok(())
    }

    fn holds(&self, symbol: Symbol) -> bool {
        match symbol {
            Symbol::Function(id) => (id.0 as usize) < self.functions.len(),
            Symbol::Data(id) => (id.0 as usize) < self.data.len(),
        }
    }
}

/// Compiles one function outside any image; independent calls may run in parallel.
pub fn compile(name: &str, mut ctx: Context, isa: &dyn TargetIsa, keep_text: bool) -> Result<Code, CodegenError> {
    let clif = keep_text.then(|| ctx.func.display().to_string());
    ctx.set_disasm(keep_text);
    let fail = |detail: String| CodegenError::Compile { name: name.to_owned(), detail };
    if let Err(e) = ctx.compile(isa, &mut ControlPlane::default()) {
        return Err(fail(cranelift_codegen::print_errors::pretty_error(e.func, e.inner)));
    }
    let compiled = ctx.take_compiled_code().ok_or_else(|| fail("no code".to_owned()))?;
    let relocs = check::relocations(name, &ctx.func, compiled.buffer.relocs())?;
    let align = u64::from(compiled.buffer.alignment).max(u64::from(isa.function_alignment().preferred));
    Ok(Code { bytes: compiled.code_buffer().to_vec(), relocs, align, clif, asm: compiled.vcode })
}

/// A reference to a function of the image, for `call` and `func_addr`.
pub fn import_function(func: &mut Function, id: FunctionId, signature: Signature) -> FuncRef {
    let name = func.declare_imported_user_function(UserExternalName { namespace: FUNCTIONS, index: id.0 });
    let signature = func.import_signature(signature);
    func.import_function(ExtFuncData { name: ExternalName::user(name), signature, colocated: true, patchable: false })
}

/// A reference to a data object of the image, for `symbol_value`.
pub fn import_data(func: &mut Function, id: DataId) -> GlobalValue {
    let name = func.declare_imported_user_function(UserExternalName { namespace: DATA, index: id.0 });
    let offset = 0.into();
    func.create_global_value(GlobalValueData::Symbol {
        name: ExternalName::user(name),
        offset,
        colocated: true,
        tls: false,
    })
}
