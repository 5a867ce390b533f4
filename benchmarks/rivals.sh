#!/bin/bash
# What each method on the long skips is best at, found with at most 2,000 images a search: the parameters of configs/rivals.toml.
#
#     bash benchmarks/rivals.sh demo 9 out/rivals           # a network, its evaluations, a folder
#     bash benchmarks/rivals.sh demo-ldm 9 out/rivals --guidance 1    # without guidance, which is 1.5 by its default
#
# It calls the `python` of .venv (source .venv/bin/activate); what follows the folder are flags of tables.py tune.
# Five searches of 2,000 images: at 9 evaluations 90,000. Each ends with the flag that it found; killed, it goes on.
# A method of several parameters searches one after the other, so that each of these has a part of the images.
set -eu

network=$1 steps=$2 folder=$3
shift 3

lowest=0.6 highest=1.5  # of rho, and of FreeU's b
case $network in
demo-uncond | demo-ldm) lowest=0.4 highest=2 ;; # where the first search ended at these ends
esac
freeu=b1=1..$highest,s1=0.3..1,b2=1..$highest,s2=0.3..1

search() {
    local name=$1
    shift
    python tables.py tune --network "$network" --sampler unipc --steps "$steps" --detector demo \
        --ref assets/demo/reference.npz --outdir "$folder/$network-$steps-$name" --batch 256 "$@"
}

search skip-tuning --bottom $lowest,1 --num 200 --budget 2000 "$@"
search scalelong --skip-method scalelong:kappa=0.8..1 --num 200 --budget 2000 "$@"
search freeu --skip-method freeu:$freeu --points 4 --num 125 --budget 500 "$@"
search freeu2 --skip-method freeu2:$freeu --points 4 --num 125 --budget 500 "$@"
search skip-tuning-freeu2 --bottom $lowest,1 --points 4 --num 100 --budget 400 \
    --skip-method freeu2:$freeu "$@"
