//! Weights as safetensors: F32 for floats, I32 for codes, I64 for accumulators, each under its constant's name.

use super::TextError;
use crate::graph::Graph;
use dorefa_runtime::tensor::{Data, Tensor};
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorView};
use std::collections::HashMap;
use std::path::Path;

/// Metadata key under which a safetensors file carries its graph's text.
pub const GRAPH_KEY: &str = "dorefa.graph";

/// A safetensors file in memory, its header read once: a network may have thousands of tensors.
pub(super) struct File {
    bytes: Vec<u8>,
    /// Where the data of the tensors begin.
    data: usize,
    header: Metadata,
}

impl File {
    /// Reads a file and checks its header.
    pub fn read(path: &Path) -> Result<File, TextError> {
        File::of_bytes(path, std::fs::read(path).map_err(|e| TextError::io(path, e))?)
    }

    /// Checks the header of a file's bytes; `path` is what messages name.
    pub fn of_bytes(path: &Path, bytes: Vec<u8>) -> Result<File, TextError> {
        let (length, header) = SafeTensors::read_metadata(&bytes)
            .map_err(|e| TextError::weights(path, format!("is no safetensors file: {e}")))?;
        // The length of the header stands before it.
        Ok(File { bytes, data: length.saturating_add(8), header })
    }

    /// The tensor of a name; `None` where there is none, or none of a known element type.
    pub fn tensor(&self, name: &str) -> Option<Tensor> {
        let info = self.header.info(name)?;
        let (start, end) = info.data_offsets;
        let data = self.bytes.get(self.data..)?.get(start..end)?;
        decode(&TensorView::new(info.dtype, info.shape.clone(), data).ok()?)
    }

    /// The graph's text, if the file carries one.
    pub fn graph(&self) -> Option<String> {
        self.header.metadata().as_ref()?.get(GRAPH_KEY).cloned()
    }
}

fn decode(view: &TensorView<'_>) -> Option<Tensor> {
    fn words<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
        bytes.chunks_exact(N).filter_map(|c| c.try_into().ok()).map(read).collect()
    }
    let data = match view.dtype() {
        Dtype::F32 => Data::F32(words(view.data(), f32::from_le_bytes)),
        Dtype::I32 => Data::I32(words(view.data(), i32::from_le_bytes)),
        Dtype::I64 => Data::I64(words(view.data(), i64::from_le_bytes)),
        _ => return None,
    };
    Tensor::new(view.shape(), data).ok()
}

/// The constants of a graph as a safetensors file; `text` goes into its metadata.
pub(super) fn encode(graph: &Graph, text: Option<String>) -> Result<Vec<u8>, String> {
    let mut tensors = Vec::new();
    for node in graph.order().into_iter().filter_map(|id| graph.node(id)) {
        let Some(tensor) = &node.tensor else { continue };
        let (dtype, bytes): (_, Vec<u8>) = match tensor.data() {
            Data::F32(v) => (Dtype::F32, v.iter().flat_map(|v| v.to_le_bytes()).collect()),
            Data::I32(v) => (Dtype::I32, v.iter().flat_map(|v| v.to_le_bytes()).collect()),
            Data::I64(v) => (Dtype::I64, v.iter().flat_map(|v| v.to_le_bytes()).collect()),
            Data::U8(v) => (Dtype::U8, v.clone()),
        };
        tensors.push((node.name.clone(), dtype, tensor.shape().to_vec(), bytes));
    }
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        TensorView::new(*dtype, shape.clone(), bytes).map(|view| (name.clone(), view)).map_err(|e| e.to_string())
    });
    let views = views.collect::<Result<Vec<_>, _>>()?;
    let metadata = text.map(|text| HashMap::from([(GRAPH_KEY.to_owned(), text)]));
    safetensors::serialize(views, metadata).map_err(|e| e.to_string())
}
