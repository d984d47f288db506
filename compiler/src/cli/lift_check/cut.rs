//! Which values and layers of the graph before `lift` became what after it, and the cut graph in which they start from equal
//! inputs.
//!
//! ```text
//! before   q = div(c, 3)      y = conv(q, w)            z = add(q, y)
//! after    u = encode(c)      a = int_conv(u, w codes)  d = decode(a)    v = decode(u)    z = add(v, d)
//! cut      y = conv(q_given, w)                         z = add(q_given, y)
//! ```

use super::sums::Layer;
use super::{Failure, Pair, Results, Stages, bug};
use crate::graph::types::Elem;
use crate::graph::{Graph, NodeId, Value};
use crate::{interp, lower::split, passes};
use dorefa_runtime::Tensor;
use std::collections::{BTreeMap, BTreeSet};

/// A graph some of whose values are given instead of computed.
#[derive(Clone)]
pub struct Cut {
    /// The graph. What is added must only read.
    pub graph: Graph,
    given: Vec<Tensor>,
    fma: bool,
}

impl Cut {
    /// A copy of `graph` in which nothing is cut yet, and its inputs.
    pub fn new(graph: &Graph, inputs: &[Tensor], fma: bool) -> Cut {
        Cut { graph: graph.clone(), given: inputs.to_vec(), fma }
    }

    /// Lets the readers of `value` read `tensor` instead. The value itself is computed as before.
    ///
    /// # Errors
    /// When there is no such value, which is a bug.
    pub fn give(&mut self, value: Value, tensor: Tensor) -> Result<(), Failure> {
        let node = self.graph.node(value.node).zip(self.graph.value_type(value));
        let (name, ty) = node.map(|(n, ty)| (n.name.clone(), ty.clone())).ok_or_else(|| bug("a cut value is gone"))?;
        let users = self.graph.users(value);
        let input = self.graph.add_input(&format!("{name}_given"), ty);
        self.given.push(tensor);
        for (user, port) in users {
            self.graph.set_operand(user, port, input);
        }
        Ok(())
    }

    /// A copy that computes nothing but what `wanted` depend on.
    pub fn only(&self, wanted: &[Value]) -> Cut {
        let mut cut = self.clone();
        if let Some(&first) = wanted.first() {
            (0..cut.graph.outputs().len()).for_each(|i| cut.graph.set_output(i, first));
        }
        wanted.iter().for_each(|&v| cut.graph.add_output("wanted", v));
        passes::dead::sweep(&mut cut.graph);
        cut
    }

    /// Executes the graph and returns the values that `keep` asks for.
    ///
    /// # Errors
    /// When the graph cannot be run on the inputs.
    pub fn run(&self, keep: impl Fn(Value) -> bool) -> Result<Results, Failure> {
        interp::run_all(&self.graph, &self.given, self.fma, keep).map_err(Failure::input)
    }

    /// The layers, by their place in `layers`, between `value` and what is given.
    pub fn feeding(&self, value: Value, layers: &[Layer]) -> BTreeSet<usize> {
        let (mut found, mut seen, mut open) = (BTreeSet::new(), BTreeSet::new(), vec![value]);
        while let Some(value) = open.pop() {
            match layers.iter().position(|l| l.before == value) {
                Some(i) => {
                    found.insert(i);
                }
                None if seen.insert(value) => open.extend(self.graph.operands(value.node)),
                None => {}
            }
        }
        found
    }
}

impl Stages {
    /// Layers whose sums became integers.
    pub(super) fn layers(&self) -> Vec<Layer> {
        let partners = Partners::new(self);
        let layers = self.before.order().into_iter().filter_map(|id| {
            let node = self.before.node(id)?;
            let sum = partners.of(id).filter(|&p| p != id && op(&self.after, p) != "conv")?;
            let averages = op(&self.after, sum) == "sum_pool";
            let bias = self.before.operands(id).len() > 2;
            let taps = if averages {
                self.after.node(sum)?.attrs.ints("kernel").iter().product::<i64>() as usize
            } else {
                let weights = self.after.operands(sum).get(1).copied()?;
                self.after.value_type(weights)?.shape.per_sample().iter().skip(1).product()
            };
            let step = if averages { Some("div") } else { bias.then_some("add") };
            Some(Layer {
                name: node.name.clone(),
                before: Value { node: id, port: 0 },
                after: self.result(sum, step)?,
                taps,
                fixed: split::fixed_point(&self.after, sum),
                bias,
            })
        });
        layers.collect()
    }

    /// The float value that `lift` made of an integer sum: decoded, and one more `step` applied where there is one.
    fn result(&self, sum: NodeId, step: Option<&str>) -> Option<Value> {
        let reader = |value: Value| Some(Value { node: self.after.users(value).first()?.0, port: 0 });
        let mut value = reader(Value { node: sum, port: 0 })?;
        while op(&self.after, value.node) == "reshape" {
            value = reader(value)?;
        }
        let decoded = Some(value).filter(|v| op(&self.after, v.node) == "decode")?;
        match step {
            Some(step) => reader(decoded).filter(|v| op(&self.after, v.node) == step),
            None => Some(decoded),
        }
    }

    /// Float values and the codes that they became, found by what reads them: on one side the value, on the other its codes,
    /// or what decodes them. Codes that the caller passes are the same on both sides and left out.
    pub(super) fn pairs(&self) -> Vec<Pair> {
        let partners = Partners::new(self);
        let mut pairs: Vec<Pair> = Vec::new();
        for id in self.before.order() {
            let (Some(node), Some(partner)) = (self.before.node(id), partners.of(id)) else { continue };
            let read = self.before.operands(id).into_iter().zip(self.after.operands(partner));
            // Other operands of a lifted layer are its constants.
            for (value, read) in read.take(if partner == id { usize::MAX } else { 1 }) {
                if value == read || pairs.iter().any(|p| p.value == value) {
                    continue;
                }
                pairs.extend(self.pair(value, read, &node.name));
            }
        }
        pairs
    }

    /// `value`, where what is `read` after `lift` are its codes or their decoded value.
    fn pair(&self, value: Value, read: Value, reader: &str) -> Option<Pair> {
        let codes =
            if op(&self.after, read.node) == "decode" { *self.after.operands(read.node).first()? } else { read };
        let ty = self.after.value_type(codes)?.codes()?.clone();
        let float = self.before.value_type(value).filter(|t| t.elem == Elem::F32)?;
        let name = self.before.node(value.node)?.name.clone();
        let shape = float.shape.clone();
        (!self.given(codes)).then(|| Pair { value, codes, ty, name, reader: reader.to_owned(), shape })
    }

    /// Whether codes after `lift` are the caller's. With the channel that is appended for their mean, pixels are so still.
    fn given(&self, codes: Value) -> bool {
        self.after.inputs().contains(&codes.node) || op(&self.after, codes.node) == "append_top"
    }

    /// Integer sums after `lift` that read codes which no pair has, by name. There should be none.
    pub(super) fn unpaired(&self, pairs: &[Pair]) -> Vec<String> {
        let sums = self.after.order().into_iter().filter_map(|id| self.after.node(id));
        let sums = sums.filter(|n| matches!(n.op.name, "int_conv" | "sum_pool"));
        let unpaired = sums.filter(|n| {
            let codes = self.after.operands(n.id).first().copied();
            codes.is_some_and(|codes| !self.given(codes) && pairs.iter().all(|p| p.codes != codes))
        });
        unpaired.map(|n| n.name.clone()).collect()
    }
}

/// What took a node's place after `lift`: itself, or by its name the integer layer, the sum of an average pool or the
/// convolution with a full kernel that a float layer over a flattened image became.
struct Partners<'a> {
    stages: &'a Stages,
    made: BTreeMap<&'a str, NodeId>,
}

impl<'a> Partners<'a> {
    fn new(stages: &'a Stages) -> Partners<'a> {
        let made = stages.after.order().into_iter().filter(|&id| stages.before.node(id).is_none());
        let made = made.filter_map(|id| Some((stages.after.node(id)?.name.as_str(), id))).collect();
        Partners { stages, made }
    }

    fn of(&self, id: NodeId) -> Option<NodeId> {
        if self.stages.after.node(id).is_some() {
            return Some(id);
        }
        let name = &self.stages.before.node(id)?.name;
        let forms = [("int", "int_conv"), ("int_full", "int_conv"), ("sum", "sum_pool"), ("full", "conv")];
        // A name that the file has taken got a number.
        let numbers = (2..10).map(|n| format!("_{n}"));
        let names = std::iter::once(String::new())
            .chain(numbers)
            .flat_map(|number| forms.map(|(suffix, name_of_op)| (format!("{name}_{suffix}{number}"), name_of_op)));
        names.into_iter().find_map(|(name, name_of_op)| {
            let found = self.made.get(name.as_str()).copied()?;
            (op(&self.stages.after, found) == name_of_op).then_some(found)
        })
    }
}

/// The operator's name of a node.
fn op(graph: &Graph, id: NodeId) -> &'static str {
    graph.node(id).map_or("", |n| n.op.name)
}
