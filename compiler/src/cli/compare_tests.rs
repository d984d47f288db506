use super::*;
use crate::codegen::target::Level;
use crate::compile::{self, Compiled, Options};
use crate::emit::jit::JitImage;
use crate::graph::NodeId;
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::ops::known;
use crate::graph::types::{Elem, Shape, ValueType};
use crate::passes;

/// Three layers: float, then two of codes with thresholds behind them, then a float tail.
fn lowered() -> (Graph, bool) {
    let mut g = Graph::new("t");
    let ints = |name: &str, v: [i64; 4]| Attrs::new().with(name, Attr::Ints(v.to_vec()));
    let bits = |b: i64| Attrs::new().with("bits", Attr::Int(b));
    let mut seed = 7u32;
    let mut weights = |g: &mut Graph, name: &str, shape: [usize; 4]| {
        let data = (0..shape.iter().product()).map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / (1 << 24) as f32 - 0.5
        });
        g.add_constant(name, Tensor::f32(shape, data.collect()).expect("fits")).expect("f32")
    };
    let mut v = g.add_input("x", ValueType::f32(Shape::batched(&[3, 6, 5])));
    for (i, (outputs, inputs)) in [(8, 3), (70, 8), (5, 70)].into_iter().enumerate() {
        let mut w = weights(&mut g, &format!("w{i}"), [outputs, inputs, 3, 3]);
        if i > 0 {
            w = g.add(known("quantize_weights"), "q", &[w], bits(2)).expect("weights");
        }
        v = g.add(known("conv"), &format!("c{i}"), &[v, w], ints("pads", [1, 1, 1, 1])).expect("conv");
        if i < 2 {
            v = g.add(known("quantize_activation"), &format!("a{i}"), &[v], bits(2)).expect("activation");
        }
    }
    g.add_output("y", v);
    let fma = compile::profile(&native());
    passes::run(&mut g, fma, &mut |_, _| {}).expect("passes");
    (g, fma)
}

fn native() -> Vec<Level> {
    Level::parse("native", &target_lexicon::Triple::host()).expect("levels")
}

fn compiled(graph: &Graph) -> (Compiled, Session) {
    let compiled = compile::compile(graph, &native(), &Options::default()).expect("compiles");
    let model = JitImage::new(&compiled.image).expect("links").into_model().expect("loads");
    let session = Session::new(&model, 2).expect("session");
    (compiled, session)
}

fn inputs() -> Vec<Tensor> {
    let pixels = (0..18 * 90).map(|i| (i * 37 % 101) as f32 / 100.0).collect();
    vec![Tensor::f32([18, 3, 6, 5], pixels).expect("fits")]
}

/// The graph with another constant as operand `port` of `node`.
fn corrupted(graph: &Graph, node: NodeId, port: u16, change: impl Fn(&mut Data)) -> Graph {
    let mut wrong = graph.clone();
    let old = graph.operands(node)[usize::from(port)];
    let (shape, mut data) = (**graph.constant(old).expect("a constant")).clone().into_parts();
    change(&mut data);
    let elem: Elem = graph.value_type(old).expect("typed").elem.clone();
    let new = wrong.add_typed_constant("wrong", Tensor::new(shape, data).expect("fits"), elem);
    wrong.set_operand(node, port, new);
    wrong
}

#[test]
fn equal_code_compares_equal() {
    let (graph, fma) = lowered();
    let (right, mut session) = compiled(&graph);
    let subject = Subject { graph: &graph, plan: &right.plan, steps: true, fma };
    assert_eq!(subject.compare(&mut session, &inputs()).expect("runs"), None);
}

#[test]
fn the_first_wrong_layer_is_named() {
    let (graph, fma) = lowered();
    let (right, _) = compiled(&graph);
    let subject = Subject { graph: &graph, plan: &right.plan, steps: true, fma };
    let ops = |name: &str| -> Vec<NodeId> {
        graph.order().into_iter().filter(|&id| graph.node(id).is_some_and(|n| n.op.name == name)).collect()
    };
    let flip = |data: &mut Data| {
        if let Data::I32(v) = data {
            v.iter_mut().for_each(|code| *code = 3 - *code);
        }
    };
    let move_thresholds = |data: &mut Data| {
        if let Data::I64(v) = data {
            v[0] += 40;
        }
    };
    let mut cases: Vec<(NodeId, Graph)> =
        ops("int_conv").into_iter().map(|id| (id, corrupted(&graph, id, 1, flip))).collect();
    cases.extend(ops("threshold").into_iter().map(|id| (id, corrupted(&graph, id, 1, move_thresholds))));
    assert!(cases.len() >= 3, "the net has too few layers of codes");
    for (node, wrong) in cases {
        let (_, mut session) = compiled(&wrong);
        let found = subject.compare(&mut session, &inputs()).expect("runs").expect("a difference");
        let step = &right.plan.steps[found.step];
        assert!(step.main == Some(node) || step.chain.contains(&node), "{found:?} is not the step of {node:?}");
    }
}

#[test]
fn layouts_decode_to_channels_rows_columns() {
    let buffer = |layout, planes, group, integer| Buffer {
        place: Place::Arena(0),
        layout,
        image: (6, 1, 2),
        planes,
        group,
        integer,
    };
    let bytes = |v: &[u32]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
    let want = Elements::Int((0..12).collect());
    let dense: Vec<u32> = (0..12).collect();
    assert_eq!(decode(&buffer(Layout::Dense, 4, 6, true), &bytes(&dense)), Some(want.clone()));
    let nhwc: Vec<u32> = (0..16).map(|i| if i % 8 < 6 { i % 8 * 2 + i / 8 } else { 99 }).collect();
    assert_eq!(decode(&buffer(Layout::Nhwc, 4, 6, true), &bytes(&nhwc)), Some(want.clone()));
    // Two groups of three channels: word ((p·planes + q)·2 + group), bit channel % 3.
    let mut words = [0u64; 2 * 4 * 2];
    for c in 0..6 {
        for p in 0..2 {
            for q in 0..4 {
                words[(p * 4 + q) * 2 + c / 3] |= (((c * 2 + p) >> q & 1) as u64) << (c % 3);
            }
        }
    }
    let words: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    assert_eq!(decode(&buffer(Layout::Bits, 4, 3, true), &words), Some(want));
    assert_eq!(decode(&buffer(Layout::Bits, 4, 3, true), &words[1..]), None);
}
