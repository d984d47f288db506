"""The forms of a DoReFa network that other engines run well, made of what `dorefac export` writes; and the engines themselves.

forms   plain   float weights, batch norms folded, ReLU instead of the quantisers: what an engine runs fastest in float
        exact   the network itself as int8: codes with DequantizeLinear, QuantizeLinear in place of the roundings
        int8    ONNX Runtime's static 8-bit quantisation of `plain`, calibrated on noise
"""
import os
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def pixels(shape, batch, seed=1):
    """8-bit pixels and the floats that they stand for."""
    codes = np.random.default_rng(seed).integers(0, 256, (batch, *shape), np.uint8)
    return codes, codes.astype(np.float32) / 256


class Net:
    """An exported network with its batch norms and quantisers found."""

    def __init__(self, path):
        self.graph = onnx.load(path).graph
        self.values = {t.name: numpy_helper.to_array(t) for t in self.graph.initializer}
        self.readers, self.norm, self.levels, self.gone = {}, {}, {}, set()
        for node in self.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        for node in self.graph.node:
            if node.op_type in ("Conv", "Gemm"):
                self.find_norm(node)
            elif node.op_type == "Clip":
                self.find_levels(node)

    def only(self, name, kind):
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and readers[0].op_type == kind else None

    def find_norm(self, node):
        norm = self.only(node.output[0], "BatchNormalization")
        if norm is None:
            return
        gamma, beta, mean, variance = (self.values[n].astype(np.float64) for n in norm.input[1:])
        epsilon = next((a.f for a in norm.attribute if a.name == "epsilon"), 1e-5)
        scale = gamma / np.sqrt(variance + epsilon)
        self.norm[node.output[0]] = (scale, beta - mean * scale, norm.output[0])
        self.gone.add(norm.output[0])

    def find_levels(self, clip):
        """Clip, Mul n, Round, Div n: n levels above zero."""
        mul = self.only(clip.output[0], "Mul")
        rounding = mul and self.only(mul.output[0], "Round")
        div = rounding and self.only(rounding.output[0], "Div")
        if div:
            self.levels[clip.output[0]] = (float(self.values[mul.input[1]]), div.output[0])
            self.gone.update((mul.output[0], rounding.output[0], div.output[0]))

    def write(self, path, exact):
        nodes, made, constants = [], {}, []

        def constant(name, value):
            made[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
            return name

        for node in self.graph.node:
            out = node.output[0]
            if out in self.gone:
                continue
            if node.op_type in ("Conv", "Gemm"):
                nodes += self.product(node, exact, constant)
            elif out in self.levels:
                nodes += self.quantiser(node, exact, constant)
            else:
                for name in node.input:
                    if name in self.values:
                        constant(name, self.values[name])
                nodes.append(node)
        constants = list(made.values())
        graph = helper.make_graph(nodes, "net", list(self.graph.input), list(self.graph.output), constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.save(model, path)

    def product(self, node, exact, constant):
        out = node.output[0]
        w = self.values[node.input[1]]
        bias = self.values[node.input[2]] if len(node.input) > 2 else np.zeros(w.shape[0], np.float32)
        scale, shift, result = self.norm.get(out, (np.ones(w.shape[0]), np.zeros(w.shape[0]), out))
        b = constant(out + ".b", (bias * scale + shift).astype(np.float32))
        codes, step = self.codes(w) if exact else (None, None)
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if codes is None:
            each = scale.reshape(-1, *[1] * (w.ndim - 1))
            name = constant(out + ".w", (w * each).astype(np.float32))
            return [helper.make_node(node.op_type, [node.input[0], name, b], [result], name=out, **attributes)]
        # A negative γ turns the codes, for a scale is positive.
        turned = np.where(scale < 0, -1, 1).reshape(-1, *[1] * (w.ndim - 1))
        inputs = [
            constant(out + ".codes", (codes * turned).astype(np.int8)),
            constant(out + ".scale", np.abs(step * scale).astype(np.float32)),
            constant(out + ".zero", np.zeros(w.shape[0], np.int8)),
        ]
        decode = helper.make_node("DequantizeLinear", inputs, [out + ".w"], name=out + ".decode", axis=0)
        return [decode, helper.make_node(node.op_type, [node.input[0], out + ".w", b], [result], name=out, **attributes)]

    @staticmethod
    def codes(w):
        """Weights as whole numbers times a step, where they are few."""
        step = float(np.abs(w[w != 0]).min()) if np.any(w) else 1.0
        codes = np.rint(w / step)
        few = np.abs(codes).max() <= 127 and np.abs(w - codes * step).max() <= 1e-5 * np.abs(w).max()
        return (codes, step) if few else (None, None)

    def quantiser(self, clip, exact, constant):
        n, result = self.levels[clip.output[0]]
        if not exact:
            return [helper.make_node("Relu", [clip.input[0]], [result], name=result)]
        bounds = [constant(result + ".lo", np.float32(0)), constant(result + ".hi", np.float32(1))]
        scale, zero = constant(result + ".scale", np.float32(1 / n)), constant(result + ".zero", np.uint8(0))
        clipped, code = result + ".clip", result + ".code"
        return [
            helper.make_node("Clip", [clip.input[0], *bounds], [clipped], name=clipped),
            helper.make_node("QuantizeLinear", [clipped, scale, zero], [code], name=code),
            helper.make_node("DequantizeLinear", [code, scale, zero], [result], name=result),
        ]

    def shape(self):
        return [d.dim_value for d in self.graph.input[0].type.tensor_type.shape.dim][1:]


def forms(exported, folder):
    """Writes the forms of an exported network; their paths by name, and the shape of an image."""
    net, paths = Net(exported), {}
    for form in ("plain", "exact"):
        paths[form] = Path(folder) / f"{Path(exported).stem}.{form}.onnx"
        net.write(paths[form], form == "exact")
    try:
        paths["int8"] = static(paths["plain"], net.shape(), folder)
    except ImportError:
        pass  # told by the engine that wants it
    return paths, net.shape()


def static(plain, shape, folder):
    from onnxruntime import quantization as q

    class Noise(q.CalibrationDataReader):
        def __init__(self):
            self.batches = iter([pixels(shape, 4, seed)[1] for seed in range(2)])

        def get_next(self):
            batch = next(self.batches, None)
            return None if batch is None else {onnx.load(plain).graph.input[0].name: batch}

    path = Path(folder) / (plain.stem.rsplit(".", 1)[0] + ".int8.onnx")
    q.quantize_static(plain, path, Noise(), quant_format=q.QuantFormat.QDQ, per_channel=True)
    return path


def session(engine, path, shape, threads, batch):
    """A function that runs the network once. Raises ImportError where the engine is not installed."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    x = pixels(shape, batch)[1]
    if engine == "ort":
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
        runner = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        name = runner.get_inputs()[0].name
        return lambda: runner.run(None, {name: x})
    if engine == "openvino":
        import openvino as ov

        core = ov.Core()
        model = core.read_model(path)
        model.reshape([batch, *shape])
        hints = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
        hints |= {"INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}
        request = core.compile_model(model, "CPU", hints).create_infer_request()
        return lambda: request.infer({0: x}, share_inputs=True, share_outputs=True)
    return torch_session(path, x, threads)


def torch_session(path, x, threads):
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(threads)
    graph = onnx.load(path).graph
    values = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
    image = torch.from_numpy(x).to(memory_format=torch.channels_last)

    def padded(v, attributes, fill):
        top, left, bottom, right = attributes.get("pads", [0] * 4)
        return F.pad(v, (left, right, top, bottom), value=fill) if any((top, left, bottom, right)) else v

    def step(node, inputs, a):
        match node.op_type:
            case "Conv":
                top, left, bottom, right = a.get("pads", [0] * 4)
                even = (top, left) == (bottom, right)
                x = inputs[0] if even else padded(inputs[0], a, 0)
                return F.conv2d(x, *inputs[1:], a.get("strides", 1), (top, left) if even else 0, 1, a.get("group", 1))
            case "MaxPool":
                return F.max_pool2d(padded(inputs[0], a, -np.inf), a["kernel_shape"], a["strides"], ceil_mode=bool(a.get("ceil_mode")))
            case "Gemm":
                return F.linear(*inputs)
            case "Relu":
                return F.relu(inputs[0])
            case "Clip":
                return inputs[0].clamp(*(float(v) for v in inputs[1:]))
            case "Add":
                return inputs[0] + inputs[1]
            case "GlobalAveragePool":
                return inputs[0].mean((2, 3), keepdim=True)
            case "Reshape" | "Flatten":
                return inputs[0].flatten(1)
        raise ValueError(f"{node.op_type} is not among the operators of the reference networks")

    steps = [(n, {a.name: helper.get_attribute_value(a) for a in n.attribute}) for n in graph.node]
    for node, _ in steps:
        if node.op_type == "Conv":
            values[node.input[1]] = values[node.input[1]].to(memory_format=torch.channels_last)

    def run():
        live = {graph.input[0].name: image}
        with torch.inference_mode():
            for node, attributes in steps:
                inputs = [live[n] if n in live else values[n] for n in node.input]
                live[node.output[0]] = step(node, inputs, attributes)
        return live[graph.output[0].name].numpy()

    return run


def version(engine):
    module = __import__({"ort": "onnxruntime", "openvino": "openvino", "torch": "torch"}[engine])
    return module.__version__.split("-")[0].split("+")[0]


def median(run, seconds):
    """Milliseconds of a run: the median over `seconds`, at least five."""
    for _ in range(3):
        run()
    times, start = [], time.perf_counter()
    while time.perf_counter() - start < seconds or len(times) < 5:
        one = time.perf_counter()
        run()
        times.append((time.perf_counter() - one) * 1e3)
    return float(np.median(times))
