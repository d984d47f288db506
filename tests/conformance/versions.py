"""Writes a file for each version of each operator, from operator set 7 on, and what ONNX Runtime makes of it:
FOLDER/OPERATOR.VERSION.N.onnx and .npz, as cases.py does.

usage: python versions.py FOLDER      needs the packages onnx, onnxruntime and numpy
"""

import pathlib
import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, defs, helper, numpy_helper

DRAW = np.random.default_rng(7)
FIRST = 7
IMAGE, ROWS = (2, 4, 6, 7), (3, 8)


def floats(*shape):
    return DRAW.normal(size=shape).astype(np.float32)


def positive(*shape):
    return DRAW.uniform(0.1, 2, shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


def case(x, *constants, outputs=1, **attributes):
    """The first operand is the input of the file, the others are constants; None is an operand left out."""
    return x, constants, outputs, attributes


def listed(version, since, name, values, x, *before, **attributes):
    """What was an attribute in old versions, and an operand from version `since` on."""
    if version < since:
        return case(x, *before, **{name: list(values)}, **attributes)
    return case(x, *before, ints(*values), **attributes)


def activations(v):
    return [case(floats(*IMAGE))]


def logarithm(v):
    return [case(positive(*IMAGE))]


def alpha(v):
    return [case(floats(*IMAGE)), case(floats(*IMAGE), alpha=0.3)]


def gelu(v):
    return [case(floats(*IMAGE)), case(floats(*IMAGE), approximate="tanh")]


def hard(v):
    return [case(floats(*IMAGE)), case(floats(*IMAGE), alpha=0.3, beta=0.4)]


def prelu(v):
    return [case(floats(*IMAGE), floats(4, 1, 1)), case(floats(*IMAGE), floats(1))]


def arithmetic(v):
    x = floats(*IMAGE)
    return [case(x, positive(*IMAGE[1:])), case(x, positive(4, 1, 1)), case(x, positive()), case(x, positive(1, 4, 1, 7))]


def power(v):
    return [case(positive(*IMAGE), np.float32(e)) for e in (2, 0.5, 3, -1, 1.7)] + [case(positive(*IMAGE), positive(4, 1, 1))]


def compared(v):
    x = np.round(floats(*IMAGE) * 2)
    return [case(x, np.round(floats(4, 1, 1))), case(x, np.round(floats(6, 7)))]


def equal(v):
    # Version 7 knows only integers.
    whole = [case(DRAW.integers(-2, 3, IMAGE).astype(np.int32), DRAW.integers(-2, 3, (4, 1, 1)).astype(np.int32))]
    return whole + (compared(v) if v > 7 else [])


def several(v):
    if v < 8:
        return [case(floats(*IMAGE), floats(*IMAGE), floats(*IMAGE))]
    return [case(floats(*IMAGE), floats(4, 1, 1), floats(*IMAGE[1:])), case(floats(*IMAGE), floats(1))]


def clip(v):
    x = floats(*IMAGE)
    if v < 11:
        return [case(x), case(x, min=-0.5), case(x, max=0.25), case(x, min=-0.5, max=0.25)]
    lo, hi = np.float32(-0.5), np.float32(0.25)
    return [case(x), case(x, lo), case(x, None, hi), case(x, lo, hi)]


def softmax(v):
    return [case(floats(*ROWS)), case(floats(*IMAGE)), case(floats(*IMAGE), axis=2), case(floats(*IMAGE), axis=-1), case(floats(*IMAGE), axis=1)]


def batch_norm(v):
    more = {"spatial": 1} if v < 9 else {}
    p = [positive(4), floats(4), floats(4), positive(4)]
    return [case(floats(*IMAGE), *p, **more), case(floats(*IMAGE), *p, epsilon=0.01, momentum=0.8), case(floats(3, 4), *p), case(floats(2, 4, 5), *p)]


def dropout(v):
    x = floats(*IMAGE)
    if v < 12:
        return [case(x), case(x, ratio=0.3), case(x, outputs=2)]
    return [case(x), case(x, np.float32(0.3)), case(x, np.float32(0.3), np.array(False)), case(x, np.float32(0), np.array(True))]


def conv(v):
    w, b = floats(6, 4, 3, 2), floats(6)
    x = floats(*IMAGE)
    return [
        case(x, w), case(x, w, b, pads=[1, 0, 2, 1], strides=[2, 1]), case(x, w, b, dilations=[2, 3], kernel_shape=[3, 2]),
        case(x, floats(6, 2, 3, 3), b, group=2), case(x, floats(8, 1, 2, 2), group=4), case(x, w, auto_pad="SAME_UPPER", strides=[2, 2]),
        case(x, w, auto_pad="SAME_LOWER"), case(x, w, b, auto_pad="VALID"), case(floats(2, 4, 9), floats(3, 4, 3), pads=[2, 1]),
        case(floats(2, 4, 9), floats(4, 1, 3), group=4, strides=[2], dilations=[2]),
    ]  # fmt: skip


def conv_transpose(v):
    w, x = floats(4, 3, 3, 2), floats(2, 4, 3, 4)
    return [
        case(x, w), case(x, w, floats(3), strides=[2, 3], pads=[1, 0, 0, 1], output_padding=[1, 0]), case(x, w, dilations=[2, 1]),
        case(x, floats(4, 2, 2, 2), group=2, strides=[2, 2]), case(x, w, strides=[2, 2], output_shape=[7, 8]),
        case(floats(2, 4, 5), floats(4, 3, 3), strides=[2]),
    ]  # fmt: skip


def pool(v):
    x = floats(*IMAGE)
    cases = [
        case(x, kernel_shape=[2, 3]), case(x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 0]),
        case(x, kernel_shape=[2, 2], auto_pad="SAME_UPPER", strides=[2, 2]), case(floats(2, 4, 9), kernel_shape=[3], strides=[2]),
    ]  # fmt: skip
    return cases


def max_pool(v):
    x = floats(*IMAGE)
    more = [case(x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1), case(x, kernel_shape=[2, 2], dilations=[2, 3])]
    return pool(v) + (more if v >= 10 else [])


def average_pool(v):
    x = floats(*IMAGE)
    cases = pool(v) + [case(x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)]
    if v >= 10:
        cases += [case(x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)]
    return cases + ([case(x, kernel_shape=[2, 2], dilations=[2, 2])] if v >= 19 else [])


def gemm(v):
    x, w = floats(*ROWS), floats(8, 5)
    c = [] if v >= 11 else [floats(5)]
    return [case(x, w, *c), case(x, w.T.copy(), floats(5), transB=1), case(x, w, floats(1, 5), alpha=0.5, beta=2.0), case(x, w, floats(1))]


def matmul(v):
    return [case(floats(*ROWS), floats(8, 5)), case(floats(2, 3, 8), floats(8, 5)), case(floats(2, 3, 8), floats(2, 8, 5)), case(floats(2, 3, 4, 8), floats(3, 8, 2))]


def reduced(since):
    def cases(v):
        x = floats(*IMAGE)
        named = [listed(v, since, "axes", axes, x, **keep) for axes, keep in (([2, 3], {}), ([1], {"keepdims": 0}), ([-1], {"keepdims": 0})) if v >= 11 or min(axes) >= 0]
        return named + [case(floats(1, 4, 6))]
    return cases


def arg_max(v):
    x = np.round(floats(*IMAGE))
    cases = [case(x, axis=1), case(x, axis=3, keepdims=0)]
    return cases + ([case(x, axis=-1), case(x, axis=1, select_last_index=1)] if v >= 12 else [])


def concat(v):
    return [case(floats(1, 4, 6), floats(1, 2, 6), axis=1), case(floats(1, 4, 6), floats(1, 4, 2), floats(1, 4, 1), axis=2)]


def split(v):
    x = floats(*IMAGE)
    even = {"num_outputs": 2} if v >= 18 else {}
    return [case(x, outputs=2, axis=1, **even), (*listed(v, 13, "split", [1, 3, 2], x, axis=2)[:2], 3, listed(v, 13, "split", [1, 3, 2], x, axis=2)[3])]


def slices(v):
    x = floats(*IMAGE)
    if v < 10:
        return [case(x, starts=[1, -3], ends=[3, 100], axes=[1, 3]), case(x, starts=[0, 1], ends=[2**31 - 1, 3])]
    return [
        case(x, ints(1, -3), ints(3, 100), ints(1, 3)), case(x, ints(0, 1), ints(2**62, 3)), case(x, ints(-1, 5), ints(-100, 1), ints(2, 3), ints(-1, -2)),
        case(x, np.array([1], np.int32), np.array([4], np.int32), np.array([2], np.int32), np.array([2], np.int32)),
    ]  # fmt: skip


def gather(v):
    x = floats(*IMAGE)
    return [case(x, ints(3, 0, 0), axis=1), case(x, np.array(2, np.int64), axis=2), case(x, np.array([[0, 1], [2, 0]], np.int32), axis=3)]


def pad(v):
    x, pads = floats(*IMAGE), [0, 0, 1, 2, 0, 0, 0, 1]
    more = [0, 1, 0, 0, 0, 2, 0, 0]
    if v < 11:
        return [case(x, pads=pads), case(x, pads=more, value=0.5)] + [case(x, pads=pads, mode=m) for m in ("reflect", "edge")]
    cases = [case(x, ints(*pads)), case(x, ints(*more), np.float32(0.5)), *(case(x, ints(*pads), mode=m) for m in ("reflect", "edge"))]
    if v >= 18:
        cases += [case(x, ints(1, 2), None, ints(-1)), case(x, ints(1, 0, 1, 1), np.float32(2), ints(1, 3))]
    return cases + ([case(x, ints(*pads), mode="wrap")] if v >= 19 else [])


def reshape(v):
    return [case(floats(*IMAGE), ints(0, -1)), case(floats(*IMAGE), ints(-1, 6, 28)), case(floats(*IMAGE), ints(2, 0, 42))]


def flatten(v):
    return [case(floats(*IMAGE)), case(floats(*IMAGE), axis=1), case(floats(1, 4, 6), axis=2)] + ([case(floats(*IMAGE), axis=-3)] if v >= 11 else [])


def squeeze(v):
    return [listed(v, 13, "axes", [2, 3], floats(2, 4, 1, 1)), case(floats(2, 4, 1, 6))]


def unsqueeze(v):
    return [listed(v, 13, "axes", [1, 4], floats(2, 4, 6))]


def transpose(v):
    return [case(floats(*IMAGE), perm=[0, 2, 3, 1]), case(floats(1, 4, 6), perm=[0, 2, 1])]


def expand(v):
    return [case(floats(2, 1, 6), ints(2, 4, 6)), case(floats(2, 4, 1), ints(1, 5))]


def tile(v):
    return [case(floats(2, 4, 6), ints(1, 2, 3))]


def upsample(v):
    scales = [1, 1, 2, 3]
    more = {"mode": "nearest"}
    return [case(floats(*IMAGE), scales=[float(s) for s in scales], **more) if v < 9 else case(floats(*IMAGE), np.array(scales, np.float32), **more)]


def resize(v):
    # Where a scale does not make a whole extent, ONNX Runtime aligns corners of the rounded one, ONNX's own tests do not.
    x, scales, whole = floats(*IMAGE), np.array([1, 1, 2, 1.5], np.float32), np.array([1, 1, 2, 3], np.float32)
    if v < 11:
        return [case(x, scales, mode=m) for m in ("nearest", "linear")] + [case(x, np.array([1, 1, 0.5, 0.6], np.float32))]
    none = [None] if v >= 13 else [np.zeros(0, np.float32)]
    cases = [case(x, *none, scales)] + [
        case(x, *none, whole if c == "align_corners" else scales, mode="nearest", coordinate_transformation_mode=c, nearest_mode=n)
        for c, n in (("asymmetric", "floor"), ("half_pixel", "round_prefer_ceil"), ("align_corners", "ceil"), ("pytorch_half_pixel", "floor"))
    ]
    cases += [case(x, *none, scales, mode="linear"), case(x, *none, whole, mode="linear", coordinate_transformation_mode="align_corners")]
    empty = [None] if v >= 13 else [np.zeros(0, np.float32)]
    return cases + [case(x, *none, *empty, ints(2, 4, 12, 3)), case(x, *none, *empty, ints(2, 4, 3, 14), mode="linear")]


def depth_to_space(v):
    return [case(floats(2, 8, 3, 4), blocksize=2)] + ([case(floats(2, 8, 3, 4), blocksize=2, mode="CRD")] if v >= 11 else [])


def space_to_depth(v):
    return [case(floats(2, 3, 4, 6), blocksize=2)]


def where(v):
    return [case(DRAW.integers(0, 2, IMAGE).astype(bool), floats(*IMAGE), floats(4, 1, 1))]


def cast(v):
    return [case(floats(*IMAGE) * 3, to=t) for t in (TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL)]


def quantize(v):
    x = floats(*IMAGE)
    cases = [case(x, np.float32(0.02), np.uint8(128)), case(x, np.float32(0.03), np.int8(-5))]
    if v >= 13:
        cases += [case(x, positive(4), np.array([1, 2, 3, 4], np.uint8)), case(x, positive(6), np.array([0] * 6, np.int8), axis=2)]
    return cases + ([case(x, np.float32(0.05), np.uint16(999)), case(x, positive(2, 4, 3, 7), np.zeros((2, 4, 3, 7), np.int8), axis=2, block_size=2)] if v >= 21 else [])


def dequantize(v):
    q = DRAW.integers(0, 256, IMAGE).astype(np.uint8)
    cases = [case(q, np.float32(0.02), np.uint8(128)), case(q.astype(np.int8), np.float32(0.03))]
    if v >= 13:
        cases += [case(q, positive(4), np.array([1, 2, 3, 4], np.uint8))]
    return cases + ([case(q, positive(2, 4, 3, 7), np.ones((2, 4, 3, 7), np.uint8), axis=2, block_size=2)] if v >= 21 else [])


def qlinear_conv(v):
    # Half the codes: where a CPU lacks VNNI, ONNX Runtime adds two products in 16 bits, which saturate beyond.
    q, w = DRAW.integers(0, 128, IMAGE).astype(np.uint8), DRAW.integers(-128, 128, (6, 4, 3, 3)).astype(np.int8)
    ends = [np.float32(0.5), np.uint8(100)]
    return [
        case(q, np.float32(0.02), np.uint8(7), w, np.float32(0.05), np.int8(0), *ends, pads=[1, 1, 1, 1]),
        case(q, np.float32(0.02), np.uint8(7), w, positive(6) * 0.05, np.zeros(6, np.int8), *ends, DRAW.integers(-999, 999, 6).astype(np.int32), strides=[2, 2]),
    ]


def qlinear_matmul(v):
    q, w = DRAW.integers(0, 256, ROWS).astype(np.uint8), DRAW.integers(0, 256, (8, 5)).astype(np.uint8)
    return [case(q, np.float32(0.02), np.uint8(7), w, np.float32(0.05), np.uint8(99), np.float32(0.2), np.uint8(100))]


def conv_integer(v):
    q, w = DRAW.integers(0, 256, IMAGE).astype(np.uint8), DRAW.integers(0, 256, (6, 4, 3, 3)).astype(np.uint8)
    return [case(q, w, np.uint8(7), np.uint8(3), pads=[1, 1, 1, 1]), case(q, w)]


def matmul_integer(v):
    q, w = DRAW.integers(0, 256, ROWS).astype(np.uint8), DRAW.integers(-128, 128, (8, 5)).astype(np.int8)
    return [case(q, w), case(q, w, np.uint8(12), np.int8(-3))]


OPERATORS = {
    "Conv": conv, "ConvTranspose": conv_transpose, "Gemm": gemm, "MatMul": matmul, "BatchNormalization": batch_norm, "PRelu": prelu,
    "Elu": alpha, "LeakyRelu": alpha, "HardSigmoid": hard, "Gelu": gelu, "Softmax": softmax, "LogSoftmax": softmax, "Clip": clip, "MaxPool": max_pool,
    "AveragePool": average_pool, "ReduceMean": reduced(18), "ReduceMax": reduced(18), "ReduceMin": reduced(18), "ReduceSum": reduced(13),
    "ArgMax": arg_max, "Pow": power, "Log": logarithm, "Sqrt": logarithm, "Where": where, "Concat": concat, "Split": split, "Slice": slices,
    "Gather": gather, "Pad": pad, "Reshape": reshape, "Flatten": flatten, "Squeeze": squeeze, "Unsqueeze": unsqueeze, "Transpose": transpose,
    "Expand": expand, "Tile": tile, "Upsample": upsample, "Resize": resize, "DepthToSpace": depth_to_space, "SpaceToDepth": space_to_depth,
    "Cast": cast, "Equal": equal, "Dropout": dropout, "QuantizeLinear": quantize, "DequantizeLinear": dequantize, "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul, "ConvInteger": conv_integer, "MatMulInteger": matmul_integer,
    **dict.fromkeys("Relu HardSwish Sigmoid Tanh GlobalAveragePool GlobalMaxPool Neg Abs Exp Erf Identity".split(), activations),
    **dict.fromkeys("Add Sub Mul Div".split(), arithmetic), **dict.fromkeys("Greater Less GreaterOrEqual LessOrEqual".split(), compared),
    **dict.fromkeys("Min Max Sum".split(), several),
}  # fmt: skip


def versions(operator, last):
    """The operator's versions that are current in some operator set from FIRST to `last`, with the first set that has each."""
    found = {}
    for opset in range(FIRST, last + 1):
        try:
            schema = defs.get_schema(operator, opset)
        except defs.SchemaError:
            continue
        if not schema.deprecated:
            found.setdefault(schema.since_version, opset)
    return found


def model(operator, opset, x, constants, outputs, attributes):
    names = ["x" if i == 0 else "" if c is None else f"c{i}" for i, c in enumerate((x, *constants))]
    tensors = [numpy_helper.from_array(np.asarray(c), n) for c, n in zip(constants, names[1:]) if c is not None]
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(operator, names, results, name="node", **attributes)
    # The mask of a dropout is nobody's output.
    given = results[:1] if operator == "Dropout" else results
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    ports = [helper.make_tensor_value_info("x", kind, x.shape)], [helper.make_empty_tensor_value_info(n) for n in given]
    graph = helper.make_graph([node], "g", *ports, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=min(10, max(3, opset - 4)))


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    onnxruntime.set_default_logger_severity(4)
    last = min(defs.onnx_opset_version(), 23)
    for operator, make in OPERATORS.items():
        for version, opset in versions(operator, last).items():
            for i, (x, *rest) in enumerate(make(version)):
                name = f"{operator}.{version}.{i}"
                proto = model(operator, opset, x, *rest)
                try:
                    y = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
                except Exception as error:
                    print(f"{name}: {str(error).splitlines()[0]}")
                    continue
                (folder / f"{name}.onnx").write_bytes(proto.SerializeToString())
                arrays = {f"y{i}": np.asarray(a, np.float32) for i, a in enumerate(y)}
                np.savez(folder / f"{name}.npz", x0=x.astype(np.float32), tolerance=np.array([1e-4, 1e-5], np.float32), **arrays)


main()
