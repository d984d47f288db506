//! The descriptor: one data object that holds the structures, names and metadata of `dorefac.h`.

use super::super::image::{Fixup, Symbol};
use super::super::target::Arch;
use super::super::{CodegenError, FunctionId, Image};
use super::{DESCRIPTOR, ModelSpec, StepSpec, TensorSpec};

/// Bytes of `dorefac_model`.
const SIZE: usize = 192;

/// The object under construction: fixed-size records in front, texts behind, patched in.
struct Blob {
    bytes: Vec<u8>,
    texts: Vec<(usize, String)>,
}

impl Blob {
    fn u32(&mut self, v: u32) {
        self.bytes.extend_from_slice(&v.to_le_bytes());
    }
    fn u64(&mut self, v: u64) {
        self.bytes.extend_from_slice(&v.to_le_bytes());
    }
    fn text(&mut self, text: &str) {
        self.texts.push((self.bytes.len(), text.to_owned()));
        self.u64(0);
    }
    fn tensors(&mut self, tensors: &[TensorSpec]) {
        for t in tensors {
            self.text(&t.name);
            self.u32(t.dtype);
            self.u32(t.dims.len() as u32);
            for i in 0..6 {
                self.u64(t.dims.get(i).copied().unwrap_or(0) as u64);
            }
        }
    }
    fn set(&mut self, at: usize, value: u64) {
        self.bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
}

/// Adds the descriptor; `functions` are run, cpu, enable_amx, init_state, prepare.
pub(super) fn define(image: &mut Image, spec: &ModelSpec, functions: &[FunctionId; 5]) -> Result<(), CodegenError> {
    let tables = if spec.one_table() { 1 } else { spec.levels.len() };
    let layers: Vec<&StepSpec> = spec.levels[..tables].iter().flat_map(|l| &l.steps).collect();
    let states = spec.train.as_ref().map_or(&[][..], |t| &t.states);
    let state_bytes = spec.train.as_ref().map_or(0, |t| t.state_bytes);
    let mut b = Blob { bytes: b"DOREFAC\0".to_vec(), texts: Vec::new() };
    b.u32(1);
    b.u32(SIZE as u32);
    b.u64(spec.graph_hash);
    let arch = match image.arch {
        Arch::X86_64 => 1,
        Arch::Aarch64 => 2,
    };
    let counts = [spec.inputs.len(), spec.outputs.len(), spec.levels.len(), layers.len(), states.len(), 64];
    let kind = if spec.train.is_some() { 2 } else { 1 };
    for v in [arch, kind, if spec.fma { 2 } else { 1 }, 0] {
        b.u32(v);
    }
    for v in counts {
        b.u32(v as u32);
    }
    let arrays = b.bytes.len();
    for v in
        [0, 0, 0, 0, 0, spec.arena_fixed, spec.arena_per_sample, spec.arena_per_worker, state_bytes, spec.max_batch()]
    {
        b.u64(v);
    }
    b.text(&spec.metadata_json);
    let pointers = b.bytes.len();
    b.bytes.resize(pointers + 40, 0);
    if b.bytes.len() != SIZE {
        return Err(CodegenError::Spec(format!("the descriptor has {} bytes", b.bytes.len())));
    }
    let here = b.bytes.len() as u64;
    b.set(arrays, here);
    b.tensors(&spec.inputs);
    let here = b.bytes.len() as u64;
    b.set(arrays + 8, here);
    b.tensors(&spec.outputs);
    let here = b.bytes.len() as u64;
    b.set(arrays + 16, here);
    for level in &spec.levels {
        b.text(&level.level.name);
        b.u64(level.level.features);
        b.u64(0);
    }
    let here = b.bytes.len() as u64;
    b.set(arrays + 24, here);
    for step in layers {
        b.text(&step.name);
        b.text(&step.kernel);
        for v in [step.macs, step.bytes, step.arena_offset] {
            b.u64(v);
        }
        b.u32(step.dtype);
        b.u32(step.layout);
    }
    let here = b.bytes.len() as u64;
    b.set(arrays + 32, if states.is_empty() { 0 } else { here });
    for state in states {
        b.text(&state.name);
        b.u64(state.offset);
        b.u64(state.initial.len() as u64);
        b.u32(state.role);
        b.u32(state.dims.len() as u32);
        for i in 0..6 {
            b.u64(state.dims.get(i).copied().unwrap_or(0) as u64);
        }
    }
    for (at, text) in std::mem::take(&mut b.texts) {
        let here = b.bytes.len() as u64;
        b.set(at, here);
        b.bytes.extend_from_slice(text.as_bytes());
        b.bytes.push(0);
    }
    let data = image.add_data(DESCRIPTOR, b.bytes, 64);
    for (i, &function) in functions.iter().enumerate() {
        let at = (pointers + 8 * i) as u64;
        image.add_fixup(data, Fixup { at, target: Symbol::Function(function), addend: 0 });
    }
    Ok(())
}
