//! Where the values that cross a step lie, and how: as their readers' kernels want them, whatever the level, or as `--kernel` wishes.
//! Must never know an instruction set.

use super::{Buffer, LowerError, Place, Plan, is, refuse, split, wide_accumulator};
use crate::graph::ops;
use crate::graph::types::{Elem, Layout};
use crate::graph::{Graph, NodeId, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Gives every value that lies in memory a buffer, which as yet has no offset; a problem for each that can have none.
pub(super) fn place(graph: &Graph, plan: &mut Plan, wanted: &BTreeMap<NodeId, Layout>) -> Vec<LowerError> {
    let mut problems = Vec::new();
    let inputs = graph.inputs().iter().enumerate().map(|(i, &n)| (Value { node: n, port: 0 }, Some(i)));
    let pooled = plan.steps.iter().filter(|s| s.pool.is_some()).map(|s| (s.made, None));
    let values: Vec<_> = inputs.chain(plan.steps.iter().map(|s| (s.result, None))).chain(pooled).collect();
    for (value, input) in values {
        let (Some(ty), Some(node)) = (graph.value_type(value), graph.node(value.node)) else { continue };
        let Some(image) = ty.shape.stored() else {
            problems.push(refuse(node, "only values with a batch as axis 0 have kernels"));
            continue;
        };
        let output = graph.outputs().iter().position(|(_, v)| *v == value);
        let integer = ty.elem != Elem::F32;
        let planes = ty.codes().map_or(0, |c| c.bits() as usize);
        let (layout, group) = choose_layout(graph, value, input.is_some() || output.is_some(), image, wanted);
        if output.is_some() && integer {
            problems.push(refuse(node, "an output of the graph must be f32"));
        }
        let place = match (input, output) {
            (Some(i), _) => Place::Input(i),
            (None, Some(o)) => Place::Output(o),
            (None, None) => Place::Arena(0),
        };
        plan.buffers.insert(value, Buffer { place, layout, image, planes, group, integer });
    }
    problems
}

/// Codes that a convolution reads lie as bit planes, grouped as it groups them; the caller's tensors are dense; the rest has
/// its channels innermost.
fn choose_layout(
    graph: &Graph,
    value: Value,
    callers: bool,
    image: (usize, usize, usize),
    wanted: &BTreeMap<NodeId, Layout>,
) -> (Layout, usize) {
    if callers {
        return (Layout::Dense, image.0);
    }
    let users = graph.users(value);
    let asked = users.iter().find_map(|(node, port)| wanted.get(node).filter(|_| *port == 0));
    // Fixed-point layers read any layout, so they have a say only where nobody else has.
    let wide = users
        .iter()
        .any(|&(node, _)| wide_accumulator(graph, Value { node, port: 0 }) && !split::fixed_point(graph, node))
        || !users.is_empty() && users.iter().all(|&(node, _)| split::fixed_point(graph, node));
    let planar = !wide && asked != Some(&Layout::Nhwc);
    if let Some(bits) = graph.value_type(value).and_then(|t| t.codes()).map(|c| c.bits()).filter(|_| planar) {
        let groups = readers_groups(graph, value);
        let group = image.0 / groups.last().copied().unwrap_or(1);
        // Whole quads, and whole words, are the same however they are grouped: if they are whole for every reader.
        let whole = |n: usize| group.is_multiple_of(n) && groups.iter().all(|g| (image.0 / g).is_multiple_of(n));
        if bits <= 2 && whole(4) && asked.map_or_else(|| reads_by_look_up(graph, value), |l| *l == Layout::Nibbles) {
            return (Layout::Nibbles, group);
        }
        if (groups.len() <= 1 && (group == image.0 || whole(4))) || whole(64) {
            return (Layout::Bits, group);
        }
    }
    let reshaped =
        graph.users(value).iter().filter_map(|(n, _)| graph.node(*n)).any(|n| is(n, &["reshape", "softmax"]));
    let own = graph.node(value.node).is_some_and(|n| is(n, &["reshape", "softmax"]));
    let flat = image.1 * image.2 == 1;
    let float = graph.value_type(value).is_some_and(|t| t.elem == Elem::F32);
    if (reshaped || own) && !flat && float { (Layout::Dense, image.0) } else { (Layout::Nhwc, image.0) }
}

/// Whether every convolution that reads the codes wants them for table look-ups: those with several positions, whose 16-bit
/// sums cannot overflow. Pools read any layout.
fn reads_by_look_up(graph: &Graph, value: Value) -> bool {
    let users = graph.users(value);
    users.iter().filter_map(|(n, _)| graph.node(*n)).all(|n| {
        let types: Vec<_> = graph.operands(n.id).iter().filter_map(|&v| graph.value_type(v)).collect();
        match (n.op.name, &*types) {
            ("int_conv", _) if split::fixed_point(graph, n.id) => true,
            ("int_conv", [x, w, ..]) => ops::Geometry::new(&n.attrs, &x.shape, &w.shape).is_ok_and(|g| {
                let top = x.codes().map_or(0, |c| c.top as usize);
                g.output != [1, 1] && g.taps() * top <= u16::MAX.into() && (g.outputs / g.groups).is_multiple_of(16)
            }),
            _ => true,
        }
    })
}

/// Groups of the convolutions that read a value, through pools of codes.
fn readers_groups(graph: &Graph, value: Value) -> BTreeSet<usize> {
    let users = graph.users(value);
    let groups = users.iter().filter_map(|(n, _)| graph.node(*n)).map(|n| match n.op.name {
        "int_conv" if split::fixed_point(graph, n.id) => BTreeSet::new(),
        "int_conv" => BTreeSet::from([n.attrs.int("groups", 1).max(1) as usize]),
        "code_pool" => readers_groups(graph, Value { node: n.id, port: 0 }),
        _ => BTreeSet::new(),
    });
    groups.flatten().collect()
}
