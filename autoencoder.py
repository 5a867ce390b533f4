"""A KL autoencoder: train one, encode a data set with it, and see what it reconstructs."""

import dnnlib.start  # noqa: F401  first, before all else

# isort: split
import click

from dnnlib.cli import Group
from dnnlib.flags import Program, add_flags
from dnnlib.start import importing
from programs.autoencoder.flags import (
    CountFlags,
    EncodeFlags,
    NetworkFlags,
    OptimisationFlags,
    ReportFlags,
    RunFlags,
)


@click.group(cls=Group)
def main() -> None:
    """Train a KL autoencoder, and make latents of images for train.py.

    Examples:

    \b
    # Latents of 8x8 with 4 channels from images of 32x32; how good are its reconstructions?
    python autoencoder.py train --outdir runs/vae --data datasets/fashion-mnist-32.zip --duration 0.5
    python autoencoder.py reconstruct --autoencoder runs/vae/network-snapshot-000500.safetensors \\
        --data datasets/fashion-mnist-32.zip --num 10000 --dest out/reconstructed.npz
    python fid.py calc --images out/reconstructed.npz --num 10000 --detector demo --ref assets/demo/reference.npz

    \b
    # Encode the images once; then train on the latents
    python autoencoder.py encode --autoencoder runs/vae/network-snapshot-000500.safetensors \\
        --data datasets/fashion-mnist-32.zip --dest datasets/latents.npz
    python train.py --outdir runs/ldm --data datasets/latents.npz --cond 1 --arch ldm --label-dropout 0.1
    """


@main.command("train", cls=Program, resumes=True, context_settings={"max_content_width": 110})
@add_flags(RunFlags, NetworkFlags, OptimisationFlags, ReportFlags)
def train_command(
    run: RunFlags, network: NetworkFlags, steps: OptimisationFlags, reports: ReportFlags
) -> None:
    """Train a KL autoencoder on images; print the last snapshot's path.

    A run that was killed goes on when the same command is given again, and ends with the same weights.
    """
    with importing():
        from programs.autoencoder import work
    work.train(run, network, steps, reports)


@main.command("encode", cls=Program)
@add_flags(EncodeFlags)
def encode_command(flags: EncodeFlags) -> None:
    """Encode all images of a data set, for train.py; print what was written as JSON."""
    with importing():
        from programs.autoencoder import work
    work.encode_all(flags)


@main.command("reconstruct", cls=Program)
@add_flags(EncodeFlags, CountFlags)
def reconstruct_command(flags: EncodeFlags, images: CountFlags) -> None:
    """Encode images and decode them again, to look at or to measure; print what was written as JSON."""
    with importing():
        from programs.autoencoder import work
    work.reconstruct_all(flags, images)


if __name__ == "__main__":
    main()
