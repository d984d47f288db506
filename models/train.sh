#!/bin/sh
# Trains the models of this folder again: the commands that made their checkpoints.
#
#   models/train.sh DATA      DATA holds mnist/, fashion-mnist/ (idx files) and cifar10 (class folders, or a .tar.gz of them)
#
# DOREFAC names the program (default: target/release/dorefac). The same program and seed give the same bytes.
set -eu
data=$1
here=$(dirname "$0")
dorefac=${DOREFAC:-$here/../target/release/dorefac}
work=$(mktemp -d)
options='--schedule cosine --warmup 1 --lr 2e-3'
train() {
    name=$1
    graph=$2
    shift 2
    "$dorefac" train "$here/$graph.dorefa" $options --out "$work/$name.safetensors" "$@"
    "$dorefac" export "$work/$name.safetensors" -o "$here/$name.safetensors"
    "$dorefac" export "$work/$name.safetensors" -o "$here/$name.onnx"
}
train digits mnist --data digits --epochs 40
train mnist-digits mnist --data "idx:$data/mnist" --epochs 12
train fashion mnist --data "idx:$data/fashion-mnist" --epochs 20
train cifar10 svhn-c --data "images:$data/cifar10" --resize --epochs 12 --augment pad=4,flip
