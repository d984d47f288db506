"""Writes the ONNX seeds of the fuzz targets: one small file a dialect. Needs the packages onnx and numpy.

    python3 tests/fuzz/seeds.py tests/fuzz/corpus/onnx
"""
import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

DRAW = np.random.default_rng(1)
QONNX = "qonnx.custom_op.general"


class Net:
    """A graph under construction: `op` adds a node and gives its output's name."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def const(self, value, dtype=np.float32):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def weights(self, *shape):
        return self.const(DRAW.normal(size=shape))

    def raw(self, kind, dims, data):
        name = f"c{len(self.constants)}"
        self.constants.append(helper.make_tensor(name, kind, dims, data, raw=True))
        return name

    def op(self, kind, *inputs, domain="", **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"n{name}", domain=domain, **attributes))
        return name

    def quant(self, x, scale, bits, **attributes):
        inputs = [self.const(scale), self.const(0), self.const(bits)]
        return self.op("Quant", x, *inputs, domain=QONNX, **{"signed": 1, "narrow": 0, "rounding_mode": "ROUND", **attributes})

    def save(self, path, x, y, opset=13):
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes, "g", [value("x", TensorProto.FLOAT, x)], [value(y, TensorProto.FLOAT, None)], self.constants
        )
        imports = [helper.make_opsetid("", opset), helper.make_opsetid(QONNX, 1), helper.make_opsetid("finn.custom_op.general", 1)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=8)
        path.write_bytes(model.SerializeToString())


def qonnx(n):
    w = n.quant(n.weights(4, 8), 0.25, 2, narrow=1)
    b = n.op("BipolarQuant", n.weights(8, 12), n.const(0.5), domain=QONNX)
    h = n.op("Gemm", "x", b, transB=1)
    h = n.quant(n.op("Relu", h), 0.3, 2, signed=0)
    return n.op("MatMul", h, n.op("Transpose", w, perm=[1, 0]))


def torch(n):
    w = n.op("Tanh", n.weights(4, 2, 3, 3))
    top = n.op("ReduceMax", n.op("Abs", w), keepdims=0)
    w = n.op("Add", n.op("Div", n.op("Div", w, n.const(2)), top), n.const(0.5))
    w = n.op("Div", n.op("Round", n.op("Mul", w, n.const(3))), n.const(3))
    w = n.op("Sub", n.op("Mul", w, n.const(2)), n.const(1))
    h = n.op("Clip", "x", n.const(0), n.const(1))
    h = n.op("Div", n.op("Round", n.op("Mul", h, n.const(3))), n.const(3))
    h = n.op("Conv", h, w, pads=[1, 1, 1, 1], strides=[2, 2])
    ones = [n.const(v) for v in (np.full(4, 0.5), np.full(4, 0.1), np.zeros(4), np.ones(4))]
    h = n.op("BatchNormalization", h, *ones)
    h = n.op("MaxPool", h, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    h = n.op("Round", n.op("Mul", n.op("Clip", h, n.const(0), n.const(1)), n.const(1)))
    return n.op("Gemm", n.op("Flatten", h), n.weights(16, 3), n.weights(3))


def qdq(n):
    zero, scale = n.const(0, np.uint8), n.const(0.02)
    h = n.op("DequantizeLinear", n.op("QuantizeLinear", "x", scale, zero), scale, zero)
    w = n.const(DRAW.integers(-127, 128, (4, 2, 3, 3)), np.int8)
    w = n.op("DequantizeLinear", w, n.const([0.1, 0.2, 0.3, 0.4]), n.const([0, 0, 0, 0], np.int8), axis=0)
    h = n.op("Conv", h, w, n.weights(4), dilations=[2, 2], auto_pad="SAME_UPPER")
    h = n.op("AveragePool", h, kernel_shape=[2, 2], count_include_pad=1, pads=[1, 1, 0, 0])
    return n.op("Softmax", n.op("Flatten", h))


def int4(n):
    w = n.op("DequantizeLinear", n.raw(TensorProto.INT4, [3, 12], bytes(range(18))), n.const(0.1))
    return n.op("Gemm", "x", w, transB=1, alpha=0.5)


def finn(n):
    t = n.const(np.sort(DRAW.normal(size=(2, 3)), axis=1))
    h = n.op("MultiThreshold", "x", t, domain="finn.custom_op.general", out_scale=0.5, out_bias=-1.0, out_dtype="INT2")
    h = n.op("Conv", h, n.const(np.sign(DRAW.normal(size=(4, 2, 1, 1)))))
    return n.op("GlobalAveragePool", h)


def shapes(n):
    s = n.op("Gather", n.op("Shape", "x"), n.const(0, np.int64))
    s = n.op("Concat", n.op("Unsqueeze", s, n.const([0], np.int64)), n.const([-1, 6], np.int64), axis=0)
    h = n.op("Transpose", "x", perm=[0, 2, 3, 1])
    h = n.op("Pad", n.op("Transpose", h, perm=[0, 3, 1, 2]), n.const([0, 0, 1, 0, 0, 0, 1, 0], np.int64))
    h = n.op("Reshape", n.op("Concat", h, h, axis=1), s)
    return n.op("ReduceMean", n.op("LeakyRelu", n.op("Neg", h)), axes=[2], keepdims=0)


def residual(n):
    a = n.quant("x", 0.5, 3, signed=0)
    b = n.op("Conv", a, n.quant(n.weights(2, 1, 3, 3), [[[[0.1]]], [[[0.2]]]], 4), group=2, pads=[1, 1, 1, 1])
    h = n.quant(n.op("Relu", n.op("Add", a, b)), 0.4, 2, signed=0, rounding_mode="FLOOR")
    return n.op("Sigmoid", n.op("Div", n.op("Max", h, n.const(0.1)), n.const([[[2]], [[3]]])))


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    image, row = ["N", 2, 6, 6], [1, 12]
    for make, x, opset in [
        (qonnx, row, 13), (torch, image, 11), (qdq, image, 13), (int4, row, 21), (finn, image, 13), (shapes, image, 13),
        (residual, image, 13),
    ]:  # fmt: skip
        net = Net()
        net.save(folder / make.__name__, x, make(net), opset)


main()
