//! Arena planning: every value gets an offset in the sample's part of the arena; values whose lifetimes do not overlap share
//! memory. First fit by size, largest first; deterministic. Where all values together are small they share none: the rows of a
//! value are then always written by the same worker, in whose cache they lie still, and in no other's.

use super::{LINE, Place, Plan};
use crate::graph::{Graph, Value};
use std::collections::BTreeMap;

/// Bytes of a sample's values up to which they share no memory: what a first-level cache holds.
const SMALL: u64 = 32 << 10;

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
    let mut wanted: Vec<_> = wanted.collect();
    if wanted.iter().map(|(bytes, ..)| bytes).sum::<u64>() <= SMALL {
        wanted.iter_mut().for_each(|(_, _, range)| *range = (0, plan.steps.len()));
    }
    let (offsets, size) = first_fit(wanted);
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
        let size = size.next_multiple_of(LINE as u64);
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

#[cfg(test)]
mod tests {
    use crate::lower::{Place, lower};
    use crate::{passes, text};

    /// Bytes of the arena, and of all values in it, of a chain of three layers on images of `side` × `side`.
    fn sizes(side: usize) -> (u64, u64) {
        let source = format!(
            "dorefa 1\ngraph g(x: f32[N, 8, {side}, {side}]) -> (y) {{\n  a = conv(x, @a: f32[8, 8, 1, 1])\n  \
             b = conv(a, @b: f32[8, 8, 1, 1])\n  c = conv(b, @c: f32[8, 8, 1, 1])\n  y = conv(c, @y: f32[8, 8, 1, 1])\n}}\n"
        );
        let mut graph = text::parse(&source, "arena.dorefa", &|_| None).expect("parses");
        passes::run(&mut graph, true, &mut |_, _| {}).expect("passes");
        let plan = lower(&graph).expect("lowers");
        let inside = plan.buffers.values().filter(|b| matches!(b.place, Place::Arena(_)));
        (plan.arena, inside.map(|b| b.bytes() as u64).sum())
    }

    #[test]
    fn only_large_values_share_memory() {
        // Three values of 8 KB.
        assert_eq!(sizes(16), (3 * 8192, 3 * 8192));
        // Of 32 KB, of which two live at once.
        assert_eq!(sizes(32), (2 * 32768, 3 * 32768));
    }
}
