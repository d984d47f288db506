//! Updates that may make their gradient themselves. The gradient of a layer with one output position is larger than any cache and
//! read once, by the update: made a few rows at a time in front of it, it never reaches memory. Whether a machine does so is its
//! kernel's to say; this finds the updates for which it would be right. Must never know kernels.

use super::products::{Part, Plan, Product, plan};
use super::schedule::Scheduler;
use super::{Domain, Slot, Tasks, Work};
use std::collections::BTreeSet;

impl Scheduler<'_> {
    /// The weight gradient that an update of the elements `at` may make itself: the only one among its `reads`, which no other
    /// update reads, nor a step but those that a kernel can do without it: the check, which looks at its factors first, and the
    /// gradients for the caller. With the product's tasks.
    pub(super) fn late(
        &self,
        at: Domain,
        reads: &BTreeSet<Slot>,
        others: &[&BTreeSet<Slot>],
    ) -> Option<(Box<Product>, Tasks)> {
        let mut gradients = reads.iter().filter(|s| self.plan.factors(s).is_some());
        let (Some(slot), None) = (gradients.next(), gradients.next()) else { return None };
        let node = self.graph.node(slot.value.node)?;
        let Ok(Plan::WeightGrad(wanted, _)) = plan(self.graph, node) else { return None };
        let len = self.ty(slot.value).ok()?.shape.sample_len()?;
        let reader = |work: &Work| !matches!(work, Work::Check(_) | Work::Gradients(_));
        let read = self.plan.steps.iter().any(|s| s.reads.contains(slot) && reader(&s.work));
        let alone = !read && !others.iter().any(|reads| reads.contains(slot));
        if !(alone && at == Domain::Flat(len) && wanted.in_lines()) {
            return None;
        }
        self.plan.steps.iter().find_map(|s| match &s.work {
            Work::Product(product) if product.part == Part::Run && product.node == node.id => {
                Some((product.clone(), s.tasks))
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lower::train::{lower, spread, states};
    use crate::{grad, text};
    use dorefa_runtime::train::{Decay, Optimizer, StepOptions};

    /// How many updates may make their gradient themselves.
    fn late(channels: usize, bits: usize) -> usize {
        let source = format!(
            "dorefa 1\ngraph g(x: f32[N, {channels}, 2, 2]) -> (scores) {{\n\
             \x20 a = quantize_activation(x, bits=2)\n\
             \x20 c = conv(a, quantize_weights(@w: f32[16, {channels}, 2, 2], bits={bits}))\n\
             \x20 q = batch_norm(quantize_gradient(c, bits=6), @g: f32[16], @h: f32[16], @i: f32[16], @j: f32[16])\n\
             \x20 f = reshape(q, shape=[16])\n  scores = matmul(f, @v: f32[4, 16])\n}}\n"
        );
        let source = text::parse(&source, "g", &|_| None).unwrap_or_else(|e| panic!("{e:?}"));
        let options = StepOptions { optimizer: Optimizer::Sgd, decay: Decay::None };
        let graph = spread(&grad::build(&source, &options).unwrap().train).unwrap();
        let plan = lower(&graph, &states(&graph).0).unwrap();
        let found = plan.steps.iter().enumerate().filter(|(_, s)| matches!(s.work, Work::Late(..)));
        assert!(found.clone().all(|(i, _)| i >= plan.updates), "{plan:?}");
        for (_, step) in found.clone() {
            let Work::Late(product, _) = &step.work else { continue };
            // What the product reads is still there.
            assert!(product.from.iter().all(|slot| step.reads.contains(slot)));
            assert!(plan.is_late(product.node));
        }
        found.count()
    }

    #[test]
    fn gradients_that_only_their_update_wants_are_late() {
        // Rows of the weights must be whole lines; the rule of more bits sums over the gradient first.
        assert_eq!([late(4, 1), late(8, 1), late(5, 1), late(4, 2)], [1, 1, 0, 0]);
    }
}
