//! The fuzz targets over their seeds, over what fuzzing once found, and over a bounded number of mutations of both.
//!
//! `FUZZ_RUNS` sets how many mutations each target gets (default 400); it stops after ten seconds in any case.

use dorefac_tests::fuzz::{Mutator, TARGETS};
use dorefac_tests::repository;
use std::time::{Duration, Instant};

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = repository().join("tests/fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    files.sort();
    let read = |p: &std::path::PathBuf| (p.display().to_string(), std::fs::read(p).expect("a seed"));
    files.iter().map(read).collect()
}

/// A target's name goes before what it prints when it panics.
fn run(target: &str) {
    let found = TARGETS.iter().find(|t| t.name == target).expect("a target");
    let seeds = seeds(target);
    assert!(!seeds.is_empty(), "{target} has no seeds");
    for (name, bytes) in &seeds {
        eprintln!("{name}");
        (found.run)(bytes);
    }
    let runs = std::env::var("FUZZ_RUNS").ok().and_then(|v| v.parse().ok()).unwrap_or(400);
    let (mut mutator, start) = (Mutator::new(seeds.into_iter().map(|s| s.1).collect()), Instant::now());
    let mut last = Vec::new();
    let done = (0..runs).take_while(|_| start.elapsed() < Duration::from_secs(10)).filter(|_| {
        last = mutator.mutation();
        let result = std::panic::catch_unwind(|| (found.run)(&last));
        if let Err(panic) = result {
            let file = std::env::temp_dir().join(format!("dorefac-fuzz-{target}"));
            std::fs::write(&file, &last).expect("writes");
            eprintln!("{target}: the bytes that did it are in {}", file.display());
            std::panic::resume_unwind(panic);
        }
        true
    });
    eprintln!("{target}: {} mutations", done.count());
}

#[test]
fn onnx() {
    run("onnx");
}

#[test]
fn text() {
    run("text");
}

#[test]
fn weights() {
    run("weights");
}

#[test]
fn passes() {
    run("passes");
}

#[test]
fn image() {
    run("image");
}
