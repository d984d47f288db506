//! What is fuzzed: functions that take the bytes of a file and must return, whatever the bytes, without a panic, a hang or
//! much memory, and whose results must agree where two ways lead to one.
//!
//! `tests/fuzz` drives them by cargo-fuzz, `tests/tests/fuzz.rs` over the seeds and a bounded number of their mutations.

mod build;
mod mutate;
mod pipeline;

pub use build::{graph as network, operators};
pub use mutate::Mutator;

use dorefa_runtime::train::Checkpoint;
use dorefac::graph::Graph;
use dorefac::{import, text};
use std::path::Path;

/// A fuzz target.
pub struct Target {
    /// Its name: that of the folder of its seeds and of its cargo-fuzz target.
    pub name: &'static str,
    /// What is called with the bytes.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "onnx", run: onnx },
    Target { name: "text", run: native },
    Target { name: "weights", run: weights },
    Target { name: "passes", run: passes },
    Target { name: "image", run: image },
];

/// The ONNX importer, and the passes on what it accepts.
pub fn onnx(bytes: &[u8]) {
    match import::onnx::from_bytes("fuzz.onnx", bytes, None) {
        Ok(graph) => accepted(&graph),
        Err(error) => assert!(!error.problems.is_empty(), "refused without a reason"),
    }
}

/// The text parser, and the passes on what it accepts.
pub fn native(bytes: &[u8]) {
    let Ok(source) = std::str::from_utf8(bytes) else { return };
    match text::parse(source, "fuzz.dorefa", &|_| None) {
        Ok(graph) => accepted(&graph),
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            problems.iter().for_each(|p| drop(p.to_string()));
        }
    }
}

/// Checkpoints and weights files.
pub fn weights(bytes: &[u8]) {
    if let Ok(checkpoint) = Checkpoint::parse("fuzz.safetensors", bytes) {
        let mut written = Vec::new();
        checkpoint.write_to(&mut written).expect("writes to memory");
        let again = Checkpoint::parse("fuzz.safetensors", &written).expect("what was written is read");
        let mut twice = Vec::new();
        again.write_to(&mut twice).expect("writes to memory");
        assert!(written == twice, "a checkpoint changes when it is read and written");
    }
    if let Ok(graph) = text::from_safetensors(Path::new("fuzz.safetensors"), bytes.to_vec()) {
        accepted(&graph);
    }
}

/// The passes on a network that the bytes describe: `build` makes a network of any bytes.
pub fn passes(bytes: &[u8]) {
    if let Some(graph) = build::graph(bytes) {
        accepted(&graph);
    }
}

/// The look at a shared object before the dynamic linker sees it.
pub fn image(bytes: &[u8]) {
    let _ = dorefa_runtime::model::check_file(bytes);
}

/// What must hold of every graph that an importer accepts.
fn accepted(graph: &Graph) {
    pipeline::round_trip(graph);
    pipeline::differential(graph);
}
