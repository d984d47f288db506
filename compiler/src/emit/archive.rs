//! A static library: an `ar` archive with one object file and its symbol index.

use crate::codegen::{CodegenError, Image};

/// The archive with `<prefix>.o`, which defines `<prefix>_model`.
pub fn archive(image: &Image, prefix: &str) -> Result<Vec<u8>, CodegenError> {
    let object = super::object::relocatable(image, prefix)?;
    let symbol = format!("{prefix}_model\0");
    let mut index = 1u32.to_be_bytes().to_vec();
    let index_size = (8 + symbol.len()).next_multiple_of(2);
    // GNU's long-name table is avoided by a fixed short member name.
    index.extend_from_slice(&((8 + 60 + index_size) as u32).to_be_bytes());
    index.extend_from_slice(symbol.as_bytes());
    index.resize(index_size, 0);
    let mut out = b"!<arch>\n".to_vec();
    member(&mut out, "/", &index);
    member(&mut out, "model.o/", &object);
    Ok(out)
}

fn member(out: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    let header = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 644, bytes.len());
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(bytes);
    if bytes.len() % 2 == 1 {
        out.push(b'\n');
    }
}
