//! The order of a training step's steps: whole operators that wait for nothing come first, all at once; those whose tasks are
//! samples come in runs as long as what they read allows, so that a run can take one sample after another while its values are
//! in the cache. Must never know what a step computes.

use super::{Plan, Slot, Step, Tasks, Work, samples_per_task};
use crate::graph::Graph;

/// Makes one step, with a task each, of the operators of one task that read nothing that a step before the updates
/// writes.
pub(super) fn first(plan: &mut Plan) {
    let (all, end) = (plan.steps.len(), plan.updates.min(plan.steps.len()));
    let before = plan.steps.get(..end).unwrap_or_default();
    let written: Vec<Slot> = before.iter().flat_map(|s| s.writes.iter().copied()).collect();
    let ready = |s: &Step| {
        let whole = matches!(s.work, Work::Operators(_)) && s.tasks == Tasks::Fixed(1);
        whole && s.reads.iter().all(|slot| !written.contains(slot))
    };
    let (mut joined, mut rest) = (None::<Step>, Vec::new());
    for (i, step) in std::mem::take(&mut plan.steps).into_iter().enumerate() {
        if i >= end || !ready(&step) {
            rest.push(step);
            continue;
        }
        match (&mut joined, step.work) {
            (Some(Step { work: Work::Operators(all), reads, writes, .. }), Work::Operators(more)) => {
                all.extend(more);
                reads.extend(step.reads);
                writes.extend(step.writes);
            }
            (_, work) => joined = Some(Step { work, ..step }),
        }
    }
    if let Some(Step { work: Work::Operators(all), tasks, .. }) = &mut joined {
        *tasks = Tasks::Fixed(all.len());
    }
    plan.steps = joined.into_iter().chain(rest).collect();
    plan.updates = end + plan.steps.len() - all;
}

/// Reorders the steps before the updates.
pub(super) fn group(plan: &mut Plan) {
    let updates = plan.steps.split_off(plan.updates.min(plan.steps.len()));
    let before = std::mem::take(&mut plan.steps);
    let after: Vec<Vec<usize>> = before
        .iter()
        .enumerate()
        .map(|(i, step)| before.iter().take(i).enumerate().filter(|(_, s)| ordered(s, step)).map(|(j, _)| j).collect())
        .collect();
    let mut left: Vec<Option<Step>> = before.into_iter().map(Some).collect();
    // Long chains of additions leave other threads idle unless samples go on beside them.
    let mut samples = left.first().and_then(Option::as_ref).is_some_and(several);
    if samples {
        plan.steps.extend(left.first_mut().and_then(Option::take));
    }
    while left.iter().any(Option::is_some) {
        let ready = |i: usize, step: &Step| {
            let free = after.get(i).is_some_and(|others| others.iter().all(|&j| matches!(left.get(j), Some(None))));
            free && (step.tasks == Tasks::Samples) == samples
        };
        let next = left.iter().enumerate().position(|(i, s)| s.as_ref().is_some_and(|s| ready(i, s)));
        match next.and_then(|i| left.get_mut(i)?.take()) {
            Some(step) => plan.steps.push(step),
            None => samples = !samples,
        }
    }
    plan.steps.extend(updates);
}

/// Whether task i of a step is sample i alone.
pub fn apart(graph: &Graph, step: &Step) -> bool {
    let alone = |product| samples_per_task(graph, product).is_ok_and(|n| n == 1);
    step.tasks == Tasks::Samples && !matches!(&step.work, Work::Product(product) if !alone(product))
}

/// For each step that does so, the run of steps that take one sample after another through all of them; those behind the
/// updates' start are runs by themselves.
pub(super) fn runs(graph: &Graph, plan: &Plan) -> Vec<Option<usize>> {
    let (mut run, mut before) = (0, false);
    let of = |(i, step): (usize, &Step)| {
        let now = apart(graph, step);
        run += usize::from(!(before && now && i < plan.updates));
        before = now;
        now.then_some(run)
    };
    plan.steps.iter().enumerate().map(of).collect()
}

/// Whether a step is several whole operators.
fn several(step: &Step) -> bool {
    matches!(&step.work, Work::Operators(all) if all.len() > 1)
}

/// Whether step `i` is several whole operators, and nothing that the steps over samples behind it do waits for them.
pub fn beside(plan: &Plan, i: usize) -> bool {
    let Some(step) = plan.steps.get(i).filter(|s| several(s)) else { return false };
    let mut run = plan.steps.iter().skip(i + 1).take_while(|s| s.tasks == Tasks::Samples).peekable();
    run.peek().is_some() && run.all(|s| !ordered(step, s))
}

/// Whether `second` must stay behind `first`.
fn ordered(first: &Step, second: &Step) -> bool {
    let meet = |a: &[Slot], b: &[Slot]| a.iter().any(|slot| b.contains(slot));
    meet(&first.writes, &second.reads) || meet(&first.writes, &second.writes) || meet(&first.reads, &second.writes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{NodeId, Value};
    use crate::lower::train::Work;

    fn step(i: usize, tasks: Tasks, reads: &[usize]) -> Step {
        let slot = |i: usize| Slot::own(Value { node: NodeId(i as u32), port: 0 });
        let reads = reads.iter().map(|&r| slot(r)).collect();
        let node = NodeId(i as u32);
        Step { node, work: Work::Check(Vec::new()), tasks, reads, writes: vec![slot(i)] }
    }

    #[test]
    fn operators_that_wait_for_nothing_come_first_at_once() {
        let whole = |i: usize, reads: &[usize]| {
            let step = step(i, Tasks::Fixed(1), reads);
            Step { work: Work::Operators(vec![step.node]), ..step }
        };
        let update = step(9, Tasks::Fixed(2), &[1]);
        let steps = vec![step(0, Tasks::Samples, &[]), whole(1, &[9]), whole(2, &[0]), whole(3, &[]), update];
        let mut plan = Plan { steps, updates: 4, ..Plan::default() };
        first(&mut plan);
        let nodes: Vec<_> = plan.steps.iter().map(|s| s.node.0).collect();
        assert_eq!((&*nodes, plan.updates), (&[1, 0, 2, 9][..], 3));
        let Some(Step { work: Work::Operators(all), tasks, writes, .. }) = plan.steps.first() else {
            panic!("{plan:?}")
        };
        assert_eq!((&**all, *tasks, writes.len()), (&[NodeId(1), NodeId(3)][..], Tasks::Fixed(2), 2));
    }

    #[test]
    fn samples_go_on_beside_whole_operators() {
        let whole = Step { work: Work::Operators(vec![NodeId(0), NodeId(1)]), ..step(0, Tasks::Fixed(2), &[]) };
        let steps = |reads: &[usize]| {
            let run = [step(3, Tasks::Samples, reads), step(4, Tasks::Samples, &[3])];
            let fixed = [whole.clone(), step(1, Tasks::Fixed(2), &[0])];
            fixed.into_iter().chain(run).collect()
        };
        for (reads, want, together) in
            [(&[9], [0, 3, 4, 1], true), (&[0], [0, 3, 4, 1], false), (&[1], [0, 1, 3, 4], false)]
        {
            let mut plan = Plan { steps: steps(reads), updates: 4, ..Plan::default() };
            group(&mut plan);
            let order: Vec<usize> = plan.steps.iter().map(|s| s.node.0 as usize).collect();
            assert_eq!((&*order, beside(&plan, 0)), (&want[..], together), "{reads:?}");
            assert!(!beside(&plan, 1));
        }
    }

    #[test]
    fn samples_come_in_runs_behind_what_they_read() {
        let (samples, fixed) = (Tasks::Samples, Tasks::Fixed(2));
        let steps = vec![
            step(0, samples, &[]),
            step(1, fixed, &[]),
            step(2, samples, &[0, 1]),
            step(3, fixed, &[2]),
            step(4, samples, &[2]),
            step(5, samples, &[3, 4]),
            step(6, fixed, &[]),
        ];
        let mut plan = Plan { steps, updates: 6, ..Plan::default() };
        group(&mut plan);
        let order: Vec<usize> = plan.steps.iter().map(|s| s.node.0 as usize).collect();
        assert_eq!(order, [1, 0, 2, 4, 3, 5, 6]);
    }
}
