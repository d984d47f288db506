#!/usr/bin/env python3
"""Trains an SVHN network of this folder in PyTorch, its bits simulated in float: the peer of `dorefac train`.

    train_peer.py FOLDER --model svhn-b --bits 1,2,6 --epochs 10 --schedule cosine --seed 1

FOLDER holds Fashion-MNIST's idx files (or MNIST's), brought to 3×40×40: bilinear, half-pixel centres, grey repeated. Prints one
line an epoch and a last line of JSON. The other side of the comparison is

    dorefac train svhn-b.dorefa --data idx:FOLDER --resize --bits 1,2,6 --epochs 10 --schedule cosine --seed 1 \\
        --first-weights pytorch --optimizer adam-pytorch
"""
import argparse
import gzip
import json
import math
import os

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder")
parser.add_argument("--model", choices=["svhn-a", "svhn-b", "svhn-c", "svhn-d"], default="svhn-b")
parser.add_argument("--bits", default="1,2,6", help="W,A,G; 32,32,32 is plain float")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--batch", type=int, default=128)
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--schedule", choices=["constant", "cosine"], default="constant")
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--threads", type=int, default=1)
args = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(args.threads)

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(args.threads)
torch.manual_seed(args.seed)
W, A, G = map(int, args.bits.split(","))
SHARE = {"svhn-a": 1, "svhn-b": 2, "svhn-c": 4, "svhn-d": 8}[args.model]


class Round(torch.autograd.Function):
    """To the nearest of n steps; the gradient goes straight through (paper §2.2)."""

    @staticmethod
    def forward(ctx, x, n):
        return torch.round(x * n) / n

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


class Sign(torch.autograd.Function):
    """The sign times the mean magnitude (paper §2.3)."""

    @staticmethod
    def forward(ctx, w):
        mean = w.abs().mean()
        return torch.where(w >= 0, mean, -mean)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class QuantizedGradient(torch.autograd.Function):
    """The identity, whose gradient is quantised with noise, one scale a sample (paper §2.5)."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        n = 2.0**G - 1
        greatest = gradient.abs().amax(dim=tuple(range(1, gradient.dim())), keepdim=True).clamp_min(1e-30)
        q = gradient / greatest * 0.5 + 0.5 + (torch.rand_like(gradient) - 0.5) / n
        return (torch.round(q.clamp(0, 1) * n) / n - 0.5) * greatest * 2


def weights(w):
    if W == 32:
        return w
    if W == 1:
        return Sign.apply(w)
    t = torch.tanh(w)
    return 2 * Round.apply(t / t.abs().max().detach() * 0.5 + 0.5, 2.0**W - 1) - 1


def bounded(x):
    return F.relu(x) if A == 32 else x.clamp(0, 1)


def activation(x):
    return F.relu(x) if A == 32 else Round.apply(x.clamp(0, 1), 2.0**A - 1)


class Conv(nn.Conv2d):
    def forward(self, x):
        y = self._conv_forward(x, weights(self.weight), self.bias)
        return y if G == 32 else QuantizedGradient.apply(y)


class Svhn(nn.Module):
    """`models/svhn-….dorefa`: first and last layer float."""

    def __init__(self):
        super().__init__()
        c = [n // SHARE for n in (48, 64, 64, 128, 128, 128, 512)]
        self.first = nn.Conv2d(3, c[0], 5)
        kernels = [(3, 1), (3, 1), (3, 0), (3, 1), (3, 0), (5, 0)]
        self.convs = nn.ModuleList(
            [Conv(i, o, k, padding=p, bias=False) for i, o, (k, p) in zip(c, c[1:], kernels)]
        )
        self.norms = nn.ModuleList([nn.BatchNorm2d(o, 1e-4) for o in c[1:]])
        self.last = nn.Linear(c[-1], 10)

    def forward(self, x):
        x = activation(F.max_pool2d(self.first(x), 2))
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            if i == 5:
                x = F.dropout(x, 0.5, self.training)
            x = norm(conv(x))
            if i == 1:
                x = F.max_pool2d(x, 2)
            x = bounded(x) if i == 5 else activation(x)
        return self.last(x.flatten(1))


def load(split):
    def read(name, header):
        for path in (os.path.join(args.folder, name), os.path.join(args.folder, name + ".gz")):
            if os.path.exists(path):
                with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
                    return np.frombuffer(file.read(), np.uint8, offset=header)
        raise SystemExit(f"{args.folder} has no {name}")

    labels = read(f"{split}-labels-idx1-ubyte", 8)
    return read(f"{split}-images-idx3-ubyte", 16).reshape(-1, 1, 28, 28), torch.from_numpy(labels.astype(np.int64))


def picture(codes):
    x = torch.from_numpy(codes.astype(np.float32))
    x = F.interpolate(x, size=(40, 40), mode="bilinear", align_corners=False).round() / 256
    return x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def evaluate(net, images, labels):
    net.eval()
    with torch.no_grad():
        right = sum(
            int((net(picture(images[i : i + 500])).argmax(1) == labels[i : i + 500]).sum())
            for i in range(0, len(labels), 500)
        )
    net.train()
    return right / len(labels)


def main():
    (images, labels), test = load("train"), load("t10k")
    net = Svhn().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), args.lr, eps=1e-5)
    steps, step, accuracy = args.epochs * math.ceil(len(labels) / args.batch), 0, 0.0
    for epoch in range(1, args.epochs + 1):
        order, total = np.random.default_rng([args.seed, epoch]).permutation(len(labels)), 0.0
        for start in range(0, len(order), args.batch):
            chosen = order[start : start + args.batch]
            if args.schedule == "cosine":
                for group in optimizer.param_groups:
                    group["lr"] = args.lr * 0.5 * (1 + math.cos(math.pi * step / steps))
            optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(net(picture(images[chosen])), labels[chosen])
            loss.backward()
            optimizer.step()
            total, step = total + loss.item() * len(chosen), step + 1
        accuracy = evaluate(net, *test)
        print(f"epoch {epoch}  loss {total / len(order):.4f}  accuracy {accuracy:.4f}", flush=True)
    print(json.dumps(vars(args) | {"accuracy": accuracy, "loss": total / len(order), "version": torch.__version__}))


main()
