"""Distil a diffusion network into one step: teacher -> network-snapshot-*.safetensors."""

import dnnlib.start  # noqa: F401  first, before all else

# isort: split
import click

from dnnlib.cli import Group
from dnnlib.flags import add_flags
from dnnlib.start import importing
from programs.distill.flags import ConsistencyFlags, DiffInstructFlags, RunFlags


@click.group(cls=Group)
def main() -> None:
    """Distil a diffusion network into one that draws in one step.

    The student begins as the teacher. A run that was killed goes on when the same command is given again, and
    ends with the same weights: its state is kept with each snapshot, every ten minutes and at a signal. Progress is on stderr; stats.jsonl holds the loss curve.

    Examples:

    \b
    # Consistency distillation of the bundled network; then draw in one step, from noise level 80
    python distill.py consistency --outdir runs/cd --teacher demo --data datasets/fashion-mnist-32.zip \\
        --batch 128 --duration 0.1 --ema 0.01 --tick 5
    python generate.py --outdir out/cd --network runs/cd/network-snapshot-000100.safetensors \\
        --sampler consistency --sigmas 80

    \b
    # Diff-Instruct needs no data; its network draws from noise level --sigma-init
    python distill.py diff-instruct --outdir runs/di --teacher demo --batch 128 --duration 0.1 --ema 0.01 --tick 5
    python generate.py --outdir out/di --network runs/di/network-snapshot-000100.safetensors \\
        --sampler consistency --sigmas 1
    """


@main.command(resumes=True, context_settings={"max_content_width": 110})
@add_flags(RunFlags, ConsistencyFlags)
def consistency(run: RunFlags, flags: ConsistencyFlags) -> None:
    """Consistency distillation (Song et al., 2023): the student gives the end of the teacher's path from any point."""
    with importing():
        from programs.distill import work
    work.consistency(run, flags)


@main.command("diff-instruct", resumes=True, context_settings={"max_content_width": 110})
@add_flags(RunFlags, DiffInstructFlags)
def diff_instruct(run: RunFlags, flags: DiffInstructFlags) -> None:
    """Diff-Instruct (Luo et al., 2023): the student's images have the teacher's scores at every noise level."""
    with importing():
        from programs.distill import work
    work.diff_instruct(run, flags)


if __name__ == "__main__":
    main()
