//! The C header of a model.

/// The generic interface.
pub const DOREFAC_H: &str = include_str!("dorefac.h");

/// The generic interface plus the declaration of `<prefix>_model`.
pub fn header(prefix: &str) -> String {
    let guard = format!("DOREFAC_MODEL_{}_H", prefix.to_uppercase());
    format!(
        "{DOREFAC_H}\n#ifndef {guard}\n#define {guard}\n#ifdef __cplusplus\nextern \"C\" {{\n#endif\n\
         extern const dorefac_model {prefix}_model;\n#ifdef __cplusplus\n}}\n#endif\n#endif\n"
    )
}
