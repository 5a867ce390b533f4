"""Skip-Tuning by sliders: images of a network, plain and tuned, in the browser."""

import dnnlib.start  # noqa: F401  first, before all else

# isort: split
import click

from dnnlib.cli import Command
from dnnlib.flags import add_flags
from dnnlib.start import importing
from programs.explore.flags import ComputationFlags, ExploreFlags


@click.command(cls=Command)
@add_flags(ExploreFlags, ComputationFlags)
def main(asked: ExploreFlags, compute: ComputationFlags) -> None:
    """Sliders for rho, steps, sampler, class and guidance: the same seeds, plain beside tuned, as you move them.

    The page shows the state as a command, as Python and as a link. It is served on this machine alone, and needs the
    package gradio, the extra `explore`.

    \b
    python explore.py
    python explore.py --network demo-color --port 0
    python explore.py --page out/explore.html
    """
    with importing():
        from programs.explore import work
    work.main(asked, compute)


if __name__ == "__main__":
    main()
