//! One face for everything that runs a model: the interpreter and compiled code.

use super::Failure;
use super::model::{self, Source};
use super::pixels::Pixels;
use crate::compile::Wish;
use crate::graph::{Graph, Value};
use crate::interp;
use dorefa_runtime::{Data, RunError, Session, Tensor};
use std::collections::BTreeMap;
use std::path::Path;

/// Samples that the interpreter takes at once.
const CHUNK: usize = 64;

/// What executes a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Machine code, compiled on the spot; a .so runs as it is
    Jit,
    /// The reference interpreter: slow, the definition of the results
    Interp,
}

/// A model ready to run.
pub enum Engine {
    /// The reference interpreter on a graph, in the numeric profile `fma`.
    Interp(Box<Graph>, bool),
    /// Compiled code.
    Compiled(Box<Session>),
}

/// An input of the model; `None` is the batch.
pub struct Input {
    /// Its name.
    pub name: String,
    /// Its extents.
    pub dims: Vec<Option<usize>>,
    /// Whether it takes 8-bit pixels.
    pub bytes: bool,
}

impl Engine {
    /// Loads MODEL and makes it ready.
    ///
    /// # Errors
    /// When the file is wrong, or no level of a compiled model fits the CPU.
    pub fn open(path: &Path, kind: Kind, threads: u32, pixels: &[Pixels]) -> Result<Engine, Failure> {
        Engine::open_with(path, kind, threads, pixels, &[])
    }

    /// As [`Engine::open`], some layers by the kernels that are asked for.
    ///
    /// # Errors
    /// As [`Engine::open`]; when such a kernel cannot be had, or the model is compiled already.
    pub fn open_with(
        path: &Path,
        kind: Kind,
        threads: u32,
        pixels: &[Pixels],
        kernels: &[Wish],
    ) -> Result<Engine, Failure> {
        let fma = model::native_fma();
        match (model::load_with(path, pixels)?, kind) {
            (Source::Compiled(_), Kind::Jit) if !kernels.is_empty() => Err(model::problem(
                path,
                &"is compiled, so its kernels are chosen; --kernel takes the .onnx or .dorefa",
            )),
            (Source::Compiled(model), Kind::Jit) => Self::session(&model, threads),
            (Source::Compiled(_), Kind::Interp) => {
                Err(model::problem(path, &"is compiled; the interpreter runs graphs, pass the .onnx or .dorefa"))
            }
            (Source::Graph(graph), Kind::Jit) => {
                let (lowered, _) = model::lowered(path, &graph, fma)?;
                Self::session(&model::jit(path, &lowered, kernels)?.0, threads)
            }
            (Source::Graph(graph), Kind::Interp) => {
                let (lowered, _) = model::lowered(path, &graph, fma)?;
                Ok(Engine::Interp(Box::new(lowered), fma))
            }
        }
    }

    /// A session over a compiled model.
    ///
    /// # Errors
    /// When no level fits the CPU.
    pub fn session(model: &dorefa_runtime::Model, threads: u32) -> Result<Engine, Failure> {
        Session::new(model, threads).map(|s| Engine::Compiled(Box::new(s))).map_err(run_failure)
    }

    /// The inputs in order.
    pub fn inputs(&self) -> Vec<Input> {
        match self {
            Engine::Compiled(s) => ports(s.model()),
            Engine::Interp(g, _) => graph_inputs(g),
        }
    }

    /// The text that travels with the model.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        match self {
            Engine::Compiled(s) => metadata(s.model()),
            Engine::Interp(g, _) => g.metadata.clone(),
        }
    }

    /// The outputs' names in order.
    pub fn outputs(&self) -> Vec<String> {
        match self {
            Engine::Compiled(s) => s.model().outputs().iter().map(|p| p.name.clone()).collect(),
            Engine::Interp(g, _) => g.outputs().iter().map(|(n, _)| n.clone()).collect(),
        }
    }

    /// Runs the model; axis 0 is the batch. A model whose batch is fixed at 1 runs image by image.
    ///
    /// # Errors
    /// When an input does not fit, or the run fails.
    pub fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Failure> {
        let ports = self.inputs();
        let samples = inputs.first().and_then(|t| t.shape().first().copied()).unwrap_or(1);
        let single = ports.iter().all(|p| p.dims.first() == Some(&Some(1)));
        let chunk = match self {
            _ if single => 1,
            Engine::Interp(..) => CHUNK,
            Engine::Compiled(_) => usize::MAX,
        };
        let batched = single || ports.iter().all(|p| p.dims.first() == Some(&None));
        let agree = inputs.iter().all(|t| t.shape().first() == Some(&samples));
        if samples <= chunk || !batched || !agree {
            return self.run_once(inputs);
        }
        let mut parts: Vec<Vec<Tensor>> = Vec::new();
        let mut first = 0;
        while first < samples {
            let end = samples.min(first.saturating_add(chunk));
            let part: Option<Vec<_>> = inputs.iter().map(|t| rows(t, first, end)).collect();
            parts.push(self.run_once(&part.ok_or_else(|| Failure::input("the inputs' shapes do not fit"))?)?);
            first = end;
        }
        join(parts)
    }

    fn run_once(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Failure> {
        match self {
            Engine::Compiled(s) => s.run(inputs).map_err(run_failure),
            Engine::Interp(g, fma) => interp::run(g, inputs, *fma).map_err(Failure::input),
        }
    }
}

/// The inputs of a compiled model.
pub fn ports(model: &dorefa_runtime::Model) -> Vec<Input> {
    let port = |p: &dorefa_runtime::model::Port| Input {
        name: p.name.clone(),
        dims: p.dims.clone(),
        bytes: p.dtype.name() == "u8",
    };
    model.inputs().iter().map(port).collect()
}

/// The text that travels with a compiled model.
pub fn metadata(model: &dorefa_runtime::Model) -> BTreeMap<String, String> {
    let map = model.metadata()["metadata"].as_object();
    map.into_iter().flatten().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
}

/// The caller's mistake, or a failure of the run.
pub fn run_failure(error: RunError) -> Failure {
    match error {
        RunError::Memory { .. } | RunError::Pool(_) | RunError::Code { .. } => Failure::run(error),
        _ => Failure::input(error),
    }
}

/// The inputs of a graph.
fn graph_inputs(graph: &Graph) -> Vec<Input> {
    let ports = graph.inputs().iter().filter_map(|&id| {
        let ty = graph.value_type(Value { node: id, port: 0 })?;
        let dims = ty.shape.0.iter().map(|d| match d {
            crate::graph::types::Dim::Batch => None,
            crate::graph::types::Dim::Fixed(n) => Some(*n),
        });
        Some(Input { name: graph.node(id)?.name.clone(), dims: dims.collect(), bytes: ty.codes().is_some() })
    });
    ports.collect()
}

/// Samples `first` to `end` of a tensor.
pub(super) fn rows(tensor: &Tensor, first: usize, end: usize) -> Option<Tensor> {
    let (&samples, rest) = tensor.shape().split_first()?;
    let width = tensor.len().checked_div(samples)?;
    let range = first * width..end * width;
    let data = match tensor.data() {
        Data::F32(v) => Data::F32(v.get(range)?.to_vec()),
        Data::U8(v) => Data::U8(v.get(range)?.to_vec()),
        Data::I32(v) => Data::I32(v.get(range)?.to_vec()),
        Data::I64(v) => Data::I64(v.get(range)?.to_vec()),
    };
    Tensor::new([&[end - first], rest].concat(), data).ok()
}

/// Joins the outputs of consecutive parts of a batch.
fn join(parts: Vec<Vec<Tensor>>) -> Result<Vec<Tensor>, Failure> {
    let mut parts = parts.into_iter();
    let mut whole: Vec<_> = parts.next().unwrap_or_default().into_iter().map(Tensor::into_parts).collect();
    for part in parts {
        for ((shape, data), tensor) in whole.iter_mut().zip(part) {
            let (more, next) = tensor.into_parts();
            match (data, next) {
                (Data::F32(a), Data::F32(b)) => a.extend(b),
                (Data::U8(a), Data::U8(b)) => a.extend(b),
                (Data::I32(a), Data::I32(b)) => a.extend(b),
                (Data::I64(a), Data::I64(b)) => a.extend(b),
                _ => return Err(Failure::run("the parts of an output have different types")),
            }
            if let (Some(n), Some(m)) = (shape.first_mut(), more.first()) {
                *n += m;
            }
        }
    }
    let join = |(shape, data): (Vec<usize>, Data)| Tensor::new(shape, data);
    whole
        .into_iter()
        .map(join)
        .collect::<Result<_, _>>()
        .map_err(|_| Failure::input("an output has no batch axis, so the batch cannot be split; pass fewer samples"))
}

/// Made-up inputs: random pixels k/255 (k for an input of bytes) for a seed above 0; for seed 0 extreme ones: zeros, the
/// greatest, alternating, negative, large, negative zeros.
pub fn samples(ports: &[Input], batch: usize, seed: u64) -> Result<Vec<Tensor>, Failure> {
    let mut state = seed;
    let mut inputs = Vec::new();
    for port in ports {
        let shape: Vec<usize> = port.dims.iter().map(|d| d.unwrap_or(batch)).collect();
        let len = shape.iter().try_fold(1usize, |a, &d| a.checked_mul(d));
        let len = len.ok_or_else(|| Failure::input(format!("input {} is too large", port.name)))?;
        let width = (len / shape.first().copied().unwrap_or(1).max(1)).max(1);
        let mut value = |i: usize| {
            if seed == 0 {
                return match i / width % 6 {
                    0 => 0.0,
                    1 => 1.0,
                    2 => (i % 2) as f32,
                    3 => -1.0,
                    4 => 1e4 * ((i % 3) as f32 - 1.0),
                    _ => -0.0,
                };
            }
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as f32 / 255.0
        };
        let floats = (0..len).map(&mut value);
        let data = if port.bytes {
            Data::U8(floats.map(|v| (v * 255.0).round() as u8).collect())
        } else {
            Data::F32(floats.collect())
        };
        inputs.push(Tensor::new(shape, data).map_err(Failure::input)?);
    }
    Ok(inputs)
}
