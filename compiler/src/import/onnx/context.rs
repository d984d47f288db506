//! What the importer knows while it walks over the nodes: values by name, and typed access to a node's inputs and attributes.

use super::proto::{OnnxAttr, OnnxModel, OnnxNode};
use super::symbolic::{LIST, as_ints};
use super::tensor::RawTensor;
use super::{node_name, tensor};
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::ops;
use crate::graph::ops::take::LONGEST;
use crate::graph::types::{Dim, Elem, Shape, ValueType};
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

/// Why axis 0 cannot be the batch.
pub(super) const BATCH: &str =
    "moves axis 0, which must stay the batch: export the model so that axis 0 is only carried through";

/// The longest chain of constant nodes that is computed where an operator needs a constant.
const DEPTH: usize = 200;

/// Most indices that all selections of a file may have together.
const INDICES: usize = 1 << 23;

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
    indices: usize,
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

    /// The shape of a value.
    pub fn shape(&self, value: Value) -> Result<Shape, Fail> {
        Ok(self.ty(value)?.shape.clone())
    }

    /// The extents of a value as the file counts its axes.
    pub fn dims(&self, value: Value) -> Result<Vec<Dim>, Fail> {
        let shape = self.shape(value)?;
        let lead = self.lead_of(&shape);
        Ok(shape.0.into_iter().skip(lead).collect())
    }

    fn lead_of(&self, shape: &Shape) -> usize {
        if shape.has_batch() { self.lead } else { 0 }
    }

    /// The graph's axis that the file calls `a`; the batch is refused.
    pub fn axis(&self, value: Value, a: i64) -> Result<usize, Fail> {
        let shape = self.shape(value)?;
        let lead = self.lead_of(&shape);
        let at = axis(a, shape.rank() - lead)? + lead;
        if shape.0.get(at) == Some(&Dim::Batch) { Err(BATCH.into()) } else { Ok(at) }
    }

    /// A value with other extents, as the file counts axes.
    pub fn shaped(&mut self, node: &OnnxNode, value: Value, dims: &[Dim]) -> Result<Value, Fail> {
        if self.lead == 0 && self.shape(value)?.has_batch() && dims.first() != Some(&Dim::Batch) {
            return Err(BATCH.into());
        }
        let dims = Shape(dims.to_vec()).per_sample();
        self.reshaped(node, value, &dims)
    }

    /// Values with as many axes as the one that has most, ones in front, so that they broadcast as the file means it.
    pub fn aligned(&mut self, node: &OnnxNode, values: &[Value]) -> Result<Vec<Value>, Fail> {
        let ranks = values.iter().map(|&v| Ok(self.dims(v)?.len())).collect::<Result<Vec<_>, Fail>>()?;
        let most = ranks.iter().copied().max().unwrap_or(0);
        let mut out = Vec::new();
        for (&v, &rank) in values.iter().zip(&ranks) {
            let mut dims = self.dims(v)?;
            if rank == most || !self.shape(v)?.has_batch() {
                out.push(v);
                continue;
            }
            if self.lead == 0 && self.file_batch != Some(1) {
                return Err(BATCH.into());
            }
            let at = 1 - self.lead;
            dims.splice(at.min(rank)..at.min(rank), std::iter::repeat_n(Dim::Fixed(1), most - rank));
            out.push(self.shaped(node, v, &dims)?);
        }
        Ok(out)
    }

    /// Adds an element-wise operator, its inputs aligned.
    pub fn elementwise(&mut self, op: &str, node: &OnnxNode, inputs: &[Value], attrs: Attrs) -> Result<Value, Fail> {
        let inputs = self.aligned(node, inputs)?;
        self.add_with(op, node, &inputs, attrs)
    }

    /// A value with the file's axis 0 as the batch, for operators on images.
    pub fn images(&mut self, node: &OnnxNode, value: Value) -> Result<Value, Fail> {
        let shape = self.shape(value)?;
        match (self.lead_of(&shape), shape.0.get(1)) {
            (0, _) => Ok(value),
            (_, Some(Dim::Fixed(1))) => {
                let rest = shape.per_sample().get(1..).unwrap_or(&[]).to_vec();
                self.reshaped(node, value, &rest)
            }
            _ => Err("works on several images although another operator moves axis 0: export with batch 1".into()),
        }
    }

    /// Undoes [`Importer::images`] for a result.
    pub fn samples(&mut self, node: &OnnxNode, value: Value) -> Result<Value, Fail> {
        if self.lead == 0 {
            return Ok(value);
        }
        let dims: Vec<usize> = std::iter::once(1).chain(self.shape(value)?.per_sample()).collect();
        self.reshaped(node, value, &dims)
    }

    /// A constant as a value of every sample: `dims` without the batch. Computed values stay as they are.
    pub fn repeated(&mut self, node: &OnnxNode, value: Value) -> Result<Value, Fail> {
        if self.shape(value)?.has_batch() {
            return Ok(value);
        }
        let input = self.graph.inputs().first().copied().ok_or("has no input that depends on the image")?;
        self.add("repeat", node, &[value, Value { node: input, port: 0 }])
    }

    /// Element `i` along the graph's axis `at` becomes element `indices[i]`.
    pub fn taken(&mut self, node: &OnnxNode, value: Value, at: usize, indices: Vec<i64>) -> Result<Value, Fail> {
        let extent = self.shape(value)?.0.get(at).copied();
        if extent == Some(Dim::Fixed(indices.len())) && indices.iter().enumerate().all(|(i, &n)| n == i as i64) {
            return Ok(value);
        }
        let run = indices
            .first()
            .copied()
            .filter(|&first| first >= 0 && indices.iter().enumerate().all(|(i, &n)| n == first + i as i64));
        let attrs = Attrs::new().with("axis", Attr::Int(at as i64));
        if let Some(start) = run {
            let length = Attr::Int(indices.len() as i64);
            return self.add_with(
                "slice",
                node,
                &[value],
                attrs.with("start", Attr::Int(start)).with("length", length),
            );
        }
        self.select(node, value, attrs.with("indices", Attr::Ints(indices)))
    }

    /// Adds a selection. A few bytes of a file can ask for long lists of indices, so those of all selections are bounded.
    pub fn select(&mut self, node: &OnnxNode, value: Value, attrs: Attrs) -> Result<Value, Fail> {
        self.indices = self.indices.saturating_add(attrs.ints("indices").len());
        if self.indices > INDICES {
            return Err(
                format!("selects with those before it more than {INDICES} elements by index: not supported").into()
            );
        }
        self.add_with("take", node, &[value], attrs)
    }

    /// The value repeated along axes of extent 1 until it has `dims`, as the file counts axes; the ranks are equal.
    pub fn expanded(&mut self, node: &OnnxNode, mut value: Value, dims: &[Dim]) -> Result<Value, Fail> {
        let own = self.dims(value)?;
        let lead = self.lead_of(&self.shape(value)?);
        for (i, (from, to)) in own.iter().zip(dims).enumerate() {
            match (from, to) {
                (a, b) if a == b => {}
                (Dim::Fixed(1), &Dim::Fixed(n)) if n <= LONGEST => {
                    value = self.taken(node, value, i + lead, vec![0; n])?;
                }
                _ => return Err(format!("repeats {} to {}", Shape(own), Shape(dims.to_vec())).into()),
            }
        }
        Ok(value)
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
            Known::Value(v) => match self.computed(v, DEPTH) {
                Some(t) => Ok(Some((*t).clone())),
                None => {
                    Err(format!("input {i} (`{name}`) must be a constant: fold constants before the export").into())
                }
            },
            Known::Poisoned | Known::Unavailable => Err(Fail::Poisoned),
        }
    }

    /// The tensor of a value that depends on constants only; what it takes is computed here.
    fn computed(&mut self, value: Value, depth: usize) -> Option<Arc<Tensor>> {
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
        // Integers that went through float operators are whole numbers.
        let whole = |v: &[f32]| v.iter().all(|x| x.fract() == 0.0).then(|| v.iter().map(|&x| x as i64).collect());
        let list: Option<Vec<i64>> =
            tensor.as_ref().and_then(|t| t.as_i64().map(<[i64]>::to_vec).or_else(|| t.as_f32().and_then(whole)));
        match list {
            Some(v) => Ok(Some(v.into_iter().map(Sym::Known).collect())),
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
