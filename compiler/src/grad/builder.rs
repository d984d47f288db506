//! What forward and backward share: the graph under construction and what each value of the source became in it.

use super::{Mode, op};
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::{Graph, GraphError, NodeId, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Codes that products of the step multiply as integers.
#[derive(Clone, Copy, Debug)]
pub struct Codes {
    /// The codes.
    pub value: Value,
    /// A factor of their scale that is known at run time only.
    pub factor: Option<Value>,
}

/// What a value of the source is in the step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tracked {
    /// As floats; made from the codes where it is wanted first.
    pub float: Option<Value>,
    /// As codes of at most 8 bits.
    pub codes: Option<Codes>,
    /// The accumulator that `float` decodes, with its factor.
    pub acc: Option<Codes>,
}

/// A gradient: floats, or codes with one scale a sample.
#[derive(Clone, Copy, Debug)]
pub struct Gradient {
    /// As floats.
    pub float: Value,
    /// As codes of at most 8 bits, with the greatest magnitude of each sample.
    pub codes: Option<(Value, Value)>,
}

/// Values that the forward pass of a node leaves for its backward pass.
#[derive(Clone, Debug, Default)]
pub struct Saved(pub BTreeMap<&'static str, Value>);

pub(super) struct Builder<'s> {
    pub source: &'s Graph,
    pub mode: Mode,
    pub graph: Graph,
    pub problems: Vec<GraphError>,
    pub tracked: BTreeMap<Value, Tracked>,
    pub saved: BTreeMap<NodeId, Saved>,
    /// Source values whose gradient is wanted.
    pub wanted: BTreeSet<Value>,
    /// Source constants that are trained.
    pub trained: BTreeSet<NodeId>,
    /// Updates of running statistics: constant of the step and its next value.
    pub statistics: Vec<(NodeId, Value)>,
    /// Numbers of the quantisers and dropouts of the source.
    pub places: BTreeMap<NodeId, i64>,
}

impl<'s> Builder<'s> {
    pub fn new(source: &'s Graph, mode: Mode) -> Builder<'s> {
        let mut graph = Graph::new(&source.name);
        graph.metadata = source.metadata.clone();
        let noisy =
            |id: &NodeId| source.node(*id).is_some_and(|n| ["quantize_gradient", "dropout"].contains(&n.op.name));
        let places = source.order().into_iter().filter(noisy).zip(0..).collect();
        Builder {
            source,
            mode,
            graph,
            problems: Vec::new(),
            tracked: BTreeMap::new(),
            saved: BTreeMap::new(),
            wanted: BTreeSet::new(),
            trained: trained(source),
            statistics: Vec::new(),
            places,
        }
    }

    /// Applies an operator in the step.
    pub fn add(&mut self, name: &str, hint: &str, inputs: &[Value], attrs: Attrs) -> Result<Value, GraphError> {
        self.graph.add(op(name), hint, inputs, attrs)
    }

    /// A number.
    pub fn literal(&mut self, value: f32) -> Result<Value, GraphError> {
        self.add("literal", "number", &[], Attrs::new().with("value", Attr::Float(value)))
    }

    /// A number of the step's context.
    pub fn hyper(&mut self, name: &str) -> Result<Value, GraphError> {
        self.add("hyper", name, &[], Attrs::new().with("name", Attr::Word(name.to_owned())))
    }

    /// Codes or an accumulator as floats.
    pub fn decode(&mut self, hint: &str, codes: Value, factors: &[Option<Value>]) -> Result<Value, GraphError> {
        let inputs: Vec<Value> = std::iter::once(codes).chain(factors.iter().flatten().copied()).collect();
        self.add("decode", hint, &inputs, Attrs::new())
    }

    /// What a value of the source became.
    pub fn get(&self, value: Value) -> Tracked {
        self.tracked.get(&value).copied().unwrap_or_default()
    }

    /// A value of the source as floats.
    pub fn float(&mut self, value: Value) -> Result<Value, GraphError> {
        let tracked = self.get(value);
        if let Some(float) = tracked.float {
            return Ok(float);
        }
        let name = self.source.node(value.node).map_or("", |n| &n.name).to_owned();
        let Some(codes) = tracked.codes else {
            let message = "is read before it is computed".to_owned();
            return Err(GraphError { name, op: "value".to_owned(), message });
        };
        let float = self.decode(&name, codes.value, &[codes.factor])?;
        self.tracked.entry(value).or_default().float = Some(float);
        Ok(float)
    }
}

/// Constants that gradient descent changes: weights, biases, batch norm's γ and β, slopes of prelu, also where they are reshaped or
/// quantised on their way.
fn trained(source: &Graph) -> BTreeSet<NodeId> {
    let mut found = BTreeSet::new();
    for id in source.order() {
        let Some(node) = source.node(id) else { continue };
        let places: &[usize] = match node.op.name {
            "conv" | "matmul" => &[1, 2],
            "quantize_weights" => &[0],
            "batch_norm" => &[1, 2],
            "prelu" => &[1],
            _ => &[],
        };
        let operands = source.operands(id);
        for &value in places.iter().filter_map(|&i| operands.get(i)) {
            let root = root(source, value);
            if source.constant(root).is_some() {
                found.insert(root.node);
            }
        }
    }
    found
}

/// The value of which `value` is another shape or the quantised form.
fn root(source: &Graph, mut value: Value) -> Value {
    let moves = |v: Value| source.node(v.node).is_some_and(|n| MOVES.contains(&n.op.name));
    while moves(value)
        && let Some(&operand) = source.operands(value.node).first()
    {
        value = operand;
    }
    value
}

/// Operators between a parameter and its reader that keep it one parameter.
const MOVES: &[&str] = &["reshape", "transpose", "quantize_weights"];
