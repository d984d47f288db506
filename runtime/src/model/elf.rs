//! A look at a shared object before the dynamic linker maps it.
//!
//! The linker trusts what it reads: a truncated file ends in SIGBUS, a bad table in SIGSEGV, and an initialiser runs before
//! anybody could ask. So every table that it walks over is walked over here first, and what `dorefac compile` never writes
//! (needed libraries, relocations, initialisers) is refused. Code stays trusted: nothing here looks at instructions.

use crate::abi;
use std::ops::Range;

const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
const PT_NOTE: u64 = 4;
const PT_GNU_STACK: u64 = 0x6474_e551;
const PT_GNU_RELRO: u64 = 0x6474_e552;
const WRITE_EXECUTE: u64 = 3;
const EXECUTE: u64 = 1;

/// What the linker finds by the dynamic section, by tag.
const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_STRSZ: u64 = 10;
const DT_SYMENT: u64 = 11;
const DT_SONAME: u64 = 14;
const DT_GNU_HASH: u64 = 0x6fff_fef5;

/// Bytes of a symbol.
const SYMBOL: u64 = 24;
/// Most program headers, and most exported symbols and hash buckets, of a file that is read.
const MOST: u64 = 64;
/// Bytes of memory that a segment may have beyond its bytes in the file: the rest of a page.
const PAGE: u64 = 0x1_0000;

/// Where things lie in a shared object; addresses are file offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// Mapped bytes, ascending, without overlap.
    pub readable: Vec<Range<u64>>,
    /// Those of them that hold code.
    pub executable: Vec<Range<u64>>,
    /// The descriptor: what the symbol `dorefac_model` names.
    pub descriptor: u64,
}

struct File<'a>(&'a [u8]);

impl File<'_> {
    /// A little-endian number of `N ≤ 8` bytes at `at`.
    fn number<const N: usize>(&self, at: u64) -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let field = self.0.get(at..at.checked_add(N)?)?;
        Some(field.iter().rev().fold(0, |a, &b| a << 8 | u64::from(b)))
    }

    /// The text at `at` that ends before `end`, without its NUL.
    fn text(&self, at: u64, end: u64) -> Option<&[u8]> {
        let bytes = self.0.get(usize::try_from(at).ok()?..usize::try_from(end).ok()?)?;
        bytes.get(..bytes.iter().position(|&b| b == 0)?)
    }
}

/// Checks that `bytes` are a complete shared object of `dorefac compile` for this architecture; says what is wrong if not.
pub(super) fn check(bytes: &[u8]) -> Result<Layout, String> {
    let file = File(bytes);
    if bytes.get(..6) != Some(b"\x7fELF\x02\x01") {
        return Err("it is not a 64-bit little-endian ELF file; pass a .so made by `dorefac compile`".into());
    }
    if file.number::<2>(16).ok_or_else(truncated)? != 3 {
        return Err("it is not a shared object; use `dorefac compile -o OUT.so`".into());
    }
    let host = match abi::ARCH_HOST {
        abi::ARCH_X86_64 => 62,
        abi::ARCH_AARCH64 => 183,
        _ => 0,
    };
    let machine = file.number::<2>(18).ok_or_else(truncated)?;
    if machine != host {
        return Err(format!("it is for ELF machine {machine}, this computer is {host}; compile with another --target"));
    }
    let (mut layout, dynamic) = segments(&file)?;
    layout.descriptor = descriptor(&file, &layout, dynamic)?;
    Ok(layout)
}

fn truncated() -> String {
    "the file is truncated; compile or copy it again".to_owned()
}

fn damaged(what: &str) -> String {
    format!("its {what}: the file is damaged or was not made by `dorefac compile`; compile or copy it again")
}

/// The segments, and where the dynamic section lies.
fn segments(file: &File<'_>) -> Result<(Layout, Range<u64>), String> {
    let table = file.number::<8>(32).ok_or_else(truncated)?;
    let (size, count) = (file.number::<2>(54).ok_or_else(truncated)?, file.number::<2>(56).ok_or_else(truncated)?);
    if size != 56 || count > MOST || !table.is_multiple_of(8) {
        return Err(damaged("program headers are malformed"));
    }
    let mut layout = Layout { readable: Vec::new(), executable: Vec::new(), descriptor: 0 };
    let (mut dynamic, mut end_of_last) = (None, 0);
    for k in 0..count {
        let at = table.checked_add(k * 56).ok_or_else(truncated)?;
        let word = |i: u64| file.number::<8>(at.saturating_add(i)).ok_or_else(truncated);
        let kind = file.number::<4>(at).ok_or_else(truncated)?;
        let flags = file.number::<4>(at.saturating_add(4)).ok_or_else(truncated)?;
        let (offset, address, in_file, in_memory, align) = (word(8)?, word(16)?, word(32)?, word(40)?, word(48)?);
        let end = offset.checked_add(in_file).filter(|&end| end <= file.0.len() as u64).ok_or_else(truncated)?;
        match kind {
            PT_LOAD => {
                let rest = in_memory.checked_sub(in_file).filter(|&n| n < PAGE);
                let sound = address == offset && rest.is_some() && align.is_power_of_two() && align <= PAGE;
                // Each on pages of its own, so that no protection covers another's bytes.
                if !sound
                    || !offset.is_multiple_of(align)
                    || offset < end_of_last
                    || flags & WRITE_EXECUTE == WRITE_EXECUTE
                {
                    return Err(damaged("segments overlap or are malformed"));
                }
                end_of_last = end.next_multiple_of(align.max(4096));
                layout.readable.push(offset..end);
                if flags & EXECUTE != 0 {
                    layout.executable.push(offset..end);
                }
            }
            PT_DYNAMIC if dynamic.is_none() && address == offset => dynamic = Some(offset..end),
            PT_GNU_RELRO if address == offset && in_memory <= PAGE => {}
            PT_NOTE | PT_GNU_STACK => {}
            _ => return Err(damaged("segments are of a kind that no model has")),
        }
    }
    let dynamic = dynamic.filter(|d| layout.readable.iter().any(|r| r.start <= d.start && d.end <= r.end));
    Ok((layout, dynamic.ok_or_else(|| damaged("dynamic section is missing"))?))
}

/// Checks what the dynamic section names; gives the descriptor's address.
fn descriptor(file: &File<'_>, layout: &Layout, dynamic: Range<u64>) -> Result<u64, String> {
    let tags = tags(file, dynamic)?;
    let get = |tag: u64| tags.iter().find(|(t, _)| *t == tag).map(|t| t.1);
    let need = |tag| get(tag).ok_or_else(|| damaged("dynamic section lacks a table"));
    // A table lies in one segment. The linker writes to none of them, so code may hold none.
    let room = |at: u64| layout.readable.iter().find(|r| r.contains(&at)).map(|r| r.end);
    let holds = |at: u64, len: u64| room(at).is_some_and(|end| at.checked_add(len).is_some_and(|e| e <= end));
    let (strings, length) = (need(DT_STRTAB)?, need(DT_STRSZ)?);
    let strings_end = strings.checked_add(length).filter(|_| holds(strings, length));
    let strings_end = strings_end.ok_or_else(|| damaged("string table lies outside the file"))?;
    let name = |offset: u64| file.text(strings.checked_add(offset).filter(|&at| at < strings_end)?, strings_end);
    if get(DT_SYMENT).is_some_and(|n| n != SYMBOL) || get(DT_SONAME).is_some_and(|at| name(at).is_none()) {
        return Err(damaged("dynamic section is malformed"));
    }
    let hash = need(DT_HASH)?;
    let bad_hash = || damaged("hash table is malformed");
    let word = |at: u64| file.number::<4>(at).filter(|_| at.is_multiple_of(4) && holds(at, 4)).ok_or_else(bad_hash);
    let (buckets, count) = (word(hash)?, word(hash.saturating_add(4))?);
    if buckets == 0 || buckets > MOST || count > MOST {
        return Err(bad_hash());
    }
    let chain = hash.saturating_add(8 + 4 * buckets);
    for bucket in 0..buckets {
        let mut next = word(hash.saturating_add(8 + 4 * bucket))?;
        for step in 0.. {
            if next >= count || step > count {
                return Err(bad_hash()); // beyond the symbols, or a cycle
            }
            if next == 0 {
                break;
            }
            next = word(chain.saturating_add(4 * next))?;
        }
    }
    if let Some(at) = get(DT_GNU_HASH) {
        gnu_hash(at, count, &word, &holds)?;
    }
    let symbols = need(DT_SYMTAB)?;
    if !holds(symbols, SYMBOL * count) {
        return Err(damaged("symbol table lies outside the file"));
    }
    let mut found = None;
    for i in 0..count {
        let at = symbols + SYMBOL * i;
        let field = || Some((file.number::<4>(at)?, file.number::<1>(at + 4)?, file.number::<8>(at + 8)?));
        let (text, info, value) = field().ok_or_else(truncated)?;
        let text = name(text).ok_or_else(|| damaged("symbol names are malformed"))?;
        // An object: the linker would call what an indirect function names.
        if [text, b"\0"].concat() == abi::SYMBOL && info & 15 == 1 && holds(value, 1) {
            found = Some(value);
        }
    }
    found.ok_or_else(|| "it has no dorefac descriptor; pass a file made by `dorefac compile`".to_owned())
}

/// The entries of the dynamic section, of which all are known and none is there twice.
fn tags(file: &File<'_>, dynamic: Range<u64>) -> Result<Vec<(u64, u64)>, String> {
    let known = [DT_HASH, DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_SYMENT, DT_SONAME, DT_GNU_HASH];
    let mut tags = Vec::new();
    for at in dynamic.clone().step_by(16) {
        let entry = file.number::<8>(at).zip(file.number::<8>(at.saturating_add(8)));
        match entry.filter(|_| at.saturating_add(16) <= dynamic.end).ok_or_else(truncated)? {
            (0, _) => return Ok(tags),
            (tag, value) if known.contains(&tag) && !tags.iter().any(|(t, _)| *t == tag) => tags.push((tag, value)),
            _ => {
                let what = "it needs other libraries, relocations or initialisers, which no model does";
                return Err(format!("{what}; pass a file made by `dorefac compile -o OUT.so`"));
            }
        }
    }
    Err(damaged("dynamic section does not end"))
}

/// Walks over the second hash table, which the linker prefers.
fn gnu_hash(
    at: u64,
    symbols: u64,
    word: &impl Fn(u64) -> Result<u64, String>,
    holds: &impl Fn(u64, u64) -> bool,
) -> Result<(), String> {
    let bad = || damaged("hash table is malformed");
    let (buckets, first) = (word(at)?, word(at.saturating_add(4))?);
    let (bloom, _) = (word(at.saturating_add(8))?, word(at.saturating_add(12))?);
    let head = at.saturating_add(16);
    if buckets == 0 || buckets > MOST || !bloom.is_power_of_two() || bloom > MOST || !holds(head, 8 * bloom) {
        return Err(bad());
    }
    let list = head + 8 * bloom;
    let chain = list + 4 * buckets;
    for bucket in 0..buckets {
        let mut symbol = word(list + 4 * bucket)?;
        if symbol == 0 {
            continue;
        }
        loop {
            let place = symbol.checked_sub(first).filter(|_| symbol < symbols).ok_or_else(bad)?;
            // The last of a chain is odd.
            if word(chain + 4 * place)? & 1 == 1 {
                break;
            }
            symbol += 1;
        }
    }
    Ok(())
}
