//! What the importer knows while it walks over the nodes: values by name, and typed access to a node's inputs and attributes.

use super::proto::{OnnxAttr, OnnxModel, OnnxNode};
use super::tensor::RawTensor;
use super::{node_name, tensor};
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::ops;
use crate::graph::types::{Shape, ValueType};
use crate::graph::{Graph, GraphError, Value};
use dorefa_runtime::tensor::{Data, Tensor};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Why a node was not imported.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fail {
    /// An input had a problem of its own, which has been reported.
    Poisoned,
    /// What is wrong, for the report.
    Message(String),
}

impl From<String> for Fail {
    fn from(message: String) -> Fail {
        Fail::Message(message)
    }
}

impl From<&str> for Fail {
    fn from(message: &str) -> Fail {
        Fail::Message(message.to_owned())
    }
}

impl From<GraphError> for Fail {
    fn from(e: GraphError) -> Fail {
        Fail::Message(e.message)
    }
}

/// A number in shape arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sym {
    /// The batch size.
    Batch,
    /// A known number.
    Known(i64),
}

/// What is known of a named value.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// A float value of the graph, constants included.
    Value(Value),
    /// Integers of rank 0 (`true`) or 1, the batch among them perhaps.
    Ints(Vec<Sym>, bool),
    /// A constant that is not in the graph (yet).
    Tensor(Arc<Tensor>),
    /// Had a problem, which has been reported.
    Poisoned,
    /// A second output, which dorefac does not compute.
    Unavailable,
}

/// The state of an import.
pub(super) struct Importer<'a> {
    /// The graph so far.
    pub graph: Graph,
    /// The batch at which the file was exported, if fixed.
    pub file_batch: Option<i64>,
    /// Version of ONNX's own operator set.
    pub opset: i64,
    /// Constants by name; their data goes as each is decoded, so that large weights are held once.
    initializers: BTreeMap<String, RawTensor>,
    /// The node that makes each name.
    makers: BTreeMap<&'a str, &'a OnnxNode>,
    dir: Option<&'a Path>,
    known: BTreeMap<String, Known>,
}

impl<'a> Importer<'a> {
    /// An import of `model`.
    pub fn new(model: &mut OnnxModel, nodes: &'a [OnnxNode], dir: Option<&'a Path>) -> Importer<'a> {
        let opset = model.opsets.get("").or_else(|| model.opsets.get("ai.onnx")).copied().unwrap_or(13);
        let graph = Graph::new(&model.name);
        let outputs = |node: &'a OnnxNode| node.outputs.iter().map(move |name| (name.as_str(), node));
        let makers = nodes.iter().rev().flat_map(outputs).collect();
        let initializers = std::mem::take(&mut model.initializers);
        Importer { graph, file_batch: None, opset, initializers, makers, dir, known: BTreeMap::new() }
    }

    /// Names a value.
    pub fn define(&mut self, name: &str, known: Known) {
        self.known.insert(name.to_owned(), known);
    }

    /// What is known of `name`; initialisers are decoded here, when they are first read.
    pub fn known(&mut self, name: &str) -> Result<Known, Fail> {
        if !self.known.contains_key(name) {
            let Some(raw) = self.initializers.get_mut(name) else {
                let message = self.missing(name);
                self.define(name, Known::Poisoned);
                return Err(message.into());
            };
            let (known, problem) = match tensor::decode(raw, self.dir) {
                Ok(tensor) => (Known::Tensor(Arc::new(tensor)), None),
                Err(message) => (Known::Poisoned, Some(message)),
            };
            *raw = RawTensor { data_type: raw.data_type, ..RawTensor::default() };
            self.known.insert(name.to_owned(), known);
            if let Some(message) = problem {
                return Err(message.into());
            }
        }
        match self.known.get(name) {
            None | Some(Known::Poisoned) => Err(Fail::Poisoned),
            Some(Known::Unavailable) => Err(format!("reads `{name}`, a second output that is not supported").into()),
            Some(known) => Ok(known.clone()),
        }
    }

    /// Whether an input of the graph or a node before has given the name.
    pub fn is_defined(&self, name: &str) -> bool {
        self.known.get(name).is_some_and(|k| !matches!(k, Known::Poisoned)) && !self.initializers.contains_key(name)
    }

    /// What to say of the inputs of a node that nothing has produced so far; they are told once.
    pub fn missing_inputs(&mut self, node: &OnnxNode) -> Vec<String> {
        let unknown = |name: &&String| {
            !name.is_empty() && !self.known.contains_key(*name) && !self.initializers.contains_key(*name)
        };
        let names: Vec<&String> = node.inputs.iter().filter(unknown).collect();
        let messages = names.iter().map(|name| self.missing(name)).collect();
        self.known.extend(names.into_iter().map(|name| (name.clone(), Known::Poisoned)));
        messages
    }

    /// What to say of a value that nothing has produced so far.
    fn missing(&self, name: &str) -> String {
        let why = if self.makers.contains_key(name) {
            "which only a later node produces: the nodes form a cycle or are not in order; export the model again"
        } else {
            "which is no input, no initialiser and no node's output: the file is incomplete; export the model again"
        };
        format!("reads `{name}`, {why}")
    }

    /// The value `name` in the graph; a constant is added to it when first read.
    pub fn value(&mut self, name: &str) -> Result<Value, Fail> {
        let tensor = match self.known(name)? {
            Known::Value(value) => return Ok(value),
            Known::Tensor(tensor) => {
                // Large weights are moved, not copied: the graph holds them from now on.
                self.known.remove(name);
                Arc::unwrap_or_clone(tensor)
            }
            Known::Ints(ints, scalar) => ints_tensor(&ints, scalar)?,
            Known::Poisoned | Known::Unavailable => return Err(Fail::Poisoned),
        };
        let value = self.constant(name, tensor);
        self.define(name, value.as_ref().map_or(Known::Poisoned, |v| Known::Value(*v)));
        value
    }

    /// Adds a constant; integers become floats if all are exact.
    pub fn constant(&mut self, name: &str, tensor: Tensor) -> Result<Value, Fail> {
        let tensor = to_floats(tensor).map_err(|e| format!("constant `{name}`: {e}"))?;
        if tensor.is_empty() {
            return Err(format!("constant `{name}` is empty").into());
        }
        if tensor.as_f32().is_some_and(|v| v.iter().any(|x| x.is_nan())) {
            return Err(format!("constant `{name}` holds NaN: the training diverged, export another checkpoint").into());
        }
        Ok(self.graph.add_constant(name, tensor)?)
    }

    /// Adds a scalar constant.
    pub fn scalar(&mut self, name: &str, value: f32) -> Result<Value, Fail> {
        Ok(self.graph.add_constant(name, Tensor::scalar(value))?)
    }

    /// The element type code of initialiser `name`; that of a `Constant` node is looked up by its attribute.
    pub fn element_type(&self, name: &str) -> i32 {
        let of_node = || {
            let node = self.makers.get(name)?;
            match node.attributes.get("value") {
                Some(OnnxAttr::Tensor(t)) => Some(t.data_type),
                _ => node.inputs.first().map(|i| if i == name { 0 } else { self.element_type_of(i) }),
            }
        };
        self.initializers.get(name).map(|t| t.data_type).or_else(of_node).unwrap_or(0)
    }

    fn element_type_of(&self, name: &str) -> i32 {
        self.initializers.get(name).map_or(0, |t| t.data_type)
    }

    /// The type of a value.
    pub fn ty(&self, value: Value) -> Result<&ValueType, Fail> {
        self.graph.value_type(value).ok_or(Fail::Poisoned)
    }

    /// The shape of a value.
    pub fn shape(&self, value: Value) -> Result<Shape, Fail> {
        Ok(self.ty(value)?.shape.clone())
    }

    /// The name of input `i`, if given.
    pub fn input_name<'n>(&self, node: &'n OnnxNode, i: usize) -> Option<&'n str> {
        node.inputs.get(i).map(String::as_str).filter(|s| !s.is_empty())
    }

    /// Input `i` as a value of the graph.
    pub fn input(&mut self, node: &OnnxNode, i: usize) -> Result<Value, Fail> {
        let name = self.input_name(node, i).ok_or_else(|| format!("has no input {i}"))?;
        self.value(name)
    }

    /// Input `i` as a constant tensor; `None` where the input is left out.
    pub fn constant_input(&mut self, node: &OnnxNode, i: usize) -> Result<Option<Tensor>, Fail> {
        let Some(name) = self.input_name(node, i) else { return Ok(None) };
        match self.known(name)? {
            Known::Tensor(t) => Ok(Some(Arc::unwrap_or_clone(t))),
            Known::Ints(ints, scalar) => ints_tensor(&ints, scalar).map(Some),
            Known::Value(v) => match self.graph.constant(v) {
                Some(t) => Ok(Some((**t).clone())),
                None => {
                    Err(format!("input {i} (`{name}`) must be a constant: fold constants before the export").into())
                }
            },
            Known::Poisoned | Known::Unavailable => Err(Fail::Poisoned),
        }
    }

    /// Input `i` as a constant scalar; `None` where the input is left out.
    pub fn scalar_input(&mut self, node: &OnnxNode, i: usize) -> Result<Option<f32>, Fail> {
        let Some(tensor) = self.constant_input(node, i)? else { return Ok(None) };
        match (to_floats(tensor)?.as_f32(), i) {
            (Some(&[v]), _) => Ok(Some(v)),
            _ => Err(format!("input {i} must be one number").into()),
        }
    }

    /// Input `i` as numbers of shape arithmetic; `None` where the input is left out.
    pub fn ints_input(&mut self, node: &OnnxNode, i: usize) -> Result<Option<Vec<Sym>>, Fail> {
        let Some(name) = self.input_name(node, i) else { return Ok(None) };
        if let Known::Ints(ints, _) = self.known(name)? {
            return Ok(Some(ints));
        }
        let tensor = self.constant_input(node, i)?;
        match tensor.as_ref().and_then(Tensor::as_i64) {
            Some(v) => Ok(Some(v.iter().map(|&n| Sym::Known(n)).collect())),
            None => Err(format!("input {i} must hold integers").into()),
        }
    }

    /// Known integers from attribute `name`, or from input `i` in newer operator sets.
    pub fn ints_of(&mut self, node: &OnnxNode, name: &str, i: usize) -> Result<Option<Vec<i64>>, Fail> {
        if let Some(v) = ints(node, name)? {
            return Ok(Some(v));
        }
        let Some(syms) = self.ints_input(node, i)? else { return Ok(None) };
        let known = syms.iter().map(|s| if let Sym::Known(n) = s { Some(*n) } else { None }).collect::<Option<_>>();
        known.map(Some).ok_or_else(|| format!("input {i} depends on the batch").into())
    }

    /// Adds an operator without attributes.
    pub fn add(&mut self, op: &str, node: &OnnxNode, inputs: &[Value]) -> Result<Value, Fail> {
        self.add_with(op, node, inputs, Attrs::new())
    }

    /// Adds an operator.
    pub fn add_with(&mut self, op: &str, node: &OnnxNode, inputs: &[Value], attrs: Attrs) -> Result<Value, Fail> {
        Ok(self.graph.add(ops::known(op), node_name(node), inputs, attrs)?)
    }

    /// Another shape of the same elements: `dims` are the extents without the batch.
    pub fn reshaped(&mut self, node: &OnnxNode, value: Value, dims: &[usize]) -> Result<Value, Fail> {
        if self.shape(value)?.per_sample() == dims {
            return Ok(value);
        }
        let dims = dims.iter().map(|&d| d as i64).collect();
        self.add_with("reshape", node, &[value], Attrs::new().with("shape", Attr::Ints(dims)))
    }
}

/// Integers as a tensor, if none is the batch.
fn ints_tensor(ints: &[Sym], scalar: bool) -> Result<Tensor, Fail> {
    let known: Option<Vec<i64>> = ints.iter().map(|s| if let Sym::Known(n) = s { Some(*n) } else { None }).collect();
    let known = known.ok_or("computes with the batch size, which is known only at the call: export without it")?;
    let shape = if scalar { vec![] } else { vec![known.len()] };
    Tensor::new(shape, Data::I64(known)).map_err(|e| e.to_string().into())
}

/// Integers as floats, where all are exact.
pub(super) fn to_floats(tensor: Tensor) -> Result<Tensor, String> {
    let (shape, data) = tensor.into_parts();
    let floats = match data {
        Data::F32(v) => v,
        Data::I64(v) if v.iter().all(|n| n.unsigned_abs() <= 1 << 24) => v.iter().map(|&n| n as f32).collect(),
        Data::I32(v) if v.iter().all(|n| n.unsigned_abs() <= 1 << 24) => v.iter().map(|&n| n as f32).collect(),
        Data::U8(v) => v.iter().map(|&n| n.into()).collect(),
        _ => return Err("holds integers beyond 2^24, which f32 does not express".to_owned()),
    };
    Tensor::f32(shape, floats).map_err(|e| e.to_string())
}

/// An integer attribute.
pub(super) fn int(node: &OnnxNode, name: &str, default: i64) -> Result<i64, Fail> {
    match node.attributes.get(name) {
        None => Ok(default),
        Some(OnnxAttr::Int(v)) => Ok(*v),
        Some(_) => Err(format!("attribute `{name}` must be an integer").into()),
    }
}

/// A float attribute.
pub(super) fn float(node: &OnnxNode, name: &str, default: f32) -> Result<f32, Fail> {
    match node.attributes.get(name) {
        None => Ok(default),
        Some(OnnxAttr::Float(v)) => Ok(*v),
        Some(OnnxAttr::Int(v)) => Ok(*v as f32),
        Some(_) => Err(format!("attribute `{name}` must be a float").into()),
    }
}

/// A string attribute.
pub(super) fn string<'n>(node: &'n OnnxNode, name: &str, default: &'n str) -> Result<&'n str, Fail> {
    match node.attributes.get(name) {
        None => Ok(default),
        Some(OnnxAttr::Str(v)) => Ok(v),
        Some(_) => Err(format!("attribute `{name}` must be a string").into()),
    }
}

/// A list of integers, if given.
pub(super) fn ints(node: &OnnxNode, name: &str) -> Result<Option<Vec<i64>>, Fail> {
    match node.attributes.get(name) {
        None => Ok(None),
        Some(OnnxAttr::Ints(v)) => Ok(Some(v.clone())),
        Some(OnnxAttr::Int(v)) => Ok(Some(vec![*v])),
        Some(_) => Err(format!("attribute `{name}` must be a list of integers").into()),
    }
}

/// An axis counted from the front.
pub(super) fn axis(axis: i64, rank: usize) -> Result<usize, Fail> {
    let rank = rank as i64;
    if (-rank..rank).contains(&axis) {
        Ok(axis.rem_euclid(rank.max(1)) as usize)
    } else {
        Err(format!("axis {axis} does not exist in {rank} axes").into())
    }
}
