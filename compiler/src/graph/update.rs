//! State: constants that a training graph replaces after each step. Such a constant is read like any other, but nothing may
//! take its data for fixed.

use super::{Graph, GraphError, NodeId, Value, ops};
use dorefa_runtime::tensor::Tensor;
use std::sync::Arc;

/// What a tensor of the training state is. The numbers are those of the binary interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u32)]
pub enum Role {
    /// A trained parameter.
    Parameter = 0,
    /// A first moment or velocity.
    Momentum = 1,
    /// Adam's second moment.
    Variance = 2,
    /// A running statistic of batch normalisation.
    Statistic = 3,
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 4] = [Role::Parameter, Role::Momentum, Role::Variance, Role::Statistic];

    /// The role's word in the text format.
    pub fn word(self) -> &'static str {
        match self {
            Role::Parameter => "parameter",
            Role::Momentum => "momentum",
            Role::Variance => "variance",
            Role::Statistic => "statistic",
        }
    }
}

/// After the step, constant `node` holds `value`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Update {
    /// The constant.
    pub node: NodeId,
    /// What it is.
    pub role: Role,
    /// Its next value, of the same type.
    pub value: Value,
}

impl Graph {
    /// Lets constant `node` hold `value` after a step. All updates take effect together, after everything is computed.
    ///
    /// # Errors
    /// When `node` is no constant or is updated already, or the types differ.
    pub fn add_update(&mut self, role: Role, node: NodeId, value: Value) -> Result<(), GraphError> {
        let update = Update { node, role, value };
        let name = self.node(node).map(|n| n.name.clone()).unwrap_or_default();
        let fail = |message: String| GraphError { name, op: "update".to_owned(), message };
        if self.is_state(node) {
            return Err(fail("is updated twice".to_owned()));
        }
        match self.update_problem(&update) {
            Some(message) => Err(fail(message)),
            None => {
                self.updates.push(update);
                Ok(())
            }
        }
    }

    /// What is wrong with an update.
    pub(super) fn update_problem(&self, update: &Update) -> Option<String> {
        let Some(node) = self.node(update.node).filter(|n| *n.op == ops::CONSTANT) else {
            return Some("only a constant is updated".to_owned());
        };
        let (Some(old), Some(new)) = (node.types.first(), self.value_type(update.value)) else {
            return Some("its new value does not exist".to_owned());
        };
        (old.elem != new.elem || old.shape != new.shape).then(|| format!("is {old}, its new value {new}"))
    }

    /// The updates in order.
    pub fn updates(&self) -> &[Update] {
        &self.updates
    }

    /// Whether a node is a constant that is updated.
    pub fn is_state(&self, node: NodeId) -> bool {
        self.updates.iter().any(|u| u.node == node)
    }

    /// Whether a value is the next value of some constant.
    pub fn is_update(&self, value: Value) -> bool {
        self.updates.iter().any(|u| u.value == value)
    }

    pub(super) fn replace_updates(&mut self, old: Value, new: Value) {
        for update in self.updates.iter_mut().filter(|u| u.value == old) {
            update.value = new;
        }
    }

    /// Replaces the data of a constant.
    ///
    /// # Errors
    /// When `node` is no constant, or the shape or the element type differs.
    pub fn set_constant(&mut self, node: NodeId, tensor: Arc<Tensor>) -> Result<(), GraphError> {
        let at = self.index.get(&node).copied();
        let Some(held) = at.and_then(|at| self.inner.node_weight_mut(at)) else {
            let message = "there is no such node".to_owned();
            return Err(GraphError { name: String::new(), op: "constant".to_owned(), message });
        };
        let fail = |message: String| GraphError { name: held.name.clone(), op: held.op.name.to_owned(), message };
        match &mut held.tensor {
            None => Err(fail("is no constant".to_owned())),
            Some(old) => {
                let same = old.shape() == tensor.shape() && old.data().type_name() == tensor.data().type_name();
                if !same {
                    let message = format!("holds shape {:?}, was given {:?}", old.shape(), tensor.shape());
                    return Err(fail(message));
                }
                *old = tensor;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Context;
    use crate::{interp, passes, text};

    const STEP: &str = "dorefa 1\ngraph g(v: f32[N, 2]) -> (y) {\n  n = neg(@w: f32[2])\n  m1 = momentum(@w.m: f32[2], n, \
                        hyper(name=beta1))\n  w1 = descend(@w, m1, hyper(name=lr))\n  y = add(v, literal(value=1.0))\n  \
                        update parameter @w = w1\n  update momentum @w.m = m1\n}\n";

    fn read(source: &str) -> Result<Graph, String> {
        text::parse(source, "t", &|_| None).map_err(|p| p.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn updates_round_trip_and_state_is_kept() {
        let mut graph = read(STEP).expect("parses");
        let printed = text::print(&graph);
        assert!(printed.ends_with("  update parameter @w = w1\n  update momentum @w.m = m1\n}\n"), "{printed}");
        assert_eq!(text::print(&read(&printed).expect("parses again")), printed);
        passes::fold::run(&mut graph, true).expect("folds");
        assert_eq!(text::print(&graph), printed, "nothing of it is constant, nothing dead");
        assert!(graph.sole_user(graph.updates()[0].value).is_none());
    }

    #[test]
    fn a_step_gives_what_apply_puts_in() {
        let mut graph = read(STEP).expect("parses");
        let held = |g: &Graph| -> Vec<f32> {
            let tensors = g.updates().iter().filter_map(|u| g.node(u.node)?.tensor.clone());
            tensors.flat_map(|t| t.as_f32().map(<[f32]>::to_vec).unwrap_or_default()).collect()
        };
        let before = held(&graph);
        assert_eq!(before[2..], [0.0, 0.0], "moments start at zero");
        let context = Context { lr: 0.5, ..Context::default() };
        let v = Tensor::f32([1, 2], vec![0.0; 2]).expect("fits");
        let (_, updated) = interp::step(&graph, &[v], true, &context).expect("runs");
        assert_eq!(held(&graph), before);
        interp::apply(&mut graph, updated).expect("fits");
        let (w, m) = (|i: usize| before[i] + 0.5 * before[i], |i: usize| -before[i]);
        assert_eq!(held(&graph), [w(0), w(1), m(0), m(1)]);
        let wrong = Arc::new(Tensor::f32([3], vec![0.0; 3]).expect("fits"));
        let error = graph.set_constant(graph.updates()[0].node, wrong).expect_err("another shape");
        assert!(error.to_string().contains("w (constant)"), "{error}");
    }

    #[test]
    fn wrong_updates_are_refused() {
        for (from, to, says) in [
            ("update parameter @w = w1", "update parametr @w = w1", "expected `parameter`"),
            ("update parameter @w = w1", "update parameter @u = w1", "`@u` needs a type"),
            ("update parameter @w = w1", "update parameter @w = y", "its new value"),
            ("update momentum @w.m = m1", "update momentum @w = m1", "twice"),
        ] {
            let error = read(&STEP.replace(from, to)).err().unwrap_or_default();
            assert!(error.contains(says), "{to}: {error}");
        }
        let mut graph = read(STEP).expect("parses");
        let input = graph.inputs()[0];
        let value = Value { node: input, port: 0 };
        assert!(graph.add_update(Role::Statistic, input, value).is_err(), "an input is no constant");
    }
}
