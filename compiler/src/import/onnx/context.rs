//! What the importer knows while it walks over the nodes: values by name, each computed or a constant or shape arithmetic. Must never
//! know what an operator means.

use super::proto::{OnnxAttr, OnnxModel, OnnxNode};
use super::symbolic::{LIST, as_ints};
use super::tensor::RawTensor;
use super::{node_name, tensor};
use crate::graph::attrs::Attrs;
use crate::graph::ops;
use crate::graph::types::{Elem, ValueType};
use crate::graph::{Graph, GraphError, Value};
use crate::interp;
use dorefa_runtime::tensor::{Data, Tensor};
use std::collections::{BTreeMap, BTreeSet};
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

/// The longest chain of constant nodes that is computed where an operator needs a constant.
pub(super) const DEPTH: usize = 200;

/// The state of an import.
pub(super) struct Importer<'a> {
    /// Axes of a computed value in front of the file's own: 0 where the file's axis 0 is the batch, 1 where a sample is the
    /// whole of the file's input.
    pub lead: usize,
    /// The outputs of the current node behind its first.
    pub further: Vec<Known>,
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
    /// Short lists of integers that are also constants of the graph; they stay known as shape arithmetic.
    listed: BTreeMap<String, Value>,
    /// Indices of selections so far.
    pub indices: usize,
    integers: BTreeSet<Value>,
}

impl<'a> Importer<'a> {
    /// An import of `model`.
    pub fn new(model: &mut OnnxModel, nodes: &'a [OnnxNode], dir: Option<&'a Path>, lead: usize) -> Importer<'a> {
        let opset = model.opsets.get("").or_else(|| model.opsets.get("ai.onnx")).copied().unwrap_or(13);
        let graph = Graph::new(&model.name);
        let outputs = |node: &'a OnnxNode| node.outputs.iter().map(move |name| (name.as_str(), node));
        let makers = nodes.iter().rev().flat_map(outputs).collect();
        let initializers = std::mem::take(&mut model.initializers);
        let (known, listed, integers) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let further = Vec::new();
        Importer {
            lead,
            further,
            graph,
            file_batch: None,
            opset,
            initializers,
            makers,
            dir,
            known,
            listed,
            indices: 0,
            integers,
        }
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
        if let Some(&value) = self.listed.get(name) {
            return Ok(value);
        }
        let known = self.known(name)?;
        let list = as_ints(&known).is_some_and(|(list, _)| list.len() <= LIST);
        let tensor = match known {
            Known::Value(value) => return Ok(value),
            Known::Tensor(tensor) if list => (*tensor).clone(),
            Known::Tensor(tensor) => {
                // Large weights are moved, not copied: the graph holds them from now on.
                self.known.remove(name);
                Arc::unwrap_or_clone(tensor)
            }
            Known::Ints(ints, scalar) => ints_tensor(&ints, scalar)?,
            Known::Poisoned | Known::Unavailable => return Err(Fail::Poisoned),
        };
        let whole = tensor.as_f32().is_none();
        let value = self.constant(name, tensor);
        if let (Ok(value), true) = (&value, whole) {
            self.integers.insert(*value);
        }
        match &value {
            Ok(value) if list => drop(self.listed.insert(name.to_owned(), *value)),
            other => self.define(name, other.as_ref().map_or(Known::Poisoned, |v| Known::Value(*v))),
        }
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

    /// A name, one of a few that no file can have, by which handlers that build on others pass on a value.
    pub fn temporary(&mut self, i: usize, value: Value) -> String {
        let name = format!("\0{i}");
        self.define(&name, Known::Value(value));
        name
    }

    /// A constant of one element as a scalar, so that its rank adds no axes.
    pub fn scalar_of(&mut self, value: Value) -> Result<Value, Fail> {
        match self.graph.constant(value).and_then(|t| t.as_f32()) {
            Some(&[one]) => self.scalar("scalar", one),
            _ => Ok(value),
        }
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

    /// The tensor of a value that depends on constants only; what it takes is computed here.
    pub fn computed(&mut self, value: Value, depth: usize) -> Option<Arc<Tensor>> {
        if let Some(tensor) = self.graph.constant(value) {
            return Some(tensor.clone());
        }
        if self.graph.value_type(value)?.shape.has_batch() {
            return None;
        }
        for (port, operand) in self.graph.operands(value.node).into_iter().enumerate() {
            let tensor = self.computed(operand, depth.checked_sub(1)?)?;
            if self.graph.constant(operand).is_none() {
                let constant = self.graph.add_typed_constant("computed", (*tensor).clone(), Elem::F32);
                self.graph.set_operand(value.node, port as u16, constant);
            }
        }
        Some(Arc::new(interp::fold(&self.graph, value.node, true)?.ok()?))
    }

    /// Whether a value holds whole numbers because its type in the file is an integer or a truth value.
    pub fn is_integer(&self, value: Value) -> bool {
        self.integers.contains(&value)
    }

    /// Records that a value is of an integer type in the file.
    pub fn mark_integer(&mut self, value: Value) {
        self.integers.insert(value);
    }

    /// Adds an operator without attributes.
    pub fn add(&mut self, op: &str, node: &OnnxNode, inputs: &[Value]) -> Result<Value, Fail> {
        self.add_with(op, node, inputs, Attrs::new())
    }

    /// Adds an operator.
    pub fn add_with(&mut self, op: &str, node: &OnnxNode, inputs: &[Value], attrs: Attrs) -> Result<Value, Fail> {
        Ok(self.graph.add(ops::known(op), node_name(node), inputs, attrs)?)
    }
}

/// Integers as a tensor, if none is the batch.
pub(super) fn ints_tensor(ints: &[Sym], scalar: bool) -> Result<Tensor, Fail> {
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
