#!/usr/bin/env python3
"""Plots how the time of a 3×3 convolution grows with its multiplications and with its bits, by `dorefac bench`.

    cargo build --release -p dorefac
    python3 models/scaling.py -o scaling.svg            # also prints the numbers as Markdown; needs nothing but Python

Left: layers of several sizes at 1-bit weights and 2-bit activations, time against MACs, both logarithmic; the slope of the
line through them is 1 where cost grows linearly. Right: one layer at several bit widths, time against weight bits times
activation bits. Each point is the layer's own median over a profiled run, the least of several rounds.
"""
import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHAPES = [(7, 64), (14, 64), (28, 64), (14, 128), (28, 128), (14, 256), (56, 128), (28, 256), (14, 512), (56, 256)]
BITS = [(1, 1), (1, 2), (2, 2), (1, 4), (2, 4), (4, 4), (3, 3), (8, 4), (8, 8)]
FIXED = (28, 128)


def network(extent, channels, weights, activations):
    norm = ", ".join(f"@n.{p}: f32[{channels}]" for p in ("gamma", "beta", "mean", "var"))
    return f"""dorefa 1
graph layer(x: f32[N, {channels}, {extent}, {extent}]) -> (y) {{
  a = quantize_activation(x, bits={activations})
  c = conv(a, quantize_weights(@c.w: f32[{channels}, {channels}, 3, 3], bits={weights}), pads=[1, 1, 1, 1])
  q = quantize_activation(batch_norm(c, {norm}), bits={activations})
  y = global_average_pool(q)
}}
"""


def measure(args, folder, point):
    """Milliseconds of the convolution, its MACs and its kernel."""
    graph, compiled = Path(folder) / "layer.dorefa", Path(folder) / "layer.so"
    graph.write_text(network(*point))
    run = lambda *words: subprocess.run([str(args.dorefac), *map(str, words)], check=True, capture_output=True, text=True).stdout
    run("compile", graph, "-o", compiled, "--cpu", args.cpu)
    best = None
    for _ in range(args.rounds):
        layers = json.loads(run("bench", compiled, "--json", "--layers", "--seconds", args.seconds))["layers"]
        layer = max(layers, key=lambda l: l["macs"])
        best = layer if best is None or layer["ms"] < best["ms"] else best
    return best


def slope(points):
    """Of the line through (log x, log y), by least squares."""
    logs = [(math.log(x), math.log(y)) for x, y in points]
    mx, my = (sum(v[i] for v in logs) / len(logs) for i in (0, 1))
    return sum((x - mx) * (y - my) for x, y in logs) / sum((x - mx) ** 2 for x, _ in logs)


class Panel:
    """One plot of points (x, y, label) with logarithmic axes."""

    WIDTH, HEIGHT, LEFT, TOP = 420, 320, 60, 40

    def __init__(self, offset, title, across, points):
        self.points, self.parts = points, []
        self.range = [self.decades([p[i] for p in points]) for i in (0, 1)]
        self.offset = offset
        self.text(self.LEFT + self.WIDTH / 2, 20, title, "middle", 14)
        self.text(self.LEFT + self.WIDTH / 2, self.TOP + self.HEIGHT + 38, across, "middle")
        self.text(self.LEFT - 45, self.TOP - 12, "ms", "start")
        self.frame()
        self.marks()

    @staticmethod
    def decades(values):
        return math.log10(min(values)) - 0.1, math.log10(max(values)) + 0.1

    def place(self, x, y):
        (x0, x1), (y0, y1) = self.range
        across, up = (math.log10(x) - x0) / (x1 - x0), (math.log10(y) - y0) / (y1 - y0)
        return self.LEFT + across * self.WIDTH, self.TOP + (1 - up) * self.HEIGHT

    def text(self, x, y, text, anchor="start", size=11):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{text}</text>')

    def frame(self):
        box = f'x="{self.LEFT}" y="{self.TOP}" width="{self.WIDTH}" height="{self.HEIGHT}"'
        self.parts.append(f'<rect {box} fill="none" stroke="#888"/>')
        for axis in (0, 1):
            low, high = self.range[axis]
            ticks = [m * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for m in (1, 2, 5)]
            for tick in (t for t in ticks if low <= math.log10(t) <= high):
                at = self.place(tick, 10 ** self.range[1][0]) if axis == 0 else self.place(10 ** self.range[0][0], tick)
                end = (at[0], self.TOP) if axis == 0 else (self.LEFT + self.WIDTH, at[1])
                line = f'x1="{at[0]:.1f}" y1="{at[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"'
                self.parts.append(f'<line {line} stroke="#ddd"/>')
                label = f"{tick:.3g}" if tick < 1e5 else f"{tick / 1e6:g} M"
                if axis == 0:
                    self.text(at[0], at[1] + 16, label, "middle")
                else:
                    self.text(at[0] - 6, at[1] + 4, label, "end")

    def marks(self):
        power = slope([p[:2] for p in self.points])
        x0, x1 = min(p[0] for p in self.points), max(p[0] for p in self.points)
        middle = math.exp(sum(math.log(p[1]) - power * math.log(p[0]) for p in self.points) / len(self.points))
        a, b = self.place(x0, middle * x0**power), self.place(x1, middle * x1**power)
        self.parts.append(f'<line x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}" stroke="#c60"/>')
        self.text(self.LEFT + 10, self.TOP + 18, f"slope {power:.2f}")
        for x, y, label in self.points:
            at = self.place(x, y)
            self.parts.append(f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="3.5" fill="#06c"/>')
            self.text(at[0] + 6, at[1] - 5, label, size=9)

    def svg(self):
        return f'<g transform="translate({self.offset},0)">' + "\n".join(self.parts) + "</g>"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("scaling.svg"))
    parser.add_argument("--dorefac", type=Path, default=HERE.parent / "target/release/dorefac", help="the binary")
    parser.add_argument("--cpu", default="native", help="the level that dorefac compiles for")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.4, help="of each measurement")
    args = parser.parse_args()
    if not args.dorefac.is_file():
        sys.exit(f"{args.dorefac}: no such file; cargo build --release -p dorefac, or name it by --dorefac")
    sizes, widths = [], []
    print("| layer | W×A | MACs | ms | GMAC/s | kernel |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        points = [(*shape, 1, 2) for shape in SHAPES] + [(*FIXED, *bits) for bits in BITS]
        for i, (extent, channels, w, a) in enumerate(points):
            layer = measure(args, folder, (extent, channels, w, a))
            ms, macs = layer["ms"], layer["macs"]
            print(f"| {extent}²×{channels} | {w}×{a} | {macs} | {ms:.4f} | {macs / ms / 1e6:.1f} | {layer['kernel']} |")
            if i < len(SHAPES):
                sizes.append((macs, ms, f"{extent}²×{channels}"))
            else:
                widths.append((w * a, ms, f"W{w}A{a}"))
    panels = [
        Panel(0, "3×3 layers, W1A2", "MACs", sizes),
        Panel(520, f"{FIXED[0]}²×{FIXED[1]}, 3×3", "weight bits × activation bits", widths),
    ]
    body = "\n".join(p.svg() for p in panels)
    head = '<svg xmlns="http://www.w3.org/2000/svg" width="1030" height="410" font-family="sans-serif">'
    args.output.write_text(f'{head}\n<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n')
    print(f"\nslope of time over MACs {slope([p[:2] for p in sizes]):.2f}; {args.output}")


if __name__ == "__main__":
    main()
