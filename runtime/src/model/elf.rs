//! A look at a shared object before the dynamic linker maps it: a truncated file would otherwise end in SIGBUS.

use crate::abi;

/// Reads a little-endian number of `N ≤ 8` bytes at `at`.
fn number<const N: usize>(bytes: &[u8], at: u64) -> Option<u64> {
    let at = usize::try_from(at).ok()?;
    let field = bytes.get(at..at.checked_add(N)?)?;
    Some(field.iter().rev().fold(0, |a, &b| a << 8 | u64::from(b)))
}

/// Checks that `bytes` are a complete 64-bit shared object for this architecture; says what is wrong if not.
pub(crate) fn check(bytes: &[u8]) -> Result<(), String> {
    if bytes.get(..6) != Some(b"\x7fELF\x02\x01") {
        return Err("it is not a 64-bit little-endian ELF file; pass a .so made by `dorefac compile`".into());
    }
    let truncated = || "the file is truncated; compile or copy it again".to_owned();
    if number::<2>(bytes, 16).ok_or_else(truncated)? != 3 {
        return Err("it is not a shared object; use `dorefac compile -o OUT.so`".into());
    }
    let host = match abi::ARCH_HOST {
        abi::ARCH_X86_64 => 62,
        abi::ARCH_AARCH64 => 183,
        _ => 0,
    };
    let machine = number::<2>(bytes, 18).ok_or_else(truncated)?;
    if machine != host {
        return Err(format!("it is for ELF machine {machine}, this computer is {host}; compile with another --target"));
    }
    let table = number::<8>(bytes, 32).ok_or_else(truncated)?;
    let count = number::<2>(bytes, 56).ok_or_else(truncated)?;
    for k in 0..count {
        let at = table.checked_add(k * 56).ok_or_else(truncated)?;
        let offset = number::<8>(bytes, at.saturating_add(8)).ok_or_else(truncated)?;
        let size = number::<8>(bytes, at.saturating_add(32)).ok_or_else(truncated)?;
        if offset.checked_add(size).is_none_or(|end| end > bytes.len() as u64) {
            return Err(truncated());
        }
    }
    Ok(())
}
