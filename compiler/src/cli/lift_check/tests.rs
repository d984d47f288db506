use super::sums::towards;
use super::*;
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::ops::known;
use crate::graph::scale::Scale;
use crate::graph::types::{Elem, Shape, ValueType};
use crate::passes::testing::{constant, node, noise, with};
use dorefa_runtime::Data;

/// What stands between two layers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Middle {
    /// A factor.
    Plain,
    /// A batch norm that falls, then a max pool.
    FallingPool,
    /// The sum of two layers and of the codes that they read.
    Residual,
    /// Three times the sum of two layers: an add of an add.
    Stream,
    /// No layer but an average pool.
    Average,
}

const ALL: [Middle; 5] = [Middle::Plain, Middle::FallingPool, Middle::Residual, Middle::Stream, Middle::Average];

fn bits(g: &mut Graph, op: &str, v: Value) -> Value {
    with(g, op, &[v], Attrs::new().with("bits", Attr::Int(2)))
}

fn conv(g: &mut Graph, x: Value, shape: [usize; 4], seed: u64) -> Value {
    let w = constant(g, &shape, noise(shape.iter().product(), seed));
    let w = bits(g, "quantize_weights", w);
    with(g, "conv", &[x, w], Attrs::new().with("pads", Attr::Ints(vec![1, 1, 1, 1])))
}

fn times(g: &mut Graph, x: Value, factor: f32) -> Value {
    let c = constant(g, &[], vec![factor]);
    node(g, "mul", &[x, c])
}

/// A quantised input, layers whose sums are ninths, what stands between, a quantiser whose boundaries such sums hit, a layer.
fn net(middle: Middle) -> Graph {
    let mut g = Graph::new("t");
    let x = g.add_input("x", ValueType::f32(Shape::batched(&[4, 6, 6])));
    let q = bits(&mut g, "quantize_activation", x);
    let first = |g: &mut Graph, seed| conv(g, q, [4, 4, 3, 3], seed);
    let window = |n: i64| Attrs::new().with("kernel", Attr::Ints(vec![n, n])).with("strides", Attr::Ints(vec![1, 1]));
    let v = match middle {
        Middle::Plain => {
            let y = first(&mut g, 1);
            times(&mut g, y, 0.5)
        }
        Middle::FallingPool => {
            let y = first(&mut g, 2);
            let parameters = [vec![-0.5; 4], vec![1.0; 4], vec![0.0; 4], vec![1.0; 4]];
            let [a, b, c, d] = parameters.map(|p| constant(&mut g, &[4], p));
            let exact = Attrs::new().with("epsilon", Attr::Float(0.0));
            let y = with(&mut g, "batch_norm", &[y, a, b, c, d], exact);
            with(&mut g, "max_pool", &[y], window(2))
        }
        Middle::Residual => {
            let (a, b) = (first(&mut g, 3), first(&mut g, 4));
            let y = node(&mut g, "add", &[a, b]);
            let y = node(&mut g, "add", &[y, q]);
            times(&mut g, y, 0.5)
        }
        Middle::Stream => {
            let (a, b) = (first(&mut g, 5), first(&mut g, 6));
            let once = node(&mut g, "add", &[a, b]);
            let twice = node(&mut g, "add", &[once, a]);
            let y = node(&mut g, "add", &[twice, b]);
            times(&mut g, y, 0.125)
        }
        Middle::Average => {
            let y = with(&mut g, "average_pool", &[q], window(3));
            times(&mut g, y, 1.5)
        }
    };
    let q = bits(&mut g, "quantize_activation", v);
    let y = conv(&mut g, q, [2, 4, 3, 3], 7);
    g.add_output("y", y);
    g
}

fn stages(middle: Middle) -> Stages {
    Stages::new(&net(middle), true).expect("passes")
}

fn compare(stages: &Stages) -> Vec<LiftedValue> {
    let x = noise(32 * 144, 11).into_iter().map(|v| v.abs() / 2.0).collect();
    stages.compare(&[Tensor::f32([32, 4, 6, 6], x).expect("fits")], true).expect("runs").values
}

/// Gives operand `port` of a node after `lift` other data or another type.
fn corrupt(stages: &mut Stages, name: &str, port: u16, change: impl Fn(&mut Data, &mut Elem)) {
    let node = stages.after.named(name).unwrap_or_else(|| panic!("no {name}"));
    let old = stages.after.operands(node)[usize::from(port)];
    let (shape, mut data) = (**stages.after.constant(old).expect("a constant")).clone().into_parts();
    let mut elem = stages.after.value_type(old).expect("typed").elem.clone();
    change(&mut data, &mut elem);
    let new = stages.after.add_typed_constant("wrong", Tensor::new(shape, data).expect("fits"), elem);
    stages.after.set_operand(node, port, new);
}

/// A factor on floats.
fn factor(by: f32) -> impl Fn(&mut Data, &mut Elem) {
    move |data, _| {
        if let Data::F32(v) = data {
            v.iter_mut().for_each(|v| *v *= by);
        }
    }
}

/// What is wrong with the codes of the inner quantiser.
fn inner(stages: &Stages) -> Option<Unexplained> {
    let values = compare(stages);
    assert_eq!(values[0].unexplained, None);
    values[1].unexplained.clone()
}

#[test]
fn codes_at_boundaries_are_explained() {
    for middle in ALL {
        let values = compare(&stages(middle));
        assert_eq!(values.len(), 2, "{middle:?}: {values:?}");
        let (input, inner) = (&values[0], &values[1]);
        assert_eq!((input.differ, input.share), (0, 0.0), "{middle:?}: {input:?}");
        assert!(inner.differ > 0 && inner.greatest == 1, "{middle:?} reaches no boundary: {inner:?}");
        assert!(inner.unexplained.is_none() && inner.share > 0.0 && inner.share < 0.5, "{middle:?}: {inner:?}");
    }
}

#[test]
fn what_layers_are_found_and_what_they_may_be_off() {
    for (middle, taps) in [(Middle::FallingPool, vec![36, 36]), (Middle::Average, vec![9, 36])] {
        let layers = stages(middle).layers();
        assert_eq!(layers.iter().map(|l| l.taps).collect::<Vec<_>>(), taps, "{middle:?}");
    }
    assert_eq!(stages(Middle::Stream).layers().len(), 3);
}

#[test]
fn a_moved_step_is_reported() {
    for (middle, name, port) in [
        (Middle::Plain, "mul", 1),
        (Middle::FallingPool, "batch_norm", 1),
        (Middle::FallingPool, "batch_norm", 2),
        (Middle::Residual, "mul", 1),
        (Middle::Stream, "mul", 1),
        (Middle::Average, "mul", 1),
        (Middle::Average, "average_pool_mean", 1),
    ] {
        let mut stages = stages(middle);
        corrupt(&mut stages, name, port, factor(1.2));
        let found = inner(&stages).unwrap_or_else(|| panic!("{middle:?}, {name}: nothing reported"));
        assert!(found.before != found.after && found.reached != found.after, "{middle:?}: {found:?}");
    }
}

#[test]
fn wrong_weights_are_reported() {
    for middle in [Middle::Plain, Middle::FallingPool, Middle::Residual, Middle::Stream] {
        let mut flipped = stages(middle);
        corrupt(&mut flipped, "conv_int", 1, |data, _| {
            if let Data::I32(codes) = data {
                codes[0] = 3 - codes[0];
            }
        });
        assert!(inner(&flipped).is_some(), "{middle:?}: one code");
        let mut scaled = stages(middle);
        rescale(&mut scaled, Scale::ratio(2, 5).expect("small"));
        assert!(inner(&scaled).is_some(), "{middle:?}: scale");
    }
}

/// Gives the first layer's weights another scale, and what reads them the type that follows.
fn rescale(stages: &mut Stages, scale: Scale) {
    corrupt(stages, "conv_int", 1, |_, elem| {
        if let Elem::Codes(ty) = elem {
            ty.scale = vec![scale].into();
        }
    });
    let named = |name: &str| stages.after.named(name).expect("lifted");
    let (int, value) = (named("conv_int"), named("conv_value"));
    let attrs = stages.after.node(int).expect("there").attrs.clone();
    let (operands, users) = (stages.after.operands(int), stages.after.users(Value { node: value, port: 0 }));
    stages.after.remove(value);
    stages.after.remove(int);
    let int = stages.after.add(known("int_conv"), "conv_int", &operands, attrs).expect("fits");
    let value = stages.after.add(known("decode"), "conv_value", &[int], Attrs::new()).expect("fits");
    users.into_iter().for_each(|(user, port)| stages.after.set_operand(user, port, value));
}

#[test]
fn names_that_the_file_has_taken_do_not_hide_a_layer() {
    let mut g = Graph::new("t");
    let x = g.add_input("x", ValueType::f32(Shape::batched(&[4, 6, 6])));
    let x = g.add(known("relu"), "conv_int", &[x], Attrs::new()).expect("fits");
    let q = bits(&mut g, "quantize_activation", x);
    let y = conv(&mut g, q, [4, 4, 3, 3], 1);
    g.add_output("y", y);
    let mut stages = Stages::new(&g, true).expect("passes");
    assert_eq!((stages.layers().len(), stages.pairs().len()), (1, 1));
    assert_eq!(stages.unpaired(&stages.pairs()), Vec::<String>::new());
    // Were its name another, it would be said.
    let int = stages.after.named("conv_int_2").expect("lifted");
    let (operands, attrs) = (stages.after.operands(int), stages.after.node(int).expect("there").attrs.clone());
    let value = Value { node: stages.after.named("conv_value").expect("lifted"), port: 0 };
    let other = stages.after.add(known("int_conv"), "strange", &operands, attrs).expect("fits");
    let other = stages.after.add(known("decode"), "strange_value", &[other], Attrs::new()).expect("fits");
    stages.after.replace(value, other);
    stages.after.remove(value.node);
    stages.after.remove(int);
    assert_eq!(stages.unpaired(&stages.pairs()), ["strange"]);
}

#[test]
fn what_quantises_an_input_must_not_move() {
    let mut stages = stages(Middle::Plain);
    corrupt(&mut stages, "quantize_activation_mul", 1, factor(1.0 + f32::EPSILON));
    let wrong = &compare(&stages)[0];
    assert_eq!(wrong.unexplained, None, "no input lies that close to a boundary");
    corrupt(&mut stages, "quantize_activation_mul", 1, factor(1.01));
    let wrong = compare(&stages)[0].clone();
    let found = wrong.unexplained.expect("reported");
    assert_eq!((found.count, found.ends, found.reached), (wrong.differ, [found.before; 2], found.before));
}

#[test]
fn values_without_a_batch_are_compared_too() {
    let mut g = Graph::new("t");
    let x = g.add_input("x", ValueType::f32(Shape::fixed(&[1, 4, 6, 6])));
    let q = bits(&mut g, "quantize_activation", x);
    let y = node(&mut g, "exp", &[q]);
    g.add_output("y", y);
    let stages = Stages::new(&g, true).expect("passes");
    let x = Tensor::f32([1, 4, 6, 6], noise(144, 3)).expect("fits");
    let values = stages.compare(&[x], true).expect("runs").values;
    assert_eq!((values.len(), values[0].codes, values[0].differ), (1, 144, 0));
    assert_eq!(stages.pairs()[0].place(143), (0, [3, 5, 5]));
}

#[test]
fn moving_stops_at_what_is_allowed() {
    assert_eq!(towards(1.0, 1.5, 0.5), 1.5);
    assert_eq!(towards(1.0, 2.0, 0.25), 1.25);
    assert_eq!(towards(1.0, f32::NEG_INFINITY, 0.25), 0.75);
    // Half a step of floats: rounding would lead beyond.
    assert_eq!(towards(1.0, 2.0, 0.75 * f64::from(f32::EPSILON)), 1.0);
    assert_eq!(towards(f32::INFINITY, f32::INFINITY, 1.0), f32::INFINITY);
    assert!(towards(f32::NAN, 1.0, 1.0).is_nan());
    assert_eq!(towards(1.0, 2.0, f64::NAN), 1.0);
}
