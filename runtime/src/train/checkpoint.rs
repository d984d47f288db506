//! Checkpoints: the state's tensors as safetensors, the graph's text and the progress in its metadata.
//!
//! The header is written here, not by the safetensors crate, whose metadata come in the order of a hash map: the same
//! training writes the same bytes. Reading is the crate's, which checks offsets and sizes.

use super::error::TrainError;
use super::progress::Progress;
use super::step::Step;
use crate::io::{self, IoError};
use crate::tensor::{Data, Tensor};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// Metadata key of the graph's native text; every tool that takes a model reads it.
pub const GRAPH_KEY: &str = "dorefa.graph";
/// Metadata key of the training's progress.
pub const TRAIN_KEY: &str = "dorefa.train";

/// A checkpoint in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// The graph that was trained, in the native text form.
    pub graph: Option<String>,
    /// The state's tensors and the graph's other constants, by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// How far the training was; `None` in a file of mere weights.
    pub progress: Option<Progress>,
    /// The file it was read from, for messages.
    file: String,
}

impl Checkpoint {
    /// The state of `step` and the `constants` that the graph needs besides.
    pub fn of(step: &dyn Step, constants: &[(String, Tensor)], graph: Option<String>, progress: Progress) -> Self {
        let state = |(i, s): (usize, &super::StateTensor)| {
            Tensor::f32(s.dims.clone(), step.state(i).to_vec()).ok().map(|t| (s.name.clone(), t))
        };
        let tensors = constants.iter().cloned().chain(step.states().iter().enumerate().filter_map(state)).collect();
        Checkpoint { graph, tensors, progress: Some(progress), file: String::new() }
    }

    /// Mere weights; `file` is what messages name.
    pub fn weights(tensors: BTreeMap<String, Tensor>, file: String) -> Self {
        Checkpoint { tensors, file, ..Checkpoint::default() }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is truncated or damaged.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let file = path.display().to_string();
        let fail = |problem: String| TrainError::Checkpoint { file: file.clone(), problems: vec![problem] };
        let bytes = std::fs::read(path).map_err(|e| fail(format!("{e}; check the path and its permissions")))?;
        Self::parse(&file, &bytes)
    }

    /// As [`Checkpoint::read`], of a file's bytes; `file` is what messages name.
    ///
    /// # Errors
    /// When they are truncated or damaged.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, TrainError> {
        let fail = |problem: String| TrainError::Checkpoint { file: file.to_owned(), problems: vec![problem] };
        let damaged = |e| fail(format!("is no safetensors file, or truncated ({e}); use another checkpoint"));
        let all = SafeTensors::deserialize(bytes).map_err(damaged)?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
        let text = |key: &str| header.metadata().as_ref().and_then(|m| m.get(key).cloned());
        let decoded = all.iter().map(|(name, view)| {
            let tensor = decode(&view)
                .ok_or_else(|| fail(format!("tensor `{name}` is {:?}; convert it to F32", view.dtype())))?;
            Ok::<_, TrainError>((name.to_owned(), tensor))
        });
        Ok(Checkpoint {
            graph: text(GRAPH_KEY),
            tensors: decoded.collect::<Result<_, _>>()?,
            progress: text(TRAIN_KEY).map(|t| Progress::from_json(&t)).transpose().map_err(&fail)?,
            file: file.to_owned(),
        })
    }

    /// Writes a file, all or nothing: whatever fails, an older file of that name stays.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write(&self, path: &Path) -> Result<(), IoError> {
        io::replace(path, |to| self.write_to(to))
    }

    /// Writes the bytes of the file.
    ///
    /// # Errors
    /// The writer's.
    pub fn write_to(&self, to: &mut dyn Write) -> std::io::Result<()> {
        // Elements of eight bytes first: then each tensor is aligned without gaps, which the format forbids.
        let wide = |t: &Tensor| matches!(t.data(), Data::I64(_));
        let mut tensors: Vec<_> = self.tensors.iter().collect();
        tensors.sort_by_key(|(_, t)| (!wide(t), matches!(t.data(), Data::U8(_))));
        let mut header = serde_json::Map::new();
        let text = |key: &str, value: Option<String>| value.map(|v| (key.to_owned(), json!(v)));
        let progress = self.progress.as_ref().map(Progress::to_json);
        let metadata: serde_json::Map<_, _> =
            [text(GRAPH_KEY, self.graph.clone()), text(TRAIN_KEY, progress)].into_iter().flatten().collect();
        header.insert("__metadata__".to_owned(), metadata.into());
        let mut end = 0;
        for (name, tensor) in &tensors {
            let (dtype, size) = match tensor.data() {
                Data::F32(_) => ("F32", 4),
                Data::I32(_) => ("I32", 4),
                Data::I64(_) => ("I64", 8),
                Data::U8(_) => ("U8", 1),
            };
            let first = end;
            end += size * tensor.len();
            let entry = json!({ "dtype": dtype, "shape": tensor.shape(), "data_offsets": [first, end] });
            header.insert((*name).clone(), entry);
        }
        let mut header = serde_json::Value::from(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        to.write_all(&(header.len() as u64).to_le_bytes())?;
        to.write_all(&header)?;
        tensors.into_iter().try_for_each(|(_, tensor)| write_data(to, tensor.data()))
    }

    /// Sets the state of `step`; with `moments` all of it, else what inference needs, the optimiser's moments becoming 0.
    ///
    /// # Errors
    /// All tensors that are missing, of another shape or not finite; nothing is set then.
    pub fn restore(&self, step: &mut dyn Step, moments: bool) -> Result<(), TrainError> {
        let (mut problems, mut values) = (Vec::new(), Vec::new());
        for state in step.states() {
            if !moments && !state.role.is_model() {
                values.push(vec![0.0; state.len().unwrap_or(0)]);
                continue;
            }
            match self.find(&state.name, &state.dims) {
                Ok(found) => values.push(found.to_vec()),
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(self.problem(problems));
        }
        for (i, values) in values.iter().enumerate() {
            step.set_state(i, values).map_err(|e| self.problem(vec![e.to_string()]))?;
        }
        Ok(())
    }

    fn find(&self, name: &str, dims: &[usize]) -> Result<&[f32], String> {
        let tensor = self.tensors.get(name).ok_or_else(|| {
            format!(
                "holds no tensor `{name}`; it belongs to another network or optimizer, or holds weights alone (--init)"
            )
        })?;
        let values = tensor.as_f32().filter(|_| tensor.shape() == dims).ok_or_else(|| {
            let (kind, shape) = (tensor.data().type_name(), tensor.shape());
            format!("tensor `{name}` is {kind}{shape:?}, the network has f32{dims:?}; it belongs to another network")
        })?;
        match values.iter().position(|v| !v.is_finite()) {
            Some(i) => Err(format!("element {i} of tensor `{name}` is not finite; use an earlier checkpoint")),
            None => Ok(values),
        }
    }

    /// The progress, or an error that says that there is none.
    ///
    /// # Errors
    /// When the file holds weights alone.
    pub fn progress(&self) -> Result<&Progress, TrainError> {
        let none = || self.problem(vec!["holds weights but no training to resume; pass it as --init".to_owned()]);
        self.progress.as_ref().ok_or_else(none)
    }

    /// Problems with this file.
    pub fn problem(&self, problems: Vec<String>) -> TrainError {
        TrainError::Checkpoint { file: self.file.clone(), problems }
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
        Dtype::U8 => Data::U8(view.data().to_vec()),
        _ => return None,
    };
    Tensor::new(view.shape(), data).ok()
}

fn write_data(to: &mut dyn Write, data: &Data) -> std::io::Result<()> {
    match data {
        Data::F32(v) => v.iter().try_for_each(|v| to.write_all(&v.to_le_bytes())),
        Data::I32(v) => v.iter().try_for_each(|v| to.write_all(&v.to_le_bytes())),
        Data::I64(v) => v.iter().try_for_each(|v| to.write_all(&v.to_le_bytes())),
        Data::U8(v) => to.write_all(v),
    }
}
