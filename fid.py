"""Measure generated images: features -> statistics -> FID and the paper's other metrics."""

import dnnlib.start  # noqa: F401  first, before all else

# isort: split
import click

from dnnlib.cli import Group
from dnnlib.flags import Program, add_flags
from dnnlib.start import importing
from programs.fid.flags import (
    DetectorFlags,
    EvaluationFlags,
    ListFlags,
    MetricFlags,
    NetworksFlags,
    NewDetectorFlags,
    ReferenceFlags,
    SeedFlags,
    StoredFlags,
)
from skip.flags import SamplingFlags, SkipFlags


@click.group(cls=Group)
def main() -> None:
    """Measure generated images.

    A command that was killed goes on when it is given again. The result is JSON on stdout.

    \b
    # The bundled network, its detector and its reference: 5000 images, plain and Skip-Tuned
    python fid.py gen --detector demo --ref assets/demo/reference.npz --seeds 0-4999 --steps 10
    python fid.py gen --detector demo --ref assets/demo/reference.npz --seeds 0-4999 --steps 10 --rho-bottom 0.8

    \b
    # Images that generate.py made, with EDM's reference
    python fid.py calc --images out/50k \\
        --ref https://nvlabs-fi-cdn.nvidia.com/edm/fid-refs/imagenet-64x64.npz

    \b
    # The same on every GPU of this machine (the -- keeps torchrun from reading --num)
    torchrun --standalone --nproc_per_node=gpu -- fid.py calc --images out/50k --num 50000 \\
        --ref https://nvlabs-fi-cdn.nvidia.com/edm/fid-refs/imagenet-64x64.npz

    \b
    # FD-DINOv2, as EDM2 measures it
    python fid.py calc --images out/50k --detector dinov2 \\
        --ref https://nvlabs-fi-cdn.nvidia.com/edm2/dataset-refs/img64.pkl

    \b
    # Statistics of a data set
    python fid.py ref --data datasets/fashion-mnist-32.zip --dest reference.npz --detector demo
    """


@main.command(cls=Program, resumes=True, context_settings={"max_content_width": 130})
@add_flags(ReferenceFlags, NewDetectorFlags, EvaluationFlags)
def ref(asked: ReferenceFlags, networks: NewDetectorFlags, compute: EvaluationFlags) -> None:
    """Write the statistics (mu, sigma) of real images."""
    with importing():
        from programs.fid import work
    work.ref(asked, networks, compute)


@main.command(cls=Program, resumes=True, context_settings={"max_content_width": 130})
@add_flags(StoredFlags, MetricFlags, DetectorFlags, EvaluationFlags)
def calc(
    stored: StoredFlags, metrics: MetricFlags, networks: DetectorFlags, compute: EvaluationFlags
) -> None:
    """Measure stored images."""
    with importing():
        from programs.fid import work
    work.calc(stored, metrics, networks, compute)


@main.command(cls=Program, resumes=True, context_settings={"max_content_width": 130})
@add_flags(SeedFlags, SamplingFlags, SkipFlags, MetricFlags, NetworksFlags, EvaluationFlags)
def gen(
    images: SeedFlags,
    sampling: SamplingFlags,
    skip: SkipFlags,
    metrics: MetricFlags,
    networks: NetworksFlags,
    compute: EvaluationFlags,
) -> None:
    """Generate images and measure them, with no files on the way."""
    with importing():
        from programs.fid import work
    work.gen(images, sampling, skip, metrics, networks, compute)


@main.command(cls=Program, context_settings={"max_content_width": 130})
@add_flags(ListFlags)
def detectors(flags: ListFlags) -> None:
    """List the feature networks that --detector knows by name.

    What each reads, whether its weights are on this machine (others are fetched when they are first used), their licence, and
    which metrics it serves.
    """
    with importing():
        from programs.fid import work
    work.detectors(flags)


if __name__ == "__main__":
    main()
