"""The training step of svhn-d once more, in float64 and by hand. Usage: train_reference.py FOLDER, with the files that
`DOREFAC_DUMP=FOLDER cargo test -p dorefac-tests --test train_reference -- --ignored` writes there.

Nothing here reads dorefac's graph: the layers, the derivatives, the noise and the quantisers stand below as the paper and
the documentation define them. From dorefac come the parameters, the batch, the codes of weights, activations and gradients
(an input of what follows them, so that one code that rounds the other way does not change all others), and on which side of
a bound or which tap of a window a value lies. Convolutions of codes are exact integers, so that ties stay ties.

Every element of every tensor is compared with dorefac's here, and every code with the value that it rounds. Samples and the
norm go to tests/vectors.
"""

import re
import sys
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

SAMPLES = 200  # stored of one tensor
SEED, STEP = (7, 8), 1
EPSILON = 1e-4
PADS = {1: 1, 2: 1, 3: 0, 4: 1, 5: 0, 6: 0}
BOUNDARY, SHARE, TOLERANCE = 1e-3, 1e-3, 1e-5


def windows(x, kernel, pad):
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    return sliding_window_view(x, kernel, axis=(2, 3))


def conv(x, w, pad=0):
    return np.einsum("nchwij,ocij->nohw", windows(x, w.shape[2:], pad), w, optimize=True)


def conv_weight_gradient(x, dy, kernel, pad=0):
    return np.einsum("nchwij,nohw->ocij", windows(x, kernel, pad), dy, optimize=True)


def conv_input_gradient(dy, w, pad=0):
    """A full correlation with the turned kernel, cut to what is no padding. Stride 1."""
    k = w.shape[2]
    full = np.einsum("nohwij,ocij->nchw", windows(dy, w.shape[2:], k - 1), w[:, :, ::-1, ::-1], optimize=True)
    return full[:, :, pad : full.shape[2] - pad, pad : full.shape[3] - pad]


def pool(x):
    """2×2: the greatest, and for the way back the first greatest in row-major order."""
    n, c, h, w = x.shape
    taps = x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h // 2, w // 2, 4)
    return taps.max(-1), taps.argmax(-1)


def unpool(dy, index):
    n, c, h, w = dy.shape
    taps = dy[..., None] * (index[..., None] == np.arange(4))
    return taps.reshape(n, c, h, w, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, 2 * h, 2 * w)


def mix(z):
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def noise(place, shape):
    """ν of every element, in [−½, ½)."""
    rows = []
    for sample in range(shape[0]):
        key = 0
        for v in (*SEED, STEP, place, sample):
            key = mix(((key ^ v) + 0x9E3779B97F4A7C15) % 2**64)
        x = np.arange(np.prod(shape[1:]), dtype=np.uint64) * 0x9E3779B1 + (key & 0xFFFFFFFF) & 0xFFFFFFFF
        x ^= x >> 16
        x = x * 0x85EBCA6B & 0xFFFFFFFF
        x ^= np.uint64(key >> 32)
        x ^= x >> 13
        x = x * 0xC2B2AE35 & 0xFFFFFFFF
        x ^= x >> 16
        rows.append((x >> 8) / 2.0**24 - 0.5)
    return np.array(rows).reshape(shape)


class Reference:
    def __init__(self, dump, bits):
        self.dump, self.bits, self.stored, self.worst = dump, bits, {}, (0, "")

    def given(self, name):
        return self.dump[name].astype(np.float64)

    def tensor(self, name, value):
        """Compares a tensor and stores samples and the norm. Gives dorefac nothing: the chain goes on with `value`."""
        error = np.linalg.norm(self.given(name).ravel() - value.ravel()) / np.linalg.norm(value)
        assert value.size == self.dump[name].size and error <= TOLERANCE, f"{name}: {error}"
        self.worst = max(self.worst, (error, name))
        self.stored[name] = np.append(sample(value), np.linalg.norm(value)).astype(np.float32)
        return value

    def codes(self, name, before):
        """Compares codes with the values that they round; the chain goes on with the codes."""
        codes = self.given(name)
        differ = codes != np.round(before)
        assert np.abs(codes - before)[differ].max(initial=0) <= 0.5 + BOUNDARY, f"{name}: a code far from a boundary"
        assert differ.mean() < SHARE, f"{name}: {differ.sum()} of {differ.size} codes"
        self.stored[name] = sample(before).astype(np.float32)
        return codes

    def same(self, name, own, given):
        """Masks and places in windows: dorefac's hold where rounding to f32 decides."""
        assert (own != given).mean() < SHARE, f"{name}: {(own != given).sum()} of {own.size} decided otherwise"
        return given

    def weights(self, layer):
        """Values as integers with their scale, and the way back of a gradient."""
        w, bits = self.given(f"conv{layer}.w"), self.bits[0]
        if bits == 32:
            return w, 1.0, lambda d: d
        if bits == 1:
            codes = self.given(f"c{layer}.quantize_weights_codes")
            assert (codes == (w >= 0)).all()
            return 2 * codes - 1, np.abs(w).mean(), lambda d: d
        n, t = 2**bits - 1, np.tanh(w)
        top = np.abs(t).max()
        codes = self.codes(f"c{layer}.quantize_weights_codes", (t / (2 * top) + 0.5) * n)
        ties = np.abs(t) == top

        def back(d):
            dt = d / top - ties * np.sign(t) * (d * t).sum() / top**2 / ties.sum()
            return dt * (1 - t * t)

        return 2 * codes - n, 1 / n, back

    def activation(self, name, x, given):
        """Quantised (or relu at 32 bits): integers with their scale, and where the gradient passes."""
        bits, given = self.bits[1], self.given(given)
        if bits == 32:
            return np.maximum(x, 0), 1.0, self.same(name, x > 0, given > 0)
        n = 2**bits - 1
        passes = self.same(name, (0 <= x) & (x <= 1), (0 <= given) & (given <= 1))
        return self.codes(f"{name}_codes", np.clip(x, 0, 1) * n), 1 / n, passes

    def gradient(self, layer, dy):
        bits = self.bits[2]
        if bits == 32:
            return dy
        n, m = 2**bits - 1, np.abs(dy).max(axis=(1, 2, 3), keepdims=True)
        before = np.clip(dy * n / (2 * m) + n / 2 + noise(layer - 1, dy.shape), 0, n)
        return m * (2 * self.codes(f"db{layer}.quantize_gradient_codes", before) - n) / n

    def norm_forward(self, layer, x):
        mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
        self.tensor(f"b{layer}_mean", mean)
        self.tensor(f"b{layer}_variance", var)
        at = lambda v: v[:, None, None]
        hat = (x - at(mean)) / np.sqrt(at(var) + EPSILON)
        gamma, beta = self.given(f"bn{layer}.gamma"), self.given(f"bn{layer}.beta")

        def back(dz):
            axes = (0, 2, 3)
            self.tensor(f"db{layer}_gamma", (dz * hat).sum(axes))
            self.tensor(f"db{layer}_beta", dz.sum(axes))
            inner = dz - at(dz.mean(axes)) - hat * at((dz * hat).mean(axes))
            return self.tensor(f"db{layer}_x", at(gamma / np.sqrt(var + EPSILON)) * inner)

        return hat * at(gamma) + at(beta), back

    def run(self):
        backs = []
        x, labels = self.given("x"), self.dump["labels"]
        first = self.tensor("c0", conv(x, self.given("conv0.w")) + self.given("conv0.b")[:, None, None])
        pooled, index0 = pool(first)
        index0 = self.same("p0", index0, pool(self.given("c0"))[1])
        a, scale, passes0 = self.activation("a0", pooled, "p0")
        for layer, pad in PADS.items():
            w, unit, weights_back = self.weights(layer)
            z, norm_back = self.norm_forward(layer, conv(a, w, pad) * (scale * unit))
            index, name = None, f"b{layer}"
            if layer == 2:
                z, index = pool(z)
                name, index = "p2", self.same("p2", index, pool(self.given("b2"))[1])
            backs.append((layer, pad, a * scale, w * unit, weights_back, norm_back, index))
            if layer < 6:
                a, scale, passes = self.activation(f"a{layer}", z, name)
                backs.append(passes)
        given = self.given("b6")
        last = self.same("a6", (0 <= z) & (z <= 1), (0 <= given) & (given <= 1))
        features, fc = np.clip(z, 0, 1)[:, :, 0, 0], self.given("fc1.w")
        logits = self.tensor("logits", features @ fc.T + self.given("fc1.b"))
        power = np.exp(logits - logits.max(1, keepdims=True))
        p, hot = power / power.sum(1, keepdims=True), labels[:, None] == np.arange(logits.shape[1])
        self.tensor("loss", -np.log(p[hot]).mean())

        d = self.tensor("dscores", (p - hot) / len(labels))
        self.tensor("dlogits_w", d.T @ features)
        self.tensor("dlogits_b", d.sum(0))
        d = self.tensor("dlogits_x", d @ fc)[:, :, None, None]
        d = self.tensor("da6", d * last)
        for back in reversed(backs):
            if isinstance(back, np.ndarray):
                d = d * back
                continue
            layer, pad, a, w, weights_back, norm_back, index = back
            if index is not None:
                d = self.tensor("dp2", unpool(d, index))
            d = self.gradient(layer, norm_back(d))
            # SGD's first velocity is the gradient.
            self.tensor(f"conv{layer}.w_m_next", weights_back(conv_weight_gradient(a, d, w.shape[2:], pad)))
            d = self.tensor(f"dc{layer}_x", conv_input_gradient(d, w, pad))
        d = self.tensor("dp0", unpool(d * passes0, index0))
        self.tensor("dc0_w", conv_weight_gradient(x, d, (5, 5)))
        self.tensor("dc0_b", d.sum((0, 2, 3)))


def sample(values):
    """At most SAMPLES elements, a step apart that has no divisor in common with their number."""
    values, step = np.ravel(values), 1
    while -(-values.size // step) > SAMPLES or (step > 1 and np.gcd(step, values.size) != 1):
        step += 1
    return values[::step]


def main(folder):
    vectors = Path(__file__).parent.parent / "vectors"
    vectors.mkdir(exist_ok=True)
    for file in sorted(Path(folder).glob("svhn-d-*.npz")):
        bits = [int(b) for b in re.findall(r"[wag](\d+)", file.stem)]
        reference = Reference(np.load(file), bits)
        reference.run()
        np.savez_compressed(vectors / file.name, **reference.stored)
        error, name = reference.worst
        print(f"{file.stem}: {len(reference.stored)} tensors, the greatest error {error:.1e} ({name})")


if __name__ == "__main__":
    main(*sys.argv[1:])
