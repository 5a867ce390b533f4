"""Ten minutes with Skip-Tuning: the bundled network, the same seeds, plain and tuned, side by side."""

import dnnlib.start  # noqa: F401  first, before what takes seconds to import

# isort: split
from pathlib import Path

import click
from tqdm import tqdm

from dnnlib.cli import Command
from dnnlib.files import check_writable
from dnnlib.flags import Finite, Flag
from dnnlib.pictures import contact_sheet, save_png, side_by_side
from sampling.settings import SamplerSettings
from skip.options import warn_beyond
from skip.scale import SkipScale
from skip.source import ImageSource
from torch_utils import distributed

CLASSES = 8  # columns of the sheet: one class a column


@click.command(cls=Command, context_settings={"show_default": True})
@click.option(
    "--dest",
    cls=Flag,
    old=["--out"],
    help="Picture to write",
    default="out/demo.png",
    metavar="PNG",
)
@click.option("--steps", help="Steps of EDM's Heun sampler", type=click.IntRange(min=2), default=10)
@click.option(
    "--rho-bottom",
    help="Skip coefficient of the deepest layer; 1 at the top",
    type=Finite(),
    default=0.7,
)
@click.option("--rho", hidden=True)
def main(dest: str, steps: int, rho_bottom: float, rho: str | None) -> None:
    """Draw 64 images with rho = 1 and 64 with Skip-Tuning, from the same noise, into one picture.

    \b
    python demo.py
    python demo.py --steps 5 --rho-bottom 0.5 --dest out/stronger.png
    """
    if rho is not None:
        raise ValueError(
            f"--rho is EDM's time step exponent elsewhere; for the skip coefficient: --rho-bottom={rho}"
        )
    warn_beyond([rho_bottom])
    check_writable(dest, "--dest")
    # Seed modulo 10 is the class.
    seeds = [10 * row + column for row in range(8) for column in range(CLASSES)]

    device = distributed.init()
    sheets, captions = [], []
    for scale in (SkipScale(), SkipScale(bottom=rho_bottom)):
        source = ImageSource(
            sampler=SamplerSettings(steps=steps), scale=scale, labels="balanced"
        ).load(device)
        images, nfe = [], 0
        with tqdm(total=len(seeds), unit="img", desc=f"rho = {scale.bottom:g}") as bar:
            for batch in source.batches(seeds, batch_size=32):
                images += list(batch.images.cpu().numpy())
                nfe = batch.nfe
                bar.update(len(batch.seeds))
        sheets.append(contact_sheet(images, columns=CLASSES, zoom=2))
        tuned = (
            "plain EDM (rho = 1)"
            if scale.is_identity
            else f"Skip-Tuning (rho = {rho_bottom:g} to 1)"
        )
        captions.append(f"{tuned}, NFE {nfe}")

    save_png(side_by_side(sheets, captions), dest)
    click.echo(f"The same 64 seeds, plain and Skip-Tuned, on {device}: {Path(dest).resolve()}")
    distributed.shutdown()


if __name__ == "__main__":
    main()
