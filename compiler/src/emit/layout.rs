//! The linker: places an image's data and code at two addresses and resolves every reference.
//!
//! Must never know: what the bytes are written into.

use crate::codegen::CodegenError;
use crate::codegen::image::{Image, RelocKind, Symbol};

/// Offsets of all objects in the two sections.
pub(super) struct Layout {
    /// By function.
    pub functions: Vec<u64>,
    /// By data object.
    pub data: Vec<u64>,
    /// Bytes of code.
    pub text_size: u64,
    /// Bytes of data.
    pub data_size: u64,
}

/// Places everything in order of ids.
pub(super) fn place(image: &Image) -> Layout {
    let mut layout = Layout { functions: Vec::new(), data: Vec::new(), text_size: 0, data_size: 0 };
    for function in &image.functions {
        let (size, align) = function.code.as_ref().map_or((0, 1), |c| (c.bytes.len() as u64, c.align));
        let at = layout.text_size.next_multiple_of(align.max(16));
        layout.functions.push(at);
        layout.text_size = at + size;
    }
    for data in &image.data {
        let at = layout.data_size.next_multiple_of(data.align);
        layout.data.push(at);
        layout.data_size = at + data.bytes.len() as u64;
    }
    layout
}

/// The contents of both sections (code, data) at their final addresses.
pub(super) fn link(image: &Image, l: &Layout, text: u64, data: u64) -> Result<(Vec<u8>, Vec<u8>), CodegenError> {
    let (mut code_bytes, mut data_bytes) = (vec![0; l.text_size as usize], vec![0; l.data_size as usize]);
    link_into(image, l, (text, &mut code_bytes), (data, &mut data_bytes))?;
    Ok((code_bytes, data_bytes))
}

/// As [`link`], into zeroed memory of the sections' sizes: weights are large, so nobody holds them once more.
pub(super) fn link_into(
    image: &Image,
    l: &Layout,
    (text, code_bytes): (u64, &mut [u8]),
    (data, data_bytes): (u64, &mut [u8]),
) -> Result<(), CodegenError> {
    let address = |symbol: Symbol| match symbol {
        Symbol::Function(id) => text + l.functions[id.0 as usize],
        Symbol::Data(id) => data + l.data[id.0 as usize],
    };
    for (function, &at) in image.functions.iter().zip(&l.functions) {
        let Some(code) = &function.code else {
            return Err(CodegenError::Definition { name: function.name.clone(), what: "not defined" });
        };
        let out = &mut code_bytes[at as usize..at as usize + code.bytes.len()];
        out.copy_from_slice(&code.bytes);
        for r in &code.relocs {
            let field = &mut out[r.offset as usize..r.offset as usize + 4];
            let (s, p) = (address(r.target) as i64 + r.addend, (text + at + u64::from(r.offset)) as i64);
            if !patch(field, r.kind, s, p) {
                return Err(CodegenError::TooLarge(format!("a reference of `{}` is out of range", function.name)));
            }
        }
    }
    for (object, &at) in image.data.iter().zip(&l.data) {
        let out = &mut data_bytes[at as usize..at as usize + object.bytes.len()];
        out.copy_from_slice(&object.bytes);
        for f in &object.fixups {
            let value = address(f.target) as i64 + f.addend - (data + at) as i64;
            out[f.at as usize..f.at as usize + 8].copy_from_slice(&value.to_le_bytes());
        }
    }
    Ok(())
}

/// Writes one reference; false if it does not reach.
fn patch(field: &mut [u8], kind: RelocKind, s: i64, p: i64) -> bool {
    let old = u32::from_le_bytes([field[0], field[1], field[2], field[3]]);
    let distance = s - p;
    let (new, fits) = match kind {
        RelocKind::X86Rel32 => (distance as u32, i32::try_from(distance).is_ok()),
        RelocKind::A64Call26 => (
            (old & 0xfc00_0000) | ((distance >> 2) as u32 & 0x03ff_ffff),
            distance.abs() < 1 << 27 && distance & 3 == 0,
        ),
        RelocKind::A64Page21 => {
            let pages = (s >> 12) - (p >> 12);
            let bits = pages as u32;
            ((old & 0x9f00_001f) | (bits & 3) << 29 | ((bits >> 2) & 0x7_ffff) << 5, pages.abs() < 1 << 20)
        }
        RelocKind::A64Low12 => ((old & !(0xfff << 10)) | ((s as u32 & 0xfff) << 10), true),
    };
    field.copy_from_slice(&new.to_le_bytes());
    fits
}
