#!/bin/sh
# Accuracies by bit width, as a Markdown table: svhn-c on Fashion-MNIST, 5 epochs. The first weights are PyTorch's: they are
# smaller than He's, so that those of one bit change their sign sooner.
#
#   models/accuracies.sh FOLDER [EPOCHS]     FOLDER holds Fashion-MNIST's idx files
#
# DOREFAC names the program (default: target/release/dorefac), OUT a folder for logs and checkpoints (default: a new one).
# A training that is in OUT already is not repeated, so that an interrupted run goes on where it was.
set -eu
data=$1
epochs=${2:-5}
here=$(dirname "$0")
dorefac=${DOREFAC:-$here/../target/release/dorefac}
out=${OUT:-$(mktemp -d)}
mkdir -p "$out"

# W,A,G and the seeds of each row.
rows='1,1,4:1 1,2,2:1,2,3 1,2,4:1 1,2,6:1,2,3 1,4,6:1 2,2,6:1 8,8,8:1,2,3 32,32,32:1,2,3'

echo "| W A G | accuracy, % (mean, least … greatest) | seeds |"
echo "|---|---|---|"
for row in $rows; do
    bits=${row%%:*}
    seeds=$(echo "${row##*:}" | tr ',' ' ')
    results=
    for seed in $seeds; do
        name=$out/svhn-c-$(echo "$bits" | tr ',' '-')-seed$seed-$epochs
        if [ ! -s "$name.json" ]; then
            "$dorefac" train "$here/svhn-c.dorefa" --data "idx:$data" --resize --epochs "$epochs" --bits "$bits" \
                --seed "$seed" --threads 1 --first-weights pytorch --optimizer adam-pytorch \
                --out "$name.safetensors" --json >"$name.part" 2>"$name.log"
            mv "$name.part" "$name.json"
        fi
        results="$results $(sed 's/.*"accuracy":\([0-9.e-]*\).*/\1/' "$name.json")"
    done
    echo "$results" | awk -v bits="$(echo "$bits" | tr ',' ' ')" '{
        lo = 1; hi = 0; sum = 0
        for (i = 1; i <= NF; i++) { sum += $i; if ($i < lo) lo = $i; if ($i > hi) hi = $i }
        printf "| %s | %.2f (%.2f … %.2f) | %d |\n", bits, 100 * sum / NF, 100 * lo, 100 * hi, NF
    }'
done
