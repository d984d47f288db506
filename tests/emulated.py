"""Counts the instructions of compiled models for aarch64 by the emulator qemu, exactly: `tests/c/instructions.c` is its plugin. Only what
the model's own functions execute counts. Part of `instructions.py`."""
import bisect
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
LEVELS = ["generic", "generic+dotprod", "generic+i8mm"]
# What a network is compared with: every layer that can computes bit by bit.
BASELINE = "bit-serial"
CROSS = "aarch64-linux-gnu-"
TARGET = ["--target", "aarch64-unknown-linux-gnu"]
PIXELS = ["--input", "u8,scale=1/255"]


def networks():
    """What is counted, by name: path and elements of an image of 8-bit pixels."""
    sizes = {"mnist": 28 * 28, "svhn-a": 3 * 40 * 40, "svhn-d": 3 * 40 * 40, "resnet18": 3 * 224 * 224, "alexnet": 3 * 224 * 224}
    return {name: (TOP / f"models/{name}.dorefa", size) for name, size in sizes.items()}


def missing():
    """The first tool that this machine lacks, if any."""
    for tool in ["qemu-aarch64", CROSS + "gcc", CROSS + "nm", "cc"]:
        if not shutil.which(tool):
            return f"there is no {tool} (Debian: qemu-user, gcc-aarch64-linux-gnu, libc6-dev-arm64-cross)"
    said = subprocess.run(["qemu-aarch64", "-h"], capture_output=True, text=True).stdout
    return None if "-plugin" in said else "this qemu-aarch64 takes no plugins"


def run(*words):
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, words))}: {done.stderr.strip()[-800:]}")
    return done.stdout


def symbols(program):
    """Addresses of functions, ascending, and their names."""
    lines = (line.split(None, 2) for line in run(CROSS + "nm", program).splitlines())
    found = sorted((int(w[0], 16), w[2]) for w in lines if len(w) == 3 and w[1] in "tTwW")
    return [a for a, _ in found], [n for _, n in found]


def instructions(dorefac, graph, size, options, folder):
    """Instructions of one inference by function, and the network's multiply-accumulates."""
    folder = Path(folder)
    net, report, blocks = folder / "net.o", folder / "net.json", folder / "blocks"
    run(dorefac, "compile", graph, "-o", net, "--prefix", "net", *TARGET, *PIXELS, "--report", report, *options)
    include = TOP / "compiler/src/emit"
    flags = ["-std=gnu11", "-O1", "-static", "-DMODEL=net_model", "-I", include, TOP / "tests/c/run.c", net]
    run(CROSS + "gcc", *flags, "-ldl", "-pthread", "-o", folder / "run")
    run("cc", "-O1", "-shared", "-fPIC", TOP / "tests/c/instructions.c", "-o", folder / "plugin.so")
    (folder / "x").write_bytes(bytes((i * 2654435761 >> 8) % 256 for i in range(size)))
    plugin = ["-plugin", f"{folder / 'plugin.so'},out={blocks}"]
    run("qemu-aarch64", "-cpu", "max", *plugin, folder / "run", folder / "x", folder / "y", 1, 1)
    addresses, names = symbols(folder / "run")
    counts = {}
    for line in blocks.read_text().splitlines():
        address, length, times = line.split()
        at = bisect.bisect(addresses, int(address, 16)) - 1
        if at >= 0 and names[at].startswith("net."):
            counts[names[at]] = counts.get(names[at], 0) + int(length) * int(times)
    macs = sum(layer["macs"] for layer in json.loads(report.read_text())["layers"])
    # The driver runs the model twice.
    return {name: n // 2 for name, n in counts.items()}, macs


def count(dorefac, show):
    """Counts by network and level, and by that of the baseline; `show` gets a line of each."""
    counts = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (graph, size) in networks().items():
            forced = ["--cpu", LEVELS[0], "--kernel", "*=bit-serial-popcount"]
            for level, options in [(BASELINE, forced)] + [(l, ["--cpu", l]) for l in LEVELS]:
                functions, macs = instructions(dorefac, graph, size, options, folder)
                key = f"{name}, aarch64 {level}"
                counts[key] = sum(functions.values())
                ratio = counts[key] / counts[f"{name}, aarch64 {BASELINE}"]
                show(f"{key}: {counts[key]}, {ratio:.3f} of {BASELINE}, {counts[key] / macs * 1000:.1f} for 1000 MAC")
    return counts
