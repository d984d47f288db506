//! The freestanding shared object, written without a linker: nothing needed, nothing undefined, one symbol exported.
//!
//! Segments: read-only (headers, hash tables, symbols, data), executable (code), relocated read-only (`.dynamic`).
//! There is no writable data, no relocation, no initialiser. Must never know: what the code does.

use super::layout::{self, Layout};
use crate::codegen::entry::DESCRIPTOR;
use crate::codegen::image::Image;
use crate::codegen::target::Arch;
use crate::codegen::{CodegenError, DataId};
use object::elf;

/// Section numbers, in the order of the headers.
const RODATA: u16 = 6;
const TEXT: u16 = 7;
const SYMTAB: u16 = 9;
const STRTAB: u16 = 10;
const SHSTRTAB: u16 = 11;
const PROGRAM_HEADERS: u16 = 6;

/// A file under construction.
struct File(Vec<u8>);

impl File {
    fn align(&mut self, to: u64) -> u64 {
        let at = (self.0.len() as u64).next_multiple_of(to);
        self.0.resize(at as usize, 0);
        at
    }
    fn u16(&mut self, v: u16) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }
    fn u32(&mut self, v: u32) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }
    fn u64(&mut self, v: u64) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }
    /// The file's header, in which the place of the section headers is still missing.
    fn header(&mut self, arch: Arch) {
        self.0.extend_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        self.u16(elf::ET_DYN);
        self.u16(match arch {
            Arch::X86_64 => elf::EM_X86_64,
            Arch::Aarch64 => elf::EM_AARCH64,
        });
        self.u32(1);
        self.u64(0);
        self.u64(HEADER);
        self.u64(0);
        self.u32(0);
        for v in [HEADER as u16, PROGRAM_HEADER as u16, PROGRAM_HEADERS, 64, SHSTRTAB + 1, SHSTRTAB] {
            self.u16(v);
        }
    }
    fn words(&mut self, words: &[u32]) {
        words.iter().for_each(|&w| self.u32(w));
    }
    fn symbol(&mut self, name: u32, info: u8, section: u16, value: u64, size: u64) {
        self.u32(name);
        self.0.extend_from_slice(&[info, 0]);
        self.u16(section);
        self.u64(value);
        self.u64(size);
    }
}

/// One section header.
struct Section {
    name: &'static str,
    kind: u32,
    flags: u32,
    address: u64,
    offset: u64,
    size: u64,
    link: u32,
    info: u32,
    align: u64,
    entry: u64,
}

/// The section headers behind the first, which is empty.
struct Sections(Vec<Section>);

impl Sections {
    fn add(
        &mut self,
        name: &'static str,
        kind: u32,
        flags: u32,
        [at, size]: [u64; 2],
        [link, info]: [u32; 2],
        [align, entry]: [u64; 2],
    ) {
        self.0.push(Section { name, kind, flags, address: at, offset: at, size, link, info, align, entry });
    }

    /// Writes their names, which are the last section, and them.
    fn write(mut self, f: &mut File) {
        let mut names = Strings(vec![0]);
        let mut name_ids: Vec<u32> = self.0.iter().map(|s| names.add(s.name)).collect();
        name_ids.push(names.add(".shstrtab"));
        let names_at = f.0.len() as u64;
        self.add(".shstrtab", elf::SHT_STRTAB, 0, [names_at, names.0.len() as u64], [0, 0], [1, 0]);
        f.0.extend_from_slice(&names.0);
        let headers = f.align(8);
        f.0[40..48].copy_from_slice(&headers.to_le_bytes());
        f.0.resize(f.0.len() + 64, 0);
        for (s, name) in self.0.iter().zip(name_ids) {
            f.words(&[name, s.kind]);
            let address = if s.flags & elf::SHF_ALLOC == 0 { 0 } else { s.address };
            for v in [u64::from(s.flags), address, s.offset, s.size] {
                f.u64(v);
            }
            f.words(&[s.link, s.info]);
            f.u64(s.align);
            f.u64(s.entry);
        }
        debug_assert_eq!(self.0.len(), usize::from(SHSTRTAB));
        debug_assert_eq!(self.0[usize::from(SYMTAB) - 1].name, ".symtab");
    }
}

/// A string table with each string's offset returned as it is added.
struct Strings(Vec<u8>);

impl Strings {
    fn add(&mut self, text: &str) -> u32 {
        let at = self.0.len() as u32;
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
        at
    }
}

/// FNV-1a twice with different starts: a build id needs to differ, not to resist.
fn build_id(parts: [&[u8]; 2]) -> [u8; 16] {
    let hash = |start: u64| {
        parts.iter().flat_map(|p| p.iter()).fold(start, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
    };
    let mut id = [0; 16];
    id[..8].copy_from_slice(&hash(0xcbf2_9ce4_8422_2325).to_le_bytes());
    id[8..].copy_from_slice(&hash(0x6c62_272e_07bb_0142).to_le_bytes());
    id
}

/// Where the parts lie. Addresses are file offsets, so all of it is known before anything is written.
struct Places {
    page: u64,
    hash: u64,
    gnu_hash: u64,
    dynsym: u64,
    dynstr: u64,
    dynstr_size: u64,
    data: u64,
    data_size: u64,
    text: u64,
    text_size: u64,
    dynamic: u64,
}

/// Bytes of the file's header and of each program header.
const HEADER: u64 = 64;
const PROGRAM_HEADER: u64 = 56;
/// Bytes of the note with the build id.
const NOTE_SIZE: u64 = 32;
const NOTE: u64 = HEADER + PROGRAM_HEADER * PROGRAM_HEADERS as u64;
/// Bytes of `.dynamic`: eight tags.
const DYNAMIC_SIZE: u64 = 16 * 8;

impl Places {
    fn new(arch: Arch, l: &Layout, dynstr_size: u64) -> Places {
        let page = match arch {
            Arch::X86_64 => 0x1000,
            Arch::Aarch64 => 0x1_0000,
        };
        let hash = (NOTE + NOTE_SIZE + 4).next_multiple_of(8);
        let gnu_hash = (hash + 20 + 4).next_multiple_of(8);
        let dynsym = gnu_hash + 16 + 8 + 4 + 4;
        let dynstr = dynsym + 48;
        let data = (dynstr + dynstr_size).next_multiple_of(4096);
        let text = (data + l.data_size).next_multiple_of(page);
        let dynamic = (text + l.text_size).next_multiple_of(page);
        let (data_size, text_size) = (l.data_size, l.text_size);
        Places { page, hash, gnu_hash, dynsym, dynstr, dynstr_size, data, data_size, text, text_size, dynamic }
    }

    /// The sections that are loaded.
    fn sections(&self) -> Sections {
        let (alloc, exec) = (elf::SHF_ALLOC, elf::SHF_ALLOC | elf::SHF_EXECINSTR);
        let mut s = Sections(Vec::new());
        s.add(".note.gnu.build-id", elf::SHT_NOTE, alloc, [NOTE, NOTE_SIZE], [0, 0], [4, 0]);
        s.add(".hash", elf::SHT_HASH, alloc, [self.hash, 20], [4, 0], [8, 4]);
        s.add(".gnu.hash", elf::SHT_GNU_HASH, alloc, [self.gnu_hash, 32], [4, 0], [8, 0]);
        s.add(".dynsym", elf::SHT_DYNSYM, alloc, [self.dynsym, 48], [5, 1], [8, 24]);
        s.add(".dynstr", elf::SHT_STRTAB, alloc, [self.dynstr, self.dynstr_size], [0, 0], [1, 0]);
        s.add(".rodata", elf::SHT_PROGBITS, alloc, [self.data, self.data_size], [0, 0], [4096, 0]);
        s.add(".text", elf::SHT_PROGBITS, exec, [self.text, self.text_size], [0, 0], [4096, 0]);
        s.add(".dynamic", elf::SHT_DYNAMIC, alloc | elf::SHF_WRITE, [self.dynamic, DYNAMIC_SIZE], [5, 0], [8, 16]);
        s
    }

    /// Writes the program headers.
    fn segments(&self, f: &mut File) {
        let (r, rx, rw) = (elf::PF_R, elf::PF_R | elf::PF_X, elf::PF_R | elf::PF_W);
        let (page, dynamic) = (self.page, self.dynamic);
        // Kind, flags, place, bytes in the file and in memory, alignment. The relocated segment fills its page, so that all of it can
        // be protected.
        let segments: [(u32, u32, u64, [u64; 2], u64); PROGRAM_HEADERS as usize] = [
            (elf::PT_LOAD, r, 0, [self.data + self.data_size; 2], page),
            (elf::PT_LOAD, rx, self.text, [self.text_size; 2], page),
            (elf::PT_LOAD, rw, dynamic, [DYNAMIC_SIZE, page], page),
            (elf::PT_DYNAMIC, rw, dynamic, [DYNAMIC_SIZE; 2], 8),
            (elf::PT_GNU_RELRO, r, dynamic, [DYNAMIC_SIZE, page], 1),
            (elf::PT_GNU_STACK, rw, 0, [0; 2], 16),
        ];
        for (kind, flags, at, [file, memory], align) in segments {
            f.words(&[kind, flags]);
            for v in [at, at, at, file, memory, align] {
                f.u64(v);
            }
        }
    }

    /// Writes the note, whose build id is still zeros, the hash tables and the exported symbol; gives the id's place.
    fn tables(&self, f: &mut File, export: u32, [descriptor, size]: [u64; 2]) -> usize {
        f.words(&[4, 16, elf::NT_GNU_BUILD_ID]);
        f.0.extend_from_slice(b"GNU\0");
        let id_at = f.0.len();
        f.0.resize(id_at + 16, 0);
        f.0.resize(self.hash as usize, 0);
        f.words(&[1, 2, 1, 0, 0]);
        f.0.resize(self.gnu_hash as usize, 0);
        let h = elf::gnu_hash(DESCRIPTOR.as_bytes());
        f.words(&[1, 1, 1, 6]);
        f.u64(1 << (h % 64) | 1 << ((h >> 6) % 64));
        f.words(&[1, h | 1]);
        f.symbol(0, 0, 0, 0, 0);
        f.symbol(export, elf::STB_GLOBAL << 4 | elf::STT_OBJECT, RODATA, descriptor, size);
        id_at
    }

    /// Writes `.dynamic`.
    fn dynamic(&self, f: &mut File, soname: u32) {
        let tags = [
            (elf::DT_SONAME, u64::from(soname)),
            (elf::DT_HASH, self.hash),
            (elf::DT_GNU_HASH, self.gnu_hash),
            (elf::DT_STRTAB, self.dynstr),
            (elf::DT_SYMTAB, self.dynsym),
            (elf::DT_STRSZ, self.dynstr_size),
            (elf::DT_SYMENT, 24),
            (elf::DT_NULL, 0),
        ];
        debug_assert_eq!(16 * tags.len() as u64, DYNAMIC_SIZE);
        for (tag, value) in tags {
            f.u64(tag as u64);
            f.u64(value);
        }
    }
}

/// A shared object that exports `dorefac_model` only.
pub fn shared_object(image: &Image, soname: &str) -> Result<Vec<u8>, CodegenError> {
    image.check()?;
    let id = image.find_data(DESCRIPTOR).ok_or_else(|| CodegenError::Spec("no descriptor".to_owned()))?;
    let l = layout::place(image);
    let mut dynstr = Strings(vec![0]);
    let (export, soname) = (dynstr.add(DESCRIPTOR), dynstr.add(soname));
    let at = Places::new(image.arch, &l, dynstr.0.len() as u64);

    // Room for what follows the sections, too: a large file is not moved as it grows.
    let names: usize = image.functions.iter().map(|f| f.name.len() + 32).sum();
    let names = names + image.data.iter().map(|d| d.name.len() + 32).sum::<usize>();
    let mut f = File(Vec::with_capacity(at.dynamic as usize + names + (64 << 10)));
    f.header(image.arch);
    at.segments(&mut f);
    let descriptor = at.data + l.data[id.0 as usize];
    let id_at = at.tables(&mut f, export, [descriptor, image.data[id.0 as usize].bytes.len() as u64]);
    f.0.extend_from_slice(&dynstr.0);
    f.0.resize(at.dynamic as usize, 0);
    let (before, code_bytes) = f.0.split_at_mut(at.text as usize);
    let (code_bytes, data_bytes) = (&mut code_bytes[..l.text_size as usize], &mut before[at.data as usize..]);
    let data_bytes = &mut data_bytes[..l.data_size as usize];
    layout::link_into(image, &l, (at.text, code_bytes), (at.data, data_bytes))?;
    let id_bytes = build_id([code_bytes, data_bytes]);
    f.0[id_at..id_at + 16].copy_from_slice(&id_bytes);
    at.dynamic(&mut f, soname);

    let mut sections = at.sections();
    let (symtab, strtab, locals) = symbols(&mut f, image, &l, at.text, at.data, id);
    let symtab_size = f.0.len() as u64 - symtab;
    sections.add(".symtab", elf::SHT_SYMTAB, 0, [symtab, symtab_size], [u32::from(STRTAB), locals], [8, 24]);
    let strtab_at = f.0.len() as u64;
    f.0.extend_from_slice(&strtab.0);
    sections.add(".strtab", elf::SHT_STRTAB, 0, [strtab_at, strtab.0.len() as u64], [0, 0], [1, 0]);
    sections.write(&mut f);
    Ok(f.0)
}

/// `.symtab`: every function and data object local, the descriptor global. Its offset, the names, the count of locals.
fn symbols(f: &mut File, image: &Image, l: &Layout, text: u64, data: u64, export: DataId) -> (u64, Strings, u32) {
    let mut names = Strings(vec![0]);
    let start = f.align(8);
    f.symbol(0, 0, 0, 0, 0);
    for (function, at) in image.functions.iter().zip(&l.functions) {
        let size = function.code.as_ref().map_or(0, |c| c.bytes.len() as u64);
        f.symbol(names.add(&function.name), elf::STT_FUNC, TEXT, text + at, size);
    }
    let mut global = (0, 0, 0);
    for (index, (object, at)) in image.data.iter().zip(&l.data).enumerate() {
        let entry = (names.add(&object.name), data + at, object.bytes.len() as u64);
        if index == export.0 as usize {
            global = entry;
        } else {
            f.symbol(entry.0, elf::STT_OBJECT, RODATA, entry.1, entry.2);
        }
    }
    let locals = ((f.0.len() as u64 - start) / 24) as u32;
    f.symbol(global.0, elf::STB_GLOBAL << 4 | elf::STT_OBJECT, RODATA, global.1, global.2);
    (start, names, locals)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::entry::tests::tiny;
    use object::{Object, ObjectSymbol};

    #[test]
    fn needs_nothing_and_exports_one_symbol() {
        for arch in [Arch::X86_64, Arch::Aarch64] {
            let bytes = shared_object(&tiny(arch), "libtiny.so").unwrap();
            let file = object::File::parse(&*bytes).unwrap();
            let names: Vec<_> =
                file.dynamic_symbols().map(|s| (s.name().unwrap().to_owned(), s.is_undefined())).collect();
            assert_eq!(names, [("dorefac_model".to_owned(), false)]);
            assert!(file.imports().unwrap().is_empty());
            assert!(file.symbols().any(|s| s.name() == Ok("dorefac_run")));
            assert!(file.build_id().unwrap().is_some());
            let o = super::super::object::relocatable(&tiny(arch), "tiny").unwrap();
            let file = object::File::parse(&*o).unwrap();
            let global: Vec<_> = file.symbols().filter(|s| s.is_global()).map(|s| s.name().unwrap()).collect();
            assert_eq!(global, ["tiny_model"]);
        }
    }
}
