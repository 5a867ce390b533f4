"""Ten minutes with Skip-Tuning: the bundled network, the same seeds, plain and tuned, side by side."""

import dnnlib.start  # noqa: F401  first, before what takes seconds to import

# isort: split
from dataclasses import dataclass
from pathlib import Path

import click
from tqdm import tqdm

from dnnlib.cli import Command
from dnnlib.files import check_writable
from dnnlib.flags import Finite, Flags, add_flags, flag
from dnnlib.pictures import contact_sheet, save_png, side_by_side
from sampling.settings import SamplerSettings
from skip.options import warn_beyond
from skip.scale import SkipScale
from skip.source import ImageSource
from torch_utils import distributed

CLASSES = 8  # columns of the sheet: one class a column


@dataclass(frozen=True, kw_only=True)
class DemoFlags(Flags):
    """What can be chosen."""

    # fmt: off
    dest: str         = flag("Picture to write", old=["--out"], default="out/demo.png", metavar="PNG")
    steps: int        = flag("Steps of EDM's Heun sampler", type=click.IntRange(min=2), default=10)
    rho_bottom: float = flag("Skip coefficient of the deepest layer; 1 at the top", type=Finite(), default=0.7)
    rho: str | None   = flag("", hidden=True)
    # fmt: on


@click.command(cls=Command)
@add_flags(DemoFlags)
def main(flags: DemoFlags) -> None:
    """Draw 64 images with rho = 1 and 64 with Skip-Tuning, from the same noise, into one picture.

    \b
    python demo.py
    python demo.py --steps 5 --rho-bottom 0.5 --dest out/stronger.png
    """
    if flags.rho is not None:
        raise ValueError(
            f"--rho is EDM's time step exponent elsewhere; for the skip coefficient: --rho-bottom={flags.rho}"
        )
    warn_beyond([flags.rho_bottom])
    check_writable(flags.dest, "--dest")
    # Seed modulo 10 is the class.
    seeds = [10 * row + column for row in range(8) for column in range(CLASSES)]

    device = distributed.init()
    sheets, captions = [], []
    for scale in (SkipScale(), SkipScale(bottom=flags.rho_bottom)):
        source = ImageSource(
            sampler=SamplerSettings(steps=flags.steps), scale=scale, labels="balanced"
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
            else f"Skip-Tuning (rho = {flags.rho_bottom:g} to 1)"
        )
        captions.append(f"{tuned}, NFE {nfe}")

    save_png(side_by_side(sheets, captions), flags.dest)
    where = Path(flags.dest).resolve()
    click.echo(f"The same 64 seeds, plain and Skip-Tuned, on {device}: {where}")
    distributed.shutdown()


if __name__ == "__main__":
    main()
