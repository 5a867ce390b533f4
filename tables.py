"""Regenerate the paper's tables and figures: list, run, show."""

import dnnlib.start  # noqa: F401  first, before all else

# isort: split
import click

from dnnlib.cli import Group
from dnnlib.completion import names
from dnnlib.flags import Program, add_flags
from dnnlib.start import importing
from programs.tables.flags import CellFlags, DryRunFlags, SearchFlags, SearchMetricFlags, ShowFlags
from skip.flags import ComputeFlags, SamplingFlags
from skip.tables.names import item_names


@click.group(cls=Group)
def main() -> None:
    """Regenerate the tables and figures of the Skip-Tuning paper.

    \b
    # What there is, what is done, and what it costs
    python tables.py list

    \b
    # A table of the bundled network, whose results are here, beside the paper's values; and measured anew
    python tables.py show table2
    python tables.py run table2 --results out/mine
    python tables.py show table2 --results out/mine

    \b
    # All of it as one page to open in a browser: out/report/index.html
    python tables.py show --all --format html --outdir out/report

    \b
    # With the published network and 50,000 images, on every GPU of this machine (the -- keeps torchrun from --num)
    torchrun --standalone --nproc_per_node=gpu -- tables.py run table2 --profile paper

    \b
    # The best rho of a network and a sampler; then images with it
    python tables.py tune --detector demo --ref assets/demo/reference.npz --sampler unipc --steps 9 --outdir out/tune
    python generate.py --sampler unipc --steps 9 --rho-layers out/tune/scale.json --outdir out/tuned
    """


@main.command("list", cls=Program, context_settings={"max_content_width": 130})
@click.argument("names", nargs=-1, metavar="[ITEM]...", shell_complete=names(item_names))
@add_flags(CellFlags)
def list_items(asked: CellFlags, names: tuple[str, ...]) -> None:
    """Items, how many cells are done, and what the rest costs; with ITEM names, each cell."""
    with importing():
        from programs.tables import work
    work.list_items(asked, names)


@main.command(cls=Program, resumes=True, context_settings={"max_content_width": 130})
@click.argument(
    "names", nargs=-1, required=True, metavar="ITEM...", shell_complete=names(item_names)
)
@add_flags(CellFlags, DryRunFlags, ComputeFlags)
def run(
    asked: CellFlags, trial: DryRunFlags, compute: ComputeFlags, names: tuple[str, ...]
) -> None:
    """Measure the cells of ITEM... that are not done; killed and started again, it goes on."""
    with importing():
        from programs.tables import work
    work.run(asked, trial, compute, names)


@main.command(cls=Program, context_settings={"max_content_width": 130})
@click.argument("names", nargs=-1, metavar="[ITEM]...", shell_complete=names(item_names))
@add_flags(CellFlags, ShowFlags)
def show(asked: CellFlags, output: ShowFlags, names: tuple[str, ...]) -> None:
    """Lay what was measured beside what the paper states."""
    with importing():
        from programs.tables import work
    work.show(asked, output, names)


@main.command(cls=Program, resumes=True, context_settings={"max_content_width": 130})
@add_flags(SearchFlags, SearchMetricFlags, SamplingFlags, ComputeFlags)
def tune(
    wanted: SearchFlags, metric: SearchMetricFlags, sampling: SamplingFlags, compute: ComputeFlags
) -> None:
    """Find the best rho with few images; killed and started again, it goes on.

    A grid of rho with few images of common seeds each, then twice the images for those that are not clearly worse, and
    so on; at last the vertex of a parabola, with its error. generate.py and fid.py take scale.json as --rho-layers.
    """
    with importing():
        from programs.tables import work
    work.tune(wanted, metric, sampling, compute)


if __name__ == "__main__":
    main()
