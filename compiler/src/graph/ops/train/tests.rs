//! The training operators at their edges: ties, bounds, zeros, noise, and numbers computed by hand.

use crate::graph::{Context, noise};
use crate::{interp, text};
use dorefa_runtime::tensor::{Data, Tensor};

const CONTEXT: Context = Context {
    seed: [3, 4],
    step: 1,
    sample0: 0,
    lr: 0.1,
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 0.1,
    weight_decay: 0.0,
    bn_momentum: 0.9,
    loss_scale: 1.0,
};

/// `y` of a graph whose body is `body`, on inputs "name: type" with their numbers.
fn eval_in(context: &Context, inputs: &[(&str, &[f32])], body: &str) -> Tensor {
    let declared: Vec<&str> = inputs.iter().map(|i| i.0).collect();
    let source = format!("dorefa 1\ngraph t({}) -> (y) {{\n{body}\n}}\n", declared.join(", "));
    let graph = text::parse(&source, "t", &|_| None).unwrap_or_else(|e| panic!("{e:?}"));
    let tensor = |(&node, &(name, data)): (&crate::graph::NodeId, &(&str, &[f32]))| {
        let ty = &graph.node(node).expect("an input").types[0];
        let batch = data.len() / ty.shape.sample_len().expect("small");
        let data = if ty.codes().is_some() {
            Data::I32(data.iter().map(|&v| v as i32).collect())
        } else {
            Data::F32(data.to_vec())
        };
        Tensor::new(ty.shape.concrete(batch), data).unwrap_or_else(|e| panic!("{name}: {e}"))
    };
    let inputs: Vec<Tensor> = graph.inputs().iter().zip(inputs).map(tensor).collect();
    let (mut outputs, _) = interp::step(&graph, &inputs, true, context).unwrap_or_else(|e| panic!("{e}"));
    outputs.remove(0)
}

fn eval(inputs: &[(&str, &[f32])], body: &str) -> Vec<f32> {
    let y = eval_in(&CONTEXT, inputs, body);
    match y.data() {
        Data::F32(v) => v.clone(),
        Data::I32(v) => v.iter().map(|&v| v as f32).collect(),
        other => panic!("{}", other.type_name()),
    }
}

fn near(got: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(got.len(), want.len());
    assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() <= tolerance), "{got:?} is not {want:?}");
}

#[test]
fn the_first_maximum_wins_a_window() {
    let pool = |x: &str, data: &[f32]| eval(&[(x, data)], "y = max_pool_winner(x, kernel=[2, 2])");
    assert_eq!(pool("x: f32[N, 1, 2, 2]", &[1.0, 3.0, 3.0, 3.0]), [1.0]);
    assert_eq!(pool("x: u2<0..3, scale 1/3>[N, 1, 2, 2]", &[1.0, 0.0, 3.0, 3.0]), [2.0]);
    // Zeros of either sign are equal; where nothing is greater than −∞, the first tap stands.
    assert_eq!(pool("x: f32[N, 1, 2, 2]", &[-0.0, 0.0, -1.0, 0.0]), [0.0]);
    assert_eq!(pool("x: f32[N, 1, 2, 2]", &[f32::NAN; 4]), [0.0]);
    assert_eq!(pool("x: f32[N, 1, 2, 2]", &[f32::NEG_INFINITY; 4]), [0.0]);
    assert_eq!(pool("x: f32[N, 1, 2, 2]", &[f32::NAN, 1.0, 0.0, 1.0]), [1.0]);
    assert_eq!(pool("x: f32[N, 1, 2, 2]", &[2.0, f32::NAN, 1.0, 3.0]), [3.0]);
    // Padding never wins: the first tap inside the image does.
    let padded = "y = max_pool_winner(x, kernel=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1])";
    let x = ("x: f32[N, 1, 2, 2]", &[f32::NAN, f32::NEG_INFINITY, -1.0, 0.0][..]);
    assert_eq!(eval(&[x], padded), [3.0, 2.0, 1.0, 0.0]);
}

#[test]
fn max_pool_gradients_go_to_the_winner() {
    let (dy, w) = (("dy: f32[N, 1, 1, 2]", &[2.0, -3.0][..]), ("w: u2<0..3, scale 1>[N, 1, 1, 2]", &[2.0, 1.0][..]));
    let y = eval(&[dy, w], "y = max_pool_grad(dy, w, kernel=[2, 2], strides=[2, 2], input=[2, 4])");
    assert_eq!(y, [0.0, 0.0, 0.0, -3.0, 2.0, 0.0, 0.0, 0.0]);
}

#[test]
fn overlapping_windows_add_in_window_order() {
    // (1e8 + 1) − 1e8 is 0 in f32, in any other order 1.
    let dy = ("dy: f32[N, 1, 1, 3]", &[1e8, 1.0, -1e8][..]);
    let x = ("x: f32[N, 1, 1, 5]", &[0.0, 1.0, 9.0, 3.0, 9.0][..]);
    let text = "w = max_pool_winner(x, kernel=[1, 3])\ny = max_pool_grad(dy, w, kernel=[1, 3], input=[1, 5])";
    assert_eq!(eval(&[dy, x], text), [0.0; 5]);
    let dy = ("dy: f32[N, 1, 1, 3]", &[3e8, 3.0, -3e8][..]);
    let y = eval(&[dy], "y = average_pool_grad(dy, kernel=[1, 3], input=[1, 5])");
    assert_eq!(y, [1e8, 1e8, 0.0, -1e8, -1e8]);
}

#[test]
fn derivatives_at_their_bounds() {
    let edges: &[f32] = &[-2.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 1.5];
    let dy: &[f32] = &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
    let at = |op: &str| eval(&[("dy: f32[N, 8]", dy), ("x: f32[N, 8]", edges)], &format!("y = {op}"));
    assert_eq!(at("clip_grad(dy, x, lo=0.0, hi=1.0)"), [0.0, 0.0, 0.0, 4.0, 5.0, 6.0, 7.0, 0.0]);
    assert_eq!(at("clip_grad(dy, x, lo=-1.0)"), [0.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    assert_eq!(at("relu_grad(dy, x)"), [0.0, 0.0, 0.0, 0.0, 0.0, 6.0, 7.0, 8.0]);
    assert_eq!(at("leaky_relu_grad(dy, x, alpha=0.5)"), [0.5, 1.0, 1.5, 2.0, 2.5, 6.0, 7.0, 8.0]);
    assert_eq!(at("abs_bound_grad(dy, x)"), [0.0, -2.0, -3.0, 0.0, 0.0, 6.0, 7.0, 0.0]);
    let nothing = [("dy: f32[N, 1]", &[1.0][..]), ("x: f32[N, 1]", &[f32::NAN][..])];
    for op in ["clip_grad(dy, x)", "relu_grad(dy, x)", "abs_bound_grad(dy, x)"] {
        assert_eq!(eval(&nothing, &format!("y = {op}")), [0.0], "{op} of NaN");
    }
}

const WEIGHTS_GRAD: &str = "t = tanh(w)\nm = max_abs(t)\nd = sum_product(g, t)\nn = count_equal_abs(t, m)\n\
                            y = tanh_weights_grad(g, t, m, d, n)";

/// Σ gᵢ·tanh(wᵢ)/max |tanh w|
fn normalised(w: &[f64], g: &[f32]) -> f64 {
    let max = w.iter().fold(0f64, |m, w| m.max(w.tanh().abs()));
    w.iter().zip(g).map(|(w, &g)| f64::from(g) * w.tanh() / max).sum()
}

#[test]
fn weights_differentiate_through_their_maximum() {
    let (w, g): ([f32; 5], [f32; 5]) = ([0.3, -0.9, 0.7, -0.1, 0.0], [0.5, 1.5, -0.7, 0.2, -1.0]);
    let got = eval(&[("g: f32[5]", &g), ("w: f32[5]", &w)], WEIGHTS_GRAD);
    let derivative = |i: usize, tied: Option<usize>| {
        let moved = |h: f64| {
            let mut w = w.map(f64::from);
            if let Some(j) = tied {
                w[j] = -w[i] - h;
            }
            w[i] += h;
            normalised(&w, &g)
        };
        ((moved(1e-5) - moved(-1e-5)) / 2e-5) as f32
    };
    near(&got, &std::array::from_fn::<_, 5, _>(|i| derivative(i, None)), 1e-5);
    // Two maxima of equal magnitude: each has half of what the maximum contributes.
    let tied = [0.3, -0.9, 0.9, -0.1, 0.0];
    let got = eval(&[("g: f32[5]", &g), ("w: f32[5]", &tied)], WEIGHTS_GRAD);
    let (t, max) = (tied.map(f32::tanh), 0.9f32.tanh());
    let dot: f32 = g.iter().zip(t).map(|(g, t)| g * t).sum();
    let share = [0.0, -0.5, 0.5, 0.0, 0.0].map(|s| s * dot / (max * max));
    near(&got, &std::array::from_fn::<_, 5, _>(|i| (g[i] / max - share[i]) * (1.0 - t[i] * t[i])), 1e-6);
    // Moving both together is differentiable again.
    let both = {
        let moved = |h: f64| normalised(&[0.3, -0.9 - h, 0.9 + h, -0.1, 0.0], &g);
        ((moved(1e-5) - moved(-1e-5)) / 2e-5) as f32
    };
    near(&[got[2] - got[1]], &[both], 1e-5);
}

#[test]
fn weights_of_zero_give_zero() {
    let zeros = [("g: f32[3]", &[1.0, -1.0, 2.0][..]), ("w: f32[3]", &[0.0, -0.0, 0.0][..])];
    assert_eq!(eval(&zeros, WEIGHTS_GRAD), [0.0; 3]);
    let codes = |bits: i64| eval(&zeros[1..], &format!("t = tanh(w)\ny = encode_weights(t, max_abs(t), bits={bits})"));
    // Half of n, to even.
    assert_eq!((codes(2), codes(4)), (vec![2.0; 3], vec![8.0; 3]));
    assert_eq!(eval(&zeros[1..], "y = encode_weights(w, bits=1)"), [1.0; 3]);
    assert_eq!(eval(&zeros[1..], "y = mean_abs(w)"), [0.0]);
}

#[test]
fn weight_codes_are_those_of_inference() {
    let w: Vec<f32> = (0..24).map(|i| ((i * 7 % 24) as f32 - 11.5) * 0.13).collect();
    let w = [("w: f32[4, 6]", &w[..])];
    for bits in 2..=8 {
        let codes = format!("t = tanh(w)\ny = decode(encode_weights(t, max_abs(t), bits={bits}))");
        // Levels lie 2/n apart: what differs is the last bit of their value.
        near(&eval(&w, &codes), &eval(&w, &format!("y = quantize_weights(w, bits={bits})")), 1e-6);
    }
    let one = eval(&w, "y = decode(encode_weights(w, bits=1), mean_abs(w))");
    assert_eq!(one, eval(&w, "y = quantize_weights(w, bits=1)"));
}

/// Codes and decoded gradients.
const GRADIENT: &str = "m = sample_max_abs(dy)\ny = encode_gradient(dy, m, bits=4, place=2)";
const DECODED: &str = "m = sample_max_abs(dy)\ny = decode(encode_gradient(dy, m, bits=4, place=2), m)";

#[test]
fn gradients_follow_the_noise() {
    let dy: Vec<f32> = (0..12).map(|i| ((i * 5 % 12) as f32 - 5.0) * if i < 6 { 0.1 } else { 3.0 }).collect();
    let want: Vec<f32> = (0..12)
        .map(|i| {
            let (sample, element) = (i / 6, i % 6);
            let m = dy[sample * 6..][..6].iter().fold(0f32, |m, v| m.max(v.abs()));
            let nu = noise::centred(noise::key([3, 4], 1, 2, sample as u64), element as u32);
            (dy[i] * (15.0 / (2.0 * m)) + 7.5 + nu).round_ties_even().clamp(0.0, 15.0)
        })
        .collect();
    assert_eq!(eval(&[("dy: f32[N, 6]", &dy)], GRADIENT), want);
    // The second half of the batch alone draws what it draws in the whole.
    let context = Context { sample0: 1, ..CONTEXT };
    let half = eval_in(&context, &[("dy: f32[N, 6]", &dy[6..])], GRADIENT);
    let half: Vec<f32> = half.as_i32().expect("codes").iter().map(|&u| u as f32).collect();
    assert_eq!(half, want[6..]);
}

#[test]
fn gradient_codes_are_unbiased() {
    let dy: Vec<f32> = (0..40_000).map(|i| if i == 0 { 1.0 } else { 0.123 }).collect();
    let decoded = eval(&[("dy: f32[N, 40000]", &dy)], DECODED);
    assert_eq!(decoded[0], 1.0);
    let mean = decoded[1..].iter().map(|&v| f64::from(v)).sum::<f64>() / 39_999.0;
    // Levels lie 2/15 apart: the deviation of the mean is at most 1/15/√39999.
    assert!((mean - 0.123).abs() < 5.0 / 15.0 / 200.0, "{mean}");
}

#[test]
fn gradients_of_zero_give_zero() {
    let dy = [("dy: f32[N, 3]", &[0.0, -0.0, 0.0, 1e-31, -1e-32, 0.0, 1.0, 0.5, f32::NAN][..])];
    let decoded = eval(&dy, DECODED);
    assert!(decoded[..6].iter().all(|&v| v == 0.0), "{decoded:?}");
    assert_eq!(eval(&dy, "y = sample_max_abs(dy)"), [0.0, 0.0, 1.0]);
}

#[test]
fn dropout_keeps_the_same_of_floats_codes_and_gradients() {
    let ones = [1.0; 4000];
    let floats = eval(&[("x: f32[N, 2000]", &ones)], "y = dropout_mask(x, rate=0.3, place=1)");
    let kept = floats.iter().filter(|&&v| v != 0.0).count();
    assert!((2600..3000).contains(&kept), "{kept} of 4000 kept");
    assert!(floats.iter().all(|&v| v == 0.0 || v == (1.0 / 0.7) as f32));
    let codes = [("x: u2<0..3, scale 1/3>[N, 2000]", &ones[..])];
    assert_eq!(
        eval(&codes, "y = decode(dropout_mask(x, rate=0.3, place=1))"),
        floats.iter().map(|&v| if v == 0.0 { 0.0 } else { (10.0f64 / 21.0) as f32 }).collect::<Vec<_>>()
    );
    let other = eval(&[("x: f32[N, 2000]", &ones)], "y = dropout_mask(x, rate=0.3, place=2)");
    assert_ne!(other, floats);
    assert_ne!(floats[..2000], floats[2000..]);
    assert_eq!(eval(&[("x: f32[N, 2000]", &ones)], "y = dropout_mask(x, rate=0.0, place=1)"), ones);
    assert_eq!(eval(&[("x: f32[N, 2000]", &ones)], "y = dropout(x, rate=0.3)"), ones);
}

/// Two steps of Adam from w = 1 with the gradients 1 and −½: m, v and w after each.
fn adam(epsilon: &str, context: &Context) -> Vec<[f32; 3]> {
    let (mut state, mut out) = ([0.0, 0.0, 1.0], Vec::new());
    for (step, g) in [(1, 1.0), (2, -0.5)] {
        let context = Context { step, ..*context };
        let next = "a = moment(m, g, hyper(name=beta1))\nb = moment_squared(v, g, hyper(name=beta2))";
        let inputs = ["m: f32[1]", "v: f32[1]", "w: f32[1]"];
        let g = ("g: f32[1]", &[g][..]);
        let inputs: Vec<(&str, &[f32])> = inputs.into_iter().zip(state.chunks(1)).chain([g]).collect();
        let rest = format!("s = adam_step(w, a, b, hyper(name=adam_rate), hyper(name={epsilon}))");
        let y = eval_in(&context, &inputs, &format!("{next}\n{rest}\ny = concat(a, b, s, axis=0)"));
        state = y.as_f32().expect("floats").try_into().expect("three");
        out.push(state);
    }
    out
}

#[test]
fn adam_by_hand() {
    // 1 − f32(β₂) is 1.3e-5 off.
    let check = |got: &[[f32; 3]], w: [f32; 2]| {
        near(&got[0], &[0.1, 0.001, w[0]], 2e-6);
        near(&got[1], &[0.04, 0.001249, w[1]], 2e-6);
    };
    // Without ε the first step is the rate times the gradient's sign.
    check(&adam("epsilon", &Context { epsilon: 0.0, ..CONTEXT }), [0.9, 0.8733663]);
    // TensorFlow's: 1 − 0.1·√0.001/0.1 · 0.1/(√0.001 + 0.1), …; PyTorch's: 1 − 0.1·1/(1 + 0.1), ….
    check(&adam("epsilon", &CONTEXT), [0.9759747, 0.9690199]);
    check(&adam("adam_epsilon", &CONTEXT), [0.9090909, 0.8854482]);
}

#[test]
fn momentum_and_descent_by_hand() {
    let inputs: [(&str, &[f32]); 2] = [("m: f32[2]", &[1.0, -2.0]), ("g: f32[2]", &[0.5, 0.25])];
    near(&eval(&inputs, "y = momentum(m, g, hyper(name=beta1))"), &[1.4, -1.55], 1e-7);
    near(&eval(&inputs, "y = descend(m, g, hyper(name=lr))"), &[0.95, -2.025], 1e-7);
}

const LABELS: &str = "labels: u2<0..3, scale 1>[N]";

#[test]
fn cross_entropy_at_its_edges() {
    let logits: &[f32] = &[0.5, 0.5, 0.5, 0.5, 1000.0, 0.0, -1000.0, 0.0, 1.0, 2.0, 3.0, 4.0];
    let inputs = [("z: f32[N, 4]", logits), (LABELS, &[2.0, 2.0, 0.0][..])];
    let tail = (1f32 + (-1f32).exp() + (-2f32).exp() + (-3f32).exp()).ln();
    near(&eval(&inputs, "y = softmax_cross_entropy(z, labels)"), &[4f32.ln(), 2000.0, tail + 3.0], 1e-6);
    let grad = eval(&inputs, "y = softmax_cross_entropy_grad(z, labels)");
    near(&grad[..8], &[1.0 / 12.0, 1.0 / 12.0, -0.25, 1.0 / 12.0, 1.0 / 3.0, 0.0, -1.0 / 3.0, 0.0], 1e-7);
    grad.chunks(4).for_each(|row| near(&[row.iter().sum()], &[0.0], 1e-7));
    let scaled = eval_in(&Context { loss_scale: 8.0, ..CONTEXT }, &inputs, "y = softmax_cross_entropy_grad(z, labels)");
    assert_eq!(scaled.as_f32().expect("floats"), grad.iter().map(|g| g * 8.0).collect::<Vec<_>>());
}

#[test]
fn the_lowest_of_equal_labels_counts() {
    let nan = f32::NAN;
    let logits = [1.0, 3.0, 3.0, 2.0, 1.0, 3.0, 3.0, 2.0, nan, 1.0, nan, 0.0, nan, nan, nan, nan];
    let inputs = [("z: f32[N, 4]", &logits[..]), (LABELS, &[1.0, 2.0, 1.0, 1.0][..])];
    assert_eq!(eval(&inputs, "y = correct(z, labels)"), [1.0, 0.0, 1.0, 0.0]);
    assert_eq!(eval(&inputs, "y = sample_sum(correct(z, labels))"), [2.0]);
}

/// Two samples of two channels of 2×3.
fn map() -> Vec<f32> {
    (0..24).map(|i| (i * 11 % 24) as f32 - 9.0).collect()
}

#[test]
fn batch_statistics_of_codes_and_of_floats() {
    let (x, acc) = (map(), "a: u5<0..23, step 1, offset -9, scale 1>[N, 2, 2, 3]");
    let mean: Vec<f32> = (0..2)
        .map(|c| x.iter().enumerate().filter(|(i, _)| i / 6 % 2 == c).map(|(_, v)| v).sum::<f32>() / 12.0)
        .collect();
    let variance = |c: usize| {
        let of = x.iter().enumerate().filter(|(i, _)| i / 6 % 2 == c);
        of.map(|(_, v)| (v - mean[c]) * (v - mean[c])).sum::<f32>() / 12.0
    };
    let variance = [variance(0), variance(1)];
    let floats = [("x: f32[N, 2, 2, 3]", &x[..])];
    near(&eval(&floats, "y = batch_mean(x)"), &mean, 1e-6);
    near(&eval(&floats, "y = batch_variance(x, batch_mean(x))"), &variance, 1e-4);
    near(&eval(&floats, "y = channel_sum(x)"), &[mean[0] * 12.0, mean[1] * 12.0], 1e-5);
    near(&eval(&floats, "y = per_element(channel_sum(x), area=6)"), &mean, 1e-6);
    let unbiased = eval(&floats, "y = unbiased(batch_variance(x, batch_mean(x)), area=6)");
    near(&unbiased, &variance.map(|v| v * 12.0 / 11.0), 1e-4);
    // The same numbers as an accumulator, behind a 1×1 identity of ±1; half of each through the factor.
    let codes: Vec<f32> = x.iter().map(|v| v + 9.0).collect();
    let inputs = [
        (acc, &codes[..]),
        ("f: f32[1]", &[0.5][..]),
        ("w: u2<0..2, step 1, offset -1, scale 1>[2, 2, 1, 1]", &ID[..]),
    ];
    let halves = eval(&inputs, "y = batch_mean(int_conv(a, w), f)");
    near(&halves, &[mean[0] / 2.0, mean[1] / 2.0], 1e-6);
    let quarters = eval(&inputs, "s = int_conv(a, w)\ny = batch_variance(s, batch_mean(s, f), f)");
    near(&quarters, &variance.map(|v| v / 4.0), 1e-4);
    // One element has no unbiased variance: it keeps the biased one.
    assert_eq!(eval(&[("x: f32[N, 1]", &[3.0])], "y = unbiased(batch_variance(x, batch_mean(x)), area=1)"), [0.0]);
}

/// Codes of the 2×2 identity with levels −1, 0, 1.
const ID: [f32; 4] = [2.0, 1.0, 1.0, 2.0];

#[test]
fn batch_norm_gradients_by_hand() {
    let affine =
        [("x: f32[N, 2]", &[1.0, 2.0, 3.0, 4.0][..]), ("s: f32[2]", &[2.0, 0.5][..]), ("o: f32[2]", &[1.0, -1.0][..])];
    assert_eq!(eval(&affine, "y = channel_affine(x, s, o)"), [3.0, 0.0, 7.0, 1.0]);
    assert_eq!(eval(&affine, "y = channel_normalize(x, o, s)"), [0.0, 1.5, 4.0, 2.5]);
    // ((dz − b) − x̂·a)·s with a = s = (2, ½), b = o = (1, −1), x̂ = dz.
    assert_eq!(eval(&affine, "y = batch_norm_grad(x, x, s, o, s)"), [-4.0, 1.0, -8.0, 1.5]);
}

#[test]
fn products_of_codes_are_those_of_floats() {
    let codes =
        |n: usize, top: usize, seed: usize| (0..n).map(|i| ((i * 7 + seed) * 13 % 31 % (top + 1)) as f32).collect();
    let (a, w, g): (Vec<f32>, Vec<f32>, Vec<f32>) = (codes(200, 3, 1), codes(36, 1, 2), codes(72, 15, 3));
    let m: &[f32] = &[0.75, 0.0];
    let inputs = [
        ("a: u2<0..3, scale 1/3>[N, 4, 5, 5]", &a[..]),
        ("w: u1<0..1, step 2, offset -1, scale 1>[4, 1, 3, 3]", &w[..]),
        ("g: u4<0..15, step 2, offset -15, scale 1/15>[N, 4, 3, 3]", &g[..]),
        ("m: f32[N]", m),
        ("e: f32[1]", &[0.3][..]),
    ];
    let shape = "strides=[2, 2], pads=[1, 1, 1, 1], groups=4";
    let pair = |int: &str, float: &str| {
        let got = eval(&inputs, &format!("y = {int}"));
        assert!(got.iter().any(|&v| v != 0.0));
        near(&got, &eval(&inputs, &format!("d = decode(g, m)\ny = {float}")), 1e-6);
    };
    pair(
        &format!("decode(int_conv_input_grad(g, w, {shape}, input=[5, 5]), m, e)"),
        &format!("conv_input_grad(d, decode(w, e), {shape}, input=[5, 5])"),
    );
    pair(
        &format!("int_conv_weight_grad(a, g, m, {shape}, kernel=[3, 3])"),
        &format!("conv_weight_grad(decode(a), d, {shape}, kernel=[3, 3])"),
    );
}
