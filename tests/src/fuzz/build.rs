//! A network of any bytes: each few bytes apply one operator of the table to earlier values and to constants of shapes that
//! may fit. What does not fit is left out, so that every input is a network, and a new operator is fuzzed without a word here.

use crate::noise;
use dorefa_runtime::Tensor;
use dorefac::graph::attrs::{Attr, AttrDef, Attrs, Kind};
use dorefac::graph::ops::{self, OpDef};
use dorefac::graph::types::{Shape, ValueType};
use dorefac::graph::{Graph, Value, verify};

/// Most nodes of a network, and elements of a value.
const NODES: usize = 24;
const ELEMENTS: usize = 1 << 12;

/// The bytes as a source of choices; zeros behind their end.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> usize {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first.into()
    }

    fn below(&mut self, n: usize) -> usize {
        self.byte() % n.max(1)
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    fn float(&mut self) -> f32 {
        let usual = [0.0, 1.0, -1.0, 0.5, 2.0, 3.0, 1.0 / 3.0, 0.1, 255.0, -0.25, 1e-30, 1e30, f32::INFINITY];
        match self.byte() {
            b @ 0..=150 => usual[b % usual.len()],
            b => (b as f32 - 200.0) / 16.0,
        }
    }
}

/// Operators that a file may hold, the quantisers last and more often.
pub fn operators() -> Vec<&'static OpDef> {
    let inference = ops::TABLE.iter().copied().skip(2).take_while(|op| op.name != "encode");
    let more = ["conv", "quantize_weights", "quantize_activation", "quant", "batch_norm"];
    inference.chain(more.iter().map(|name| ops::known(name))).collect()
}

/// The network that `bytes` describe, if it has an output that depends on its input.
pub fn graph(bytes: &[u8]) -> Option<Graph> {
    let mut c = Choices(bytes);
    let mut graph = Graph::new("fuzz");
    let [channels, height, width] = [1 + c.below(8), 1 + c.below(9), 1 + c.below(9)];
    let shape = if c.below(8) == 0 { vec![channels] } else { vec![channels, height, width] };
    let mut values = vec![graph.add_input("x", ValueType::f32(Shape::batched(&shape)))];
    let operators = operators();
    while !c.0.is_empty() && values.len() < NODES {
        let op = c.of(&operators);
        if let Some(value) = apply(&mut graph, &mut c, &values, op) {
            values.push(value);
        }
    }
    let last = *values.last()?;
    graph.add_output("y", last);
    if c.below(4) == 0 && values.len() > 2 {
        graph.add_output("z", values[values.len() / 2]);
    }
    (values.len() > 1 && verify::verify(&graph).is_ok()).then_some(graph)
}

/// Applies an operator to the latest value, more rarely to an earlier one, and to what else it wants.
fn apply(graph: &mut Graph, c: &mut Choices<'_>, values: &[Value], op: &'static OpDef) -> Option<Value> {
    let back = c.of(&[0, 0, 0, 0, 0, 1, 1, 2, 3, 7]).min(values.len() - 1);
    let x = values[values.len() - 1 - back];
    let (least, most) = (op.inputs.0, op.inputs.1.min(op.inputs.0 + 1));
    let mut inputs = vec![x];
    // More inputs: another value, or a constant, quantised perhaps.
    for i in 1..if c.below(2) == 0 { least } else { most } {
        let value = match c.below(4) {
            0 => values[c.below(values.len())],
            _ => constant(graph, c, op, x, i)?,
        };
        inputs.push(value);
    }
    let mut attrs = Attrs::new();
    for def in op.attrs.iter() {
        if def.required || c.below(2) == 0 {
            attrs = attrs.with(def.name, attribute(graph, c, def, x)?);
        }
    }
    let value = graph.add(op, op.name, &inputs, attrs).ok()?;
    let shape = &graph.value_type(value)?.shape;
    shape.sample_len().filter(|&n| n <= ELEMENTS && shape.has_batch()).map(|_| value)
}

/// A constant for input `i` of `op` beside `x`.
fn constant(graph: &mut Graph, c: &mut Choices<'_>, op: &OpDef, x: Value, i: usize) -> Option<Value> {
    let shape = graph.value_type(x)?.shape.clone();
    let dims = shape.per_sample();
    let channels = dims.first().copied().unwrap_or(1);
    let outputs = c.of(&[1, 2, 3, 4, 8, 16, 17]);
    let dims = match (op.name, i) {
        ("conv", 1) => {
            let groups = if c.below(4) == 0 { channels } else { 1 };
            let kernel = [1 + c.below(3), 1 + c.below(3)];
            vec![outputs * groups, channels / groups, kernel[0], kernel[1]]
        }
        ("matmul", 1) => vec![outputs, shape.sample_len()?],
        ("batch_norm", _) => vec![channels],
        ("conv" | "matmul", _) => {
            let weights = graph.operands(x.node);
            vec![
                weights
                    .get(1)
                    .and_then(|&w| graph.value_type(w)?.shape.per_sample().first().copied())
                    .unwrap_or(outputs),
            ]
        }
        ("multi_threshold", _) => vec![c.of(&[1, channels]), 1 + c.below(15)],
        _ => match c.below(6) {
            0 => vec![channels, 1, 1],
            1 => vec![1, channels, 1, 1],
            2 => vec![1],
            3 => dims,
            _ => vec![],
        },
    };
    let len: usize = dims.iter().product();
    let fill = c.below(8);
    let scale = c.float();
    let draw = noise(len, c.byte() as u64);
    let value = |(i, &v): (usize, &f32)| match fill {
        0 => scale,
        1 => 0.0,
        2 => scale * if i % 2 == 0 { 1.0 } else { -1.0 },
        3 => (v * 4.0).round(),
        4 => -v,
        5 => v * scale,
        _ => v,
    };
    let mut data: Vec<f32> = draw.iter().enumerate().map(value).map(|v| if v.is_finite() { v } else { 1.0 }).collect();
    if op.name == "multi_threshold" {
        data.sort_by(f32::total_cmp);
    }
    let constant = graph.add_constant("c", Tensor::f32(dims, data).ok()?).ok()?;
    if matches!((op.name, i), ("conv" | "matmul", 1)) && c.below(4) != 0 {
        let bits = c.of(&[1, 1, 2, 2, 3, 4, 8, 32]);
        return graph
            .add(ops::known("quantize_weights"), "wq", &[constant], Attrs::new().with("bits", Attr::Int(bits)))
            .ok();
    }
    Some(constant)
}

/// A value for an attribute: such as may fit, and such as may not.
fn attribute(graph: &Graph, c: &mut Choices<'_>, def: &AttrDef, x: Value) -> Option<Attr> {
    let shape = &graph.value_type(x)?.shape;
    let (rank, dims) = (shape.rank() as i64, shape.per_sample());
    Some(match def.kind {
        Kind::Int if def.name == "groups" => Attr::Int(c.of(&[1, 1, 1, 2, dims.first().copied().unwrap_or(1) as i64])),
        Kind::Int if def.name == "bits" => Attr::Int(c.of(&[1, 2, 2, 3, 4, 8, 16, 32])),
        Kind::Int => Attr::Int(c.of(&[1, 2, 0, -1, 3, 4, 8])),
        Kind::Float => Attr::Float(c.float()),
        Kind::Bool => Attr::Bool(c.below(2) == 1),
        Kind::Word(words) => Attr::Word((*words.get(c.below(words.len()))?).to_owned()),
        Kind::Ints => Attr::Ints(match def.name {
            "shape" => match c.below(3) {
                0 => vec![shape.sample_len()? as i64],
                1 => dims.iter().rev().map(|&d| d as i64).collect(),
                _ => vec![shape.sample_len()? as i64, 1, 1],
            },
            "perm" => match c.below(3) {
                0 => vec![0, 2, 3, 1],
                1 => vec![0, 3, 1, 2],
                _ => (0..rank).collect(),
            },
            "axes" => c.of(&[&[2i64, 3][..], &[1], &[-1], &[1, 2, 3]]).to_vec(),
            "pads" => (0..4).map(|_| c.below(3) as i64).collect(),
            _ => (0..2).map(|_| 1 + c.below(3) as i64).collect(),
        }),
        Kind::Scales => return None,
    })
}
