//! Every float operator inside a network: the compiled step gives the bits of the interpreter's, at one and at two threads, on
//! the newest and on the oldest level.

use dorefac_tests::training::{ADAM, check, parsed};

/// Trains what `body` makes of `a` and `c`, two convolutions of x (N,3,4,4), to `y` of `features` elements.
fn trains(features: usize, body: &str) {
    let text = format!(
        "dorefa 1\ngraph g(x: f32[N, 3, 4, 4]) -> (scores) {{\n\
         \x20 a = conv(x, @a.w: f32[3, 3, 3, 3], @a.b: f32[3], pads=[1, 1, 1, 1])\n\
         \x20 c = conv(x, @c.w: f32[3, 3, 3, 3], @c.b: f32[3], pads=[1, 1, 1, 1])\n{body}\n\
         \x20 f = reshape(y, shape=[{features}])\n  scores = matmul(f, @fc.w: f32[4, {features}])\n}}\n"
    );
    for cpu in ["native", "x86-64-v2"] {
        eprintln!("{body}, {cpu}");
        check(&parsed(&text), &ADAM, 2, cpu);
    }
}

#[test]
fn reductions() {
    for op in ["reduce_mean", "reduce_sum"] {
        trains(3, &format!("y = {op}(a, axes=[2, 3])"));
        trains(12, &format!("y = {op}(exp(a), axes=[-1], keepdims=false)"));
        trains(16, &format!("y = {op}(tanh(a), axes=[1])"));
        trains(1, &format!("y = {op}(sigmoid(a), axes=[1, 2, 3])"));
        trains(6, &format!("y = {op}(reshape(a, shape=[6, 8]), axes=[2], keepdims=false)"));
    }
    trains(3, "y = global_average_pool(mul(a, c))");
    trains(3, "y = global_average_pool(x)");
}

#[test]
fn softmax() {
    trains(48, "y = softmax(a)");
    trains(48, "y = softmax(reshape(a, shape=[48]))");
    trains(48, "y = softmax(reshape(a, shape=[6, 8]))");
    trains(48, "y = mul(c, softmax(x))");
}

#[test]
fn values_that_broadcast() {
    trains(48, "y = mul(c, sigmoid(global_average_pool(a)))");
    trains(48, "y = sub(max_pool(a, kernel=[1, 4]), c)");
    trains(48, "y = div(tanh(c), exp(reduce_mean(a, axes=[1, 2, 3])))");
    trains(48, "y = mul(c, dropout(sigmoid(reduce_mean(a, axes=[1])), rate=0.5))");
    for shape in ["1", "3, 1, 1", "1, 4, 1", "4", "3, 4, 4", "1, 3, 1, 4"] {
        trains(48, &format!("y = mul(a, tanh(@s: f32[{shape}]))"));
    }
    // As many columns as channels.
    trains(36, "y = add(max_pool(a, kernel=[1, 2]), @s: f32[3])");
    trains(12, "y = add(reduce_mean(a, axes=[1, 2, 3]), @o: f32[3, 2, 2])");
}

#[test]
fn moves() {
    trains(48, "y = transpose(reshape(a, shape=[2, 3, 2, 4]), perm=[0, 4, 2, 1, 3])");
    trains(48, "y = max_pool(reshape(a, shape=[6, 4, 2]), kernel=[1, 1])");
    trains(126, "y = mul(pad(a, pads=[1, 0, 2, 2]), pad(x, pads=[1, 0, 2, 2], value=0.5))");
    trains(96, "y = concat(a, x, axis=2)");
}

#[test]
fn selections() {
    trains(24, "y = slice(a, axis=2, start=1, length=2)");
    trains(60, "y = take(a, axis=3, indices=[1, 1, 3, -1, 0])");
    trains(
        96,
        "y = mul(take(a, axis=2, indices=[0, 0, 1, 1, 2, 2, 3, 3]), take(x, axis=2, indices=[0, 0, 1, 1, 2, 2, 3, 3]))",
    );
    trains(48, "y = add(a, repeat(@s: f32[3, 4, 4], x))");
    trains(48, "y = select(greater(a, c), exp(c), mul(a, global_average_pool(c)))");
    trains(48, "y = select(equal(reduce_max(a, axes=[3]), a), a, mul(c, select(greater_equal(x, c), a, c)))");
    trains(3, "y = reduce_max(a, axes=[2, 3])");
    trains(16, "y = reduce_max(a, axes=[1], keepdims=false)");
    trains(48, "y = mul(a, arg_max(c, axes=[1]))");
}

#[test]
fn functions() {
    for op in [
        "relu(a)",
        "leaky_relu(a, alpha=0.3)",
        "clip(a, lo=-0.4, hi=0.72)",
        "tanh(a)",
        "sigmoid(a)",
        "exp(a)",
        "erf(a)",
    ] {
        trains(48, &format!("y = {op}"));
    }
    for op in ["sqrt(exp(a))", "abs(a)", "neg(a)", "log(exp(a))", "round(x)", "mul(a, sign(x))", "mul(a, step(x))"] {
        trains(48, &format!("y = add(c, {op})"));
    }
    for op in ["add(a, c)", "sub(a, c)", "mul(a, c)", "div(a, exp(c))", "min(a, c)", "max(a, c)"] {
        trains(48, &format!("y = {op}"));
    }
    for shape in ["1", "3, 1, 1", "1, 4, 1", "3, 4, 4"] {
        trains(48, &format!("y = prelu(a, @s: f32[{shape}])"));
    }
    trains(48, "y = pow(exp(a), @s: f32[3, 1, 1])");
    trains(48, "y = tanh(product(product(a, c), a))");
}

/// Pools of `channels` maps of a convolution of x (N,3,4,4), of which a clip takes many to zero, so that taps tie.
fn pools(channels: usize, features: usize, pool: &str) {
    let convolution = format!("conv(x, @w: f32[{channels}, 3, 3, 3], pads=[1, 1, 1, 1])");
    trains(channels * features, &format!("r = relu({convolution})\n  p = pad(r, pads=[1, 2, 2, 1])\n  y = {pool}"));
}

#[test]
fn pools_that_overlap_or_leave_the_image() {
    for channels in [3, 16, 20, 48] {
        // Images of 4×4 (r) and 7×7 (p): windows of which some, all or none lie inside.
        pools(channels, 9, "max_pool(p, kernel=[3, 3], strides=[2, 2])");
        pools(channels, 9, "max_pool(p, kernel=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1], ceil=false)");
        pools(channels, 4, "max_pool(r, kernel=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])");
        pools(channels, 16, "max_pool(r, kernel=[3, 3], pads=[1, 1, 1, 1])");
        pools(channels, 8, "max_pool(r, kernel=[2, 3], strides=[1, 2], pads=[1, 0, 0, 1])");
        pools(channels, 9, "max_pool(r, kernel=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1])");
        pools(channels, 4, "max_pool(p, kernel=[2, 2], strides=[5, 4])");
        pools(channels, 9, "max_pool(p, kernel=[2, 2], strides=[3, 3], pads=[1, 1, 1, 1])");
    }
    // No window lies inside; so many taps that none is unrolled; gaps.
    pools(20, 4, "max_pool(max_pool(r, kernel=[3, 3], strides=[2, 2]), kernel=[2, 2], pads=[1, 1, 1, 1])");
    pools(20, 16, "max_pool(r, kernel=[5, 1], pads=[2, 0, 2, 0])");
    pools(20, 25, "max_pool(r, kernel=[4, 4], pads=[2, 2, 2, 2])");
    pools(20, 16, "max_pool(r, kernel=[2, 2], dilations=[2, 2], pads=[1, 1, 1, 1])");
    pools(20, 49, "max_pool(p, kernel=[3, 3], dilations=[2, 2], pads=[2, 2, 2, 2])");
    pools(20, 16, "average_pool(r, kernel=[3, 3], pads=[1, 1, 1, 1])");
    pools(20, 16, "average_pool(p, kernel=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_padding=true)");
}

/// The pool's gradient is read instead of what it scatters: patches as strips and one by one, with and without a bias.
#[test]
fn pools_behind_convolutions_of_few_taps() {
    for bias in ["", ", @b: f32[16]"] {
        for (kernel, pads) in [("1, 1", "0, 0, 0, 0"), ("2, 2", "0, 0, 1, 1"), ("1, 2", "0, 1, 0, 0")] {
            for (window, features) in [("2, 2", 64), ("1, 4", 64), ("4, 1", 64), ("4, 2", 32)] {
                let convolution = format!("conv(x, @w: f32[16, 3, {kernel}]{bias}, pads=[{pads}])");
                let pool = format!("max_pool({convolution}, kernel=[{window}], strides=[{window}])");
                trains(features, &format!("y = clip({pool}, lo=-0.3, hi=0.3)"));
            }
        }
    }
}

#[test]
fn pools_and_convolutions() {
    trains(27, "y = max_pool(pad(a, pads=[0, 0, 1, 1]), kernel=[2, 2], dilations=[2, 2])");
    trains(27, "y = average_pool(pad(a, pads=[0, 0, 1, 1]), kernel=[2, 2], dilations=[2, 2])");
    trains(12, "y = max_pool(x, kernel=[2, 2], strides=[2, 2])");
    trains(24, "y = conv(a, @w: f32[6, 3, 2, 2], dilations=[2, 2])");
    trains(96, "y = conv(a, @w: f32[6, 1, 3, 3], groups=3, pads=[1, 1, 1, 1])");
    trains(
        60,
        "y = conv(reshape(a, shape=[3, 1, 16]), @w: f32[4, 3, 1, 3], dilations=[1, 1], strides=[1, 1], pads=[0, 0, 0, 1])",
    );
    // A transposed convolution of stride 2, as the importer writes it.
    trains(
        147,
        "z = take(take(a, axis=2, indices=[0, -1, 1, -1, 2, -1, 3]), axis=3, indices=[0, -1, 1, -1, 2, -1, 3])\n\
                 y = conv(z, @w: f32[3, 3, 3, 3], pads=[1, 1, 1, 1])",
    );
    trains(48, "y = conv(a, transpose(@w: f32[3, 3, 3, 3], perm=[1, 0, 2, 3]), pads=[1, 1, 1, 1])");
    trains(5, "y = matmul(reshape(a, shape=[48]), transpose(@w: f32[48, 5], perm=[1, 0]), @b: f32[5])");
}
