"""`python -m metrics.demo_detector`: a small feature network of labelled images, as a program.

    python -m metrics.demo_detector train --data datasets/fashion-mnist-32.zip \\
        --test datasets/fashion-mnist-32-test.zip --dest assets/demo/detector.safetensors
"""

import dnnlib.start  # noqa: F401  first, before all else

# isort: split
import click

from dnnlib.cli import Group
from dnnlib.flags import add_flags
from dnnlib.start import importing
from metrics.demo_detector.flags import TrainFlags


@click.group(cls=Group)
def main() -> None:
    """Make a small feature network, as the demo's, of any labelled images."""


@main.command("train")
@add_flags(TrainFlags)
def train_command(flags: TrainFlags) -> None:
    """Train, test and write the detector; print what is recorded in the file as JSON.

    \b
    Example:
      python -m metrics.demo_detector train --data datasets/fashion-mnist-32.zip \\
          --test datasets/fashion-mnist-32-test.zip --dest assets/demo/detector.safetensors

    Another --arch judges the same images by other features: what both say does not rest on one network.
    """
    with importing():
        from metrics.demo_detector import work
    work.train_and_save(flags)


if __name__ == "__main__":
    main()
