//! Places the slots of a training step: those of one sample in the sample's part of the arena, or in a worker's where no other run
//! of steps wants them; the others in the fixed part. Slots whose lifetimes do not overlap share memory.

use super::{Buffer, Form, Place, Plan, Slot};
use crate::lower::{LINE, arena};
use std::collections::BTreeMap;

/// Bytes of a page.
const PAGE: u64 = 4096;

/// What is known of a slot's use.
struct Life {
    /// The first and the last step.
    steps: (usize, usize),
    /// The run that all of them belong to.
    run: Option<usize>,
}

/// Fills in the offsets of `plan`'s arena slots and the sizes of its parts; `runs` says which steps take one sample after another
/// through all of them.
pub fn place(plan: &mut Plan, runs: &[Option<usize>]) {
    let mut lives: BTreeMap<Slot, Life> = BTreeMap::new();
    for (at, step) in plan.steps.iter().enumerate() {
        let run = runs.get(at).copied().flatten();
        for &slot in step.reads.iter().chain(&step.writes) {
            let life = lives.entry(slot).or_insert(Life { steps: (at, at), run });
            life.steps = (life.steps.0.min(at), life.steps.1.max(at));
            life.run = life.run.filter(|_| life.run == run);
        }
    }
    for (slot, buffer) in &mut plan.buffers {
        if matches!(buffer.place, Place::Sample(_)) && lives.get(slot).is_some_and(|life| life.run.is_some()) {
            buffer.place = Place::Local(0);
        }
    }
    plan.fixed = fit(plan, &lives, Place::Fixed);
    plan.local = fit(plan, &lives, Place::Local);
    let kept = fit(plan, &lives, Place::Sample);
    // Samples that began at the same byte of a page would meet in the same sets of the first cache.
    plan.per_sample = if kept.is_multiple_of(PAGE) { kept + LINE as u64 } else { kept };
}

/// Offsets for the slots of one part, and its size.
fn fit(plan: &mut Plan, lives: &BTreeMap<Slot, Life>, part: fn(u64) -> Place) -> u64 {
    let here = |place: Place| std::mem::discriminant(&place) == std::mem::discriminant(&part(0));
    let last = plan.steps.len();
    let wanted = |(slot, buffer): (&Slot, &Buffer)| {
        let (first, end) = lives.get(slot)?.steps;
        // What the end of the step reports lives to the end.
        let end = if buffer.form == Form::Floats(1) { last } else { end };
        here(buffer.place).then_some((buffer.form.bytes() as u64, *slot, (first, end)))
    };
    let (offsets, size) = arena::first_fit(plan.buffers.iter().filter_map(wanted).collect());
    for (slot, offset) in offsets {
        if let Some(buffer) = plan.buffers.get_mut(&slot) {
            buffer.place = part(offset);
        }
    }
    size
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{NodeId, Value};
    use crate::lower::train::{Step, Tasks, Work};

    #[test]
    fn what_one_run_alone_uses_is_a_workers() {
        let slot = |i: u32| Slot::own(Value { node: NodeId(i), port: 0 });
        let step = |tasks, reads: &[u32], write: u32| Step {
            node: NodeId(write),
            work: Work::Check(Vec::new()),
            tasks,
            reads: reads.iter().map(|&i| slot(i)).collect(),
            writes: vec![slot(write)],
        };
        let (samples, fixed) = (Tasks::Samples, Tasks::Fixed(1));
        let steps = vec![
            step(samples, &[], 0),
            step(samples, &[0], 1),
            step(fixed, &[1], 2),
            step(samples, &[1, 2], 3),
            step(samples, &[3], 4),
        ];
        let buffer = |i: u32| {
            let place = if i == 2 { Place::Fixed(0) } else { Place::Sample(0) };
            (slot(i), Buffer { place, form: Form::Bytes(100) })
        };
        let mut plan = Plan { steps, updates: 5, buffers: (0..5).map(buffer).collect(), ..Plan::default() };
        place(&mut plan, &[Some(1), Some(1), None, Some(2), Some(2)]);
        let places: Vec<Place> = plan.buffers.values().map(|b| b.place).collect();
        // 0 ends before 3 begins, 4 lies beside 3.
        let want = [Place::Local(0), Place::Sample(0), Place::Fixed(0), Place::Local(0), Place::Local(128)];
        assert_eq!((&*places, plan.local, plan.per_sample), (&want[..], 256, 128));
    }
}
