"""Skip-Tuning at a glance: the pairs that change most, plain and tuned, beside FID over rho."""

import dnnlib.start  # noqa: F401  first, before all else

# isort: split
import click

from dnnlib.cli import Command
from dnnlib.flags import add_flags
from dnnlib.start import importing
from programs.demo.flags import DemoFlags


@click.command(cls=Command)
@add_flags(DemoFlags)
def main(flags: DemoFlags) -> None:
    """Draw pairs of images, plain and Skip-Tuned from the same noise, beside FID over rho, into one picture.

    Shown are the pairs that change most, neither the best nor the worst. FID was measured before, of 2,000 images at each rho,
    by python tables.py run table2; there is a curve where that has these steps.

    \b
    python demo.py
    python demo.py --steps 5 --rho-bottom 0.8 --dest out/fewer.png
    """
    with importing():
        from programs.demo import work
    work.main(flags)


if __name__ == "__main__":
    main()
