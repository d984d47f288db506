//! ONNX files that are well-formed and mean harm, or nonsense: one report that names file, node, operator and remedy, under
//! the limits of memory and time that `limited` sets.

use dorefac_tests::limited;
use dorefac_tests::onnx::{attribute, floats, initialiser, input, int, ints, model, node, output};

const QUANT: &str = "qonnx.custom_op.general::Quant";

/// What `dorefac compile` says of a file with these parts beside the input x (N, 4, 8, 8) and the output y; exit code 2.
fn refused(what: &str, parts: &[Vec<u8>]) -> String {
    let folder = tempfile::tempdir().expect("folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let ports = [input("x", &[-1, 4, 8, 8]), output("y")];
    std::fs::write(path("net.onnx"), model(&[&ports, parts].concat())).expect("writes");
    let (code, message) = limited(&["compile", &path("net.onnx"), "-o", &path("net.so")]);
    assert_eq!(code, 2, "{what}: {message}");
    assert!(message.lines().all(|l| l.starts_with("error: ") && l.contains("net.onnx: ")), "{what}: {message}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 1, "{what}: left a file");
    message
}

fn says(what: &str, parts: &[Vec<u8>], words: &[&str]) {
    let message = refused(what, parts);
    for word in words {
        assert!(message.contains(word), "{what}: {message}does not say `{word}`");
    }
}

#[test]
fn sizes_beyond_all_measure() {
    let wide = |n: i64| floats("c", &[n, 1], &vec![1.0; n as usize]);
    let tall = |n: i64| floats("d", &[1, n], &vec![1.0; n as usize]);
    let product = |n| [wide(n), tall(n), node("Mul", &["c", "d"], &["e"], &[]), node("Mul", &["x", "e"], &["y"], &[])];
    says("a table of 2^32", &product(1 << 16), &["e: Mul (opset 13)", "more than"]);
    let sum = [
        wide(1 << 14),
        tall(1 << 14),
        node("Mul", &["c", "d"], &["e"], &[]),
        node("ReduceMax", &["e"], &["f"], &[]),
        node("Mul", &["x", "f"], &["y"], &[]),
    ];
    says("a table of 2^28", &sum, &["e (mul)", "256 MiB", "store the result"]);
    let pads = |p: i64| [ints("p", &[0, 0, p, p, 0, 0, p, p]), node("Pad", &["x", "p"], &["y"], &[])];
    says("wide padding", &pads(1 << 20), &["y: Pad (opset 13)", "more than"]);
    says("wider padding", &pads(i64::MAX), &["y: Pad (opset 13)"]);
    // Negative pads cut off: here more than there is.
    says("negative padding", &pads(-5), &["y: Pad (opset 13)"]);
    let doubled = |i: usize| {
        let (from, to) = (if i == 0 { "x".to_owned() } else { format!("a{i}") }, format!("a{}", i + 1));
        node("Concat", &[&from, &from], &[&to], &[int("axis", 1)])
    };
    let mut parts: Vec<_> = (0..40).map(doubled).collect();
    parts.push(node("Relu", &["a40"], &["y"], &[]));
    says("doubling", &parts, &["Concat (opset 13)", "more than"]);
    let shapes = |i: usize| {
        let (from, to) = (format!("s{i}"), format!("s{}", i + 1));
        node("Concat", &[&from, &from], &[&to], &[int("axis", 0)])
    };
    let mut parts = vec![node("Shape", &["x"], &["s0"], &[])];
    parts.extend((0..40).map(shapes));
    parts.push(node("Reshape", &["x", "s40"], &["y"], &[]));
    says("shapes that double", &parts, &["Concat (opset 13)", "numbers"]);
    let stride = [floats("w", &[1, 4, 1, 1], &[1.0; 4])];
    let conv =
        |name, values: &[i64]| [&stride[..], &[node("Conv", &["x", "w"], &["y"], &[attribute(name, values)])]].concat();
    says("strides", &conv("strides", &[1 << 62, 1]), &["y: Conv (opset 13)", "strides"]);
    says("dilations", &conv("dilations", &[0, 1]), &["y: Conv (opset 13)", "dilations"]);
    let groups = [stride[0].clone(), node("Conv", &["x", "w"], &["y"], &[int("group", i64::MIN)])];
    says("groups", &groups, &["y: Conv (opset 13)", "group"]);
    let target = |dims: &[i64]| [ints("s", dims), node("Reshape", &["x", "s"], &["y"], &[])];
    says("an overflowing shape", &target(&[0, 1 << 62, 1 << 62]), &["y: Reshape (opset 13)"]);
    says("many axes", &target(&[0, 1, 1, 1, 1, 1, 1, 256]), &["axes"]);
    let empty = [initialiser("w", 1, &[1 << 40, 1 << 40], &[]), node("Mul", &["x", "w"], &["y"], &[])];
    says("a tensor of 2^80", &empty, &["y: Mul (opset 13)", "overflows"]);
}

#[test]
fn values_that_are_none() {
    let quant = |s: f32, bits: f32| {
        [
            floats("s", &[], &[s]),
            floats("z", &[], &[0.0]),
            floats("b", &[], &[bits]),
            node(QUANT, &["x", "s", "z", "b"], &["y"], &[]),
        ]
    };
    says("scale 0", &quant(0.0, 4.0), &["y: qonnx.custom_op.general::Quant (opset 1)", "is 0", "export"]);
    says("scale inf", &quant(f32::INFINITY, 4.0), &["is inf", "finite"]);
    says("scale NaN", &quant(f32::NAN, 4.0), &["NaN", "finite"]);
    says("2.5 bits", &quant(1.0, 2.5), &["2.5 bits", "1 to 24"]);
    says("1e9 bits", &quant(1.0, 1e9), &["bits", "1 to 24"]);
    let linear = [floats("s", &[], &[0.0]), node("QuantizeLinear", &["x", "s"], &["y"], &[])];
    says("QuantizeLinear by 0", &linear, &["y: QuantizeLinear (opset 13)", "is 0"]);
    let norm = [
        floats("one", &[4], &[1.0; 4]),
        floats("var", &[4], &[1.0, 1.0, -1.0, 1.0]),
        node("BatchNormalization", &["x", "one", "one", "one", "var"], &["y"], &[]),
    ];
    says("a negative variance", &norm, &["element 2 of `var` is -1", "variance"]);
    let weights = [floats("w", &[1, 4, 1, 1], &[1.0, f32::INFINITY, 1.0, 1.0]), node("Conv", &["x", "w"], &["y"], &[])];
    says("infinite weights", &weights, &["y: Conv (opset 13)", "finite"]);
}

#[test]
fn graphs_that_are_none() {
    let cycle =
        [node("Add", &["x", "b"], &["a"], &[]), node("Relu", &["a"], &["b"], &[]), node("Relu", &["b"], &["y"], &[])];
    says("a cycle", &cycle, &["a: Add (opset 13): reads `b`", "cycle"]);
    says("a loop", &[node("Relu", &["y"], &["y"], &[])], &["cycle"]);
    says("nothing", &[], &["y: output: reads `y`"]);
    let twice = [node("Relu", &["x"], &["y"], &[]), node("Neg", &["x"], &["y"], &[])];
    says("a name twice", &twice, &["y: Neg (opset 13): produces `y`, which exists already"]);
    let many = [
        node("Det", &["x"], &["a"], &[]),
        node("Conv", &["a", "lost"], &["b"], &[]),
        node("Magic::Wand", &["b"], &["c"], &[]),
        node("Relu", &["c"], &["y"], &[]),
    ];
    let message = refused("many problems", &many);
    assert_eq!(message.lines().count(), 3, "{message}");
    assert!(message.contains("reads `lost`") && message.contains("Magic::Wand (opset not imported)"), "{message}");
    // Three faults of different kinds: weights, an attribute, shapes.
    let three = [
        floats("w", &[1, 4, 1, 1], &[f32::INFINITY; 4]),
        floats("g", &[7, 3], &[0.5; 21]),
        node("Conv", &["x", "w"], &["a"], &[]),
        node("Softmax", &["x"], &["b"], &[int("axis", 7)]),
        node("Flatten", &["x"], &["f"], &[]),
        node("Gemm", &["f", "g"], &["c"], &[]),
        node("Relu", &["x"], &["y"], &[]),
    ];
    let message = refused("three faults", &three);
    let lines: Vec<&str> = message.lines().collect();
    let said =
        ["a: Conv (opset 13): `w` is not finite", "b: Softmax (opset 13): axis 7", "c: Gemm (opset 13): multiplies"];
    assert!(lines.len() == 3 && lines.iter().zip(said).all(|(line, part)| line.contains(part)), "{message}");
    assert!(lines.iter().all(|line| line.contains("export")), "each says what to do: {message}");
}
