//! Random small networks: what proptest draws, and the graph that it stands for. Parameters that do not fit the shape at
//! their place are bent until they do, so that every draw is a network and shrinking works field by field.

use dorefa_runtime::Tensor;
use dorefac::graph::attrs::{Attr, Attrs};
use dorefac::graph::types::{Shape, ValueType};
use dorefac::graph::{Graph, Value, ops};
use dorefac_tests::noise;
use proptest::prelude::*;

pub const MODES: [&str; 7] = ["half_even", "ceil", "floor", "up", "down", "half_up", "half_down"];

#[derive(Clone, Debug)]
pub enum Act {
    Dorefa { bits: i64, bound: &'static str },
    Quant { bits: i64, signed: bool, narrow: bool, mode: &'static str, scale: f32, zero: f32, per_channel: bool },
    Bipolar { scale: f32 },
    Thresholds { count: usize, per_channel: bool, scale: f32, bias: f32 },
}

#[derive(Clone, Debug)]
pub enum Weights {
    Float,
    Dorefa { bits: i64 },
    Quant { bits: i64, narrow: bool, mode: &'static str, per_channel: bool },
    Bipolar { scale: f32 },
}

#[derive(Clone, Copy, Debug)]
pub enum Fill {
    Noise,
    Most,
    Least,
    Alternating,
}

#[derive(Clone, Debug)]
pub struct Conv {
    outputs: usize,
    kernel: [usize; 2],
    strides: [i64; 2],
    dilations: [i64; 2],
    pads: [i64; 4],
    groups: usize,
    weights: Weights,
    fill: Fill,
    bias: bool,
}

#[derive(Clone, Debug)]
pub struct Pool {
    kind: &'static str,
    kernel: [i64; 2],
    strides: [i64; 2],
    pads: [i64; 4],
    ceil: bool,
    count_padding: bool,
}

#[derive(Clone, Debug)]
pub enum Layer {
    Act(Act),
    Conv(Conv),
    Norm {
        negative: bool,
    },
    Pool(Pool),
    GlobalPool,
    Flatten,
    LeakyRelu {
        alpha: f32,
    },
    Unary(&'static str),
    Arith {
        op: &'static str,
        c: f32,
        per_channel: bool,
        swapped: bool,
    },
    /// Adds the latest earlier value of the same shape, each side quantised where there is a quantiser.
    Residual {
        left: Option<Act>,
        right: Option<Act>,
    },
    /// A convolution that keeps the shape, normalised, to which its own input is added.
    Shortcut {
        conv: Conv,
        negative: bool,
        swapped: bool,
    },
}

#[derive(Clone, Debug)]
pub struct Net {
    channels: usize,
    extent: [usize; 2],
    layers: Vec<Layer>,
}

/// Few bits more often than many.
fn bits() -> impl Strategy<Value = i64> {
    prop_oneof![1 => 1i64..=2, 1 => 1i64..=8]
}

fn act() -> impl Strategy<Value = Act> {
    let bound = prop::sample::select(vec!["clip", "abs", "tanh"]);
    let scale = || prop::sample::select(vec![0.25f32, 0.5, 1.0, 0.1, 0.37, 1.0 / 3.0, 0.013]);
    let quant = (bits(), any::<[bool; 3]>(), prop::sample::select(MODES.to_vec()), scale(), 0i8..=4).prop_map(
        |(bits, [signed, narrow, per_channel], mode, scale, zero)| {
            // A quantiser of one level is none; the importer refuses it.
            let bits = if bits < 2 && (signed || narrow) { 2 } else { bits };
            let zero = if zero > 1 { f32::from(zero) - 1.0 } else { 0.0 };
            Act::Quant { bits, signed, narrow, mode, scale, zero, per_channel }
        },
    );
    prop_oneof![
        4 => (bits(), bound).prop_map(|(bits, bound)| Act::Dorefa { bits, bound }),
        3 => quant,
        1 => scale().prop_map(|scale| Act::Bipolar { scale }),
        2 => (1usize..=15, any::<bool>(), scale(), prop::sample::select(vec![0.0f32, 0.0, -0.5, -1.0, 2.0]))
            .prop_map(|(count, per_channel, scale, bias)| Act::Thresholds { count, per_channel, scale, bias }),
    ]
}

fn weights() -> impl Strategy<Value = Weights> {
    prop_oneof![
        1 => Just(Weights::Float),
        5 => bits().prop_map(|bits| Weights::Dorefa { bits }),
        3 => (2i64..=8, any::<[bool; 2]>(), prop::sample::select(MODES.to_vec()))
            .prop_map(|(bits, [narrow, per_channel], mode)| Weights::Quant { bits, narrow, mode, per_channel }),
        1 => prop::sample::select(vec![0.5f32, 1.0, 0.3]).prop_map(|scale| Weights::Bipolar { scale }),
    ]
}

fn fill() -> impl Strategy<Value = Fill> {
    prop_oneof![5 => Just(Fill::Noise), 1 => Just(Fill::Most), 1 => Just(Fill::Least), 1 => Just(Fill::Alternating)]
}

fn channels() -> impl Strategy<Value = usize> {
    // Kernels want channels by fours, sixteens and words; edges lie beside.
    let whole = || prop::sample::select(vec![4usize, 8, 12, 16, 32, 48, 64]);
    let edge = prop::sample::select(vec![31usize, 33, 63, 65, 127, 128]);
    prop_oneof![4 => 1usize..=20, 4 => whole(), 1 => 21usize..=130, 1 => edge]
}

fn conv() -> impl Strategy<Value = Conv> {
    let pads = prop_oneof![2 => Just([0; 4]), 2 => Just([1; 4]), 1 => prop::array::uniform4(0i64..=3)];
    let small = || prop_oneof![3 => Just([1i64; 2]), 1 => prop::array::uniform2(1i64..=3)];
    let groups = prop_oneof![3 => Just(1usize), 1 => 2usize..=8];
    (channels(), prop::array::uniform2(1usize..=4), small(), small(), pads, groups, weights(), fill(), any::<bool>())
        .prop_map(|(outputs, kernel, strides, dilations, pads, groups, weights, fill, bias)| Conv {
            outputs,
            kernel,
            strides,
            dilations,
            pads,
            groups,
            weights,
            fill,
            bias,
        })
}

fn pool() -> impl Strategy<Value = Pool> {
    let kind = prop_oneof![2 => Just("max_pool"), 1 => Just("average_pool")];
    (
        kind,
        prop::array::uniform2(1i64..=3),
        prop::array::uniform2(1i64..=3),
        prop::array::uniform4(0i64..=2),
        any::<[bool; 3]>(),
    )
        .prop_map(|(kind, kernel, strides, pads, [padded, ceil, count_padding])| {
            let at = |i: usize| if padded { pads[i].min(kernel[i % 2] - 1) } else { 0 };
            Pool { kind, kernel, strides, pads: [at(0), at(1), at(2), at(3)], ceil, count_padding }
        })
}

fn layer() -> impl Strategy<Value = Layer> {
    let number = || prop::sample::select(vec![0.5f32, 2.0, -1.0, 1.0, 0.3, -0.7, 3.0]);
    let op = prop::sample::select(vec!["add", "sub", "mul", "div", "min", "max"]);
    prop_oneof![
        6 => act().prop_map(Layer::Act),
        6 => conv().prop_map(Layer::Conv),
        3 => any::<bool>().prop_map(|negative| Layer::Norm { negative }),
        3 => pool().prop_map(Layer::Pool),
        1 => Just(Layer::GlobalPool),
        1 => Just(Layer::Flatten),
        1 => prop::sample::select(vec![0.0f32, 0.1, 0.25, 1.0, -0.2]).prop_map(|alpha| Layer::LeakyRelu { alpha }),
        1 => prop::sample::select(vec!["relu", "neg", "abs", "sign", "step", "tanh", "sigmoid", "erf", "round"]).prop_map(Layer::Unary),
        2 => (op, number(), any::<[bool; 2]>())
            .prop_map(|(op, c, [per_channel, swapped])| Layer::Arith { op, c, per_channel, swapped }),
        2 => (prop::option::of(act()), prop::option::of(act())).prop_map(|(left, right)| Layer::Residual { left, right }),
    ]
}

/// A quantised layer as networks have them: quantiser, convolution, then often normalisation and a pool in either order.
fn block() -> impl Strategy<Value = Vec<Layer>> {
    (act(), conv(), prop::option::of(any::<bool>()), prop::option::of(pool()), any::<bool>()).prop_map(
        |(act, conv, norm, pool, swapped)| {
            let norm = norm.map(|negative| Layer::Norm { negative });
            let pool = pool.map(Layer::Pool);
            let tail = if swapped { [pool, norm] } else { [norm, pool] };
            [Layer::Act(act), Layer::Conv(conv)].into_iter().chain(tail.into_iter().flatten()).collect()
        },
    )
}

/// A residual add of few codes with a quantiser behind it.
fn residual() -> impl Strategy<Value = Vec<Layer>> {
    let few = || (1i64..=4).prop_map(|bits| Some(Act::Dorefa { bits, bound: "clip" }));
    let between = prop::sample::select(vec![None, Some(Layer::Unary("relu")), Some(Layer::Unary("neg"))]);
    (few(), few(), between, act()).prop_map(|(left, right, between, act)| {
        [Some(Layer::Residual { left, right }), between, Some(Layer::Act(act))].into_iter().flatten().collect()
    })
}

/// A residual block of few codes: quantiser, convolution and shortcut around it, quantiser.
fn shortcut() -> impl Strategy<Value = Vec<Layer>> {
    let few = || (1i64..=3).prop_map(|bits| Layer::Act(Act::Dorefa { bits, bound: "clip" }));
    (few(), conv(), any::<[bool; 2]>(), few()).prop_map(|(input, conv, [negative, swapped], output)| {
        let dorefa = Weights::Dorefa { bits: 1 };
        let weights = if matches!(conv.weights, Weights::Float) { dorefa } else { conv.weights };
        vec![input, Layer::Shortcut { conv: Conv { weights, ..conv }, negative, swapped }, output]
    })
}

/// A max pool of several values in front of falling and rising channels: a min pool of codes on some.
fn falling() -> impl Strategy<Value = Vec<Layer>> {
    let pool = pool().prop_map(|mut p| {
        p.kind = "max_pool";
        p.kernel = p.kernel.map(|k| k.max(2));
        Layer::Pool(p)
    });
    (conv(), pool, act())
        .prop_map(|(conv, pool, act)| vec![Layer::Conv(conv), pool, Layer::Norm { negative: true }, Layer::Act(act)])
}

pub fn net() -> impl Strategy<Value = Net> {
    let part =
        prop_oneof![6 => block(), 4 => layer().prop_map(|l| vec![l]), 1 => residual(), 2 => shortcut(), 1 => falling()];
    let parts = prop::collection::vec(part, 1..=4);
    let end = prop::option::of(act());
    (channels(), prop::array::uniform2(1usize..=9), parts, end).prop_map(|(channels, extent, parts, end)| {
        let mut layers: Vec<Layer> = parts.into_iter().flatten().collect();
        layers.extend(end.map(Layer::Act));
        Net { channels, extent, layers }
    })
}

/// One quantiser and one layer with quantised weights.
pub fn layer_of_codes() -> impl Strategy<Value = Net> {
    let coded = conv().prop_filter("weights are codes", |c| !matches!(c.weights, Weights::Float));
    (channels(), prop::array::uniform2(1usize..=9), act(), coded, any::<bool>()).prop_map(
        |(channels, extent, act, conv, flat)| {
            let flat = flat.then_some(Layer::Flatten);
            let layers = [Some(Layer::Act(act)), flat, Some(Layer::Conv(conv))];
            Net { channels, extent, layers: layers.into_iter().flatten().collect() }
        },
    )
}

/// A graph under construction with the shape of its latest value.
struct Builder {
    graph: Graph,
    x: Value,
    seed: u64,
    earlier: Vec<Value>,
}

impl Builder {
    fn shape(&self) -> Vec<usize> {
        self.graph.value_type(self.x).map(|t| t.shape.per_sample()).unwrap_or_default()
    }

    fn numbers(&mut self, n: usize) -> Vec<f32> {
        self.seed += 1;
        noise(n, self.seed).into_iter().map(|v| (v - 0.4) * 2.0).collect()
    }

    fn constant(&mut self, shape: &[usize], data: Vec<f32>) -> Value {
        let tensor = Tensor::f32(shape.to_vec(), data).expect("shape");
        self.graph.add_constant("c", tensor).expect("floats")
    }

    fn add(&mut self, op: &str, inputs: &[Value], attrs: Attrs) -> Value {
        self.graph.add(ops::find(op).expect("operator"), op, inputs, attrs).unwrap_or_else(|e| panic!("{e}"))
    }

    /// A constant for every channel, shaped to broadcast, or a scalar.
    fn scale(&mut self, value: f32, per_channel: bool) -> Value {
        let shape = self.shape();
        if !per_channel {
            return self.constant(&[], vec![value]);
        }
        let c = shape[0];
        let own: Vec<usize> = std::iter::once(c).chain(shape.iter().skip(1).map(|_| 1)).collect();
        self.constant(&own, (0..c).map(|i| value * [1.0, 0.5, 2.0][i % 3]).collect())
    }

    fn act(&mut self, x: Value, act: &Act) -> Value {
        let c = self.shape()[0];
        match act {
            Act::Dorefa { bits, bound } => {
                let attrs = Attrs::new().with("bits", Attr::Int(*bits)).with("bound", Attr::Word((*bound).to_owned()));
                self.add("quantize_activation", &[x], attrs)
            }
            Act::Quant { bits, signed, narrow, mode, scale, zero, per_channel } => {
                let attrs = quant_attrs(*bits, *signed, *narrow, mode);
                let (s, z) = (self.scale(*scale, *per_channel), self.constant(&[], vec![*zero]));
                self.add("quant", &[x, s, z], attrs)
            }
            Act::Bipolar { scale } => {
                let s = self.constant(&[], vec![*scale]);
                self.add("bipolar_quant", &[x, s], Attrs::new())
            }
            Act::Thresholds { count, per_channel, scale, bias } => {
                let rows = if *per_channel { c } else { 1 };
                let mut t = self.numbers(rows * count);
                t.chunks_mut(*count).for_each(|row| row.sort_by(f32::total_cmp));
                let t = self.constant(&[rows, *count], t);
                let (s, b) = (self.constant(&[], vec![*scale]), self.constant(&[], vec![*bias]));
                let x = self.add("multi_threshold", &[x, t], Attrs::new());
                let x = self.add("mul", &[x, s], Attrs::new());
                self.add("add", &[x, b], Attrs::new())
            }
        }
    }

    fn conv(&mut self, conv: &Conv) {
        let shape = self.shape();
        let c = shape[0];
        let groups = (1..=conv.groups).rev().find(|&g| c.is_multiple_of(g)).unwrap_or(1);
        let outputs = conv.outputs.next_multiple_of(groups);
        let flat = shape.len() < 3;
        let (mut kernel, mut dilations, groups) = (conv.kernel, conv.dilations, if flat { 1 } else { groups });
        if !flat {
            for i in 0..2 {
                let room = shape[i + 1] + (conv.pads[i] + conv.pads[i + 2]) as usize;
                kernel[i] = kernel[i].min(room);
                if (kernel[i] - 1) * dilations[i] as usize + 1 > room {
                    dilations[i] = 1;
                }
            }
        }
        let taps = if flat { 1 } else { kernel[0] * kernel[1] };
        // The interpreter must stay fast.
        let most = 400_000 / (c / groups * taps * shape.iter().skip(1).product::<usize>().max(1)).max(1);
        let outputs = if outputs > most { groups } else { outputs };
        let inner = c / groups;
        let wshape = if flat { vec![outputs, inner] } else { vec![outputs, inner, kernel[0], kernel[1]] };
        let len = outputs * inner * taps;
        let data = match conv.fill {
            Fill::Noise => self.numbers(len),
            Fill::Most => vec![1.0; len],
            Fill::Least => vec![-1.0; len],
            Fill::Alternating => (0..len).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect(),
        };
        let mut w = self.constant(&wshape, data);
        match &conv.weights {
            Weights::Float => {}
            Weights::Dorefa { bits } => {
                w = self.add("quantize_weights", &[w], Attrs::new().with("bits", Attr::Int(*bits)))
            }
            Weights::Quant { bits, narrow, mode, per_channel } => {
                let step = 2.0 / (1u32 << bits) as f32;
                let rows = if *per_channel { outputs } else { 1 };
                let own: Vec<usize> = std::iter::once(rows).chain(wshape.iter().skip(1).map(|_| 1)).collect();
                let scales = (0..rows).map(|i| step * [1.0, 0.8, 1.7][i % 3]).collect();
                let (s, z) = (self.constant(&own, scales), self.constant(&[], vec![0.0]));
                w = self.add("quant", &[w, s, z], quant_attrs(*bits, true, *narrow, mode));
            }
            Weights::Bipolar { scale } => {
                let s = self.constant(&[], vec![*scale]);
                w = self.add("bipolar_quant", &[w, s], Attrs::new());
            }
        }
        let mut inputs = vec![self.x, w];
        if conv.bias {
            let data = self.numbers(outputs);
            inputs.push(self.constant(&[outputs], data));
        }
        self.x = if flat {
            self.add("matmul", &inputs, Attrs::new())
        } else {
            let attrs = Attrs::new()
                .with("strides", Attr::Ints(conv.strides.to_vec()))
                .with("dilations", Attr::Ints(dilations.to_vec()))
                .with("pads", Attr::Ints(conv.pads.to_vec()))
                .with("groups", Attr::Int(groups as i64));
            self.add("conv", &inputs, attrs)
        };
    }

    fn pool(&mut self, pool: &Pool) {
        let shape = self.shape();
        let fits =
            |i: usize| shape.get(i + 1).is_some_and(|&n| n as i64 + pool.pads[i] + pool.pads[i + 2] >= pool.kernel[i]);
        if shape.len() < 3 || !fits(0) || !fits(1) {
            return;
        }
        let mut attrs = Attrs::new()
            .with("kernel", Attr::Ints(pool.kernel.to_vec()))
            .with("strides", Attr::Ints(pool.strides.to_vec()))
            .with("pads", Attr::Ints(pool.pads.to_vec()))
            .with("ceil", Attr::Bool(pool.ceil));
        if pool.kind == "average_pool" {
            attrs = attrs.with("count_padding", Attr::Bool(pool.count_padding));
        }
        // A rounded-up extent can put a whole window on padding, which the operator refuses.
        if let Ok(x) = self.graph.add(ops::known(pool.kind), pool.kind, &[self.x], attrs) {
            self.x = x;
        }
    }

    fn layer(&mut self, layer: &Layer) {
        let shape = self.shape();
        match layer {
            Layer::Act(act) => self.x = self.act(self.x, act),
            Layer::Conv(conv) => self.conv(conv),
            Layer::Norm { negative } => {
                let c = shape[0];
                let mut gamma = self.numbers(c);
                gamma.iter_mut().enumerate().for_each(|(i, g)| {
                    *g = if *negative && i % 3 == 0 { -g.abs() } else { g.abs() };
                    if i % 11 == 10 {
                        *g = 0.0;
                    }
                });
                let variance = self.numbers(c).into_iter().map(|v| v.abs() + 0.01).collect();
                let (beta, mean) = (self.numbers(c), self.numbers(c));
                let mut inputs = vec![self.x];
                for data in [gamma, beta, mean, variance] {
                    inputs.push(self.constant(&[c], data));
                }
                self.x = self.add("batch_norm", &inputs, Attrs::new());
            }
            Layer::Pool(pool) => self.pool(pool),
            Layer::GlobalPool if shape.len() == 3 => self.x = self.add("global_average_pool", &[self.x], Attrs::new()),
            Layer::Flatten if shape.len() == 3 => {
                let n = shape.iter().product::<usize>() as i64;
                self.x = self.add("reshape", &[self.x], Attrs::new().with("shape", Attr::Ints(vec![n])));
            }
            Layer::GlobalPool | Layer::Flatten => {}
            Layer::LeakyRelu { alpha } => {
                self.x = self.add("leaky_relu", &[self.x], Attrs::new().with("alpha", Attr::Float(*alpha)));
            }
            Layer::Unary(op) => self.x = self.add(op, &[self.x], Attrs::new()),
            Layer::Arith { op, c, per_channel, swapped } => {
                let c = self.scale(*c, *per_channel);
                let inputs = if *swapped && *op != "div" { [c, self.x] } else { [self.x, c] };
                self.x = self.add(op, &inputs, Attrs::new());
            }
            Layer::Residual { left, right } => {
                let same = |v: &&Value| self.graph.value_type(**v).map(|t| t.shape.per_sample()) == Some(shape.clone());
                let other = self.earlier.iter().rev().find(same).copied().unwrap_or(self.x);
                let a = left.as_ref().map_or(self.x, |q| self.act(self.x, q));
                let b = right.as_ref().map_or(other, |q| self.act(other, q));
                self.x = self.add("add", &[a, b], Attrs::new());
            }
            Layer::Shortcut { conv, negative, swapped } => {
                let x = self.x;
                let kernel = conv.kernel.map(|k| if k > 2 { 3 } else { 1 });
                let pads = [kernel[0], kernel[1], kernel[0], kernel[1]].map(|k| k as i64 / 2);
                let (strides, dilations) = ([1; 2], [1; 2]);
                self.conv(&Conv { outputs: shape[0], kernel, pads, strides, dilations, ..conv.clone() });
                self.layer(&Layer::Norm { negative: *negative });
                if self.shape() == shape {
                    let operands = if *swapped { [x, self.x] } else { [self.x, x] };
                    self.x = self.add("add", &operands, Attrs::new());
                }
            }
        }
    }
}

fn quant_attrs(bits: i64, signed: bool, narrow: bool, mode: &str) -> Attrs {
    Attrs::new()
        .with("bits", Attr::Int(bits))
        .with("signed", Attr::Bool(signed))
        .with("narrow", Attr::Bool(narrow))
        .with("mode", Attr::Word(mode.to_owned()))
}

impl Net {
    /// The graph, with one input `x` and one output.
    pub fn build(&self) -> Graph {
        let mut graph = Graph::new("net");
        let shape = Shape::batched(&[self.channels, self.extent[0], self.extent[1]]);
        let x = graph.add_input("x", ValueType::f32(shape));
        let mut b = Builder { graph, x, seed: 0, earlier: vec![x] };
        for layer in &self.layers {
            let before = b.x;
            b.layer(layer);
            b.earlier.push(before);
        }
        if b.x == x {
            b.x = b.add("relu", &[x], Attrs::new());
        }
        b.graph.add_output("y", b.x);
        b.graph
    }

    /// Inputs for a batch: one sample of noise, or three of the extremes.
    pub fn input(&self, extremes: bool) -> Tensor {
        let len = self.channels * self.extent[0] * self.extent[1];
        let mut data = Vec::new();
        if extremes {
            data.extend(std::iter::repeat_n(4.0, len));
            data.extend(std::iter::repeat_n(-4.0, len));
            data.extend((0..len).map(|i| if i % 2 == 0 { 4.0 } else { -4.0 }));
        } else {
            data = noise(len, 77);
        }
        let batch = if extremes { 3 } else { 1 };
        Tensor::f32([batch, self.channels, self.extent[0], self.extent[1]], data).expect("shape")
    }
}
