//! Tests of the importer on models built here, byte by byte.

use super::*;
use crate::interp;
use dorefa_runtime::tensor::Tensor;

/// A protobuf field that holds bytes.
fn bytes(field: u64, content: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn text(field: u64, content: &str) -> Vec<u8> {
    bytes(field, content.as_bytes())
}

fn number(field: u64, value: i64) -> Vec<u8> {
    [varint(field << 3), varint(value as u64)].concat()
}

fn varint(mut v: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
    out
}

fn node(domain: &str, op: &str, inputs: &[&str], output: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut n: Vec<u8> = inputs.iter().flat_map(|i| text(1, i)).collect();
    n.extend([text(2, output), text(4, op), text(7, domain)].concat());
    n.extend(attributes.iter().flat_map(|a| bytes(5, a)));
    bytes(1, &n)
}

fn attr_ints(name: &str, values: &[i64]) -> Vec<u8> {
    let list: Vec<u8> = values.iter().flat_map(|&v| number(8, v)).collect();
    [text(1, name), list, number(20, 7)].concat()
}

fn attr_int(name: &str, value: i64) -> Vec<u8> {
    [text(1, name), number(3, value), number(20, 2)].concat()
}

fn attr_text(name: &str, value: &str) -> Vec<u8> {
    [text(1, name), text(4, value), number(20, 3)].concat()
}

fn floats(name: &str, dims: &[i64], values: &[f32]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let dims: Vec<u8> = dims.iter().flat_map(|&d| number(1, d)).collect();
    bytes(5, &[dims, number(2, 1), text(8, name), bytes(9, &raw)].concat())
}

fn longs(name: &str, values: &[i64]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    bytes(5, &[number(1, values.len() as i64), number(2, 7), text(8, name), bytes(9, &raw)].concat())
}

/// An input or output; -1 is an open extent.
fn value(field: u64, name: &str, dims: &[i64]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|&d| bytes(1, &if d < 0 { text(2, "n") } else { number(1, d) })).collect();
    let tensor = [number(1, 1), bytes(2, &dims)].concat();
    bytes(field, &[text(1, name), bytes(2, &bytes(1, &tensor))].concat())
}

fn model(parts: &[Vec<u8>]) -> Vec<u8> {
    [number(1, 8), bytes(8, &number(2, 13)), bytes(7, &parts.concat())].concat()
}

/// A small network that has most things: convolution with auto_pad, batch norm, Quant, pool, computed Reshape, Gemm.
fn network() -> Vec<u8> {
    let weights: Vec<f32> = (0..36).map(|i| i as f32 / 18.0 - 1.0).collect();
    model(&[
        value(11, "x", &[1, 2, 4, 4]),
        value(12, "y", &[1, 3]),
        floats("w", &[2, 2, 3, 3], &weights),
        floats("one", &[2], &[1.0, 2.0]),
        floats("s", &[], &[0.5]),
        floats("z", &[], &[0.0]),
        floats("b", &[], &[2.0]),
        floats("fc", &[8, 3], &weights[..24]),
        floats("fcb", &[3], &[0.5, -0.5, 0.25]),
        longs("zero", &[0]),
        longs("minus", &[-1]),
        node("onnx.brevitas", "BipolarQuant", &["w", "s"], "wq", &[]),
        node("", "Conv", &["x", "wq"], "c", &[attr_text("auto_pad", "SAME_UPPER"), attr_ints("kernel_shape", &[3, 3])]),
        node("", "BatchNormalization", &["c", "one", "one", "one", "one"], "n", &[]),
        node("", "Relu", &["n"], "r", &[]),
        node("{DOMAIN_STRING}", "Quant", &["r", "s", "z", "b"], "q", &[attr_int("signed", 0)]),
        node("", "MaxPool", &["q"], "p", &[attr_ints("kernel_shape", &[2, 2]), attr_ints("strides", &[2, 2])]),
        node("", "Shape", &["p"], "shape", &[]),
        node("", "Gather", &["shape", "zero"], "batch", &[]),
        node("", "Concat", &["batch", "minus"], "target", &[attr_int("axis", 0)]),
        node("", "Reshape", &["p", "target"], "f", &[]),
        node("", "Gemm", &["f", "fc", "fcb"], "y", &[]),
    ])
}

fn problems(parts: &[Vec<u8>]) -> String {
    from_bytes("m.onnx", &model(parts), None).unwrap_err().to_string()
}

#[test]
fn a_network_of_batch_one_runs_at_batch_two() {
    let graph = from_bytes("m.onnx", &network(), None).unwrap();
    let x: Vec<f32> = (0..64).map(|i| (i * 7 % 13) as f32 / 13.0).collect();
    let both = Tensor::f32(vec![2, 2, 4, 4], x.clone()).unwrap();
    let second = Tensor::f32(vec![1, 2, 4, 4], x[32..].to_vec()).unwrap();
    let y = interp::run(&graph, &[both], true).unwrap();
    let y2 = interp::run(&graph, &[second], true).unwrap();
    assert_eq!(y[0].shape(), [2, 3]);
    assert_eq!(&y[0].as_f32().unwrap()[3..], y2[0].as_f32().unwrap());
}

#[test]
fn reshape_keeps_the_batch() {
    // With a batch of 1, [2, 4] takes the whole input as one sample.
    let all = [
        (1, vec![1, -1], true),
        (1, vec![-1, 8], true),
        (1, vec![0, -1], true),
        (1, vec![2, 4], true),
        (-1, vec![2, 4], false),
        (-1, vec![0, -1], true),
    ];
    for (batch, target, fits) in all {
        let parts = [
            value(11, "x", &[batch, 2, 4]),
            value(12, "y", &[1, 8]),
            longs("t", &target),
            node("", "Reshape", &["x", "t"], "y", &[]),
        ];
        assert_eq!(from_bytes("m", &model(&parts), None).is_ok(), fits, "{batch} {target:?}");
    }
}

#[test]
fn all_problems_are_reported_at_once() {
    let report = problems(&[
        value(11, "x", &[-1, 4]),
        value(12, "y", &[-1, 4]),
        node("", "Det", &["x"], "a", &[]),
        node("", "Relu", &["a"], "b", &[]),
        node("com.example", "Magic", &["x"], "c", &[]),
        node("", "Add", &["b", "nothing"], "y", &[]),
    ]);
    let lines: Vec<&str> = report.lines().collect();
    assert_eq!(lines.len(), 3, "{report}");
    assert!(lines[0].starts_with("m.onnx: a: Det (opset 13): is not supported"), "{report}");
    assert!(lines[1].starts_with("m.onnx: c: com.example::Magic (opset not imported): "), "{report}");
    assert!(lines[2].starts_with("m.onnx: y: Add (opset 13): reads `nothing`, which is no input"), "{report}");
}

/// What reads another output of a refused node says nothing: the cause is told once.
#[test]
fn further_outputs_of_a_refused_node_are_no_problems_of_their_own() {
    let split = text(2, "b");
    let mut two: Vec<u8> = text(1, "a");
    two.extend([split, text(2, "c"), text(4, "Split"), bytes(5, &attr_int("axis", 1))].concat());
    let report = problems(&[
        value(11, "x", &[-1, 4]),
        value(12, "y", &[-1, 2]),
        node("", "Det", &["x"], "a", &[]),
        bytes(1, &two),
        node("", "Add", &["b", "c"], "y", &[]),
    ]);
    assert_eq!(report.lines().count(), 1, "{report}");
}

/// A bias of 32 bits may hold more than a float does; DequantizeLinear rounds it. The domain is that of ONNX Runtime's quantiser.
#[test]
fn wide_integers_are_rounded_where_they_are_dequantised() {
    for domain in ["", "com.microsoft"] {
        let parts = [
            value(11, "x", &[1, 2]),
            value(12, "y", &[1, 2]),
            longs("q", &[100_000_001, -3]),
            floats("s", &[], &[0.5]),
            node(domain, "DequantizeLinear", &["q", "s"], "b", &[]),
            node("", "Add", &["x", "b"], "y", &[]),
        ];
        let graph = from_bytes("m", &model(&parts), None).unwrap();
        let y = interp::run(&graph, &[Tensor::f32([1, 2], vec![0.0, 0.0]).unwrap()], true).unwrap();
        assert_eq!(y[0].as_f32().unwrap(), [50_000_000.0, -1.5]);
    }
}

#[test]
fn initialisers_among_the_inputs_are_constants() {
    let parts = [
        value(11, "x", &[1, 2]),
        value(11, "k", &[2]),
        value(12, "y", &[1, 2]),
        floats("k", &[2], &[1.0, -1.0]),
        node("", "Mul", &["x", "k"], "y", &[]),
    ];
    let graph = from_bytes("m", &model(&parts), None).unwrap();
    assert_eq!(graph.inputs().len(), 1);
}

#[test]
fn multi_threshold_counts() {
    let parts = [
        value(11, "x", &[1, 3]),
        value(12, "y", &[1, 3]),
        floats("t", &[1, 2], &[0.0, 1.0]),
        node("finn.custom_op.general", "MultiThreshold", &["x", "t"], "y", &[]),
    ];
    let graph = from_bytes("m", &model(&parts), None).unwrap();
    let x = Tensor::f32(vec![1, 3], vec![-1.0, 0.0, 5.0]).unwrap();
    let y = interp::run(&graph, &[x], true).unwrap();
    assert_eq!(y[0].as_f32().unwrap(), [0.0, 1.0, 2.0]);
}

#[test]
fn truncated_files_are_refused() {
    let whole = network();
    for i in 0..50 {
        let cut = &whole[..whole.len() * i / 50];
        assert!(from_bytes("m", cut, None).is_err(), "cut at {i}/50");
    }
}

#[test]
fn flipped_bytes_never_panic() {
    let whole = network();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for _ in 0..4000 {
        let mut broken = whole.clone();
        for _ in 0..3 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let at = (state >> 33) as usize % broken.len();
            broken[at] = (state >> 24) as u8;
        }
        let _ = from_bytes("m", &broken, None);
    }
}

/// A list that a float operator reads stays shape arithmetic: here the extents of x, read as a value first.
#[test]
fn lists_stay_lists_when_they_are_read_as_values() {
    let fits = |extents: &[i64]| {
        let parts = [
            value(11, "x", extents),
            value(12, "y", &[]),
            longs("one", &[1]),
            longs("end", &[3]),
            longs("minus", &[-1]),
            node("", "Shape", &["x"], "shape", &[]),
            node("", "Slice", &["shape", "one", "end"], "dims", &[]),
            node("", "Add", &["x", "dims"], "z", &[]),
            node("", "Concat", &["minus", "dims"], "target", &[attr_int("axis", 0)]),
            node("", "Flatten", &["z"], "f", &[]),
            node("", "Reshape", &["f", "target"], "y", &[]),
        ];
        from_bytes("t.onnx", &model(&parts), None)
    };
    // Two numbers do not broadcast along three: the sum is refused, and nothing besides.
    let message = fits(&[-1, 2, 3]).expect_err("does not fit").to_string();
    assert!(message.contains("z: Add") && message.lines().count() == 1, "{message}");
    let graph = fits(&[-1, 3, 2]).unwrap_or_else(|e| panic!("{e}"));
    let x = Tensor::f32([1, 3, 2], vec![0.0; 6]).expect("fits");
    let y = interp::run(&graph, &[x], true).expect("runs");
    assert_eq!((y[0].shape(), y[0].as_f32()), (&[1usize, 3, 2][..], Some(&[3.0f32, 2.0, 3.0, 2.0, 3.0, 2.0][..])));
}

/// The data of a large `Constant` node are those of an initialiser.
#[test]
fn large_constant_nodes() {
    let values: Vec<u8> = (0..40_000).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let tensor = [number(1, 40_000), number(2, 1), bytes(9, &values)].concat();
    let attribute = [text(1, "value"), bytes(5, &tensor), number(20, 4)].concat();
    let parts = [
        value(11, "x", &[-1, 40_000]),
        value(12, "y", &[]),
        node("", "Constant", &[], "c", &[attribute]),
        node("", "Add", &["x", "c"], "y", &[]),
    ];
    let graph = from_bytes("t.onnx", &model(&parts), None).unwrap_or_else(|e| panic!("{e}"));
    let x = Tensor::f32([1, 40_000], vec![0.5; 40_000]).expect("fits");
    let y = interp::run(&graph, &[x], true).expect("runs");
    assert_eq!(y[0].as_f32().and_then(|v| v.last().copied()), Some(39_999.5));
}
