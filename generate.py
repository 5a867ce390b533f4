"""Generate images: network + seeds -> images, with or without Skip-Tuning."""

import dnnlib.start  # noqa: F401  first, before all else

# isort: split
import click

from dnnlib.flags import Program, add_flags
from dnnlib.start import importing
from programs.generate.flags import ComputeFlags, ImageFlags
from skip.flags import SamplingFlags, SkipFlags


@click.command(cls=Program, resumes=True, context_settings={"max_content_width": 130})
@add_flags(ImageFlags, ComputeFlags, SamplingFlags, SkipFlags)
def main(
    images: ImageFlags, compute: ComputeFlags, sampling: SamplingFlags, skip: SkipFlags
) -> None:
    """Generate images with a diffusion network, plain or Skip-Tuned.

    A run that was killed goes on when the same command is given again. run.json tells how the images were made.

    Examples:

    \b
    # The bundled demo network, 64 images and a contact sheet, plain and Skip-Tuned
    python generate.py --outdir out/plain --steps 5 --labels balanced --grid 8x8
    python generate.py --outdir out/tuned --steps 5 --labels balanced --grid 8x8 --rho-bottom 0.8

    \b
    # UniPC with 9 evaluations; EDM's stochastic sampler
    python generate.py --outdir out/unipc --sampler unipc --steps 9 --rho-bottom 0.7
    python generate.py --outdir out/churn --steps 32 --S_churn 10 --S_min 0.05 --S_max 50 --S_noise 1.003

    \b
    # ImageNet-64, 19 network evaluations, rho from 0.82 to 1, on every GPU of this machine
    torchrun --standalone --nproc_per_node=gpu generate.py --network edm-imagenet-64x64-cond-adm \\
        --outdir out/imagenet --seeds 0-49999 --subdirs --sampler unipc --steps 19 --rho-bottom 0.82
    """
    with importing():
        from programs.generate import work
    work.run(images, compute, sampling, skip)


if __name__ == "__main__":
    main()
