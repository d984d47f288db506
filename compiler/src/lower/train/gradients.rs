//! The gradients that a caller may ask for (`dorefac_train.grads`): one step behind the check that all are finite and before
//! the updates, which only such a call runs.

use super::schedule::Scheduler;
use super::{Buffer, Form, Kind, Place, Slot, State, Tasks, Work};
use crate::graph::{Graph, NodeId, Role, Value};
use std::collections::BTreeSet;

/// What the optimiser takes as the gradient of each parameter: what the first moment, or the velocity, is moved by.
pub fn gradients(graph: &Graph) -> Vec<(NodeId, Value)> {
    let moments = graph.updates().iter().filter(|u| u.role == Role::Momentum);
    let one = |moment: Value| {
        let &gradient = graph.operands(moment.node).get(1)?;
        let step =
            |(user, _): &(NodeId, u16)| graph.node(*user).is_some_and(|n| matches!(n.op.name, "adam_step" | "descend"));
        let (user, _) = graph.users(moment).into_iter().find(step)?;
        Some((graph.operands(user).first()?.node, gradient))
    };
    moments.filter_map(|u| one(u.value)).collect()
}

impl Scheduler<'_> {
    /// The step that writes them at the places of the parameters' states.
    pub(super) fn gradients(&mut self, states: &[State]) {
        let (mut list, mut reads, mut writes) = (Vec::new(), BTreeSet::new(), Vec::new());
        for (parameter, value) in gradients(self.graph) {
            let Some(state) = states.iter().find(|s| s.node == parameter) else { continue };
            self.roots(value, &mut reads);
            let slot = Slot { value: Value { node: parameter, port: 0 }, kind: Kind::Gradient };
            let buffer = Buffer { place: Place::Gradient(state.offset), form: Form::Floats(state.len) };
            self.plan.buffers.insert(slot, buffer);
            list.push((value, slot));
            writes.push(slot);
        }
        let Some(&(first, _)) = list.first() else { return };
        let tasks = Tasks::Fixed(list.len());
        self.plan.gradients = 1;
        self.step(first.node, Work::Gradients(list), tasks, reads.into_iter().collect(), writes);
    }
}
