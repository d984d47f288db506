//! Shared objects whose tables or descriptor are damaged: refused with a reason before the dynamic linker sees them.

use dorefa_runtime::model::check_file;
use dorefac::codegen::target::Arch;
use dorefac_tests::native::compile;
use dorefac_tests::{dorefac, repository};
use std::path::Path;

/// A compiled model's bytes; `None` where this machine has no code of its own.
fn model(folder: &Path) -> Option<Vec<u8>> {
    let path = folder.join("net.so");
    compile(&repository().join("models/mnist.dorefa"), &path, Arch::host()?, &[]);
    Some(std::fs::read(path).expect("compiled"))
}

fn place(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).position(|w| w == what).expect("is there")
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// The message about `bytes` with `value` at `at`.
fn refused(bytes: &[u8], at: usize, value: &[u8]) -> String {
    let mut wrong = bytes.to_vec();
    wrong[at..at + value.len()].copy_from_slice(value);
    check_file(&wrong).expect_err("is refused")
}

#[test]
fn descriptors() {
    let folder = tempfile::tempdir().expect("folder");
    let Some(bytes) = model(folder.path()) else { return };
    check_file(&bytes).expect("a model");
    let d = place(&bytes, b"DOREFAC\0");
    let many = u32::MAX.to_le_bytes();
    for (at, value, says) in [
        (d + 8, &9u32.to_le_bytes()[..], "interface version"),
        (d + 12, &8u32.to_le_bytes(), "bytes"),
        (d + 24, &77u32.to_le_bytes(), "architecture"),
        (d + 28, &3u32.to_le_bytes(), "kind"),
        (d + 40, &many, "counts"),                              // inputs
        (d + 44, &0u32.to_le_bytes(), "counts"),                // outputs
        (d + 48, &900u32.to_le_bytes(), "descriptor"),          // levels
        (d + 52, &(1u32 << 20).to_le_bytes(), "beyond"),        // layers
        (d + 56, &1u32.to_le_bytes(), "absent"),                // states
        (d + 60, &48u32.to_le_bytes(), "alignment"),            // of the arena
        (d + 64, &i64::MIN.to_le_bytes(), "outside the image"), // inputs
        (d + 64, &8i64.to_le_bytes(), "overlap"),
        (d + 72, &word(&bytes, d + 64).to_le_bytes(), "overlap"), // outputs where the inputs are
        (d + 88, &(1i64 << 40).to_le_bytes(), "outside the image"), // layers
        (d + 104, &u64::MAX.to_le_bytes(), "memory"),             // arena, fixed
        (d + 136, &0u64.to_le_bytes(), "batch"),                  // greatest
        (d + 144, &(-1i64 << 30).to_le_bytes(), "outside the image"), // metadata
        (d + 152, &0i64.to_le_bytes(), "lacks run"),
        (d + 152, &64i64.to_le_bytes(), "outside the code"), // run, in the descriptor itself
        (d + 160, &i64::MAX.to_le_bytes(), "outside the code"), // cpu
    ] {
        let message = refused(&bytes, at, value);
        assert!(message.contains(says), "byte {} of the descriptor: {message}", at - d);
    }
    let input = d + word(&bytes, d + 64) as usize;
    assert!(refused(&bytes, input, &i64::MAX.to_le_bytes()).contains("outside the image")); // its name
    assert!(refused(&bytes, input + 8, &99u32.to_le_bytes()).contains("element type"));
    assert!(refused(&bytes, input + 12, &7u32.to_le_bytes()).contains("impossible shape")); // rank
    assert!(refused(&bytes, input + 24, &i64::MAX.to_le_bytes()).contains("impossible shape"));
}

#[test]
fn tables_of_the_linker() {
    let folder = tempfile::tempdir().expect("folder");
    let Some(bytes) = model(folder.path()) else { return };
    let header = |k: usize| 64 + 56 * k;
    let dynamic = word(&bytes, header(3) + 8) as usize;
    let tag = |wanted: u64| {
        let mut entries = (dynamic..bytes.len()).step_by(16);
        entries.find(|&at| word(&bytes, at) == wanted).expect("an entry")
    };
    let (hash, gnu) = (word(&bytes, tag(4) + 8) as usize, word(&bytes, tag(0x6fff_fef5) + 8) as usize);
    let symbols = word(&bytes, tag(6) + 8) as usize;
    let far = (1u64 << 40).to_le_bytes();
    for (at, value, says) in [
        (header(0) + 32, &far[..], "truncated"),
        (header(1) + 16, &far, "segments"),
        (header(1) + 4, &7u32.to_le_bytes(), "segments"), // writable code
        (header(1) + 8, &0u64.to_le_bytes(), "segments"), // over the data
        (header(5), &3u32.to_le_bytes(), "kind"),         // an interpreter
        (tag(14), &12u64.to_le_bytes(), "initialisers"),  // an initialiser for the name
        (tag(14), &1u64.to_le_bytes(), "other libraries"),
        (tag(4) + 8, &far, "hash"),
        (tag(5) + 8, &far, "string"),
        (tag(6) + 8, &far, "symbol"),
        (tag(10) + 8, &far, "string"),
        (hash, &0u32.to_le_bytes(), "hash"),                  // no buckets
        (hash + 4, &1u32.to_le_bytes(), "hash"),              // fewer symbols than the bucket says
        (hash + 16, &1u32.to_le_bytes(), "hash"),             // a chain that leads to itself
        (gnu + 8, &3u32.to_le_bytes(), "hash"),               // no power of two
        (gnu + 28, &0u32.to_le_bytes(), "hash"),              // a chain without an end
        (symbols + 24, &far[..4], "descriptor"),              // the name is another
        (symbols + 24 + 4, &[0x1a], "no dorefac descriptor"), // would be called by the linker
        (symbols + 24 + 8, &far, "no dorefac descriptor"),
    ] {
        let message = refused(&bytes, at, value);
        assert!(message.contains(says), "byte {at}: {message}, not {says}");
    }
}

#[test]
fn the_command_line_refuses_them_by_name() {
    let folder = tempfile::tempdir().expect("folder");
    let Some(mut bytes) = model(folder.path()) else { return };
    let d = place(&bytes, b"DOREFAC\0");
    bytes[d + 64..d + 72].copy_from_slice(&i64::MIN.to_le_bytes());
    let path = folder.path().join("bad.so");
    std::fs::write(&path, &bytes).expect("writes");
    let file = path.to_str().expect("UTF-8");
    for command in [&["inspect", file][..], &["bench", file], &["run", file, "--input", "x.npy", "--output", "y.npy"]] {
        let ran = dorefac(command);
        let message = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(2), "{message}");
        assert!(message.starts_with("error: ") && message.contains("bad.so"), "{message}");
    }
}
