"""Runs a compiled model on raw files with ctypes alone. Usage: run.py MODEL.so INPUT.raw OUTPUT.raw BATCH."""

import ctypes as c
import json
import sys

P, U32, U64, I32, I64 = c.c_void_p, c.c_uint32, c.c_uint64, c.c_int32, c.c_int64


def struct(name, fields):
    return type(name, (c.Structure,), {"_fields_": fields})


Tensor = struct("Tensor", [("name", I64), ("dtype", U32), ("rank", U32), ("dims", I64 * 6)])
Model = struct(
    "Model",
    [("magic", c.c_char * 8), ("abi", U32), ("size", U32), ("graph_hash", U64)]
    + [(n, U32) for n in "arch kind profile reserved".split()]
    + [(n, U32) for n in "n_inputs n_outputs n_levels n_layers n_states arena_align".split()]
    + [(n, I64) for n in "inputs outputs levels layers states".split()]
    + [(n, U64) for n in "arena_fixed arena_per_sample arena_per_worker state_bytes max_batch".split()]
    + [(n, I64) for n in "metadata run cpu enable_amx init_state prepare".split()],
)
Call = struct(
    "Call",
    [("abi", U32), ("size", U32), ("features", U64), ("batch", U64), ("prepared", P), ("inputs", c.POINTER(P))]
    + [("outputs", c.POINTER(P)), ("arena", P), ("arena_size", U64), ("parallel_for", P), ("pool", P)]
    + [("workers", U32), ("level", U32), ("profile", P), ("profile_ctx", P), ("train", P)],
)


def elements(tensor, batch):
    n = 1
    for d in tensor.dims[: tensor.rank]:
        n *= batch if d < 0 else d
    return n


def main(so, source, destination, batch):
    library = c.CDLL(so)
    model = Model.in_dll(library, "dorefac_model")
    base = c.addressof(model)
    assert model.magic == b"DOREFAC" and model.abi == 1 and model.size <= c.sizeof(Model) + 64
    assert model.n_inputs == model.n_outputs == 1
    json.loads(c.string_at(base + model.metadata))
    tensor = lambda offset: Tensor.from_address(base + offset)
    with open(source, "rb") as f:
        raw = f.read()
    assert len(raw) == 4 * elements(tensor(model.inputs), batch)
    x = (c.c_float * (len(raw) // 4)).from_buffer_copy(raw)
    y = (c.c_float * elements(tensor(model.outputs), batch))()
    size = model.arena_fixed + batch * model.arena_per_sample + model.arena_per_worker
    memory = (c.c_char * (size + 64))()
    arena = (c.addressof(memory) + 63) & ~63
    call = Call(abi=1, size=c.sizeof(Call), batch=batch, arena=arena, arena_size=size, workers=1)
    call.inputs, call.outputs = (P * 1)(c.addressof(x)), (P * 1)(c.addressof(y))
    code = c.CFUNCTYPE(I32, c.POINTER(Call))(base + model.run)(c.byref(call))
    assert code == 0, f"run gives {code}"
    with open(destination, "wb") as f:
        f.write(bytes(y))


main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
