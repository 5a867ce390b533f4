"""Train a diffusion network: dataset zip -> network-snapshot-*.safetensors."""

import dnnlib.start  # noqa: F401  first, before all else

# isort: split
import click

from dnnlib.flags import (
    Program,
    add_flags,
)
from dnnlib.start import importing
from programs.train.flags import TrainingFlags


@click.command(cls=Program, resumes=True, context_settings={"max_content_width": 130})
@add_flags(TrainingFlags)
def main(flags: TrainingFlags) -> None:
    """Train a diffusion network on a data set made by dataset_tool.py.

    A run that was killed goes on when the same command is given again, and ends with the same weights: its state is kept
    with each snapshot, every ten minutes and at Ctrl-C or another signal that ends it. Progress is on stderr; stats.jsonl holds the loss curve, metrics.jsonl the FID of the snapshots.

    Examples:

    \b
    # A small class-conditional ADM on Fashion-MNIST, on a laptop's CPU
    python train.py --outdir runs/small --data datasets/fashion-mnist-32.zip --cond 1 --arch adm --cbase 16 \\
        --cres 1,2,4 --num-blocks 2 --attn 8 --augment 0 --batch 128 --duration 1 --lr-rampup 0.02 --ema 0.02

    \b
    # EDM's AFHQv2 network on the eight GPUs of one machine
    torchrun --standalone --nproc_per_node=8 train.py --outdir runs/afhqv2 --data datasets/afhqv2-64x64.zip \\
        --arch ddpmpp --batch 256 --cres 1,2,2,2 --lr 2e-4 --dropout 0.25 --augment 0.15
    """
    with importing():
        from programs.train import work
    work.main(flags)


if __name__ == "__main__":
    main()
