"""`python -m skip.finetune`: fine-tuning of the skip coefficients, or of the network, as a program."""

import dnnlib.start  # noqa: F401  first, before all else

# isort: split
import click

from dnnlib.cli import Group
from dnnlib.flags import Program, add_flags
from dnnlib.start import importing
from skip.finetune.flags import RhoFlags, RunFlags, SubjectFlags, WeightFlags


@click.group(cls=Group)
def main() -> None:
    """Fine-tune on score matching in feature space.

    A run that was killed goes on when the same command is given again: its state is kept every ten minutes and at a
    signal.
    """


@main.command("rho", cls=Program, resumes=True)
@add_flags(SubjectFlags, RunFlags, RhoFlags)
def rho_command(subject: SubjectFlags, run: RunFlags, coefficients: RhoFlags) -> None:
    """Train the skip coefficients alone; print them as JSON."""
    with importing():
        from skip.finetune import work
    work.rho(subject, run, coefficients)


@main.command("network", cls=Program, resumes=True)
@add_flags(SubjectFlags, RunFlags, WeightFlags)
def network_command(subject: SubjectFlags, run: RunFlags, weights: WeightFlags) -> None:
    """Train all weights on pixel and feature loss; print the snapshots' paths as JSON."""
    with importing():
        from skip.finetune import work
    work.network(subject, run, weights)


if __name__ == "__main__":
    main()
