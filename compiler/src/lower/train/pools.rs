//! The steps of max pools: one makes the pool and the winners of its windows, so that their operand is read once, and is gone
//! when the sample is where nothing else keeps it. Must never know an instruction set.

use super::layouts::{Levels, Maps, Storage};
use super::schedule::Scheduler;
use super::{Domain, Form, Kind, Place, Slot, Tasks, Work, domain};
use crate::graph::{Node, Value};

/// The forward operators of a max pool.
const FORWARD: [&str; 2] = ["max_pool", "max_pool_winner"];

impl Scheduler<'_> {
    /// One step for all of [`FORWARD`] over the same windows.
    pub(super) fn max_pool(&mut self, node: &Node) -> Result<(), String> {
        let own = |node: &Node| Value { node: node.id, port: 0 };
        if self.plan.buffers.contains_key(&Slot::own(own(node))) {
            return Ok(());
        }
        let x = self.materialise(self.operand(node, 0)?)?;
        let graph = self.graph;
        let same = |other: &&Node| {
            FORWARD.contains(&other.op.name)
                && other.attrs == node.attrs
                && graph.operands(other.id) == graph.operands(node.id)
        };
        let all = graph.order().into_iter().filter_map(|id| graph.node(id)).filter(same);
        let writes = all.map(|node| self.pooled(own(node))).collect::<Result<Vec<_>, _>>()?;
        self.step(node.id, Work::Operators(vec![node.id]), Tasks::Samples, vec![x], writes);
        Ok(())
    }

    /// The slot of a pool, or of winners: as bytes where these hold the number of every tap.
    fn pooled(&mut self, value: Value) -> Result<Slot, String> {
        let ty = self.ty(value)?;
        let Some(Domain::Image(c, h, w)) = domain(ty) else { return Err("pools an image".to_owned()) };
        let bytes = ty.codes().is_some_and(|codes| codes.top <= u8::MAX.into());
        let form = if bytes {
            Form::Levels(Levels::new(c, 1, [h, w], [0; 4], Storage::Bytes { bias: 0 })?)
        } else {
            Form::Maps(Maps::new(c, 1, [h, w])?)
        };
        Ok(self.slot(value, Kind::Own, Place::Sample(0), form))
    }
}
