//! Helpers of the passes' tests: small graphs, inputs that reach the edges, and comparison through the interpreter.

use crate::graph::attrs::{Attr, Attrs};
use crate::graph::types::{Shape, ValueType};
use crate::graph::{Graph, Value, ops};
use crate::interp;
use dorefa_runtime::tensor::Tensor;

/// Pseudo-random floats in −2 … 2.
pub fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut s = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..n)
        .map(|_| {
            s ^= s << 13;
            s ^= s >> 7;
            s ^= s << 17;
            (s >> 40) as f32 / (1u64 << 22) as f32 - 2.0
        })
        .collect()
}

/// Adds a constant.
pub fn constant(g: &mut Graph, shape: &[usize], data: Vec<f32>) -> Value {
    g.add_constant("c", Tensor::f32(shape.to_vec(), data).expect("shape")).expect("floats")
}

/// Adds a node without attributes.
pub fn node(g: &mut Graph, op: &str, inputs: &[Value]) -> Value {
    with(g, op, inputs, Attrs::new())
}

/// Adds a node.
pub fn with(g: &mut Graph, op: &str, inputs: &[Value], attrs: Attrs) -> Value {
    g.add(ops::find(op).expect("operator"), op, inputs, attrs).expect("fits")
}

/// Two quantised convolutions with pools and batch norms (one γ negative), then a fully connected layer.
pub fn small(bits: i64) -> Graph {
    let mut g = Graph::new("small");
    let bits = Attrs::new().with("bits", Attr::Int(bits));
    let window = Attrs::new().with("kernel", Attr::Ints(vec![2, 2])).with("strides", Attr::Ints(vec![2, 2]));
    let pads = Attrs::new().with("pads", Attr::Ints(vec![1, 1, 1, 1]));
    let x = g.add_input("x", ValueType::f32(Shape::batched(&[2, 8, 8])));
    let w = constant(&mut g, &[4, 2, 3, 3], noise(72, 1));
    let a = with(&mut g, "conv", &[x, w], pads.clone());
    let a = with(&mut g, "max_pool", &[a], window.clone());
    let a = with(&mut g, "quantize_activation", &[a], bits.clone());
    let w = constant(&mut g, &[3, 4, 3, 3], noise(108, 2));
    let w = with(&mut g, "quantize_weights", &[w], bits.clone());
    let bias = constant(&mut g, &[3], vec![0.1, -0.2, 0.3]);
    let a = with(&mut g, "conv", &[a, w, bias], pads);
    let p: Vec<Value> = [vec![0.5, -0.7, 0.0], vec![0.1, 0.4, 0.6], vec![0.2, -0.1, 0.3], vec![1.0, 0.5, 2.0]]
        .into_iter()
        .map(|d| constant(&mut g, &[3], d))
        .collect();
    let a = node(&mut g, "batch_norm", &[a, p[0], p[1], p[2], p[3]]);
    let a = with(&mut g, "max_pool", &[a], window);
    let a = with(&mut g, "quantize_activation", &[a], bits.clone());
    let a = with(&mut g, "reshape", &[a], Attrs::new().with("shape", Attr::Ints(vec![12])));
    let w = constant(&mut g, &[5, 12], noise(60, 3));
    let w = with(&mut g, "quantize_weights", &[w], bits);
    let y = node(&mut g, "matmul", &[a, w]);
    g.add_output("y", y);
    g
}

/// Outputs of a graph on a noisy and an extreme batch.
pub fn outputs(g: &Graph, shape: &[usize]) -> Vec<f32> {
    let len: usize = shape.iter().product();
    let mut data = noise(len, 9);
    for (i, v) in data.iter_mut().enumerate().skip(len / 2) {
        *v *= [1e3, -0.0, 1e-3, 1.0][i % 4];
    }
    let x = Tensor::f32(shape.to_vec(), data).expect("shape");
    let y = interp::run(g, &[x], true).expect("runs");
    y.iter().flat_map(|t| t.as_f32().expect("floats").to_vec()).collect()
}
