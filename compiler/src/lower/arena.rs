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
        for id in step.nodes() {
            for v in graph.operands(id) {
                if let Some(range) = life.get_mut(&v) {
                    range.1 = at;
                }
            }
        }
    }
    let wanted = life.into_iter().filter_map(|(v, range)| {
        let b = plan.buffers.get(&v).filter(|b| matches!(b.place, Place::Arena(_)))?;
        Some((b.bytes() as u64, v, range))
    });
    let (offsets, size) = first_fit(wanted.collect());
    plan.arena = size;
    for (value, offset) in offsets {
        if let Some(buffer) = plan.buffers.get_mut(&value) {
            buffer.place = Place::Arena(offset);
        }
    }
}

/// Offsets for what needs so many bytes during (first step, last step), and the bytes of all together.
pub fn first_fit<K: Ord + Copy>(mut wanted: Vec<(u64, K, (usize, usize))>) -> (Vec<(K, u64)>, u64) {
    wanted.sort_by_key(|&(size, key, _)| (std::cmp::Reverse(size), key));
    let mut placed: Vec<(u64, u64, (usize, usize))> = Vec::new();
    let (mut offsets, mut total) = (Vec::new(), 0);
    for (size, key, range) in wanted {
        let size = size.next_multiple_of(ALIGN);
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
        total = total.max(offset + size);
        offsets.push((key, offset));
    }
    (offsets, total)
}
