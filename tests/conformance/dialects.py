"""Writes quantised networks, each in several dialects, and what ONNX Runtime makes of the one in standard operators:
FOLDER/NETWORK.DIALECT.onnx and .npz, as cases.py does. The dialects of one network compute the same floats.

usage: python dialects.py FOLDER      needs the packages onnx, onnxruntime and numpy
"""

import pathlib
import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

QONNX, FINN, LAST = "qonnx.custom_op.general", "finn.custom_op.general", "qonnx.custom_op.channels_last"
OPSETS = {"int4": 21, "int2": 25}
PACKED = {(4, True): TensorProto.INT4, (4, False): TensorProto.UINT4, (2, True): TensorProto.INT2, (2, False): TensorProto.UINT2}


def bounds(bits, signed, narrow=False):
    return (-(2 ** (bits - 1)) + narrow, 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1 - narrow)


class Writer:
    """A graph under construction in one dialect; `images` are (N,H,W,C) in the dialects nhwc and last."""

    def __init__(self, dialect, seed):
        self.dialect, self.draw = dialect, np.random.default_rng(seed)
        self.nodes, self.constants = [], []
        self.last = dialect in ("nhwc", "last")

    def const(self, value, dtype=np.float32):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def packed(self, codes, bits, signed):
        name = f"c{len(self.constants)}"
        self.constants.append(helper.make_tensor(name, PACKED[bits, signed], codes.shape, codes.flatten().astype(int)))
        return name

    def op(self, kind, *inputs, domain="", **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"n{name}", domain=domain, **attributes))
        return name

    def first(self, x):
        return self.op("Transpose", x, perm=[0, 3, 1, 2]) if self.last else x

    def back(self, x):
        return self.op("Transpose", x, perm=[0, 2, 3, 1]) if self.last else x

    def along(self, values):
        """Numbers of channels, as they broadcast."""
        values = np.asarray(values, np.float32)
        return values if self.last or values.ndim == 0 else values.reshape(-1, 1, 1)

    def activation(self, x, bits, scale, signed=False, zero=0, narrow=False, mode="ROUND", image=True):
        lo, hi = bounds(bits, signed, narrow)
        if self.dialect == "qonnx":
            more = [self.const(scale), self.const(zero), self.const(bits)]
            return self.op("Quant", x, *more, domain=QONNX, signed=int(signed), narrow=int(narrow), rounding_mode=mode)
        if self.dialect in ("qdq", "int4", "int2"):
            kind = np.int8 if signed else np.uint8
            if self.dialect != "qdq" and (bits, signed) in PACKED:
                zero = self.packed(np.array(zero), bits, signed)
            else:
                zero = self.const(zero, kind)
            q = self.op("QuantizeLinear", x, self.const(scale), zero)
            if (lo, hi) != bounds(8, signed) and (self.dialect == "qdq" or (bits, signed) not in PACKED):
                q = self.op("Clip", q, self.const(lo, kind), self.const(hi, kind))
            return self.op("DequantizeLinear", q, self.const(scale), zero)
        if self.dialect in ("finn", "nhwc", "last") and zero == 0 and not narrow and bits <= 4:
            steps = ((np.arange(lo, hi) + 0.5) * np.float32(scale)).astype(np.float32)
            layout = "NHWC" if self.last and image else "NCHW"
            more = {"out_scale": float(scale), "out_bias": float(lo * np.float32(scale)), "out_dtype": f"UINT{bits}", "data_layout": layout}
            return self.op("MultiThreshold", x, self.const(steps.reshape(1, -1)), domain=FINN, **more)
        rounding = {"ROUND": "Round", "FLOOR": "Floor", "CEIL": "Ceil"}[mode]
        y = self.op("Div", x, self.const(scale))
        y = self.op("Add", y, self.const(zero)) if zero else y
        y = self.op("Clip", self.op(rounding, y), self.const(lo), self.const(hi))
        y = self.op("Sub", y, self.const(zero)) if zero else y
        return self.op("Mul", y, self.const(scale))

    def weights(self, shape, bits, channels=False, narrow=True, zero=0, block=0):
        """Weights of a few bits, scaled as a whole, by output, or in blocks along axis 1."""
        w = self.draw.normal(size=shape).astype(np.float32)
        lo, hi = bounds(bits, True, narrow)
        powers = 2.0 ** self.draw.integers(-4, 0, shape[0] if channels else ())
        scale = np.asarray(powers / 2 ** (bits - 1) * 4, np.float32)
        wide = scale.reshape(-1, *[1] * (len(shape) - 1)) if channels else scale
        if block:
            scale = (2.0 ** self.draw.integers(-4, 0, (shape[0], -(-shape[1] // block)))).astype(np.float32) * np.float32(0.3)
            wide = np.repeat(scale, block, axis=1)[:, : shape[1]]
        codes = np.clip(np.round(w / wide) + zero, lo, hi)
        if self.dialect == "qonnx":
            more = [self.const(wide), self.const(zero), self.const(bits)]
            return self.op("Quant", self.const(w), *more, domain=QONNX, signed=1, narrow=int(narrow), rounding_mode="ROUND")
        if self.dialect in ("qdq", "int4", "int2"):
            more = {"axis": 1, "block_size": block} if block else {"axis": 0} if channels else {}
            if self.dialect != "qdq" and (bits, True) in PACKED:
                q = self.packed(codes, bits, True)
                zeros = [self.packed(np.full(scale.shape, zero), bits, True)] if zero else []
            else:
                q, zeros = self.const(codes, np.int8), [self.const(np.full(scale.shape, zero), np.int8)]
            return self.op("DequantizeLinear", q, self.const(scale), *zeros, **more)
        return self.const(((codes - zero) * wide).astype(np.float32))

    def conv(self, x, w, bias=None, channels_last=True, **attributes):
        more = [] if bias is None else [self.const(bias)]
        if self.dialect == "last":
            w = self.op("Transpose", w, perm=[0, 2, 3, 1])
            return self.op("Conv", x, w, *more, domain=LAST, **attributes)
        return self.back(self.op("Conv", self.first(x), w, *more, **attributes))

    def norm(self, x, channels):
        d = self.draw
        p = [d.uniform(0.5, 1.5, channels), d.normal(size=channels) * 0.2, d.normal(size=channels) * 0.2, d.uniform(0.5, 2, channels)]
        p = [self.const(v) for v in p]
        if self.dialect == "last":
            return self.op("BatchNormalization", x, *p, domain=LAST)
        return self.back(self.op("BatchNormalization", self.first(x), *p))

    def pool(self, x, **attributes):
        if self.dialect == "last":
            return self.op("MaxPool", x, domain=LAST, **attributes)
        return self.back(self.op("MaxPool", self.first(x), **attributes))

    def model(self, x, y):
        opset = OPSETS.get(self.dialect, 13)
        ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)], [helper.make_tensor_value_info(y, TensorProto.FLOAT, None)]
        graph = helper.make_graph(self.nodes, "g", *ports, self.constants)
        imports = [helper.make_opsetid(d, v) for d, v in (("", opset), (QONNX, 1), (FINN, 1), (LAST, 1))]
        return helper.make_model(graph, opset_imports=imports, ir_version=10 if opset > 20 else 8)


def plain(w, a, **more):
    """A convolution, a depthwise one, one of stride 2, a fully connected layer: weights of w bits, activations of a."""
    channels, zero, signed = more.get("channels", False), more.get("zero", 0), more.get("signed", False)

    def build(n):
        h = n.activation("x", 8, 1 / 64, signed=True)
        h = n.norm(n.conv(h, n.weights((8, 3, 3, 3), w, channels), pads=[1, 1, 1, 1]), 8)
        h = n.op("Relu", h) if not signed else h
        h = n.activation(h, a, 8 / 2**a, signed=signed, zero=zero, narrow=more.get("narrow", False), mode=more.get("mode", "ROUND"))
        h = n.conv(h, n.weights((8, 1, 3, 3), w, channels), n.draw.normal(size=8) * 0.1, group=8, pads=[1, 0, 1, 2])
        h = n.activation(n.op("Relu", n.norm(h, 8)), a, 6 / 2**a, zero=zero)
        h = n.norm(n.conv(h, n.weights((12, 8, 3, 3), w, channels), strides=[2, 2], pads=[1, 1, 0, 0]), 12)
        h = n.pool(h, kernel_shape=[2, 2], strides=[1, 1])
        h = n.activation(n.op("Relu", h), a, 4 / 2**a, zero=zero)
        h = n.op("Flatten", n.first(h))
        return n.op("Gemm", h, n.weights((5, 12 * 9), w, channels), n.const(n.draw.normal(size=5)), transB=1)

    return build


def residual(w, a):
    def build(n):
        h = n.activation("x", 8, 1 / 64, signed=True)
        h = n.norm(n.conv(h, n.weights((8, 3, 3, 3), w), pads=[1, 1, 1, 1]), 8)
        h = n.activation(n.op("Relu", h), a, 4 / 2**a)
        b = n.norm(n.conv(h, n.weights((8, 8, 3, 3), w), pads=[1, 1, 1, 1]), 8)
        h = n.activation(n.op("Relu", n.op("Add", h, n.activation(b, a, 4 / 2**a, signed=True))), a, 4 / 2**a)
        h = n.conv(h, n.weights((8, 8, 1, 1), w, True), strides=[2, 2])
        return n.op("GlobalAveragePool", n.first(h))

    return build


def blocked(bits, block, zero=0):
    def build(n):
        h = n.activation("x", 8, 1 / 32, signed=True, image=False)
        h = n.op("Gemm", h, n.weights((24, 40), bits, block=block, zero=zero, narrow=False), transB=1)
        h = n.activation(n.op("Relu", h), 4, 0.5, image=False)
        return n.op("Gemm", h, n.weights((6, 24), bits, block=block, zero=zero, narrow=False), n.const(n.draw.normal(size=6)), transB=1)

    return build


IMAGE, ROWS = (2, 3, 9, 8), (2, 40)
USUAL = ["float", "qdq", "qonnx"]
NETWORKS = {
    "w4a4": (plain(4, 4), IMAGE, [*USUAL, "int4", "finn", "nhwc", "last"]),
    "w3a5": (plain(3, 5), IMAGE, USUAL),
    "w8a8": (plain(8, 8, channels=True), IMAGE, USUAL),
    "w2a2": (plain(2, 2), IMAGE, [*USUAL, "finn", "int2", "last"]),
    "w5a3": (plain(5, 3, channels=True, signed=True), IMAGE, [*USUAL, "finn", "nhwc"]),
    "w6a7": (plain(6, 7, signed=True, narrow=True), IMAGE, USUAL),
    "floor": (plain(4, 3, mode="FLOOR"), IMAGE, ["float", "qonnx"]),
    "ceil": (plain(4, 4, mode="CEIL"), IMAGE, ["float", "qonnx"]),
    # Quant adds a zero point before it rounds, QuantizeLinear behind.
    "zero": (plain(8, 8, zero=3, channels=True), IMAGE, ["float", "qonnx"]),
    "zero8": (plain(8, 8, zero=4, channels=True), IMAGE, ["qdq"]),
    "zero4": (plain(4, 4, zero=5), IMAGE, ["qdq"]),
    "residual4": (residual(4, 4), IMAGE, [*USUAL, "int4", "finn", "nhwc", "last"]),
    "residual2": (residual(2, 3), IMAGE, [*USUAL, "finn", "nhwc", "last"]),
    "blocks4": (blocked(4, 8), ROWS, ["float", "int4", "qonnx"]),
    "blocks2": (blocked(2, 16), ROWS, ["float", "int2"]),
    "blocks4z": (blocked(4, 8, zero=2), ROWS, ["float", "int4"]),
}


def reference(path, x):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, (build, shape, dialects)) in enumerate(NETWORKS.items()):
        x, y = np.random.default_rng(100 + seed).normal(size=shape).astype(np.float32), None
        for dialect in dialects:
            net = Writer(dialect, seed)
            given = x.transpose(0, 2, 3, 1) if net.last else x
            path = folder / f"{name}.{dialect}.onnx"
            path.write_bytes(net.model(["N", *given.shape[1:]], build(net)).SerializeToString())
            y = reference(path, given) if y is None else y
            np.savez(path.with_suffix(".npz"), x0=given, y0=y, tolerance=np.array([1e-4, 1e-4], np.float32))


main()
