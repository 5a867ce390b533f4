#!/bin/bash
# What each method on the long skips is best at, found with at most 2,000 images each: the parameters of configs/rivals.toml.
#
#     bash benchmarks/rivals.sh demo 9 out/rivals           # a network, its evaluations, a folder
#
# Five searches of 2,000 images: at 9 evaluations 90,000. Each ends with the flag that it found; killed, it goes on.
# A method of several parameters searches one after the other, so that each of these has a part of the images.
set -eu

network=$1 steps=$2 folder=$3
shift 3

search() {
    local name=$1
    shift
    python tables.py tune --network "$network" --sampler unipc --steps "$steps" --detector demo \
        --ref assets/demo/reference.npz --outdir "$folder/$network-$steps-$name" --batch 256 "$@"
}

search skip-tuning --bottom 0.6,1 --num 200 --budget 2000 "$@"
search scalelong --skip-method scalelong:kappa=0.8..1 --num 200 --budget 2000 "$@"
search freeu --skip-method freeu:b1=1..1.5,s1=0.3..1,b2=1..1.5,s2=0.3..1 --points 4 --num 125 --budget 500 "$@"
search freeu2 --skip-method freeu2:b1=1..1.5,s1=0.3..1,b2=1..1.5,s2=0.3..1 --points 4 --num 125 --budget 500 "$@"
search skip-tuning-freeu2 --bottom 0.6,1 --points 4 --num 100 --budget 400 \
    --skip-method freeu2:b1=1..1.5,s1=0.3..1,b2=1..1.5,s2=0.3..1 "$@"
