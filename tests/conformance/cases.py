"""Writes the ONNX project's node tests as files that dorefac can run: FOLDER/NAME.onnx, FOLDER/NAME.npz (x0, x1, … and
y0, y1, …, all float32), and FOLDER/skipped.txt with the cases that no file stands for, and why.

usage: python cases.py FOLDER      needs the packages onnx and numpy

A node test gives every operand at the call; a network has weights. Each test is therefore written twice: with its first
input given and all others constant (NAME), and with all inputs given (NAME.all), where it has several.
"""

import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases

NAMES = "FLOAT BOOL INT64 INT32 INT16 INT8 INT4 INT2 UINT32 UINT16 UINT8 UINT4 UINT2"
NUMBERS = {TensorProto.DataType.Value(name) for name in NAMES.split()}


def tensors(values):
    """The values as float32 arrays; None where one is no tensor of numbers."""
    arrays = []
    for value in values:
        if not isinstance(value, (np.ndarray, np.generic)) or value.dtype.kind not in "fiub" and "int" not in value.dtype.name:
            return None
        arrays.append(np.asarray(value, dtype=np.float32))
    return arrays


def specialised(model, inputs, given):
    """The model with all inputs but those numbered in `given` made constants."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    keep = []
    for i, (info, value) in enumerate(zip(model.graph.input, inputs)):
        if i in given:
            keep.append(info)
        else:
            tensor = numpy_helper.from_array(np.asarray(value), info.name)
            wanted = info.type.tensor_type.elem_type
            if tensor.data_type != wanted:
                tensor = onnx.helper.make_tensor(info.name, wanted, np.asarray(value).shape, np.asarray(value).flatten())
            model.graph.initializer.append(tensor)
    del model.graph.input[:]
    model.graph.input.extend(keep)
    return model


def reason(model, inputs, outputs):
    """Why a test cannot be written, or None."""
    for info in list(model.graph.input) + list(model.graph.output):
        if not info.type.HasField("tensor_type"):
            return "sequences, maps or optional values"
        if info.type.tensor_type.elem_type not in NUMBERS:
            return "elements of type " + TensorProto.DataType.Name(info.type.tensor_type.elem_type)
    if model.functions or any(n.domain not in ("", "ai.onnx") for n in model.graph.node):
        return "other domains"
    if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for n in model.graph.node for a in n.attribute):
        return "control flow"
    if tensors(inputs) is None or tensors(outputs) is None:
        return "no tensors of numbers"
    if any(a.size == 0 for a in tensors(inputs)[:1] + tensors(outputs)):
        return "empty tensors"
    if not inputs:
        return "no input"
    return None


def write(folder, name, model, inputs, outputs, given, test):
    data = {f"x{i}": a for i, a in enumerate(tensors([inputs[i] for i in given]))}
    data.update({f"y{i}": a for i, a in enumerate(tensors(outputs))})
    data["tolerance"] = np.array([test.rtol, test.atol], dtype=np.float32)
    onnx.save(specialised(model, inputs, given), folder / f"{name}.onnx")
    np.savez(folder / f"{name}.npz", **data)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    skipped, written = [], 0
    for test in collect_testcases(None):
        model = test.model
        for inputs, outputs in test.data_sets[:1]:
            operators = "+".join(sorted({n.op_type for n in model.graph.node}))
            why = reason(model, inputs, outputs)
            if why is not None or len(model.graph.input) != len(inputs):
                skipped.append(f"{test.name}\t{operators}\t{why or 'inputs left out'}")
                continue
            write(folder, test.name, model, inputs, outputs, [0], test)
            written += 1
            if len(inputs) > 1:
                write(folder, test.name + ".all", model, inputs, outputs, range(len(inputs)), test)
                written += 1
    (folder / "skipped.txt").write_text("\n".join(skipped) + "\n")
    print(f"{written} cases written, {len(skipped)} skipped")


main()
