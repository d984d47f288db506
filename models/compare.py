#!/usr/bin/env python3
"""Measures dorefac beside ONNX Runtime, OpenVINO and PyTorch in one run, and prints the tables as Markdown.

    cargo build --release -p dorefac
    python3 models/compare.py                                     # svhn-a, resnet18, alexnet; one and two threads
    python3 models/compare.py models/svhn-d.dorefa --batch 64 --threads 2 --rounds 5

Needs numpy and onnx; of onnxruntime, openvino and torch what is missing is told and left out. All engines run in turn, each
in a process of its own, in several rounds; what is shown is the median over the rounds. Times depend on the machine and on
what else it does: trust the ratios of one run, not a time by itself.
"""
import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

# Rows of the table: what is shown, engine, form.
ROWS = [
    ("ONNX Runtime {}, float32", "ort", "plain"),
    ("ONNX Runtime {}, 8-bit", "ort", "int8"),
    ("OpenVINO {}, the exact network as int8", "openvino", "exact"),
    ("OpenVINO {}, 8-bit", "openvino", "int8"),
    ("PyTorch {}, float32", "torch", "plain"),
]


def cpu():
    """The CPU's name and what it has for low-bit arithmetic."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    field = lambda key: next((l.split(":", 1)[1].strip() for l in text.splitlines() if l.startswith(key)), "")
    flags = field("flags").split() or field("Features").split()
    known = ["avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512vbmi", "avx512_vpopcntdq", "amx_int8", "asimddp", "i8mm"]
    return f"{field('model name') or platform.machine()} ({', '.join(f for f in known if f in flags)})"


def child(args, threads):
    """Runs a command on as many CPUs as it has threads; its standard output, or None with the reason told."""
    cpus = sorted(os.sched_getaffinity(0))[-threads:]
    done = subprocess.run(args, capture_output=True, text=True, preexec_fn=lambda: os.sched_setaffinity(0, cpus))
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        print(f"left out: {' '.join(map(str, args[:6]))}: {reason}", file=sys.stderr)
        return None
    return done.stdout


def worker(job):
    """One measurement, in a process of its own."""
    import peers

    run = peers.session(job["engine"], job["path"], job["shape"], job["threads"], job["batch"])
    print(json.dumps({"ms": peers.median(run, job["seconds"])}))


def prepare(args, model, folder):
    """What each row runs of a model; the compiled file of dorefac under None."""
    import peers

    stem = Path(folder) / Path(model).stem
    exported, compiled = stem.with_suffix(".onnx"), stem.with_suffix(".so")
    run = lambda *words: subprocess.run([args.dorefac, *map(str, words)], check=True, capture_output=True)
    run("export", model, "-o", exported)
    run("compile", model, "-o", compiled, "--cpu", args.cpu, "--input", "u8,scale=1/256")
    paths, shape = peers.forms(exported, folder)
    return {None: compiled, **paths}, shape


def measure(args, paths, shape, row, threads):
    """Milliseconds of one row, or None."""
    if row is None:
        words = [args.dorefac, "bench", paths[None], "--json", "--threads", threads, "--batch", args.batch, "--seconds", args.seconds]
        out = child(list(map(str, words)), threads)
        return out and json.loads(out)["median_ms"]
    _, engine, form = row
    if form not in paths:
        return None
    job = {"engine": engine, "path": str(paths[form]), "shape": shape, "threads": threads, "batch": args.batch, "seconds": args.seconds}
    out = child([sys.executable, __file__, "--job", json.dumps(job)], threads)
    return out and json.loads(out.strip().splitlines()[-1])["ms"]


def rows(args):
    """The rows whose engine is installed, with their versions in the names."""
    import peers

    found, missing = [], {}
    for name, engine, form in ROWS:
        try:
            found.append((name.format(peers.version(engine)), engine, form))
        except ImportError as e:
            missing[engine] = str(e)
    for engine, why in missing.items():
        print(f"left out: {engine}: {why}; python3 -m pip install it to compare", file=sys.stderr)
    return [r for r in found if not args.only or r[1] in args.only.split(",")]


def table(args, models, results, engines):
    """The two tables: times, then how many times as long as dorefac each takes."""
    unit = "ms a run" if args.batch == 1 else f"images/s at batch {args.batch}"
    show = lambda ms: "–" if not ms else (f"{ms:.3g}" if args.batch == 1 else f"{args.batch / ms * 1e3:.0f}")
    counts = " / ".join(map(str, args.threads))
    lines = [f"{cpu()}; batch {args.batch}, {counts} threads, median of {args.rounds} rounds.", ""]
    head = "| | " + " | ".join(Path(m).stem for m in models) + " |"
    for title, cell in [
        (f"{unit}", lambda m, e, t: show(results.get((m, e, t)))),
        ("times as long as dorefac", lambda m, e, t: ratio(results, m, e, t)),
    ]:
        lines += [f"{title}:", "", head, "|---" * (len(models) + 1) + "|"]
        for row in [None, *engines]:
            cells = [" / ".join(cell(m, row, t) for t in args.threads) for m in models]
            lines.append(f"| {row[0] if row else 'dorefac'} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def ratio(results, model, row, threads):
    ours, theirs = results.get((model, None, threads)), results.get((model, row, threads))
    return f"{theirs / ours:.2f}" if ours and theirs else "–"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=[HERE / f"{m}.dorefa" for m in ("svhn-a", "resnet18", "alexnet")])
    parser.add_argument("--dorefac", default=HERE.parent / "target/release/dorefac", help="the binary")
    parser.add_argument("--cpu", default="native", help="the level that dorefac compiles for")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--only", help="engines, of ort,openvino,torch")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        return worker(json.loads(args.job))
    if not Path(args.dorefac).is_file():
        sys.exit(f"{args.dorefac}: no such file; cargo build --release -p dorefac, or name it by --dorefac")
    engines, taken = rows(args), {}
    with tempfile.TemporaryDirectory() as folder:
        for model in args.models:
            paths, shape = prepare(args, model, folder)
            for _ in range(args.rounds):
                for threads in args.threads:
                    for row in [None, *engines]:
                        ms = measure(args, paths, shape, row, threads)
                        taken.setdefault((model, row, threads), []).append(ms)
    results = {key: median(v) for key, v in taken.items() if all(v)}
    print(table(args, args.models, results, engines))


if __name__ == "__main__":
    main()
