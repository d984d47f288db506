//! Round trips, diagnostics, and the models of the repository.

use super::*;
use proptest::prelude::*;

const TINY: &str = "dorefa 1\nmeta k = \"a\\\"b\"\ngraph g(x: f32[N, 1, 4, 4]) -> (y) {\n  \
                    c = conv(x, quantize_weights(@c.w: f32[2, 1, 3, 3], bits=1), pads=[1, 1, 1, 1])\n  \
                    e = encode(quantize_activation(c, bits=2), top=3, scale=1/3)\n  \
                    y = clip(decode(e), lo=-inf, hi=1e-5)\n}\n";

fn read(text: &str) -> Result<Graph, String> {
    parse(text, "t.dorefa", &|_| None).map_err(|p| join(&p))
}

#[test]
fn printing_is_a_fixpoint() {
    let printed = print(&read(TINY).expect("parses"));
    assert_eq!(print(&read(&printed).expect("parses again")), printed);
}

#[test]
fn truncations_are_errors() {
    for end in (0..TINY.len() - 2).filter(|&i| TINY.is_char_boundary(i)) {
        assert!(read(&TINY[..end]).is_err(), "{end}");
    }
}

#[test]
fn several_problems_with_hints() {
    let text = "dorefa 1\ngraph g(x: f32[N, 4]) -> (y) {\n  a = rellu(x)\n  y = clip(x, low=0.0)\n}\n";
    let expected = "error: there is no operator `rellu`\n --> t.dorefa:3:7\n3 |   a = rellu(x)\n  |       ^^^^^\n  = hint: did \
                    you mean `relu`?\nerror: `clip` has no attribute `low`\n --> t.dorefa:4:15\n4 |   y = clip(x, \
                    low=0.0)\n  |               ^^^\n  = hint: did you mean `lo`?";
    assert_eq!(read(text).expect_err("two problems"), expected);
}

#[test]
fn every_model_reads_and_mnist_runs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    for name in ["svhn-a", "svhn-b", "svhn-c", "svhn-d", "resnet18", "alexnet", "mnist"] {
        let graph = load(folder.join(format!("{name}.dorefa"))).unwrap_or_else(|e| panic!("{name}: {e}"));
        let printed = print(&graph);
        if name == "mnist" {
            assert_eq!(print(&read(&printed).expect("parses")), printed);
            let x = Tensor::f32([1, 1, 28, 28], (0..784).map(|i| (i % 256) as f32 / 255.0).collect()).expect("fits");
            let y = crate::interp::run(&graph, &[x], true).expect("runs");
            assert_eq!(y.first().map(Tensor::shape), Some(&[1, 10][..]));
            let place = tempfile::tempdir().expect("a folder");
            for file in ["m.dorefa", "n.safetensors"] {
                save(&graph, place.path().join(file)).expect("saved");
                assert_eq!(print(&load(place.path().join(file)).expect("loads")), printed);
            }
        }
    }
}

proptest! {
    #[test]
    fn garbage_is_an_error(text in "[a-z0-9(){}\\[\\]<>@=:,.\"\\\\ \n-]{0,80}", at in 0usize..300) {
        prop_assert!(read(&text).is_err());
        let _ = read(&format!("{}{text}{}", &TINY[..at.min(TINY.len())], &TINY[at.min(TINY.len())..]));
    }

    #[test]
    fn floats_round_trip(bits in any::<u32>(), alpha in any::<f32>(), name in "\\PC{1,8}") {
        let mut g = Graph::new(&name);
        let x = g.add_input("x", crate::graph::types::ValueType::f32(crate::graph::types::Shape::batched(&[4])));
        let attr = |v| crate::graph::attrs::Attr::Float(v);
        let op = crate::graph::ops::known("clip");
        let attrs = crate::graph::attrs::Attrs::new().with("lo", attr(f32::from_bits(bits))).with("hi", attr(alpha));
        let y = g.add(op, &name, &[x], attrs).expect("fits");
        g.add_output(&name, y);
        let printed = print(&g);
        let again = read(&printed).map_err(TestCaseError::fail)?;
        prop_assert_eq!(print(&again), printed);
        let a = again.node(y.node).map(|n| n.attrs.float("hi", 0.0).to_bits());
        prop_assert!(a == Some(alpha.to_bits()) || alpha.is_nan());
    }
}

#[test]
fn first_weights_have_the_spread_that_they_promise() {
    let text = "dorefa 1\ngraph g(x: f32[N, 100]) -> (y) {\n  y = matmul(x, @w: f32[50, 100], @b: f32[50])\n}\n";
    let graph = read(text).expect("parses");
    let spread =
        |values: &[f32]| (values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
    for (first, weights, biases) in
        [(First::He, 0.02f64.sqrt(), 0.0), (First::Pytorch, 0.1 / 3f64.sqrt(), 0.1 / 3f64.sqrt())]
    {
        let drawn = training_parameters(&graph, 7, first);
        let drawn = |name: &str| spread(drawn[name].as_f32().expect("floats"));
        assert!((drawn("w") / weights - 1.0).abs() < 0.05, "{first:?}: {}", drawn("w"));
        assert!((drawn("b") - biases).abs() < 0.015, "{first:?}: {}", drawn("b"));
    }
    assert!("glorot".parse::<First>().is_err_and(|e| e.contains("he, pytorch")));
}
