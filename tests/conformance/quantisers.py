"""Writes files of one quantiser each, in every rounding mode, and what it computes by the definitions of QONNX:
FOLDER/QUANTISER.N.onnx and .npz, as cases.py does.

usage: python quantisers.py FOLDER      needs the packages onnx and numpy
"""

import itertools
import pathlib
import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper

QONNX, FINN, BREVITAS = "qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas"
ROUNDING = {
    "ROUND": np.round,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "UP": lambda x: np.sign(x) * np.ceil(np.abs(x)),
    "DOWN": np.fix,
    "HALF_UP": lambda x: np.sign(x) * np.floor(np.abs(x) + np.float32(0.5)),
    "HALF_DOWN": lambda x: np.sign(x) * np.ceil(np.abs(x) - np.float32(0.5)),
}


def bounds(bits, signed, narrow):
    return (-(2.0 ** (bits - 1)) + narrow, 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1 - narrow)


def quant(x, s, z, bits, signed, narrow, mode):
    t = x / s + z
    if bits == 1 and signed:
        q = np.where(t >= 0, 1, -1).astype(np.float32)
    else:
        q = ROUNDING[mode](np.clip(t, *np.float32(bounds(bits, signed, narrow))))
    return (q - z) * s


def trunc(x, s, z, before, after, mode):
    return (ROUNDING[mode](np.round(x / s + z) / np.float32(2.0 ** (before - after))) - z) * s


def trunc_to_scale(x, s, z, after, signed, narrow, scale, mode):
    by = np.float32(2.0 ** np.round(np.log2(scale / s)))
    q = np.clip(np.round(x / s + z) / by, *np.float32(bounds(after, signed, narrow)))
    return (ROUNDING[mode](q) - z / by) * scale


def multi_threshold(x, t, scale, bias):
    channels = np.broadcast_to(t, (x.shape[1], t.shape[1]))
    return (x[..., None] >= channels[:, None, None, :]).sum(-1).astype(np.float32) * np.float32(scale) + np.float32(bias)


def cases():
    """(operator, domain, version, x, constants, attributes, y)"""
    draw, f = np.random.default_rng(3), np.float32
    x = np.concatenate([np.arange(-20, 20) * 0.25, draw.normal(size=40) * 4]).astype(f).reshape(2, 4, 10)
    kinds = list(itertools.product((1, 0), (0, 1)))
    for mode, bits, (signed, narrow), (s, z) in itertools.product(ROUNDING, (1, 2, 3, 4, 8), kinds, ((0.5, 0), (0.3, 0), (0.25, 2), (0.5, -1))):
        if bits == 1 and narrow and not signed:
            continue
        name, domain = ("Quant", QONNX) if bits % 2 else ("IntQuant", BREVITAS if narrow else QONNX)
        attributes = {"signed": signed, "narrow": narrow, "rounding_mode": mode}
        yield name, domain, 1, x, (s, z, bits), attributes, quant(x, f(s), f(z), bits, signed, narrow, mode)
    s = draw.uniform(0.1, 1, (4, 1)).astype(f)
    yield "Quant", QONNX, 2, x, (s, 0, 4), {"signed": 1, "narrow": 0}, quant(x, s, f(0), 4, 1, 0, "ROUND")
    whole = (np.round(x * 8) * 0.5).astype(f)
    for mode, (before, after), z in itertools.product(ROUNDING, ((8, 4), (6, 3), (5, 5), (10, 2)), (0, 2)):
        yield "Trunc", QONNX, 1, whole, (0.5, z, before, after), {"rounding_mode": mode}, trunc(whole, f(0.5), f(z), before, after, mode)
        for signed, narrow in kinds:
            scale = f(0.5 * 2.0 ** (before - after))
            attributes = {"rounding_mode": mode, "signed": signed, "narrow": narrow}
            y = trunc_to_scale(whole, f(0.5), f(z), after, signed, narrow, scale, mode)
            yield "Trunc", QONNX, 2, whole, (0.5, z, before, scale, after), attributes, y
    image = draw.normal(size=(2, 3, 4, 5)).astype(f)
    for rows, (scale, bias), domain in itertools.product((1, 3), ((1.0, 0.0), (0.5, -1.0), (2.0, 3.0)), (FINN, QONNX)):
        t = np.sort(draw.normal(size=(rows, 7)), axis=1).astype(f)
        y, attributes = multi_threshold(image, t, scale, bias), {"out_scale": scale, "out_bias": bias, "out_dtype": "UINT3"}
        yield "MultiThreshold", domain, 1, image, (t,), attributes, y
        last = lambda a: np.ascontiguousarray(a.transpose(0, 2, 3, 1))
        yield "MultiThreshold", domain, 1, last(image), (t,), {**attributes, "data_layout": "NHWC"}, last(y)
    for s in (0.5, np.full((4, 1), 0.25, f)):
        yield "BipolarQuant", QONNX, 1, x, (s,), {}, np.where(x >= 0, f(1), f(-1)) * np.asarray(s, f)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    value = helper.make_tensor_value_info
    for i, (name, domain, version, x, constants, attributes, y) in enumerate(cases()):
        names = [f"c{k}" for k in range(len(constants))]
        tensors = [numpy_helper.from_array(np.asarray(c, np.float32), n) for c, n in zip(constants, names)]
        node = helper.make_node(name, ["x", *names], ["y"], name="node", domain=domain, **attributes)
        ports = [value("x", TensorProto.FLOAT, ["N", *x.shape[1:]])], [value("y", TensorProto.FLOAT, None)]
        imports = [helper.make_opsetid("", 13), helper.make_opsetid(domain, version)]
        model = helper.make_model(helper.make_graph([node], "g", *ports, tensors), opset_imports=imports, ir_version=8)
        (folder / f"{name}.{i}.onnx").write_bytes(model.SerializeToString())
        np.savez(folder / f"{name}.{i}.npz", x0=x, y0=y.astype(np.float32), tolerance=np.array([1e-6, 1e-6], np.float32))


main()
