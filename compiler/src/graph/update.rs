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
