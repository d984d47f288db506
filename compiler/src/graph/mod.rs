//! The graph IR: operators as nodes of a petgraph, values as (node, port), ports on the edges.
//!
//! Ids are stable and increase in order of creation; every iteration is in topological order with ties broken by id, so
//! that the same input gives the same image. The module knows operators only through their table ([`ops::TABLE`]); it must
//! never know a file format, a pass or a machine.

pub mod attrs;
pub mod context;
pub mod draw;
pub mod noise;
pub mod ops;
pub mod scale;
pub mod types;
mod update;
pub mod verify;

pub use context::Context;
pub use update::{Role, Update};

use attrs::Attrs;
use dorefa_runtime::tensor::{Data, Tensor};
use ops::OpDef;
use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use types::{Elem, Shape, ValueType};

/// Most nodes of a graph: far more than any network has, few enough for every pass.
pub const MAX_NODES: usize = 1 << 18;
/// Most elements of one sample of a value.
pub const MAX_ELEMENTS: usize = 1 << 31;
/// Most elements of a value that depends on constants alone, which the compiler computes and holds: 1 GiB of floats.
pub const MAX_CONSTANT: usize = 1 << 28;

/// A node's id: never reused within a graph.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct NodeId(pub u32);

/// A value: output `port` of a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Value {
    /// The node.
    pub node: NodeId,
    /// Which of its outputs.
    pub port: u16,
}

/// An operator applied.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// A unique name: the source file's where it has one.
    pub name: String,
    /// The operator.
    pub op: &'static OpDef,
    /// Its attributes.
    pub attrs: Attrs,
    /// Types of its outputs.
    pub types: Vec<ValueType>,
    /// The data of a `constant`.
    pub tensor: Option<Arc<Tensor>>,
}

#[derive(Clone, Copy, Debug)]
struct Edge {
    from: u16,
    to: u16,
}

/// A graph of operators.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Its name.
    pub name: String,
    /// Preprocessing, labels and other text that travels with the model.
    pub metadata: BTreeMap<String, String>,
    inner: StableDiGraph<Node, Edge>,
    index: BTreeMap<NodeId, NodeIndex>,
    names: BTreeSet<String>,
    /// By hint, a number below which every `hint_N` is taken, so that many nodes of one name cost no search each.
    taken: BTreeMap<String, u64>,
    inputs: Vec<NodeId>,
    outputs: Vec<(String, Value)>,
    updates: Vec<Update>,
    next: u32,
}

/// Why a node could not be made: a message for the user that names the operator.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{name} ({op}): {message}")]
pub struct GraphError {
    /// The node's name.
    pub name: String,
    /// The operator's name.
    pub op: String,
    /// What is wrong.
    pub message: String,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: &str) -> Graph {
        Graph { name: name.to_owned(), ..Graph::default() }
    }

    /// A name of which no node is called yet: `hint`, or `hint_2`, `hint_3`, ….
    pub fn fresh_name(&self, hint: &str) -> String {
        let hint = if hint.is_empty() { "v" } else { hint };
        if !self.names.contains(hint) {
            return hint.to_owned();
        }
        let first = self.taken.get(hint).copied().unwrap_or(2);
        (first..).map(|i| format!("{hint}_{i}")).find(|n| !self.names.contains(n)).unwrap_or_default()
    }

    /// Takes a fresh name.
    fn take_name(&mut self, hint: &str) -> String {
        let name = self.fresh_name(hint);
        let hint = if hint.is_empty() { "v" } else { hint };
        if let Some(n) = name.strip_prefix(hint).and_then(|n| n.strip_prefix('_')?.parse().ok()) {
            self.taken.insert(hint.to_owned(), n);
        }
        self.names.insert(name.clone());
        name
    }

    /// Gives a name back.
    fn free_name(&mut self, name: &str) {
        self.names.remove(name);
        if let Some((hint, n)) = name.rsplit_once('_')
            && let (Some(first), Ok(n)) = (self.taken.get_mut(hint), n.parse::<u64>())
        {
            *first = n.min(*first).max(2);
        }
    }

    fn insert(&mut self, mut node: Node, inputs: &[Value]) -> NodeId {
        let id = NodeId(self.next);
        self.next += 1;
        node.id = id;
        node.name = self.take_name(&node.name);
        let at = self.inner.add_node(node);
        self.index.insert(id, at);
        for (to, value) in inputs.iter().enumerate() {
            if let Some(&from) = self.index.get(&value.node) {
                self.inner.add_edge(from, at, Edge { from: value.port, to: to as u16 });
            }
        }
        id
    }

    /// Adds an input of the graph.
    pub fn add_input(&mut self, name: &str, ty: ValueType) -> Value {
        let node = self.blank(name, &ops::INPUT, Attrs::new(), vec![ty]);
        let id = self.insert(node, &[]);
        self.inputs.push(id);
        Value { node: id, port: 0 }
    }

    fn blank(&self, name: &str, op: &'static OpDef, attrs: Attrs, types: Vec<ValueType>) -> Node {
        Node { id: NodeId(0), name: name.to_owned(), op, attrs, types, tensor: None }
    }

    /// Adds a constant of floats.
    ///
    /// # Errors
    /// When the tensor does not hold floats.
    pub fn add_constant(&mut self, name: &str, tensor: Tensor) -> Result<Value, GraphError> {
        if !matches!(tensor.data(), Data::F32(_)) {
            let message = format!("a constant holds f32, not {}", tensor.data().type_name());
            return Err(GraphError { name: name.into(), op: "constant".into(), message });
        }
        let ty = ValueType::f32(Shape::fixed(tensor.shape()));
        Ok(self.add_typed_constant(name, tensor, ty.elem))
    }

    /// Adds a constant of any element; codes and accumulators are `I32` or `I64` data.
    pub fn add_typed_constant(&mut self, name: &str, tensor: Tensor, elem: Elem) -> Value {
        let ty = ValueType { elem, ..ValueType::f32(Shape::fixed(tensor.shape())) };
        let mut node = self.blank(name, &ops::CONSTANT, Attrs::new(), vec![ty]);
        node.tensor = Some(Arc::new(tensor));
        Value { node: self.insert(node, &[]), port: 0 }
    }

    /// Applies an operator: checks arity and attributes, infers the types.
    ///
    /// # Errors
    /// When the inputs or attributes do not fit the operator.
    pub fn add(&mut self, op: &'static OpDef, name: &str, inputs: &[Value], attrs: Attrs) -> Result<Value, GraphError> {
        let fail = |message: String| GraphError { name: name.to_owned(), op: op.name.to_owned(), message };
        ops::check_attrs(op, &attrs).map_err(fail)?;
        if inputs.len() < op.inputs.0 || inputs.len() > op.inputs.1 {
            return Err(fail(format!("takes {} to {} inputs, has {}", op.inputs.0, op.inputs.1, inputs.len())));
        }
        let types = inputs.iter().map(|&v| self.value_type(v).ok_or_else(|| fail("input does not exist".into())));
        let types = types.collect::<Result<Vec<_>, _>>()?;
        let outputs = (op.infer)(&attrs, &types).map_err(fail)?;
        self.check_size(&outputs).map_err(fail)?;
        let node = self.blank(name, op, attrs, outputs);
        Ok(Value { node: self.insert(node, inputs), port: 0 })
    }

    /// Checks the limits for one more node that makes values of these types.
    fn check_size(&self, types: &[ValueType]) -> Result<(), String> {
        if self.len() >= MAX_NODES {
            return Err(format!("the graph has more than {MAX_NODES} nodes: split the model"));
        }
        for ty in types {
            let most = if ty.shape.has_batch() { MAX_ELEMENTS } else { MAX_CONSTANT };
            if ty.shape.sample_len().is_none_or(|n| n > most) {
                return Err(format!("makes a value of shape {}: more than {most} elements", ty.shape));
            }
        }
        Ok(())
    }

    /// Names a value as an output of the graph.
    pub fn add_output(&mut self, name: &str, value: Value) {
        self.outputs.push((name.to_owned(), value));
    }

    /// The inputs in order.
    pub fn inputs(&self) -> &[NodeId] {
        &self.inputs
    }

    /// The outputs in order.
    pub fn outputs(&self) -> &[(String, Value)] {
        &self.outputs
    }

    /// Lets output `i` be another value.
    pub fn set_output(&mut self, i: usize, value: Value) {
        if let Some((_, slot)) = self.outputs.get_mut(i) {
            *slot = value;
        }
    }

    /// The node of an id.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.inner.node_weight(*self.index.get(&id)?)
    }

    /// The node of a name.
    pub fn named(&self, name: &str) -> Option<NodeId> {
        self.order().into_iter().find(|&id| self.node(id).is_some_and(|n| n.name == name))
    }

    /// The type of a value.
    pub fn value_type(&self, value: Value) -> Option<&ValueType> {
        self.node(value.node)?.types.get(value.port as usize)
    }

    /// Sets the layout of a value. Layouts never change a value.
    pub fn set_layout(&mut self, value: Value, layout: types::Layout) {
        let at = self.index.get(&value.node).copied();
        if let Some(ty) =
            at.and_then(|at| self.inner.node_weight_mut(at)).and_then(|n| n.types.get_mut(value.port as usize))
        {
            ty.layout = layout;
        }
    }

    /// Gives a node other attributes, which must not change its types.
    ///
    /// # Errors
    /// When they do not fit the operator, or would change a type.
    pub fn set_attrs(&mut self, id: NodeId, attrs: Attrs) -> Result<(), GraphError> {
        let Some(node) = self.node(id) else { return Ok(()) };
        let (op, name) = (node.op, node.name.clone());
        let fail = |message: String| GraphError { name: name.clone(), op: op.name.to_owned(), message };
        ops::check_attrs(op, &attrs).map_err(fail)?;
        let types: Vec<_> = self.operands(id).iter().filter_map(|&v| self.value_type(v)).collect();
        if (op.infer)(&attrs, &types).map_err(fail)? != node.types {
            return Err(fail("the attributes change its type".to_owned()));
        }
        if let Some(node) = self.index.get(&id).and_then(|&at| self.inner.node_weight_mut(at)) {
            node.attrs = attrs;
        }
        Ok(())
    }

    /// Sets the element type of an input of the graph; its readers must fit it.
    pub fn set_input_elem(&mut self, input: NodeId, elem: Elem) {
        let at = self.index.get(&input).copied().filter(|_| self.inputs.contains(&input));
        if let Some(ty) = at.and_then(|at| self.inner.node_weight_mut(at)).and_then(|n| n.types.first_mut()) {
            ty.elem = elem;
        }
    }

    /// The inputs of a node in the order of its ports.
    pub fn operands(&self, id: NodeId) -> Vec<Value> {
        let Some(&at) = self.index.get(&id) else {
            return Vec::new();
        };
        let mut edges: Vec<_> = self
            .inner
            .edges_directed(at, Direction::Incoming)
            .filter_map(|e| {
                Some((e.weight().to, Value { node: self.inner.node_weight(e.source())?.id, port: e.weight().from }))
            })
            .collect();
        edges.sort_unstable();
        edges.into_iter().map(|(_, v)| v).collect()
    }

    /// The readers of a value as (node, input port), in order of node id, then port. Outputs of the graph do not count.
    pub fn users(&self, value: Value) -> Vec<(NodeId, u16)> {
        let Some(&at) = self.index.get(&value.node) else {
            return Vec::new();
        };
        let mut users: Vec<_> = self
            .inner
            .edges_directed(at, Direction::Outgoing)
            .filter(|e| e.weight().from == value.port)
            .filter_map(|e| Some((self.inner.node_weight(e.target())?.id, e.weight().to)))
            .collect();
        users.sort_unstable();
        users
    }

    /// Whether the value is an output of the graph.
    pub fn is_output(&self, value: Value) -> bool {
        self.outputs.iter().any(|(_, v)| *v == value)
    }

    /// The only reader of a value that is no output of the graph and updates no state.
    pub fn sole_user(&self, value: Value) -> Option<NodeId> {
        match *self.users(value) {
            [(user, _)] if !self.is_output(value) && !self.is_update(value) => Some(user),
            _ => None,
        }
    }

    /// The tensor of a value that is a constant.
    pub fn constant(&self, value: Value) -> Option<&Arc<Tensor>> {
        self.node(value.node)?.tensor.as_ref()
    }

    /// Lets every reader of `old`, outputs and updates included, read `new` instead.
    pub fn replace(&mut self, old: Value, new: Value) {
        for (user, port) in self.users(old) {
            self.set_operand(user, port, new);
        }
        for (_, value) in self.outputs.iter_mut().filter(|(_, v)| *v == old) {
            *value = new;
        }
        self.replace_updates(old, new);
    }

    /// Lets input `port` of `user` read `value`.
    pub fn set_operand(&mut self, user: NodeId, port: u16, value: Value) {
        let (Some(&at), Some(&from)) = (self.index.get(&user), self.index.get(&value.node)) else {
            return;
        };
        let old = self.inner.edges_directed(at, Direction::Incoming).find(|e| e.weight().to == port).map(|e| e.id());
        if let Some(old) = old {
            self.inner.remove_edge(old);
        }
        self.inner.add_edge(from, at, Edge { from: value.port, to: port });
    }

    /// Removes a node that nothing reads. Inputs of the graph stay.
    pub fn remove(&mut self, id: NodeId) {
        if self.inputs.contains(&id) {
            return;
        }
        if let Some(at) = self.index.remove(&id)
            && let Some(node) = self.inner.remove_node(at)
        {
            self.free_name(&node.name);
        }
    }

    /// Node ids in topological order, ties by id. A cycle leaves its nodes out, which the verifier reports.
    pub fn order(&self) -> Vec<NodeId> {
        let mut missing: BTreeMap<NodeId, usize> = self
            .index
            .iter()
            .map(|(&id, &at)| (id, self.inner.edges_directed(at, Direction::Incoming).count()))
            .collect();
        let mut ready: BTreeSet<NodeId> = missing.iter().filter(|(_, n)| **n == 0).map(|(id, _)| *id).collect();
        let mut order = Vec::with_capacity(missing.len());
        while let Some(id) = ready.pop_first() {
            order.push(id);
            let Some(&at) = self.index.get(&id) else {
                continue;
            };
            for edge in self.inner.edges_directed(at, Direction::Outgoing) {
                let Some(user) = self.inner.node_weight(edge.target()) else {
                    continue;
                };
                if let Some(n) = missing.get_mut(&user.id) {
                    *n -= 1;
                    if *n == 0 {
                        ready.insert(user.id);
                    }
                }
            }
        }
        order
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }
}
