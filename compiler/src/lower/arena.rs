//! Arena planning: every value gets an offset in the sample's part of the arena; values whose lifetimes do not overlap share
//! memory. First fit by size, largest first; deterministic.

use super::{Place, Plan};
use crate::graph::{Graph, Value};
use std::collections::BTreeMap;

const ALIGN: u64 = 64;

/// Fills in the offsets of `plan`'s arena buffers and the arena's size.
pub fn plan(graph: &Graph, plan: &mut Plan) {
    let mut life: BTreeMap<Value, (usize, usize)> = BTreeMap::new();
    for (at, step) in plan.steps.iter().enumerate() {
        life.insert(step.result, (at, at));
        for id in step.main.iter().chain(&step.chain) {
            for v in graph.operands(*id) {
                if let Some(range) = life.get_mut(&v) {
                    range.1 = at;
                }
            }
        }
    }
    let mut wanted: Vec<(u64, Value, (usize, usize))> = life
        .into_iter()
        .filter_map(|(v, range)| {
            let b = plan.buffers.get(&v).filter(|b| matches!(b.place, Place::Arena(_)))?;
            Some(((b.bytes() as u64).next_multiple_of(ALIGN), v, range))
        })
        .collect();
    wanted.sort_by_key(|&(size, v, _)| (std::cmp::Reverse(size), v));
    let mut placed: Vec<(u64, u64, (usize, usize))> = Vec::new();
    for (size, value, range) in wanted {
        let mut clashes: Vec<_> =
            placed.iter().filter(|(_, _, r)| r.0 <= range.1 && range.0 <= r.1).map(|&(o, s, _)| (o, s)).collect();
        clashes.sort_unstable();
        let mut offset = 0;
        for (o, s) in clashes {
            if offset + size <= o {
                break;
            }
            offset = offset.max(o + s);
        }
        placed.push((offset, size, range));
        plan.arena = plan.arena.max(offset + size);
        if let Some(buffer) = plan.buffers.get_mut(&value) {
            buffer.place = Place::Arena(offset);
        }
    }
}
