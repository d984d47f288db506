//! Exported graphs, imported again, against the graphs they were made of.

use super::{Dialect, onnx};
use crate::graph::Graph;
use crate::import::onnx::{from_bytes, proto};
use crate::passes::testing::noise;
use crate::{interp, passes, text};
use dorefa_runtime::tensor::Tensor;

/// A graph of an image (N, 4, 6, 6) or, where the body reads `m`, also of a matrix (N, 5).
fn graph(body: &str) -> Graph {
    let matrix = if body.contains("(m") { ", m: f32[N, 5]" } else { "" };
    let source = format!(
        "dorefa 1\nmeta input.scale = \"1/255\"\ngraph g(x: f32[N, 4, 6, 6]{matrix}) -> (y) {{\n  {body}\n}}\n"
    );
    text::parse(&source, "g.dorefa", &|_| None)
        .unwrap_or_else(|e| panic!("{body}: {}", e.iter().map(ToString::to_string).collect::<String>()))
}

fn inputs(graph: &Graph) -> Vec<Tensor> {
    let shapes = graph.inputs().iter().filter_map(|&id| graph.node(id)?.types.first());
    let tensors = shapes.enumerate().map(|(i, ty)| {
        let shape = ty.shape.concrete(3);
        let mut data = noise(shape.iter().product(), 7 + i as u64);
        data[..6].copy_from_slice(&[0.0, -0.0, 0.5, 1.0, 1.5, -2.5]);
        Tensor::f32(shape, data).expect("shape")
    });
    tensors.collect()
}

fn bits(graph: &Graph) -> Vec<Vec<u32>> {
    let outputs = interp::run(graph, &inputs(graph), true).expect("runs");
    outputs.iter().map(|t| t.as_f32().expect("floats").iter().map(|v| v.to_bits()).collect()).collect()
}

fn again(graph: &Graph, dialect: Dialect) -> Graph {
    let bytes = onnx(graph, dialect).unwrap_or_else(|e| panic!("{dialect:?}: {e}"));
    from_bytes("g.onnx", &bytes, None).unwrap_or_else(|e| panic!("{dialect:?}: {e}"))
}

fn lowered(mut graph: Graph) -> Graph {
    passes::run(&mut graph, true, &mut |_, _| {}).expect("passes");
    graph
}

/// Operators that both dialects have, by what a graph says of them.
const BOTH: &[&str] = &[
    "y = conv(x, @w: f32[6, 2, 3, 2], @b: f32[6], strides=[2, 1], pads=[1, 0, 2, 1], dilations=[1, 2], groups=2)",
    "y = conv(x, @w: f32[3, 4, 1, 1])",
    "y = matmul(m, @w: f32[3, 5], @b: f32[3])",
    "y = matmul(m, @w: f32[3, 5])",
    "y = batch_norm(x, @g: f32[4], @b: f32[4], @mean: f32[4], @var: f32[4], epsilon=1e-3)",
    "y = batch_norm(m, @g: f32[5], @b: f32[5], @mean: f32[5], @var: f32[5])",
    "y = add(x, @b: f32[4, 1, 1])",
    "y = sub(@b: f32[4, 1, 6], x)",
    "y = mul(x, x)",
    "y = div(x, @b: f32[6])",
    "y = min(x, @b: f32[6])",
    "y = max(@b: f32[1], x)",
    "y = neg(x)",
    "y = sqrt(abs(x))",
    "y = sign(x)",
    "y = step(x)",
    "y = round(x)",
    "y = round(x, mode=ceil)",
    "y = round(x, mode=floor)",
    "y = relu(x)",
    "y = leaky_relu(x, alpha=0.25)",
    "y = clip(x, lo=-0.5, hi=0.75)",
    "y = clip(x, hi=0.75)",
    "y = clip(x, lo=0.0)",
    "y = exp(x)",
    "y = tanh(x)",
    "y = sigmoid(x)",
    "y = softmax(m)",
    "y = max_pool(x, kernel=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1], ceil=true)",
    "y = average_pool(x, kernel=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_padding=true)",
    "y = average_pool(x, kernel=[2, 2], pads=[1, 1, 0, 0])",
    "y = global_average_pool(x)",
    "y = reduce_mean(x, axes=[2, 3], keepdims=false)",
    "y = reduce_max(x, axes=[1])",
    "y = reduce_sum(x, axes=[-1], keepdims=false)",
    "y = reshape(x, shape=[8, 18])",
    "y = transpose(x, perm=[0, 2, 3, 1])",
    "y = concat(x, neg(x), axis=1)",
    "y = pad(x, pads=[1, 2, 0, 1], value=0.5)",
    "y = quantize_activation(x, bits=1)",
    "y = quantize_activation(x, bits=2)",
    "y = quantize_activation(x, bits=3, bound=abs)",
    "y = quantize_activation(x, bits=4, bound=tanh)",
    "y = quantize_activation(x, bits=32)",
    "y = quantize_gradient(x, bits=6)",
    "y = dropout(x, rate=0.5)",
    "y = conv(x, quantize_weights(@w: f32[6, 4, 3, 3], bits=1))",
    "y = conv(x, quantize_weights(@w: f32[6, 4, 3, 3], bits=32))",
    "y = bipolar_quant(x, @s: f32[1])",
];

/// Operators that only QONNX has.
const QUANTISERS: &[&str] = &[
    "y = quant(x, @s: f32[1], @z: f32[1], bits=3, signed=true, narrow=true, mode=half_up)",
    "y = quant(x, @s: f32[4, 1, 1], @z: f32[1], bits=2, signed=false)",
    "y = multi_threshold(x, @t: f32[4, 3])",
    "y = multi_threshold(m, @t: f32[1, 15])",
];

#[test]
fn every_operator_keeps_its_bits() {
    for body in BOTH {
        let graph = graph(body);
        let want = bits(&graph);
        for dialect in [Dialect::Float, Dialect::Qonnx] {
            assert_eq!(bits(&again(&graph, dialect)), want, "{body}, {dialect:?}");
        }
    }
    for body in QUANTISERS {
        let graph = graph(body);
        assert_eq!(bits(&again(&graph, Dialect::Qonnx)), bits(&graph), "{body}");
    }
}

#[test]
fn weights_are_read_back_as_the_same_codes() {
    for k in 1..=8 {
        let body = format!(
            "c = conv(x, @v: f32[4, 4, 3, 3]) a = quantize_activation(c, bits={k}) \
             y = conv(a, quantize_weights(@w: f32[6, 4, 3, 3], bits={k}))"
        );
        let graph = graph(&body.replace(" a =", "\n  a =").replace(" y =", "\n  y ="));
        let want = lowered(graph.clone());
        let types = |g: &Graph| {
            let layers = g.order().into_iter().filter(|&id| g.node(id).is_some_and(|n| n.op.name == "int_conv"));
            layers.flat_map(|id| g.operands(id)).filter_map(|v| g.value_type(v)?.codes().cloned()).collect::<Vec<_>>()
        };
        assert_eq!(types(&want).len(), 2, "{k} bits");
        for dialect in [Dialect::Float, Dialect::Qonnx] {
            let got = lowered(again(&graph, dialect));
            assert_eq!(types(&got), types(&want), "{k} bits, {dialect:?}");
            assert_eq!(bits(&got), bits(&want), "{k} bits, {dialect:?}");
        }
    }
}

#[test]
fn names_and_metadata_travel() {
    let mut graph = graph("y = relu(x)\n  z = neg(y)");
    let value = |g: &Graph, name: &str| {
        let id = g.named(name);
        crate::graph::Value { node: id.expect("node"), port: 0 }
    };
    let (x, y, z) = (value(&graph, "x"), value(&graph, "y"), value(&graph, "z"));
    graph.add_output("second name", y);
    graph.add_output("z", z);
    graph.add_output("copy", x);
    let got = again(&graph, Dialect::Float);
    let names: Vec<&str> = got.outputs().iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(names, ["y", "second name", "z", "copy"]);
    assert_eq!((got.name.as_str(), &got.metadata), ("g", &graph.metadata));
    assert_eq!(bits(&got), bits(&graph));
}

#[test]
fn an_output_may_be_named_as_another_value() {
    let mut graph = graph("y = relu(x)\n  z = neg(y)");
    let z = graph.named("z").expect("node");
    graph.add_output("x", crate::graph::Value { node: z, port: 0 });
    let got = again(&graph, Dialect::Qonnx);
    assert_eq!(bits(&got), bits(&graph));
}

#[test]
fn the_encoder_inverts_the_parser() {
    let graph = graph(
        "c = conv(x, @w: f32[4, 4, 3, 3])\n  a = quantize_activation(c, bits=2)\n  y = leaky_relu(clip(a, hi=0.5))",
    );
    let bytes = onnx(&graph, Dialect::Qonnx).expect("exports");
    let model = proto::parse(&bytes).expect("parses");
    assert_eq!(model.opsets.len(), 2);
    assert_eq!(super::proto::encode(model.clone()).map(|b| proto::parse(&b)), Ok(Ok(model)));
    assert_eq!(onnx(&graph, Dialect::Qonnx).expect("exports"), bytes, "the same file each time");
}

#[test]
fn all_that_has_no_counterpart_is_reported_at_once() {
    let many = graph("a = round(x, mode=up)\n  b = multi_threshold(a, @t: f32[4, 3])\n  y = round(b, mode=half_down)");
    let report = onnx(&many, Dialect::Float).expect_err("has no counterpart").to_string();
    let lines: Vec<&str> = report.lines().collect();
    assert_eq!(lines.len(), 3, "{report}");
    assert!(lines[0].starts_with("a (round): ") && lines[1].contains("--dialect qonnx"), "{report}");
    let integers = lowered(graph(
        "a = quantize_activation(x, bits=2)\n  y = conv(a, quantize_weights(@w: f32[4, 4, 1, 1], bits=1))",
    ));
    let report = onnx(&integers, Dialect::Qonnx).expect_err("integers").to_string();
    assert!(report.contains("(int_conv): ") && report.contains("before"), "{report}");
}
