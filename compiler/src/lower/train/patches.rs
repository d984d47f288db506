//! The steps of weight gradients by patches. They add up the gradient over the positions too, where that is asked for, and read
//! the gradient of a max pool in place of what it scatters, which then never lies in memory. Must never know an instruction
//! set.

use super::products::Part;
use super::requirements::PatchGrad;
use super::schedule::Scheduler;
use super::{Form, Kind, Place, Product, Slot, Tasks, Work};
use crate::graph::ops::{Geometry, Window};
use crate::graph::types::Elem;
use crate::graph::{Graph, Node, Value};

/// The weight gradient of a node if it goes by patches.
///
/// # Errors
/// When the operands do not fit the kernel.
pub(super) fn patches(graph: &Graph, node: &Node) -> Result<Option<PatchGrad>, String> {
    let Some(patches) = plain(graph, node)? else { return Ok(None) };
    let Some(gradient) = graph.operands(node.id).get(1).copied() else { return Ok(None) };
    match scattered(graph, gradient)? {
        Some(pool) => patches.behind(&pool),
        None => Ok(Some(patches)),
    }
}

/// [`patches`], reading the gradient itself.
fn plain(graph: &Graph, node: &Node) -> Result<Option<PatchGrad>, String> {
    let types: Vec<_> = graph.operands(node.id).into_iter().filter_map(|v| graph.value_type(v)).collect();
    match (&*types, node.types.first()) {
        (&[x, g], Some(own)) if node.op.name == "conv_weight_grad" && x.elem == Elem::F32 && g.elem == Elem::F32 => {
            PatchGrad::new(&Geometry::new(&node.attrs, &x.shape, &own.shape)?)
        }
        _ => Ok(None),
    }
}

/// The windows of a `max_pool_grad` that only products by patches and sums over the positions read, and of which all products
/// can read the gradient of the pool instead.
///
/// # Errors
/// When an operand does not fit its kernel.
pub(super) fn scattered(graph: &Graph, value: Value) -> Result<Option<Window>, String> {
    let Some(node) = graph.node(value.node).filter(|n| n.op.name == "max_pool_grad") else { return Ok(None) };
    let Some(own) = graph.value_type(value) else { return Ok(None) };
    let (window, mut products) = (Window::new(&node.attrs, &own.shape)?, 0);
    for (reader, port) in graph.users(value) {
        let Some(reader) = graph.node(reader) else { return Ok(None) };
        let product = match (port, plain(graph, reader)?) {
            (1, Some(product)) => product.behind(&window)?.is_some(),
            _ => false,
        };
        if !product && reader.op.name != "channel_sum" {
            return Ok(None);
        }
        products += usize::from(product);
    }
    let named = graph.outputs().iter().any(|(_, v)| *v == value) || graph.updates().iter().any(|u| u.value == value);
    Ok(Some(window).filter(|_| products > 0 && !named))
}

impl Scheduler<'_> {
    /// The weight gradient by patches that reads `value`, if there is one.
    pub(super) fn by_patches(&self, value: Value) -> Result<Option<Node>, String> {
        for (reader, port) in self.graph.users(value) {
            if let Some(node) = self.graph.node(reader).filter(|_| port == 1)
                && patches(self.graph, node)?.is_some()
            {
                return Ok(Some(node.clone()));
            }
        }
        Ok(None)
    }

    /// The gradient of the weights from `x` and the gradient `g`, and the sums of `g` that no other step makes.
    pub(super) fn patch_grad(&mut self, node: &Node, [x, g]: [Value; 2], plan: &PatchGrad) -> Result<(), String> {
        let own = Value { node: node.id, port: 0 };
        if self.plan.buffers.contains_key(&Slot { value: own, kind: Kind::Scratch }) {
            return Ok(());
        }
        let mut from = vec![self.planes(node, x, plan.input.clone())?];
        match self.graph.node(g.node) {
            Some(pool) if plan.pool.is_some() => {
                from.push(self.gradient_maps(self.operand(pool, 0)?, &plan.gradient)?);
                from.push(self.materialise(self.operand(pool, 1)?)?);
            }
            _ => from.push(self.gradient_maps(g, &plan.gradient)?),
        }
        let scratch = self.slot(own, Kind::Scratch, Place::Sample(0), Form::Bytes(plan.sums()));
        let mut writes = vec![scratch, self.slot(own, Kind::Work, Place::Sample(0), Form::Bytes(plan.work_bytes()))];
        for (sum, _) in self.graph.users(g) {
            let partial = Slot { value: Value { node: sum, port: 0 }, kind: Kind::Partial };
            let sums = self.graph.node(sum).is_some_and(|n| n.op.name == "channel_sum");
            if sums && !self.plan.buffers.contains_key(&partial) {
                let form = Form::Floats(plan.gradient.channels);
                writes.push(self.slot(partial.value, Kind::Partial, Place::Sample(0), form));
            }
        }
        let product = Product { node: node.id, part: Part::Run, from: from.clone(), to: scratch };
        self.step(node.id, Work::Product(Box::new(product)), Tasks::Samples, from, writes);
        self.dense(node, own, scratch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lower::train::{lower, spread, states};
    use crate::{grad, text};
    use dorefa_runtime::train::{Decay, Optimizer, StepOptions};

    /// Whether the gradient of the pool lies in memory, and whether more than one step reads the pool's operand.
    fn stored(pool: &str, features: usize) -> [bool; 2] {
        let source = format!(
            "dorefa 1\ngraph g(x: f32[N, 3, 8, 8]) -> (scores) {{\n\
             \x20 c = conv(x, @w: f32[16, 3, 3, 3], @b: f32[16], pads=[1, 1, 1, 1])\n  p = {pool}\n\
             \x20 q = batch_norm(p, @g: f32[16], @h: f32[16], @i: f32[16], @j: f32[16])\n\
             \x20 f = reshape(q, shape=[{features}])\n  scores = matmul(f, @v: f32[4, {features}])\n}}\n"
        );
        let source = text::parse(&source, "g", &|_| None).unwrap_or_else(|e| panic!("{e:?}"));
        let options = StepOptions { optimizer: Optimizer::Sgd, decay: Decay::None };
        let graph = spread(&grad::build(&source, &options).unwrap().train).unwrap();
        let plan = lower(&graph, &states(&graph).0).unwrap();
        let named =
            |op: &str| graph.order().into_iter().filter_map(|id| graph.node(id)).find(|n| n.op.name == op).unwrap();
        let gradient = Slot::own(Value { node: named("max_pool_grad").id, port: 0 });
        let operand = Slot::own(graph.operands(named("max_pool_winner").id)[0]);
        let readers = plan.steps.iter().filter(|s| s.reads.contains(&operand)).count();
        [plan.buffers.contains_key(&gradient), readers > 1]
    }

    #[test]
    fn gradients_of_pools_that_only_patches_read_are_not_made() {
        assert_eq!(stored("max_pool(c, kernel=[2, 2], strides=[2, 2])", 256), [false, false]);
        // Windows that overlap, that leave a row, and a gradient that is read element by element.
        assert_eq!(stored("max_pool(c, kernel=[2, 2])", 16 * 49), [true, false]);
        assert_eq!(stored("max_pool(c, kernel=[3, 3], strides=[3, 3])", 64), [true, false]);
        assert!(stored("max_pool(relu(c), kernel=[2, 2], strides=[2, 2])", 256)[0]);
    }
}
