//! Places the slots of a training step: those of one sample in the sample's part of the arena, the others in the fixed part;
//! slots whose lifetimes do not overlap share memory.

use super::{Form, Place, Plan, Slot};
use crate::lower::arena;
use std::collections::BTreeMap;

/// Fills in the offsets of `plan`'s arena slots and the sizes of its parts.
pub fn place(plan: &mut Plan) {
    let mut life: BTreeMap<Slot, (usize, usize)> = BTreeMap::new();
    for (at, step) in plan.steps.iter().enumerate() {
        for &slot in step.reads.iter().chain(&step.writes) {
            let range = life.entry(slot).or_insert((at, at));
            *range = (range.0.min(at), range.1.max(at));
        }
    }
    let last = plan.steps.len();
    let wanted = |fixed: bool| {
        let of = |(slot, buffer): (&Slot, &super::Buffer)| {
            let here =
                if fixed { matches!(buffer.place, Place::Fixed(_)) } else { matches!(buffer.place, Place::Sample(_)) };
            // What the end of the step reports lives to the end.
            let range = life.get(slot).map(|&(a, b)| if buffer.form == Form::Floats(1) { (a, last) } else { (a, b) });
            here.then_some((buffer.form.bytes() as u64, *slot, range?))
        };
        plan.buffers.iter().filter_map(of).collect::<Vec<_>>()
    };
    let (fixed, samples) = (arena::first_fit(wanted(true)), arena::first_fit(wanted(false)));
    for (slot, offset) in fixed.0 {
        if let Some(b) = plan.buffers.get_mut(&slot) {
            b.place = Place::Fixed(offset);
        }
    }
    for (slot, offset) in samples.0 {
        if let Some(b) = plan.buffers.get_mut(&slot) {
            b.place = Place::Sample(offset);
        }
    }
    plan.fixed = fixed.1;
    plan.per_sample = samples.1;
}
