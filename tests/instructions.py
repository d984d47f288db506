#!/usr/bin/env python3
"""Counts the instructions of one inference, and compares them with the stored counts: a check of speed that noise cannot disturb. It
is no part of the test suite; run it where code generation changes.

    cargo build --release -p dorefac && python3 tests/instructions.py            # 2 % more than stored fails
    python3 tests/instructions.py --write                                        # stores the counts anew
    python3 tests/instructions.py --arch aarch64                                 # one architecture only

On x86-64 valgrind counts, which knows no AVX-512: the levels are x86-64-v2 and v3. A count is what a batch of five images takes more
than one of one, divided by four: loading the model does not count. For aarch64 qemu counts what the model's own functions execute for
one image (`emulated.py`), beside a baseline of bit-serial kernels. What lacks its tools is SKIPPED. More instructions are a regression;
much less want the counts stored anew.
"""
import argparse
import json
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import emulated

TOP = Path(__file__).resolve().parent.parent
STORED = TOP / "tests/instructions.json"
LEVELS = ["x86-64-v2", "x86-64-v3"]
LESS, MORE = 1, 5

LAYER = """dorefa 1
graph layer(x: f32[N, 64, 14, 14]) -> (y) {{
  a = quantize_activation(x, bits={a})
  c = conv(a, quantize_weights(@c.w: f32[64, 64, 3, 3], bits={w}), pads=[1, 1, 1, 1])
  n = batch_norm(c, @n.gamma: f32[64], @n.beta: f32[64], @n.mean: f32[64], @n.var: f32[64])
  y = global_average_pool(quantize_activation(n, bits={a}))
}}
"""


def models(folder):
    """What is counted, by name: path and shape of an image."""
    found = {"mnist": (TOP / "models/mnist.dorefa", (1, 28, 28)), "svhn-d": (TOP / "models/svhn-d.dorefa", (3, 40, 40))}
    for w, a in [(1, 1), (1, 2), (2, 2), (4, 4), (8, 8)]:
        path = Path(folder) / f"w{w}a{a}.dorefa"
        path.write_text(LAYER.format(w=w, a=a))
        found[f"3x3 W{w}A{a}"] = (path, (64, 14, 14))
    return found


def images(path, count, shape):
    """A .npy file of floats between 0 and 1, the same each time."""
    size = count * shape[0] * shape[1] * shape[2]
    data = struct.pack(f"<{size}f", *((i * 2654435761 % 4096) / 4096 for i in range(size)))
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {(count, *shape)}, }}"
    head += " " * (-(len(head) + 11) % 64) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + data)


def instructions(dorefac, model, x, folder):
    """Instructions of one process that runs the model on x."""
    words = ["valgrind", "--tool=cachegrind", "--cache-sim=no", f"--cachegrind-out-file={folder}/out", dorefac, "run", model]
    words += ["--input", x, "--output", f"{folder}/y.npy", "--threads", "1"]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    found = re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)
    if done.returncode != 0 or not found:
        sys.exit(f"{model}: {done.stderr.strip()[-800:]}")
    return int(found[1].replace(",", ""))


def show(line):
    print(line, file=sys.stderr)


def count_x86(args, folder):
    counts = {}
    for name, (graph, shape) in models(folder).items():
        inputs = {n: Path(folder) / f"{n}.npy" for n in (LESS, MORE)}
        for n, path in inputs.items():
            images(path, n, shape)
        for level in LEVELS:
            compiled = Path(folder) / "net.so"
            words = [args.dorefac, "compile", graph, "-o", compiled, "--cpu", level]
            subprocess.run(list(map(str, words)), check=True, capture_output=True)
            less, more = (instructions(args.dorefac, compiled, inputs[n], folder) for n in (LESS, MORE))
            counts[f"{name}, {level}"] = (more - less) // (MORE - LESS)
            show(f"{name}, {level}: {counts[f'{name}, {level}']}")
    return counts


def count(args):
    """The counts of the architectures whose tools are there."""
    counts = {}
    if args.arch != "aarch64":
        if shutil.which("valgrind"):
            with tempfile.TemporaryDirectory() as folder:
                counts |= count_x86(args, folder)
        else:
            show("SKIPPED: x86-64: valgrind is missing; install it, as by apt-get install valgrind")
    if args.arch != "x86_64":
        lacking = emulated.missing()
        if lacking:
            show(f"SKIPPED: aarch64: {lacking}")
        else:
            counts |= emulated.count(args.dorefac, show)
    return counts


def compare(counts, stored, tolerance):
    """Shows every count beside the stored one; whether none is worse by more than the tolerance."""
    worse = 0
    for name, now in counts.items():
        before = stored.get(name)
        change = f"{(now / before - 1) * 100:+.1f} %" if before else "new"
        bad = before is not None and now > before * (1 + tolerance / 100)
        worse += bad
        print(f"{name:34} {now:12} {change:>9}{'  WORSE' if bad else ''}")
    return worse == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dorefac", type=Path, default=TOP / "target/release/dorefac", help="the binary")
    parser.add_argument("--tolerance", type=float, default=2.0, help="percent")
    parser.add_argument("--arch", choices=["x86_64", "aarch64"], help="only this architecture")
    parser.add_argument("--write", action="store_true", help="store the counts instead of comparing them")
    args = parser.parse_args()
    if not args.dorefac.is_file():
        sys.exit(f"{args.dorefac}: no such file; cargo build --release -p dorefac, or name it by --dorefac")
    counts, stored = count(args), json.loads(STORED.read_text())
    if not counts:
        sys.exit("nothing was counted")
    if args.write:
        STORED.write_text(json.dumps(stored | counts, indent=1) + "\n")
        return
    if not compare(counts, stored, args.tolerance):
        sys.exit(f"more instructions than {STORED.name} has, by over {args.tolerance} %; where that is meant, --write")


if __name__ == "__main__":
    main()
